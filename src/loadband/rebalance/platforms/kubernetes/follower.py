"""A cluster that is only followed: its nodes, and the moves of everybody's pods. It is read, and nothing is changed."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from loadband.rebalance.events import Event, Part, Trouble
from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.kubernetes.cluster import RefusedError, Seen, Watching
from loadband.rebalance.platforms.kubernetes.owners import Owners
from loadband.rebalance.platforms.kubernetes.states import NodeState
from loadband.rebalance.troubles import Troubles

RESOLUTION = 0.5
"""Seconds: the times of moves are those at which the watch told of them."""
BEGIN_SECONDS = 60.0
"""For all watches to begin."""
LOST_SECONDS = 3.0
"""Without an answer of the API server until that counts."""
API_SERVER = "kube-apiserver"


class Follower:
    """See `Followed`.

    Args:
        api: the API server.
        namespaces: whose pods are followed; none: everybody's.
        nodes: a label selector; empty: all.
        clock: seconds since the epoch.
    """

    resolution = RESOLUTION

    def __init__(
        self, api: Watching, namespaces: Sequence[str], nodes: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._api = api
        self._namespaces = tuple(namespaces)
        self._selector = nodes
        self._clock = clock
        self._owners = Owners()
        self._nodes: Mapping[str, NodeState] = {}
        self._arrived: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        self._lost: dict[str, str] = {}
        """By watch that sees nothing, why."""
        self._outages = Troubles(LOST_SECONDS)
        self._illnesses = Troubles(0.0)
        self._events: list[Event] = []

    def start(self) -> None:
        """Begin to watch, and wait until everything was listed once.

        Raises:
            PlatformError: the API server doesn't answer, the account may not watch, or there is no node.
        """
        try:
            nodes = self._api.nodes(self._selector)
            if not nodes:
                raise PlatformError(f"there is no node{f' with the labels {self._selector}' if self._selector else ''}")
        except (RefusedError, OSError) as error:
            raise PlatformError(str(error)) from error
        self._notice(Seen(self._clock(), nodes=nodes))
        self._arrived = self._api.follow_all(self._namespaces, self._selector)
        # Of each namespace pods and events, and the nodes.
        missing = 1 + 2 * max(len(self._namespaces), 1)
        begun: set[str] = set()
        while len(begun) < missing:
            try:
                seen = self._arrived.get(timeout=BEGIN_SECONDS)
            except queue.Empty:
                raise PlatformError(f"the API server lists nothing for {BEGIN_SECONDS:g} s") from None
            if seen.trouble and seen.watch not in begun:
                raise PlatformError(f"{seen.watch} can't be watched: {seen.trouble}")
            begun |= {seen.watch} - {""}
            self._notice(seen)

    def describe(self) -> Part:
        """What it is, for the report."""
        settings = {
            "namespaces": ", ".join(self._namespaces) or "all",
            "selector of nodes": self._selector or "all",
            "times of moves": "when the watch told of them",
        }
        version = next((node.version for node in self._nodes.values()), "")
        return Part(name="kubernetes", version=version, settings=settings)

    def hosts(self) -> Collection[str]:
        """The names of the nodes that there are now."""
        return self._nodes.keys()

    def poll(self) -> Sequence[Event]:
        """What has happened since the last call: moves, pressure, nodes that aren't ready, and outages."""
        for _ in range(self._arrived.qsize()):
            self._notice(self._arrived.get())
        now = self._clock()
        why = next(iter(self._lost.values()), "")
        wrong = [("", API_SERVER, f"nothing is seen of the cluster: {why}")] if self._lost else []
        self._events += self._outages.update(now, Trouble.MONITORING_DOWN, wrong)
        self._events += self._owners.events(now)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """End the watches."""
        self._api.close()

    def _notice(self, seen: Seen) -> None:
        if seen.trouble:
            self._lost[seen.watch] = seen.trouble
            return
        self._lost.pop(seen.watch, None)
        if seen.nodes:
            self._nodes = {node.name: node for node in seen.nodes}
            self._owners.follow(self._nodes.keys())
            ill = [(name, "", f"node {name} isn't ready") for name, node in self._nodes.items() if not node.ready]
            self._events += self._illnesses.update(seen.at, Trouble.HOST_NOT_READY, ill)
        if seen.whole:
            self._owners.listed(seen.at, seen.pods, seen.namespace)
        else:
            for pod in seen.pods:
                self._owners.seen(seen.at, pod)
        for pod in seen.gone:
            self._owners.gone(seen.at, pod)
        for eviction in seen.evictions:
            self._owners.evicted_by(seen.at, eviction.uid, eviction.who)
