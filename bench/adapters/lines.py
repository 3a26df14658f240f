"""What the adapters share: the interface of a planner that stays, and means of counters over a tool's own window."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

State = Mapping[str, Any]
"""See loadband.rebalance.rebalancers.planner."""
Move = dict[str, str]
"""`slice`, `destination`, `reason`."""
Introduction = Mapping[str, Any]
"""See loadband.rebalance.rebalancers.resident."""


class Counters:
    """CPU time of hosts and slices, as the states so far show it.

    Args:
        longest: seconds, the longest window over which a mean is asked for.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._values: dict[str, deque[tuple[float, float]]] = {}

    def add(self, state: State) -> None:
        """Take the counters of a state. Whatever isn't in it any more is forgotten."""
        at = state["counted_at"]
        there = {one["name"]: one["cpu_seconds"] for one in (*state["hosts"], *state["slices"])}
        for name in self._values.keys() - there.keys():
            del self._values[name]
        if at is None:
            return
        for name, seconds in there.items():
            values = self._values.setdefault(name, deque())
            if seconds is None or (values and values[-1][0] >= at):
                continue
            if values and seconds < values[-1][1]:
                values.clear()  # it was started again
            values.append((at, seconds))
            while len(values) > 1 and values[1][0] <= at - self._longest:
                values.popleft()

    def mean(self, name: str, window: float) -> float | None:
        """CPUs that a host or a slice used, the mean over the window, or since it is known; None until that is known.

        That is what Prometheus' `rate` gives for a series that is younger than the window, but for the extrapolation.
        """
        values = self._values.get(name)
        if not values or len(values) < 2:  # noqa: PLR2004 - a rate needs two values
            return None
        now, last = values[-1]
        at, first = next(((at, value) for at, value in values if at >= now - window), values[-1])
        if at == now:
            at, first = values[-2]
        return (last - first) / (now - at)


class Interval:
    """When the tool is to look: first with the first state, then each time that its interval has passed.

    Args:
        seconds: the tool's interval.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._next: float | None = None

    def is_due(self, at: float) -> bool:
        """Whether it is to look at the state of that time; if so, the interval begins."""
        if self._next is None:
            self._next = at
        if at < self._next:
            return False
        self._next += self.seconds
        if self._next <= at:
            self._next = at + self.seconds
        return True


def serve(
    introduction: Introduction,
    plan: Callable[[State], Iterable[Move]],
    states: TextIO | None = None,
    output: TextIO | None = None,
) -> None:
    """Say who the tool is, then answer each state with its moves, until there is none any more.

    Args:
        introduction: who it is.
        plan: the moves for a state.
        states: where they come from, one a line; None: standard input.
        output: where answers go; None: standard output.
    """
    answers = output or sys.stdout
    answers.write(json.dumps(introduction) + "\n")
    answers.flush()
    for line in states or sys.stdin:
        answers.write(json.dumps({"moves": list(plan(json.loads(line)))}) + "\n")
        answers.flush()


def parser(description: str, modes: Sequence[str]) -> argparse.ArgumentParser:
    """The options that every adapter has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--mode", choices=modes, required=True, help="its settings: as shipped, or tuned to react fast")
    made.add_argument("--faster", type=float, required=True, help="by how much the run's time is shorter than life's")
    made.add_argument("--log", type=Path, required=True, help="where the tool's own log is appended")
    return made


class _Stamped(logging.Formatter):
    """A line for each record, seconds since the epoch first: line ends within a message become spaces."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.created:.3f} {record.levelname} {record.name}: {' '.join(record.getMessage().splitlines())}"


def keep_log(path: Path, *loggers: str) -> None:
    """Append what these loggers say to a file, of every level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(_Stamped())
    for name in loggers:
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
        logger.propagate = False
