"""Recordings of runs that never took place, whose right figures are known by construction.

A `Scene` says who burns how much where, and what happens when; `record` integrates that exactly and writes down what a
recorder would have seen. Utilization is piecewise constant, so every figure can be worked out by hand: the docstring of
each case does. Times are seconds from the begin of the scene; the recording has them as seconds since the epoch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

from loadband.rebalance.events import (
    Alert,
    AlertState,
    Clock,
    Disturbance,
    End,
    EndReason,
    Event,
    Expectation,
    Host,
    Move,
    MoveState,
    Part,
    Phase,
    PhaseName,
    Plan,
    Real,
    Recording,
    Run,
    Sample,
    Slice,
    Subject,
    Timing,
    Trouble,
)

EPOCH = 1_700_000_000.0
CPUS = 4.0
"""Of each host, unless a scene says otherwise."""
PLAN = Plan(
    scenario="hot-host",
    expect=Expectation.BALANCE,
    alert="LoadbandHostHot",
    hot_hosts=("a",),
    hot=0.85,
    theta=0.2,
    hold=10.0,
    settle=4.0,
    return_within=60.0,
    window=4.0,
    sample_interval=1.0,
    watch=60.0,
    limits={"time_to_alert": "<= 15s", "time_to_balance": "<= 30s", "thrash": "== 0"},
)
MOVER = Part(name="mover", version="1", real=Real.OURS, actors=("mover",))
TIMING = Timing(scrape=1.0, evaluation=1.0, alert_for=10.0, group_wait=0.0, group_interval=1.0)


@dataclass(frozen=True, slots=True)
class _Use:
    """Somebody burns on a host for a time; `at` <= t < `until`."""

    subject: Subject
    name: str
    host: str
    cpus: float
    at: float
    until: float


@dataclass(slots=True)
class _Counter:
    """CPU-seconds of somebody, as they are counted somewhere."""

    seconds: float = 0.0
    begin: float = 0.0
    """What has been lost by resets."""


@dataclass
class Scene:
    """What happens, in seconds from the begin.

    A host gives everybody what they ask for, as long as it has that; else each gets the same part of it.
    """

    hosts: Mapping[str, float] = field(default_factory=lambda: {"a": CPUS, "b": CPUS})
    """By name, their CPUs."""
    plan: Plan = PLAN
    rebalancer: Part = MOVER
    timing: Timing | None = TIMING
    baseline: float = 20.0
    recovery: float = 20.0
    moves_resolution: float = 0.0
    offsets: dict[str, float] = field(default_factory=dict)
    """By host, how far its clock is ahead, from the begin on."""
    phases: dict[str, float] = field(default_factory=dict)
    """By host, how much later than the others it is sampled."""

    def __post_init__(self) -> None:
        self._events: list[Event] = []
        self._asked: list[tuple[float, str, float]] = []
        """When, which slice, how many CPUs."""
        self._placed: list[tuple[float, str, str | None]] = []
        """When, which slice, on which host; None: nowhere."""
        self._gone: dict[str, float] = {}
        self._uses: list[_Use] = []
        self._lost: list[tuple[str, float, float]] = []
        self._resets: list[tuple[float, int, str]] = []
        """When, before (1) or after (3) the samples of that time, whose counter."""
        self._steps: list[tuple[float, str, float]] = []
        self._capacities: list[tuple[float, str, float]] = [(0.0, name, cpus) for name, cpus in self.hosts.items()]
        self._moves = 0
        self._remarks: tuple[str, ...] = ()
        self._reason: EndReason | None = EndReason.COMPLETE
        self._cut: float | None = None
        self._extra: list[tuple[str, float]] = []
        for name, cpus in self.hosts.items():
            self._events.append(Host(at=0.0, name=name, cpus=cpus))
            self._events.append(Clock(at=0.0, host=name, offset=self.offsets.get(name, 0.0), uncertainty=0.01))

    @property
    def overload(self) -> float:
        """When the overload begins."""
        return self.baseline

    @property
    def watched(self) -> float:
        """When the watch ends."""
        return self.baseline + self.plan.watch

    @property
    def end(self) -> float:
        """When the recording ends."""
        return self.watched + self.recovery

    # Load

    def slice(
        self, name: str, host: str | None, cpus: float, *, at: float = 0.0, gone: float | None = None, made: bool = True
    ) -> None:
        """Have a slice, from `at` until `gone`; `made`: whether the run made it."""
        self._events.append(Slice(at=at, name=name, host=host, cpus=cpus, made=made))
        self._asked.append((at, name, cpus))
        self._placed.append((at, name, host))
        if gone is not None:
            self._events.append(Slice(at=gone, name=name, host=host, cpus=cpus, present=False))
            self._gone[name] = gone

    def ask(self, at: float, name: str, cpus: float, *, gets: float | None = None) -> None:
        """Ask another amount of a slice; `gets`: what it burns instead."""
        self._events.append(Slice(at=at, name=name, host=self._host_at(name, at), cpus=cpus))
        self._asked.append((at, name, cpus if gets is None else gets))

    def use(self, subject: Subject, name: str, host: str, cpus: float, *, at: float = 0.0, until: float = 1e9) -> None:
        """Have a program of the run (OWN) or somebody else (FOREIGN) burn on a host, and sample it."""
        self._uses.append(_Use(subject, name, host, cpus, at, until))

    # Hosts

    def comes(self, at: float, host: str, cpus: float = CPUS) -> None:
        """Have another host from then on, or one of another size."""
        self._events.append(Host(at=at, name=host, cpus=cpus))
        if host not in {name for _, name, _ in self._capacities}:
            self._events.append(Clock(at=at, host=host, offset=0.0, uncertainty=0.01))
        self._capacities.append((at, host, cpus))

    def goes(self, at: float, host: str) -> None:
        """Lose a host."""
        self._events.append(Host(at=at, name=host, cpus=self.hosts.get(host, CPUS), present=False))
        self._capacities.append((at, host, 0.0))

    # What happens

    def move(
        self,
        at: float,
        slice: str,  # noqa: A002 - as `Move` names it
        destination: str,
        *,
        takes: float = 2.0,
        downtime: float = 0.0,
        end: MoveState | None = MoveState.DONE,
        asked: float | None = None,
        by: str = "mover",
        restarts: bool = False,
        stated: bool = True,
    ) -> None:
        """Move a slice: asked (0.2 s before, unless said), accepted at `at`, ended `takes` seconds later.

        The slice burns on its source until the last `downtime` seconds of the move. It stays there if the move doesn't
        end in DONE; `end` None leaves it under way. With `restarts` its counter begins again at the destination.
        """
        self._moves += 1
        source = self._host_at(slice, at)
        assert source is not None
        move = Move(
            at=at - 0.2 if asked is None else asked,
            move=f"m{self._moves}",
            state=MoveState.ASKED,
            slice=slice,
            source=source,
            destination=destination,
            by=by,
            reason="a is hot",
        )
        self._events += [move, replace(move, at=at, state=MoveState.ACCEPTED)]
        if end is None:
            return
        over = at + takes
        seconds, stood = (takes, downtime) if stated else (None, None)
        self._events.append(replace(move, at=over, state=end, seconds=seconds, downtime=stood))
        if downtime:
            self._placed.append((over - downtime, slice, None))
        if end is MoveState.DONE:
            self._placed.append((over, slice, destination))
            if restarts:
                self._resets.append((over, 1, slice))
        elif downtime:
            self._placed.append((over, slice, source))

    def refuse(self, at: float, slice: str, destination: str) -> None:  # noqa: A002 - as `Move` names it
        """Have a move asked for that the platform refuses."""
        self._moves += 1
        source = self._host_at(slice, at)
        assert source is not None
        move = Move(
            at=at,
            move=f"m{self._moves}",
            state=MoveState.ASKED,
            slice=slice,
            source=source,
            destination=destination,
            by="mover",
        )
        self._events += [move, replace(move, state=MoveState.FAILED, reason="refused")]

    def alert(
        self,
        host: str = "a",
        *,
        pending: float | None = None,
        firing: float | None = None,
        notified: float | None = None,
        resolved: float | None = None,
        dropped: float | None = None,
    ) -> None:
        """Have the awaited alert about a host go through these states."""
        times = {
            AlertState.PENDING: pending,
            AlertState.FIRING: firing,
            AlertState.NOTIFIED: notified,
            AlertState.RESOLVED: resolved,
            AlertState.DROPPED: dropped,
        }
        self._events += [
            Alert(at=at, state=state, name=self.plan.alert, host=host) for state, at in times.items() if at is not None
        ]

    def trouble(self, at: float, what: Trouble, **fields: object) -> None:
        """Have a disturbance."""
        self._events.append(Disturbance(at=at, what=what, **fields))  # type: ignore[arg-type] # as the caller says

    def event(self, event: Event) -> None:
        """Record an event as it is, its time in seconds from the begin."""
        self._events.append(event)

    # What goes wrong with the recording

    def lose(self, host: str, at: float, until: float) -> None:
        """Have no samples of a host; at < t < until."""
        self._lost.append((host, at, until))

    def reset(self, at: float, name: str) -> None:
        """Have the counter of a host, slice or program begin again, right after a sample at that time."""
        self._resets.append((at, 3, name))

    def sample(self, at: float, host: str) -> None:
        """Have one more sample of a host."""
        self._extra.append((host, at))

    def step(self, at: float, host: str, seconds: float) -> None:
        """Have the clock of a host step; it is compared right after that."""
        self._steps.append((at, host, seconds))
        self._events.append(Clock(at=at, host=host, offset=self._offset(host, at), uncertainty=0.01))

    def stop(self, reason: EndReason | None, at: float | None = None, remarks: Sequence[str] = ()) -> None:
        """End the recording at a time and for another reason; without an end if that is None."""
        self._reason, self._cut, self._remarks = reason, at, tuple(remarks)

    # The recording

    def record(self, *, shuffled: int | None = None) -> Recording:
        """The recording; `shuffled`: with its events in an order of that seed."""
        end = self.end if self._cut is None else self._cut
        events: list[Event] = [*self._events, *self._phases(), *self._samples(end)]
        events = sorted((event for event in events if event.at <= end), key=lambda event: event.at)
        if self._reason is not None:
            events.append(End(at=end, reason=self._reason))
        if shuffled is not None:
            random.Random(shuffled).shuffle(events)
        run = Run(
            at=EPOCH,
            run="synthetic",
            plan=self.plan,
            platform=Part(name="synthetic", version="1", counts_others=True),
            rebalancer=self.rebalancer,
            timing=self.timing,
            moves_resolution=self.moves_resolution,
        )
        return Recording(run, tuple(shift(event, EPOCH) for event in events), self._remarks)

    def _phases(self) -> Iterator[Phase]:
        yield Phase(at=0.0, name=PhaseName.BASELINE)
        yield Phase(at=self.overload, name=PhaseName.OVERLOAD)
        yield Phase(at=self.overload, name=PhaseName.WATCH)
        yield Phase(at=self.watched, name=PhaseName.RECOVERY)

    def _offset(self, host: str, at: float) -> float:
        return self.offsets.get(host, 0.0) + sum(
            step for when, name, step in self._steps if name == host and when <= at
        )

    def _host_at(self, name: str, at: float) -> str | None:
        placed = [(when, host) for when, one, host in self._placed if one == name and when <= at]
        return max(placed, key=lambda each: each[0])[1]

    def _samples(self, end: float) -> list[Sample]:
        """Integrate from change to change, and read the counters on the way."""
        world = _World(self._uses)
        changes: list[tuple[float, int, Callable[[], object]]] = []
        for at, name, cpus in self._capacities:
            changes.append((at, 0, partial(world.cpus.update, {name: cpus})))
        for at, name, cpus in self._asked:
            changes.append((at, 0, partial(world.asked.update, {name: cpus})))
        for at, name, host in self._placed:
            changes.append((at, 0, partial(world.placed.update, {name: host})))
        for name, at in self._gone.items():
            changes.append((at, 3, partial(world.remove, name)))
        for use in self._uses:
            changes += [(use.at, 0, int), (use.until, 0, int)]  # a moment at which the integration has to stop
        for at, rank, name in self._resets:
            changes.append((at, rank, partial(world.reset, name)))
        samples: list[Sample] = []
        for at, host in self._reads(end):
            changes.append((at, 2, partial(self._read, world, at, host, samples)))
        for at, _, change in sorted((each for each in changes if each[0] <= end), key=lambda each: each[:2]):
            world.burn(at)
            change()
        return samples

    def _reads(self, end: float) -> Iterator[tuple[float, str]]:
        """When which host is sampled."""
        interval = self.plan.sample_interval
        for host in dict.fromkeys(name for _, name, _ in self._capacities):
            first = self.phases.get(host, 0.0)
            times = [first + number * interval for number in range(int(end / interval) + 1)]
            times += [at for name, at in self._extra if name == host]
            lost = [(low, high) for name, low, high in self._lost if name == host]
            yield from ((at, host) for at in times if not any(low < at < high for low, high in lost))

    def _read(self, world: _World, at: float, host: str, samples: list[Sample]) -> None:
        stamp = at + self._offset(host, at)
        samples += [
            Sample(at=stamp, subject=subject, name=name, host=host, cpu_seconds=seconds)
            for subject, name, seconds in world.counters_of(host)
        ]


@dataclass(slots=True)
class _World:
    """Who burns where from now on, and what has been counted until now."""

    uses: Sequence[_Use]
    now: float = 0.0
    asked: dict[str, float] = field(default_factory=dict)
    placed: dict[str, str | None] = field(default_factory=dict)
    cpus: dict[str, float] = field(default_factory=dict)
    counters: dict[tuple[Subject, str, str], _Counter] = field(default_factory=dict)
    """By subject, name and, if it isn't a slice, host."""

    def _counter(self, subject: Subject, name: str, host: str = "") -> _Counter:
        begin = 1000.0 if subject is Subject.HOST else 0.0
        return self.counters.setdefault((subject, name, host), _Counter(begin))

    def burn(self, until: float) -> None:
        """Let time pass."""
        seconds, now, self.now = until - self.now, self.now, until
        if seconds <= 0:
            return
        for host, cpus in self.cpus.items():
            wants = [
                (self._counter(Subject.SLICE, name), amount)
                for name, amount in self.asked.items()
                if self.placed.get(name) == host
            ]
            wants += [
                (self._counter(use.subject, use.name, host), use.cpus)
                for use in self.uses
                if use.host == host and use.at <= now < use.until
            ]
            total = sum(amount for _, amount in wants)
            part = min(1.0, cpus / total) if total else 0.0
            for counter, amount in wants:
                counter.seconds += amount * part * seconds
            self._counter(Subject.HOST, host, host).seconds += total * part * seconds

    def counters_of(self, host: str) -> Iterator[tuple[Subject, str, float]]:
        """Whose counters can be read on a host now, and what they say."""
        if not self.cpus.get(host):
            return
        keys = [(Subject.HOST, host, host)]
        keys += [(Subject.SLICE, name, "") for name in self.asked if self.placed.get(name) == host]
        keys += [(use.subject, use.name, host) for use in self.uses if use.host == host]
        for key in keys:
            counter = self._counter(*key)
            yield key[0], key[1], counter.seconds - counter.begin

    def reset(self, name: str) -> None:
        """Have counters begin again."""
        for (_, named, _), counter in self.counters.items():
            if named == name:
                counter.begin = counter.seconds

    def remove(self, name: str) -> None:
        """Take a slice away."""
        del self.asked[name]


