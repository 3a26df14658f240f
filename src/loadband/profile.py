"""A band over time: a file of phases, checked as a whole before anything burns, and what it asks for at a moment.

Pure: the text comes in, and the files that it names are read through a function that is handed in. docs/profiles.md
has the format; the keys of each kind of phase stand once, in `KINDS`.
"""

from __future__ import annotations

import bisect
import difflib
import itertools
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any, Protocol

from environs import ValidationError

from loadband import series
from loadband.quantities import Band
from loadband.settings import PERCENT, TIME, Number, Unit

MAX_PHASES = 64
"""Each is a label value of a metric."""
MAX_NAME = 40
"""Characters of a profile's or a phase's name."""
MAX_PROBLEMS = 20
LOWEST, HIGHEST = 0.005, 0.995
"""Ratios that a target is limited to, so that a band around it has two edges."""

_AT = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.DOTALL)


class ProfileError(Exception):
    """All that is wrong with a profile, one line each: file, line, what is there, what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Shape(Protocol):
    """How a target moves within a phase."""

    def at(self, part: float) -> float:
        """The target, a ratio, when that part (0..1) of the phase is over."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """One target."""

    target: float

    def at(self, part: float) -> float:  # noqa: ARG002 - it is always the same
        """See `Shape`."""
        return self.target

    def __str__(self) -> str:
        """For people."""
        return _percent(self.target)


@dataclass(frozen=True, slots=True)
class Staircase:
    """Levels of equal height and length."""

    start: float
    end: float
    steps: int
    """Levels, both ends included; 2 or more."""

    def at(self, part: float) -> float:
        """See `Shape`."""
        level = min(math.floor(part * self.steps), self.steps - 1)
        return self.start + (self.end - self.start) * level / (self.steps - 1)

    def __str__(self) -> str:
        """For people."""
        return f"{_percent(self.start)} to {_percent(self.end)} in {self.steps} steps"


@dataclass(frozen=True, slots=True)
class Ramp:
    """A straight line."""

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
    """From its lowest to its highest and back, so many times."""

    low: float
    high: float
    periods: float

    def at(self, part: float) -> float:
        """See `Shape`."""
        return self.low + (self.high - self.low) * (1 - math.cos(2 * math.pi * part * self.periods)) / 2

    def __str__(self) -> str:
        """For people."""
        times = "" if self.periods == 1 else f", {self.periods:g} times"
        return f"{_percent(self.low)} to {_percent(self.high)} and back{times}"


@dataclass(frozen=True, slots=True)
class Replay:
    """A recorded series, as fast as the phase is short."""

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
    """A part of a profile."""

    name: str
    kind: str
    seconds: float
    """Its length, > 0."""
    shape: Shape
    width: float
    """Of the band, a ratio."""

    def band(self, part: float) -> Band:
        """The band when that part (0..1) is over: it narrows near 0 and 1, so that the target stays its middle."""
        target = min(max(self.shape.at(part), LOWEST), HIGHEST)
        half = min(self.width / 2, target, 1 - target)
        # Digits that nobody asked for, as in 0.6000000000000001, are cut off.
        return Band(round(target - half, 9), round(target + half, 9))


@dataclass(frozen=True, slots=True)
class Profile:
    """Phases one after the other; equal ones ask for the same."""

    name: str
    phases: tuple[Phase, ...]
    loop: bool
    """Whether it begins anew at its end; else the last band stays."""
    start: float | None = None
    """When it began or will begin, seconds since the epoch; None: when it is read."""

    @property
    def seconds(self) -> float:
        """The length of one pass."""
        return math.fsum(phase.seconds for phase in self.phases)

    @property
    def begins(self) -> tuple[float, ...]:
        """When each phase begins, seconds since the begin of a pass."""
        lengths = (phase.seconds for phase in self.phases[:-1])
        return tuple(itertools.accumulate(lengths, initial=0.0))

    def at(self, seconds: float) -> tuple[Phase, Band]:
        """What is asked for so many seconds after its begin; before it, as at the begin."""
        seconds = max(seconds, 0.0)
        if self.loop:
            seconds %= self.seconds
        begins = self.begins
        index = bisect.bisect_right(begins, seconds) - 1
        phase = self.phases[index]
        return phase, phase.band(min((seconds - begins[index]) / phase.seconds, 1.0))

    def __str__(self) -> str:
        """For people: its name and what is in it."""
        count = len(self.phases)
        return f"{self.name}: {count} phase{'s' * (count > 1)} in {self.seconds:g} s, then {_at_end(self)}"


def _at_end(profile: Profile) -> str:
    return "again" if profile.loop else "the last band stays"


def parse(text: str, file: str, read: Callable[[str], str]) -> Profile:
    """Read a profile.

    Args:
        text: what stands in the file.
        file: its name, for what is told of it, and for a profile that has no name of its own.
        read: gives the text of a file that the profile names; raises OSError or ValueError where it can't.

    Raises:
        ProfileError: with all that is wrong.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ProfileError([f"{file}: nested too deeply"]) from None
    except ValueError as error:
        raise ProfileError([_syntax(text, file, str(error))]) from error
    told = _Problems(text, file)
    top = _Table(document, (), told)
    name = top.take("name", _name, PurePath(file).stem[:MAX_NAME])
    width = top.take("width", _number(WIDTH), 0.1)
    loop = top.take("at_end", _one_of("hold", "loop"), "hold") == "loop"
    start = top.take("start", _moment, None)
    tables = top.take("phase", _tables)
    top.refuse_rest()
    phases: list[Phase] = []
    end: float | None = None
    for index, table in enumerate(tables or ()):
        phase = _phase(_Table(table, ("phase", index), told), index, end, width, read)
        # Where the end isn't known for a mistake of its own, the next phase isn't to blame.
        end = phase.shape.at(1.0) if phase else 0.0
        if phase and any(phase.name == other.name for other in phases):
            told.add(("phase", index, "name"), f"phase {index + 1}", f"there is another phase called {phase.name!r}")
        if phase:
            phases.append(phase)
    told.check()
    return Profile(name, tuple(phases), loop, start)


