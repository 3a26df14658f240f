"""The kit's Prometheus and Alertmanager together, with what they notify of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadband.rebalance import alertmanager, prometheus
from loadband.rebalance.prometheus import Labels, instant


@dataclass(frozen=True)
class Notification:
    """One alert in what Alertmanager sent; times in seconds since the epoch."""

    at: float
    receiver: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts: float
    ends: float


@dataclass
class Notified:
    """What has arrived."""

    notifications: list[Notification] = field(default_factory=list)

    def take(self, at: float, payload: Mapping[str, Any]) -> None:
        for alert in payload["alerts"]:
            starts, ends = instant(alert["startsAt"]), instant(alert["endsAt"])
            told = payload["receiver"], alert["status"], alert["labels"], alert["annotations"]
            self.notifications.append(Notification(at, *told, starts, ends))


class Servers:
    """Both servers, and the receiver of their notifications.

    Args:
        folder: empty; all that they write is in it.
        factor: how many times faster than shipped everything happens.
    """

    def __init__(self, folder: Path, factor: float) -> None:
        self.receiver = Notified()
        self._webhook = alertmanager.Receiver(self.receiver.take)
        self.alertmanager = alertmanager.Server(folder / "alertmanager", self._webhook.url, factor)
        self.prometheus = prometheus.Server(folder / "prometheus", self.alertmanager.address, factor)
        self.client = prometheus.Client(self.prometheus.url)

    def target(self, targets: Sequence[tuple[str, Labels]]) -> None:
        self.prometheus.targets(targets)

    @contextmanager
    def open(self) -> Iterator[None]:
        with self._webhook, self.alertmanager, self.prometheus, self.client:
            yield

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        return self.client.query(expression)

    def values(self, expression: str, seconds: float) -> list[float]:
        """Every value of a range query over the last so many seconds, one a scrape; without those that are NaN."""
        end = time.time()
        found = self.client.range(expression, end - seconds, end, self.prometheus.scrape)
        return [value for _, points in found for _, value in points if value == value]  # noqa: PLR0124 - not NaN
