"""A descheduler as it runs in the cluster: found, described from its own configuration, watched.

There are two: that of Kubernetes, and Koordinator's. Nothing of them is started or changed. Their moves are identified
by the Event that they write for each eviction, which names the strategy: only the strategies that look at utilization
are under test, and an eviction by another one is foreign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import yaml

from loadband.rebalance.events import Disturbance, Part, Real, Trigger, Trouble
from loadband.rebalance.platforms.kubernetes.cluster import RefusedError
from loadband.rebalance.platforms.kubernetes.states import KOORDINATOR, LOW_NODE_LOAD, Workload
from loadband.rebalance.rebalancers import Context, RebalancerError

CONTROLLER = "sigs.k8s.io.descheduler"
"""As the Events of the Kubernetes descheduler name it."""
LOOK_INTERVAL = 3.0
"""Seconds from one look at its pod to the next."""
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"([0-9.]+)(ms|h|m|s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What one descheduler does differently from the other."""

    name: str
    place: str
    """Where its own chart puts it: namespace/label selector."""
    controller: str
    """As its Events name it."""
    utilization: tuple[str, ...]
    """Its strategies that look at what nodes use."""
    configuration: str
    """The kind of its configuration, a YAML document in a ConfigMap that it mounts."""
    interval: Callable[[Workload, Mapping[str, Any]], float | None]
    """Seconds from one of its rounds to the next, from itself and its configuration; None if it runs once."""
    repeat: str
    """How to make it run repeatedly, for people."""


class Descheduler:
    """See `Rebalancer` and the module.

    Args:
        find: finds it; may raise `RefusedError`, or `OSError` without an answer.
        place: for people: its namespace and label selector.
        kind: which one it is.
    """

    def __init__(self, find: Callable[[], Workload], place: str, kind: Kind) -> None:
        self._find = find
        self._place = place
        self._kind = kind
        self._described: Workload | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=kind.name)
        self._look: Future[Workload] | None = None
        self._next = float("-inf")
        self._trouble: Disturbance | None = None

    def describe(self) -> Part:
        """See `Rebalancer`."""
        found, kind = self._described, self._kind
        if found is None:
            return Part(name=kind.name, real=Real.REAL, trigger=Trigger.LOOK, settings={"place": self._place})
        policy = configuration(found, kind.configuration)
        enabled = strategies(policy)
        settings = {"place": self._place, "image": found.image, "strategies": ", ".join(enabled)}
        for strategy in enabled:
            settings |= thresholds(policy, strategy)
        return Part(
            name=kind.name,
            version=found.image.rpartition(":")[2],
            real=Real.REAL,
            interval=kind.interval(found, policy),
            trigger=Trigger.LOOK,
            actors=tuple(f"{kind.controller}: {strategy}" for strategy in enabled if strategy in kind.utilization),
            settings=settings,
        )

    def start(self, context: Context) -> None:  # noqa: ARG002 - it takes nothing from the run
        """See `Rebalancer`: it must run, with a strategy that looks at utilization."""
        try:
            found = self._find()
        except (RefusedError, OSError) as error:
            raise RebalancerError(str(error)) from error
        kind = self._kind
        if not found.ready:
            state = f"{', '.join(found.pods)} isn't ready" if found.pods else "there is no such pod"
            raise RebalancerError(f"no {kind.name} runs at {self._place}: {state}; --descheduler NAMESPACE/SELECTOR")
        policy = configuration(found, kind.configuration)
        enabled = strategies(policy)
        if not set(enabled) & set(kind.utilization):
            has = ", ".join(enabled) or "no strategy"
            raise RebalancerError(f"the {kind.name} at {self._place} has {has}: enable {' or '.join(kind.utilization)}")
        if kind.interval(found, policy) is None:
            raise RebalancerError(
                f"the {kind.name} at {self._place} runs once: give it {kind.repeat} (it has "
                f"{' '.join(found.arguments) or 'no arguments'})"
            )
        self._described = found

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        """See `Rebalancer`: it looks by itself."""

    def step(self, now: float) -> None:
        """See `Rebalancer`: look now and then whether it still runs as described; the answer is taken later."""
        if self._look is not None and self._look.done():
            self._take(self._look, now)
            self._look = None
        if self._look is None and now >= self._next and self._described is not None:
            self._next = now + LOOK_INTERVAL
            self._look = self._pool.submit(self._find)

    def _take(self, look: Future[Workload], now: float) -> None:
        before = self._described
        try:
            found = look.result()
        except (RefusedError, OSError) as error:
            self._tell(now, Trouble.REBALANCER_DOWN, f"it can't be looked at: {error}")
            return
        if not found.ready:
            self._tell(now, Trouble.REBALANCER_DOWN, "none of its pods is ready")
        elif before is not None and found.pods != before.pods:
            self._tell(now, Trouble.REBALANCER_DOWN, f"it was started anew: {', '.join(found.pods)}")
        elif before is not None and (found.image, found.arguments, found.files) != (
            before.image,
            before.arguments,
            before.files,
        ):
            self._tell(now, Trouble.REBALANCER_CHANGED, "its image, arguments or configuration were changed")
        else:
            self._trouble = None

    def _tell(self, at: float, what: Trouble, detail: str) -> None:
        self._trouble = Disturbance(at=at, what=what, who=self._kind.name, detail=detail)

    def health(self, now: float) -> Disturbance | None:  # noqa: ARG002 - the last look counts
        """See `Rebalancer`."""
        return self._trouble

    def stop(self) -> None:
        """See `Rebalancer`: it goes on; only the looks end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def interval(arguments: Sequence[str]) -> float | None:
    """Seconds from one round of the Kubernetes descheduler to the next; None if it runs once.

    Args:
        arguments: as it was started with.
    """
    for place, argument in enumerate(arguments):
        name, sign, value = argument.partition("=")
        if name == "--descheduling-interval":
            return _seconds(value if sign else next(iter(arguments[place + 1 :]), ""))
    return None


def _seconds(text: str) -> float | None:
    """A duration as Go writes it, `1m30s`; None if it is 0 or isn't one."""
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text)) or None


