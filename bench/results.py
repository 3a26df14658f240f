"""The results, kept as JSON with one line per run, so that runs can be added one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf, isfinite, isnan, nan
from pathlib import Path
from statistics import median_low
from typing import Any, Self

from bench.recording import WINDOW, Recording, strangers
from bench.scenes import Scene
from bench.tools import Tool

NEVER = "never"
"""Stands for infinity, which JSON doesn't have."""
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Run:
    """One tool in one scene: figures, or why there are none. With repeats, it stands for all of them."""

    scene: str
    tool: str
    command: str = ""
    cannot: str = ""
    """Why there are no figures, as a phrase; otherwise empty."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Figures by the keys of the scene's rows; nan if unknown, infinity for a time that never came."""
    repeats: int = 1
    """Number of runs that the figures are medians of."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The least and the greatest of each figure over the repeats; empty without repeats."""
    strangers: float = 0.0
    """CPU time of processes that the benchmark didn't start, in the worst second, in percent of the machine."""
    seconds: float = 0.0
    """Measured seconds that were asked for."""
    events: Mapping[str, float] = field(default_factory=dict)
    """Time of each event, in seconds after the start."""
    curve: tuple[tuple[float, float], ...] = ()
    """End of each 1-second window in seconds after the start, and utilization in it in percent."""

    shares: tuple[tuple[tuple[float, float], ...], ...] = ()
    """For each of several regulators: seconds after the start, percent of the capacity over the last second."""
    asked: tuple[tuple[float, float], ...] = ()
    """For a moving band: the same times as the curve's, and its middle over the last second in percent."""

    @classmethod
    def of(cls, scene: Scene, tool: Tool, command: str, recording: Recording, seconds: float) -> Self:
        """Compute the figures of a recording."""
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

    @classmethod
    def middle(cls, runs: Sequence[Run]) -> Run:
        """Sum up repeats of one scene with one tool: each figure is the median of its own, with its range.

        Of an even number, the median is the smaller of the two in the middle, since a time may be infinite. Events and
        curves are those of the run whose first figure is the median. A figure that a run doesn't know (nan) is left out
        of the median.

        Args:
            runs: at least one. One that has no figures stands for all.
        """
        failed = next((run for run in runs if run.cannot), None)
        if failed or len(runs) == 1:
            return failed or runs[0]
        numbers, ranges = dict(runs[0].numbers), {}
        for key in numbers:
            known = sorted(value for run in runs if not isnan(value := run.numbers[key]))
            if known:
                numbers[key], ranges[key] = median_low(known), (known[0], known[-1])
        first = next(iter(numbers), "")
        shown = next((run for run in runs if run.numbers.get(first) == numbers.get(first)), runs[0])
        strange = max(run.strangers for run in runs)
        return replace(shown, numbers=numbers, ranges=ranges, repeats=len(runs), strangers=strange)


@dataclass(slots=True)
class Results:
    """All runs on one machine."""

    machine: dict[str, str]
    """Description of the machine, by names for people."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the tools."""
    runs: dict[tuple[str, str], Run] = field(default_factory=dict)
    """Runs by scene and tool; a new run replaces an old one."""

    def add(self, run: Run) -> None:
        """Add a run."""
        self.runs[run.scene, run.tool] = run

    def save(self, path: Path) -> None:
        """Write the results to a file."""
        lines = ",\n".join(json.dumps(_plain(asdict(run)), allow_nan=False) for run in self.runs.values())
        machine, versions = json.dumps(self.machine), json.dumps(self.versions)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"machine": {machine},\n"versions": {versions},\n"runs": [\n{lines}\n]}}\n')

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what was saved.

        Raises:
            OSError: if the file can't be read.
            ValueError, KeyError, TypeError: if it doesn't hold results.
        """
        whole = json.loads(path.read_text())
        results = cls(whole["machine"], whole["versions"])
        for each in whole["runs"]:
            numbers = {key: _number(value) for key, value in each.pop("numbers").items()}
            ranges = {key: (_number(low), _number(high)) for key, (low, high) in each.pop("ranges", {}).items()}
            curve, asked = _curve(each.pop("curve")), _curve(each.pop("asked", ()))
            shares = tuple(_curve(share) for share in each.pop("shares"))
            results.add(Run(**each, numbers=numbers, ranges=ranges, curve=curve, shares=shares, asked=asked))
        return results


def _curve(points: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((at, percent) for at, percent in points)


def _plain(value: Any) -> Any:
    """Replace numbers that JSON doesn't have, and round to DIGITS."""
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
