from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import plan

from loadband.rebalance.events import Disturbance, Trouble
from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.foreign import Ledger, Stranger, Strangers
from loadband.rebalance.platforms.history import History
from loadband.rebalance.platforms.machine import BusyTime, affinity, confine, cpu_time, divide

PLAN = plan()


@pytest.mark.parametrize(
    ("cpus", "names", "hosts", "spare"),
    [
        ({0, 1}, "ab", [{0}, {1}], set()),
        ({4, 9}, "ab", [{4}, {9}], set()),
        ({0, 1, 2}, "ab", [{0}, {1}], {2}),
        ({0, 1, 2, 3}, "ab", [{0}, {1}], {2, 3}),
        (range(8), "ab", [{0, 1, 2}, {3, 4, 5}], {6, 7}),
        (range(8), "abc", [{0, 1}, {2, 3}, {4, 5}], {6, 7}),
        ({3}, "a", [{3}], set()),
    ],
)
def test_cpus_are_divided(cpus: Collection[int], names: str, hosts: list[set[int]], spare: set[int]) -> None:
    division = divide(cpus, list(names))
    assert [(name, set(host)) for name, host in division.hosts.items()] == list(zip(names, hosts, strict=True))
    assert division.spare == spare


@given(cpus=st.sets(st.integers(0, 500), min_size=1, max_size=64), count=st.integers(1, 64))
def test_hosts_are_disjoint_and_of_equal_size_or_refused(cpus: set[int], count: int) -> None:
    names = [f"host-{place}" for place in range(count)]
    if len(cpus) < count:
        with pytest.raises(PlatformError):
            divide(cpus, names)
        return
    division = divide(cpus, names)
    assert len({len(host) for host in division.hosts.values()}) == 1
    assert sum(map(len, division.hosts.values())) + len(division.spare) == len(cpus)
    assert frozenset.union(division.spare, *division.hosts.values()) == cpus
    assert bool(division.spare) == (len(cpus) > count)


def test_one_cpu_is_refused_with_a_sentence_that_says_what_to_do() -> None:
    with pytest.raises(PlatformError, match="2 hosts need 2 CPUs, one each, and this process may use 1: give it more"):
        divide({0}, ["a", "b"])


def test_busy_time_is_what_passed_less_what_was_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    now, idle = 100.0, [50.0, 60.0, 0.0]

    def read(*, percpu: bool) -> list[SimpleNamespace]:
        assert percpu
        return [SimpleNamespace(idle=each, iowait=1.0, steal=2.0) for each in idle]

    monkeypatch.setattr(psutil, "cpu_times", read)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    busy = BusyTime({"a": frozenset({0}), "b": frozenset({1, 2})})
    now, idle = 110.0, [57.0, 60.0, 10.0]
    assert busy.read()[0] == 110.0
    assert busy.read()[1] == pytest.approx({"a": 3.0, "b": 10.0})
    # The kernel's counters are cut to 10 ms: a host that is idle may seem to have idled longer than time has passed.
    now, idle = 120.0, [70.02, 60.0, 10.0]
    assert busy.read()[1]["a"] == 0.0


CHILD = """
import sys, threading
def wait(): threading.Event().wait()
for _ in range(5): threading.Thread(target=wait, daemon=True).start()
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def child() -> Iterator[int]:
    """A process of six threads."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.kill()


def affinities(pid: int) -> set[frozenset[int]]:
    return {frozenset(os.sched_getaffinity(thread.id)) for thread in psutil.Process(pid).threads()}


def test_all_threads_of_a_process_are_confined() -> None:
    one = frozenset(sorted(os.sched_getaffinity(0))[:1])
    with child() as pid:
        assert len(psutil.Process(pid).threads()) == 6
        assert confine(pid, one)
        assert affinities(pid) == {one}
        assert not confine(pid, one)
        assert affinity(pid) == one


def test_what_is_gone_is_said_to_be_gone() -> None:
    with child() as pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with pytest.raises(ProcessLookupError):
            confine(pid, frozenset({0}))
        with pytest.raises(OSError, match=r"Invalid argument|No such process"):
            cpu_time(pid)
        assert affinity(pid) is None


def test_cpus_that_are_not_there_are_an_error() -> None:
    with child() as pid, pytest.raises(OSError, match="Invalid argument"):
        confine(pid, frozenset({100_000}))


