"""A Prometheus and an Alertmanager of our own with the shipped rules, and what they say of a run."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from loadband.rebalance import alertmanager, prometheus, shipped
from loadband.rebalance.alerts import AlertBook, Heard
from loadband.rebalance.events import Alert, Event, Part, Plan, Timing
from loadband.rebalance.health import POLL, Health, active, host_of, known, unanswered, version_of
from loadband.rebalance.platforms import Target
from loadband.rebalance.programs import ProgramError
from loadband.rebalance.run import MonitoringError

EXPORTER_JOB = "rebalance"
"""The run's own metrics. The rules take jobs with `loadband` in their names for regulators, and alert when they end."""


class Servers:
    """See `Monitoring`.

    Args:
        folder: empty; all that they write is in it.
        hosts: the names of those that have to be seen.
        plan: names the alert, and its threshold.
        faster: how many times faster than shipped everything happens, > 0.
        clock: monotonic seconds.

    Raises:
        MissingError: a program isn't installed.
        MonitoringError: the plan asks for what the shipped rules don't have.
    """

    def __init__(
        self,
        folder: Path,
        hosts: Sequence[str],
        plan: Plan,
        faster: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(folder, plan, faster)
        self._plan = plan
        self._clock = clock
        self._arrived: deque[tuple[float, Mapping[str, Any]]] = deque()
        """Filled by a thread of the receiver."""
        self._unread: list[tuple[float, Mapping[str, Any]]] = []
        """What the book has seen, and the rebalancer has not."""
        self._receiver = alertmanager.Receiver(lambda at, payload: self._arrived.append((at, payload)))
        self._alertmanager = alertmanager.Server(folder / "alertmanager", self._receiver.url, faster)
        self._prometheus = prometheus.Server(folder / "prometheus", self._alertmanager.address, faster)
        _set_threshold(self._prometheus.rules, shipped.HOT, plan.hot)
        self._timing = Timing(
            scrape=self._prometheus.scrape,
            evaluation=self._prometheus.evaluation,
            alert_for=self._prometheus.hold(plan.alert),
            group_wait=self._alertmanager.group_wait,
            group_interval=self._alertmanager.group_interval,
            faster=faster,
        )
        self._ask_prometheus = prometheus.Client(self._prometheus.url)
        self._ask_alertmanager = alertmanager.Client(self._alertmanager.url)
        self._book = AlertBook(self._alertmanager.group_wait + self._alertmanager.group_interval)
        self._health = Health(
            self._ask_prometheus,
            hosts,
            plan.window,
            {
                "prometheus": lambda: _ended(self._prometheus) or unanswered(self._ask_prometheus),
                "alertmanager": lambda: _ended(self._alertmanager) or unanswered(self._ask_alertmanager),
            },
        )
        self._next_poll = 0.0

    def scrape_exporter(self, address: str) -> None:
        """Scrape the run's own metrics, too.

        Args:
            address: `host:port`; to be called before `start`.
        """
        job = {"job_name": EXPORTER_JOB, "static_configs": [{"targets": [address]}]}
        self._prometheus.config["scrape_configs"].append(job)

    @property
    def url(self) -> str | None:
        """See `Monitoring`."""
        return self._prometheus.url

    @property
    def timing(self) -> Timing | None:
        """See `Monitoring`."""
        return self._timing

    def describe(self) -> Sequence[Part]:
        """See `Monitoring`."""
        timing, notifies = self._timing, self._alertmanager
        return [
            Part(
                name="prometheus",
                version=version_of(self._ask_prometheus),
                interval=timing.evaluation,
                settings={"scrape_interval": f"{timing.scrape:g}s", "evaluation_interval": f"{timing.evaluation:g}s"},
            ),
            Part(
                name="alertmanager",
                version=version_of(self._ask_alertmanager),
                settings={"group_wait": f"{notifies.group_wait:g}s", "group_interval": f"{notifies.group_interval:g}s"},
            ),
        ]

    def start(self, targets: Sequence[Target]) -> None:
        """See `Monitoring`."""
        self._prometheus.targets([(target.address, target.labels) for target in targets])
        self._receiver.__enter__()
        try:
            self._alertmanager.start()
            self._prometheus.start()
        except (ProgramError, TimeoutError) as error:
            raise MonitoringError(str(error)) from error

    def programs(self) -> Mapping[str, int]:
        """See `Monitoring`."""
        processes = {"prometheus": self._prometheus.process, "alertmanager": self._alertmanager.process}
        return {name: process.pid for name, process in processes.items() if process is not None}

    def missing(self) -> str:
        """See `Monitoring`: a whole window of every host must be recorded, and the awaited alert must not be active."""
        try:
            unseen = self._health.unseen(self._timing.evaluation)
            alerts = self._ask_prometheus.alerts()
        except OSError as error:
            return str(error)
        if not unseen and any(alert.name == self._plan.alert for alert in alerts):
            return f"the alert {self._plan.alert} to end: it must not be active before the overload"
        return unseen

    def poll(self) -> Sequence[Event]:
        """See `Monitoring`."""
        found: list[Event] = []
        while self._arrived:
            at, payload = self._arrived.popleft()
            self._unread.append((at, payload))
            found += self._book.heard([_heard(one) for one in alertmanager.parse(at, payload)])
        now = self._clock()
        if now >= self._next_poll:
            self._next_poll = now + POLL
            found += self._poll_alerts()
        return [*found, *self._health.look(now, self._timing)]

    def notifications(self) -> Sequence[tuple[float, Mapping[str, Any]]]:
        """See `Monitoring`."""
        found, self._unread = self._unread, []
        return found

    def close(self) -> Sequence[str]:
        """See `Monitoring`; may be called more than once, and before `start`."""
        for process in (self._prometheus.process, self._alertmanager.process):
            if process is not None:
                process.signal(signal.SIGTERM)  # both at once, before one of them is waited for
        self._prometheus.stop()
        self._alertmanager.stop()
        self._receiver.__exit__()
        self._ask_prometheus.close()
        self._ask_alertmanager.close()
        return ()

    def _poll_alerts(self) -> Sequence[Event]:
        # A server that is down is found so by the look at its health.
        found: list[Alert] = []
        with suppress(OSError):
            found += self._book.polled(time.time(), [active(alert) for alert in self._ask_prometheus.alerts()])
        if self._book.undated:
            with suppress(OSError):
                found += self._book.heard([known(alert) for alert in self._ask_alertmanager.alerts()])
        return found


def _check(folder: Path, plan: Plan, faster: float) -> None:
    """Refuse what the shipped rules don't have, before anything is opened that would have to be closed again."""
    server = prometheus.Server(folder, "", faster)
    try:
        server.hold(plan.alert)
    except LookupError as error:
        raise MonitoringError(str(error)) from error
    if abs(plan.window - server.window) > 0.001 * plan.window:
        raise MonitoringError(
            f"the scenario averages utilization over {plan.window:g} s, and the shipped rules, {faster:g} times "
            f"faster, over {server.window:g} s: they must be the same"
        )


def _set_threshold(rules: Mapping[str, Any], name: str, value: float) -> None:
    """Have the rules compare with another threshold."""
    for document in rules.values():
        for group in document["groups"]:
            for rule in group["rules"]:
                if rule.get("record") == shipped.THRESHOLD and rule.get("labels", {}).get("threshold") == name:
                    rule["expr"] = f"vector({value!r})"


def _ended(server: prometheus.Server | alertmanager.Server) -> str:
    return server.process.ended if server.process else ""


def _heard(one: alertmanager.Notification) -> Heard:
    name, host = one.labels.get("alertname", ""), host_of(one.labels)
    return Heard(name, host, one.fires, one.starts, one.ends, one.fingerprint, one.at)
