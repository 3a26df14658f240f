"""Troubles that begin and end."""

from __future__ import annotations

from loadband.rebalance.events import Disturbance, Trouble
from loadband.rebalance.troubles import Troubles

DOWN, SCRAPE = Trouble.MONITORING_DOWN, Trouble.SCRAPE_FAILED


def test_a_trouble_is_told_once_when_it_has_lasted_and_once_when_it_is_over() -> None:
    troubles, wrong = Troubles(5.0), [("", "prometheus", "no answer")]
    assert troubles.update(10.0, DOWN, wrong) == []
    assert troubles.update(14.9, DOWN, wrong) == []
    begin = Disturbance(at=10.0, what=DOWN, who="prometheus", detail="no answer")
    assert troubles.update(15.0, DOWN, wrong) == [begin]
    assert troubles.update(20.0, DOWN, wrong) == []
    (over,) = troubles.update(30.0, DOWN, [])
    assert over == Disturbance(at=10.0, until=30.0, what=DOWN, who="prometheus", detail="no answer (over after 20 s)")
    assert troubles.update(31.0, DOWN, []) == []


def test_what_is_over_soon_is_never_told() -> None:
    troubles = Troubles(5.0)
    troubles.update(10.0, DOWN, [("", "prometheus", "no answer")])
    assert troubles.update(14.0, DOWN, []) == []
    assert troubles.update(16.0, DOWN, [("", "prometheus", "no answer")]) == []


def test_kinds_and_hosts_are_told_apart() -> None:
    troubles = Troubles(0.0)
    assert len(troubles.update(1.0, SCRAPE, [("a", "", "x"), ("b", "", "x")])) == 2
    assert len(troubles.update(2.0, DOWN, [("", "prometheus", "y")])) == 1
    assert [each.host for each in troubles.update(3.0, SCRAPE, [("b", "", "x")])] == ["a"]
