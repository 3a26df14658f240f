"""A HorizontalPodAutoscaler with the real metrics-server: a load whose right number of pods is known."""

from __future__ import annotations

import time
from math import ceil

import pytest
from e2e.api import ApiError, pause
from e2e.cluster import Cluster, on
from e2e.pods import Pod
from e2e.release import Release
from e2e.said import Said

HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "loadband.fullname" . }}
  namespace: {{ .Release.Namespace }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "loadband.fullname" . }}}
  maxReplicas: 8
  behavior:
    scaleDown: {stabilizationWindowSeconds: 0}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: AverageValue, averageValue: %s}
"""


def test_it_scales_out_to_the_known_count_and_back_in(cluster: Cluster, namespace: str, said: Said) -> None:
    try:
        cluster.api.get("/apis/metrics.k8s.io/v1beta1/nodes")
    except ApiError as error:
        pytest.skip(f"no metrics-server answers: {error.status}")
    node = cluster.nodes[0]
    target = 0.17 * node.cpus
    values = {
        "replicas": None,
        "nodeSelector": on(node),
        "maxEffort": "none",
        "extraManifests": [HPA % f"{1000 * target:.0f}m"],
    }

    with cluster.release(namespace, values | {"band": {"min": 60, "max": 70}}) as release:
        there, right, burnt, seconds = settled(release, target, {3, 4})
        said(
            "autoscaler, 60..70 %",
            f"{right} pods of {1000 * target:.0f}m for {burnt:.2f} CPUs in all",
            f"{there} pods after {seconds:.0f} s",
        )

        release.upgrade(values | {"band": {"min": 32, "max": 42}})
        assert len(release.pods()) == there, "an upgrade must leave the number to the autoscaler"
        there, right, burnt, seconds = settled(release, target, {1, 2})
        said(
            "autoscaler, 32..42 %",
            f"{right} pods of {1000 * target:.0f}m for {burnt:.2f} CPUs in all",
            f"{there} pods after {seconds:.0f} s",
        )


def settled(release: Release, target: float, expected: set[int]) -> tuple[int, int, float, float]:
    """Wait for as many pods as their load asks for.

    Gives the number of pods, that which there should be for what all of them burn, that (CPUs), and the time it took.
    """
    began = time.monotonic()
    while True:
        pods = release.pods()
        try:
            before, since = sum(own(pods)), time.monotonic()
            pause(4)
            burnt = (sum(own(pods)) - before) / (time.monotonic() - since)
        except LookupError:
            continue  # a pod that came or went meanwhile
        right = ceil(burnt / target)
        if len(pods) == right and right in expected:
            return len(pods), right, burnt, time.monotonic() - began
        assert time.monotonic() - began < 150, f"{len(pods)} pods, {right} would be right for {burnt:.2f} CPUs"


def own(pods: list[Pod]) -> list[float]:
    """CPU time that each has burnt, seconds."""
    return [pod.series()["loadband_cpu_seconds_total own cpuset"] for pod in pods]
