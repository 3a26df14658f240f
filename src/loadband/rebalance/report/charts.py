"""Pictures of runs, as SVG for a page."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from loadband.rebalance.report import words
from loadband.rebalance.report.picture import AlertSpan, HostLine, Line, MoveArrow, Picture
from loadband.rebalance.report.svg import COLOURS, HALO, drawing, element

FEW = 8
"""Hosts up to which each is a line; more become rows of a heat map."""
POINTS = 400
"""Of a curve: more are thinned out, the extremes of each stretch kept."""
COLUMNS = 300
"""Of a heat map."""
NUMBERED = 24
"""Moves up to which each has its number in the picture."""
ALERT_ROWS = 8
"""Alerts that have a row of their own; the rest share the last."""

_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
"""So that lines differ without colour, too."""
# One way from cool to warm, changing its hue at the threshold; the page turns its lightness round in the dark.
_COOL = ("#eef4fb", "#c3d9ee", "#8db8dd", "#5d95c8")
_WARM = ("#f6b26b", "#e8743b", "#c22f1f")


@dataclass(frozen=True, slots=True)
class Size:
    """How a picture fits its place; CSS pixels."""

    name: str
    width: int
    left: int
    """Room at the left for the labels of the axes; rows of a heat map need more."""
    right: int
    label: int
    """Characters of a host's name that there is room for, at the left or at the right."""


WIDE = Size("wide", 1000, 58, 118, 17)
NARROW = Size("narrow", 420, 56, 12, 9)
SIZES = (WIDE, NARROW)


SHORTEST = 1.0
"""Seconds that a picture shows at least."""


def is_heat(view: Picture) -> bool:
    """Whether hosts are rows of a heat map, because lines would be too many."""
    return len(view.hosts) > FEW


def timeline(view: Picture, size: Size, name: str, text: tuple[str, str]) -> str:
    """Draw a run: phases, utilization with moves, alerts, imbalance; one time axis.

    Args:
        view: the run.
        size: one of `SIZES`.
        name: unique in the page: identifiers in the SVG begin with it.
        text: title and description for those who don't see the picture.

    Returns:
        An `<svg>` element.
    """
    labels = words.labels([host.name for host in view.hosts], size.label)
    alert_rows = _alert_rows(view.alerts)
    heat = is_heat(view)
    row = min(13.0, max(5.0, 900 / max(len(view.hosts), 1)))
    heights = [18.0, row * len(view.hosts) if heat else 260.0, 15.0 * max(len(alert_rows), 1), 120.0]
    if heat:
        size = replace(size, left=max(size.left, 14 + 6 * max(map(len, labels.values()))))
    with drawing():
        figure, axes = _panels(size, heights, gaps=[6, 10, 14], top=22, bottom=40)
        strip, hosts, alerts, imbalance = axes
        _draw_phases(strip, view, size)
        if heat:
            _draw_heat(figure, hosts, view, labels, row)
        else:
            _draw_lines(hosts, view, labels, size)
        _draw_moves(hosts, view, heat=heat)
        _draw_alerts(alerts, view, alert_rows, size)
        _draw_imbalance(imbalance, view, size)
        for axis in axes[1:]:
            axis.axvline(0, color=COLOURS["ink"], linewidth=0.9, linestyle=(0, (2, 2)))
        _time_axis(imbalance, view)
        return element(figure, name, text)


