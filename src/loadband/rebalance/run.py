"""The conductor: takes a platform and a rebalancer through the phases of a scenario, and records what happens.

One thread does all: every `TICK` it asks the platform and the monitoring what has happened, hands notifications to the
rebalancer, gives it a turn, and writes the events down. Clock and waiting are handed in. Whatever was started is undone
at the end, in the opposite order, however the run ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from loadband import __version__
from loadband.rebalance.events import (
    Alert,
    AlertState,
    Disturbance,
    End,
    EndReason,
    Event,
    Part,
    Phase,
    PhaseName,
    Plan,
    Run,
    Timing,
    Trouble,
)
from loadband.rebalance.platforms import Platform, PlatformError, Target
from loadband.rebalance.rebalancers import Context, Rebalancer, RebalancerError
from loadband.rebalance.recording import RecordingError

TICK = 0.1
"""Seconds between two turns."""
READY_SECONDS = 40.0
"""For platform and monitoring to be ready for the baseline; the monitoring may take one window more."""
MADE_SECONDS = 15.0
"""For the slices of the overload to burn what they are asked for; after that the watch begins nevertheless."""
ASK_INTERVAL = 0.5
"""Seconds between two questions whether the monitoring is ready: each is answered on a host that is measured soon."""
HEALTH_INTERVAL = 1.0
"""Seconds between two looks at the rebalancer's health."""
STEP = 0.1
"""Seconds by which the wall clock may leave the monotonic one between two turns."""
SURE = 0.02
"""Seconds: a reading of both clocks that took longer says nothing."""


@dataclass(frozen=True, slots=True)
class Put:
    """A slice that is there from the start."""

    name: str
    host: str
    cpus: float
    movable: bool = True
    """See `Platform.make`."""


@dataclass(frozen=True, slots=True)
class Change:
    """A part of the overload: a slice comes, or is asked for another amount."""

    after: float
    """Seconds after the begin of the overload."""
    name: str
    cpus: float
    host: str
    """Where it is put, if it comes."""
    movable: bool = True
    """See `Platform.make`; counts if it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What the conductor does, step by step: a scenario with every choice made."""

    plan: Plan
    slices: Sequence[Put]
    overload: Sequence[Change]
    baseline: float
    """Seconds."""
    recovery: float
    """Seconds that are waited for the alerts to resolve, at most."""
    seed: int = 0


class MonitoringError(Exception):
    """The monitoring can't do what a run needs; the message is a sentence that says what and why."""


class Monitoring(Protocol):
    """Prometheus and Alertmanager, or what stands for them."""

    @property
    def url(self) -> str | None:
        """Of Prometheus; None if there is none."""
        ...

    @property
    def timing(self) -> Timing | None:
        """What the configuration allows."""
        ...

    def describe(self) -> Sequence[Part]:
        """The programs, for the report."""
        ...

    def start(self, targets: Sequence[Target]) -> None:
        """Begin to scrape these and to watch the alerts.

        Raises:
            MonitoringError: it doesn't start.
        """
        ...

    def programs(self) -> Mapping[str, int]:
        """The processes that were started, by name; empty if it runs elsewhere."""
        ...

    def missing(self) -> str:
        """What isn't seen yet of what has to be seen before a baseline, for people; empty if nothing is missing."""
        ...

    def poll(self) -> Sequence[Event]:
        """The alerts that changed their state since the last call, and what is wrong with the monitoring."""
        ...

    def notifications(self) -> Sequence[tuple[float, Mapping[str, Any]]]:
        """The bodies of Alertmanager's notifications since the last call, each with the time at which it arrived."""
        ...

    def close(self) -> Sequence[str]:
        """Undo all that was started; may be called at any time, and more than once.

        Returns:
            What could not be undone, a sentence each; empty if nothing is left.
        """
        ...


class Time(Protocol):
    """Clocks and waiting."""

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some begin."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for some seconds (>= 0), or less if the run is to end; returns whether it is."""
        ...


@dataclass(frozen=True, slots=True)
class RealTime:
    """The clocks of this machine.

    Args:
        wait: as in `Time`: ends early, and says so, when somebody asks for the end of the run.
    """

    wait: Callable[[float], bool]

    def wall(self) -> float:
        """See `Time`."""
        return time.time()

    def monotonic(self) -> float:
        """See `Time`."""
        return time.monotonic()


