"""The shipped rules, configurations and dashboards on the real Prometheus and Alertmanager, with load on real CPUs."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

import httpx
import psutil
import pytest
import yaml
from chains import PATIENCE, Chains, Step, chains, steps_table
from fleet import hosts
from full_snapshot import INFO, SNAPSHOT
from program import get
from rich.console import Console

from dashboards.__main__ import FOLDER
from loadband.metrics import registry
from loadband.page import Minute
from loadband.quantities import Progress, Snapshot, Throttling
from loadband.rebalance import shipped
from loadband.rebalance.programs import MissingError, wait_for
from loadband.rebalance.shipped import seconds, shorten
from loadband.server import Application
from loadband.serving import Server

Json = dict[str, Any]
DASHBOARDS = ("loadband-fleet.json", "loadband-regulator.json")
"""Those about regulators; test_rebalance_lab.py asks the third one's questions of a run."""
CONFIGURATION = [
    shipped.path("prometheus.yml"),
    shipped.path("alertmanager.yml"),
    *shipped.path("rules").glob("*.yaml"),
]


@pytest.mark.parametrize("text", ["15s", "1m30s", "250ms", "4h", "2d"])
def test_durations_are_read_as_prometheus_does(text: str) -> None:
    assert seconds(text) == {"15s": 15, "1m30s": 90, "250ms": 0.25, "4h": 14400, "2d": 172800}[text]


