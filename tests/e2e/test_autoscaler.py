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
    # Whatever else runs on the node, up to a fifth of it: 0.45 to 0.65 CPUs of 1 make 3 pods, and 0 to 0.2 make 1.
    target = 0.22 * node.cpus
    values = {
        "replicas": None,
        "nodeSelector": on(node),
        "maxEffort": "none",
        "extraManifests": [HPA % f"{1000 * target:.0f}m"],
    }

    with cluster.release(namespace, values) as release:
        out, seconds, burnt = settled(release, 3)
        said(
            "autoscaler, 60..70 %",
            f"3 pods, of {1000 * target:.0f}m each",
            f"3 pods after {seconds:.0f} s, {burnt:.2f} CPUs in all",
        )
        release.upgrade(values | {"band": {"min": 15, "max": 25}})
        assert len(release.pods()) == out, "an upgrade must leave the number to the autoscaler"
        _, seconds, low = settled(release, 1)
        said(
            "autoscaler, 15..25 %",
            "1 pod",
            f"1 pod after {seconds:.0f} s, {low:.2f} CPUs in all",
        )
    assert ceil(burnt / target) == 3
    assert ceil(low / target) <= 1


def settled(release: Release, count: int) -> tuple[int, float, float]:
    """Wait for as many pods as there should be. Gives their number, the seconds that took, and CPUs that all burn."""
    began = time.monotonic()
    pods = release.ready(count, 150)
    took = time.monotonic() - began
    before, since = sum(own(pods)), time.monotonic()
    pause(5)
    return len(release.pods()), took, (sum(own(pods)) - before) / (time.monotonic() - since)


def own(pods: list[Pod]) -> list[float]:
    """CPU time that each has burnt, seconds."""
    return [pod.series()["loadband_cpu_seconds_total own cpuset"] for pod in pods]
