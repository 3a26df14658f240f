"""/proc/stat, as recorded files have it and as psutil reads it."""

from __future__ import annotations

import re
import time
from math import inf

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_roots import RECORDED

from loadband.sensor.procstat import TICK, ProcStat


def stat(name: str) -> ProcStat:
    return ProcStat.parse((RECORDED / "proc_stat" / name).read_text())


@pytest.mark.parametrize("name", ["2-cpus", "cpu-1-offline", "256-cpus", "lxcfs"])
def test_recorded_files_say_what_psutil_reads_in_them(
    name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("proc")
    (place / "stat").write_text((RECORDED / "proc_stat" / name).read_text())
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(place))
    ours, theirs, each = stat(name).machine(), psutil.cpu_times(), psutil.cpu_times(percpu=True)
    assert (ours.idle, ours.iowait, ours.steal) == pytest.approx((theirs.idle, theirs.iowait, theirs.steal))
    assert ours.total == pytest.approx(sum(theirs) - theirs.guest - theirs.guest_nice)
    assert [stat(name).of([cpu]).idle for cpu in stat(name).each] == pytest.approx([times.idle for times in each])


def test_a_tick_is_ten_milliseconds() -> None:
    assert TICK == 0.01


def test_guest_time_is_not_counted_twice() -> None:
    times = ProcStat.parse("cpu  100 0 0 0 0 0 0 0 90 0\ncpu0 100 0 0 0 0 0 0 0 90 0\nintr 0\n").machine()
    assert times.total == pytest.approx(1.0)


def test_some_cpus_add_up() -> None:
    both = ProcStat.parse("cpu 0 0 0 0 0 0 0 0\ncpu3 1 2 3 4 5 6 7 8\ncpu7 1 1 1 1 1 1 1 1\nintr 0\n").of({3, 7})
    assert (both.idle, both.iowait, both.steal, both.total) == pytest.approx((0.05, 0.06, 0.09, 0.44))


def test_an_offline_cpu_is_missing_and_the_others_keep_their_numbers() -> None:
    text = "cpu  1 1 1 1 1 1 1 1\ncpu1 1 1 1 1 1 1 1 1\ncpu3 1 1 1 1 1 1 1 1\nintr 0\n"
    assert set(ProcStat.parse(text).each) == {1, 3}
    assert set(stat("cpu-1-offline").each) == {0}
    assert set(stat("256-cpus").each) == set(range(256))


WHOLE = "cpu  1 2 3 4 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\nintr 0\n"


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        "cpu0 1 2 3 4 5 6 7 8\nintr 0\n",
        "cpu  1 2 3 4 5 6 7 8\nintr 0\n",
        "cpu  1 2 3 4 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\n",
        "cpu  1 2 3 4 5 6 7 8\ncpux 1 2 3 4 5 6 7 8\nintr 0\n",
        "cpu  1 2 3 4 5 6 7\ncpu0 1 2 3 4 5 6 7 8\nintr 0\n",
        "cpu  1 2 3 x 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\nintr 0\n",
    ],
)
def test_a_missing_or_garbled_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ProcStat.parse(text).machine()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cpu  0 0 0 0 0 0 0 0\ncpu  1 2 3 4 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\nintr 0\n", "two lines are about all CPUs"),
        (WHOLE.replace("cpu0", "cpux"), "'x' isn't a whole number"),
        (WHOLE.replace("4", "4.5"), "'4.5' isn't a whole number"),
        (WHOLE.replace("4", "999999999999999999"), "its idle time of 1e+16 s is longer than any machine has run"),
        (WHOLE.replace("8", ""), "a CPU line has 7 fields"),
    ],
)
def test_what_is_wrong_is_said_for_people(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        ProcStat.parse(text).machine()


def test_another_counter_that_cannot_be_right_counts_as_0() -> None:
    times = ProcStat.parse(WHOLE.replace("8", str(2**64 - 5))).machine()
    assert (times.idle, times.steal, times.total) == pytest.approx((0.04, 0, 0.28))


@given(st.text(alphabet="cpu0123 \nx-", max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        ProcStat.parse(text).machine()
    except ValueError as error:
        assert str(error)  # noqa: PT017 - a text that is understood is fine, too


def test_256_cpus_cost_little_of_a_cycle() -> None:
    text = (RECORDED / "proc_stat/256-cpus").read_text()
    best = inf
    for _ in range(20):
        began = time.thread_time()
        found = ProcStat.parse(text)
        found.machine()
        found.of(found.each)
        best = min(best, time.thread_time() - began)
    assert best < 0.004
