"""Platform kubernetes: what is seen of pods becomes moves, deaths and pressure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadband.rebalance.events import Disturbance, Event, Move, MoveState, Trouble
from loadband.rebalance.platforms.kubernetes.pods import (
    EVICTED,
    PATIENCE,
    PENDING,
    PROTECTION,
    SOMEBODY_DELETED,
    SOMEBODY_EVICTED,
    Book,
)
from loadband.rebalance.platforms.kubernetes.states import PodState

ASKED, ACCEPTED, DONE, FAILED = MoveState.ASKED, MoveState.ACCEPTED, MoveState.DONE, MoveState.FAILED
DESCHEDULER = "sigs.k8s.io/descheduler: LowNodeUtilization"
FIRST = PodState(name="r-s1-first", uid="u1", slice="s1", node="a", address="10.0.0.1", phase="Running", ready=True)
SECOND = replace(FIRST, name="r-s1-x", uid="u2", node="b", address="10.0.0.2")
LATER = 1000.0
"""When nothing is held back any more."""


def leaving(pod: PodState, disruption: str = "") -> PodState:
    return replace(pod, leaving=True, disruption=disruption)


def unbound(pod: PodState) -> PodState:
    return replace(pod, node="", address="", phase="Pending", ready=False)


@pytest.fixture
def book() -> Book:
    """A slice `s1` on node `a` and a neighbour `n1`."""
    found = Book(["a", "b", "c"])
    found.add("s1", movable=True)
    found.add("n1", movable=False)
    found.seen(0.0, FIRST)
    found.seen(0.0, PodState(name="r-n1", uid="n", slice="n1", node="a", phase="Running", ready=True))
    return found


def moves(events: list[Event]) -> list[tuple[float, MoveState]]:
    assert all(isinstance(each, Move) for each in events)
    return [(each.at, each.state) for each in events if isinstance(each, Move)]


def last(events: list[Event]) -> Move:
    found = events[-1]
    assert isinstance(found, Move)
    return found


def troubles(events: list[Event]) -> list[tuple[Trouble, str]]:
    assert all(isinstance(each, Disturbance) for each in events)
    return [(each.what, each.detail) for each in events if isinstance(each, Disturbance)]


# Evicted by this run


def test_an_eviction_that_this_run_asks_for_is_told_at_once_step_by_step(book: Book) -> None:
    asked = book.ask(10.0, "s1", "b", "mover", "a is hot")
    assert asked.pod == FIRST
    assert book.moves("s1")
    first = last(book.events(10.0))
    assert first == Move(
        at=10.0, move=asked.move, state=ASKED, slice="s1", source="a", destination="b", by="mover", reason="a is hot"
    )
    book.seen(11.0, leaving(FIRST, EVICTED))
    assert moves(book.events(11.0)) == [(11.0, ACCEPTED)]
    book.seen(12.0, unbound(SECOND))
    book.seen(13.0, replace(SECOND, ready=False))
    book.gone(13.5, leaving(FIRST))
    assert book.events(13.5) == []
    assert book.pod("s1") == replace(SECOND, ready=False)
    assert book.moves("s1")
    book.seen(14.0, SECOND)
    done = last(book.events(14.0))
    assert (done.at, done.state, done.destination, done.seconds, done.downtime) == (14.0, DONE, "b", 3.0, 3.0)
    assert book.pod("s1") == SECOND
    assert not book.moves("s1")


def test_the_end_of_an_evicted_pod_is_no_death(book: Book) -> None:
    book.ask(10.0, "s1", "b", "mover", "")
    book.seen(11.0, leaving(FIRST, EVICTED))
    book.seen(12.0, replace(leaving(FIRST, EVICTED), phase="Succeeded", ready=False, ended="Completed"))
    book.gone(12.5, replace(leaving(FIRST, EVICTED), phase="Succeeded"))
    book.seen(13.0, SECOND)
    assert moves(book.events(13.0)) == [(10.0, ASKED), (11.0, ACCEPTED), (13.0, DONE)]
    assert book.events(LATER) == []


def test_a_refused_move_fails_with_the_reason_and_the_slice_stays(book: Book) -> None:
    book.ask(10.0, "s1", "b", "mover", "a is hot")
    book.refused(11.0, "s1", "the disruption budget allows none")
    events = book.events(11.0)
    assert moves(events) == [(10.0, ASKED), (11.0, FAILED)]
    assert last(events).reason == "the disruption budget allows none"
    assert book.pod("s1") == FIRST


def test_a_refusal_after_the_pod_was_told_to_leave_changes_nothing(book: Book) -> None:
    book.refused(9.0, "s1", "nothing was asked for")
    book.ask(10.0, "s1", "b", "mover", "")
    book.seen(11.0, leaving(FIRST))
    book.refused(12.0, "s1", "it is gone")
    book.refused(12.0, "s9", "it is gone")
    book.seen(13.0, SECOND)
    assert moves(book.events(13.0)) == [(10.0, ASKED), (11.0, ACCEPTED), (13.0, DONE)]


@pytest.mark.parametrize("node", ["a", "c"])
def test_a_successor_elsewhere_than_wanted_fails_the_move(book: Book, node: str) -> None:
    book.ask(10.0, "s1", "b", "mover", "")
    book.seen(11.0, leaving(FIRST))
    book.seen(12.0, replace(SECOND, node=node))
    failed = last(book.events(12.0))
    assert (failed.state, failed.destination, failed.seconds) == (FAILED, node, None)
    assert failed.reason == f"its successor was bound to {node} instead of b"
    assert book.pod("s1") == replace(SECOND, node=node)


@pytest.mark.parametrize(
    ("name", "destination", "why"),
    [
        ("s9", "b", "there is no slice s9 in this run"),
        ("n1", "b", "n1 is a neighbour, which nobody may move"),
        ("s1", "z", "there is no host z"),
        ("s1", "a", "s1 is on a already"),
    ],
)
def test_a_move_that_makes_no_sense_is_asked_for_and_fails(book: Book, name: str, destination: str, why: str) -> None:
    asked = book.ask(10.0, name, destination, "mover", "")
    assert (asked.pod, asked.why) == (None, why)
    events = book.events(10.0)
    assert moves(events) == [(10.0, ASKED), (10.0, FAILED)]
    assert last(events).reason == why
    assert not book.moves(name)


def test_a_slice_on_its_way_cannot_be_moved_again(book: Book) -> None:
    first = book.ask(10.0, "s1", "b", "mover", "")
    second = book.ask(10.5, "s1", "c", "mover", "")
    assert second.why == "s1 is on its way, or nowhere"
    assert second.move != first.move
    book.seen(11.0, leaving(FIRST))
    book.seen(12.0, SECOND)
    ends = [each for each in book.events(12.0) if isinstance(each, Move) and each.state.is_end]
    assert sorted((each.move, each.state) for each in ends) == sorted([(first.move, DONE), (second.move, FAILED)])


def test_a_pod_without_a_node_cannot_be_moved(book: Book) -> None:
    book.add("s2", movable=True)
    book.seen(1.0, replace(unbound(FIRST), uid="v1", slice="s2"))
    assert book.ask(2.0, "s2", "b", "mover", "").why == "s2 is on its way, or nowhere"
    assert set(book.pods()) == {"s1", "n1"}


def test_what_was_seen_before_the_move_was_asked_for_keeps_the_events_in_order(book: Book) -> None:
    book.ask(10.0, "s1", "b", "mover", "")
    book.seen(9.8, leaving(FIRST))
    book.seen(9.9, SECOND)
    assert moves(book.events(10.0)) == [(10.0, ASKED), (10.0, ACCEPTED), (10.0, DONE)]


# Evicted or deleted by others


def test_an_eviction_by_somebody_is_held_back_until_it_is_known_who(book: Book) -> None:
    book.seen(10.0, leaving(FIRST, EVICTED))
    book.seen(11.0, replace(SECOND, ready=False))
    assert book.events(11.0) == []
    book.evicted_by("u1", DESCHEDULER)
    events = book.events(11.5)
    assert moves(events) == [(10.0, ASKED), (10.0, ACCEPTED)]
    assert {each.by for each in events if isinstance(each, Move)} == {DESCHEDULER}
    book.seen(13.0, SECOND)
    done = last(book.events(13.0))
    assert (done.state, done.by, done.source, done.destination, done.seconds) == (DONE, DESCHEDULER, "a", "b", 3.0)


def test_who_evicts_may_be_known_before_the_pod_is_seen_to_leave(book: Book) -> None:
    book.evicted_by("u1", DESCHEDULER)
    book.seen(10.0, leaving(FIRST, EVICTED))
    assert last(book.events(10.0)).by == DESCHEDULER


@pytest.mark.parametrize(("disruption", "who"), [(EVICTED, SOMEBODY_EVICTED), ("", SOMEBODY_DELETED)])
def test_after_the_patience_the_pod_itself_tells_how_it_went(book: Book, disruption: str, who: str) -> None:
    book.seen(10.0, leaving(FIRST, disruption))
    assert book.events(10.0 + PATIENCE - 0.1) == []
    events = book.events(10.0 + PATIENCE)
    assert moves(events) == [(10.0, ASKED), (10.0, ACCEPTED)]
    assert last(events).by == who
    book.evicted_by("u1", DESCHEDULER)
    book.seen(20.0, SECOND)
    assert last(book.events(20.0)).by == who, "a move has one author, from its first event to its last"


def test_a_pod_that_is_gone_without_a_word_was_deleted(book: Book) -> None:
    book.gone(10.0, FIRST)
    book.gone(10.5, FIRST)
    book.seen(12.0, SECOND)
    events = book.events(LATER)
    assert moves(events) == [(10.0, ASKED), (10.0, ACCEPTED), (12.0, DONE)]
    assert last(events).by == SOMEBODY_DELETED


def test_a_successor_on_the_same_node_ends_a_move_by_others(book: Book) -> None:
    book.seen(10.0, leaving(FIRST, EVICTED))
    book.seen(12.0, replace(SECOND, node="a"))
    done = last(book.events(LATER))
    assert (done.state, done.source, done.destination) == (DONE, "a", "a")


def test_a_successor_that_is_evicted_before_it_is_ready_is_part_of_the_same_move(book: Book) -> None:
    book.seen(10.0, leaving(FIRST, EVICTED))
    book.seen(11.0, replace(SECOND, ready=False))
    book.seen(12.0, leaving(replace(SECOND, ready=False), EVICTED))
    book.seen(13.0, replace(SECOND, uid="u3", node="c"))
    events = book.events(LATER)
    assert moves(events) == [(10.0, ASKED), (10.0, ACCEPTED), (13.0, DONE)]
    assert (last(events).destination, last(events).seconds) == ("c", 3.0)


def test_a_second_pod_of_the_owner_is_ignored(book: Book) -> None:
    book.seen(10.0, SECOND)
    book.gone(11.0, SECOND)
    assert book.pod("s1") == FIRST
    book.ask(12.0, "s1", "b", "mover", "")
    book.seen(12.5, SECOND)
    book.refused(13.0, "s1", "no")
    assert book.pod("s1") == FIRST, "a move that was only asked for has no successor"
    assert moves(book.events(LATER)) == [(12.0, ASKED), (13.0, FAILED)]


def test_pods_of_no_slice_of_the_run_are_ignored(book: Book) -> None:
    stranger = replace(FIRST, slice="s9", uid="z")
    book.seen(10.0, stranger)
    book.gone(11.0, stranger)
    assert book.pod("s9") is None
    assert book.events(LATER) == []


def test_a_slice_that_is_dropped_on_its_way_never_arrives(book: Book) -> None:
    book.ask(10.0, "s1", "b", "mover", "")
    book.seen(11.0, leaving(FIRST))
    book.drop("s1")
    book.drop("s1")
    book.seen(12.0, SECOND)
    assert moves(book.events(LATER)) == [(10.0, ASKED), (11.0, ACCEPTED)]
    assert (book.pod("s1"), book.moves("s1"), set(book.pods())) == (None, False, {"n1"})


# After the watch was lost


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("still_there", [False, True])
def test_a_move_that_nobody_watched_is_found_in_the_next_list(
    book: Book, *, newest_first: bool, still_there: bool
) -> None:
    neighbour = book.pods()["n1"]
    there = [neighbour, SECOND] + ([leaving(FIRST, EVICTED)] if still_there else [])
    book.listed(20.0, there if newest_first else reversed(there))
    assert book.pod("s1") == SECOND
    done = last(book.events(LATER))
    assert (done.at, done.state, done.destination) == (20.0, DONE, "b")
    assert (done.seconds, done.downtime) == (None, None), "how long it took isn't known"
    assert book.pod("n1") == neighbour
    book.listed(30.0, there)
    assert book.events(2 * LATER) == []


@pytest.mark.parametrize("watched", ["the begin", "the end"])
def test_a_move_that_was_watched_in_part_has_no_duration(book: Book, watched: str) -> None:
    if watched == "the begin":
        book.seen(10.0, leaving(FIRST, EVICTED))
        book.listed(20.0, [book.pods()["n1"], SECOND])
    else:
        book.listed(20.0, [book.pods()["n1"], leaving(FIRST, EVICTED), unbound(SECOND)])
        book.seen(22.0, SECOND)
    done = last(book.events(LATER))
    assert (done.state, done.seconds, done.downtime) == (DONE, None, None)


def test_a_slice_without_a_pod_yet_is_not_missed_in_a_list(book: Book) -> None:
    book.add("s2", movable=True)
    book.listed(1.0, book.pods().values())
    assert book.pod("s2") is None
    assert book.events(LATER) == []


# Deaths, pressure, pods that stay pending


def test_a_restarted_container_is_a_death_with_its_reason(book: Book) -> None:
    book.seen(10.0, replace(FIRST, restarts=1, ready=False, ended="OOMKilled"))
    book.seen(11.0, replace(FIRST, restarts=1, ended="OOMKilled"))
    (died,) = book.events(11.0)
    assert isinstance(died, Disturbance)
    assert (died.at, died.what, died.host, died.who) == (10.0, Trouble.SLICE_DIED, "a", "s1")
    assert died.detail == "the pod of slice s1 ended: OOMKilled"
    assert book.pod("s1") == replace(FIRST, restarts=1, ended="OOMKilled")


def test_a_failed_pod_is_a_death_and_its_owner_replaces_it(book: Book) -> None:
    failed = replace(FIRST, phase="Failed", ready=False)
    book.seen(10.0, failed)
    book.seen(10.5, failed)
    assert book.pod("s1") is None
    book.seen(12.0, SECOND)
    book.gone(13.0, failed)
    assert troubles(book.events(LATER)) == [(Trouble.SLICE_DIED, "the pod of slice s1 ended")]
    assert book.pod("s1") == SECOND


def test_a_pod_that_the_kubelet_never_admits_is_a_death(book: Book) -> None:
    book.add("s2", movable=True)
    book.seen(1.0, replace(FIRST, uid="v1", slice="s2", phase="Failed", ready=False, ended="OutOfcpu"))
    assert book.pod("s2") is None
    assert troubles(book.events(LATER)) == [(Trouble.SLICE_DIED, "the pod of slice s2 ended: OutOfcpu")]


def test_a_failed_pod_that_stays_is_nobodys_successor(book: Book) -> None:
    failed = replace(FIRST, phase="Failed", ready=False)
    book.seen(10.0, failed)
    book.seen(12.0, SECOND)
    book.seen(20.0, leaving(SECOND, EVICTED))
    book.seen(20.5, failed)
    assert book.pod("s1") is None
    book.seen(22.0, replace(SECOND, uid="u3", node="c"))
    assert last(book.events(LATER)).destination == "c"


@pytest.mark.parametrize("reason", PROTECTION)
def test_the_platforms_protection_is_pressure_and_no_move(book: Book, reason: str) -> None:
    book.seen(10.0, leaving(FIRST, reason))
    book.seen(10.5, replace(leaving(FIRST, reason), phase="Failed"))
    book.gone(11.0, leaving(FIRST, reason))
    book.seen(12.0, SECOND)
    found = troubles(book.events(LATER))
    assert found == [(Trouble.PRESSURE, f"the pod of slice s1 was {PROTECTION[reason]}")]
    assert book.pod("s1") == SECOND


def test_a_pod_that_the_kubelet_fails_is_pressure(book: Book) -> None:
    book.seen(10.0, replace(FIRST, phase="Failed", ready=False, ended="Evicted", disruption="TerminationByKubelet"))
    assert troubles(book.events(LATER)) == [(Trouble.PRESSURE, "the pod of slice s1 was evicted by the kubelet")]


@pytest.mark.parametrize("why", ["", "0/3 nodes are available"])
def test_a_pod_without_a_node_is_told_once_when_it_waits_too_long(book: Book, why: str) -> None:
    book.seen(10.0, leaving(FIRST, EVICTED))
    book.evicted_by("u1", DESCHEDULER)
    book.seen(11.0, replace(unbound(SECOND), unscheduled=why))
    assert moves(book.events(11.0 + PENDING - 0.1)) == [(10.0, ASKED), (10.0, ACCEPTED)]
    (found,) = book.events(11.0 + PENDING)
    assert isinstance(found, Disturbance)
    assert (found.what, found.who, found.host) == (Trouble.SLICE_PENDING, "s1", "")
    assert found.detail == "the pod of slice s1 has no node after 10 s" + (f": {why}" if why else "")
    assert book.events(12.0 + PENDING) == []


def test_a_pod_that_leaves_before_it_had_a_node_was_not_moved(book: Book) -> None:
    book.add("s2", movable=True)
    waiting = replace(unbound(FIRST), uid="v1", slice="s2")
    book.seen(1.0, waiting)
    book.seen(2.0, leaving(waiting))
    book.seen(3.0, replace(FIRST, uid="v2", slice="s2"))
    assert book.events(LATER) == []
    assert book.pod("s2") is not None


# Whatever comes

PODS = st.builds(
    PodState,
    name=st.just("p"),
    uid=st.sampled_from(["u1", "u2", "u3"]),
    slice=st.sampled_from(["s1", "s2", "s9"]),
    node=st.sampled_from(["", "a", "b"]),
    phase=st.sampled_from(["Pending", "Running", "Failed", "Succeeded"]),
    ready=st.booleans(),
    leaving=st.booleans(),
    restarts=st.integers(0, 2),
    disruption=st.sampled_from(["", EVICTED, "TerminationByKubelet"]),
)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["seen", "gone"]), PODS),
    st.tuples(st.just("listed"), st.lists(PODS, max_size=4)),
    st.tuples(st.sampled_from(["ask", "refused", "drop", "add"]), st.sampled_from(["s1", "s2", "s9"])),
    st.tuples(st.just("evicted_by"), st.sampled_from(["u1", "u2", "u3"])),
    st.tuples(st.just("events"), st.none()),
)


def take(book: Book, at: float, step: str, what: object) -> list[Event]:
    """Do one step; gives what it told."""
    match step, what:
        case "seen", PodState() as pod:
            book.seen(at, pod)
        case "gone", PodState() as pod:
            book.gone(at, pod)
        case "listed", list() as pods:
            book.listed(at, pods)
        case "ask", str() as name:
            book.ask(at, name, "b", "mover", "")
        case "refused", str() as name:
            book.refused(at, name, "no")
        case "drop", str() as name:
            book.drop(name)
        case "add", str() as name:
            book.add(name, movable=True)
        case "evicted_by", str() as uid:
            book.evicted_by(uid, DESCHEDULER)
        case _:
            return book.events(at)
    return []


@given(st.lists(st.tuples(st.floats(0.0, 6.0), STEPS), max_size=40))
def test_whatever_is_seen_moves_end_once_and_their_events_are_in_order(
    steps: list[tuple[float, tuple[str, object]]],
) -> None:
    book = Book(["a", "b"])
    book.add("s1", movable=True)
    book.add("s2", movable=False)
    at, told = 0.0, list[Event]()
    for pause, (step, what) in steps:
        at += pause
        told += take(book, at, step, what)
    told += book.events(at + LATER)
    assert book.events(at + 2 * LATER) == []
    by_move: dict[str, list[Move]] = {}
    for event in told:
        if isinstance(event, Move):
            by_move.setdefault(event.move, []).append(event)
    for events in by_move.values():
        states = [event.state for event in events]
        assert states[0] is ASKED
        assert len(states) == len(set(states))
        assert not any(state.is_end for state in states[:-1])
        assert [event.at for event in events] == sorted(event.at for event in events)
        assert len({(event.by, event.slice, event.source) for event in events}) == 1
        assert all(event.by for event in events)
