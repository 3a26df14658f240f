"""From what is seen of pods to the events of a recording: moves, deaths, pressure, pods that stay pending. Pure.

A move begins when a slice's pod is told to leave, and is done when its successor is ready. Who began it is known at
once if it was this run; otherwise the platform tells it a little later, or never. So the events of a move are held back
until it is known, for `PATIENCE` at most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from loadband.rebalance.events import Disturbance, Event, Move, MoveState, Trouble
from loadband.rebalance.platforms.kubernetes.states import PodState

PATIENCE = 4.0
"""Seconds that are waited for the platform to say who evicted a pod."""
PENDING = 10.0
"""Seconds without a node after which a pod is recorded as pending."""
EVICTED = "EvictionByEvictionAPI"
PROTECTION = {
    "TerminationByKubelet": "evicted by the kubelet",
    "PreemptionByScheduler": "preempted by the scheduler",
    "DeletionByTaintManager": "evicted because of a taint",
    "DeletionByPodGC": "removed because its node is gone",
}
"""Reasons of the condition DisruptionTarget that are the platform's own protection, for people."""
_ENDED = {"Failed", "Succeeded"}
"""Phases of pods that don't run any more."""
SOMEBODY_EVICTED, SOMEBODY_DELETED = "somebody through the Eviction API", "somebody who deleted the pod"


@dataclass(slots=True)
class _Move:
    """A move of a slice."""

    move: str
    slice: str
    source: str
    asked: float
    pod: str = ""
    """The uid of the pod that leaves."""
    accepted: float | None = None
    by: str = ""
    """Empty as long as nobody knows it."""
    destination: str | None = None
    wanted: str | None = None
    """Where it was to go, if that was asked for."""
    reason: str = ""
    guess: str = SOMEBODY_DELETED
    """Who it was if nobody ever says."""
    done: float | None = None
    unseen: bool = False
    """Whether its begin or its end was found in a list after the watch was lost, so that only its order is known."""
    failed: str = ""
    told: int = 0
    """How many of its events were handed out."""

    def events(self) -> list[Move]:
        """All that can be said of it now, in order."""
        found = [self._event(self.asked, MoveState.ASKED, self.reason)]
        if self.accepted is not None:
            found.append(self._event(self.accepted, MoveState.ACCEPTED, self.reason))
        if self.done is not None:
            if self.failed:
                found.append(self._event(self.done, MoveState.FAILED, self.failed))
            else:
                found.append(self._event(self.done, MoveState.DONE, self.reason))
        return found

    def _event(self, at: float, state: MoveState, reason: str) -> Move:
        took = None
        if state is MoveState.DONE and self.accepted is not None and not self.unseen:
            took = at - self.accepted
        destination = self.wanted if state is MoveState.ASKED else self.destination or self.wanted
        return Move(
            at=at,
            move=self.move,
            state=state,
            slice=self.slice,
            source=self.source,
            destination=destination,
            by=self.by,
            reason=reason,
            seconds=took,
            downtime=took,  # from being told to end until the successor is ready: it burns a little longer than that
        )


@dataclass(slots=True)
class _Slice:
    """A slice, and the pods that carry it."""

    name: str
    movable: bool
    pod: PodState | None = None
    """The one that carries it, or did last."""
    move: _Move | None = None
    """The move under way."""
    since: float = 0.0
    """When the pod that has no node yet was first seen."""
    pending: bool = False
    """Whether that was recorded."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A move that this run asked for."""

    move: str
    """Its id."""
    pod: PodState | None
    """The one to evict; None if it doesn't begin."""
    why: str = ""
    """Why it doesn't."""


