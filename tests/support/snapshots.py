"""Snapshots to show and to log, without a loop."""

from __future__ import annotations

from typing import Any

from loadband.quantities import (
    Band,
    Command,
    Counts,
    CpuSeconds,
    Histogram,
    Reading,
    Scope,
    Setpoint,
    Snapshot,
    State,
    Steal,
    Verdict,
)

EPOCH = 1_800_000_000.0


def reading(at: float = 41.0, **changes: Any) -> Reading:
    known: dict[str, Any] = {"own": 0.601, "other": 0.049, "steal": 0.0, "idle": 0.35, "capacity": 2.0, "reach": 2.0}
    return Reading(at=at, dt=1.0, uncertainty=0.005, **(known | changes))


def snapshot(at: float = 41.0, **changes: Any) -> Snapshot:
    """A regulator that was started at 0 and holds 60..70 % of two CPUs; `at` seconds later."""
    known: dict[str, Any] = {
        "timestamp": EPOCH + at,
        "started": 0.0,
        "interval": 0.1,
        "setpoint": Setpoint(Band(0.6, 0.7)),
        "scope": Scope.HOST,
        "steal": Steal.IDLE,
        "reading": reading(at),
        "utilization": 0.65,
        "in_band": True,
        "command": Command(workers=2, effort=1.2),
        "verdict": Verdict(State.HOLDING, "65.0 % is in the band"),
        "counts": Counts(
            cycles=round(10 * at),
            observed_seconds=at,
            in_band_seconds=0.992 * at,
            observed_since_entry=at,
            cpu=CpuSeconds(own=1.202 * at, other=0.098 * at, steal=0.0, idle=0.7 * at),
        ),
        "durations": Histogram((0.001,), (0, 0)),
    }
    return Snapshot(at=at, **(known | changes))
