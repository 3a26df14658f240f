"""How far a run has come, as metrics: events in, points out. Pure but for its clock.

The names are an interface: the *Rebalance* dashboard depends on them. Hosts have the label `host` and alerts the label
`alert`, so that none of them clashes with labels that a scraper attaches (`node`, `pod`, `alertname`).
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from loadband.metrics import Family, Point
from loadband.rebalance.events import (
    Alert,
    AlertState,
    Disturbance,
    End,
    Event,
    Imbalance,
    Move,
    MoveState,
    Phase,
    PhaseName,
    Plan,
    Sample,
    Slice,
    Subject,
    Trouble,
)
from loadband.rebalance.platforms.history import Hosts
from loadband.rebalance.timeline import imbalance_of
from loadband.rebalance.verdict import Outcome

_WINDOW = "averaged over the scenario's window"
_UNKNOWN = "Absent while utilization of a host isn't known."

FAMILIES = (
    Family(
        "loadband_rebalance_info",
        "info",
        ("run", "scenario", "platform", "rebalancer", "version"),
        "What runs: the run's id, scenario, platform and rebalancer, and the version of loadband; always 1.",
    ),
    Family("loadband_rebalance_repeat", "gauge", (), "Number of the current repeat, from 1."),
    Family("loadband_rebalance_repeats", "gauge", (), "Number of repeats that were asked for."),
    Family(
        "loadband_rebalance_phase",
        "gauge",
        ("phase",),
        "Phase of the repeat: 1 for the current phase, 0 for the others; all 0 before the baseline and after the end.",
    ),
    Family(
        "loadband_rebalance_phase_timestamp_seconds",
        "gauge",
        ("phase",),
        "Time at which the phase began, in seconds since the epoch. Absent until then.",
    ),
    Family(
        "loadband_rebalance_host_cpu_utilization_ratio",
        "gauge",
        ("host",),
        f"CPU utilization of a host as a ratio of its capacity, 0..1, {_WINDOW}: from the samples that are recorded, "
        "not from Prometheus. Absent while it isn't known.",
    ),
    Family("loadband_rebalance_host_slices", "gauge", ("host",), "Number of slices on a host."),
    Family(
        "loadband_rebalance_hot_threshold_ratio",
        "gauge",
        (),
        "Utilization from which a host counts as hot, as a ratio of its capacity, 0..1.",
    ),
    Family(
        "loadband_rebalance_spread_ratio",
        "gauge",
        (),
        f"Utilization of the busiest host less that of the least busy one, 0..1, {_WINDOW}. {_UNKNOWN}",
    ),
    Family(
        "loadband_rebalance_imbalance",
        "gauge",
        ("measure",),
        "Imbalance of the hosts by the measure that decides the run: spread and sd (0..1), cv and peak (no unit). "
        f"{_UNKNOWN}",
    ),
    Family(
        "loadband_rebalance_imbalance_limit",
        "gauge",
        ("measure",),
        "The largest imbalance that counts as balance, in the unit of loadband_rebalance_imbalance.",
    ),
    Family(
        "loadband_rebalance_alert",
        "gauge",
        ("alert", "host", "state"),
        "State of an alert: 1 for the state that applies, 0 for the others; all 0 once it is over. Absent before it is "
        "pending for the first time. The label host is empty if the alert is about no host.",
    ),
    Family(
        "loadband_rebalance_notifications_total",
        "counter",
        (),
        "Number of notifications of firing alerts that arrived for the rebalancer in this repeat.",
    ),
    Family(
        "loadband_rebalance_moves_total",
        "counter",
        ("outcome",),
        "Number of moves that ended in this repeat, by outcome.",
    ),
    Family("loadband_rebalance_moves_in_progress", "gauge", (), "Number of moves asked for and not ended."),
    Family(
        "loadband_rebalance_disturbances_total",
        "counter",
        ("disturbance",),
        "Number of disturbances in this repeat, by kind. Most of them make the run INVALID.",
    ),
    Family(
        "loadband_rebalance_verdict",
        "gauge",
        ("verdict",),
        "Verdict on all repeats: 1 for the one that applies, 0 for the others; all 0 before the report.",
    ),
)
"""Every metric of a run, in order of exposition."""

_ENDS = tuple(state for state in MoveState if state.is_end)
_SHOWN = AlertState.PENDING, AlertState.FIRING


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What runs."""

    run: str
    """The run's id."""
    scenario: str
    platform: str
    rebalancer: str
    version: str
    """Of loadband."""
    repeat: int
    """From 1."""
    repeats: int


