"""The values that flow through the regulator, each immutable.

Ratios are 0..1 of the scope's capacity, times are seconds, amounts of CPU are CPUs (CPU-seconds per second). Percent
exist only at the edges, in settings and in what people read.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal, get_args


class Scope(enum.StrEnum):
    """What the band is about: whose CPUs are the denominator of every ratio."""

    HOST = "host"
    CPUSET = "cpuset"
    CONTAINER = "container"


class Steal(enum.StrEnum):
    """How time that the hypervisor took counts towards utilization."""

    IDLE = "idle"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Band:
    """The two edges between which utilization is to be held; ratios, 0 <= low < high <= 1."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse edges that are no band.

        Raises:
            ValueError: unless 0 <= low < high <= 1.
        """
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"a band needs 0 <= low < high <= 1, got {self.low}..{self.high}")

    @property
    def target(self) -> float:
        """The middle of the band, a ratio."""
        return (self.low + self.high) / 2

    def __contains__(self, utilization: float) -> bool:
        """Whether a utilization (ratio) is inside, edges included."""
        return self.low <= utilization <= self.high

    def __str__(self) -> str:
        """The band as people read it, in percent: `60..70 %`."""
        return f"{100 * self.low:.4g}..{100 * self.high:.4g} %"


SetpointSource = Literal["settings", "profile", "control"]
"""Who may ask for something: the settings, a profile that follows the time, or a client of the control listener."""
SETPOINT_SOURCES: tuple[SetpointSource, ...] = get_args(SetpointSource)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a profile is."""

    profile: str
    """Its name."""
    phase: str
    """The name of the phase of now."""
    phases: tuple[str, ...]
    """The names of all of them."""


@dataclass(frozen=True, slots=True)
class Setpoint:
    """What is asked for now, and where that came from: a band to hold, or a fixed effort."""

    band: Band | None
    source: SetpointSource = "settings"
    effort: float | None = None
    """CPUs to burn whatever else runs; then there is no band."""
    lately: Band | None = None
    """The mean of a moving band over the last second; None where the band stands still."""
    progress: Progress | None = None
    """Of the profile that asks for it, if one does."""
    serial: int = 0
    """Tells what was asked for anew from the same before it: a latch begins anew."""

    def __post_init__(self) -> None:
        """Refuse to be asked for both, or for nothing.

        Raises:
            ValueError: unless exactly one of band and effort is given, and an effort is >= 0.
        """
        if (self.band is None) == (self.effort is None) or (self.effort is not None and self.effort < 0):
            raise ValueError(f"either a band or an effort >= 0, got {self.band} and {self.effort}")

    @property
    def judged(self) -> Band | None:
        """The band that the last second is held against, so that what follows a ramp exactly is in the band."""
        return self.lately or self.band

    def __str__(self) -> str:
        """What is asked for as people read it: `60..70 %` or `0.25 CPUs`."""
        return str(self.band) if self.band is not None else f"{self.effort:g} CPUs"


@dataclass(frozen=True, slots=True)
class Throttling:
    """Cumulative counts of the kernel's CPU bandwidth control for our cgroup."""

    periods: int
    throttled_periods: int
    throttled_seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the cumulative counters of a scope.

    Exactly one of `idle` (scopes host and cpuset) and `busy` (scope container) is known.
    """

    at: float
    """Monotonic clock, seconds, as close to the counters' reading as possible."""
    cpus: frozenset[int]
    """The CPUs that the counters speak of, never empty; a change makes two samples incomparable."""
    capacity: float
    """CPUs of the scope, > 0."""
    reach: float
    """The most CPUs that we can burn, >= 0."""
    own: float
    """CPU-seconds of this whole process, ns-exact."""
    quantum: float
    """The step of the idle or busy counter, in CPU-seconds: what one difference may be wrong by."""
    ticks: float
    """Sum of all the counters read; it stands still only if the source of the counters is frozen."""
    idle: float | None = None
    """CPU-seconds idle, without iowait."""
    iowait: float = 0.0
    """CPU-seconds idle while waiting for I/O; may decrease (proc(5))."""
    steal: float = 0.0
    """CPU-seconds that the hypervisor took."""
    busy: float | None = None
    """CPU-seconds used by everybody in the scope."""
    throttling: Throttling | None = None
    """None where no quota is set."""
    quota: float = 0.0
    """CPU-seconds dealt out at once by bandwidth control: `busy` may run ahead of capacity x time by that. 0: none."""
    source: str = ""
    """The file that `idle` or `busy` was read from; a change makes two samples incomparable."""


