"""What Prometheus sees: every metric name in one table, and one collector that renders one snapshot.

The names are an interface: dashboards, rules and charts are written against them. Nothing here is counted or measured;
a scrape reads one reference and says what is in it, so that all its values are of one cycle.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from loadband.quantities import SETPOINT_SOURCES, Counts, DropReason, Histogram, Scope, Snapshot, State, Steal

SnapshotSource = Callable[[], Snapshot | None]
"""Gives the snapshot of the last cycle, None before the first."""


@dataclass(frozen=True, slots=True)
class Info:
    """What doesn't change while the process lives."""

    scope: Scope
    controller: str
    steal: Steal
    version: str
    revision: str
    """Of the source that was built; empty where that is not known."""
    python_version: str


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of one metric, as a scraper sees it."""

    name: str
    kind: Literal["gauge", "counter", "histogram", "info"]
    labels: tuple[str, ...]
    help: str
    """Says the unit, and for what is a mean the time it is over."""


_WINDOW = "over the last second (the control interval, where that is longer), sliding"
_ABSENT = "Absent without a trustworthy reading."
_NO_BAND = "Absent with a fixed effort."
_NO_PROFILE = "Absent without one, or while a PUT stands before it."

FAMILIES = (
    Family(
        "loadband_cpu_utilization_ratio",
        "gauge",
        ("scope",),
        f"CPU utilization of the scope, 0..1 of its capacity, {_WINDOW}: own + other, and steal where that counts as "
        f"busy. {_ABSENT}",
    ),
    Family(
        "loadband_cpu_ratio",
        "gauge",
        ("scope", "mode"),
        f"CPU time of the scope by mode, 0..1 of its capacity, {_WINDOW}; the four modes sum to 1: own (this process), "
        f"other (everybody else), steal (taken by the hypervisor), idle. {_ABSENT}",
    ),
    Family(
        "loadband_cpu_seconds_total",
        "counter",
        ("scope", "mode"),
        "CPU time of the scope by mode, CPU-seconds since the start. What rules should use: the ratios are over one "
        "second and alias with a slower scrape.",
    ),
    Family("loadband_band_min_ratio", "gauge", (), f"Lower edge of the band, 0..1 of the scope's capacity. {_NO_BAND}"),
    Family("loadband_band_max_ratio", "gauge", (), f"Upper edge of the band, 0..1 of the scope's capacity. {_NO_BAND}"),
    Family(
        "loadband_in_band",
        "gauge",
        (),
        f"Whether CPU utilization, {_WINDOW}, is inside the band: 1 or 0. A moving band counts by its mean over that "
        f"time. {_ABSENT} {_NO_BAND}",
    ),
    Family("loadband_workers", "gauge", (), "Threads that the present command asks for."),
    Family(
        "loadband_worker_duty_ratio",
        "gauge",
        (),
        "Share of the time that a worker is asked to burn by the present command, 0..1, mean of all workers.",
    ),
    Family(
        "loadband_effort_cpus",
        "gauge",
        (),
        "CPU-seconds per second that the present command asks of all workers together, CPUs.",
    ),
    Family(
        "loadband_latched_effort_cpus",
        "gauge",
        (),
        "The fixed size of a latched load, CPUs; the CPU time that it really gets is in loadband_cpu_seconds_total. "
        "Absent in closed loop.",
    ),
    Family(
        "loadband_latch_timestamp_seconds",
        "gauge",
        (),
        "When the load was latched, seconds since the epoch. Absent in closed loop.",
    ),
    Family(
        "loadband_capacity_cpus",
        "gauge",
        ("scope",),
        f"CPUs of the scope, the denominator of every ratio; fractional under a quota. {_ABSENT}",
    ),
    Family(
        "loadband_reach_cpus",
        "gauge",
        (),
        "The most CPUs that this process can burn: the least of affinity, cpuset, every quota and its own ceiling. "
        f"{_ABSENT}",
    ),
    Family(
        "loadband_state",
        "gauge",
        ("state",),
        "The verdict of the last cycle: 1 for the state that applies, 0 for every other; all 0 before the first cycle.",
    ),
    Family(
        "loadband_in_band_seconds_total",
        "counter",
        (),
        "Observed time, seconds, in which CPU utilization over the last second was inside the band. Stands still while "
        "latched.",
    ),
    Family(
        "loadband_observed_seconds_total",
        "counter",
        (),
        "Time, seconds, of which is known whether CPU utilization was inside the band: the denominator of "
        "loadband_in_band_seconds_total. Stands still while latched.",
    ),
    Family(
        "loadband_cpu_throttled_seconds_total",
        "counter",
        (),
        "Time, seconds, in which the kernel held our cgroup back for its CPU quota. Absent without a quota.",
    ),
    Family(
        "loadband_cpu_throttled_periods_total",
        "counter",
        (),
        "Enforcement periods of our cgroup's CPU quota in which it was held back. Absent without a quota.",
    ),
    Family(
        "loadband_cpu_periods_total",
        "counter",
        (),
        "Enforcement periods of our cgroup's CPU quota that have passed. Absent without a quota.",
    ),
    Family("loadband_cycles_total", "counter", (), "Cycles of the control loop."),
    Family(
        "loadband_cycle_overruns_total",
        "counter",
        (),
        "Cycles of the control loop that began more than one interval late.",
    ),
    Family(
        "loadband_cycle_failures_total",
        "counter",
        ("reason",),
        "Samples dropped because they gave no trustworthy reading, by reason.",
    ),
    Family(
        "loadband_cycle_duration_seconds",
        "histogram",
        (),
        "Time that a cycle of the control loop took, seconds. Absent before the first cycle.",
    ),
    Family("loadband_worker_restarts_total", "counter", (), "Workers that died and were replaced."),
    Family(
        "loadband_band_changes_total",
        "counter",
        ("source",),
        "Changes of the band, by what asked for them: control (PUT and DELETE), profile (one that was read again; its "
        "motion is no change), settings (SIGHUP).",
    ),
    Family("loadband_profile_info", "info", ("profile",), f"The profile in force; always 1. {_NO_PROFILE}"),
    Family(
        "loadband_profile_phase",
        "gauge",
        ("phase",),
        f"Where the profile in force is: 1 for the phase of now, 0 for every other. {_NO_PROFILE}",
    ),
    Family(
        "loadband_last_cycle_timestamp_seconds",
        "gauge",
        (),
        "When the last cycle of the control loop was, seconds since the epoch. Absent before the first cycle.",
    ),
    Family(
        "loadband_deadline_timestamp_seconds",
        "gauge",
        (),
        "When the duration is over, seconds since the epoch. Absent where no duration is set.",
    ),
    Family("loadband_settings_info", "info", ("scope", "controller", "steal"), "The settings in force; always 1."),
    Family(
        "loadband_build_info",
        "info",
        ("version", "revision", "pythonversion"),
        "What was built, and the Python that runs it; always 1.",
    ),
)
"""Every metric of our own, in the order of exposition. The process and platform collectors of the client library add
`process_*` and `python_info`."""


@dataclass(frozen=True, slots=True)
class _Point:
    """One value of one metric, labels in the order of its declaration."""

    name: str
    value: float | Histogram
    labels: tuple[str, ...] = ()


def registry(source: SnapshotSource, info: Info) -> CollectorRegistry:
    """A registry of its own with everything that `/metrics` shows.

    Args:
        source: read exactly once per scrape, from any thread.
        info: what the `_info` metrics say.
    """
    own = CollectorRegistry()
    own.register(SnapshotCollector(source, info))
    ProcessCollector(registry=own)
    PlatformCollector(registry=own)
    return own


class SnapshotCollector(Collector):
    """Renders the snapshot of the last cycle, in fresh objects for every scrape.

    A value that isn't known is absent, not zero: before there is a trustworthy reading, no ratio is true. Counters and
    the series of every label value exist from the start.

    Args:
        source: read exactly once per `collect`.
        info: what the `_info` metrics say.
    """

    def __init__(self, source: SnapshotSource, info: Info) -> None:
        self._source = source
        self._info = info

    def describe(self) -> list[Metric]:
        """The families without values, so that registering reads no snapshot."""
        return [_metric(family, []) for family in FAMILIES]

    def collect(self) -> list[Metric]:
        """The families that have a value now, in the order of their declaration."""
        by_name: dict[str, list[_Point]] = {}
        for point in _points(self._source(), self._info):
            by_name.setdefault(point.name, []).append(point)
        return [_metric(family, by_name[family.name]) for family in FAMILIES if family.name in by_name]


def _points(snapshot: Snapshot | None, info: Info) -> Iterator[_Point]:
    yield from _of_counts(snapshot.counts if snapshot else Counts(), info.scope)
    for state in State:
        now = snapshot is not None and snapshot.verdict.state is state
        yield _Point("loadband_state", now, (state,))
    yield _Point("loadband_settings_info", 1, (info.scope, info.controller, info.steal))
    yield _Point("loadband_build_info", 1, (info.version, info.revision, info.python_version))
    if snapshot:
        yield from _of_cycle(snapshot)
        yield from _of_reading(snapshot)


def _of_counts(counts: Counts, scope: Scope) -> Iterator[_Point]:
    yield _Point("loadband_cpu_seconds_total", counts.cpu.own, (scope, "own"))
    yield _Point("loadband_cpu_seconds_total", counts.cpu.other, (scope, "other"))
    yield _Point("loadband_cpu_seconds_total", counts.cpu.steal, (scope, "steal"))
    yield _Point("loadband_cpu_seconds_total", counts.cpu.idle, (scope, "idle"))
    yield _Point("loadband_in_band_seconds_total", counts.in_band_seconds)
    yield _Point("loadband_observed_seconds_total", counts.observed_seconds)
    yield _Point("loadband_cycles_total", counts.cycles)
    yield _Point("loadband_cycle_overruns_total", counts.overruns)
    for reason in DropReason:
        yield _Point("loadband_cycle_failures_total", counts.failures.get(reason, 0), (reason,))
    yield _Point("loadband_worker_restarts_total", counts.worker_restarts)
    for source in SETPOINT_SOURCES:
        yield _Point("loadband_band_changes_total", counts.band_changes.get(source, 0), (source,))


def _of_cycle(snapshot: Snapshot) -> Iterator[_Point]:
    if band := snapshot.setpoint.band:
        yield _Point("loadband_band_min_ratio", band.low)
        yield _Point("loadband_band_max_ratio", band.high)
    if progress := snapshot.setpoint.progress:
        yield _Point("loadband_profile_info", 1, (progress.profile,))
        for phase in progress.phases:
            yield _Point("loadband_profile_phase", phase == progress.phase, (phase,))
    yield _Point("loadband_workers", snapshot.command.workers)
    yield _Point("loadband_worker_duty_ratio", snapshot.command.duty)
    yield _Point("loadband_effort_cpus", snapshot.command.effort)
    if snapshot.command.latched is not None:
        yield _Point("loadband_latched_effort_cpus", snapshot.command.latched)
    if snapshot.latch_timestamp is not None:
        yield _Point("loadband_latch_timestamp_seconds", snapshot.latch_timestamp)
    if throttling := snapshot.throttling:
        yield _Point("loadband_cpu_throttled_seconds_total", throttling.throttled_seconds)
        yield _Point("loadband_cpu_throttled_periods_total", throttling.throttled_periods)
        yield _Point("loadband_cpu_periods_total", throttling.periods)
    yield _Point("loadband_cycle_duration_seconds", snapshot.durations)
    yield _Point("loadband_last_cycle_timestamp_seconds", snapshot.timestamp)
    if snapshot.deadline is not None:
        yield _Point("loadband_deadline_timestamp_seconds", snapshot.deadline)


def _of_reading(snapshot: Snapshot) -> Iterator[_Point]:
    reading, scope = snapshot.reading, snapshot.scope
    if reading is None or snapshot.utilization is None:
        return
    yield _Point("loadband_cpu_utilization_ratio", snapshot.utilization, (scope,))
    yield _Point("loadband_cpu_ratio", reading.own, (scope, "own"))
    yield _Point("loadband_cpu_ratio", reading.other, (scope, "other"))
    yield _Point("loadband_cpu_ratio", reading.steal, (scope, "steal"))
    yield _Point("loadband_cpu_ratio", reading.idle, (scope, "idle"))
    if snapshot.setpoint.band:
        yield _Point("loadband_in_band", snapshot.in_band)
    yield _Point("loadband_capacity_cpus", reading.capacity, (scope,))
    yield _Point("loadband_reach_cpus", reading.reach)


def _metric(family: Family, points: list[_Point]) -> Metric:
    """The client library's object for a family; it takes a counter's and an info's name without the suffix."""
    metric: Metric
    match family.kind:
        case "gauge":
            metric = GaugeMetricFamily(family.name, family.help)
        case "counter":
            metric = CounterMetricFamily(family.name.removesuffix("_total"), family.help)
        case "info":
            metric = InfoMetricFamily(family.name.removesuffix("_info"), family.help)
        case "histogram":
            metric = HistogramMetricFamily(family.name, family.help)
    for point in points:
        labels = dict(zip(family.labels, point.labels, strict=True))
        for suffix, le, value in _samples(point.value):
            metric.add_sample(family.name + suffix, labels | le, value)
    return metric


def _samples(value: float | Histogram) -> Iterator[tuple[str, dict[str, str], float]]:
    """The lines that one value makes: suffix of the name, label of the bucket, number."""
    if isinstance(value, Histogram):
        bounds = [*map(floatToGoString, value.bounds), "+Inf"]
        for bound, count in zip(bounds, itertools.accumulate(value.counts), strict=True):
            yield "_bucket", {"le": bound}, count
        yield "_count", {}, sum(value.counts)
        yield "_sum", {}, value.total
    else:
        yield "", {}, float(value)