def configuration(found: Workload, kind: str) -> Mapping[str, Any]:
    """A descheduler's configuration: the document of a kind among the files that it mounts; empty if there is none."""
    for text in found.files.values():
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError:
            continue  # another file of the same ConfigMap
        if isinstance(document, Mapping) and document.get("kind") == kind:
            return document
    return {}


def strategies(policy: Mapping[str, Any]) -> list[str]:
    """The plugins of a configuration that may evict, in its order, each once."""
    enabled: dict[str, None] = {}
    for profile in policy.get("profiles") or ():
        plugins = profile.get("plugins") or {}
        for point in ("deschedule", "balance"):
            for one in (plugins.get(point) or {}).get("enabled") or ():
                enabled[one["name"] if isinstance(one, Mapping) else one] = None  # Koordinator's have more than a name
    return list(enabled)


def thresholds(policy: Mapping[str, Any], strategy: str) -> dict[str, str]:
    """What a configuration sets for a strategy, for people."""
    for profile in policy.get("profiles") or ():
        for one in profile.get("pluginConfig") or ():
            if one.get("name") == strategy:
                return {f"{strategy} {name}": str(value) for name, value in (one.get("args") or {}).items()}
    return {}


OF_KUBERNETES = Kind(
    name="descheduler",
    place="kube-system/app.kubernetes.io/name=descheduler",
    controller=CONTROLLER,
    utilization=("LowNodeUtilization", "HighNodeUtilization"),
    configuration="DeschedulerPolicy",
    interval=lambda found, _: interval(found.arguments),
    repeat="--descheduling-interval",
)
"""sigs.k8s.io/descheduler."""
OF_KOORDINATOR = Kind(
    name=KOORDINATOR,
    place=f"koordinator-system/koord-app={KOORDINATOR}",
    controller=KOORDINATOR,
    utilization=(LOW_NODE_LOAD,),
    configuration="DeschedulerConfiguration",
    interval=lambda _, policy: _seconds(str(policy.get("deschedulingInterval") or "")),
    repeat="a deschedulingInterval in its configuration",
)
"""Koordinator's. Its Events say `koord-descheduler` if its profile has that name, which is the default."""
