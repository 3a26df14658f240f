"""Movers that are broken, each in one way: what a verdict has to catch, with the right reason."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from simulated import Idler

from loadband.rebalance.events import Part, Real
from loadband.rebalance.platforms import MoveRefusedError


class Broken(Idler):
    """Hears of the alert, and then does something that it shouldn't."""

    hot = ""
    """The host that the alert fires for; empty while it fires for none."""

    def describe(self) -> Part:
        return Part(name="mover", real=Real.OURS, actors=("mover",))

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        super().notify(at, payload)
        for alert in payload["alerts"]:
            self.hot = alert["labels"]["node"] if alert["status"] == "firing" else ""

    def move(self, name: str, destination: str) -> None:
        assert self.context
        self.context.actuator.move(name, destination, by="mover", reason="broken on purpose")

    def on(self, host: str) -> list[str]:
        """The movable slices of a host, by name."""
        assert self.context
        return sorted(one.name for one in self.context.actuator.view().slices if one.host == host)


class Good(Broken):
    """Moves one slice of the hot host to the other one: the control of these tests."""

    def step(self, now: float) -> None:  # noqa: ARG002 - the protocol's
        if self.hot:
            self.move(self.on(self.hot)[0], "b")
            self.hot = ""


class Nothing(Broken):
    """Does nothing."""


class ToTheHottest(Broken):
    """Moves a slice of the coolest host to the hottest one."""

    def step(self, now: float) -> None:  # noqa: ARG002 - the protocol's
        if self.hot and self.on("b"):
            self.move(self.on("b")[0], self.hot)
            self.hot = ""


class Everything(Broken):
    """Moves all slices at once."""

    def step(self, now: float) -> None:  # noqa: ARG002 - the protocol's
        if self.hot:
            for name in self.on(self.hot):
                self.move(name, "b")
            self.hot = ""


class TooLate(Broken):
    """Moves the right slice, 15 s after the alert."""

    due = float("inf")

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        super().notify(at, payload)
        if self.hot:
            self.due = at + 15.0

    def step(self, now: float) -> None:
        if now >= self.due:
            self.move(self.on("a")[0], "b")
            self.due = float("inf")


class BackAndForth(Broken):
    """Moves the right slice, back, and there again."""

    moves = 0
    due = float("inf")

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        super().notify(at, payload)
        if self.hot and not self.moves:
            self.due = at

    def step(self, now: float) -> None:
        if now >= self.due and self.moves < 3:
            self.moves += 1
            self.move("a-1", "a" if self.moves == 2 else "b")
            self.due = now + 1.0


class BeforeTheAlert(Broken):
    """Moves the right slice 4 s after the host got hot, before anybody has told it to."""

    due = float("inf")
    moved = False

    def step(self, now: float) -> None:
        assert self.context
        (host,) = (host for host in self.context.actuator.view().hosts if host.name == "a")
        if (host.utilization or 0.0) > self.context.plan.hot and self.due == float("inf"):
            self.due = now + 4.0
        if now >= self.due and not self.moved:
            self.moved = True
            self.move(self.on("a")[0], "b")


class NotOurs(Broken):
    """Tries to move something that isn't a slice of the run."""

    def step(self, now: float) -> None:  # noqa: ARG002 - the protocol's
        if self.hot:
            with suppress(MoveRefusedError):
                self.move("somebody-elses-database", "b")
            self.hot = ""


class Dies(Broken):
    """Ends with an error when it is told."""

    def step(self, now: float) -> None:  # noqa: ARG002 - the protocol's
        if self.hot:
            raise RuntimeError("index out of range")
