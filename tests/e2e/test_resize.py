"""A CPU limit that changes while a pod runs."""

from __future__ import annotations

import time

import pytest
from e2e.api import pause, wait
from e2e.cluster import Cluster, on
from e2e.said import Said


def test_reach_follows_a_limit_that_is_resized_in_place(cluster: Cluster, namespace: str, said: Said) -> None:
    node = cluster.nodes[0]
    values = {"nodeSelector": on(node), "resources": {"limits": {"cpu": "200m"}}, "band": {"min": 90, "max": 95}}
    with cluster.release(namespace, values) as release:
        (pod,) = release.in_state("saturated", 1)
        assert pod.series()["loadband_reach_cpus"] == pytest.approx(0.2)
        resize = {"spec": {"containers": [{"name": "loadband", "resources": {"limits": {"cpu": "400m"}}}]}}
        since = time.time()
        cluster.api.patch(f"{pod.path}/resize", resize)
        wait(lambda: pod.series()["loadband_reach_cpus"] == pytest.approx(0.4), 60, "a reach of 0.4 CPUs")
        took = time.time() - since
        before, since = pod.series()["loadband_cpu_seconds_total own cpuset"], pause(2)
        until = pause(5)
        burnt = (pod.series()["loadband_cpu_seconds_total own cpuset"] - before) / (until - since + 2)
        restarts = pod.again().restarts
    said(
        "CPU limit resized in place from 200m to 400m",
        "reach 0.4, no restart",
        f"reach 0.4 after {took:.1f} s, {burnt:.2f} CPUs burnt, {restarts} restarts",
    )
    assert restarts == 0
    assert burnt == pytest.approx(0.4, abs=0.05)
