"""What a picture of one run shows, in seconds since its zero: the values that charts and terminal draw from. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loadband.rebalance.events import MoveState, Phase
from loadband.rebalance.figures import Figures
from loadband.rebalance.report import words
from loadband.rebalance.timeline import Migration, Series, Timeline


@dataclass(frozen=True, slots=True)
class Line:
    """A curve."""

    times: tuple[float, ...]
    """Ascending."""
    values: tuple[float | None, ...]
    """As many; None breaks the curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLine:
    """A host's utilization."""

    name: str
    hot: bool
    """Whether it is overloaded on purpose."""
    line: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A phase."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSpan:
    """One episode of an alert; a time is None if it wasn't recorded."""

    name: str
    host: str
    awaited: bool
    """Whether it is the alert that the scenario awaits."""
    pending: float | None
    firing: float | None
    notified: float | None
    resolved: float | None
    """When it ended, fired or not."""

    @property
    def begin(self) -> float | None:
        """The earliest time that is known of it."""
        return next((at for at in (self.pending, self.firing, self.notified, self.resolved) if at is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveArrow:
    """One move."""

    number: int
    """In the order of their begins, from 1: how picture and table name it."""
    slice: str
    source: str
    destination: str | None
    by: str
    begin: float
    """When it was accepted; if it never was, when it was asked for."""
    end: float | None
    """None: it was under way when the recording ended."""
    state: str
    """`done`, `failed`, `cancelled`, or what it had come to."""
    reason: str
    """Why it failed or was cancelled; of others, why it was asked for."""
    seconds: float | None
    """How long it took as the platform states it."""
    downtime: float | None
    foreign: bool
    """Whether none of the rebalancer's actors did it."""
    counted: bool
    """Whether the figures count it: it began during overload or watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment with a name."""

    name: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A run as a picture shows it."""

    zero: float
    """Seconds since the epoch: the overload held from then on, or began, or the recording did."""
    zero_name: str
    """What the zero is, for people: `the overload holds`."""
    begin: float
    end: float
    hosts: tuple[HostLine, ...]
    """Hot ones first, then by name, as people sort names."""
    hot: float
    """The hot threshold, a ratio."""
    phases: tuple[Stretch, ...]
    alerts: tuple[AlertSpan, ...]
    """By their begin."""
    moves: tuple[MoveArrow, ...]
    """By their begin."""
    imbalance: Line
    measure: str
    """Which imbalance: `spread`, `sd`, `cv`, `peak`."""
    theta: float
    marks: tuple[Mark, ...]
    """The moments that figures found: relief, balance."""


def picture(timeline: Timeline, figures: Figures) -> Picture:
    """What a picture of a run shows.

    Args:
        timeline: the run.
        figures: its figures; they place the marks.
    """
    zero, zero_name = _zero(timeline)
    plan = timeline.plan
    hosts = sorted(timeline.capacity, key=lambda name: (name not in plan.hot_hosts, words.natural(name), name))
    return Picture(
        zero=zero,
        zero_name=zero_name,
        begin=timeline.run.at - zero,
        end=timeline.last - zero,
        hosts=tuple(
            HostLine(name=name, hot=name in plan.hot_hosts, line=_line(timeline.utilization[name], zero))
            for name in hosts
        ),
        hot=plan.hot,
        phases=tuple(_stretches(timeline, zero)),
        alerts=tuple(_spans(timeline, zero)),
        moves=tuple(_arrows(timeline, zero)),
        imbalance=_line(timeline.imbalance_series, zero),
        measure=str(plan.imbalance),
        theta=plan.theta,
        marks=tuple(_marks(figures)) if timeline.t0 is not None else (),
    )


def _zero(timeline: Timeline) -> tuple[float, str]:
    if timeline.followed:
        return timeline.begin, "the recording begins"
    if timeline.t0 is None:
        return timeline.overload, "the overload begins, and never holds"
    return timeline.t0, "the overload holds" if timeline.plan.hot_hosts else "the load begins"


def _line(series: Series, zero: float) -> Line:
    times: list[float] = []
    values: list[float | None] = []
    for piece in series.pieces:
        if times:
            times.append(times[-1])
            values.append(None)
        times += (at - zero for at in piece.times)
        values += piece.values
    return Line(tuple(times), tuple(values))


def _stretches(timeline: Timeline, zero: float) -> Iterator[Stretch]:
    """The phases that last; one that the next one follows at once is left out."""
    phases = sorted(
        (event for event in timeline.recording.events if isinstance(event, Phase)), key=lambda event: event.at
    )
    ends = [*(event.at for event in phases[1:]), timeline.last]
    # Without any phase, as of a run that ended before its baseline, there is one end too many.
    for event, end in zip(phases, ends, strict=False):
        if end > event.at:
            yield Stretch(name=str(event.name), begin=event.at - zero, end=end - zero)


def _spans(timeline: Timeline, zero: float) -> Iterator[AlertSpan]:
    def since(at: float | None) -> float | None:
        return None if at is None else at - zero

    awaited = set(timeline.awaited)
    for episode in timeline.episodes:
        yield AlertSpan(
            name=episode.alert,
            host=episode.host,
            awaited=episode in awaited,
            pending=since(episode.pending),
            firing=since(episode.firing),
            notified=since(episode.notified),
            resolved=since(episode.ended),
        )


def _arrows(timeline: Timeline, zero: float) -> Iterator[MoveArrow]:
    actors, counted = set(timeline.run.rebalancer.actors), set(timeline.counted)
    ordered = sorted(timeline.migrations, key=lambda move: (_begin(move), move.move))
    for number, move in enumerate(ordered, 1):
        yield MoveArrow(
            number=number,
            slice=move.slice,
            source=move.source,
            destination=move.destination,
            by=move.by,
            begin=_begin(move) - zero,
            end=None if move.ended is None else move.ended - zero,
            state=str(move.state),
            reason=move.failure if move.state in {MoveState.FAILED, MoveState.CANCELLED} else move.reason,
            seconds=move.seconds,
            downtime=move.downtime,
            foreign=move.by not in actors,
            counted=move in counted,
        )


def _begin(move: Migration) -> float:
    return move.begin if move.accepted is None else move.accepted


_MARKS = {"time_to_relief": "relief", "time_to_balance": "balance"}


def _marks(figures: Figures) -> Iterator[Mark]:
    for name, mark in _MARKS.items():
        figure = figures.get(name)
        if figure is not None and figure.value is not None and not figure.censored:
            yield Mark(name=mark, at=figure.value)
