"""Draws a dashboard from what a Prometheus answered to its queries, so that people see what they get.

This isn't Grafana: it knows the panels and options that `dashboards/` uses and nothing else, and looks only roughly
alike. Where panels lie, what they ask, units, colours, words for numbers and marks come from the dashboard's JSON.
Everything is pure but for the file that is written.
"""

from __future__ import annotations

import bisect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator

Json = Mapping[str, Any]
Query = tuple[str, bool]
"""An expression as the dashboard has it, and whether only its newest value is asked for."""
Points = Sequence[tuple[float, float]]
"""Times, seconds since the epoch, and values."""

COLUMN, ROW = 0.5, 0.33
"""Inches of a cell of the grid, which has 24 columns."""
COLUMNS = 24
GAP = 0.06
"""Inches around a panel."""
MARGIN = 0.2
FOOT = 0.45
LEFT = 0.7
"""Inches for the values beside an axis."""
DPI = 100
NOTE = (
    "Drawn by bench/panels.py with matplotlib, from what a real Prometheus answered to the dashboard's queries. "
    "This isn't Grafana, which looks different."
)
COLOURS = {
    "green": "#56a64b",
    "super-light-green": "#96d98d",
    "yellow": "#e0b400",
    "orange": "#ff780a",
    "red": "#e02f44",
    "blue": "#3274d9",
    "super-light-blue": "#8ab8ff",
    "purple": "#a352cc",
    "text": "#6e7077",
}
PALETTE = ("#56a64b", "#e0b400", "#3274d9", "#ff780a", "#a352cc", "#37872d", "#8ab8ff", "#b877d9")
"""Of series that have no colour of their own, in turn."""
STEP_LABELS = 6


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer."""

    labels: Mapping[str, str]
    points: Points


@dataclass(frozen=True, slots=True)
class Answers:
    """What Prometheus answered."""

    begin: float
    """Of what is shown, seconds since the epoch."""
    end: float
    step: float
    """Seconds between two points; where more than two of them are missing, a line is broken."""
    series: Mapping[Query, Sequence[Series]]

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        series = [[*asked, [[one.labels, one.points] for one in found]] for asked, found in self.series.items()]
        path.write_text(json.dumps({"begin": self.begin, "end": self.end, "step": self.step, "series": series}))

    @classmethod
    def read(cls, path: Path) -> Answers:
        """Have those of a file that `write` made."""
        kept = json.loads(path.read_text())
        series = {
            (asked, now): [Series(labels, [(at, value) for at, value in points]) for labels, points in found]
            for asked, now, found in kept["series"]
        }
        return cls(kept["begin"], kept["end"], kept["step"], series)


def query_of(target: Json) -> Query:
    """What a panel's target or a mark asks."""
    return target["expr"], target.get("instant", False)


def queries(board: Json) -> Iterator[Query]:
    """Each query of a dashboard, marks included."""
    for panel in board["panels"]:
        yield from map(query_of, panel.get("targets", []))
    yield from map(query_of, board["annotations"]["list"])


def draw(board: Json, answers: Answers, path: Path) -> None:
    """Draw a dashboard into a PNG file; the same answers make the same file. See `figure`."""
    figure(board, answers).savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})


def figure(board: Json, answers: Answers) -> Figure:
    """Draw a dashboard.

    Args:
        board: its JSON.
        answers: of its queries; a panel without any says that it has no data.
    """
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    width, height = 2 * MARGIN + COLUMNS * COLUMN, MARGIN + 2 * FOOT + rows * ROW
    with mpl.rc_context({"font.size": 7.5, "axes.linewidth": 0.5}):
        drawn = Figure(figsize=(width, height), dpi=DPI, facecolor="#f4f5f5")
        top = height - MARGIN - FOOT
        drawn.text(MARGIN / width, (top + 0.15) / height, board["title"], fontsize=13, fontweight="bold")
        drawn.text(MARGIN / width, 0.17 / height, NOTE, fontsize=8.5, color="#44464c", style="italic")
        for panel in board["panels"]:
            place = panel["gridPos"]
            box = _Box(
                MARGIN + place["x"] * COLUMN + GAP,
                top - (place["y"] + place["h"]) * ROW + GAP,
                place["w"] * COLUMN - 2 * GAP,
                place["h"] * ROW - 2 * GAP,
            )
            _Panel(drawn, box, panel, board, answers).draw()
    return drawn


