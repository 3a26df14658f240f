"""From what is seen of everybody's pods to moves: a pod that leaves, and the one that its owner makes instead. Pure.

A pod can't be moved, only be replaced. It counts as moved if somebody evicted it: the Eviction API says so in the pod's
conditions, and a descheduler in an Event. A pod that was deleted counts only if its owner makes another one of the same
template at once, as it does unless it was scaled down or rolled out. What the cluster's own protection does is pressure
and no move. A slice is a pod and its successors, and has the name of the first one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from loadband.rebalance.events import Disturbance, Event, Move, MoveState, Trouble
from loadband.rebalance.platforms.kubernetes.pods import (
    EVICTED,
    PATIENCE,
    PROTECTION,
    SOMEBODY_DELETED,
    SOMEBODY_EVICTED,
)
from loadband.rebalance.platforms.kubernetes.states import PodState

AT_ONCE = 10.0
"""Seconds within which the owner of a deleted pod makes another one, if it still wants as many."""
REPLACED_WITHIN = 600.0
"""Seconds after which an evicted pod that nobody replaced counts as a move that failed."""
BOUND = frozenset({"DaemonSet", "Node"})
"""Kinds of owners whose pods belong to their node: they can't move."""
_ENDED = frozenset({"Failed", "Succeeded"})


@dataclass(slots=True)
class _Leaving:
    """A pod that left, and what becomes of its work."""

    move: str
    slice: str
    pod: PodState
    at: float
    evicted: bool
    """Whether it surely was; if not, only a successor makes a move of it."""
    by: str = ""
    successor: str = ""
    """The uid of the pod that came instead."""
    destination: str | None = None
    ended: tuple[float, MoveState, str] | None = None
    """When, how and why."""
    is_told: bool = False


