"""The loop: sense, decide, act, publish, once per interval; less often while nothing happens.

It keeps deadlines on the monotonic clock. Clocks, waiting, sensor and workers are passed in, so that the same loop runs
on a simulated machine.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from loadband.controller import judge
from loadband.quantities import (
    Carry,
    Command,
    Counts,
    CpuSeconds,
    Dropped,
    DropReason,
    Histogram,
    Reading,
    Sample,
    Scope,
    Setpoint,
    Snapshot,
    State,
    Steal,
    Verdict,
)
from loadband.sensor import UnreadableError, difference
from loadband.setpoint import SetpointCell

log = logging.getLogger(__name__)

WINDOW = 1.0
"""Seconds over which everything is published; the interval, if that is longer."""
MAX_FAILURES = 3
"""Samples in a row without a reading, after which nothing burns."""
CALM = 0.01
"""Largest distance of the last second's utilization from the middle of a band that stands still, a ratio, with which
the next look can wait: a look costs half a millisecond (docs/benchmark/cost.md)."""
CALM_SHARE = 0.95
"""Share of the busy time that must be this process's own then: beside others, even a short burst of theirs has to be
answered soon, and several regulators of a host that looked less often would make up for the same error twice."""
CALM_STEP = 0.006
"""Largest step of the counters that allows it, as a ratio of a second's capacity: 10 ms of two CPUs are less. On one,
half as many looks would mean twice the error (simulated: 0.18 points instead of 0.06)."""
CALM_INTERVAL = 0.2
"""Seconds to the next look then; the interval, if that is longer. With more, it would answer a neighbour too late."""
DURATION_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Bounds of the histogram of cycle durations, seconds."""


def lease_of(interval: float) -> float:
    """Seconds for which a command is valid, for a control interval in seconds."""
    return 3 * max(interval, CALM_INTERVAL)


class Source(Protocol):
    """What is sampled; see `sensor.Sensor`."""

    def sample(self) -> Sample:
        """Look at the counters now.

        Raises:
            UnreadableError: if they can't be read or understood.
        """
        ...


class Actuator(Protocol):
    """What carries out a command; see `workers.Workers`."""

    restarts: int

    def apply(self, command: Command) -> None:
        """Carry out a command for the length of a lease."""
        ...

    def close(self) -> None:
        """Stop burning for good."""
        ...


