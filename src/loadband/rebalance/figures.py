"""From a recording to its figures, each with its unit, its resolution and what it was computed from. Pure."""

from __future__ import annotations

import enum
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from loadband.rebalance.events import Imbalance, MoveState, Recording
from loadband.rebalance.timeline import IDEAL, Episode, Migration, Piece, Series, Timeline

__all__ = [
    "DEFINITIONS",
    "NEEDS_A_RUN",
    "Better",
    "Definition",
    "Episode",
    "Figure",
    "Figures",
    "Link",
    "Migration",
    "Piece",
    "Series",
    "Summary",
    "chain",
    "episodes",
    "imbalance",
    "measure",
    "moves",
    "number_of",
    "shown",
    "summarize",
    "t0",
    "utilization",
    "written",
]


class Better(enum.StrEnum):
    """Which way a figure gets better."""

    LESS = "less"
    MORE = "more"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Definition:
    """What a figure is, whatever its value."""

    name: str
    unit: str
    """`s`, `ratio` (1 is all of it), `count`, or empty for a pure number."""
    text: str
    """The definition, one sentence."""
    better: Better
    source: str = ""
    """Whose definition it is, if it isn't ours."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of one run."""

    definition: Definition
    value: float | None
    """None if it could not be measured: `missing` says why. If it is censored: the time for which it is known that it
    hadn't come to an end, which is the time that was watched unless it had just begun to hold."""
    resolution: float | None = None
    """How exact the value is, plus or minus, in the same unit; None if that isn't known."""
    based_on: str = ""
    """What it was computed from: `12 samples of host a, 2 moves`."""
    censored: bool = False
    """The value is a lower bound: it hadn't come to an end when the watch ended. Larger than any limit."""
    missing: str = ""
    """Why there is no value."""
    bounds: tuple[float, float] | None = None
    """What the configuration allows, least and most, in the same unit; None if it says nothing."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure over the repeats."""

    definition: Definition
    median: Figure
    """Censored if the middle one is; no value if it is missing in any repeat."""
    least: Figure
    most: Figure
    count: int
    """Of the repeats in which it has a value."""


Figures = Mapping[str, Figure]
"""By name, in the order of the definitions."""


def _define(name: str, unit: str, better: Better, text: str, source: str = "") -> Definition:
    return Definition(name, unit, text, better, source)


DEFINITIONS: Mapping[str, Definition] = {
    each.name: each
    for each in (
        _define(
            "time_to_alert",
            "s",
            Better.LESS,
            "When the awaited alert fired, less t0.",
        ),
        _define(
            "time_to_pending",
            "s",
            Better.LESS,
            "When the awaited alert became pending (Prometheus' activeAt), less t0.",
        ),
        _define(
            "pending_to_firing",
            "s",
            Better.LESS,
            "From pending to firing: the rule's `for`.",
        ),
        _define(
            "firing_to_webhook",
            "s",
            Better.LESS,
            "From firing to the arrival of Alertmanager's notification.",
        ),
        _define(
            "alert_to_resolved",
            "s",
            Better.LESS,
            "From firing to the end of the alert, which may come after the end of the watch.",
        ),
        _define(
            "alert_to_move",
            "s",
            Better.LESS,
            "From firing to the first move that the platform accepted away from the alert's host before the alert "
            "ended, of the slowest of all alerts that were awaited.",
        ),
        _define(
            "time_to_first_move",
            "s",
            Better.LESS,
            "When the platform accepted the first move since the begin of the overload, less t0; negative if that was "
            "before t0.",
        ),
        _define(
            "time_to_relief",
            "s",
            Better.LESS,
            "The first time from which every hot host stays below the hot threshold for H, less t0.",
        ),
        _define(
            "time_to_balance",
            "s",
            Better.LESS,
            "The first time from which imbalance stays at or below theta for H, less t0.",
        ),
        _define(
            "initial_imbalance",
            "ratio",
            Better.NEITHER,
            "Imbalance at t0, by the measure that the scenario names.",
        ),
        _define(
            "residual_imbalance",
            "ratio",
            Better.LESS,
            "Mean imbalance over the last window of the watch, by the measure that the scenario names; measured, not "
            "planned.",
        ),
        _define(
            "spread",
            "ratio",
            Better.LESS,
            "Utilization of the busiest host less that of the least busy one, mean over the last window of the watch.",
            "ProxLB's balanciness",
        ),
        _define(
            "sd",
            "ratio",
            Better.LESS,
            "Population standard deviation of the hosts' utilization, mean over the last window of the watch.",
            "OpenStack Watcher, workload_stabilization",
        ),
        _define(
            "cv",
            "",
            Better.LESS,
            "Standard deviation of the hosts' utilization / their mean, mean over the last window of the watch.",
            "Proxmox VE, cluster resource scheduling",
        ),
        _define(
            "peak",
            "",
            Better.LESS,
            "Utilization of the busiest host / the hosts' mean, mean over the last window of the watch; 1 is balance.",
            "The load imbalance factor of parallel computing, plus 1",
        ),
        _define(
            "moves",
            "count",
            Better.LESS,
            "Moves that the platform accepted from the begin of the overload to the end of the watch.",
        ),
        _define(
            "failed_moves",
            "count",
            Better.LESS,
            "Moves of that time that failed, were refused or were cancelled.",
        ),
        _define(
            "moves_per_slice",
            "",
            Better.LESS,
            "Accepted moves / slices that were there.",
        ),
        _define(
            "thrash",
            "ratio",
            Better.LESS,
            "Moves that brought a slice back to a host that it had left within C seconds / all moves that were done; 0 "
            "without a move.",
        ),
        _define(
            "oscillation",
            "",
            Better.LESS,
            "(Total variation of the imbalance since the first move - its net change) / imbalance at t0, in swings of "
            "at least half of theta; 0 for a straight way to balance, and without a move.",
        ),
        _define(
            "overshoot",
            "ratio",
            Better.LESS,
            "By how much a destination exceeded the hot threshold after its move, in the worst case; 0 without a move.",
        ),
        _define(
            "undershoot",
            "ratio",
            Better.LESS,
            "By how much a source fell below the hosts' mean after its move, in the worst case; 0 without a move.",
        ),
        _define(
            "overload_time_fraction",
            "ratio",
            Better.LESS,
            "Share of the time from t0 to the end of the watch with any host at or above the hot threshold.",
            "The OTF metric of OpenStack Neat, of all hosts instead of one",
        ),
        _define(
            "imbalance_time_fraction",
            "ratio",
            Better.LESS,
            "Share of the time from t0 to the end of the watch with an imbalance above theta.",
        ),
        _define(
            "work_lost_ratio",
            "ratio",
            Better.LESS,
            "1 - CPU time that the slices got / CPU time that they were asked to use, from the first move to the end "
            "of the watch; 0 without a move.",
            "CloudSim's PDM (performance degradation due to migrations), measured instead of estimated",
        ),
        _define(
            "migration_seconds",
            "s",
            Better.LESS,
            "Sum of the moves' durations as the platform states them, or else from accepted to ended.",
        ),
        _define(
            "downtime_seconds",
            "s",
            Better.LESS,
            "Sum of the times for which moved slices stood still, as the platform states them.",
        ),
        _define(
            "load_fidelity",
            "ratio",
            Better.MORE,
            "Share of the samples before the first move in which a host's slices burned what they were asked for, of "
            "the worst host, each over a second or more; samples within a window after a change of what is asked for "
            "don't count.",
        ),
    )
}
"""By name, in the order in which they are shown."""


