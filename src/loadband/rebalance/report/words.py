"""Names, values and times as a report writes them. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from loadband.rebalance import figures
from loadband.rebalance.events import Imbalance, Plan
from loadband.rebalance.figures import Definition, Figure, written

_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the text around them."""
_ESCAPED = frozenset({"Cc", "Cs", "Zl", "Zp", "Cn"})
"""Unicode categories that can't be shown, or break a line, or may not stand in XML."""
_SPACE = re.compile(r" {2,}|^ | $")
LONG = 120.0
"""Seconds from which a time is written in minutes."""


def shown(text: str) -> str:
    r"""A name from outside as it can stand in any text: what is invisible, breaks lines or turns text is escaped.

    A newline becomes `\n`, a byte 0 `\x00`, a right-to-left override `\u202e`. Letters of all scripts stay as they are.
    """
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if character not in _BIDIRECTIONAL and unicodedata.category(character) not in _ESCAPED:
        return character
    return character.encode("unicode_escape").decode()


def short(text: str, limit: int) -> str:
    """A name with its middle left out if it is longer than `limit` characters, which must be at least 3."""
    text = shown(text)
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 3
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def labels(names: Iterable[str], limit: int) -> dict[str, str]:
    """Short labels of names, no two alike: where two would be, a number is appended."""
    made: dict[str, str] = {}
    taken = set[str]()
    for name in names:
        label, number = short(name, limit), 2
        while label in taken:
            mark = f"~{number}"
            label, number = short(name, max(limit - len(mark), 3)) + mark, number + 1
        taken.add(label)
        made[name] = label
    return made


def natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """A sort key in which host-2 comes before host-10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)


def title(name: str) -> str:
    """A figure's name for people: `time to alert`."""
    return name.replace("_", " ")


def resolution(figure: Figure) -> str:
    """How exact a figure is: `± 0.5 s`; empty if that isn't known or it has no value."""
    if figure.value is None or figure.resolution is None:
        return ""
    if figure.resolution == 0:
        return "exact"
    unit = figure.definition.unit
    return next(
        (
            f"± {text}"
            for digits in range(1, 6)
            if (text := written(figure.resolution, unit, digits))[0] != "0" or "." in text
        ),
        "exact",
    )


def span(least: Figure, most: Figure) -> str:
    """A range over the repeats; one value if both ends read the same."""
    low, high = figures.shown(least), figures.shown(most)
    if low == high:
        return low
    unit = unit_of(least.definition)
    return f"{low.removesuffix(f' {unit}') if unit and not most.censored else low} to {high}"


def unit_of(definition: Definition) -> str:
    """The unit as it is written after a number."""
    return {"ratio": "%", "count": ""}.get(definition.unit, definition.unit)


def between(bounds: tuple[float, float], unit: str) -> str:
    """Bounds: `2 to 9.5 s`."""
    least, most = (written(bound, unit) for bound in bounds)
    mark = least.rpartition(" ")[2] if " " in least else ""
    return f"{least.removesuffix(f' {mark}') if mark else least} to {most}"


def seconds(amount: float) -> str:
    """A duration in few digits: `14.2 s`, `3:05 min`, `1:02:00 h`."""
    if abs(amount) < LONG:
        return written(amount, "s")
    sign, whole = "-" if amount < 0 else "", round(abs(amount))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}:{minutes:02}:{rest:02} h" if hours else f"{sign}{minutes}:{rest:02} min"


def moment(offset: float) -> str:
    """A time relative to the zero of a timeline: `+14.2 s`, `-3.0 s`."""
    if abs(offset) < LONG:
        return f"{offset:+.1f} s" if round(offset, 1) else "0.0 s"
    return f"{'+' if offset > 0 else ''}{seconds(offset)}"


def date(at: float) -> str:
    """A time since the epoch, UTC, to the second; the number itself if no calendar has it."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return f"{at:.0f} s since the epoch"


def percent(ratio: float) -> str:
    """A ratio in whole or tenth percents: `85 %`, `12.5 %`."""
    return f"{round(100 * ratio, 1):g} %"


def balance(plan: Plan) -> str:
    """Theta as it is written: `20 %`, or `1.3` for measures without a unit."""
    return percent(plan.theta) if plan.imbalance in {Imbalance.SPREAD, Imbalance.SD} else f"{plan.theta:g}"


_LOOSE = re.compile(r"(?<=[<>=]) (?=[0-9])|(?<=[0-9]) (?=(?:s|%|min|h)\b|%)")


def tight(text: str) -> str:
    """A sentence in which no line ends between a number and its unit, or between a comparison and its number."""
    return _LOOSE.sub("\N{NO-BREAK SPACE}", text)


def listed(items: Iterable[str], most: int = 4) -> str:
    """Items as a sentence lists them: `a, b and c`; of more than `most`, the first and how many more."""
    parts = list(items)
    if len(parts) > most:
        parts = [*parts[: most - 1], f"{len(parts) - most + 1} more"]
    if len(parts) < 2:  # noqa: PLR2004 - one needs no word between
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def count(amount: int, noun: str, plural: str = "") -> str:
    """`1 move`, `2 moves`."""
    return f"{amount} {noun if amount == 1 else plural or noun + 's'}"


def setting_lines(settings: Mapping[str, str]) -> list[str]:
    """Settings as `name = value`, in the order of their names."""
    return [f"{shown(name)} = {shown(settings[name])}" for name in sorted(settings)]
