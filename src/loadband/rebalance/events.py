"""The values of a recording, each frozen, each one line of the file.

A recording begins with one `Run`, which says what was asked and what was real; the other events follow in the order in
which they were written, which need not be the order of their times. All times are seconds since the epoch. Amounts of
CPU are CPUs (CPU-seconds per second), ratios are 0..1 of a host's capacity.

This module imports nothing of the project: figures, verdict and report read these values, and know nothing of who
made them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = 1
"""Of the format. A reader tolerates unknown kinds and fields of the same version, and refuses a later version."""


class Imbalance(enum.StrEnum):
    """The measure of how uneven hosts are that decides a run."""

    SPREAD = "spread"
    """max - min of the hosts' utilization; a ratio."""
    SD = "sd"
    """Population standard deviation; a ratio."""
    CV = "cv"
    """sd / mean; no unit."""
    PEAK = "peak"
    """max / mean; no unit, 1 is balance."""


class Expectation(enum.StrEnum):
    """What a scenario expects of the platform."""

    BALANCE = "balance"
    """The alert fires, something moves, and balance comes back."""
    NO_MOVE = "no move"
    """Nothing moves, whether or not an alert fires."""
    NO_ALERT = "no alert"
    """The alert doesn't fire, and nothing moves."""
    NOTHING = "nothing"
    """Nothing: the limits alone decide."""


class Real(enum.StrEnum):
    """How much of a rebalancer is the real program."""

    REAL = "real"
    """The program itself, with its own actuator."""
    OUR_ACTUATOR = "real decision, our actuator"
    STAND_IN_METRICS = "real decision, stand-in metrics"
    OURS = "ours"
    """loadband's own mover: an example and a reference."""
    CONTROL = "control"
    """Nothing that reacts to utilization: what happens without a rebalancer."""


class Trigger(enum.StrEnum):
    """What makes a rebalancer act."""

    ALERT = "alert"
    """It waits for the alert: a move before the alert fires has another cause."""
    LOOK = "its own look"
    """It looks at the platform by itself, and may move before any alert is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What decides a run: the part of a scenario that figures and verdict need."""

    scenario: str
    """Its name."""
    expect: Expectation
    alert: str
    """The name of the alert that is awaited."""
    hot_hosts: tuple[str, ...]
    """The hosts that are overloaded on purpose; none for a control without overload."""
    hot: float
    """The hot threshold, a ratio."""
    imbalance: Imbalance = Imbalance.SPREAD
    theta: float
    """Balance is an imbalance of at most this, in the unit of `imbalance`."""
    hold: float
    """H, seconds: balance and relief count only when they last that long."""
    settle: float
    """W, seconds: the overload counts only when it lasts that long."""
    return_within: float
    """C, seconds: a move that brings a slice back to a host that it left within C is thrash."""
    window: float
    """Seconds over which utilization is averaged, for the hosts and in the awaited alert's rule."""
    sample_interval: float
    """Seconds between two samples of a host."""
    watch: float
    """Seconds that are watched from the begin of the overload."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """By figure, its limit as written: `{"time_to_alert": "<= 20s", "thrash": "== 0"}`."""
    tolerance: float = 0.05
    """How far the load of a host's slices may be from what was asked for it to count as faithful; a ratio."""
    least_fidelity: float = 0.9
    """The bar of load_fidelity, 0..1."""
    most_foreign: float = 0.05
    """What others may burn of a host, mean over `window`; a ratio."""
    most_own: float = 0.1
    """What our own programs (monitoring, rebalancer, recorder) may burn of a host, mean over `window`; a ratio."""
    most_gap: float = 3.0
    """The longest time without a sample of a host, in sample intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A program that takes part, as it describes itself: a platform, a rebalancer, a Prometheus."""

    name: str
    version: str = ""
    real: Real = Real.REAL
    interval: float | None = None
    """Seconds between two of its rounds; None if it is told, or has none."""
    trigger: Trigger = Trigger.ALERT
    """Of a rebalancer: what makes it act, and so whether its moves have to come after the alert."""
    counts_others: bool | None = None
    """Of a platform: whether it measures what others than the slices burn on its hosts. None: it doesn't say; then
    only a sample of such a program shows that it does."""
    actors: tuple[str, ...] = ()
    """Of a rebalancer: the values of `Move.by` that are its own."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """For people; never a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the monitoring's configuration allows; seconds."""

    scrape: float
    evaluation: float
    alert_for: float
    """The `for` of the awaited alert."""
    group_wait: float | None
    """Until a new group of alerts is notified of; null if there is no Alertmanager, or it doesn't say."""
    group_interval: float | None
    """From one notification about a group to the next; null likewise."""
    polled: float | None = None
    """Seconds from one look at the firing alerts to the next, where they were looked at instead of waiting for a
    webhook: `group_wait` and `group_interval` then delay nothing. null: they came by the webhook."""
    faster: float = 1.0
    """By how much everything was shortened against what is shipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The begin of a recording: what was asked, of whom, and what was real."""

    at: float
    run: str
    """The run's id: what is made for it carries it."""
    repeat: int = 1
    """Which of the repeats, from 1."""
    repeats: int = 1
    """How many repeats were asked for."""
    plan: Plan
    platform: Part
    rebalancer: Part
    monitoring: tuple[Part, ...] = ()
    timing: Timing | None = None
    """None: the alerts' bounds can't be stated."""
    moves_resolution: float
    """Seconds: how exact the times of moves are (0.0 where the platform stamps them itself)."""
    loadband: str = ""
    """The version that recorded."""
    seed: int = 0
    followed: bool = False
    """Whether the platform was only followed: nobody made load, so nobody knows when an overload began."""
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host comes, changes its size, or goes."""

    at: float
    name: str
    cpus: float
    """Its capacity, > 0."""
    present: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A slice comes, is asked for another amount, or goes. Where it goes while it runs is told by moves."""

    at: float
    name: str
    host: str | None
    """Where it is; None while it is nowhere (pending)."""
    cpus: float
    """What is asked of it from now on, CPUs."""
    present: bool = True
    made: bool = True
    """Whether the run made it. One that was there already burns what it likes; `cpus` is what that was at first."""


