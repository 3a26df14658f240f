"""The Kubernetes descheduler, as it runs in the cluster: found, described from its own configuration, watched.

Nothing of it is started or changed. Its moves are told apart by the Event that it writes for each eviction, which names
the strategy: only the strategies that look at utilization are under test, and an eviction by another one is foreign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import yaml

from loadband.rebalance.events import Disturbance, Part, Real, Trigger, Trouble
from loadband.rebalance.platforms.kubernetes.cluster import RefusedError
from loadband.rebalance.platforms.kubernetes.states import Workload
from loadband.rebalance.rebalancers import Context, RebalancerError

CONTROLLER = "sigs.k8s.io.descheduler"
"""As its Events name it."""
STRATEGIES = ("LowNodeUtilization", "HighNodeUtilization")
"""Those that look at what nodes use."""
LOOK_INTERVAL = 3.0
"""Seconds from one look at its pod to the next."""
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"([0-9.]+)(ms|h|m|s)")


class Descheduler:
    """See `Rebalancer` and the module.

    Args:
        find: finds it; may raise `RefusedError`, or `OSError` without an answer.
        place: for people: its namespace and label selector.
    """

    def __init__(self, find: Callable[[], Workload], place: str) -> None:
        self._find = find
        self._place = place
        self._described: Workload | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="descheduler")
        self._look: Future[Workload] | None = None
        self._next = float("-inf")
        self._trouble: Disturbance | None = None

    def describe(self) -> Part:
        """See `Rebalancer`."""
        found = self._described
        if found is None:
            return Part(name="descheduler", real=Real.REAL, trigger=Trigger.LOOK, settings={"place": self._place})
        enabled = strategies(found)
        settings = {"place": self._place, "image": found.image, "strategies": ", ".join(enabled)}
        for strategy in enabled:
            settings |= thresholds(found, strategy)
        return Part(
            name="descheduler",
            version=found.image.rpartition(":")[2],
            real=Real.REAL,
            interval=interval(found.arguments),
            trigger=Trigger.LOOK,
            actors=tuple(f"{CONTROLLER}: {strategy}" for strategy in enabled if strategy in STRATEGIES),
            settings=settings,
        )

    def start(self, context: Context) -> None:  # noqa: ARG002 - it takes nothing from the run
        """See `Rebalancer`: it must run, with a strategy that looks at utilization."""
        try:
            found = self._find()
        except (RefusedError, OSError) as error:
            raise RebalancerError(str(error)) from error
        if not found.ready:
            state = f"{', '.join(found.pods)} isn't ready" if found.pods else "there is no such pod"
            raise RebalancerError(f"no descheduler runs at {self._place}: {state}; --descheduler NAMESPACE/SELECTOR")
        enabled = strategies(found)
        if not set(enabled) & set(STRATEGIES):
            has = ", ".join(enabled) or "no strategy"
            raise RebalancerError(f"the descheduler at {self._place} has {has}: enable {' or '.join(STRATEGIES)}")
        if interval(found.arguments) is None:
            raise RebalancerError(
                f"the descheduler at {self._place} runs once: give it --descheduling-interval (it has "
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
        self._trouble = Disturbance(at=at, what=what, who="descheduler", detail=detail)

    def health(self, now: float) -> Disturbance | None:  # noqa: ARG002 - the last look counts
        """See `Rebalancer`."""
        return self._trouble

    def stop(self) -> None:
        """See `Rebalancer`: it goes on; only the looks end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def interval(arguments: Sequence[str]) -> float | None:
    """Seconds from one of its rounds to the next; None if it runs once.

    Args:
        arguments: as it was started with.
    """
    for place, argument in enumerate(arguments):
        name, sign, value = argument.partition("=")
        if name == "--descheduling-interval":
            text = value if sign else next(iter(arguments[place + 1 :]), "")
            found = _DURATION.findall(text)
            return sum(float(number) * _UNITS[unit] for number, unit in found) or None
    return None


def strategies(found: Workload) -> list[str]:
    """The plugins of its policy that may evict, in the policy's order, each once."""
    enabled: dict[str, None] = {}
    for profile in _profiles(found):
        plugins = profile.get("plugins") or {}
        for point in ("deschedule", "balance"):
            enabled |= dict.fromkeys((plugins.get(point) or {}).get("enabled") or ())
    return list(enabled)


def thresholds(found: Workload, strategy: str) -> dict[str, str]:
    """What its policy sets for a strategy, for people."""
    for profile in _profiles(found):
        for one in profile.get("pluginConfig") or ():
            if one.get("name") == strategy:
                return {f"{strategy} {name}": str(value) for name, value in (one.get("args") or {}).items()}
    return {}


def _profiles(found: Workload) -> Sequence[Mapping[str, Any]]:
    for text in found.files.values():
        try:
            policy = yaml.safe_load(text)
        except yaml.YAMLError:
            continue  # another file of the same ConfigMap
        if isinstance(policy, Mapping) and policy.get("kind") == "DeschedulerPolicy":
            return policy.get("profiles") or ()
    return ()
