"""A Prometheus and an Alertmanager that are somebody else's: the real programs, and canned answers."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from exporters import Exporter, exporting
from plans import plan
from simulated import Clocks, Machine

from loadband.exits import Exit
from loadband.rebalance import alertmanager, prometheus
from loadband.rebalance.access import Access
from loadband.rebalance.api import Endpoint
from loadband.rebalance.cli import main
from loadband.rebalance.events import Alert, AlertState, Disturbance, Event, Plan, Timing, Trouble
from loadband.rebalance.existing import Existing
from loadband.rebalance.health import HEALTH, POLL
from loadband.rebalance.programs import wait_for
from loadband.rebalance.rebalancers.mover import Alerts
from loadband.rebalance.run import MonitoringError
from loadband.rebalance.session import PLATFORMS

FASTER = 60.0
PLAN = plan(alert="LoadbandHostHot", window=2, sample_interval=0.25)
TOKEN = "a-token-that-nobody-may-see"


class Watched:
    """What a monitoring said."""

    def __init__(self, monitoring: Existing) -> None:
        self.monitoring = monitoring
        self.events: list[Event] = []
        self.bodies: list[Mapping[str, Any]] = []

    def poll(self) -> None:
        self.events += self.monitoring.poll()
        self.bodies += [body for _, body in self.monitoring.notifications()]

    def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it never happens"
            self.poll()
            time.sleep(0.02)

    def alerts(self, *states: AlertState) -> list[Alert]:
        return [one for one in self.events if isinstance(one, Alert) and (not states or one.state in states)]

    def troubles(self) -> list[Disturbance]:
        return [one for one in self.events if isinstance(one, Disturbance)]

    def told(self) -> list[tuple[str, str]]:
        """Status and host of each notification about the awaited alert."""
        alerts = [alert for body in self.bodies for alert in body["alerts"]]
        return [
            (alert["status"], alert["labels"]["node"]) for alert in alerts if alert["labels"]["alertname"] == PLAN.alert
        ]


@pytest.mark.skipif(
    not (shutil.which("prometheus") and (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager"))),
    reason="prometheus and prometheus-alertmanager are needed",
)
def test_real_servers_with_the_shipped_rules_are_read_and_polled(tmp_path: Path) -> None:
    notifies = alertmanager.Server(tmp_path / "alertmanager", "http://127.0.0.1:9/", FASTER)
    scrapes = prometheus.Server(tmp_path / "prometheus", notifies.address, FASTER)
    # Host c is somebody else's, and hot all the time.
    exporters = {"a": Exporter(0.2), "b": Exporter(0.2), "c": Exporter(0.95)}
    access = Access(Endpoint(scrapes.url), Endpoint(notifies.url))
    with exporting(exporters) as targets, notifies, scrapes, prometheus.Client(scrapes.url) as asked:
        scrapes.targets([(target.address, target.labels) for target in targets])
        wait_for(lambda: asked.query("loadband:threshold:ratio"), 30, "the rules to be evaluated")
        monitoring = Existing(access, ["a", "b"], PLAN)
        try:
            _play(Watched(monitoring), exporters, notifies)
        finally:
            assert monitoring.close() == ()


def _play(watched: Watched, exporters: Mapping[str, Exporter], notifies: alertmanager.Server) -> None:
    monitoring = watched.monitoring
    assert monitoring.programs() == {}
    assert "Prometheus to know the utilization of a, b over 2 s" in monitoring.missing()
    watched.until(lambda: not monitoring.missing())
    _assert_described(monitoring)
    began = time.time()
    exporters["a"].utilization = 0.9
    watched.until(lambda: watched.alerts(AlertState.NOTIFIED))
    assert "LoadbandHostHot to end" in monitoring.missing()

    # It comes back at once and knows nothing, until Prometheus repeats the alert.
    assert notifies.process
    notifies.process.stop()
    notifies.start()
    with alertmanager.Client(notifies.url) as knows:
        watched.until(lambda: any(one.labels.get("node") == "a" for one in knows.alerts()))
    over = time.monotonic() + 3 * POLL
    watched.until(lambda: time.monotonic() > over)
    assert watched.told() == [("firing", "a")]

    exporters["a"].utilization = 0.2
    watched.until(lambda: len(watched.told()) > 1 and watched.alerts(AlertState.RESOLVED))
    assert watched.told() == [("firing", "a"), ("resolved", "a")]
    heard = Alerts(PLAN.alert)
    assert [heard.hear(body) for body in watched.bodies] == [0] * len(watched.bodies)
    assert heard.hosts == ()

    about = [alert for alert in watched.alerts() if alert.name == PLAN.alert]
    assert [alert.state for alert in about] == list(AlertState)[:4]
    assert {alert.host for alert in about} == {"a"}
    pending, firing, notified, resolved = about
    assert began < pending.at < firing.at < notified.at < resolved.at < time.time()
    assert [one.resolution for one in about[:3]] == [0.0, 0.0, 0.0]
    assert 0 < resolved.resolution < 2
    assert notified.at - firing.at < POLL + 1.0

    notifies.stop()
    watched.until(watched.troubles)
    over = time.monotonic() + 1.5 * HEALTH
    watched.until(lambda: time.monotonic() > over)
    (trouble,) = watched.troubles()
    assert (trouble.what, trouble.who) == (Trouble.MONITORING_DOWN, "alertmanager")
    assert trouble.detail.startswith(f"no answer: {notifies.url}/api/v2/status: ")


def _assert_described(monitoring: Existing) -> None:
    timing = monitoring.timing
    assert timing == Timing(
        scrape=0.25, evaluation=0.25, alert_for=2.0, group_wait=0.167, group_interval=1.0, polled=POLL
    )
    asked, notifies = monitoring.describe()
    assert asked.version[0].isdigit()
    assert asked.settings == {
        "url": monitoring.url,
        "scrape_interval": "0.25s, job loadband",
        "evaluation_interval": "0.25s, group loadband-hosts",
        "for": "2s, alert LoadbandHostHot",
        "window": "2s, the rules of node:loadband_host_cpu:ratio",
        "hot": "0.75, loadband:threshold:ratio",
        "notifications": "made from Alertmanager's list of alerts, every 0.5s",
    }
    assert notifies.version[0].isdigit()
    assert notifies.settings["group_wait"] == "0.167s, route to test-load"
    assert notifies.settings["group_interval"] == "1s, route to test-load"


# Canned answers

RULES = [
    {
        "name": "hosts",
        "interval": 15,
        "rules": [
            {
                "type": "recording",
                "name": "instance:loadband_cpu:ratio",
                "query": "rate(loadband_cpu_seconds_total[2m])",
            },
            {
                "type": "recording",
                "name": "node:loadband_host_cpu:ratio",
                "query": "max by (node) (instance:loadband_cpu:ratio)",
            },
            {
                "type": "alerting",
                "name": "LoadbandHostHot",
                "query": "node:loadband_host_cpu:ratio > 0.75",
                "duration": 120,
                "labels": {"test_load": "true"},
            },
        ],
    }
]
SLOW = replace(PLAN, window=120, watch=600)
HOT_SINCE = "2026-11-27T12:00:00Z"


class Canned:
    """Both servers behind one address, each below a path of its own. Attributes may be changed at any time."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = deepcopy(RULES)
        self.hot = [0.75]
        self.exporters = [{"job": "loadband", "instance": "x:1"}]
        self.targets = [{"labels": {"job": "loadband", "instance": "x:1"}, "scrapeInterval": "15s"}]
        self.seen = ["a", "b"]
        self.ages = {"a": 1.0, "b": 1.0}
        self.config = "global: {scrape_interval: 30s, external_labels: {cluster: c1}}"
        self.alerting: list[dict[str, Any]] = []
        self.known: list[dict[str, Any]] = []
        self.route = "{receiver: all, routes: [{receiver: test, matchers: ['test_load=\"true\"'], group_wait: 10s}]}"
        self.token: str | None = None
        self.down: set[str] = set()

    def answer(self, path: str, query: str) -> Any:
        documents: Mapping[str, Callable[[], Any]] = {
            "/prom/api/v1/rules": lambda: {"groups": self.rules},
            "/prom/api/v1/status/config": lambda: {"yaml": self.config},
            "/prom/api/v1/status/buildinfo": lambda: {"version": "3.0.0"},
            "/prom/api/v1/targets": lambda: {"activeTargets": self.targets},
            "/prom/api/v1/alerts": lambda: {"alerts": self.alerting},
            "/prom/api/v1/query": lambda: {"resultType": "vector", "result": self._samples(query)},
            "/am/api/v2/status": lambda: {
                "versionInfo": {"version": "0.28"},
                "config": {"original": f"route: {self.route}"},
            },
            "/am/api/v2/alerts": lambda: self.known,
        }
        return documents.get(path, lambda: None)()

    def _samples(self, query: str) -> list[dict[str, Any]]:
        if query.startswith("group by (job, instance)"):
            found: list[tuple[Mapping[str, str], float]] = [(labels, 1.0) for labels in self.exporters]
        elif query.startswith("loadband:threshold:ratio"):
            found = [({"threshold": "host_hot"}, value) for value in self.hot]
        elif query.startswith("count_over_time"):
            found = [({"node": host}, 8.0) for host in self.seen]
        else:
            found = [({"node": host}, age) for host, age in self.ages.items()]
        return [{"metric": labels, "value": [0, str(value)]} for labels, value in found]

    def alert(self, host: str | None, state: str = "firing") -> None:
        """Have the awaited alert active in both servers, about a host or none."""
        labels = {"alertname": PLAN.alert, "test_load": "true"} | ({} if host is None else {"node": host})
        self.alerting.append({"labels": labels, "annotations": {}, "state": state, "activeAt": HOT_SINCE})
        if state == "firing":
            self.known.append(
                {
                    "labels": labels | {"cluster": "c1"},
                    "annotations": {"summary": "hot"},
                    "fingerprint": f"f-{host}",
                    "startsAt": "2026-11-27T12:02:00Z",
                    "endsAt": "2026-11-27T12:09:00Z",
                    "status": {"state": "active"},
                }
            )


