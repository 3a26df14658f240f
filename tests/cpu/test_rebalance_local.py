"""The local platform on real CPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest
from plans import plan

from loadband.rebalance.events import (
    Disturbance,
    Event,
    Move,
    MoveState,
    Sample,
    Slice,
    Subject,
    Trouble,
)
from loadband.rebalance.platforms import MoveRefusedError, PlatformError
from loadband.rebalance.platforms.local import SOMEBODY, Local

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two CPUs are needed, one for each host"),
]

PLAN = plan(window=2, sample_interval=0.5)
NEAR = 0.05
"""Of a host's utilization, with a noisy machine in mind."""


class Stage:
    """A platform that is polled while something is waited for."""

    def __init__(self, platform: Local) -> None:
        self.platform = platform
        self.events: list[Event] = []

    def until(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, [one for one in self.events if isinstance(one, Disturbance)]
            self.events += self.platform.poll()
            time.sleep(0.02)

    def go(self, seconds: float) -> None:
        over = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= over, seconds + 1)

    def utilization(self, host: str) -> float:
        (found,) = [one.utilization for one in self.platform.view().hosts if one.name == host]
        assert found is not None
        return found

    def ours(self, host: str) -> float:
        """The part of a host's utilization that is known to be ours: others may burn on this machine, too."""
        foreign = self.platform._site._ledger._foreign[host].rate()
        assert foreign is not None
        ours = self.utilization(host) - foreign / len(self.platform._site.cpus[host])
        assert foreign > -0.03
        return ours

    def moves(self) -> list[tuple[MoveState, str]]:
        return [(event.state, event.by) for event in self.events if isinstance(event, Move)]

    def troubles(self, what: Trouble) -> list[Disturbance]:
        return [event for event in self.events if isinstance(event, Disturbance) and event.what is what]


@contextmanager
def local(fail_moves: int = 0) -> Iterator[Stage]:
    before, children = os.sched_getaffinity(0), set(psutil.Process().children())
    platform = Local(["a", "b"], PLAN, fail_moves=fail_moves)
    try:
        platform.start()
        yield Stage(platform)
    finally:
        assert platform.close() == []
    assert os.sched_getaffinity(0) == before
    assert set(psutil.Process().children()) <= children
    assert platform.close() == []


def pids(platform: Local) -> dict[str, int]:
    return {name: one.regulator.pid for name, one in platform._slices.items()}


def cpus(platform: Local, host: str) -> frozenset[int]:
    return platform._site.cpus[host]


def test_slices_burn_what_they_are_asked_for_and_cool_a_host_by_leaving_it() -> None:
    with local() as stage:
        for name in ("s1", "s2", "s3"):
            stage.platform.make(name, "a", 0.2)
        stage.until(lambda: not stage.platform.pending())
        stage.go(PLAN.window + 0.5)
        assert stage.ours("a") == pytest.approx(0.6, abs=NEAR)
        assert stage.ours("b") < 0.2

        stage.platform.move("s1", "b", by="test", reason="hot")
        threads = [thread.id for thread in psutil.Process(pids(stage.platform)["s1"]).threads()]
        assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {cpus(stage.platform, "b")}
        stage.go(PLAN.window + 0.5)
        assert stage.ours("a") == pytest.approx(0.4, abs=NEAR)
        assert stage.ours("b") > 0.2
        assert stage.moves() == [(MoveState.ASKED, "test"), (MoveState.ACCEPTED, "test"), (MoveState.DONE, "test")]

        stage.platform.ask("s2", 0.05)
        stage.until(lambda: not stage.platform.pending())
        stage.platform.remove("s3")
        stage.go(PLAN.window + 0.5)
        assert stage.ours("a") == pytest.approx(0.05, abs=NEAR)
        assert [one for one in stage.troubles(Trouble.FOREIGN_LOAD) if not one.who] == []


def test_samples_count_slices_and_own_programs_where_they_are() -> None:
    with local() as stage:
        stage.platform.make("s1", "a", 0.2)
        stage.platform.watch({"me too": os.getpid()})
        stage.until(lambda: not stage.platform.pending())
        stage.platform.move("s1", "b", by="test", reason="hot")
        stage.go(1.2)
        samples = [event for event in stage.events if isinstance(event, Sample)]
        places = [(one.host, one.cpu_seconds) for one in samples if one.subject is Subject.SLICE]
        assert [host for host, _ in places] == sorted(host for host, _ in places)
        assert {host for host, _ in places} == {"a", "b"}
        assert [seconds for _, seconds in places] == sorted(seconds for _, seconds in places)
        own = {one.name for one in samples if one.subject is Subject.OWN}
        assert own >= ({"observer of a", "observer of b"} if cpus(stage.platform, "a") else set())
        made = next(event for event in stage.events if isinstance(event, Slice))
        assert (made.name, made.host, made.cpus, made.present) == ("s1", "a", 0.2, True)


