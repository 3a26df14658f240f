"""What the conductor needs of a rebalancer: the program under test, or what stands between it and the run.

The conductor drives it: it hands over each notification of Alertmanager and gives it a turn several times a second.
A rebalancer that runs on its own (a pod, a daemon) ignores both, and is only started, watched and stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from loadband.rebalance.events import Disturbance, Part, Plan
from loadband.rebalance.platforms import Actuator


class RebalancerError(Exception):
    """A rebalancer can't be run; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a rebalancer gets to work with."""

    run: str
    """The run's id."""
    plan: Plan
    actuator: Actuator
    """Shows hosts and slices, and moves the slices of this run."""
    prometheus: str | None
    """Its URL, for those that query it; None without monitoring."""
    watch: Callable[[Mapping[str, int]], None] = lambda _: None
    """As `Platform.watch`: counts what programs of the rebalancer burn as the run's own."""


class Rebalancer(Protocol):
    """Decides which slice goes where, or starts the program that does."""

    def describe(self) -> Part:
        """What it is, for the report: name, version, how much is real, interval, settings, and its actors."""
        ...

    def start(self, context: Context) -> None:
        """Begin: before the baseline, with all slices of the baseline running.

        Raises:
            RebalancerError: it doesn't start.
        """
        ...

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        """Take a notification of Alertmanager.

        Args:
            at: when it arrived, seconds since the epoch.
            payload: the body of the webhook's request (version 4), as it came: keys may be missing or unknown.
        """
        ...

    def step(self, now: float) -> None:
        """Take a turn: called several times a second, from the begin of the baseline to the end of the recovery.

        Must return soon: what takes long runs as a process of its own, and is looked at in later turns.

        Args:
            now: seconds since the epoch.
        """
        ...

    def health(self, now: float) -> Disturbance | None:
        """What is wrong with it: not running, or not configured as described; None if nothing is."""
        ...

    def stop(self) -> None:
        """Undo all that `start` did; may be called at any time, and more than once. Moves under way go on."""
        ...
