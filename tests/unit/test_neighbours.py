"""Which processes use the CPUs: by name and share, only while they matter, and never more than is known."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from full_snapshot import SNAPSHOT
from program import wait_until

from loadband.neighbours import IDLE_INTERVAL, INTERVAL, MAX_NAME, Look, Neighbours, Process, look, sentence, shares
from loadband.quantities import CpuSeconds, Scope, Snapshot, State, Verdict

READING = SNAPSHOT.reading
assert READING is not None


def everyone(_pid: int) -> bool:
    return True


def processes(at: float, **seconds: float) -> Look:
    return Look(at, {(index, 0.0): Process(name, used) for index, (name, used) in enumerate(seconds.items())})


def snapshot(other: float, state: State = State.HOLDING, at: float = 0.0, mean: float | None = None) -> Snapshot:
    """2 CPUs, of which others use `other` in the last second, and `mean` since second 0."""
    assert READING is not None
    reading = replace(READING, other=other, capacity=2.0)
    used = 2 * at * (other if mean is None else mean)
    counts = replace(SNAPSHOT.counts, cpu=CpuSeconds(other=used, idle=2 * at - used))
    verdict = Verdict(state, "why")
    return replace(SNAPSHOT, at=at, reading=reading, verdict=verdict, scope=Scope.HOST, counts=counts, others="")


def test_shares_are_of_the_capacity_and_the_largest_come_first() -> None:
    before, after = processes(0.0, idle=5.0, java=1.0, ng=0.0), processes(10.0, idle=5.0, java=2.0, ng=8.0)
    found = shares(before, after, 2.0, everyone)
    assert found == {"ng": 0.4, "java": 0.05}
    assert list(found) == ["ng", "java"]


def test_processes_of_one_name_are_summed() -> None:
    before = Look(0.0, {(1, 0.0): Process("w", 1.0), (2, 0.0): Process("w", 1.0)})
    after = Look(1.0, {(1, 0.0): Process("w", 1.2), (2, 0.0): Process("w", 1.3)})
    assert shares(before, after, 1.0, everyone) == {"w": pytest.approx(0.5)}


def test_processes_that_the_scope_does_not_count_are_left_out_even_of_a_name_that_it_counts() -> None:
    before = Look(0.0, {(1, 0.0): Process("w", 1.0), (2, 0.0): Process("w", 1.0)})
    after = Look(1.0, {(1, 0.0): Process("w", 1.2), (2, 0.0): Process("w", 1.3)})
    assert shares(before, after, 1.0, lambda pid: pid == 2) == {"w": pytest.approx(0.3)}


def test_only_processes_that_used_cpu_time_are_asked_about() -> None:
    asked: list[int] = []

    def member(pid: int) -> bool:
        asked.append(pid)
        return True

    shares(processes(0.0, a=1.0, b=1.0), processes(1.0, a=1.0, b=2.0), 1.0, member)
    assert asked == [1]


def test_a_new_process_counts_from_its_start_even_if_it_has_the_pid_of_another() -> None:
    before = Look(0.0, {(7, 1.0): Process("old", 100.0)})
    after = Look(1.0, {(7, 2.0): Process("new", 0.5)})
    assert shares(before, after, 1.0, everyone) == {"new": 0.5}


def test_two_looks_at_one_moment_say_nothing() -> None:
    assert shares(processes(1.0, a=0.0), processes(1.0, a=1.0), 1.0, everyone) == {}


def test_the_sentence_names_the_largest() -> None:
    found = {"stress-ng": 0.38, "java": 0.03, "cron": 0.01, "x": 0.007, "y": 0.001}
    assert sentence(0.41, found) == "other 41 %: stress-ng 38 %, java 3 %, cron 1 %"


def test_the_sentence_says_what_is_not_visible() -> None:
    assert sentence(0.41, {}) == "other 41 %: by processes that aren't visible from here"
    assert sentence(0.41, {"java": 0.03}) == "other 41 %: java 3 %, the rest isn't visible from here"


def test_no_share_is_larger_than_that_of_all_others() -> None:
    assert sentence(0.3, {"a": 0.35}) == "other 30 %: a 30 %"


def test_names_are_safe_to_print() -> None:
    text = sentence(0.5, {"a\n\x1b[31m\u202e\udcff" + "x" * 100: 0.5})
    assert text.isprintable()
    assert len(text) < 40 + MAX_NAME


class Fake:
    """Looks, 5 s apart, at one process that uses 0.8 CPUs."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Look:
        self.count += 1
        return processes(5.0 * self.count, yes=4.0 * self.count)


