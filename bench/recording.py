"""The recording of one tool in one scene, and the figures computed from it: pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import nan
from statistics import correlation, fmean

from bench.meter import Mark, by_group, by_idle, by_tasks, by_ticks, settled, slide

WINDOW = 1.0
"""Length of the windows of all figures, in seconds; they slide by the meter's step."""
LOOKS = 20
"""Samples of the target in each window."""
STARTING = 2
"""Number of readings at the start, in which a tool may have processes that aren't known yet."""
SHORTEST_ACCOUNT = 0.5
"""Seconds. Over a shorter time, the truncation of CPU times to 10 ms would look like load of other processes."""


Spent = tuple[float, tuple[float, ...]]
"""A time in monotonic seconds, and the CPU-seconds that each of some processes has used by then."""
Curve = tuple[tuple[float, float], ...]
"""Points of monotonic seconds and a ratio."""


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU-seconds used until a time of the monotonic clock."""

    at: float
    tool: float
    """Used by the tool, with all its processes."""
    neighbour: float
    all_ours: float
    """Used by the benchmark and everything that it started, including the tool and the neighbour."""
    tasks: float
    """Used by all processes; nan without a root cgroup."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One tool in one scene."""

    marks: Sequence[Mark]
    step: float
    """Seconds between two marks."""
    capacity: float
    """Number of CPUs in the denominator of utilization."""
    of_group: bool
    """Whether the capacity is a group's quota."""
    cpus: int
    """Number of CPUs of the whole machine."""
    band: tuple[float, float]
    """Lower and upper edge, as ratios."""
    events: Mapping[str, float]
    """Time of each event in monotonic seconds; `start` and `until` are always there."""
    usage: Sequence[Usage] = ()
    """One at each event, and one every second between."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What probes measured, in the units of the rows that show it."""
    shares: Sequence[Curve] = ()
    """The share of each of several regulators over time."""
    asked: Callable[[float], float] | None = None
    """For a moving band, its middle (ratio) at a time (monotonic seconds)."""

    @property
    def target(self) -> float:
        """The band's middle, a ratio."""
        return sum(self.band) / 2

    def between(self, since: str, until: str, skip: float = 0.0) -> list[Mark]:
        """Return the marks from `skip` seconds after one event until another."""
        return [mark for mark in self.marks if self.events[since] + skip <= mark.at <= self.events[until]]

    def utilization(self, start: Mark, end: Mark) -> float:
        """Return utilization between two marks, a ratio."""
        return (by_group if self.of_group else by_idle)(start, end, self.capacity)

    def windows(self, since: str, until: str, skip: float = 0.0) -> list[tuple[float, float]]:
        """Return start (monotonic seconds) and utilization (ratio) of the windows between two events."""
        return slide(self.between(since, until, skip), self.utilization, round(WINDOW / self.step))

    def mean_asked(self, start: float) -> float:
        """Return the mean target (ratio) over the window that starts at a time."""
        if self.asked is None:
            return self.target
        return fmean(self.asked(start + WINDOW * (index + 0.5) / LOOKS) for index in range(LOOKS))


Number = Callable[[Recording], float]
"""Computes one figure from a recording; nan if it is unknown, infinity for a time that never came."""


def mean_error(since: str, until: str, skip: float = 0.0) -> Number:
    """Mean absolute error of the windows between two events from the band's middle, in percentage points.

    For a moving band, the middle is averaged over the same window.
    """

    def number(recording: Recording) -> float:
        windows = recording.windows(since, until, skip)
        errors = [abs(utilization - recording.mean_asked(start)) for start, utilization in windows]
        return 100 * fmean(errors) if errors else nan

    return number


def correlates(since: str, until: str) -> Number:
    """Pearson's correlation between utilization and target in the windows between two events."""

    def number(recording: Recording) -> float:
        windows = recording.windows(since, until)
        asked = [recording.mean_asked(start) for start, _ in windows]
        return correlation(asked, [utilization for _, utilization in windows])

    return number


def reached(event: str, until: str, low: float, high: float) -> Number:
    """The same as `back_in_band`, for edges (ratios) that apply from that event on."""
    return lambda recording: settled(recording.windows(event, until), low, high, recording.events[event])


def mean_error_by_tasks(since: str, until: str) -> Number:
    """Mean absolute error by the root cgroup's CPU usage, in percentage points; nan without a root cgroup."""

    def number(recording: Recording) -> float:
        def utilization(start: Mark, end: Mark) -> float:
            return by_tasks(start, end, recording.capacity)

        windows = slide(recording.between(since, until), utilization, round(WINDOW / recording.step))
        return 100 * fmean(abs(utilization - recording.target) for _, utilization in windows) if windows else nan

    return number


