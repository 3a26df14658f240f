"""The laws that decide how much to burn: pure, without a clock and without I/O.

Each law is a value with a memory of its own type: `step(memory, reading, setpoint) -> (memory, command)`. A
`Controller` holds a law and its memory for the loop. `judge` derives the verdict separately, from the last second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from loadband.quantities import Band, Command, Reading, Setpoint, State, Steal, Verdict

STEP_TURN = 0.001
"""CPU-seconds that a worker of the step law burns between two sleeps."""
MAX_WORKERS = 1024
KEPT = 0.95
"""Fraction of a latched size from which it counts as kept."""


M = TypeVar("M")
"""What a law remembers from one cycle to the next: a value of its own type."""


class Law(Protocol[M]):
    """A law of control; a value without state of its own."""

    def start(self, before: M | None = None) -> M:
        """The memory before the first reading; after a gap, with the memory before it."""
        ...

    def resume(self, effort: float) -> M:
        """The memory with which it takes over from a fixed effort (CPUs), without a jump."""
        ...

    def step(self, memory: M, reading: Reading, setpoint: Setpoint) -> tuple[M, Command]:
        """Decide what to burn until the next reading; effort is within 0..reach for every input."""
        ...


class Controller(Generic[M]):
    """A law with its memory; the only thing here that changes.

    Args:
        law: what decides.
    """

    def __init__(self, law: Law[M]) -> None:
        self._law = law
        self._memory = law.start()

    def step(self, reading: Reading, setpoint: Setpoint) -> Command:
        """Decide what to burn until the next reading."""
        self._memory, command = self._law.step(self._memory, reading, setpoint)
        return command

    def restart(self) -> None:
        """Forget what a gap makes stale."""
        self._memory = self._law.start(self._memory)


@dataclass(frozen=True, slots=True)
class AdaptiveMemory:
    """What `Adaptive` remembers."""

    effort: float = 0.0
    """CPUs commanded."""
    own: float = 0.0
    """Recent use of this process, a ratio, low-passed."""
    busy: float = 0.0
    """Recent use of all processes, a ratio, low-passed: own / busy is this process's share."""
    trim: float = 0.0
    """The slow correction of the target, a ratio, on which regulators that share a host agree without a message."""
    backoff: float = 1.0
    """Factor of `Adaptive.floor_up`, 0.1..1."""
    lifted: bool = False
    """Whether that floor raised the effort in the last step."""


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Feed forward through an integral: `effort += g * (target - utilization) * capacity`, limited to 0..reach.

    The plant's gain is known (effort / capacity), so g = 1 would jump to `target - others` at once; a lower g averages
    the counters' steps and the delay of measuring. The limit is the anti-windup. Settling doesn't depend on the number
    of CPUs.

    g is proportional to this process's share of the busy time, so that the gains of all regulators on a host have the
    same sum, however many there are. The floors let in one that burns nothing yet, and let one leave that was crowded
    out. With many regulators the upper floors add up to more than one host can stand, so each halves its own when it
    sees that it overshot, and recovers slowly: as senders do that share a line (Chiu and Jain 1989).

    Regulators that share a host share its load as generators share that of a power grid, by primary and secondary
    control (Kundur, Power System Stability and Control, ch. 11). Droop: one with more than half of the load aims a
    little lower, one with less a little higher, which makes the shares equal. Trim: all see the same error, so a slow
    integral of it removes the offset of the droop; it leaks, so that differences between their trims fade. Alone on a
    host, neither moves the target.
    """

    steal: Steal = Steal.IDLE
    workers: int | None = None
    """None: as many as can burn all of the reach."""
    gain: float = 0.4
    """g of one regulator alone, per `PERIOD`."""
    floor_up: float = 0.125
    """With half of it, four regulators on a host would share it less fairly."""
    floor_down: float = 0.02

    PERIOD = 0.1
    """Seconds that `gain` and the floors refer to; they are converted for other intervals."""
    SHARE_TIME = 0.3
    """Time constant, seconds, over which the share is averaged."""
    MAX_GAIN = 0.8
    """Bounds g for long intervals: near 1, a wrong reading would be followed entirely."""
    OVERSHOOT = 0.05
    """Distance above the target, a ratio, from which an answer by `floor_up` was too much."""
    OVERSHOOT_ERRORS = 3.0
    """The same in largest errors of the counters, whichever is more: noise must not look like an overshoot."""
    BACKOFF = 0.5
    """What is left of the floor after each reading that shows one."""
    MIN_BACKOFF = 0.1
    """Still lets one in that burns nothing."""
    RECOVERY_TIME = 4.0
    """Time constant, seconds, with which the floor grows back. With 10, of eight that start together on two CPUs some
    came in after more than ten seconds."""
    DROOP = 0.1
    """Points of utilization by which the target falls per point of share."""
    ALONE = 0.9
    """Share from which a regulator counts as alone."""
    FADE = 0.15
    """Width of the range of shares below `ALONE` in which the droop sets in; the trim sets in four times as fast."""
    TRIM_GAIN = 40.0
    """Of the trim in the steady state: it leaves one part in 41 of an offset."""
    TRIM_TIME = 8.0
    """Time constant of the trim's leak, seconds; more for long intervals."""
    MAX_TRIM_STEP = 0.5
    """The largest part of the error that one reading adds to the trim; more would make it swing."""
    MAX_TRIM = 0.1

    def start(self, before: AdaptiveMemory | None = None) -> AdaptiveMemory:  # noqa: ARG002 - a gap makes all of it stale
        """Nothing burns before there is a reading."""
        return AdaptiveMemory()

    def resume(self, effort: float) -> AdaptiveMemory:
        """It goes on from there; who else runs shows in the next reading."""
        return AdaptiveMemory(effort)

    def step(self, memory: AdaptiveMemory, reading: Reading, setpoint: Setpoint) -> tuple[AdaptiveMemory, Command]:
        """See the class; if others alone are certainly above the band, effort falls to 0 at once."""
        band = _band(setpoint)
        weight = 1 - math.exp(-reading.dt / self.SHARE_TIME)
        own = memory.own + weight * (reading.own - memory.own)
        busy = memory.busy + weight * (reading.own + reading.other - memory.busy)
        share = min(own / busy, 1.0) if busy > 0 else 1.0
        error = band.target - reading.utilization(self.steal)
        trim, shift = self._shift(memory.trim, share, error, reading.dt)
        workers = self.workers if self.workers is not None else _enough(reading.reach)
        limit = min(reading.reach, float(workers))
        backoff, lifted = self._back_off(memory, error, reading), False
        if reading.others(self.steal) - reading.uncertainty > band.high:
            effort = 0.0
        else:
            aim = error + shift
            floor = self.floor_up * backoff if aim > 0 else self.floor_down
            lifted = aim > 0 and floor > self.gain * share
            change = self._gain(share, floor, reading.dt) * aim * reading.capacity
            effort = min(max(memory.effort + change, 0.0), limit)
        memory = AdaptiveMemory(effort, own, busy, trim, backoff, lifted)
        return memory, Command(workers, effort, at_limit=effort >= limit)

    def _back_off(self, memory: AdaptiveMemory, error: float, reading: Reading) -> float:
        """The factor of the upper floor, after a reading with that error (a ratio)."""
        if memory.lifted and error < -max(self.OVERSHOOT, self.OVERSHOOT_ERRORS * reading.uncertainty):
            return max(memory.backoff * self.BACKOFF, self.MIN_BACKOFF)
        return min(memory.backoff * math.exp(reading.dt / self.RECOVERY_TIME), 1.0)

    def _shift(self, trim: float, share: float, error: float, dt: float) -> tuple[float, float]:
        """The new trim, and how far the target moves for the other regulators on the host; ratios."""
        fade = min(max((self.ALONE - share) / self.FADE, 0.0), 1.0)
        weight = min(4 * fade, 1.0)
        step = min(self.TRIM_GAIN * dt / self.TRIM_TIME, self.MAX_TRIM_STEP)
        # From every error, also where it doesn't set in: a small share often goes with errors of one sign.
        trim += step * (error - trim / self.TRIM_GAIN)
        trim = min(max(trim, -self.MAX_TRIM), self.MAX_TRIM)
        return trim, self.DROOP * (0.5 - share) * fade + trim * weight

    def _gain(self, share: float, floor: float, dt: float) -> float:
        gain = max(self.gain * share, floor)
        return min(1 - math.pow(1 - gain, dt / self.PERIOD), self.MAX_GAIN)


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What `Step` remembers."""

    workers: int
    elapsed: float = 0.0
    """Seconds since the last decision."""
    used: float = 0.0
    """Utilization times seconds in that time."""


@dataclass(frozen=True, slots=True)
class Step:
    """The law of the ancestor, the script before loadband: once a second, a few workers more or fewer.

    It adds `step_workers` below the band and removes as many above it. A worker burns 1 ms of CPU and then sleeps.
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
        """Seconds from one turn of a worker to the next."""
        return STEP_TURN + self.sleep

    def start(self, before: StepMemory | None = None) -> StepMemory:  # noqa: ARG002 - the ancestor knew no gaps
        """The initial workers burn from the first cycle on, as the ancestor's did."""
        return StepMemory(self.workers)

    def resume(self, effort: float) -> StepMemory:
        """As many workers as burn that."""
        return StepMemory(round(effort * self.turn / STEP_TURN))

    def step(self, memory: StepMemory, reading: Reading, setpoint: Setpoint) -> tuple[StepMemory, Command]:
        """See the class; the number of workers stays within 0..what the reach can carry."""
        band = _band(setpoint)
        elapsed = memory.elapsed + reading.dt
        used = memory.used + reading.utilization(self.steal) * reading.dt
        duty = STEP_TURN / self.turn
        most = min(math.ceil(reading.reach / duty), MAX_WORKERS)
        workers = memory.workers
        # A cycle that comes a hair early must not make one second two.
        if elapsed >= self.PERIOD - reading.dt / 2:
            utilization = used / elapsed
            workers += self.step_workers * ((utilization < band.low) - (utilization > band.high))
            elapsed = used = 0.0
        workers = min(max(workers, 0), most)
        effort = min(workers * duty, reading.reach)
        return StepMemory(workers, elapsed, used), Command(workers, effort, at_limit=workers >= most)


