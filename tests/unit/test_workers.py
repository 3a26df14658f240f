"""The account of a worker with clocks of ours; the threads with the machine's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadband.quantities import Command
from loadband.workers import DITHER, MAX_BURST, PARTS, SHORT_REST, Burner, Workers, burn, choose_burn


class Cpu:
    """A thread's CPU clock, and a burst that costs a given time an iteration."""

    def __init__(self, cost: float = 1e-6) -> None:
        self.spent = 0.0
        self.cost = cost
        self.bursts: list[float] = []

    def clock(self) -> float:
        return self.spent

    def burst(self, iterations: int) -> None:
        self.spent += iterations * self.cost
        self.bursts.append(iterations * self.cost)


@pytest.mark.parametrize("duty", [0.01, 0.3, 0.65, 0.95, 1.0])
def test_account_burns_the_duty_asked_for_whatever_an_iteration_costs(duty: float) -> None:
    cpu = Cpu()
    burner = Burner(cpu.clock, cpu.burst)
    for turn in range(1000):
        cpu.cost = 1e-6 if turn < 500 else 3e-6  # the CPU slows down
        burner.turn(duty, 0.02, 0.02)
    assert cpu.spent == pytest.approx(duty * 20, rel=0.01)


def test_what_the_turn_itself_costs_is_paid_from_the_same_account() -> None:
    cpu = Cpu()
    burner = Burner(cpu.clock, cpu.burst)
    for _ in range(1000):
        cpu.spent += 0.002
        burner.turn(0.5, 0.02, 0.02)
    assert cpu.spent == pytest.approx(10, rel=0.01)


def test_debt_of_a_worker_kept_from_running_is_bounded_by_one_period() -> None:
    cpu = Cpu()
    burner = Burner(cpu.clock, cpu.burst)
    for _ in range(50):
        burner.turn(0.5, 0.02, 0.02)
    before = cpu.spent
    burner.turn(0.5, 60.0, 0.02)
    assert cpu.spent - before <= 0.031


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100), st.floats(0.01, 0.2)), max_size=50),
    st.floats(1e-8, 1e-4),
)
def test_no_burst_is_asked_to_be_longer_than_its_bound(turns: list[tuple[float, float, float]], cost: float) -> None:
    cpu = Cpu(cost)
    burner = Burner(cpu.clock, cpu.burst)
    for duty, elapsed, period in turns:
        burner.turn(duty, elapsed, period)
    # The first burst is a calibration of a fixed number of iterations.
    assert all(burst <= MAX_BURST + cost for burst in cpu.bursts[1:])


def test_the_first_turn_burns_what_is_asked_for_and_begins_with_a_little() -> None:
    cpu = Cpu()
    Burner(cpu.clock, cpu.burst).turn(0.01, 1.3, 1.3)
    assert cpu.spent == pytest.approx(0.013, rel=0.01)
    assert cpu.bursts[0] == pytest.approx(500e-6)


def test_a_clock_that_hardly_moves_makes_no_cpu_endlessly_fast() -> None:
    cpu = Cpu(1e-12)
    burner = Burner(cpu.clock, cpu.burst)
    burner.turn(0.01, 1.3, 1.3)
    assert burner.account.rate == 1e8


def test_debt_of_one_of_many_workers_is_bounded_by_that_of_few() -> None:
    cpu = Cpu()
    burner = Burner(cpu.clock, cpu.burst)
    burner.turn(0.01, 1.3, 1.3)
    before = cpu.spent
    burner.turn(0.01, 60.0, 1.3)
    assert cpu.spent - before <= 0.013 + 0.02 + 0.001


def test_a_speed_that_differs_from_turn_to_turn_is_answered_within_each() -> None:
    cpu = Cpu()
    burner = Burner(cpu.clock, cpu.burst)
    for turn in range(100):
        cpu.cost = 1.2e-6 if turn % 2 else 1e-6
        before = cpu.spent
        burner.turn(0.65, 0.04, 0.04)
        assert cpu.spent - before == pytest.approx(0.026, abs=0.0006), turn


