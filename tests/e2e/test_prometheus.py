"""What a real Prometheus makes of the pods."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from chart import CHART
from e2e.api import pause, wait
from e2e.cluster import Cluster, on
from e2e.descheduler import QUERY
from e2e.prometheus import prometheus
from e2e.said import Said

HOT = "LoadbandHostHot"
PODS = ("fleet", "regulator")
"""The dashboards about pods."""
PROFILE = """
[[phase]]
kind = "constant"
target = 90
duration = "1h"
"""


def queries() -> list[tuple[str, str]]:
    """Panel and expression of each query of the dashboards about pods; the third is about a run of a scenario."""
    boards = [json.loads((CHART / f"files/dashboards/loadband-{name}.json").read_text()) for name in PODS]
    return [
        (f"{board['title']}, {panel['title']}", target["expr"])
        for board in boards
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]


def of(labels: dict[str, str], expression: str) -> str:
    """A dashboard's query, with one pod chosen."""
    chosen = {"cluster": ".*", "__rate_interval": "10s", "__range": "30s"} | labels
    return re.sub(r"\$\{?(\w+)\}?", lambda found: chosen[found[1]], expression)


def test_pods_are_found_and_the_hot_node_alone_is_told(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    hot, cool = cluster.nodes[:2]
    # Between them the two have all that the dashboards show: a CPU limit, an end, a profile, a latch.
    high = {"profile": PROFILE, "nodeSelector": on(hot), "replicas": 2, "maxEffort": f"{0.7 * hot.cpus}"}
    low = {"band": {"min": 30, "max": 40}, "nodeSelector": on(cool), "maxEffort": "none", "latch": "3s"}
    with (
        prometheus(cluster, tmp_path) as server,
        cluster.release(namespace, high, name="high") as busy,
        cluster.release(namespace, low, name="low") as other,
    ):
        since = time.monotonic()
        wait(lambda: len(server.query("loadband_in_band")) == 3, 60, "3 pods in Prometheus")
        found = time.monotonic() - since
        series = [labels for labels, _ in server.query("loadband_in_band")]
        pods = {(pod.name, pod.node) for release in (busy, other) for pod in release.pods()}
        assert {(labels["pod"], labels["node"]) for labels in series} == pods
        assert {(labels["namespace"], labels["job"]) for labels in series} == {(namespace, "loadband")}

        wait(lambda: server.firing(HOT), 90, HOT)
        fired = time.monotonic() - since
        other.in_state("latched", 1)
        began = time.time()
        until = pause(10)
        told = server.firing(HOT)
        values = server.query(QUERY)
        used = {node.name: node.used(began, until) for node in (hot, cool)}
        empty = [
            (panel, expression)
            for panel, expression in queries()
            if not any(server.query(of(labels, expression)) for labels in series)
        ]
    by_node = {labels["instance"]: value for labels, value in values}
    said(
        "the documented relabelling and the shipped rules",
        f"3 pods, {HOT} for {hot.name} alone, one value a node",
        f"3 pods after {found:.1f} s, {HOT} for {', '.join(sorted(told))} after {fired:.0f} s, "
        + ", ".join(f"{node} {value:.3f} (from outside {used[node]:.3f})" for node, value in sorted(by_node.items())),
    )
    said(
        "queries of the dashboards, for a pod and its node",
        "data",
        f"{len(queries()) - len(empty)} have, {len(empty)} not",
    )
    assert told == {hot.name}
    assert len(values) == len(by_node) == 2
    assert by_node == pytest.approx(used, abs=0.03)
    assert used[hot.name] == pytest.approx(0.9, abs=0.03)
    assert used[cool.name] < 0.6
    assert not empty
