"""A recording put in order of time: utilization and imbalance, the alerts' episodes, the moves from begin to end. Pure.

Events may stand in any order in the file. Samples carry the clock of the host that took them; they are put on the
recorder's clock here by the offsets that were measured. Every time is in seconds since the epoch.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

from loadband.rebalance.events import (
    Alert,
    AlertState,
    Clock,
    Disturbance,
    End,
    Host,
    Imbalance,
    Move,
    MoveState,
    Phase,
    PhaseName,
    Recording,
    Sample,
    Slice,
    Subject,
)

_Event = TypeVar("_Event", Alert, Clock, Disturbance, End, Host, Move, Phase, Sample, Slice)
_Named = TypeVar("_Named", Host, Slice)

IDEAL: Mapping[Imbalance, float] = {
    Imbalance.SPREAD: 0.0,
    Imbalance.SD: 0.0,
    Imbalance.CV: 0.0,
    Imbalance.PEAK: 1.0,
}
"""What each measure is if all hosts are equally busy."""
_NEARLY_ALL = 0.95
_THIN = 0.5
"""Of a sample interval: moments are at least that far apart, however the hosts' samples interleave."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Values over time without a gap."""

    times: array[float]
    """Seconds since the epoch, increasing; one or more."""
    values: array[float]
    """As many."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time; where nothing is known, a piece ends."""

    pieces: tuple[Piece, ...]

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Time and value of each point, in order."""
        for piece in self.pieces:
            yield from zip(piece.times, piece.values, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One time that an alert was pending or firing. A time is None if it wasn't recorded, or hadn't come yet."""

    alert: str
    host: str
    """Empty if it is about none."""
    pending: float | None = None
    firing: float | None = None
    notified: float | None = None
    ended: float | None = None
    """When it was resolved, or dropped if it never fired."""
    resolution: float = 0.0
    """Seconds: how exact these times are; that of the worst."""

    @property
    def begin(self) -> float:
        """The first time that is known of it."""
        return next(at for at in (self.pending, self.firing, self.notified, self.ended) if at is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A move, from being asked for to its end."""

    move: str
    slice: str
    source: str
    destination: str | None
    """None if it never became known."""
    by: str
    state: MoveState
    """The last one: `asked` or `accepted` if it was under way when the recording ended."""
    asked: float | None
    """None if the platform doesn't report it."""
    accepted: float | None
    """When the platform began it; None if it hasn't, as it refused it."""
    ended: float | None
    reason: str = ""
    """Why it was asked for."""
    failure: str = ""
    """Why it failed or was cancelled."""
    seconds: float | None = None
    """How long it took, as the platform states it."""
    downtime: float | None = None
    """For how long the slice stood still, seconds, as the platform states it."""

    @property
    def begin(self) -> float:
        """The first time that is known of it."""
        return next(at for at in (self.asked, self.accepted, self.ended) if at is not None)


class Counter:
    """A cumulative counter over time, with straight lines between its samples and resets taken out.

    Args:
        samples: times and CPU-seconds, in any order; of two at one time the last one counts.
        most_gap: the longest time between two samples across which a value in between is known, seconds.
        most: what it can have grown by in a second at most: a value after a reset counts as no more than that allows.
    """

    def __init__(self, samples: Iterable[tuple[float, float]], most_gap: float, most: float = math.inf) -> None:
        self.times, self._sums = array("d"), array("d")
        self._most_gap = most_gap
        total = previous = 0.0
        for at, seconds in sorted(dict(samples).items()):
            if self.times:
                grown = seconds - previous
                total += grown if grown >= 0 else min(seconds, most * (at - self.times[-1]))
            previous = seconds
            self.times.append(at)
            self._sums.append(total)

    def at(self, time: float) -> float | None:
        """CPU-seconds since the first sample; None before it, after the last one, and inside a gap."""
        index = bisect_left(self.times, time)
        if index == len(self.times):
            return None
        if self.times[index] == time:
            return self._sums[index]
        if index == 0:
            return None
        before, after = self.times[index - 1], self.times[index]
        if after - before > self._most_gap:
            return None
        part = (time - before) / (after - before)
        return self._sums[index - 1] + part * (self._sums[index] - self._sums[index - 1])

    def known_growth(self, begin: float, end: float) -> float:
        """CPU-seconds between two times, as far as there are samples: from the first of them to the last."""
        low, high = self.at(begin), self.at(end)
        first, last = bisect_left(self.times, begin), bisect_right(self.times, end) - 1
        if first > last and (low is None or high is None):
            return 0.0
        low = self._sums[first] if low is None else low
        high = self._sums[last] if high is None else high
        return high - low

    def grown(self, begin: float, end: float) -> float | None:
        """CPU-seconds between two times; None if one of them isn't known."""
        low, high = self.at(begin), self.at(end)
        return None if low is None or high is None else high - low


class Steps:
    """A value that keeps until it is set again.

    Args:
        changes: times and values, in any order; of two at one time the last one counts.
    """

    def __init__(self, changes: Iterable[tuple[float, float]]) -> None:
        ordered = sorted(dict(changes).items())
        self.times = [at for at, _ in ordered]
        self._values = [value for _, value in ordered]

    def at(self, time: float) -> float:
        """The value at a time; 0 before the first one."""
        index = bisect_right(self.times, time)
        return self._values[index - 1] if index else 0.0

    def integral(self, begin: float, end: float) -> float:
        """Value times seconds, from begin to end."""
        inner = self.times[bisect_right(self.times, begin) : bisect_left(self.times, end)]
        return math.fsum(self.at(low) * (high - low) for low, high in pairwise((begin, *inner, end)))

    def least(self, begin: float, end: float) -> float:
        """The least value from begin to end."""
        inner = self.times[bisect_right(self.times, begin) : bisect_left(self.times, end)]
        return min(self.at(at) for at in (begin, *inner))


class Timeline:
    """What a recording says, in order of time.

    Args:
        recording: may have ended anywhere, and lack anything but its first line.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.run = recording.run
        self.plan = recording.run.plan
        self._last = max((event.at for event in recording.events), default=self.run.at)
        self._hosts = _by_name(self._ordered(Host))
        self._slices = _by_name(self._ordered(Slice))
        self._phases = {event.name: event.at for event in self._ordered(Phase)}
        self.clocks: dict[str, list[Clock]] = {}
        """By host, in order of time."""
        for clock in self._ordered(Clock):
            self.clocks.setdefault(clock.host, []).append(clock)
        told = {(event.at, event.what, event.host, event.who): event for event in self._ordered(Disturbance)}
        self.disturbances = list(told.values())
        self.ending = next(iter(self._ordered(End)), None)
        self._samples: dict[tuple[Subject, str, str], list[tuple[float, float]]] = {}
        corrections = {host: _Correction(clocks) for host, clocks in self.clocks.items()}
        for sample in self._ordered(Sample):
            correction = corrections.get(sample.host)
            at = correction(sample.at) if correction else sample.at
            self._samples.setdefault((sample.subject, sample.name, sample.host), []).append((at, sample.cpu_seconds))

    def _ordered(self, kind: type[_Event]) -> list[_Event]:
        """The events of a kind, in order of time."""
        return sorted((each for each in self.recording.events if isinstance(each, kind)), key=lambda each: each.at)

    def moment(self, time: float) -> str:
        """A time for people: seconds since the begin of the recording."""
        return f"{time - self.run.at:.1f} s"

    # When

    @cached_property
    def begin(self) -> float:
        """When the baseline began: what is recorded before that doesn't count."""
        return self._phases.get(PhaseName.BASELINE, self.run.at)

    @cached_property
    def overload(self) -> float:
        """When the overload began to be made."""
        return self._phases.get(PhaseName.OVERLOAD, self._phases.get(PhaseName.WATCH, self.begin))

    @property
    def followed(self) -> bool:
        """Whether the platform was only followed."""
        return self.run.followed

    @property
    def has_overload(self) -> bool:
        """Whether the recording says when the overload began."""
        return PhaseName.OVERLOAD in self._phases or PhaseName.WATCH in self._phases

    @cached_property
    def end(self) -> float:
        """When the watch ended: with the recovery, or with the recording."""
        if (at := self._phases.get(PhaseName.RECOVERY)) is not None:
            return at
        return self.ending.at if self.ending else self._last

    @cached_property
    def last(self) -> float:
        """When the recording ended."""
        return self.ending.at if self.ending else self._last

    @property
    def most_gap(self) -> float:
        """Seconds: the longest time without a sample in which utilization is still known."""
        return self.plan.most_gap * self.plan.sample_interval

    @cached_property
    def uncertainty(self) -> float:
        """Seconds: how exact the offsets of the hosts' clocks are, in the worst case."""
        return max((clock.uncertainty for clocks in self.clocks.values() for clock in clocks), default=0.0)

    # How busy

    @cached_property
    def capacity(self) -> Mapping[str, Steps]:
        """By host, its CPUs over time; 0 while it isn't there."""
        return {
            name: Steps((event.at, event.cpus if event.present else 0.0) for event in events)
            for name, events in sorted(self._hosts.items())
        }

    @cached_property
    def busy(self) -> Mapping[str, Counter]:
        """By host, its counter; hosts without a sample are left out."""
        return {
            name: Counter(samples, self.most_gap, max(event.cpus for event in self._hosts[name]))
            for name in self.capacity
            if (samples := self._samples.get((Subject.HOST, name, name)))
        }

    @cached_property
    def moments(self) -> array[float]:
        """The times at which utilization and imbalance are computed: those of all hosts' samples, thinned out."""
        kept = array("d")
        least = _THIN * self.plan.sample_interval
        for at in sorted({at for counter in self.busy.values() for at in counter.times}):
            if not kept or at - kept[-1] >= least:
                kept.append(at)
        return kept

    @cached_property
    def levels(self) -> Mapping[str, array[float]]:
        """By host, utilization at each of the moments, a ratio over the plan's window; nan where it isn't known."""
        return {
            name: array("d", (self._level(name, at) for at in self.moments))
            if name in self.busy
            else array("d", [math.nan] * len(self.moments))
            for name in self.capacity
        }

    def _level(self, host: str, at: float) -> float:
        counter, capacity = self.busy[host], self.capacity[host]
        begin = at - self.plan.window
        if capacity.least(begin, at) <= 0:
            return math.nan
        grown = counter.grown(begin, at)
        return math.nan if grown is None else grown / capacity.integral(begin, at)

    def _is_new(self, host: str, at: float) -> bool:
        """Whether a host came so lately that its utilization can't be known yet, or isn't there."""
        grace = self.plan.window + self.most_gap
        return self.capacity[host].least(at - grace, at) <= 0

    @cached_property
    def utilization(self) -> Mapping[str, Series]:
        """By host, utilization over time, a ratio over the plan's window."""
        return {name: self._series(levels) for name, levels in self.levels.items()}

    def imbalances(self, measure: Imbalance) -> array[float]:
        """A measure at each of the moments, in its unit; nan where it isn't known.

        Hosts count from the first moment on at which they have been there for a whole window. While utilization of a
        host that has been there isn't known, imbalance isn't either.
        """
        return array("d", (imbalance_of(levels, measure) for levels in self._together))

    @cached_property
    def _together(self) -> list[list[float]]:
        """At each of the moments, utilization of the hosts that count; empty if it isn't known of one of them."""
        found = []
        for index, at in enumerate(self.moments):
            levels = []
            for host, column in self.levels.items():
                if not math.isnan(column[index]):
                    levels.append(column[index])
                elif not self._is_new(host, at):
                    levels.clear()
                    break
            found.append(levels)
        return found

    @cached_property
    def means(self) -> array[float]:
        """At each of the moments, the mean of the hosts' utilization; nan where imbalance isn't known."""
        return array("d", (math.fsum(levels) / len(levels) if levels else math.nan for levels in self._together))

    @cached_property
    def imbalance(self) -> array[float]:
        """The measure that decides, at each of the moments; nan where it isn't known."""
        return self.imbalances(self.plan.imbalance)

    @cached_property
    def imbalance_series(self) -> Series:
        """The measure that decides, over time."""
        return self._series(self.imbalance)

    def _series(self, column: Sequence[float]) -> Series:
        pieces: list[Piece] = []
        fresh = True
        for at, value in zip(self.moments, column, strict=True):
            if math.isnan(value):
                fresh = True
                continue
            if fresh or at - pieces[-1].times[-1] > self.most_gap:
                pieces.append(Piece(array("d"), array("d")))
                fresh = False
            pieces[-1].times.append(at)
            pieces[-1].values.append(value)
        return Series(tuple(pieces))

    def span(self, begin: float, end: float) -> range:
        """The indices of the moments with begin <= moment <= end."""
        return range(bisect_left(self.moments, begin), bisect_right(self.moments, end))

    def first_held(self, held: Sequence[bool], begin: float, seconds: float) -> tuple[int | None, float]:
        """Find the first moment from which something holds for some seconds, within the watch.

        Args:
            held: whether it holds, at each of the moments; False where that isn't known.
            begin: of the search.
            seconds: for which it has to hold; a time without any moment, longer than the longest gap, ends it.

        Returns:
            The moment's index, None if there is none; and the time until which it is known that there is none.
        """
        since: int | None = None
        for index in self.span(begin, self.end):
            at = self.moments[index]
            if since is not None and at - self.moments[index - 1] > self.most_gap:
                since = None
            if not held[index]:
                since = None
                continue
            since = index if since is None else since
            after = self.moments[index + 1] if index + 1 < len(self.moments) else math.inf
            until = self.moments[since] + seconds
            if until <= self.end and after > until and until - at <= self.most_gap:
                return since, self.moments[since]
        return None, self.end if since is None else self.moments[since]

    @cached_property
    def t0(self) -> float | None:
        """The first moment from which the overload is held; None if it never is.

        It is held if all hot hosts are at or above the threshold, for the plan's `settle` seconds or until the first
        move away from one of them. Without hot hosts: the begin of the overload. Of a platform that was only followed,
        nobody knows it.
        """
        if self.followed:
            return None
        if not self.plan.hot_hosts:
            return self.overload
        index = self.t0_index
        return None if index is None else self.moments[index]

    @cached_property
    def hottest(self) -> array[float]:
        """At each of the moments, utilization of the busiest of the hot hosts; nan if one of theirs isn't known."""
        return self._of_hot_hosts(max)

    @cached_property
    def coolest(self) -> array[float]:
        """At each of the moments, utilization of the least busy of the hot hosts; nan if one of theirs isn't known."""
        return self._of_hot_hosts(min)

    def _of_hot_hosts(self, pick: Callable[[Sequence[float]], float]) -> array[float]:
        columns = [self.levels.get(host) for host in self.plan.hot_hosts]
        found = array("d")
        for index in range(len(self.moments)):
            levels = [math.nan if column is None else column[index] for column in columns]
            found.append(math.nan if not levels or any(map(math.isnan, levels)) else pick(levels))
        return found

    @cached_property
    def reliefs(self) -> tuple[Migration, ...]:
        """Those of the counted moves that go away from a host that is meant to be hot."""
        return tuple(move for move in self.counted if move.source in self.plan.hot_hosts)

    @cached_property
    def t0_index(self) -> int | None:
        """The moment of t0; None if the overload never stood, or no host is meant to be hot."""
        held = [level >= self.plan.hot for level in self.coolest]
        index, _ = self.first_held(held, self.overload, self.plan.settle)
        first = next((move.accepted for move in self.reliefs), None)
        if first is not None:
            # The last run of hot moments that reaches up to the first move.
            before = self.span(self.overload, min(first, self.end))
            since = run_at_end(held, before)
            if since is not None and first - self.moments[before[-1]] <= self.most_gap:
                index = since if index is None else min(index, since)
        return index

    # Slices

    @cached_property
    def made(self) -> frozenset[str]:
        """The slices that the run made, which burn what they are asked for; others were there already."""
        return frozenset(name for name, events in self._slices.items() if events[0].made)

    @cached_property
    def asked(self) -> Mapping[str, Steps]:
        """By slice, the CPUs that it is asked for over time; 0 while it isn't there."""
        return {
            name: Steps((event.at, event.cpus if event.present else 0.0) for event in events)
            for name, events in sorted(self._slices.items())
        }

    def asked_in_all(self, at: float) -> float:
        """CPUs that all slices that the run made are asked for at a time."""
        return math.fsum(self.asked[name].at(at) for name in self.made)

    @cached_property
    def asked_until(self) -> float:
        """Until when nearly all of what was asked for at t0 is asked for; at most to the end of the watch."""
        if self.t0 is None:
            return self.end
        least = _NEARLY_ALL * self.asked_in_all(self.t0)
        changes = sorted({at for name in self.made for at in self.asked[name].times if self.t0 < at <= self.end})
        return next((at for at in changes if self.asked_in_all(at) < least), self.end)

    @cached_property
    def got(self) -> Mapping[str, Counter]:
        """By slice, its counter, wherever it ran; slices without a sample are left out."""
        samples: dict[str, list[tuple[float, float]]] = {}
        for (subject, name, _), found in self._samples.items():
            if subject is Subject.SLICE:
                samples.setdefault(name, []).extend(found)
        return {name: Counter(samples[name], self.most_gap) for name in sorted(samples)}

    def slices_on(self, host: str) -> list[str]:
        """The slices that were on a host at some time: put there, or moved."""
        return [name for name, (_, hosts) in self._places.items() if host in hosts]

    def placed(self, name: str, at: float) -> str | None:
        """Where a slice was: where it was put or moved last."""
        times, hosts = self._places[name]
        index = bisect_right(times, at)
        return hosts[index - 1] if index else None

    @cached_property
    def _places(self) -> Mapping[str, tuple[list[float], list[str | None]]]:
        """By slice, since when it was on which host; ascending."""
        found: dict[str, list[tuple[float, str | None]]] = {
            name: [(event.at, event.host) for event in events] for name, events in sorted(self._slices.items())
        }
        for move in self.all_done:
            if move.slice in found and move.ended is not None and move.destination is not None:
                found[move.slice].append((move.ended, move.destination))
        ordered = {name: sorted(places, key=lambda place: place[0]) for name, places in found.items()}
        return {name: ([at for at, _ in places], [host for _, host in places]) for name, places in ordered.items()}

    def present(self, begin: float, end: float) -> list[str]:
        """The slices that were there at some time between two times."""
        return [
            name
            for name, events in sorted(self._slices.items())
            if any(
                event.present and event.at <= end and (after is None or after.at > begin)
                for event, after in zip(events, (*events[1:], None), strict=True)
            )
        ]

    def programs(self, subject: Subject) -> Mapping[str, Mapping[str, Counter]]:
        """By host and name, the counters of the run's own programs, or of foreign ones."""
        found: dict[str, dict[str, Counter]] = {}
        for (kind, name, host), samples in sorted(self._samples.items()):
            if kind is subject:
                found.setdefault(host, {})[name] = Counter(samples, self.most_gap)
        return found

    # Alerts

    @cached_property
    def episodes(self) -> tuple[Episode, ...]:
        """All episodes of all alerts, in order of their begin."""
        found: dict[tuple[str, str], list[_Draft]] = {}
        for event in sorted(self._ordered(Alert), key=lambda alert: (alert.at, _ALERT_ORDER.index(alert.state))):
            drafts = found.setdefault((event.name, event.host), [])
            if not drafts or not drafts[-1].takes(event.state):
                drafts.append(_Draft())
            drafts[-1].states.setdefault(event.state, event)
        episodes = [draft.episode() for drafts in found.values() for draft in drafts]
        return tuple(sorted(episodes, key=lambda episode: (episode.begin, episode.alert, episode.host)))

    @cached_property
    def awaited(self) -> tuple[Episode, ...]:
        """The episodes of the awaited alert about a hot host, or about none, in order of their begin."""
        hosts = {*self.plan.hot_hosts, ""} if self.plan.hot_hosts else {*self.capacity, ""}
        return tuple(each for each in self.episodes if each.alert == self.plan.alert and each.host in hosts)

    @cached_property
    def episode(self) -> Episode | None:
        """The episode that counts: the first that fired from the begin of the overload to the end of the watch.

        If none fired: the first that began in that time; None if there is none.
        """
        within = [each for each in self.awaited if self.overload <= each.begin <= self.end]
        fired = sorted(self.fired, key=lambda each: each.firing or 0.0)
        return next(iter((*fired, *within)), None)

    @cached_property
    def fired(self) -> tuple[Episode, ...]:
        """The awaited alert's episodes that fired from the begin of the overload to the end of the watch."""
        return tuple(
            each for each in self.awaited if each.firing is not None and self.overload <= each.firing <= self.end
        )

    # Moves

    @cached_property
    def migrations(self) -> tuple[Migration, ...]:
        """All moves, in order of their begin."""
        lines: dict[str, list[Move]] = {}
        for event in sorted(self._ordered(Move), key=lambda move: (move.at, list(MoveState).index(move.state))):
            lines.setdefault(event.move, []).append(event)
        return tuple(sorted((_joined(each) for each in lines.values()), key=lambda each: (each.begin, each.move)))

    @cached_property
    def accepted(self) -> tuple[Migration, ...]:
        """The moves that the platform began before the end of the watch, in that order."""
        begun = [each for each in self.migrations if each.accepted is not None and each.accepted <= self.end]
        return tuple(sorted(begun, key=lambda each: (each.accepted, each.move)))

    @cached_property
    def counted(self) -> tuple[Migration, ...]:
        """Those of them that began after the begin of the overload: the ones that figures are about."""
        return tuple(each for each in self.accepted if each.accepted is not None and each.accepted >= self.overload)

    @cached_property
    def all_done(self) -> tuple[Migration, ...]:
        """The moves that succeeded before the end of the watch, in the order of their end."""
        ended = [
            each
            for each in self.accepted
            if each.state is MoveState.DONE and each.ended is not None and each.ended <= self.end
        ]
        return tuple(sorted(ended, key=lambda each: (each.ended, each.move)))

    @cached_property
    def done(self) -> tuple[Migration, ...]:
        """Those of the counted moves that succeeded, in the order of their end."""
        counted = set(self.counted)
        return tuple(each for each in self.all_done if each in counted)


def run_at_end(held: Sequence[bool], indices: Sequence[int]) -> int | None:
    """The first of the indices from which on something holds up to the last of them; None if it doesn't there."""
    since = None
    for index in indices:
        since = (index if since is None else since) if held[index] else None
    return since


def imbalance_of(levels: Sequence[float], measure: Imbalance) -> float:
    """How uneven some hosts are.

    Args:
        levels: their utilization, ratios.
        measure: which measure; its unit is that of `Imbalance`.

    Returns:
        nan for no hosts, and for cv and peak if all are idle.
    """
    if not levels:
        return math.nan
    mean = math.fsum(levels) / len(levels)
    if measure is Imbalance.SPREAD:
        return max(levels) - min(levels)
    if measure is Imbalance.SD:
        return _deviation(levels, mean)
    if mean <= 0:
        return math.nan
    return _deviation(levels, mean) / mean if measure is Imbalance.CV else max(levels) / mean


def _deviation(levels: Sequence[float], mean: float) -> float:
    return math.sqrt(math.fsum((level - mean) ** 2 for level in levels) / len(levels))


def _by_name(events: Iterable[_Named]) -> dict[str, list[_Named]]:
    found: dict[str, list[_Named]] = {}
    for event in events:
        found.setdefault(event.name, []).append(event)
    return found


class _Correction:
    """Puts a host's times on the recorder's clock; between two measurements the offset changes along a line.

    Args:
        clocks: the measurements, in order of time; one or more.
    """

    def __init__(self, clocks: Sequence[Clock]) -> None:
        known = sorted((clock.at + clock.offset, clock.offset) for clock in clocks)
        self._times = [at for at, _ in known]
        self._offsets = [offset for _, offset in known]

    def __call__(self, at: float) -> float:
        """The time of the recorder's clock at a time of the host's."""
        index = bisect_right(self._times, at)
        if index == 0:
            return at - self._offsets[0]
        if index == len(self._times):
            return at - self._offsets[-1]
        low, high = self._times[index - 1 : index + 1]
        part = (at - low) / (high - low)
        return at - (self._offsets[index - 1] + part * (self._offsets[index] - self._offsets[index - 1]))


# At one moment an episode ends before the next one begins: a rule's evaluation may do both.
_ALERT_ORDER = (
    AlertState.RESOLVED,
    AlertState.DROPPED,
    AlertState.PENDING,
    AlertState.FIRING,
    AlertState.NOTIFIED,
)


class _Draft:
    """An episode that is being put together."""

    def __init__(self) -> None:
        self.states: dict[AlertState, Alert] = {}

    def takes(self, state: AlertState) -> bool:
        """Whether a state that comes next belongs to it."""
        if state is AlertState.NOTIFIED:  # may arrive after the end, if Alertmanager waits that long
            return AlertState.DROPPED not in self.states
        if AlertState.RESOLVED in self.states or AlertState.DROPPED in self.states:
            return False
        return state is not AlertState.PENDING or not self.states.keys() - {AlertState.PENDING}

    def episode(self) -> Episode:
        """What is known of it."""
        any_of_it = next(iter(self.states.values()))
        times = {state: event.at for state, event in self.states.items()}
        return Episode(
            alert=any_of_it.name,
            host=any_of_it.host,
            pending=times.get(AlertState.PENDING),
            firing=times.get(AlertState.FIRING),
            notified=times.get(AlertState.NOTIFIED),
            ended=times.get(AlertState.RESOLVED, times.get(AlertState.DROPPED)),
            resolution=max(event.resolution for event in self.states.values()),
        )


def _joined(lines: Sequence[Move]) -> Migration:
    """The lines of one move, in order, as one value."""
    first: dict[MoveState, Move] = {}
    for line in lines:
        first.setdefault(line.state, line)
    end = next((line for line in reversed(lines) if line.state.is_end), None)
    last = end or lines[-1]
    accepted = first[MoveState.ACCEPTED].at if MoveState.ACCEPTED in first else None
    if accepted is None and end is not None and end.state is MoveState.DONE:
        accepted = end.at - (end.seconds or 0.0)
    known = [line.destination for line in lines if line.destination is not None]
    return Migration(
        move=last.move,
        slice=last.slice,
        source=lines[0].source,
        destination=known[-1] if known else None,
        by=lines[0].by,
        state=last.state,
        asked=first[MoveState.ASKED].at if MoveState.ASKED in first else None,
        accepted=accepted,
        ended=end.at if end else None,
        reason=lines[0].reason,
        failure=end.reason if end and end.state is not MoveState.DONE else "",
        seconds=last.seconds,
        downtime=last.downtime,
    )
