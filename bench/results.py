"""What was measured, kept as JSON: one line a run, so that runs can be made one by one and added up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf, isfinite, isnan, nan
from pathlib import Path
from typing import Any, Self

from bench.recording import WINDOW, Recording, strangers
from bench.scenes import Scene
from bench.tools import Tool

NEVER = "never"
"""Infinity, which JSON doesn't know."""
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Run:
    """One tool in one scene: numbers, or why there are none."""

    scene: str
    tool: str
    command: str = ""
    cannot: str = ""
    """Why there are no numbers, one sentence; else empty."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """By the keys of the scene's rows; nan for what isn't known, infinity for what never came."""
    strangers: float = 0.0
    """CPU time of all whom the benchmark didn't start, in the worst second, percent of the machine."""
    seconds: float = 0.0
    """That were asked for, of what is measured."""
    events: Mapping[str, float] = field(default_factory=dict)
    """Seconds after the start."""
    curve: tuple[tuple[float, float], ...] = ()
    """Seconds after the start at which a 1-s window ends, and utilization in it, percent."""

    shares: tuple[tuple[tuple[float, float], ...], ...] = ()
    """Of each of several regulators: seconds after the start, percent of the capacity over the last second."""
    asked: tuple[tuple[float, float], ...] = ()
    """Where the band moves: the same seconds as the curve's, and its middle over the last second, percent."""

    @classmethod
    def of(cls, scene: Scene, tool: Tool, command: str, recording: Recording, seconds: float) -> Self:
        """The numbers of a recording."""
        start = recording.events["start"]
        windows = recording.windows("start", "until")
        return cls(
            scene=scene.name,
            tool=tool.name,
            command=command,
            numbers={row.key: row.of(recording) for row in scene.rows},
            strangers=strangers(recording),
            seconds=seconds,
            events={name: at - start for name, at in recording.events.items()},
            shares=tuple(tuple((at - start, 100 * share) for at, share in curve) for curve in recording.shares),
            curve=tuple((at + WINDOW - start, 100 * utilization) for at, utilization in windows),
            asked=tuple((at + WINDOW - start, 100 * recording.mean_asked(at)) for at, _ in windows)
            if recording.asked
            else (),
        )


@dataclass(slots=True)
class Results:
    """All runs that were made on one machine."""

    machine: dict[str, str]
    """What it is, by names for people."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the tools."""
    runs: dict[tuple[str, str], Run] = field(default_factory=dict)
    """By scene and tool; a new run replaces an old one."""

    def add(self, run: Run) -> None:
        """Keep a run."""
        self.runs[run.scene, run.tool] = run

    def save(self, path: Path) -> None:
        """Write all of it."""
        lines = ",\n".join(json.dumps(_plain(asdict(run)), allow_nan=False) for run in self.runs.values())
        machine, versions = json.dumps(self.machine), json.dumps(self.versions)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"machine": {machine},\n"versions": {versions},\n"runs": [\n{lines}\n]}}\n')

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what was saved.

        Raises:
            OSError: there is nothing to read.
            ValueError, KeyError, TypeError: it isn't what was saved.
        """
        whole = json.loads(path.read_text())
        results = cls(whole["machine"], whole["versions"])
        for each in whole["runs"]:
            numbers = {key: _number(value) for key, value in each.pop("numbers").items()}
            curve, asked = _curve(each.pop("curve")), _curve(each.pop("asked", ()))
            shares = tuple(_curve(share) for share in each.pop("shares"))
            results.add(Run(**each, numbers=numbers, curve=curve, shares=shares, asked=asked))
        return results


def _curve(points: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((at, percent) for at, percent in points)


def _plain(value: Any) -> Any:
    """The same without numbers that JSON doesn't know, and without digits that say nothing."""
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case float() if isfinite(value):
            return round(value, DIGITS)
        case float():
            return None if isnan(value) else NEVER
    return value


def _number(value: float | str | None) -> float:
    return nan if value is None else inf if value == NEVER else float(value)
