"""The part of Proxmox's API that ProxLB uses, of a state: hosts as nodes, slices as virtual machines. Pure."""

from __future__ import annotations

import re
import threading
from typing import Any

from bench.adapters.lines import Counters, Move, State

HOUR = 3600.0
"""Seconds of life that `rrddata?timeframe=hour` covers."""
RECENT = 30.0
"""Seconds of life over which a node's CPU use is a mean. Proxmox broadcasts that of the last 10; 15 times as fast, that
is less than a mean of CPU counters can be known for. It is half of the shortest schedule, so that no round sees the
time before the one before."""
ROWS = 60
"""Of an hour: one a minute."""
GIB = 1 << 30
MEMORY, DISK, GUEST_MEMORY, GUEST_DISK = 1024 * GIB, 4096 * GIB, GIB, GIB
"""Bytes, so much that they never decide."""
VERSION = "9.0.3"
"""Of Proxmox VE: from 9.0 on ProxLB uses all of its features."""
FIRST_ID = 100
_MIGRATE = re.compile(r"^/nodes/(?P<node>[^/]+)/qemu/(?P<id>\d+)/migrate/?$")
_GUEST = re.compile(r"^/nodes/(?P<node>[^/]+)/qemu/(?P<id>\d+)/(?P<what>config|rrddata)$")
_TASK = re.compile(r"^/nodes/[^/]+/tasks/(?P<id>[^/]+)/status/?$")
_NODE = re.compile(r"^/nodes/(?P<node>[^/]+)/(?P<what>qemu|lxc|rrddata|version)$")


class UnknownError(LookupError):
    """The API that is played here has nothing there."""


class Cluster:
    """What the API shows, and the migrations that were asked for. Called by several threads.

    Args:
        faster: by how much the run's time is shorter than the API's.
    """

    def __init__(self, faster: float) -> None:
        self._faster = faster
        self._lock = threading.Lock()
        self._state: State | None = None
        self._counters = Counters(HOUR / faster)
        self._ids: dict[str, int] = {}
        self._born: dict[str, float] = {}
        """By slice, when it was first seen; those of the first state are taken to be older than an hour."""
        self._asked: list[Move] = []
        self._tasks: dict[str, Move] = {}

    def show(self, state: State) -> list[Move]:
        """Take a state; returns the migrations that were asked for since the one before."""
        with self._lock:
            first = self._state is None
            self._counters.add(state)
            self._state = state
            for one in state["slices"]:
                self._ids.setdefault(one["name"], FIRST_ID + len(self._ids))
                self._born.setdefault(one["name"], -float("inf") if first else state["at"])
            asked, self._asked = self._asked, []
            return asked

    @property
    def knows(self) -> bool:
        """Whether the CPU use of every guest is known."""
        with self._lock:
            names = [one["name"] for one in self._state["slices"]] if self._state else []
            return all(self._counters.mean(name, HOUR) is not None for name in names)

    def get(self, path: str) -> Any:
        """The answer's `data` to a GET of a path below /api2/json.

        Raises:
            UnknownError: there is nothing at that path.
        """
        with self._lock:
            if self._state is None:
                raise UnknownError("no state was shown yet")
            return self._get(path.rstrip("/"), self._state)

    def _get(self, path: str, state: State) -> Any:
        if path == "/access/permissions":
            rights = ("Datastore.Audit", "Sys.Audit", "VM.Audit", "VM.Migrate")
            return {"/": dict.fromkeys(rights, 1)}
        if path in {"/pools", "/cluster/ha/rules", "/cluster/ha/status/current"}:
            return []
        if path == "/nodes":
            return [self._node(host, state) for host in state["hosts"]]
        if found := _NODE.match(path):
            return self._of_node(found["node"], found["what"], state)
        if found := _GUEST.match(path):
            name = next((name for name, number in self._ids.items() if number == int(found["id"])), "")
            return {"tags": ""} if found["what"] == "config" else self._history(name, state)
        if found := _TASK.match(path):
            return self._task(found["id"], state)
        raise UnknownError(path)

    def _node(self, host: dict[str, Any], state: State) -> dict[str, Any]:
        guests = [one["name"] for one in state["slices"] if one["host"] == host["name"]]
        used = sum(self._counters.mean(name, RECENT / self._faster) or 0.0 for name in guests)
        return {
            "node": host["name"],
            "status": "online",
            # All that is on a node but the programs of the run itself, ProxLB's own among them.
            "cpu": used / host["cpus"],
            "maxcpu": max(round(host["cpus"]), 1),
            "mem": GIB,
            "maxmem": MEMORY,
            "disk": GIB,
            "maxdisk": DISK,
        }

    def _of_node(self, node: str, what: str, state: State) -> Any:
        if what == "version":
            return {"version": VERSION}
        if what != "qemu":
            return []  # no containers; and no pressure: the shipped mode reads none
        return [
            {
                "vmid": self._ids[one["name"]],
                "name": one["name"],
                "status": "running",
                "cpus": max(round(one["cpus"]), 1),
                "mem": GUEST_MEMORY,
                "maxmem": GUEST_MEMORY,
                "disk": 0,
                "maxdisk": GUEST_DISK,
            }
            for one in state["slices"]
            if one["host"] == node
        ]

    def _history(self, name: str, state: State) -> list[dict[str, Any]]:
        """Rows of an hour: a guest's CPU use, a ratio of its CPUs; rows from before its birth have none."""
        one = next((one for one in state["slices"] if one["name"] == name), None)
        if one is None:
            return []
        mean = self._counters.mean(name, HOUR / self._faster)
        known = min((state["at"] - self._born[name]) * self._faster / HOUR, 1.0) * ROWS
        use = {} if mean is None else {"cpu": mean / max(round(one["cpus"]), 1)}
        return [{"time": index * 60, **(use if index >= ROWS - known else {})} for index in range(ROWS)]

    def migrate(self, path: str, target: str) -> str:
        """Take a POST that migrates a guest; returns the task's id.

        Raises:
            UnknownError: there is no such guest on that node.
        """
        with self._lock:
            found = _MIGRATE.match(path)
            slices = self._state["slices"] if self._state else []
            name = next((one["name"] for one in slices if found and self._ids[one["name"]] == int(found["id"])), None)
            if found is None or name is None:
                raise UnknownError(path)
            move = {"slice": name, "destination": target, "reason": f"ProxLB: from {found['node']}"}
            self._asked.append(move)
            task = f"UPID:{found['node']}:{len(self._tasks):08X}:qmigrate:{found['id']}:"
            self._tasks[task] = move
            return task

    def _task(self, task: str, state: State) -> dict[str, Any]:
        move = self._tasks.get(task)
        if move is None:
            raise UnknownError(task)
        host = next((one["host"] for one in state["slices"] if one["name"] == move["slice"]), None)
        if host == move["destination"] or host is None:
            return {"type": "qmigrate", "status": "stopped", "exitstatus": "OK"}
        return {"type": "qmigrate", "status": "running"}
