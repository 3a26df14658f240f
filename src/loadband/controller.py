"""The laws that decide how much to burn: pure, without a clock and without I/O.

Each law is a value with a `start` state and a `step(state, reading, setpoint) -> (state, command)`. What the state of
affairs is called is decided apart from them, by `judge`, from the last second as people see it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

from loadband.quantities import Command, Reading, Setpoint, State, Steal, Verdict

STEP_TURN = 0.001
"""CPU-seconds that a worker of the step law burns before it sleeps."""
MAX_WORKERS = 1024


@dataclass(frozen=True, slots=True)
class ControlState:
    """What a law remembers from one cycle to the next."""

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


class Controller(Protocol):
    """A law of control."""

    def start(self) -> ControlState:
        """The state before the first reading, and after a gap."""
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

    def start(self) -> ControlState:
        """Nothing burns before there is a reading."""
        return ControlState()

    def step(self, state: ControlState, reading: Reading, setpoint: Setpoint) -> tuple[ControlState, Command]:
        """See the class; others that are above the band beyond doubt bring the effort to 0 at once."""
        band = setpoint.band
        weight = 1 - math.exp(-reading.dt / self.SHARE_TIME)
        own = state.own + weight * (reading.own - state.own)
        busy = state.busy + weight * (reading.own + reading.other - state.busy)
        error = band.target - reading.utilization(self.steal)
        workers = self.workers if self.workers is not None else min(max(math.ceil(reading.reach), 1), MAX_WORKERS)
        limit = min(reading.reach, float(workers))
        if reading.others(self.steal) - reading.uncertainty > band.high:
            effort = 0.0
        else:
            effort = state.effort
            if error < band.target - band.high:
                # Above the band, a command that others kept us from carrying out is only wound up.
                effort = min(effort, reading.own * reading.capacity)
            change = self._gain(own, busy, error, reading.dt) * error * reading.capacity
            effort = min(max(effort + change, 0.0), limit)
        return ControlState(effort, workers, own, busy), Command(workers, effort, at_limit=effort >= limit)

    def _gain(self, own: float, busy: float, error: float, dt: float) -> float:
        share = min(own / busy, 1.0) if busy > 0 else 1.0
        gain = max(self.gain * share, self.floor_up if error > 0 else self.floor_down)
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

    def start(self) -> ControlState:
        """The initial workers burn from the first cycle on, as the ancestor's did."""
        return ControlState(workers=self.workers)

    def step(self, state: ControlState, reading: Reading, setpoint: Setpoint) -> tuple[ControlState, Command]:
        """See the class; the number of workers stays within 0..what the reach can carry."""
        elapsed = state.elapsed + reading.dt
        used = state.used + reading.utilization(self.steal) * reading.dt
        duty = STEP_TURN / self.turn
        most = min(math.ceil(reading.reach / duty), MAX_WORKERS)
        workers = state.workers
        # A cycle that comes a hair early must not make a second of it two.
        if elapsed >= self.PERIOD - reading.dt / 2:
            utilization = used / elapsed
            workers += self.step_workers * ((utilization < setpoint.band.low) - (utilization > setpoint.band.high))
            elapsed = used = 0.0
        workers = min(max(workers, 0), most)
        effort = min(workers * duty, reading.reach)
        return replace(state, effort=effort, workers=workers, elapsed=elapsed, used=used), Command(
            workers, effort, at_limit=workers >= most
        )


def judge(window: Reading, command: Command, setpoint: Setpoint, steal: Steal) -> Verdict:
    """Say in one word and one sentence how it goes.

    Args:
        window: what was measured over the last second.
        command: what the workers do now.
        setpoint: what is asked for.
        steal: how stolen time counts.
    """
    band = setpoint.band
    utilization = window.utilization(steal)
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
