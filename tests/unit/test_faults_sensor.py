"""What may break in the files that the sensor reads: it is counted under its name, harmless, and got over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from filed_plant import BAND, FiledPlant, filed_plant

from loadband.quantities import Band, DropReason, Scope, State
from loadband.regulator import Clock

Break = Callable[[FiledPlant], Callable[[], object]]
"""Prepares what then happens to the files in every cycle."""


def counters(machine: FiledPlant) -> Path:
    return machine.usage if machine.snapshot.scope is Scope.CONTAINER else machine.stat


def missing(machine: FiledPlant) -> Callable[[], object]:
    return counters(machine).unlink


def empty(machine: FiledPlant) -> Callable[[], object]:
    return lambda: counters(machine).write_text("")


def truncated(machine: FiledPlant) -> Callable[[], object]:
    return lambda: counters(machine).write_text(counters(machine).read_text()[:12])


def garbled(machine: FiledPlant) -> Callable[[], object]:
    return lambda: counters(machine).write_bytes(bytes(range(256)) + b"\n")


def frozen(machine: FiledPlant) -> Callable[[], object]:
    text = counters(machine).read_text()
    return lambda: counters(machine).write_text(text)


def backwards(machine: FiledPlant) -> Callable[[], object]:
    return _further_off(machine, -10)


def absurd(machine: FiledPlant) -> Callable[[], object]:
    return _further_off(machine, 10)


def _further_off(machine: FiledPlant, step: int) -> Callable[[], object]:
    """Each look finds the counters that count off by so many seconds more."""
    off = 0

    def spoil() -> None:
        nonlocal off
        off += step
        lines = counters(machine).read_text().splitlines()
        for number, line in enumerate(lines):
            fields = line.split(" ")
            if fields[0] == "usage_usec":
                fields[1] = str(int(fields[1]) + 1_000_000 * off)
            elif fields[0].startswith("cpu"):
                fields[-7] = str(int(fields[-7]) + 100 * off)
            lines[number] = " ".join(fields)
        counters(machine).write_text("\n".join(lines) + "\n")

    return spoil


def paused(machine: FiledPlant) -> Callable[[], object]:
    return lambda: machine.plant.jump(3)


def flapping(machine: FiledPlant) -> Callable[[], object]:
    """A CPU comes and goes, a quota changes all the time."""

    def flap() -> None:
        machine.online = {0} if len(machine.online) == 2 else {0, 1}
        machine.quota = 1.0 if machine.quota == 1.5 else 1.5
        machine.write()

    return flap


FAULTS = [
    (missing, DropReason.UNREADABLE),
    (empty, DropReason.UNREADABLE),
    (truncated, DropReason.UNREADABLE),
    (garbled, DropReason.UNREADABLE),
    (frozen, DropReason.FROZEN),
    (backwards, DropReason.BACKWARDS),
    (absurd, DropReason.ABSURD),
    (paused, DropReason.GAP),
    (flapping, DropReason.CHANGED),
]
SCOPES = [(Scope.HOST, None), (Scope.CPUSET, None), (Scope.CONTAINER, 1.5)]
each_scope = pytest.mark.parametrize(("scope", "quota"), SCOPES, ids=[str(scope) for scope, _ in SCOPES])
each_fault = pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])


def test_idle_time_that_stands_still_on_an_idle_machine_is_no_load_of_others(tmp_path: Path) -> None:
    with filed_plant(tmp_path, others=lambda _: 0.2) as machine:
        standing = machine.stat.read_text().split()[4]

        def spoil() -> None:
            lines = [line.split(" ") for line in machine.stat.read_text().splitlines()]
            for fields in lines:
                if fields[0].startswith("cpu"):
                    fields[-7] = standing
            machine.stat.write_text("\n".join(map(" ".join, lines)) + "\n")

        machine.damage = spoil
        states = set()
        for _ in range(30):
            machine.cycle()
            states.add(machine.snapshot.verdict.state)
            assert machine.burner.effort == 0
        assert State.YIELDING not in states
        assert machine.snapshot.verdict.state is State.FAILSAFE
        assert "stands still" in machine.snapshot.verdict.why


def repair(machine: FiledPlant, quota: float | None) -> None:
    machine.damage = lambda: None
    machine.online, machine.quota = {0, 1}, quota


def of_the_machine(quota: float | None) -> Band:
    """The band, where its capacity is a quota of two CPUs."""
    part = (quota or 2) / 2
    return Band(part * BAND.low, part * BAND.high)


@each_scope
@each_fault
def test_three_in_a_row_silence_it_and_whole_ones_bring_it_back(
    fault: Break, reason: DropReason, scope: Scope, quota: float | None, tmp_path: Path
) -> None:
    with filed_plant(tmp_path, scope=scope, quota=quota) as machine:
        machine.run(10)
        assert machine.snapshot.verdict.state is State.HOLDING
        effort = machine.burner.effort
        machine.damage = fault(machine)
        for _ in range(2):
            machine.cycle()
            assert machine.burner.effort == (0 if reason is DropReason.GAP else effort)
        machine.cycle()
        assert machine.burner.effort == 0
        verdict = machine.snapshot.verdict
        assert verdict.state is State.FAILSAFE
        assert verdict.why.startswith("no trustworthy reading, so nothing is burnt: ")
        assert machine.snapshot.utilization is None
        machine.run(3)
        assert machine.burner.effort == 0
        assert {reason: count for reason, count in machine.snapshot.counts.failures.items() if count} == {reason: 33}

        repair(machine, quota)
        # The way back to the truth is one jump more, and a reading takes two samples.
        machine.run(0.2)
        back = machine.plant.elapsed
        machine.run(12)
        assert machine.snapshot.verdict.state is State.HOLDING
        assert machine.plant.settled(of_the_machine(quota), event=back) <= 1.0
        assert sum(machine.snapshot.counts.failures.values()) <= 34


@each_scope
@each_fault
def test_one_costs_neither_the_band_nor_more_than_a_window_of_observed_time(
    fault: Break, reason: DropReason, scope: Scope, quota: float | None, tmp_path: Path
) -> None:
    with filed_plant(tmp_path, scope=scope, quota=quota) as machine:
        machine.run(10)
        before = machine.snapshot.counts
        machine.damage = fault(machine)
        machine.cycle()
        broken = machine.plant.elapsed
        repair(machine, quota)
        machine.run(15)
        assert machine.snapshot.counts.failures[reason] >= 1
        assert sum(machine.snapshot.counts.failures.values()) <= 2
        windows = [utilization for _, utilization in machine.plant.windows(broken - 1, broken + 12)]
        assert max(windows) <= of_the_machine(quota).high
        # After a gap it starts anew; and a use that was counted late makes others seem to have come.
        if reason not in {DropReason.GAP, DropReason.FROZEN}:
            assert min(windows) >= of_the_machine(quota).low
        assert machine.plant.settled(of_the_machine(quota), event=broken) <= 1.0
        # The window of a second begins anew, and twice where the way back is a jump, too.
        assert 13.7 <= machine.snapshot.counts.observed_seconds - before.observed_seconds <= 15.1


def test_steal_that_keeps_falling_is_reported_once_and_the_band_is_held(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with filed_plant(tmp_path) as machine:
        machine.run(5)
        steal = 10**6

        def fall() -> None:
            nonlocal steal
            steal -= 7
            whole, rest = machine.stat.read_text().split("\n", 1)
            fields = whole.split(" ")
            fields[_STEAL] = str(steal)
            machine.stat.write_text("\n".join([" ".join(fields), rest]))

        machine.damage = fall
        machine.run(1)
        fallen = machine.plant.elapsed
        machine.run(10)
        snapshot = machine.snapshot
        assert snapshot.verdict.state is State.HOLDING
        assert snapshot.reading
        assert snapshot.reading.steal == 0
        # Only the jump to the value from which it falls is not a reading.
        assert {reason: count for reason, count in snapshot.counts.failures.items() if count} == {DropReason.ABSURD: 1}
        assert all(utilization in BAND for _, utilization in machine.plant.windows(fallen))
    assert caplog.text.count("went backwards: whenever it does, it counts as 0") == 1


_STEAL = 9
"""The field of steal in the line that `FiledPlant` writes for all CPUs: name, an empty field, user, ..."""


@pytest.mark.parametrize("slow", ["opening", "reading"])
@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.6])
def test_a_look_that_takes_its_time_is_not_made_up_for(slow: str, seconds: float, tmp_path: Path) -> None:
    with filed_plant(tmp_path) as machine:
        machine.run(10)
        setattr(machine, slow, seconds)
        machine.cycle()
        setattr(machine, slow, 0.0)
        looked = machine.plant.elapsed
        machine.run(12)
        assert machine.snapshot.verdict.state is State.HOLDING
        # The lease ran out, and the workers stood idle: that is not burnt later.
        assert all(utilization <= BAND.target + 0.005 for _, utilization in machine.plant.windows(9))
        assert machine.plant.settled(BAND, event=looked) <= 1.5


def test_after_a_look_that_took_its_time_the_next_is_not_at_once(tmp_path: Path) -> None:
    with filed_plant(tmp_path) as machine:

        def wait(seconds: float) -> bool:
            machine.plant.advance(machine.plant.now + seconds)
            machine.write()
            machine.opening = 0.15 if 10 <= machine.plant.elapsed < 10.1 else 0.0
            return machine.plant.elapsed > 20

        machine.loop.run(wait)
        counts = machine.snapshot.counts
        assert counts.overruns == 1
        assert not any(counts.failures.values())


@pytest.mark.parametrize("slow", ["opening", "reading"])
@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_looks_that_always_take_their_time_never_make_it_burn_too_much(
    slow: str, seconds: float, tmp_path: Path
) -> None:
    with filed_plant(tmp_path) as machine:
        setattr(machine, slow, seconds)
        machine.run(30)
        assert all(utilization <= BAND.high for _, utilization in machine.plant.windows(3))


@each_scope
def test_a_quota_that_shrinks_to_a_tenth_of_a_cpu_and_comes_back(
    scope: Scope, quota: float | None, tmp_path: Path
) -> None:
    with filed_plant(tmp_path, scope=scope, quota=quota or 2.0) as machine:
        machine.run(10)
        machine.quota = 0.1
        machine.cycle()
        assert machine.burner.effort <= 0.1 or scope is Scope.CONTAINER
        machine.run(10)
        assert machine.snapshot.verdict.state is (State.HOLDING if scope is Scope.CONTAINER else State.SATURATED)
        assert machine.burner.effort == pytest.approx(0.06 if scope is Scope.CONTAINER else 0.1, abs=0.006)
        machine.quota = quota
        back = machine.plant.elapsed + 0.1
        machine.run(12)
        assert machine.plant.settled(of_the_machine(quota), event=back) <= 1.0
        changed = machine.snapshot.counts.failures[DropReason.CHANGED]
        assert changed == (2 if scope is Scope.CONTAINER else 0)


@each_scope
def test_a_cpu_that_goes_and_comes_back_is_followed(scope: Scope, quota: float | None, tmp_path: Path) -> None:
    with filed_plant(tmp_path, 4, scope, quota) as machine:
        machine.run(10)
        for online in ({0, 1, 3}, {0, 1, 2, 3}):
            machine.online, machine.plant.cpus = online, len(online)
            moved = machine.plant.elapsed + 0.1
            machine.run(12)
            assert machine.snapshot.verdict.state is State.HOLDING
            assert machine.snapshot.reading
            assert machine.snapshot.reading.capacity == (quota or len(online))
            band = of_the_machine(2 * quota / len(online) if quota else None)
            assert machine.plant.settled(band, event=moved) <= 1.0
        assert machine.snapshot.counts.failures[DropReason.CHANGED] == 2


def _set(clock: Clock, step: float) -> float:
    return clock.wall() + step


def test_a_wall_clock_that_is_set_changes_nothing(tmp_path: Path) -> None:
    with filed_plant(tmp_path) as machine:
        clock = machine.loop._clock
        machine.run(10)
        before = machine.snapshot
        for step in (3600.0, -7200.0):
            machine.loop._clock = Clock(clock.monotonic, partial(_set, clock, step))
            machine.run(5)
        assert machine.snapshot.timestamp == pytest.approx(before.timestamp + 10 - 7200)
        assert machine.snapshot.counts.observed_seconds - before.counts.observed_seconds == pytest.approx(10)
        assert machine.snapshot.counts.in_band_seconds - before.counts.in_band_seconds == pytest.approx(10)
        assert not any(machine.snapshot.counts.failures.values())


@pytest.mark.parametrize(("seconds", "dropped"), [(0.3, 0), (0.8, 0), (1.5, 1), (3600, 1)])
def test_a_step_of_the_monotonic_clock_is_a_reading_or_a_gap(seconds: float, dropped: int, tmp_path: Path) -> None:
    with filed_plant(tmp_path) as machine:
        machine.run(10)
        machine.plant.jump(seconds)
        jumped = machine.plant.elapsed
        machine.run(12)
        assert machine.snapshot.counts.failures[DropReason.GAP] == dropped
        assert sum(machine.snapshot.counts.failures.values()) == dropped
        assert all(utilization <= BAND.high for _, utilization in machine.plant.windows(jumped + 0.1))
        assert machine.plant.settled(BAND, event=jumped + 0.2) <= 1.5
