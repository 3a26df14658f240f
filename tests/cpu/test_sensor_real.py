"""The sensors on the machine that runs the tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from control_groups import quota_group

from loadband.quantities import Reading, Scope
from loadband.sensor import Sensor, difference, open_sensor

LIVES = """
import dataclasses, json, sys, threading, time, zlib
from loadband.quantities import Dropped, Scope
from loadband.sensor import difference, open_sensor

sensor = open_sensor(Scope(sys.argv[1]), None)
block = bytes(1 << 20)
for _ in range(int(sys.argv[2])):
    threading.Thread(target=lambda: [zlib.crc32(block) for _ in iter(int, 1)], daemon=True).start()
previous = sensor.sample()
print(json.dumps({"reach": previous.reach, "capacity": previous.capacity}), flush=True)
for _ in sys.stdin:
    time.sleep(0.01)
    now = sensor.sample()
    result = difference(previous, now, 60.0)
    print(json.dumps({
        "capacity": now.capacity, "reach": now.reach, "throttling": dataclasses.asdict(now.throttling),
        "result": dataclasses.asdict(result), "dropped": isinstance(result, Dropped),
    }), flush=True)
    previous = now
"""
"""A process that burns with some threads, and answers each line with what its sensor saw since the last one."""


def burn(cpu_seconds: float) -> None:
    began = time.thread_time()
    while time.thread_time() < began + cpu_seconds:
        pass


def reading(sensor: Sensor, during: Callable[[], None]) -> Reading:
    before = sensor.sample()
    during()
    result = difference(before, sensor.sample(), 60.0)
    assert isinstance(result, Reading), result
    return result


def test_the_host_has_the_cpus_that_psutil_counts_and_idles_as_it_says() -> None:
    sensor = open_sensor(Scope.HOST, None)
    before = psutil.cpu_times()
    sample = sensor.sample()
    after = psutil.cpu_times()
    assert sample.capacity == psutil.cpu_count()
    assert sample.idle is not None
    assert before.idle + before.iowait - 0.02 <= sample.idle + sample.iowait <= after.idle + after.iowait + 0.02
    assert 0 < sample.reach <= sample.capacity


@pytest.mark.cpu
@pytest.mark.parametrize("scope", [Scope.HOST, Scope.CPUSET])
def test_our_own_use_and_the_idle_rest_are_what_was_burnt(scope: Scope) -> None:
    seen = reading(open_sensor(scope, None), lambda: burn(0.5))
    assert seen.own * seen.capacity * seen.dt == pytest.approx(0.5, abs=0.05)
    assert seen.own + seen.other + seen.steal + seen.idle == 1
    assert seen.idle <= 1 - seen.own


@pytest.mark.cpu
def test_a_neighbour_is_others() -> None:
    sensor = open_sensor(Scope.HOST, None)

    def neighbour() -> None:
        script = "import time\nwhile time.process_time() < 0.5: pass"
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

    seen = reading(sensor, neighbour)
    assert seen.other * seen.capacity * seen.dt >= 0.45
    assert seen.own * seen.capacity * seen.dt <= 0.1


@pytest.mark.parametrize("scope", [Scope.HOST, Scope.CPUSET])
def test_a_sample_costs_less_than_a_millisecond(scope: Scope) -> None:
    sensor = open_sensor(scope, None)
    costs = []
    for _ in range(50):
        began = time.thread_time()
        sensor.sample()
        costs.append(time.thread_time() - began)
    assert min(costs) < 0.001


@contextmanager
def living_in(group: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A process of Python in that control group."""
    enter = 'echo $$ > "$0/cgroup.procs"; echo $$ > "$1/cgroup.procs"; shift; exec "$@"'
    accounting = Path("/sys/fs/cgroup/cpuacct", group.name)
    with subprocess.Popen(
        ["sh", "-c", enter, str(group), str(accounting), sys.executable, "-c", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the process says next."""
    assert process.stdout
    answered: dict[str, Any] = json.loads(process.stdout.readline())
    return answered


def ask(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    return answer(process)


def ask_after(process: subprocess.Popen[str], group: Path, seconds: float) -> tuple[dict[str, Any], float]:
    """What its sensor sees over so many seconds, and what share of half a CPU its group used by an outside meter."""
    accounting = Path("/sys/fs/cgroup/cpuacct", group.name, "cpuacct.usage")
    ask(process)
    began, used = time.monotonic(), int(accounting.read_text())
    time.sleep(seconds)
    answered = ask(process)
    return answered, 1e-9 * (int(accounting.read_text()) - used) / 0.5 / (time.monotonic() - began)


@pytest.mark.cpu
def test_what_a_container_burns_against_its_quota_is_its_own_and_throttled() -> None:
    with quota_group(50_000) as group, living_in(group, LIVES, "container", "2") as process:
        first = answer(process)
        assert (first["capacity"], first["reach"]) == pytest.approx((0.5, 0.5))
        before = ask(process)
        after, used = ask_after(process, group, 2.0)
        assert used > 0.3
        assert after["result"]["own"] == pytest.approx(used, abs=0.1)
        assert after["result"]["other"] == pytest.approx(0, abs=0.05)
        assert after["throttling"]["throttled_periods"] > before["throttling"]["throttled_periods"]
        assert after["throttling"]["throttled_seconds"] > before["throttling"]["throttled_seconds"]
        assert after["throttling"]["periods"] > before["throttling"]["periods"]


@pytest.mark.cpu
def test_who_shares_our_quota_is_others() -> None:
    with (
        quota_group(50_000) as group,
        living_in(group, LIVES, "container", "0") as process,
        living_in(group, "print(1, flush=True)\nwhile True: pass") as neighbour,
    ):
        answer(process)
        assert neighbour.stdout
        neighbour.stdout.readline()
        after, used = ask_after(process, group, 2.0)
        assert used > 0.3
        assert after["result"]["own"] + after["result"]["other"] == pytest.approx(used, abs=0.1)
        assert after["result"]["own"] <= 0.1


def test_a_quota_that_is_changed_live_is_in_the_next_sample() -> None:
    with quota_group(50_000) as group, living_in(group, LIVES, "container", "0") as process:
        answer(process)
        (group / "cpu.cfs_quota_us").write_text("10000")
        changed = ask(process)
        assert (changed["capacity"], changed["reach"]) == pytest.approx((0.1, 0.1))
        assert (changed["dropped"], changed["result"]["reason"]) == (True, "changed")
        (group / "cpu.cfs_quota_us").write_text("50000")
        assert ask(process)["capacity"] == pytest.approx(0.5)


def test_a_quota_is_the_reach_on_the_host() -> None:
    with quota_group(50_000) as group, living_in(group, LIVES, "host", "0") as process:
        first = answer(process)
        assert (first["capacity"], first["reach"]) == (psutil.cpu_count(), pytest.approx(0.5))
