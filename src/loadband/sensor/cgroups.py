"""Finds and reads the control groups of this process: v1, v2, and both at once (cgroups(7)).

/proc/self/cgroup names the process's group in each hierarchy, /proc/self/mountinfo says which part of a hierarchy is
mounted where. Both are relative to the root of the process's cgroup namespace, so a group is visible through a mount
only if the mount's root is the group or one of its ancestors. A root such as `/../..` lies outside the namespace: the
names on the way down from there are unknown.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from loadband.quantities import Throttling
from loadband.sensor.files import Look, UnreadableError, look, look_if_there, parse_cpu_list, whole_number

_POINT = 4
"""The field of mountinfo that is the mount point, counted from 0."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted hierarchy, or a part of one."""

    root: PurePosixPath
    """The group that the mount shows at its top."""
    point: PurePosixPath
    """The mount point, relative to `/`."""
    kind: str
    """The file system's type: `cgroup` (v1) or `cgroup2`."""
    controllers: frozenset[str]
    """The controllers of a v1 hierarchy, and other mount options, which do no harm."""


def parse_mountinfo(text: str) -> list[Mount]:
    """The cgroup mounts of /proc/self/mountinfo (proc_pid_mountinfo(5)); of two on one mount point, the upper one.

    Only the lines about cgroup mounts must be well-formed: 9p, for one, writes its options with spaces in them.

    Raises:
        ValueError: if such a line is garbled, or no line is about a mount.
    """
    mounts: dict[str, Mount] = {}
    lines = _lines(text)
    if not any(" - " in line for line in lines):
        raise ValueError("no line is about a mount")
    for line in lines:
        place, _, filesystem = line.partition(" - ")
        fields = place.split(" ")
        kind, *rest = filesystem.split(" ")
        if kind in {"cgroup", "cgroup2"}:
            if len(fields) <= _POINT or len(rest) != 2:  # noqa: PLR2004 - source and options
                raise ValueError(f"the line of a mount of {kind} is garbled")
            root, point, options = fields[_POINT - 1], fields[_POINT], rest[1]
            mounts[point] = Mount(
                _unescape(root), _unescape(point).relative_to("/"), kind, frozenset(options.split(","))
            )
        elif len(fields) > _POINT:
            mounts.pop(fields[_POINT], None)  # another file system hides it
    return list(mounts.values())


def _lines(text: str) -> list[str]:
    """The lines of a file of the kernel, which ends each with a newline: other line separators may be part of names."""
    return text.removesuffix("\n").split("\n") if text else []


def parse_membership(text: str) -> dict[str, PurePosixPath]:
    """The process's group by controller, from /proc/self/cgroup; the v2 hierarchy has the empty name.

    Raises:
        ValueError: if a line is garbled.
    """
    membership: dict[str, PurePosixPath] = {}
    for line in _lines(text):
        fields = line.split(":", 2)
        if len(fields) != 3:  # noqa: PLR2004 - number, controllers and path
            raise ValueError("a line isn't a number, controllers and a path")
        _number, controllers, path = fields
        membership |= dict.fromkeys(controllers.split(","), PurePosixPath(path))
    return membership


def _unescape(path: str) -> PurePosixPath:
    return PurePosixPath(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path))


@dataclass(frozen=True, slots=True)
class Group:
    """A control group that this process can see."""

    name: PurePosixPath
    """As in /proc/self/cgroup: groups that belong together have the same name in all hierarchies."""
    path: Path
    """Its directory."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A quota of CPU bandwidth: quota and period in seconds, > 0."""

    group: Group
    quota: float
    period: float

    @property
    def cpus(self) -> float:
        """The quota in CPUs."""
        return self.quota / self.period