@dataclass(frozen=True, slots=True)
class _Box:
    """A place on the figure, inches from its lower left corner."""

    x: float
    y: float
    width: float
    height: float

    def inside(self, left: float, right: float, bottom: float, top: float) -> _Box:
        """What is left of it inside margins."""
        return _Box(self.x + left, self.y + bottom, self.width - left - right, self.height - bottom - top)


@dataclass(frozen=True, slots=True)
class _Line:
    """A series with what the panel says about it."""

    name: str
    series: Series
    options: Mapping[str, Any]
    """Of the field, by id."""

    @property
    def last(self) -> float:
        """Its newest value; nan if it has none."""
        return next((value for _, value in reversed(self.series.points) if not math.isnan(value)), math.nan)


class _Panel:
    """Draws one panel."""

    def __init__(self, figure: Figure, box: _Box, panel: Json, board: Json, answers: Answers) -> None:
        self._figure = figure
        self._box = box
        self._panel = panel
        self._board = board
        self._answers = answers

    def draw(self) -> None:
        """Draw it, whatever kind it is."""
        if self._panel["type"] == "row":
            self._write(self._panel["title"], 0.08, 0.08, inches=True, fontsize=10, fontweight="bold")
            return
        width, height = self._figure.get_size_inches()
        self._figure.patches.append(
            FancyBboxPatch(
                (self._box.x / width, self._box.y / height),
                self._box.width / width,
                self._box.height / height,
                boxstyle="square,pad=0",
                facecolor="white",
                edgecolor="#d8d9dc",
                linewidth=0.6,
                transform=self._figure.transFigure,
                zorder=-1,
            )
        )
        self._write(self._panel["title"], 0.08, self._box.height - 0.19, fontweight="bold", inches=True)
        kinds: Mapping[str, Callable[[], None]] = {
            "timeseries": self._graph,
            "stat": self._numbers,
            "state-timeline": self._timeline,
            "bargauge": self._bars,
            "table": self._table,
        }
        kinds[self._panel["type"]]()

    # What is shown

    def _lines(self) -> list[_Line]:
        found = []
        for target in self._panel["targets"]:
            for series in self._answers.series.get(query_of(target), ()):
                name = named(target.get("legendFormat", ""), series.labels) or "value"
                found.append(_Line(name, series, self._options(name)))
        return found

    def _options(self, name: str) -> dict[str, Any]:
        """A field's options by id: the panel's own, and those for the field of this name."""
        config = self._panel["fieldConfig"]
        options = {key: value for key, value in config["defaults"].items() if key != "custom"}
        options |= {f"custom.{key}": value for key, value in config["defaults"].get("custom", {}).items()}
        for rule in config["overrides"]:
            if rule["matcher"]["options"] == name:
                options |= {each["id"]: each["value"] for each in rule["properties"]}
        return options

    def _colour_of(self, line: _Line, place: int) -> str:
        colour = line.options.get("color", {})
        return COLOURS[colour["fixedColor"]] if colour.get("mode") == "fixed" else PALETTE[place % len(PALETTE)]

    # How

    def _write(self, text: str, x: float, y: float, *, inches: bool = False, **style: Any) -> None:
        """Write a text into the panel: at shares of it, or at inches from its lower left corner."""
        width, height = self._figure.get_size_inches()
        across, up = (x, y) if inches else (x * self._box.width, y * self._box.height)
        self._figure.text((self._box.x + across) / width, (self._box.y + up) / height, _plain(text), **style)

    def _axes(self, box: _Box) -> Axes:
        width, height = self._figure.get_size_inches()
        place = (box.x / width, box.y / height, box.width / width, box.height / height)
        axes = self._figure.add_axes(place)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=2, width=0.5, labelsize=6.5, colors="#44464c")
        return axes

    def _over_time(self, axes: Axes) -> None:
        axes.set_xlim(0, self._answers.end - self._answers.begin)
        axes.xaxis.set_major_locator(MaxNLocator(STEP_LABELS, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:.0f} s"))

    def _nothing(self) -> None:
        said = self._panel["fieldConfig"]["defaults"].get("noValue", "no data")
        self._write(said, 0.5, 0.42, fontsize=10, color="#8e9096", ha="center", va="center")

    def _graph(self) -> None:
        lines = self._lines()
        if not lines:
            self._nothing()
            return
        two = any(_on_the_right(line) for line in lines)
        names = [_plain(line.name) for line in lines]
        columns = max(int(self._box.width / (0.35 + 0.065 * max(map(len, names)))), 1)
        below = 0.38 + 0.14 * math.ceil(len(set(names)) / columns)
        axes = self._axes(self._box.inside(LEFT, LEFT if two else 0.2, below, 0.28))
        axes.grid(visible=True, linewidth=0.3, alpha=0.6)
        other = axes.twinx() if two else axes
        other.set_zorder(1)
        sums: dict[float, float] = {}
        for number, line in enumerate(lines):
            on = other if _on_the_right(line) else axes
            self._curve(on, line, self._colour_of(line, number), lines, sums)
        for on, sides in ((axes, False), (other, True)):
            mine = [line for line in lines if _on_the_right(line) == sides]
            if mine:
                _scale(on, mine[0].options)
        if other is not axes:
            other.spines[["top", "left"]].set_visible(False)
            other.tick_params(length=2, width=0.5, labelsize=6.5, colors="#44464c")
        self._over_time(axes)
        for colour, at in self._marks():
            axes.axvline(at - self._answers.begin, color=colour, linewidth=0.7, linestyle=(0, (2, 3)), zorder=0)
        handles = [handle for one in dict.fromkeys((axes, other)) for handle in one.get_legend_handles_labels()[0]]
        by_name = {str(handle.get_label()): handle for handle in handles}
        style = {"frameon": False, "fontsize": 6.5, "handlelength": 1.2, "columnspacing": 1.0, "borderpad": 0.0}
        across, up = (
            -(LEFT - 0.1) / (self._box.width - LEFT - (LEFT if two else 0.2)),
            -0.16 / (self._box.height - below - 0.28),
        )
        axes.legend(by_name.values(), by_name, loc="upper left", bbox_to_anchor=(across, up), ncols=columns, **style)

    def _curve(self, axes: Axes, line: _Line, colour: str, lines: Sequence[_Line], sums: dict[float, float]) -> None:
        """Draw one series of a graph.

        Args:
            axes: where.
            line: the series.
            colour: of the line.
            lines: all of the graph.
            sums: of a stacked graph, the height reached at each time; raised by this series.
        """
        options, begin = line.options, self._answers.begin
        if options.get("custom.stacking", {}).get("mode") == "normal":
            times = [at for at, _ in line.series.points]
            below = [sums.get(at, 0.0) for at in times]
            above = [low + value for low, (_, value) in zip(below, line.series.points, strict=True)]
            sums.update(zip(times, above, strict=True))
            times = [at - begin for at in times]
            axes.fill_between(times, below, above, color=colour, alpha=0.6, linewidth=0, label=_plain(line.name))
            return
        times, values = _broken(line.series.points, begin, 2.5 * self._answers.step)
        if options.get("custom.drawStyle") == "points":
            axes.plot(times, values, linestyle="", marker=".", markersize=2.5, color=colour, label=_plain(line.name))
            return
        dashed = options.get("custom.lineStyle", {}).get("fill") == "dash"
        axes.plot(
            times,
            values,
            color=colour,
            linewidth=0.9 * options.get("custom.lineWidth", 1),
            linestyle=(0, (5, 4)) if dashed else "-",
            label=_plain(line.name),
        )
        lower = next((each for each in lines if each.name == options.get("custom.fillBelowTo")), None)
        if lower is not None:
            floor = dict(lower.series.points)
            both = [(at, value) for at, value in line.series.points if at in floor]
            axes.fill_between(
                [at - begin for at, _ in both],
                [floor[at] for at, _ in both],
                [value for _, value in both],
                color=colour,
                alpha=options.get("custom.fillOpacity", 10) / 100,
                linewidth=0,
            )

    def _marks(self) -> Iterator[tuple[str, float]]:
        """The marks on the time axis: colour, and time in seconds since the epoch."""
        for mark in self._board["annotations"]["list"]:
            for series in self._answers.series.get(query_of(mark), ()):
                colour = COLOURS[mark["iconColor"]]
                points = [(at, value) for at, value in series.points if value > 0]
                if mark["useValueForTime"]:
                    times = sorted({value / 1000 for _, value in points})
                else:
                    # The first point of each row without a gap.
                    before = [-math.inf, *(at for at, _ in points)]
                    times = [at for last, at in pairwise(before) if at - last > 1.5 * self._answers.step]
                yield from ((colour, at) for at in times if self._answers.begin <= at <= self._answers.end)

    def _numbers(self) -> None:
        lines = [line for line in self._lines() if not math.isnan(line.last)]
        if not lines:
            self._nothing()
            return
        for place, line in enumerate(lines):
            text, colour = self._said(line)
            across = (place + 0.5) / len(lines)
            size = min(19.0, 60 * self._box.width / len(lines) / max(len(text), 4))
            self._write(text, across, 0.44, fontsize=size, color=colour, ha="center", va="center", fontweight="bold")
            if len(lines) > 1:
                self._write(line.name, across, 0.14, fontsize=7, color="#44464c", ha="center")

    def _said(self, line: _Line) -> tuple[str, str]:
        """The newest value as a stat shows it, and its colour."""
        value, options = line.last, line.options
        if word := _word(options, value):
            return word
        text = formatted(value, options["unit"], self._answers.end)
        if options.get("color", {}).get("mode") == "fixed":
            return text, COLOURS[options["color"]["fixedColor"]]
        steps = options.get("thresholds", {}).get("steps", [{"color": "text"}])
        reached = [step["color"] for step in steps if step.get("value") is None or value >= step["value"]]
        return text, COLOURS[reached[-1]]

    def _timeline(self) -> None:
        lines = self._lines()
        if not lines:
            self._nothing()
            return
        longest = max(len(line.name) for line in lines)
        legend = self._panel["options"]["legend"]["showLegend"]
        left = min(0.2 + 0.062 * longest, 0.45 * self._box.width)
        fitting = round((left - 0.2) / 0.062)
        axes = self._axes(self._box.inside(left, 0.15, 0.45 if legend else 0.27, 0.3))
        words: dict[str, str] = {}
        scale = mpl.colormaps["RdYlGn_r"]
        for row, line in enumerate(reversed(lines)):
            for begin, end, value in _spans(line.series.points, self._answers.step):
                word = _word(line.options, value)
                heat = line.options.get("color", {}).get("mode") == "continuous-GrYlRd"
                colour = scale(value) if heat else word[1] if word else COLOURS["text"]
                if word:
                    words[word[0]] = word[1]
                axes.barh(row, end - begin, 0.82, begin - self._answers.begin, color=colour, alpha=0.85, linewidth=0)
        axes.set_ylim(-0.6, len(lines) - 0.4)
        names = [line.name if len(line.name) <= fitting else f"{line.name[: fitting - 1]}…" for line in reversed(lines)]
        axes.set_yticks(range(len(lines)), map(_plain, names))
        axes.spines[["left", "bottom"]].set_visible(False)
        self._over_time(axes)
        if legend:
            across = 0.1
            for said, shade in words.items():
                self._write("■", across, 0.1, inches=True, fontsize=8, color=shade)
                self._write(said, across + 0.15, 0.1, inches=True, fontsize=6.5, color="#44464c")
                across += 0.35 + 0.065 * len(said)

    def _bars(self) -> None:
        lines = [line for line in self._lines() if not math.isnan(line.last)]
        if not lines:
            self._nothing()
            return
        axes = self._axes(self._box.inside(0.6, 0.6, 0.27, 0.3))
        for row, line in enumerate(reversed(lines)):
            axes.barh(row, line.last, 0.7, color=self._colour_of(line, 0))
            axes.annotate(formatted(line.last, line.options["unit"], self._answers.end), (line.last, row), va="center")
        axes.set_yticks(range(len(lines)), [_plain(line.name) for line in reversed(lines)])
        _scale(axes, lines[0].options, across=True)

    def _table(self) -> None:
        """Join the answers on their labels, as the panel's transformation `merge` does."""
        (organize,) = (step["options"] for step in self._panel["transformations"] if step["id"] == "organize")
        headings, hidden = (
            organize["renameByName"],
            {name for name, is_so in organize["excludeByName"].items() if is_so},
        )
        joined: dict[frozenset[tuple[str, str]], dict[str, str]] = {}
        for target in self._panel["targets"]:
            column = f"Value #{target['refId']}"
            heading = headings[column]
            for series in self._answers.series.get(query_of(target), ()):
                line = _Line(heading, series, self._options(heading))
                cells = joined.setdefault(frozenset(series.labels.items()), dict(series.labels))
                if column not in hidden:
                    cells[heading] = self._said(line)[0]
        found = _merged(list(joined.values()))
        if not found:
            self._nothing()
            return
        columns = list(dict.fromkeys(name for cells in found for name in cells))
        axes = self._axes(self._box.inside(0.1, 0.1, 0.1, 0.35))
        axes.set_axis_off()
        text = [[_plain(cells.get(name, "")) for name in columns] for cells in found]
        widths = [max(len(row[place]) for row in [columns, *text]) + 2 for place in range(len(columns))]
        table = axes.table(
            text,
            colLabels=columns,
            colWidths=[0.96 * width / sum(widths) for width in widths],
            cellLoc="left",
            loc="upper left",
            edges="horizontal",
        )
        table.auto_set_font_size(value=False)
        table.set_fontsize(7)
        for cell in table.get_celld().values():
            cell.set_linewidth(0.3)


def named(legend: str, labels: Mapping[str, str]) -> str:
    """A series' name: the legend with its labels filled in; the labels' values if there is no legend."""
    if not legend:
        return " ".join(value for key, value in labels.items() if key != "__name__")
    filled = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)
    return " ".join(filled.split())


