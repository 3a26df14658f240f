"""What Prometheus sees of a regulator: every metric name in one table, and one collector that renders one snapshot.

The names are an interface: dashboards, rules and charts depend on them. Nothing here counts or measures anything: a
scrape reads one reference and renders what it holds, so all values of a scrape come from the same cycle.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
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
"""Returns the snapshot of the last cycle, or None before the first."""


@dataclass(frozen=True, slots=True)
class Info:
    """Values that don't change while the process runs."""

    scope: Scope
    controller: str
    steal: Steal
    version: str
    revision: str
    """Revision of the source that was built; empty if unknown."""
    python_version: str


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of one metric, as a scraper sees it."""

    name: str
    kind: Literal["gauge", "counter", "histogram", "info"]
    labels: tuple[str, ...]
    help: str
    """The HELP text; it states the unit and, for a mean, the window."""


_WINDOW = "over the last second (or the control interval, if that is longer), sliding"
_ABSENT = "Absent while there is no trustworthy reading."
_NO_BAND = "Absent with a fixed effort."
_NO_PROFILE = "Absent without a profile, or while a PUT overrides it."

FAMILIES = (
    Family(
        "loadband_cpu_utilization_ratio",
        "gauge",
        ("scope",),
        f"CPU utilization of the scope as a ratio of its capacity, 0..1, {_WINDOW}: own + other, plus steal if that "
        f"counts as busy. {_ABSENT}",
    ),
    Family(
        "loadband_cpu_ratio",
        "gauge",
        ("scope", "mode"),
        f"CPU time of the scope by mode as a ratio of its capacity, 0..1, {_WINDOW}. The four modes sum to 1: own "
        f"(this process), other (all other processes), steal (taken by the hypervisor), idle. {_ABSENT}",
    ),
    Family(
        "loadband_cpu_seconds_total",
        "counter",
        ("scope", "mode"),
        "CPU time of the scope by mode, in CPU-seconds since the start. Use this in rules: the ratios cover one "
        "second, so a slower scrape aliases them.",
    ),
    Family("loadband_band_min_ratio", "gauge", (), f"Lower edge of the band as a ratio of capacity, 0..1. {_NO_BAND}"),
    Family("loadband_band_max_ratio", "gauge", (), f"Upper edge of the band as a ratio of capacity, 0..1. {_NO_BAND}"),
    Family(
        "loadband_in_band",
        "gauge",
        (),
        f"1 if CPU utilization {_WINDOW}, is inside the band, else 0. A moving band is averaged over the same time. "
        f"{_ABSENT} {_NO_BAND}",
    ),
    Family("loadband_workers", "gauge", (), "Number of worker threads that the current command asks for."),
    Family(
        "loadband_worker_duty_ratio",
        "gauge",
        (),
        "Share of its time that a worker is asked to burn, 0..1, as the mean over all workers.",
    ),
    Family(
        "loadband_effort_cpus",
        "gauge",
        (),
        "CPU time per second that the current command asks of all workers together, in CPUs.",
    ),
    Family(
        "loadband_latched_effort_cpus",
        "gauge",
        (),
        "Fixed size of a latched load, in CPUs; loadband_cpu_seconds_total has the CPU time that it actually gets. "
        "Absent unless latched.",
    ),
    Family(
        "loadband_latch_timestamp_seconds",
        "gauge",
        (),
        "Time at which the load was latched, in seconds since the epoch. Absent unless latched.",
    ),
    Family(
        "loadband_capacity_cpus",
        "gauge",
        ("scope",),
        f"Number of CPUs in the scope, the denominator of every ratio; fractional under a quota. {_ABSENT}",
    ),
    Family(
        "loadband_reach_cpus",
        "gauge",
        (),
        "The most CPUs that this process can burn: the smallest of its affinity, cpuset, quotas and own ceiling. "
        f"{_ABSENT}",
    ),
    Family(
        "loadband_state",
        "gauge",
        ("state",),
        "State after the last cycle: 1 for the one that applies, 0 for the others; all 0 before the first cycle.",
    ),
    Family(
        "loadband_in_band_seconds_total",
        "counter",
        (),
        "Seconds of the observed time for which CPU utilization over the last second was inside the band. Doesn't "
        "increase while latched.",
    ),
    Family(
        "loadband_observed_seconds_total",
        "counter",
        (),
        "Seconds for which it is known whether CPU utilization was in the band: the denominator of "
        "loadband_in_band_seconds_total. Doesn't increase while latched.",
    ),
    Family(
        "loadband_cpu_throttled_seconds_total",
        "counter",
        (),
        "Seconds for which the kernel throttled this cgroup for its CPU quota. Absent without a quota.",
    ),
    Family(
        "loadband_cpu_throttled_periods_total",
        "counter",
        (),
        "Enforcement periods of this cgroup's CPU quota in which it was throttled. Absent without a quota.",
    ),
    Family(
        "loadband_cpu_periods_total",
        "counter",
        (),
        "Enforcement periods of this cgroup's CPU quota that have elapsed. Absent without a quota.",
    ),
    Family("loadband_cycles_total", "counter", (), "Number of control loop cycles."),
    Family(
        "loadband_cycle_overruns_total",
        "counter",
        (),
        "Number of control loop cycles that began more than one interval late.",
    ),
    Family(
        "loadband_cycle_failures_total",
        "counter",
        ("reason",),
        "Number of samples dropped because they gave no trustworthy reading, by reason.",
    ),
    Family(
        "loadband_cycle_duration_seconds",
        "histogram",
        (),
        "Duration of a control loop cycle, in seconds. Absent before the first cycle.",
    ),
    Family("loadband_worker_restarts_total", "counter", (), "Number of workers that died and were replaced."),
    Family(
        "loadband_band_changes_total",
        "counter",
        ("source",),
        "Number of times the band was changed, by source: control (PUT and DELETE), profile (its file was read again; "
        "its motion doesn't count), settings (SIGHUP).",
    ),
    Family("loadband_profile_info", "info", ("profile",), f"Name of the current profile; always 1. {_NO_PROFILE}"),
    Family(
        "loadband_profile_phase",
        "gauge",
        ("phase",),
        f"Phase of the current profile: 1 for the current phase, 0 for the others. {_NO_PROFILE}",
    ),
    Family(
        "loadband_last_cycle_timestamp_seconds",
        "gauge",
        (),
        "Time of the last control loop cycle, in seconds since the epoch. Absent before the first cycle.",
    ),
    Family(
        "loadband_deadline_timestamp_seconds",
        "gauge",
        (),
        "Time at which LOADBAND_DURATION ends, in seconds since the epoch. Absent without a duration.",
    ),
    Family("loadband_settings_info", "info", ("scope", "controller", "steal"), "Settings in use; always 1."),
    Family(
        "loadband_build_info",
        "info",
        ("version", "revision", "pythonversion"),
        "Version and revision of loadband, and the Python that runs it; always 1.",
    ),
)
"""Every metric of loadband's own, in order of exposition. The client library's process and platform collectors add
`process_*` and `python_info`."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric, with its labels in the order of the declaration."""

    name: str
    value: float | Histogram
    labels: tuple[str, ...] = ()