class Audience(Protocol):
    """Who watches a run while it goes on. Called by the run's own thread: it must not take long, and must not fail."""

    def stage(self, doing: str, until: float | None) -> None:
        """Learn what goes on from now on.

        Args:
            doing: for people.
            until: when it will be over, seconds since the epoch; None if that isn't known.
        """
        ...

    def event(self, event: Event) -> None:
        """Learn of an event that was recorded."""
        ...


class Sink(Protocol):
    """Where a recording goes."""

    def begin(self, run: Run) -> None:
        """Write the first line.

        Raises:
            RecordingError: it can't be written.
        """
        ...

    def write(self, event: Event) -> None:
        """Write an event.

        Raises:
            RecordingError: it can't be written.
        """
        ...


class Steadiness:
    """Looks whether the wall clock steps.

    Args:
        time: the clocks.
    """

    def __init__(self, time: Time) -> None:
        self._time = time
        self._offset: float | None = None
        """Of the wall clock to the monotonic one, at the last look."""

    def look(self) -> Disturbance | None:
        """The step since the last look; None if there was none."""
        before = self._time.monotonic()
        wall = self._time.wall()
        after = self._time.monotonic()
        if after - before > SURE:
            return None
        offset, last = wall - after, self._offset
        self._offset = offset
        if last is None or abs(step := offset - last) <= STEP:
            return None
        detail = f"the wall clock went {abs(step):.3f} s {'forward' if step > 0 else 'back'} at once"
        return Disturbance(at=wall, what=Trouble.CLOCK_STEPPED, amount=step, detail=detail)


class _InterruptedError(Exception):
    """Somebody asked for the end."""


class _Undos:
    """What has to be undone, last one first; none keeps the others from being tried."""

    def __init__(self) -> None:
        self._stack: list[tuple[str, Callable[[], Sequence[str] | None]]] = []

    def push(self, what: str, undo: Callable[[], Sequence[str] | None]) -> None:
        """Remember to undo something.

        Args:
            what: for people, should it fail.
            undo: may return what was left, a sentence each.
        """
        self._stack.append((what, undo))

    def run(self) -> list[str]:
        """Undo all; returns what was left, a sentence each."""
        left: list[str] = []
        while self._stack:
            what, undo = self._stack.pop()
            try:
                left += undo() or ()
            except Exception as error:  # noqa: BLE001 - whatever it is, the rest has to be undone
                left.append(f"{what} could not be undone: {error!r}")
        return left


@dataclass(slots=True)
class _Alerts:
    """Which alerts are active, by what was recorded."""

    active: set[tuple[str, str]] = field(default_factory=set)

    def event(self, event: Alert) -> None:
        """Take an alert's new state."""
        key = event.name, event.host
        if event.state in {AlertState.PENDING, AlertState.FIRING}:
            self.active.add(key)
        elif event.state in {AlertState.RESOLVED, AlertState.DROPPED}:
            self.active.discard(key)

    def any(self, name: str) -> bool:
        """Whether an alert of that name is active, on any host."""
        return any(active == name for active, _ in self.active)


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part in a run."""

    platform: Platform
    monitoring: Monitoring
    rebalancer: Rebalancer


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    reason: EndReason
    detail: str
    """Why it failed, a sentence; empty if it didn't."""
    left: tuple[str, ...]
    """What could not be undone, a sentence each, with the command that does it where there is one."""


