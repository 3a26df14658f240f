"""Several regulators as one tool: `python -m bench.slices COUNT` starts them with its settings and ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.meter import Mark, Meter
from bench.probes import Probe, Subject
from bench.recording import Curve, Spent, fairness, share_curves, used
from bench.tools import LOADBAND

STEP = 0.1
"""Seconds between two readings of what each regulator has used."""
FAR = 0
"""The CPU to which a regulator moves."""


def cpu_time(pid: int) -> float:
    """Return the CPU-seconds of a process, exact to the ns; the clock's number is computed as in Linux' posix-timers.h.

    Raises:
        OSError: if the process has ended.
    """
    return time.clock_gettime(~pid << 3 | 2)


class Shares(Probe):
    """Measures the share of each slice over time; kills or moves one when the scene says so."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._far = Meter(cpu=FAR)
        self._pids: list[int] = []
        self._used: list[float] = []
        self._spent: list[Spent] = []
        self._marks: dict[str, tuple[Mark, Mark]] = {}
        """At each event, the marks of the subject's meter and of the meter of the CPU FAR."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shares", daemon=True)
        self._thread.start()

    def at(self, event: str) -> None:
        """See `Probe`."""
        if event == "killed":
            psutil.Process(self._pids[0]).kill()
        elif event == "moves":
            for task in Path(f"/proc/{self._pids[0]}/task").iterdir():
                os.sched_setaffinity(int(task.name), {FAR})
        self._marks[event] = self.subject.meter.look(), self._far.look()
        if event == "until":
            self.close()
            self._judge()

    def close(self) -> None:
        """See `Probe`."""
        self._stop.set()
        self._thread.join()

    @property
    def curves(self) -> tuple[Curve, ...]:
        """See `Probe`."""
        return share_curves(self._spent, self.subject.meter.capacity)

    def _run(self) -> None:
        while not self._stop.wait(STEP):
            if len(self._pids) < self.subject.slices:
                children = psutil.Process(self.subject.pid).children()
                self._pids = sorted(child.pid for child in children)
                self._used = [0.0] * len(self._pids)
            for index, pid in enumerate(self._pids):
                try:
                    self._used[index] = cpu_time(pid)
                except OSError:
                    continue  # it was killed; what it has used stays the same
            if len(self._pids) == self.subject.slices:
                self._spent.append((time.monotonic(), tuple(self._used)))

    def _judge(self) -> None:
        until = self._marks["until"][0].at
        if "moves" not in self._marks:
            since = self._marks["killed" if "killed" in self._marks else "from"][0].at
            first = 1 if "killed" in self._marks else 0
            self.facts["fairness"] = fairness(used(self._spent, since, until)[first:])
            return
        (near, far), (near_moved, far_moved) = self._marks["from"], self._marks["moves"]
        near_later, far_later = self._marks["moved"]
        share = used(self._spent, near.at, near_moved.at)[0]
        meter = self.subject.meter
        before, after = meter.utilization(near, near_moved), meter.utilization(near_later, self._marks["until"][0])
        far_before = self._far.utilization(far, far_moved)
        far_after = self._far.utilization(far_later, self._marks["until"][1])
        self.facts |= {
            "share": 100 * share,
            "fall": 100 * abs(before - after - share),
            "rise": 100 * abs(far_after - far_before - share),
            "old": 100 * after,
            "new": 100 * far_after,
        }


def main(count: int) -> None:
    """Start the regulators, and end them when asked to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    slices: Sequence[subprocess.Popen[bytes]] = ()
    try:
        slices = [subprocess.Popen([LOADBAND]) for _ in range(count)]  # noqa: S603 - the program under test
        signal.pause()
    finally:
        for each in slices:
            each.terminate()
        for each in slices:
            each.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
