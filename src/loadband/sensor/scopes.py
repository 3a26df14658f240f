"""The sensors, one per scope: each reads the cumulative counters, the capacity and the reach."""

from __future__ import annotations

import logging
import os
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
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

    from loadband.quantities import Throttling
    from loadband.sensor.cgroups import Limit
    from loadband.sensor.procstat import CpuTimes


log = logging.getLogger(__name__)

LIMITS_EVERY = 0.5
"""Seconds between two looks at the limits of this process in the scopes host and cpuset. A look costs as much as all
the rest of a sample, and limits rarely change."""

_EARLY = 0.1
"""The part of LIMITS_EVERY by which a look may come early, so that jitter doesn't put it off by a whole interval."""

_STEP = 0.002
"""Seconds between two looks for a movement of the counters."""


class SensorError(Exception):
    """The scope can't be measured here; the message is one sentence for people."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What the control groups of this process allow."""

    at: float
    """When that was looked at, monotonic seconds."""
    limit: Limit | None
    """The tightest quota."""
    cpuset: frozenset[int] | None
    """The CPUs that the cpuset allows; None if no cpuset is visible."""
    throttling: Throttling | None
    """What has been done to the group that has the quota."""


class Sensor(ABC):
    """Looks at the CPUs of a scope.

    Counters are read for each sample, so hotplug shows in the next one. Changes of a quota or a cpuset, and a move of
    this process to other control groups, show in the next sample of the scope container, whose capacity they are, and
    within LIMITS_EVERY in the others.

    Args:
        max_effort: the most that may be burnt, CPUs, > 0; None: no limit.
        root: the directory that holds `proc` and `sys`.
        limits_every: seconds for which what is known of the limits is good enough.

    Raises:
        UnreadableError: if a file that says where the control groups are can't be read or understood.
    """

    _exact = False
    """Whether limits must be as new as the sample."""

    def __init__(self, max_effort: float | None, root: Path, limits_every: float) -> None:
        self._max_effort = inf if max_effort is None else max_effort
        self._root = root
        self._patience = 0.0 if self._exact else limits_every * (1 - _EARLY)
        self._limits: _Limits | None = None
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
        now = time.monotonic()
        if self._limits is None or now - self._limits.at >= self._patience:
            self._limits = self._look_at_limits(now)
        return self._sample(self._limits)

    def _look_at_limits(self, now: float) -> _Limits:
        groups = look_if_there(self._groups_file, str)
        if groups != self._groups:
            self._follow(groups)
        limit = self._cgroups.limit()
        return _Limits(now, limit, self._cgroups.cpus(), self._cgroups.throttling(limit))

    @abstractmethod
    def _sample(self, limits: _Limits) -> Sample:
        """See `sample`."""

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

    def _reach(self, limits: _Limits, online: frozenset[int]) -> float:
        """The most CPUs that this process may burn."""
        return min(self._cpus(limits, online), self._max_effort)

    def _cpus(self, limits: _Limits, online: frozenset[int]) -> float:
        """The most CPUs that this process could burn."""
        return min(
            len(os.sched_getaffinity(0)),
            len(online),
            inf if limits.cpuset is None else len(limits.cpuset),
            inf if limits.limit is None else limits.limit.cpus,
        )


class _ProcStatSensor(Sensor):
    """Idle time from /proc/stat.

    Idle time is exact there, truncated to a tick; busy time is only sampled at the kernel's tick.
    """

    def _sample(self, limits: _Limits) -> Sample:
        stat = look(self._stat, self._parse)
        cpus, times, quantum = stat.value
        return Sample(
            at=stat.at,
            cpus=cpus,
            capacity=len(cpus),
            reach=self._reach(limits, cpus),
            own=stat.own,
            quantum=quantum,
            ticks=times.total,
            idle=times.idle,
            iowait=times.iowait,
            steal=times.steal,
            throttling=limits.throttling,
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
        """Which scope has counters here, whether they move or not, as the end of a sentence."""
        try:
            open_sensor(Scope.CONTAINER, None, self._root)
        except SensorError:
            return "no scope can be measured here"
        return "try the scope container"

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

    _exact = True  # which group's usage is read depends on its limit, and so does what it is compared with

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
        unlimited = ["no CPU limit is visible: the container's capacity is all CPUs that it may use"]
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

    def _sample(self, limits: _Limits) -> Sample:
        limit = limits.limit
        online = look(self._online, parse_cpu_list).value
        usage = self._cgroups.usage(limit)
        return Sample(
            at=usage.at,
            cpus=online,
            capacity=limit.cpus if limit else self._cpus(limits, online),
            reach=self._reach(limits, online),
            own=usage.own,
            quantum=TICK,
            ticks=usage.value,
            busy=usage.value,
            throttling=limits.throttling,
            quota=limit.quota if limit else 0.0,
            source=usage.path,
        )


_SENSORS: dict[Scope, type[_Host | _Cpuset | _Container]] = {
    Scope.HOST: _Host,
    Scope.CPUSET: _Cpuset,
    Scope.CONTAINER: _Container,
}


def open_sensor(
    scope: Scope, max_effort: float | None, root: Path = Path("/"), limits_every: float = LIMITS_EVERY
) -> Sensor:
    """Make the sensor of a scope, and check that it works.

    Args:
        scope: whose CPUs to look at.
        max_effort: LOADBAND_MAX_EFFORT, the most that may be burnt, CPUs, > 0; None: no limit.
        root: the directory that holds `proc` and `sys`.
        limits_every: seconds between two looks at the limits of this process, where the scope allows that; >= 0.

    Raises:
        SensorError: if the scope can't be measured here.
    """
    if sys.platform != "linux":
        raise SensorError(f"CPU use is measured through Linux's /proc and control groups; this is {sys.platform}")
    try:
        sensor = _SENSORS[scope](max_effort, root, limits_every)
        sensor.sample()
    except UnreadableError as error:
        raise SensorError(str(error)) from error
    return sensor
