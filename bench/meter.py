"""The meter outside: what a machine's CPUs did, by two truths, whoever loaded them.

Idle against the clock decides: `1 - d(idle + iowait) / (d(monotonic) * CPUs)` (the kernel keeps idle exact to the
microsecond between ticks, and cuts it to 10 ms for /proc/stat). Beside it stands the root cgroup's CPU usage, exact to
the nanosecond, which counts tasks only: interrupts and the way into and out of idle are not in it.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

HZ = os.sysconf("SC_CLK_TCK")
ROOT_USAGE = (Path("/sys/fs/cgroup/cpuacct/cpuacct.usage"), Path("/sys/fs/cgroup/cpu.stat"))


@dataclass(frozen=True, slots=True)
class Mark:
    """Cumulative counters at one moment of the monotonic clock, all in seconds."""

    at: float
    idle: float
    """CPU-seconds idle or waiting for I/O, of the CPUs that are watched."""
    tasks: float
    """CPU-seconds that tasks used on the whole machine; nan where no root cgroup tells."""
    ticks: float
    """CPU-seconds busy as tick readers (sar, top, psutil) see them, of the CPUs that are watched."""
    all_ticks: float
    """The same with idle: their denominator."""


class Meter:
    """Reads the counters every `step` seconds from a thread of its own, until stopped.

    Args:
        cpu: one CPU's number to watch that one alone; None for the whole machine.
        step: seconds between two marks.
    """

    def __init__(self, cpu: int | None = None, step: float = 0.1) -> None:
        self._label = "cpu" if cpu is None else f"cpu{cpu}"
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

    def look(self) -> Mark:
        """The counters of now."""
        at = time.monotonic()
        lines = Path("/proc/stat").read_text().splitlines()
        values = next(line.split()[1:9] for line in lines if line.split(None, 1)[0] == self._label)
        user, nice, system, idle, iowait, irq, softirq, steal = (int(value) / HZ for value in values)
        busy = user + nice + system + irq + softirq
        return Mark(at, idle + iowait, _tasks(), busy + steal, busy + steal + idle + iowait)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self.marks.append(self.look())
            due += self.step
            self._stop.wait(max(due - time.monotonic(), 0.0))

    def windows(self, since: float, until: float, width: float = 1.0) -> list[tuple[float, float]]:
        """Start (monotonic seconds) and utilization (ratio) of windows that slide by one step."""
        marks = [mark for mark in self.marks if since <= mark.at <= until]
        steps = round(width / self.step)
        return [(start.at, self.utilization(start, end)) for start, end in zip(marks, marks[steps:], strict=False)]

    def utilization(self, start: Mark, end: Mark) -> float:
        """Idle against the clock between two marks, a ratio."""
        return 1 - (end.idle - start.idle) / ((end.at - start.at) * self.cpus)


def _tasks() -> float:
    for path in ROOT_USAGE:
        if path.is_file():
            text = path.read_text()
            return int(text) / 1e9 if text.strip().isdigit() else int(text.split()[1]) / 1e6
    return float("nan")


def settled(windows: list[tuple[float, float]], low: float, high: float, event: float, hold: float = 10.0) -> float:
    """Seconds from an event to the first window from which on all of the next `hold` seconds are within low..high.

    Returns infinity when that never came within the windows given.
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
