"""Nodes are held in the band, by one regulator each and by slices together; latched slices are loads that move."""

from __future__ import annotations

import time

import pytest
from e2e.api import kubectl, pause
from e2e.cluster import Cluster, on
from e2e.pods import Pod
from e2e.said import Said

GATE = 0.03
"""How far a mean may be from the band's middle, a ratio. The goal, which is printed, is 0.01."""


def test_every_node_is_in_the_band_at_once(cluster: Cluster, namespace: str, said: Said) -> None:
    with cluster.release(namespace, {"kind": "DaemonSet", "allNodes": True}) as release:
        release.ready(len(cluster.nodes))
        for node in cluster.nodes:
            node.settle(0.6, 0.7)
        since = time.time()
        until = pause(20)
        used = {node.name: node.used(since, until) for node in cluster.nodes}
        windows = [window for node in cluster.nodes for window in node.windows(since, until)]
    inside = sum(0.6 <= window <= 0.7 for window in windows) / len(windows)
    said(
        "DaemonSet, each node from outside over 20 s",
        "65 % +- 1",
        ", ".join(f"{name} {100 * mean:.2f} %" for name, mean in used.items())
        + f", {100 * inside:.0f} % of seconds in band",
    )
    assert all(mean == pytest.approx(0.65, abs=GATE) for mean in used.values())


def test_slices_share_a_node_and_take_over_from_one_that_is_gone(cluster: Cluster, namespace: str, said: Said) -> None:
    hot, cool = cluster.nodes[:2]
    with cluster.cordoned(cool):
        values = {"replicas": 4, "maxEffort": f"{0.4 * hot.cpus}", "nodeSelector": on(hot)}
        with cluster.release(namespace, values) as release:
            pods = release.ready(4)
            hot.settle(0.6, 0.7)
            pause(15)
            before, since = own_seconds(pods), time.time()
            until = pause(15)
            shares = [now - then for now, then in zip(own_seconds(pods), before, strict=True)]
            mean = hot.used(since, until)
            fairness = jain(shares)
            each = ", ".join(f"{1000 * share / (until - since):.0f}m" for share in shares)
            said(
                "4 slices on one node", "65 % +- 1, fairly", f"{100 * mean:.2f} %, {each}, Jain's index {fairness:.3f}"
            )
            assert mean == pytest.approx(0.65, abs=GATE)
            assert fairness >= 0.9

            # The one that takes its place finds no node.
            with cluster.cordoned(hot):
                since = time.time()
                kubectl("delete", "pod", pods[0].name, "--namespace", namespace, "--wait=false")
                until = pause(10)
                assert sum(pod.ready for pod in release.pods()) == 3
                lost = sum(not 0.6 <= used <= 0.7 for used in hot.windows(since, until))
                mean = hot.used(since + 4, until)
            said(
                "one of them deleted",
                "the others take over within 3 s",
                f"{lost} s out of the band, then {100 * mean:.2f} %",
            )
            assert lost <= 3
            assert mean == pytest.approx(0.65, abs=GATE)


def test_latched_slices_cool_the_node_they_leave_and_heat_the_one_they_go_to(
    cluster: Cluster, namespace: str, said: Said
) -> None:
    old, new = cluster.nodes[:2]
    values = {"replicas": 4, "maxEffort": f"{0.3 * old.cpus}", "latch": "5s"}
    with cluster.cordoned(new), cluster.release(namespace, values) as release:
        pods = release.in_state("latched", 4)
        assert {pod.node for pod in pods} == {old.name}
        since = time.time()
        until = pause(8)
        was = {node: node.used(since, until) for node in (old, new)}
        left = sum(pod.series()["loadband_latched_effort_cpus"] for pod in pods)

        try:
            cluster.uncordon(new)
            cluster.drain(old)
            pods = release.in_state("latched", 4)
            assert {pod.node for pod in pods} == {new.name}
            came = sum(pod.series()["loadband_latched_effort_cpus"] for pod in pods)
            before, since = sum(own_seconds(pods)), time.time()
            until = pause(8)
            burnt = (sum(own_seconds(pods)) - before) / (time.time() - since)
            now = {node: node.used(since, until) for node in (old, new)}
        finally:
            cluster.uncordon(old)
    fell, rose = was[old] - now[old], now[new] - was[new]
    said(
        f"latched slices drained from {old.name} to {new.name}",
        f"-{100 * left / old.cpus:.1f} and +{100 * came / new.cpus:.1f} points",
        f"-{100 * fell:.1f} and +{100 * rose:.1f} points ({100 * was[old]:.1f} to {100 * now[old]:.1f} %, "
        f"{100 * was[new]:.1f} to {100 * now[new]:.1f} %), {burnt:.3f} CPUs of ours for {came:.3f}",
    )
    assert burnt == pytest.approx(came, rel=0.05)
    # Where nodes share a machine, what else runs there goes to the idle CPUs: from the new node to the old one.
    assert fell == pytest.approx(left / old.cpus, abs=0.1)
    assert rose == pytest.approx(came / new.cpus, abs=0.1)


def own_seconds(pods: list[Pod]) -> list[float]:
    """CPU time that each has burnt so far, seconds."""
    return [pod.series()["loadband_cpu_seconds_total own cpuset"] for pod in pods]


def jain(shares: list[float]) -> float:
    """Jain's index: 1 where all are equal, 1/n where one has all."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
