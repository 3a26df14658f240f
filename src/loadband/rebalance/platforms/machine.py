"""This machine's CPUs: divided among hosts, their busy time, and processes confined to some of them."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadband.rebalance.platforms import PlatformError

PROC = Path("/proc")
ATTEMPTS = 20
"""How often threads are listed again when new ones came meanwhile."""

Cpus = frozenset[int]
"""Numbers of CPUs."""


@dataclass(frozen=True, slots=True)
class Division:
    """Which CPUs are which host."""

    hosts: Mapping[str, Cpus]
    spare: Cpus
    """Those that are no host; empty if there are only as many CPUs as hosts."""


def divide(cpus: Collection[int], names: Sequence[str], most: int | None = None) -> Division:
    """Give each host equally many CPUs, and leave at least one over if there are more CPUs than hosts.

    Neighbours stay together: CPUs with adjacent numbers go to the same host.

    Args:
        cpus: the numbers of those that may be used.
        names: the hosts', unique.
        most: CPUs of a host; None: as many as there are.

    Raises:
        PlatformError: there are fewer CPUs than hosts.
    """
    numbers = sorted(cpus)
    if len(numbers) < len(names):
        raise PlatformError(
            f"{len(names)} hosts need {len(names)} CPUs, one each, and this process may use {len(numbers)}: "
            "give it more, or choose a scenario with fewer hosts"
        )
    size = max((len(numbers) - 1) // len(names), 1)
    size = size if most is None else min(size, most)
    hosts = {name: frozenset(numbers[place * size : (place + 1) * size]) for place, name in enumerate(names)}
    return Division(hosts, frozenset(numbers[len(names) * size :]))


class BusyTime:
    """Busy CPU-seconds of sets of CPUs, by their idle counters against the monotonic clock.

    The kernel keeps idle and iowait exact to 10 ms, while user and system are sampled by the tick and alias with any
    periodic load: busy is the time that passed less what wasn't used. Stolen time counts as idle, as in the regulators.

    Args:
        sets: by name, the CPUs.
    """

    def __init__(self, sets: Mapping[str, Cpus]) -> None:
        self._sets = sets
        self._began = time.monotonic()
        self._idle = self._read()

    def read(self) -> tuple[float, Mapping[str, float]]:
        """The monotonic time in seconds, and the busy CPU-seconds of each set since this was made."""
        now, idle = time.monotonic(), self._read()
        return now, {
            name: max(len(cpus) * (now - self._began) - (idle[name] - self._idle[name]), 0.0)
            for name, cpus in self._sets.items()
        }

    def _read(self) -> dict[str, float]:
        times = psutil.cpu_times(percpu=True)
        return {
            name: sum(times[cpu].idle + times[cpu].iowait + times[cpu].steal for cpu in cpus)
            for name, cpus in self._sets.items()
        }


def cpu_time(pid: int) -> float:
    """CPU-seconds of a process, all its threads, exact to a nanosecond.

    The number of its CPU clock is made as the kernel's include/linux/posix-timers.h does.

    Raises:
        OSError: it is gone.
    """
    return time.clock_gettime(~pid << 3 | 2)


def confine(pid: int, cpus: Cpus) -> bool:
    """Let all threads of a process run on these CPUs only; returns whether any of them was elsewhere.

    A new thread inherits the affinity of the one that makes it: threads are listed until none is left to confine.

    Raises:
        ProcessLookupError: it is gone.
        OSError: these CPUs can't be had.
    """
    changed = False
    for _ in range(ATTEMPTS):
        wrong = [thread for thread in _threads(pid) if _affinity(thread) not in {cpus, None}]
        if not wrong:
            return changed
        changed = True
        for thread in wrong:
            with suppress(ProcessLookupError):  # this thread ended meanwhile
                os.sched_setaffinity(thread, cpus)
    raise OSError(f"process {pid} makes new threads faster than they can be confined")


def affinity(pid: int) -> Cpus | None:
    """The CPUs of a process' main thread; None if it is gone."""
    return _affinity(pid)


def _threads(pid: int) -> list[int]:
    try:
        return [int(entry.name) for entry in (PROC / str(pid) / "task").iterdir()]
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} is gone") from None


def _affinity(thread: int) -> Cpus | None:
    try:
        return frozenset(os.sched_getaffinity(thread))
    except ProcessLookupError:
        return None
