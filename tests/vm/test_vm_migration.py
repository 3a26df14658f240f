"""The platform libvirt on real daemons and real guests, which migrate live, are refused, or lose their destination."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from plans import plan
from vm.conftest import Said

from loadband.rebalance.events import Disturbance, Event, Move, MoveState, Trouble
from loadband.rebalance.platforms.libvirt import binding
from loadband.rebalance.platforms.libvirt.daemons import find_daemon
from loadband.rebalance.platforms.libvirt.guests import Seed, domain_xml
from loadband.rebalance.platforms.libvirt.lab import Lab
from loadband.rebalance.platforms.libvirt.platform import Libvirt
from loadband.rebalance.platforms.machine import cpu_time
from loadband.rebalance.programs import MissingError

PLAN = plan(hot_hosts=("a",), window=4, sample_interval=0.5)
BEAT = 0.1
"""Seconds from one point on a guest's console to the next."""
LATE = 0.15
"""Seconds that a point may come late on a busy machine."""


def missing() -> str:
    """What isn't there of what these tests need; empty if nothing is missing."""
    if find_spec("libvirt") is None:
        return "libvirt's Python binding isn't installed: make setup-libvirt"
    try:
        find_daemon()
    except MissingError as error:
        return str(error)
    if len(os.sched_getaffinity(0)) < 2:
        return "two CPUs are needed, one for each host"
    return ""


pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing() or "nothing"), pytest.mark.timeout(200)]


