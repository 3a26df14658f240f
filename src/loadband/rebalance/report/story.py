"""What happened in a run, in words, in order: for those who don't see the picture, or want it exact. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loadband.rebalance.report import words
from loadband.rebalance.report.picture import AlertSpan, MoveArrow, Picture

MOST = 40
"""Events that are listed; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened."""

    at: float
    """Seconds since the timeline's zero."""
    kind: str
    """`phase`, `alert`, `move` or `mark`."""
    text: str
    """A sentence without its stop; names in it are made printable."""


def story(picture: Picture) -> list[Happening]:
    """Everything that happened, in order of time; phases before what happens in them."""
    told = [*_phases(picture), *_alerts(picture), *_moves(picture)]
    told += [Happening(mark.at, "mark", mark.name) for mark in picture.marks]
    if picture.zero_name and not any(happening.text == picture.zero_name for happening in told):
        told.append(Happening(0.0, "mark", picture.zero_name))
    return sorted(told, key=lambda happening: happening.at)


def description(picture: Picture) -> str:
    """What the picture of a run shows, for those who don't see it."""
    hosts = words.count(len(picture.hosts), "host")
    hot = [words.short(host.name, 40) for host in picture.hosts if host.hot]
    ends = [_range(picture, at) for at in (0.0, picture.end)]
    told = story(picture)
    purpose = f", of which {words.listed(hot)} overloaded on purpose" if hot else ""
    parts = [
        f"Utilization of {hosts}{purpose}, over {words.seconds(picture.end - picture.begin)}.",
        f"The hot threshold is {words.percent(picture.hot)}.",
        f"At the zero, {picture.zero_name}, hosts are at {ends[0]}; at the end at {ends[1]}.",
        f"Balance is a {picture.measure} of at most {picture.theta:g}.",
        *(f"{words.moment(happening.at)}: {happening.text}." for happening in told[:MOST]),
    ]
    if len(told) > MOST:
        parts.append(f"{len(told) - MOST} more events.")
    return " ".join(parts)


def _range(picture: Picture, at: float) -> str:
    """The hosts' utilization at a moment: `30 % to 90 %`."""
    values = []
    for host in picture.hosts:
        before = [
            value
            for when, value in zip(host.line.times, host.line.values, strict=True)
            if when <= at and value is not None
        ]
        values += before[-1:]
    if not values:
        return "unknown utilization"
    low, high = words.percent(min(values)), words.percent(max(values))
    return low if low == high else f"{low} to {high}"


def _phases(picture: Picture) -> Iterator[Happening]:
    texts = {
        "baseline": "the baseline begins: an ordinary load",
        "overload": "the overload begins",
        "watch": "the watch begins: loadband changes nothing more",
        "recovery": "the recovery begins: the overload is taken away",
    }
    for phase in picture.phases:
        yield Happening(phase.begin, "phase", texts.get(phase.name, f"the phase {phase.name} begins"))


def _alerts(picture: Picture) -> Iterator[Happening]:
    for alert in picture.alerts:
        about = _about(alert)
        if alert.pending is not None:
            yield Happening(alert.pending, "alert", f"{about} is pending")
        if alert.firing is not None:
            yield Happening(alert.firing, "alert", f"{about} fires")
        if alert.notified is not None:
            yield Happening(alert.notified, "alert", f"the webhook gets {about}")
        if alert.resolved is not None:
            ended = "resolves" if alert.firing is not None else "ends without having fired"
            yield Happening(alert.resolved, "alert", f"{about} {ended}")


def _about(alert: AlertSpan) -> str:
    return f"alert {words.short(alert.name, 60)}{f' of {words.short(alert.host, 60)}' if alert.host else ''}"


def _moves(picture: Picture) -> Iterator[Happening]:
    for move in picture.moves:
        yield Happening(move.begin, "move", f"move {move.number} begins: {moved(move)}")
        if move.end is not None:
            ended = {"done": "is done", "failed": "fails", "cancelled": "is cancelled"}.get(move.state, "ends")
            reason = f": {words.short(move.reason, 120)}" if move.state == "failed" and move.reason else ""
            yield Happening(move.end, "move", f"move {move.number} {ended}{reason}")


def moved(move: MoveArrow) -> str:
    """A move in short: `slice a1 from a to b, by mover`."""
    to = f" to {words.short(move.destination, 60)}" if move.destination is not None else ""
    return f"slice {words.short(move.slice, 60)} from {words.short(move.source, 60)}{to}, by {words.short(move.by, 60)}"