def formatted(value: float, unit: str, now: float) -> str:
    """A value as people read it.

    Args:
        value: in the unit.
        unit: Grafana's name for it; those that `dashboards/parts.py` uses.
        now: seconds since the epoch, for times that are shown as seen from now.
    """
    if unit == "dateTimeFromNow":
        away = value / 1000 - now
        return f"in {away:.0f} s" if away >= 0 else f"{-away:.0f} s ago"
    if unit == "percentunit":
        return f"{_short(100 * value)} %"
    if unit == "bytes":
        return f"{_short(value / 2**20)} MiB"
    if unit == "s":
        return f"{_short(value)} s" if abs(value) >= 1 or value == 0 else f"{_short(1000 * value)} ms"
    suffix = {"short": "", "cps": " /s"}.get(unit, f" {unit.partition('suffix: ')[2]}")
    return f"{_short(value)}{suffix}"


def _short(value: float) -> str:
    """At most three digits that count."""
    digits = max(2 - math.floor(math.log10(abs(value))), 0) if value and abs(value) >= 0.0001 else 0  # noqa: PLR2004 - nearly 0
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _plain(text: str) -> str:
    """As matplotlib shows it as it stands: a dollar would begin mathematics."""
    return text.replace("$", r"\$")


def _word(options: Mapping[str, Any], value: float) -> tuple[str, str] | None:
    """What a mapping says for a value, and its colour; None if it says nothing."""
    for mapping in options.get("mappings", []):
        if found := mapping["options"].get(f"{value:g}"):
            return found["text"], COLOURS[found["color"]]
    return None


