"""What becomes of two samples: the laws that hold for all, the long run, and what is dropped."""

from __future__ import annotations

import random
from dataclasses import replace
from math import floor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loadband.quantities import Carry, Dropped, DropReason, Reading, Sample, Steal
from loadband.sensor import difference

TICK = 0.01
CPUS = frozenset({0, 1})
NOTHING = Carry()
HOST = Sample(
    at=1000.0, cpus=CPUS, capacity=2, reach=2, own=50.0, quantum=TICK, ticks=9000.0, idle=5000.0, source="/proc/stat"
)
CONTAINER = Sample(
    at=1000.0,
    cpus=CPUS,
    capacity=0.5,
    reach=0.5,
    own=50.0,
    quantum=TICK,
    ticks=80.0,
    busy=80.0,
    quota=0.05,
    source="usage",
)


def after(
    sample: Sample,
    dt: float = 0.1,
    *,
    own: float = 0.0,
    idle: float = 0.0,
    iowait: float = 0.0,
    steal: float = 0.0,
    busy: float = 0.0,
) -> Sample:
    """The sample `dt` seconds later, when the counters have gone on by so much (CPU-seconds)."""
    return replace(
        sample,
        at=sample.at + dt,
        own=sample.own + own,
        idle=None if sample.idle is None else sample.idle + idle,
        iowait=sample.iowait + iowait,
        steal=sample.steal + steal,
        busy=None if sample.busy is None else sample.busy + busy,
        ticks=sample.ticks + max(busy, dt),
    )


def read(previous: Sample, now: Sample, carry: Carry = NOTHING) -> Reading:
    result = difference(previous, now, 1.0, carry)
    assert isinstance(result, Reading), result
    return result


def dropped(previous: Sample, now: Sample, max_gap: float = 1.0) -> DropReason:
    result = difference(previous, now, max_gap)
    assert isinstance(result, Dropped), result
    assert result.why
    return result.reason


def test_idle_is_measured_against_the_clock_and_others_get_what_is_left() -> None:
    reading = read(HOST, after(HOST, own=0.06, idle=0.08, iowait=0.02, steal=0.01))
    assert reading.dt == pytest.approx(0.1)
    assert (reading.capacity, reading.reach) == (2, 2)
    assert reading.own == pytest.approx(0.30)
    assert reading.idle == pytest.approx(0.50)
    assert reading.steal == pytest.approx(0.05)
    assert reading.other == pytest.approx(0.15)
    assert reading.uncertainty == pytest.approx(0.05)
    assert reading.utilization(Steal.IDLE) == pytest.approx(0.45)


def test_a_container_is_measured_by_its_use_and_idle_gets_what_is_left() -> None:
    reading = read(CONTAINER, after(CONTAINER, own=0.02, busy=0.03))
    assert (reading.own, reading.other, reading.idle) == pytest.approx((0.4, 0.2, 0.4))
    assert reading.steal == 0
    assert reading.uncertainty == pytest.approx(0.2)


def test_idle_yields_where_a_step_of_its_counter_claims_what_we_used_ourselves() -> None:
    reading = read(HOST, after(HOST, own=0.13, idle=0.08))
    assert reading.own == pytest.approx(0.65)
    assert (reading.other, reading.idle) == pytest.approx((0, 0.35))
    assert reading.carry.idle == pytest.approx(0.01)


def test_what_did_not_fit_into_one_reading_is_in_the_next() -> None:
    first = after(HOST, own=0.13, idle=0.08)
    reading = read(first, after(first, own=0.13, idle=0.06), read(HOST, first).carry)
    assert (reading.own, reading.other, reading.idle) == pytest.approx((0.65, 0, 0.35))
    assert reading.carry.idle == pytest.approx(0)


def test_what_is_carried_over_is_bounded_by_two_steps_and_a_late_look() -> None:
    reading = read(HOST, after(HOST, own=0.2, idle=0.1))
    assert (reading.own, reading.idle) == pytest.approx((1, 0))
    assert reading.carry.idle == pytest.approx(2 * TICK + 0.002 * 2)


