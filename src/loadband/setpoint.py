"""The one input cell: the current setpoint. Whatever changes the target does it here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from loadband.quantities import SETPOINT_SOURCES, Setpoint, SetpointSource


class SetpointCell:
    """Holds the current setpoint: the loop reads it once per cycle, any thread may replace it.

    The configured setpoint may move with time. A client's setpoint overrides it until it is withdrawn.

    Args:
        configured: the setpoint that the settings ask for, or a function that returns it; called from any thread.
    """

    def __init__(self, configured: Setpoint | Callable[[], Setpoint]) -> None:
        self._lock = threading.Lock()
        self._configured = self._now = _source(configured)
        self._changes: Mapping[SetpointSource, int] = MappingProxyType(dict.fromkeys(SETPOINT_SOURCES, 0))
        self._serial = 0

    def read(self) -> Setpoint:
        """The current setpoint."""
        return self._now()

    def replace(self, setpoint: Setpoint) -> None:
        """Override the configured setpoint from the next cycle on; the change is counted under its source."""
        with self._lock:
            self._serial += 1
            self._now = _source(replace(setpoint, serial=self._serial))
            self._count(setpoint.source)

    def restore(self, source: SetpointSource) -> bool:
        """Go back to the configured setpoint; a change is counted under the source that asked for it.

        Returns:
            Whether it was overridden until now.
        """
        with self._lock:
            changed = self._now is not self._configured
            if changed:
                self._now = self._configured
                self._count(source)
            return changed

    def configure(self, configured: Callable[[], Setpoint], source: SetpointSource) -> None:
        """Replace the configured setpoint; a client's setpoint still overrides it."""
        with self._lock:
            if self._now is self._configured:
                self._now = configured
            self._configured = configured
            self._count(source)

    def _count(self, source: SetpointSource) -> None:
        self._changes = MappingProxyType({**self._changes, source: self._changes[source] + 1})

    @property
    def changes(self) -> Mapping[SetpointSource, int]:
        """Changes since the start, by source; a profile that moves isn't a change."""
        return self._changes


def _source(configured: Setpoint | Callable[[], Setpoint]) -> Callable[[], Setpoint]:
    return configured if callable(configured) else lambda: configured
