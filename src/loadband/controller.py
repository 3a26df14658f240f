"""The laws that decide how much to burn: pure, without a clock and without I/O.

Each law is a value with a `start` state and a `step(state, reading, setpoint) -> (state, command)`. What the state of
affairs is called is decided apart from them, by `judge`, from the last second as people see it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

from loadband.quantities import Band, Command, Reading, Setpoint, State, Steal, Verdict

STEP_TURN = 0.001
"""CPU-seconds that a worker of the step law burns before it sleeps."""
MAX_WORKERS = 1024
KEPT = 0.95
"""Part of a latched size that counts as kept."""


@dataclass(frozen=True, slots=True)
class ControlState:
    """What the laws remember from one cycle to the next."""

    effort: float = 0.0
    """CPUs commanded."""
    workers: int = 0
    own: float = 0.0
    """Our recent use, a ratio, low-passed."""
    busy: float = 0.0
    """Everybody's recent use, a ratio, low-passed: own / busy is our share."""
    elapsed: float = 0.0
    """Seconds since the step law last decided."""
    used: float = 0.0
    """Utilization times seconds in that time."""
    trim: float = 0.0
    """The slow correction of the target, a ratio, that regulators who share a host agree on unspoken."""
    setpoint: Setpoint | None = None
    """What the latch is for."""
    mean_utilization: float | None = None
    """Low-passed, a ratio; None before the first reading."""
    mean_own: float = 0.0
    """Our use, low-passed, CPUs: what a latch freezes."""
    sought: float | None = None
    """Seconds in closed loop since the band was entered; None before that."""
    latched: float | None = None
    """The frozen size, CPUs."""