class Progress:
    """How far one repeat has come; an `Audience` of the conductor.

    Args:
        about: what runs.
        plan: says over which window hosts are averaged, what is hot, and what is balance.
        clock: monotonic seconds: tells when the last sample of a host arrived.
    """

    def __init__(self, about: About, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        """A scrape is answered by a thread of its own, between two events."""
        self._about = about
        self._plan = plan
        self._clock = clock
        self._phases: dict[PhaseName, float] = {}
        """When each began."""
        self._phase: PhaseName | None = None
        self._hosts = Hosts(plan.window)
        self._sampled: dict[str, float] = {}
        """By host, when its last sample arrived."""
        self._places: dict[str, str | None] = {}
        """By slice, its host."""
        self._alerts: dict[tuple[str, str], AlertState | None] = {}
        """By name and host, the state; None: it is over."""
        self._notifications = 0
        self._under_way: set[str] = set()
        self._moves = Counter[MoveState]()
        self._troubles = Counter[Trouble]()
        self._verdict: Outcome | None = None

    def stage(self, doing: str, until: float | None) -> None:
        """See `Audience`; what goes on between the phases isn't shown."""

    def event(self, event: Event) -> None:
        """See `Audience`."""
        with self._lock:
            self._take(event)

    def judged(self, outcome: Outcome) -> None:
        """Learn the verdict on all repeats."""
        self._verdict = outcome

    def _take(self, event: Event) -> None:
        self._hosts.take(event)
        match event:
            case Sample(subject=Subject.HOST, name=name):
                self._sampled[name] = self._clock()
            case Slice(name=name, host=host, present=True):
                self._places[name] = host
            case Slice(name=name):
                self._places.pop(name, None)
            case Alert(state=AlertState.NOTIFIED):
                self._notifications += 1
            case Alert(name=name, host=host, state=state):
                self._alerts[name, host] = state if state in _SHOWN else None
            case Move():
                self._take_move(event)
            case Disturbance(what=what):
                self._troubles[what] += 1
            case Phase(at=at, name=phase):
                self._phase = phase
                self._phases[phase] = at
            case End():
                self._phase = None

    def _take_move(self, event: Move) -> None:
        if not event.state.is_end:
            self._under_way.add(event.move)
            return
        self._under_way.discard(event.move)
        self._moves[event.state] += 1
        if event.state is MoveState.DONE and event.slice in self._places:
            self._places[event.slice] = event.destination

    def utilization(self) -> Mapping[str, float | None]:
        """By host, utilization over the plan's window, 0..1; None while it isn't known."""
        oldest = self._clock() - self._plan.most_gap * self._plan.sample_interval
        return {
            name: ratio if self._sampled.get(name, -math.inf) >= oldest else None
            for name, ratio in self._hosts.utilization().items()
        }

    def points(self) -> list[Point]:
        """The values now, of all families that have any."""
        with self._lock:
            return [*self._of_run(), *self._of_hosts(), *self._of_alerts(), *self._of_counts()]

    def _of_run(self) -> Iterator[Point]:
        about = self._about
        labels = (about.run, about.scenario, about.platform, about.rebalancer, about.version)
        yield Point("loadband_rebalance_info", 1, labels)
        yield Point("loadband_rebalance_repeat", about.repeat)
        yield Point("loadband_rebalance_repeats", about.repeats)
        for phase in PhaseName:
            yield Point("loadband_rebalance_phase", phase is self._phase, (phase,))
        for phase, at in self._phases.items():
            yield Point("loadband_rebalance_phase_timestamp_seconds", at, (phase,))
        for outcome in Outcome:
            yield Point("loadband_rebalance_verdict", outcome is self._verdict, (outcome,))

    def _of_hosts(self) -> Iterator[Point]:
        plan, levels = self._plan, self.utilization()
        yield Point("loadband_rebalance_hot_threshold_ratio", plan.hot)
        yield Point("loadband_rebalance_imbalance_limit", plan.theta, (plan.imbalance,))
        slices = Counter(self._places.values())
        for host in levels:
            yield Point("loadband_rebalance_host_slices", slices[host], (host,))
        ratios = [ratio for ratio in levels.values() if ratio is not None]
        for host, ratio in levels.items():
            if ratio is not None:
                yield Point("loadband_rebalance_host_cpu_utilization_ratio", ratio, (host,))
        if len(ratios) < len(levels) or not ratios:
            return
        yield Point("loadband_rebalance_spread_ratio", imbalance_of(ratios, Imbalance.SPREAD))
        if not math.isnan(imbalance := imbalance_of(ratios, plan.imbalance)):
            yield Point("loadband_rebalance_imbalance", imbalance, (plan.imbalance,))

    def _of_alerts(self) -> Iterator[Point]:
        for (name, host), state in self._alerts.items():
            for shown in _SHOWN:
                yield Point("loadband_rebalance_alert", shown is state, (name, host, shown))
        yield Point("loadband_rebalance_notifications_total", self._notifications)

    def _of_counts(self) -> Iterator[Point]:
        for state in _ENDS:
            yield Point("loadband_rebalance_moves_total", self._moves[state], (state,))
        yield Point("loadband_rebalance_moves_in_progress", len(self._under_way))
        for trouble in Trouble:
            yield Point("loadband_rebalance_disturbances_total", self._troubles[trouble], (trouble,))
