"""Pods that end in another way than by being moved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadband.rebalance.events import Disturbance, Move, MoveState, Trouble
from loadband.rebalance.platforms.kubernetes.pods import Book
from loadband.rebalance.platforms.kubernetes.states import PodState

FIRST = PodState(name="s-first", uid="1", slice="s", node="a", address="10.0.0.1", phase="Running", ready=True)
SECOND = replace(FIRST, name="s-xyz", uid="2", node="b", address="10.0.0.2")
LATE = 1000.0


def a_book(*, movable: bool = True) -> Book:
    book = Book(["a", "b"])
    book.add("s", movable=movable)
    book.seen(0, FIRST)
    return book


def test_a_pod_whose_move_is_only_asked_for_still_carries_its_slice() -> None:
    book = a_book()
    book.ask(10, "s", "b", "me", "")
    assert book.pod("s") == FIRST
    assert book.pods() == {"s": FIRST}


@pytest.mark.parametrize(
    ("pod", "trouble"),
    [
        (replace(FIRST, leaving=True, disruption="PreemptionByScheduler"), Trouble.PRESSURE),
        (replace(FIRST, phase="Failed", ended="Error"), Trouble.SLICE_DIED),
    ],
)
def test_a_pod_that_ends_while_a_move_is_only_asked_for_fails_the_move(pod: PodState, trouble: Trouble) -> None:
    book = a_book()
    book.ask(10, "s", "b", "me", "")
    book.seen(11, pod)
    book.seen(12, SECOND)
    found = book.events(12)
    assert [(move.state, move.at) for move in found if isinstance(move, Move)] == [
        (MoveState.ASKED, 10),
        (MoveState.FAILED, 11),
    ]
    assert [one.what for one in found if isinstance(one, Disturbance)] == [trouble]
    assert book.pod("s") == SECOND
    assert not book.moves("s")


def test_a_neighbour_that_somebody_removes_has_died() -> None:
    book = a_book(movable=False)
    removed = replace(FIRST, leaving=True)
    book.seen(10, removed)
    book.gone(11, removed)
    (found,) = book.events(LATE)
    assert isinstance(found, Disturbance)
    assert (found.what, found.detail) == (Trouble.SLICE_DIED, "the pod of slice s was removed")
