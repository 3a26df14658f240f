"""Profiles, bands that change over time: the phases of a file, and the band that they ask for at a moment.

Pure: the text is passed in, and so is the function that reads the files it names. docs/profiles.md documents the
format; `KINDS` has the reader of each kind of phase.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

from loadband import document, series
from loadband.document import Table, number, one_of
from loadband.quantities import Band
from loadband.units import PERCENT, TIME, Number, Unit

MAX_PHASES = 64
"""Each phase is a label value of a metric."""
MAX_NAME = 40
"""Characters of the name of a profile or phase."""
MAX_FILE = 4096
"""Characters of the name of a series' file."""
LOWEST, HIGHEST = 0.005, 0.995
"""Limits of a target (ratios), so that the band around it always has two edges."""


class Shape(Protocol):
    """How the target moves within a phase."""

    def at(self, part: float) -> float:
        """The target (a ratio) when that part (0..1) of the phase is over."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """One target for the whole phase."""

    target: float

    def at(self, part: float) -> float:  # noqa: ARG002 - the target doesn't move
        """See `Shape`."""
        return self.target

    def __str__(self) -> str:
        """For people."""
        return _percent(self.target)


@dataclass(frozen=True, slots=True)
class Staircase:
    """Steps of equal height and length, from one target to another."""

    start: float
    end: float
    steps: int
    """Number of levels, both ends included; 2 or more."""

    def at(self, part: float) -> float:
        """See `Shape`."""
        level = min(math.floor(part * self.steps), self.steps - 1)
        return self.start + (self.end - self.start) * level / (self.steps - 1)

    def __str__(self) -> str:
        """For people."""
        return f"{_percent(self.start)} to {_percent(self.end)} in {self.steps} steps"


@dataclass(frozen=True, slots=True)
class Ramp:
    """A straight line from one target to another."""

    start: float
    end: float

    def at(self, part: float) -> float:
        """See `Shape`."""
        return self.start + (self.end - self.start) * part

    def __str__(self) -> str:
        """For people."""
        return f"{_percent(self.start)} to {_percent(self.end)}"


@dataclass(frozen=True, slots=True)
class Sine:
    """A sine wave that begins at its lowest point."""

    low: float
    high: float
    periods: float
    """Number of waves in the phase, > 0."""

    def at(self, part: float) -> float:
        """See `Shape`."""
        return self.low + (self.high - self.low) * (1 - math.cos(2 * math.pi * part * self.periods)) / 2

    def __str__(self) -> str:
        """For people."""
        times = "" if self.periods == 1 else f", {self.periods:g} times"
        return f"{_percent(self.low)} to {_percent(self.high)} and back{times}"


@dataclass(frozen=True, slots=True)
class Replay:
    """A recorded series, stretched to the length of the phase."""

    file: str
    series: series.Series

    def at(self, part: float) -> float:
        """See `Shape`."""
        return self.series.at(part * self.series.length)

    def __str__(self) -> str:
        """For people."""
        return f"{self.file}, {len(self.series.times)} samples"


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a profile."""

    name: str
    kind: str
    seconds: float
    """Its length, > 0."""
    shape: Shape
    width: float
    """Width of the band, a ratio."""

    def band(self, part: float) -> Band:
        """The band when that part (0..1) of the phase is over.

        Near 0 and 1 it is narrower, so that the target stays its middle.
        """
        target = min(max(self.shape.at(part), LOWEST), HIGHEST)
        half = min(self.width / 2, target, 1 - target)
        # Cuts off the digits that arithmetic adds, as in 0.6000000000000001.
        return Band(round(target - half, 9), round(target + half, 9))


@dataclass(frozen=True, slots=True)
class Profile:
    """Phases, one after the other. Equal profiles ask for the same bands."""

    name: str
    phases: tuple[Phase, ...]
    loop: bool
    """Whether it starts over at its end; otherwise the last band stays."""
    start: float | None = None
    """When it begins, seconds since the epoch; None: when it is read."""

    @property
    def seconds(self) -> float:
        """The length of one pass."""
        return math.fsum(phase.seconds for phase in self.phases)

    @property
    def begins(self) -> tuple[float, ...]:
        """When each phase begins, seconds from the start of a pass."""
        lengths = (phase.seconds for phase in self.phases[:-1])
        return tuple(itertools.accumulate(lengths, initial=0.0))

    def at(self, seconds: float) -> tuple[Phase, Band]:
        """The phase and band so many seconds after the start; before the start, those of the start."""
        seconds = max(seconds, 0.0)
        if self.loop:
            seconds %= self.seconds
        begins = self.begins
        index = bisect.bisect_right(begins, seconds) - 1
        phase = self.phases[index]
        return phase, phase.band(min((seconds - begins[index]) / phase.seconds, 1.0))

    def __str__(self) -> str:
        """For people: the name and a summary."""
        count = len(self.phases)
        return f"{self.name}: {count} phase{'s' * (count > 1)} in {self.seconds:g} s, then {_at_end(self)}"


def _at_end(profile: Profile) -> str:
    return "again" if profile.loop else "the last band stays"


