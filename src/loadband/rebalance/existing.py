"""A Prometheus and an Alertmanager that are somebody else's. They are read and never changed.

They scrape the hosts, and evaluate rules that have the awaited alert, before a run begins. What is in force there is
read, and a plan that doesn't agree with it is refused. Alerts are polled. A rebalancer that reacts to notifications
gets them from here, in the form of Alertmanager's webhook, as soon as Alertmanager lists an alert as firing, or doesn't
any more: nobody has to give it a receiver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loadband.rebalance import alertmanager, in_force, prometheus, shipped
from loadband.rebalance.access import Access
from loadband.rebalance.alertmanager import KnownAlert
from loadband.rebalance.alerts import AlertBook, Heard
from loadband.rebalance.api import ApiError
from loadband.rebalance.events import Alert, Event, Part, Plan, Timing
from loadband.rebalance.health import POLL, Health, Question, active, host_of, known, unanswered, version_of
from loadband.rebalance.in_force import Read, UnfitError
from loadband.rebalance.platforms import Target
from loadband.rebalance.run import MonitoringError
from loadband.rebalance.scenario import SHIPPED_WINDOW

WEBHOOK_VERSION = "4"
"""Of the form of notifications."""
RECEIVER = "loadband"
"""What notifications name as their receiver."""

_EXPORTERS = 'group by (job, instance) ({__name__=~"loadband_cpu_seconds_total|node_cpu_seconds_total"})'
_NOT_ENDED = "0001-01-01T00:00:00Z"
"""The `endsAt` of an alert that fires, as Alertmanager writes it."""


@dataclass(frozen=True, slots=True)
class _InForce:
    """What was read of the servers."""

    timing: Timing
    recorded: float
    """Seconds from one value of a host's utilization to the next."""
    prometheus: Mapping[str, str]
    """Durations and thresholds with where they stand, for people."""
    alertmanager: Mapping[str, str]


