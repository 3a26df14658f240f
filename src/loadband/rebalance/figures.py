"""From a recording to its figures, each with its unit, its resolution and what it was computed from. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Better(enum.StrEnum):
    """Which way a figure gets better."""

    LESS = "less"
    MORE = "more"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Definition:
    """What a figure is, whatever its value."""

    name: str
    unit: str
    """`s`, `ratio` (0..1), `count`, or empty for a pure number."""
    text: str
    """The definition, one sentence."""
    better: Better
    source: str = ""
    """Whose definition it is, if it isn't ours."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of one run."""

    definition: Definition
    value: float | None
    """None if it could not be measured: `missing` says why. If it is censored: the time that was watched."""
    resolution: float | None = None
    """How exact the value is, plus or minus, in the same unit; None if that isn't known."""
    based_on: str = ""
    """What it was computed from: `12 samples of host a, 2 moves`."""
    censored: bool = False
    """The value is a lower bound: it hadn't come to an end when the watch ended. Larger than any limit."""
    missing: str = ""
    """Why there is no value."""
    bounds: tuple[float, float] | None = None
    """What the configuration allows, least and most, in the same unit; None if it says nothing."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure over the repeats."""

    definition: Definition
    median: Figure
    """Censored if the middle one is; no value if it is missing in any repeat."""
    least: Figure
    most: Figure
    count: int
    """Of the repeats in which it has a value."""


Figures = Mapping[str, Figure]
"""By name, in the order of the definitions."""