def played(look: Callable[[], Look], *shown: Snapshot) -> tuple[Snapshot | None, list[float]]:
    """The last snapshot as it is shown after a turn at each of these, and the pauses after the turns."""
    source = [shown[0]]
    neighbours = Neighbours(lambda: source[0], lambda: everyone, look)
    pauses = []
    for source[0] in shown:
        pauses.append(neighbours.turn())
    return neighbours.snapshot(), pauses


@pytest.mark.parametrize(
    ("other", "state", "looks"),
    [(0.4, State.HOLDING, 2), (0.01, State.HOLDING, 0), (0.01, State.YIELDING, 2), (0.05, State.LATCHED, 2)],
)
def test_it_looks_only_while_others_matter(other: float, state: State, looks: int) -> None:
    fake = Fake()
    shown, pauses = played(fake, snapshot(other, state, 0.0), snapshot(other, state, 5.0))
    assert fake.count == looks
    assert shown is not None
    assert bool(shown.others) == (looks > 0)
    assert pauses == [INTERVAL if looks else IDLE_INTERVAL] * 2


def test_shares_and_other_are_about_the_same_time() -> None:
    shown, _ = played(Fake(), snapshot(0.4, at=0.0), snapshot(0.95, at=5.0, mean=0.42))
    assert shown is not None
    assert shown.others == "other 42 %: yes 40 %"


def test_the_names_go_when_others_no_longer_matter() -> None:
    quiet = snapshot(0.0, at=10.0)
    shown, _ = played(Fake(), snapshot(0.4, at=0.0), snapshot(0.4, at=5.0))
    assert shown is not None
    assert shown.sentence == "why; other 40 %: yes 40 %"
    assert played(Fake(), snapshot(0.4, at=0.0), snapshot(0.4, at=5.0), quiet)[0] == quiet


def test_without_a_reading_there_are_no_names() -> None:
    assert Neighbours(lambda: None, lambda: everyone, Fake()).snapshot() is None
    blind = replace(snapshot(0.4), reading=None)
    assert played(Fake(), blind, blind) == (blind, [IDLE_INTERVAL] * 2)


def test_looks_become_rarer_when_they_cost_more() -> None:
    costly = replace(processes(0.0), cost=0.02)
    assert played(lambda: costly, snapshot(0.4))[1] == [10.0]
    assert look().cost > 0


def test_a_proc_that_cannot_be_read_is_logged_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Look:
        raise RuntimeError("line 'btime' not found in /proc/stat")

    shown, pauses = played(fails, snapshot(0.4, at=0.0), snapshot(0.4, at=5.0))
    assert shown == snapshot(0.4, at=5.0)
    assert pauses == [INTERVAL] * 2
    assert caplog.text.count("other processes can't be named: RuntimeError(\"line 'btime'") == 1


def test_a_real_process_is_found_by_its_name_and_its_share() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burning:
        try:
            before = look()
            name = next(process.name for (pid, _), process in before.processes.items() if pid == burning.pid)
            wait_until(lambda: shares(before, look(), 1.0, everyone).get(name, 0.0) > 0.1, 10, "its share")
            assert os.getpid() not in {pid for pid, _ in before.processes}
        finally:
            burning.kill()


def test_the_thread_ends_when_it_is_told() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=Neighbours(lambda: None, lambda: everyone, Fake()).run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