def test_a_saturated_machine_whose_idle_stands_still_is_no_fault() -> None:
    reading = read(HOST, after(HOST, own=0.04))
    assert (reading.own, reading.other, reading.idle) == pytest.approx((0.2, 0.8, 0))


def test_idle_time_that_stands_still_while_hardly_anything_else_counts_is_frozen() -> None:
    idle = replace(after(HOST, own=0.01), ticks=HOST.ticks + 0.02)
    assert dropped(HOST, idle) is DropReason.FROZEN
    # Where steal goes backwards, the sum of all counters says nothing.
    assert read(HOST, replace(idle, steal=HOST.steal - 0.1)).idle == 0


def test_a_container_that_uses_two_periods_quota_at_once_is_full_and_pays_later() -> None:
    first = after(CONTAINER, own=0.09, busy=0.09)
    burst = read(CONTAINER, first)
    assert (burst.own, burst.other, burst.idle) == (1, 0, 0)
    pause = read(first, after(first, own=0.001, busy=0.001), burst.carry)
    assert pause.own * 0.05 == pytest.approx(0.041)
    assert pause.other == pytest.approx(0)


def test_waiting_for_io_may_turn_idle_again() -> None:
    assert read(HOST, after(HOST, idle=0.44, iowait=-0.3)).idle == pytest.approx(0.7)


def test_iowait_may_decrease_by_itself() -> None:
    assert read(HOST, after(HOST, own=0.1, idle=0.08, iowait=-0.3)).idle == pytest.approx(0.4)
    # A step less than nothing is rounding: waiting had turned idle.
    assert read(HOST, after(HOST, own=0.1, idle=0.08, iowait=-0.09)).idle == 0


@pytest.mark.parametrize("idle", [-0.01, 0.2 + 0.01])
def test_one_step_too_few_or_too_many_is_tolerated(idle: float) -> None:
    assert read(HOST, after(HOST, idle=idle)).idle == pytest.approx(min(max(idle, 0) / 0.2, 1))


@pytest.mark.parametrize("dt", [1.01, 0.0, -0.5, 0.0001, float("nan")])
def test_a_gap_in_time_is_dropped(dt: float) -> None:
    assert dropped(HOST, after(HOST, dt, idle=0.1)) is DropReason.GAP


def test_the_longest_gap_allowed_is_a_reading() -> None:
    assert read(HOST, after(HOST, 1.0, idle=2.0)).idle == 1


@pytest.mark.parametrize(
    ("sample", "moved"),
    [
        (HOST, {"idle": -0.02}),
        (HOST, {"idle": -0.02, "iowait": -0.5}),
        (HOST, {"idle": 0.1, "own": -0.02}),
        (CONTAINER, {"busy": -0.02}),
    ],
)
def test_a_counter_that_went_backwards_is_dropped(sample: Sample, moved: dict[str, float]) -> None:
    assert dropped(sample, after(sample, **moved)) is DropReason.BACKWARDS


def test_by_how_much_a_counter_went_backwards_is_said_without_a_sign() -> None:
    result = difference(HOST, after(HOST, idle=-0.5), 1.0)
    assert isinstance(result, Dropped)
    assert result.why == "the idle time of /proc/stat went back by 0.500 s"


def test_steal_that_went_backwards_counts_as_none() -> None:
    before = replace(HOST, steal=7.0)
    reading = read(before, after(before, own=0.02, idle=0.1, steal=-5.0), Carry(steal=0.01))
    assert (reading.steal, reading.idle, reading.own) == pytest.approx((0.0, 0.5, 0.1))
    assert reading.steal_fell
    assert reading.carry.steal == 0
    assert not read(HOST, after(HOST, idle=0.1, steal=-0.01)).steal_fell  # rounding


@pytest.mark.parametrize(
    ("sample", "moved"),
    [(HOST, {"idle": 0.3}), (HOST, {"steal": 0.3}), (HOST, {"own": 0.3}), (CONTAINER, {"busy": 0.3})],
)
def test_a_counter_that_went_faster_than_all_cpus_is_dropped(sample: Sample, moved: dict[str, float]) -> None:
    assert dropped(sample, after(sample, **moved)) is DropReason.ABSURD


