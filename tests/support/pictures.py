"""The small pictures of docs/rebalance/figures.md, drawn from the synthetic recordings: run this file to draw them.

The page says of which case a picture is: `good` tells the story that the others change in one way each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from recordings import CASES

from loadband.rebalance.events import Recording
from loadband.rebalance.figures import DEFINITIONS, Figure, measure, shown, turning_points
from loadband.rebalance.timeline import Migration, Timeline

ROOT = next(path for path in Path(__file__).parents if (path / "pyproject.toml").is_file())
PAGE = ROOT / "docs/rebalance/figures.md"
PICTURES = ROOT / "docs/rebalance/figures"
SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
CASE = re.compile(r"\((\w+)\): \*\*(.*?)\*\*")

COLOURS = {"a": "#c2500b", "b": "#1f6fb2", "c": "#2c8a3d"}
MARK = "#7a3fa0"
SOFT = "#e9def2"
INCHES = 4.6, 1.7
TOGETHER = 4.0
"""Seconds: the names of moves that begin within that time stand together."""
UNTIL = 85.0
"""Seconds that are shown; the recordings last 100."""


class Picture:
    """One picture of one recording; times are seconds from the begin of the recording."""

    def __init__(self, recording: Recording, figure: Figure) -> None:
        self.line = Timeline(recording)
        self.figure = figure
        self.begin = recording.run.at
        self.canvas = Canvas(figsize=INCHES, layout="constrained")
        self.axes: Axes = self.canvas.subplots()
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.tick_params(labelsize=7)
        self.axes.set_xlim(15, UNTIL)
        self.axes.set_xlabel("s", fontsize=7, loc="right", labelpad=-2)

    @property
    def t0(self) -> float:
        return (self.line.t0 or self.begin) - self.begin

    def utilization(self) -> None:
        """The hosts' utilization, and the hot threshold."""
        for host, series in self.line.utilization.items():
            for piece in series.pieces:
                times = [at - self.begin for at in piece.times]
                self.axes.plot(times, [100 * value for value in piece.values], color=COLOURS[host], linewidth=1.4)
            at, value = next((at, value) for at, value in series if at - self.begin >= 17)
            self.axes.annotate(host, (at - self.begin, 100 * value), (0, 3), textcoords="offset points", fontsize=8)
        self.axes.axhline(100 * self.line.plan.hot, color="#666666", linewidth=0.8, linestyle="--")
        self.axes.set_ylim(0, 105)
        self.axes.set_ylabel("utilization, %", fontsize=7)
        self.mark_t0()

    def imbalance(self) -> None:
        """The imbalance that decides, and theta."""
        for piece in self.line.imbalance_series.pieces:
            times = [at - self.begin for at in piece.times]
            self.axes.plot(times, [100 * value for value in piece.values], color="#333333", linewidth=1.4)
        theta = 100 * self.line.plan.theta
        self.axes.axhspan(0, theta, color="#dfeedd", linewidth=0)
        self.axes.annotate("theta", (15, theta), (2, -8), textcoords="offset points", fontsize=7)
        self.axes.set_ylim(0, 70)
        self.axes.set_ylabel("spread, points", fontsize=7)
        self.mark_t0()

    def mark_t0(self) -> None:
        self.axes.axvline(self.t0, color="#666666", linewidth=0.8, linestyle=":")
        self.axes.annotate(
            "t0", (self.t0, 1), (2, -7), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=7
        )

    def span(self, begin: float, end: float, *, height: float = 0.12, open_end: bool = False) -> None:
        """Mark a span of time, which is the figure, at a part of the height."""
        self.axes.axvspan(begin, end, color=SOFT, linewidth=0, zorder=0)
        self.axes.annotate(
            "",
            (end, height),
            (begin, height),
            xycoords=("data", "axes fraction"),
            textcoords=("data", "axes fraction"),
            arrowprops={"arrowstyle": "->" if open_end else "<->", "color": MARK, "shrinkA": 0, "shrinkB": 0},
        )
        self.say((begin + end) / 2, height + 0.04)

    def say(self, at: float, height: float, text: str = "") -> None:
        """Write the figure's value, or something else, at a time and a part of the height."""
        self.axes.annotate(
            text or shown(self.figure),
            (at, height),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=8,
            color=MARK,
        )

    def lanes(self) -> None:
        """A lane for each host, and an arrow for each move."""
        hosts = list(self.line.capacity)
        for lane, host in enumerate(hosts):
            self.axes.axhline(lane, color=COLOURS[host], linewidth=3, alpha=0.35)
        self.axes.set_yticks(range(len(hosts)), hosts)
        self.axes.set_ylim(len(hosts) - 0.6, -0.6)
        for move in self.line.migrations:
            self.arrow(hosts, move)
        self.labels(hosts)
        self.mark_t0()

    def arrow(self, hosts: list[str], move: Migration) -> None:
        if move.destination is None:
            return
        begin = (move.begin if move.accepted is None else move.accepted) - self.begin
        end = begin if move.ended is None else move.ended - self.begin
        ended_well = move.state == "done"
        self.axes.annotate(
            "",
            (end, hosts.index(move.destination)),
            (begin, hosts.index(move.source)),
            arrowprops={
                "arrowstyle": "->" if ended_well else "-[,widthB=0.4",
                "color": MARK if ended_well else "#b00020",
                "linestyle": "-" if ended_well else ":",
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )

    def labels(self, hosts: list[str]) -> None:
        """The names of the slices at the begin of their moves; those of moves that begin together in one."""
        groups: list[tuple[float, str, list[str]]] = []
        for move in self.line.migrations:
            begin = move.begin - self.begin
            if groups and groups[-1][1] == move.source and begin - groups[-1][0] < TOGETHER:
                groups[-1][2].append(move.slice)
            else:
                groups.append((begin, move.source, [move.slice]))
        for begin, source, slices in groups:
            self.axes.annotate(
                ", ".join(slices),
                (begin, hosts.index(source)),
                (0, 3),
                textcoords="offset points",
                fontsize=7,
                ha="right",
            )

    def work(self, names: list[str], until: float) -> None:
        """What slices were asked for and what they got, CPUs."""
        line = self.line
        times = [at for at in line.moments if at <= self.begin + until]
        got = []
        for before, at in pairwise(times):
            grown = (line.got[name].known_growth(before, at) for name in names if name in line.got)
            got.append(sum(grown) / (at - before))
        asked = [sum(line.asked[name].at(at - 0.001) for name in names) for at in times[1:]]
        shifted = [at - self.begin for at in times[1:]]
        self.axes.step(shifted, asked, where="pre", color="#666666", linewidth=1.2, linestyle="--", label="asked for")
        self.axes.step(shifted, got, where="pre", color=COLOURS["a"], linewidth=1.4, label="got")
        self.axes.fill_between(shifted, asked, got, step="pre", color=SOFT)
        self.axes.set_ylim(0, 1.25 * max(asked))
        self.axes.set_ylabel("CPUs", fontsize=7)
        self.axes.legend(fontsize=7, frameon=False, loc="lower right", ncols=2)

    def hosts_at_the_end(self) -> None:
        """The hosts' utilization in the last window, as bars, with their mean."""
        line = self.line
        window = line.span(line.end - line.plan.window, line.end)
        levels = {
            host: 100 * sum(column[index] for index in window) / len(window) for host, column in line.levels.items()
        }
        mean = sum(levels.values()) / len(levels)
        self.axes.barh(list(levels), list(levels.values()), color=[COLOURS[host] for host in levels], alpha=0.6)
        self.axes.axvline(mean, color="#333333", linewidth=1, linestyle="--")
        self.axes.set_xlim(0, 100)
        self.axes.set_xlabel("utilization over the last window, %", fontsize=7, loc="center")
        self.axes.annotate(
            "mean", (mean, 1), (2, -7), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=7
        )
        self.axes.annotate(
            f"{self.figure.definition.name} = {shown(self.figure)}",
            (0.98, 0.85),
            xycoords="axes fraction",
            ha="right",
            fontsize=8,
            color=MARK,
        )


def _time(panel: Callable[[Picture], None], height: float = 0.12) -> Callable[[Picture], None]:
    """Of a time since t0, on a panel, at a part of its height."""

    def draw(picture: Picture) -> None:
        panel(picture)
        value = picture.figure.value or 0.0
        picture.span(picture.t0, picture.t0 + value, height=height, open_end=picture.figure.censored)

    return draw


def _link(begin: str, end: str) -> Callable[[Picture], None]:
    """Of a part of an alert's way."""

    def draw(picture: Picture) -> None:
        picture.utilization()
        episode = picture.line.episode
        assert episode is not None
        first, last = getattr(episode, begin), getattr(episode, end)
        assert first is not None
        assert last is not None
        picture.span(first - picture.begin, last - picture.begin)
        for name in ("pending", "firing", "ended"):
            at = getattr(episode, name)
            picture.axes.axvline(at - picture.begin, color=MARK, linewidth=0.8)
            text = "resolved" if name == "ended" else name
            picture.axes.annotate(
                text,
                (at - picture.begin, 0.05 if name == "ended" else 0.4),
                (2, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=7,
                rotation=90,
            )

    return draw


def _lanes(picture: Picture) -> None:
    picture.lanes()
    picture.say(UNTIL - 10, 0.45)


def _initial(picture: Picture) -> None:
    picture.imbalance()
    value = 100 * (picture.figure.value or 0.0)
    picture.axes.plot([picture.t0], [value], "o", color=MARK, markersize=4)
    picture.say(picture.t0 + 8, 0.88)


def _residual(picture: Picture) -> None:
    picture.imbalance()
    end = picture.line.end - picture.begin
    picture.axes.axvspan(end - picture.line.plan.window, end, color=SOFT, linewidth=0, zorder=0)
    picture.say(end - 4, 0.4)


def _oscillation(picture: Picture) -> None:
    picture.imbalance()
    line = picture.line
    first = line.counted[0].accepted
    assert first is not None
    points = [(line.moments[index] - picture.begin, line.imbalance[index]) for index in line.span(first, line.end)]
    turns = turning_points((value for _, value in points), line.plan.theta / 2)
    found: list[tuple[float, float]] = []
    for value in turns:
        last = found[-1][0] if found else 0.0
        found.append(next((at, level) for at, level in points if level == value and at > last))
    picture.axes.plot(
        [at for at, _ in found], [100 * value for _, value in found], "o-", color=MARK, markersize=4, linewidth=0.8
    )
    picture.say(UNTIL - 8, 0.6)


def _worst(what: str) -> Callable[[Picture], None]:
    def draw(picture: Picture) -> None:
        picture.utilization()
        line = picture.line
        match = re.search(r"most of all (\w+) at ([\d.]+) s", picture.figure.based_on)
        assert match
        host, at = match[1], float(match[2])
        index = line.span(picture.begin + at - 0.01, picture.begin + at + 0.01)[0]
        level = 100 * line.levels[host][index]
        base = 100 * (line.plan.hot if what == "hot" else line.means[index])
        if what == "mean":
            picture.axes.plot(
                [each - picture.begin for each in line.moments],
                [100 * mean for mean in line.means],
                color="#999999",
                linewidth=0.8,
            )
        picture.axes.plot([at, at], [base, level], color=MARK, linewidth=3)
        picture.say(at + 7, 0.5 if what == "hot" else 0.33)

    return draw


def _reaction(picture: Picture) -> None:
    picture.lanes()
    episode, move = picture.line.fired[0], picture.line.counted[0]
    assert episode.firing is not None
    assert move.accepted is not None
    picture.axes.axvline(episode.firing - picture.begin, color=MARK, linewidth=0.8)
    picture.say(episode.firing - picture.begin + 4, 0.05, "fires")
    picture.axes.axvspan(
        episode.firing - picture.begin, move.accepted - picture.begin, color=SOFT, linewidth=0, zorder=0
    )
    picture.say(UNTIL - 10, 0.45)


def _over(picture: Picture) -> None:
    picture.utilization()
    line = picture.line
    _shade(picture, [any(column[index] >= line.plan.hot for column in line.levels.values()) for index in _all(line)])
    picture.say(UNTIL - 12, 0.1)


def _unbalanced(picture: Picture) -> None:
    picture.imbalance()
    line = picture.line
    _shade(picture, [value > line.plan.theta for value in line.imbalance])
    picture.say(UNTIL - 12, 0.6)


def _all(line: Timeline) -> range:
    return range(len(line.moments))


def _shade(picture: Picture, held: list[bool]) -> None:
    """Shade the time since t0 in which something holds, by moment."""
    line = picture.line
    for index in line.span(line.t0 or 0.0, line.end):
        if held[index]:
            at = line.moments[index] - picture.begin
            picture.axes.axvspan(at - 1, at, color=SOFT, linewidth=0, zorder=0)


def _lost(picture: Picture) -> None:
    first = picture.line.counted[0].slice
    picture.work([first], UNTIL)
    picture.axes.set_ylabel(f"CPUs of {first}", fontsize=7)
    picture.say(60, 0.87)


def _fidelity(picture: Picture) -> None:
    picture.axes.set_xlim(0, 40)
    picture.work(picture.line.slices_on("a"), 35.0)
    picture.axes.set_ylabel("CPUs of a's slices", fontsize=7)
    picture.say(10, 0.85)


DRAWERS: Mapping[str, Callable[[Picture], None]] = {
    "time_to_alert": _time(Picture.utilization),
    "time_to_pending": _time(Picture.utilization),
    "pending_to_firing": _link("pending", "firing"),
    "firing_to_webhook": _link("firing", "notified"),
    "alert_to_resolved": _link("firing", "ended"),
    "alert_to_move": _reaction,
    "time_to_first_move": _time(Picture.lanes),
    "time_to_relief": _time(Picture.utilization),
    "time_to_balance": _time(Picture.imbalance, 0.5),
    "initial_imbalance": _initial,
    "residual_imbalance": _residual,
    "spread": Picture.hosts_at_the_end,
    "sd": Picture.hosts_at_the_end,
    "cv": Picture.hosts_at_the_end,
    "peak": Picture.hosts_at_the_end,
    "moves": _lanes,
    "failed_moves": _lanes,
    "moves_per_slice": _lanes,
    "thrash": _lanes,
    "oscillation": _oscillation,
    "overshoot": _worst("hot"),
    "undershoot": _worst("mean"),
    "overload_time_fraction": _over,
    "imbalance_time_fraction": _unbalanced,
    "work_lost_ratio": _lost,
    "migration_seconds": _lanes,
    "downtime_seconds": _lost,
    "load_fidelity": _fidelity,
}


def cases() -> dict[str, tuple[str, str]]:
    """By figure, the case of its picture and the value that the page says it has."""
    found = {}
    for name, text in SECTION.findall(PAGE.read_text()):
        if match := CASE.search(text):
            found[name] = match[1], match[2]
    return found


def draw(name: str, case: str, folder: Path = PICTURES) -> Path:
    """Write the picture of a figure; returns its file."""
    mpl.rcParams.update({"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"})
    recording = CASES[case]()
    picture = Picture(recording, measure(recording)[name])
    DRAWERS[name](picture)
    path = folder / f"{name}.svg"
    picture.canvas.savefig(path, metadata={"Date": None})
    return path


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for figure_name in DEFINITIONS:
        draw(figure_name, cases()[figure_name][0])