def shift(event: Event, seconds: float) -> Event:
    """An event, later by some seconds."""
    if isinstance(event, Disturbance) and event.until is not None:
        return replace(event, at=event.at + seconds, until=event.until + seconds)
    return replace(event, at=event.at + seconds)


def shifted(recording: Recording, seconds: float) -> Recording:
    """A recording in which everything is later by some seconds."""
    run = replace(recording.run, at=recording.run.at + seconds)
    return Recording(run, tuple(shift(event, seconds) for event in recording.events), recording.remarks)


# The story that most cases tell with one change each.
#
# Hosts a and b have 4 CPUs each. At the baseline a's four slices burn 0.5 CPUs each (50 %), b's four 0.3 (30 %). From
# 20 s on a's slices burn 0.9 CPUs each (90 %). Averaged over 4 s, a passes 85 % at 23.5 s: the sample at 24 s is t0.
# The spread is 60 points then. One slice moved to b makes it 67.5 % and 52.5 %, a spread of 15 points: balance.


def overloaded(plan: Plan = PLAN, **fields: object) -> Scene:
    """The story up to t0 = 24 s, without an alert and without a move."""
    scene = Scene(plan=plan, **fields)  # type: ignore[arg-type] # as the caller says
    for number in range(1, 5):
        scene.slice(f"a{number}", "a", 0.5)
        scene.slice(f"b{number}", "b", 0.3)
        scene.ask(scene.overload, f"a{number}", 0.9)
        scene.ask(scene.watched, f"a{number}", 0.5)
    return scene


