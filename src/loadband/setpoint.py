"""The one input cell: the band of now and where it came from. Whatever changes the target does it here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from loadband.quantities import SETPOINT_SOURCES, Setpoint, SetpointSource


class SetpointCell:
    """Holds the present setpoint; the loop reads it once a cycle, anyone may replace it from any thread.

    What is configured may move with time; what a client asked for stands before it until it is taken back.

    Args:
        configured: what is asked for, or what says so at any time; called from any thread.
    """

    def __init__(self, configured: Setpoint | Callable[[], Setpoint]) -> None:
        self._lock = threading.Lock()
        self._configured = self._now = _source(configured)
        self._changes: Mapping[SetpointSource, int] = MappingProxyType(dict.fromkeys(SETPOINT_SOURCES, 0))
        self._serial = 0

    def read(self) -> Setpoint:
        """What is asked for now."""
        return self._now()

    def replace(self, setpoint: Setpoint) -> None:
        """Ask for something else from the next cycle on, and count the change under its source."""
        with self._lock:
            self._serial += 1
            self._now = _source(replace(setpoint, serial=self._serial))
            self._count(setpoint.source)

    def restore(self, source: SetpointSource) -> bool:
        """Go back to what is configured; whether that was a change, which is counted under who asked for it."""
        with self._lock:
            changed = self._now is not self._configured
            if changed:
                self._now = self._configured
                self._count(source)
            return changed

    def configure(self, configured: Callable[[], Setpoint], source: SetpointSource) -> None:
        """Put another in the place of what is configured; what a client asked for stands on."""
        with self._lock:
            if self._now is self._configured:
                self._now = configured
            self._configured = configured
            self._count(source)

    def _count(self, source: SetpointSource) -> None:
        self._changes = MappingProxyType({**self._changes, source: self._changes[source] + 1})

    @property
    def changes(self) -> Mapping[SetpointSource, int]:
        """Changes since the start, by who asked for them; a profile's motion is none."""
        return self._changes


def _source(configured: Setpoint | Callable[[], Setpoint]) -> Callable[[], Setpoint]:
    return configured if callable(configured) else lambda: configured
