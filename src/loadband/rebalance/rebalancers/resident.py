"""A planner that stays: a program that runs as long as the run, is shown every state, and plans when it sees fit.

For programs that take seconds to start, that average utilization over windows of their own, or that have an interval of
their own. The interface is one JSON document a line. The program begins with a line that says who it is, once it can
answer; `settings` are for people, text to text::

    {"name": "watcher", "version": "17.0.0", "interval": 15.0, "settings": {"strategy": "workload_balance"}}

Then it gets a state on its standard input every `EVERY` seconds, and writes a line with its moves for each. State and
moves are those of `planner`. Mostly there are none, `{"moves": []}`: only the program knows when its own interval has
passed. It gets no state while a slice is on its way or a host's utilization isn't known, so it has to go by the times
in the states. Its standard input ends when it is to end. What it writes to standard error is kept for the report, its
last words.

A program that ends, or doesn't answer within `LONGEST` seconds, isn't started again.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadband.rebalance.events import Disturbance, Part, Real, Trigger, Trouble
from loadband.rebalance.programs import Program, ProgramError, wait_for
from loadband.rebalance.rebalancers import Context, RebalancerError
from loadband.rebalance.rebalancers.planner import LONGEST, AnswerError, Orders, read_answer, state_text

EVERY = 1.0
"""Seconds from one state to the next."""
STARTS = 60.0
"""Seconds within which the program must have said who it is."""


def read_introduction(line: str) -> Part:
    """Who a program says that it is.

    Raises:
        AnswerError: it isn't what the interface says.
    """
    try:
        said = json.loads(line)
    except ValueError as error:
        raise AnswerError(f"not valid JSON: {error}") from None
    if not isinstance(said, dict) or not isinstance(name := said.get("name"), str) or not name:
        raise AnswerError('must be an object with a text "name"')
    interval, settings = said.get("interval"), said.get("settings", {})
    if interval is not None and (not isinstance(interval, int | float) or isinstance(interval, bool) or interval <= 0):
        raise AnswerError(f"interval must be a number of seconds > 0, not {json.dumps(interval)}")
    if not isinstance(settings, dict) or not all(isinstance(value, str) for value in settings.values()):
        raise AnswerError("settings must be an object of texts")
    return Part(
        name=name,
        version=str(said.get("version", "")),
        real=Real.OUR_ACTUATOR,
        interval=interval,
        settings=settings,
        actors=(name,),
        trigger=Trigger.LOOK,
    )


@dataclass(slots=True)
class _Running:
    """What there is while the program runs."""

    context: Context
    line: _Line
    orders: Orders
    asked: float | None = None
    """When it was shown the state that it hasn't answered yet."""
    shown: float = -float("inf")
    """When it was last shown a state."""


class Resident:
    """See the module.

    Args:
        command: the program and its arguments.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._part = Part(name="resident", real=Real.OUR_ACTUATOR, settings={"command": " ".join(command)})
        self._running: _Running | None = None
        self._trouble = ""

    def describe(self) -> Part:
        """See `Rebalancer`; what the program says of itself, once it runs."""
        return self._part

    @property
    def is_waiting(self) -> bool:
        """Whether the program was shown a state and hasn't answered yet."""
        return self._running is not None and self._running.asked is not None

    def start(self, context: Context) -> None:
        """Start the program, and wait until it says who it is.

        Raises:
            RebalancerError: it doesn't, or ends.
        """
        try:
            line = _Line(self._command)
        except (OSError, ProgramError) as error:
            raise RebalancerError(str(error)) from error
        context.watch({self._part.name: line.program.pid})
        try:
            said = wait_for(line.hear, STARTS, f"{self._command[0]} to say who it is", line.program)
            self._part = read_introduction(said)
        except (AnswerError, OSError, ProgramError) as error:
            line.close()
            raise RebalancerError(f"the resident planner doesn't start: {error}") from error
        self._running = _Running(context, line, Orders(self._part.name))

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        """See `Rebalancer`: a planner looks by itself and waits for no alert."""

    def step(self, now: float) -> None:
        """See `Rebalancer`."""
        running = self._running
        if running is None:
            return
        if running.asked is not None:
            self._hear(running, running.asked, now)
            return
        view = running.context.actuator.view()
        if any(one.host is None for one in view.slices):
            return
        if running.orders:
            running.orders.make_next(running.context.actuator)
        elif now >= running.shown + EVERY and all(host.utilization is not None for host in view.hosts):
            running.shown = running.asked = now
            running.line.say(state_text(view, running.context.plan.hot))

    def _hear(self, running: _Running, asked: float, now: float) -> None:
        running.line.push()
        answer = running.line.hear()
        if answer is None:
            if ended := running.line.program.ended:
                self._give_up(ended)
            elif now >= asked + LONGEST:
                self._give_up(f"gave no answer within {LONGEST:g} s")
            return
        running.asked = None
        try:
            running.orders.add(read_answer(answer))
            self._trouble = ""
        except AnswerError as error:
            self._trouble = f"its answer can't be used: {error}"

    def _give_up(self, trouble: str) -> None:
        self.stop()
        self._trouble = trouble

    def health(self, now: float) -> Disturbance | None:
        """See `Rebalancer`: what was wrong with the latest answer, or how the program ended."""
        if not self._trouble:
            return None
        return Disturbance(at=now, what=Trouble.REBALANCER_DOWN, who=self._part.name, detail=self._trouble)

    def stop(self) -> None:
        """See `Rebalancer`."""
        if self._running is not None:
            self._running.line.close()
            self._running = None


class _Line:
    """The program, what it is told, and what it says. Nothing here waits for the program.

    Raises:
        OSError: no files can be made for what it is told and says.
        ProgramError: it can't be started.
    """

    def __init__(self, command: list[str]) -> None:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadband-resident-")))
            told, said = folder / "told", folder / "said"
            os.mkfifo(told, 0o600)
            # Open for reading, too, if only to be able to open it before the program does.
            self._told = os.open(told, os.O_RDWR | os.O_NONBLOCK)
            stack.callback(os.close, self._told)
            self.program = Program(command, folder / "complaints", stdin=told, stdout=said)
            stack.callback(self.program.stop, 0.0)
            self._said = stack.enter_context(said.open("rb"))
            self._unsent = self._heard = b""
            self._all = stack.pop_all()

    def say(self, text: str) -> None:
        """Tell it a line."""
        self._unsent += text.encode() + b"\n"
        self.push()

    def push(self) -> None:
        """Tell it what is left of what it couldn't take yet."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._told, self._unsent) :]
        except BlockingIOError:
            return  # it reads slowly

    def hear(self) -> str | None:
        """The next line that it said; None if there is none yet."""
        self._heard += self._said.read()
        line, end, rest = self._heard.partition(b"\n")
        if not end:
            return None
        self._heard = rest
        return line.decode(errors="replace")

    def close(self) -> None:
        """End it if it runs, and remove its files."""
        self._all.close()
