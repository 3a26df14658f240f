"""Who else burns on a host: what is left of its busy time when all that is ours is taken off, and whose it is."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import psutil

from loadband.rebalance.events import Disturbance, Plan, Trouble
from loadband.rebalance.platforms.history import History
from loadband.rebalance.platforms.machine import Cpus

SUSPICIOUS = 0.4
"""From that share of the foreign load that spoils a run on, processes are looked at, so that they can be named."""
WORTH_NAMING = 0.25
"""Who burns less than that share of the foreign load isn't named."""
MOST_NAMES = 3
WORSE = 2.0
"""Foreign load that has grown by that factor is somebody else's, or worth another word."""
LOOKS = 3
"""That many looks are taken before anybody is accused, unless it is over sooner."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """A process that isn't ours."""

    pid: int
    name: str
    seconds: float
    """CPU-seconds between two looks."""
    cpu: int
    """Where it ran last."""
    may: Cpus
    """Where it may run."""

    def __str__(self) -> str:
        """As people read it: `yes (pid 4711)`."""
        return f"{self.name} (pid {self.pid})"


class Strangers:
    """Looks at all processes and says what each has used since the look before.

    A look takes some milliseconds on a machine with some hundred processes: it is for when something is wrong.
    """

    def __init__(self) -> None:
        self._before: dict[tuple[int, float], float] | None = None

    def look(self, ours: Collection[int]) -> Sequence[Stranger]:
        """The processes that used CPU time since the last look; empty at the first look.

        Args:
            ours: ids of processes of the run, left out.
        """
        before, self._before = self._before, {}
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
                    if before is not None and (spent := used - before.get(key, 0.0)) > 0:
                        may = frozenset(process.cpu_affinity())
                        found.append(Stranger(process.pid, process.name(), spent, process.cpu_num(), may))
            except psutil.Error:
                continue  # it ended meanwhile
        return found


class Ledger:
    """Holds the busy time of hosts against what is known to be ours, and accuses whoever burns the rest.

    Args:
        hosts: by name, their CPUs.
        plan: says how much is too much, and over which time.
        strangers: who looks at processes.
    """

    def __init__(self, hosts: Mapping[str, Cpus], plan: Plan, strangers: Strangers) -> None:
        self._hosts = hosts
        self._plan = plan
        self._ours = dict.fromkeys(hosts, 0.0)
        self._foreign = {name: History(plan.window) for name in hosts}
        self._strangers = strangers
        self._looks: deque[Sequence[Stranger]] = deque(maxlen=math.ceil(plan.window / plan.sample_interval))
        self._looked = 0
        """Looks in a row; the first one names nobody."""
        self._accused: dict[str, float] = {}
        """By host, the foreign load of the last accusation, CPUs."""

    def ours(self, host: str, seconds: float) -> None:
        """Count CPU-seconds that a slice or a program of the run has used on a host."""
        self._ours[host] += seconds

    def examine(self, at: float, busy: Mapping[str, float], pids: Collection[int]) -> Sequence[Disturbance]:
        """Look whether somebody else burns: one accusation a host for as long as it lasts, unless it gets much worse.

        Args:
            at: monotonic seconds.
            busy: by host, its busy CPU-seconds since the begin.
            pids: ids of all processes of the run.
        """
        for name, seconds in busy.items():
            self._foreign[name].add(at, seconds - self._ours[name])
        suspects = [
            name
            for name, history in self._foreign.items()
            if (history.rate(2 * self._plan.sample_interval) or 0.0) > SUSPICIOUS * self._most(name)
        ]
        self._looks.append(self._strangers.look(pids) if suspects else ())
        self._looked = self._looked + 1 if suspects else 0
        found = []
        for name, history in self._foreign.items():
            amount = history.rate() or 0.0
            if amount > max(self._most(name), WORSE * self._accused.get(name, 0.0)):
                if self._looked >= LOOKS or name not in suspects:
                    self._accused[name] = amount
                    found.append(self._accusation(name, amount))
            elif amount <= self._most(name) and name not in suspects:
                self._accused.pop(name, None)
        return found

    def _most(self, host: str) -> float:
        """What others may burn of a host, CPUs."""
        return self._plan.most_foreign * len(self._hosts[host])

    def _accusation(self, host: str, amount: float) -> Disturbance:
        who = self._named(host, amount)
        whoever = who or "processes that had ended before they could be named"
        share = 100 * amount / len(self._hosts[host])
        return Disturbance(
            at=time.time(),
            what=Trouble.FOREIGN_LOAD,
            host=host,
            who=who,
            amount=amount,
            detail=f"{whoever} took {share:.0f} % of {host} over {self._plan.window:g} s",
        )

    def _named(self, host: str, amount: float) -> str:
        """The busiest of the last window, those that were seen on this host first; empty if nobody is found."""
        cpus = self._hosts[host]
        sums: dict[tuple[bool, str], float] = {}
        for stranger in (each for look in self._looks for each in look if each.may & cpus):
            key = stranger.cpu in cpus, str(stranger)
            sums[key] = sums.get(key, 0.0) + stranger.seconds
        least = WORTH_NAMING * amount * self._plan.window
        big = sorted(
            (key for key, seconds in sums.items() if seconds >= least), key=lambda key: (not key[0], -sums[key])
        )
        return ", ".join(dict.fromkeys(name for _, name in big[:MOST_NAMES]))
