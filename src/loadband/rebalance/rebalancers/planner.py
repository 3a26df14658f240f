"""A planner: any program that is asked every interval which slices should move, and whose moves the platform makes.

The interface is two JSON documents. The program gets the state on its standard input, and writes its moves to its
standard output before it ends with code 0::

    {"at": 1700000000.4, "hot": 0.85, "counted_at": 1700000000.0,
     "hosts": [{"name": "host-a", "cpus": 1.0, "utilization": 0.91, "cpu_seconds": 81.7}],
     "slices": [{"name": "slice-1", "host": "host-a", "cpus": 0.2, "cpu_seconds": 4.1}]}

    {"moves": [{"slice": "slice-1", "destination": "host-b", "reason": "for people, may be missing"}]}

Counters of CPU time, and when they were read, are null on platforms that don't show them, a slice's also until it is
up. `resident` asks a program that stays the same question, for those that need a history of their own.

It is asked every interval, whether or not an alert fires, but only when no slice is on its way and every host's
utilization is known. Its moves are made one after the other, each when the one before it has ended. What it writes to
standard error is kept for the report, its last line.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loadband.rebalance.events import Disturbance, Part, Trigger, Trouble
from loadband.rebalance.platforms import Actuator, MoveRefusedError, View
from loadband.rebalance.programs import Program, ProgramError
from loadband.rebalance.rebalancers import Context, RebalancerError

LONGEST = 30.0
"""Seconds that a program may take for an answer."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A move that the program asks for."""

    slice: str
    destination: str
    reason: str


class AnswerError(ValueError):
    """The program's answer is not what the interface says; the message says where."""


def state_text(view: View, hot: float) -> str:
    """What the program gets on its standard input.

    Args:
        view: the platform now, with every utilization known.
        hot: the hot threshold, a ratio.
    """
    return json.dumps(
        {
            "at": view.at,
            "hot": hot,
            "counted_at": view.counted_at,
            "hosts": [
                {"name": h.name, "cpus": h.cpus, "utilization": h.utilization, "cpu_seconds": h.cpu_seconds}
                for h in view.hosts
            ],
            "slices": [
                {"name": s.name, "host": s.host, "cpus": s.cpus, "cpu_seconds": s.cpu_seconds} for s in view.slices
            ],
        }
    )


def read_answer(text: str) -> tuple[Planned, ...]:
    """The moves in what the program wrote.

    Raises:
        AnswerError: it isn't what the interface says.
    """
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise AnswerError(f"not valid JSON: {error}") from None
    moves = answer.get("moves") if isinstance(answer, dict) else None
    if not isinstance(moves, list):
        raise AnswerError('must be an object with a list "moves"')
    return tuple(_planned(index, move) for index, move in enumerate(moves))


def _planned(index: int, move: Any) -> Planned:
    if not isinstance(move, dict):
        raise AnswerError(f"moves[{index}] must be an object, not {json.dumps(move)}")
    for key in ("slice", "destination"):
        if not isinstance(move.get(key), str):
            raise AnswerError(f"moves[{index}].{key} must be a string, not {json.dumps(move.get(key))}")
    return Planned(move["slice"], move["destination"], str(move.get("reason", "")))


class Orders:
    """Moves that were planned and not made yet.

    Args:
        by: who asks for them: the actor's name.
    """

    def __init__(self, by: str) -> None:
        self._by = by
        self._left: deque[Planned] = deque()

    def __bool__(self) -> bool:
        return bool(self._left)

    def add(self, planned: Iterable[Planned]) -> None:
        """Make these after those that are left."""
        self._left.extend(planned)

    def clear(self) -> None:
        """Make none of those that are left."""
        self._left.clear()

    def make_next(self, actuator: Actuator) -> None:
        """Make the next one. If it is refused, the others are dropped: they were planned for a state that won't be."""
        planned = self._left.popleft()
        try:
            actuator.move(planned.slice, planned.destination, by=self._by, reason=planned.reason)
        except MoveRefusedError:
            self._left.clear()


