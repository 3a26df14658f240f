"""A guest's CPU utilization as its node_exporter has it, seen from outside, by the guest's own clock."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vm.machine import NODE_EXPORTER, Machine

_SERIES = re.compile(
    r'^(node_cpu_seconds_total\{cpu="(\d+)",mode="(idle|iowait)"\}|node_time_seconds) (\S+)$', re.MULTILINE
)
_COLLECTORS = "/metrics?collect[]=cpu&collect[]=time"
WINDOW = 1.0
PAUSE = 1.0
"""Seconds between two scrapes: one costs an emulated machine a part of a second."""


@dataclass(frozen=True)
class Sample:
    """Cumulative counters."""

    at: float
    """The guest's clock, seconds."""
    idle: float
    """CPU-seconds, with what waits for disks."""
    cpus: int


@dataclass(frozen=True)
class Window:
    """The mean between two samples."""

    start: float
    end: float
    utilization: float
    """0..1."""


def sample(machine: Machine) -> Sample:
    """Scrape once.

    Raises:
        OSError: nobody answers.
    """
    found = _SERIES.findall(machine.get(NODE_EXPORTER, _COLLECTORS))
    idle = sum(float(value) for _, cpu, _, value in found if cpu)
    (at,) = (float(value) for _, cpu, _, value in found if not cpu)
    return Sample(at, idle, len({cpu for _, cpu, _, _ in found if cpu}))


def between(first: Sample, last: Sample) -> Window:
    seconds = last.at - first.at
    return Window(first.at, last.at, 1 - (last.idle - first.idle) / (seconds * first.cpus))


def record(machine: Machine, seconds: float, until: Callable[[], bool] = lambda: False) -> list[Sample]:
    """Scrape for some seconds of ours, or until something is so."""
    samples, deadline = [sample(machine)], time.monotonic() + seconds
    while time.monotonic() < deadline and not until():
        time.sleep(PAUSE)
        samples.append(sample(machine))
    return samples


def windows(samples: Sequence[Sample]) -> list[Window]:
    """One after the other, each as little longer than a second as the samples allow."""
    found, first = [], samples[0]
    for each in samples[1:]:
        if each.at - first.at >= WINDOW:
            found.append(between(first, each))
            first = each
    return found


def mean(samples: Sequence[Sample]) -> float:
    return between(samples[0], samples[-1]).utilization