def _on_the_right(line: _Line) -> bool:
    return line.options.get("custom.axisPlacement") == "right"


def _scale(axes: Axes, options: Mapping[str, Any], *, across: bool = False) -> None:
    """Set the ends of the values' axis, and write its unit at the ticks."""
    limits = axes.set_xlim if across else axes.set_ylim
    axis = axes.xaxis if across else axes.yaxis
    low, high = options.get("min"), options.get("max")
    end = axes.dataLim.ymax if high is None and not across else None
    limits(low, (1.08 * end if end and end > 0 else 1.0) if high is None and low == 0 else high)
    axis.set_major_locator(MaxNLocator(4, integer=options["unit"] == "short"))
    axis.set_major_formatter(FuncFormatter(lambda value, _: formatted(value, options["unit"], 0)))


def _broken(points: Points, begin: float, most: float) -> tuple[list[float], list[float]]:
    """Times since the begin and values, with nan where the next point is further away than that, seconds."""
    times, values = [], []
    for place, (at, value) in enumerate(points):
        if place and at - points[place - 1][0] > most:
            times.append(at - begin)
            values.append(math.nan)
        times.append(at - begin)
        values.append(value)
    return times, values


def _spans(points: Points, step: float) -> Iterator[tuple[float, float, float]]:
    """Begin, end and value of each row of equal values without a gap; a point lasts for a step."""
    times = [at for at, _ in points]
    place = 0
    while place < len(points):
        begin, value = points[place]
        last = place
        while last + 1 < len(points) and points[last + 1][1] == value and times[last + 1] - times[last] < 2.5 * step:
            last += 1
        yield begin, times[last] + step, value
        place = bisect.bisect_right(times, times[last])


def _merged(found: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Rows that don't contradict each other become one; in order of their texts."""
    rows: list[dict[str, str]] = []
    for cells in found:
        same = next((row for row in rows if all(row.get(key, value) == value for key, value in cells.items())), None)
        if same is None:
            rows.append(dict(cells))
        else:
            same |= cells
    return sorted(rows, key=lambda row: list(row.values()))