def test_a_counter_may_go_a_quarter_and_a_step_faster_than_all_cpus() -> None:
    assert read(HOST, after(HOST, idle=0.255)).idle == 1
    assert dropped(HOST, after(HOST, idle=0.265)) is DropReason.ABSURD


def test_others_may_use_more_than_the_capacity_of_a_container() -> None:
    assert read(CONTAINER, after(CONTAINER, busy=0.19)).other == 1


def test_counters_that_stand_still_are_dropped() -> None:
    frozen = replace(HOST, at=HOST.at + 0.06, own=HOST.own + 0.01)
    assert dropped(HOST, frozen) is DropReason.FROZEN


def test_counters_have_fifty_milliseconds_to_move() -> None:
    assert read(HOST, replace(HOST, at=HOST.at + 0.04, own=HOST.own + 0.01)).other == pytest.approx(0.875)


def test_use_that_does_not_even_follow_our_own_is_dropped() -> None:
    assert dropped(CONTAINER, after(CONTAINER, own=0.04, busy=0.01)) is DropReason.FROZEN


def test_use_may_be_a_tick_behind_our_own() -> None:
    assert read(CONTAINER, after(CONTAINER, own=0.04, busy=0.033)).own == pytest.approx(0.8)


def test_our_own_use_may_seem_larger_than_that_of_all_until_it_is_twice_as_large() -> None:
    assert read(CONTAINER, after(CONTAINER, 0.4, own=0.15, busy=0.1)).own == pytest.approx(0.75)
    assert dropped(CONTAINER, after(CONTAINER, 0.4, own=0.22, busy=0.1)) is DropReason.FROZEN


@pytest.mark.parametrize(
    "changed",
    [{"cpus": frozenset({0, 2})}, {"cpus": frozenset({0}), "capacity": 1}, {"capacity": 1.5}, {"source": "other"}],
)
def test_another_denominator_or_another_counter_is_dropped(changed: dict[str, object]) -> None:
    now = after(HOST, idle=0.1)
    assert dropped(HOST, replace(now, **changed)) is DropReason.CHANGED  # type: ignore[arg-type] # of many kinds


def test_another_reach_is_no_reason_to_drop() -> None:
    assert read(HOST, replace(after(HOST, idle=0.1), reach=0.5)).reach == 0.5


COUNTERS = ("own", "idle", "iowait", "steal", "busy")
seconds = st.floats(-0.1, 0.5)
anything = st.floats(-1e9, 1e9)


def check_laws(result: Reading | Dropped) -> None:
    if isinstance(result, Dropped):
        assert result.why
        return
    shares = (result.own, result.other, result.steal, result.idle)
    assert all(0 <= share <= 1 for share in shares)
    assert sum(shares) == sum(reversed(shares)) == 1


@given(
    sample=st.sampled_from([HOST, CONTAINER]),
    capacity=st.floats(0.001, 4),
    dt=st.floats(0.01, 0.5),
    moved=st.fixed_dictionaries(dict.fromkeys(COUNTERS, seconds)),
    carry=st.builds(Carry, own=seconds, other=seconds, steal=seconds, idle=seconds),
)
@example(HOST, 2, 0.1, {"own": 0.2, "idle": 0.2, "iowait": 0.0, "steal": 0.2, "busy": 0.0}, NOTHING)
def test_the_shares_of_a_reading_are_ratios_that_sum_to_one_exactly(
    sample: Sample, capacity: float, dt: float, moved: dict[str, float], carry: Carry
) -> None:
    before = replace(sample, capacity=capacity, quantum=0.1, cpus=frozenset(range(4)))
    check_laws(difference(before, after(before, dt, **moved), 10.0, carry))


