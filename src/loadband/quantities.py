"""The values that flow through the regulator; all are immutable.

Ratios are 0..1 of the scope's capacity, times are seconds, amounts of CPU are CPUs (CPU-seconds per second). Percent
exists only at the edges: in settings, and in what people read.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal, get_args


class Scope(enum.StrEnum):
    """What the band refers to: the CPUs that are the denominator of every ratio."""

    HOST = "host"
    CPUSET = "cpuset"
    CONTAINER = "container"


class Steal(enum.StrEnum):
    """How time that the hypervisor stole counts towards utilization."""

    IDLE = "idle"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Band:
    """The two edges between which utilization is held; ratios, 0 <= low < high <= 1."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse edges that don't make a band.

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
"""Where a setpoint comes from: the settings, a profile, or a client of the control listener."""
SETPOINT_SOURCES: tuple[SetpointSource, ...] = get_args(SetpointSource)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a profile has got."""

    profile: str
    """The profile's name."""
    phase: str
    """The name of the current phase."""
    phases: tuple[str, ...]
    """The names of all phases."""


@dataclass(frozen=True, slots=True)
class Setpoint:
    """What the regulator aims at, and where that came from: a band to hold, or a fixed effort."""

    band: Band | None
    source: SetpointSource = "settings"
    effort: float | None = None
    """CPUs to burn, whatever else runs; there is no band then."""
    lately: Band | None = None
    """The mean of a moving band over the last second; None if the band stands still."""
    progress: Progress | None = None
    """That of the profile that the band comes from, if it does."""
    serial: int = 0
    """Incremented on every request of a client, so that repeating a request restarts the latch."""

    def __post_init__(self) -> None:
        """Refuse both, and neither.

        Raises:
            ValueError: unless exactly one of band and effort is given, and an effort is >= 0.
        """
        if (self.band is None) == (self.effort is None) or (self.effort is not None and self.effort < 0):
            raise ValueError(f"either a band or an effort >= 0, got {self.band} and {self.effort}")

    @property
    def judged(self) -> Band | None:
        """The band that the last second is judged by: then utilization that follows a ramp exactly is in the band."""
        return self.lately or self.band

    def __str__(self) -> str:
        """As people read it: `60..70 %` or `0.25 CPUs`."""
        return str(self.band) if self.band is not None else f"{self.effort:g} CPUs"


@dataclass(frozen=True, slots=True)
class Throttling:
    """Cumulative counts of the kernel's CPU bandwidth control for this process's control group."""

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
    """The CPUs that the counters cover, never empty; a change makes two samples incomparable."""
    capacity: float
    """CPUs of the scope, > 0."""
    reach: float
    """The most CPUs that this process can burn, >= 0."""
    own: float
    """CPU-seconds of this whole process, exact to the nanosecond."""
    quantum: float
    """The step of the idle or busy counter, in CPU-seconds: the possible error of a difference."""
    ticks: float
    """Sum of all counters; it stands still only if their source is frozen."""
    idle: float | None = None
    """CPU-seconds idle, without iowait."""
    iowait: float = 0.0
    """CPU-seconds idle while waiting for I/O; may decrease (proc(5))."""
    steal: float = 0.0
    """CPU-seconds that the hypervisor stole."""
    busy: float | None = None
    """CPU-seconds used by all processes of the scope."""
    throttling: Throttling | None = None
    """None without a quota."""
    quota: float = 0.0
    """CPU-seconds that bandwidth control grants at once: `busy` may be ahead of capacity x time by so much. 0: none."""
    source: str = ""
    """The file that `idle` or `busy` was read from; a change makes two samples incomparable."""


@dataclass(frozen=True, slots=True)
class Carry:
    """CPU-seconds that the counters reported but a reading couldn't hold; they go into the next reading.

    Counters move in steps, so one difference can claim more idle time than there was. Because the rest is carried over,
    the sums of the readings follow the counters without drift, while each reading's shares stay within 0..1.
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
    """The largest error, a ratio, that the counter's step can cause in `other` and `idle`."""
    carry: Carry = Carry()
    """What the next difference starts with."""
    steal_fell: bool = False
    """Whether the counter of steal went backwards, which no other counter did: steal counts as 0."""

    def utilization(self, steal: Steal) -> float:
        """Utilization, a ratio: own + other, and steal if that counts as busy."""
        busy = self.own + self.other
        return busy + self.steal if steal is Steal.BUSY else busy

    def others(self, steal: Steal) -> float:
        """What this process can't change, a ratio: other, and steal if that counts as busy."""
        return self.other + self.steal if steal is Steal.BUSY else self.other


