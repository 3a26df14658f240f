"""Names the other processes that use most CPU time, for people.

It looks at processes only while others matter, in a thread of its own, and so rarely that it costs next to nothing. The
names are shown in the live view, in the log's summary, on the page and in systemd's status; never in a metric, where
each name would be a new series.

A process counts if the scope counts its CPU time (`Sensor.members`). Scope host: all visible processes, which in a
container are those of its PID namespace. Scope cpuset: those that may use one of the CPUs; the share of a process that
may use other CPUs too is an upper bound. Scope container: those in the control group and in the groups below it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from loadband.quantities import CpuSeconds, Snapshot, State

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two looks at the processes."""
IDLE_INTERVAL = 1.0
"""Seconds between two looks at the snapshot while no processes are looked at."""
MAX_COST = 0.002
"""CPUs that the looks may cost on average: with thousands of processes they become rarer."""
MIN_OTHER = 0.05
"""The ratio of other processes from which they are named, whatever the state is."""
MIN_SHARE = 0.005
"""The share, a ratio of the capacity, below which a process isn't named."""
MAX_NAMED = 3
MAX_NAME = 32
"""Characters of a name that are shown."""
MIN_EXPLAINED = 0.5
"""The part of `other` that visible processes must explain; below it, the sentence says that some aren't visible."""

Member = Callable[[int], bool]
"""Whether the scope counts the CPU time of a process, by PID."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process at one look."""

    name: str
    cpu_seconds: float
    """CPU time since its start, without that of its children."""


@dataclass(frozen=True, slots=True)
class Look:
    """All visible processes but this one."""

    at: float
    """Monotonic time, seconds."""
    processes: Mapping[tuple[int, float], Process]
    """By PID and start time, since PIDs are reused."""
    cost: float = 0.0
    """CPU-seconds that the look took."""


def look() -> Look:
    """Look at all processes now."""
    import psutil  # noqa: PLC0415 - costs 1.5 MiB, which a machine without other load doesn't need

    at, began, found = time.monotonic(), time.thread_time(), {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            with suppress(psutil.Error):
                key = process.pid, process.create_time()
                found[key] = Process(process.info["name"] or "?", times.user + times.system)
    return Look(at, found, time.thread_time() - began)


def shares(before: Look, after: Look, capacity: float, member: Member) -> dict[str, float]:
    """CPU time between two looks by name of process, as ratios of the capacity, largest first.

    Processes of the same name are summed. A process that started in between counts from its start; one that has ended
    isn't counted.

    Args:
        before: the earlier look.
        after: the later look.
        capacity: CPUs of the scope, > 0.
        member: which processes count; only asked for those that used CPU time.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for key, process in after.processes.items():
        earlier = before.processes.get(key)
        used = process.cpu_seconds - (earlier.cpu_seconds if earlier else 0.0)
        if used > 0 and member(key[0]):
            seconds[process.name] += used
    span = (after.at - before.at) * capacity
    largest_first = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return {name: used / span for name, used in largest_first} if span > 0 else {}


def sentence(other: float, found: Mapping[str, float]) -> str:
    """Who uses the CPUs: `other 41 %: stress-ng 38 %, java 3 %`.

    Args:
        other: what all other processes use by the sensor, a ratio of the capacity.
        found: what the visible ones use by name, ratios of the capacity, largest first.
    """
    named = [f"{_shown(name)} {_percent(min(share, other))}" for name, share in found.items() if share >= MIN_SHARE]
    if sum(found.values()) < MIN_EXPLAINED * other:
        unseen = "the rest isn't visible from here" if named else "by processes that aren't visible from here"
        named = [*named[: MAX_NAMED - 1], unseen]
    return f"other {_percent(other)}: {', '.join(named[:MAX_NAMED])}"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %"


def _shown(name: str) -> str:
    """A name as one line of bounded length without control characters."""
    printable = "".join(character if character.isprintable() else "?" for character in name)
    return printable if len(printable) <= MAX_NAME else f"{printable[:MAX_NAME]}..."


class Neighbours:
    """Adds to each snapshot which processes use the CPUs besides this one.

    The looks are taken by a thread that runs `run`. It isn't niced: on a busy machine, a niced thread that holds the
    interpreter's lock would make the control loop wait.

    Args:
        source: returns the latest snapshot, None before the first.
        members: returns which processes the scope counts at present.
        look: looks at all processes.
    """

    def __init__(
        self,
        source: Callable[[], Snapshot | None],
        members: Callable[[], Member],
        look: Callable[[], Look] = look,
    ) -> None:
        self._source = source
        self._members = members
        self._look = look
        self._before: tuple[Look, CpuSeconds] | None = None
        self._sentence = ""
        self._reported = ""

    def snapshot(self) -> Snapshot | None:
        """The latest snapshot, with the sentence of the last look."""
        snapshot = self._source()
        return replace(snapshot, others=self._sentence) if snapshot is not None and self._sentence else snapshot

    def turn(self) -> float:
        """Look at the processes if others matter now; returns the seconds until the next turn."""
        snapshot = self._source()
        if snapshot is None or snapshot.reading is None:
            return IDLE_INTERVAL
        if not _others_matter(snapshot):
            self._before, self._sentence = None, ""
            return IDLE_INTERVAL
        try:
            now = self._look()
            if self._before is not None:
                self._sentence = self._compare(*self._before, now, snapshot)
        except Exception as error:  # noqa: BLE001 - the /proc of a sandbox may surprise psutil; the run goes on
            self._before, self._sentence = None, ""
            self._report(error)
            return INTERVAL
        self._before = now, snapshot.counts.cpu
        return max(INTERVAL, now.cost / MAX_COST)

    def run(self, stop: threading.Event) -> None:
        """Take turns until told to stop."""
        pause = 0.0
        while not stop.wait(pause):
            pause = self.turn()

    def _compare(self, before: Look, then: CpuSeconds, after: Look, snapshot: Snapshot) -> str:
        """The sentence about the time between two looks; the last one if no CPU time was counted in it."""
        assert snapshot.reading is not None  # noqa: S101 - for the type checker
        now = snapshot.counts.cpu
        used = now.other - then.other
        total = used + now.own - then.own + now.steal - then.steal + now.idle - then.idle
        if total <= 0:
            return self._sentence
        return sentence(used / total, shares(before, after, snapshot.reading.capacity, self._members()))

    def _report(self, error: Exception) -> None:
        """Log why the processes can't be looked at; the same reason once."""
        if self._reported != repr(error):
            self._reported = repr(error)
            log.warning("other processes can't be named: %s", self._reported)


def _others_matter(snapshot: Snapshot) -> bool:
    yields = snapshot.verdict.state is State.YIELDING
    return yields or (snapshot.reading is not None and snapshot.reading.other >= MIN_OTHER)