@dataclass(frozen=True, slots=True)
class LatchMemory(Generic[M]):
    """What `Latch` remembers."""

    law: M
    """What its law remembers."""
    setpoint: Setpoint | None = None
    """What it was latched for, or seeks."""
    workers: int = 0
    """Of the law's last command; 0 before it."""
    utilization: float | None = None
    """Low-passed, a ratio; None before the first reading."""
    own: float = 0.0
    """Use of this process, low-passed, CPUs: what a latch freezes."""
    effort: float = 0.0
    """Of the last command, CPUs."""
    asked: float = 0.0
    """The efforts commanded, low-passed like `own`: what `own` is more than that, this process costs itself."""
    cost: float = 0.0
    """What this process costs beside its effort, CPUs; known while it is latched."""
    sought: float | None = None
    """Seconds in closed loop since the band was first entered; None before that."""
    latched: float | None = None
    """The frozen size, CPUs; None in closed loop."""


@dataclass(frozen=True, slots=True)
class Latch(Generic[M]):
    """Turns a law into an ordinary load of a fixed size: it holds the band for a time, then freezes what it burns.

    The size is CPU time per second, not duty: it stays the same on a host that is faster, slower or busier. It is that
    of the whole process: what the loop and the server cost is part of it, so the effort is a little less. A change of
    the setpoint unlatches; a gap or a failure doesn't. A setpoint with an effort is latched from the start.
    """

    law: Law[M]
    after: float | None = None
    """Seconds in closed loop from the first entry into the band until it freezes; None: never."""
    steal: Steal = Steal.IDLE
    workers: int | None = None
    """None: as many as the law had, or as can burn all of the reach, whichever is more."""

    MEAN_TIME = 5.0
    """Time constant, seconds, of the mean that is frozen; a quarter of `after` if that is less."""
    COST_TIME = 3.0
    """Time constant, seconds, with which the effort follows what the process costs itself."""

    def start(self, before: LatchMemory[M] | None = None) -> LatchMemory[M]:
        """A latch outlives a gap."""
        if before is None:
            return LatchMemory(self.law.start())
        law = self.law.start(before.law)
        return LatchMemory(law, before.setpoint, latched=before.latched, cost=before.cost)

    def resume(self, effort: float) -> LatchMemory[M]:
        """Unlatched; what its law takes over."""
        return LatchMemory(self.law.resume(effort), effort=effort)

    def step(self, memory: LatchMemory[M], reading: Reading, setpoint: Setpoint) -> tuple[LatchMemory[M], Command]:
        """See the class."""
        known = memory.setpoint is None or memory.setpoint == setpoint
        if memory.setpoint != setpoint:
            # What the law remembers is of the time before the latch.
            law = memory.law if memory.latched is None else self.law.resume(memory.effort)
            memory = replace(memory, law=law, setpoint=setpoint, latched=setpoint.effort, sought=None)
        if memory.latched is None:
            law, command = self.law.step(memory.law, reading, setpoint)
            if self.after is None:
                kept = LatchMemory(law, setpoint, command.workers, effort=command.effort, cost=memory.cost)
                return kept, command
            memory = self._sought(replace(memory, law=law, workers=command.workers), reading, setpoint)
            if memory.latched is None:
                return replace(memory, effort=command.effort), command
        # A reading of another load than this one doesn't say what the process costs itself.
        return self._keep(memory, memory.latched, reading, known=known)

    def _sought(self, memory: LatchMemory[M], reading: Reading, setpoint: Setpoint) -> LatchMemory[M]:
        """Follow what a latch is made of, and make it when its time has come."""
        assert self.after is not None, "a latch without a time is never made"  # noqa: S101 - the caller knows
        now, sought = reading.utilization(self.steal), memory.sought
        mean = now if memory.utilization is None else memory.utilization
        utilization = mean + (1 - math.exp(-reading.dt)) * (now - mean)
        # Until the band is entered, what is burnt says nothing about the size that it takes.
        slow = 1.0 if sought is None else 1 - math.exp(-reading.dt / min(self.MEAN_TIME, self.after / 4))
        own = memory.own + slow * (reading.own * reading.capacity - memory.own)
        asked = memory.asked + slow * (memory.effort - memory.asked)
        inside = utilization in _band(setpoint)
        if sought is not None:
            sought += reading.dt
        elif inside:
            sought = 0.0
        latched = own if inside and sought is not None and sought >= self.after else None
        return replace(
            memory,
            utilization=utilization,
            own=own,
            asked=asked,
            cost=max(own - asked, 0.0),
            sought=sought,
            latched=latched,
        )

    def _keep(
        self, memory: LatchMemory[M], size: float, reading: Reading, *, known: bool
    ) -> tuple[LatchMemory[M], Command]:
        workers = self.workers or max(memory.workers, _enough(reading.reach))
        limit = min(reading.reach, float(workers))
        most = min(size, limit)
        # Only what it uses too much is its own cost: if others crowd it out, it uses less than it is asked to.
        weight = 1 - math.exp(-reading.dt / self.COST_TIME) if known else 0.0
        cost = min(max(memory.cost + weight * (reading.own * reading.capacity - most), 0.0), most)
        effort = most - cost
        return replace(memory, cost=cost, effort=effort), Command(workers, effort, at_limit=size >= limit, latched=size)