def share_within(since: str, until: str, half: float | None = None) -> Number:
    """Share of the windows between two events in the band, or within `half` (ratio) of its middle, in percent."""

    def number(recording: Recording) -> float:
        low, high = recording.band if half is None else (recording.target - half, recording.target + half)
        windows = recording.windows(since, until)
        return 100 * fmean(low <= utilization <= high for _, utilization in windows) if windows else nan

    return number


def mean_utilization(since: str, until: str, skip: float = 0.0) -> Number:
    """Mean utilization between two events, in percent."""

    def number(recording: Recording) -> float:
        marks = recording.between(since, until, skip)
        return 100 * recording.utilization(marks[0], marks[-1]) if len(marks) > 1 else nan

    return number


def moved(before: str, event: str, until: str, skip: float) -> Number:
    """Difference between mean utilization from `skip` seconds after an event on and before it, in percentage points."""
    earlier, later = mean_utilization(before, event), mean_utilization(event, until, skip)
    return lambda recording: abs(later(recording) - earlier(recording))


def back_in_band(event: str, until: str) -> Number:
    """Seconds from an event to the first window from which 10 s are in the band; infinity for never."""

    def number(recording: Recording) -> float:
        if event not in recording.events:
            return nan
        return reached(event, until, *recording.band)(recording)

    return number


def tick_error(since: str, until: str) -> Number:
    """Error of tick readers about mean utilization between two events, in percentage points."""

    def number(recording: Recording) -> float:
        marks = recording.between(since, until)
        if len(marks) < 2 or recording.of_group:  # noqa: PLR2004 - a difference needs two
            return nan
        return 100 * abs(by_ticks(marks[0], marks[-1]) - by_idle(marks[0], marks[-1], recording.capacity))

    return number


def tool_use(since: str, until: str) -> Number:
    """CPU time that the tool itself used between two events, in percent of the capacity."""
    return _use(lambda usage: usage.tool, since, until)


def neighbour_use(since: str, until: str) -> Number:
    """CPU time that the neighbour got between two events, in percent of the capacity."""
    return _use(lambda usage: usage.neighbour, since, until)


def _use(of: Callable[[Usage], float], since: str, until: str) -> Number:
    def number(recording: Recording) -> float:
        first, *_, last = [
            usage for usage in recording.usage if recording.events[since] <= usage.at <= recording.events[until]
        ]
        return 100 * (of(last) - of(first)) / ((last.at - first.at) * recording.capacity)

    return number


def fact(name: str) -> Number:
    """A figure that a probe measured."""
    return lambda recording: recording.facts.get(name, nan)


def used(spent: Sequence[Spent], since: float, until: float) -> list[float]:
    """Return the CPUs that each process used between two times."""
    between = [(at, seconds) for at, seconds in spent if since <= at <= until]
    (start, first), (end, last) = between[0], between[-1]
    return [(after - before) / (end - start) for before, after in zip(first, last, strict=True)]


def fairness(shares: Sequence[float]) -> float:
    """Return Jain's index: 1 for equal shares, 1/n if one has everything (Jain, Chiu, Hawe 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def share_curves(spent: Sequence[Spent], capacity: float) -> tuple[Curve, ...]:
    """Return what each process used in the window that ends at a point, as a ratio of the capacity (CPUs)."""
    if len(spent) < 2:  # noqa: PLR2004 - a difference needs two
        return ()
    step = (spent[-1][0] - spent[0][0]) / (len(spent) - 1)
    pairs = list(zip(spent, spent[round(WINDOW / step) :], strict=False))
    return tuple(
        tuple((end, (last[index] - first[index]) / (end - start) / capacity) for (start, first), (end, last) in pairs)
        for index in range(len(spent[0][1]))
    )


def strangers(recording: Recording) -> float:
    """CPU time of processes that the benchmark didn't start, in the worst second, in percent of the machine.

    nan without a root cgroup.
    """
    pairs = [
        (first, last) for first, last in pairwise(recording.usage[STARTING:]) if last.at - first.at >= SHORTEST_ACCOUNT
    ]
    return max(
        (
            100
            * ((last.tasks - last.all_ours) - (first.tasks - first.all_ours))
            / ((last.at - first.at) * recording.cpus)
            for first, last in pairs
        ),
        default=nan,
    )