def ours() -> set[psutil.Process]:
    """The daemons and guests of runs of this project: their commands name the run's folder."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any("/tmp/lb-" in word for word in process.cmdline()):
                found.add(process)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    folders = set(Path("/tmp").glob("lb-*"))
    yield
    assert ours() == set()
    assert set(Path("/tmp").glob("lb-*")) <= folders


def sector() -> bytes:
    return files("loadband.rebalance.platforms.libvirt").joinpath("guest.img").read_bytes()


class Stage:
    """A platform of the hosts a and b that is polled while something is waited for."""

    def __init__(self) -> None:
        library = binding.load()
        self.lab = Lab(["a", "b"], PLAN, library, sector())
        self.platform = Libvirt(self.lab, PLAN, library)
        self.events: list[Event] = []
        self.beats: list[tuple[float, int]] = []
        """When how many points stood on the console."""
        self.burnt: list[tuple[float, float]] = []
        """When how many CPU-seconds the guest had used on the host on which it is."""

    def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.events[-20:]
            self.events += self.platform.poll()
            self.look()
            time.sleep(0.01)

    def go(self, seconds: float) -> None:
        over = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= over, seconds + 5)

    def look(self) -> None:
        for console in self.lab._place("x").parent.glob("*.log"):
            self.beats.append((time.monotonic(), console.stat().st_size))
        for guest in self.platform._guests.values():
            self.burnt.append((time.monotonic(), guest.used))

    def ended(self) -> list[Move]:
        return [one for one in self.events if isinstance(one, Move) and one.state.is_end]

    def not_ready(self) -> list[Disturbance]:
        return [one for one in self.events if isinstance(one, Disturbance) and one.what is Trouble.HOST_NOT_READY]

    def guests(self) -> dict[str, list[psutil.Process]]:
        """By host, the processes of guests."""
        found: dict[str, list[psutil.Process]] = {"a": [], "b": []}
        for process in ours():
            for host, inside in found.items():
                command = " ".join(process.cmdline())
                if process.name().startswith("qemu") and f"{self.lab._place(host)}/" in command:
                    inside.append(process)
        return found


@contextmanager
def stage(cpus: float = 0.2) -> Iterator[Stage]:
    one = Stage()
    try:
        one.platform.start()
        one.platform.make("s1", "a", cpus)
        one.until(lambda: not one.platform.pending())
        one.go(1)
        yield one
    finally:
        left = one.platform.close()
    assert left == []


def rate(pid: int, seconds: float = 1.0) -> float:
    """What a process burns, CPUs."""
    before, began = cpu_time(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_time(pid) - before) / (time.monotonic() - began)


def test_a_guest_goes_on_while_it_migrates_without_a_gap_or_a_burst(said: Said) -> None:
    with stage() as it:
        for destination in ("b", "a", "b"):
            it.events.clear()
            it.beats.clear()
            it.burnt.clear()
            it.platform.move("s1", destination, by="test", reason="hot")
            it.until(it.ended)
            (moved,) = it.ended()
            it.go(2)
            assert moved.state is MoveState.DONE
            grown = [at for (_, before), (at, after) in pairwise(it.beats) if after > before]
            gap = max(after - before for before, after in pairwise(grown))
            most = max(
                later - sooner
                for place, (at, sooner) in enumerate(it.beats)
                for then, later in it.beats[place : place + 200]
                if then <= at + 1.0
            )
            burst = max(speeds(it.burnt))
            down = moved.downtime or 0.0
            said(
                f"a guest that migrates to {destination}",
                f"a point each {BEAT:g} s but for the downtime, no burst",
                f"{moved.seconds} s, down {down:g} s, longest gap {gap:.3f} s, most points in a second {most}, "
                f"most CPUs over 0.5 s {burst:.2f} of 0.2",
            )
            assert gap <= BEAT + down + LATE
            assert most <= 1.0 / BEAT + 2
            assert burst <= 0.3
            here = it.guests()
            assert [len(here[host]) for host in sorted(here, key=lambda host: host != destination)] == [1, 0]


def speeds(burnt: Sequence[tuple[float, float]]) -> Iterator[float]:
    """CPUs over each half second."""
    for place, (at, used) in enumerate(burnt):
        later = next(((then, much) for then, much in burnt[place:] if then >= at + 0.5), None)
        if later is not None:
            yield (later[1] - used) / (later[0] - at)


def test_a_destination_that_refuses_costs_nothing(said: Said) -> None:
    with stage() as it:
        nodes = it.lab.nodes()
        (domain,) = nodes["a"].of_run(it.platform._run)
        # There is another guest of that name already.
        seed = Seed(name=domain, run=it.platform._run, slice="s1", image=it.lab.makings(domain).image)
        nodes["b"].make(domain_xml(seed))
        it.platform.move("s1", "b", by="test", reason="hot")
        it.until(it.ended)
        (failed,) = it.ended()
        it.go(1)
        here = it.guests()
        burns = rate(here["a"][0].pid)
        said("a destination that refuses", "failed, and why; it burns on", f"{failed.reason!r}; {burns:.2f} CPUs")
        assert failed.state is MoveState.FAILED
        assert domain in failed.reason
        assert len(here["a"]) == 1
        assert burns == pytest.approx(0.2, abs=0.05)
        assert it.platform.view().slices[0].host == "a"


def test_a_destination_that_dies_in_the_middle_leaves_one_guest_that_burns(said: Said) -> None:
    with stage() as it:
        daemon = psutil.Process(it.lab._daemons["b"].pid)
        it.platform.move("s1", "b", by="test", reason="hot")
        # Its QEMU has begun to listen: now the memory comes.
        it.until(lambda: it.guests()["b"])
        daemon.kill()
        it.until(it.ended)
        (failed,) = it.ended()
        it.until(it.not_ready)
        it.go(1)
        here = it.guests()
        burning = [rate(process.pid) for processes in here.values() for process in processes]
        said("a destination killed in the middle", "one guest burns", f"{failed.reason!r}; {burning} CPUs")
        assert failed.state is MoveState.FAILED
        assert len(here["a"]) == 1
        assert sum(burning) == pytest.approx(0.2, abs=0.05)
        assert [(one.host, one.who) for one in it.not_ready()] == [("b", "libvirtd")]
        assert it.platform.view().slices[0].host == "a"
