"""loadband as a program: started with a fixed effort, asked for another one over HTTP, ended."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from contextlib import suppress

import httpx

from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.machine import Cpus, confine, cpu_time

LEAST_EFFORT = 0.001
"""CPUs; LOADBAND_EFFORT takes no less."""
ASK_SECONDS = 2.0
"""For a regulator's answer."""
ANSWER_SECONDS = 0.05
"""For a regulator to be found up: a closed port of this machine refuses at once."""
END_SECONDS = 3.0
"""For a regulator to end; it promises 2."""
_DIES_WITH_PARENT = (
    "import ctypes, os, signal, sys;"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL);"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1);"
    "os.execv(sys.executable, [sys.executable, '-m', 'loadband'])"
)
"""Asks the kernel for SIGKILL when the parent ends (PR_SET_PDEATHSIG), then becomes loadband."""


class Regulator:
    """A running loadband that is an ordinary load of a fixed size.

    Args:
        effort: CPUs, >= 0.
        cpus: those that it may use.
        interval: its control period, as LOADBAND_INTERVAL takes it: a load of fixed size needs few rounds.
        listen: where it serves its metrics; None: nowhere.

    Raises:
        PlatformError: it can't be started.
    """

    def __init__(self, effort: float, cpus: Cpus, *, interval: str = "1s", listen: str | None = None) -> None:
        self._token = secrets.token_hex()
        self._control = f"127.0.0.1:{free_port()}"
        settings = {
            "EFFORT": f"{max(effort, LEAST_EFFORT):.6f}",
            "SCOPE": "cpuset",
            "INTERVAL": interval,
            "LISTEN": listen or "off",
            "CONTROL_LISTEN": self._control,
            "CONTROL_TOKEN": self._token,
            "LOG_LEVEL": "error",
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith("LOADBAND_")}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ours
                [sys.executable, "-c", _DIES_WITH_PARENT, str(os.getpid())],
                env=others | {f"LOADBAND_{name}": value for name, value in settings.items()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C is the run's: it ends the regulators in its own order.
                process_group=0,
            )
            confine(self.pid, cpus)
        except OSError as error:
            raise PlatformError(f"a regulator can't be started: {error}") from error
        self._used = 0.0

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self._process.pid

    @property
    def ended(self) -> str:
        """How it ended, a sentence; empty while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        return f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"

    def used(self) -> float:
        """Its CPU-seconds since its start; of one that ended, as last read."""
        # Not of one that ended: once it is reaped, the number may be somebody else's.
        if self._process.returncode is None:
            with suppress(OSError):
                self._used = cpu_time(self.pid)
        return self._used

    def answers(self) -> bool:
        """Whether it is up."""
        host, port = self._control.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        except OSError:
            return False
        return True

    def ask(self, effort: float) -> None:
        """Have it burn another amount, CPUs, >= 0.

        Raises:
            PlatformError: it doesn't answer, or refuses.
        """
        try:
            httpx.put(
                f"http://{self._control}/band",
                json={"effort": effort},
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=ASK_SECONDS,
                trust_env=False,  # a proxy has no business between us and this machine
            ).raise_for_status()
        except httpx.HTTPError as error:
            raise PlatformError(f"a regulator didn't take an effort of {effort:g} CPUs: {error}") from error

    def end(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it is gone, and kill it if it takes too long."""
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