@pytest.fixture
def canned() -> Iterator[tuple[Canned, Access]]:
    state = Canned()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, document = 200, state.answer(parts.path, parse_qs(parts.query).get("query", [""])[0])
            if state.token is not None and self.headers["Authorization"] != f"Bearer {state.token}":
                status, document = 401, None
            elif parts.path.split("/")[1] in state.down or document is None:
                status, document = 503, None
            body = {"status": "success", "data": document} if parts.path.startswith("/prom/") else document
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"no" if document is None else json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield state, Access(Endpoint(f"{url}/prom/"), Endpoint(f"{url}/am"))
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def existing(access: Access, plan: Plan = SLOW, hosts: Sequence[str] = ("a", "b")) -> Iterator[Watched]:
    monitoring = Existing(access, hosts, plan, Clock())
    try:
        yield Watched(monitoring)
    finally:
        monitoring.close()


class Clock:
    """Whenever it is asked, the time for all looks has come."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += max(POLL, HEALTH)
        return self.now


def refusal(access: Access, plan: Plan = SLOW) -> str:
    with pytest.raises(MonitoringError) as raised, existing(access, plan):
        pass
    return str(raised.value)


def test_what_is_in_force_is_read_below_a_path(canned: tuple[Canned, Access]) -> None:
    _, access = canned
    with existing(access) as watched:
        assert watched.monitoring.timing == Timing(
            scrape=15, evaluation=15, alert_for=120, group_wait=10, group_interval=300, polled=POLL
        )
        assert watched.monitoring.url == access.prometheus.url.rstrip("/")
        _, notifies = watched.monitoring.describe()
        assert notifies.settings["group_interval"] == "300s, Alertmanager's default"
        assert watched.monitoring.missing() == ""


def test_without_an_alertmanager_what_it_waits_is_not_known(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    with existing(Access(access.prometheus)) as watched:
        timing = watched.monitoring.timing
        assert timing
        assert (timing.group_wait, timing.group_interval) == (None, None)
        (part,) = watched.monitoring.describe()
        assert part.settings["notifications"] == "made from Prometheus's list of alerts, every 0.5s"
        state.alert("a", "pending")
        watched.poll()
        began = time.time()
        state.alerting[0]["state"] = "firing"
        watched.poll()
        watched.poll()
        assert [alert.state for alert in watched.alerts()] == list(AlertState)[:3]
        _, firing, notified = watched.alerts()
        assert began <= firing.at == notified.at <= time.time()
        assert firing.resolution > 0
        state.alerting.clear()
        watched.poll()
        assert watched.told() == [("firing", "a"), ("resolved", "a")]
        state.alert("a")
        state.alerting[0]["activeAt"] = "2099-01-01T00:00:00Z"
        watched.poll()
        assert watched.told()[2:] == [("firing", "a")]


def test_a_plan_that_does_not_agree_with_what_is_in_force_is_refused(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    url = access.prometheus.url.rstrip("/")
    assert refusal(access, replace(SLOW, window=8)) == (
        f"{url}: the scenario averages utilization over 8 s, and the rules in force over 120 s: "
        "set `faster = 1` in the scenario"
    )
    assert "calls a host hot from 60 %, and the rules in force from 75 %" in refusal(access, replace(SLOW, hot=0.6))
    assert "there is no alert 'Hott' in its rules; there are LoadbandHostHot" in refusal(
        access, replace(SLOW, alert="Hott")
    )
    assert (
        "the scenario watches for 60 s, and by what is in force LoadbandHostHot may take 280 s "
        "(window 120, scrape 15, evaluation 15, for 120, group_wait 10): set `watch`"
    ) in refusal(access, replace(SLOW, watch=60))
    state.hot = [0.75, 0.8]
    assert "from 75 % and 80 %" in refusal(access)
    state.hot = []
    assert "has no value, so nobody can say from when on a host is hot" in refusal(access)


def test_rules_that_cannot_serve_are_refused(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    state.rules[0]["rules"][0]["query"] = "rate(loadband_cpu_seconds_total[2m]) + rate(x[5m])"
    assert "over 120 s and 300 s: it must be one" in refusal(access)
    del state.rules[0]["rules"][1]
    assert "none of its rules records node:loadband_host_cpu:ratio" in refusal(access)
    state.rules = []
    assert "there is none at all" in refusal(access)


def test_a_scrape_interval_that_nobody_knows_is_not_made_up(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    state.targets = []
    assert "none of its own targets exports loadband_cpu_seconds_total" in refusal(access)
    state.exporters = []
    with existing(access) as watched:
        # The platform may yet start the exporters: until then, what is configured for all counts.
        assert watched.monitoring.timing
        assert watched.monitoring.timing.scrape == 30
        state.exporters, state.targets = Canned().exporters, Canned().targets
        assert watched.monitoring.missing() == ""
        assert watched.monitoring.timing.scrape == 15
        state.targets = []
        with pytest.raises(MonitoringError, match="none of its own targets"):
            watched.monitoring.missing()


def test_hosts_that_are_not_seen_and_an_alert_that_is_active_are_missing(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    with existing(access) as watched:
        state.seen = ["a"]
        assert watched.monitoring.missing() == "Prometheus to know the utilization of b over 120 s"
        state.seen = ["a", "b"]
        state.alert("c")
        assert watched.monitoring.missing() == ""
        state.alert("a")
        state.alerting.clear()
        assert watched.monitoring.missing().startswith(
            "the alert LoadbandHostHot to end"
        )  # Alertmanager knows it still
        state.down = {"am"}
        assert "/am/api/v2/alerts: 503 Service Unavailable" in watched.monitoring.missing()


def test_notifications_have_the_form_of_the_webhook(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    with existing(access) as watched:
        state.alert("a")
        state.alert("c")
        began = time.time()
        watched.poll()
        (body,) = watched.bodies
        (one,) = alertmanager.parse(began, body)
        assert (body["version"], body["status"], body["receiver"]) == ("4", "firing", "loadband")
        assert (one.fires, one.fingerprint, one.annotations) == (True, "f-a", {"summary": "hot"})
        assert one.labels == {"alertname": PLAN.alert, "test_load": "true", "node": "a", "cluster": "c1"}
        (notified,) = watched.alerts(AlertState.NOTIFIED)
        assert began <= notified.at <= time.time()
        state.alerting.clear()
        state.known.clear()
        watched.poll()
        _, body = watched.bodies
        (resolved,) = alertmanager.parse(began, body)
        assert (body["status"], resolved.fires, resolved.starts) == ("resolved", False, one.starts)
        assert resolved.ends
        assert began <= resolved.ends <= time.time()


def test_a_silenced_alert_fires_and_notifies_nobody(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    with existing(access) as watched:
        state.alert("a")
        state.known[0]["status"] = {"state": "suppressed"}
        watched.poll()
        watched.poll()
        assert [alert.state for alert in watched.alerts()] == [AlertState.PENDING, AlertState.FIRING]
        assert watched.bodies == []
        state.known[0]["status"] = {"state": "active"}
        watched.poll()
        assert watched.told() == [("firing", "a")]


def test_what_alertmanager_forgets_and_hears_again_is_notified_of_once(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    with existing(access) as watched:
        state.alert("a")
        watched.poll()
        forgotten, state.known = state.known, []
        watched.poll()
        state.known = forgotten
        watched.poll()
        assert watched.told() == [("firing", "a")]
        # Another episode is another notification.
        state.known[0]["startsAt"] = "2026-11-27T13:00:00Z"
        watched.poll()
        assert watched.told() == [("firing", "a"), ("firing", "a")]


def test_an_awaited_alert_that_names_no_host_ends_the_run(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    with existing(access) as watched:
        state.alert(None)
        with pytest.raises(MonitoringError, match="LoadbandHostHot has no label node"):
            watched.poll()


def test_servers_that_are_down_and_hosts_that_are_not_scraped_are_reported_once(
    canned: tuple[Canned, Access],
) -> None:
    state, access = canned
    with existing(access) as watched:
        state.alert("a")
        watched.poll()
        assert watched.troubles() == []
        state.ages = {"a": 200.0}
        watched.poll()
        watched.poll()
        assert [(one.what, one.host, one.detail) for one in watched.troubles()] == [
            (Trouble.SCRAPE_FAILED, "a", "Prometheus has stored no sample of a for 200 s"),
            (Trouble.SCRAPE_FAILED, "b", "Prometheus can't scrape the exporter of b"),
        ]
        watched.events.clear()
        state.down = {"am", "prom"}
        watched.poll()
        watched.poll()
        assert [(one.what, one.who) for one in watched.troubles()] == [
            (Trouble.MONITORING_DOWN, "prometheus"),
            (Trouble.MONITORING_DOWN, "alertmanager"),
        ]
        # Nobody can say that it has ended.
        assert watched.told() == [("firing", "a")]


def test_the_token_is_sent_and_never_shown(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    state.token = TOKEN
    assert "401 Unauthorized" in refusal(access)
    assert access.alertmanager
    tokens = Access(Endpoint(access.prometheus.url, TOKEN), Endpoint(access.alertmanager.url, TOKEN))
    with existing(tokens) as watched:
        assert watched.monitoring.missing() == ""
        assert TOKEN not in repr([tokens, watched.monitoring.describe(), watched.monitoring.url])
    state.token = "another"
    assert TOKEN not in refusal(tokens)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """What a dry run gives: exit code, and both outputs."""
    try:
        code = main(["run", "hot-host", "--dry-run", *words], lambda _: True)
    except SystemExit as ended:
        code = int(str(ended.code))
    said = capsys.readouterr()
    return code, " ".join(said.out.split()), said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prometheus", "prometheus:9090"], "--prometheus: 'prometheus:9090' must be http://host:port or https://"),
        (["--prometheus", "http://me:secret@host"], "--prometheus: 'http://***@host' must be http://host:port"),
        (["--prometheus", "http://[::1"], "must be http://host:port"),
        (["--alertmanager", "http://host/?a=b"], "--alertmanager: 'http://host/?a=b' must be http://host:port"),
        (["--alertmanager", "http://host"], "--alertmanager needs --prometheus"),
        (["--prometheus", "http://host"], "the platform local are CPUs of this machine that only the run's own"),
    ],
)
def test_servers_that_cannot_be_used_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out, said in err) == (Exit.BAD_INPUT, "", True), err


def test_a_token_that_is_none_is_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--platform", "kubernetes", "--prometheus", "http://host", "--alertmanager", "http://host/am"
    monkeypatch.setenv("LOADBAND_PROMETHEUS_TOKEN", "a b")
    code, _, err = run(capsys, *words)
    assert (code, "LOADBAND_PROMETHEUS_TOKEN='(secret)': must be 1..4000 of the characters" in err) == (2, True)
    assert "a b" not in err
    monkeypatch.delenv("LOADBAND_PROMETHEUS_TOKEN")
    monkeypatch.setenv("LOADBAND_ALERTMANAGER_TOKEN_FILE", str(tmp_path / "token"))
    code, _, err = run(capsys, *words)
    assert (code, "LOADBAND_ALERTMANAGER_TOKEN_FILE=" in err, "cannot be read: No such file" in err) == (2, True, True)


def test_a_dry_run_shows_what_is_in_force(
    canned: tuple[Canned, Access],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state, access = canned
    assert access.alertmanager
    state.token = TOKEN
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("LOADBAND_PROMETHEUS_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("LOADBAND_ALERTMANAGER_TOKEN", TOKEN)
    monkeypatch.setitem(PLATFORMS, "kubernetes", lambda *_: Machine(Clocks(), ["a", "b"]))
    scenario = tmp_path / "slow.toml"
    scenario.write_text('faster = 1\n[phases]\nwatch = "10m"\n')
    words = "--platform", "kubernetes", "--prometheus", access.prometheus.url, "--alertmanager", access.alertmanager.url
    code = main(["run", str(scenario), "--dry-run", *words], lambda _: True)
    said = " ".join(capsys.readouterr().out.split())
    assert code == 0
    for part in ("prometheus 3.0.0", "scrape_interval: 15s, job loadband", "group_wait: 10s, route to test"):
        assert part in said
    assert TOKEN not in said
    code, _, err = run(capsys, *words)
    assert (code, "set `faster = 1` in the scenario" in err) == (Exit.BAD_INPUT, True)

    assert main(["check", str(scenario), *words[2:]], lambda _: True) == 0
    assert "scrape_interval: 15s, job loadband" in " ".join(capsys.readouterr().out.split())
    assert main(["check", "hot-host", *words[2:]], lambda _: True) == Exit.BAD_INPUT
    assert "set `faster = 1` in the scenario" in capsys.readouterr().err
    monkeypatch.setenv("LOADBAND_ALERTMANAGER_TOKEN", "a b")
    assert main(["check", "hot-host", *words[2:]], lambda _: True) == Exit.BAD_INPUT
    assert "LOADBAND_ALERTMANAGER_TOKEN='(secret)': must be" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rules": 3}, "/prom/api/v1/rules: 200 OK, and not what Prometheus answers"),
        ({"config": "["}, "/prom/api/v1/status/config: 200 OK, and not what Prometheus answers"),
        ({"config": "3"}, "/prom/api/v1/status/config: 200 OK, and not what Prometheus answers"),
        ({"route": "["}, "/am/api/v2/status: 200 OK, and not what Alertmanager answers"),
        ({"targets": [{**Canned().targets[0], "scrapeInterval": "1w"}]}, "/prom: can't be read: '1w' isn't a duration"),
    ],
)
def test_answers_that_cannot_be_read_are_named(
    canned: tuple[Canned, Access], change: dict[str, Any], said: str
) -> None:
    state, access = canned
    vars(state).update(change)
    assert said in refusal(access)


def test_a_server_that_is_down_when_the_recording_begins_has_no_version(canned: tuple[Canned, Access]) -> None:
    state, access = canned
    with existing(access) as watched:
        state.down = {"am"}
        assert [part.version for part in watched.monitoring.describe()] == ["3.0.0", ""]


def test_what_is_no_prometheus_is_named(canned: tuple[Canned, Access]) -> None:
    _, access = canned
    assert access.alertmanager
    said = refusal(Access(Endpoint(access.alertmanager.url)))
    assert said.startswith(f"{access.alertmanager.url}/api/v1/rules: 503 Service Unavailable, and no JSON")