def noticed(plan: Plan = PLAN, *, resolved: float = 39.5, **fields: object) -> Scene:
    """The story with its alert: pending at 24.5 s, firing at 34.5 s, notified at 34.6 s; resolved at 39.5 s."""
    scene = overloaded(plan, **fields)
    scene.alert(pending=24.5, firing=34.5, notified=34.6, resolved=resolved)
    return scene


def good() -> Recording:
    """All is well: the slice a1 is moved at 35 s, in 2 s.

    Figures: time_to_alert 10.5 s (0.5 + 10 + 0.1 to the webhook), time_to_first_move 11 s. Averaged over 4 s, a falls
    below 85 % at 37.9 s (relief: 38 - 24 = 14 s), the spread to 20 points at 40.56 s (balance: 41 - 24 = 17 s).
    """
    scene = noticed()
    scene.move(35.0, "a1", "b")
    return scene.record()


def late_alert() -> Recording:
    """As `good`, but the alert is pending at 44.5 s only and fires at 54.5 s: 30.5 s, more than the limit of 15 s."""
    scene = overloaded()
    scene.alert(pending=44.5, firing=54.5, notified=54.6, resolved=59.5)
    scene.move(55.0, "a1", "b")
    return scene.record()


def silent_alert() -> Recording:
    """The alert is pending twice and never fires; nothing moves."""
    scene = overloaded()
    scene.alert(pending=24.5, dropped=30.5)
    scene.alert(pending=40.5, dropped=46.5)
    return scene.record()


