"""No rebalancer: the control that every other one is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadband.rebalance.events import Disturbance, Part, Real
from loadband.rebalance.rebalancers import Context


class Nobody:
    """Moves nothing."""

    def describe(self) -> Part:
        """See `Rebalancer`."""
        return Part(name="none", real=Real.CONTROL)

    def start(self, context: Context) -> None:
        """See `Rebalancer`."""

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        """See `Rebalancer`."""

    def step(self, now: float) -> None:
        """See `Rebalancer`."""

    def health(self, now: float) -> Disturbance | None:  # noqa: ARG002 - there is nothing that could be unwell
        """See `Rebalancer`."""
        return None

    def stop(self) -> None:
        """See `Rebalancer`."""
