"""The real loop on a simulated machine whose clock is ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import Mock

import pytest
from plant import Plant, regulator, run

from loadband.controller import Adaptive, Latch
from loadband.quantities import Band, Command, DropReason, Reading, Setpoint, Snapshot, State, Throttling
from loadband.regulator import Regulator, _as_commanded, lease_of
from loadband.setpoint import SetpointCell

BAND = Band(0.6, 0.7)


def last(loop: object) -> Snapshot:
    snapshot = loop.snapshot  # type: ignore[attr-defined] # a Regulator
    assert isinstance(snapshot, Snapshot)
    return snapshot


def cycles(loop: Regulator, plant: Plant, seconds: float) -> int:
    """How many it makes in the next so many seconds."""
    before = last(loop).counts.cycles
    run(plant, loop, seconds)
    return last(loop).counts.cycles - before


def test_shares_of_a_snapshot_sum_to_one_and_name_everybody() -> None:
    plant = Plant(2, others=lambda _: 0.4)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 10)
    reading = last(loop).reading
    assert reading is not None
    assert reading.own + reading.other + reading.steal + reading.idle == pytest.approx(1)
    assert reading.other == pytest.approx(0.2, abs=0.01)
    assert reading.own == pytest.approx(0.45, abs=0.01)
    assert reading.dt == pytest.approx(1.0, abs=0.06)


def test_cpu_seconds_by_mode_add_up_to_the_capacity_that_passed() -> None:
    plant = Plant(4, others=lambda _: 1.0)
    loop, burner = regulator(plant, BAND)
    run(plant, loop, 60)
    cpu = last(loop).counts.cpu
    assert cpu.own + cpu.other + cpu.steal + cpu.idle == pytest.approx(4 * 60, rel=0.01)
    assert cpu.own == pytest.approx(burner.own, rel=0.01)
    assert cpu.other == pytest.approx(60, rel=0.01)


def test_stolen_time_adds_up_too() -> None:
    plant = Plant(4, others=lambda _: 1.0, stolen=lambda _: 0.1)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 60)
    cpu = last(loop).counts.cpu
    assert plant.steal > 10
    assert cpu.steal == pytest.approx(plant.steal, rel=0.01)


def test_a_band_that_is_held_says_so_and_the_start_is_not_held_against_it() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND, duration=20)
    run(plant, loop, 30)
    snapshot = last(loop)
    assert snapshot.verdict.state is State.EXPIRED
    assert snapshot.counts.held
    assert plant.elapsed == pytest.approx(20, abs=0.2)
    assert snapshot.deadline == pytest.approx(plant.clock.wall() - plant.elapsed + 20, rel=0, abs=0.01)


@pytest.mark.parametrize(("starting", "first_cycle"), [(0.04, 0.1), (0.1, 0.1), (0.25, 0.25), (0.61, 0.71), (3.0, 3.1)])
def test_the_first_interval_begins_with_a_sample_taken_while_the_process_started(
    starting: float, first_cycle: float
) -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, starting=starting)
    run(plant, loop, first_cycle - starting + 0.001)
    assert last(loop).counts.cycles == 1
    assert last(loop).at - 1000 == pytest.approx(first_cycle)
    assert (last(loop).counts.overruns, sum(last(loop).counts.failures.values())) == (0, 0)
    assert burner.effort > 0


def test_what_its_own_start_used_does_not_make_the_first_effort_smaller() -> None:
    efforts = []
    for starting in (None, 0.1):
        plant = Plant(2)
        loop, burner = regulator(plant, starting=starting)
        run(plant, loop, 0.101 if starting is None else 0.001)
        efforts.append(burner.effort)
    assert efforts[0] == pytest.approx(efforts[1], abs=0.01) != 0
    # But it counts as used: the reading is true.
    assert last(loop).counts.cpu.own == pytest.approx(0.1, abs=0.01)


def test_the_first_reading_of_the_law_is_as_if_the_start_had_been_idle() -> None:
    plant = Plant(2, others=lambda _: 0.4)
    loop, _ = regulator(plant, starting=0.1)
    loop._controller = law = Mock()
    law.step.return_value = Command(2, 0.5)
    loop._begin()
    loop.cycle()
    reading = law.step.call_args.args[0]
    assert reading.own == 0
    assert (reading.other, reading.idle) == pytest.approx((0.2, 0.8), abs=0.1)


def test_a_band_never_entered_is_not_held() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND, reach=0.5, duration=20)
    run(plant, loop, 30)
    assert not last(loop).counts.held
    assert last(loop).counts.observed_seconds > 18
    assert (last(loop).counts.in_band_seconds, last(loop).counts.observed_since_entry) == (0, 0)


def test_a_band_left_for_a_tenth_of_the_time_is_not_held() -> None:
    plant = Plant(2, others=lambda t: 1.8 if 30 <= t < 40 else 0.0)
    loop, _ = regulator(plant, BAND, duration=60)
    run(plant, loop, 61)
    assert not last(loop).counts.held


either = pytest.mark.parametrize("asked", [Setpoint(BAND), Setpoint(None, effort=1.3)], ids=["band", "effort"])


@either
@pytest.mark.parametrize(("lost", "held"), [(0.5, True), (3.0, False), (15.0, False)])
def test_a_run_that_sees_nothing_ends_in_time_and_without_success(asked: Setpoint, lost: float, *, held: bool) -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, SetpointCell(asked), Latch(Adaptive()), duration=20)
    run(plant, loop, 20 - lost)
    burner.fault = "no such file"
    run(plant, loop, 30)
    assert plant.elapsed == pytest.approx(20, abs=0.2)
    counts = last(loop).counts
    assert last(loop).verdict.state is State.EXPIRED
    assert counts.run_seconds - counts.seen_seconds == pytest.approx(lost, abs=0.3)
    assert last(loop).held is held


@either
@pytest.mark.parametrize(("pauses", "seconds", "held"), [(1, 54.0, False), (3, 1.5, False), (2, 1.2, True)])
def test_what_passes_in_pauses_is_not_seen(asked: Setpoint, pauses: int, seconds: float, *, held: bool) -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, SetpointCell(asked), Latch(Adaptive()), duration=60)
    for _ in range(pauses):
        run(plant, loop, 2)
        plant.jump(seconds)
    run(plant, loop, 100)
    counts = last(loop).counts
    assert counts.run_seconds == pytest.approx(60, abs=0.2)
    assert counts.run_seconds - counts.seen_seconds == pytest.approx(pauses * seconds, abs=0.8)
    assert last(loop).held is held


def test_a_run_that_sees_again_says_for_how_long_it_did_not() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND, duration=20)
    run(plant, loop, 10)
    burner.fault = "no such file"
    run(plant, loop, 3)
    burner.fault = ""
    run(plant, loop, 30)
    counts = last(loop).counts
    assert last(loop).verdict.state is State.EXPIRED
    assert counts.run_seconds - counts.seen_seconds == pytest.approx(3, abs=0.3)
    assert counts.held
    assert not last(loop).held


@either
@pytest.mark.parametrize(("others", "lost"), [(1.9, 0.0), (0.0, 0.0), (0.0, 5.0)])
def test_what_comes_after_the_end_changes_nothing_about_the_run(asked: Setpoint, others: float, lost: float) -> None:
    plant = Plant(2, others=lambda time: others if time > 20 else 0.0)
    loop, burner = regulator(plant, SetpointCell(asked), Latch(Adaptive()), duration=20, exit_at_end=False)
    run(plant, loop, 10)
    burner.fault = "no such file" if lost else ""
    run(plant, loop, lost or 1)
    burner.fault = ""
    run(plant, loop, 20 - plant.elapsed + 0.5)
    ended = last(loop)
    assert ended.verdict.state is State.EXPIRED
    assert (ended.command.latched, ended.latch_timestamp) == (None, None)
    assert ended.held is (lost == 0)
    burner.fault = "no such file"
    run(plant, loop, 30)
    burner.fault = ""
    run(plant, loop, 600)
    now = last(loop)
    assert now.held is ended.held
    for field in ("observed_seconds", "in_band_seconds", "observed_since_entry", "run_seconds", "seen_seconds"):
        assert getattr(now.counts, field) == getattr(ended.counts, field), field
    assert now.counts.cpu.idle > ended.counts.cpu.idle


@pytest.mark.parametrize("reading", ["lost", "changed"])
def test_an_effort_that_is_asked_for_while_a_sample_is_lost_waits_for_the_next(reading: str) -> None:
    plant = Plant(2)
    cell = SetpointCell(Setpoint(BAND))
    loop, burner = regulator(plant, cell, Latch(Adaptive()))
    run(plant, loop, 10)
    burner.fault = "no such file" if reading == "lost" else ""
    burner.capacity = burner.reach = 1.5 if reading == "changed" else 2
    cell.replace(Setpoint(None, "control", effort=0.5))
    plant.advance(plant.now + 0.1)
    verdict = loop.cycle().verdict
    assert (verdict.state, verdict.why) == (State.SETTLING, "0.5 CPUs: from the next reading on")
    burner.fault = ""
    run(plant, loop, 1)
    assert last(loop).verdict.state is State.LATCHED


def test_a_duration_may_be_shorter_than_a_second() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND, duration=0.5)
    run(plant, loop, 30)
    assert last(loop).verdict.state is State.EXPIRED
    assert 0.5 <= plant.elapsed <= 0.62


def test_after_the_duration_an_idle_regulator_stays_and_burns_nothing() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND, duration=10, exit_at_end=False)
    run(plant, loop, 10.5)
    assert cycles(loop, plant, 9.5) > 90
    assert last(loop).verdict.state is State.EXPIRED
    assert (burner.effort, last(loop).command.workers) == (0, 0)
    assert plant.elapsed == pytest.approx(20, abs=0.2)


def test_three_unreadable_samples_in_a_row_silence_us_and_good_ones_bring_us_back() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND)
    run(plant, loop, 10)
    burner.fault = "no such file"
    loop.cycle()
    loop.cycle()
    assert burner.effort > 1
    assert last(loop).verdict.state is State.HOLDING
    loop.cycle()
    assert burner.effort == 0
    assert last(loop).verdict.state is State.FAILSAFE
    assert "no such file" in last(loop).verdict.why
    assert last(loop).reading is None
    burner.fault = ""
    run(plant, loop, 20)
    assert last(loop).verdict.state is State.HOLDING
    assert last(loop).counts.failures[DropReason.UNREADABLE] == 3


def test_without_any_readable_sample_it_says_so_after_three() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND)
    burner.fault = "no such file"
    states = [loop.cycle().verdict.state for _ in range(3)]
    assert states == [State.SETTLING, State.SETTLING, State.FAILSAFE]
    assert last(loop).throttling is None
    assert last(loop).deadline is None


def test_one_lost_sample_changes_nothing() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND)
    run(plant, loop, 10)
    burner.fault = "once"
    loop.cycle()
    burner.fault = ""
    run(plant, loop, 10)
    assert last(loop).counts.failures[DropReason.UNREADABLE] == 1
    assert plant.mean_error(BAND.target, since=8) <= 0.01


def test_a_pause_of_the_machine_starts_anew_without_a_burst() -> None:
    plant = Plant(2, others=lambda t: 0.0 if t < 15 else 1.0)
    loop, burner = regulator(plant, BAND)
    run(plant, loop, 10)
    plant.jump(10)
    loop.cycle()
    assert last(loop).counts.failures[DropReason.GAP] == 1
    assert (burner.effort, last(loop).command.workers) == (0, 2)
    assert last(loop).verdict.state is State.SETTLING
    run(plant, loop, 20)
    windows = plant.windows(since=20.2, until=40)
    assert all(utilization <= BAND.high for _, utilization in windows)
    assert plant.settled(BAND, event=20.2) <= 1.0


@pytest.mark.parametrize(("interval", "trusted"), [(0.1, 1.0), (0.5, 2.5)])
def test_how_long_a_pause_may_be_until_it_starts_anew(interval: float, trusted: float) -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND, interval=interval)
    run(plant, loop, 10)
    loop.cycle()
    plant.advance(plant.now + trusted - 0.02)
    assert loop.cycle().counts.failures[DropReason.GAP] == 0
    plant.advance(plant.now + trusted + 0.02)
    assert loop.cycle().counts.failures[DropReason.GAP] == 1


@pytest.mark.parametrize("falls", [(), (-0.5, -0.5)])
def test_steal_that_goes_backwards_is_told_once(falls: tuple[float, ...], caplog: pytest.LogCaptureFixture) -> None:
    plant = Plant(2, others=lambda _: 1.0, stolen=lambda _: 0.3)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 5)
    for fall in falls:
        plant.advance(plant.now + 0.1)
        plant.steal += fall
        loop.cycle()
    assert len(caplog.records) == min(len(falls), 1)


def test_throttling_is_that_of_the_last_sample() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND)
    for period in range(10):
        burner.throttling = Throttling(period, 0, 0.0)
        plant.advance(plant.now + 0.1)
        assert loop.cycle().throttling == burner.throttling


def test_a_cpu_that_goes_offline_is_followed() -> None:
    plant = Plant(4)
    loop, burner = regulator(plant, BAND)
    run(plant, loop, 10)
    plant.cpus = 3
    burner.capacity = burner.reach = 3
    run(plant, loop, 20)
    snapshot = last(loop)
    assert snapshot.counts.failures[DropReason.CHANGED] == 1
    assert snapshot.reading is not None
    assert snapshot.reading.capacity == 3
    assert snapshot.verdict.state is State.HOLDING
    assert plant.mean_error(BAND.target * 1.0, since=13) <= 0.01


def test_a_quota_that_changes_shows_in_reach_in_the_next_cycle() -> None:
    plant = Plant(4)
    loop, burner = regulator(plant, BAND)
    run(plant, loop, 10)
    burner.reach = 0.1
    loop.cycle()
    assert last(loop).command.effort == 0.1
    run(plant, loop, 5)
    assert last(loop).verdict.state is State.SATURATED
    burner.reach = 4
    before = plant.elapsed
    run(plant, loop, 15)
    assert plant.settled(BAND, event=before) <= 1.0


@pytest.mark.parametrize(("own", "idle", "expected"), [(0.1, 0.6, 0.4), (0.1, 0.2, 0.3), (0.5, 0.2, 0.5)])
def test_as_commanded_idle_time_becomes_own_time_as_far_as_there_is_some(
    own: float, idle: float, expected: float
) -> None:
    reading = Reading(1.0, 0.1, 2.0, 2.0, own=own, other=1 - own - idle, steal=0.0, idle=idle, uncertainty=0.05)
    commanded = _as_commanded(reading, Command(2, 0.8))
    assert (commanded.own, commanded.idle) == pytest.approx((expected, own + idle - expected))
    assert replace(commanded, own=own, idle=idle) == reading


@pytest.mark.parametrize(("interval", "lease"), [(0.1, 0.6), (0.2, 0.6), (0.5, 1.5)])
def test_a_command_is_valid_for_three_intervals_also_of_a_calm_band(interval: float, lease: float) -> None:
    assert lease_of(interval) == pytest.approx(lease)


def test_one_cycle_that_comes_after_the_end_of_its_lease_is_no_lack_of_effort_but_two_are() -> None:
    plant = Plant(2, others=lambda _: 0.2)
    loop, burner = regulator(plant, BAND)
    run(plant, loop, 10)
    settled = burner.effort
    plant.advance(plant.now + 0.85)
    loop.cycle()
    assert burner.effort == pytest.approx(settled, abs=0.05)
    plant.advance(plant.now + 0.85)
    loop.cycle()
    assert burner.effort > settled + 0.2


def test_the_bounds_of_durations_rise_and_a_cycle_above_them_all_is_counted() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND)
    run(plant, loop, 1)
    burner.takes = 1.5
    loop.cycle()
    durations = last(loop).durations
    assert list(durations.bounds) == sorted(set(durations.bounds))
    assert 0 < durations.bounds[0] < durations.bounds[-1] < 1.5
    assert (len(durations.counts), durations.counts[-1]) == (len(durations.bounds) + 1, 1)


def test_a_cycle_that_comes_too_late_is_counted_and_the_missed_ones_are_skipped() -> None:
    plant = Plant(2, others=lambda _: 1.9)
    loop, burner = regulator(plant, BAND)
    sample, late = burner.sample, [0.35]

    def slow() -> object:
        if plant.elapsed > 5 and late:
            plant.advance(plant.now + late.pop())
        return sample()

    burner.sample = slow  # type: ignore[method-assign,assignment] # a sensor that takes its time, once
    run(plant, loop, 10)
    assert last(loop).counts.overruns == 1
    assert 90 <= last(loop).counts.cycles <= 97
    assert last(loop).durations.total == pytest.approx(0.35, abs=0.01)
    assert sum(last(loop).durations.counts) == last(loop).counts.cycles


def test_after_a_cycle_that_took_long_the_next_comes_after_half_an_interval() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND)
    burner.takes = 0.08
    pauses: list[float] = []

    def wait(pause: float) -> bool:
        pauses.append(pause)
        plant.advance(plant.now + pause)
        return len(pauses) > 20

    loop.run(wait)
    assert min(pauses[1:]) == pytest.approx(0.05)


def test_the_last_second_begins_at_the_sample_that_is_closest_to_it() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND)
    for _ in range(20):
        plant.advance(plant.now + 0.1)
        loop.cycle()
    plant.advance(plant.now + 0.02)
    window = loop.cycle().reading
    assert window is not None
    assert window.dt == pytest.approx(1.02)


def test_in_a_calm_band_it_looks_half_as_often() -> None:
    plant = Plant(2, others=lambda _: 0.02)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 5)
    assert cycles(loop, plant, 10) == pytest.approx(50, abs=3)
    assert last(loop).counts.overruns == 0
    assert plant.mean_error(BAND.target, since=5) <= 0.0025


def test_a_longer_interval_stays_as_it_is() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND, interval=0.5)
    run(plant, loop, 5)
    assert cycles(loop, plant, 10) == pytest.approx(20, abs=1)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(lambda _: 1.9, id="they alone are above the band"),
        pytest.param(lambda time: 1.0 if time % 0.3 < 0.1 else 0.0, id="they burn in bursts"),
        pytest.param(lambda _: 0.1, id="a twentieth of the machine is theirs"),
    ],
)
def test_beside_others_it_looks_as_often_as_it_can(others: Callable[[float], float]) -> None:
    plant = Plant(2, others=others)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 5)
    assert cycles(loop, plant, 10) == pytest.approx(100, abs=2)


def test_on_a_single_cpu_it_looks_as_often_as_it_can() -> None:
    plant = Plant(1)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 5)
    assert cycles(loop, plant, 10) == pytest.approx(100, abs=2)


def test_a_neighbour_in_the_calm_wakes_it_at_its_next_look() -> None:
    plant = Plant(2, others=lambda time: 0.6 if time >= 10.05 else 0.0)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 10)
    assert cycles(loop, plant, 1) >= 8
    run(plant, loop, 15)
    assert plant.settled(BAND, event=10.05) <= 0.5


def test_a_band_that_moves_is_looked_at_as_often_as_it_can() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, SetpointCell(Setpoint(BAND, lately=BAND)))
    run(plant, loop, 5)
    assert cycles(loop, plant, 10) == pytest.approx(100, abs=2)


def test_without_a_band_and_a_latch_there_is_nothing_to_be_calm_in() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 5)
    assert loop._rests(last(loop).reading, Setpoint(BAND))
    assert not loop._rests(last(loop).reading, Setpoint(None, effort=1.3))


def test_a_latched_size_is_looked_at_half_as_often_wherever_utilization_is() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, SetpointCell(Setpoint(None, effort=0.4)), Latch(Adaptive()))
    run(plant, loop, 5)
    assert last(loop).utilization == pytest.approx(0.2, abs=0.02)
    assert cycles(loop, plant, 10) == pytest.approx(50, abs=2)


def test_a_replaced_setpoint_counts_and_is_followed() -> None:
    plant = Plant(2)
    cell = SetpointCell(Setpoint(BAND))
    loop, _ = regulator(plant, cell)
    run(plant, loop, 10)
    cell.replace(Setpoint(Band(0.3, 0.4), "control"))
    run(plant, loop, 15)
    assert last(loop).counts.band_changes == {"settings": 0, "profile": 0, "control": 1}
    assert plant.settled(Band(0.3, 0.4), event=10.0) <= 1.0


def test_an_exception_in_the_loop_closes_the_workers() -> None:
    plant = Plant(2)
    loop, burner = regulator(plant, BAND)

    def wait(_: float) -> bool:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        loop.run(wait)
    assert burner.closed


def test_snapshots_are_replaced_and_never_changed() -> None:
    plant = Plant(2)
    loop, _ = regulator(plant, BAND)
    run(plant, loop, 3)
    earlier = last(loop)
    copy = replace(earlier, counts=replace(earlier.counts, failures=dict(earlier.counts.failures)))
    run(plant, loop, 3)
    assert earlier == copy
    assert last(loop) is not earlier


def test_twenty_thousand_cycles_neither_grow_nor_drift() -> None:
    plant = Plant(2, others=lambda _: 0.3)
    loop, burner = regulator(plant, BAND)
    loop.cycle()
    for _ in range(20_000):
        plant.history = plant.history[-1200:]
        plant.advance(plant.now + 0.1)
        loop.cycle()
    assert len(loop._samples) <= 12
    assert plant.mean_error(BAND.target, since=plant.elapsed - 11) <= 0.0025
    assert burner.effort == pytest.approx(2 * 0.65 - 0.3, abs=0.05)
