"""The whole program on this machine's CPUs, measured from outside. Gates, not goals: the benchmark has those."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from program import cpu_seconds, free_port, get, metric, running, wait_until

from bench.meter import Mark, Meter, settled

pytestmark = pytest.mark.cpu

NEIGHBOUR = """
import sys, time
from loadband.quantities import Command
from loadband.workers import Workers
workers, end = Workers(lease=1.0), time.monotonic() + 60
while time.monotonic() < end:
    workers.apply(Command(2, float(sys.argv[1])))
    time.sleep(0.2)
"""


@contextmanager
def neighbour(cpus: float) -> Iterator[float]:
    """Somebody else who burns that many CPUs; gives the time of arrival."""
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR, str(cpus)])
    try:
        wait_until(lambda: cpu_seconds(process.pid) > 0.15)
        yield time.monotonic()
    finally:
        process.kill()
        process.wait()


def errors(meter: Meter, since: float, until: float, target: float) -> list[float]:
    return [abs(utilization - target) for _, utilization in meter.windows(since, until)]


def pause(seconds: float) -> float:
    """Let the load be measured for a while: that takes time, whatever else is true."""
    time.sleep(seconds)
    return time.monotonic()


@pytest.mark.parametrize(("low", "high"), [(60, 70), (5, 10), (90, 95)])
def test_a_band_is_held_in_its_middle(low: int, high: int) -> None:
    target = (low + high) / 200
    with Meter() as meter, running(MIN=str(low), MAX=str(high)):
        began = time.monotonic()
        wait_until(
            lambda: settled(meter.windows(began, time.monotonic()), low / 100, high / 100, began, hold=3) < 4, 20
        )
        since = time.monotonic()
        until = pause(10)
    seen = errors(meter, since, until, target)
    mean = sum(seen) / len(seen)
    print(f"{low}..{high} %: mean absolute error {100 * mean:.2f} points, worst window {100 * max(seen):.2f}")
    assert mean <= 0.0075 if high == 70 else mean <= 0.015


def test_a_neighbour_is_absorbed_when_it_comes_and_when_it_goes() -> None:
    with Meter() as meter, running():
        pause(4)
        with neighbour(0.3 * (os.cpu_count() or 1)) as came:
            pause(6)
            gone = time.monotonic()
        end = pause(6)
    windows = meter.windows(came - 1, end)
    during = errors(meter, came + 2, gone, 0.65)
    mean = sum(during) / len(during)
    back = settled([w for w in windows if w[0] < gone - 1], 0.6, 0.7, came, hold=3)
    again = settled(windows, 0.6, 0.7, gone, hold=3)
    print(f"neighbour of 30 %: back after {back:.1f} s, error {100 * mean:.2f} points; left: back after {again:.1f} s")
    assert back <= 3
    assert again <= 3
    assert mean <= 0.018


def test_what_it_says_of_itself_is_what_the_meter_sees() -> None:
    port = free_port()

    def busy() -> tuple[float, float]:
        text = get(port, "/metrics")
        by_mode = {
            mode: metric(text, f'loadband_cpu_seconds_total{{mode="{mode}",scope="host"}}')
            for mode in ("own", "other", "steal", "idle")
        }
        return by_mode["own"] + by_mode["other"], sum(by_mode.values())

    meter = Meter()
    with running(LISTEN=f"127.0.0.1:{port}"):
        wait_until(lambda: metric(get(port, "/metrics"), "loadband_in_band") == 1)
        start, said = meter.look(), busy()
        pause(10)
        end, says = meter.look(), busy()
    told = (says[0] - said[0]) / (says[1] - said[1])
    measured = meter.utilization(start, end)
    print(f"it says {100 * told:.2f} %, the meter {100 * measured:.2f} %")
    assert abs(told - measured) <= 0.015


def test_stopped_it_burns_nothing_and_continued_it_does_not_catch_up() -> None:
    with Meter() as meter, running() as process:
        wait_until(lambda: cpu_seconds(process.pid) > 2.0)
        process.send_signal(signal.SIGSTOP)
        pause(0.1)
        spent = cpu_seconds(process.pid)
        pause(10)
        assert cpu_seconds(process.pid) == spent
        process.send_signal(signal.SIGCONT)
        continued = time.monotonic()
        end = pause(5)
    windows = meter.windows(continued, end)
    above = [utilization for start, utilization in windows if start > continued + 1 and utilization > 0.75]
    print(f"after SIGCONT: in band after {settled(windows, 0.6, 0.7, continued, hold=2):.1f} s")
    assert not above
    assert settled(windows, 0.57, 0.73, continued, hold=2) <= 3


def test_metrics_answer_fast_while_the_machine_is_full() -> None:
    port = free_port()
    with running(MIN="95", MAX="99", LISTEN=f"127.0.0.1:{port}"):
        wait_until(lambda: metric(get(port, "/metrics"), "loadband_in_band") == 1, 20)
        took = []
        for _ in range(100):
            began = time.monotonic()
            get(port, "/metrics")
            took.append(time.monotonic() - began)
            time.sleep(0.03)
    took.sort()
    print(f"/metrics at 95..99 %: p50 {1000 * took[50]:.1f} ms, p99 {1000 * took[98]:.1f} ms")
    assert took[98] <= 0.15


def test_marks_of_the_meter_go_on() -> None:
    with Meter() as meter:
        wait_until(lambda: len(meter.marks) > 5)
    assert all(isinstance(mark, Mark) for mark in meter.marks)
    assert all(earlier.at < later.at for earlier, later in zip(meter.marks, meter.marks[1:], strict=False))