class PointCollector(Collector):
    """Renders points into fresh metric objects for every scrape; a family without a point is absent.

    Args:
        families: the declarations, in order of exposition.
        points: is called exactly once per `collect`, from any thread; names and labels are those of the families.
    """

    def __init__(self, families: Sequence[Family], points: Callable[[], Iterable[Point]]) -> None:
        self._families = families
        self._points = points

    def describe(self) -> list[Metric]:
        """Return the families without values, so that registering asks for no point."""
        return [_metric(family, []) for family in self._families]

    def collect(self) -> list[Metric]:
        """Return the families that currently have a value, in order of declaration."""
        by_name: dict[str, list[Point]] = {}
        for point in self._points():
            by_name.setdefault(point.name, []).append(point)
        return [_metric(family, by_name[family.name]) for family in self._families if family.name in by_name]


class SnapshotCollector(PointCollector):
    """Renders the snapshot of the last cycle.

    An unknown value is absent, not zero: without a trustworthy reading, no ratio would be true. Counters and the series
    of every label value exist from the start.

    Args:
        source: is read exactly once per `collect`.
        info: values of the `_info` metrics.
    """

    def __init__(self, source: SnapshotSource, info: Info) -> None:
        super().__init__(FAMILIES, lambda: _points(source(), info))


def registry(source: SnapshotSource, info: Info) -> CollectorRegistry:
    """Create a registry with everything that a regulator's `/metrics` shows.

    Args:
        source: is read exactly once per scrape, from any thread.
        info: values of the `_info` metrics.
    """
    return registry_of(SnapshotCollector(source, info))


def registry_of(collector: Collector) -> CollectorRegistry:
    """Create a registry with a collector's metrics and the client library's own about this process."""
    own = CollectorRegistry()
    own.register(collector)
    ProcessCollector(registry=own)
    PlatformCollector(registry=own)
    return own


