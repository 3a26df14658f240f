"""A simulated machine that the real sensor reads: its counters stand in files, and its clock is the sensor's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from plant import Burner, Plant
from sensor_roots import copy

from loadband.controller import Adaptive, Controller
from loadband.quantities import Band, Scope, Setpoint, Snapshot
from loadband.regulator import Regulator, lease_of
from loadband.sensor import files, open_sensor
from loadband.setpoint import SetpointCell

BAND = Band(0.6, 0.7)
RECORDED_CPUS = 256


class FiledPlant:
    """A plant, the files of /proc and /sys that it shows, and the real loop with the real sensor on them.

    Args:
        directory: where to put the files.
        cpus: those beyond the recorded ones look like these.
        scope: what the band is about. Of a container, all that burns here is in it.
        quota: CPUs that our control group may use.
        others: CPUs that everybody else asks for at a time (seconds); never none, since reading takes some.
    """

    def __init__(
        self, directory: Path, cpus: int, scope: Scope, quota: float | None, others: Callable[[float], float]
    ) -> None:
        self.plant = Plant(cpus, others)
        self.burner = Burner(self.plant, cpus, lease_of(0.1), cpus)
        self.plant.burners.append(self.burner)
        self.online = set(range(cpus))
        self.quota = quota
        self.damage: Callable[[], object] = lambda: None
        """What happens to the files after each time that they were written."""
        self.opening = self.reading = 0.0
        """Seconds that it takes to open the file of the counters, and to read it."""
        self.root = copy("v2-pod", directory, "256-cpus")
        self.stat = self.root / "proc/stat"
        self.usage = self.root / "sys/fs/cgroup/cpu.stat"
        lines = self.stat.read_text().splitlines()
        self._each = [line.split() for line in lines[1 : 1 + RECORDED_CPUS]]
        self._rest = "\n".join(lines[1 + RECORDED_CPUS :])
        (self.root / "sys/fs/cgroup/cpuset.cpus.effective").unlink()
        self.write()
        sensor = open_sensor(scope, None, self.root, limits_every=0.0)
        cell = SetpointCell(Setpoint(BAND))
        clock = self.plant.clock
        self.loop = Regulator(sensor, Controller(Adaptive()), self.burner, cell, interval=0.1, scope=scope, clock=clock)

    @property
    def snapshot(self) -> Snapshot:
        assert self.loop.snapshot
        return self.loop.snapshot

    def write(self) -> None:
        """Bring the files up to date, whatever became of them."""
        self.burner.reach = min(len(self.online), self.quota or len(self.online))
        idle, busy = int(100 * self.plant.idle), int(100 * self.plant.history[-1][1])
        lines = [
            f"{name} {int(user) + busy // len(self.online)} {nice} {system} {idle // len(self.online)} {' '.join(rest)}"
            for name, user, nice, system, _, *rest in map(self._line, sorted(self.online))
        ]
        whole = f"cpu  {1_000_000 + busy} 0 0 {idle} 0 0 0 0 0 0"
        _put(self.stat, "\n".join([whole, *lines, self._rest]) + "\n")
        _put(self.root / "sys/devices/system/cpu/online", ",".join(map(str, sorted(self.online))) + "\n")
        _put(self.root / "sys/fs/cgroup/cpu.max", f"{int(1e5 * self.quota) if self.quota else 'max'} 100000\n")
        _put(self.usage, f"usage_usec {int(1e6 * (1000 + self.plant.history[-1][1]))}\n{_COUNTS}")

    def _line(self, cpu: int) -> list[str]:
        return [f"cpu{cpu}", *self._each[cpu % RECORDED_CPUS][1:]]

    def cycle(self) -> None:
        """Let an interval pass, and one cycle come."""
        self.plant.advance(self.plant.now + 0.1)
        self.write()
        self.damage()
        self.loop.cycle()

    def run(self, seconds: float) -> None:
        for _ in range(round(10 * seconds)):
            self.cycle()

    def _own(self, _clock: int) -> float:
        """The first of the two clocks that the sensor reads: between opening and reading."""
        self._pass(self.opening)
        return self.burner.own

    def _monotonic(self) -> float:
        now = self.plant.now
        self._pass(self.reading)
        return now

    def _pass(self, seconds: float) -> None:
        if seconds:
            self.plant.advance(self.plant.now + seconds)
            self.write()

    @contextmanager
    def clocks(self) -> Iterator[None]:
        """Let the sensor see this machine's clocks and CPUs."""
        clocks = SimpleNamespace(
            clock_gettime=self._own,
            monotonic=self._monotonic,
            CLOCK_PROCESS_CPUTIME_ID=time.CLOCK_PROCESS_CPUTIME_ID,
        )
        with (
            mock.patch.object(files, "time", clocks),
            mock.patch.object(os, "sched_getaffinity", side_effect=lambda _: set(self.online)),
        ):
            yield


_COUNTS = "user_usec 0\nsystem_usec 0\nnr_periods 4711\nnr_throttled 42\nthrottled_usec 1500000\n"


def _put(path: Path, text: str) -> None:
    """Write a file in place: who has it open reads the new text."""
    path.write_text(text)


@contextmanager
def filed_plant(
    directory: Path,
    cpus: int = 2,
    scope: Scope = Scope.HOST,
    quota: float | None = None,
    others: Callable[[float], float] = lambda _: 0.005,
) -> Iterator[FiledPlant]:
    """A machine whose loop can be run; see `FiledPlant`."""
    machine = FiledPlant(directory, cpus, scope, quota, others)
    with machine.clocks():
        yield machine