class Controller(Protocol):
    """A law of control."""

    def start(self, before: ControlState | None = None) -> ControlState:
        """The state before the first reading, and after a gap: then with the state before it."""
        ...

    def step(self, state: ControlState, reading: Reading, setpoint: Setpoint) -> tuple[ControlState, Command]:
        """Decide what to burn until the next reading; effort is within 0..reach for every input."""
        ...


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Feed forward through an integral: `effort += g * (target - utilization) * capacity`, limited to 0..reach.

    The plant's gain is known (effort / capacity), so g = 1 would be `target - others` at once; g below that averages
    the counters' steps and the delay of measuring. The limit is the anti-windup. Settling doesn't depend on the number
    of CPUs.

    g is in proportion to our own share of the busy time, so that the gains of all regulators on one host sum up to the
    same however many they are. The floors let one that burns nothing yet come in, and one that was crowded out leave.

    Regulators that share a host share its load as generators share that of a power grid: primary and secondary control
    (Kundur, Power System Stability and Control, ch. 11). Droop: whoever has more than half of the load aims a little
    lower, whoever has less a little higher, which makes shares equal. The trim: all see the same error, so a slow
    integral of it, which leaks so that differences between theirs fade, takes the droop's offset off again. Alone on a
    host neither does anything.
    """

    steal: Steal = Steal.IDLE
    workers: int | None = None
    """None: as many as it takes to burn all of the reach."""
    gain: float = 0.4
    """Of one regulator alone, for each `PERIOD`."""
    floor_up: float = 0.125
    floor_down: float = 0.02

    PERIOD = 0.1
    """Seconds that `gain` and the floors are for; other intervals are converted."""
    SHARE_TIME = 0.3
    """Time constant, seconds, over which our share is averaged."""
    MAX_GAIN = 0.8
    """For long intervals: near 1 a wrong reading would be obeyed wholly."""
    DROOP = 0.1
    """Points of utilization by which the target falls, for a point of share."""
    ALONE = 0.9
    """Share from which on we count as alone."""
    FADE = 0.15
    """Points of share below `ALONE` over which the droop comes in; the trim comes in four times as fast."""
    TRIM_GAIN = 40.0
    """Of the trim in the steady state: what it leaves of an offset is one part in 41."""
    TRIM_TIME = 8.0
    """Time constant of its leak, seconds; more for long intervals."""
    MAX_TRIM_STEP = 0.5
    """Of the error that one reading adds to the trim: beyond, it would swing."""
    MAX_TRIM = 0.1

    def start(self, before: ControlState | None = None) -> ControlState:  # noqa: ARG002 - a gap makes all of it stale
        """Nothing burns before there is a reading."""
        return ControlState()

    def step(self, state: ControlState, reading: Reading, setpoint: Setpoint) -> tuple[ControlState, Command]:
        """See the class; others that are above the band beyond doubt bring the effort to 0 at once."""
        band = _band(setpoint)
        weight = 1 - math.exp(-reading.dt / self.SHARE_TIME)
        own = state.own + weight * (reading.own - state.own)
        busy = state.busy + weight * (reading.own + reading.other - state.busy)
        share = min(own / busy, 1.0) if busy > 0 else 1.0
        error = band.target - reading.utilization(self.steal)
        trim, shift = self._shift(state.trim, share, error, reading.dt)
        workers = self.workers if self.workers is not None else min(max(math.ceil(reading.reach), 1), MAX_WORKERS)
        limit = min(reading.reach, float(workers))
        if reading.others(self.steal) - reading.uncertainty > band.high:
            effort = 0.0
        else:
            effort = state.effort
            if error < band.target - band.high:
                # Above the band, a command that others kept us from carrying out is only wound up.
                effort = min(effort, reading.own * reading.capacity)
            aim = error + shift
            change = self._gain(share, aim, reading.dt) * aim * reading.capacity
            effort = min(max(effort + change, 0.0), limit)
        state = ControlState(effort, workers, own, busy, trim=trim)
        return state, Command(workers, effort, at_limit=effort >= limit)

    def _shift(self, trim: float, share: float, error: float, dt: float) -> tuple[float, float]:
        """The trim of now, and by how much the target moves for the sake of those who share the host; ratios."""
        fade = min(max((self.ALONE - share) / self.FADE, 0.0), 1.0)
        weight = min(4 * fade, 1.0)
        step = min(self.TRIM_GAIN * dt / self.TRIM_TIME, self.MAX_TRIM_STEP)
        trim += step * (weight * error - trim / self.TRIM_GAIN)
        trim = min(max(trim, -self.MAX_TRIM), self.MAX_TRIM)
        return trim, self.DROOP * (0.5 - share) * fade + trim * weight

    def _gain(self, share: float, aim: float, dt: float) -> float:
        gain = max(self.gain * share, self.floor_up if aim > 0 else self.floor_down)
        return min(1 - math.pow(1 - gain, dt / self.PERIOD), self.MAX_GAIN)


@dataclass(frozen=True, slots=True)
class Step:
    """The ancestor's law: once a second `step` workers more below the band, `step` fewer above it.

    A worker's turn burns 1 ms of CPU and then sleeps for `sleep`.
    """

    steal: Steal = Steal.IDLE
    workers: int = 1
    """Initial number."""
    step_workers: int = 1
    sleep: float = 0.010
    """Seconds."""

    PERIOD = 1.0
    """Seconds between two decisions."""

    @property
    def turn(self) -> float:
        """Seconds from one turn of a worker to its next."""
        return STEP_TURN + self.sleep

    def start(self, before: ControlState | None = None) -> ControlState:  # noqa: ARG002 - the ancestor had no gaps
        """The initial workers burn from the first cycle on, as the ancestor's did."""
        return ControlState(workers=self.workers)

    def step(self, state: ControlState, reading: Reading, setpoint: Setpoint) -> tuple[ControlState, Command]:
        """See the class; the number of workers stays within 0..what the reach can carry."""
        band = _band(setpoint)
        elapsed = state.elapsed + reading.dt
        used = state.used + reading.utilization(self.steal) * reading.dt
        duty = STEP_TURN / self.turn
        most = min(math.ceil(reading.reach / duty), MAX_WORKERS)
        workers = state.workers
        # A cycle that comes a hair early must not make a second of it two.
        if elapsed >= self.PERIOD - reading.dt / 2:
            utilization = used / elapsed
            workers += self.step_workers * ((utilization < band.low) - (utilization > band.high))
            elapsed = used = 0.0
        workers = min(max(workers, 0), most)
        effort = min(workers * duty, reading.reach)
        return replace(state, effort=effort, workers=workers, elapsed=elapsed, used=used), Command(
            workers, effort, at_limit=workers >= most
        )


