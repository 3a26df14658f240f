"""A platform, a monitoring and clocks that obey at once and cost nothing: what a conductor is tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from loadband.rebalance.events import (
    Alert,
    AlertState,
    Clock,
    Disturbance,
    Event,
    Host,
    Move,
    MoveState,
    Part,
    Plan,
    Real,
    Run,
    Sample,
    Slice,
    Subject,
    Timing,
)
from loadband.rebalance.platforms import HostView, MoveRefusedError, SliceView, Target, View
from loadband.rebalance.rebalancers import Context
from loadband.rebalance.recording import RecordingError

EPOCH = 1_000_000.0
WINDOW = 4.0
HOLD = 3.0
"""The `for` of the alert."""


class Clocks:
    """Time that passes only while somebody waits; `at(t, f)` calls f when t seconds have passed."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.stepped = 0.0
        self.asked_to_end = False
        self._calls: list[tuple[float, Callable[[], object]]] = []

    def at(self, seconds: float, call: Callable[[], object]) -> None:
        self._calls.append((seconds, call))

    def wall(self) -> float:
        return EPOCH + self.passed + self.stepped

    def monotonic(self) -> float:
        return self.passed

    def wait(self, seconds: float) -> bool:
        self.passed += seconds
        due = [call for call in self._calls if call[0] <= self.passed]
        self._calls = [call for call in self._calls if call[0] > self.passed]
        for _, call in due:
            call()
        return self.asked_to_end


@dataclass
class _Slice:
    host: str
    cpus: float
    movable: bool = True
    used: float = 0.0


class Machine:
    """Hosts of one CPU each; a slice burns at once what it is asked for, as far as its host can."""

    moves_resolution = 0.0

    def __init__(self, clocks: Clocks, names: Sequence[str]) -> None:
        self._clocks = clocks
        self._names = tuple(names)
        self._events: list[Event] = []
        self._slices: dict[str, _Slice] = {}
        self._busy = dict.fromkeys(names, 0.0)
        self._last = clocks.passed
        self._next_sample = 0.0
        self._moves = 0
        self.state = "new"
        self.left: list[str] = []
        """What `close` can't undo."""
        self.slow_slices: set[str] = set()
        """Those that stay pending."""

    def describe(self) -> Part:
        return Part(name="simulated", counts_others=True)

    def hosts(self) -> Sequence[Host]:
        return [Host(at=self._clocks.wall(), name=name, cpus=1.0) for name in self._names]

    def start(self) -> None:
        self.state = "started"
        self._events += self.hosts()

    def targets(self) -> Sequence[Target]:
        return [Target("127.0.0.1:1", {"node": name}) for name in self._names]

    def make(self, name: str, host: str, cpus: float, *, movable: bool = True) -> None:
        self._slices[name] = _Slice(host, cpus, movable)
        self._tell(name)

    def ask(self, name: str, cpus: float) -> None:
        self._pass()
        self._slices[name].cpus = cpus
        self._tell(name)

    def remove(self, name: str) -> None:
        self._pass()
        self._tell(name, present=False)
        del self._slices[name]

    def pending(self) -> Sequence[str]:
        return sorted(self.slow_slices & self._slices.keys())

    def watch(self, programs: Mapping[str, int]) -> None:
        self.watched = dict(programs)

    def move(self, name: str, destination: str, *, by: str, reason: str) -> str:
        self._pass()
        self._moves += 1
        move, one = f"move-{self._moves}", self._slices.get(name)
        source = one.host if one else ""
        states = [MoveState.ASKED, MoveState.ACCEPTED, MoveState.DONE]
        refused = one is None or not one.movable or destination not in self._names
        if refused:
            states = [MoveState.ASKED, MoveState.FAILED]
        self._events += [
            Move(
                at=self._clocks.wall(),
                move=move,
                state=state,
                slice=name,
                source=source,
                destination=destination,
                by=by,
                reason=reason,
            )
            for state in states
        ]
        if one is None or refused:
            raise MoveRefusedError("there is no such slice or host")
        one.host = destination
        return move

    def view(self) -> View:
        return View(
            self._clocks.wall(),
            tuple(HostView(name, 1.0, self.utilization(name)) for name in self._names),
            tuple(SliceView(name, one.host, one.cpus) for name, one in self._slices.items() if one.movable),
        )

    def utilization(self, host: str) -> float:
        return min(sum(one.cpus for one in self._slices.values() if one.host == host), 1.0)

    def poll(self) -> Sequence[Event]:
        self._pass()
        if self._clocks.passed >= self._next_sample:
            self._next_sample += 1.0
            self._sample()
        events, self._events = self._events, []
        return events

    def close(self) -> Sequence[str]:
        self.state = "closed"
        return self.left

    def _pass(self) -> None:
        seconds, self._last = self._clocks.passed - self._last, self._clocks.passed
        for name in self._names:
            self._busy[name] += self.utilization(name) * seconds
        for one in self._slices.values():
            asked = sum(each.cpus for each in self._slices.values() if each.host == one.host)
            one.used += one.cpus / max(asked, 1.0) * seconds

    def _sample(self) -> None:
        at = self._clocks.wall()
        # All hosts read the conductor's clock.
        self._events += [Clock(at=at, host=name, offset=0.0, uncertainty=0.0) for name in self._names]
        self._events += [
            Sample(at=at, subject=Subject.HOST, name=name, host=name, cpu_seconds=busy)
            for name, busy in self._busy.items()
        ]
        self._events += [
            Sample(at=at, subject=Subject.SLICE, name=name, host=one.host, cpu_seconds=one.used)
            for name, one in self._slices.items()
        ]

    def _tell(self, name: str, *, present: bool = True) -> None:
        one = self._slices[name]
        self._events.append(Slice(at=self._clocks.wall(), name=name, host=one.host, cpus=one.cpus, present=present))