def _points(snapshot: Snapshot | None, info: Info) -> Iterator[Point]:
    yield from _of_counts(snapshot.counts if snapshot else Counts(), info.scope)
    for state in State:
        now = snapshot is not None and snapshot.verdict.state is state
        yield Point("loadband_state", now, (state,))
    yield Point("loadband_settings_info", 1, (info.scope, info.controller, info.steal))
    yield Point("loadband_build_info", 1, (info.version, info.revision, info.python_version))
    if snapshot:
        yield from _of_cycle(snapshot)
        yield from _of_reading(snapshot)


def _of_counts(counts: Counts, scope: Scope) -> Iterator[Point]:
    yield Point("loadband_cpu_seconds_total", counts.cpu.own, (scope, "own"))
    yield Point("loadband_cpu_seconds_total", counts.cpu.other, (scope, "other"))
    yield Point("loadband_cpu_seconds_total", counts.cpu.steal, (scope, "steal"))
    yield Point("loadband_cpu_seconds_total", counts.cpu.idle, (scope, "idle"))
    yield Point("loadband_in_band_seconds_total", counts.in_band_seconds)
    yield Point("loadband_observed_seconds_total", counts.observed_seconds)
    yield Point("loadband_cycles_total", counts.cycles)
    yield Point("loadband_cycle_overruns_total", counts.overruns)
    for reason in DropReason:
        yield Point("loadband_cycle_failures_total", counts.failures.get(reason, 0), (reason,))
    yield Point("loadband_worker_restarts_total", counts.worker_restarts)
    for source in SETPOINT_SOURCES:
        yield Point("loadband_band_changes_total", counts.band_changes.get(source, 0), (source,))


def _of_cycle(snapshot: Snapshot) -> Iterator[Point]:
    if band := snapshot.setpoint.band:
        yield Point("loadband_band_min_ratio", band.low)
        yield Point("loadband_band_max_ratio", band.high)
    if progress := snapshot.setpoint.progress:
        yield Point("loadband_profile_info", 1, (progress.profile,))
        for phase in progress.phases:
            yield Point("loadband_profile_phase", phase == progress.phase, (phase,))
    yield Point("loadband_workers", snapshot.command.workers)
    yield Point("loadband_worker_duty_ratio", snapshot.command.duty)
    yield Point("loadband_effort_cpus", snapshot.command.effort)
    if snapshot.command.latched is not None:
        yield Point("loadband_latched_effort_cpus", snapshot.command.latched)
    if snapshot.latch_timestamp is not None:
        yield Point("loadband_latch_timestamp_seconds", snapshot.latch_timestamp)
    if throttling := snapshot.throttling:
        yield Point("loadband_cpu_throttled_seconds_total", throttling.throttled_seconds)
        yield Point("loadband_cpu_throttled_periods_total", throttling.throttled_periods)
        yield Point("loadband_cpu_periods_total", throttling.periods)
    yield Point("loadband_cycle_duration_seconds", snapshot.durations)
    yield Point("loadband_last_cycle_timestamp_seconds", snapshot.timestamp)
    if snapshot.deadline is not None:
        yield Point("loadband_deadline_timestamp_seconds", snapshot.deadline)


def _of_reading(snapshot: Snapshot) -> Iterator[Point]:
    reading, scope = snapshot.reading, snapshot.scope
    if reading is None or snapshot.utilization is None:
        return
    yield Point("loadband_cpu_utilization_ratio", snapshot.utilization, (scope,))
    yield Point("loadband_cpu_ratio", reading.own, (scope, "own"))
    yield Point("loadband_cpu_ratio", reading.other, (scope, "other"))
    yield Point("loadband_cpu_ratio", reading.steal, (scope, "steal"))
    yield Point("loadband_cpu_ratio", reading.idle, (scope, "idle"))
    if snapshot.setpoint.band:
        yield Point("loadband_in_band", snapshot.in_band)
    yield Point("loadband_capacity_cpus", reading.capacity, (scope,))
    yield Point("loadband_reach_cpus", reading.reach)


def _metric(family: Family, points: list[Point]) -> Metric:
    """Build the client library's object for a family; it wants names of counters and infos without their suffix."""
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
    """Yield the samples of one value: suffix of the name, label of the bucket, number."""
    if isinstance(value, Histogram):
        bounds = [*map(floatToGoString, value.bounds), "+Inf"]
        for bound, count in zip(bounds, itertools.accumulate(value.counts), strict=True):
            yield "_bucket", {"le": bound}, count
        yield "_count", {}, sum(value.counts)
        yield "_sum", {}, value.total
    else:
        yield "", {}, float(value)