def written(value: float, unit: str, digits: int = 1) -> str:
    """A value of a figure for people: `14.2 s`, `7.5 %`, `3`.

    Args:
        value: in that unit.
        unit: as in `Definition`.
        digits: after the point, at most; a value below 1 and a pure number get one more.
    """
    scaled = 100 * value if unit == "ratio" else value
    fine = unit == "" or (unit == "s" and abs(value) < 1)
    text = f"{scaled:.{digits + fine}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    text = "0" if text == "-0" else text
    return f"{text}{ {'s': ' s', 'ratio': ' %'}.get(unit, '') }"


def number_of(count: int, what: str) -> str:
    """A count for people: `1 move`, `2 moves`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def shown(figure: Figure) -> str:
    """A figure for people: `14.2 s`, `> 60 s` if it is censored, `not known` if it has no value."""
    if figure.value is None:
        return "not known"
    return f"{'> ' if figure.censored else ''}{written(figure.value, figure.definition.unit)}"


_UNKNOWN_BEGIN = "the platform was only followed, so nobody knows when an overload began"
_UNKNOWN_LOAD = "the platform was only followed, so nobody knows what its slices were to burn"
_NOT_FOLLOWED: Mapping[str, str] = {
    **dict.fromkeys(
        ("time_to_alert", "time_to_pending", "time_to_first_move", "time_to_relief", "time_to_balance"), _UNKNOWN_BEGIN
    ),
    **dict.fromkeys(("initial_imbalance", "oscillation"), _UNKNOWN_BEGIN),
    **dict.fromkeys(("moves_per_slice", "work_lost_ratio", "load_fidelity"), _UNKNOWN_LOAD),
    **dict.fromkeys(
        ("pending_to_firing", "firing_to_webhook"), "the platform was only followed, so no one alert is the one awaited"
    ),
    **dict.fromkeys(
        ("overshoot", "undershoot"), "the platform was only followed, so a host's later load may have any cause"
    ),
}
"""By figure, why a platform that was only followed has none."""
NEEDS_A_RUN = frozenset(_NOT_FOLLOWED)
"""The figures that only a run has, which makes the load itself."""
_LOOK = 1.0
"""Seconds over which a load is held against what was asked for, at least: as long as a regulator's own window. A
machine that stands still for 20 ms makes no other load."""
_EARLY = 0.1
"""What such a time may be shorter, as a ratio of it: samples come a little early or late."""
_TICK = 0.01
"""CPU-seconds: the step of the kernel's counters of CPU time (USER_HZ)."""


