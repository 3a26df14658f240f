"""Child processes that can't outlive this one, and what is needed to run them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

END_SECONDS = 10.0
"""For a program to end when asked to, before it is killed."""
LOOK_SECONDS = 0.05
_LAST_WORDS = 2000
"""Characters of a log that stand in a message."""
_DIES_WITH_PARENT = (
    "import ctypes, os, signal, sys;"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL);"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1);"
    "os.execvp(sys.argv[2], sys.argv[2:])"
)
"""Asks the kernel for SIGKILL when the parent ends (PR_SET_PDEATHSIG, prctl(2)), then becomes the program."""

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
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without any LOADBAND_ variable, and with these (names without the prefix)."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADBAND_")}
    return clean | {f"LOADBAND_{name}": value for name, value in (settings or {}).items()}


class Program:
    """A child process. It is killed when the thread that started it ends, however that comes about.

    Args:
        command: the program and its arguments.
        log: a file for what it says; made, or emptied. None: nobody keeps it.
        settings: LOADBAND_ variables for it, names without the prefix.

    Raises:
        ProgramError: it can't be started.
    """

    def __init__(
        self, command: Sequence[str], log: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.command = list(command)
        self.log = log
        wrapped = [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command]
        try:
            with (log or Path(os.devnull)).open("wb") as file:
                self._process = subprocess.Popen(  # noqa: S603 - what the caller runs
                    wrapped,
                    env=environment(settings),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    process_group=0,  # Ctrl-C is for this process, which ends its children in its own order
                )
        except OSError as error:
            raise ProgramError(f"{command[0]} can't be started: {error}") from error

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
        return self._process.poll()

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
        self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; returns whether it has."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """Have it end, and wait until it is gone; may be called more than once."""
        self._process.terminate()
        if not self.wait(END_SECONDS):
            self._process.kill()
            self._process.wait()


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
