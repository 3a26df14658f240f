"""Whether the monitoring does its work: the servers answer, and every host is scraped. Whoever's servers they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from loadband.rebalance import alertmanager, prometheus, shipped
from loadband.rebalance.alerts import Active, Heard
from loadband.rebalance.api import ApiError
from loadband.rebalance.events import Disturbance, Timing, Trouble
from loadband.rebalance.prometheus import Labels

POLL = 0.5
"""Seconds between two looks at the alerts."""
HEALTH = 2.0
"""Seconds between two looks at what is scraped and whether both servers live."""
LATE_SCRAPES = 3.0
"""Scrape intervals after which a host without a sample is missing one."""
LATE = 1.0
"""Seconds that may pass on top of that, on a machine that is busy on purpose."""
_AGES = 'min by (node, nodename, instance) (time() - timestamp({__name__=~"loadband_build_info|node_uname_info"}))'
"""How old the freshest sample of each exporter of a host is. A scrape that fails ends both series at once."""

Question = Callable[[], str]
"""What is wrong with a server now, for people; empty if nothing is."""


class Health:
    """Looks at servers and hosts, and reports each trouble once for as long as it lasts.

    Args:
        asked: the Prometheus that scrapes the hosts.
        hosts: the names of those that have to be seen.
        window: seconds over which the rules average utilization.
        servers: by name, whom to ask.
    """

    def __init__(
        self, asked: prometheus.Client, hosts: Iterable[str], window: float, servers: Mapping[str, Question]
    ) -> None:
        self._asked = asked
        self._hosts = frozenset(hosts)
        self._window = window
        self._servers = servers
        self._next = 0.0
        self._scraped: set[str] = set()
        """The hosts that were scraped at some time."""
        self._troubles: set[tuple[Trouble, str]] = set()
        """What is wrong now and recorded, and whose trouble it is."""

    def unseen(self, interval: float) -> str:
        """The hosts whose utilization isn't known for a whole window yet, for people; empty if there are none.

        Args:
            interval: seconds from one evaluation of the rule that records utilization to the next.

        Raises:
            ApiError: Prometheus doesn't answer.
        """
        least = max(int(self._window / interval) - 1, 1)
        span = f"{round(1000 * self._window)}ms"
        whole = self._asked.query(f"count_over_time({shipped.UTILIZATION}[{span}]) >= {least}")
        if unseen := self._hosts - {host_of(labels) for labels, _ in whole}:
            return f"Prometheus to know the utilization of {', '.join(sorted(unseen))} over {self._window:g} s"
        return ""

    def look(self, now: float, timing: Timing) -> list[Disturbance]:
        """What has gone wrong since the last look; nothing if that was less than `HEALTH` ago.

        Args:
            now: monotonic seconds.
            timing: how often hosts are scraped.
        """
        if now < self._next:
            return []
        self._next = now + HEALTH
        troubles = {(Trouble.MONITORING_DOWN, name): said for name, ask in self._servers.items() if (said := ask())}
        with suppress(ApiError):
            troubles |= {(Trouble.SCRAPE_FAILED, host): said for host, said in self._unscraped(timing).items()}
        fresh = [trouble for trouble in troubles if trouble not in self._troubles]
        self._troubles = set(troubles)
        return [
            Disturbance(
                at=time.time(),
                what=what,
                host=who if what is Trouble.SCRAPE_FAILED else "",
                who="" if what is Trouble.SCRAPE_FAILED else who,
                detail=troubles[what, who],
            )
            for what, who in fresh
        ]

    def _unscraped(self, timing: Timing) -> Mapping[str, str]:
        """Of each host that was scraped once and has no fresh sample, why; an `ApiError` if Prometheus is silent."""
        ages: dict[str, float] = {}
        for labels, age in self._asked.query(_AGES):
            # As the shipped rules name a host.
            host = host_of(labels) or labels.get("nodename") or labels.get("instance", "").rpartition(":")[0]
            ages[host] = min(age, ages.get(host, age))
        self._scraped |= self._hosts & ages.keys()
        most = LATE_SCRAPES * timing.scrape + LATE
        found = {}
        for host in sorted(self._scraped):
            if host not in ages:
                found[host] = f"Prometheus can't scrape the exporter of {host}"
            elif ages[host] > most:
                found[host] = f"Prometheus has stored no sample of {host} for {ages[host]:.0f} s"
        return found


def unanswered(client: prometheus.Client | alertmanager.Client) -> str:
    """Why a server doesn't answer, a sentence; empty if it does."""
    try:
        client.version()
    except ApiError as error:
        return f"no answer: {error}"
    return ""


def version_of(client: prometheus.Client | alertmanager.Client) -> str:
    """A server's version; empty if it doesn't answer."""
    with suppress(ApiError):
        return client.version()
    return ""


def host_of(labels: Labels) -> str:
    """The host that a series or an alert is about; empty if it is about none."""
    return labels.get(shipped.HOST_LABEL, "")


def active(alert: prometheus.ActiveAlert) -> Active:
    """An alert of Prometheus, for the book."""
    return Active(alert.name, host_of(alert.labels), alert.fires, alert.since)


def known(
    alert: alertmanager.KnownAlert, arrived: float | None = None, resolution: float = 0.0, host: str | None = None
) -> Heard:
    """A firing alert of Alertmanager, for the book.

    Args:
        alert: as Alertmanager knows it.
        arrived: when the rebalancer was notified, seconds since the epoch; None if it wasn't.
        resolution: how exact its start is, seconds.
        host: which one it is about; None: the one that its label names.
    """
    return Heard(
        alert.labels.get("alertname", ""),
        host_of(alert.labels) if host is None else host,
        fires=True,
        starts=alert.starts,
        ends=None,
        fingerprint=alert.fingerprint,
        arrived=arrived,
        resolution=resolution,
    )
