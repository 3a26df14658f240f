"""The real Prometheus and Alertmanager with the shipped rules, and an exporter whose host is as busy as asked for."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
from exporters import Exporter, exporting
from followed import ABOUT
from plans import plan

from loadband.rebalance.events import Alert, AlertState, Disturbance, Event, Trouble
from loadband.rebalance.exporter import LOOPBACK
from loadband.rebalance.exporter import Exporter as RunExporter
from loadband.rebalance.health import HEALTH
from loadband.rebalance.monitoring import Servers
from loadband.rebalance.platforms import Target
from loadband.rebalance.prometheus import Client
from loadband.rebalance.run import MonitoringError
from loadband.rebalance.shipped import UTILIZATION

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager"))),
    reason="prometheus and prometheus-alertmanager are needed",
)

FASTER = 60.0
PLAN = plan(alert="LoadbandHostHot", hot=0.6, window=2, sample_interval=0.25)


class Stage:
    """Servers that watch two hosts."""

    def __init__(self, folder: Path) -> None:
        self.exporters = {"a": Exporter(), "b": Exporter()}
        self.servers = Servers(folder, ["a", "b"], PLAN, FASTER)
        self.events: list[Event] = []
        self.bodies: list[object] = []
        self.targets: list[Target] = []

    @contextmanager
    def open(self, scrapes: RunExporter | None = None) -> Iterator[None]:
        if scrapes:
            scrapes.follow(ABOUT, PLAN)
            self.servers.scrape_exporter(scrapes.address)
        try:
            with exporting(self.exporters) as targets:
                self.targets += targets
                self.servers.start(self.targets)
                self.until(lambda: not self.servers.missing())
                yield
        finally:
            children = [psutil.Process(pid) for pid in self.servers.programs().values() if psutil.pid_exists(pid)]
            assert self.servers.close() == ()
            assert not any(child.is_running() for child in children)

    def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it never happens"
            self.events += self.servers.poll()
            self.bodies += self.servers.notifications()
            time.sleep(0.02)

    def alerts(self, *states: AlertState) -> list[Alert]:
        return [
            event
            for event in self.events
            if isinstance(event, Alert) and event.name == PLAN.alert and (not states or event.state in states)
        ]

    def recorded(self, state: str) -> float:
        """When the alert got to a state by Prometheus' own record: the time of the first sample of its series."""
        query = f'ALERTS{{alertname="{PLAN.alert}",node="a",alertstate="{state}"}}[5m]'
        answer = httpx.get(f"{self.servers.url}/api/v1/query", params={"query": query}, trust_env=False)
        (series,) = answer.json()["data"]["result"]
        return float(series["values"][0][0])

    def troubles(self, what: Trouble) -> list[Disturbance]:
        return [event for event in self.events if isinstance(event, Disturbance) and event.what is what]


def test_a_hot_host_goes_through_the_chain_and_each_state_has_its_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with RunExporter(LOOPBACK) as of_run, stage.open(scrapes=of_run):
        assert stage.servers.missing() == ""
        began = time.time()
        # Above the plan's threshold, and below the shipped one.
        stage.exporters["a"].utilization = 0.7
        stage.until(lambda: stage.alerts(AlertState.NOTIFIED))
        assert "LoadbandHostHot to end" in stage.servers.missing()
        stage.exporters["a"].utilization = 0.2
        stage.until(lambda: stage.alerts(AlertState.RESOLVED))
        timing = stage.servers.timing
        assert timing
        assert timing.group_wait
        alerts = stage.alerts()
        assert [alert.state for alert in alerts] == list(AlertState)[:4]
        assert {(alert.host, alert.resolution) for alert in alerts} == {("a", 0.0)}
        pending, firing, notified, resolved = (alert.at for alert in alerts)
        slack = 1.0
        assert began < pending < began + PLAN.window + timing.scrape + timing.evaluation + slack
        assert timing.alert_for <= firing - pending + 0.001 < timing.alert_for + timing.evaluation + slack
        assert timing.group_wait <= notified - firing < timing.group_wait + slack
        assert notified < resolved < time.time()
        assert len({alert.fingerprint for alert in alerts[1:]}) == 1
        for alert, state in ((alerts[0], "pending"), (alerts[1], "firing")):
            assert alert.at == pytest.approx(stage.recorded(state), abs=0.002)
        assert len(stage.bodies) >= 2
        assert [event for event in stage.events if isinstance(event, Disturbance)] == []
        assert stage.servers.url
        with Client(stage.servers.url) as asked:
            (((labels, _),), hosts) = (asked.query(name) for name in ("loadband_rebalance_repeat", UTILIZATION))
        # The run's own metrics are scraped, and make neither a host nor a regulator of it.
        assert labels == {"__name__": "loadband_rebalance_repeat", "job": "rebalance", "instance": of_run.address}
        assert {host["node"] for host, _ in hosts} == {"a", "b"}


def test_what_is_broken_is_reported_once_and_alerts_are_dated_by_polls_then(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with stage.open():
        assert_described(stage.servers)
        psutil.Process(stage.servers.programs()["alertmanager"]).kill()
        stage.servers._prometheus.targets(
            [(target.address, target.labels) for target in stage.targets if target.labels["node"] == "a"]
            + [("127.0.0.1:1", {"cluster": "lab", "node": "b"})]
        )
        stage.exporters["a"].utilization = 0.9
        stage.until(lambda: stage.alerts(AlertState.FIRING))
        (firing,) = stage.alerts(AlertState.FIRING)
        assert 0 < firing.resolution < 2
        stage.until(lambda: stage.troubles(Trouble.SCRAPE_FAILED))
        assert {one.host for one in stage.troubles(Trouble.SCRAPE_FAILED)} == {"b"}

        psutil.Process(stage.servers.programs()["prometheus"]).send_signal(signal.SIGKILL)
        stage.until(lambda: len(stage.troubles(Trouble.MONITORING_DOWN)) > 1)
        over = time.monotonic() + 2.5 * HEALTH
        stage.until(lambda: time.monotonic() > over)
        alertmanager, prometheus = stage.troubles(Trouble.MONITORING_DOWN)
        assert (alertmanager.who, prometheus.who) == ("alertmanager", "prometheus")
        assert "was ended by signal 9" in alertmanager.detail
        assert "was ended by signal 9" in prometheus.detail


def assert_described(servers: Servers) -> None:
    prometheus, alertmanager = servers.describe()
    assert (prometheus.name, alertmanager.name) == ("prometheus", "alertmanager")
    assert prometheus.version[0].isdigit()
    assert alertmanager.version[0].isdigit()
    assert prometheus.interval == 0.25
    assert prometheus.settings == {"scrape_interval": "0.25s", "evaluation_interval": "0.25s"}
    assert servers.timing
    assert (servers.timing.alert_for, servers.timing.faster) == (2.0, FASTER)
    assert set(servers.programs()) == {"prometheus", "alertmanager"}


def test_a_plan_that_the_shipped_rules_cannot_serve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MonitoringError, match="there is no alert 'LoadbandHostHott'"):
        Servers(tmp_path, ["a"], replace(PLAN, alert="LoadbandHostHott"), FASTER)
    with pytest.raises(MonitoringError, match="over 3 s, and the shipped rules, 60 times faster, over 2 s"):
        Servers(tmp_path, ["a"], replace(PLAN, window=3), FASTER)
