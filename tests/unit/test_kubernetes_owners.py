"""Platform kubernetes, only followed: what is seen of everybody's pods becomes moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadband.rebalance.events import Disturbance, Event, Move, MoveState, Trouble
from loadband.rebalance.platforms.kubernetes.owners import AT_ONCE, REPLACED_WITHIN, Owners
from loadband.rebalance.platforms.kubernetes.pods import EVICTED, PATIENCE, SOMEBODY_DELETED, SOMEBODY_EVICTED
from loadband.rebalance.platforms.kubernetes.states import PodState, pod_of

ACCEPTED, DONE, FAILED = MoveState.ACCEPTED, MoveState.DONE, MoveState.FAILED
DESCHEDULER = "sigs.k8s.io/descheduler: LowNodeUtilization"
FIRST = PodState(
    name="web-1", uid="u1", namespace="shop", node="a", ready=True, owner="rs", owner_kind="ReplicaSet", template="t1"
)
NEXT = replace(FIRST, name="web-2", uid="u2", node="", ready=False)


def leaving(pod: PodState, disruption: str = "") -> PodState:
    return replace(pod, leaving=True, disruption=disruption)


@pytest.fixture
def owners() -> Owners:
    """Nodes `a` and `b` are followed; the owner `rs` has a pod on `a`."""
    found = Owners()
    found.follow(["a", "b"])
    found.listed(0.0, [FIRST])
    return found


def moves(events: list[Event]) -> list[Move]:
    return [each for each in events if isinstance(each, Move)]


def states(events: list[Event]) -> list[tuple[float, MoveState, str, str | None]]:
    return [(each.at, each.state, each.source, each.destination) for each in moves(events)]


def arrive(owners: Owners, at: float, pod: PodState, node: str) -> PodState:
    """A pod comes, is bound two seconds later, and is ready after one more; returns it."""
    owners.seen(at, replace(pod, node="", ready=False))
    owners.seen(at + 2, replace(pod, node=node, ready=False))
    owners.seen(at + 3, replace(pod, node=node, ready=True))
    return replace(pod, node=node, ready=True)


def test_an_evicted_pod_moves_to_where_its_owners_next_pod_gets_ready(owners: Owners) -> None:
    owners.seen(100.0, leaving(FIRST, EVICTED))
    owners.evicted_by(100.5, "u1", DESCHEDULER)
    accepted = moves(owners.events(101.0))
    assert states(owners.events(101.0)) == []
    owners.gone(103.0, leaving(FIRST, EVICTED))
    arrive(owners, 101.0, NEXT, "b")
    done = moves(owners.events(105.0))
    assert [*states([*accepted, *done])] == [(100.0, ACCEPTED, "a", None), (104.0, DONE, "a", "b")]
    assert {each.by for each in (*accepted, *done)} == {DESCHEDULER}
    assert {(each.move, each.slice) for each in (*accepted, *done)} == {("move-1", "shop/web-1")}
    assert (done[0].seconds, done[0].downtime) == (4.0, None)
    assert done[0].reason == "the pod shop/web-1 was evicted"
    assert owners.events(1e6) == []


def test_who_evicted_may_be_known_before_the_pod_leaves(owners: Owners) -> None:
    owners.evicted_by(99.0, "u1", DESCHEDULER)
    owners.seen(100.0, leaving(FIRST))
    (move,) = moves(owners.events(100.0))
    assert (move.at, move.by) == (100.0, DESCHEDULER)


def test_an_eviction_that_nobody_names_is_held_back_for_a_while(owners: Owners) -> None:
    owners.seen(100.0, leaving(FIRST, EVICTED))
    assert owners.events(100.0 + PATIENCE - 0.1) == []
    (move,) = moves(owners.events(100.0 + PATIENCE))
    assert move.by == SOMEBODY_EVICTED


def test_a_deleted_pod_moved_only_if_its_owner_replaces_it_at_once(owners: Owners) -> None:
    owners.seen(100.0, leaving(FIRST))
    arrive(owners, 101.0, NEXT, "b")
    found = owners.events(110.0)
    assert [each.state for each in moves(found)] == [ACCEPTED, DONE]
    assert {each.by for each in moves(found)} == {SOMEBODY_DELETED}


@pytest.mark.parametrize(
    ("later", "successor"),
    [
        (AT_ONCE + 1, NEXT),  # scaled down, and up again
        (1.0, replace(NEXT, template="t2")),  # rolled out
        (1.0, replace(NEXT, owner="another")),
    ],
)
def test_scaling_and_rolling_out_are_no_moves(owners: Owners, later: float, successor: PodState) -> None:
    owners.seen(100.0, leaving(FIRST))
    arrive(owners, 100.0 + later, successor, "b")
    owners.gone(130.0, FIRST)
    assert owners.events(200.0) == []
    assert vars(owners)["_leaving"] == vars(owners)["_unreplaced"] == vars(owners)["_coming"] == {}


@pytest.mark.parametrize(
    "pod",
    [
        replace(FIRST, owner="", owner_kind=""),
        replace(FIRST, owner_kind="DaemonSet"),
        replace(FIRST, owner_kind="Node"),
        replace(FIRST, node="elsewhere"),
        replace(FIRST, node=""),
    ],
)
def test_what_nobody_replaces_or_is_bound_to_its_node_or_elsewhere_does_not_move(pod: PodState) -> None:
    owners = Owners()
    owners.follow(["a", "b"])
    owners.listed(0.0, [pod])
    owners.seen(100.0, leaving(pod, EVICTED))
    arrive(owners, 101.0, replace(NEXT, owner=pod.owner, owner_kind=pod.owner_kind), "b")
    assert owners.events(200.0) == []


def test_a_slice_keeps_its_name_over_its_successors(owners: Owners) -> None:
    owners.seen(100.0, leaving(FIRST, EVICTED))
    second = arrive(owners, 101.0, NEXT, "b")
    owners.gone(105.0, FIRST)
    owners.seen(200.0, leaving(second, EVICTED))
    arrive(owners, 201.0, replace(NEXT, name="web-3", uid="u3"), "a")
    found = moves(owners.events(300.0))
    assert {each.slice for each in found} == {"shop/web-1"}
    assert [(each.source, each.destination) for each in found if each.state is DONE] == [("a", "b"), ("b", "a")]
    assert found[-1].reason == "the pod shop/web-2 was evicted"


def test_of_two_pods_of_one_owner_each_has_a_successor_of_its_own(owners: Owners) -> None:
    other = replace(FIRST, name="web-9", uid="u9", node="b")
    owners.seen(50.0, other)
    owners.seen(100.0, leaving(FIRST, EVICTED))
    owners.seen(100.0, leaving(other, EVICTED))
    arrive(owners, 101.0, NEXT, "b")
    arrive(owners, 101.5, replace(NEXT, name="web-3", uid="u3"), "a")
    found = [each for each in moves(owners.events(300.0)) if each.state is DONE]
    assert [(each.slice, each.source, each.destination) for each in found] == [
        ("shop/web-1", "a", "b"),
        ("shop/web-9", "b", "a"),
    ]


def test_an_evicted_pod_that_nobody_replaces_has_failed(owners: Owners) -> None:
    owners.seen(100.0, leaving(FIRST, EVICTED))
    owners.gone(101.0, FIRST)
    owners.events(110.0)
    (move,) = moves(owners.events(101.0 + REPLACED_WITHIN))
    assert (move.state, move.reason) == (FAILED, "nobody replaced it within 600 s")
    assert vars(owners)["_leaving"] == {}


@pytest.mark.parametrize("how", ["leaves", "ends", "is gone"])
def test_a_successor_that_does_not_get_ready_ends_the_move(owners: Owners, how: str) -> None:
    owners.seen(100.0, leaving(FIRST, EVICTED))
    coming = replace(NEXT, node="b")
    owners.seen(101.0, coming)
    if how == "leaves":
        owners.seen(102.0, leaving(coming))
    elif how == "ends":
        owners.seen(102.0, replace(coming, phase="Failed"))
    else:
        owners.gone(102.0, coming)
    failed = [each for each in moves(owners.events(200.0)) if each.state is FAILED]
    assert [(each.at, each.reason) for each in failed] == [(102.0, "its successor left before it was ready")]


def test_the_clusters_own_protection_is_pressure_and_no_move(owners: Owners) -> None:
    owners.seen(100.0, replace(FIRST, phase="Failed", disruption="TerminationByKubelet"))
    other = replace(FIRST, uid="u9", node="b")
    owners.seen(100.0, other)
    owners.seen(101.0, leaving(other, "PreemptionByScheduler"))
    arrive(owners, 102.0, NEXT, "b")
    found = owners.events(200.0)
    assert [(each.what, each.host, each.detail) for each in found if isinstance(each, Disturbance)] == [
        (Trouble.PRESSURE, "a", "the pod shop/web-1 was evicted by the kubelet"),
        (Trouble.PRESSURE, "b", "the pod shop/web-1 was preempted by the scheduler"),
    ]
    assert moves(found) == []


def test_a_list_after_a_gap_finds_what_was_missed(owners: Owners) -> None:
    elsewhere = replace(FIRST, uid="x", namespace="bank")
    owners.listed(50.0, [elsewhere], "bank")
    owners.listed(100.0, [replace(NEXT, node="b", ready=True)], "shop")
    found = moves(owners.events(200.0))
    assert [(each.at, each.state, each.destination) for each in found] == [
        (100.0, ACCEPTED, "b"),
        (100.0, DONE, "b"),
    ]


def test_what_left_before_anybody_looked_and_who_is_unknown_are_nothing(owners: Owners) -> None:
    owners.seen(1.0, leaving(replace(FIRST, uid="u0"), EVICTED))
    owners.evicted_by(1.0, "u0", DESCHEDULER)
    owners.gone(2.0, replace(FIRST, uid="u0"))
    assert owners.events(100.0) == []


@given(st.lists(st.tuples(st.sampled_from("lsgre"), st.integers(0, 5)), max_size=60))
def test_nothing_is_kept_of_pods_that_are_gone(steps: list[tuple[str, int]]) -> None:
    """Whatever happens, in whatever order: memory is bounded by the pods that there are."""
    owners = Owners()
    owners.follow(["a", "b"])
    at = 0.0
    found: list[Event] = []
    for what, number in steps:
        at += 1.0
        pod = replace(FIRST, uid=f"u{number}", name=f"web-{number}", node="a" if number % 2 else "b")
        match what:
            case "l":
                owners.seen(at, leaving(pod, EVICTED))
            case "s":
                owners.seen(at, pod)
            case "g":
                owners.gone(at, pod)
            case "r":
                owners.listed(at, [pod])
            case _:
                owners.evicted_by(at, pod.uid, DESCHEDULER)
        found += owners.events(at)
    owners.listed(at, [])
    for later in (1.0, REPLACED_WITHIN + 1, 2 * REPLACED_WITHIN + 2):
        found += owners.events(at + later)
    kept = {name: value for name, value in vars(owners).items() if isinstance(value, dict)}
    assert not any(kept.values()), kept
    ended = [each.move for each in moves(found) if each.state.is_end]
    assert sorted(ended) == sorted(each.move for each in moves(found) if each.state is ACCEPTED)


def test_a_pods_owner_is_its_controller() -> None:
    references = [
        {"kind": "Config", "uid": "c"},
        {"kind": "ReplicaSet", "uid": "rs", "controller": True},
    ]
    labels = {"pod-template-hash": "t1", "app": "web"}
    metadata = {"name": "web-1", "uid": "u1", "namespace": "shop", "ownerReferences": references, "labels": labels}
    found = pod_of({"metadata": metadata, "spec": {"nodeName": "a"}})
    assert (found.owner, found.owner_kind, found.template) == ("rs", "ReplicaSet", "t1")
    assert found.namespace == "shop"
