"""Follows a platform that somebody else runs, and records it: no load is made, and nothing is changed.

One thread does all: every `TICK` it asks the platform and the monitoring what has happened, and writes the events down.
Nothing is kept but what is going on now, so it may take days.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from loadband import __version__
from loadband.rebalance.events import End, EndReason, Event, Part, Plan, Real, Run, Timing
from loadband.rebalance.run import Audience, Sink, Steadiness, Time

TICK = 1.0
"""Seconds between two turns, at most: less where hosts are sampled more often."""


class Followed(Protocol):
    """A platform that is only read."""

    @property
    def resolution(self) -> float:
        """Seconds: how exact the times of moves are."""
        ...

    def start(self) -> None:
        """Begin to watch.

        Raises:
            PlatformError: it can't be watched.
        """
        ...

    def describe(self) -> Part:
        """What it is, for the report; once it is started."""
        ...

    def hosts(self) -> Collection[str]:
        """The names of the hosts that there are now; once it is started."""
        ...

    def poll(self) -> Sequence[Event]:
        """What has happened since the last call."""
        ...

    def close(self) -> None:
        """End watching; may be called at any time."""
        ...


class Known(Protocol):
    """What the monitoring knows of the hosts."""

    @property
    def timing(self) -> Timing | None:
        """What the awaited alert waits; None if nobody watches it."""
        ...

    def describe(self) -> Sequence[Part]:
        """The servers, for the report."""
        ...

    def poll(self, hosts: Collection[str], *, last: bool = False) -> Sequence[Event]:
        """What has happened since the last call.

        Args:
            hosts: the names of those that are followed now.
            last: whether this is the last call.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be recorded."""

    run: str
    """The recording's id."""
    plan: Plan
    actors: tuple[str, ...] = ()
    """Whose moves are judged, as the platform names them; none: anybody's."""
    seconds: float | None = None
    """How long; None: until somebody asks for the end."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What is read; closed at the end."""

    platform: Followed
    """Not started."""
    known: Known


class Following:
    """Records a platform until the end.

    Args:
        order: what to record.
        sources: what is read.
        sink: where the recording goes.
        time: clocks and waiting. If a wait ends early because somebody asks for it, the recording ends, complete.
        audience: who watches.
    """

    def __init__(
        self, order: Order, sources: Sources, sink: Sink, time: Time, audience: Sequence[Audience] = ()
    ) -> None:
        self._order = order
        self._platform, self._known = sources.platform, sources.known
        self._sink = sink
        self._time = time
        self._audience = audience

    def run(self) -> None:
        """Do it all.

        Raises:
            PlatformError: the platform can't be watched; nothing was recorded.
            RecordingError: the recording can't be written; what was written before stays.
        """
        try:
            self._platform.start()
            self._begin()
            self._follow()
        finally:
            self._platform.close()
            self._known.close()

    def _begin(self) -> None:
        order, platform, known = self._order, self._platform, self._known
        name = f"by {' or '.join(order.actors)}" if order.actors else "whoever moves something"
        self._sink.begin(
            Run(
                at=self._time.wall(),
                run=order.run,
                plan=order.plan,
                platform=platform.describe(),
                rebalancer=Part(name=name, real=Real.REAL, actors=order.actors),
                monitoring=tuple(known.describe()),
                timing=known.timing,
                moves_resolution=platform.resolution,
                loadband=__version__,
                followed=True,
            )
        )

    def _follow(self) -> None:
        seconds = self._order.seconds
        for one in self._audience:
            one.stage("following", None if seconds is None else self._time.wall() + seconds)
        clock, begin = Steadiness(self._time), self._time.monotonic()
        tick = min(TICK, self._order.plan.sample_interval)
        ended = False
        while not ended:
            step = clock.look()
            self._write([step] if step else [])
            self._look()
            left = tick if seconds is None else min(begin + seconds - self._time.monotonic(), tick)
            ended = left <= 0 or self._time.wait(left)
        self._look(last=True)
        self._write([End(at=self._time.wall(), reason=EndReason.COMPLETE)])

    def _look(self, *, last: bool = False) -> None:
        self._write(self._platform.poll())
        self._write(self._known.poll(self._platform.hosts(), last=last))

    def _write(self, events: Sequence[Event]) -> None:
        for event in events:
            self._sink.write(event)
            for one in self._audience:
                one.event(event)
