"""A simulated machine with a clock of its own, on which the real loop and the real laws run without sleeping."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loadband.controller import Adaptive, Controller, Law
from loadband.quantities import Band, Command, Sample, Scope, Setpoint, Snapshot, Throttling
from loadband.regulator import Clock, Regulator, lease_of
from loadband.sensor import UnreadableError
from loadband.setpoint import SetpointCell

TICK = 0.01
"""Seconds that the plant moves at once."""


class Plant:
    """CPUs shared fairly by neighbours and regulators, with counters like the kernel's.

    Args:
        cpus: number of CPUs.
        others: CPUs that everybody else asks for at a time (seconds).
        quantum: step of the idle counter, CPU-seconds.
        noise: standard deviation of the others' demand, CPUs.
        slowdown: by which factor the others' work takes longer than alone at full speed, at a time (seconds) and with a
            utilization (ratio): their CPUs are slower, or threads that share a core hinder each other. CPU time is what
            is regulated, so slow CPUs change nothing for who burns it.
        stolen: the part of the CPUs' time, < 1, in which a hypervisor doesn't let them run, at a time (seconds).
    """

    def __init__(
        self,
        cpus: int = 2,
        others: Callable[[float], float] = lambda _: 0.0,
        quantum: float = 0.01,
        noise: float = 0.0,
        seed: int = 0,
        slowdown: Callable[[float, float], float] = lambda _time, _utilization: 1.0,
        stolen: Callable[[float], float] = lambda _: 0.0,
    ) -> None:
        self.cpus = cpus
        self.others = others
        self.quantum = quantum
        self.now = 1000.0
        self.idle = 5000.0
        self.steal = 0.0
        self.burners: list[Burner] = []
        self.history: list[tuple[float, float]] = [(0.0, 0.0)]
        """Seconds since the start, and CPU-seconds used by all until then, every tick."""
        self._noise = noise
        self._random = random.Random(seed)
        self._used = 0.0
        self._slowdown = slowdown
        self._stolen = stolen
        self._utilization = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: 1.7e9 + self.now)

    @property
    def elapsed(self) -> float:
        return self.now - 1000.0

    def advance(self, until: float) -> None:
        """Let time pass until a moment of the plant's monotonic clock."""
        while self.now < until - 1e-9:
            dt = min(TICK, until - self.now)
            noise = self._random.gauss(0, self._noise) if self._noise else 0.0
            slowdown = self._slowdown(self.elapsed, self._utilization)
            others = min(max(self.others(self.elapsed) * slowdown + noise, 0.0), self.cpus)
            running = 1 - self._stolen(self.elapsed)
            demands = [burner.demand(self.now) for burner in self.burners]
            total = others + sum(demands)
            share = min(1.0, self.cpus * running / total) if total else 1.0
            for burner, demand in zip(self.burners, demands, strict=True):
                burner.own += demand * share * dt
            used = total * share
            # A CPU that isn't let run has somebody who wants to: time is only stolen from those.
            stolen = used / running - used
            self._utilization = used / self.cpus
            self._used += used * dt
            self.steal += stolen * dt
            self.idle += (self.cpus - used - stolen) * dt
            self.now += dt
            self.history.append((self.elapsed, self._used))

    def jump(self, seconds: float) -> None:
        """A pause of the whole machine but for its clock."""
        self.now += seconds
        self.history.append((self.elapsed, self._used))

    def windows(self, since: float, until: float = math.inf, width: float = 1.0) -> list[tuple[float, float]]:
        """Start (seconds since the plant's) and true utilization of windows that slide by 100 ms."""
        found = []
        steps = round(width / TICK)
        for index in range(0, len(self.history) - steps, 10):
            (start, used), (end, used_then) = self.history[index], self.history[index + steps]
            if since - 1e-6 <= start and end <= until + 1e-6:
                found.append((start, (used_then - used) / (end - start) / self.cpus))
        return found

    def mean_error(self, target: float, since: float, until: float = math.inf) -> float:
        """Mean absolute error of the 1-s windows against a target, ratios."""
        errors = [abs(utilization - target) for _, utilization in self.windows(since, until)]
        return sum(errors) / len(errors)

    def settled(self, band: Band, event: float, hold: float = 10.0) -> float:
        """Seconds from an event to the first 1-s window from which on the next `hold` seconds are in the band."""
        windows = self.windows(event)
        for index, (start, _) in enumerate(windows):
            rest = [u for s, u in windows[index:] if s <= start + hold]
            if windows[-1][0] >= start + hold and all(utilization in band for utilization in rest):
                return start - event
        return math.inf