def _syntax(text: str, file: str, said: str) -> str:
    """The line for what is no TOML; `said` names the place at its end."""
    match = _AT.match(said)
    if match is None:
        return f"{file}: {said}"
    place = f"{match['line']}:{match['column']}" if match["line"] else str(text.rstrip().count("\n") + 1)
    return f"{file}:{place}: {match['what']}"


class _Problems:
    """Collects what is wrong, with its place in the file."""

    def __init__(self, text: str, file: str) -> None:
        self._lines = text.replace("\r\n", "\n").split("\n")
        self._file = file
        self._problems: list[tuple[int, str]] = []

    def add(self, path: Sequence[str | int], subject: str, sentence: str) -> None:
        """Tell that what stands at a path (keys and indices) isn't right."""
        if len(self._problems) <= MAX_PROBLEMS:
            line = self._line(path)
            self._problems.append((line, f"{self._file}:{line}: {subject}: {sentence}"))

    def check(self) -> None:
        """Say it all.

        Raises:
            ProfileError: if anything was wrong.
        """
        if self._problems:
            lines = [line for _, line in sorted(self._problems, key=lambda problem: problem[0])]
            left_out = [f"{self._file}: and more"] if len(lines) > MAX_PROBLEMS else []
            raise ProfileError(lines[:MAX_PROBLEMS] + left_out)

    def _line(self, path: Sequence[str | int]) -> int:
        """The line (from 1) at which the value at a path begins, or what it would have to stand in.

        tomllib tells no places. But what stands at a path is in the text up to a line or it isn't; so the first such
        line is searched for among the lines at which the text up to them is TOML: a value of several lines has the end.
        """
        while path and not self._has(len(self._lines), path):
            path = path[:-1]
        if not path:
            return 1
        least, most = 0, len(self._lines)  # without, and with
        while True:
            middle = (least + most) // 2
            while middle > least and self._parsed(middle) is None:
                middle -= 1
            if middle == least:
                # From here to the half no text is whole; then from the half on, one by one.
                middle = next(
                    line for line in range((least + most) // 2 + 1, most + 1) if self._parsed(line) is not None
                )
                if middle == most:
                    return least + 1
            if self._has(middle, path):
                most = middle
            else:
                least = middle

    def _has(self, lines: int, path: Sequence[str | int]) -> bool:
        value: Any = self._parsed(lines)
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return False
        return True

    def _parsed(self, lines: int) -> dict[str, Any] | None:
        try:
            return tomllib.loads("\n".join(self._lines[:lines]))
        except ValueError:
            return None


class _Table:
    """A table of the file, of which each key is taken once."""

    def __init__(self, values: Mapping[str, Any], path: tuple[str | int, ...], told: _Problems) -> None:
        self._values = values
        self._path = path
        self._told = told
        self._known: list[str] = []
        self.subject = f"phase {path[1] + 1}" if len(path) > 1 and isinstance(path[1], int) else "the profile"

    def take(self, key: str, parse: Callable[[Any], Any], *default: Any) -> Any:
        """The value of a key, or the default; None where it is bad, or missing without a default, which is told."""
        self._known.append(key)
        if key not in self._values:
            if not default:
                self._told.add(self._path, self.subject, f"{key} is missing")
                return None
            return default[0]
        try:
            return parse(self._values[key])
        except (ValidationError, ValueError) as error:
            self.refuse(key, str(error.args[0]))
            return None

    def refuse(self, key: str, sentence: str) -> None:
        """Tell that the value of a key isn't right."""
        subject = f"{key} = {_shown(self._values[key])}" if key in self._values else key
        if self._path:
            subject = f"{self.subject}, {subject}"
        self._told.add((*self._path, key), subject, sentence)

    def refuse_rest(self) -> None:
        """Tell of each key that nobody took."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self._known)}"
                self._told.add((*self._path, key), self.subject, f"unknown key {_shown(key)}; {hint}")


def _phase(
    table: _Table, index: int, before: float | None, width: float | None, read: Callable[[str], str]
) -> Phase | None:
    """A phase, or None where it is bad, which is told; `before` is where the one before it ends."""
    kind = table.take("kind", _one_of(*KINDS))
    if kind is None:
        return None
    name = table.take("name", _name, f"{kind} {index + 1}")
    width = table.take("width", _number(WIDTH), width)
    made = KINDS[kind](table, before, read)
    table.refuse_rest()
    if made is None or name is None or width is None:
        return None
    shape, seconds = made
    return Phase(name, kind, seconds, shape, width)


_Made = tuple[Shape, float] | None
"""A shape and how long it takes (seconds); None where something is wrong, which was told."""


def _constant(table: _Table, _before: float | None, _read: Callable[[str], str]) -> _Made:
    target, seconds = table.take("target", _number(TARGET)), table.take("duration", _number(LENGTH))
    return None if target is None or seconds is None else (Constant(target), seconds)


def _step(table: _Table, before: float | None, _read: Callable[[str], str]) -> _Made:
    start, end = _from(table, before), table.take("to", _number(TARGET))
    steps, seconds = table.take("steps", _number(STEPS)), table.take("duration", _number(LENGTH))
    return None if None in {start, end, steps, seconds} else (Staircase(start, end, steps), seconds)


def _ramp(table: _Table, before: float | None, _read: Callable[[str], str]) -> _Made:
    start, end = _from(table, before), table.take("to", _number(TARGET))
    seconds = table.take("duration", _number(LENGTH))
    return None if None in {start, end, seconds} else (Ramp(start, end), seconds)


def _from(table: _Table, before: float | None) -> Any:
    return table.take("from", _number(TARGET), *([] if before is None else [before]))


def _sine(table: _Table, _before: float | None, _read: Callable[[str], str]) -> _Made:
    low, high = table.take("low", _number(TARGET)), table.take("high", _number(TARGET))
    period = table.take("period", _number(LENGTH))
    seconds = table.take("duration", _number(LENGTH), period)
    if low is not None and high is not None and low >= high:
        table.refuse("low", "must be less than high")
        return None
    return None if None in {low, high, period, seconds} else (Sine(low, high, seconds / period), seconds)


def _replay(table: _Table, _before: float | None, read: Callable[[str], str]) -> _Made:
    file, unit = table.take("file", _text), table.take("unit", _one_of("percent", "ratio"))
    speed = table.take("speed", _number(SPEED), 1.0)
    if None in {file, unit, speed}:
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
    if seconds < 1:
        table.refuse("file", f"lasts {seconds:.3g} s at that speed, and a phase must last 1 s or more")
        return None
    return Replay(file, recorded), seconds


KINDS: Mapping[str, Callable[[_Table, float | None, Callable[[str], str]], _Made]] = {
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


def _number(parser: Number) -> Callable[[Any], float]:
    """The parser for a TOML value: a number, or a text with a unit."""

    def parse_value(value: Any) -> float:
        written = isinstance(value, str | int | float) and not isinstance(value, bool)
        return parser(str(value).strip() if written else "")

    return parse_value


def _one_of(*words: str) -> Callable[[Any], str]:
    def parse_value(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return str(value)

    return parse_value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("must be a text of printable characters")
    return value


def _name(value: Any) -> str:
    text = _text(value)
    if len(text) > MAX_NAME:
        raise ValueError(f"must have {MAX_NAME} characters or less")
    return text


def _moment(value: Any) -> float:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a date and time with an offset, as 2026-01-31T00:00:00Z, without quotes")
    return value.timestamp()


def _tables(value: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(table, dict) for table in value):
        raise ValueError("must be one table or more, each under [[phase]]")
    if len(value) > MAX_PHASES:
        raise ValueError(f"must be {MAX_PHASES} phases or less, and there are {len(value)}")
    return value


def curve(profile: Profile, points: int) -> Iterator[tuple[float, Band]]:
    """One pass: so many moments (seconds since its begin) from begin to end, and the band at each."""
    for index in range(points):
        seconds = profile.seconds * index / (points - 1)
        # At its very end a loop would be at its begin.
        yield seconds, profile.at(min(seconds, math.nextafter(profile.seconds, 0)))[1]


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.4g} %"


def _shown(value: Any) -> str:
    """A value of the file on one line of bounded length."""
    try:
        text = repr(value)
    except ValueError:  # a hexadecimal number of thousands of digits
        return "(a number)"
    return text if len(text) <= 60 else text[:60] + "..."  # noqa: PLR2004 - fits a line
