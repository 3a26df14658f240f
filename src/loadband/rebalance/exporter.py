"""Serves a run's metrics while it goes on, for a Prometheus to scrape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from loadband.metrics import Point, PointCollector, registry_of
from loadband.rebalance.events import Plan
from loadband.rebalance.progress import FAMILIES, About, Progress
from loadband.rebalance.verdict import Outcome
from loadband.server import Exposition
from loadband.serving import Server
from loadband.units import Listen

LOOPBACK = Listen("127.0.0.1", 0)
"""Where only programs of this machine find it, at any free port."""
LAST_SCRAPE_SECONDS = 60.0
"""The longest that a verdict waits for its scrape: Prometheus' own default interval."""
_LOOK_SECONDS = 0.2


class Exporter:
    """The metrics of a run over HTTP, for as long as the context lasts.

    Args:
        listen: where.

    Raises:
        ListenError: the address can't be had.
    """

    def __init__(self, listen: Listen) -> None:
        self._progress: Progress | None = None
        self._scrapes = 0
        registry = registry_of(PointCollector(FAMILIES, self._points))
        self._server = Server.open(Exposition(registry), listen.host, listen.port)

    @property
    def address(self) -> str:
        """`host:port` for a client on this machine."""
        return self._server.address.removeprefix("http://")

    def follow(self, about: About, plan: Plan) -> Progress:
        """Show another repeat from now on; returns what has to watch it."""
        self._progress = Progress(about, plan)
        return self._progress

    def judged(self, outcome: Outcome, wait: Callable[[float], bool]) -> None:
        """Show the verdict, and wait until it has been scraped, if anybody has scraped so far.

        Args:
            outcome: of all repeats.
            wait: waits for some seconds, or less if the program is to end; returns whether it is.
        """
        if self._progress is None or not self._scrapes:
            return
        self._progress.judged(outcome)
        seen = self._scrapes
        for _ in range(round(LAST_SCRAPE_SECONDS / _LOOK_SECONDS)):
            if wait(_LOOK_SECONDS) or self._scrapes > seen:  # asked last: an answer has had time to go out
                return

    def _points(self) -> list[Point]:
        self._scrapes += 1  # first: whoever is counted after the verdict is set sees it
        return self._progress.points() if self._progress else []

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