class Subject(enum.StrEnum):
    """Whose CPU time a sample counts."""

    HOST = "host"
    """All of a host."""
    SLICE = "slice"
    OWN = "own"
    """A program of the run that isn't load: monitoring, rebalancer, recorder."""
    FOREIGN = "foreign"
    """A process that has nothing to do with the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A cumulative counter of busy CPU time, read once."""

    at: float
    """By the clock of who read it; `Clock` says how far a host's clock is off."""
    subject: Subject
    name: str
    """The host's, the slice's or the program's."""
    host: str
    """Where it was counted; whose clock `at` is."""
    cpu_seconds: float
    """Since some begin; a value that is less than the one before is a reset."""


class AlertState(enum.StrEnum):
    """What an alert has come to."""

    PENDING = "pending"
    """`at` is Prometheus' activeAt."""
    FIRING = "firing"
    """`at` is when the rule's evaluation made it fire: Alertmanager's startsAt."""
    NOTIFIED = "notified"
    """`at` is when the webhook got it."""
    RESOLVED = "resolved"
    """`at` is Alertmanager's endsAt, or when the rule stopped firing."""
    DROPPED = "dropped"
    """It was pending and ended without firing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert changes its state."""

    at: float
    state: AlertState
    name: str
    host: str
    """The host that it is about; empty if it is about none."""
    fingerprint: str = ""
    """Alertmanager's; with the time of firing it names one episode of one alert."""
    resolution: float = 0.0
    """Seconds: how exact `at` is, where it had to be polled."""


class MoveState(enum.StrEnum):
    """What a move has come to."""

    ASKED = "asked"
    """The rebalancer asked for it."""
    ACCEPTED = "accepted"
    """The platform began it."""
    DONE = "done"
    """The slice runs on its destination."""
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return self in {MoveState.DONE, MoveState.FAILED, MoveState.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A move changes its state; the lines of one move share their `move`."""

    at: float
    move: str
    """Its id, unique within the run."""
    state: MoveState
    slice: str
    source: str
    destination: str | None
    """None as long as nobody has decided it (an evicted pod)."""
    by: str
    """Who did it, as the platform names them; a move by none of the rebalancer's actors is foreign."""
    reason: str = ""
    """Why it was asked for, or why it failed; for people."""
    seconds: float | None = None
    """How long it took, as the platform states it."""
    downtime: float | None = None
    """For how long the slice stood still, seconds, as the platform states it."""


class PhaseName(enum.StrEnum):
    """The phases of a run, in order."""

    BASELINE = "baseline"
    OVERLOAD = "overload"
    """The overload is being made."""
    WATCH = "watch"
    """The overload stands, and the platform is watched."""
    RECOVERY = "recovery"
    """The overload is taken away, and the alert is to resolve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase begins, and the one before it ends."""

    at: float
    name: PhaseName


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How far a host's clock is from the recorder's, as measured once."""

    at: float
    """By the recorder's clock."""
    host: str
    offset: float
    """The host's clock less the recorder's, seconds."""
    uncertainty: float
    """Half of the time that the question took, seconds."""


class Trouble(enum.StrEnum):
    """What may spoil a run."""

    FOREIGN_LOAD = "foreign load"
    """A process that has nothing to do with the run burns on a host; `amount` in CPUs."""
    SCRAPE_FAILED = "scrape failed"
    MONITORING_DOWN = "monitoring down"
    REBALANCER_DOWN = "rebalancer down"
    REBALANCER_CHANGED = "rebalancer not as described"
    SLICE_DIED = "slice died"
    """It ended or was restarted without being moved."""
    SLICE_PENDING = "slice pending"
    HOST_NOT_READY = "host not ready"
    PRESSURE = "evicted under pressure"
    """By the platform's own protection: memory, disk, preemption."""
    CLOCK_STEPPED = "clock stepped"
    """The recorder's own; `amount` in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """Something happened that isn't part of the scenario.

    A later one with the same `at`, `what`, `host` and `who` replaces it: it says when it was over.
    """

    at: float
    until: float | None = None
    """When it was over; None: a moment, or not known to be over."""
    what: Trouble
    host: str = ""
    who: str = ""
    """The process, the program or the person, as far as known."""
    amount: float | None = None
    detail: str = ""
    """For people."""


class EndReason(enum.StrEnum):
    """Why a recording ends."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    """Somebody stopped it."""
    FAILED = "failed"
    """It could not go on; `End.detail` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of a recording; one without it was interrupted."""

    at: float
    reason: EndReason
    detail: str = ""


Event = Host | Slice | Sample | Alert | Move | Phase | Clock | Disturbance | End
"""All that may follow a `Run`."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A run as it was recorded."""

    run: Run
    events: tuple[Event, ...]
    """In the order of the file."""
    remarks: tuple[str, ...] = ()
    """What the reader left out, one line each: a partial last line, unknown kinds and fields."""
