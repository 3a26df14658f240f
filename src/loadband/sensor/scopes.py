"""The sensors, one per scope: each reads the cumulative counters, the capacity and the reach."""

from __future__ import annotations

import logging
import os
import sys
import time
from abc import ABC, abstractmethod
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from loadband.quantities import Sample, Scope
from loadband.sensor.cgroups import Cgroups, parse_membership
from loadband.sensor.files import UnreadableError, look, look_if_there, parse_cpu_list
from loadband.sensor.procstat import TICK, ProcStat
from loadband.sensor.reading import FROZEN_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadband.sensor.cgroups import Limit
    from loadband.sensor.procstat import CpuTimes


log = logging.getLogger(__name__)

_STEP = 0.002
"""Seconds between two looks for a movement of the counters."""


class SensorError(Exception):
    """The scope can't be measured here; the message is one sentence for people."""


class Sensor(ABC):
    """Looks at the CPUs of a scope.

    Everything is read for each sample, so hotplug, changes of a quota or a cpuset, and a move of this process to other
    control groups show in the next one.

    Raises:
        UnreadableError: if a file that says where the control groups are can't be read or understood.
    """

    def __init__(self, max_effort: float | None, root: Path) -> None:
        self._max_effort = inf if max_effort is None else max_effort
        self._root = root
        self._proc = root / "proc"
        self._stat = str(root / "proc/stat")
        self._online = str(root / "sys/devices/system/cpu/online")
        self._groups_file = str(root / "proc/self/cgroup")
        self._groups = look_if_there(self._groups_file, str)
        """The text of that file, by which a move to other groups is noticed."""
        self._cgroups = self._find()

    def sample(self) -> Sample:
        """Look at the counters now.

        Raises:
            UnreadableError: if a file can't be read or understood, or if this process was moved to control groups that
                can't be seen: what they allow isn't known.
        """
        groups = look_if_there(self._groups_file, str)
        if groups != self._groups:
            self._follow(groups)
        return self._sample()

    @abstractmethod
    def _sample(self) -> Sample:
        """See `sample`; the control groups are those of this process."""

    def _find(self) -> Cgroups:
        """The control groups of this process."""
        return Cgroups.visible(self._root)

    def _follow(self, groups: str | None) -> None:
        """Find the control groups again after a move; as long as that fails, every sample tries it again."""
        found = self._find()
        if self._cgroups.cpu and not found.cpu:
            raise UnreadableError("this process was moved to a control group that can't be seen from here")
        self._cgroups, self._groups = found, groups
        log.warning("this process was moved to another control group, whose limits count from now on")
        for warning in self.warnings:
            log.warning("%s", warning)

    def check(self, wait: Callable[[float], object] = time.sleep) -> None:  # noqa: ARG002 - some scopes need to wait
        """Check that the scope can be measured here.

        Args:
            wait: lets seconds pass.

        Raises:
            SensorError: if it can't, with the scope that can.
            UnreadableError: if a file can't be read or understood.
        """
        self.sample()

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

    def _sample(self) -> Sample:
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

    def check(self, wait: Callable[[float], object] = time.sleep) -> None:
        """Wait until the counters move: the /proc/stat of some sandboxes holds zeros or other constants."""
        first, waited = self.sample(), 0.0
        while self.sample().ticks == first.ticks:
            if waited > FROZEN_AFTER:
                what = "didn't count anything for a moment" if first.ticks else "holds nothing but zeros"
                raise SensorError(f"{self._stat} {what}, as in some sandboxes: {self._instead()}")
            wait(_STEP)
            waited += _STEP

    def _instead(self) -> str:
        """Which scope can be measured here, as the end of a sentence."""
        try:
            open_sensor(Scope.CONTAINER, None, self._root)
        except SensorError:
            return "no scope can be measured here"
        return "use the scope container, which works here"

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

    def _find(self) -> Cgroups:
        found = super()._find()
        if found.accounting and found.accounting.is_root():
            raise UnreadableError(
                "this process runs in the machine's root control group, whose use is the host's: "
                "use the scope host, or start it in a container"
            )
        return found

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

    def _sample(self) -> Sample:
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
        sensor = _SENSORS[scope](max_effort, root)
        sensor.sample()
    except UnreadableError as error:
        raise SensorError(str(error)) from error
    return sensor