@pytest.mark.parametrize("path", CONFIGURATION, ids=lambda path: path.name)
def test_only_durations_are_shortened(path: Any) -> None:
    shipped = yaml.safe_load(path.read_text())
    faster = shorten(shipped, 15)
    duration = re.compile(r"\b(\d+(?:ms|[smhd]))+\b")
    lengths = [sum(map(seconds, duration.findall(json.dumps(document)))) for document in (shipped, faster)]
    # Annotations are for people and speak of what is shipped.
    said = [rule.pop("annotations", None) for document in (shipped, faster) for rule in every_rule(document)]
    assert said[: len(said) // 2] == said[len(said) // 2 :]
    texts = [duration.sub("D", json.dumps(document)) for document in (shipped, faster)]
    assert texts[0] == texts[1]
    assert lengths[1] < lengths[0] or path.name == "thresholds.yaml"


def every_rule(document: Json) -> list[Json]:
    return [rule for group in document.get("groups", []) for rule in group["rules"]]


@pytest.fixture(scope="module")
def platform() -> Iterator[Chains]:
    try:
        with chains() as running:
            yield running
    except MissingError as error:
        pytest.skip(str(error))


class Truth:
    """How busy each CPU really was, from the kernel's idle time against the clock."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, list[float]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.2):
            times = psutil.cpu_times(percpu=True)
            self._seen.append((time.time(), [cpu.idle + cpu.iowait for cpu in times]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def busy(self, cpu: int, since: float, until: float) -> float:
        """The mean of a CPU's utilization between two times, a ratio."""
        within = [(at, idle[cpu]) for at, idle in self._seen if since <= at <= until]
        (start, before), (end, after) = within[0], within[-1]
        return 1 - (after - before) / (end - start)


@pytest.fixture(scope="module")
def truth() -> Iterator[Truth]:
    with Truth() as looking:
        yield looking


@pytest.fixture
def in_time(capsys: pytest.CaptureFixture[str]) -> Any:
    def check(steps: list[Step]) -> None:
        with capsys.disabled():
            Console(width=100).print("", steps_table(steps))
        assert not [step for step in steps if step.late or step.early]

    return check


@pytest.mark.cpu
def test_a_band_that_is_raised_is_told_and_told_to_be_over(truth: Truth, platform: Chains, in_time: Any) -> None:
    steps = platform.hot()
    assert [step.name for step in steps] == ["to pending", "to firing", "to webhook", "to resolved", "to webhook"]
    told = [one for one in platform.servers.receiver.notifications if one.labels["alertname"] == "LoadbandHostHot"]
    hot = [one for one in told if one.labels["node"] == "node-1"]
    assert [one.status for one in hot[:2]] == ["firing", "resolved"]
    for one in told:
        assert one.receiver == "test-load"
        node = one.labels["node"]
        labels = {"cluster": "test", "node": node, "severity": "warning", "test_load": "true"}
        assert one.labels == {"alertname": "LoadbandHostHot"} | labels
        assert one.annotations["summary"] == f"Host {node} is hot."
        assert one.annotations["runbook_url"].endswith("#loadbandhosthot")
        said = re.search(r"is ([0-9.]+)%, at or above", one.annotations["description"])
        assert said
        assert 75 <= float(said[1]) <= 100
        # The hot host and only that, whoever heated it: an outside meter agrees.
        at, window = one.starts if one.status == "firing" else one.ends, platform.servers.prometheus.window
        busy = truth.busy(hosts()[node], at - window, at)
        assert busy >= 0.65 if one.status == "firing" else busy <= 0.85
    in_time(steps)


@pytest.mark.cpu
def test_a_regulator_that_is_killed_is_told_to_be_down(platform: Chains, in_time: Any) -> None:
    in_time(platform.killed())


@pytest.mark.cpu
def test_a_regulator_that_is_stopped_is_told_to_be_down(platform: Chains, in_time: Any) -> None:
    in_time(platform.stopped())


@pytest.mark.cpu
def test_what_is_saturated_or_yields_is_told_and_nobody_is_blamed_for_nothing(platform: Chains) -> None:
    def told() -> set[tuple[str, str]]:
        return {
            (one.labels["alertname"], one.labels.get("pod", one.labels.get("node", "")))
            for one in platform.servers.receiver.notifications
            if one.status == "firing"
        }

    expected = {("LoadbandSaturated", "saturated"), ("LoadbandYielding", "yielding")}
    wait_for(lambda: expected <= told(), 2 * PATIENCE, f"{expected} in what is told")
    caused = {
        ("LoadbandHostsUnbalanced", ""),
        ("LoadbandDown", "steady"),
        ("LoadbandDown", "raised"),
    }
    # A start costs all on that CPU a second or two of their bands, a large share in time this much shorter. And whether
    # a host is hot for what others do was held against the truth above.
    blamed = {one for one in told() if one[0] not in {"LoadbandBandNotHeld", "LoadbandHostHot"}}
    assert blamed <= expected | caused


@contextmanager
def scripted() -> Iterator[str]:
    """The real exposition of what can't be had here: a CPU limit, which needs a container, and bands that are set anew.

    Gives its address.
    """
    began = time.monotonic()

    def source() -> Snapshot:
        went = time.monotonic() - began
        phase = ("morning", "noon")[int(went) // 2 % 2]
        return replace(
            SNAPSHOT,
            throttling=Throttling(int(10 * went), int(went), went / 10),
            counts=replace(SNAPSHOT.counts, band_changes={"control": int(went)}),
            setpoint=replace(SNAPSHOT.setpoint, progress=Progress("day", phase, ("morning", "noon"))),
        )

    application = Application(registry(source, INFO), Minute(source), version="0", stopping=threading.Event().is_set)
    server = Server.open(application, "127.0.0.1", 0)
    server.start()
    try:
        yield server.address.removeprefix("http://")
    finally:
        server.close()


@pytest.mark.cpu
def test_every_query_of_the_dashboards_has_data(platform: Chains) -> None:
    """While one regulator holds, one yields, one is saturated and one has a fixed effort."""
    servers = platform.servers
    targets = [(one.address, one.labels) for one in platform.regulators]
    with scripted() as script:
        servers.target([*targets, (script, platform.steady.labels | {"pod": "script"})])
        wait_for(lambda: servers.query(f'loadband_cpu_periods_total{{instance="{script}"}} > 30'), PATIENCE, "periods")
        # What the graphs of a regulator show for each of the three is all; the rest comes with what it is about.
        always = [platform.steady.address, platform.yielding.address, platform.saturated.address]
        special = {
            r"changes\(loadband_band": [platform.yielding.address],
            r"throttled|cpu_periods|profile|^increase\(loadband_band_changes": [script],
            r"deadline|latch": [platform.fixed.address],
            "ALERTS": [platform.saturated.address, platform.yielding.address],
        }
        # Another band after a restart, too low as before.
        platform.yielding.stop()
        platform.yielding.start(MIN="6", MAX="11")
        states = {"holding": platform.steady, "yielding": platform.yielding, "saturated": platform.saturated}
        wait_for(lambda: all(one.is_in(state) for state, one in states.items()), PATIENCE, f"all of {set(states)}")
        again = f'loadband_band_min_ratio{{instance="{platform.yielding.address}"}} == 0.06'
        wait_for(lambda: servers.query(again), PATIENCE, "the other band in Prometheus")
        wait_for(lambda: alerted(platform, special["ALERTS"]), PATIENCE, "both to have an alert that fires")
        empty = []
        for name in DASHBOARDS:
            board = json.loads((FOLDER / name).read_text())
            asked = [
                (target["expr"], target["instant"]) for panel in board["panels"] for target in panel.get("targets", [])
            ]
            asked += [(mark["expr"], False) for mark in board["annotations"]["list"]]
            for expression, now in asked:
                found = next((who for what, who in special.items() if re.search(what, expression)), always)
                empty += [
                    (name, instance, expression)
                    for instance in (found if "$instance" in expression else [""])
                    if not samples(platform, interpolated(expression, instance, platform), now=now)
                ]
    assert not empty


def alerted(platform: Chains, instances: list[str]) -> bool:
    firing = platform.servers.query('ALERTS{alertstate="firing"}')
    return set(instances) <= {labels.get("instance") for labels, _ in firing}


@pytest.mark.cpu
def test_every_variable_of_the_dashboards_has_values(platform: Chains) -> None:
    for name in DASHBOARDS:
        for variable in json.loads((FOLDER / name).read_text())["templating"]["list"]:
            if variable["type"] != "query":
                continue
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert asked
            selector = urllib.parse.urlencode({"match[]": interpolated(asked[1], "", platform)})
            url = f"{platform.servers.prometheus.url}/api/v1/label/{asked[2]}/values?{selector}"
            series = httpx.get(url, trust_env=False).json()["data"]
            expected = {
                "cluster": ["test"],
                "namespace": ["test"],
                "node": ["node-1", "node-2"],
                "pod": sorted(one.name for one in platform.regulators),
                "instance": sorted(one.address for one in platform.regulators),
            }
            assert set(series) >= set(expected[asked[2]])


def interpolated(expression: str, instance: str, platform: Chains) -> str:
    """As Grafana does, with everything chosen."""
    timing = platform.servers.prometheus
    values = {"cluster": ".*", "node": ".*", "namespace": ".*", "pod": ".*", "instance": instance}
    # Four scrapes or more, as the graph is wide.
    values |= {"__rate_interval": f"{10 * timing.scrape:g}s", "__range": "30s"}
    text = re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)
    assert "$" not in text.replace('"$1"', "")
    return text


def samples(platform: Chains, expression: str, *, now: bool) -> list[Any]:
    """What a panel gets: numbers, none of them NaN alone."""
    if now:
        return [value for _, value in platform.servers.query(expression) if value == value]  # noqa: PLR0124 - not NaN
    return list(platform.servers.values(expression, 100.0))


@pytest.mark.cpu
def test_every_exposed_series_is_taken(platform: Chains) -> None:
    """The real Prometheus asks for OpenMetrics; what we read here is the text format."""
    address = platform.steady.address
    exposed = get(int(address.rpartition(":")[2]), "/metrics")
    names = {line.split("{")[0].split(" ")[0] for line in exposed.splitlines() if not line.startswith("#")}
    known = {labels["__name__"] for labels, _ in platform.servers.query(f'{{instance="{address}"}}')}
    assert names <= known
