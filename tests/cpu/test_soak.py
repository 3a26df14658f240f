"""Long runs: nothing grows and nothing drifts."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from faulty import Run, running
from plant import Plant, regulator
from program import cpu_seconds, metric

from loadband.regulator import CALM_INTERVAL

pytestmark = pytest.mark.cpu

CYCLES = 200_000
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
"""Of the run on real CPUs; by hand 600 or more."""
NEIGHBOUR = """
import sys, time
from loadband.quantities import Command
from loadband.workers import Workers
workers, half, end = Workers(lease=1.0), float(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    workers.apply(Command(1, 0.4 * (time.monotonic() % (2 * half) < half)))
    time.sleep(0.2)
"""
"""Burns 0.4 CPUs for so many seconds, and nothing for as many, until it has been there for so many."""


def test_two_hundred_thousand_cycles_neither_grow_nor_drift() -> None:
    plant = Plant(2, others=lambda t: 0.3 + 0.2 * math.sin(t / 7))
    loop, burner = regulator(plant)
    cycles, paused = 0, 0.0
    blocks: list[int] = []
    memory: list[int] = []
    used: list[float] = []
    threads, descriptors = threading.active_count(), psutil.Process().num_fds()

    def wait(seconds: float) -> bool:
        nonlocal cycles, paused
        cycles += 1
        if cycles % 1000 == 0:
            del plant.history[:-1]
        if cycles % (CYCLES // 10) == 0:
            gc.collect()
            blocks.append(sys.getallocatedblocks())
            memory.append(psutil.Process().memory_info().rss)
            used.append(plant.history[-1][1])
        # Now and then looks fail, a cycle is late, the machine stands still.
        burner.fault = "lost" if cycles % 997 < 1 + cycles % 4 else ""
        if cycles % 20_011 == 0:
            plant.jump(30)
            paused += 30
        plant.advance(plant.now + seconds + (0.25 if cycles % 1999 == 0 else 0.001 * (cycles % 3)))
        return cycles > CYCLES

    began = time.monotonic()
    loop.run(wait)
    took = time.monotonic() - began

    assert loop.snapshot
    counts = loop.snapshot.counts
    print(
        f"{counts.cycles} cycles of {plant.elapsed:.0f} s in {took:.0f} s; allocated blocks {blocks}, "
        f"resident {[f'{size / 2**20:.1f}' for size in memory]} MiB; {counts}"
    )
    assert counts.cycles == CYCLES
    assert max(blocks[1:]) - blocks[0] < 200
    assert memory[-1] - memory[0] < 1 << 20
    # Threads that another test has left may end meanwhile.
    assert threading.active_count() <= threads
    assert psutil.Process().num_fds() == descriptors
    # What was counted is what was burnt, less what the pauses hid.
    cpu = counts.cpu
    assert cpu.own == pytest.approx(burner.own, rel=0.001)
    assert cpu.own + cpu.other == pytest.approx(plant.history[-1][1], rel=0.001)
    assert cpu.own + cpu.other + cpu.steal + cpu.idle == pytest.approx(2 * (plant.elapsed - paused), rel=0.001)
    # And each tenth of the time had the band's middle for its mean.
    tenth = (plant.elapsed - paused) / 10
    means = [(later - earlier) / 2 / tenth for earlier, later in pairwise(used)]
    assert means == pytest.approx([0.65] * 9, abs=0.005)


@dataclass(frozen=True)
class Look:
    """What the program is at a moment, and what it says."""

    at: float
    memory: int
    threads: int
    descriptors: int
    own: float
    """CPU-seconds by the kernel's account."""
    idle: float
    """The host's, CPU-seconds by the kernel's account."""
    metrics: str

    def metric(self, name: str) -> float:
        return metric(self.metrics, name)

    def seconds(self, mode: str) -> float:
        return self.metric(f'loadband_cpu_seconds_total{{mode="{mode}",scope="host"}}')


def look(run: Run) -> Look:
    process, host = psutil.Process(run.pid), psutil.cpu_times()
    return Look(
        time.monotonic(),
        process.memory_info().rss,
        process.num_threads(),
        process.num_fds(),
        cpu_seconds(run.pid),
        host.idle + host.iowait,
        run.metrics(),
    )


@pytest.mark.timeout(SOAK_SECONDS + 120)
def test_the_program_neither_grows_nor_drifts_for_as_long_as_it_is_watched(tmp_path: Path) -> None:
    half = min(30.0, SOAK_SECONDS / 8)
    comes_and_goes = [sys.executable, "-c", NEIGHBOUR, str(half), str(SOAK_SECONDS + 60)]
    with (tmp_path / "log").open("wb") as log, running("holding 60..70", stdout=log) as run:
        neighbour = subprocess.Popen(comes_and_goes)
        try:
            looks = []
            until = time.monotonic() + SOAK_SECONDS
            while time.monotonic() < until:
                looks.append(look(run))
                time.sleep(1)
        finally:
            neighbour.kill()
            neighbour.wait()
        first, last = looks[len(looks) // 5], looks[-1]
        run.process.terminate()
        assert run.wait_until_gone() == 0

    elapsed = last.at - first.at
    cycles = last.metric("loadband_cycles_total") - first.metric("loadband_cycles_total")
    overruns = last.metric("loadband_cycle_overruns_total") - first.metric("loadband_cycle_overruns_total")
    own, idle, total = (
        sum(last.seconds(mode) - first.seconds(mode) for mode in modes)
        for modes in (["own"], ["idle"], ["own", "other", "steal", "idle"])
    )
    inside, observed = (
        last.metric(f"loadband_{name}_seconds_total") - first.metric(f"loadband_{name}_seconds_total")
        for name in ("in_band", "observed")
    )
    print(
        f"{elapsed:.0f} s: {cycles:.0f} cycles, {overruns:.0f} overruns; memory {first.memory / 2**20:.1f} > "
        f"{last.memory / 2**20:.1f} MiB; own {own:.2f} s, by the kernel {last.own - first.own:.2f} s; "
        f"idle {idle:.2f} s, by the kernel {last.idle - first.idle:.2f} s; "
        f"all {total:.2f} s of {(os.cpu_count() or 1) * elapsed:.2f}; in the band {inside:.0f} of {observed:.0f} s; "
        f"log {(tmp_path / 'log').stat().st_size} bytes"
    )
    assert last.memory - first.memory < 2 << 20
    assert {each.threads for each in looks[1:]} == {first.threads}
    # A look now and then falls into the moment for which a file is open, so what stays open is the least of some looks.
    tenth = len(looks) // 10 + 1
    assert min(each.descriptors for each in looks[-tenth:]) == min(each.descriptors for each in looks[1:][:tenth])
    assert cycles >= 0.99 * elapsed / CALM_INTERVAL - 2
    # What is read a moment apart differs by what that moment holds; over an hour, only a drift would be left.
    assert own == pytest.approx(last.own - first.own, rel=0.001, abs=0.1)
    assert idle == pytest.approx(last.idle - first.idle, rel=0.001, abs=0.4)
    assert total == pytest.approx((os.cpu_count() or 1) * elapsed, rel=0.001, abs=0.4)