def t0(recording: Recording) -> float | None:
    """The first moment from which the overload is held, seconds since the epoch; None if it never is.

    It is held if all hot hosts are at or above the threshold for the plan's `settle` seconds, or until the first move
    away from one of them. Without hot hosts it is the begin of the overload phase.
    """
    return Timeline(recording).t0


def utilization(recording: Recording) -> Mapping[str, Series]:
    """By host, utilization over time: a ratio, mean over the plan's window up to each point.

    Times are the recorder's: offsets of the hosts' clocks are taken out, as are resets of counters.
    """
    return Timeline(recording).utilization


def imbalance(recording: Recording) -> Series:
    """The scenario's measure of imbalance over time, in its unit.

    A host that comes counts from the moment on at which it has been there for a whole window. While utilization of a
    host that has been there isn't known, imbalance isn't either.
    """
    return Timeline(recording).imbalance_series


def episodes(recording: Recording) -> tuple[Episode, ...]:
    """Each time that an alert, any alert, was pending or firing; in order of their begin."""
    return Timeline(recording).episodes


def moves(recording: Recording) -> tuple[Migration, ...]:
    """Each move from being asked for to its end, in order of their begin; also those that don't count for figures."""
    return Timeline(recording).migrations


@dataclass(frozen=True, slots=True)
class Link:
    """A part of the way from the overload to the end of the alert."""

    figure: Figure
    begin: float | None
    """Seconds since the epoch; None if it isn't known, or never came."""
    end: float | None


def chain(recording: Recording) -> tuple[Link, ...]:
    """The way of the awaited alert: to pending, to firing, to the webhook, to its end; each beside its bounds."""
    return _Measure(Timeline(recording)).chain


def measure(recording: Recording) -> Figures:
    """All figures of a run, in the order of `DEFINITIONS`; each has a value or says why it has none."""
    return _Measure(Timeline(recording)).figures()


def summarize(runs: Sequence[Figures]) -> Mapping[str, Summary]:
    """Each figure over the repeats.

    A censored value counts as larger than any other. A median that lies between two values is their mean; it is
    censored, and a lower bound, if the larger one is.

    Args:
        runs: the figures of each repeat; one or more.
    """
    return {
        name: summary for name, definition in DEFINITIONS.items() if (summary := _summary(definition, runs)) is not None
    }


def _summary(definition: Definition, runs: Sequence[Figures]) -> Summary | None:
    figures = [run[definition.name] for run in runs if definition.name in run]
    if not figures:
        return None
    known = sorted(
        (each for each in figures if each.value is not None), key=lambda each: (each.censored, each.value or 0.0)
    )
    lacking = len(figures) - len(known)
    if not known:
        none = Figure(definition, None, missing=figures[0].missing)
        return Summary(definition, none, none, none, 0)
    if lacking:
        reason = next(each.missing for each in figures if each.value is None)
        median = Figure(definition, None, missing=f"missing in {lacking} of {len(figures)} repeats: {reason}")
    else:
        median = _median(known)
    return Summary(definition, median, known[0], known[-1], len(known))


