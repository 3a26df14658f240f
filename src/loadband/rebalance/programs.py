"""Child processes that can't outlive this one, and what is needed to run them."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self, TypeVar

START_SECONDS = 30.0
"""For a server to be ready."""
END_SECONDS = 10.0
"""For a program to end when asked to, before it is killed."""
LOOK_SECONDS = 0.05
_LAST_WORDS = 2000
"""Characters of a log that stand in a message."""
_DIES_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the program that wanted this one has ended")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""
"""Asks the kernel for SIGKILL when the parent ends (PR_SET_PDEATHSIG, prctl(2)), then becomes the program.

A wrapper, because what runs between fork and exec (subprocess' `preexec_fn`) can block in a process with threads.
"""
_FIRST_PORT = 20_000
"""Well-known servers listen below."""
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PORT_TRIES = 100

Value = TypeVar("Value")


class MissingError(Exception):
    """A program isn't installed; the message says which, and how to get it."""


class ProgramError(Exception):
    """A program doesn't start or ended by itself; the message has its last words."""


def find(package: str, *names: str) -> str:
    """Where a program is: the first of the names that is on PATH.

    Args:
        package: Debian's, for the message.
        names: of the program; distributions differ.

    Raises:
        MissingError: none is.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    raise MissingError(f"{names[0]} can't be found on PATH: on Debian and Ubuntu, apt install {package}")


def free_port() -> int:
    """A TCP port of the loopback address that nobody uses now.

    If possible, it isn't one of those that the kernel gives to outgoing connections: one of these could take it before
    the program for which it was found listens on it.
    """
    end = _first_outgoing_port()
    candidates = [
        _FIRST_PORT + secrets.randbelow(end - _FIRST_PORT) for _ in range(_PORT_TRIES if end > _FIRST_PORT else 0)
    ]
    for candidate in [*candidates, 0]:
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", candidate))
            port: int = listening.getsockname()[1]
            return port
    raise OSError(errno.EADDRINUSE, "all TCP ports of the loopback address are in use")


def _first_outgoing_port() -> int:
    try:
        return int(_PORT_RANGE.read_text().split()[0])
    except (OSError, ValueError):
        return 0


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without any LOADBAND_ variable, and with these (names without the prefix)."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADBAND_")}
    return clean | {f"LOADBAND_{name}": value for name, value in (settings or {}).items()}


class Program:
    """A child process that doesn't outlive this one.

    It is killed when the thread that started it ends, however that comes about. What it has started in its process
    group is killed once its own end is noticed.

    Args:
        command: the program and its arguments.
        log: a file for what it says; made, or emptied. None: nobody keeps it.
        settings: LOADBAND_ variables for it, names without the prefix.
        stdin: the file that is its standard input. None: it is empty.
        stdout: a file for its standard output, made, or emptied; the log gets the rest. None: the log gets both.

    Raises:
        ProgramError: it can't be started, because a file can't be opened, or there are too many processes. A command
            that can't be executed ends at once, and says so.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        stdin: Path | None = None,
        stdout: Path | None = None,
    ) -> None:
        self.command = list(command)
        self.log = log
        nothing = Path(os.devnull)
        wrapped = [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command]
        try:
            with ExitStack() as files:
                said = files.enter_context((log or nothing).open("wb"))
                self._process = subprocess.Popen(  # noqa: S603 - what the caller runs
                    wrapped,
                    env=environment(settings),
                    stdin=files.enter_context((stdin or nothing).open("rb")),
                    stdout=files.enter_context(stdout.open("wb")) if stdout else said,
                    stderr=said,
                    process_group=0,  # Ctrl-C is for this process, which ends its children in its own order
                )
        except OSError as error:
            raise ProgramError(f"{command[0]} can't be started: {error}") from error
        self._swept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process's id; the wrapper's becomes the program's."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._sweep()
        return code

    @property
    def outcome(self) -> int | None:
        """As `code`, but its process stays as a zombie, so that its CPU clock can still be read: until `stop`."""
        if self._process.returncode is not None:
            return self._process.returncode
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        self._sweep()
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    @property
    def ended(self) -> str:
        """How it ended, with its last words; empty while it runs."""
        code = self.code
        if code is None:
            return ""
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        words = self.last_words()
        return f"{Path(self.command[0]).name} {how}{': ' if words else ''}{words}"

    def last_words(self) -> str:
        """The end of its log."""
        try:
            return "" if self.log is None else self.log.read_text(errors="replace")[-_LAST_WORDS:].strip()
        except OSError:
            return ""

    def signal(self, number: int) -> None:
        """Send it a signal; nothing if it has ended."""
        if self.code is None:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; returns whether it has."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._sweep()
        return True

    def stop(self, patience: float | None = None) -> None:
        """Have it end, and wait until it is gone; may be called more than once.

        Args:
            patience: seconds that it may take before it is killed; None: `END_SECONDS`.
        """
        self.signal(signal.SIGTERM)
        if not self.wait(END_SECONDS if patience is None else patience):
            self._process.kill()
            self._process.wait()
            self._sweep()

    def _sweep(self) -> None:
        """Kill what is left of its process group. Once: later the group's number may be somebody else's."""
        if not self._swept:
            self._swept = True
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def wait_for(condition: Callable[[], Value | None], seconds: float, what: str, program: Program | None = None) -> Value:
    """Wait until a condition has a true value, and give that. An OSError counts as no value.

    Args:
        condition: what is asked again and again.
        seconds: how long at most.
        what: for people: `Prometheus to be ready`.
        program: whose end is the end of waiting.

    Raises:
        TimeoutError: it has none in time.
        ProgramError: the program ended.
    """
    deadline = time.monotonic() + seconds
    last = ""
    while True:
        try:
            if value := condition():
                return value
        except OSError as error:
            last = f": {error}"
        if program is not None and (ended := program.ended):
            raise ProgramError(ended)
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}{last}")
        time.sleep(LOOK_SECONDS)


class Server(ABC):
    """A server of our own: a program that is of use once it is ready."""

    def __init__(self) -> None:
        self.process: Program | None = None

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            ProgramError: it ended, with its last words.
            TimeoutError: it isn't ready in time.
        """

    def _launch(self, name: str, command: Sequence[str], log: Path, is_ready: Callable[[], bool]) -> None:
        """See `start`; the name is for people."""
        with ExitStack() as stack:
            process = stack.enter_context(Program(command, log))
            wait_for(is_ready, START_SECONDS, f"{name} to be ready", process)
            self.process = process
            stack.pop_all()

    def stop(self) -> None:
        """End it; may be called at any time, and more than once."""
        if self.process is not None:
            self.process.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