class DropReason(enum.StrEnum):
    """Why a sample couldn't be turned into a reading."""

    UNREADABLE = "unreadable"
    BACKWARDS = "backwards"
    FROZEN = "frozen"
    ABSURD = "absurd"
    GAP = "gap"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sample that gave no reading, and why, in one sentence for people."""

    reason: DropReason
    why: str


@dataclass(frozen=True, slots=True)
class Command:
    """What the workers do until the next cycle."""

    workers: int
    effort: float
    """CPU-seconds per second for all workers together, 0..reach."""
    at_limit: bool = False
    """Whether more can't be commanded: the reach, or the number of workers, is used up."""
    latched: float | None = None
    """The size of an ordinary load, CPUs, that seeks no band; None in closed loop."""

    @property
    def duty(self) -> float:
        """Mean duty of a worker, 0..1."""
        return self.effort / self.workers if self.workers else 0.0


class State(enum.StrEnum):
    """The state of the regulator in one word: the first that applies, in this order."""

    EXPIRED = "expired"
    FAILSAFE = "failsafe"
    LATCHED = "latched"
    YIELDING = "yielding"
    SATURATED = "saturated"
    HOLDING = "holding"
    SETTLING = "settling"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state, and why, in one sentence for people."""

    state: State
    why: str


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """CPU-seconds by mode since the start; they never decrease."""

    own: float = 0.0
    other: float = 0.0
    steal: float = 0.0
    idle: float = 0.0


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations counted by bucket, not cumulative; the last count is that of durations above every bound."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What the loop has counted since the start; no number ever decreases."""

    cycles: int = 0
    overruns: int = 0
    failures: dict[DropReason, int] = field(default_factory=dict)
    observed_seconds: float = 0.0
    in_band_seconds: float = 0.0
    observed_since_entry: float = 0.0
    """Observed seconds since the band was first entered: the denominator of `held`."""
    run_seconds: float = 0.0
    """Seconds since the start, until the duration is over."""
    seen_seconds: float = 0.0
    """Those of them that readings cover: not a pause, and not what is lost in failsafe."""
    cpu: CpuSeconds = CpuSeconds()
    band_changes: dict[SetpointSource, int] = field(default_factory=dict)
    """By source."""
    worker_restarts: int = 0

    @property
    def held(self) -> bool:
        """Whether the band was held: in it for at least 95 % of the observed time after the first entry."""
        return self.in_band_seconds > 0 and self.in_band_seconds >= 0.95 * self.observed_since_entry


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one cycle knows, published as one reference; whatever is outside the loop reads only this."""

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
    """Over the last second, sliding; None if there is no trustworthy one."""
    utilization: float | None
    """That of the reading, a ratio."""
    in_band: bool
    command: Command
    verdict: Verdict
    counts: Counts
    durations: Histogram
    """Cycle durations, in seconds."""
    throttling: Throttling | None = None
    latch_timestamp: float | None = None
    """When the command was latched, seconds since the epoch; None in closed loop."""
    deadline: float | None = None
    """When DURATION ends, seconds since the epoch; None without one."""
    others: str = ""
    """Who the others are, for people, if they matter: `other 41 %: stress-ng 38 %`. The loop doesn't know it."""

    @property
    def sentence(self) -> str:
        """Why the state is what it is and, if they matter, who the others are."""
        return f"{self.verdict.why}; {self.others}" if self.others else self.verdict.why

    @property
    def held(self) -> bool:
        """Whether what is asked for was held: a band for 95 % of the time, and 95 % of the run was seen at all."""
        seen = self.counts.seen_seconds >= 0.95 * self.counts.run_seconds
        return seen and (self.setpoint.band is None or self.counts.held)
