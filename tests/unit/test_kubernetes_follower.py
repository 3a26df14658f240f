"""A cluster that is only followed, through an API server that refuses whatever isn't a read."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from api_server import FakeServer, a_config, a_status, an_object
from lightkube import Client

from loadband.rebalance.events import Disturbance, Event, Move, MoveState, Trouble
from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.kubernetes import api as module
from loadband.rebalance.platforms.kubernetes import follower as follower_module
from loadband.rebalance.platforms.kubernetes.api import Server
from loadband.rebalance.platforms.kubernetes.cluster import Seen, Watching
from loadband.rebalance.platforms.kubernetes.follower import LOST_SECONDS, Follower
from loadband.rebalance.platforms.kubernetes.pods import EVICTED
from loadband.rebalance.platforms.kubernetes.states import Eviction, NodeState, PodState

NODES = [NodeState(name=name, cpus=2.0, ready=True, open=True, version="v1.34.0") for name in "ab"]
POD = PodState(
    name="web-1", uid="u1", namespace="shop", node="a", ready=True, owner="rs", owner_kind="ReplicaSet", template="t"
)


class ReadOnly(FakeServer):
    """An account with the rights get, list and watch: everything else is forbidden, and remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []
        self.forbidden: set[str] = set()
        """What may not even be listed."""
        self.later: dict[str, list[dict[str, Any]]] = {}
        """What there is once a watch has said its lines."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        plural = request.url.path.split("/")[-1]
        if request.method != "GET" or plural in self.forbidden:
            self.requests.append(request)
            self.refused.append(f"{request.method} {request.url.path}")
            return httpx2.Response(403, json=a_status(403, f"{plural} is forbidden"), request=request)
        answer = super().handle_request(request)
        if request.url.params.get("watch") and plural in self.later:
            self.objects[plural] = self.later.pop(plural)
        return answer


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ReadOnly:
    monkeypatch.setattr(module, "AGAIN", 0.01)
    return ReadOnly()


def server(fake: ReadOnly) -> Server:
    return Server(Client(a_config(), namespace="default", transport=fake))


def object_of(pod: PodState, **status: Any) -> dict[str, Any]:
    """A pod as the API server has it."""
    found = an_object("Pod", pod.name, **{"pod-template-hash": pod.template})
    found["metadata"] |= {"uid": pod.uid, "namespace": pod.namespace}
    found["metadata"]["ownerReferences"] = [{"kind": pod.owner_kind, "uid": pod.owner, "controller": True}]
    if pod.leaving:
        found["metadata"]["deletionTimestamp"] = "2026-11-27T12:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if pod.ready else "False"}]
    if pod.disruption:
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": pod.disruption})
    return found | {"spec": {"nodeName": pod.node}, "status": {"conditions": conditions, **status}}


def test_a_move_is_seen_with_nothing_but_reads(fake: ReadOnly) -> None:
    fake.objects["nodes"] = [an_object("Node", name) for name in "ab"]
    fake.objects["pods"] = [object_of(POD)]
    successor = replace(POD, name="web-2", uid="u2", node="b")
    fake.lines["pods"] = [
        {"type": "MODIFIED", "object": object_of(replace(POD, leaving=True, disruption=EVICTED))},
        {"type": "ADDED", "object": object_of(successor)},
        {"type": "DELETED", "object": object_of(replace(POD, leaving=True, disruption=EVICTED))},
    ]
    fake.later["pods"] = [object_of(successor)]
    eviction: dict[str, Any] = {"action": "Descheduled", "reason": "LowNodeUtilization"}
    eviction |= {
        "reportingController": "descheduler",
        "regarding": {"kind": "Pod", "uid": "u1"},
        "metadata": {"name": "e", "resourceVersion": "3"},
    }
    fake.lines["events"] = [{"type": "ADDED", "object": eviction}]
    api = server(fake)
    follower = Follower(api, [], "")
    follower.start()
    found = until(follower, lambda events: any(isinstance(each, Move) and each.state.is_end for each in events))
    follower.close()
    moves = [each for each in found if isinstance(each, Move)]
    assert [(each.state, each.source, each.destination) for each in moves] == [
        (MoveState.ACCEPTED, "a", "b"),
        (MoveState.DONE, "a", "b"),
    ]
    assert {each.by for each in moves} <= {"descheduler: LowNodeUtilization", "somebody through the Eviction API"}
    assert sorted(follower.hosts()) == ["a", "b"]
    assert fake.refused == []
    assert {request.method for request in fake.requests} == {"GET"}
    paths = {request.url.path for request in fake.requests}
    assert paths == {"/api/v1/nodes", "/api/v1/pods", "/apis/events.k8s.io/v1/events"}


def until(follower: Follower, holds: Callable[[list[Event]], bool]) -> list[Event]:
    found, end = list[Event](), time.monotonic() + 20.0
    while not holds(found):
        assert time.monotonic() < end, found
        found += follower.poll()
        time.sleep(0.02)
    return found


def test_only_the_named_namespaces_and_nodes_are_read(fake: ReadOnly) -> None:
    fake.objects["nodes"] = [an_object("Node", name, pool="x") for name in "ab"]
    follower = Follower(server(fake), ["shop", "bank"], "pool=x")
    follower.start()
    follower.close()
    paths = {request.url.path for request in fake.requests}
    assert paths == {"/api/v1/nodes"} | {
        f"{kind}/namespaces/{name}/{what}"
        for name in ("shop", "bank")
        for kind, what in (("/api/v1", "pods"), ("/apis/events.k8s.io/v1", "events"))
    }
    asked = [request.url.params.get("labelSelector") for request in fake.requests if request.url.path.endswith("nodes")]
    assert set(asked) == {"pool=x"}
    assert follower.describe().settings["namespaces"] == "shop, bank"


@pytest.mark.parametrize("what", ["nodes", "pods", "events"])
def test_an_account_that_may_not_read_is_refused_before_anything_is_recorded(fake: ReadOnly, what: str) -> None:
    fake.objects["nodes"] = [an_object("Node", "a")]
    fake.forbidden = {what}
    follower = Follower(server(fake), [], "")
    with pytest.raises(PlatformError, match=f"{what} is forbidden"):
        follower.start()
    follower.close()


def test_a_cluster_without_nodes_is_refused(fake: ReadOnly) -> None:
    with pytest.raises(PlatformError, match="there is no node with the labels pool=x"):
        Follower(server(fake), [], "pool=x").start()


# What the watches say


class Canned:
    """Watches whose words are the test's."""

    def __init__(self) -> None:
        self.seen: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        self.closed = False

    def nodes(self, labels: str) -> Sequence[NodeState]:
        assert labels == ""
        return NODES

    def follow_all(self, namespaces: Sequence[str], nodes: str) -> queue.SimpleQueue[Seen]:
        assert (namespaces, nodes) == ((), "")
        return self.seen

    def close(self) -> None:
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def followed() -> Iterator[tuple[Canned, Clock, Follower]]:
    canned, clock = Canned(), Clock()
    api: Watching = canned
    follower = Follower(api, [], "", clock)
    canned.seen.put(Seen(0.0, nodes=NODES, watch="nodes"))
    canned.seen.put(Seen(0.0, pods=[POD], whole=True, watch="pods"))
    canned.seen.put(Seen(0.0, watch="events"))
    follower.start()
    assert follower.describe().version == "v1.34.0"
    yield canned, clock, follower
    follower.close()
    assert canned.closed