def small(view: Picture, width: int, name: str, text: tuple[str, str]) -> str:
    """Draw a run as one of many: the hosts' utilization above their imbalance, moves and alerts as ticks."""
    size = Size("small", width, 46, 8, 0)
    with drawing():
        figure, (hosts, imbalance) = _panels(size, [84.0, 40.0], gaps=[6], top=6, bottom=32)
        if is_heat(view):
            _band(hosts, view)
        else:
            for index, host in enumerate(view.hosts):
                hosts.plot(*_thinned(host.line), color=COLOURS[f"c{index}"], linewidth=1.2)
        _percent_axis(hosts, view)
        hosts.axhline(view.hot, color=COLOURS["hot"], linewidth=0.9, linestyle=(0, (4, 2)))
        for move in view.moves:
            hosts.axvline(move.begin, color=COLOURS["move"], linewidth=0.8, alpha=0.6)
        firing = [alert.firing for alert in view.alerts if alert.firing is not None and alert.awaited]
        for at in firing:
            hosts.plot(
                [at], [1.0], marker="v", color=COLOURS["hot"], markersize=5, transform=_at_top(hosts), clip_on=False
            )
        _draw_imbalance(imbalance, view, size)
        for axis in (hosts, imbalance):
            axis.axvline(0, color=COLOURS["ink"], linewidth=0.8, linestyle=(0, (2, 2)))
        _time_axis(imbalance, view, ticks=4)
        return element(figure, name, text)


def _band(axes: Axes, view: Picture) -> None:
    """Many hosts in little room: the hot ones as lines over the range of all."""
    times = np.linspace(view.begin, view.end, COLUMNS)
    cells = _cells(view.hosts, times)
    known = ~np.all(np.isnan(cells), axis=0)
    axes.fill_between(
        times[known],
        np.nanmin(cells[:, known], axis=0),
        np.nanmax(cells[:, known], axis=0),
        color=COLOURS["info"],
        alpha=0.3,
        linewidth=0,
    )
    for host in view.hosts[:FEW]:
        if host.hot:
            axes.plot(*_thinned(host.line), color=COLOURS["c0"], linewidth=1.1)


