"""Pods, whoever made them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from chart import Object
from e2e.api import Api, ApiError
from prometheus_client.parser import text_string_to_metric_families

IMAGE = os.environ.get("LOADBAND_IMAGE", "localhost/loadband:e2e")
PORT = 10670
HARMLESS: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


Series = Mapping[str, float]
"""A regulator's metrics by name and label values, in the order of exposition: `loadband_cpu_ratio own cpuset`."""


@dataclass(frozen=True)
class Pod:
    """A pod as it was when it was asked for."""

    object: Object
    api: Api

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def node(self) -> str | None:
        found: str | None = self.object["spec"].get("nodeName")
        return found

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"]["namespace"])

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    @property
    def ready(self) -> bool:
        conditions = self.object["status"].get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    @property
    def leaving(self) -> bool:
        return "deletionTimestamp" in self.object["metadata"]

    @property
    def restarts(self) -> int:
        return sum(one["restartCount"] for one in self.object["status"].get("containerStatuses", []))

    def again(self) -> Pod:
        """The same as it is now."""
        return Pod(self.api.get(self.path), self.api)

    def series(self) -> Series:
        """Its metrics.

        Raises:
            LookupError: it doesn't answer (yet).
        """
        try:
            text = self.api.text(f"{self.path}:{PORT}/proxy/metrics")
        except ApiError as error:
            raise LookupError(str(error)) from error
        return {
            " ".join((sample.name, *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def state(self) -> str:
        series = self.series()
        return next(name.split()[1] for name, on in series.items() if name.startswith("loadband_state ") and on)


def through(namespace: str, pod: str, port: int, path: str) -> str:
    """Where the API server forwards to a pod."""
    return f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"


def pod_running(namespace: str, name: str, node: str, script: str, cpu: str) -> Object:
    """A pod on a certain node that runs a Python script."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": name,
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", script],
                    "securityContext": HARMLESS,
                    "resources": {"requests": {"cpu": cpu}},
                }
            ],
        },
    }
