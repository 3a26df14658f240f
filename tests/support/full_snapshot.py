"""A snapshot with everything in it and a different value in every place, so that no two can be mixed up unseen."""

from __future__ import annotations

from loadband.metrics import Info
from loadband.quantities import (
    Band,
    Command,
    Counts,
    CpuSeconds,
    DropReason,
    Histogram,
    Progress,
    Reading,
    Scope,
    Setpoint,
    Snapshot,
    State,
    Steal,
    Throttling,
    Verdict,
)

INFO = Info(
    scope=Scope.HOST,
    controller="adaptive",
    steal=Steal.IDLE,
    version="1.2.3",
    revision="0123abc",
    python_version="3.11.2",
)
SNAPSHOT = Snapshot(
    at=1000.0,
    timestamp=1_800_000_000.25,
    started=900.0,
    interval=0.1,
    setpoint=Setpoint(Band(0.6, 0.7), "profile", progress=Progress("day", "noon", ("morning", "noon"))),
    scope=Scope.HOST,
    steal=Steal.IDLE,
    reading=Reading(
        at=1000.0, dt=1.0, capacity=4.0, reach=3.5, own=0.5, other=0.125, steal=0.0625, idle=0.3125, uncertainty=0.01
    ),
    utilization=0.625,
    in_band=True,
    command=Command(workers=8, effort=2.0, latched=2.25),
    verdict=Verdict(State.HOLDING, "in the band"),
    counts=Counts(
        cycles=990,
        overruns=3,
        failures={DropReason.GAP: 2, DropReason.BACKWARDS: 1},
        observed_seconds=98.5,
        in_band_seconds=97.25,
        observed_since_entry=98.0,
        cpu=CpuSeconds(own=200.5, other=50.25, steal=6.75, idle=136.5),
        band_changes={"control": 4},
        worker_restarts=5,
    ),
    durations=Histogram(bounds=(0.001, 0.01, 0.1), counts=(900, 80, 9, 1), total=1.75),
    throttling=Throttling(periods=700, throttled_periods=40, throttled_seconds=0.875),
    latch_timestamp=1_800_000_000.125,
    deadline=1_800_003_600.0,
)
