"""What the API server's objects say of nodes, pods and evictions. Pure.

Objects are as the API server sends them, in JSON; whatever is missing counts as not so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadband.rebalance.platforms.kubernetes.manifests import SLICE_LABEL

Object = Mapping[str, Any]
KOORDINATOR, LOW_NODE_LOAD = "koord-descheduler", "LowNodeLoad"
"""Koordinator's descheduler as its Events name it, and its strategy that looks at what nodes use."""
_OVERUTILIZED = 'by the reason "node is overutilized'
"""How the Events of that strategy begin to say why: they don't name it."""
TEMPLATE_LABELS = "pod-template-hash", "controller-revision-hash"
"""By which Deployments and StatefulSets name the revision of a pod's template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """What is seen of a node."""

    name: str
    cpus: float
    """What pods may use of it (allocatable)."""
    ready: bool
    open: bool
    """Whether the scheduler may put pods there: neither cordoned nor tainted."""
    version: str = ""
    """Of its kubelet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """What is seen of a pod of a slice, a neighbour or an observer."""

    name: str
    uid: str
    slice: str = ""
    """Empty for an observer."""
    node: str = ""
    """Empty while it has none."""
    address: str = ""
    """Its IP; empty while it has none."""
    phase: str = "Pending"
    ready: bool = False
    leaving: bool = False
    """Whether it was told to end."""
    restarts: int = 0
    ended: str = ""
    """Why its container ended last, or couldn't start, for people: `OOMKilled`."""
    disruption: str = ""
    """The reason of its condition DisruptionTarget."""
    unscheduled: str = ""
    """Why the scheduler found no node for it."""
    namespace: str = ""
    owner: str = ""
    """The uid of the controller that replaces it; empty if none does."""
    owner_kind: str = ""
    template: str = ""
    """Which revision of its owner's template it was made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """Somebody says that they evicted a pod."""

    uid: str
    """The pod's."""
    who: str
    """The controller and its strategy, as in `sigs.k8s.io.descheduler: LowNodeUtilization`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A program that runs in the cluster, as its pods say."""

    pods: Sequence[str]
    """Names of those that are there and weren't told to end, sorted."""
    ready: bool
    """Whether one of them is."""
    image: str = ""
    arguments: Sequence[str] = ()
    """Of its first container."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Of the ConfigMaps that it mounts: contents by ConfigMap and name."""


def workload_of(pods: Sequence[Object], configuration: Mapping[str, Object]) -> Workload:
    """A program, from its pods.

    Args:
        pods: objects.
        configuration: ConfigMaps by name; those that no pod mounts are left out.
    """
    states = {pod["metadata"]["name"]: pod_of(pod) for pod in pods}
    there = sorted(name for name, state in states.items() if not state.leaving)
    ready = [pod for pod in pods if states[pod["metadata"]["name"]].ready and pod["metadata"]["name"] in there]
    first = (ready or list(pods) or [{}])[0]
    spec = first.get("spec") or {}
    container = (spec.get("containers") or [{}])[0]
    mounted = [name for volume in spec.get("volumes") or () if (name := (volume.get("configMap") or {}).get("name"))]
    return Workload(
        pods=there,
        ready=bool(ready),
        image=container.get("image", ""),
        arguments=[*(container.get("command") or ()), *(container.get("args") or ())],
        files={
            f"{name}/{file}": text
            for name in mounted
            for file, text in (configuration.get(name, {}).get("data") or {}).items()
        },
    )


def node_of(found: Object) -> NodeState:
    """The state of a Node."""
    spec, status = found.get("spec") or {}, found.get("status") or {}
    effects = {taint.get("effect") for taint in spec.get("taints") or ()}
    return NodeState(
        name=found["metadata"]["name"],
        cpus=_cpus(str((status.get("allocatable") or {}).get("cpu", "0"))),
        ready=_holds(_conditions(status), "Ready"),
        open=not spec.get("unschedulable") and not effects & {"NoSchedule", "NoExecute"},
        version=(status.get("nodeInfo") or {}).get("kubeletVersion", ""),
    )


def pod_of(found: Object) -> PodState:
    """The state of a Pod."""
    metadata, status = found["metadata"], found.get("status") or {}
    containers: Sequence[Object] = status.get("containerStatuses") or ()
    conditions = _conditions(status)
    disrupted = _holds(conditions, "DisruptionTarget")
    owner: Object = next((each for each in metadata.get("ownerReferences") or () if each.get("controller")), {})
    labels = metadata.get("labels") or {}
    scheduled = conditions.get("PodScheduled", {})
    return PodState(
        name=metadata["name"],
        uid=metadata["uid"],
        slice=labels.get(SLICE_LABEL, ""),
        node=(found.get("spec") or {}).get("nodeName") or "",
        address=status.get("podIP") or "",
        phase=status.get("phase") or "Pending",
        ready=_holds(conditions, "Ready"),
        leaving=bool(metadata.get("deletionTimestamp")),
        restarts=sum(each.get("restartCount", 0) for each in containers),
        ended=", ".join(filter(None, map(_ending, containers))) or status.get("reason") or "",
        disruption=conditions["DisruptionTarget"].get("reason", "") if disrupted else "",
        unscheduled=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        namespace=metadata.get("namespace") or "",
        owner=owner.get("uid", ""),
        owner_kind=owner.get("kind", ""),
        template=next((labels[each] for each in TEMPLATE_LABELS if each in labels), ""),
    )


def eviction_of(found: Object) -> Eviction | None:
    """The eviction that an Event of events.k8s.io is about; None if it is about anything else.

    The Kubernetes descheduler gives the strategy as the Event's reason and `Descheduled` as its action. Koordinator's
    gives `Descheduled` as the reason; which strategy it was can be read from the note only.
    """
    regarding = found.get("regarding") or {}
    if regarding.get("kind") != "Pod" or "Descheduled" not in {found.get("action"), found.get("reason")}:
        return None
    why = found.get("reason") or "no reason"
    if why == "Descheduled":
        note = str(found.get("note") or "")
        why = LOW_NODE_LOAD if _OVERUTILIZED in note else note or "no reason"
    return Eviction(uid=regarding.get("uid", ""), who=f"{found.get('reportingController') or 'somebody'}: {why}")


def _conditions(status: Object) -> Mapping[str, Object]:
    return {each["type"]: each for each in status.get("conditions") or ()}


def _holds(conditions: Mapping[str, Object], kind: str) -> bool:
    return conditions.get(kind, {}).get("status") == "True"


def _ending(container: Object) -> str:
    """Why a container isn't running, or wasn't the last time; empty if it never ended."""
    now, last = container.get("state") or {}, container.get("lastState") or {}
    waiting = (now.get("waiting") or {}).get("reason", "")
    ended = now.get("terminated") or last.get("terminated") or {}
    reason = ended.get("reason") or (f"exit code {ended['exitCode']}" if "exitCode" in ended else "")
    return str(reason or (waiting if waiting != "ContainerCreating" else ""))


def _cpus(quantity: str) -> float:
    """`2` or `1500m`."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