class Watcher:
    """A monitoring whose alert is pending as soon as a host is hot, fires after `HOLD`, and resolves at once."""

    url = None

    def __init__(self, clocks: Clocks, machine: Machine, plan: Plan, hold: float = HOLD) -> None:
        self._clocks = clocks
        self._machine = machine
        self._plan = plan
        self._hold = hold
        self.timing = Timing(scrape=1, evaluation=1, alert_for=hold, group_wait=0, group_interval=1)
        self._active: dict[str, tuple[float, AlertState]] = {}
        self._events: list[Event] = []
        self._notifications: list[tuple[float, Mapping[str, Any]]] = []
        self.unseen = ""
        self.state = "new"

    def describe(self) -> Sequence[Part]:
        return [Part(name="simulated monitoring")]

    def start(self, targets: Sequence[Target]) -> None:
        self.state = "started"
        self.targets = targets

    def programs(self) -> Mapping[str, int]:
        return {"prometheus": 4711}

    def missing(self) -> str:
        return self.unseen

    def poll(self) -> Sequence[Event]:
        now = self._clocks.wall()
        for host in self._machine.hosts():
            hot = self._machine.utilization(host.name) >= self._plan.hot
            since, state = self._active.get(host.name, (now, None))
            if hot and state is None:
                self._change(host.name, AlertState.PENDING, since)
            elif hot and state is AlertState.PENDING and now >= since + self._hold:
                self._change(host.name, AlertState.FIRING, since)
                self._notify(host.name, "firing", now)
            elif not hot and state is not None:
                self._change(host.name, AlertState.RESOLVED, since)
                self._notify(host.name, "resolved", now)
                del self._active[host.name]
        events, self._events = self._events, []
        return events

    def notifications(self) -> Sequence[tuple[float, Mapping[str, Any]]]:
        found, self._notifications = self._notifications, []
        return found

    def close(self) -> Sequence[str]:
        self.state = "closed"
        return ()

    def _change(self, host: str, state: AlertState, since: float) -> None:
        self._active[host] = since, state
        self._events.append(Alert(at=self._clocks.wall(), state=state, name=self._plan.alert, host=host))

    def _notify(self, host: str, status: str, at: float) -> None:
        since = datetime.fromtimestamp(self._active[host][0], UTC).isoformat()
        labels = {"alertname": self._plan.alert, "node": host}
        alert = {"status": status, "labels": labels, "startsAt": since, "fingerprint": host}
        self._notifications.append((at, {"version": "4", "alerts": [alert]}))


class Idler:
    """A rebalancer that counts what is done to it, and does nothing."""

    def __init__(self) -> None:
        self.context: Context | None = None
        self.notified: list[Mapping[str, Any]] = []
        self.steps: list[float] = []
        self.stops = 0
        self.trouble: Disturbance | None = None

    def describe(self) -> Part:
        return Part(name="idler", real=Real.CONTROL, actors=("idler",))

    def start(self, context: Context) -> None:
        self.context = context

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:  # noqa: ARG002 - the protocol's
        self.notified.append(payload)

    def step(self, now: float) -> None:
        self.steps.append(now)

    def health(self, now: float) -> Disturbance | None:  # noqa: ARG002 - the protocol's
        return self.trouble

    def stop(self) -> None:
        self.stops += 1


@dataclass
class Memory:
    """A recording that is kept in memory, and an audience that remembers what it saw."""

    run: Run | None = None
    events: list[Event] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)
    full_after: int | None = None
    """Events after which the disk is full; None: never."""

    def begin(self, run: Run) -> None:
        self.run = run

    def write(self, event: Event) -> None:
        if self.full_after is not None and len(self.events) >= self.full_after:
            raise RecordingError("recording.jsonl: cannot be written: the disk is full")
        self.events.append(event)

    def stage(self, doing: str, until: float | None) -> None:  # noqa: ARG002 - the protocol's
        self.stages.append(doing)

    def event(self, event: Event) -> None:
        self.seen.append(event)