@dataclass(frozen=True, slots=True)
class Hierarchy(ABC):
    """The process's group and its visible ancestors in one hierarchy.

    Every method that reads a file raises UnreadableError if the file exists but can't be read or understood.
    """

    groups: tuple[Group, ...]
    """The process's own first; never empty."""
    controller: str
    """What names the hierarchy in /proc/PID/cgroup: one of its controllers; empty for version 2."""

    @abstractmethod
    def is_root(self) -> bool:
        """Whether the process's group is the root of the machine's hierarchy, not only of a namespace."""

    @abstractmethod
    def limit(self, group: Group) -> Limit | None:
        """A group's own quota; None if it has none."""

    @abstractmethod
    def usage(self, group: Group) -> Look[float]:
        """Cumulative CPU-seconds of all processes in a group."""

    @abstractmethod
    def throttling(self, group: Group) -> Throttling:
        """What bandwidth control has done to a group that has a quota."""

    @abstractmethod
    def cpus(self) -> frozenset[int] | None:
        """The CPUs that the process's group may use; None if the cpuset controller isn't enabled."""


class _V1(Hierarchy):
    """A hierarchy of version 1, with one or some of the controllers cpu, cpuacct and cpuset."""

    def is_root(self) -> bool:
        return (self.groups[0].path / "release_agent").exists()  # a file that only the root has

    def limit(self, group: Group) -> Limit | None:
        quota = look_if_there(f"{group.path}/cpu.cfs_quota_us", _parse_quota)
        if quota is None:
            return None
        return Limit(group, quota, look(f"{group.path}/cpu.cfs_period_us", _parse_microseconds).value)

    def usage(self, group: Group) -> Look[float]:
        return look(f"{group.path}/cpuacct.usage", lambda text: 1e-9 * whole_number(text))

    def throttling(self, group: Group) -> Throttling:
        keys = look(
            f"{group.path}/cpu.stat", lambda text: _parse_keys(text, "nr_periods", "nr_throttled", "throttled_time")
        )
        periods, throttled, nanoseconds = keys.value
        return Throttling(periods, throttled, 1e-9 * nanoseconds)

    def cpus(self) -> frozenset[int] | None:
        return look_if_there(f"{self.groups[0].path}/cpuset.effective_cpus", parse_cpu_list)


class _V2(Hierarchy):
    """The unified hierarchy; it counts usage in every group, even if its controllers aren't enabled."""

    def is_root(self) -> bool:
        return not (self.groups[0].path / "cgroup.events").exists()  # a file that only the root lacks

    def limit(self, group: Group) -> Limit | None:
        pair = look_if_there(f"{group.path}/cpu.max", _parse_cpu_max)
        return Limit(group, *pair) if pair else None

    def usage(self, group: Group) -> Look[float]:
        return look(f"{group.path}/cpu.stat", lambda text: 1e-6 * _parse_keys(text, "usage_usec")[0])

    def throttling(self, group: Group) -> Throttling:
        keys = look(
            f"{group.path}/cpu.stat", lambda text: _parse_keys(text, "nr_periods", "nr_throttled", "throttled_usec")
        )
        periods, throttled, microseconds = keys.value
        return Throttling(periods, throttled, 1e-6 * microseconds)

    def cpus(self) -> frozenset[int] | None:
        places = (f"{group.path}/cpuset.cpus.effective" for group in self.groups)
        return next((cpus for path in places if (cpus := look_if_there(path, parse_cpu_list))), None)


def _parse_microseconds(text: str) -> float:
    number = whole_number(text)
    if number <= 0:
        raise ValueError(f"{number} us isn't greater than 0")
    return 1e-6 * number


def _parse_quota(text: str) -> float | None:
    return None if text == "-1\n" else _parse_microseconds(text)


def _parse_cpu_max(text: str) -> tuple[float, float] | None:
    fields = text.split()
    if len(fields) != 2:  # noqa: PLR2004 - the two
        raise ValueError("it isn't a quota and a period")
    quota, period = fields
    return None if quota == "max" else (_parse_microseconds(quota), _parse_microseconds(period))


