"""Platform kubernetes: what a node does beside the run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from plans import PLAN

from loadband.rebalance.events import Disturbance, Trouble
from loadband.rebalance.platforms.background import Background

CPUS = 2.0
WINDOW = int(PLAN.window)
CALM, LOUD, LOUDER = 0.1, 0.4, 0.9
"""CPUs that others burn: less, more, and much more than a twentieth of the node over `CALM`."""


class Node:
    """A node `a` whose other processes burn as told, second by second."""

    def __init__(self) -> None:
        self.background = Background({"a": CPUS, "b": CPUS}, PLAN)
        self.at = 0
        self.busy = 500.0

    def goes_on(self, seconds: int, others: float, ours: float = 0.0) -> Sequence[Disturbance]:
        found = []
        for _ in range(seconds):
            if accusation := self.background.node(float(self.at), "a", self.busy):
                found.append(accusation)
            self.at += 1
            self.busy += others + ours
        return found


@pytest.fixture
def node() -> Node:
    """A node whose usual background is known."""
    found = Node()
    assert found.goes_on(3 * WINDOW, CALM) == []
    return found


def test_what_a_node_always_does_is_nobodys_fault() -> None:
    assert Node().goes_on(10 * WINDOW, LOUDER) == []


def test_more_than_before_is_foreign_load_once(node: Node) -> None:
    (found,) = node.goes_on(5 * WINDOW, LOUD)
    assert (found.what, found.host, found.who) == (Trouble.FOREIGN_LOAD, "a", "others")
    assert found.amount is not None
    assert PLAN.most_foreign * CPUS < found.amount <= LOUD - CALM
    assert found.detail.startswith("others took ")
    assert found.detail.endswith(" % of a over 4 s, and 5 % at other times")


def test_a_little_more_is_let_pass(node: Node) -> None:
    assert node.goes_on(5 * WINDOW, CALM + 0.9 * PLAN.most_foreign * CPUS) == []


def test_much_worse_is_worth_another_word(node: Node) -> None:
    first = node.goes_on(5 * WINDOW, LOUD)
    amounts = [each.amount or 0.0 for each in (*first, *node.goes_on(5 * WINDOW, LOUDER))]
    assert len(amounts) >= 2
    assert all(later > 2 * earlier for earlier, later in itertools.pairwise(amounts))


def test_after_calm_the_next_one_is_accused_again(node: Node) -> None:
    assert len(node.goes_on(5 * WINDOW, LOUD)) == 1
    assert node.goes_on(5 * WINDOW, CALM) == []
    assert len(node.goes_on(5 * WINDOW, LOUD)) == 1


def test_the_runs_own_load_is_not_foreign(node: Node) -> None:
    for second in range(5 * WINDOW):
        node.background.ours("a", "u1", second * 1.5)
        assert node.goes_on(1, CALM, ours=1.5) == []


def test_load_of_the_run_on_another_node_excuses_nothing(node: Node) -> None:
    found: list[Disturbance] = []
    for second in range(5 * WINDOW):
        node.background.ours("b", "u1", second * LOUD)
        found += node.goes_on(1, CALM + LOUD)
    assert found


def test_a_counter_that_began_again_takes_nothing_back(node: Node) -> None:
    node.background.ours("a", "u1", 0.0)
    node.goes_on(1, CALM, ours=3.0)
    node.background.ours("a", "u1", 3.0)
    node.background.ours("a", "u1", 0.0)
    node.goes_on(1, CALM, ours=1.0)
    node.background.ours("a", "u1", 1.0)
    assert node.goes_on(5 * WINDOW, CALM) == []


def test_nobody_is_accused_while_pods_come_and_go(node: Node) -> None:
    for _ in range(3 * WINDOW):
        node.background.restless(float(node.at))
        assert node.goes_on(1, LOUDER) == []
    since = node.at - 1
    node.background.restless(0.0)
    assert node.goes_on(WINDOW - 1, LOUDER) == [], "an earlier time doesn't shorten it"
    (found,) = node.goes_on(WINDOW, LOUDER)
    assert found.at == since + WINDOW
