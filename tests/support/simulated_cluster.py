"""A cluster that obeys at once: an API server behind the protocol `Api`, and counters that the test sets."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from loadband.rebalance.platforms.kubernetes.cluster import RefusedError, Seen
from loadband.rebalance.platforms.kubernetes.manifests import ROLE_LABEL, SLICE_LABEL, Manifest
from loadband.rebalance.platforms.kubernetes.meters import Counters, Reading
from loadband.rebalance.platforms.kubernetes.states import NodeState, PodState, Workload, workload_of

NODES = tuple(NodeState(name=name, cpus=2.0, ready=True, open=True, version="v1.34.0") for name in ("a", "b", "c"))


class FakeApi:
    """Binds pods at once; evicted ones are replaced where their owner's affinity says."""

    def __init__(self, nodes: Sequence[NodeState] = NODES) -> None:
        self.found = nodes
        self.seen: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        self.pods: dict[str, PodState] = {}
        self.made: list[Manifest] = []
        self.patches: list[tuple[str, Manifest]] = []
        self.removed: list[str] = []
        self.wanted: dict[str, str] = {}
        self.errors: dict[str, list[Exception]] = {}
        """By method, what the next calls raise."""
        self.ready = True
        self.stays: list[str] = []
        self.closed = False
        self.program = workload_of([], {})
        self._count = 0

    def _may(self, method: str) -> None:
        if self.errors.get(method):
            raise self.errors[method].pop(0)

    def nodes(self, labels: str) -> Sequence[NodeState]:
        self._may(f"nodes {labels}".strip())
        return self.found

    def create(self, manifest: Manifest) -> str:
        self._may("create")
        self.made.append(manifest)
        self._count += 1
        uid = f"u{self._count}"
        if manifest["kind"] == "Pod":
            labels = manifest["metadata"]["labels"]
            name = labels.get(SLICE_LABEL, "")
            assert labels[ROLE_LABEL]
            self.tell(self._pod(manifest["metadata"]["name"], uid, name, manifest["spec"]["nodeName"]))
        return uid

    def _pod(self, name: str, uid: str, slice_: str, node: str) -> PodState:
        address = f"10.0.0.{self._count}"
        return PodState(name=name, uid=uid, slice=slice_, node=node, address=address, phase="Running", ready=self.ready)

    def tell(self, pod: PodState) -> None:
        """Have a pod's new state seen."""
        self.pods[pod.uid] = pod
        self.seen.put(Seen(time.time(), pods=[pod]))

    def of(self, name: str) -> PodState:
        """The newest pod of a slice."""
        return [pod for pod in self.pods.values() if pod.slice == name][-1]

    def observer(self, node: str) -> PodState:
        return next(pod for pod in self.pods.values() if not pod.slice and pod.node == node)

    def patch_owner(self, name: str, change: Manifest, *, strategic: bool = False) -> None:
        self._may("patch_owner")
        self.patches.append((name, change))
        if not strategic:
            affinity = change["spec"]["template"]["spec"]["affinity"]
            terms = affinity and affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            self.wanted[name] = terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0] if terms else ""

    def evict(self, name: str, uid: str) -> None:
        self._may("evict")
        pod = self.pods[uid]
        assert pod.name == name
        self.tell(replace(pod, leaving=True, disruption="EvictionByEvictionAPI"))
        self._count += 1
        owner = name.removesuffix("-first")
        self.tell(self._pod(f"{owner}-x{self._count}", f"u{self._count}", pod.slice, self.wanted[owner]))

    def remove_owner(self, name: str) -> None:
        self.removed.append(name)

    def remove_pod(self, name: str) -> None:
        self.removed.append(name)

    def remove_all(self, run: str) -> None:
        assert run
        self._may("remove_all")

    def left(self, run: str) -> Sequence[str]:
        assert run
        return self.stays

    def workload(self, namespace: str, labels: str) -> Workload:
        self._may(f"workload {namespace} {labels}")
        return self.program

    def follow(self, run: str, nodes: str) -> queue.SimpleQueue[Seen]:
        assert run
        assert nodes is not None
        return self.seen

    def close(self) -> None:
        self.closed = True


class FakeMeters:
    """Every pod that is asked answers at once: an observer busy by `busy`, all others with `burns`."""

    def __init__(self, interval: float = 0.0, port: int = 0) -> None:
        assert interval >= port * 0
        self.asked: Mapping[str, str] = {}
        self.found: list[Reading] = []
        self.cpus = 2.0
        self.answers = True
        self.started = self.closed = False

    def start(self) -> None:
        self.started = True

    def ask(self, addresses: Mapping[str, str]) -> None:
        self.asked = addresses
        if self.answers and not self.found:
            self.read(time.time(), dict.fromkeys(addresses, 0.0))

    def read(self, at: float, seconds: Mapping[str, float]) -> None:
        """Have counters read; by the uid of a pod, its CPU-seconds."""
        for uid, own in seconds.items():
            self.found.append(Reading(uid, at, Counters(own=own, busy=own, whole=2 * at, cpus=self.cpus)))

    def readings(self) -> list[Reading]:
        found, self.found = self.found, []
        return found

    def close(self) -> None:
        self.closed = True


def refused(status: int) -> RefusedError:
    return RefusedError(status, f"refused with {status}")