class Conductor:
    """One run of a scenario.

    Args:
        script: what to do.
        cast: who takes part; none of them started.
        sink: where the recording goes.
        time: clocks and waiting.
        audience: who watches.
    """

    def __init__(self, script: Script, cast: Cast, sink: Sink, time: Time, audience: Sequence[Audience] = ()) -> None:
        self._script = script
        self._platform, self._monitoring, self._rebalancer = cast.platform, cast.monitoring, cast.rebalancer
        self._sink = sink
        self._time = time
        self._audience = audience
        self._undos = _Undos()
        self._alerts = _Alerts()
        self._identity = "", 1, 1
        """The run's id, which of its repeats this is, and of how many."""
        self._clock = Steadiness(time)
        self._begun = False
        """Whether the recording has its first line."""
        self._started = False
        """Whether there is anything to record."""
        self._early: list[Event] = []
        """What happened before the recording had its first line."""
        self._rebalancing = False
        self._ailing: set[str] = set()
        """What of the rebalancer's health was recorded."""
        self._health_at = 0.0
        self._spoiled = ""
        """The last thing that went wrong, for people."""

    def run(self, run: str, repeat: int = 1, repeats: int = 1) -> Result:
        """Do it all; whatever goes wrong is in the result and, as far as possible, in the recording.

        Args:
            run: the run's id.
            repeat: which of the repeats it is, from 1.
            repeats: how many are asked for.
        """
        self._identity = run, repeat, repeats
        reason, detail = EndReason.COMPLETE, ""
        left: list[str] = []
        try:
            try:
                reason, detail = self._play()
            finally:
                self._stage("cleaning up", None)
                left = self._undos.run()
            if self._begun:
                self._write(End(at=self._time.wall(), reason=reason, detail=detail))
        except RecordingError as error:
            # Without its end it counts as interrupted.
            reason, detail = EndReason.FAILED, detail or str(error)
        return Result(reason, detail, tuple(left))

    def _play(self) -> tuple[EndReason, str]:
        """Start all and go through the phases; returns how that ended, and why if it failed."""
        reason, detail = EndReason.COMPLETE, ""
        try:
            self._prepare()
            self._perform()
        except _InterruptedError:
            reason = EndReason.INTERRUPTED
        except (PlatformError, RebalancerError, MonitoringError, RecordingError, OSError) as error:
            reason, detail = EndReason.FAILED, str(error)
        if self._started and not self._begun:
            # While those that describe themselves in it still run.
            self._begin()
        return reason, detail

    # Before the first phase

    def _prepare(self) -> None:
        """Start all that takes part, until the baseline can begin."""
        script, platform = self._script, self._platform
        run, _, _ = self._identity
        self._stage("starting the platform", None)
        self._undos.push("the platform", platform.close)
        platform.start()
        self._started = True
        self._undos.push("the monitoring", self._monitoring.close)
        self._stage("starting the monitoring", None)
        self._monitoring.start(platform.targets())
        platform.watch(self._monitoring.programs())
        self._stage("starting the slices", None)
        for put in script.slices:
            platform.make(put.name, put.host, put.cpus, movable=put.movable)
        # Before the wait for a whole window: else it is shown a host on which it has itself just started.
        self._undos.push("the rebalancer", self._rebalancer.stop)
        self._rebalancer.start(
            Context(run=run, plan=script.plan, actuator=platform, prometheus=self._monitoring.url, watch=platform.watch)
        )
        self._until_ready()
        self._begin()
        self._rebalancing = True

    def _begin(self) -> None:
        """Begin the recording: only when all have started can they say what they are."""
        script = self._script
        run, repeat, repeats = self._identity
        self._sink.begin(
            Run(
                at=self._time.wall(),
                run=run,
                repeat=repeat,
                repeats=repeats,
                plan=script.plan,
                platform=self._platform.describe(),
                rebalancer=self._rebalancer.describe(),
                monitoring=tuple(self._monitoring.describe()),
                timing=self._monitoring.timing,
                moves_resolution=self._platform.moves_resolution,
                loadband=__version__,
                seed=script.seed,
            )
        )
        self._begun = True
        early, self._early = self._early, []
        for event in early:
            self._sink.write(event)

    def _until_ready(self) -> None:
        began, patience = self._time.monotonic(), READY_SECONDS
        self._turn()
        self._stage("waiting for the slices to burn what they are asked for", None)
        while pending := self._platform.pending():
            self._wait_for(f"slices {', '.join(pending)}", began, patience)
        window = self._script.plan.window
        patience += window
        # What it costs to start servers and slices belongs to no window of the recording. The monitoring is asked after
        # it, for the awaited alert must not be active when the baseline begins.
        self._stage(f"waiting for a window of {window:g} s in which nothing starts", None)
        self._wait_until(self._time.monotonic() + window)
        while missing := self._monitoring.missing():
            self._stage(f"waiting for {missing}", None)
            self._wait_for(missing, began, patience, ASK_INTERVAL)

    def _wait_for(self, what: str, began: float, patience: float, seconds: float = TICK) -> None:
        if self._time.monotonic() > began + patience:
            why = f"; {self._spoiled}" if self._spoiled else ""
            raise PlatformError(f"not ready after {patience:g} s: still waiting for {what}{why}")
        self._wait_until(self._time.monotonic() + seconds)

    # The phases

    def _perform(self) -> None:
        script, plan = self._script, self._script.plan
        self._phase(PhaseName.BASELINE, script.baseline)
        self._wait_until(self._time.monotonic() + script.baseline)
        began = self._time.monotonic()
        self._phase(PhaseName.OVERLOAD, None)
        self._overload(began)
        self._phase(PhaseName.WATCH, began + plan.watch - self._time.monotonic())
        self._wait_until(began + plan.watch)
        # A last look at the rebalancer that belongs to the watch, however long ago the one before was.
        self._health_at = self._time.monotonic()
        self._turn()
        self._phase(PhaseName.RECOVERY, script.recovery)
        self._recover()

    def _overload(self, began: float) -> None:
        """Make the overload, until it stands."""
        there = {put.name for put in self._script.slices}
        for change in sorted(self._script.overload, key=lambda each: each.after):
            self._wait_until(began + change.after)
            if change.name in there:
                self._platform.ask(change.name, change.cpus)
            else:
                self._platform.make(change.name, change.host, change.cpus, movable=change.movable)
                there.add(change.name)
        until = self._time.monotonic() + MADE_SECONDS
        while self._platform.pending() and self._time.monotonic() < min(until, began + self._script.plan.watch):
            self._wait()

    def _recover(self) -> None:
        """Take the overload away, and wait until no alert is left."""
        asked = {put.name: put.cpus for put in self._script.slices}
        for name in dict.fromkeys(change.name for change in self._script.overload):
            if name in asked:
                self._platform.ask(name, asked[name])
            else:
                self._platform.remove(name)
        now = self._time.monotonic()
        least, most = now + 2 * self._script.plan.sample_interval, now + self._script.recovery
        self._wait_until(min(least, most))
        while self._alerts.any(self._script.plan.alert) and self._time.monotonic() < most:
            self._wait()

    def _phase(self, name: PhaseName, seconds: float | None) -> None:
        now = self._time.wall()
        self._write(Phase(at=now, name=name))
        self._stage(name, None if seconds is None else now + seconds)

    # Turn by turn

    def _wait_until(self, deadline: float) -> None:
        """Take turns until a monotonic time."""
        while (left := deadline - self._time.monotonic()) > 0:
            self._wait(min(left, TICK))

    def _wait(self, seconds: float = TICK) -> None:
        if self._time.wait(seconds):
            raise _InterruptedError
        self._turn()

    def _turn(self) -> None:
        if step := self._clock.look():
            self._write(step)
        for event in self._platform.poll():
            self._write(event)
        for event in self._monitoring.poll():
            self._write(event)
        notifications = self._monitoring.notifications()
        if self._rebalancing and (trouble := self._rebalance(notifications)):
            self._write(trouble)

    def _rebalance(self, notifications: Sequence[tuple[float, Mapping[str, Any]]]) -> Disturbance | None:
        """Give the rebalancer its turn; returns what is wrong with it, if that isn't recorded yet."""
        now = self._time.wall()
        try:
            for at, payload in notifications:
                self._rebalancer.notify(at, payload)
            self._rebalancer.step(now)
            return self._health(now)
        except Exception as error:  # noqa: BLE001 - it is what is tested: it may do anything, and the run must end well
            self._rebalancing = False
            name = self._rebalancer.describe().name
            detail = f"it failed and isn't called any more: {error!r}"
            return Disturbance(at=now, what=Trouble.REBALANCER_DOWN, who=name, detail=detail)

    def _health(self, at: float) -> Disturbance | None:
        if (now := self._time.monotonic()) < self._health_at:
            return None
        self._health_at = now + HEALTH_INTERVAL
        trouble = self._rebalancer.health(at)
        if trouble is None or trouble.detail in self._ailing:
            return None
        self._ailing.add(trouble.detail)
        return trouble

    def _write(self, event: Event) -> None:
        if self._begun:
            self._sink.write(event)
        else:
            self._early.append(event)
        if isinstance(event, Alert):
            self._alerts.event(event)
        for one in self._audience:
            one.event(event)
        if isinstance(event, Disturbance):
            self._spoiled = event.detail
            if event.what is Trouble.SLICE_DIED and not self._begun:
                raise PlatformError(f"before the baseline, {event.detail}")

    def _stage(self, doing: str, until: float | None) -> None:
        for one in self._audience:
            one.stage(doing, until)
