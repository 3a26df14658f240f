"""The compared tools, and how each is asked to hold a share of this machine's CPUs."""

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
    """Lower and upper edge, in percent of the capacity."""
    cpus: int
    """Number of CPUs of the machine, or of the part of it that may be used."""
    quota: float | None = None
    """CPUs of the group's quota; None without one."""
    pinned: bool = False
    """Whether only some of the machine's CPUs may be used."""
    workers: int | None = None
    """Number of threads or processes that burn; None lets the tool choose."""
    port: int = 0
    """A free port, for a tool that serves metrics."""
    burnt: Path | None = None
    """File for the CPU time of the burn calls; see `bench.burning`."""
    slices: int = 1
    """Number of regulators that share the work."""
    latch: float | None = None
    """Seconds after which the regulators latch; None for never."""
    profile: Path | None = None
    """A moving band, in place of `band`."""

    @property
    def capacity(self) -> float:
        """Number of CPUs that the band is a percentage of."""
        return self.quota or self.cpus

    @property
    def burners(self) -> int:
        """Number of processes that an operator would start: one per CPU, unless the scene asks for another number."""
        return self.workers or math.ceil(self.capacity)

    def each(self) -> int:
        """Return the whole percentage of a CPU that each burner must use to reach the middle of the band."""
        return round(sum(self.band) / 2 * self.capacity / self.burners)


@dataclass(frozen=True, slots=True)
class Launch:
    """A command, and the variables that it adds to the environment."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def shown(self) -> str:
        """Return the command as one would type it."""
        variables = [f"{name}={value}" for name, value in self.environment.items() if name != "LOADBAND_LISTEN"]
        command = [Path(self.command[0]).name, *self.command[1:]]
        return " ".join([*variables, *command])


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that loads CPUs."""

    name: str
    program: str
    """A path, or a name on PATH."""
    launch: Callable[[Task], Launch]
    """Returns the command for a task; raises CannotError if the tool can't do it."""
    about: str

    @property
    def found(self) -> bool:
        """Whether the tool is installed."""
        return shutil.which(self.program) is not None

    def version(self) -> str:
        """Return the version that the tool reports."""
        run = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - one of TOOLS
        found = re.search(r"\d+(\.\d+)+", run.stdout + run.stderr)
        return found[0] if found else "(unknown version)"


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
    if task.burnt:
        command = [sys.executable, "-m", "bench.burning", str(task.burnt)]
    elif task.slices > 1:
        command = [sys.executable, "-m", "bench.slices", str(task.slices)]
    return Launch(command, {f"LOADBAND_{name}": value for name, value in settings.items()})


def _ancestor(task: Task) -> Launch:
    """Launch with the numbers of the ancestor's own example: 10 threads, 2 per step, 10 ms.

    With many threads each sleeps longer, so that all together burn the same.
    """
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
        raise CannotError("its load is a whole percentage of a CPU for each process")
    return Launch(["stress-ng", "--quiet", "--cpu", str(task.burners), "--cpu-load", str(task.each())])


def _lookbusy(task: Task) -> Launch:
    if task.workers is not None:
        raise CannotError("it assumes as many CPUs as it has processes")
    return Launch(["lookbusy", "--quiet", "--ncpus", str(task.burners), "--cpu-util", str(task.each())])


def _chaosblade(task: Task) -> Launch:
    if task.workers is not None:
        raise CannotError("it burns with one thread for each CPU")
    if task.quota or task.pinned:
        raise CannotError("what it holds is the utilization of the whole machine")
    percent = str(task.each())
    return Launch(["chaos_os", "create", "cpu", "fullload", "--cpu-count", str(task.burners), "--cpu-percent", percent])


TOOLS = (
    Tool("loadband", LOADBAND, _loadband, "this project, with its default settings and its server on"),
    Tool(
        "stress-ng",
        "stress-ng",
        _stress_ng,
        "open loop: --cpu-load is a share of each process' own time, which an operator has worked out",
    ),
    Tool(
        "lookbusy",
        "lookbusy",
        _lookbusy,
        "closed loop on the ticks of /proc/stat, one process per CPU; not in Debian, built from its source",
    ),
    Tool(
        "chaosblade",
        "chaos_os",
        _chaosblade,
        "closed loop on the ticks of /proc/stat, in turns of a second; chaos_os, built from chaosblade-exec-os",
    ),
    Tool(
        "ancestor",
        LOADBAND,
        _ancestor,
        "the law of the script that loadband grew out of (`CONTROLLER=step`): adds or removes threads once a second",
    ),
)


def environment(launch: Launch) -> dict[str, str]:
    """Return this process' environment without settings of loadband, plus the launch's variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADBAND_")}
    return clean | dict(launch.environment)