def test_a_gap_is_told_when_it_has_lasted_and_when_it_is_over(followed: tuple[Canned, Clock, Follower]) -> None:
    canned, clock, follower = followed
    clock.now = 10.0
    canned.seen.put(Seen(10.0, watch="pods", trouble="connection refused"))
    assert follower.poll() == []
    clock.now += LOST_SECONDS
    (begin,) = follower.poll()
    assert begin == Disturbance(
        at=10.0,
        what=Trouble.MONITORING_DOWN,
        who="kube-apiserver",
        detail="nothing is seen of the cluster: connection refused",
    )
    assert follower.poll() == []
    clock.now = 40.0
    canned.seen.put(Seen(40.0, pods=[replace(POD, name="web-2", uid="u2", node="b")], whole=True, watch="pods"))
    (over,) = follower.poll()
    assert isinstance(over, Disturbance)
    assert (over.at, over.until, over.who) == (10.0, 40.0, "kube-apiserver")
    clock.now = 60.0
    assert [each.state for each in follower.poll() if isinstance(each, Move)] == [MoveState.ACCEPTED, MoveState.DONE]


def test_nodes_that_come_go_and_fall_ill(followed: tuple[Canned, Clock, Follower]) -> None:
    canned, _, follower = followed
    ill = replace(NODES[0], ready=False)
    canned.seen.put(Seen(5.0, nodes=[ill, NODES[1]]))
    (begin,) = follower.poll()
    assert isinstance(begin, Disturbance)
    assert (begin.at, begin.what, begin.host) == (5.0, Trouble.HOST_NOT_READY, "a")
    canned.seen.put(Seen(9.0, nodes=[NODES[1], replace(NODES[0], name="c")]))
    (over,) = follower.poll()
    assert isinstance(over, Disturbance)
    assert over.until == 9.0
    assert sorted(follower.hosts()) == ["b", "c"]


def test_pods_one_by_one_and_who_evicts_them(followed: tuple[Canned, Clock, Follower]) -> None:
    canned, clock, follower = followed
    canned.seen.put(Seen(10.0, pods=[replace(POD, leaving=True, disruption=EVICTED)]))
    canned.seen.put(Seen(10.5, evictions=[Eviction(uid="u1", who="mover: hot")]))
    canned.seen.put(Seen(11.0, gone=[replace(POD, leaving=True)]))
    clock.now = 11.0
    (move,) = follower.poll()
    assert isinstance(move, Move)
    assert (move.at, move.by, move.source) == (10.0, "mover: hot", "a")


def test_a_server_that_lists_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "BEGIN_SECONDS", 0.01)
    with pytest.raises(PlatformError, match=r"the API server lists nothing for 0\.01 s"):
        Follower(Canned(), [], "").start()