@pytest.mark.parametrize("stall", [0.003, 0.008, 0.012])
def test_a_cpu_that_stands_still_in_the_first_half_is_made_up_for_in_the_second(stall: float) -> None:
    cpu = Cpu()
    burner = Burner(cpu.clock, cpu.burst)
    for _ in range(10):
        burner.turn(0.65, 0.04, 0.04)
    before, calls = cpu.spent, len(cpu.bursts)

    def stalls(iterations: int) -> None:
        cpu.spent += stall if len(cpu.bursts) == calls else 0.0
        Cpu.burst(cpu, iterations)

    stalling = Burner(cpu.clock, stalls)
    stalling.account = burner.account
    stalling.turn(0.65, 0.04, 0.04)
    assert cpu.spent - before == pytest.approx(0.026, abs=0.001)


@pytest.mark.parametrize(("owed", "calls"), [(SHORT_REST / 2, 1), (0.003, 2), (0.026, len(PARTS))])
def test_the_longer_a_burst_the_more_calls_up_to_a_few(owed: float, calls: int) -> None:
    cpu = Cpu()
    burner = Burner(cpu.clock, cpu.burst)
    burner.turn(0.5, 0.04, 0.04)
    before = len(cpu.bursts)
    burner.turn(owed / 0.04, 0.04, 0.04)
    assert len(cpu.bursts) - before == calls


def test_what_is_too_little_for_a_burst_is_burnt_later() -> None:
    cpu = Cpu()
    burner = Burner(cpu.clock, cpu.burst)
    burner.turn(0.5, 0.04, 0.04)
    before, calls = cpu.spent, len(cpu.bursts)
    burner.turn(0.001, 0.04, 0.04)
    assert len(cpu.bursts) == calls
    burner.turn(0.001, 0.04, 0.04)
    assert len(cpu.bursts) == calls + 1
    assert cpu.spent - before == pytest.approx(80e-6, abs=2e-6)


def test_on_a_slow_cpu_a_burst_is_one_iteration_at_least() -> None:
    iterations: list[int] = []
    burner = Burner(Cpu().clock, iterations.append)
    burner.account.rate = 1000.0
    burner.turn(0.0005 / 0.04, 0.04, 0.04)
    assert iterations == [1]


def test_half_of_what_is_learnt_is_forgotten_with_each_burst() -> None:
    cpu = Cpu(2e-6)
    burner = Burner(cpu.clock, cpu.burst)
    burner.account.rate = 1e6
    burner.turn(0.001 / 0.04, 0.04, 0.04)
    assert burner.account.rate == pytest.approx(0.75e6)


def test_a_clock_that_stands_still_costs_no_more_calls_than_any() -> None:
    cpu = Cpu()
    Burner(cpu.clock, cpu.burst).turn(0.5, 0.04, 0.04)
    calls: list[int] = []
    still = Burner(lambda: 1.0, calls.append)
    still.account.rate = 1e6
    still.turn(0.65, 0.04, 0.04)
    assert len(calls) == len(PARTS)


def test_what_one_burns_too_much_the_next_settles() -> None:
    one, other = Cpu(), Cpu()
    first, second = Burner(one.clock, one.burst), Burner(other.clock, other.burst)
    first.account = second.account
    first.turn(0.01, 1.0, 1.0)
    one.cost = 3e-6  # so slow all at once that the first part is more than was owed
    first.turn(0.01, 1.0, 1.0)
    assert one.spent == pytest.approx(0.025, rel=0.01)
    second.turn(0.01, 1.0, 1.0)
    assert other.spent < 0.006
    assert len(first.account.left) == 1


def test_the_usual_burn_needs_no_sentence() -> None:
    assert choose_burn() == (burn, "")


