"""The machine under the benchmark: what it is, and whether it is idle enough."""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.meter import Meter

LOOK_SECONDS = 2.0
MOST_BUSY = 3.0
"""Percent of the machine that may be in use before the first run."""
NAMED = 5
"""Maximum number of processes to name."""


def describe() -> dict[str, str]:
    """Describe the machine, by names for people."""
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = psutil.virtual_memory().total / 2**30
    return {
        "CPUs": f"{os.cpu_count()} x {processor[1] if processor else platform.machine()}",
        "memory": f"{memory:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }


def today() -> str:
    """Return the date, in UTC."""
    return datetime.now(UTC).date().isoformat()


@dataclass(frozen=True, slots=True)
class Busy:
    """How busy the machine is before anything was started."""

    percent: float
    """CPU time in use, in percent of the machine."""
    by: tuple[str, ...]
    """The processes that used most: name, process id, percent of one CPU."""

    @property
    def too_busy(self) -> bool:
        """Whether the machine is too busy to measure on."""
        return self.percent > MOST_BUSY


def busy() -> Busy:
    """Watch the machine for LOOK_SECONDS."""
    meter, mine = Meter(), os.getpid()
    before = {process.pid: process.info["cpu_times"] for process in psutil.process_iter(["cpu_times"])}
    start = meter.look()
    time.sleep(LOOK_SECONDS)
    end = meter.look()
    used = []
    for process in psutil.process_iter(["name", "cpu_times"]):
        now, then = process.info["cpu_times"], before.get(process.pid)
        if process.pid != mine and now:
            seconds = sum(now[:2]) - (sum(then[:2]) if then else 0.0)
            used.append((100 * seconds / LOOK_SECONDS, f"{process.info['name']} ({process.pid})"))
    most = sorted(used, reverse=True)[:NAMED]
    return Busy(
        100 * meter.utilization(start, end), tuple(f"{name} {percent:.0f} %" for percent, name in most if percent >= 1)
    )