def parse(text: str, file: str, read: Callable[[str], str]) -> Profile:
    """Read a profile.

    Args:
        text: the content of the file.
        file: its name, for messages and for a profile without a name of its own.
        read: gives the text of a file that the profile names; raises OSError or ValueError if it can't.

    Raises:
        DocumentError: with everything that is wrong.
    """
    top = document.parse(text, file, "the profile")
    name = top.take("name", document.text(MAX_NAME), PurePath(file).stem[:MAX_NAME])
    width = top.take("width", number(WIDTH), 0.1)
    loop = top.take("at_end", one_of("hold", "loop"), "hold") == "loop"
    start = top.take("start", document.moment, None)
    phases: list[Phase] = []
    end: float | None = None
    for index, table in enumerate(top.tables("phase", most=MAX_PHASES)):
        phase = _phase(table, index, end, width, read)
        # If the end is unknown because of a mistake, the next phase isn't to blame.
        end = phase.shape.at(1.0) if phase else 0.0
        if phase:
            if table.good("name") and any(phase.name == other.name for other in phases):
                table.refuse("name", "another phase has that name")
            phases.append(phase)
    top.check()
    return Profile(name, tuple(phases), loop, start)


def _phase(table: Table, index: int, before: float | None, width: float, read: Callable[[str], str]) -> Phase | None:
    """A phase, or None if it is bad, which is reported; `before` is the target at the end of the phase before it."""
    kind = table.take("kind", one_of(*KINDS))
    if kind is None:
        table.allow_any_key()
        return None
    name = table.take("name", document.text(MAX_NAME), f"{kind} {index + 1}")
    width = table.take("width", number(WIDTH), width)
    made = KINDS[kind](table, before, read)
    if made is None:
        return None
    shape, seconds = made
    return Phase(name, kind, seconds, shape, width)


_Made = tuple[Shape, float] | None
"""A shape and its length in seconds; None if something is wrong, which is reported."""


def _constant(table: Table, _before: float | None, _read: Callable[[str], str]) -> _Made:
    target, seconds = table.take("target", number(TARGET)), table.take("duration", number(LENGTH))
    return None if target is None or seconds is None else (Constant(target), seconds)


def _step(table: Table, before: float | None, _read: Callable[[str], str]) -> _Made:
    start, end = _from(table, before), table.take("to", number(TARGET))
    steps, seconds = table.take("steps", number(STEPS)), table.take("duration", number(LENGTH))
    if start is None or end is None or steps is None or seconds is None:
        return None
    return Staircase(start, end, int(steps)), seconds


def _ramp(table: Table, before: float | None, _read: Callable[[str], str]) -> _Made:
    start, end = _from(table, before), table.take("to", number(TARGET))
    seconds = table.take("duration", number(LENGTH))
    return None if start is None or end is None or seconds is None else (Ramp(start, end), seconds)


def _from(table: Table, before: float | None) -> float | None:
    parser = number(TARGET)
    return table.take("from", parser) if before is None else table.take("from", parser, before)


def _sine(table: Table, _before: float | None, _read: Callable[[str], str]) -> _Made:
    low, high = table.take("low", number(TARGET)), table.take("high", number(TARGET))
    period = table.take("period", number(LENGTH))
    seconds = table.take("duration", number(LENGTH), period)
    if low is not None and high is not None and low >= high:
        table.refuse("low", "must be less than high")
    if low is None or high is None or period is None or seconds is None:
        return None
    return Sine(low, high, seconds / period), seconds


def _replay(table: Table, _before: float | None, read: Callable[[str], str]) -> _Made:
    file, unit = table.take("file", document.text(MAX_FILE)), table.take("unit", one_of("percent", "ratio"))
    speed = table.take("speed", number(SPEED), 1.0)
    if file is None or unit is None:
        return None
    try:
        recorded = series.parse(read(file), unit=0.01 if unit == "percent" else 1.0)
    except series.SeriesError as error:
        table.refuse("file", f"{error.place}: {error}" if error.place else str(error))
        return None
    except OSError as error:
        table.refuse("file", f"cannot be read: {error.strerror or error}")
        return None
    except ValueError as error:
        table.refuse("file", f"cannot be read: {error}")
        return None
    seconds = recorded.length / speed
    if table.good("speed") and seconds < 1:
        table.refuse("file", f"lasts {seconds:.3g} s at that speed; a phase must last 1 s or more")
        return None
    return Replay(file, recorded), seconds


KINDS: Mapping[str, Callable[[Table, float | None, Callable[[str], str]], _Made]] = {
    "constant": _constant,
    "step": _step,
    "ramp": _ramp,
    "sine": _sine,
    "replay": _replay,
}

TARGET = Number(PERCENT, "0", "100")
WIDTH = Number(PERCENT, "0.1", "100")
LENGTH = Number(TIME, "1s", "8760h")
STEPS = Number(Unit("levels", {"": "1"}), "2", "1000", whole=True)
SPEED = Number(Unit("times as fast", {"": "1"}), "0.001", "100000")


def curve(profile: Profile, points: int) -> Iterator[tuple[float, Band]]:
    """The band at equally spaced moments (seconds from the start) of one pass, both ends included."""
    for index in range(points):
        seconds = profile.seconds * index / (points - 1)
        # At its very end, a loop would already be at its start.
        yield seconds, profile.at(min(seconds, math.nextafter(profile.seconds, 0)))[1]


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.4g} %"