def early_move() -> Recording:
    """A move at 28 s, before the alert, which fires at 34.5 s nevertheless: whatever moved wasn't driven by it."""
    scene = noticed(resolved=40.5)
    scene.move(28.0, "a1", "b", takes=10.0)
    return scene.record()


def thrash() -> Recording:
    """The slice a1 goes to b, back to a and to b again: two of three moves undo the one before them."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    scene.move(45.0, "a1", "a")
    scene.move(55.0, "a1", "b")
    scene.alert(pending=51.5, dropped=58.5)
    return scene.record()


def slow_oscillation() -> Recording:
    """Two slices go to b at 35 s, and back to a at 60 s, 25 s later: balance is reached and left again, more than once.

    a: 90, 45, 90 %; b: 30, 75, 30 %; the spread: 60, 30, 60 points, by way of 0. Nothing returns within C = 20 s.
    """
    scene = noticed(replace(PLAN, return_within=20.0, limits={}))
    for name in ("a1", "a2"):
        scene.move(35.0, name, "b")
        scene.move(60.0, name, "a")
    scene.alert(pending=66.5, firing=76.5, notified=76.6)
    return scene.record()


def never_balanced() -> Recording:
    """The smallest slice moves, too little: a 78.75 %, b 41.25 %, a spread of 37.5 points until the watch ends."""
    scene = overloaded()
    scene.slice("a5", "a", 0.0)
    scene.ask(20.0, "a1", 0.45)
    scene.ask(20.0, "a5", 0.45)
    scene.alert(pending=24.5, firing=34.5, notified=34.6, resolved=40.5)
    scene.move(35.0, "a5", "b")
    return scene.record()


def lost_balance() -> Recording:
    """Balance is reached at 41 s and lost at 47 s, before it has held for 10 s: b2 takes 2.2 CPUs from 44 s on."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    scene.ask(44.0, "b2", 2.2)
    return scene.record()


