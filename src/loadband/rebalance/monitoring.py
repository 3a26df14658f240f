"""A Prometheus and an Alertmanager of our own with the shipped rules, and what they say of a run."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from loadband.rebalance import alertmanager, prometheus
from loadband.rebalance.alerts import Active, AlertBook, Heard
from loadband.rebalance.events import Alert, Disturbance, Event, Part, Plan, Timing, Trouble
from loadband.rebalance.platforms import Target
from loadband.rebalance.programs import ProgramError
from loadband.rebalance.prometheus import Labels
from loadband.rebalance.run import MonitoringError

HOST_LABEL = "node"
"""The label of the shipped rules that names the host."""
UTILIZATION = "node:loadband_host_cpu:ratio"
"""The series of the shipped rules that has each host's utilization."""
THRESHOLD = "loadband:threshold:ratio"
POLL = 0.5
"""Seconds between two looks at the alerts."""
HEALTH = 2.0
"""Seconds between two looks at what is scraped and whether both servers live."""
LATE_SCRAPES = 3.0
"""Scrape intervals after which a target without a sample is missing one."""
LATE = 1.0
"""Seconds that may pass on top of that, on a machine that is busy on purpose."""


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
        self._hosts = frozenset(hosts)
        self._plan = plan
        self._clock = clock
        self._arrived: deque[tuple[float, Mapping[str, Any]]] = deque()
        """Filled by a thread of the receiver."""
        self._unread: list[tuple[float, Mapping[str, Any]]] = []
        """What the book has seen, and the rebalancer has not."""
        self._receiver = alertmanager.Receiver(lambda at, payload: self._arrived.append((at, payload)))
        self._alertmanager = alertmanager.Server(folder / "alertmanager", self._receiver.url, faster)
        self._prometheus = prometheus.Server(folder / "prometheus", self._alertmanager.address, faster)
        _set_threshold(self._prometheus.rules, "host_hot", plan.hot)
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
        self._book = AlertBook(self._timing.group_wait + self._timing.group_interval)
        self._next_poll = self._next_health = 0.0
        self._troubles: set[tuple[Trouble, str]] = set()
        """What is wrong now and recorded, and whose trouble it is."""

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
        timing = self._timing
        return [
            Part(
                name="prometheus",
                version=_version(self._ask_prometheus.version),
                interval=timing.evaluation,
                settings={"scrape_interval": f"{timing.scrape:g}s", "evaluation_interval": f"{timing.evaluation:g}s"},
            ),
            Part(
                name="alertmanager",
                version=_version(self._ask_alertmanager.version),
                settings={"group_wait": f"{timing.group_wait:g}s", "group_interval": f"{timing.group_interval:g}s"},
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
        timing, window = self._timing, self._plan.window
        least = int(window / timing.evaluation) - 1
        span = f"{round(1000 * window)}ms"
        try:
            whole = self._ask_prometheus.query(f"count_over_time({UTILIZATION}[{span}]) >= {least}")
            active = self._ask_prometheus.alerts()
        except OSError as error:
            return str(error)
        if unseen := self._hosts - {labels.get(HOST_LABEL) for labels, _ in whole}:
            return f"Prometheus to know the utilization of {', '.join(sorted(unseen))} over {window:g} s"
        if any(alert.name == self._plan.alert for alert in active):
            return f"the alert {self._plan.alert} to end: it must not be active before the overload"
        return ""

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
        if now >= self._next_health:
            self._next_health = now + HEALTH
            found += self._look_at_health()
        return found

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
            active = self._ask_prometheus.alerts()
            found += self._book.polled(
                time.time(), [Active(alert.name, _host(alert.labels), alert.fires, alert.since) for alert in active]
            )
        if self._book.undated:
            with suppress(OSError):
                found += self._book.heard([_known(alert) for alert in self._ask_alertmanager.alerts()])
        return found

    def _look_at_health(self) -> list[Disturbance]:
        troubles: dict[tuple[Trouble, str], str] = {}
        for name, ready, process in (
            ("prometheus", self._ask_prometheus.is_ready, self._prometheus.process),
            ("alertmanager", self._ask_alertmanager.is_ready, self._alertmanager.process),
        ):
            ended = process.ended if process else ""
            if ended or not ready():
                troubles[Trouble.MONITORING_DOWN, name] = ended or f"{name} doesn't answer"
        with suppress(OSError):
            troubles |= {(Trouble.SCRAPE_FAILED, host): detail for host, detail in self._unscraped().items()}
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

    def _unscraped(self) -> Mapping[str, str]:
        """Of each host without a fresh sample, why; an `OSError` if Prometheus doesn't answer."""
        up = {_host(labels): value for labels, value in self._ask_prometheus.query("up")}
        ages = {_host(labels): value for labels, value in self._ask_prometheus.query("time() - timestamp(up)")}
        most = LATE_SCRAPES * self._timing.scrape + LATE
        found = {}
        for host in sorted(self._hosts):
            if up.get(host) == 0:
                found[host] = f"Prometheus can't scrape the exporter of {host}"
            elif host in ages and ages[host] > most:
                found[host] = f"Prometheus has stored no sample of {host} for {ages[host]:.0f} s"
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
                if rule.get("record") == THRESHOLD and rule.get("labels", {}).get("threshold") == name:
                    rule["expr"] = f"vector({value!r})"


def _version(ask: Callable[[], str]) -> str:
    with suppress(OSError):
        return ask()
    return ""


def _host(labels: Labels) -> str:
    return labels.get(HOST_LABEL, "")


def _heard(one: alertmanager.Notification) -> Heard:
    return Heard(
        one.labels.get("alertname", ""), _host(one.labels), one.fires, one.starts, one.ends, one.fingerprint, one.at
    )


def _known(one: alertmanager.KnownAlert) -> Heard:
    name = one.labels.get("alertname", "")
    return Heard(
        name,
        _host(one.labels),
        fires=True,
        starts=one.starts,
        ends=None,
        fingerprint=one.fingerprint,
        arrived=None,
    )
