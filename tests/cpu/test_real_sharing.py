"""Several regulators on this machine's CPUs, and load that moves from one CPU to another, measured from outside."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from program import LOADBAND, cpu_seconds, free_port, get, metric, running, wait_until

from bench.meter import Meter
from bench.recording import fairness

pytestmark = pytest.mark.cpu


def pause(seconds: float) -> float:
    """Let the load be measured for a while: that takes time, whatever else is true."""
    time.sleep(seconds)
    return time.monotonic()


def move(pid: int, cpu: int) -> None:
    """Put all threads of a process on one CPU, as if it went to another host."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {cpu})


@pytest.mark.parametrize("count", [2, 4, 8])
def test_several_hold_the_band_together_and_fairly(count: int) -> None:
    with contextlib.ExitStack() as stack:
        meter = stack.enter_context(Meter())
        processes = [stack.enter_context(running()) for _ in range(count)]
        wait_until(lambda: all(cpu_seconds(process.pid) > 0.5 for process in processes), 20)
        started = time.monotonic()
        pause(20)
        spent = [cpu_seconds(process.pid) for process in processes]
        end = pause(10)
        shares = [cpu_seconds(process.pid) - before for process, before in zip(processes, spent, strict=True)]
    seen = [utilization for _, utilization in meter.windows(started + 5, end)]
    error = sum(abs(utilization - 0.65) for utilization in seen) / len(seen)
    inside = sum(0.6 <= utilization <= 0.7 for utilization in seen) / len(seen)
    index = fairness(shares)
    print(f"{count} regulators: in band {100 * inside:.1f} %, error {100 * error:.2f} points, Jain's index {index:.3f}")
    assert inside >= 0.95
    assert error <= 0.015
    assert index >= 0.85


def shares_after_a_move(*, latch: bool) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """Four slices hold CPU 0 in the band, and one of them moves to CPU 1.

    Returns the utilization that the one made on CPU 0, and that of CPUs 0 and 1 before and after; ratios.
    """
    port = free_port()
    settings = {"SCOPE": "cpuset"} | ({"LATCH": "5s"} if latch else {})
    command = ("taskset", "--cpu-list", "0", LOADBAND)
    with contextlib.ExitStack() as stack:
        near, far = stack.enter_context(Meter(cpu=0)), stack.enter_context(Meter(cpu=1))
        one = stack.enter_context(running(command=command, LISTEN=f"127.0.0.1:{port}", **settings))
        others = [stack.enter_context(running(command=command, **settings)) for _ in range(3)]
        wait_until(lambda: metric(get(port, "/metrics"), "loadband_in_band") == 1, 20)
        if latch:
            wait_until(lambda: metric(get(port, "/metrics"), 'loadband_state{state="latched"}') == 1, 30)
        pause(10)  # the others latch, too
        first, first_far, spent = near.look(), far.look(), cpu_seconds(one.pid)
        pause(10)
        second, second_far = near.look(), far.look()
        share = (cpu_seconds(one.pid) - spent) / (second.at - first.at)
        move(one.pid, 1)
        pause(1)
        third, third_far = near.look(), far.look()
        pause(10)
        fourth, fourth_far = near.look(), far.look()
        assert all(process.poll() is None for process in (one, *others))
    before = near.utilization(first, second), far.utilization(first_far, second_far)
    after = near.utilization(third, fourth), far.utilization(third_far, fourth_far)
    return share, before, after


def test_a_latched_slice_that_moves_takes_its_load_along_and_nobody_refills_the_old_place() -> None:
    share, before, after = shares_after_a_move(latch=True)
    fall, rise = before[0] - after[0], after[1] - before[1]
    print(
        f"share {100 * share:.2f} points; the old place fell by {100 * fall:.2f}, the new one rose by {100 * rise:.2f}"
    )
    assert before[0] == pytest.approx(0.65, abs=0.03)
    assert fall == pytest.approx(share, abs=0.015)
    assert rise == pytest.approx(share, abs=0.015)


def test_without_a_latch_the_old_place_is_refilled() -> None:
    share, before, after = shares_after_a_move(latch=False)
    print(f"share {100 * share:.2f} points; old place at {100 * after[0]:.2f} %, new one at {100 * after[1]:.2f} %")
    assert after[0] == pytest.approx(before[0], abs=0.02)
    # And the one that moved heats its new place up to the band as well.
    assert after[1] == pytest.approx(0.65, abs=0.03)