def two_at_once() -> Recording:
    """Two moves at once, of which the second takes longer; a 45 %, b 75 %: relieved, and out of balance again."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    scene.move(35.0, "a2", "b", takes=6.0)
    return scene.record()


def failing_move() -> Recording:
    """The first move fails after 1 s, one is refused, one cancelled; the next one at 40 s is done: balance at 46 s."""
    scene = noticed(resolved=44.5)
    scene.move(35.0, "a1", "b", takes=1.0, end=MoveState.FAILED)
    scene.refuse(36.5, "a1", "b")
    scene.move(37.0, "a2", "b", takes=1.0, end=MoveState.CANCELLED)
    scene.move(40.0, "a1", "b")
    return scene.record()


def evicted() -> Recording:
    """A pod's way: a1 ends at 35 s and begins again on b at 38 s, with a new counter; 3 s of 0.9 CPUs are lost."""
    scene = noticed()
    scene.move(35.0, "a1", "b", takes=3.0, downtime=3.0, restarts=True)
    return scene.record()


def gap() -> Recording:
    """As `good`, but b has no samples from 30 s to 42 s: nobody can say when balance came back."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    scene.lose("b", 30.0, 42.0)
    return scene.record()


def counter_reset() -> Recording:
    """As `good`, with the counters of host b and of the slice a2 beginning again at 30 s: no figure changes."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    scene.reset(30.0, "b")
    scene.reset(30.0, "a2")
    return scene.record()


