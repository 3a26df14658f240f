"""Real containers of the image, started as users start them, and looked at from outside: podman and cgroup v1."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from program import free_port, get, metric, wait_until

ROOT = Path(__file__).parents[2]
CGROUPS = Path("/sys/fs/cgroup")
BUILT_HERE = "localhost/loadband:test"
PORT = 10670


def podman(*arguments: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
    return done


@functools.cache
def image() -> str:
    """The image under test: LOADBAND_IMAGE, else one that is built of this tree."""
    if shutil.which("podman") is None:
        pytest.skip("needs podman")
    if not (CGROUPS / "cpuacct").is_dir() or os.geteuid():
        pytest.skip("needs root and cgroup v1: what a container uses is read from there")
    given = os.environ.get("LOADBAND_IMAGE")
    if given:
        return given
    began = time.monotonic()
    build(BUILT_HERE)
    print(f"built {BUILT_HERE} in {time.monotonic() - began:.0f} s")
    return BUILT_HERE


def build(name: str, *flags: str, target: str = "") -> None:
    """Build as users do; what this machine's network needs comes in the environment's IMAGE_FLAGS.

    Args:
        name: the image's.
        flags: the builder's.
        target: a stage of the Dockerfile; empty: the regulator's image.
    """
    flags_here = " ".join([os.environ.get("IMAGE_FLAGS", ""), *flags])
    done = subprocess.run(
        ["make", "image", "BUILDER=podman", f"IMAGE={name}", f"IMAGE_FLAGS={flags_here}", f"TARGET={target}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def run(*arguments: str, flags: tuple[str, ...] = (), **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a container to its end."""
    return podman("run", "--rm", *flags, *_variables(settings), image(), *arguments, check=False)


def _variables(settings: dict[str, str]) -> list[str]:
    return [f"--env=LOADBAND_{name}={value}" for name, value in settings.items()]


@dataclass(frozen=True)
class Container:
    """One that was started."""

    name: str
    port: int
    """Where it publishes its metrics on the loopback interface."""

    @functools.cached_property
    def pid(self) -> int:
        """Of its first process, as the host counts."""
        return int(self.inspect()["State"]["Pid"])

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(podman("inspect", self.name).stdout)[0]
        return found

    def exit_code(self) -> int:
        return int(self.inspect()["State"]["ExitCode"])

    def metric(self, name: str) -> float:
        return metric(self.metrics(), name)

    def metrics(self) -> str:
        return get(self.port, "/metrics")

    def wait_for_band(self) -> None:
        wait_until(lambda: self.metric("loadband_in_band") == 1, 30, "the band")

    def group(self, controller: str) -> Path:
        """The directory of its control group on the host."""
        return self._groups[controller]

    @functools.cached_property
    def _groups(self) -> dict[str, Path]:
        groups: dict[str, Path] = {}
        for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups |= {name: CGROUPS / name / path.lstrip("/") for name in controllers.split(",")}
        return groups

    def usage(self) -> float:
        """CPU-seconds that it has used."""
        return int((self.group("cpuacct") / "cpuacct.usage").read_text()) / 1e9

    def throttling(self) -> tuple[int, int]:
        """Periods in which its quota held it back, and periods."""
        lines = (self.group("cpu") / "cpu.stat").read_text().splitlines()
        values = {name: int(value) for name, value in (line.split() for line in lines)}
        return values["nr_throttled"], values["nr_periods"]

    def processes(self) -> set[int]:
        """All its threads, as the host counts."""
        return {int(line) for line in (self.group("cpuacct") / "tasks").read_text().split()}

    def status(self, key: str) -> list[str]:
        """What the kernel says of its first process in /proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line for line in lines if line.startswith(f"{key}:")).split()[1:]

    def handles(self, number: signal.Signals) -> bool:
        """Whether it has a handler for a signal, which it would ignore as PID 1 otherwise."""
        return bool(int(self.status("SigCgt")[0], 16) >> (number - 1) & 1)


@contextmanager
def running(*arguments: str, flags: tuple[str, ...] = (), **settings: str) -> Iterator[Container]:
    """Start a container; whatever happens, it is gone afterwards."""
    container = Container(f"loadband-test-{uuid.uuid4().hex[:12]}", free_port())
    network = () if "--network=none" in flags else (f"--publish=127.0.0.1:{container.port}:{PORT}",)
    try:
        podman(
            "run", "--detach", f"--name={container.name}", *network, *flags, *_variables(settings), image(), *arguments
        )
        yield container
    finally:
        podman("rm", "--force", "--time=0", container.name)


class UsageMeter:
    """Reads the CPU use of a container's control group every 100 ms, from outside and from a thread of its own."""

    STEP = 0.1

    def __init__(self, container: Container) -> None:
        self._container = container
        self._marks: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._marks.append((time.monotonic(), self._container.usage()))
            due += self.STEP
            self._stop.wait(max(due - time.monotonic(), 0.0))

    def windows(self, since: float, until: float, cpus: float) -> list[tuple[float, float]]:
        """Start and share of a number of CPUs, of windows of 1 s that slide by one step."""
        marks = [mark for mark in self._marks if since <= mark[0] <= until]
        steps = round(1 / self.STEP)
        return [
            (start, (used - had) / (end - start) / cpus)
            for (start, had), (end, used) in zip(marks, marks[steps:], strict=False)
        ]
