"""Moving bands: the target over time, by the benchmark's own formulas, and the text of the same profile.

The text says when the profile begins, so the benchmark knows the target at any time without asking the tool.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

SPEED = 600
"""How many times as fast as recorded the day is replayed."""
MINUTES = 24 * 60
"""Samples of the recorded day."""
LEVEL_SECONDS = 14.0
"""Duration of each level of the steps, in seconds; having reached it means 10 s in the band."""
LOW, HIGH = 0.3, 0.7
"""The levels of the steps, as ratios."""
PERIOD = 60.0
"""Period of the sine, from 20 to 80 % and back, in seconds."""


@dataclass(frozen=True, slots=True)
class Track:
    """A band over time."""

    target: Callable[[float], float]
    """Returns the band's middle (ratio) at a number of seconds after the start."""
    profile: str
    """The same band as a profile of loadband, without its `start`."""
    series: str = ""
    """Content of series.csv, for a profile that names it."""
    events: Mapping[str, float] = field(default_factory=dict)
    """Time of each event, in seconds after the start."""

    def write(self, directory: Path, begins: float) -> Path:
        """Write the profile so that it begins at a time (seconds since the epoch), and return its path."""
        start = datetime.fromtimestamp(begins, UTC).isoformat(timespec="microseconds")
        path = directory / "profile.toml"
        path.write_text(f"start = {start}\n{self.profile}")
        (directory / "series.csv").write_text(self.series)
        return path


def _sine(seconds: float) -> float:
    return 0.5 - 0.3 * math.cos(2 * math.pi * seconds / PERIOD)


def _levels(seconds: float) -> float:
    return HIGH if seconds % (2 * LEVEL_SECONDS) >= LEVEL_SECONDS else LOW


def recorded_day() -> list[float]:
    """Return a plausible day of a host, always the same: ratios, one per minute.

    Quiet at night, waves of three hours, jobs that come and go suddenly, and the noise of a mean over a minute.
    """
    chance = random.Random(5)  # noqa: S311 - a curve, not a secret
    day, job = [], 0.0
    for minute in range(MINUTES + 1):
        if chance.random() < 0.02:  # noqa: PLR2004 - about thirty times a day
            job = chance.choice([0.0, 0.05, 0.15])
        turn = 2 * math.pi * minute / MINUTES
        level = 0.45 - 0.30 * math.cos(turn) + 0.08 * math.sin(8 * turn) + job + chance.gauss(0, 0.01)
        day.append(min(max(level, 0.01), 0.95))
    return day


_DAY = recorded_day()


def _day(seconds: float) -> float:
    minute = min(max(seconds * SPEED / 60, 0.0), float(MINUTES))
    before = min(int(minute), MINUTES - 1)
    return _DAY[before] + (_DAY[before + 1] - _DAY[before]) * (minute - before)


SINE = Track(_sine, f'at_end = "loop"\n[[phase]]\nkind = "sine"\nlow = 20\nhigh = 80\nperiod = {PERIOD}\n')
STEPS = Track(
    _levels,
    'at_end = "loop"\n'
    + "".join(
        f'[[phase]]\nkind = "constant"\ntarget = {100 * level:g}\nduration = {LEVEL_SECONDS}\n' for level in (LOW, HIGH)
    ),
    events={"up": LEVEL_SECONDS, "down": 2 * LEVEL_SECONDS},
)
DAY = Track(
    _day,
    f'[[phase]]\nkind = "replay"\nfile = "series.csv"\nunit = "ratio"\nspeed = {SPEED}\n',
    "".join(f"{60 * minute},{level}\n" for minute, level in enumerate(_DAY)),
)
