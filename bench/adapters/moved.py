"""What the tools' own logs say that they moved, to compare with what was recorded. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Moved = tuple[str, str]
"""A slice and its destination."""

_LINE = re.compile(r"^(?P<at>\d+\.\d+) \w+ \S+ (?P<said>.*)$", re.MULTILINE)
_STABILIZED = re.compile(r"^Migration of (?P<slice>\S+) from \S+ to (?P<host>\S+) reduces standard deviation")
_CANDIDATE = re.compile(r"^Host (?P<host>\S+) evaluated as destination for (?P<slice>\S+)\. .* selected: (?P<yes>\w+)")
_LOAD = re.compile(r"^Host usage for (?P<host>\S+): host_cpu_usage_percent is (?P<percent>[\d.]+)\. ")

_STARTED = re.compile(r"^Balancing: Starting to migrate VM guest (?P<slice>\S+) from \S+ to (?P<host>\S+)\.$")


def _lines(log: str, begin: float, end: float) -> Iterator[str]:
    """What was said from one time to another, seconds since the epoch."""
    for found in _LINE.finditer(log):
        if begin <= float(found["at"]) <= end:
            yield found["said"]


def said_by_watcher(log: str, begin: float, end: float) -> list[Moved]:
    """The migrations that Watcher's strategies planned.

    workload_stabilization says each (WorkloadStabilization.do_execute). workload_balance says which hosts take the
    instance (filter_destination_hosts), and takes the one with the least usage (do_execute).
    """
    moved: list[Moved] = []
    loads: dict[str, float] = {}
    candidates: dict[str, list[str]] = {}

    def settle() -> None:
        moved.extend((name, min(hosts, key=lambda host: loads[host])) for name, hosts in candidates.items())
        candidates.clear()

    for said in _lines(log, begin, end):
        if found := _STABILIZED.match(said):
            moved.append((found["slice"], found["host"]))
        elif found := _LOAD.match(said):
            settle()  # the next audit
            loads[found["host"]] = float(found["percent"])
        elif (found := _CANDIDATE.match(said)) and found["yes"] == "True":
            candidates.setdefault(found["slice"], []).append(found["host"])
    settle()
    return moved


def said_by_proxlb(log: str, begin: float, end: float) -> list[Moved]:
    """The migrations that ProxLB started (Balancing._exec_rebalancing_vm)."""
    return [(found["slice"], found["host"]) for said in _lines(log, begin, end) if (found := _STARTED.match(said))]


SAID = {"watcher": said_by_watcher, "proxlb": said_by_proxlb}
"""By tool, what its log from one time to another says, seconds since the epoch."""


def disagreement(recorded: Sequence[Moved], said: Sequence[Moved], sure: int) -> str:
    """How a recording and the tool's log differ, for people; empty if they don't.

    Args:
        recorded: what the platform was asked for.
        said: what the tool's log says, in the same order.
        sure: how many of these the platform must have been asked for: what is said just before the end comes too late.
    """
    if len(recorded) >= sure and list(recorded) == list(said[: len(recorded)]):
        return ""

    def told(moves: Sequence[Moved]) -> str:
        return ", ".join(f"{name} to {host}" for name, host in moves) or "nothing"

    return f"recorded: {told(recorded)}; the tool's log: {told(said)}"