@pytest.mark.parametrize("error", [ValueError("unsupported"), None], ids=["refused", "missing"])
def test_a_refused_hash_is_replaced_with_a_sentence(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if error:
        monkeypatch.setattr("hashlib.pbkdf2_hmac", Mock(side_effect=error))
    else:
        monkeypatch.delattr("hashlib.pbkdf2_hmac")
    chosen, sentence = choose_burn()
    assert sentence.startswith("PBKDF2 can't be used here (")
    assert sentence.endswith("): CRC-32 burns instead")
    lengths: list[int] = []
    monkeypatch.setattr("zlib.crc32", lambda block: lengths.append(len(block)))
    for iterations in (1, 256, 1000):
        lengths.clear()
        chosen(iterations)
        assert sum(lengths) == 1024 * iterations
        assert max(lengths) == min(1024 * iterations, 1 << 18)


@pytest.mark.parametrize(("effort", "turns"), [(0.0, 29), (0.005, 29), (0.02, 29), (0.03, 48), (0.1, 48)])
def test_bursts_that_would_be_tiny_are_rarer(effort: float, turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", {0: {0, 1}}.get)
    workers = Workers(lease=5)
    workers._pace(2, effort)
    assert 2 / workers._period == pytest.approx(turns, abs=1)


def test_forgetting_pays_nothing_back() -> None:
    cpu = Cpu()
    burner = Burner(cpu.clock, cpu.burst)
    burner.turn(1.0, 0.02, 0.02)
    cpu.spent += 5
    burner.forget()
    before = cpu.spent
    burner.turn(0.5, 0.02, 0.02)
    assert cpu.spent - before == pytest.approx(0.01, rel=0.3)


class Idle(Burner):
    """Counts turns and burns nothing."""

    turns = 0

    def turn(self, duty: float, elapsed: float, period: float) -> None:
        del duty, elapsed, period
        type(self).turns += 1


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.005)


def threads_of(workers: Workers) -> int:
    return sum(thread.name.startswith("worker-") for thread in threading.enumerate()) if workers else 0


def test_threads_follow_the_number_commanded_and_all_end_at_close() -> None:
    workers = Workers(lease=5, burner=Idle)
    try:
        for count in (1, 7, 3, 0, 4):
            workers.apply(Command(count, 0.0))
            assert workers.alive == count
            wait_until(lambda count=count: threads_of(workers) == count)  # type: ignore[misc] # a lambda's default
    finally:
        workers.close()
    assert threads_of(workers) == 0
    assert workers.restarts == 0


def test_the_end_waits_for_no_turn_that_is_far_away() -> None:
    workers = Workers(lease=5, period=3, burner=Idle)
    workers.apply(Command(32, 0.0))
    assert threads_of(workers) == 32
    began = time.monotonic()
    workers.close()
    assert time.monotonic() - began < 1
    wait_until(lambda: threads_of(workers) == 0)


@pytest.mark.parametrize(
    ("count", "cpus", "turns"), [(1, 2, 24), (2, 2, 48), (16, 2, 48), (128, 2, 48), (32, 64, 640), (256, 256, 3657)]
)
def test_turns_a_second_depend_on_the_cpus_in_use_and_leave_no_burst_cut_off(
    count: int, cpus: int, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cpus)))
    workers = Workers(lease=5)
    workers._pace(count, min(count, cpus))
    assert count / workers._period == pytest.approx(turns, rel=0.0001)
    most = min(cpus / count, 1.0)
    assert most * (workers._period + DITHER * workers._step) < MAX_BURST


def test_workers_turn_only_while_the_lease_is_fresh() -> None:
    class Counting(Idle):
        turns = 0

    workers = Workers(lease=0.2, burner=Counting)
    try:
        workers.apply(Command(2, 1.0))
        wait_until(lambda: Counting.turns > 2)
        wait_until(lambda: time.monotonic() > workers._expires)
        turns, alive_until = Counting.turns, time.monotonic() + 0.2
        wait_until(lambda: time.monotonic() > alive_until)
        # One turn of each may have begun before the lease ran out.
        assert Counting.turns <= turns + 2
        workers.apply(Command(2, 1.0))
        wait_until(lambda: Counting.turns > turns + 2)
    finally:
        workers.close()


def test_a_worker_that_dies_is_replaced_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    class Dying(Idle):
        died = 0

        def turn(self, duty: float, elapsed: float, period: float) -> None:
            if type(self).died < 3:
                type(self).died += 1
                raise MemoryError("no more")
            super().turn(duty, elapsed, period)

    workers = Workers(lease=5, burner=Dying)

    def replaced() -> bool:
        workers.apply(Command(2, 1.0))
        return workers.restarts == 3 and workers.alive == 2

    try:
        wait_until(replaced)
    finally:
        workers.close()
    assert "no more" in caplog.text