def _panels(
    size: Size, heights: Sequence[float], gaps: Sequence[float], top: float, bottom: float
) -> tuple[Figure, list[Axes]]:
    """A figure with panels one under another; all lengths in CSS pixels, one of which is a point here."""
    height = top + sum(heights) + sum(gaps) + bottom
    figure = Figure(figsize=(size.width / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    panels: list[Axes] = []
    y = height - top
    for index, panel in enumerate(heights):
        y -= panel
        box = (size.left / size.width, y / height, (size.width - size.left - size.right) / size.width, panel / height)
        axes = figure.add_axes(box, sharex=panels[0] if panels else None)
        axes.patch.set_visible(False)
        for side in axes.spines.values():
            side.set_color(COLOURS["grid"])
        axes.tick_params(colors=COLOURS["muted"], length=3, width=0.8, labelbottom=False, labelsize=10.5)
        panels.append(axes)
        y -= gaps[index] if index < len(gaps) else 0
    return figure, panels


def _draw_phases(axes: Axes, view: Picture, size: Size) -> None:
    # A recording that was cut after its first line has no length.
    axes.set_xlim(view.begin, max(view.end, view.begin + SHORTEST))
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.tick_params(bottom=False)
    for side in axes.spines.values():
        side.set_visible(False)
    pixels = (size.width - size.left - size.right) / max(view.end - view.begin, 1e-9)
    for index, phase in enumerate(view.phases):
        axes.axvspan(phase.begin, phase.end, color=COLOURS["muted"], alpha=(0.12, 0.24)[index % 2], linewidth=0)
        if (phase.end - phase.begin) * pixels > 7.2 * len(phase.name):
            middle = (phase.begin + phase.end) / 2
            axes.text(middle, 0.5, phase.name, ha="center", va="center", color=COLOURS["ink"], fontsize=10.5)
    # The zero's name stands above its line, on the side that has room for it.
    left = view.end * pixels < 7 * len(view.zero_name)
    axes.text(0, 1.25, view.zero_name, ha="right" if left else "left", va="bottom", color=COLOURS["ink"], fontsize=10.5)


def _percent_axis(axes: Axes, view: Picture) -> None:
    top = max([1.0, view.hot, *(value for host in view.hosts for value in host.line.values if value is not None)])
    axes.set_ylim(0, 1.04 * top)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25", "50", "75", "100 %"])
    axes.grid(axis="y", color=COLOURS["grid"], linewidth=0.7)
    axes.set_axisbelow(True)


def _draw_lines(axes: Axes, view: Picture, labels: dict[str, str], size: Size) -> None:
    _percent_axis(axes, view)
    axes.axhline(view.hot, color=COLOURS["hot"], linewidth=1.2, linestyle=(0, (6, 3)))
    axes.annotate(
        f"hot: {words.percent(view.hot)}",
        (0, view.hot),
        xycoords=_beside(axes),
        xytext=(4, 3),
        textcoords="offset points",
        color=COLOURS["hot"],
        fontsize=10.5,
        gid=HALO,
    )
    ends: list[tuple[float, int, str]] = []
    for index, host in enumerate(view.hosts):
        times, values = _thinned(host.line)
        axes.plot(
            times,
            values,
            color=COLOURS[f"c{index}"],
            linewidth=2.2 if host.hot else 1.6,
            linestyle=_DASHES[index % len(_DASHES)],
            solid_capstyle="round",
        )
        if last := [value for value in host.line.values if value is not None]:
            ends.append((last[-1], index, labels[host.name]))
    if size.right > NARROW.right:
        _label_ends(axes, ends)
    if size is WIDE:
        axes.set_ylabel("CPU utilization", color=COLOURS["ink"], fontsize=11)


def _label_ends(axes: Axes, ends: Iterable[tuple[float, int, str]]) -> None:
    """Write each line's name at its end; names that would overlap are moved apart."""
    low, high = axes.get_ylim()
    step = 14 / 260 * (high - low)
    placed = sorted(ends)
    at: list[float] = []
    for value, _, _ in placed:
        at.append(max(value, at[-1] + step) if at else max(value, low + step / 2))
    ceiling = high - step / 2
    for index in range(len(at) - 1, -1, -1):
        at[index] = min(at[index], ceiling)
        ceiling = at[index] - step
    for (_, index, label), y in zip(placed, at, strict=True):
        axes.annotate(
            label,
            (1, y),
            xycoords=_beside(axes),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=COLOURS[f"c{index}"],
            fontsize=10.5,
            annotation_clip=False,
        )


def _draw_heat(figure: Figure, axes: Axes, view: Picture, labels: dict[str, str], row: float) -> None:
    times = np.linspace(view.begin, view.end, COLUMNS + 1)
    cells = _cells(view.hosts, (times[1:] + times[:-1]) / 2)
    colours = _colours(view.hot)
    axes.imshow(
        np.ma.masked_invalid(cells),
        cmap=colours,
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="none",
        extent=(view.begin, view.end, len(view.hosts), 0),
    )
    axes.set_xlim(view.begin, view.end)
    axes.set_ylim(len(view.hosts), 0)
    moved = {name for move in view.moves for name in (move.source, move.destination)}
    legible = row >= 10  # noqa: PLR2004 - pixels, the height of a letter
    rows = [
        (index + 0.5, host)
        for index, host in enumerate(view.hosts)
        if legible or host.hot or (host.name in moved and len(moved) < len(view.hosts) / 3)
    ]
    axes.set_yticks([at for at, _ in rows], [labels[host.name] for _, host in rows])
    axes.tick_params(axis="y", length=0, labelsize=min(10.0, max(row - 2, 8)))
    for tick, (_, host) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(COLOURS["hot"] if host.hot else COLOURS["muted"])
    box = axes.get_position()
    width, height = figure.get_size_inches() * 72
    if width - box.x1 * width > NARROW.right:
        _draw_key(figure, (box.x1 + 14 / width, box.y1 - 120 / height, 12 / width, 120 / height), colours, view.hot)


def _draw_key(figure: Figure, box: tuple[float, float, float, float], colours: Any, hot: float) -> None:
    """The scale of the heat map."""
    key = figure.add_axes(box)
    key.imshow(
        np.linspace(1, 0, 120).reshape(-1, 1),
        cmap=colours,
        vmin=0,
        vmax=1,
        aspect="auto",
        extent=(0, 1, 0, 1),
        interpolation="none",
    )
    key.set_xticks([])
    key.yaxis.tick_right()
    ticks = sorted({0.0, 1.0, hot} if 0.1 < hot < 0.9 else {0.0, 0.5, 1.0, hot})  # noqa: PLR2004 - room for a line
    key.set_yticks(ticks, [f"{words.percent(tick)} hot" if tick == hot else words.percent(tick) for tick in ticks])
    key.tick_params(colors=COLOURS["muted"], length=2, labelsize=10)
    for side in key.spines.values():
        side.set_color(COLOURS["grid"])


def _colours(hot: float) -> LinearSegmentedColormap:
    """Cool below the threshold, warm from it on."""
    edge = min(max(hot, 0.02), 0.98)
    below = [(edge * index / (len(_COOL) - 1), colour) for index, colour in enumerate(_COOL)]
    above = [(edge + (1 - edge) * index / (len(_WARM) - 1), colour) for index, colour in enumerate(_WARM)]
    return LinearSegmentedColormap.from_list("load", [*below, *above], N=512)


def _cells(hosts: Sequence[HostLine], times: Any) -> Any:
    """The hosts' utilization at some times: the latest value before, NaN where there is none."""
    cells = np.full((len(hosts), len(times)), np.nan)
    for row, host in enumerate(hosts):
        if not host.line.times:
            continue
        at = np.searchsorted(np.asarray(host.line.times), times, side="right") - 1
        values = np.array([np.nan if value is None else value for value in host.line.values])
        inside = (at >= 0) & (times <= host.line.times[-1])
        cells[row, inside] = values[at[inside]]
    return cells


def _draw_moves(axes: Axes, view: Picture, *, heat: bool) -> None:
    """An arrow for each move, from where and when it begins to where and when it ends; dashed if it failed."""
    rows = {host.name: index + 0.5 for index, host in enumerate(view.hosts)}
    lines = {host.name: host.line for host in view.hosts}
    numbered = len(view.moves) <= NUMBERED

    def height(name: str | None, at: float) -> float | None:
        if name is None or name not in rows:
            return None
        return rows[name] if heat else _value_at(lines[name], at)

    taken: list[tuple[float, float]] = []
    for move in view.moves:
        end = view.end if move.end is None else move.end
        start, stop = height(move.source, move.begin), height(move.destination, end)
        if start is None and stop is None:
            continue
        ends = (move.begin, stop if start is None else start), (end, start if stop is None else stop)
        _draw_arrow(axes, move, *ends)
        if numbered:
            _number(axes, move, ends, taken, heat=heat)


def _draw_arrow(axes: Axes, move: MoveArrow, start: tuple[float, Any], stop: tuple[float, Any]) -> None:
    done = move.state == "done"
    axes.annotate(
        "",
        stop,
        xytext=start,
        arrowprops={
            "arrowstyle": "-|>,head_width=0.22,head_length=0.42" if done else "-",
            "color": COLOURS["move"],
            "linewidth": 1.5,
            "linestyle": "-" if done else (0, (2, 2)),
            "shrinkA": 0,
            "shrinkB": 0,
            "path_effects": [withStroke(linewidth=3.5, foreground=COLOURS["paper"])],
        },
    )
    axes.plot(*start, marker="o", markersize=3.5, color=COLOURS["move"])
    if not done:
        axes.plot(*stop, marker="x", markersize=7, markeredgewidth=1.8, color=COLOURS["hot"])


_AT_BEGIN = ((0, -8, 7), (0, 8, 7), (0, 0, 14), (0, 0, -12))
_AT_END = ((1, 11, 0), (1, -11, 0))
"""Places for a move's number: at which end of the arrow, and how far from it, pixels."""
_DIGIT, _LINE = 7, 11
"""The size of a number, pixels."""


def _number(
    axes: Axes,
    move: MoveArrow,
    ends: tuple[tuple[float, Any], tuple[float, Any]],
    taken: list[tuple[float, float]],
    *,
    heat: bool,
) -> None:
    """Write a move's number beside its begin or its end, where no other number is; nowhere if all places are taken."""
    wide = _DIGIT * len(str(move.number)) + 5
    for end, dx, dy in (*_AT_END, *_AT_BEGIN) if heat else (*_AT_BEGIN, *_AT_END):
        x, y = axes.transData.transform(ends[end])
        place = (float(x) + dx, float(y) + dy)
        if all(abs(place[0] - x) > wide or abs(place[1] - y) > _LINE for x, y in taken):
            break
    else:
        return
    taken.append(place)
    axes.annotate(
        str(move.number),
        ends[end],
        xytext=(dx, dy),
        textcoords="offset points",
        ha="center",
        va="center",
        color=COLOURS["move"],
        fontsize=10,
        fontweight="bold",
        gid=HALO,
    )


def _value_at(line: Line, at: float) -> float | None:
    """A curve's last known value up to a moment, or its first one."""
    index = bisect_right(line.times, at)
    before = [value for value in line.values[:index][::-1][:8] if value is not None]
    return before[0] if before else next((value for value in line.values if value is not None), None)


def _alert_rows(alerts: Sequence[AlertSpan]) -> list[tuple[str, list[AlertSpan]]]:
    """The alerts by host and name, a row each; from `ALERT_ROWS` on they share the last row."""
    rows: dict[tuple[str, str], list[AlertSpan]] = {}
    for alert in sorted(alerts, key=lambda alert: not alert.awaited):
        rows.setdefault((alert.host, alert.name), []).append(alert)
    made = [(host or name, spans) for (host, name), spans in rows.items()]
    if len(made) > ALERT_ROWS:
        rest = made[ALERT_ROWS - 1 :]
        made[ALERT_ROWS - 1 :] = [(f"{len(rest)} more", [span for _, spans in rest for span in spans])]
    return made


def _draw_alerts(axes: Axes, view: Picture, rows: list[tuple[str, list[AlertSpan]]], size: Size) -> None:
    """A bar for each alert: hatched while pending, filled while firing; a diamond when the webhook got it."""
    count = max(len(rows), 1)
    axes.set_ylim(count, 0)
    axes.set_yticks([])
    beside = size.name == WIDE.name
    if beside:
        _label_row(axes, "alert" if len(rows) < 2 else "alerts", count / 2, left=True)  # noqa: PLR2004 - more than one
    for row, (label, spans) in enumerate(rows):
        _label_row(axes, words.short(label, size.label if beside else 7), row + 0.5, left=not beside)
        for span in spans:
            _draw_span(axes, view, span, row)
    if not rows:
        axes.text(
            0.5,
            0.5,
            "no alert was pending or fired",
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=COLOURS["muted"],
            fontsize=10.5,
        )


def _label_row(axes: Axes, text: str, y: float, *, left: bool) -> None:
    """Write at the left or at the right of a panel."""
    axes.annotate(
        text,
        (0 if left else 1, y),
        xycoords=_beside(axes),
        xytext=(-6 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        color=COLOURS["muted"],
        fontsize=10.5,
        annotation_clip=False,
    )


def _draw_span(axes: Axes, view: Picture, span: AlertSpan, row: int) -> None:
    end = view.end if span.resolved is None else span.resolved
    box = {"ymin": 0.0, "ymax": 0.0}
    count = axes.get_ylim()[0]
    box["ymin"], box["ymax"] = 1 - (row + 0.85) / count, 1 - (row + 0.15) / count
    if span.pending is not None:
        until = end if span.firing is None else span.firing
        axes.axvspan(
            span.pending, until, **box, facecolor="none", edgecolor=COLOURS["warn"], hatch="////", linewidth=0.9
        )
    if span.firing is not None:
        axes.axvspan(span.firing, end, **box, color=COLOURS["hot"], alpha=0.85 if span.awaited else 0.35, linewidth=0)
    if span.notified is not None:
        axes.plot(
            [span.notified],
            [row + 0.5],
            marker="D",
            markersize=5,
            color=COLOURS["ink"],
            markeredgecolor=COLOURS["paper"],
            markeredgewidth=0.8,
        )


def _draw_imbalance(axes: Axes, view: Picture, size: Size) -> None:
    """The imbalance that decides, with the region that counts as balance."""
    values = [value for value in view.imbalance.values if value is not None]
    balanced = 1.0 if view.measure == "peak" else 0.0
    top = max([view.theta + 0.6 * (view.theta - balanced), *values, balanced + 1e-6])
    ratio = view.measure in {"spread", "sd"}
    axes.set_ylim(balanced, balanced + 1.12 * (top - balanced))
    axes.axhspan(balanced, view.theta, color=COLOURS["good"], alpha=0.18, linewidth=0)
    axes.axhline(view.theta, color=COLOURS["good"], linewidth=1.2, linestyle=(0, (6, 3)))
    axes.plot(*_thinned(view.imbalance), color=COLOURS["ink"], linewidth=1.6)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    if ratio:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.percent(value)))
    axes.grid(axis="y", color=COLOURS["grid"], linewidth=0.7)
    axes.set_axisbelow(True)
    if size.label:
        theta = words.percent(view.theta) if ratio else f"{view.theta:g}"
        axes.annotate(
            f"balance: ≤ {theta}",
            (0, view.theta),
            xycoords=_beside(axes),
            xytext=(4, -3),
            textcoords="offset points",
            va="top",
            color=COLOURS["good"],
            fontsize=10.5,
            gid=HALO,
        )
        axes.set_ylabel(view.measure, color=COLOURS["ink"], fontsize=11)
        _draw_marks(axes, view)


def _draw_marks(axes: Axes, view: Picture) -> None:
    """A line for each moment that a figure found; the first one's name stands before it, so that two don't overlap."""
    low, high = axes.get_ylim()
    middle = (view.begin + view.end) / 2
    marks = sorted(view.marks, key=lambda mark: mark.at)
    for index, mark in enumerate(marks):
        axes.axvline(mark.at, color=COLOURS["good"], linewidth=1.1)
        before = mark.at > middle if len(marks) == 1 else index == 0
        axes.annotate(
            mark.name,
            (mark.at, high - 0.04 * (high - low)),
            xytext=(-4 if before else 4, 0),
            textcoords="offset points",
            ha="right" if before else "left",
            va="top",
            color=COLOURS["good"],
            fontsize=10.5,
            gid=HALO,
        )


def _time_axis(axes: Axes, view: Picture, ticks: int = 8) -> None:
    minutes = view.end - view.begin > 5 * words.LONG
    axes.tick_params(labelbottom=True)
    if minutes:
        axes.xaxis.set_major_locator(_MinuteLocator(ticks))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(ticks))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda at, _: f"{at / 60 if minutes else at:g}".replace("-", "\N{MINUS SIGN}"))
    )
    axes.set_xlabel("minutes" if minutes else "seconds", color=COLOURS["muted"], fontsize=10.5, labelpad=2)


class _MinuteLocator(MaxNLocator):
    """Ticks at whole minutes."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return 60 * np.asarray(super().tick_values(vmin / 60, vmax / 60))


def _thinned(line: Line) -> tuple[list[float], list[float]]:
    """A curve with at most about `POINTS` points: of each stretch the first, the extremes and the last stay."""
    points = [(at, math.nan if value is None else value) for at, value in zip(line.times, line.values, strict=True)]
    if len(points) > POINTS:
        edges = np.linspace(0, len(points), POINTS // 3 + 1).astype(int)
        points = [point for start, stop in pairwise(edges) for point in _corners(points[start:stop])]
    return [at for at, _ in points], [value for _, value in points]


def _corners(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of a stretch that its picture can't do without; all of them if there is a gap in it."""
    if any(math.isnan(value) for _, value in points):
        return points
    picked = {points[0], min(points, key=lambda point: point[1]), max(points, key=lambda point: point[1]), points[-1]}
    return sorted(picked)


def _beside(axes: Axes) -> Any:
    """Coordinates: across a share of the panel, upwards data."""
    return blended_transform_factory(axes.transAxes, axes.transData)


def _at_top(axes: Axes) -> Any:
    return blended_transform_factory(axes.transData, axes.transAxes)
