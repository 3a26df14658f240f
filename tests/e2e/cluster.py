"""A real Kubernetes with a CPU meter on each node.

Inputs are in the environment: KUBECONFIG; LOADBAND_IMAGE, what to install; LOAD_IMAGE, a command that copies the image
given as its argument to the nodes, where they can't pull it. helm and kubectl are on PATH.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from chart import Object
from e2e.api import Api, kubectl, wait
from e2e.meter import METER, METERS, Node, metered
from e2e.pods import Pod, pod_running
from e2e.release import REGULATORS, Release

OURS = "app.kubernetes.io/part-of=loadband-e2e"
"""The label of the namespaces that are made here."""
LABELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
LABELS |= dict([OURS.split("=")])


def on(node: Node) -> Object:
    """The selector of one node."""
    return {"kubernetes.io/hostname": node.name}


@dataclass(frozen=True)
class Cluster:
    """A cluster with a meter on each of its nodes."""

    api: Api
    nodes: Sequence[Node]

    @contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """A namespace that enforces Pod Security "restricted", gone afterwards."""
        create_namespace(name)
        try:
            yield name
        finally:
            kubectl("delete", "namespace", name, "--wait=false")

    @contextmanager
    def release(self, namespace: str, values: Mapping[str, Any], name: str = "loadband") -> Iterator[Release]:
        """The chart installed and ready, gone afterwards."""
        release = Release(name, namespace, self.api)
        try:
            release.install(values)
            yield release
        finally:
            release.uninstall()

    @contextmanager
    def cordoned(self, node: Node) -> Iterator[None]:
        """A node that takes no new pods."""
        kubectl("cordon", node.name)
        try:
            yield
        finally:
            kubectl("uncordon", node.name)

    def uncordon(self, node: Node) -> None:
        kubectl("uncordon", node.name)

    def drain(self, node: Node) -> None:
        """Evict the regulators of a node; it takes no new pods from then on."""
        kubectl("drain", node.name, f"--pod-selector={REGULATORS}", "--timeout=60s")

    @contextmanager
    def neighbour(self, namespace: str, node: Node) -> Iterator[Pod]:
        """Somebody else, who wants all CPUs of a node and is worth more to it than a regulator."""
        body = pod_running(namespace, "neighbour", node.name, _NEIGHBOUR, cpu="500m")
        kubectl("apply", "-f", "-", given=yaml.safe_dump(body))
        path = f"/api/v1/namespaces/{namespace}/pods/neighbour"
        try:
            wait(lambda: Pod(self.api.get(path), self.api).ready, 30, "the neighbour")
            yield Pod(self.api.get(path), self.api)
        finally:
            kubectl("delete", "pod", "neighbour", "--namespace", namespace, "--grace-period=0", "--force")

    def has(self, image: str) -> bool:
        """Whether a node has an image; kubelets say so half a minute after it came."""

        def listed() -> bool:
            nodes = self.api.items("/api/v1/nodes")
            return any(image in one["names"] for node in nodes for one in node["status"].get("images", []))

        try:
            wait(listed, 45, f"the image {image}")
        except AssertionError:
            return False
        return True

    @cached_property
    def kinds(self) -> set[str]:
        """The groups that the API server has."""
        return {group["name"] for group in self.api.get("/apis")["groups"]}


def create_namespace(name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": LABELS}}
    kubectl("apply", "-f", "-", given=yaml.safe_dump(body))


_NEIGHBOUR = """
import hashlib, os, threading
def burn():
    while True:
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 20000)
for _ in os.sched_getaffinity(0):
    threading.Thread(target=burn).start()
"""


@contextmanager
def open_cluster() -> Iterator[Cluster]:
    """The cluster of KUBECONFIG, with a meter on each schedulable node."""
    with subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout
            said = proxy.stdout.readline()
            assert "Starting to serve on" in said, said
            api = Api(f"http://{said.split()[-1]}")
            names = [
                one["metadata"]["name"]
                for one in api.items("/api/v1/nodes")
                if not any(taint["effect"] != "PreferNoSchedule" for taint in one["spec"].get("taints", []))
            ]
            create_namespace(METERS)
            try:
                meters = [pod_running(METERS, f"meter-{name}", name, METER, cpu="50m") for name in names]
                kubectl("apply", "-f", "-", given=yaml.safe_dump_all(meters))
                yield Cluster(api, [metered(name, api) for name in sorted(names)])
            finally:
                kubectl("delete", "namespace", f"--selector={OURS}")
        finally:
            proxy.terminate()