class Book:
    """Keeps the moves of a run's slices; times are seconds since the epoch.

    Args:
        hosts: the names of the nodes that a slice may be sent to.
    """

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = frozenset(hosts)
        self._slices: dict[str, _Slice] = {}
        self._moves: list[_Move] = []
        """Those of which not all was told."""
        self._events: list[Event] = []
        self._count = 0
        self._evictors: dict[str, str] = {}
        """By the uid of a pod, who evicted it."""
        self._listing = False
        """Whether what is taken in is a list, which shows what became of pods, but not when."""

    def add(self, name: str, *, movable: bool) -> None:
        """Begin to follow a slice."""
        self._slices[name] = _Slice(name, movable)

    def drop(self, name: str) -> None:
        """Forget a slice: what becomes of its pods is no move."""
        self._slices.pop(name, None)

    def pod(self, name: str) -> PodState | None:
        """The pod that carries a slice; None while there is none that wasn't told to leave."""
        one = self._slices.get(name)
        return None if one is None or one.pod is None or one.pod.leaving else one.pod

    def pods(self) -> Mapping[str, PodState]:
        """The pods that carry slices now, by slice."""
        return {name: pod for name in self._slices if (pod := self.pod(name)) is not None and pod.node}

    def moves(self, name: str) -> bool:
        """Whether a slice is being moved, or is to be."""
        one = self._slices.get(name)
        return one is not None and one.move is not None

    # What this run asks for

    def ask(self, at: float, name: str, destination: str, by: str, reason: str) -> Asked:
        """Note a move that this run asks for.

        Args:
            at: when.
            name: the slice's.
            destination: the node's name.
            by: who asks.
            reason: for people.
        """
        one, pod = self._slices.get(name), self.pod(name)
        move = self._new_move(name, pod.node if pod else "", at)
        move.by, move.wanted, move.reason = by, destination, reason
        if one is None:
            move.failed = f"there is no slice {name} in this run"
        elif not one.movable:
            move.failed = f"{name} is a neighbour, which nobody may move"
        elif destination not in self._hosts:
            move.failed = f"there is no host {destination}"
        elif one.move is not None or pod is None or not pod.node:
            move.failed = f"{name} is on its way, or nowhere"
        elif destination == pod.node:
            move.failed = f"{name} is on {destination} already"
        else:
            one.move = move
            return Asked(move.move, pod)
        move.done = at
        return Asked(move.move, None, move.failed)

    def refused(self, at: float, name: str, why: str) -> None:
        """Note that the API server didn't take the move that this run asked for."""
        one = self._slices.get(name)
        if one is not None and one.move is not None and one.move.accepted is None:
            one.move.done, one.move.failed = at, why
            one.move = None

    def evicted_by(self, uid: str, who: str) -> None:
        """Note who evicted a pod, as the platform names them."""
        self._evictors[uid] = who

    # What is seen

    def seen(self, at: float, pod: PodState) -> None:
        """Take a pod's new state."""
        one = self._slices.get(pod.slice)
        if one is None:
            return
        if one.pod is None or pod.uid == one.pod.uid:
            self._changed(at, one, pod)
        elif one.pod.leaving and not pod.leaving and pod.phase not in _ENDED:
            one.pod, one.since, one.pending = pod, at, False
            self._arrives(at, one, pod)
        # Else it is a second pod, which its owner removes again, or one that left before.

    def gone(self, at: float, pod: PodState) -> None:
        """Take that a pod isn't there any more."""
        one = self._slices.get(pod.slice)
        if one is not None and one.pod is not None and one.pod.uid == pod.uid and not one.pod.leaving:
            self._leaves(at, one, pod)

    def listed(self, at: float, pods: Iterable[PodState]) -> None:
        """Take the states of all pods that there are."""
        found = list(pods)
        known = {pod.uid for pod in found}
        self._listing = True
        for one in self._slices.values():
            if one.pod is not None and one.pod.uid not in known:
                self.gone(at, one.pod)
        carriers = {one.pod.uid for one in self._slices.values() if one.pod is not None}
        for pod in sorted(found, key=lambda pod: pod.uid not in carriers):  # whoever leaves comes before its successor
            self.seen(at, pod)
        self._listing = False

    def _changed(self, at: float, one: _Slice, pod: PodState) -> None:
        before = one.pod
        if before is not None and before.leaving:
            # It doesn't come back: what it still says of its end is known.
            one.pod = replace(pod, leaving=True)
            return
        one.pod = pod
        if before is None:
            one.since = at
        if pod.leaving:
            self._leaves(at, one, pod)
            return
        if pod.phase in _ENDED:
            self._ends(at, one, pod)
            return
        if before is not None and pod.restarts > before.restarts:
            self._died(at, pod)
        self._arrives(at, one, pod)

    def _died(self, at: float, pod: PodState) -> None:
        why = PROTECTION.get(pod.disruption)
        if why:
            detail = f"the pod of slice {pod.slice} was {why}"
            found = Disturbance(at=at, what=Trouble.PRESSURE, host=pod.node, who=pod.slice, detail=detail)
        else:
            how = "was removed" if pod.leaving and not pod.ended else "ended"
            detail = f"the pod of slice {pod.slice} {how}" + (f": {pod.ended}" if pod.ended else "")
            found = Disturbance(at=at, what=Trouble.SLICE_DIED, host=pod.node, who=pod.slice, detail=detail)
        self._events.append(found)

    def _leaves(self, at: float, one: _Slice, pod: PodState) -> None:
        """The pod of a slice was told to end, or is gone."""
        if pod.disruption in PROTECTION or not one.movable:
            self._ends(at, one, pod)
            return
        one.pod = replace(pod, leaving=True)
        if one.move is None:
            if not pod.node:
                return
            one.move = self._new_move(pod.slice, pod.node, at)
            one.move.pod = pod.uid
            one.move.guess = SOMEBODY_EVICTED if pod.disruption == EVICTED else SOMEBODY_DELETED
        if one.move.accepted is None:
            one.move.accepted = max(at, one.move.asked)  # it may have been seen before it was asked for
            one.move.unseen |= self._listing

    def _ends(self, at: float, one: _Slice, pod: PodState) -> None:
        """The pod of a slice ended without being moved; its owner, if it has one, makes another."""
        one.pod = replace(pod, leaving=True)
        self._died(at, pod)
        if one.move is not None and one.move.accepted is None:
            one.move.done, one.move.failed = at, f"the pod of {one.name} ended before it was moved"
            one.move = None

    def _arrives(self, at: float, one: _Slice, pod: PodState) -> None:
        move = one.move
        if move is None or move.accepted is None or not pod.node:
            return
        move.destination = pod.node
        if pod.ready:
            move.done = max(at, move.accepted)
            move.unseen |= self._listing
            if move.wanted and pod.node != move.wanted:
                move.failed = f"its successor was bound to {pod.node} instead of {move.wanted}"
            one.move = None

    def _new_move(self, name: str, source: str, at: float) -> _Move:
        self._count += 1
        move = _Move(f"{name}-{self._count}", name, source, at)
        self._moves.append(move)
        return move

    # What there is to tell

    def events(self, now: float) -> list[Event]:
        """What has become known since the last call."""
        for one in self._slices.values():
            pod = one.pod
            if pod is None or pod.leaving:
                continue
            if not pod.node and not one.pending and now >= one.since + PENDING:
                one.pending = True
                why = f": {pod.unscheduled}" if pod.unscheduled else ""
                detail = f"the pod of slice {pod.slice} has no node after {now - one.since:.0f} s{why}"
                self._events.append(Disturbance(at=now, what=Trouble.SLICE_PENDING, who=pod.slice, detail=detail))
        found, self._events = self._events, []
        for move in self._moves:
            found += self._told(move, now)
        self._moves = [move for move in self._moves if move.done is None or move.told < len(move.events())]
        return found

    def _told(self, move: _Move, now: float) -> list[Event]:
        if not move.by:
            move.by = self._evictors.get(move.pod, "")
            if not move.by and now < move.asked + PATIENCE:
                return []
            move.by = move.by or move.guess
        events: list[Event] = list(move.events()[move.told :])
        move.told += len(events)
        return events
