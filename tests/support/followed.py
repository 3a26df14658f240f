"""Synthetic recordings as their metrics follow them, as far as a moment."""

from __future__ import annotations

from recordings import EPOCH, Scene

from loadband.rebalance.events import Recording, Trouble
from loadband.rebalance.progress import About, Progress
from loadband.rebalance.verdict import Outcome

ABOUT = About(
    run="synthetic",
    scenario="hot-host",
    platform="local",
    rebalancer="mover",
    version="1.2.3",
    repeat=2,
    repeats=5,
)


def balanced() -> Scene:
    """Host a gets hot at 20 s and to 40 s, its alert fires at 30 s; a-3 moves to b by 33 s, and one move fails."""
    scene = Scene()
    for name, host in (("a-1", "a"), ("a-2", "a"), ("b-1", "b")):
        scene.slice(name, host, 1.0)
    scene.slice("a-3", "a", 2.0, at=20.0, gone=scene.watched)
    scene.alert(pending=22.0, firing=30.0, notified=30.5, resolved=40.0)
    scene.move(31.0, "a-3", "b")
    scene.refuse(50.0, "a-2", "b")
    scene.trouble(60.0, Trouble.FOREIGN_LOAD, host="b", who="yes", amount=0.5)
    return scene


class Follower:
    """Metrics of a recording, event by event.

    Args:
        recording: its events are taken in the order of their times.
    """

    def __init__(self, recording: Recording) -> None:
        self.now = EPOCH
        self.progress = Progress(ABOUT, recording.run.plan, lambda: self.now)
        self._events = sorted(recording.events, key=lambda event: event.at)

    def until(self, at: float) -> None:
        """Take what happened up to a time, seconds from the begin; a clock shows that time then."""
        while self._events and self._events[0].at <= EPOCH + at:
            event = self._events.pop(0)
            self.now = event.at
            self.progress.event(event)
        self.now = EPOCH + at

    def value(self, name: str, *labels: str) -> float | None:
        """The value now of a metric by its name without the prefix; None if it is absent."""
        for point in self.progress.points():
            if (point.name, point.labels) == (f"loadband_rebalance_{name}", labels):
                assert isinstance(point.value, (int, float))
                return point.value
        return None


def _full() -> Progress:
    """With a value for every metric."""
    follower = Follower(balanced().record())
    follower.until(32.0)
    follower.progress.judged(Outcome.PASS)
    return follower.progress


FOLLOWED = _full()
