"""The one input cell: the band of now and where it came from. Whatever changes the target does it here."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType

from loadband.quantities import Setpoint


class SetpointCell:
    """Holds the present setpoint; the loop reads it once a cycle, anyone may replace it from any thread."""

    def __init__(self, setpoint: Setpoint) -> None:
        self._lock = threading.Lock()
        self._setpoint = setpoint
        self._changes: Mapping[str, int] = MappingProxyType({setpoint.source: 0})

    def read(self) -> Setpoint:
        """What is asked for now."""
        return self._setpoint

    def replace(self, setpoint: Setpoint) -> None:
        """Ask for something else from the next cycle on, and count the change under its source."""
        with self._lock:
            changes = {**self._changes, setpoint.source: self._changes.get(setpoint.source, 0) + 1}
            self._changes = MappingProxyType(changes)
            self._setpoint = setpoint

    @property
    def changes(self) -> Mapping[str, int]:
        """Changes since the start, by source of the setpoint."""
        return self._changes
