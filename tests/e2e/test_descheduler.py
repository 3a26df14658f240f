"""The descheduler moves slices from a hot node to a cool one, and nothing where there is nothing to gain."""

from __future__ import annotations

import time
from pathlib import Path

from e2e.api import pause, wait
from e2e.cluster import Cluster, on
from e2e.descheduler import CYCLE, QUERY, descheduler
from e2e.meter import Node
from e2e.pods import Pod
from e2e.prometheus import prometheus
from e2e.release import REGULATORS
from e2e.said import Said

LOW, HIGH = 40, 67
"""The thresholds, percent."""


def of_each(pods: list[Pod], nodes: list[Node]) -> list[int]:
    """How many of the pods each node has."""
    return [sum(pod.node == node.name for pod in pods) for node in nodes]


def test_an_overloaded_node_loses_latched_slices_until_both_are_inside(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    hot, cool = nodes = list(cluster.nodes[:2])
    # One of these slices is enough to bring the hot node below the upper threshold, and the cool one above the lower.
    slices = {"replicas": 4, "maxEffort": f"{200 * hot.cpus}m", "band": {"min": 72, "max": 78}}
    quiet = {"nodeSelector": on(cool), "effort": f"{200 * cool.cpus}m", "duration": 0}
    with (
        prometheus(cluster, tmp_path) as server,
        cluster.release(namespace, quiet, name="quiet"),
        cluster.cordoned(cool),
        cluster.release(namespace, slices | {"latch": "5s", "duration": 0}, name="slices") as release,
    ):
        assert of_each(release.in_state("latched", 4), nodes) == [4, 0]
        since = time.time()
        until = pause(6)
        was = [node.used(since, until) for node in nodes]
        wait(lambda: len(server.query(QUERY)) == 2, 60, "a value for each node")
        cluster.uncordon(cool)
        with descheduler(cluster, namespace, server, LOW, HIGH) as balancer:
            since = time.time()
            wait(lambda: balancer.evictions() and of_each(release.ready(4), nodes) != [4, 0], 120, "a slice that moves")
            took = time.time() - since
            seen = balancer.cycles()
            wait(lambda: balancer.cycles() >= seen + 2, 3 * CYCLE, "two more cycles")
            moved = balancer.evictions()
        after = of_each(release.ready(4), nodes)
        since = time.time()
        until = pause(6)
        now = [node.used(since, until) for node in nodes]
    ends = (f"{node.name} {100 * a:.1f} to {100 * b:.1f} %" for node, a, b in zip(nodes, was, now, strict=True))
    said(
        f"descheduler with thresholds {LOW} and {HIGH} %",
        "slices move until both nodes are inside",
        f"4+0 to {after[0]}+{after[1]} after {took:.0f} s, {moved} evicted in all, {', '.join(ends)}",
    )
    assert was[0] > HIGH / 100
    assert was[1] < LOW / 100
    assert all(LOW / 100 <= used <= HIGH / 100 for used in now)


def test_nothing_moves_where_the_load_is_symmetric(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    nodes = list(cluster.nodes)
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": dict([REGULATORS.split("=")])},
    }
    values = {
        "replicas": 2 * len(nodes),
        "maxEffort": f"{500 * nodes[0].cpus}m",
        "band": {"min": 72, "max": 78},
        "latch": "5s",
        "duration": 0,
        "topologySpreadConstraints": [spread],
    }
    with prometheus(cluster, tmp_path) as server, cluster.release(namespace, values) as release:
        before = release.in_state("latched", 2 * len(nodes))
        assert of_each(before, nodes) == [2] * len(nodes)
        wait(lambda: len(server.query(QUERY)) == len(nodes), 60, "a value for each node")
        with descheduler(cluster, namespace, server, LOW, HIGH) as balancer:
            since = time.time()
            wait(lambda: balancer.cycles() >= 3, 4 * CYCLE, "three cycles")
            used = [node.used(since) for node in nodes]
            moved = balancer.evictions()
        same = {pod.name for pod in release.pods()} == {pod.name for pod in before}
    said(
        "descheduler, all nodes above its thresholds",
        "nothing moves",
        f"{moved} evicted in 3 cycles, {', '.join(f'{100 * one:.1f} %' for one in used)}",
    )
    assert moved == 0
    assert same
    assert all(one > HIGH / 100 for one in used)
