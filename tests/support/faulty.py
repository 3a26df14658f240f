"""The program with a fault in it that breaks out when we say so, and the phases in which it does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import pytest
from program import LOADBAND, cpu_seconds, environment, free_port, get, metric, wait_until

PHASES = {
    "holding 60..70": {},
    # A worker more a second, from a few: the band is some ten seconds away.
    "settling": {"MIN": "60", "MAX": "70", "CONTROLLER": "step", "WORKERS": "3", "SLEEP_MS": "10"},
    # Wide, so that it is held whatever else runs here.
    "holding": {"MIN": "20", "MAX": "95"},
    "saturated": {"MIN": "97", "MAX": "99", "MAX_EFFORT": "300m"},
}
"""The settings that lead to a state and stay in it for some seconds."""

BREAK = signal.SIGUSR1
"""Makes the fault break out."""

_BEFORE = """
import signal, sys, time
broken = []
signal.signal(signal.SIGUSR1, lambda *_: broken.append(True))

def breaking(function):
    def sabotaged(*arguments, **named):
        if broken:
            raise RuntimeError("sabotaged")
        return function(*arguments, **named)
    return sabotaged

"""
_AFTER = "\nfrom loadband.__main__ import main; sys.exit(main())"
FAULTS = {
    "loop": "import loadband.regulator as at; at.judge = breaking(at.judge)",
    "worker": "import loadband.workers as at; at.Burner.turn = breaking(at.Burner.turn)",
    "server": "import loadband.serving as at; at._Listener.close_overdue = breaking(at._Listener.close_overdue)",
    "view": "import loadband.view as at; at.render = breaking(at.render)",
    "log": "import loadband.log as at; at.Journal.lines = breaking(at.Journal.lines)",
    "end": "import loadband.workers as at; at.Workers.close = lambda self: time.sleep(60)",
}
"""What breaks, as code. `end` needs no signal: nobody tells the workers to stop, and the end takes a minute."""


each_phase = pytest.mark.parametrize("phase", ["settling", "holding", "saturated"])


def faulty(fault: str) -> list[str]:
    """The command that runs the program with that fault."""
    return [sys.executable, "-c", _BEFORE + FAULTS[fault] + _AFTER]


@dataclass(frozen=True)
class Run:
    """The program while it runs, in a session of its own."""

    process: subprocess.Popen[bytes]
    """What was started: the program, or what starts it."""
    pid: int
    """Of the program itself."""
    port: int

    def metrics(self) -> str:
        return get(self.port, "/metrics")

    def metric(self, name: str) -> float:
        return metric(self.metrics(), name)

    def wait_for(self, state: str, seconds: float = 15) -> None:
        """Until it says that it is in a state (the first word is meant), and has burnt there."""
        wait_until(lambda: _burns_in(state.split(maxsplit=1)[0], self.metrics()), seconds, f"being {state}")

    def wait_until_gone(self, seconds: float = 2) -> int:
        """The exit code; nothing of the whole session is left then."""
        code = self.process.wait(seconds)
        wait_until(lambda: not _is_there(self.process.pid), 1, "that nothing of it is left")
        return code

    def used(self, seconds: float) -> float:
        """CPU-seconds that it uses in the next so many seconds, by the kernel's account."""
        before = cpu_seconds(self.pid)
        time.sleep(seconds)
        return cpu_seconds(self.pid) - before


def _burns_in(state: str, metrics: str) -> bool:
    own = re.search(r'^loadband_cpu_seconds_total{mode="own",scope="[a-z]+"} (.*)$', metrics, re.MULTILINE)
    return (
        metric(metrics, f'loadband_state{{state="{state}"}}') == 1
        and metric(metrics, "loadband_effort_cpus") > 0
        and own is not None
        and float(own[1]) > 0.1
    )


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def child_of(pid: int) -> int:
    """The only child of a process, once it has one."""
    children: list[str] = []

    def found() -> bool:
        with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123 - short
            children[:] = file.read().split()
        return bool(children)

    wait_until(found, 5, "having a child")
    return int(children[0])


@contextmanager
def running(
    phase: str,
    command: Sequence[str] = (LOADBAND,),
    *,
    below: bool = False,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    **settings: str,
) -> Iterator[Run]:
    """Start it, and wait until it is in a phase; whatever happens, it is gone afterwards.

    Args:
        phase: one of `PHASES`.
        command: what runs it.
        below: whether the command starts it as a child.
        stdin, stdout, stderr: as `subprocess` takes them.
        settings: beside those of the phase.
    """
    port = free_port()
    names = PHASES[phase] | {"LISTEN": f"127.0.0.1:{port}"} | settings
    process = subprocess.Popen(
        command,
        env=environment(names) | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=command[0] != "setsid",
    )
    try:
        run = Run(process, child_of(process.pid) if below else process.pid, port)
        run.wait_for(phase)
        yield run
    finally:
        if _is_there(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