@dataclass(frozen=True, slots=True)
class Carry:
    """CPU-seconds that the counters reported and a reading could not hold: they belong to the next one.

    Counters move in steps, so that one difference can claim more idle time than others left free. Handing the rest on
    makes the sums of the readings follow the counters, with no drift, though each reading's shares are within 0..1.
    """

    own: float = 0.0
    other: float = 0.0
    steal: float = 0.0
    idle: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The difference of two samples: own + other + steal + idle = 1, each a ratio of the capacity."""

    at: float
    """Monotonic time of its end, seconds."""
    dt: float
    """Its length, seconds, > 0."""
    capacity: float
    reach: float
    own: float
    other: float
    steal: float
    idle: float
    uncertainty: float
    """The largest error, as a ratio, that the counter's step can make in `other` and `idle`."""
    carry: Carry = Carry()
    """What the next difference has to start with."""

    def utilization(self, steal: Steal) -> float:
        """Utilization, a ratio: own + other, and steal when that counts as busy."""
        busy = self.own + self.other
        return busy + self.steal if steal is Steal.BUSY else busy

    def others(self, steal: Steal) -> float:
        """What is not ours to change, a ratio: other, and steal when that counts as busy."""
        return self.other + self.steal if steal is Steal.BUSY else self.other


class DropReason(enum.StrEnum):
    """Why a sample could not be turned into a reading."""

    UNREADABLE = "unreadable"
    BACKWARDS = "backwards"
    FROZEN = "frozen"
    ABSURD = "absurd"
    GAP = "gap"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sample that gives no reading, with one sentence of why, for people."""

    reason: DropReason
    why: str


@dataclass(frozen=True, slots=True)
class Command:
    """What the workers are to do until the next cycle."""

    workers: int
    effort: float
    """CPU-seconds per second for all workers together, 0..reach."""
    at_limit: bool = False
    """Whether no more can be commanded: the reach, or the number of workers, is used up."""
    latched: float | None = None
    """The fixed size of an ordinary load, CPUs, which doesn't seek a band; None in closed loop."""

    @property
    def duty(self) -> float:
        """Mean duty of a worker, 0..1."""
        return self.effort / self.workers if self.workers else 0.0


class State(enum.StrEnum):
    """The one word that says how it goes; the first that applies, in this order."""

    FAILSAFE = "failsafe"
    EXPIRED = "expired"
    LATCHED = "latched"
    YIELDING = "yielding"
    SATURATED = "saturated"
    HOLDING = "holding"
    SETTLING = "settling"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state, and one sentence of why, for people."""

    state: State
    why: str


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """CPU-seconds by mode since the start, each never decreasing."""

    own: float = 0.0
    other: float = 0.0
    steal: float = 0.0
    idle: float = 0.0


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations counted by bucket, not cumulative; the last count is of those above every bound."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What the loop has counted since the start; every number never decreases."""

    cycles: int = 0
    overruns: int = 0
    failures: dict[DropReason, int] = field(default_factory=dict)
    observed_seconds: float = 0.0
    in_band_seconds: float = 0.0
    observed_since_entry: float = 0.0
    """Observed seconds since the band was first entered: the denominator of `held`."""
    cpu: CpuSeconds = CpuSeconds()
    band_changes: dict[SetpointSource, int] = field(default_factory=dict)
    """By who asked for them."""
    worker_restarts: int = 0

    @property
    def held(self) -> bool:
        """Whether the band was held: in it for at least 95 % of the observed time after the first entry."""
        return self.in_band_seconds > 0 and self.in_band_seconds >= 0.95 * self.observed_since_entry


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that one cycle knows, published as one reference; everyone outside the loop reads only this."""

    at: float
    """Monotonic time of the cycle, seconds."""
    timestamp: float
    """Wall-clock time of the cycle, seconds since the epoch."""
    started: float
    """Monotonic time of the loop's start, seconds."""
    interval: float
    """The control period, seconds."""
    setpoint: Setpoint
    scope: Scope
    steal: Steal
    reading: Reading | None
    """Over the last second, sliding; None as long as there is no trustworthy one."""
    utilization: float | None
    """Of that reading, a ratio."""
    in_band: bool
    command: Command
    verdict: Verdict
    counts: Counts
    durations: Histogram
    """Of the cycles, seconds."""
    throttling: Throttling | None = None
    latch_timestamp: float | None = None
    """Wall-clock time since which the command is latched, seconds since the epoch; None in closed loop."""
    deadline: float | None = None
    """Wall-clock end of DURATION, seconds since the epoch."""

    @property
    def held(self) -> bool:
        """Whether the band was held; a fixed effort has none that could be missed."""
        return self.setpoint.band is None or self.counts.held
