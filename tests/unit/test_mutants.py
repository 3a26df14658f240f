"""What only mutants of the source have shown to be untested."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadband.controller import Adaptive, AdaptiveMemory
from loadband.quantities import Band, Reading, Sample, Setpoint
from loadband.sensor import difference
from loadband.sensor.procstat import ProcStat


def test_the_first_line_of_proc_stat_must_be_that_of_all_cpus() -> None:
    with pytest.raises(ValueError, match="first line"):
        ProcStat.parse("cpu1 1 2 3 4 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\nintr 0\n")


def test_stolen_time_is_that_since_the_last_sample() -> None:
    before = Sample(
        at=1000.0,
        cpus=frozenset({0, 1}),
        capacity=2,
        reach=2,
        own=50.0,
        quantum=0.01,
        ticks=9.0,
        idle=500.0,
        steal=30.0,
    )
    reading = difference(before, replace(before, at=1000.1, idle=500.1, steal=30.04, ticks=9.2), max_gap=1.0)
    assert isinstance(reading, Reading)
    assert (reading.steal, reading.idle) == pytest.approx((0.2, 0.5))


def test_inside_the_band_a_command_that_others_keep_us_from_carrying_out_is_not_cut_to_what_we_got() -> None:
    crowded = Reading(
        at=1.0, dt=0.1, capacity=2.0, reach=2.0, own=0.3, other=0.3, steal=0.0, idle=0.4, uncertainty=0.05
    )
    _, command = Adaptive().step(AdaptiveMemory(1.0, own=0.3, busy=0.6), crowded, Setpoint(Band(0.55, 0.75)))
    assert command.effort >= 1.0