def test_moves_that_cannot_be_are_refused_and_recorded() -> None:
    with local() as stage:
        stage.platform.make("s1", "a", 0.05)
        stage.platform.make("n1", "a", 0.05, movable=False)
        assert [one.name for one in stage.platform.view().slices] == ["s1"]
        for name, host, why in [
            ("s2", "b", "no slice s2"),
            ("n1", "b", "n1 is a neighbour"),
            ("s1", "c", "no host c"),
            ("s1", "a", "on a already"),
        ]:
            with pytest.raises(MoveRefusedError, match=why):
                stage.platform.move(name, host, by="test", reason="why not")
        stage.go(0.1)
        assert stage.moves() == 4 * [(MoveState.ASKED, "test"), (MoveState.FAILED, "test")]
        with pytest.raises(PlatformError, match="there is a slice s1 already"):
            stage.platform.make("s1", "a", 0.05)
        with pytest.raises(PlatformError, match="no host c"):
            stage.platform.make("s2", "c", 0.05)


def test_a_move_that_is_to_fail_fails_and_the_next_one_succeeds() -> None:
    with local(fail_moves=1) as stage:
        stage.platform.make("s1", "a", 0.05)
        for _ in range(2):
            stage.platform.move("s1", "b", by="test", reason="hot")
        stage.go(0.1)
        begin = [(MoveState.ASKED, "test"), (MoveState.ACCEPTED, "test")]
        assert stage.moves() == [*begin, (MoveState.FAILED, "test"), *begin, (MoveState.DONE, "test")]


def test_a_move_by_somebody_else_is_recorded_as_theirs() -> None:
    with local() as stage:
        stage.platform.make("s1", "a", 0.05)
        stage.go(0.1)
        os.sched_setaffinity(pids(stage.platform)["s1"], cpus(stage.platform, "b"))
        stage.until(stage.moves)
        assert stage.moves() == [(MoveState.DONE, SOMEBODY)]
        (slice_,) = stage.platform.view().slices
        assert slice_.host == "b"


def test_a_slice_that_is_killed_is_recorded() -> None:
    with local() as stage:
        stage.platform.make("s1", "a", 0.05)
        stage.go(0.1)
        psutil.Process(pids(stage.platform)["s1"]).kill()
        stage.until(lambda: stage.troubles(Trouble.SLICE_DIED))
        (died,) = stage.troubles(Trouble.SLICE_DIED)
        assert (died.who, died.host) == ("s1", "a")
        assert "signal 9" in died.detail
        assert stage.platform.view().slices == ()
        stage.platform.remove("s1")


def test_without_its_observer_a_platform_is_broken() -> None:
    with local() as stage:
        stage.platform._site._observers["b"][0].kill()
        with pytest.raises(PlatformError, match=r"the observer of b died: python.* was ended by signal 9"):
            stage.go(2)


@contextmanager
def yes(on: frozenset[int]) -> Iterator[int]:
    program = shutil.which("yes")
    assert program
    with subprocess.Popen([program], stdout=subprocess.DEVNULL) as process:
        try:
            os.sched_setaffinity(process.pid, on)
            yield process.pid
        finally:
            process.kill()


def test_a_foreign_load_is_named() -> None:
    with local() as stage:
        stage.platform.make("s1", "a", 0.2)
        stage.until(lambda: not stage.platform.pending())
        with yes(cpus(stage.platform, "b")) as pid:
            stage.until(lambda: any(str(pid) in one.who for one in stage.troubles(Trouble.FOREIGN_LOAD)))
        (foreign,) = [one for one in stage.troubles(Trouble.FOREIGN_LOAD) if str(pid) in one.who]
        assert foreign.host == "b"
        assert foreign.amount
        assert foreign.amount > 0.3
        assert foreign.who.startswith(f"yes (pid {pid})")


def test_slices_end_with_their_parent_however_it_ends() -> None:
    child = os.fork()
    if child == 0:
        platform = Local(["a", "b"], PLAN)
        platform.start()
        platform.make("s1", "a", 0.05)
        time.sleep(60)
        os._exit(0)
    try:
        parent = psutil.Process(child)
        deadline = time.monotonic() + 10
        while len(regulators := parent.children()) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        # Until they have asked the kernel for it.
        while any("-c" in one.cmdline() for one in regulators) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(regulators) == 3
        parent.kill()
        _, alive = psutil.wait_procs(regulators, timeout=5)
        assert alive == []
    finally:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(child).kill()
        os.waitpid(child, 0)
