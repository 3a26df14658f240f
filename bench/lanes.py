"""The league's picture of a scenario: what each rebalancer made of the same overload, one lane each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.standings import Standing
from loadband.rebalance.report.picture import Picture
from loadband.rebalance.report.result import Result

LANES = 2
"""Side by side."""
INCHES = 4.5, 1.5
"""Of a lane with what stands around it."""
LEFT, RIGHT, TOP, BOTTOM, WITHIN = 0.5, 0.15, 0.3, 0.55, 0.45
"""Inches around all lanes, and between two."""
FEW = 6
"""Hosts up to which each has a colour of its own."""
HOT, COOL = ("#c2500b", "#e08a3c", "#8c3a08"), ("#1f6fb2", "#2c8a3d", "#6f8fae")
"""Of hosts that are overloaded on purpose, and of the others."""
MANY = "#8a8a8a"
THRESHOLD, ALERT, MOVE = "#666666", "#b3261e", "#7a3fa0"


def draw(scenario: str, standings: Sequence[Standing], directory: Path) -> Path:
    """Draw each row's first repeat of a scenario, and return the picture's path.

    Args:
        scenario: its name.
        standings: of that scenario, in the order of the lanes; at least one that has a result.
        directory: where the picture is written.
    """
    mpl.rcParams.update({"svg.hashsalt": scenario, "svg.fonttype": "none", "font.family": "sans-serif"})
    drawn = [(each.row, each.result) for each in standings if each.result]
    rows = -(-len(drawn) // LANES)
    width, height = LANES * INCHES[0], rows * INCHES[1] + TOP + BOTTOM - WITHIN
    figure = Figure(figsize=(width, height), facecolor="white")
    box = {"left": LEFT / width, "right": 1 - RIGHT / width, "top": 1 - TOP / height, "bottom": BOTTOM / height}
    box |= {"hspace": WITHIN / (INCHES[1] - WITHIN), "wspace": 0.06}
    grid = figure.subplots(rows, LANES, sharex=True, sharey=True, squeeze=False, gridspec_kw=box)
    lanes = list(grid.flat)
    for axes, (row, result) in zip(lanes, drawn, strict=False):
        _lane(axes, row, result)
    for axes in lanes[len(drawn) :]:
        axes.set_visible(False)
    for axes in lanes[: len(drawn)][-LANES:]:
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("CPU, %", fontsize=8)
    pictures = [result.repeats[0].picture for _, result in drawn]
    lanes[0].set_xlim(min(view.begin for view in pictures), max(view.end for view in pictures))
    figure.supxlabel(
        f"seconds since {pictures[0].zero_name}; orange: overloaded, dashed: hot, ▼: the alert fires, violet: moves",
        fontsize=8,
        y=0.08 / height,
    )
    path = directory / f"{scenario}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def _lane(axes: Axes, row: str, result: Result) -> None:
    view = result.repeats[0].picture
    for host, colour in zip(view.hosts, _colours(view), strict=True):
        values = [None if value is None else 100 * value for value in host.line.values]
        axes.plot(host.line.times, values, color=colour, linewidth=1.3)  # type: ignore[arg-type] # None is a gap
    axes.axhline(100 * view.hot, color=THRESHOLD, linewidth=0.8, linestyle="--")
    axes.axvline(0, color="black", linewidth=0.6, linestyle=":")
    for move in view.moves:
        axes.axvline(move.begin, color=MOVE, linewidth=1.0, alpha=0.8)
    firing = [alert.firing for alert in view.alerts if alert.awaited and alert.firing is not None]
    axes.plot(firing, [104.0] * len(firing), "v", color=ALERT, markersize=5, clip_on=False)
    axes.set_ylim(0, 104)
    axes.set_yticks([0, 50, 100])
    axes.tick_params(labelsize=7)
    agreeing = sum(repeat.outcome is result.outcome for repeat in result.repeats)
    axes.set_title(f"{row}: {result.outcome} {agreeing}/{len(result.repeats)}", loc="left", fontsize=9)
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _colours(view: Picture) -> list[str]:
    if len(view.hosts) > FEW:
        return [HOT[0] if host.hot else MANY for host in view.hosts]
    hot, cool = iter(HOT * FEW), iter(COOL * FEW)
    return [next(hot if host.hot else cool) for host in view.hosts]
