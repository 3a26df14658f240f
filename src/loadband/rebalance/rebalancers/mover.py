"""The mover: when the awaited alert fires, move one slice of the hot host to the coolest host where it fits.

This is a complete, small rebalancer to read and to start your own from. Three parts: `Alerts` remembers what
Alertmanager sent, `choose` decides which slice goes where, and `Mover` ties them together and calls the platform. The
first two are pure.

It errs on the side of doing nothing. It moves only while the alert fires *and* the host was hot in `confirm` of the
last `looks` looks; one slice at a time; not again before `cooldown` is over; never so much that the source falls below
the mean of all hosts, or the destination rises above `ceiling`; and a slice that it has moved stays for `rest`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loadband.rebalance.events import Disturbance, Part, Plan, Real
from loadband.rebalance.platforms import HostView, MoveRefusedError, SliceView, View
from loadband.rebalance.rebalancers import Context

ACTOR = "mover"
HOST_LABEL = "node"
"""The label of the shipped alerts that names the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When the mover moves, and what it leaves alone; times in seconds, utilization as ratios."""

    hot: float
    """A host at or above this is hot."""
    ceiling: float
    """What a destination may reach."""
    slack: float = 0.02
    """By how much a source may fall below the mean: measured values are never exact."""
    every: float = 1.0
    """From one look to the next."""
    confirm: int = 3
    looks: int = 4
    """The host must be hot in `confirm` of the last `looks` looks."""
    cooldown: float
    """From one move to the next; at least the window of the utilization, which shows a move only after that long."""
    rest: float
    """For how long a slice stays where it was moved to."""

    @classmethod
    def of(cls, plan: Plan) -> Policy:
        """The policy that suits a plan: its thresholds, and a cooldown of one window and one look."""
        return cls(hot=plan.hot, ceiling=plan.hot - 0.02, cooldown=plan.window + 1.0, rest=plan.return_within)


class Alerts:
    """What Alertmanager has sent of one alert: for which hosts does it fire?

    Notifications may be lost, repeated, late or out of order. An episode of an alert is named by its fingerprint and
    the time at which it started. Of each fingerprint the latest episode counts, and one that was resolved stays so.
    Where the notification of the end is lost, the host stays here: so this alone is no reason to move.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._episodes: dict[str, tuple[datetime, bool, str]] = {}
        """By fingerprint: start, whether it fires, host."""

    def hear(self, payload: Mapping[str, Any]) -> int:
        """Take the body of a notification, version 4 of the webhook's format; keys may be missing or unknown.

        Returns:
            How many alerts in it could not be read: no mapping, or no time of start with an offset.
        """
        alerts = payload.get("alerts")
        unread = 0
        for alert in alerts if isinstance(alerts, Sequence) and not isinstance(alerts, str) else ():
            unread += not (isinstance(alert, Mapping) and self._take(alert))
        return unread

    def _take(self, alert: Mapping[str, Any]) -> bool:
        labels = alert.get("labels")
        try:
            starts = datetime.fromisoformat(str(alert.get("startsAt")))
        except ValueError:
            return False
        if not isinstance(labels, Mapping) or starts.tzinfo is None:
            return False
        if labels.get("alertname") != self._name:
            return True
        fingerprint = str(alert.get("fingerprint") or json.dumps(labels, sort_keys=True, default=str))
        known = self._episodes.get(fingerprint)
        fires = alert.get("status") == "firing"
        if known is None or starts > known[0] or (starts == known[0] and not fires):
            self._episodes[fingerprint] = starts, fires, str(labels.get(HOST_LABEL, ""))
        return True

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts for which the alert fires, sorted."""
        return tuple(sorted({host for _, fires, host in self._episodes.values() if fires and host}))


@dataclass(frozen=True, slots=True)
class Choice:
    """A move that would help."""

    slice: str
    destination: str
    reason: str


def choose(view: View, hot: str, policy: Policy, resting: frozenset[str] = frozenset()) -> Choice | None:
    """Which slice should leave a hot host, and where to; None if no move helps.

    The biggest slice that may go, so that as few as possible move; of equals the first by name. The coolest host where
    it fits.

    Args:
        view: the hosts and slices now.
        hot: the name of the hot host.
        policy: what may be done.
        resting: the slices that stay where they are.
    """
    hosts = {host.name: host for host in view.hosts}
    source = hosts.get(hot)
    known = [host for host in view.hosts if host.utilization is not None]
    if source is None or source.utilization is None or len(known) < len(hosts):
        return None  # without all hosts' utilization there is no mean
    mean = sum(host.cpus * (host.utilization or 0.0) for host in known) / sum(host.cpus for host in known)
    for one in sorted(view.slices, key=lambda one: (-one.cpus, one.name)):
        if one.host != hot or one.name in resting or source.utilization - one.cpus / source.cpus < mean - policy.slack:
            continue
        destination = _coolest(known, source, one, policy)
        if destination is not None:
            return Choice(
                one.name,
                destination.name,
                f"{hot} is at {source.utilization:.0%}, {destination.name} at {destination.utilization:.0%}",
            )
    return None


def _coolest(hosts: Sequence[HostView], source: HostView, one: SliceView, policy: Policy) -> HostView | None:
    """The coolest host that a slice may go to."""
    for host in sorted(hosts, key=lambda host: (host.utilization, host.name)):
        after = (host.utilization or 0.0) + one.cpus / host.cpus
        if host.name != source.name and after <= policy.ceiling and after < (source.utilization or 0.0):
            return host
    return None


class Mover:
    """The rebalancer; see the module.

    Args:
        policy: what it may do; None: what suits the plan.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self._given = policy
        self._context: Context | None = None
        self._policy = policy
        self._looked = -float("inf")
        self._moved = -float("inf")
        self._seen: dict[str, deque[bool]] = {}
        self._resting: dict[str, tuple[float, str]] = {}
        """By slice, since when, and which host it was to leave."""
        self.unread = 0
        """Alerts of notifications that could not be read."""

    def describe(self) -> Part:
        """See `Rebalancer`."""
        policy = self._policy
        settings = {} if policy is None else {name: f"{getattr(policy, name):g}" for name in Policy.__slots__}
        return Part(
            name="mover",
            real=Real.OURS,
            interval=None if policy is None else policy.every,
            actors=(ACTOR,),
            settings=settings,
        )

    def start(self, context: Context) -> None:
        """See `Rebalancer`."""
        self._context = context
        self._policy = self._given or Policy.of(context.plan)
        self._alerts = Alerts(context.plan.alert)

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:  # noqa: ARG002 - the alert says itself when it began
        """See `Rebalancer`."""
        if self._context is not None:
            self.unread += self._alerts.hear(payload)

    def step(self, now: float) -> None:
        """See `Rebalancer`."""
        context, policy = self._context, self._policy
        if context is None or policy is None or now < self._looked + policy.every:
            return
        self._looked = now
        view = context.actuator.view()
        for host in view.hosts:
            looks = self._seen.setdefault(host.name, deque(maxlen=policy.looks))
            looks.append(host.utilization is not None and host.utilization >= policy.hot)
        if now < self._moved + policy.cooldown or any(one.host is None for one in view.slices):
            return
        # A slice that is still where it was to leave wasn't moved: the move failed, and may be tried again.
        at = {one.name: one.host for one in view.slices}
        self._resting = {
            name: (since, source)
            for name, (since, source) in self._resting.items()
            if now < since + policy.rest and at.get(name) != source
        }
        for host_name in self._alerts.hosts:
            if sum(self._seen.get(host_name, ())) < policy.confirm:
                continue
            choice = choose(view, host_name, policy, frozenset(self._resting))
            if choice is not None:
                self._move(context, choice, host_name, now)
                return

    def _move(self, context: Context, choice: Choice, source: str, now: float) -> None:
        """Ask for it. A refused one counts for the cooldown, too, but its slice needn't rest."""
        self._moved = now
        self._seen.clear()
        try:
            context.actuator.move(choice.slice, choice.destination, by=ACTOR, reason=choice.reason)
        except MoveRefusedError:
            return
        self._resting[choice.slice] = now, source

    def health(self, now: float) -> Disturbance | None:  # noqa: ARG002 - it runs inside the conductor
        """See `Rebalancer`: it is as alive as the run itself."""
        return None

    def stop(self) -> None:
        """See `Rebalancer`."""
        self._context = None
