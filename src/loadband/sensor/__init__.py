"""Measures how busy the CPUs of a scope are: cumulative samples, and readings as their differences.

    sensor = open_sensor(Scope.HOST, max_effort=None)
    earlier, later = sensor.sample(), sensor.sample()
    reading = difference(earlier, later, max_gap=1.0)

`files` reads the kernel's files, `procstat` and `cgroups` parse them, `scopes` turns them into samples, and `reading`
(pure) turns samples into readings.
"""

from loadband.sensor.files import UnreadableError
from loadband.sensor.reading import difference
from loadband.sensor.scopes import Sensor, SensorError, open_sensor

__all__ = ["Sensor", "SensorError", "UnreadableError", "difference", "open_sensor"]
