"""Measures how busy a scope's CPUs are: cumulative samples, and readings as their differences.

    sensor = open_sensor(Scope.HOST, max_effort=None)
    earlier, later = sensor.sample(), sensor.sample()
    reading = difference(earlier, later, max_gap=1.0)

`files` reads, `procstat` and `cgroups` understand what was read, `scopes` makes samples of it, `reading` (pure) makes
readings of samples.
"""

from loadband.sensor.files import UnreadableError
from loadband.sensor.reading import difference
from loadband.sensor.scopes import Sensor, SensorError, open_sensor

__all__ = ["Sensor", "SensorError", "UnreadableError", "difference", "open_sensor"]
