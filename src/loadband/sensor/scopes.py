"""The sensors, one per scope: each reads the cumulative counters, the capacity and the reach."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from loadband.quantities import Sample, Scope
from loadband.sensor.cgroups import Cgroups, parse_membership
from loadband.sensor.files import UnreadableError, look, parse_cpu_list
from loadband.sensor.procstat import TICK, ProcStat

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadband.sensor.cgroups import Limit
    from loadband.sensor.procstat import CpuTimes


class SensorError(Exception):
    """The scope can't be measured here; the message is one sentence for people."""


class Sensor(ABC):
    """Looks at the CPUs of a scope.

    The process's control groups are found once: if it is moved to others later, it has to be restarted. Everything else
    is read for each sample, so hotplug and changes of a quota or a cpuset show in the next one.
    """

    def __init__(self, cgroups: Cgroups, max_effort: float | None, root: Path) -> None:
        self._cgroups = cgroups
        self._max_effort = inf if max_effort is None else max_effort
        self._stat = str(root / "proc/stat")
        self._online = str(root / "sys/devices/system/cpu/online")
        self._proc = root / "proc"

    @abstractmethod
    def sample(self) -> Sample:
        """Look at the counters now.

        Raises:
            UnreadableError: if a file can't be read or understood.
        """

    def members(self) -> Callable[[int], bool]:
        """A test by PID: whether the scope counts the CPU time of that process at present.

        The test raises nothing; it returns False if that can't be found out, as for a process that has ended.

        Raises:
            UnreadableError: if a file can't be read or understood.
        """
        return lambda _pid: True

    @property
    def warnings(self) -> list[str]:
        """What the numbers don't include at present: sentences for people.

        Raises:
            UnreadableError: if a file can't be read or understood.
        """
        return [] if self._cgroups.cpu else ["no control group is visible: a CPU quota, if there is one, is not seen"]

    def _reach(self, limit: Limit | None, online: frozenset[int]) -> float:
        """The most CPUs that this process can burn."""
        cpuset = self._cgroups.cpus()
        return min(
            len(os.sched_getaffinity(0)),
            len(online),
            inf if cpuset is None else len(cpuset),
            inf if limit is None else limit.cpus,
            self._max_effort,
        )


class _ProcStatSensor(Sensor):
    """Idle time from /proc/stat.

    Idle time is exact there, truncated to a tick; busy time is only sampled at the kernel's tick.
    """

    def sample(self) -> Sample:
        limit = self._cgroups.limit()
        stat = look(self._stat, self._parse)
        cpus, times, quantum = stat.value
        return Sample(
            at=stat.at,
            cpus=cpus,
            capacity=len(cpus),
            reach=self._reach(limit, cpus),
            own=stat.own,
            quantum=quantum,
            ticks=times.total,
            idle=times.idle,
            iowait=times.iowait,
            steal=times.steal,
            throttling=self._cgroups.throttling(limit),
            source=stat.path,
        )

    @abstractmethod
    def _parse(self, text: str) -> tuple[frozenset[int], CpuTimes, float]:
        """The CPUs of the scope, their times, and the step of these in CPU-seconds."""


class _Host(_ProcStatSensor):
    """The machine, or what lxcfs shows of it."""

    def _parse(self, text: str) -> tuple[frozenset[int], CpuTimes, float]:
        stat = ProcStat.parse(text)
        return frozenset(stat.each), stat.machine(), TICK


class _Cpuset(_ProcStatSensor):
    """The CPUs that this process may use."""

    def _parse(self, text: str) -> tuple[frozenset[int], CpuTimes, float]:
        stat = ProcStat.parse(text)
        cpus = os.sched_getaffinity(0) & stat.each.keys()
        if not cpus:
            raise ValueError(
                "none of the CPUs that this process may use is in it (lxcfs renumbers them: use the scope host)"
            )
        return frozenset(cpus), stat.of(cpus), TICK * len(cpus)

    def members(self) -> Callable[[int], bool]:
        """Those that may use one of the CPUs, even if they run on others."""
        cpus = os.sched_getaffinity(0)

        def shares(pid: int) -> bool:
            try:
                return bool(os.sched_getaffinity(pid) & cpus)
            except OSError:
                return False

        return shares


class _Container(Sensor):
    """The process's control group against its limit.

    The usage of other processes, and of other threads of this one, shows up to a tick late on each CPU they run on.
    """

    @property
    def warnings(self) -> list[str]:
        unlimited = ["no CPU limit is visible: the container's capacity is its reach"]
        return super().warnings + ([] if self._cgroups.limit() else unlimited)

    def members(self) -> Callable[[int], bool]:
        """Those in the control group whose usage is read, and in the groups below it."""
        limit = self._cgroups.limit()

        def is_in(pid: int) -> bool:
            try:
                return self._cgroups.holds(limit, look(f"{self._proc}/{pid}/cgroup", parse_membership).value)
            except UnreadableError:
                return False

        return is_in

    def sample(self) -> Sample:
        limit = self._cgroups.limit()
        online = look(self._online, parse_cpu_list).value
        reach = self._reach(limit, online)
        usage = self._cgroups.usage(limit)
        return Sample(
            at=usage.at,
            cpus=online,
            capacity=limit.cpus if limit else reach,
            reach=reach,
            own=usage.own,
            quantum=TICK,
            ticks=usage.value,
            busy=usage.value,
            throttling=self._cgroups.throttling(limit),
            quota=limit.quota if limit else 0.0,
            source=usage.path,
        )


_SENSORS: dict[Scope, type[_Host | _Cpuset | _Container]] = {
    Scope.HOST: _Host,
    Scope.CPUSET: _Cpuset,
    Scope.CONTAINER: _Container,
}


def open_sensor(scope: Scope, max_effort: float | None, root: Path = Path("/")) -> Sensor:
    """Make the sensor of a scope, and check that it works.

    Args:
        scope: whose CPUs to look at.
        max_effort: LOADBAND_MAX_EFFORT, the most that may be burnt, CPUs, > 0; None: no limit.
        root: the directory that holds `proc` and `sys`.

    Raises:
        SensorError: if the scope can't be measured here.
    """
    if sys.platform != "linux":
        raise SensorError(f"CPU use is measured through Linux's /proc and control groups; this is {sys.platform}")
    try:
        cgroups = Cgroups.visible(root)
        if scope is Scope.CONTAINER and cgroups.accounting and cgroups.accounting.is_root():
            raise SensorError(
                "this process runs in the machine's root control group, whose use is the host's: "
                "use the scope host, or start it in a container"
            )
        sensor = _SENSORS[scope](cgroups, max_effort, root)
        sensor.sample()
    except UnreadableError as error:
        raise SensorError(str(error)) from error
    return sensor