@given(
    sample=st.sampled_from([HOST, CONTAINER]),
    capacity=st.floats(1e-6, 1e6),
    dt=anything | st.floats(0, 1e-3),
    moved=st.fixed_dictionaries(dict.fromkeys(COUNTERS, anything | seconds)),
    carry=st.builds(Carry, own=anything, other=anything, steal=anything, idle=anything),
)
def test_any_two_samples_give_a_lawful_reading_or_a_reason(
    sample: Sample, capacity: float, dt: float, moved: dict[str, float], carry: Carry
) -> None:
    before = replace(sample, capacity=capacity)
    check_laws(difference(before, after(before, dt, **moved), float("inf"), carry))


@given(own=st.floats(0, 0.2), idle=st.floats(0, 0.2), steal=st.floats(0, 0.2))
def test_our_own_use_is_never_reduced_for_that_of_another_counter(own: float, idle: float, steal: float) -> None:
    assert read(HOST, after(HOST, own=own, idle=idle, steal=steal)).own == pytest.approx(own / 0.2, abs=1e-9)


def means(cpus: int, own: float, other: float, steal: float, *, carried: bool) -> dict[str, float]:
    """The mean shares of 1e4 readings of about 100 ms, when counters are cut to 10 ms and read up to 1 ms late."""
    rng = random.Random(1)
    idle = 1 - own - other - steal
    base = replace(HOST, cpus=frozenset(range(cpus)), capacity=cpus)

    def sample(at: float) -> Sample:
        late = at + rng.uniform(0, 0.001)
        return replace(
            base,
            at=at,
            own=cpus * own * at,
            idle=TICK * floor(cpus * idle * late / TICK),
            steal=TICK * floor(cpus * steal * late / TICK),
            ticks=cpus * late,
        )

    previous, carry = sample(1000.0), NOTHING
    total = dict.fromkeys(("own", "other", "steal", "idle"), 0.0)
    for _ in range(10_000):
        now = sample(previous.at + rng.uniform(0.09, 0.11))
        reading = read(previous, now, carry)
        for mode in total:
            total[mode] += reading.dt * getattr(reading, mode)
        previous, carry = now, reading.carry if carried else NOTHING
    return {mode: seconds / (previous.at - 1000.0) for mode, seconds in total.items()}


@pytest.mark.parametrize("cpus", [1, 2, 256])
@pytest.mark.parametrize(
    ("own", "other", "steal"),
    [
        (0.65, 0, 0),
        (0.05, 0, 0),
        (0.65, 0.003, 0),
        (0.3, 0.35, 0),
        (0.95, 0, 0.05),
        (0.999, 0, 0),
        (1, 0, 0),
        (0, 0, 0),
    ],
)
def test_the_long_run_is_right_though_counters_move_in_steps_and_are_read_late(
    cpus: int, own: float, other: float, steal: float
) -> None:
    shares = {"own": own, "other": other, "steal": steal, "idle": 1 - own - other - steal}
    assert means(cpus, own, other, steal, carried=True) == pytest.approx(shares, abs=0.0005)


def test_without_the_carry_others_would_seem_to_use_most_of_a_point() -> None:
    assert means(2, 0.65, 0, 0, carried=False)["other"] > 0.006


def test_a_container_that_spends_its_quota_in_bursts_is_full_in_the_long_run() -> None:
    """It uses 50 ms in the first 25 ms of each 100 ms; a fifth by others; we can look only while it may run."""
    rng = random.Random(2)

    def sample(at: float) -> Sample:
        periods, into = divmod(at, 0.1)
        if into > 0.025:
            periods, into = periods + 1, rng.uniform(0, 0.025)
        used = 0.05 * periods + 2 * into
        return replace(CONTAINER, at=0.1 * periods + into, own=0.8 * used, busy=used, ticks=used)

    previous, carry, own, other = sample(1000.0), NOTHING, 0.0, 0.0
    while previous.at < 2000:
        now = sample(previous.at + rng.uniform(0.03, 0.13))
        reading = read(previous, now, carry)
        own += reading.dt * reading.own
        other += reading.dt * reading.other
        previous, carry = now, reading.carry
    length = previous.at - 1000.0
    assert (own / length, other / length) == pytest.approx((0.8, 0.2), abs=0.001)