@dataclass
class Burner:
    """The sensor and the workers of one regulator on a plant."""

    plant: Plant
    reach: float
    lease: float
    capacity: float
    own: float = 0.0
    effort: float = 0.0
    expires: float = 0.0
    restarts: int = 0
    fault: str = ""
    """Makes samples unreadable while it is set."""
    closed: bool = False
    cpus: frozenset[int] = frozenset()
    cost: float = 0.0
    """CPUs that the process uses beside its effort."""
    takes: float = 0.0
    """Seconds that a sample takes."""
    throttling: Throttling | None = None

    def demand(self, now: float) -> float:
        return self.cost + (min(self.effort, self.reach) if now < self.expires else 0.0)

    def apply(self, command: Command) -> None:
        self.effort = command.effort
        self.expires = self.plant.now + self.lease

    def close(self) -> None:
        self.effort = 0.0
        self.closed = True

    def sample(self) -> Sample:
        self.plant.advance(self.plant.now + self.takes)
        if self.fault:
            raise UnreadableError(self.fault)
        quantum = self.plant.quantum
        idle = math.floor(self.plant.idle / quantum) * quantum if quantum else self.plant.idle
        return Sample(
            at=self.plant.now,
            cpus=self.cpus or frozenset(range(self.plant.cpus)),
            capacity=self.capacity,
            reach=self.reach,
            own=self.own,
            quantum=quantum,
            ticks=self.plant.now * self.plant.cpus,
            idle=idle,
            steal=math.floor(self.plant.steal / quantum) * quantum if quantum else self.plant.steal,
            throttling=self.throttling,
        )


def regulator(
    plant: Plant,
    band: Band | SetpointCell = Band(0.6, 0.7),
    law: Law[Any] = Adaptive(),
    *,
    interval: float = 0.1,
    reach: float | None = None,
    duration: float = 0.0,
    exit_at_end: bool = True,
    starting: float | None = None,
) -> tuple[Regulator, Burner]:
    """A regulator on a plant, with what it senses and burns through.

    Args:
        starting: seconds from its first sample until it is ready to run, in which its start keeps one CPU busy; None:
            it takes that sample itself.
    """
    burner = Burner(plant, reach if reach is not None else plant.cpus, lease_of(interval), plant.cpus)
    plant.burners.append(burner)
    first = None
    if starting is not None:
        first, burner.cost = burner.sample(), 1.0
        plant.advance(plant.now + starting)
        burner.cost = 0.0
    loop = Regulator(
        burner,
        Controller(law),
        burner,
        band if isinstance(band, SetpointCell) else SetpointCell(Setpoint(band)),
        interval=interval,
        scope=Scope.HOST,
        duration=duration,
        exit_at_end=exit_at_end,
        clock=plant.clock,
        first=first,
    )
    return loop, burner


def run(plant: Plant, loop: Regulator, seconds: float, seen: list[Snapshot] | None = None) -> None:
    """Let one regulator run its own loop for some seconds of the plant's time."""
    end = plant.now + seconds

    def wait(pause: float) -> bool:
        assert pause >= 0
        if seen is not None and loop.snapshot is not None:
            seen.append(loop.snapshot)
        plant.advance(min(plant.now + pause, end))
        return plant.now >= end - 1e-9

    close, loop._workers.close = loop._workers.close, lambda: None  # type: ignore[method-assign] # it goes on later
    try:
        loop.run(wait)
    finally:
        loop._workers.close = close  # type: ignore[method-assign] # as it was


def run_together(
    plant: Plant,
    loops: Sequence[Regulator],
    until: float,
    starts: Sequence[float],
    ends: Sequence[float] = (),
    seed: int = 1,
) -> list[tuple[float, tuple[float, ...]]]:
    """Run several loops, unsynchronised, until `until` seconds of the plant's time; each cycle comes a little late.

    A loop that has an end is gone then, as if killed. Returns the CPU-seconds of each burner of the plant over time.
    """
    gone = dict(zip(loops, ends, strict=False))
    spent = []
    jitter = random.Random(seed)
    order = itertools.count()
    queue = [(1000.0 + start, next(order), loop) for start, loop in zip(starts, loops, strict=True)]
    heapq.heapify(queue)
    while queue and queue[0][0] < 1000.0 + until:
        at, _, loop = heapq.heappop(queue)
        plant.advance(at)
        if plant.elapsed >= gone.get(loop, math.inf):
            continue
        loop.cycle()
        spent.append((plant.elapsed, tuple(burner.own for burner in plant.burners)))
        heapq.heappush(queue, (at + loop.pause + jitter.uniform(0, 0.004), next(order), loop))
    plant.advance(1000.0 + until)
    return spent
