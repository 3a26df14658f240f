"""Platform *kubernetes*: see the package."""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from loadband.client import ControlClient, ControlError
from loadband.rebalance.events import (
    Clock,
    Disturbance,
    Event,
    Host,
    Part,
    Plan,
    Sample,
    Slice,
    Subject,
    Trouble,
)
from loadband.rebalance.platforms import HostView, MoveRefusedError, PlatformError, SliceView, Target, View
from loadband.rebalance.platforms.background import Background
from loadband.rebalance.platforms.history import History
from loadband.rebalance.platforms.kubernetes.cluster import TOO_MANY, Api, RefusedError, Seen
from loadband.rebalance.platforms.kubernetes.manifests import (
    CONTROL_PORT,
    END_SECONDS,
    METRICS_PORT,
    RUN_LABEL,
    Makings,
    Where,
    effort_patch,
    placement_patch,
)
from loadband.rebalance.platforms.kubernetes.meters import Meters, Reading
from loadband.rebalance.platforms.kubernetes.pods import Book
from loadband.rebalance.platforms.kubernetes.states import NodeState, PodState

CLUSTER = "test"
"""The label `cluster` of all that is scraped."""
RESOLUTION = 0.5
"""Seconds: the times of moves are those at which the watch told of them; tests hold it against the audit log."""
START_SECONDS = 60.0
"""For the observers to be up."""
SPARE_SECONDS = 180.0
"""What a run may take more than its phases until the cluster ends it by itself."""
BUDGET_SECONDS = 30.0
"""For a disruption budget to allow an eviction that it refused at first."""
BUDGET_PAUSE = 1.0
GONE_SECONDS = 20.0
"""For all that was made to be gone."""
ADOPTION = 0.5
"""Seconds from the first pod of a slice to its ReplicaSet: so long the controller may take to know of the pod."""
SETTLED = 1.0
"""Seconds over which a slice must have burnt what it is asked for until it isn't pending any more."""
SAME_SIZE = 0.1
"""How far a node's capacity may be from what its observer finds; a ratio."""
LOST_SECONDS = 3.0
"""Without an answer of the API server until that counts."""


@dataclass(slots=True)
class _Slice:
    """A slice, and what is known of its load."""

    name: str
    host: str
    """Where it is put at first."""
    asked: float
    movable: bool
    made: float
    """When its first pod was asked for, monotonic."""
    came: bool = False
    """Whether it was recorded, as soon as it burns: until then its pod is being made."""
    owned: bool = False
    """Whether its ReplicaSet was asked for."""
    owed: bool = False
    """Whether its pod has still to be told what is asked of it."""
    lately: History = field(default_factory=lambda: History(SETTLED))
    settled: bool = False