def _parse_keys(text: str, *names: str) -> tuple[int, ...]:
    """The named values of a flat keyed file: a name and a number on each line."""
    values = dict(line.partition(" ")[::2] for line in text.splitlines())
    if missing := set(names) - set(values):
        raise ValueError(f"no {' and no '.join(sorted(missing))}")
    return tuple(whole_number(values[name]) for name in names)


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The control groups of this process, as far as they are visible."""

    cpu: Hierarchy | None
    """Limits bandwidth."""
    accounting: Hierarchy | None
    """Counts usage; a hierarchy of its own in some v1 systems."""
    cpuset: Hierarchy | None

    @classmethod
    def visible(cls, root: Path) -> Cgroups:
        """Find the process's groups.

        Args:
            root: the directory that holds `proc` and `sys`.

        Raises:
            UnreadableError: if a file that says where they are exists but can't be read or understood.
        """
        membership = look_if_there(str(root / "proc/self/cgroup"), parse_membership) or {}
        mounts = look(str(root / "proc/self/mountinfo"), parse_mountinfo).value
        return cls(*(find(controller, mounts, membership, root) for controller in ("cpu", "cpuacct", "cpuset")))

    def limit(self) -> Limit | None:
        """The tightest quota on this process, the outermost of equal ones; None without one.

        Raises:
            UnreadableError: if a file exists but can't be read or understood; the other methods raise it, too.
        """
        if self.cpu is None:
            return None
        limits = [limit for group in reversed(self.cpu.groups) if (limit := self.cpu.limit(group))]
        return min(limits, key=lambda limit: limit.cpus, default=None)

    def throttling(self, limit: Limit | None) -> Throttling | None:
        """What bandwidth control has done to the group that has the limit; None without one."""
        return self.cpu.throttling(limit.group) if self.cpu and limit else None

    def usage(self, limit: Limit | None) -> Look[float]:
        """Cumulative CPU-seconds of all processes under the limit; without one, of the process's own group.

        Raises:
            UnreadableError: also if no hierarchy counts usage.
        """
        accounting, group = self._counted(limit)
        return accounting.usage(group)

    def holds(self, limit: Limit | None, membership: dict[str, PurePosixPath]) -> bool:
        """Whether `usage` includes a process, given its groups as `parse_membership` returns them.

        Raises:
            UnreadableError: if no hierarchy counts usage.
        """
        accounting, group = self._counted(limit)
        name = membership.get(accounting.controller)
        return name is not None and name.is_relative_to(group.name) and ".." not in name.relative_to(group.name).parts

    def _counted(self, limit: Limit | None) -> tuple[Hierarchy, Group]:
        """The group under the limit whose usage is counted, and its hierarchy."""
        if self.accounting is None:
            raise UnreadableError("CPU use isn't counted by control group here: neither cpuacct nor cgroup2 is visible")
        ours, *ancestors = self.accounting.groups
        return self.accounting, next((each for each in ancestors if limit and each.name == limit.group.name), ours)

    def cpus(self) -> frozenset[int] | None:
        """The CPUs that the cpuset allows; None if no cpuset is visible."""
        return self.cpuset.cpus() if self.cpuset else None


def find(
    controller: str, mounts: list[Mount], membership: dict[str, PurePosixPath], root: Path = Path("/")
) -> Hierarchy | None:
    """The hierarchy of a controller, through the mount that shows most ancestors of the process's group.

    A controller in a v1 hierarchy isn't in the v2 hierarchy, so v1 comes first.

    Args:
        controller: `cpu`, `cpuacct` or `cpuset`.
        mounts: all cgroup mounts.
        membership: the process's group by controller.
        root: the directory that the mount points are below.
    """
    v1 = [mount for mount in mounts if mount.kind == "cgroup" and controller in mount.controllers]
    v2 = [mount for mount in mounts if mount.kind == "cgroup2"]
    for version, key, candidates in (_V1, controller, v1), (_V2, "", v2):
        name = membership.get(key)
        chains = [_chain(name, mount, root) for mount in candidates if name]
        if groups := max(chains, key=len, default=()):
            return version(groups, key)
    return None


def _chain(name: PurePosixPath, mount: Mount, root: Path) -> tuple[Group, ...]:
    """A group and its ancestors, as far as a mount shows them; empty if it doesn't show the group."""
    if not name.is_relative_to(mount.root):
        return ()
    inside = name.relative_to(mount.root)
    top = root / mount.point
    if ".." in inside.parts or not (top / inside).is_dir():
        return ()
    return tuple(Group(mount.root / part, top / part) for part in (inside, *inside.parents))
