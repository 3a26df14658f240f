"""Rates of cumulative counters over a sliding window."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from loadband.rebalance.events import Event, Host, Sample, Subject

NEAR = 0.05, 0.02
"""How far a load may be from what it is asked for: as a ratio of it, and in CPUs; the larger counts."""
SLACK = 0.1
"""What a window may be shorter, as a ratio of it: samples come a little early or late."""


class History:
    """The last values of a cumulative counter.

    Args:
        window: seconds, the longest over which a rate is asked for.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._values: deque[tuple[float, float]] = deque()

    def add(self, at: float, value: float) -> None:
        """Append a value; `at` is monotonic seconds and never less than before."""
        self._values.append((at, value))
        while len(self._values) > 1 and self._values[1][0] <= at - self._window:
            self._values.popleft()

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()

    def rate(self, window: float | None = None) -> float | None:
        """The increase per second over the window, or over a shorter one; None until that much is known."""
        if not self._values:
            return None
        now, last = self._values[-1]
        since = now - (1 - SLACK) * (window or self._window)
        earlier = [value for value in self._values if value[0] <= since]
        if not earlier:
            return None
        at, first = earlier[-1]
        return (last - first) / (now - at)

    def burns(self, asked: float) -> bool:
        """Whether a load whose CPU-seconds these are has burnt what it is asked for, CPUs, over the window."""
        rate = self.rate()
        return rate is not None and abs(rate - asked) <= max(NEAR[0] * asked, NEAR[1])

    def utilization(self, cpus: float, window: float | None = None) -> float | None:
        """Of a host with so many CPUs whose busy CPU-seconds these are, 0..1; window and None are those of `rate`."""
        rate = self.rate(window)
        return None if rate is None else min(max(rate / cpus, 0.0), 1.0)


class Hosts:
    """Utilization of the hosts that are there, from the events of a run.

    Args:
        window: seconds over which it is averaged.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._cpus: dict[str, float] = {}
        self._busy: dict[str, History] = {}

    def take(self, event: Event) -> None:
        """Learn of a host that comes or goes, and of its samples; other events are of no interest."""
        match event:
            case Host(name=name, cpus=cpus, present=True):
                self._cpus[name] = cpus
                self._busy.setdefault(name, History(self._window))
            case Host(name=name):
                self._cpus.pop(name, None)
                self._busy.pop(name, None)
            case Sample(subject=Subject.HOST, at=at, name=name, cpu_seconds=seconds) if name in self._busy:
                self._busy[name].add(at, seconds)

    def utilization(self) -> Mapping[str, float | None]:
        """By host, in the order in which they came, 0..1; None while it isn't known."""
        return {name: self._busy[name].utilization(cpus) for name, cpus in self._cpus.items()}
