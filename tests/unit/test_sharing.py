"""Several regulators on one simulated host: together they hold the band as one does, each with the same share."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from plant import Plant, regulator, run_together

from bench.recording import Spent, fairness, used
from loadband.controller import Adaptive, Step
from loadband.quantities import Band, State

BAND = Band(0.6, 0.7)


def jain(spent: Sequence[Spent], since: float, until: float) -> float:
    """Jain's index of what the burners used between two moments."""
    return fairness(used(spent, since, until))


def swing(plant: Plant, since: float, until: float) -> float:
    """Highest less lowest 1-s utilization."""
    values = [utilization for _, utilization in plant.windows(since, until)]
    return max(values) - min(values)


@pytest.mark.parametrize("cpus", [2, 16])
@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_regulators_share_a_host_and_its_neighbour(count: int, cpus: int) -> None:
    plant = Plant(cpus, others=lambda t: (0.3 if 60 <= t < 120 else 0.01) * cpus, noise=0.004 * cpus, seed=count)
    loops = [regulator(plant, BAND)[0] for _ in range(count)]
    starts = [0.37 * index for index in range(count)]
    spent = run_together(plant, loops, until=180, starts=starts)
    for event, following in ((starts[-1], 60), (60, 120), (120, 180)):
        assert plant.settled(BAND, event) <= 5
        assert plant.mean_error(BAND.target, since=event + 5, until=following) <= 0.005
        assert jain(spent, event + 30, following) >= 0.95
        # An oscillation would last: were there one, the swing of the last 20 s would be no less than that at the start.
        assert swing(plant, following - 20, following) <= max(0.02, swing(plant, event + 5, event + 25))


def test_alone_it_is_as_good_as_without_anyone_to_share_with() -> None:
    plant = Plant(2, others=lambda t: 0.6 if 30 <= t < 60 else 0.02, noise=0.008)
    spent = run_together(plant, [regulator(plant, BAND)[0]], until=90, starts=[0])
    assert plant.settled(BAND, 0) <= 1
    assert plant.settled(BAND, 30) <= 1
    assert plant.settled(BAND, 60) <= 1
    assert plant.mean_error(BAND.target, since=5, until=30) <= 0.0025
    assert plant.mean_error(BAND.target, since=35, until=60) <= 0.006
    assert used(spent, 5, 30)[0] == pytest.approx(1.28, abs=0.01)


@pytest.mark.parametrize(
    ("band", "burst", "error"),
    [(Band(0.05, 0.1), 0.005, 0.002), (Band(0.6, 0.7), 0.06, 0.005), (Band(0.9, 0.95), 0.02, 0.0015)],
)
def test_short_bursts_of_others_take_nothing_from_the_mean(band: Band, burst: float, error: float) -> None:
    """Once a second, as of a scrape. What reacts only while they last takes too much each time."""
    plant = Plant(2, others=lambda t: 1.0 if t % 1 < burst else 0.004, noise=0.004)
    run_together(plant, [regulator(plant, band)[0]], until=90, starts=[0])
    windows = [utilization for _, utilization in plant.windows(5)]
    assert sum(windows) / len(windows) == pytest.approx(band.target, abs=0.001)
    assert plant.mean_error(band.target, since=5) <= error


def test_one_that_joins_later_gets_its_part() -> None:
    plant = Plant(2, noise=0.008)
    spent = run_together(plant, [regulator(plant, BAND)[0] for _ in range(4)], until=90, starts=[0, 0, 0, 40])
    assert plant.settled(BAND, 40) <= 1
    assert jain(spent, 70, 90) >= 0.95


def test_when_half_of_them_are_killed_the_others_take_over() -> None:
    plant = Plant(2, noise=0.008)
    loops = [regulator(plant, BAND)[0] for _ in range(8)]
    spent = run_together(plant, loops, until=90, starts=[0.1 * i for i in range(8)], ends=[40] * 4)
    assert plant.settled(BAND, 40) <= 5
    assert used(spent, 45, 90)[:4] == [0, 0, 0, 0]
    assert sum(used(spent, 45, 90)) == pytest.approx(1.3, abs=0.02)


def test_of_different_bands_the_highest_is_held_by_those_who_want_it() -> None:
    plant = Plant(2, noise=0.008)
    loops = [regulator(plant, band)[0] for band in (Band(0.3, 0.4), Band(0.6, 0.7), Band(0.6, 0.7))]
    spent = run_together(plant, loops, until=60, starts=[0, 5, 5.5])
    assert plant.mean_error(0.65, since=15) <= 0.01
    low, *high = used(spent, 30, 60)
    assert low <= 0.01
    assert sum(high) == pytest.approx(1.3, abs=0.03)
    snapshot = loops[0].snapshot
    assert snapshot is not None
    assert snapshot.verdict.state is State.YIELDING


def test_what_a_ceiling_keeps_one_from_carrying_the_others_carry() -> None:
    plant = Plant(2, noise=0.008)
    loops = [regulator(plant, BAND, reach=0.2)[0], regulator(plant, BAND)[0], regulator(plant, BAND)[0]]
    spent = run_together(plant, loops, until=60, starts=[0, 0.3, 0.6])
    assert plant.mean_error(0.65, since=10) <= 0.005
    assert used(spent, 40, 60) == pytest.approx([0.2, 0.55, 0.55], abs=0.06)


def test_beside_the_step_law_the_adaptive_one_holds_the_middle() -> None:
    plant = Plant(2, noise=0.008)
    step = Step(workers=4, sleep=0.01)
    loops = [regulator(plant, BAND, step)[0], regulator(plant, BAND, Adaptive())[0]]
    run_together(plant, loops, until=60, starts=[0, 3])
    assert plant.mean_error(0.65, since=15) <= 0.01


def test_many_regulators_dont_swing_when_a_neighbour_comes_and_goes() -> None:
    """Those that burn little answer by a floor; those of 48 add up to a gain of 6."""
    plant = Plant(16, others=lambda t: 4.8 if 40 <= t < 80 else 0.16, noise=0.064)
    run_together(plant, [regulator(plant, BAND)[0] for _ in range(48)], until=120, starts=[0.37 * i for i in range(48)])
    for since, until in ((20, 40), (42, 80), (82, 120)):
        windows = [utilization for _, utilization in plant.windows(since, until)]
        assert sum(utilization in BAND for utilization in windows) >= 0.99 * len(windows)
        assert plant.mean_error(BAND.target, since, until) <= 0.005
