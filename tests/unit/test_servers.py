"""The clients and servers of Prometheus and Alertmanager, with the real programs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from loadband.rebalance import alertmanager, prometheus, shipped
from loadband.rebalance.alertmanager import PayloadError, Receiver, parse
from loadband.rebalance.programs import wait_for
from loadband.rebalance.prometheus import PrometheusError, instant

FASTER = 15.0
FIRES = {
    "groups": [{"name": "test", "rules": [{"alert": "Test", "expr": "vector(1)", "labels": {"test_load": "true"}}]}]
}


class Stack:
    """Both servers, with a rule that fires at once."""

    def __init__(self, folder: Path) -> None:
        self.heard: list[tuple[float, Mapping[str, Any]]] = []
        self.receiver = Receiver(lambda at, payload: self.heard.append((at, payload)))
        self.alertmanager = alertmanager.Server(folder / "alertmanager", self.receiver.url, FASTER)
        self.prometheus = prometheus.Server(folder / "prometheus", self.alertmanager.address, FASTER)
        self.prometheus.rules["test.yaml"] = FIRES


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if shutil.which("prometheus") is None or shutil.which("prometheus-alertmanager") is None:
        pytest.skip("prometheus and prometheus-alertmanager are not both installed")
    made = Stack(tmp_path_factory.mktemp("stack"))
    with made.receiver, made.alertmanager, made.prometheus:
        yield made


def test_an_alert_goes_all_the_way_and_all_say_the_same_times(stack: Stack) -> None:
    with prometheus.Client(stack.prometheus.url) as asked, alertmanager.Client(stack.alertmanager.url) as knows:
        wait_for(lambda: stack.heard, 30, "a notification")
        at, payload = stack.heard[0]
        (notification,) = parse(at, payload)
        assert notification.fires
        assert notification.labels["alertname"] == "Test"
        (known,) = (one for one in knows.alerts() if one.labels["alertname"] == "Test")
        assert known.starts == notification.starts
        assert known.fingerprint == notification.fingerprint
        (active,) = (one for one in asked.alerts() if one.name == "Test")
        assert active.fires
        assert active.since == pytest.approx(known.starts, abs=0.01)  # it has no `for`
        # Shipped, a group waits 10 s, and the rules are evaluated every 15.
        assert stack.alertmanager.group_wait == pytest.approx(10 / FASTER, abs=0.001)
        assert notification.at - notification.starts < stack.alertmanager.group_wait + 5


def test_queries_give_labels_and_values(stack: Stack) -> None:
    with prometheus.Client(stack.prometheus.url) as asked:
        assert asked.query("1 + 1") == [({}, 2.0)]
        assert asked.query('label_replace(vector(3), "a", "b", "", "")') == [({"a": "b"}, 3.0)]
        assert asked.query("time()", at=1000.0) == [({}, 1000.0)]
        ((labels, points),) = asked.range("vector(5)", 1000.0, 1002.0, 1.0)
        assert (labels, points) == ({}, [[1000.0, 5.0], [1001.0, 5.0], [1002.0, 5.0]])
        assert asked.version()
        with pytest.raises(PrometheusError, match=r"1 \+: .*parse error"):
            asked.query("1 +")


def test_rules_and_targets_are_what_was_configured(stack: Stack) -> None:
    target = stack.prometheus.url.removeprefix("http://")
    stack.prometheus.targets([(target, {"node": "host-a"})])
    with prometheus.Client(stack.prometheus.url) as asked:
        names = {rule["name"] for rule in asked.rules()}
        assert {"LoadbandHostHot", "node:loadband_host_cpu:ratio", "Test"} <= names
        assert {rule["interval"] for rule in asked.rules()} == {stack.prometheus.evaluation}

        def is_scraped() -> bool:
            return [(one["labels"]["node"], one["health"]) for one in asked.targets()] == [("host-a", "up")]

        wait_for(is_scraped, 30, "the target to be scraped")


def test_the_clients_say_who_does_not_answer() -> None:
    with prometheus.Client("http://127.0.0.1:1") as asked:
        assert not asked.is_ready()
        with pytest.raises(PrometheusError, match=r"http://127\.0\.0\.1:1/api/v1/alerts: "):
            asked.alerts()
    with alertmanager.Client("http://127.0.0.1:1") as knows:
        assert not knows.is_ready()
        with pytest.raises(alertmanager.AlertmanagerError, match=r"http://127\.0\.0\.1:1/api/v2/alerts: "):
            knows.alerts()


@pytest.fixture
def nonsense() -> Iterator[str]:
    """A server that answers everything with 404 and words."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"what?")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_clients_name_what_is_no_prometheus(nonsense: str) -> None:
    with prometheus.Client(nonsense) as asked, pytest.raises(PrometheusError, match="404 Not Found, and no JSON"):
        asked.alerts()
    with (
        alertmanager.Client(nonsense) as knows,
        pytest.raises(alertmanager.AlertmanagerError, match="404 Not Found, and no JSON"),
    ):
        knows.alerts()


