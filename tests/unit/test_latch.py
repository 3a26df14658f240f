"""Load of a fixed size: frozen by a latch, or asked for from the start."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from plant import Plant, regulator, run

from loadband.controller import Adaptive, AdaptiveMemory, Latch, Step, judge
from loadband.quantities import Band, Command, Reading, Setpoint, Snapshot, State, Steal
from loadband.running import _controller
from loadband.setpoint import SetpointCell
from loadband.settings import Loaded, load

BAND = Band(0.6, 0.7)


def last(seen: list[Snapshot]) -> Snapshot:
    return seen[-1]


@pytest.mark.parametrize("law", [Adaptive(), Step(workers=8, sleep=0.005)], ids=["adaptive", "step"])
def test_it_holds_the_band_for_its_time_and_then_is_an_ordinary_load(law: Adaptive | Step) -> None:
    plant = Plant(2, others=lambda t: 0.1 if t < 60 else 0.6, noise=0.004)
    loop, burner = regulator(plant, BAND, Latch(law, after=30))
    seen: list[Snapshot] = []
    run(plant, loop, 60, seen)
    size = last(seen).command.latched
    assert size is not None
    assert last(seen).verdict.state is State.LATCHED
    now = 100 * (last(seen).utilization or 0)
    assert last(seen).verdict.why == (
        f"an ordinary load of {size:.3g} CPUs, whatever else runs; utilization {now:.1f} %"
    )
    before = burner.own
    run(plant, loop, 60, seen)
    # The neighbour took 25 points more, and nothing moved.
    assert (burner.own - before) / 60 == pytest.approx(size, abs=0.002)
    assert last(seen).command.latched == size
    if isinstance(law, Adaptive):
        assert size == pytest.approx(1.2, abs=0.01)


def test_the_time_counts_from_the_first_entry_and_it_latches_in_the_band_only() -> None:
    plant = Plant(2, others=lambda t: 1.8 if t < 20 else 0.1)
    loop, _ = regulator(plant, BAND, Latch(Adaptive(), after=10))
    seen: list[Snapshot] = []
    run(plant, loop, 29, seen)
    assert last(seen).command.latched is None
    run(plant, loop, 4, seen)
    assert last(seen).command.latched == pytest.approx(1.2, abs=0.02)


@pytest.mark.parametrize("others", [0.9, 1.2])
def test_back_from_a_latch_it_begins_beside_those_who_are_there_now(others: float) -> None:
    plant = Plant(2, others=lambda time: others if time > 20 else 0.0)
    cell = SetpointCell(Setpoint(BAND))
    loop, _ = regulator(plant, cell, Latch(Adaptive()))
    run(plant, loop, 10)
    cell.replace(Setpoint(None, "control", effort=0.0))
    run(plant, loop, 60)
    back = plant.elapsed
    cell.restore("control")
    run(plant, loop, 15)
    assert max(utilization for _, utilization in plant.windows(back)) <= BAND.high
    assert plant.settled(BAND, event=back) <= 1.0


@pytest.mark.parametrize("law", [Adaptive(), Step(sleep=0.005)], ids=["adaptive", "step"])
def test_from_an_effort_into_its_band_there_is_no_jump(law: Adaptive | Step) -> None:
    plant = Plant(2)
    cell = SetpointCell(Setpoint(None, effort=1.3))
    loop, _ = regulator(plant, cell, Latch(law))
    run(plant, loop, 20)
    then = plant.elapsed
    cell.replace(Setpoint(BAND, "control"))
    run(plant, loop, 15)
    assert all(utilization in BAND for _, utilization in plant.windows(then - 0.5, width=0.5))


@pytest.mark.parametrize("effort", [0.02, 0.1])
def test_the_load_before_it_is_no_cost_of_an_effort(effort: float) -> None:
    plant = Plant(2)
    cell = SetpointCell(Setpoint(BAND))
    loop, burner = regulator(plant, cell, Latch(Adaptive()))
    run(plant, loop, 10)
    cell.replace(Setpoint(None, "control", effort=effort))
    run(plant, loop, 0.3)
    before = burner.own
    run(plant, loop, 1)
    assert burner.own - before == pytest.approx(effort, rel=0.02)


def test_more_cpus_are_used_by_an_effort_that_was_limited() -> None:
    plant = Plant(4)
    cell = SetpointCell(Setpoint(BAND))
    loop, burner = regulator(plant, cell, Latch(Adaptive()), reach=0.5)
    run(plant, loop, 5)
    cell.replace(Setpoint(None, "control", effort=3.0))
    run(plant, loop, 5)
    assert burner.effort == pytest.approx(0.5)
    burner.reach = 4
    run(plant, loop, 1)
    assert burner.effort == pytest.approx(3.0)


def test_a_latched_step_law_keeps_the_workers_that_it_has_come_to() -> None:
    loaded = load(["60", "70", "1", "1", "10", "--latch", "10s", "--controller", "step"])
    assert isinstance(loaded, Loaded)
    controller, _ = _controller(loaded.settings, reach=2.0)
    plant = Plant(2)
    loop, _ = regulator(plant)
    loop._controller = controller
    run(plant, loop, 60)
    assert loop.snapshot is not None
    assert loop.snapshot.verdict.state is State.LATCHED
    assert loop.snapshot.utilization == pytest.approx(0.65, abs=0.05)


@pytest.mark.parametrize(("after", "time"), [(8.0, 2.0), (60.0, 5.0)])
def test_what_is_frozen_is_the_mean_of_five_seconds_or_of_a_quarter_of_its_time(after: float, time: float) -> None:
    latch: Latch[AdaptiveMemory] = Latch(Adaptive(), after=after)
    before, then = (
        Reading(at=1, dt=0.1, capacity=2, reach=2, own=own, other=0, steal=0, idle=1 - own, uncertainty=0)
        for own in (0.65, 0.67)
    )
    memory, _ = latch.step(latch.start(), before, Setpoint(BAND))
    assert (memory.own, memory.utilization, memory.sought) == (1.3, 0.65, 0.0)
    memory, _ = latch.step(memory, then, Setpoint(BAND))
    assert memory.own == pytest.approx(1.3 + (1 - math.exp(-0.1 / time)) * 0.04)
    assert memory.utilization == pytest.approx(0.65 + (1 - math.exp(-0.1)) * 0.02)
    assert memory.sought == pytest.approx(0.1)


def test_it_keeps_the_workers_of_its_law_and_costs_nothing_where_it_gets_less_than_it_asked_for() -> None:
    latch: Latch[AdaptiveMemory] = Latch(Adaptive(workers=5), after=1)
    reading = Reading(at=1, dt=0.1, capacity=2, reach=2, own=0.5, other=0.15, steal=0, idle=0.35, uncertainty=0)
    memory, command = latch.step(replace(latch.start(), effort=1.5), reading, Setpoint(BAND))
    while command.latched is None:
        memory, command = latch.step(replace(memory, effort=1.5), reading, Setpoint(BAND))
        assert memory.cost == 0
    assert command.workers == 5
    assert (command.latched, command.effort) == pytest.approx((1.0, 1.0))


def test_what_it_costs_itself_is_found_out_over_three_seconds() -> None:
    """It uses a hundredth of a CPU too much all the time: each reading adds its part to what is held back."""
    latch: Latch[AdaptiveMemory] = Latch(Adaptive())
    reading = Reading(at=1, dt=0.1, capacity=2, reach=2, own=0.255, other=0, steal=0, idle=0.745, uncertainty=0)
    memory, asked = latch.start(), Setpoint(None, effort=0.5)
    for _ in range(30):
        memory, command = latch.step(memory, reading, asked)
    assert 0.5 - command.effort == pytest.approx(30 * (1 - math.exp(-0.1 / 3)) * 0.01)


@pytest.mark.parametrize(("size", "at_limit"), [(0.5, False), (2.0, True), (3.0, True)])
def test_it_says_whether_its_size_is_all_that_is_possible(size: float, *, at_limit: bool) -> None:
    latch: Latch[AdaptiveMemory] = Latch(Adaptive())
    reading = Reading(at=1, dt=0.1, capacity=2, reach=2, own=0.2, other=0, steal=0, idle=0.8, uncertainty=0)
    _, command = latch.step(latch.start(), reading, Setpoint(None, effort=size))
    assert command.at_limit is at_limit


def test_the_latch_has_a_time_that_stands() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND, Latch(Adaptive(), after=5))
    seen: list[Snapshot] = []
    run(plant, loop, 20, seen)
    times = {snapshot.latch_timestamp for snapshot in seen if snapshot.verdict.state is State.LATCHED}
    first = next(snapshot for snapshot in seen if snapshot.verdict.state is State.LATCHED)
    assert len(times) == 1
    assert times.pop() == pytest.approx(first.timestamp, abs=0.1)
    assert all(s.latch_timestamp is None for s in seen if s.verdict.state is not State.LATCHED)


def test_a_gap_and_lost_readings_do_not_unlatch() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND, Latch(Adaptive(), after=5))
    run(plant, loop, 10)
    size = loop.cycle().command.latched
    plant.jump(30)
    assert loop.cycle().command.effort == 0
    seen: list[Snapshot] = []
    run(plant, loop, 2, seen)
    assert last(seen).command.latched == size
    burner.fault = "gone"
    run(plant, loop, 2, seen)
    assert last(seen).verdict.state is State.FAILSAFE
    assert last(seen).command.effort == 0
    burner.fault = ""
    run(plant, loop, 2, seen)
    assert last(seen).verdict.state is State.LATCHED
    assert last(seen).command.effort == pytest.approx(size)


def test_another_band_unlatches() -> None:
    plant = Plant(2)
    cell = SetpointCell(Setpoint(BAND))
    loop, _ = regulator(plant, cell, Latch(Adaptive(), after=5))
    run(plant, loop, 10)
    cell.replace(Setpoint(Band(0.2, 0.3), "control"))
    seen: list[Snapshot] = []
    run(plant, loop, 3, seen)
    assert last(seen).verdict.state is State.HOLDING
    assert last(seen).latch_timestamp is None
    run(plant, loop, 10, seen)
    assert last(seen).command.latched == pytest.approx(0.5, abs=0.01)


def test_time_latched_is_not_observed_time() -> None:
    plant = Plant(2, others=lambda t: 0.1 if t < 20 else 1.0)
    loop, _ = regulator(plant, BAND, Latch(Adaptive(), after=10))
    seen: list[Snapshot] = []
    run(plant, loop, 60, seen)
    assert last(seen).counts.observed_seconds == pytest.approx(10, abs=3)
    assert last(seen).counts.held


@pytest.mark.parametrize("cpus", [1, 2, 64])
def test_a_fixed_effort_is_burnt_from_the_start_whatever_else_runs(cpus: int) -> None:
    plant = Plant(cpus, others=lambda t: 0.0 if t < 10 else 0.7 * cpus)
    loop, burner = regulator(plant, SetpointCell(Setpoint(None, effort=0.25)), Latch(Adaptive()))
    seen: list[Snapshot] = []
    run(plant, loop, 30, seen)
    assert burner.own == pytest.approx(0.25 * 30, abs=0.06)
    assert {s.verdict.state for s in seen[2:]} == {State.LATCHED}
    assert last(seen).command.latched == 0.25
    assert last(seen).counts.observed_seconds == 0
    assert last(seen).held


@pytest.mark.parametrize("size", [0.02, 0.25, 1.2])
def test_what_the_process_costs_itself_is_part_of_the_size(size: float) -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, SetpointCell(Setpoint(None, effort=size)), Latch(Adaptive()))
    burner.cost = 0.01
    run(plant, loop, 10)
    before = burner.own
    run(plant, loop, 20)
    assert (burner.own - before) / 20 == pytest.approx(size, abs=0.001)


def test_crowded_out_it_makes_up_for_nothing_later() -> None:
    plant = Plant(2, others=lambda t: 1.9 if t < 20 else 0.0)
    loop, burner = regulator(plant, SetpointCell(Setpoint(None, effort=1.0)), Latch(Adaptive()))
    burner.cost = 0.01
    run(plant, loop, 20)
    assert burner.effort == 1.0
    before = burner.own
    run(plant, loop, 20)
    assert (burner.own - before) / 20 == pytest.approx(1.0, abs=0.005)


def test_a_size_below_the_own_cost_is_said_so() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, SetpointCell(Setpoint(None, effort=0.001)), Latch(Adaptive()))
    burner.cost = 0.01
    seen: list[Snapshot] = []
    run(plant, loop, 20, seen)
    assert last(seen).command.effort == 0
    assert "the program itself costs 0.01 CPUs, with nothing burnt" in last(seen).verdict.why


def test_a_little_more_than_the_size_is_no_cost_without_a_burn() -> None:
    reading = Reading(at=1, dt=0.1, capacity=2, reach=2, own=0.26, other=0, steal=0, idle=0.74, uncertainty=0)
    verdict = judge(reading, Command(2, 0.5, latched=0.5), Setpoint(None, effort=0.5), Steal.IDLE)
    assert verdict.why == "an ordinary load of 0.5 CPUs, whatever else runs; utilization 26.0 %"


def test_there_is_no_step_when_it_latches() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND, Latch(Adaptive(), after=20))
    burner.cost = 0.05
    seen: list[Snapshot] = []
    used = []
    for _ in range(40):
        before = burner.own
        run(plant, loop, 1, seen)
        used.append(burner.own - before)
    assert last(seen).verdict.state is State.LATCHED
    assert used[5:] == pytest.approx([1.3] * 35, abs=0.012)


def test_a_size_that_cannot_be_kept_is_said_so() -> None:
    plant = Plant(2, others=lambda t: 0.0 if t < 10 else 1.95)
    loop, _ = regulator(plant, SetpointCell(Setpoint(None, effort=1.5)), Latch(Adaptive()), reach=1.8)
    seen: list[Snapshot] = []
    run(plant, loop, 30, seen)
    assert "crowded out" in last(seen).verdict.why
    narrow, _ = regulator(Plant(2), SetpointCell(Setpoint(None, effort=1.5)), Latch(Adaptive()), reach=0.5)
    plant = narrow._sensor.plant  # type: ignore[attr-defined] # the plant behind the sensor
    run(plant, narrow, 5, seen)
    assert last(seen).command.effort == pytest.approx(0.5)
    assert "its reach is smaller" in last(seen).verdict.why


@pytest.mark.parametrize(("band", "effort"), [(None, None), (BAND, 0.5), (None, -1.0)])
def test_a_setpoint_asks_for_a_band_or_an_effort(band: Band | None, effort: float | None) -> None:
    with pytest.raises(ValueError, match="either a band or an effort"):
        Setpoint(band, effort=effort)