@dataclass(frozen=True, slots=True)
class Latch:
    """Makes an ordinary load of a fixed size out of a law: it holds the band for a time, then freezes what it burns.

    The size is CPU time a second, not duty: it stays on a host that is faster, slower or busier. A change of what is
    asked for unlatches; a gap or a failure does not. A setpoint that asks for an effort is latched from the start.
    """

    law: Controller
    after: float | None = None
    """Seconds in closed loop from the first entry into the band until it freezes; None: never."""
    steal: Steal = Steal.IDLE
    workers: int | None = None

    MEAN_TIME = 5.0
    """Time constant, seconds, of the mean that is frozen; a quarter of `after`, where that is less."""

    def start(self, before: ControlState | None = None) -> ControlState:
        """A latch outlives a gap."""
        state = self.law.start(before)
        return replace(state, latched=before.latched, setpoint=before.setpoint) if before else state

    def step(self, state: ControlState, reading: Reading, setpoint: Setpoint) -> tuple[ControlState, Command]:
        """See the class."""
        if state.setpoint != setpoint:
            state = replace(state, setpoint=setpoint, latched=setpoint.effort, sought=None)
        if state.latched is None:
            before = state
            state, command = self.law.step(state, reading, setpoint)
            state = self._sought(before, state, reading)
            if state.latched is None:
                return state, command
        return state, self._keep(state, reading)

    def _sought(self, before: ControlState, state: ControlState, reading: Reading) -> ControlState:
        """Go on with what a latch is made of, and make it when its time has come."""
        setpoint, sought = before.setpoint, before.sought
        if self.after is None or setpoint is None:
            return replace(state, setpoint=setpoint)
        now = reading.utilization(self.steal)
        mean = now if before.mean_utilization is None else before.mean_utilization
        utilization = mean + (1 - math.exp(-reading.dt)) * (now - mean)
        # What was burnt on the way to the band says nothing of the size that it takes.
        slow = 1.0 if sought is None else 1 - math.exp(-reading.dt / min(self.MEAN_TIME, self.after / 4))
        own = before.mean_own + slow * (reading.own * reading.capacity - before.mean_own)
        inside = utilization in _band(setpoint)
        if sought is not None:
            sought += reading.dt
        elif inside:
            sought = 0.0
        latched = own if inside and sought is not None and sought >= self.after else None
        return replace(
            state, setpoint=setpoint, mean_own=own, mean_utilization=utilization, sought=sought, latched=latched
        )

    def _keep(self, state: ControlState, reading: Reading) -> Command:
        assert state.latched is not None  # noqa: S101 - for the type checker
        workers = self.workers or state.workers or min(max(math.ceil(reading.reach), 1), MAX_WORKERS)
        limit = min(reading.reach, float(workers))
        effort = min(state.latched, limit)
        return Command(workers, effort, at_limit=effort >= limit, latched=state.latched)


def _band(setpoint: Setpoint) -> Band:
    """The band of a setpoint that is known to have one."""
    assert setpoint.band is not None, "a law that seeks a band was asked for a fixed effort"  # noqa: S101 - a bug
    return setpoint.band


def judge(window: Reading, command: Command, setpoint: Setpoint, steal: Steal) -> Verdict:
    """Say in one word and one sentence how it goes.

    Args:
        window: what was measured over the last second.
        command: what the workers do now.
        setpoint: what is asked for.
        steal: how stolen time counts.
    """
    utilization = window.utilization(steal)
    if command.latched is not None:
        return _judge_latched(window, command, command.latched, utilization)
    band = setpoint.judged or _band(setpoint)
    others = window.others(steal)
    now = f"utilization {100 * utilization:.1f} %"
    if command.effort <= 0 and others > band.high:
        return Verdict(
            State.YIELDING, f"others alone take {100 * others:.1f} %, above the band of {band}: we burn nothing"
        )
    if utilization < band.low and command.at_limit:
        return Verdict(
            State.SATURATED,
            f"{now}, below the band of {band}, though we burn all that we can: "
            f"{command.effort:.2f} of {window.capacity:.2f} CPUs",
        )
    if utilization in band:
        return Verdict(State.HOLDING, f"{now}, in the band of {band}")
    side = "below" if utilization < band.low else "above"
    return Verdict(State.SETTLING, f"{now}, {side} the band of {band}: effort is at {command.effort:.2f} CPUs")


def _judge_latched(window: Reading, command: Command, size: float, utilization: float) -> Verdict:
    own = window.own * window.capacity
    kept = f"an ordinary load of {size:.3g} CPUs, whatever happens around; utilization {100 * utilization:.1f} %"
    if own >= KEPT * size:
        return Verdict(State.LATCHED, kept)
    why = "our reach is less" if command.effort < size else "throttled, stolen or crowded out"
    return Verdict(State.LATCHED, f"{kept}; but we get only {own:.3g} CPUs: {why}")
