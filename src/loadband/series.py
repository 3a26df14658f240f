"""A recorded series of utilization, from CSV or from the JSON of a range query of Prometheus; pure."""

from __future__ import annotations

import bisect
import csv
import json
import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_SAMPLES = 100_000
"""Ten weeks, a sample a minute."""
MARGIN = 0.05
"""How far, as a ratio, a recorded utilization may be outside of 0..1, as rates are; it is clipped then."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COLUMNS = 2


class SeriesError(ValueError):
    """A text isn't such a series; the message is a sentence."""

    def __init__(self, place: str, sentence: str) -> None:
        super().__init__(sentence)
        self.place = place
        """A line, or a path into the JSON; empty if the whole text is wrong."""


@dataclass(frozen=True, slots=True)
class Series:
    """Utilization over time, with straight lines between the samples."""

    times: array[float]
    """Seconds since the first sample, increasing; two or more."""
    values: array[float]
    """Ratios, 0..1."""

    @property
    def length(self) -> float:
        """Seconds from the first to the last sample, > 0."""
        return self.times[-1]

    def at(self, seconds: float) -> float:
        """Utilization, a ratio, so many seconds after the first sample; outside of the series, that of its end."""
        index = bisect.bisect_right(self.times, seconds)
        if index == 0:
            return self.values[0]
        if index == len(self.times):
            return self.values[-1]
        before, after = self.times[index - 1], self.times[index]
        part = (seconds - before) / (after - before)
        return self.values[index - 1] + part * (self.values[index] - self.values[index - 1])


def parse(text: str, *, unit: float) -> Series:
    """Read a series; a text that begins with a bracket is JSON.

    Args:
        text: CSV with two columns, a time (seconds, or a date and time by ISO 8601) and a utilization, with or without
            a line of headings; or Prometheus' answer to a range query, with exactly one series.
        unit: the ratio that a value of 1 in the text stands for: 0.01 for percent.

    Raises:
        SeriesError: if the text is something else; with the place.
    """
    text = text.removeprefix("\ufeff")  # some editors begin UTF-8 files with a byte order mark
    samples = _json(text) if text.lstrip()[:1] in {"{", "["} else _csv(text)
    times, values = array("d"), array("d")
    first = previous = 0.0
    for place, time, value in samples:
        if len(times) == MAX_SAMPLES:
            raise SeriesError(place, f"there are more than {MAX_SAMPLES} samples")
        if not times:
            first = time
        elif time <= previous:
            raise SeriesError(place, "the time isn't later than the one before")
        previous = time
        ratio = value * unit
        if not -MARGIN <= ratio <= 1 + MARGIN:
            raise SeriesError(place, f"{value:g} isn't a utilization, which must be 0..{1 / unit:g}")
        times.append(time - first)
        values.append(min(max(ratio, 0.0), 1.0))
    if len(times) < _COLUMNS:
        raise SeriesError("", f"there must be two samples or more; there are {len(times)}")
    if not math.isfinite(times[-1]):
        raise SeriesError("", "the times are too far apart")
    return Series(times, values)


def _csv(text: str) -> Iterator[tuple[str, float, float]]:
    """Place, time and value of each sample."""
    rows = csv.reader(text.splitlines(), strict=True)
    kinds = set()
    try:
        for number, row in enumerate(rows):
            place = f"line {rows.line_num}"
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if len(cells) != _COLUMNS:
                raise SeriesError(place, f"there must be two columns, a time and a utilization; there are {len(cells)}")
            if number == 0 and _number(cells[1]) is None:
                continue  # headings
            time, kind = _time(cells[0], place)
            kinds.add(kind)
            if len(kinds) > 1:
                raise SeriesError(place, "the time is written differently from those before")
            value = _number(cells[1])
            if value is None:
                raise SeriesError(place, f"{_quoted(cells[1])} isn't a number")
            yield place, time, value
    except csv.Error as error:
        raise SeriesError(f"line {rows.line_num}", f"not valid CSV: {error}") from error


def _time(text: str, place: str) -> tuple[float, str]:
    """Seconds since some moment, and how the time was written."""
    number = _number(text)
    if number is not None:
        return number, "seconds"
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise SeriesError(
            place, f"{_quoted(text)} isn't a time: it must be seconds, or a date and time by ISO 8601"
        ) from error
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC).timestamp(), "local"
    return time.timestamp(), "zoned"


def _json(text: str) -> Iterator[tuple[str, float, float]]:
    """Place, time and value of each sample, in the format of the API or of `promtool query range -o json`."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise SeriesError(f"line {error.lineno}, column {error.colno}", f"not valid JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise SeriesError("", f"not valid JSON: {error}") from error
    if isinstance(found, dict) and found.get("status") == "error":
        raise SeriesError("", f"Prometheus answered with an error: {_quoted(str(found.get('error')))}")
    path = "" if isinstance(found, list) else "data.result"
    result = found if isinstance(found, list) else _in(_in(found, "data"), "result")
    if not isinstance(result, list):
        raise SeriesError("", "there is no data.result, which Prometheus' answer to a range query has")
    if len(result) != 1:
        raise SeriesError(path, f"there must be one series; there are {len(result)}: narrow the query")
    samples = _in(result[0], "values")
    if not isinstance(samples, list):
        raise SeriesError(f"{path}[0]", "there are no values: query a range, not an instant")
    for index, sample in enumerate(samples):
        place = f"{path}[0].values[{index}]"
        match sample:
            case [int() | float() as time, str(written)] if not isinstance(time, bool) and abs(time) < 1e15:  # noqa: PLR2004 - a year far away; nan and inf aren't less
                value = _number(written)
                if value is None:
                    raise SeriesError(place, f"{_quoted(written)} isn't a finite number")
                yield place, float(time), value
            case _:
                raise SeriesError(place, "not a pair of a time and a text")


def _in(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _number(text: str) -> float | None:
    """A finite number; None if the text isn't one."""
    number = float(text) if len(text) <= 40 and _NUMBER.fullmatch(text) else math.nan  # noqa: PLR2004 - digits enough
    return number if math.isfinite(number) else None


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")  # noqa: PLR2004 - fits a line
