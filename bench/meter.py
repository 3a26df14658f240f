"""The outside meter: how busy the CPUs were, whoever loaded them, measured in two ways.

Idle time against the clock decides: `1 - d(idle + iowait) / (d(monotonic) * CPUs)`. The kernel keeps idle time exact to
the microsecond between ticks, and truncates it to 10 ms for /proc/stat: half a percentage point of a 1-second window on
2 CPUs. The second way is the root cgroup's CPU usage, exact to the nanosecond. It counts tasks only, not interrupts or
the way into and out of idle. For a group with a quota, the group's own usage decides.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Self

from bench.groups import Group, usage_in

HZ = os.sysconf("SC_CLK_TCK")
ROOT_USAGE = (Path("/sys/fs/cgroup/cpuacct/cpuacct.usage"), Path("/sys/fs/cgroup/cpu.stat"))
SLOW_LOOK = 0.001
"""Seconds. A read that took longer was interrupted between the clock and the counters, and is repeated."""
LOOKS = 3


@dataclass(frozen=True, slots=True)
class Mark:
    """Cumulative counters at one moment of the monotonic clock, all in seconds."""

    at: float
    idle: float
    """CPU-seconds idle or waiting for I/O, on the watched CPUs."""
    tasks: float
    """CPU-seconds that tasks used on the whole machine; nan without a root cgroup."""
    ticks: float
    """CPU-seconds busy on the watched CPUs, as tick readers (sar, top, psutil) see them."""
    all_ticks: float
    """The same plus idle: the denominator of tick readers."""
    group: float = nan
    """CPU-seconds that the group under a quota used; nan without one."""


class Meter:
    """Reads the counters every `step` seconds on its own thread, until stopped.

    Args:
        cpu: number of the only CPU to watch; None for the whole machine.
        step: seconds between two marks.
        group: a group with a quota, to measure its usage against the quota instead.
    """

    def __init__(self, cpu: int | None = None, step: float = 0.1, group: Group | None = None) -> None:
        self._label = "cpu" if cpu is None else f"cpu{cpu}"
        self._group = group
        self.cpus = 1 if cpu is not None else os.cpu_count() or 1
        self.step = step
        self.marks: list[Mark] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def capacity(self) -> float:
        """Number of CPUs in the denominator of utilization."""
        return self._group.cpus if self._group else self.cpus

    def look(self) -> Mark:
        """Read the counters."""
        for _ in range(LOOKS):
            mark = self._look()
            if time.monotonic() - mark.at < SLOW_LOOK:
                break
        return mark

    def _look(self) -> Mark:
        with Path("/proc/stat").open("rb", buffering=0) as file:
            # The kernel generates the text during the read, so the clock is read just before it.
            at = time.monotonic()
            lines = file.read().decode().splitlines()
        group, used = self._group.usage() if self._group else nan, tasks()
        values = next(line.split()[1:9] for line in lines if line.split(None, 1)[0] == self._label)
        user, nice, system, idle, iowait, irq, softirq, steal = (int(value) / HZ for value in values)
        busy = user + nice + system + irq + softirq
        return Mark(at, idle + iowait, used, busy + steal, busy + steal + idle + iowait, group)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self.marks.append(self.look())
            due += self.step
            self._stop.wait(max(due - time.monotonic(), 0.0))

    def windows(self, since: float, until: float, width: float = 1.0) -> list[tuple[float, float]]:
        """Return start (monotonic seconds) and utilization (ratio) of windows that slide by one step."""
        marks = [mark for mark in self.marks if since <= mark.at <= until]
        return slide(marks, self.utilization, round(width / self.step))

    def utilization(self, start: Mark, end: Mark) -> float:
        """Return utilization between two marks, a ratio: by idle time, or by a group's usage of its quota."""
        return by_group(start, end, self.capacity) if self._group else by_idle(start, end, self.capacity)


def by_idle(start: Mark, end: Mark, cpus: float) -> float:
    """Return utilization between two marks, a ratio, by idle time against the clock."""
    return 1 - (end.idle - start.idle) / ((end.at - start.at) * cpus)


def by_tasks(start: Mark, end: Mark, cpus: float) -> float:
    """Return utilization between two marks, a ratio, by what tasks used; nan without a root cgroup."""
    return (end.tasks - start.tasks) / ((end.at - start.at) * cpus)


def by_group(start: Mark, end: Mark, cpus: float) -> float:
    """Return a group's usage of its quota between two marks, a ratio."""
    return (end.group - start.group) / ((end.at - start.at) * cpus)


def by_ticks(start: Mark, end: Mark) -> float:
    """Return utilization between two marks as tick readers see it, a ratio."""
    return (end.ticks - start.ticks) / (end.all_ticks - start.all_ticks)


def slide(marks: Sequence[Mark], utilization: Callable[[Mark, Mark], float], steps: int) -> list[tuple[float, float]]:
    """Return start (monotonic seconds) and utilization (ratio) of windows of `steps` marks that slide by one."""
    return [(start.at, utilization(start, end)) for start, end in zip(marks, marks[steps:], strict=False)]


def tasks() -> float:
    """Return the CPU-seconds that tasks used on the whole machine; nan without a root cgroup."""
    return next((usage_in(path) for path in ROOT_USAGE if path.is_file()), nan)


def settled(windows: list[tuple[float, float]], low: float, high: float, event: float, hold: float = 10.0) -> float:
    """Return the seconds from an event to the first window from which all windows of `hold` seconds are in low..high.

    Infinity if there is no such window.
    """
    after = [(start, utilization) for start, utilization in windows if start >= event]
    if not after:
        return float("inf")
    first = None
    for start, utilization in after:
        if not low <= utilization <= high:
            first = None
        elif first is None:
            first = start
        if first is not None and start - first >= hold:
            return max(first - event, 0.0)
    return float("inf")
