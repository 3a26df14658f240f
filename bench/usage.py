"""Who used how much CPU time: the tool, the neighbour, all that the benchmark started, and everybody."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from typing import Self

import psutil

from bench.meter import tasks
from bench.recording import Usage

STEP = 1.0
"""Seconds between two readings."""
STARTING = 4
"""Number of readings during which the tool may still start processes."""


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants; empty if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class UsageMeter:
    """Reads the usage every second, on its own thread.

    Finding processes costs far more than reading what they used. So it looks for them only in the first seconds, while
    the tool starts them, and when asked to.

    Args:
        tool: process ID of the tool.
        neighbour: process ID of the neighbour; None without one.
    """

    def __init__(self, tool: int, neighbour: int | None) -> None:
        self._pids = (tool, neighbour)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self.taken: list[Usage] = []
        self.look_around()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def look_around(self) -> None:
        """Find the processes that exist now."""
        tool, neighbour = self._pids
        with self._lock:
            self._tool = family(tool)
            self._neighbour = family(neighbour) if neighbour else []
            self._all = family(os.getpid())

    def take(self) -> None:
        """Read it now."""
        with self._lock:
            self.taken.append(
                Usage(
                    at=time.monotonic(),
                    tool=_used(self._tool),
                    neighbour=_used(self._neighbour),
                    # Includes children that have ended: what they used isn't lost.
                    all_ours=_used(self._all) + sum(psutil.Process().cpu_times()[2:4]),
                    tasks=tasks(),
                )
            )

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            due += STEP
            self._stop.wait(max(due - time.monotonic(), 0.0))
            if len(self.taken) < STARTING:
                self.look_around()
            self.take()


def _used(processes: Iterable[psutil.Process]) -> float:
    used = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:2])
    return used