class Planner:
    """Asks a program every interval; see the module.

    Args:
        part: what it is. Its name is the actor of its moves, its interval the time from one question to the next.
        command: the program and its arguments.
    """

    def __init__(self, part: Part, command: Sequence[str]) -> None:
        self._part = replace(part, actors=(part.name,), trigger=Trigger.LOOK)
        self._command = list(command)
        self._interval = part.interval or 0.0
        self._context: Context | None = None
        self._question: _Question | None = None
        self._over: _Question | None = None
        """The one before. It stays a zombie until the next one begins: all that it burned can still be counted."""
        self._asked = -float("inf")
        self._orders = Orders(part.name)
        self._trouble = ""

    def describe(self) -> Part:
        """See `Rebalancer`."""
        return self._part

    @property
    def is_waiting(self) -> bool:
        """Whether the program was asked and hasn't answered yet."""
        return self._question is not None

    def start(self, context: Context) -> None:
        """See `Rebalancer`."""
        self._context = context

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        """See `Rebalancer`: a planner looks by itself and waits for no alert."""

    def step(self, now: float) -> None:
        """See `Rebalancer`."""
        if self._context is None:
            return
        if self._question is not None:
            self._hear(self._question, now)
            return
        view = self._context.actuator.view()
        if any(one.host is None for one in view.slices):
            return
        if self._orders:
            self._orders.make_next(self._context.actuator)
        elif now >= self._asked + self._interval and all(host.utilization is not None for host in view.hosts):
            self._asked = now
            self._forget()
            try:
                self._question = _Question(self._command, state_text(view, self._context.plan.hot), now)
            except (OSError, ProgramError) as error:
                self._trouble = str(error)
                return
            self._context.watch({self._part.name: self._question.program.pid})

    def _forget(self) -> None:
        """Let go of the question before."""
        if self._over is not None:
            self._over.close()
            self._over = None

    def _hear(self, question: _Question, now: float) -> None:
        """Take the answer if there is one; give up a program that takes too long."""
        code = question.program.outcome
        if code is None and now < question.at + LONGEST:
            return
        self._question, self._over = None, question
        if code is None:
            question.program.stop(0.0)
        said, complained = question.answer()
        if code == 0:
            try:
                self._orders.add(read_answer(said))
                self._trouble = ""
            except AnswerError as error:
                self._trouble = f"its answer can't be used: {error}"
        else:
            last = complained.strip().rpartition("\n")[2]
            how = f"gave no answer within {LONGEST:g} s" if code is None else f"ended with code {code}"
            self._trouble = f"{how}{': ' if last else ''}{last}"

    def health(self, now: float) -> Disturbance | None:
        """See `Rebalancer`: what was wrong with the latest answer."""
        if not self._trouble:
            return None
        return Disturbance(at=now, what=Trouble.REBALANCER_DOWN, who=self._part.name, detail=self._trouble)

    def stop(self) -> None:
        """See `Rebalancer`."""
        self._context = None
        self._orders.clear()
        self._forget()
        if self._question is not None:
            self._question.close()
            self._question = None


class _Question:
    """A program that was asked. Files take what it says: a full pipe would block it.

    Raises:
        OSError: no file can be made for what it is told and says.
        ProgramError: it can't be started.
    """

    def __init__(self, command: list[str], state: str, at: float) -> None:
        self.at = at
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadband-planner-")))
            told, self._said, self._complained = folder / "state", folder / "answer", folder / "complaints"
            told.write_text(state)
            self.program = Program(command, self._complained, stdin=told, stdout=self._said)
            self._folder = stack.pop_all()

    def answer(self) -> tuple[str, str]:
        """What it wrote to standard output and to standard error until now."""
        return self._said.read_text(errors="replace"), self._complained.read_text(errors="replace")

    def close(self) -> None:
        """End it if it runs, and remove its files."""
        with self._folder:
            self.program.stop(0.0)


def checked(command: Sequence[str]) -> list[str]:
    """The command, if its program can be found.

    Raises:
        RebalancerError: it can't.
    """
    if not command or shutil.which(command[0]) is None:
        raise RebalancerError(f"the planner {command[0] if command else ''!r} can't be found on PATH")
    return list(command)