def test_a_reason_to_die_is_told_once_until_there_is_another(caplog: pytest.LogCaptureFixture) -> None:
    reasons = ["no memory", "no memory", "no luck", "no memory"]

    class Dying(Idle):
        def turn(self, duty: float, elapsed: float, period: float) -> None:
            if reasons:
                raise RuntimeError(reasons.pop(0))
            super().turn(duty, elapsed, period)

    workers = Workers(lease=5, burner=Dying)

    def replaced() -> bool:
        workers.apply(Command(1, 1.0))
        return workers.restarts == 4 and workers.alive == 1

    try:
        wait_until(replaced)
    finally:
        workers.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"worker 0 died: RuntimeError('{reason}')" for reason in ("no memory", "no luck", "no memory")
    ]


@pytest.mark.parametrize("asked", [[], [7]])
def test_only_workers_that_are_to_be_nicer_ask_for_it(asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("os.setpriority", lambda _which, _who, value: seen.append(value))
    workers = Workers(5, nice=asked[0], burner=Idle) if asked else Workers(5, burner=Idle)
    workers.apply(Command(1, 0.5))
    wait_until(lambda: workers.alive == 1)
    workers.close()
    assert seen == asked


def test_the_first_turn_is_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    workers = Workers(lease=5, period=30, burner=Idle)
    began = time.monotonic()
    workers.apply(Command(1, 0.0))
    assert 0 < workers._next_turn(0, began) - began < 0.9
    workers.close()


def test_the_first_turn_is_as_long_as_if_there_had_been_one_before() -> None:
    turns: list[float] = []

    class Noting(Idle):
        def turn(self, duty: float, elapsed: float, period: float) -> None:
            del duty, period
            turns.append(elapsed)

    workers = Workers(lease=5, period=0.1, burner=Noting)
    workers.apply(Command(1, 1.0))
    wait_until(lambda: bool(turns))
    workers.close()
    assert 0.1 <= turns[0] < 10


def test_workers_do_not_keep_a_program_that_fails_from_ending() -> None:
    workers = Workers(lease=5, burner=Idle)
    workers.apply(Command(2, 0.0))
    assert {thread.daemon for thread in threading.enumerate() if thread.name.startswith("worker-")} == {True}
    workers.close()


def test_without_workers_there_still_is_a_time_between_turns() -> None:
    workers = Workers(lease=5)
    workers._pace(0, 0.0)
    assert workers._period > 0


@pytest.mark.parametrize(("random", "dither"), [(0.0, 0.0), (0.5, 0.005)])
def test_the_turns_of_four_workers_are_a_quarter_of_a_period_apart(
    random: float, dither: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: random)
    workers = Workers(lease=5, period=0.1)
    workers._wanted, workers._epoch = 4, 100.0
    due = [workers._next_turn(index, 107.31) - dither for index in range(4)]
    assert due == pytest.approx([107.4, 107.325, 107.35, 107.375])
    assert workers._next_turn(1, 107.326) - dither == pytest.approx(107.425)


def test_no_worker_is_asked_for_more_than_all_of_its_time() -> None:
    workers = Workers(lease=5, burner=Idle)
    workers.apply(Command(2, 5.0))
    assert workers._duty == 1
    workers.apply(Command(0, 0.0))
    assert workers._duty == 0
    workers.close()


def test_no_worker_stumbles_over_a_number_that_keeps_changing(caplog: pytest.LogCaptureFixture) -> None:
    """Without a GIL, they look themselves up while the list is replaced."""
    workers = Workers(lease=1.0, period=0.0005, burner=lambda: Burner(burst=lambda _: None))
    for cycle in range(150):
        workers.apply(Command(24 if cycle % 2 else 3, 0.01))
        time.sleep(0.0005)
    workers.close()
    assert workers.restarts == 0
    assert not caplog.records


def test_a_list_that_workers_may_look_into_never_gets_shorter() -> None:
    workers = Workers(lease=1.0)
    workers.apply(Command(4, 0.0))
    seen = workers._threads
    workers.apply(Command(1, 0.0))
    assert (len(seen), len(workers._threads)) == (4, 1)
    workers.close()


def test_a_limit_on_threads_leaves_the_effort_to_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(lease=5, burner=Idle)
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    try:
        workers.apply(Command(8, 1.0))
        assert workers.alive == 2
        assert workers._duty == 0.5
        assert workers.restarts == 0
    finally:
        workers.close()