class Owners:
    """Keeps everybody's moves; times are seconds since the epoch."""

    def __init__(self) -> None:
        self._nodes: Collection[str] = frozenset()
        self._pods: dict[str, PodState] = {}
        """By uid, those that run or are to run."""
        self._slices: dict[str, str] = {}
        """By uid, the slice of a pod that is a successor."""
        self._leaving: dict[str, _Leaving] = {}
        """By the uid of the pod that left; in that order."""
        self._unreplaced: dict[str, deque[_Leaving]] = {}
        """By the uid of their owner."""
        self._coming: dict[str, _Leaving] = {}
        """By the uid of the successor."""
        self._evictors: dict[str, tuple[float, str]] = {}
        """By uid, when and by whom a pod was evicted that isn't known to leave yet."""
        self._events: list[Event] = []
        self._count = 0

    def follow(self, nodes: Collection[str]) -> None:
        """Take the names of the nodes that count from now on: what leaves others is no move."""
        self._nodes = nodes

    # What is seen

    def listed(self, at: float, pods: Iterable[PodState], namespace: str = "") -> None:
        """Take the states of all pods that there are.

        Args:
            at: when.
            pods: of a namespace, or all.
            namespace: which; empty: all of them.
        """
        found = list(pods)
        known = {pod.uid for pod in found}
        for pod in [pod for pod in self._pods.values() if pod.uid not in known]:
            if not namespace or pod.namespace == namespace:
                self.gone(at, pod)
        for pod in sorted(found, key=lambda pod: not pod.leaving):  # whoever leaves comes before its successor
            self.seen(at, pod)

    def seen(self, at: float, pod: PodState) -> None:
        """Take a pod's new state."""
        before = self._pods.get(pod.uid)
        if pod.phase in _ENDED:
            if before is not None:
                self._forget(at, pod)
                self._pressed(at, pod)
            return
        if before is not None and before.leaving:
            return  # it doesn't come back
        if pod.leaving:
            if before is not None:  # else it left before anybody looked
                self._leaves(at, pod)
                self._pods[pod.uid] = pod
            return
        self._pods[pod.uid] = pod
        if before is None:
            self._replaces(at, pod)
        self._arrives(at, pod)

    def gone(self, at: float, pod: PodState) -> None:
        """Take that a pod isn't there any more."""
        before = self._pods.get(pod.uid)
        if before is None:
            return
        if not before.leaving:
            self._leaves(at, pod)
        self._forget(at, pod)

    def evicted_by(self, at: float, uid: str, who: str) -> None:
        """Take who evicted a pod, as the platform names them."""
        one = self._leaving.get(uid)
        if one is None:
            if uid in self._pods:
                self._evictors[uid] = at, who
            return
        one.evicted = True
        one.by = one.by or who

    def _forget(self, at: float, pod: PodState) -> None:
        self._pods.pop(pod.uid, None)
        self._slices.pop(pod.uid, None)
        self._evictors.pop(pod.uid, None)
        self._fails(at, pod)

    def _pressed(self, at: float, pod: PodState) -> None:
        """Record what the cluster did to protect itself."""
        if (why := PROTECTION.get(pod.disruption)) and pod.node in self._nodes:
            detail = f"the pod {_name(pod)} was {why}"
            self._events.append(Disturbance(at=at, what=Trouble.PRESSURE, host=pod.node, who=_name(pod), detail=detail))

    def _leaves(self, at: float, pod: PodState) -> None:
        self._pressed(at, pod)
        self._fails(at, pod)
        _, who = self._evictors.pop(pod.uid, (0.0, ""))
        if pod.disruption in PROTECTION or not pod.owner or pod.owner_kind in BOUND or pod.node not in self._nodes:
            return
        self._count += 1
        one = _Leaving(
            move=f"move-{self._count}",
            slice=self._slices.get(pod.uid, _name(pod)),
            pod=pod,
            at=at,
            evicted=bool(who) or pod.disruption == EVICTED,
            by=who,
        )
        self._leaving[pod.uid] = one
        self._unreplaced.setdefault(pod.owner, deque()).append(one)

    def _fails(self, at: float, pod: PodState) -> None:
        """End the move of a successor that leaves or ends before it was ready; any other pod ends none."""
        if (one := self._coming.pop(pod.uid, None)) is not None:
            one.ended = at, MoveState.FAILED, "its successor left before it was ready"

    def _replaces(self, at: float, pod: PodState) -> None:
        """Take a new pod for the successor of the first one of its owner that left."""
        waiting = self._unreplaced.get(pod.owner)
        while waiting:
            one = waiting.popleft()
            if not one.evicted and (at > one.at + AT_ONCE or pod.template != one.pod.template):
                continue
            one.successor = pod.uid
            self._coming[pod.uid] = one
            self._slices[pod.uid] = one.slice
            break
        if waiting is not None and not waiting:
            del self._unreplaced[pod.owner]

    def _arrives(self, at: float, pod: PodState) -> None:
        one = self._coming.get(pod.uid)
        if one is None or not pod.node:
            return
        one.destination = pod.node
        if pod.ready:
            del self._coming[pod.uid]
            one.ended = max(at, one.at), MoveState.DONE, ""

    # What there is to tell

    def events(self, now: float) -> list[Event]:
        """What has become known since the last call."""
        found, self._events = self._events, []
        for uid, one in list(self._leaving.items()):
            found += self._told(one, now)
            if one.ended is not None and one.is_told:
                del self._leaving[uid]
            elif not one.evicted and not one.successor and now > one.at + AT_ONCE:
                del self._leaving[uid]  # it was only removed
        for owner, waiting in list(self._unreplaced.items()):
            there = deque(one for one in waiting if one.pod.uid in self._leaving)
            if there:
                self._unreplaced[owner] = there
            else:
                del self._unreplaced[owner]
        self._evictors = {uid: said for uid, said in self._evictors.items() if now < said[0] + REPLACED_WITHIN}
        return found

    def _told(self, one: _Leaving, now: float) -> Iterator[Event]:
        if not one.evicted and not one.successor:
            return
        if one.ended is None and not one.successor and now > one.at + REPLACED_WITHIN:
            one.ended = now, MoveState.FAILED, f"nobody replaced it within {REPLACED_WITHIN:g} s"
        if not one.is_told:
            if not one.by and now < one.at + PATIENCE:
                return
            surely = one.pod.disruption == EVICTED
            one.by = one.by or (SOMEBODY_EVICTED if surely else SOMEBODY_DELETED)
            one.is_told = True
            yield _move(one, one.at, MoveState.ACCEPTED)
        if one.ended is not None:
            yield _move(one, one.ended[0], one.ended[1], one.ended[2])


def _move(one: _Leaving, at: float, state: MoveState, failure: str = "") -> Move:
    return Move(
        at=at,
        move=one.move,
        state=state,
        slice=one.slice,
        source=one.pod.node,
        destination=one.destination,
        by=one.by,
        reason=failure or f"the pod {_name(one.pod)} was {'evicted' if one.evicted else 'deleted'}",
        seconds=at - one.at if state is MoveState.DONE else None,
    )


def _name(pod: PodState) -> str:
    return f"{pod.namespace}/{pod.name}"
