"""The table: every number of every scene, goal beside measured, for the terminal and as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import isinf, isnan

from rich.table import Table

from bench.results import Results, Run
from bench.scenes import SCENES, Row
from bench.tools import TOOLS

OURS = "loadband"
STRANGERS = 5.0
"""Percent of the machine that others may take in the worst second of a run without it being called disturbed."""


class Mark(Enum):
    """What a cell says of its goal; only ours are judged."""

    NONE = 0
    MET = 1
    MISSED = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one tool."""

    text: str
    mark: Mark = Mark.NONE


@dataclass(frozen=True, slots=True)
class Line:
    """One number of one scene, for all tools."""

    scene: str
    number: str
    goal: str
    cells: tuple[Cell, ...]


def tools_in(results: Results) -> list[str]:
    """Names of the tools that have results, in their usual order."""
    return [tool.name for tool in TOOLS if any(tool.name == name for _, name in results.runs)]


def lines(results: Results, scenes: Iterable[str] | None = None) -> list[Line]:
    """The table's lines, of all scenes or of those named."""
    chosen = None if scenes is None else set(scenes)
    tools = tools_in(results)
    return [
        Line(
            scene.title if row is scene.rows[0] else "",
            row.title,
            goal(row),
            tuple(_cell(row, tool, results.runs.get((scene.name, tool))) for tool in tools),
        )
        for scene in SCENES
        if (chosen is None or scene.name in chosen) and any(scene.name == name for name, _ in results.runs)
        for row in scene.rows
    ]


def goal(row: Row) -> str:
    """A row's goal as it is written."""
    if row.goal is None:
        return ""
    return f"{'≥' if row.at_least and row.goal < 100 else '' if row.at_least else '≤'} {row.goal:g} {row.unit}".strip()  # noqa: PLR2004 - percent


def written(row: Row, value: float) -> str:
    """A row's value as it is written."""
    if isnan(value):
        return "?"
    return "never" if isinf(value) else f"{value:.{row.decimals}f} {row.unit}"


def _cell(row: Row, tool: str, run: Run | None) -> Cell:
    if run is None:
        return Cell("")
    if run.cannot:
        return Cell("cannot")
    value = run.numbers.get(row.key, float("nan"))
    judged = tool == OURS and row.goal is not None and not isnan(value)
    return Cell(written(row, value), (Mark.MET if row.met(value) else Mark.MISSED) if judged else Mark.NONE)


def terminal(results: Results, scenes: Iterable[str]) -> Table:
    """The table for people who just waited for it."""
    table = Table("", "goal", *tools_in(results))
    styles = {Mark.NONE: "", Mark.MET: "green", Mark.MISSED: "bold red"}
    for line in lines(results, scenes):
        cells = [f"[{styles[cell.mark]}]{cell.text}[/]" if styles[cell.mark] else cell.text for cell in line.cells]
        if line.scene:
            table.add_section()
            table.add_row(f"[bold]{line.scene}[/]")
        table.add_row(line.number, line.goal, *cells)
    return table


def missed(results: Results, scenes: Iterable[str] | None = None) -> list[str]:
    """The goals that we missed, a sentence each."""
    found = []
    title = ""
    for line in lines(results, scenes):
        title = line.scene or title
        found += [
            f"{title}, {line.number}: {cell.text}, the goal is {line.goal}"
            for cell in line.cells
            if cell.mark is Mark.MISSED
        ]
    return found


def markdown(results: Results, pictures: Sequence[tuple[str, str]]) -> str:
    """The page.

    Args:
        results: what was measured.
        pictures: title and file of each.
    """
    tools = tools_in(results)
    marks = {Mark.NONE: "{}", Mark.MET: "{} ✓", Mark.MISSED: "**{} ✗**"}
    table = [_row("", "", "goal", *tools), _row(*["---"] * (3 + len(tools)))]
    table += [
        _row(
            f"**{line.scene}**" if line.scene else "",
            line.number,
            line.goal,
            *(marks[cell.mark].format(cell.text) for cell in line.cells),
        )
        for line in lines(results)
    ]
    machine = "; ".join(f"{name}: {value}" for name, value in results.machine.items())
    versions = ", ".join(f"{tool} {version}" for tool, version in results.versions.items() if tool in tools)
    parts = [
        "# Benchmark",
        f"Measured by `make bench` ({versions}). {machine}.",
        "\n".join(table),
        "✓ and ✗: loadband's goal is met or missed. ?: can't be told here.",
        *_told("What a tool cannot do", _reasons(results)),
        *_told("Goals missed", missed(results)),
        *_told("Disturbed by others who used the machine meanwhile", _disturbed(results)),
        *(f"![{title}]({file})" for title, file in pictures),
        "## How the tools were started",
        "\n".join(["| | | command |", "|---|---|---|", *_commands(results)]),
        "## What the numbers mean",
        _MEANING,
    ]
    return "\n\n".join(parts) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _told(title: str, sentences: Sequence[str]) -> list[str]:
    return [f"**{title}:**", "\n".join(f"- {sentence}" for sentence in sentences)] if sentences else []


def _reasons(results: Results) -> list[str]:
    titles = {scene.name: scene.title for scene in SCENES}
    reasons: dict[tuple[str, str], list[str]] = {}
    for run in results.runs.values():
        if run.cannot:
            reasons.setdefault((run.tool, run.cannot), []).append(titles[run.scene])
    return [f"{tool}: {'; '.join(scenes)}: {reason}" for (tool, reason), scenes in reasons.items()]


def _disturbed(results: Results) -> list[str]:
    return [
        f"{run.scene}, {run.tool}: others used {run.strangers:.0f} % of the machine for a second"
        for run in results.runs.values()
        if run.strangers > STRANGERS
    ]


def _commands(results: Results) -> list[str]:
    return [
        _row(scene.title, tool, f"`{run.command}`")
        for scene in SCENES
        for tool in tools_in(results)
        if (run := results.runs.get((scene.name, tool))) and run.command
    ]


_MEANING = """\
All of it is measured outside of the tools, over windows of 1 s that slide by 0.1 s.

- Utilization is `1 - idle / clock`: what the kernel counted as idle, against the monotonic clock. It is cut to 10 ms,
  half a point of a window on 2 CPUs, so that a perfect tool would still be 0.17 pp off. *By the root cgroup* is the
  same of what tasks used, exact to the nanosecond; interrupts and the ways into and out of idle are not in it. Under a
  quota it is the group's own usage against the quota.
- *Error* is the mean of the absolute distances from the band's middle; where it moves, from its mean in the window.
  *Back in the band after* is the time from the event to the start of the first window from which on all windows of
  the next 10 s are in the band.
- *The first burn* is when a thread or process that the tool started has used a hundredth of a second of CPU time.
- *Ticks against the truth*: how far `busy / all` of the ticks in /proc/stat, which sar, top and psutil read, is from
  utilization, over the whole time that was measured.
- *CPU time less the burn calls*: the process' CPU time without that of its calls to `pbkdf2_hmac`.
- *Memory*: resident of a tool of one process; of several, each one's part of what they share (PSS).
- A neighbour is a load of its own that knows nothing of others: a share of each CPU, in turns of some milliseconds.
"""
