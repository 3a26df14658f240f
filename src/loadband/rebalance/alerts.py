"""From what Prometheus and Alertmanager say to the states of alerts, each with the best time known for it. Pure.

Prometheus knows since when an alert is active; Alertmanager knows when it fired and when it ended, because Prometheus
tells it at the evaluation that decided it. Only if Alertmanager doesn't say, the time of a poll is taken, with the time
since the poll before as its resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadband.rebalance.events import Alert, AlertState

PATIENCE = 2.0
"""Seconds that a better time is waited for, on top of what Alertmanager may take by its configuration."""

_Key = tuple[str, str]
"""An alert's name, and its host."""


@dataclass(frozen=True, slots=True)
class Active:
    """An alert in Prometheus, as of one poll."""

    name: str
    host: str
    fires: bool
    since: float
    """Its `activeAt`, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An alert as Alertmanager knows or sent it."""

    name: str
    host: str
    fires: bool
    starts: float
    ends: float | None
    """When it was resolved; None while it fires."""
    fingerprint: str
    arrived: float | None
    """When the webhook got it; None if it was asked for."""
    resolution: float = 0.0
    """Seconds: how exact `starts` is."""


@dataclass(slots=True)
class _Episode:
    """One time that an alert is active."""

    since: float
    fired: bool = False
    """Whether its firing is recorded."""
    notified: bool = False
    seen_firing: tuple[float, float] | None = None
    """When a poll first saw it fire, and the time since the poll before."""
    seen_gone: tuple[float, float] | None = None
    """Likewise, when it was first seen gone."""
    fingerprint: str = ""


class AlertBook:
    """The alerts and what of them was recorded.

    Args:
        notice: seconds until a change reaches the webhook at the latest, by Alertmanager's configuration.
    """

    def __init__(self, notice: float) -> None:
        self._patience = notice + PATIENCE
        self._episodes: dict[_Key, _Episode] = {}
        self._polled: float | None = None

    @property
    def undated(self) -> bool:
        """Whether an alert fires of which Alertmanager hasn't said since when."""
        return any(one.seen_firing and not one.fired for one in self._episodes.values())

    def polled(self, at: float, active: Sequence[Active]) -> list[Alert]:
        """Take what Prometheus' list of alerts is at a time, seconds since the epoch."""
        passed = at - self._polled if self._polled is not None else 0.0
        self._polled = at
        found: list[Alert] = []
        seen = {(one.name, one.host): one for one in active}
        for key, one in seen.items():
            episode = self._episodes.get(key)
            # A new episode began between two polls, and the end of the old one wasn't seen.
            if episode and one.since > episode.since:
                found += self._end(key, episode, one.since, passed)
                episode = None
            if episode is None:
                episode = self._episodes[key] = _Episode(one.since)
                found.append(_alert(key, AlertState.PENDING, one.since))
            episode.seen_gone = None
            if one.fires and episode.seen_firing is None:
                episode.seen_firing = at, passed
        for key, episode in list(self._episodes.items()):
            if key not in seen and episode.seen_gone is None:
                episode.seen_gone = at, passed
            found += self._impatient(key, episode, at)
        return found

    def heard(self, heard: Sequence[Heard]) -> list[Alert]:
        """Take what Alertmanager knows or sent."""
        found: list[Alert] = []
        for one in heard:
            key = one.name, one.host
            episode = self._episodes.get(key)
            if episode is None:
                # Its end was recorded already, or the webhook was faster than the poll.
                if not one.fires:
                    continue
                episode = self._episodes[key] = _Episode(one.starts)
                found.append(_alert(key, AlertState.PENDING, one.starts))
            if one.starts < episode.since:
                continue  # of an episode that is over
            episode.fingerprint = one.fingerprint
            if not episode.fired:
                episode.fired = True
                found.append(_alert(key, AlertState.FIRING, one.starts, one.fingerprint, one.resolution))
            if one.fires and one.arrived is not None and not episode.notified:
                episode.notified = True
                found.append(_alert(key, AlertState.NOTIFIED, one.arrived, one.fingerprint))
            if not one.fires and one.ends is not None:
                del self._episodes[key]
                found.append(_alert(key, AlertState.RESOLVED, one.ends, one.fingerprint))
        return found

    def _impatient(self, key: _Key, episode: _Episode, now: float) -> list[Alert]:
        """Take the times of polls, if there is nothing better after some time."""
        if not episode.fired and episode.seen_firing and now - episode.seen_firing[0] > PATIENCE:
            episode.fired = True
            at, resolution = episode.seen_firing
            return [_alert(key, AlertState.FIRING, at, resolution=resolution)]
        if episode.seen_gone is None:
            return []
        at, resolution = episode.seen_gone
        # One that only was pending is known to nobody else.
        if (not episode.fired and not episode.seen_firing) or now - at > self._patience:
            return self._end(key, episode, at, resolution)
        return []

    def _end(self, key: _Key, episode: _Episode, at: float, resolution: float) -> list[Alert]:
        del self._episodes[key]
        if not episode.fired and not episode.seen_firing:
            return [_alert(key, AlertState.DROPPED, at, resolution=resolution)]
        found = []
        if not episode.fired and episode.seen_firing:
            fired, exact = episode.seen_firing
            found.append(_alert(key, AlertState.FIRING, fired, resolution=exact))
        return [*found, _alert(key, AlertState.RESOLVED, at, episode.fingerprint, resolution)]


def _alert(key: _Key, state: AlertState, at: float, fingerprint: str = "", resolution: float = 0.0) -> Alert:
    name, host = key
    return Alert(at=at, state=state, name=name, host=host, fingerprint=fingerprint, resolution=resolution)
