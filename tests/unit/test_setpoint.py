"""The one input cell, and what a client may do to what is configured."""

from __future__ import annotations

import threading

import pytest
from plant import Plant, regulator, run

from loadband.controller import Adaptive, Latch
from loadband.quantities import Band, Setpoint, Snapshot, State
from loadband.setpoint import SetpointCell


def state(seen: list[Snapshot]) -> State:
    return seen[-1].verdict.state


CONFIGURED = Setpoint(Band(0.6, 0.7))
ASKED = Setpoint(Band(0.2, 0.3), "control")


def test_what_a_client_asks_for_stands_until_it_is_taken_back() -> None:
    cell = SetpointCell(CONFIGURED)
    cell.replace(ASKED)
    assert (cell.read().band, cell.read().source) == (Band(0.2, 0.3), "control")
    assert cell.restore("control")
    assert cell.read() == CONFIGURED
    assert not cell.restore("control")
    assert cell.changes == {"settings": 0, "profile": 0, "control": 2}


def test_what_is_configured_may_move_and_is_asked_at_each_reading() -> None:
    bands = iter([Band(0.1, 0.2), Band(0.2, 0.3)])
    cell = SetpointCell(lambda: Setpoint(next(bands), "profile"))
    assert [cell.read().band, cell.read().band] == [Band(0.1, 0.2), Band(0.2, 0.3)]
    assert set(cell.changes.values()) == {0}


def test_another_configuration_is_followed_but_not_before_a_client_is_done() -> None:
    another = Setpoint(Band(0.4, 0.5), "profile")
    cell = SetpointCell(CONFIGURED)
    cell.configure(lambda: another, "profile")
    assert cell.read() == another
    cell.replace(ASKED)
    cell.configure(lambda: CONFIGURED, "profile")
    assert cell.read().source == "control"
    assert cell.restore("settings")
    assert cell.read() == CONFIGURED
    assert cell.changes == {"settings": 1, "profile": 2, "control": 1}


def test_the_same_asked_for_again_is_asked_for_anew() -> None:
    cell = SetpointCell(CONFIGURED)
    cell.replace(ASKED)
    first = cell.read()
    cell.replace(ASKED)
    assert cell.read() != first
    assert cell.read().band == first.band


def test_no_change_is_lost_however_many_ask_at_once() -> None:
    cell = SetpointCell(CONFIGURED)

    def ask_often() -> None:
        for _ in range(500):
            cell.replace(ASKED)

    asking = [threading.Thread(target=ask_often) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert cell.changes["control"] == 2000


@pytest.mark.parametrize("asked", [Band(0.2, 0.3), Band(0.6, 0.7)], ids=["another band", "the same band"])
def test_asking_unlatches_and_the_latch_counts_anew(asked: Band) -> None:
    plant = Plant(2)
    cell = SetpointCell(CONFIGURED)
    loop, _ = regulator(plant, cell, Latch(Adaptive(), after=5))
    seen: list[Snapshot] = []
    for _ in range(2):  # the second time the same is asked for again
        run(plant, loop, 10, seen)
        assert state(seen) is State.LATCHED
        cell.replace(Setpoint(asked, "control"))
        run(plant, loop, 3, seen)
        assert state(seen) is State.HOLDING
        assert asked.low <= (seen[-1].utilization or 0) <= asked.high


def test_a_band_may_be_asked_for_in_the_place_of_a_fixed_effort_and_back() -> None:
    plant = Plant(2)
    cell = SetpointCell(Setpoint(None, effort=0.25))
    loop, burner = regulator(plant, cell, Latch(Adaptive()))
    seen: list[Snapshot] = []
    run(plant, loop, 5, seen)
    cell.replace(ASKED)
    run(plant, loop, 5, seen)
    assert state(seen) is State.HOLDING
    cell.restore("control")
    run(plant, loop, 2, seen)
    before = burner.own
    run(plant, loop, 10, seen)
    assert (burner.own - before) / 10 == pytest.approx(0.25, abs=0.01)
    assert state(seen) is State.LATCHED
