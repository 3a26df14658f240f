"""The installed program, run as users run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadband.rebalance.programs import environment, free_port

__all__ = [
    "LOADBAND",
    "cpu_seconds",
    "environment",
    "free_port",
    "get",
    "metric",
    "processes",
    "run",
    "running",
    "wait_until",
]

LOADBAND = str(Path(sys.executable).with_name("loadband"))


def run(*arguments: str, command: Sequence[str] = (LOADBAND,), **settings: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [*command, *arguments],
        env=environment({"LISTEN": "off"} | settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextmanager
def running(*arguments: str, command: Sequence[str] = (LOADBAND,), **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Start it; whatever happens, it is gone afterwards."""
    process = subprocess.Popen(
        [*command, *arguments],
        env=environment({"LISTEN": "off"} | settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def get(port: int, path: str, timeout: float = 5) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        error.close()  # it is an answer, too
        raise


def metric(text: str, name: str) -> float:
    """The value of a series as it stands in the text, labels included.

    Raises:
        LookupError: it isn't there (yet): some series wait for the first trustworthy reading.
    """
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    if not found:
        raise LookupError(f"no {name} in the metrics")
    return float(found[1])


def wait_until(condition: Callable[[], object], seconds: float = 10, what: str = "the condition") -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, LookupError):
            pass  # nobody listens yet, or there is no reading yet
        assert time.monotonic() < deadline, f"{what} was not met in {seconds:g} s"
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processes(badge: str) -> list[str]:
    """Command lines of all whose environment holds the badge."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if badge in (path / "environ").read_text(errors="replace"):
                found.append((path / "cmdline").read_text().replace("\0", " "))
        except OSError:
            pass  # it has ended, or isn't ours
    return found