def _median(ordered: Sequence[Figure]) -> Figure:
    """The middle one, or what is between the two middle ones; all have values."""
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    lower, upper = low.value or 0.0, high.value or 0.0
    exact = [each.resolution for each in (low, high) if each.resolution is not None]
    bounds = [each.bounds for each in ordered if each.bounds is not None]
    return Figure(
        low.definition,
        (lower + max(lower, upper)) / 2,
        resolution=max(exact) if len(exact) == 2 else None,  # noqa: PLR2004 - both
        based_on=f"{len(ordered)} repeats",
        censored=high.censored,
        bounds=(min(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else None,
    )


class _Missing(Exception):  # noqa: N818 - not an error: the figure has no value
    """Why a figure has no value; a clause."""


_Bounds = tuple[float, float] | None


class _Measure:
    """Computes the figures of one timeline."""

    def __init__(self, line: Timeline) -> None:
        self._line = line
        self._plan = line.plan

    def figures(self) -> Figures:
        """All of them."""
        links = {link.figure.definition.name: link.figure for link in self.chain}
        compute: Mapping[str, Callable[[Definition], Figure]] = {
            "time_to_first_move": self._first_move,
            "time_to_relief": self._relief,
            "time_to_balance": self._balance,
            "initial_imbalance": self._initial,
            "residual_imbalance": lambda definition: self._residual(definition, self._plan.imbalance),
            "spread": lambda definition: self._residual(definition, Imbalance.SPREAD),
            "sd": lambda definition: self._residual(definition, Imbalance.SD),
            "cv": lambda definition: self._residual(definition, Imbalance.CV),
            "peak": lambda definition: self._residual(definition, Imbalance.PEAK),
            "moves": self._moves,
            "failed_moves": self._failed_moves,
            "moves_per_slice": self._moves_per_slice,
            "thrash": self._thrash,
            "oscillation": self._oscillation,
            "overshoot": self._overshoot,
            "undershoot": self._undershoot,
            "alert_to_move": self._alert_to_move,
            "overload_time_fraction": self._overload_time,
            "imbalance_time_fraction": self._imbalance_time,
            "work_lost_ratio": self._work_lost,
            "migration_seconds": self._migration_seconds,
            "downtime_seconds": self._downtime_seconds,
            "load_fidelity": self._fidelity,
        }
        found: dict[str, Figure] = {}
        for name, definition in DEFINITIONS.items():
            try:
                if self._line.followed and name in _NOT_FOLLOWED:
                    raise _Missing(_NOT_FOLLOWED[name])  # noqa: TRY301 - as those below
                if self._line.followed and name == "alert_to_resolved":
                    found[name] = self._longest_alert(definition)
                else:
                    found[name] = links[name] if name in links else compute[name](definition)
            except _Missing as why:
                found[name] = Figure(definition, None, missing=str(why))
        return found

    # What several need

    @cached_property
    def _t0(self) -> float:
        if (at := self._line.t0) is None:
            raise _Missing(self._no_t0)
        return at

    @property
    def _no_t0(self) -> str:
        hosts = " and ".join(self._plan.hot_hosts)
        return f"there is no t0: {hosts} never stood at or above {written(self._plan.hot, 'ratio')}"

    @cached_property
    def _t0_resolution(self) -> float:
        """Seconds: t0 is up to that much earlier."""
        index = self._line.t0_index
        return 0.0 if index is None else self._spacing(index, self._line.coolest)

    def _spacing(self, index: int, column: Sequence[float]) -> float:
        """Seconds from the last moment before, at which the column's value was known."""
        moments = self._line.moments
        before = next((each for each in range(index - 1, -1, -1) if not math.isnan(column[each])), None)
        return self._plan.sample_interval if before is None else moments[index] - moments[before]

    def _watched(self, name: str, hold: float) -> str:
        return f"{name} for {hold:g} s, at {len(self._line.span(self._t0, self._line.end))} moments"

    @cached_property
    def _level_resolution(self) -> float:
        """How exact utilization is, a ratio: by the step of the counter, and by the time at which it was read."""
        sizes = [steps.at(self._line.end) for steps in self._line.capacity.values()]
        least = min((cpus for cpus in sizes if cpus > 0), default=1.0)
        return (_TICK / least + 2 * self._line.uncertainty) / self._plan.window

    def _known(self, column: Sequence[float], begin: float, end: float) -> list[float]:
        """What is known of a column between two times."""
        values = (column[index] for index in self._line.span(begin, end))
        return [value for value in values if not math.isnan(value)]

    def _excess(self, value: float) -> float:
        """Imbalance beyond that of equally busy hosts."""
        return value - IDEAL[self._plan.imbalance]

    # The alert

    @cached_property
    def chain(self) -> tuple[Link, ...]:
        """See the function."""
        line = self._line
        episode = line.episode or Episode(alert=self._plan.alert, host="")
        firing = episode.firing if episode.firing is not None and episode.firing <= line.end else None
        pending = episode.pending
        if pending is None and line.run.timing and line.run.timing.alert_for == 0:
            pending = firing
        unfired = "" if firing is not None else f"{self._plan.alert} didn't fire"
        early = next((each for each in line.awaited if _is_firing(each, line.overload)), None)
        late = "" if line.t0 is not None else self._no_t0
        if early is not None and early.firing is not None:
            late = f"{self._plan.alert} was firing since {line.moment(early.firing)}, before the overload"
        dropped = unfired
        if pending is None:
            dropped = f"{self._plan.alert} wasn't seen pending"
        elif firing is None and episode.ended is not None:
            dropped = f"{self._plan.alert} was pending and was dropped without firing"
        elif firing is None:
            dropped = ""
        unseen = dropped if pending is None and firing is not None else late
        return (
            self._link("time_to_alert", (line.t0, firing, line.end), self._alert_bounds, late),
            self._link("time_to_pending", (line.t0, pending, line.end), self._pending_bounds, unseen),
            self._link("pending_to_firing", (pending, firing, line.end), self._firing_bounds, dropped),
            self._link("firing_to_webhook", (firing, episode.notified, line.last), self._webhook_bounds, unfired),
            self._link(
                "alert_to_resolved", (firing, episode.ended, line.last), self._resolved_bounds(episode), unfired
            ),
        )

    def _link(self, name: str, span: tuple[float | None, float | None, float], bounds: _Bounds, missing: str) -> Link:
        """A link from a begin to an end; censored at the last time if it has no end."""
        definition, line = DEFINITIONS[name], self._line
        begin, end, last = span
        if missing or begin is None:
            return Link(Figure(definition, None, missing=missing), begin, end)
        resolution = line.episode.resolution if line.episode else 0.0
        if name in {"time_to_alert", "time_to_pending"}:
            resolution += self._t0_resolution + line.uncertainty
        about = (
            f"{self._plan.alert} about {line.episode.host}" if line.episode and line.episode.host else self._plan.alert
        )
        if end is None:
            based_on = f"{about}: from {line.moment(begin)} on, nothing until {line.moment(last)}"
            return Link(
                Figure(definition, last - begin, resolution, based_on, censored=True, bounds=bounds), begin, end
            )
        based_on = f"{about}: from {line.moment(begin)} to {line.moment(end)}"
        return Link(Figure(definition, end - begin, resolution, based_on, bounds=bounds), begin, end)

    def _alert_to_move(self, definition: Definition) -> Figure:
        line = self._line
        found: list[tuple[float, bool, Episode]] = []
        for episode in line.fired:
            firing = episode.firing or 0.0
            over = min(line.end if episode.ended is None else episode.ended, line.end)
            moved = next(
                (
                    move.accepted
                    for move in line.accepted
                    if move.accepted is not None
                    and firing <= move.accepted <= over
                    and (not episode.host or move.source == episode.host)
                ),
                None,
            )
            found.append(((over if moved is None else moved) - firing, moved is None, episode))
        return self._slowest(definition, found, "had a move", line.run.moves_resolution)

    def _longest_alert(self, definition: Definition) -> Figure:
        line = self._line
        found = [
            ((line.last if each.ended is None else each.ended) - (each.firing or 0.0), each.ended is None, each)
            for each in line.fired
        ]
        return self._slowest(definition, found, "ended", 0.0)

    def _slowest(
        self, definition: Definition, found: Sequence[tuple[float, bool, Episode]], what: str, exact: float
    ) -> Figure:
        """The worst of the awaited alerts that fired.

        Args:
            definition: of the figure.
            found: of each alert the seconds, and whether they are a lower bound.
            what: became of those that are none, for people.
            exact: how exact the ends are, seconds.
        """
        if not found:
            raise _Missing(f"{self._plan.alert} didn't fire")
        value, censored, worst = max(found, key=lambda each: each[:2])
        known = sum(not lower for _, lower, _ in found)
        about = f" about {worst.host}" if worst.host else ""
        begin = self._line.moment(worst.firing or 0.0)
        based_on = f"{known} of {number_of(len(found), 'alert')} {what}; the slowest{about} fired at {begin}"
        return Figure(definition, value, worst.resolution + exact, based_on, censored=censored)

    @property
    def _pending_bounds(self) -> _Bounds:
        """A scrape and an evaluation have to come.

        The rule averages over what it has of its window, which is up to two scrapes less than the window: it may see
        the overload that much before t0.
        """
        if (timing := self._line.run.timing) is None:
            return None
        return -min(2 * timing.scrape, self._plan.window), timing.scrape + timing.evaluation

    @property
    def _firing_bounds(self) -> _Bounds:
        """`for` is looked at once an evaluation."""
        if (timing := self._line.run.timing) is None:
            return None
        return timing.alert_for, timing.alert_for + (timing.evaluation if timing.alert_for else 0.0)

    @property
    def _alert_bounds(self) -> _Bounds:
        pending, firing = self._pending_bounds, self._firing_bounds
        return None if pending is None or firing is None else (pending[0] + firing[0], pending[1] + firing[1])

    @property
    def _webhook_bounds(self) -> _Bounds:
        """A new group waits for group_wait, one that was notified before for its next group_interval."""
        if (timing := self._line.run.timing) is None:
            return None
        if timing.polled is not None:
            return 0.0, timing.polled
        if timing.group_wait is None or timing.group_interval is None:
            return None
        episode = self._line.episode
        first = all(
            each is episode or each.firing is None or (episode and each.begin > episode.begin)
            for each in self._line.episodes
        )
        return (timing.group_wait if first else 0.0), max(timing.group_wait, timing.group_interval)

    def _resolved_bounds(self, episode: Episode) -> _Bounds:
        """The alert ends a scrape and an evaluation after its host fell below the threshold, for the first time."""
        timing, column = self._line.run.timing, self._line.levels.get(episode.host)
        if timing is None or column is None or episode.firing is None:
            return None
        for index in self._line.span(episode.firing, self._line.last):
            if column[index] < self._plan.hot:
                cool = self._line.moments[index] - episode.firing
                early = 2 * timing.scrape + self._spacing(index, column)
                return max(cool - early, 0.0), cool + timing.scrape + timing.evaluation
        return None

    # Times

    def _first_move(self, definition: Definition) -> Figure:
        line = self._line
        resolution = self._t0_resolution + line.uncertainty + line.run.moves_resolution
        first = next(iter(line.counted), None)
        if first is None or first.accepted is None:
            return Figure(definition, line.end - self._t0, resolution, "no move", censored=True)
        based_on = f"{first.slice} from {first.source}, accepted at {line.moment(first.accepted)}"
        return Figure(definition, first.accepted - self._t0, resolution, based_on)

    def _held(self, definition: Definition, column: Sequence[float], held: Sequence[bool], based_on: str) -> Figure:
        """The first moment from t0 on from which something holds for H."""
        line = self._line
        if not self._known(column, self._t0, line.end):
            raise _Missing("there are no samples after t0 that cover a window")
        index, until = line.first_held(held, self._t0, self._plan.hold)
        resolution = max(self._t0_resolution, self._plan.sample_interval if index is None else 0.0)
        if index is not None:
            resolution = max(resolution, self._spacing(index, column))
        return Figure(definition, until - self._t0, resolution + line.uncertainty, based_on, censored=index is None)

    def _relief(self, definition: Definition) -> Figure:
        if not self._plan.hot_hosts:
            raise _Missing("no host is hot on purpose")
        column = self._line.hottest
        held = [value < self._plan.hot for value in column]
        hosts = " and ".join(self._plan.hot_hosts)
        return self._held(
            definition,
            column,
            held,
            self._watched(f"{hosts} below {written(self._plan.hot, 'ratio')}", self._plan.hold),
        )

    def _balance(self, definition: Definition) -> Figure:
        column = self._line.imbalance
        held = [value <= self._plan.theta for value in column]
        what = f"{self._plan.imbalance} of {number_of(len(self._line.capacity), 'host')}"
        return self._held(definition, column, held, self._watched(what, self._plan.hold))

    # Imbalance

    def _resolution_of(self, measure: Imbalance, end: float) -> float | None:
        """How exact a measure of imbalance is."""
        mean = self._known(self._line.means, end - self._plan.window, end)
        if measure in {Imbalance.SPREAD, Imbalance.SD}:
            return self._level_resolution * (2 if measure is Imbalance.SPREAD else 1)
        return 2 * self._level_resolution / mean[-1] if mean and mean[-1] > 0 else None

    def _initial(self, definition: Definition) -> Figure:
        index = next(iter(self._line.span(self._t0, self._line.end)), None)
        value = math.nan if index is None else self._line.imbalance[index]
        if math.isnan(value):
            raise _Missing("utilization of a host isn't known at t0")
        measure = self._plan.imbalance
        return Figure(
            _in_unit(definition, measure),
            value,
            self._resolution_of(measure, self._t0),
            f"{measure} of {number_of(len(self._line.capacity), 'host')} at {self._line.moment(self._t0)}",
        )

    def _residual(self, definition: Definition, measure: Imbalance) -> Figure:
        end, followed = self._line.end, self._line.followed
        begin = self._line.begin if followed else end - self._plan.window
        values = self._known(self._line.imbalances(measure), begin, end)
        if not values:
            raise _Missing("imbalance is never known" if followed else "there are no samples in the last window")
        hosts = len(self._line.capacity)
        same = ": spread, sd, cv and peak say the same" if hosts == 2 else ""  # noqa: PLR2004 - a pair
        return Figure(
            _in_unit(definition, measure),
            math.fsum(values) / len(values),
            self._resolution_of(measure, end),
            f"{number_of(len(values), 'moment')} {'from the begin to' if followed else 'until'} "
            f"{self._line.moment(end)}, {number_of(hosts, 'host')}{same}",
        )

    def _oscillation(self, definition: Definition) -> Figure:
        first = self._first_accepted
        if first is None:
            return Figure(definition, 0.0, None, "no move")
        initial = self._excess(self._initial(DEFINITIONS["initial_imbalance"]).value or 0.0)
        if initial <= 0:
            raise _Missing("there was no imbalance at t0")
        values = self._known(self._line.imbalance, first, self._line.end)
        turns = turning_points(values, max(self._excess(self._plan.theta) / 2, 0.0))
        variation = math.fsum(abs(after - before) for before, after in pairwise(turns))
        net = abs(turns[-1] - turns[0]) if turns else 0.0
        based_on = f"{max(len(turns) - 2, 0)} turns in {len(values)} moments since {self._line.moment(first)}"
        resolution = self._resolution_of(self._plan.imbalance, self._line.end)
        exact = None if resolution is None else 2 * resolution * max(len(turns) - 1, 0) / initial
        return Figure(definition, (variation - net) / initial, exact, based_on)

    @property
    def _first_accepted(self) -> float | None:
        return next((each.accepted for each in self._line.counted), None)

    # Moves

    def _moves(self, definition: Definition) -> Figure:
        return _count(definition, self._line.counted)

    def _failed_moves(self, definition: Definition) -> Figure:
        within = [each for each in self._line.migrations if self._line.overload <= each.begin <= self._line.end]
        return _count(definition, [each for each in within if each.state in {MoveState.FAILED, MoveState.CANCELLED}])

    def _moves_per_slice(self, definition: Definition) -> Figure:
        slices = self._line.present(self._line.overload, self._line.end)
        if not slices:
            raise _Missing("there are no slices")
        number = len(self._line.counted)
        return Figure(
            definition, number / len(slices), 0.0, f"{number_of(number, 'move')}, {number_of(len(slices), 'slice')}"
        )

    def _thrash(self, definition: Definition) -> Figure:
        left: dict[tuple[str, str], float] = {}
        back = []
        done = set(self._line.done)
        for move in self._line.all_done:
            if move.ended is None or move.destination is None:
                continue
            since = left.get((move.slice, move.destination))
            if move in done and since is not None and move.ended - since <= self._plan.return_within:
                back.append(move)
            left[move.slice, move.source] = move.ended
        number = len(self._line.done)
        which = ", ".join(f"{move.slice} to {move.destination}" for move in back[:3])
        based_on = f"{len(back)} of {number_of(number, 'move')}{': ' if which else ''}{which}"
        return Figure(definition, len(back) / number if number else 0.0, 0.0, based_on)

    def _overshoot(self, definition: Definition) -> Figure:
        hot = self._plan.hot
        return self._worst(definition, "destinations", lambda move: move.destination, lambda level, _: level - hot)

    def _undershoot(self, definition: Definition) -> Figure:
        return self._worst(definition, "sources", lambda move: move.source, lambda level, mean: mean - level)

    def _worst(
        self,
        definition: Definition,
        whose: str,
        host_of: Callable[[Migration], str | None],
        how_far: Callable[[float, float], float],
    ) -> Figure:
        """The worst that became of the hosts of moves after their end; nothing less than 0."""
        line = self._line
        since: dict[str, float] = {}
        for move in line.done:
            host = host_of(move)
            if host is not None and host in line.levels and move.ended is not None:
                since.setdefault(host, move.ended)
        if not since:
            return Figure(definition, 0.0, self._level_resolution, "no move")
        worst, where = 0.0, ""
        for host, begin in sorted(since.items()):
            for index in line.span(begin, line.end):
                far = how_far(line.levels[host][index], line.means[index])
                if far > worst:
                    worst, where = far, f", most of all {host} at {line.moment(line.moments[index])}"
        return Figure(definition, worst, self._level_resolution, f"{whose}: {', '.join(sorted(since))}{where}")

    def _overload_time(self, definition: Definition) -> Figure:
        line = self._line

        def is_hot(index: int) -> bool | None:
            if any(column[index] >= self._plan.hot for column in line.levels.values()):
                return True
            return None if math.isnan(line.means[index]) else False

        return self._time_fraction(definition, is_hot)

    def _imbalance_time(self, definition: Definition) -> Figure:
        column = self._line.imbalance

        def is_unbalanced(index: int) -> bool | None:
            return None if math.isnan(column[index]) else column[index] > self._plan.theta

        return self._time_fraction(definition, is_unbalanced)

    def _time_fraction(self, definition: Definition, holds: Callable[[int], bool | None]) -> Figure:
        """The share of the time since t0, or since the begin of a platform that was only followed.

        Args:
            definition: of the figure.
            holds: takes a moment's index, and says whether that moment counts; None if that isn't known.
        """
        line = self._line
        over = known = 0.0
        turns, before_held = 0, True
        for before, index in pairwise(line.span(line.begin if line.followed else self._t0, line.end)):
            seconds = line.moments[index] - line.moments[before]
            held = holds(index)
            if seconds > line.most_gap or held is None:
                continue
            known += seconds
            over += seconds if held else 0.0
            turns += held is not before_held
            before_held = held
        if not known:
            raise _Missing(f"there are no samples {'that cover a window' if line.followed else 'after t0'}")
        resolution = (turns + 1) * self._plan.sample_interval / known
        return Figure(definition, over / known, min(resolution, 1.0), f"{over:.1f} s of {known:.1f} s")

    # Work

    def _work_lost(self, definition: Definition) -> Figure:
        first = self._first_accepted
        if first is None:
            return Figure(definition, 0.0, 0.0, "no move")
        line = self._line
        got = asked = 0.0
        counted = 0
        for name in line.present(first, line.end):
            counter = line.got.get(name)
            if counter is None or name not in line.made:
                continue
            # Within a sample of the ends the counter says nothing: the same time is left out of what was asked.
            begin = counter.times[0] if first < counter.times[0] <= first + line.most_gap else first
            end = counter.times[-1] if line.end - line.most_gap <= counter.times[-1] < line.end else line.end
            got += counter.known_growth(begin, end)
            asked += line.asked[name].integral(begin, end)
            counted += 1
        if asked <= 0:
            raise _Missing("there are no samples of slices after the first move")
        unsure = math.fsum(line.asked[move.slice].at(move.begin) for move in line.counted if move.slice in line.asked)
        resolution = (len(line.present(first, line.end)) * _TICK + unsure * self._plan.sample_interval) / asked
        return Figure(
            definition, 1 - got / asked, resolution, f"{got:.1f} of {asked:.1f} CPU-seconds of {counted} slices"
        )

    def _migration_seconds(self, definition: Definition) -> Figure:
        stated = [each.seconds for each in self._line.counted if each.seconds is not None]
        # Of a move whose begin and end were seen at once, as after an outage, nobody knows how long it took.
        if unseen := sum(each.seconds is None and each.accepted == each.ended for each in self._line.done):
            raise _Missing(f"it isn't known how long {unseen} of {number_of(len(self._line.done), 'move')} took")
        measured = [
            (self._line.last if each.ended is None else each.ended) - each.accepted
            for each in self._line.counted
            if each.seconds is None and each.accepted is not None
        ]
        running = sum(each.ended is None for each in self._line.counted)
        based_on = f"{number_of(len(self._line.counted), 'move')}, {len(stated)} as the platform states it"
        based_on += f", {running} under way" if running else ""
        resolution = 2 * self._line.run.moves_resolution * len(measured)
        return Figure(definition, math.fsum(stated + measured), resolution, based_on, censored=running > 0)

    def _downtime_seconds(self, definition: Definition) -> Figure:
        done = self._line.done
        silent = sum(each.downtime is None for each in done)
        if silent:
            raise _Missing(f"the platform doesn't state it for {silent} of {len(done)} moves")
        stated = [each.downtime for each in self._line.counted if each.downtime is not None]
        running = sum(each.ended is None for each in self._line.counted)
        return Figure(definition, math.fsum(stated), 0.0, number_of(len(stated), "move"), censored=running > 0)

    def _fidelity(self, definition: Definition) -> Figure:
        shares = {host: share for host in self._line.capacity if (share := self._faithful(host))[1]}
        if not self._line.asked:
            raise _Missing("there are no slices")
        if not shares:
            raise _Missing("there is no sample before the first move that counts")
        host, (good, count) = min(shares.items(), key=lambda each: each[1][0] / each[1][1])
        return Figure(definition, good / count, 1 / count, f"{good} of {count} samples of {host}")

    def _faithful(self, host: str) -> tuple[int, int]:
        """Of the samples of a host that count, how many were as asked, and all."""
        line, plan = self._line, self._plan
        slices = [name for name in line.slices_on(host) if name in line.made]
        changes = sorted(at for name in slices for at in line.asked[name].times if line.placed(name, at) == host)
        first = self._first_accepted
        end = line.end if first is None else min(line.end, first)
        good = count = 0
        span = line.span(line.begin, end) if slices else range(0)
        for after in span:
            until = line.moments[after]
            before = bisect_right(line.moments, until - (1 - _EARLY) * _LOOK, span.start, after) - 1
            if before < span.start or _has_gap(line.moments[before : after + 1], line.most_gap):
                continue
            begin = line.moments[before]
            if _any_within(changes, begin - plan.window, until):
                continue
            if host not in line.busy or line.busy[host].grown(begin, until) is None:
                continue
            here = [name for name in slices if line.placed(name, begin) == host]
            asked = math.fsum(line.asked[name].at(begin) for name in here)
            cpus = line.capacity[host].at(begin)
            got = [line.got[name].grown(begin, until) if name in line.got else None for name in here]
            known = [seconds for seconds in got if seconds is not None]
            count += 1
            off = abs(math.fsum(known) / (until - begin) - min(asked, cpus))
            good += len(known) == len(got) and off <= plan.tolerance * cpus
        return good, count


def _has_gap(moments: Sequence[float], most: float) -> bool:
    return any(after - before > most for before, after in pairwise(moments))


def _is_firing(episode: Episode, at: float) -> bool:
    """Whether it was firing before a time, and still then."""
    return episode.firing is not None and episode.firing < at and (episode.ended is None or episode.ended > at)


def _in_unit(definition: Definition, measure: Imbalance) -> Definition:
    """The definition of an imbalance, with the unit of its measure."""
    return definition if measure in {Imbalance.SPREAD, Imbalance.SD} else replace(definition, unit="")


def _count(definition: Definition, found: Sequence[Migration]) -> Figure:
    names = ", ".join(f"{move.slice} from {move.source} to {move.destination or '?'}" for move in found[:3])
    return Figure(definition, float(len(found)), 0.0, names or "none")


def _any_within(ordered: Sequence[float], begin: float, end: float) -> bool:
    """Whether one of the times lies in begin < time < end."""
    index = bisect_right(ordered, begin)
    return index < len(ordered) and ordered[index] < end


def turning_points(values: Iterable[float], least: float) -> list[float]:
    """The values between which a curve rises and falls, in swings of at least so much; empty for less.

    A swing that is under way at the end counts, up to its utmost.
    """
    turns: list[float] = []
    low = high = math.nan
    rising = False
    for value in values:
        if math.isnan(low):
            low = high = value
        elif not turns:
            low, high = min(low, value), max(high, value)
            if high - low >= least and high > low:
                rising = value == high
                turns = [low, high] if rising else [high, low]
        elif value > turns[-1] if rising else value < turns[-1]:
            turns[-1] = value
        elif abs(value - turns[-1]) >= least and value != turns[-1]:
            rising = not rising
            turns.append(value)
    return turns
