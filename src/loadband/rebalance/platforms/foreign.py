"""Who else burns on a host: processes that have nothing to do with the run, by name."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil

from loadband.rebalance.platforms.machine import Cpus


@dataclass(frozen=True, slots=True)
class Stranger:
    """A process that isn't ours."""

    pid: int
    name: str
    cpus: float
    """CPU-seconds per second, between two looks."""
    cpu: int
    """Where it ran last."""

    def __str__(self) -> str:
        """As people read it: `yes (pid 4711)`."""
        return f"{self.name} (pid {self.pid})"


class Strangers:
    """Looks at all processes and says what each has used since the look before.

    A look takes some milliseconds on a machine with some hundred processes: it is for when something is wrong.
    """

    def __init__(self) -> None:
        self._before: dict[tuple[int, float], float] = {}
        self._at: float | None = None

    def look(self, ours: Collection[int]) -> Sequence[Stranger]:
        """The processes that used CPU time since the last look, the busiest first; empty at the first look.

        Args:
            ours: ids of processes of the run, left out.
        """
        now = time.monotonic()
        before, at = self._before, self._at
        self._before, self._at = {}, now
        found = []
        for process in psutil.process_iter():
            if process.pid in ours:
                continue
            try:
                with process.oneshot():
                    used = process.cpu_times().user + process.cpu_times().system
                    key = process.pid, process.create_time()
                    self._before[key] = used
                    # One that came since the last look has used all that it has used since then.
                    if at is not None and (spent := used - before.get(key, 0.0)) > 0:
                        found.append(Stranger(process.pid, process.name(), spent / (now - at), process.cpu_num()))
            except psutil.Error:
                continue  # it ended meanwhile
        return sorted(found, key=lambda one: one.cpus, reverse=True)


def named(strangers: Sequence[Stranger], cpus: Cpus, amount: float) -> str:
    """Those that explain most of a host's foreign load, at most three of them; empty if nobody is found.

    Args:
        strangers: the busiest first.
        cpus: the host's.
        amount: of foreign load, CPUs: who burns less than a tenth of it isn't named.
    """
    here = [one for one in strangers if one.cpu in cpus and one.cpus >= amount / 10]
    return ", ".join(str(one) for one in here[:3])
