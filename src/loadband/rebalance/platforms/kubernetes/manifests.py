"""What a run makes in the cluster, as the API server takes it. Pure.

A slice is a pod that is put on its node by name, and a ReplicaSet of one that adopts it. So the template has no
affinity that would have to be lifted before the watch, and the pod's successor goes wherever the scheduler puts it. One
Deployment or ReplicaSet for all slices wouldn't do: the descheduler's default strategies spread the pods of one owner
whatever the load is.

All ReplicaSets belong to one Job that runs no pod and only has a deadline: if nobody is there to undo the run, the Job
ends by itself, is removed, and takes all that belongs to it along.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RUN_LABEL = "loadband-run"
"""Has the run's id, on everything that is made."""
SLICE_LABEL = "loadband-slice"
ROLE_LABEL = "loadband-role"
SLICE, NEIGHBOUR, OBSERVER = "slice", "neighbour", "observer"
"""Roles of pods: what a rebalancer may move, load that it may not, and who measures a node."""
METRICS_PORT, CONTROL_PORT = 10670, 10671
LEAST_EFFORT = 0.001
"""CPUs; LOADBAND_EFFORT takes no less."""
OBSERVER_INTERVAL, SLICE_INTERVAL = "200ms", "250ms"
"""The control periods: counters are at most that old."""
END_SECONDS = 3
"""For a pod to end; loadband promises 2."""

Manifest = Mapping[str, Any]

_HARMLESS: Manifest = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What Pod Security "restricted" asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a run happens."""

    namespace: str
    nodes: str = ""
    """Label selector; empty: all that take pods."""
    image: str
    """Of the regulators."""
    cpus: float | None = None
    """Of each node; None: what the node says."""
    scheduler: str = ""
    """The name of the scheduler that places the slices' next pods; empty: the cluster's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Makings:
    """What all objects of a run share."""

    run: str
    """The run's id."""
    image: str
    token: str
    """Of the slices' control listeners."""
    lifetime: float
    """Seconds after which the cluster itself removes everything."""
    scheduler: str = ""
    """The name of the scheduler that places the slices' next pods; empty: the cluster's default."""

    @property
    def name(self) -> str:
        """Of the Job that everything belongs to."""
        return f"loadband-{self.run}"

    def name_of(self, thing: str) -> str:
        """An object's name: of a slice, a neighbour or an observer.

        Args:
            thing: what it is called in the run; unique there.
        """
        return f"{self.name}-{thing}".lower()

    def labels(self, role: str, name: str = "") -> dict[str, str]:
        """Of a pod."""
        # The last two are what the documented discovery of Prometheus looks for, and what tells them from the chart's.
        found = {RUN_LABEL: self.run, ROLE_LABEL: role, "app.kubernetes.io/part-of": "loadband"}
        found["app.kubernetes.io/name"] = "loadband-rebalance"
        return found | ({SLICE_LABEL: name} if name else {})

    def deadline(self) -> Manifest:
        """The Job that ends the run if nobody else does: it never has a pod."""
        labels = {RUN_LABEL: self.run}
        pod = {"restartPolicy": "Never", "containers": [{"name": "none", "image": self.image}]}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "parallelism": 0,
                "activeDeadlineSeconds": math.ceil(self.lifetime),
                "ttlSecondsAfterFinished": 0,
                "backoffLimit": 0,
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }

    def observer(self, node: str) -> Manifest:
        """The pod that measures a node: a regulator that burns next to nothing."""
        labels = self.labels(OBSERVER)
        return self._bare(self.name_of(f"observer-{node}"), node, labels, 0.0, OBSERVER_INTERVAL)

    def neighbour(self, name: str, node: str, cpus: float) -> Manifest:
        """The pod of load that nobody may move: without an owner the descheduler leaves it alone."""
        return self._bare(self.name_of(name), node, self.labels(NEIGHBOUR, name), cpus, SLICE_INTERVAL)

    def first(self, name: str, node: str, cpus: float) -> Manifest:
        """The first pod of a slice, put on a node; to be adopted by `owner`."""
        pod = self._bare(self.name_of(f"{name}-first"), node, self.labels(SLICE, name), cpus, SLICE_INTERVAL)
        # As its owner would have made it: it lives as long as that one.
        pod["spec"].pop("activeDeadlineSeconds")
        pod["spec"]["restartPolicy"] = "Always"
        return pod

    def owner(self, name: str, cpus: float, deadline: str) -> Manifest:
        """The ReplicaSet of a slice.

        Args:
            name: the slice's.
            cpus: what its pods burn.
            deadline: the uid of the Job `deadline`.
        """
        labels = self.labels(SLICE, name)
        job = {"apiVersion": "batch/v1", "kind": "Job", "name": self.name, "uid": deadline}
        spec = self._spec(cpus, SLICE_INTERVAL) | ({"schedulerName": self.scheduler} if self.scheduler else {})
        return {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": self.name_of(name), "labels": labels, "ownerReferences": [job]},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {RUN_LABEL: self.run, SLICE_LABEL: name}},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }

    def _bare(self, name: str, node: str, labels: Mapping[str, str], cpus: float, interval: str) -> dict[str, Any]:
        spec = self._spec(cpus, interval)
        spec |= {"nodeName": node, "restartPolicy": "Never", "activeDeadlineSeconds": math.ceil(self.lifetime)}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": dict(labels)}, "spec": spec}

    def _spec(self, cpus: float, interval: str) -> dict[str, Any]:
        # A request much smaller than the load: only who looks at utilization sees that a node is hot.
        container = {
            "name": "loadband",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "env": [
                {"name": "LOADBAND_EFFORT", "value": effort(cpus)},
                {"name": "LOADBAND_SCOPE", "value": "cpuset"},
                {"name": "LOADBAND_INTERVAL", "value": interval},
                {"name": "LOADBAND_LOG_LEVEL", "value": "warning"},
                {"name": "LOADBAND_CONTROL_LISTEN", "value": f"[::]:{CONTROL_PORT}"},
                {"name": "LOADBAND_CONTROL_TOKEN", "value": self.token},
            ],
            "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
            "readinessProbe": {
                "httpGet": {"path": "/readyz", "port": METRICS_PORT},
                "periodSeconds": 1,
                "timeoutSeconds": 5,
            },
            "securityContext": _HARMLESS,
            "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "192Mi"}},
        }
        return {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": END_SECONDS,
            "containers": [container],
        }


def effort(cpus: float) -> str:
    """As LOADBAND_EFFORT takes it."""
    return f"{max(cpus, LEAST_EFFORT):.6f}"


def effort_patch(cpus: float) -> Manifest:
    """What changes the load of a ReplicaSet's pods to come; a strategic merge patch."""
    container = {"name": "loadband", "env": [{"name": "LOADBAND_EFFORT", "value": effort(cpus)}]}
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


def placement_patch(node: str | None) -> Manifest:
    """What sends a ReplicaSet's pods to come to a node, or (None) lets the scheduler choose; a merge patch."""
    if node is None:
        return {"spec": {"template": {"spec": {"affinity": None}}}}
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {"spec": {"template": {"spec": {"affinity": affinity}}}}