class Kubernetes:
    """See `Platform`.

    Args:
        api: the API server.
        where: the nodes and the namespace.
        plan: what decides the run.
        count: how many hosts are needed.
        seconds: how long all phases take at most.

    Raises:
        PlatformError: the cluster hasn't so many nodes, or doesn't answer.
    """

    def __init__(self, api: Api, where: Where, plan: Plan, *, count: int, seconds: float) -> None:
        self._api = api
        self._where = where
        self._plan = plan
        self._run = run = secrets.token_hex(4)
        lifetime = START_SECONDS + seconds + SPARE_SECONDS
        self._makings = Makings(
            run=run, image=where.image, token=secrets.token_hex(), lifetime=lifetime, scheduler=where.scheduler
        )
        self._nodes = _chosen(_answer(lambda: api.nodes(where.nodes)), count, where)
        self._cpus = {node.name: where.cpus or node.cpus for node in self._nodes}
        self._book = Book(self._cpus)
        self._slices: dict[str, _Slice] = {}
        self._events: list[Event] = []
        self._observers: dict[str, PodState] = {}
        """By node."""
        self._busy = {node.name: History(plan.window) for node in self._nodes}
        self._background = Background(self._cpus, plan)
        self._meters = Meters(plan.sample_interval, METRICS_PORT)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="kubernetes")
        self._work: list[Future[object]] = []
        self._refusals: queue.SimpleQueue[tuple[float, str, str]] = queue.SimpleQueue()
        """When, which slice's move, and why: put by the pool's threads."""
        self._untold: queue.SimpleQueue[tuple[str, str, str]] = queue.SimpleQueue()
        """Which slice's pod, its uid, and why it couldn't be told what to burn: likewise."""
        self._directed: set[str] = set()
        """Slices whose ReplicaSet sends the next pod to a certain node."""
        self._why_lost = ""
        self._deadline = ""
        """The uid of the Job that everything belongs to."""
        self._seen: Callable[[], list[Seen]] = list
        self._down: set[str] = set()
        """Nodes that aren't ready."""
        self._lost: dict[str, float] = {}
        """By watch, since when it sees nothing, monotonic."""
        self._loss_told = False
        self._closed = False

    # What it is

    def describe(self) -> Part:
        """See `Platform`."""
        settings = {node.name: f"{self._cpus[node.name]:g} CPUs" for node in self._nodes}
        settings |= {"namespace": self._where.namespace, "image": self._where.image}
        settings |= {"selector of nodes": self._where.nodes or "all that take pods"}
        settings |= {"scheduler of the slices": self._where.scheduler or "the cluster's default"}
        settings |= {"times of moves": "when the watch told of them"}
        return Part(name="kubernetes", version=self._nodes[0].version, counts_others=True, settings=settings)

    @property
    def moves_resolution(self) -> float:
        """See `Platform`."""
        return RESOLUTION

    def hosts(self) -> Sequence[Host]:
        """See `Platform`."""
        now = time.time()
        return [Host(at=now, name=node.name, cpus=self._cpus[node.name]) for node in self._nodes]

    def start(self) -> None:
        """Make the Job that ends the run if nobody does, and an observer on each node; wait until they answer."""
        self._deadline = _answer(lambda: self._api.create(self._makings.deadline()))
        arrived = self._api.follow(self._run, self._where.nodes)
        self._seen = lambda: [arrived.get() for _ in range(arrived.qsize())]
        for observer in [self._makings.observer(node.name) for node in self._nodes]:
            _answer(partial(self._api.create, observer))
        self._meters.start()
        self._events += self.hosts()
        # All times are this machine's: of the samples, the moves and the watch.
        self._events += [Clock(at=time.time(), host=node.name, offset=0.0, uncertainty=0.0) for node in self._nodes]
        self._until_measured()

    def _until_measured(self) -> None:
        """Wait until every observer was read.

        Raises:
            PlatformError: one doesn't come up, can't be reached, or finds another capacity than the node's.
        """
        until = time.monotonic() + START_SECONDS
        found: dict[str, float] = {}
        while len(found) < len(self._nodes):
            if time.monotonic() > until:
                raise PlatformError(self._why_unmeasured(found))
            time.sleep(0.1)
            self._look()
            nodes = {pod.uid: node for node, pod in self._observers.items()}
            found |= {nodes[one.uid]: one.counters.cpus for one in self._meters.readings() if one.uid in nodes}
        for node, cpus in found.items():
            if abs(cpus - self._cpus[node]) > SAME_SIZE * self._cpus[node]:
                raise PlatformError(
                    f"pods on {node} may use {cpus:g} CPUs, and the run takes it for {self._cpus[node]:g}: "
                    f"say so by --node-cpus {cpus:g}"
                )

    def _why_unmeasured(self, found: Mapping[str, float]) -> str:
        for node in self._nodes:
            pod = self._observers.get(node.name)
            if node.name in found:
                continue
            if pod is None or not pod.ready:
                why = (pod.ended or pod.phase) if pod else "no pod"
                return f"the observer on {node.name} isn't ready after {START_SECONDS:g} s ({why}): look at its pod"
            return (
                f"the observer on {node.name} is ready and can't be reached at {pod.address}:{METRICS_PORT} from here: "
                "run in the cluster (the chart's rebalance.enabled), or where pods' addresses are reachable"
            )
        return ""

    def targets(self) -> Sequence[Target]:
        """See `Platform`."""
        return [
            Target(f"{pod.address}:{METRICS_PORT}", {"cluster": CLUSTER, "node": node})
            for node, pod in sorted(self._observers.items())
        ]

    def watch(self, programs: Mapping[str, int]) -> None:
        """See `Platform`: what runs on this machine takes nothing of the nodes."""

    # Slices

    def make(self, name: str, host: str, cpus: float, *, movable: bool = True) -> None:
        """See `Platform`."""
        if name in self._slices:
            raise PlatformError(f"there is a slice {name} already")
        if host not in self._cpus:
            raise PlatformError(f"there is no host {host} for slice {name}")
        self._slices[name] = _Slice(name, host, cpus, movable, time.monotonic())
        self._book.add(name, movable=movable)
        makings = self._makings
        pod = makings.first(name, host, cpus) if movable else makings.neighbour(name, host, cpus)
        self._begin(lambda: self._api.create(pod))

    def ask(self, name: str, cpus: float) -> None:
        """See `Platform`."""
        one = self._slices[name]
        one.asked = cpus
        one.lately.clear()
        one.settled = False
        if one.owned:  # one that isn't yet will be made with what is asked then
            patch = effort_patch(cpus)
            self._begin(lambda: self._api.patch_owner(self._makings.name_of(name), patch, strategic=True))
        one.owed = True
        if one.came:
            self._tell(one)

    def _tell_pods(self) -> None:
        """Tell pods what is asked of them, as soon as they can hear it.

        Raises:
            PlatformError: a pod that carries its slice doesn't take it.
        """
        while not self._untold.empty():
            name, uid, why = self._untold.get()
            pod = self._book.pod(name)
            if pod is not None and pod.uid == uid:
                raise PlatformError(why)
            if name in self._slices:  # it left meanwhile: its successor may have been made before
                self._slices[name].owed = True
        for one in self._slices.values():
            pod = self._book.pod(one.name) if one.owed else None
            if pod is not None and pod.ready and pod.address:
                one.owed = False
                self._begin(partial(self._set_effort, one.name, pod, one.asked))

    def _set_effort(self, name: str, pod: PodState, cpus: float) -> None:
        """Tell a pod what to burn, in a thread of the pool."""
        client = ControlClient(f"http://{_host(pod.address)}:{CONTROL_PORT}", self._makings.token)
        try:
            client.set_effort(cpus)
        except ControlError as error:
            self._untold.put((name, pod.uid, str(error)))

    def remove(self, name: str) -> None:
        """See `Platform`."""
        if (one := self._slices.pop(name, None)) is None:
            return
        if one.came:
            self._tell(one, present=False)
        pod = self._book.pod(name)
        self._book.drop(name)
        if one.owned:
            self._begin(lambda: self._api.remove_owner(self._makings.name_of(name)))
        elif pod is not None:
            self._begin(lambda: self._api.remove_pod(pod.name))

    def pending(self) -> Sequence[str]:
        """See `Platform`."""
        return [one.name for one in self._slices.values() if not one.settled or (one.movable and not one.owned)]

    def _tell(self, one: _Slice, *, present: bool = True) -> None:
        pod = self._book.pod(one.name)
        host = pod.node if pod and pod.node else one.host
        self._events.append(Slice(at=time.time(), name=one.name, host=host, cpus=one.asked, present=present))

    def _begin(self, ask: Callable[[], object]) -> None:
        """Have something asked of the API server or a regulator without waiting; an error comes out of `poll`."""
        self._work.append(self._pool.submit(ask))

    # Moves

    def move(self, name: str, destination: str, *, by: str, reason: str) -> str:
        """See `Platform`: the ReplicaSet is told where the next pod goes, and the slice's pod is evicted."""
        asked = self._book.ask(time.time(), name, destination, by, reason)
        if asked.pod is None:
            raise MoveRefusedError(asked.why)
        self._directed.add(name)
        self._work.append(self._pool.submit(self._move, name, asked.pod, destination))
        return asked.move

    def _move(self, name: str, pod: PodState, destination: str) -> None:
        """Evict a pod, in a thread of the pool; a disruption budget is given some time to allow it."""
        until = time.monotonic() + BUDGET_SECONDS
        try:
            self._api.patch_owner(self._makings.name_of(name), placement_patch(destination))
            while not self._evicted(pod, may_wait=time.monotonic() < until):
                time.sleep(BUDGET_PAUSE)
        except (RefusedError, OSError) as error:
            self._refusals.put((time.time(), name, str(error)))

    def _evicted(self, pod: PodState, *, may_wait: bool) -> bool:
        try:
            self._api.evict(pod.name, pod.uid)
        except RefusedError as error:
            if error.status != TOO_MANY or not may_wait or self._closed:
                raise
            return False
        return True

    def _after_moves(self) -> None:
        """Let the scheduler choose again, for slices whose move is over."""
        for name in [name for name in self._directed if not self._book.moves(name)]:
            self._directed.discard(name)
            if name in self._slices:
                self._begin(partial(self._api.patch_owner, self._makings.name_of(name), placement_patch(None)))

    # What happens

    def view(self) -> View:
        """See `Platform`."""
        slices = []
        for one in self._slices.values():
            if one.movable:
                pod = None if self._book.moves(one.name) else self._book.pod(one.name)
                slices.append(SliceView(one.name, pod.node if pod and pod.node else None, one.asked))
        hosts = [HostView(name, cpus, self._busy[name].utilization(cpus)) for name, cpus in self._cpus.items()]
        return View(time.time(), tuple(hosts), tuple(slices))

    def poll(self) -> Sequence[Event]:
        """See `Platform`."""
        self._look()
        self._own_work()
        now = time.time()
        for name in [one.name for one in self._slices.values() if one.movable and not one.owned]:
            self._adopt(self._slices[name])
        while not self._refusals.empty():
            self._book.refused(*self._refusals.get())
        self._after_moves()
        self._tell_pods()
        if self.pending() or any(self._book.moves(name) for name in self._slices):
            self._background.restless(now)
        for reading in self._meters.readings():
            self._take(reading)
        self._events += self._book.events(now)
        events, self._events = self._events, []
        return events

    def _look(self) -> None:
        """Take in what was seen of the cluster."""
        for seen in self._seen():
            self._notice(seen)
        addresses = {pod.uid: pod.address for pod in self._observers.values() if pod.ready}
        addresses |= {pod.uid: pod.address for pod in self._book.pods().values() if pod.address}
        self._meters.ask(addresses)
        if not self._lost:
            self._loss_told = False
        elif not self._loss_told and time.monotonic() > min(self._lost.values()) + LOST_SECONDS:
            self._loss_told = True
            self._events.append(
                Disturbance(
                    at=time.time(),
                    what=Trouble.MONITORING_DOWN,
                    who="kube-apiserver",
                    detail=f"nothing is seen of the cluster for {LOST_SECONDS:g} s: {self._why_lost}",
                )
            )

    def _notice(self, seen: Seen) -> None:
        if seen.trouble:
            self._lost.setdefault(seen.watch, time.monotonic())
            self._why_lost = seen.trouble
            return
        self._lost.pop(seen.watch, None)
        for pod in (*seen.pods, *seen.gone):
            if not pod.slice and pod.node in self._cpus:
                self._observed(pod, gone=pod in seen.gone)
        pods = [pod for pod in seen.pods if pod.slice]
        if seen.whole:
            self._book.listed(seen.at, pods)
        else:
            for pod in pods:
                self._book.seen(seen.at, pod)
        for pod in seen.gone:
            self._book.gone(seen.at, pod)
        for eviction in seen.evictions:
            self._book.evicted_by(eviction.uid, eviction.who)
        if seen.nodes:
            self._examine({node.name: node for node in seen.nodes}, seen.at)

    def _observed(self, pod: PodState, *, gone: bool) -> None:
        """Take an observer's state."""
        if not self._closed and (gone or pod.leaving or pod.phase in {"Failed", "Succeeded"} or pod.restarts):
            raise PlatformError(f"the observer on {pod.node} ended: {pod.disruption or pod.ended or 'it was removed'}")
        self._observers[pod.node] = pod

    def _examine(self, nodes: Mapping[str, NodeState], at: float) -> None:
        """Whether the nodes of the run are well."""
        for name in self._cpus:
            node = nodes.get(name)
            if node is not None and node.ready and node.open:
                self._down.discard(name)
            elif name not in self._down:
                self._down.add(name)
                why = "is gone" if node is None else "isn't ready" if not node.ready else "takes no pods any more"
                detail = f"node {name} {why}"
                self._events.append(Disturbance(at=at, what=Trouble.HOST_NOT_READY, host=name, detail=detail))

    def _adopt(self, one: _Slice) -> None:
        """Make the ReplicaSet of a slice as soon as its first pod is known."""
        pod = self._book.pod(one.name)
        if pod is None or not pod.node or time.monotonic() < one.made + ADOPTION:
            return
        one.owned = True
        owner = self._makings.owner(one.name, one.asked, self._deadline)
        self._begin(lambda: self._api.create(owner))

    def _own_work(self) -> None:
        """Look whether what was begun went well.

        Raises:
            PlatformError: something didn't.
        """
        done = [work for work in self._work if work.done()]
        self._work = [work for work in self._work if not work.done()]
        for work in done:
            try:
                work.result()
            except (RefusedError, OSError) as error:
                raise PlatformError(str(error)) from error

    def _take(self, reading: Reading) -> None:
        """Record what a regulator has counted."""
        counters = reading.counters
        for node, pod in self._observers.items():
            if pod.uid == reading.uid:
                self._busy[node].add(reading.at, counters.busy)
                self._background.ours(node, reading.uid, counters.own)
                if accusation := self._background.node(reading.at, node, counters.busy):
                    self._events.append(accusation)
                self._sampled(reading.at, Subject.HOST, node, node, counters.busy)
                self._sampled(reading.at, Subject.OWN, f"observer of {node}", node, counters.own)
                return
        for name, pod in self._book.pods().items():
            if pod.uid == reading.uid:
                self._background.ours(pod.node, reading.uid, counters.own)
                self._sampled(reading.at, Subject.SLICE, name, pod.node, counters.own)
                one = self._slices[name]
                if not one.came:
                    one.came = True
                    self._tell(one)
                one.lately.add(reading.at, counters.own)
                one.settled = one.settled or one.lately.burns(one.asked)
                return

    def _sampled(self, at: float, subject: Subject, name: str, host: str, seconds: float) -> None:
        self._events.append(Sample(at=at, subject=subject, name=name, host=host, cpu_seconds=seconds))

    # The end

    def close(self) -> Sequence[str]:
        """See `Platform`: all objects that carry the run's label are removed."""
        if self._closed:
            return ()
        self._closed = True
        self._meters.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        until = time.monotonic() + GONE_SECONDS + END_SECONDS
        left: Sequence[str] = ["something"]
        why = ""
        while left and time.monotonic() < until:
            try:
                self._api.remove_all(self._run)
                left = self._api.left(self._run)
                why = ""
            except (RefusedError, OSError) as error:
                why = f" ({error})"
            if left:
                time.sleep(0.5)
        self._api.close()
        if not left:
            return ()
        what = f"--namespace {self._where.namespace} --selector {RUN_LABEL}={self._run}"
        minutes = f"{self._makings.lifetime / 60:.0f}"
        unless = f"(the cluster itself does it {minutes} minutes after the begin)"
        return [f"what the run made is still there{why}: kubectl delete replicaset,pod,job {what} {unless}"]


def _chosen(nodes: Sequence[NodeState], count: int, where: Where) -> Sequence[NodeState]:
    """The first nodes that take pods, as many as are needed.

    Raises:
        PlatformError: there are too few.
    """
    usable = [node for node in nodes if node.ready and node.open]
    if len(usable) < count:
        which = f" with the labels {where.nodes}" if where.nodes else ""
        raise PlatformError(
            f"the scenario needs {count} nodes, and {len(usable)} of {len(nodes)}{which} are ready and take pods"
        )
    return usable[:count]


_Answer = TypeVar("_Answer")


def _answer(ask: Callable[[], _Answer]) -> _Answer:
    """What the API server answers.

    Raises:
        PlatformError: it refuses, or doesn't answer.
    """
    try:
        return ask()
    except (RefusedError, OSError) as error:
        raise PlatformError(str(error)) from error


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