def host_comes() -> Recording:
    """An empty host c comes at 30 s and gets a2; with it, a 67.5 %, b 30 %, c 22.5 %: no balance among three."""
    scene = noticed()
    scene.comes(30.0, "c")
    scene.move(35.0, "a2", "c")
    return scene.record()


def host_goes() -> Recording:
    """An empty host c goes at 30 s; from then on it is as `good`."""
    scene = noticed(hosts={"a": CPUS, "b": CPUS, "c": CPUS})
    scene.goes(30.0, "c")
    scene.move(35.0, "a1", "b")
    return scene.record()


def clock_offset() -> Recording:
    """As `good`, with b's clock 0.5 s ahead, which is measured: no figure changes."""
    scene = noticed(offsets={"b": 0.5})
    scene.move(35.0, "a1", "b")
    return scene.record()


def clocks_apart() -> Recording:
    """As `good`, with b's clock 30 s ahead: more than the resolution of 1 s."""
    scene = noticed(offsets={"b": 30.0})
    scene.move(35.0, "a1", "b")
    return scene.record()


def clock_step() -> Recording:
    """As `good`, with b's clock going 0.7 s forward at 36 s."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    scene.step(36.0, "b", 0.7)
    return scene.record()


def out_of_order() -> Recording:
    """The events of `good`, in an order of chance."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    return scene.record(shuffled=7)


