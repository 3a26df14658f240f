"""loadband as a program: started with a fixed effort, asked for another one over HTTP, ended."""

from __future__ import annotations

import secrets
import signal
import socket
import sys
from contextlib import suppress

from loadband.client import ControlClient, ControlError
from loadband.exits import Exit
from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.machine import Cpus, confine, cpu_time
from loadband.rebalance.programs import Program, ProgramError, free_port

LEAST_EFFORT = 0.001
"""CPUs; LOADBAND_EFFORT takes no less."""
ASK_SECONDS = 2.0
"""For a regulator's answer."""
ANSWER_SECONDS = 0.05
"""For a regulator to be found up: a closed port of this machine refuses at once."""


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
        token = secrets.token_hex()
        self._control = f"127.0.0.1:{free_port()}"
        self._client = ControlClient(f"http://{self._control}", token, ASK_SECONDS)
        settings = {
            "EFFORT": f"{max(effort, LEAST_EFFORT):.6f}",
            "SCOPE": "cpuset",
            "INTERVAL": interval,
            "LISTEN": listen or "off",
            "CONTROL_LISTEN": self._control,
            "CONTROL_TOKEN": token,
            "LOG_LEVEL": "error",
        }
        try:
            self._program = Program([sys.executable, "-m", "loadband"], settings=settings)
            confine(self.pid, cpus)
        except (ProgramError, OSError) as error:
            raise PlatformError(f"a regulator can't be started: {error}") from error
        self._used = 0.0

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self._program.pid

    @property
    def ended(self) -> str:
        """How it ended, for people; empty while it runs."""
        return self._program.ended

    @property
    def refused(self) -> bool:
        """Whether it ended because it couldn't begin: another program has taken its port, for one."""
        return self._program.code == Exit.BAD_INPUT

    def used(self) -> float:
        """Its CPU-seconds since its start; of one that ended, as last read."""
        # Not of one that ended: once it is reaped, the number may be somebody else's.
        if not self._program.ended:
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
            self._client.set_effort(effort)
        except ControlError as error:
            raise PlatformError(f"a regulator didn't take an effort of {effort:g} CPUs: {error}") from error

    def end(self) -> None:
        """Ask it to end."""
        self._program.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._program.signal(signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Wait until it is gone, at most so long; returns whether it is."""
        return self._program.wait(seconds)
