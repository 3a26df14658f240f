"""The league's picture of a scenario: what each rebalancer made of the same overload, one lane each."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.standings import Standing
from loadband.rebalance.report import charts
from loadband.rebalance.report.picture import Picture
from loadband.rebalance.report.svg import drawing

LANES = 2
"""Side by side."""
INCHES = 4.5, 1.5
"""Of a lane with what stands around it."""
LEFT, RIGHT, TOP, BOTTOM, WITHIN = 0.5, 0.15, 0.3, 0.55, 0.45
"""Inches around all lanes, and between two."""
HOT, COOL = ("#c2500b", "#e08a3c", "#8c3a08"), ("#1f6fb2", "#2c8a3d", "#6f8fae")
"""Of hosts that are overloaded on purpose, and of the others, in turn."""
MANY = "#8a8a8a"
"""Of all others where hosts are too many for colours of their own."""
THRESHOLD, ALERT, MOVE = "#666666", "#b3261e", "#7a3fa0"


def draw(standings: Sequence[Standing]) -> str:
    """Draw each row's first repeat of a scenario, and return the SVG.

    Args:
        standings: of one scenario, in the order of the lanes; at least one has a result.
    """
    drawn = [(f"{each.row}: {each.cell}", each.result.repeats[0].picture) for each in standings if each.result]
    with drawing():
        made = io.StringIO()
        _lanes(drawn).savefig(made, format="svg", metadata={"Date": None})
    return made.getvalue()


def _lanes(drawn: Sequence[tuple[str, Picture]]) -> Figure:
    rows = -(-len(drawn) // LANES)
    width, height = LANES * INCHES[0], rows * INCHES[1] + TOP + BOTTOM - WITHIN
    figure = Figure(figsize=(width, height), facecolor="white")
    box = {"left": LEFT / width, "right": 1 - RIGHT / width, "top": 1 - TOP / height, "bottom": BOTTOM / height}
    box |= {"hspace": WITHIN / (INCHES[1] - WITHIN), "wspace": 0.06}
    grid = figure.subplots(rows, LANES, sharex=True, sharey=True, squeeze=False, gridspec_kw=box)
    lanes = list(grid.flat)
    for axes, (title, view) in zip(lanes, drawn, strict=False):
        _lane(axes, title, view)
    for axes in lanes[len(drawn) :]:
        axes.set_visible(False)
    for axes in lanes[: len(drawn)][-LANES:]:
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("CPU, %", fontsize=8)
    pictures = [view for _, view in drawn]
    lanes[0].set_xlim(min(view.begin for view in pictures), max(view.end for view in pictures))
    figure.supxlabel(
        f"seconds since {pictures[0].zero_name}; orange: overloaded, dashed: hot, ▼: the alert fires, violet: moves",
        fontsize=8,
        y=0.08 / height,
    )
    return figure


def _lane(axes: Axes, title: str, view: Picture) -> None:
    for host, colour in zip(view.hosts, _colours(view), strict=True):
        values = [math.nan if value is None else 100 * value for value in host.line.values]
        axes.plot(host.line.times, values, color=colour, linewidth=1.3)
    axes.axhline(100 * view.hot, color=THRESHOLD, linewidth=0.8, linestyle="--")
    axes.axvline(0, color="black", linewidth=0.6, linestyle=":")
    for move in view.moves:
        axes.axvline(move.begin, color=MOVE, linewidth=1.0, alpha=0.8)
    firing = [alert.firing for alert in view.alerts if alert.awaited and alert.firing is not None]
    axes.plot(firing, [104.0] * len(firing), "v", color=ALERT, markersize=5, clip_on=False)
    axes.set_ylim(0, 104)
    axes.set_yticks([0, 50, 100])
    axes.tick_params(labelsize=7)
    axes.set_title(title, loc="left", fontsize=9)
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _colours(view: Picture) -> list[str]:
    if charts.is_heat(view):
        return [HOT[0] if host.hot else MANY for host in view.hosts]
    hot, cool = cycle(HOT), cycle(COOL)
    return [next(hot if host.hot else cool) for host in view.hosts]