def one_host() -> Recording:
    """One hot host, and none to move to: an imbalance of 0 from the start, which proves nothing."""
    scene = Scene(hosts={"a": CPUS})
    for number in range(1, 5):
        scene.slice(f"a{number}", "a", 0.5)
        scene.ask(20.0, f"a{number}", 0.9)
    scene.alert(pending=24.5, firing=34.5, notified=34.6)
    return scene.record()


def no_slices() -> Recording:
    """Host a is hot by somebody else's work; there is nothing of the run that could be moved."""
    scene = Scene()
    scene.use(Subject.FOREIGN, "backup (pid 4711)", "a", 3.6, at=20.0)
    scene.alert(pending=24.5, firing=34.5, notified=34.6)
    return scene.record()


def ends_during_move() -> Recording:
    """The recorder is killed at 36 s, during the move that began at 35 s."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    scene.stop(None, 36.0, ["line 212 has no end (17 bytes): left out"])
    return scene.record()


def interrupted() -> Recording:
    """As `good`, and somebody presses Ctrl-C at 50 s."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    scene.stop(EndReason.INTERRUPTED, 50.0)
    return scene.record()


def foreign_load() -> Recording:
    """As `good`, with somebody's backup taking 1.2 CPUs (30 %) of b from 30 s to 50 s."""
    scene = noticed()
    scene.move(35.0, "a1", "b")
    scene.use(Subject.FOREIGN, "backup (pid 4711)", "b", 1.2, at=30.0, until=50.0)
    scene.trouble(34.0, Trouble.FOREIGN_LOAD, host="b", who="backup (pid 4711)", amount=1.2)
    return scene.record()


def foreign_move() -> Recording:
    """As `good`, but it is an operator who moves the slice."""
    scene = noticed()
    scene.move(35.0, "a1", "b", by="alice")
    return scene.record()


def unfaithful() -> Recording:
    """As `good`, but a2 burns half of the 0.5 CPUs that it is asked for at the baseline, and 0.9 after that.

    Of a's samples before the first move 27 count, as each change of what is asked takes some out: 11 are as asked.
    """
    scene = Scene()
    for number in range(1, 5):
        scene.slice(f"a{number}", "a", 0.5)
        scene.slice(f"b{number}", "b", 0.3)
        scene.ask(20.0, f"a{number}", 0.9)
    scene.ask(0.0, "a2", 0.5, gets=0.25)
    scene.alert(pending=24.5, firing=34.5, notified=34.6, resolved=39.5)
    scene.move(35.0, "a1", "b")
    return scene.record()


SYMMETRIC = replace(
    PLAN, scenario="symmetric", expect=Expectation.NO_MOVE, hot_hosts=(), limits={"moves": "== 0"}, hold=4.0
)


def symmetric() -> Recording:
    """Both hosts rise to 60 %: no alert, nothing to move."""
    scene = Scene(plan=SYMMETRIC)
    for host in ("a", "b"):
        for number in range(1, 5):
            scene.slice(f"{host}{number}", host, 0.4)
            scene.ask(20.0, f"{host}{number}", 0.6)
    return scene.record()


def needless_move() -> Recording:
    """As `symmetric`, and a slice is moved nevertheless: a 45 %, b 75 %."""
    scene = Scene(plan=SYMMETRIC)
    for host in ("a", "b"):
        for number in range(1, 5):
            scene.slice(f"{host}{number}", host, 0.4)
            scene.ask(20.0, f"{host}{number}", 0.6)
    scene.move(40.0, "a1", "b")
    return scene.record()


