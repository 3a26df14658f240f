"""The tools that are compared, and how each is told to hold a share of the CPUs on this machine."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.groups import CannotError

LOADBAND = str(Path(sys.executable).with_name("loadband"))


@dataclass(frozen=True, slots=True)
class Task:
    """What a scene asks of a tool."""

    band: tuple[float, float]
    """Percent of the capacity."""
    cpus: int
    """CPUs of the machine, or of the part of it that is used."""
    quota: float | None = None
    """CPUs that the group may use; None without a limit."""
    pinned: bool = False
    """Whether only some of the machine's CPUs may be used."""
    workers: int | None = None
    """Threads or processes that shall burn; None lets the tool choose."""
    port: int = 0
    """Free, for a tool that serves metrics."""
    account: Path | None = None
    """Where to write what was burnt; see `bench.account`."""
    slices: int = 1
    """Regulators that share the work."""
    latch: float | None = None
    """Seconds after which they freeze; None: never."""
    profile: Path | None = None
    """A band that moves, instead of the other."""

    @property
    def capacity(self) -> float:
        """CPUs that the band is a share of."""
        return self.quota or self.cpus

    @property
    def burners(self) -> int:
        """Processes that an operator starts where the tool doesn't choose: one a CPU, unless asked otherwise."""
        return self.workers or math.ceil(self.capacity)

    def each(self) -> int:
        """Whole percent of one CPU that each of the burners has to take for the middle of the band."""
        return round(sum(self.band) / 2 * self.capacity / self.burners)


@dataclass(frozen=True, slots=True)
class Launch:
    """A command and its environment on top of ours."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def shown(self) -> str:
        """As one would type it."""
        variables = [f"{name}={value}" for name, value in self.environment.items() if name != "LOADBAND_LISTEN"]
        command = [Path(self.command[0]).name, *self.command[1:]]
        return " ".join([*variables, *command])


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that loads CPUs."""

    name: str
    program: str
    """Path, or a name on PATH."""
    launch: Callable[[Task], Launch]
    """Raises CannotError for a task that it can't do."""
    about: str

    @property
    def found(self) -> bool:
        """Whether it is installed."""
        return shutil.which(self.program) is not None

    def version(self) -> str:
        """What it says of itself."""
        run = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - ours
        found = re.search(r"\d+(\.\d+)+", run.stdout + run.stderr)
        return found[0] if found else "of an unknown version"


def _loadband(task: Task) -> Launch:
    low, high = task.band
    settings = {
        **({"PROFILE": str(task.profile)} if task.profile else {"MIN": f"{low:g}", "MAX": f"{high:g}"}),
        "LISTEN": f"127.0.0.1:{task.port}",
        **({"SCOPE": "container"} if task.quota else {"SCOPE": "cpuset"} if task.pinned else {}),
        **({"WORKERS": str(task.workers)} if task.workers else {}),
        **({"LISTEN": "off"} if task.slices > 1 else {}),
        **({"LATCH": f"{task.latch:g}s"} if task.latch else {}),
    }
    command = [LOADBAND]
    if task.account:
        command = [sys.executable, "-m", "bench.account", str(task.account)]
    elif task.slices > 1:
        command = [sys.executable, "-m", "bench.slices", str(task.slices)]
    return Launch(command, {f"LOADBAND_{name}": value for name, value in settings.items()})


def _ancestor(task: Task) -> Launch:
    """The numbers of its own example: 10 threads, 2 at a time, 10 ms; many threads sleep longer to burn the same."""
    of_loadband = _loadband(task)
    workers = task.workers or 10
    # A turn burns 1 ms.
    sleep = 10 if task.workers is None else 1 / (sum(task.band) / 200 * task.capacity / workers) - 1
    law = {"CONTROLLER": "step", "WORKERS": str(workers), "STEP": "2", "SLEEP_MS": f"{sleep:.0f}"}
    return Launch(
        of_loadband.command, {**of_loadband.environment, **{f"LOADBAND_{name}": value for name, value in law.items()}}
    )


def _stress_ng(task: Task) -> Launch:
    if task.each() < 1:
        raise CannotError("its load is whole percents of a CPU for each process")
    return Launch(["stress-ng", "--quiet", "--cpu", str(task.burners), "--cpu-load", str(task.each())])


def _lookbusy(task: Task) -> Launch:
    if task.workers is not None:
        raise CannotError("it takes the number of its processes for the number of CPUs")
    return Launch(["lookbusy", "--quiet", "--ncpus", str(task.burners), "--cpu-util", str(task.each())])


TOOLS = (
    Tool("loadband", LOADBAND, _loadband, "this project, with its default settings and its server on"),
    Tool(
        "stress-ng",
        "stress-ng",
        _stress_ng,
        "open loop: its --cpu-load is a share of each process' own time; an operator has worked out which",
    ),
    Tool("lookbusy", "lookbusy", _lookbusy, "closed loop on the ticks of /proc/stat, one process a CPU"),
    Tool(
        "ancestor",
        LOADBAND,
        _ancestor,
        "the law of loadband's ancestor (`CONTROLLER=step`): once a second threads are added or removed",
    ),
)


def environment(launch: Launch) -> dict[str, str]:
    """Ours without any setting of loadband's that it may hold, and with the launch's own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADBAND_")}
    return clean | dict(launch.environment)