def test_a_rate_is_known_when_its_window_is() -> None:
    history = History(4)
    for second in range(4):
        history.add(second, 0.5 * second)
        assert history.rate() is None
    assert history.rate(2) == pytest.approx(0.5)
    for second in range(4, 9):
        history.add(second, 2.0)
    assert history.rate() == pytest.approx(0.0)
    history.clear()
    assert history.rate() is None


class Known(Strangers):
    """Processes that are made up."""

    def __init__(self, strangers: Sequence[Stranger]) -> None:
        super().__init__()
        self.strangers = strangers
        self.looks = 0

    def look(self, ours: Collection[int]) -> Sequence[Stranger]:  # noqa: ARG002 - none of them is ours
        self.looks += 1
        return self.strangers


HOSTS = {"a": frozenset({0}), "b": frozenset({1, 2})}


def test_a_host_with_nobody_else_is_never_accused_and_processes_are_not_looked_at() -> None:
    known = Known([])
    ledger = Ledger(HOSTS, PLAN, known)
    for second in range(20):
        ledger.ours("a", 0.8 if second else 0.0)
        assert ledger.examine(second, {"a": 0.81 * second, "b": 0.0}, set()) == []
    assert known.looks == 0


def test_who_burns_on_a_host_is_accused_once_by_name_with_the_amount() -> None:
    free = frozenset({0, 1, 2})
    known = Known(
        [
            Stranger(1, "cron", 0.01, 0, free),
            Stranger(5, "seen-elsewhere", 0.5, 2, free),
            Stranger(4711, "yes", 0.4, 0, HOSTS["a"]),
            Stranger(6, "on-b", 0.9, 2, HOSTS["b"]),
        ]
    )
    ledger = Ledger(HOSTS, PLAN, known)
    found: list[Disturbance] = []
    for second in range(20):
        ledger.ours("a", 0.3 if second else 0.0)
        found += ledger.examine(second, {"a": 0.3 * second + 0.4 * max(second - 8, 0), "b": 0.0}, set())
    one, *worse = found
    assert len(worse) < 2
    assert (one.what, one.host) == (Trouble.FOREIGN_LOAD, "a")
    assert one.who == "yes (pid 4711), seen-elsewhere (pid 5)"
    assert one.amount == pytest.approx(0.3, abs=0.01)
    assert one.detail.startswith("yes (pid 4711)")
    assert "took 30 % of a over 4 s" in one.detail


def test_who_comes_back_is_accused_again() -> None:
    ledger = Ledger(HOSTS, PLAN, Known([]))
    busy = 0.0
    found: list[Disturbance] = []
    for second in range(30):
        busy += 0.5 if second in {5, 6, 20, 21} else 0.0
        found += ledger.examine(second, {"a": busy, "b": 0.0}, set())
    assert [(one.who, one.host) for one in found] == [("", "a")] * 2
    assert "had ended before they could be named" in found[0].detail


def test_who_joins_the_first_one_is_named_too() -> None:
    known = Known([Stranger(1, "first", 0.1, 0, HOSTS["a"])])
    ledger = Ledger(HOSTS, PLAN, known)
    busy = 0.0
    found: list[Disturbance] = []
    for second in range(30):
        busy += 0.1 if second < 15 else 0.6
        if second == 15:
            known.strangers = [*known.strangers, Stranger(2, "second", 0.5, 0, HOSTS["a"])]
        found += ledger.examine(second, {"a": busy, "b": 0.0}, set())
    assert found[0].who == "first (pid 1)"
    assert "second (pid 2)" in found[-1].who
    assert len(found) <= 4


def test_of_a_bigger_host_more_may_be_foreign() -> None:
    ledger = Ledger(HOSTS, PLAN, Known([]))
    assert not [ledger.examine(second, {"a": 0.0, "b": 0.08 * second}, set()) for second in range(9)][-1]
    assert any(ledger.examine(second, {"a": 0.0, "b": 0.12 * second}, set()) for second in range(9, 20))


def test_strangers_are_found_by_what_they_used_since_the_last_look() -> None:
    strangers = Strangers()
    assert strangers.look(set()) == []
    spent = threading.Event()
    own = os.getpid()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        spent.set()
    (me,) = [one for one in strangers.look(set()) if one.pid == own]
    assert me.seconds >= 0.03
    assert str(me) == f"{psutil.Process().name()} (pid {own})"
    assert own not in {one.pid for one in strangers.look({own})}
