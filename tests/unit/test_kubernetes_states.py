"""Platform kubernetes: what the API server's objects say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from loadband.rebalance.platforms.kubernetes.states import (
    Eviction,
    NodeState,
    PodState,
    eviction_of,
    node_of,
    pod_of,
)

Object = Mapping[str, Any]

NODE: Object = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "worker-1", "labels": {"kubernetes.io/hostname": "worker-1"}},
    "spec": {"podCIDR": "10.244.1.0/24"},
    "status": {
        "allocatable": {"cpu": "3920m", "memory": "16Gi", "pods": "110"},
        "capacity": {"cpu": "4"},
        "conditions": [
            {"type": "MemoryPressure", "status": "False"},
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
        ],
        "nodeInfo": {"kubeletVersion": "v1.34.1", "osImage": "Debian"},
    },
}
METADATA: Object = {
    "name": "loadband-1a2b-resident-1-1-x7k2p",
    "uid": "6f1c",
    "labels": {"loadband-run": "1a2b", "loadband-slice": "resident-1-1"},
}
READY = {"type": "Ready", "status": "True"}


def pod(status: Object, **metadata: object) -> Object:
    """A pod on `worker-1`."""
    return {"metadata": {**METADATA, **metadata}, "spec": {"nodeName": "worker-1"}, "status": status}


def container(state: Object, last: Object | None = None, restarts: int = 0) -> Object:
    return {"name": "loadband", "state": state, "lastState": last or {}, "restartCount": restarts}


def test_a_node_is_read() -> None:
    assert node_of(NODE) == NodeState(name="worker-1", cpus=3.92, ready=True, open=True, version="v1.34.1")


def test_a_node_of_which_nothing_is_known_has_no_cpus_and_is_not_ready() -> None:
    bare = {"metadata": {"name": "new"}, "spec": None, "status": None}
    assert node_of(bare) == NodeState(name="new", cpus=0.0, ready=False, open=True)


@pytest.mark.parametrize(("written", "cpus"), [("2", 2.0), ("1500m", 1.5), ("0.5", 0.5)])
def test_cpus_are_whole_or_thousandths(written: str, cpus: float) -> None:
    assert node_of({**NODE, "status": {"allocatable": {"cpu": written}}}).cpus == cpus


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_a_node_whose_kubelet_is_silent_is_not_ready(status: str) -> None:
    assert not node_of({**NODE, "status": {"conditions": [{"type": "Ready", "status": status}]}}).ready


@pytest.mark.parametrize(
    ("spec", "takes_pods"),
    [
        ({"unschedulable": True}, False),
        ({"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}, False),
        ({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}, False),
        ({"taints": [{"key": "dear", "effect": "PreferNoSchedule"}]}, True),
        ({"unschedulable": False, "taints": None}, True),
    ],
)
def test_a_node_is_open_unless_cordoned_or_tainted(spec: Object, *, takes_pods: bool) -> None:
    assert node_of({**NODE, "spec": spec}).open is takes_pods


def test_a_running_pod_is_read() -> None:
    running = container({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    status = {
        "phase": "Running",
        "podIP": "10.244.1.7",
        "conditions": [READY, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [running],
    }
    assert pod_of(pod(status)) == PodState(
        name="loadband-1a2b-resident-1-1-x7k2p",
        uid="6f1c",
        slice="resident-1-1",
        node="worker-1",
        address="10.244.1.7",
        phase="Running",
        ready=True,
    )


def test_a_new_pod_has_neither_node_nor_address() -> None:
    assert pod_of({"metadata": {"name": "p", "uid": "u"}}) == PodState(name="p", uid="u")


def test_a_pod_that_no_node_takes_says_why() -> None:
    waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: cordoned"}
    found = pod_of({"metadata": METADATA, "spec": {}, "status": {"phase": "Pending", "conditions": [waiting]}})
    assert (found.node, found.unscheduled) == ("", "0/3 nodes: cordoned")


def test_an_evicted_pod_is_leaving_and_says_by_what() -> None:
    disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    status = {"phase": "Running", "conditions": [READY, disrupted]}
    found = pod_of(pod(status, deletionTimestamp="2026-01-01T00:00:00Z"))
    assert (found.leaving, found.disruption) == (True, "EvictionByEvictionAPI")


def test_a_disruption_that_was_called_off_is_none() -> None:
    disrupted = {"type": "DisruptionTarget", "status": "False", "reason": "EvictionByEvictionAPI"}
    assert pod_of(pod({"conditions": [disrupted]})).disruption == ""


@pytest.mark.parametrize(
    ("state", "last", "why"),
    [
        ({"running": {}}, {"terminated": {"reason": "OOMKilled", "exitCode": 137}}, "OOMKilled"),
        ({"terminated": {"reason": "Error", "exitCode": 1}}, {"terminated": {"reason": "OOMKilled"}}, "Error"),
        ({"terminated": {"exitCode": 0}}, None, "exit code 0"),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"reason": "OOMKilled"}}, "OOMKilled"),
        ({"waiting": {"reason": "ImagePullBackOff"}}, None, "ImagePullBackOff"),
        ({"waiting": {"reason": "ContainerCreating"}}, None, ""),
        ({"running": {}}, None, ""),
        (None, None, ""),
    ],
)
def test_a_container_says_why_it_ended(state: Object, last: Object, why: str) -> None:
    assert pod_of(pod({"containerStatuses": [container(state, last)]})).ended == why


def test_restarts_and_ends_are_those_of_all_containers() -> None:
    ended = {"terminated": {"reason": "Error"}}
    found = pod_of(pod({"containerStatuses": [container({}, ended, 2), container({}, None, 1), container(ended)]}))
    assert (found.restarts, found.ended) == (3, "Error, Error")


def test_a_pod_that_the_kubelet_evicted_says_so() -> None:
    found = pod_of(pod({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}))
    assert (found.phase, found.ended, found.ready) == ("Failed", "Evicted", False)


DESCHEDULED: Object = {
    "apiVersion": "events.k8s.io/v1",
    "kind": "Event",
    "action": "Descheduled",
    "reason": "LowNodeUtilization",
    "reportingController": "sigs.k8s.io/descheduler",
    "regarding": {"kind": "Pod", "name": "loadband-1a2b-resident-1-1-x7k2p", "uid": "6f1c"},
    "note": "pod evicted from worker-1 node by sigs.k8s.io/descheduler",
}


def test_the_descheduler_says_whom_it_evicted() -> None:
    assert eviction_of(DESCHEDULED) == Eviction(uid="6f1c", who="sigs.k8s.io/descheduler: LowNodeUtilization")


def test_an_eviction_without_author_is_somebodys() -> None:
    anonymous = {"action": "Descheduled", "regarding": {"kind": "Pod"}}
    assert eviction_of(anonymous) == Eviction(uid="", who="somebody: no reason")


@pytest.mark.parametrize(
    ("why", "who"),
    [
        ("node is overutilized, node cpu usage(81.20%)>threshold(65.00%)", "koord-descheduler: LowNodeLoad"),
        (
            "pod has wrong affinity",
            'koord-descheduler: Pod evicted from node "a" by the reason "pod has wrong affinity"',
        ),
    ],
)
def test_koordinators_descheduler_says_whom_it_evicted_and_its_note_says_why(why: str, who: str) -> None:
    note = f'Pod evicted from node "a" by the reason "{why}"'
    found = {"action": "Migrating", "reason": "Descheduled", "reportingController": "koord-descheduler", "note": note}
    assert eviction_of({**DESCHEDULED, **found}) == Eviction(uid="6f1c", who=who)


@pytest.mark.parametrize("other", [{"action": "Binding"}, {"regarding": {"kind": "Node"}}, {"regarding": None}])
def test_other_events_are_no_evictions(other: Object) -> None:
    assert eviction_of({**DESCHEDULED, **other}) is None
