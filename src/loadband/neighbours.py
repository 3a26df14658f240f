"""Who the others are: the processes beside this one that use most of the CPU time, by name, for people.

Looked for only while others matter, off the control loop, and so rarely that it costs next to nothing. The names stand
in the live view, in the log's summary and on the page; never in a metric, whose labels they would multiply.

Scopes host and container: all processes in sight count, which in a container are those of its PID namespace. Scope
cpuset: only processes that may use one of this process's CPUs; of one that may use others, too, nobody knows where it
ran, so that its share is an upper bound.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from loadband.quantities import Scope, Snapshot, State

INTERVAL = 5.0
"""Seconds between two looks."""
SOON = 1.0
"""Seconds between two looks at the snapshot as long as it has no reading."""
MOST_COST = 0.002
"""CPUs that looking may cost: with very many processes it becomes rarer."""
MATTERS = 0.05
"""What others use of the capacity, a ratio, from which it is worth saying who they are."""
LEAST_SHARE = 0.005
"""A ratio; a process below that isn't named."""
NAMED = 3
LONGEST_NAME = 32
"""Characters."""
EXPLAINED = 0.5
"""What the processes in sight must explain of the others' time, a ratio, for the rest not to be called invisible."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process at one look."""

    name: str
    cpu_seconds: float
    """Used since its start, by itself: without its children."""


@dataclass(frozen=True, slots=True)
class Look:
    """All processes in sight but this one."""

    at: float
    """Monotonic time, seconds."""
    processes: Mapping[tuple[int, float], Process]
    """By PID and start: a PID is used again."""
    cost: float = 0.0
    """CPU-seconds that the look took."""


def look() -> Look:
    """Look at all processes now."""
    import psutil  # noqa: PLC0415 - costs memory and start-up time that no machine is worth that has no others

    at, began, found = time.monotonic(), time.thread_time(), {}
    for process in psutil.process_iter(["pid", "name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            with suppress(psutil.Error):
                key = process.pid, process.create_time()
                found[key] = Process(process.info["name"] or "?", times.user + times.system)
    return Look(at, found, time.thread_time() - began)


def shares(before: Look, after: Look, capacity: float) -> dict[str, float]:
    """What the processes of each name used between two looks, ratios of the capacity, the busiest first.

    A process that came in between counts from its start, one that has gone isn't counted.

    Args:
        before: the earlier look.
        after: the later one.
        capacity: CPUs, > 0.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for key, process in after.processes.items():
        earlier = before.processes.get(key)
        seconds[process.name] += max(process.cpu_seconds - (earlier.cpu_seconds if earlier else 0.0), 0.0)
    span = (after.at - before.at) * capacity
    busiest = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return {name: used / span for name, used in busiest if used > 0} if span > 0 else {}


def sentence(other: float, found: Mapping[str, float]) -> str:
    """Who the others are: `other 41 %: stress-ng 38 %, java 3 %`.

    Args:
        other: what they use together by the sensor, a ratio.
        found: what those in sight use, by name, ratios, the busiest first.
    """
    named = [f"{_shown(name)} {_percent(min(share, other))}" for name, share in found.items() if share >= LEAST_SHARE]
    if sum(found.values()) < EXPLAINED * other:
        named = [*named[: NAMED - 1], "the rest can't be seen from here"] if named else ["they can't be seen from here"]
    return f"other {_percent(other)}: {', '.join(named[:NAMED])}"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %"


def _shown(name: str) -> str:
    """A name as it is safe on a terminal, in a log and on a page's line."""
    printable = "".join(character if character.isprintable() else "?" for character in name)
    return printable if len(printable) <= LONGEST_NAME else f"{printable[:LONGEST_NAME]}..."


class Neighbours:
    """Adds to each snapshot who the others are, as a thread of its own finds out.

    Args:
        source: gives the latest snapshot, None before the first.
        look: looks at all processes.
    """

    def __init__(self, source: Callable[[], Snapshot | None], look: Callable[[], Look] = look) -> None:
        self._source = source
        self._look = look
        self._before: Look | None = None
        self._said = ""

    def snapshot(self) -> Snapshot | None:
        """The latest snapshot, with what is known of the others."""
        snapshot = self._source()
        return replace(snapshot, others=self._said) if snapshot is not None and self._said else snapshot

    def turn(self) -> float:
        """Look, if others matter now; gives the seconds until the next turn."""
        snapshot = self._source()
        if snapshot is None or snapshot.reading is None:
            return SOON
        if not _matter(snapshot):
            self._before, self._said = None, ""
            return INTERVAL
        before, self._before = self._before, self._look()
        if before is not None:
            found = shares(before, self._before, snapshot.reading.capacity)
            if snapshot.scope is Scope.CPUSET:
                found = _on(os.sched_getaffinity(0), found, self._before)
            self._said = sentence(snapshot.reading.other, found)
        return max(INTERVAL, self._before.cost / MOST_COST)

    def run(self, stop: threading.Event) -> None:
        """Take turns until told to stop."""
        pause = 0.0
        while not stop.wait(pause):
            pause = self.turn()


def _matter(snapshot: Snapshot) -> bool:
    yields = snapshot.verdict.state is State.YIELDING
    return yields or (snapshot.reading is not None and snapshot.reading.other >= MATTERS)


def _on(cpus: set[int], found: Mapping[str, float], seen: Look) -> dict[str, float]:
    """Those of the busiest that may use one of these CPUs; the others aren't in the scope."""
    kept: dict[str, float] = {}
    for name, share in found.items():
        if share < LEAST_SHARE or len(kept) == NAMED:
            break
        for (pid, _), process in seen.processes.items():
            with suppress(OSError):
                if process.name == name and os.sched_getaffinity(pid) & cpus:
                    kept[name] = share
                    break
    return kept
