"""Who the others are: by name and share, only where they matter, and never by more than is known."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from full_snapshot import SNAPSHOT
from program import wait_until

from loadband.neighbours import INTERVAL, LONGEST_NAME, Look, Neighbours, Process, look, sentence, shares
from loadband.quantities import Scope, Snapshot, State, Verdict

READING = SNAPSHOT.reading
assert READING is not None


def processes(at: float, **seconds: float) -> Look:
    return Look(at, {(index, 0.0): Process(name, used) for index, (name, used) in enumerate(seconds.items())})


def snapshot(other: float, state: State = State.HOLDING) -> Snapshot:
    assert READING is not None
    reading = replace(READING, other=other, capacity=2.0)
    return replace(SNAPSHOT, reading=reading, verdict=Verdict(state, "why"), scope=Scope.HOST, others="")


def test_shares_are_of_the_capacity_and_the_busiest_come_first() -> None:
    found = shares(processes(0.0, idle=5.0, java=1.0, ng=0.0), processes(10.0, idle=5.0, java=2.0, ng=8.0), 2.0)
    assert found == {"ng": 0.4, "java": 0.05}
    assert list(found) == ["ng", "java"]


def test_processes_of_one_name_are_summed() -> None:
    before = Look(0.0, {(1, 0.0): Process("w", 1.0), (2, 0.0): Process("w", 1.0)})
    after = Look(1.0, {(1, 0.0): Process("w", 1.2), (2, 0.0): Process("w", 1.3)})
    assert shares(before, after, 1.0) == {"w": pytest.approx(0.5)}


def test_a_new_process_counts_from_its_start_even_if_it_has_the_pid_of_another() -> None:
    before = Look(0.0, {(7, 1.0): Process("old", 100.0)})
    after = Look(1.0, {(7, 2.0): Process("new", 0.5)})
    assert shares(before, after, 1.0) == {"new": 0.5}


def test_two_looks_at_one_moment_say_nothing() -> None:
    assert shares(processes(1.0, a=0.0), processes(1.0, a=1.0), 1.0) == {}


def test_the_sentence_names_the_busiest() -> None:
    found = {"stress-ng": 0.38, "java": 0.03, "cron": 0.01, "x": 0.007, "y": 0.001}
    assert sentence(0.41, found) == "other 41 %: stress-ng 38 %, java 3 %, cron 1 %"


def test_the_sentence_says_what_cannot_be_seen() -> None:
    assert sentence(0.41, {}) == "other 41 %: they can't be seen from here"
    assert sentence(0.41, {"java": 0.03}) == "other 41 %: java 3 %, the rest can't be seen from here"


def test_no_share_is_larger_than_that_of_all_others() -> None:
    assert sentence(0.3, {"a": 0.35}) == "other 30 %: a 30 %"


def test_names_are_safe_to_print() -> None:
    said = sentence(0.5, {"a\n\x1b[31m" + "x" * 100: 0.5})
    assert said.isprintable()
    assert len(said) < 40 + LONGEST_NAME


class Fake:
    """Looks whose second shows one busy process."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Look:
        self.count += 1
        return processes(5.0 * self.count, yes=4.0 * self.count)


@pytest.mark.parametrize(
    ("other", "state", "looks"),
    [(0.4, State.HOLDING, 2), (0.01, State.HOLDING, 0), (0.01, State.YIELDING, 2), (0.05, State.LATCHED, 2)],
)
def test_it_looks_only_while_others_matter(other: float, state: State, looks: int) -> None:
    fake = Fake()
    neighbours = Neighbours(lambda: snapshot(other, state), fake)
    for _ in range(2):
        assert neighbours.turn() >= INTERVAL
    assert fake.count == looks
    shown = neighbours.snapshot()
    assert shown is not None
    assert bool(shown.others) == (looks > 0)


def test_what_was_said_ends_when_the_others_do() -> None:
    now = [snapshot(0.4)]
    neighbours = Neighbours(lambda: now[0], Fake())
    neighbours.turn()
    neighbours.turn()
    shown = neighbours.snapshot()
    assert shown is not None
    assert shown.sentence == "why; other 40 %: yes 40 %"
    now[0] = snapshot(0.0)
    neighbours.turn()
    assert neighbours.snapshot() == now[0]


def test_before_the_first_reading_there_is_nothing_to_say() -> None:
    assert Neighbours(lambda: None, Fake()).snapshot() is None
    blind = replace(snapshot(0.4), reading=None)
    neighbours = Neighbours(lambda: blind, Fake())
    neighbours.turn()
    assert neighbours.snapshot() == blind


def test_looking_becomes_rarer_when_it_costs_more() -> None:
    costly = replace(processes(0.0), cost=0.02)
    assert Neighbours(lambda: snapshot(0.4), lambda: costly).turn() == 10.0
    assert look().cost > 0


def test_a_real_process_is_found_by_its_name_and_its_share() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burning:
        try:
            before = look()
            wait_until(lambda: shares(before, look(), 1.0).get(_name(burning.pid), 0.0) > 0.1, 10, "its share")
            assert os.getpid() not in {pid for pid, _ in before.processes}
        finally:
            burning.kill()


def _name(pid: int) -> str:
    return next(process.name for (one, _), process in look().processes.items() if one == pid)


def test_in_a_cpuset_only_those_count_that_may_use_its_cpus() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("one CPU cannot be divided")
    real = look()
    (mine, theirs) = cpus[0], cpus[1]
    with subprocess.Popen(["sleep", "60"]) as here, subprocess.Popen(["tail", "-f", "/dev/null"]) as there:
        os.sched_setaffinity(here.pid, {mine})
        os.sched_setaffinity(there.pid, {theirs})
        names = {here.pid: "sleep", there.pid: "tail"}
        looks = [Look(at, {(pid, 0.0): Process(name, at / 4) for pid, name in names.items()}) for at in (0.0, 5.0)]
        os.sched_setaffinity(0, {mine})
        try:
            found = replace(snapshot(0.25), scope=Scope.CPUSET)
            neighbours = Neighbours(lambda: found, iter(looks).__next__)
            neighbours.turn()
            neighbours.turn()
            shown = neighbours.snapshot()
        finally:
            os.sched_setaffinity(0, set(cpus))
            here.kill()
            there.kill()
    assert real.processes
    assert shown is not None
    assert shown.others == "other 25 %: sleep 12 %"


def test_the_thread_ends_when_it_is_told() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=Neighbours(lambda: None, Fake()).run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
