"""Parses /proc/stat (proc_stat(5)); pure.

psutil reads the same file, and the tests compare this parser with it. It can't be used here: it reads the total and the
CPUs separately (twice the cost, and a CPU may go offline in between), its list of CPUs has no numbers (if CPU 0 is
offline, the first entry is CPU 1), a truncated file looks like a smaller machine, and the path of /proc is a global of
the process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadband.sensor.files import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""The step of every counter in /proc/stat, seconds: 10 ms on every Linux machine, whatever tick the kernel has."""

_IDLE, _IOWAIT, _STEAL, _FIELDS = 3, 4, 7, 8

_MOST_TICKS = 1 << 46
"""More than any machine has run (22,000 years of one CPU), and little enough that seconds stay exact in a float."""


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Cumulative CPU-seconds of one CPU or of several together."""

    idle: float
    """Without iowait."""
    iowait: float
    steal: float
    total: float
    """Sum of all fields but guest and guest_nice, which user and nice include."""


@dataclass(frozen=True, slots=True)
class ProcStat:
    """The CPU lines of /proc/stat. They are only parsed as far as needed: 256 of them cost a millisecond."""

    whole: str
    """The fields of the line `cpu`, which the kernel adds up before it truncates them to ticks."""
    each: dict[int, str]
    """The fields of the lines `cpuN`, by N, never empty: only online CPUs have one."""

    @classmethod
    def parse(cls, text: str) -> ProcStat:
        """Find the CPU lines.

        Raises:
            ValueError: if they are missing or cut off, or a CPU has no number. Two lines for all CPUs, a known fault of
                lxcfs, are refused as well: which of them is right isn't known.
        """
        each: dict[int, str] = {}
        first, *lines = text.splitlines()
        name, _, whole = first.partition(" ")
        if name != "cpu":
            raise ValueError("its first line isn't that of all CPUs")
        for line in lines:
            name, _, fields = line.partition(" ")
            if not name.startswith("cpu"):
                break
            if name == "cpu":
                raise ValueError("two lines are about all CPUs together, a known fault of lxcfs")
            each[whole_number(name.removeprefix("cpu"))] = fields
        else:
            raise ValueError("it ends within the CPU lines")
        if not each:
            raise ValueError("no CPU has a line")
        return cls(whole, each)

    def machine(self) -> CpuTimes:
        """All online CPUs together; each counter is correct to one tick.

        Raises:
            ValueError: if the line is garbled.
        """
        return _add([self.whole])

    def of(self, cpus: Iterable[int]) -> CpuTimes:
        """Some online CPUs together; each counter is correct to one tick per CPU.

        Raises:
            ValueError: if a line is garbled.
        """
        return _add(self.each[cpu] for cpu in cpus)


def _add(lines: Iterable[str]) -> CpuTimes:
    rows = []
    for line in lines:
        fields = line.split()[:_FIELDS]
        if len(fields) < _FIELDS:
            raise ValueError(f"a CPU line has {len(fields)} fields, fewer than {_FIELDS}")
        rows.append(_counters(fields))
    ticks = list(map(sum, zip(*rows, strict=True)))
    if ticks[_IDLE] > _MOST_TICKS:
        raise ValueError(f"its idle time of {TICK * ticks[_IDLE]:.2g} s is longer than any machine has run")
    # Other counters that can't be right, such as a steal time below 0 that wrapped around, count as 0.
    ticks = [each if each <= _MOST_TICKS else 0 for each in ticks]
    return CpuTimes(TICK * ticks[_IDLE], TICK * ticks[_IOWAIT], TICK * ticks[_STEAL], TICK * sum(ticks))


def _counters(fields: list[str]) -> list[int]:
    try:
        return list(map(int, fields))
    except ValueError:
        return [whole_number(field) for field in fields]  # which names the one that is wrong
