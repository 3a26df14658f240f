"""Machines of 64, 256 and 512 CPUs: recorded files, a simulated plant, and the real sensor and loop."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
from filed_plant import BAND, filed_plant
from plant import Burner

from loadband import workers
from loadband.quantities import Command, Scope, State
from loadband.workers import Workers

each_scope = pytest.mark.parametrize("scope", [Scope.HOST, Scope.CPUSET, Scope.CONTAINER])


class Both:
    """The machine's burner, and real threads as many as commanded, which burn nothing."""

    def __init__(self, simulated: Burner, threads: Workers) -> None:
        self._simulated = simulated
        self._threads = threads
        self.restarts = 0

    def apply(self, command: Command) -> None:
        self._simulated.apply(command)
        self._threads.apply(command)

    def close(self) -> None:
        self._threads.close()


@each_scope
@pytest.mark.parametrize("cpus", [64, 256, 512])
def test_a_cycle_costs_little(cpus: int, scope: Scope, tmp_path: Path) -> None:
    costs = []
    with filed_plant(tmp_path, cpus, scope) as machine:
        threads = Workers(lease=60, burner=lambda: workers.Burner(burst=lambda _: None))
        machine.loop._workers = Both(machine.burner, threads)
        try:
            machine.run(3)
            assert threads.alive == cpus
            for _ in range(100):
                machine.plant.advance(machine.plant.now + 0.1)
                machine.write()
                began = time.thread_time()
                machine.loop.cycle()
                costs.append(time.thread_time() - began)
        finally:
            threads.close()
    costs.sort()
    print(f"{cpus} CPUs, {scope}: a cycle costs {1000 * costs[50]:.2f} ms, p95 {1000 * costs[95]:.2f} ms")
    # The median, and three times the goal of 5 ms: this machine does other things, too, and measures coverage.
    assert costs[50] <= 0.015


def thirty_percent_from_20_to_40(cpus: int, at: float) -> float:
    return 0.005 + 0.3 * cpus * (20 <= at < 40)


@each_scope
@pytest.mark.parametrize("cpus", [64, 256, 512])
def test_it_settles_within_one_cycle_of_two_cpus(cpus: int, scope: Scope, tmp_path: Path) -> None:
    took = {}
    for number in (2, cpus):
        directory = tmp_path / str(number)
        directory.mkdir()
        with filed_plant(directory, number, scope, others=partial(thirty_percent_from_20_to_40, number)) as machine:
            machine.run(60)
            assert machine.snapshot.verdict.state is State.HOLDING
            assert machine.plant.mean_error(BAND.target, since=3, until=19) <= 0.0025
            took[number] = [machine.plant.settled(BAND, event=event) for event in (0.0, 20.0, 40.0)]
    print(f"{scope}: settled after {took}: cold, a neighbour of 30 % comes, and leaves")
    for few, many in zip(took[2], took[cpus], strict=True):
        assert many <= few + 0.1 + 1e-6
        assert many <= 1.0
