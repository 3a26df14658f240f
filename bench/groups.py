"""A control group with a CPU quota, made for one run and removed after it: plain cgroups, v1 or v2, as root only."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Period over which the kernel enforces a quota, in microseconds: the default of the kernel and of Kubernetes."""
REMOVE_SECONDS = 2.0
"""Seconds that a group has to become empty after its last process was killed."""


class CannotError(Exception):
    """A scene can't be played here, or not with this tool; the message is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Group:
    """A control group that limits what runs in it to a number of CPUs."""

    cpus: float
    """The quota, in CPUs."""
    directories: tuple[Path, ...]
    """The group's directory; for v1, one in each hierarchy."""
    usage_file: Path

    def usage(self) -> float:
        """Return the CPU-seconds that the group has used."""
        return usage_in(self.usage_file)

    def entered(self, command: Sequence[str]) -> list[str]:
        """Return a command that enters the group and then executes the given one."""
        enter = [f"echo $$ > {shlex.quote(str(directory / 'cgroup.procs'))}" for directory in self.directories]
        return ["sh", "-ec", "\n".join([*enter, 'exec "$@"']), "sh", *command]


def usage_in(path: Path) -> float:
    """Return the CPU-seconds in a `cpuacct.usage` (v1, ns) or a `cpu.stat` (v2, us, its first line)."""
    text = path.read_text()
    return int(text) / 1e9 if text.strip().isdigit() else int(text.split()[1]) / 1e6


@contextmanager
def limited(cpus: float) -> Iterator[Group]:
    """Create a group with a quota of that many CPUs, and remove it afterwards.

    Raises:
        CannotError: if none can be made here.
    """
    name = f"loadband-bench-{os.getpid()}"
    try:
        group = _make_v2(name, cpus) if (ROOT / "cgroup.controllers").exists() else _make_v1(name, cpus)
    except OSError as error:
        raise CannotError(
            f"no cgroup with a quota can be made here ({error.strerror}: {error.filename}): run as root"
        ) from error
    try:
        yield group
    finally:
        for directory in group.directories:
            _remove(directory)


def _make_v1(name: str, cpus: float) -> Group:
    # If cpu and cpuacct are one hierarchy, both are links to it, and both directories are the same.
    cpu, accounting = ROOT / "cpu" / name, ROOT / "cpuacct" / name
    cpu.mkdir(exist_ok=True)
    accounting.mkdir(exist_ok=True)
    (cpu / "cpu.cfs_period_us").write_text(str(PERIOD))
    (cpu / "cpu.cfs_quota_us").write_text(str(round(cpus * PERIOD)))
    return Group(cpus, (cpu, accounting), accounting / "cpuacct.usage")


def _make_v2(name: str, cpus: float) -> Group:
    (ROOT / "cgroup.subtree_control").write_text("+cpu")
    directory = ROOT / name
    directory.mkdir(exist_ok=True)
    (directory / "cpu.max").write_text(f"{round(cpus * PERIOD)} {PERIOD}")
    return Group(cpus, (directory,), directory / "cpu.stat")


def _remove(directory: Path) -> None:
    deadline = time.monotonic() + REMOVE_SECONDS
    while directory.exists():
        try:
            directory.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