def _enough(reach: float) -> int:
    """Workers that can burn all of the reach (CPUs)."""
    return min(max(math.ceil(reach), 1), MAX_WORKERS)


def _band(setpoint: Setpoint) -> Band:
    """The band of a setpoint; the caller knows that it has one."""
    assert setpoint.band is not None, "a law that seeks a band was asked for a fixed effort"  # noqa: S101 - a bug
    return setpoint.band


def judge(window: Reading, command: Command, setpoint: Setpoint, steal: Steal) -> Verdict:
    """The state in one word, and why in one sentence.

    Args:
        window: what was measured over the last second.
        command: what the workers do.
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
            State.YIELDING, f"others alone use {100 * others:.1f} %, above the band of {band}: nothing is burnt"
        )
    if utilization < band.low and command.at_limit:
        return Verdict(
            State.SATURATED,
            f"{now}, below the band of {band}, although all that is possible is burnt: "
            f"{command.effort:.2f} of {window.capacity:.2f} CPUs",
        )
    if utilization in band:
        return Verdict(State.HOLDING, f"{now}, in the band of {band}")
    side = "below" if utilization < band.low else "above"
    return Verdict(State.SETTLING, f"{now}, {side} the band of {band}: effort is at {command.effort:.2f} CPUs")


def _judge_latched(window: Reading, command: Command, size: float, utilization: float) -> Verdict:
    own = window.own * window.capacity
    kept = f"an ordinary load of {size:.3g} CPUs, whatever else runs; utilization {100 * utilization:.1f} %"
    if command.effort <= 0 and own > size:
        return Verdict(State.LATCHED, f"{kept}; but the program itself costs {own:.3g} CPUs, with nothing burnt")
    if own >= KEPT * size:
        return Verdict(State.LATCHED, kept)
    limited = min(window.reach, float(command.workers)) < size
    why = "its reach is smaller" if limited else "it is throttled, stolen from or crowded out"
    return Verdict(State.LATCHED, f"{kept}; but it gets only {own:.3g} CPUs: {why}")
