"""A platform that somebody else runs, as Prometheus and a cluster tell of it; time passes only while somebody waits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from simulated import Clocks

from loadband.rebalance import production
from loadband.rebalance.access import Access
from loadband.rebalance.alertmanager import KnownAlert
from loadband.rebalance.api import Endpoint
from loadband.rebalance.events import Event, Expectation, Move, MoveState, Part, Plan
from loadband.rebalance.following import Following, Order, Sources
from loadband.rebalance.prometheus import ActiveAlert, PrometheusError
from loadband.rebalance.recording import Writer
from loadband.rebalance.run import Sink

ALERT = "LoadbandHostHot"
ACCESS = Access(Endpoint("http://prometheus"))
RULES: Sequence[Mapping[str, Any]] = [
    {
        "type": "recording",
        "name": "node:loadband_host_cpu:ratio",
        "query": "rate(x[2m])",
        "group": "hosts",
        "interval": 15.0,
    },
    {"type": "alerting", "name": ALERT, "query": "x > 1", "duration": 120, "group": "hosts", "interval": 15.0},
]
NODE_EXPORTER, LOADBAND = production._EXPORTERS


class Prometheus:
    """Stands for the client of a Prometheus that scrapes hosts every 15 s, each at a time of its own."""

    url = "http://prometheus"

    def __init__(self, clocks: Clocks, names: Sequence[str], cpus: float = 16.0) -> None:
        self.clocks = clocks
        self.cpus = dict.fromkeys(names, cpus)
        self.exporter = NODE_EXPORTER
        self.utilization = dict.fromkeys(names, 0.3)
        self.ahead = 0.0
        """Of its clock, seconds."""
        self.down = False
        self.rules_found: Sequence[Mapping[str, Any]] = RULES
        self.scrapes: str | None = "15s"
        """None: it has no list of targets."""
        self.alerting: list[ActiveAlert] = []
        self.unscraped: set[str] = set()
        self._busy = dict.fromkeys(names, 0.0)
        self._stamps = dict.fromkeys(names, 0.0)
        self.closed = False

    def __call__(self, _: Endpoint) -> Prometheus:
        return self

    def _may(self) -> None:
        if self.down:
            raise PrometheusError("http://prometheus/api/v1/query: connection refused")

    def labels(self, host: str) -> Mapping[str, str]:
        return {"job": "node", "instance": f"{host}:9100"}

    def _scrape(self) -> None:
        now = self.clocks.wall() + self.ahead
        for number, host in enumerate(self.cpus):
            phase = number % 15
            stamp = (now - phase) // 15 * 15 + phase
            if host not in self.unscraped and stamp > self._stamps[host]:
                passed = stamp - self._stamps[host] if self._stamps[host] else 15.0
                self._busy[host] += passed * self.utilization[host] * self.cpus[host]
                self._stamps[host] = stamp

    def query(self, expression: str, at: float | None = None) -> list[tuple[Mapping[str, str], float]]:
        self._may()
        self._scrape()
        kind = self.exporter
        values: Mapping[str, Mapping[str, float]] = {
            kind.there: self.cpus,
            kind.busy: self._busy,
            kind.stamps: self._stamps,
            kind.cpus.replace("%s", "120000ms"): self.cpus,
        }
        if expression == "time()":
            assert at is None
            return [({}, self.clocks.wall() + self.ahead)]
        if expression == kind.names:
            return [({**self.labels(host), "nodename": host}, 1.0) for host in self.cpus]
        found = values.get(expression, {})
        return [(self.labels(host), value) for host, value in found.items() if host not in self.unscraped]

    def alerts(self) -> list[ActiveAlert]:
        self._may()
        return list(self.alerting)

    def rules(self) -> Sequence[Mapping[str, Any]]:
        self._may()
        return self.rules_found

    def targets(self) -> list[Mapping[str, Any]]:
        if self.scrapes is None:
            raise PrometheusError("http://prometheus/api/v1/targets: 404 Not Found")
        return [{"labels": self.labels(host), "scrapeInterval": self.scrapes} for host in self.cpus]

    def config(self) -> Mapping[str, Any]:
        return {}

    def version(self) -> str:
        self._may()
        return "3.0.0"

    def close(self) -> None:
        self.closed = True

    def alert(self, host: str, *, fires: bool = True, since: float | None = None, **labels: str) -> None:
        """Have the awaited alert active about a host."""
        named = {"alertname": ALERT, **(labels or {"node": host})}
        self.alerting.append(ActiveAlert(named, fires, self.clocks.wall() if since is None else since))


class Alertmanager:
    """Stands for the client of an Alertmanager."""

    url = "http://alertmanager"

    def __init__(self) -> None:
        self.known: list[KnownAlert] = []
        self.down = False
        self.closed = False

    def __call__(self, _: Endpoint) -> Alertmanager:
        return self

    def alerts(self) -> list[KnownAlert]:
        if self.down:
            raise PrometheusError("http://alertmanager/api/v2/alerts: connection refused")
        return self.known

    def config(self) -> Mapping[str, Any]:
        return {"route": {"receiver": "all", "group_wait": "10s", "group_interval": "1m"}}

    def version(self) -> str:
        return "0.28"

    def close(self) -> None:
        self.closed = True


class Cluster:
    """Hosts, and moves that the test says."""

    resolution = 0.5

    def __init__(self, clocks: Clocks, names: Sequence[str]) -> None:
        self.clocks = clocks
        self.names = list(names)
        self.happened: list[Event] = []
        self.started = self.closed = False
        self._count = 0

    def start(self) -> None:
        self.started = True

    def describe(self) -> Part:
        return Part(name="simulated", version="1")

    def hosts(self) -> Collection[str]:
        return self.names

    def poll(self) -> Sequence[Event]:
        found, self.happened = self.happened, []
        return found

    def close(self) -> None:
        self.closed = True

    def move(self, name: str, source: str, destination: str, by: str = "descheduler: LowNodeUtilization") -> None:
        """Have a pod moved now, within two seconds."""
        self._count += 1
        for state, later in ((MoveState.ACCEPTED, 0.0), (MoveState.DONE, 2.0)):
            self.happened.append(
                Move(
                    at=self.clocks.wall() + later,
                    move=f"move-{self._count}",
                    state=state,
                    slice=name,
                    source=source,
                    destination=destination,
                    by=by,
                )
            )


def plan(**changes: Any) -> Plan:
    """What is judged of a recording."""
    fields = {
        "scenario": "production",
        "expect": Expectation.NOTHING,
        "alert": ALERT,
        "hot_hosts": (),
        "hot": 0.75,
        "theta": 0.25,
        "hold": 120.0,
        "settle": 2.0,
        "return_within": 600.0,
        "window": 120.0,
        "sample_interval": 15.0,
        "watch": 3600.0,
        "limits": {"alert_to_move": "<= 2m", "moves": "<= 100", "thrash": "== 0"},
    }
    return Plan(**{**fields, **changes})


class File:
    """A recording in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.writer: Writer | None = None

    def begin(self, run: Any) -> None:
        self.writer = Writer(self._path, run)

    def write(self, event: Event) -> None:
        assert self.writer
        self.writer.write(event)


@contextmanager
def servers(
    patch: pytest.MonkeyPatch, prometheus: Prometheus, alertmanager: Alertmanager | None = None
) -> Iterator[Access]:
    """Have these stand for the clients of both servers."""
    with patch.context() as inside:
        inside.setattr("loadband.rebalance.prometheus.Client", prometheus)
        inside.setattr("loadband.rebalance.alertmanager.Client", alertmanager)
        yield ACCESS if alertmanager is None else Access(ACCESS.prometheus, Endpoint(alertmanager.url))


def following(
    cluster: Cluster, known: production.Production, sink: Sink, seconds: float | None, **changes: Any
) -> Following:
    """What records a cluster for some seconds."""
    order = Order("run", plan(**changes), (), seconds)
    return Following(order, Sources(cluster, known), sink, cluster.clocks)