def short_burst() -> Recording:
    """a is hot for 8 s, less than the alert's `for`: the alert is pending, is dropped, and nothing moves."""
    scene = Scene(plan=replace(PLAN, scenario="short-burst", expect=Expectation.NO_ALERT, limits={}))
    for number in range(1, 5):
        scene.slice(f"a{number}", "a", 0.5)
        scene.slice(f"b{number}", "b", 0.3)
        scene.ask(20.0, f"a{number}", 0.9)
        scene.ask(29.0, f"a{number}", 0.5)
    scene.alert(pending=24.5, dropped=30.5)
    return scene.record()


def unmovable() -> Recording:
    """One slice makes a hot, and it would make b as hot: the alert fires, and nothing moves, as is right."""
    scene = Scene(plan=replace(PLAN, scenario="unmovable", expect=Expectation.NO_MOVE, limits={"moves": "== 0"}))
    scene.slice("big", "a", 2.0)
    scene.slice("small", "b", 0.4)
    scene.ask(20.0, "big", 3.6)
    scene.alert(pending=24.5, firing=34.5, notified=34.6)
    return scene.record()


def never_hot() -> Recording:
    """The overload is asked for, but host a comes to 80 % only: t0 is never reached."""
    scene = Scene()
    for number in range(1, 5):
        scene.slice(f"a{number}", "a", 0.5)
        scene.slice(f"b{number}", "b", 0.3)
        scene.ask(20.0, f"a{number}", 0.8)
    return scene.record()


def big(hosts: int = 50, slices: int = 200, seconds: float = 3600.0, interval: float = 15.0) -> Recording:
    """Many hosts and slices for an hour: the first host is hot, and three of its slices are moved."""
    names = [f"host-{number:02}" for number in range(hosts)]
    baseline = recovery = 10 * interval
    plan = replace(
        PLAN,
        scenario="big",
        hot_hosts=(names[0],),
        window=4 * interval,
        settle=2 * interval,
        hold=4 * interval,
        sample_interval=interval,
        watch=seconds - baseline - recovery,
        theta=0.25,
        limits={"time_to_balance": "<= 10m", "moves": "<= 5"},
    )
    timing = Timing(scrape=interval, evaluation=interval, alert_for=60.0, group_wait=30.0, group_interval=60.0)
    scene = Scene(hosts=dict.fromkeys(names, CPUS), plan=plan, timing=timing, baseline=baseline, recovery=recovery)
    for number in range(slices):
        scene.slice(f"slice-{number:03}", names[number % hosts], 1.6 * hosts / slices)
    hot = [f"slice-{number:03}" for number in range(0, slices, hosts)]
    for name in hot:
        scene.ask(baseline, name, 3.7 / len(hot))
    at = baseline + 5 * interval
    scene.alert(names[0], pending=at, firing=at + 60.0, notified=at + 90.0, resolved=at + 300.0)
    scene.move(at + 100.0, hot[0], names[1], takes=20.0, downtime=0.3)
    scene.move(at + 130.0, hot[1], names[2], takes=20.0, downtime=0.3)
    return scene.record()


CASES: Mapping[str, Callable[[], Recording]] = {
    case.__name__: cache(case)
    for case in (
        good,
        late_alert,
        silent_alert,
        early_move,
        thrash,
        slow_oscillation,
        never_balanced,
        lost_balance,
        two_at_once,
        failing_move,
        evicted,
        gap,
        counter_reset,
        host_comes,
        host_goes,
        clock_offset,
        clocks_apart,
        clock_step,
        out_of_order,
        one_host,
        no_slices,
        ends_during_move,
        interrupted,
        foreign_load,
        foreign_move,
        unfaithful,
        symmetric,
        needless_move,
        short_burst,
        unmovable,
        never_hot,
    )
}
"""All but `big`, by name."""