class Existing:
    """See `Monitoring` and the module.

    Args:
        access: where the servers are.
        hosts: the names of those that have to be seen, as the label `node` has them; alerts about others don't count.
        plan: names the alert, and the window and threshold that have to be in force.
        clock: monotonic seconds.

    Raises:
        MonitoringError: a server doesn't answer, or what is in force there doesn't suit the plan.
    """

    def __init__(
        self, access: Access, hosts: Sequence[str], plan: Plan, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hosts = frozenset(hosts)
        self._plan = plan
        self._clock = clock
        self._ask_prometheus = prometheus.Client(access.prometheus)
        self._ask_alertmanager = None if access.alertmanager is None else alertmanager.Client(access.alertmanager)
        try:
            self._in_force = self._read()
        except MonitoringError:
            self.close()
            raise
        servers: dict[str, Question] = {"prometheus": lambda: unanswered(self._ask_prometheus)}
        if (asked := self._ask_alertmanager) is not None:
            servers["alertmanager"] = lambda: unanswered(asked)
        self._health = Health(self._ask_prometheus, hosts, plan.window, servers)
        self._book = AlertBook(0.0)
        self._next_poll = 0.0
        self._polled: float | None = None
        """When Prometheus last gave its alerts, seconds since the epoch."""
        self._firing: list[prometheus.ActiveAlert] = []
        """Those that fired then."""
        self._open: dict[str, KnownAlert] = {}
        """What was notified of and isn't resolved, by fingerprint or labels."""
        self._unread: list[tuple[float, Mapping[str, Any]]] = []

    # What is in force

    def _read(self) -> _InForce:
        """Read what is in force, and compare it with the plan.

        Raises:
            MonitoringError: a server doesn't answer, or it doesn't suit the plan.
        """
        asked, plan = self._ask_prometheus, self._plan
        try:
            rules, config = asked.rules(), asked.config()
            holds, evaluated = in_force.alert_for(rules, plan.alert), in_force.evaluation(rules, plan.alert)
            recorded, averaged = in_force.recorded_every(rules), in_force.window(rules)
            scraped = self._scraped(config)
            self._agree(averaged)
            notifies = self._waits(in_force.labels_of(rules, plan.alert, config))
        except (ApiError, UnfitError) as error:
            prefix = "" if isinstance(error, ApiError) else f"{asked.url}: "
            raise MonitoringError(f"{prefix}{error}") from error
        except ValueError as error:
            raise MonitoringError(f"{asked.url}: can't be read: {error}") from error
        timing = Timing(
            scrape=scraped.seconds,
            evaluation=evaluated.seconds,
            alert_for=holds.seconds,
            group_wait=notifies.group_wait.seconds if notifies else None,
            group_interval=notifies.group_interval.seconds if notifies else None,
            polled=POLL,
        )
        check_watch(plan, timing)
        return _InForce(
            timing,
            recorded,
            {
                "scrape_interval": str(scraped),
                "evaluation_interval": str(evaluated),
                "for": str(holds),
                "window": str(averaged),
                "hot": f"{plan.hot:g}, {shipped.THRESHOLD}",
            },
            {"group_wait": str(notifies.group_wait), "group_interval": str(notifies.group_interval)}
            if notifies
            else {},
        )

    def _scraped(self, config: Mapping[str, Any]) -> Read:
        exporters = [labels for labels, _ in self._ask_prometheus.query(_EXPORTERS)]
        if not exporters:
            # The platform may yet start them; the run doesn't begin without.
            written = (config.get("global") or {}).get("scrape_interval", "1m")
            return Read(shipped.seconds(written), "global: no target exports a host yet")
        found = in_force.scrape(self._ask_prometheus.targets(), exporters)
        if found is None:
            raise UnfitError(
                "none of its own targets exports loadband_cpu_seconds_total or node_cpu_seconds_total, so nobody can "
                "say how often the hosts are scraped: give the Prometheus that scrapes them"
            )
        return found

    def _agree(self, averaged: Read) -> None:
        """Refuse a plan whose window or threshold isn't that of the rules.

        Raises:
            UnfitError: they differ.
        """
        plan = self._plan
        if abs(plan.window - averaged.seconds) > 0.001 * plan.window:
            raise UnfitError(
                f"the scenario averages utilization over {plan.window:g} s, and the rules in force over "
                f"{averaged.seconds:g} s: set `faster = {SHIPPED_WINDOW / averaged.seconds:g}` in the scenario"
            )
        series = f'{shipped.THRESHOLD}{{threshold="{shipped.HOT}"}}'
        hot = sorted({value for _, value in self._ask_prometheus.query(series)})
        if not hot:
            raise UnfitError(f"{series} has no value, so nobody can say from when on a host is hot")
        if len(hot) > 1 or abs(hot[0] - plan.hot) > 0.0005:  # noqa: PLR2004 - half of a tenth of a percent
            said = " and ".join(f"{100 * value:g} %" for value in hot)
            raise UnfitError(
                f"the scenario calls a host hot from {100 * plan.hot:g} %, and the rules in force from {said}: "
                "set `hot` in the scenario, or the threshold in the rules"
            )

    def _waits(self, labels: Mapping[str, str]) -> in_force.Waits | None:
        if self._ask_alertmanager is None:
            return None
        return in_force.waits(self._ask_alertmanager.config(), labels)

    # What a run sees

    @property
    def url(self) -> str | None:
        """See `Monitoring`."""
        return self._ask_prometheus.url

    @property
    def timing(self) -> Timing | None:
        """See `Monitoring`."""
        return self._in_force.timing

    def describe(self) -> Sequence[Part]:
        """See `Monitoring`: the settings say where each was read."""
        found, asked = self._in_force, self._ask_alertmanager
        notifications = (
            f"made from {'Prometheus' if asked is None else 'Alertmanager'}'s list of alerts, every {POLL:g}s"
        )
        settings = {"url": self._ask_prometheus.url, **found.prometheus, "notifications": notifications}
        version, interval = version_of(self._ask_prometheus), found.timing.evaluation
        parts = [Part(name="prometheus", version=version, interval=interval, settings=settings)]
        if asked is not None:
            settings = {"url": asked.url, **found.alertmanager}
            parts.append(Part(name="alertmanager", version=version_of(asked), settings=settings))
        return parts

    def start(self, targets: Sequence[Target]) -> None:
        """See `Monitoring`; nothing is started: what isn't scraped yet is `missing`."""

    def programs(self) -> Mapping[str, int]:
        """See `Monitoring`; none."""
        return {}

    def missing(self) -> str:
        """See `Monitoring`: a whole window of every host is recorded, and the awaited alert isn't active.

        When nothing is missing, what is in force is read again: some of it may only be there since the hosts are.

        Raises:
            MonitoringError: what is in force can't be read, or doesn't suit the plan any more.
        """
        try:
            if unseen := self._health.unseen(self._in_force.recorded):
                return unseen
            alerts = [alert.labels for alert in self._ours(self._ask_prometheus.alerts())]
            if self._ask_alertmanager is not None:
                alerts += [alert.labels for alert in self._ask_alertmanager.alerts() if self._is_ours(alert.labels)]
        except ApiError as error:
            return str(error)
        if any(labels.get("alertname") == self._plan.alert for labels in alerts):
            return f"the alert {self._plan.alert} to end: it must not be active before the overload"
        self._in_force = self._read()
        return ""

    def poll(self) -> Sequence[Event]:
        """See `Monitoring`.

        Raises:
            MonitoringError: the awaited alert is active and names no host.
        """
        now = self._clock()
        found: list[Event] = []
        if now >= self._next_poll:
            self._next_poll = now + POLL
            found += self._poll_alerts(time.time())
        return [*found, *self._health.look(now, self._in_force.timing)]

    def notifications(self) -> Sequence[tuple[float, Mapping[str, Any]]]:
        """See `Monitoring`."""
        found, self._unread = self._unread, []
        return found

    def close(self) -> Sequence[str]:
        """See `Monitoring`: closes the connections."""
        self._ask_prometheus.close()
        if self._ask_alertmanager is not None:
            self._ask_alertmanager.close()
        return ()

    def _is_ours(self, labels: Mapping[str, str]) -> bool:
        return host_of(labels) in self._hosts

    def _ours(self, alerts: Sequence[prometheus.ActiveAlert]) -> list[prometheus.ActiveAlert]:
        """Those about this run's hosts.

        Raises:
            MonitoringError: the awaited alert is active and names no host.
        """
        if any(alert.name == self._plan.alert and not host_of(alert.labels) for alert in alerts):
            raise MonitoringError(
                f"the alert {self._plan.alert} has no label {shipped.HOST_LABEL}, so nobody can say whether it is "
                "about a host of this run"
            )
        return [alert for alert in alerts if self._is_ours(alert.labels)]

    # From lists to states and notifications

    def _poll_alerts(self, at: float) -> list[Alert]:
        # A server that is down is found so by the look at its health.
        found: list[Alert] = []
        passed = 0.0
        with suppress(ApiError):
            alerts = self._ours(self._ask_prometheus.alerts())
            passed, self._polled = at - (self._polled or at), at
            self._firing = [alert for alert in alerts if alert.fires]
            found += self._book.polled(at, [active(alert) for alert in alerts])
            if self._ask_alertmanager is None:
                found += self._notify(at, [self._as_known(alert, at) for alert in self._firing], passed)
        if self._ask_alertmanager is not None:
            with suppress(ApiError):
                listed = [alert for alert in self._ask_alertmanager.alerts() if self._is_ours(alert.labels)]
                found += self._notify(at, listed)
        return found

    def _as_known(self, alert: prometheus.ActiveAlert, at: float) -> KnownAlert:
        """An alert that fires in Prometheus, which doesn't say since when: since it was first seen to."""
        before = self._open.get(_key(alert.labels))
        return KnownAlert(
            labels=alert.labels,
            annotations=alert.annotations,
            fingerprint="",
            starts=before.starts if before is not None and alert.since <= before.starts else at,
            ends=at,
            suppressed=False,
        )

    def _notify(self, at: float, listed: Sequence[KnownAlert], resolution: float = 0.0) -> list[Alert]:
        """Notify of what has come and gone, and date in the book what fires.

        Args:
            at: now, seconds since the epoch.
            listed: the alerts about this run's hosts.
            resolution: how exact their starts are, seconds.
        """
        firing = {_name(alert.labels) for alert in self._firing}
        heard: list[Heard] = []
        for alert in listed:
            key = alert.fingerprint or _key(alert.labels)
            before = self._open.get(key)
            if not alert.suppressed and (before is None or alert.starts > before.starts):
                self._open[key] = alert
                self._unread.append((at, self._payload(alert, None)))
                heard.append(known(alert, at, resolution))
            elif _name(alert.labels) in firing:
                heard.append(known(alert, resolution=resolution))
        there = {alert.fingerprint or _key(alert.labels) for alert in listed}
        for key, alert in list(self._open.items()):
            # An Alertmanager that was restarted lists nothing until Prometheus repeats it: that is no end.
            if key not in there and _name(alert.labels) not in firing:
                del self._open[key]
                self._unread.append((at, self._payload(alert, at)))
        return self._book.heard(heard)

    def _payload(self, alert: KnownAlert, ended: float | None) -> Mapping[str, Any]:
        """The body of a notification of one alert.

        Args:
            alert: which.
            ended: when it was seen gone, seconds since the epoch; None while it fires.
        """
        status = "firing" if ended is None else "resolved"
        return {
            "version": WEBHOOK_VERSION,
            "groupKey": _key(alert.labels),
            "truncatedAlerts": 0,
            "status": status,
            "receiver": RECEIVER,
            "groupLabels": dict(alert.labels),
            "commonLabels": dict(alert.labels),
            "commonAnnotations": dict(alert.annotations),
            "externalURL": (self._ask_alertmanager or self._ask_prometheus).url,
            "alerts": [
                {
                    "status": status,
                    "labels": dict(alert.labels),
                    "annotations": dict(alert.annotations),
                    "startsAt": _written(alert.starts),
                    "endsAt": _NOT_ENDED if ended is None else _written(ended),
                    "generatorURL": "",
                    "fingerprint": alert.fingerprint,
                }
            ],
        }


def check_watch(plan: Plan, timing: Timing) -> None:
    """Refuse a plan that is over before its alert could come.

    Raises:
        MonitoringError: its watch is shorter than that takes.
    """
    waits = {
        "window": plan.window,
        "scrape": timing.scrape,
        "evaluation": timing.evaluation,
        "for": timing.alert_for,
        "group_wait": timing.group_wait or 0.0,
    }
    longest = sum(waits.values())
    if plan.watch < longest:
        parts = ", ".join(f"{name} {seconds:g}" for name, seconds in waits.items() if seconds)
        raise MonitoringError(
            f"the scenario watches for {plan.watch:g} s, and by what is in force {plan.alert} may take {longest:g} s "
            f"({parts}): set `watch` under [phases] to more than that"
        )


def _name(labels: Mapping[str, str]) -> tuple[str, str]:
    """An alert's name and host: Prometheus and Alertmanager agree on these, and not on all labels."""
    return labels.get("alertname", ""), host_of(labels)


def _key(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
