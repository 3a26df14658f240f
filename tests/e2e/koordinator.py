"""The real koord-descheduler, as a pod, and a stand-in for the agent that tells it what nodes use.

On a cluster whose nodes are one machine the real agent, koordlet, would report the whole machine's load for each node.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from chart import Object
from e2e.api import ApiError, kubectl, wait
from e2e.cluster import Cluster
from e2e.pods import HARMLESS, Pod
from e2e.prometheus import Prometheus

IMAGE = os.environ.get("KOORD_DESCHEDULER_IMAGE", "localhost/koord-descheduler:1.7.0")
NAME = "koord-descheduler"
ROLE = "loadband-e2e-koord-descheduler"
PLACE = f"koord-app={NAME}"
"""The label of its pods, as its own chart has it."""
METRICS = "/apis/slo.koordinator.sh/v1alpha1/nodemetrics"
EVERY = 2.0
"""Seconds from one NodeMetric to the next; koordlet's default is 60."""
PODS = 'rate(loadband_cpu_seconds_total{mode="own",scope="cpuset"}[8s])'


def _configuration(space: str) -> Object:
    """Its rounds and its count of bad ones are 15 times as fast as its defaults, as the rules are."""
    version = "descheduler/v1alpha2"
    load = {
        "apiVersion": version,
        "kind": "LowNodeLoadArgs",
        "evictableNamespaces": {"include": [space]},
        "lowThresholds": {"cpu": 50},
        "highThresholds": {"cpu": 72},
        "anomalyCondition": {"consecutiveAbnormalities": 2},
    }
    migration = {
        "apiVersion": version,
        "kind": "MigrationControllerArgs",
        "defaultJobMode": "EvictDirectly",
        "evictionPolicy": "Eviction",
        "maxMigratingPerNode": 1,
        "skipCheckExpectedReplicas": True,
    }
    profile = {
        "name": NAME,
        "plugins": {
            "balance": {"enabled": [{"name": "LowNodeLoad"}]},
            "evict": {"disabled": [{"name": "*"}], "enabled": [{"name": "MigrationController"}]},
        },
        "pluginConfig": [{"name": "LowNodeLoad", "args": load}, {"name": "MigrationController", "args": migration}],
    }
    return {
        "apiVersion": version,
        "kind": "DeschedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "deschedulingInterval": "5s",
        "profiles": [profile],
    }


@contextmanager
def koord_descheduler(cluster: Cluster, space: str, slices: str, server: Prometheus) -> Iterator[Pod]:
    """Start it in a namespace, for pods of another one; it is gone afterwards."""
    if not cluster.has(IMAGE):
        pytest.skip(f"no node has the image {IMAGE}")
    if "slo.koordinator.sh" not in cluster.kinds:
        pytest.skip("the cluster has no CRDs of Koordinator")
    path = f"/api/v1/namespaces/{space}/pods/{NAME}"
    with _agent(cluster, server), _reservations(cluster):
        try:
            kubectl("apply", "-f", "-", given=yaml.safe_dump_all([*_account(space), *_pod(space, slices)]))
            wait(lambda: Pod(cluster.api.get(path), cluster.api).ready, 60, NAME)
            try:
                yield Pod(cluster.api.get(path), cluster.api)
            finally:
                print(cluster.api.text(f"{path}/log?tailLines=200"))
        finally:
            kubectl("delete", "clusterrolebinding,clusterrole", ROLE, "--ignore-not-found")
            kubectl("delete", "pod", NAME, "--namespace", space, "--ignore-not-found")
            kubectl("delete", "podmigrationjobs.scheduling.koordinator.sh", "--all")


@contextmanager
def _reservations(cluster: Cluster) -> Iterator[None]:
    """Have the API server know Reservations, which it watches even if it never makes one."""
    group, plural = "scheduling.koordinator.sh", "reservations"
    if any(one["name"] == plural for one in cluster.api.get(f"/apis/{group}/v1alpha1")["resources"]):
        yield
        return
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
    made = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"kind": "Reservation", "plural": plural},
            "versions": [version],
        },
    }
    kubectl("apply", "-f", "-", given=yaml.safe_dump(made))
    try:
        kubectl("wait", "--for=condition=established", "--timeout=30s", f"customresourcedefinition/{plural}.{group}")
        yield
    finally:
        kubectl("delete", "customresourcedefinition", f"{plural}.{group}")


@contextmanager
def _agent(cluster: Cluster, server: Prometheus) -> Iterator[None]:
    """Keep a NodeMetric of each node up to date with what Prometheus knows; they are gone afterwards."""
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(EVERY):
            try:
                _report(cluster, server)
            except (ApiError, OSError) as error:
                print(f"no NodeMetric: {error}")

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        kubectl("delete", "nodemetrics.slo.koordinator.sh", "--all")


def _report(cluster: Cluster, server: Prometheus) -> None:
    pods: dict[str, list[Object]] = {}
    used: dict[str, float] = {}
    for labels, cpus in server.query(PODS):
        about = {"namespace": labels["namespace"], "name": labels["pod"], "podUsage": _usage(cpus)}
        pods.setdefault(labels["node"], []).append(about)
        used[labels["node"]] = used.get(labels["node"], 0.0) + cpus
    capacity = {node.name: node.cpus for node in cluster.nodes}
    for labels, ratio in server.query("node:loadband_host_cpu:ratio"):
        node = labels["node"]
        if node not in capacity:
            continue
        total = ratio * capacity[node]
        status = {
            "updateTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "nodeMetric": {"nodeUsage": _usage(total), "systemUsage": _usage(max(total - used.get(node, 0.0), 0.0))},
            "podsMetric": pods.get(node, []),
        }
        try:
            cluster.api.get(f"{METRICS}/{node}")
        except ApiError:
            made = {"apiVersion": "slo.koordinator.sh/v1alpha1", "kind": "NodeMetric", "metadata": {"name": node}}
            cluster.api.text(METRICS, "POST", made | {"spec": {}})
        merge = "application/merge-patch+json"
        cluster.api.text(f"{METRICS}/{node}/status", "PATCH", {"status": status}, merge)


def _usage(cpus: float) -> Object:
    return {"resources": {"cpu": f"{1000 * cpus:.0f}m", "memory": "64Mi"}}


def _account(space: str) -> list[Object]:
    rbac = "rbac.authorization.k8s.io"
    seen, all_of_it = ["get", "list", "watch"], ["*"]
    rules: list[dict[str, Any]] = [
        {"apiGroups": [""], "resources": ["pods", "nodes", "namespaces", "replicationcontrollers"], "verbs": seen},
        {"apiGroups": ["apps"], "resources": ["*"], "verbs": seen},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": seen},
        {"apiGroups": ["config.koordinator.sh", "topology.node.k8s.io"], "resources": ["*"], "verbs": seen},
        {"apiGroups": ["scheduling.k8s.io"], "resources": ["priorityclasses"], "verbs": seen},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "update", "patch"]},
        {"apiGroups": ["scheduling.koordinator.sh", "slo.koordinator.sh"], "resources": ["*"], "verbs": all_of_it},
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


def _pod(space: str, slices: str) -> list[Object]:
    container = {
        "name": NAME,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--config=/config/koord-descheduler.config", "--secure-port=0", "--v=4"],
        "securityContext": HARMLESS,
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": space},
            "data": {"koord-descheduler.config": json.dumps(_configuration(slices))},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": NAME, "namespace": space, "labels": dict([PLACE.split("=")])},
            "spec": {
                "serviceAccountName": NAME,
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                "volumes": [{"name": "config", "configMap": {"name": NAME}}],
            },
        },
    ]
