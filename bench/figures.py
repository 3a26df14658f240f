"""One picture per scene: utilization over time, all tools, the band shaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.results import Run
from bench.scenes import EDGE, Scene

COLOURS = {
    "loadband": "#0b5fb0",
    "stress-ng": "#d9660a",
    "lookbusy": "#2c8a3d",
    "chaosblade": "#8e44ad",
    "ancestor": "#8a8a8a",
}
SLICES = ["#9ecae1", "#fdd0a2", "#c7e9c0", "#dadaeb"]
"""Colours of the shares of several regulators, in turn."""
BAND = "#cfe3c8"
EVENTS = {
    "killed": "one is killed",
    "moves": "one moves away",
    "arrives": "others arrive",
    "leaves": "others leave",
    "scraped": "200 scrapes a second",
}
MARGIN = 4.0
"""Margin above and below the curves, in percentage points."""
START = 1.0
"""Seconds after the start. Curves before it, when every tool still starts, don't affect the picture's height."""


def draw(scene: Scene, runs: Sequence[Run], directory: Path) -> Path:
    """Write the picture of a scene and return its path."""
    mpl.rcParams.update({"svg.hashsalt": scene.name, "svg.fonttype": "none", "font.family": "sans-serif"})
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    low, high = scene.band
    if asked := runs[0].asked:
        bottoms, tops = ([percent + half for _, percent in asked] for half in (-100 * EDGE, 100 * EDGE))
        axes.fill_between([at for at, _ in asked], bottoms, tops, color=BAND, zorder=0, label="band asked for")
    else:
        axes.axhspan(low, high, color=BAND, zorder=0, label=f"band {low:g}..{high:g} %")
    for run in runs:
        if run.shares:
            axes.stackplot(
                [at for at, _ in run.shares[0]],
                *([percent for _, percent in share] for share in run.shares),
                colors=SLICES,
                alpha=0.6,
                zorder=1,
            )
        ours = run.tool == "loadband"
        axes.plot(
            [at for at, _ in run.curve],
            [percent for _, percent in run.curve],
            label=run.tool,
            color=COLOURS.get(run.tool),
            linewidth=2.0 if ours else 1.2,
            zorder=3 if ours else 2,
        )
    shown = [percent for run in runs for at, percent in run.curve if at > START]
    bottom = 0 if any(run.shares for run in runs) else max(min([*shown, low]) - MARGIN, 0)
    axes.set_ylim(bottom, min(max([*shown, high]) + MARGIN, 102))
    first = runs[0].events
    for event, title in EVENTS.items():
        if event in first:
            axes.axvline(first[event], color="black", linewidth=0.8, linestyle=":")
            axes.annotate(
                title,
                (first[event], 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(3, -11),
                fontsize=8,
                textcoords="offset points",
            )
    axes.set_xlim(0, max(at for run in runs for at, _ in run.curve))
    axes.set_xlabel("seconds since the start of the tool")
    axes.set_ylabel("utilization over the last second, %")
    axes.set_title(scene.title, loc="left", fontsize=11)
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    path = directory / f"{scene.name}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path
