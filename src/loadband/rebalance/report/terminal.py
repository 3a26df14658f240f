"""A `Result` for the terminal: verdict and sentence, what to do, the figures, and a compact timeline. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadband.rebalance import figures
from loadband.rebalance.report import words
from loadband.rebalance.report.advice import advice
from loadband.rebalance.report.picture import Line, Picture
from loadband.rebalance.report.result import Result, worst
from loadband.rebalance.verdict import CheckKind, Outcome

COLOUR = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.INVALID: "yellow"}
HOSTS = 10
"""Rows of the timeline: hot hosts, then those that took part in moves, then others."""
NAME = 14
"""Characters of a name at the left of the timeline."""
LEVELS = "▁▂▃▄▅▆▇█"


def draw(result: Result, console: Console) -> None:
    """Print the report; its width is the console's."""
    run = result.run
    headline = Text.assemble(
        (f" {result.outcome} ", f"bold reverse {COLOUR[result.outcome]}"),
        "  ",
        (words.short(result.plan.scenario, 60), "bold"),
        (f"  on {words.short(run.platform.name, 40)} with {words.short(run.rebalancer.name, 40)}, ", "dim"),
        (words.count(len(result.repeats), "repeat"), "dim"),
    )
    console.print(headline)
    console.print(Text(words.shown(result.sentence)))
    if todo := advice(result.deciding):
        console.print(Text("\nWhat to do now", "bold"))
        for one in todo:
            console.print(Text.assemble("- ", (f"{words.shown(one.about)}: ", "bold"), words.shown(one.text)))
    console.print()
    console.print(_figures(result))
    console.print()
    for line in timeline(result.deciding.picture, console.width):
        console.print(line, no_wrap=True, overflow="crop")


def _figures(result: Result) -> Table:
    many = len(result.repeats) > 1
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("figure", no_wrap=True)
    table.add_column("limit", no_wrap=True)
    table.add_column("median" if many else "measured", justify="right", no_wrap=True)
    if many:
        table.add_column("range")
    table.add_column("resolution", justify="right")
    table.add_column("result", no_wrap=True)
    for name, summary in result.summaries.items():
        limits = [check for check in result.check(CheckKind.LIMIT, name) if check is not None]
        outcome = worst(limits)
        cells = [words.title(name), words.shown(limits[0].asked) if limits else "", figures.shown(summary.median)]
        if many:
            cells.append("" if summary.median.value is None else words.span(summary.least, summary.most))
        cells.append(words.resolution(summary.median))
        table.add_row(*map(Text, cells), Text(outcome, COLOUR[outcome]) if outcome else Text())
    return table


def timeline(picture: Picture, width: int) -> Iterator[Text]:
    """A run as lines of text: phases, a row for each host, alerts, moves, imbalance, and the time.

    Args:
        picture: the run.
        width: columns of the terminal.
    """
    cells = max(width - NAME - 1, 10)
    step = max(picture.end - picture.begin, 1e-9) / cells
    edges = [picture.begin + step * index for index in range(cells + 1)]
    yield _row("", Text(_phases(picture, cells), "dim"))
    shown = _chosen(picture)
    labels = words.labels(shown, NAME)
    lines = {host.name: host for host in picture.hosts}
    for name in shown:
        yield _row(labels[name], _bars(lines[name].line, edges, 0.0, 1.0, picture.hot), hot=lines[name].hot)
    if left := len(picture.hosts) - len(shown):
        yield _row("", Text(f"{words.count(left, 'more host')} in report.html", "dim"))
    yield _row("alert", _alerts(picture, edges))
    yield _row("moves", _moves(picture, edges))
    known = [value for value in picture.imbalance.values if value is not None]
    balanced = 1.0 if picture.measure == "peak" else 0.0
    bars = _bars(picture.imbalance, edges, balanced, max([*known, picture.theta]), None)
    yield _row(picture.measure, bars)
    yield _row("", _ruler(picture, cells))
    began = f"0: {picture.zero_name}, {words.seconds(-picture.begin)} after the recording began"
    for note in (began, "red: hot; ░ alert pending, █ firing; ▼ move, ✕ move not done"):
        yield _row("", Text(note, "dim"))


def _row(label: str, text: Text, *, hot: bool = False) -> Text:
    return Text.assemble((f"{label:>{NAME}} ", "bold" if hot else "dim"), text)


def _chosen(picture: Picture) -> list[str]:
    moved = {name for move in picture.moves for name in (move.source, move.destination)}
    first = [host.name for host in picture.hosts if host.hot or host.name in moved]
    names = list(dict.fromkeys([*first, *(host.name for host in picture.hosts)]))[:HOSTS]
    return [host.name for host in picture.hosts if host.name in set(names)]


def _bars(line: Line, edges: Sequence[float], low: float, high: float, hot: float | None) -> Text:
    """A curve as bars: in each cell its latest value."""
    text = Text()
    for value in _latest(line, edges):
        if value is None:
            text.append(" ")
            continue
        part = (value - low) / max(high - low, 1e-9)
        level = LEVELS[min(max(int(part * len(LEVELS)), 0), len(LEVELS) - 1)]
        text.append(level, "red" if hot is not None and value >= hot else "cyan" if hot is not None else "green")
    return text


def _latest(line: Line, edges: Sequence[float]) -> Iterator[float | None]:
    for end in edges[1:]:
        index = bisect_right(line.times, end)
        yield line.values[index - 1] if index > 0 and (index < len(line.times) or end <= line.times[-1]) else None


def _phases(picture: Picture, cells: int) -> str:
    made = [" "] * cells
    for phase in picture.phases:
        start, stop = (_cell(picture, at, cells) for at in (phase.begin, phase.end))
        word = f"|{phase.name}"[: max(stop - start, 1)]
        made[start : start + len(word)] = word
    return "".join(made)[:cells]


def _cell(picture: Picture, at: float, cells: int) -> int:
    part = (at - picture.begin) / max(picture.end - picture.begin, 1e-9)
    return min(max(int(part * cells), 0), cells - 1)


def _alerts(picture: Picture, edges: Sequence[float]) -> Text:
    cells = len(edges) - 1
    made = [(" ", "")] * cells
    for span in picture.alerts:
        if not span.awaited:
            continue
        end = picture.end if span.resolved is None else span.resolved
        parts = [
            (span.pending, end if span.firing is None else span.firing, ("░", "yellow")),
            (span.firing, end, ("█", "red")),
        ]
        for begin, until, glyph in parts:
            if begin is not None:
                start, stop = _cell(picture, begin, cells), _cell(picture, until, cells)
                made[start : stop + 1] = [glyph] * (stop + 1 - start)
    return Text.assemble(*made)


def _moves(picture: Picture, edges: Sequence[float]) -> Text:
    cells = len(edges) - 1
    made = [(" ", "")] * cells
    for move in picture.moves:
        done = move.state == "done"
        made[_cell(picture, move.begin, cells)] = ("▼", "magenta") if done else ("✕", "red")
    return Text.assemble(*made)


def _ruler(picture: Picture, cells: int) -> Text:
    made = [" "] * (cells + 12)
    marks = {0.0, picture.end / 2, picture.begin, picture.end} if picture.end > 0 else {0.0, picture.begin}
    for at in (0.0, *sorted(marks - {0.0}, key=abs)):
        word = words.moment(at) if at else "0"
        start = min(_cell(picture, at, cells), cells - len(word))
        if start >= 0 and all(one == " " for one in made[max(start - 2, 0) : start + len(word) + 2]):
            made[start : start + len(word)] = word
    return Text("".join(made)[:cells], "dim")
