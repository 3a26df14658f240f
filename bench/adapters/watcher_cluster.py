"""OpenStack's view of a state: hosts as compute nodes, slices as instances. Pure."""

from __future__ import annotations

import math
from typing import Any

from bench.adapters.lines import Counters, State

PLENTY = 1_000_000
"""Memory (MiB) and disk (GiB) of a node: so much that they never decide."""
OVERCOMMIT = 16.0
"""Nova's `cpu_allocation_ratio` as it used to be by default: virtual CPUs that a node takes for each of its CPUs."""


def nodes(state: State) -> list[dict[str, Any]]:
    """The fields of Watcher's `ComputeNode` for each host."""
    return [
        {
            "id": index,
            "uuid": host["name"],
            "hostname": host["name"],
            "vcpus": max(round(host["cpus"]), 1),
            "vcpu_reserved": 0,
            "vcpu_ratio": OVERCOMMIT,
            "memory": PLENTY,
            "memory_mb_reserved": 0,
            "memory_ratio": 1.0,
            "disk": PLENTY,
            "disk_gb_reserved": 0,
            "disk_ratio": 1.0,
        }
        for index, host in enumerate(state["hosts"])
    ]


def instances(state: State) -> list[dict[str, Any]]:
    """The fields of Watcher's `Instance` for each slice; `host` is the node that it is on."""
    return [
        {
            "uuid": one["name"],
            "name": one["name"],
            "host": one["host"],
            "vcpus": vcpus(one["cpus"]),
            "memory": 1,
            "disk": 1,
            "metadata": {},
        }
        for one in state["slices"]
    ]


def vcpus(cpus: float) -> int:
    """Virtual CPUs of a slice: as many as it can use."""
    return max(math.ceil(cpus - 1e-9), 1)


def usage(counters: Counters, name: str, cpus: float, period: float) -> float | None:
    """Percent of its CPUs that a node or an instance used, the mean over a period (seconds), 0..100; None: unknown."""
    mean = counters.mean(name, period)
    return None if mean is None else min(max(100.0 * mean / cpus, 0.0), 100.0)
