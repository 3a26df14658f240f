"""The laws alone, and on a simulated machine whose clock is ours."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plant import Plant, regulator, run

from loadband.controller import MAX_WORKERS, Adaptive, AdaptiveMemory, Law, Step, StepMemory, judge
from loadband.quantities import Band, Command, Reading, Setpoint, State, Steal

BAND = Band(0.6, 0.7)
ratio = st.floats(0, 1)


def reading(
    own: float = 0.0,
    other: float = 0.0,
    steal: float = 0.0,
    dt: float = 0.1,
    capacity: float = 2.0,
    reach: float = 2.0,
    uncertainty: float = 0.05,
) -> Reading:
    busy = own + other
    return Reading(
        own=own,
        other=other,
        steal=steal,
        idle=1 - busy - steal,
        at=10.0,
        dt=dt,
        capacity=capacity,
        reach=reach,
        uncertainty=uncertainty,
    )


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    own, other, steal = draw(ratio), draw(ratio), draw(ratio)
    scale = 1 / max(own + other + steal, 1)
    capacity = draw(st.floats(0.01, 1024))
    return reading(
        own * scale,
        other * scale,
        steal * scale,
        dt=draw(st.floats(1e-3, 10)),
        capacity=capacity,
        reach=draw(st.floats(0, 1)) * capacity,
        uncertainty=draw(ratio),
    )


@st.composite
def bands(draw: st.DrawFn) -> Band:
    low = draw(st.floats(0, 0.99))
    return Band(low, draw(st.floats(low, 1, exclude_min=True)))


@pytest.mark.parametrize("law", [Adaptive(), Adaptive(workers=3), Adaptive(steal=Steal.BUSY), Step(workers=10)])
@given(readings=st.lists(readings(), min_size=1, max_size=20), band=bands())
def test_effort_is_always_within_reach_and_what_the_workers_can_carry(
    law: Law[Any], readings: list[Reading], band: Band
) -> None:
    state = law.start()
    for each in readings:
        state, command = law.step(state, each, Setpoint(band))
        assert 0 <= command.effort <= each.reach + 1e-12
        assert 0 <= command.workers <= MAX_WORKERS
        assert command.effort <= command.workers + 1e-12
        assert 0 <= command.duty <= 1 + 1e-12
        assert all(math.isfinite(value) for value in dataclasses.astuple(state))


@given(each=readings(), band=bands())
def test_others_beyond_doubt_above_the_band_bring_effort_to_zero_at_once(each: Reading, band: Band) -> None:
    _, command = Adaptive().step(AdaptiveMemory(effort=each.reach), each, Setpoint(band))
    if each.other - each.uncertainty > band.high:
        assert command.effort == 0


def test_gain_is_in_proportion_to_our_share_of_the_busy_time() -> None:
    law = Adaptive()
    assert law._gain(0.5, law.floor_down, 0.1) == pytest.approx(law._gain(1.0, law.floor_down, 0.1) / 2)
    assert law._gain(0.0, law.floor_up, 0.1) == pytest.approx(law.floor_up)


@pytest.mark.parametrize(("dt", "gain"), [(0.1, 0.4), (0.2, 0.64), (0.31, 0.795), (10.0, 0.8)])
def test_gain_grows_with_the_interval_up_to_a_bound(dt: float, gain: float) -> None:
    assert Adaptive()._gain(1.0, Adaptive().floor_up, dt) == pytest.approx(gain, abs=0.001)


def test_the_share_is_that_of_the_last_third_of_a_second() -> None:
    memory, _ = Adaptive().step(AdaptiveMemory(1.0, own=0.6, busy=0.6), reading(own=0.3, other=0.5), Setpoint(BAND))
    left = math.exp(-0.1 / 0.3)
    assert (memory.own, memory.busy) == pytest.approx((0.3 + 0.3 * left, 0.8 - 0.2 * left))


def test_at_its_start_it_has_overshot_nothing() -> None:
    law = Adaptive()
    memory, _ = law.step(law.start(), reading(other=0.75, uncertainty=0.01), Setpoint(BAND))
    assert memory.backoff == 1.0


def test_where_nothing_runs_it_is_alone() -> None:
    assert rise(AdaptiveMemory(), reading()) == pytest.approx(0.4 * 0.65 * 2)


def test_the_trim_is_an_integral_that_leaks_and_sets_in_before_the_droop_is_whole() -> None:
    law = Adaptive()
    assert law._shift(0.0, 0.5, 0.01, 0.08) == pytest.approx((0.004, 0.004))
    assert law._shift(0.0, 0.5, 0.01, 5.0) == pytest.approx((0.005, 0.005))
    trim, shift = law._shift(0.04, 0.87, 0.0, 0.08)
    assert trim == pytest.approx(0.04 * (1 - 0.01))
    assert shift == pytest.approx(0.1 * (0.5 - 0.87) * 0.2 + 0.8 * trim)


class WithoutTrim(Adaptive):
    """What one reading does to the effort, without what it does to the trim."""

    MAX_TRIM = 0.0


def rise(memory: AdaptiveMemory, each: Reading) -> float:
    """By how much the effort grows, CPUs."""
    _, command = WithoutTrim().step(memory, each, Setpoint(BAND))
    return command.effort - memory.effort


def test_one_that_burns_nothing_comes_in_faster_than_it_leaves() -> None:
    # Its aim is 5 points above the middle, by the droop, and the host is 10 points below that or above it.
    comes = rise(AdaptiveMemory(1.0, busy=0.6), reading(other=0.6))
    leaves = rise(AdaptiveMemory(1.0, busy=0.8), reading(other=0.8, uncertainty=0.2))
    assert comes == pytest.approx(0.125 * 0.1 * 2)
    assert leaves == pytest.approx(-0.02 * 0.1 * 2)


@pytest.mark.parametrize(
    ("lifted", "other", "uncertainty", "left"),
    [
        pytest.param(True, 0.71, 0.01, 0.4, id="an overshoot of six points"),
        pytest.param(True, 0.69, 0.01, 0.8 * math.exp(0.025), id="four points are none"),
        pytest.param(
            True, 0.71, 0.03, 0.8 * math.exp(0.025), id="six points that may be two steps of the counters are none"
        ),
        pytest.param(True, 0.82, 0.05, 0.4, id="seventeen that may be two and a half"),
        pytest.param(False, 0.71, 0.01, 0.8 * math.exp(0.025), id="it didn't raise the effort itself"),
    ],
)
def test_the_upper_floor_is_halved_by_an_overshoot_of_its_own(
    *, lifted: bool, other: float, uncertainty: float, left: float
) -> None:
    before = AdaptiveMemory(0.1, busy=0.6, backoff=0.8, lifted=lifted)
    after, _ = Adaptive().step(before, reading(other=other, uncertainty=uncertainty), Setpoint(BAND))
    assert after.backoff == pytest.approx(left)
    assert not after.lifted


def test_a_floor_that_backed_off_lets_in_slower_and_grows_back() -> None:
    below = reading(other=0.6)
    whole = rise(AdaptiveMemory(0.1, busy=0.6), below)
    assert rise(AdaptiveMemory(0.1, busy=0.6, backoff=0.5), below) == pytest.approx(whole / 2 * math.exp(0.025))
    memory = AdaptiveMemory(0.1, busy=0.6, backoff=0.5)
    for _ in range(20):
        memory, _ = Adaptive().step(memory, below, Setpoint(BAND))
    assert memory.backoff == pytest.approx(0.5 * math.exp(0.5))
    assert memory.lifted
    for _ in range(60):
        memory, _ = Adaptive().step(memory, below, Setpoint(BAND))
    assert memory.backoff == 1.0


def test_a_floor_never_backs_off_to_nothing() -> None:
    memory = AdaptiveMemory(0.1, busy=0.6)
    for _ in range(10):
        memory, _ = Adaptive().step(
            dataclasses.replace(memory, lifted=True), reading(other=0.72, uncertainty=0.001), Setpoint(BAND)
        )
    assert memory.backoff == pytest.approx(0.1)


def test_who_has_a_large_share_needs_no_floor() -> None:
    memory, _ = Adaptive().step(AdaptiveMemory(1.0, own=0.3, busy=0.6), reading(own=0.3, other=0.3), Setpoint(BAND))
    assert not memory.lifted


def test_stolen_time_counts_only_when_it_is_said_to_be_busy() -> None:
    stolen = reading(own=0.5, steal=0.15)
    idle, _ = Adaptive(steal=Steal.IDLE).step(AdaptiveMemory(1.0), stolen, Setpoint(BAND))
    busy, _ = Adaptive(steal=Steal.BUSY).step(AdaptiveMemory(1.0), stolen, Setpoint(BAND))
    assert idle.effort > 1.0
    assert busy.effort == pytest.approx(1.0)


@pytest.mark.parametrize("cpus", [2, 4, 16, 64, 256])
def test_cold_start_settles_alike_on_any_number_of_cpus(cpus: int) -> None:
    plant = Plant(cpus)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 20)
    assert plant.settled(BAND, event=0.0) <= 0.5
    assert plant.mean_error(BAND.target, since=3) <= 0.0025


@pytest.mark.parametrize("band", [Band(0.05, 0.10), Band(0.4, 0.5), Band(0.64, 0.66), Band(0.9, 0.95)])
def test_any_band_is_held_in_its_middle(band: Band) -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, band)
    run(plant, loop, 30)
    assert plant.mean_error(band.target, since=3) <= 0.0025


@pytest.mark.parametrize("cpus", [2, 64])
def test_neighbour_arriving_and_leaving_is_absorbed_within_a_second(cpus: int) -> None:
    plant = Plant(cpus, others=lambda t: 0.3 * cpus if 20 <= t < 40 else 0.0)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 60)
    assert plant.settled(BAND, event=20.0) <= 1.0
    assert plant.settled(BAND, event=40.0) <= 1.0
    assert plant.mean_error(BAND.target, since=22, until=40) <= 0.006


def test_flood_silences_us_and_its_end_is_found_again() -> None:
    plant = Plant(2, others=lambda t: 1.8 if 20 <= t < 40 else 0.0)
    loop, burner = regulator(plant, BAND)
    run(plant, loop, 20.6)  # as long as we burn, the flood shows in part only
    assert burner.effort == 0
    run(plant, loop, 10)
    assert loop.snapshot is not None
    assert loop.snapshot.verdict.state is State.YIELDING
    assert burner.effort == 0
    run(plant, loop, 30)
    assert plant.settled(BAND, event=40.0) <= 1.0


@pytest.mark.parametrize(("reach", "workers"), [(0.0, 1), (0.5, 1), (1.0, 1), (1.5, 2), (5000.0, 1024)])
def test_there_are_as_many_workers_as_can_burn_all_of_the_reach(reach: float, workers: int) -> None:
    law = Adaptive()
    reading = Reading(at=1, dt=0.1, capacity=max(reach, 1), reach=reach, own=0, other=0, steal=0, idle=1, uncertainty=0)
    _, command = law.step(law.start(), reading, Setpoint(Band(0.6, 0.7)))
    assert command.workers == workers


def test_saturation_does_not_wind_up() -> None:
    plant = Plant(4, others=lambda t: 0.0 if t < 60 else 1.2)
    loop, burner = regulator(plant, BAND, reach=1.5)
    run(plant, loop, 59)
    assert loop.snapshot is not None
    assert loop.snapshot.verdict.state is State.SATURATED
    assert burner.effort == 1.5
    run(plant, loop, 30)  # now the band can be reached: 1.2 + 1.4 of 4
    assert plant.settled(BAND, event=60.0) <= 1.0


def test_noise_and_coarse_counters_are_averaged_out() -> None:
    plant = Plant(2, others=lambda _: 0.3, noise=0.1, quantum=0.02)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 60)
    inside = [utilization in BAND for _, utilization in plant.windows(since=3)]
    assert sum(inside) / len(inside) == 1
    assert plant.mean_error(BAND.target, since=3) <= 0.01


@pytest.mark.parametrize("interval", [0.05, 0.2, 1.0, 5.0])
def test_longer_and_shorter_intervals_hold_too(interval: float) -> None:
    plant = Plant(2, others=lambda _: 0.2)
    loop, _ = regulator(plant, BAND, interval=interval)
    run(plant, loop, 120)
    assert plant.mean_error(BAND.target, since=max(20, 8 * interval)) <= 0.01


def test_step_law_adds_and_removes_once_a_second_and_never_below_none() -> None:
    law = Step(workers=3, step_workers=2, sleep=0.009)
    state, numbers = law.start(), []
    for _ in range(20):
        state, command = law.step(state, reading(own=0.2), Setpoint(BAND))
        numbers.append(command.workers)
    assert numbers == [3] * 9 + [5] * 10 + [7]
    for _ in range(60):
        state, command = law.step(state, reading(other=0.9), Setpoint(BAND))
    assert command == Command(0, 0.0)


@pytest.mark.parametrize(("dt", "workers"), [(0.06, 3), (0.07, 5)])
def test_step_law_takes_the_cycle_that_is_closest_to_a_second(dt: float, workers: int) -> None:
    memory = StepMemory(3, elapsed=0.9)
    _, command = Step(step_workers=2).step(memory, reading(own=0.2, dt=dt), Setpoint(BAND))
    assert command.workers == workers


def test_step_law_says_when_no_more_workers_can_burn() -> None:
    law = Step(workers=20, sleep=0.009)
    commands = [law.step(StepMemory(workers), reading(own=0.65), Setpoint(BAND))[1] for workers in (19, 20, 30)]
    assert [(command.workers, command.at_limit) for command in commands] == [(19, False), (20, True), (20, True)]


def test_step_law_burns_a_millisecond_a_turn() -> None:
    law = Step(workers=10, sleep=0.009)
    _, command = law.step(law.start(), reading(own=0.65), Setpoint(BAND))
    assert law.turn == pytest.approx(0.010)
    assert command.effort == pytest.approx(1.0)


def test_step_law_reaches_the_band_slowly() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND, Step(workers=1, step_workers=1, sleep=0.010))
    run(plant, loop, 60)
    assert 5 < plant.settled(BAND, event=0.0) < 30


@pytest.mark.parametrize(
    ("window", "command", "state", "words"),
    [
        (reading(own=0.65), Command(2, 1.3), State.HOLDING, "65.0 %"),
        (reading(own=0.50), Command(2, 1.3), State.SETTLING, "below the band of 60..70 %"),
        (reading(own=0.80), Command(2, 1.3), State.SETTLING, "above the band of 60..70 %"),
        (reading(own=0.10, other=0.80), Command(2, 0.2), State.SETTLING, "above the band of 60..70 %"),
        (reading(other=0.80), Command(2, 0.0), State.YIELDING, "others alone use 80.0 %"),
        (reading(other=0.65), Command(2, 0.0), State.HOLDING, "65.0 %"),
        (reading(own=0.25, reach=0.5), Command(1, 0.5, at_limit=True), State.SATURATED, "0.50 of 2.00 CPUs"),
        (reading(own=0.65), Command(2, 2.0, at_limit=True), State.HOLDING, "in the band"),
    ],
)
def test_verdict_is_the_first_word_that_applies(window: Reading, command: Command, state: State, words: str) -> None:
    verdict = judge(window, command, Setpoint(BAND), Steal.IDLE)
    assert verdict.state is state
    assert words in verdict.why


def test_a_band_that_moves_is_judged_by_its_mean_over_the_window() -> None:
    moving = Setpoint(BAND, "profile", lately=Band(0.4, 0.5))
    assert judge(reading(own=0.45), Command(2, 0.9), moving, Steal.IDLE).state is State.HOLDING
    assert judge(reading(own=0.65), Command(2, 0.9), moving, Steal.IDLE).state is State.SETTLING
