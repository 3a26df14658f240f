"""What the platform needs of the API server, and what it sees through it."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loadband.rebalance.platforms.kubernetes.manifests import Manifest
from loadband.rebalance.platforms.kubernetes.states import Eviction, NodeState, PodState, Workload

TOO_MANY = 429
"""The HTTP status of an eviction that a disruption budget doesn't allow now."""


class RefusedError(Exception):
    """The API server refused; the message is its own.

    Args:
        status: of HTTP.
        message: for people.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Seen:
    """Something was seen."""

    at: float
    """Seconds since the epoch, by this machine's clock."""
    pods: Sequence[PodState] = ()
    """Their new state; all there are if `whole`."""
    gone: Sequence[PodState] = ()
    nodes: Sequence[NodeState] = ()
    """All of them."""
    evictions: Sequence[Eviction] = ()
    whole: bool = False
    watch: str = ""
    """The watch that broke, or that begins (again) with this; empty for what it sees then."""
    trouble: str = ""
    """Why it broke."""
    namespace: str = ""
    """The only one that `whole` is about; empty: all."""


class Watching(Protocol):
    """What following a cluster needs of the API server: it lists and watches, and changes nothing."""

    def nodes(self, labels: str) -> Sequence[NodeState]:
        """The nodes that a label selector names, sorted by name.

        Raises:
            RefusedError: the account may not.
            OSError: no answer.
        """
        ...

    def follow_all(self, namespaces: Sequence[str], nodes: str) -> queue.SimpleQueue[Seen]:
        """Begin to watch everybody's pods, what is said of evictions, and the nodes.

        Args:
            namespaces: whose; none: all.
            nodes: a label selector.
        """
        ...

    def close(self) -> None:
        """End the watches."""
        ...


class Api(Protocol):
    """What the platform needs of the API server. Every method may raise `RefusedError`, or `OSError` without answer."""

    def nodes(self, labels: str) -> Sequence[NodeState]:
        """The nodes that a label selector names, sorted by name."""
        ...

    def create(self, manifest: Manifest) -> str:
        """Make an object; returns its uid."""
        ...

    def patch_owner(self, name: str, change: Manifest, *, strategic: bool = False) -> None:
        """Change a ReplicaSet."""
        ...

    def evict(self, name: str, uid: str) -> None:
        """Evict a pod by the Eviction API, if it is still that one."""
        ...

    def remove_owner(self, name: str) -> None:
        """Remove a ReplicaSet and its pods; nothing if it is gone."""
        ...

    def remove_pod(self, name: str) -> None:
        """Remove a pod; nothing if it is gone."""
        ...

    def remove_all(self, run: str) -> None:
        """Begin to remove all that carries a run's label."""
        ...

    def left(self, run: str) -> Sequence[str]:
        """The objects that carry a run's label, as kubectl names them: `pod/x`."""
        ...

    def workload(self, namespace: str, labels: str) -> Workload:
        """The program whose pods a label selector names, with the ConfigMaps that it mounts."""
        ...

    def follow(self, run: str, nodes: str) -> queue.SimpleQueue[Seen]:
        """Begin to watch a run's pods, what is said of them, and nodes; what is seen arrives in the queue."""
        ...

    def close(self) -> None:
        """End the watches."""
        ...