def test_the_shipped_timing_is_divided(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    server = prometheus.Server(tmp_path, "127.0.0.1:9", FASTER)
    assert (server.scrape, server.evaluation) == (1.0, 1.0)
    assert server.hold("LoadbandHostHot") == 8.0
    assert server.window == 8.0
    with pytest.raises(LookupError, match="'Nonsense'"):
        server.hold("Nonsense")


@pytest.mark.parametrize(
    ("written", "read"), [("15s", 15), ("1h30m", 5400), ("250ms", 0.25), ("1d", 86400), ("1m30s500ms", 90.5)]
)
def test_durations_are_read_as_prometheus_reads_them(written: str, read: float) -> None:
    assert shipped.seconds(written) == read


@pytest.mark.parametrize("written", ["", "15", "s", "1 s", "1w", "-1s"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="isn't a duration"):
        shipped.seconds(written)


def test_shortening_changes_durations_and_nothing_else() -> None:
    document = yaml.safe_load(
        "{groups: [{name: 5m, interval: 30s, rules: [{alert: A, expr: 'rate(x[2m]) > 5', for: 2m, labels: {for: x}}]}]}"
    )
    document["groups"][0]["rules"][0]["labels"] = {"severity": "5m"}
    (group,) = shipped.shorten(document, 2)["groups"]
    assert group == {
        "name": "5m",
        "interval": "15000ms",
        "rules": [{"alert": "A", "expr": "rate(x[60000ms]) > 5", "for": "60000ms", "labels": {"severity": "5m"}}],
    }


def test_times_are_read_with_their_offset() -> None:
    assert instant("1970-01-01T00:00:01.500000001Z") == pytest.approx(1.5, abs=1e-6)
    assert instant("1970-01-01T02:00:01+02:00") == 1.0
    with pytest.raises(ValueError, match="x"):
        instant("x")


ALERT = {
    "status": "resolved",
    "labels": {"alertname": "A", "node": "n"},
    "annotations": {"summary": "s"},
    "startsAt": "2026-11-27T12:00:00Z",
    "endsAt": "2026-11-27T12:01:00Z",
    "fingerprint": "f",
    "somethingNew": {"x": [1]},
}


class TestReceiver:
    """What a notification must be, and what is answered to what isn't one."""

    def test_what_arrives_is_handed_over_whole(self) -> None:
        taken: list[Mapping[str, Any]] = []
        body = {"version": "4", "alerts": [ALERT], "new": 1, "filler": "x" * 500_000}
        with Receiver(lambda _, payload: taken.append(payload)) as receiver:
            answer = httpx.post(receiver.url, json=body, trust_env=False)
        assert answer.status_code == 200
        assert taken == [body]

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b"", "not a notification"),
            (b"\xff", "not a notification"),
            (b"[" * 100_000, "not a notification"),
            (b"[]", 'must be an object with a list "alerts"'),
            (b'{"alerts": [3]}', "alerts[0] must be an object"),
            (b'{"alerts": [{"status": "firing"}]}', "startsAt"),
            (
                b'{"alerts": [{"status": "firing", "startsAt": "2026-11-27T12:00:00Z", "labels": 3}]}',
                "alerts[0].labels",
            ),
        ],
    )
    def test_what_is_no_notification_is_refused_and_not_handed_over(self, body: bytes, said: str) -> None:
        taken: list[Mapping[str, Any]] = []
        with Receiver(lambda _, payload: taken.append(payload)) as receiver:
            answer = httpx.post(receiver.url, content=body, trust_env=False)
        assert answer.status_code == 400
        assert said in answer.text
        assert taken == []

    def test_other_methods_and_endless_bodies_are_refused(self) -> None:
        with Receiver(lambda _at, _payload: None) as receiver:
            assert httpx.get(receiver.url, trust_env=False).status_code == 405
            huge = b"x" * (alertmanager.MAX_BODY + 1)
            assert httpx.post(receiver.url, content=huge, trust_env=False).status_code == 413

    def test_the_times_of_a_resolved_alert(self) -> None:
        (one,) = parse(7.0, {"alerts": [ALERT]})
        assert (one.at, one.fires, one.ends) == (7.0, False, one.starts + 60)
        assert (one.labels["node"], one.annotations["summary"], one.fingerprint) == ("n", "s", "f")
        with pytest.raises(PayloadError, match="endsAt"):
            parse(7.0, {"alerts": [{key: value for key, value in ALERT.items() if key != "endsAt"}]})
