"""The real descheduler, as a pod, with the documented policy."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from chart import Object
from e2e.api import kubectl, wait
from e2e.cluster import Cluster
from e2e.pods import HARMLESS, Pod, through
from e2e.prometheus import Prometheus, documented
from prometheus_client.parser import text_string_to_metric_families

IMAGE = os.environ.get("DESCHEDULER_IMAGE", "localhost/descheduler:0.36.0")
NAME = "descheduler"
ROLE = "loadband-e2e-descheduler"
CYCLE = 10
"""Seconds from one look of it to the next."""


def _policy() -> tuple[Object, Object]:
    """The documented one, and the part of it that LowNodeUtilization gets."""
    policy: Object = documented("DeschedulerPolicy")
    (profile,) = policy["profiles"]
    (arguments,) = (one["args"] for one in profile["pluginConfig"] if one["name"] == "LowNodeUtilization")
    return policy, arguments


QUERY = str(_policy()[1]["metricsUtilization"]["prometheus"]["query"])


@dataclass(frozen=True)
class Descheduler:
    """It, running."""

    pod: Pod

    def log(self) -> str:
        """What it has said."""
        return self.pod.api.text(f"{self.pod.path}/log")

    def cycles(self) -> int:
        """How often it has looked at the nodes."""
        return self._total("descheduler_loop_duration_seconds_count")

    def evictions(self) -> int:
        """How many pods it has evicted."""
        return self._total("descheduler_pods_evicted_total", result="success")

    def _total(self, name: str, **labels: str) -> int:
        text = self.pod.api.text(through(self.pod.namespace, f"https:{NAME}", 10258, "/metrics"))
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return round(sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items()))


@contextmanager
def descheduler(
    cluster: Cluster,
    space: str,
    server: Prometheus,
    low: int,
    high: int,
    *,
    single: bool = False,
    others: Mapping[str, Object] = MappingProxyType({}),
) -> Iterator[Descheduler]:
    """Start it in a namespace, with other thresholds, percent; it is gone afterwards.

    With `single` it also evicts pods whose owner has only one. `others` are more strategies, and what they are given.
    """
    if not cluster.has(IMAGE):
        pytest.skip(f"no node has the image {IMAGE}")
    policy, arguments = _policy()
    if single:
        (evictor,) = (one["args"] for one in policy["profiles"][0]["pluginConfig"] if one["name"] == "DefaultEvictor")
        del evictor["minReplicas"]
    (profile,) = policy["profiles"]
    profile["pluginConfig"] += [{"name": name, "args": args} for name, args in others.items()]
    points = {"PodLifeTime": "deschedule"}
    for name in others:
        profile["plugins"].setdefault(points.get(name, "balance"), {"enabled": []})["enabled"].append(name)
    policy["metricsProviders"][0]["prometheus"]["url"] = server.url
    arguments |= {"thresholds": {"MetricResource": low}, "targetThresholds": {"MetricResource": high}}
    path = f"/api/v1/namespaces/{space}/pods/{NAME}"
    try:
        kubectl("apply", "-f", "-", given=yaml.safe_dump_all([*_account(space), *_pod(space, policy)]))
        wait(lambda: Pod(cluster.api.get(path), cluster.api).ready, 60, "the descheduler")
        found = Descheduler(Pod(cluster.api.get(path), cluster.api))
        try:
            yield found
        except AssertionError:
            print(found.log())
            raise
    finally:
        kubectl("delete", "clusterrolebinding,clusterrole", ROLE, "--ignore-not-found")
        kubectl("delete", "pod", NAME, "--namespace", space, "--ignore-not-found")


def _account(space: str) -> list[Object]:
    rbac = "rbac.authorization.k8s.io"
    seen = ["get", "list", "watch"]
    rules: list[dict[str, Any]] = [
        {"apiGroups": [""], "resources": ["pods", "nodes", "namespaces", "persistentvolumeclaims"], "verbs": seen},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
        {"apiGroups": ["scheduling.k8s.io"], "resources": ["priorityclasses"], "verbs": seen},
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": seen},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "update", "patch"]},
    ]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": space}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": ROLE}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": ROLE},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": ROLE},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": space}],
        },
    ]


def _pod(space: str, policy: Object) -> list[Object]:
    container = {
        "name": NAME,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--policy-config-file=/policy/policy.yaml", f"--descheduling-interval={CYCLE}s", "--v=3"],
        "securityContext": HARMLESS,
        "volumeMounts": [{"name": "policy", "mountPath": "/policy"}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": space},
            "data": {"policy.yaml": json.dumps(policy)},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": NAME, "namespace": space, "labels": {"app.kubernetes.io/name": NAME}},
            "spec": {
                "serviceAccountName": NAME,
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                "volumes": [{"name": "policy", "configMap": {"name": NAME}}],
            },
        },
    ]