class Decider(Protocol):
    """What decides how much to burn; see `controller.Controller`."""

    def step(self, reading: Reading, setpoint: Setpoint) -> Command:
        """Decide what to burn until the next reading."""
        ...

    def restart(self) -> None:
        """Forget what a gap makes stale."""
        ...


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of a machine: monotonic seconds, and seconds since the epoch."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class Regulator:
    """Holds the band of a setpoint on one machine.

    Args:
        sensor: what is sampled.
        controller: what decides: a law with its memory.
        workers: what burns.
        setpoint: the cell with the current setpoint; read once per cycle.
        interval: the control period, seconds; while it is calm, it looks every `CALM_INTERVAL`, if that is longer.
        scope: that of the sensor, for the snapshots.
        steal: how stolen time counts.
        duration: seconds after which nothing burns any more; 0: never.
        exit_at_end: whether `run` returns then, or goes on without burning.
        clock: the machine's clocks.
        first: a sample that was taken while this process was starting; the first interval begins with it, unless it is
            older than a lease. None: `run` takes it.
    """

    def __init__(  # noqa: PLR0913 - the one place where all parts of the loop meet
        self,
        sensor: Source,
        controller: Decider,
        workers: Actuator,
        setpoint: SetpointCell,
        *,
        interval: float,
        scope: Scope,
        steal: Steal = Steal.IDLE,
        duration: float = 0.0,
        exit_at_end: bool = True,
        clock: Clock = Clock(),
        first: Sample | None = None,
    ) -> None:
        self._sensor = sensor
        self._controller = controller
        self._workers = workers
        self._setpoint = setpoint
        self._interval = interval
        self._scope = scope
        self._steal = steal
        self._duration = duration
        self._exit_at_end = exit_at_end
        self._clock = clock
        self._first = first
        self._window_length = max(WINDOW, interval)
        self._command = Command(0, 0.0)
        self._samples: deque[Sample] = deque()
        self._carry = Carry()
        self._failures_in_row = 0
        self._late = False
        self._calm = False
        self._steal_fell = False
        self._last_drop = Dropped(DropReason.UNREADABLE, "nothing was read yet")
        self._counts = Counts(failures=dict.fromkeys(DropReason, 0))
        self._bucket_counts = [0] * (len(DURATION_BOUNDS) + 1)
        self._total_duration = 0.0
        self._started = clock.monotonic()
        self._started_wall = clock.wall()
        self._latch_timestamp: float | None = None
        self._window: Reading | None = None
        self._snapshot: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot of the last cycle; None before the first. Any thread may read it: it is one reference."""
        return self._snapshot

    @property
    def pause(self) -> float:
        """Seconds from the last cycle to the next."""
        return max(self._interval, CALM_INTERVAL) if self._calm else self._interval

    def run(self, wait: Callable[[float], bool]) -> None:
        """Regulate until it is told to stop, or the duration is over; the workers are closed however it ends.

        Args:
            wait: waits for a number of seconds (>= 0) and returns whether to stop.
        """
        try:
            due = self._begin()
            least = 0.0
            stop = False
            while not stop:
                due += self.pause
                stop = wait(max(due - self._clock.monotonic(), least))
                # Not at once after a cycle that took long: a difference over a very short time is noise.
                least = self._interval / 2
                if stop:
                    break
                late = self._clock.monotonic() - due
                if late > self._interval:
                    # Skip the cycles that were missed: several at once would only measure noise.
                    self._counts = replace(self._counts, overruns=self._counts.overruns + 1)
                    due += late
                snapshot = self.cycle()
                stop = snapshot.verdict.state is State.EXPIRED and self._exit_at_end
        finally:
            self._workers.close()

    def _begin(self) -> float:
        """Have the sample with which the first interval begins; returns when that begins, monotonic seconds."""
        now = self._clock.monotonic()
        if self._first is None or now - self._first.at > lease_of(self._interval):
            self._sense()
            return self._clock.monotonic()
        self._samples.append(self._first)
        return max(self._first.at, now - self._interval)

    def cycle(self) -> Snapshot:
        """Sense, decide, act and publish once."""
        began = self._clock.monotonic()
        setpoint = self._setpoint.read()
        reading = self._sense()
        expired = 0 < self._duration <= began - self._started
        over = expired and self._snapshot is not None and self._snapshot.verdict.state is State.EXPIRED
        latched = self._command.latched
        self._decide(reading, setpoint, expired=expired)
        self._workers.apply(self._command)
        if self._command.latched != latched:
            self._latch_timestamp = None if self._command.latched is None else self._clock.wall()
        self._window = window = self._look_back()
        self._calm = reading is not None and self._rests(window, setpoint)
        # Latched, it seeks no band; and what comes after the end is no part of the run.
        seeks = latched is None and self._command.latched is None and not over
        self._count(reading, window if seeks else None, setpoint, passed=0.0 if over else self._passed(began))
        verdict = self._judge(window, setpoint, expired=expired)
        self._snapshot = self._publish(began, window, setpoint, verdict)
        return self._snapshot

    def _sense(self) -> Reading | None:
        """Take a sample and compare it with the one before; None if that gives nothing to trust."""
        previous = self._samples[-1] if self._samples else None
        try:
            now = self._sensor.sample()
        except UnreadableError as error:
            self._drop(Dropped(DropReason.UNREADABLE, str(error)))
            return None
        if previous is None:
            self._samples.append(now)
            return None
        result = difference(previous, now, max_gap=max(1.0, 5 * self._interval), carry=self._carry)
        if isinstance(result, Dropped):
            self._carry = Carry()
            self._samples.clear()
            self._samples.append(now)
            self._drop(result)
            return None
        self._samples.append(now)
        # Keep enough samples to look back one window, and one more.
        while len(self._samples) > 2 and now.at - self._samples[1].at >= self._window_length:  # noqa: PLR2004 - two ends
            self._samples.popleft()
        if result.steal_fell and not self._steal_fell:
            self._steal_fell = True
            log.warning("the steal time of %s went backwards: whenever it does, it counts as 0", now.source)
        self._carry = result.carry
        self._failures_in_row = 0
        return result

    def _drop(self, dropped: Dropped) -> None:
        failures = dict(self._counts.failures)
        failures[dropped.reason] += 1
        self._counts = replace(self._counts, failures=failures)
        self._failures_in_row += 1
        self._last_drop = dropped

    def _decide(self, reading: Reading | None, setpoint: Setpoint, *, expired: bool) -> None:
        if expired or self._after_gap() or self._failures_in_row >= MAX_FAILURES:
            # After a gap, nothing is known about the present: start again from the next reading.
            self._controller.restart()
            kept = Command(self._command.workers, 0.0, latched=self._command.latched)
            self._command = Command(0, 0.0) if expired else kept
        elif reading is not None:
            was_late, self._late = self._late, reading.dt > lease_of(self._interval)
            if self._late and not was_late:
                # The lease ran out and the workers idled: after a single stall, that isn't a lack of effort.
                reading = _as_commanded(reading, self._command)
            if not self._counts.cycles:
                # Nothing was commanded yet: what this process has used was its start, which is over now.
                reading = replace(reading, own=0.0, idle=reading.idle + reading.own)
            self._command = self._controller.step(reading, setpoint)

    def _after_gap(self) -> bool:
        return self._failures_in_row > 0 and self._last_drop.reason is DropReason.GAP

    def _look_back(self) -> Reading | None:
        """The reading over the last window, or as much of it as there is; None if nothing can be trusted."""
        if self._failures_in_row >= MAX_FAILURES or self._after_gap():
            return None
        if self._failures_in_row or len(self._samples) < 2:  # noqa: PLR2004 - a difference needs two
            return self._window  # one lost sample doesn't invalidate what was seen before
        now = self._samples[-1]
        # The sample closest to one window ago: half an interval early counts, or jitter makes every other window 1.1 s.
        latest = now.at - self._window_length + self._interval / 2
        start = self._samples[0]
        for sample in itertools.islice(self._samples, 1, len(self._samples) - 1):
            if sample.at > latest:
                break
            start = sample
        result = difference(start, now, max_gap=math.inf)
        return result if isinstance(result, Reading) else None

    def _rests(self, window: Reading | None, setpoint: Setpoint) -> bool:
        """Whether a size is latched, or the last second was in the middle of the band and nearly all of it ours."""
        if self._command.latched is not None:
            return True
        if window is None or setpoint.band is None or setpoint.lately is not None or not self._filled(window):
            return False
        if window.own < CALM_SHARE * (window.own + window.other) or window.uncertainty > CALM_STEP:
            return False
        return abs(window.utilization(self._steal) - setpoint.band.target) <= CALM

    def _filled(self, window: Reading) -> bool:
        return window.dt >= self._window_length - self._interval

    def _passed(self, began: float) -> float:
        """Seconds from the last cycle, or the start, to the one that has begun."""
        return began - (self._snapshot.at if self._snapshot else self._started)

    def _count(self, reading: Reading | None, window: Reading | None, setpoint: Setpoint, *, passed: float) -> None:
        counts = self._counts
        cpu = counts.cpu
        observed = inside = entered = seen = 0.0
        if reading is not None:
            seconds = reading.dt * reading.capacity
            cpu = CpuSeconds(
                own=cpu.own + reading.own * seconds,
                other=cpu.other + reading.other * seconds,
                steal=cpu.steal + reading.steal * seconds,
                idle=cpu.idle + reading.idle * seconds,
            )
            seen = reading.dt if passed else 0.0
            # A window that still fills up would count the time before the first burst as out of band.
            if window is not None and self._filled(window):
                observed = reading.dt
                inside = observed if _inside(window.utilization(self._steal), setpoint) else 0.0
                entered = observed if inside or counts.in_band_seconds > 0 else 0.0
        # Not by `replace`, which costs as much as all the rest of this method.
        self._counts = Counts(
            cycles=counts.cycles + 1,
            overruns=counts.overruns,
            failures=counts.failures,
            observed_seconds=counts.observed_seconds + observed,
            in_band_seconds=counts.in_band_seconds + inside,
            observed_since_entry=counts.observed_since_entry + entered,
            run_seconds=counts.run_seconds + passed,
            seen_seconds=counts.seen_seconds + seen,
            cpu=cpu,
            band_changes=dict(self._setpoint.changes),
            worker_restarts=self._workers.restarts,
        )

    def _judge(self, window: Reading | None, setpoint: Setpoint, *, expired: bool) -> Verdict:
        if expired:  # also without a reading: a run that is to end must not wait for one
            return Verdict(State.EXPIRED, f"duration of {self._duration:g} s is over: idle")
        if self._failures_in_row >= MAX_FAILURES:
            return Verdict(State.FAILSAFE, f"no trustworthy reading, so nothing is burnt: {self._last_drop.why}")
        if window is None:
            return Verdict(State.SETTLING, f"starting again from the next reading: {self._last_drop.why}")
        if setpoint.band is None and self._command.latched is None:
            return Verdict(State.SETTLING, f"{setpoint}: from the next reading on")
        return judge(window, self._command, setpoint, self._steal)

    def _publish(self, began: float, window: Reading | None, setpoint: Setpoint, verdict: Verdict) -> Snapshot:
        utilization = window.utilization(self._steal) if window else None
        took = self._clock.monotonic() - began
        self._bucket_counts[bisect.bisect_left(DURATION_BOUNDS, took)] += 1
        self._total_duration += took
        return Snapshot(
            at=began,
            timestamp=self._clock.wall(),
            started=self._started,
            interval=self._interval,
            setpoint=setpoint,
            scope=self._scope,
            steal=self._steal,
            reading=window,
            utilization=utilization,
            in_band=utilization is not None and _inside(utilization, setpoint),
            command=self._command,
            verdict=verdict,
            counts=self._counts,
            durations=Histogram(DURATION_BOUNDS, tuple(self._bucket_counts), self._total_duration),
            throttling=self._samples[-1].throttling if self._samples else None,
            latch_timestamp=self._latch_timestamp,
            deadline=self._started_wall + self._duration if self._duration else None,
        )


def _inside(utilization: float, setpoint: Setpoint) -> bool:
    return setpoint.judged is not None and utilization in setpoint.judged


def _as_commanded(reading: Reading, command: Command) -> Reading:
    """The reading as if the command had been carried out all the time: idle time becomes own time."""
    missing = min(max(command.effort / reading.capacity - reading.own, 0.0), reading.idle)
    return replace(reading, own=reading.own + missing, idle=reading.idle - missing)
