"""The table of all figures of all scenes, with their goals, for the terminal and as a page of Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import isinf, isnan

from rich.table import Table

from bench.results import Results, Run
from bench.scenes import SCENES, Row
from bench.tools import TOOLS

OURS = "loadband"
COLUMNS = 120
"""Width of the page, except for tables."""
STRANGERS = 5.0
"""Percent of the machine. A run is disturbed if other processes use more in its worst second."""


class Goal(Enum):
    """Whether a figure meets its goal; only loadband's figures are judged."""

    NONE = 0
    MET = 1
    MISSED = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of one tool."""

    text: str
    goal: Goal = Goal.NONE


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of one scene, for all tools."""

    scene: str
    number: str
    goal: str
    cells: tuple[Cell, ...]


def tools_in(results: Results) -> list[str]:
    """Return the names of the tools with results, in their usual order."""
    return [tool.name for tool in TOOLS if any(tool.name == name for _, name in results.runs)]


def lines(results: Results, scenes: Iterable[str] | None = None) -> list[Line]:
    """Return the lines of the table, for all scenes or only for some."""
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
    """Return a row's goal as text."""
    if row.goal is None:
        return ""
    return f"{'≥' if row.at_least and row.goal < 100 else '' if row.at_least else '≤'} {row.goal:g} {row.unit}".strip()  # noqa: PLR2004 - percent


def written(row: Row, value: float) -> str:
    """Return a row's value as text."""
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
    text = written(row, value)
    if (ends := run.ranges.get(row.key)) and len(shown := [written(row, end) for end in ends]) == len({*shown}):
        low, high = (end.removesuffix(f" {row.unit}") for end in shown)
        text += f" ({low}..{high})"
    return Cell(text, (Goal.MET if row.met(value) else Goal.MISSED) if judged else Goal.NONE)


def terminal(results: Results, scenes: Iterable[str]) -> Table:
    """Return the table for the terminal."""
    table = Table("", "goal", *tools_in(results))
    styles = {Goal.NONE: "", Goal.MET: "green", Goal.MISSED: "bold red"}
    for line in lines(results, scenes):
        cells = [f"[{styles[cell.goal]}]{cell.text}[/]" if styles[cell.goal] else cell.text for cell in line.cells]
        if line.scene:
            table.add_section()
            table.add_row(f"[bold]{line.scene}[/]")
        table.add_row(line.number, line.goal, *cells)
    return table


def missed(results: Results, scenes: Iterable[str] | None = None) -> list[str]:
    """Return a sentence for each goal that loadband missed."""
    found = []
    title = ""
    for line in lines(results, scenes):
        title = line.scene or title
        found += [
            f"{title}, {line.number}: {cell.text}, the goal is {line.goal}"
            for cell in line.cells
            if cell.goal is Goal.MISSED
        ]
    return found


def markdown(results: Results, pictures: Sequence[tuple[str, str]]) -> str:
    """Return the page.

    Args:
        results: the results.
        pictures: title and file of each picture.
    """
    tools = tools_in(results)
    marks = {Goal.NONE: "{}", Goal.MET: "{} ✓", Goal.MISSED: "**{} ✗**"}
    table = [_row("", "", "goal", *tools), _row(*["---"] * (3 + len(tools)))]
    table += [
        _row(
            f"**{line.scene}**" if line.scene else "",
            line.number,
            line.goal,
            *(marks[cell.goal].format(cell.text) for cell in line.cells),
        )
        for line in lines(results)
    ]
    versions = ", ".join(f"{tool} {version}" for tool, version in results.versions.items() if tool in tools)
    parts = [
        "# Benchmark",
        "Side by side on one machine, measured by a meter outside of all tools.",
        _wrapped(
            f"- command: `make bench` ({versions})", *(f"- {name}: {value}" for name, value in results.machine.items())
        ),
        "\n".join(table),
        _wrapped(f"✓ and ✗: loadband met or missed its goal. ?: not measurable on this machine. {_repeated(results)}"),
        *_told("What a tool can't do", _reasons(results)),
        *_told("Missed goals", missed(results)),
        *_told("Disturbed by other processes on the machine", _disturbed(results)),
        *(f"![{title}]({file})" for title, file in pictures),
        "## The tools",
        _wrapped(*(f"- {tool.name}: {tool.about}" for tool in TOOLS if tool.name in tools)),
        "## How the tools were started",
        "\n".join(["| | | command |", "|---|---|---|", *_commands(results)]),
        "## What the numbers mean",
        _MEANING,
    ]
    return "\n\n".join(parts) + "\n"


def _repeated(results: Results) -> str:
    """A sentence about the repeats; empty without any."""
    counts = sorted({run.repeats for run in results.runs.values() if not run.cannot})
    if not counts or counts == [1]:
        return ""
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}..{counts[-1]}"
    return f"Figures are medians of {number} runs, with the range of all runs in parentheses unless it is nothing."


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _told(title: str, sentences: Sequence[str]) -> list[str]:
    return [f"**{title}:**", _wrapped(*(f"- {sentence}" for sentence in sentences))] if sentences else []


def _wrapped(*items: str) -> str:
    return "\n".join(textwrap.fill(item, COLUMNS, subsequent_indent="  ", break_on_hyphens=False) for item in items)


def _reasons(results: Results) -> list[str]:
    titles = {scene.name: scene.title for scene in SCENES}
    reasons: dict[tuple[str, str], list[str]] = {}
    for run in results.runs.values():
        if run.cannot:
            reasons.setdefault((run.tool, run.cannot), []).append(titles[run.scene])
    return [f"{tool}: {'; '.join(scenes)}: {reason}" for (tool, reason), scenes in reasons.items()]


def _disturbed(results: Results) -> list[str]:
    return [
        f"{run.scene}, {run.tool}: other processes used {run.strangers:.0f} % of the machine for a second"
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
Everything is measured outside of the tools, over windows of 1 s that slide by 0.1 s. *pp* are percentage points.

- *Utilization* is `1 - idle / clock`: the kernel's idle time against the monotonic clock. /proc/stat truncates it to
  10 ms, half a point of a window on 2 CPUs, so a perfect tool would still show an error of 0.17 pp. *By the root
  cgroup* means by what tasks used, exact to the nanosecond; it excludes interrupts and the way into and out of
  idle. Under a quota, utilization is the group's own usage of the quota.
- *Error* is the mean of the absolute distances from the band's middle; for a moving band, from its mean in the window.
  *Back in the band after* is the time from the event to the start of the first window from which all windows of the
  next 10 s are in the band.
- *The first burn* is the time at which a thread or process that the tool started has used 10 ms of CPU time.
- *Error of tick readers* is the difference between utilization and `busy / all` of the ticks in /proc/stat, which sar,
  top and psutil read, over the whole measured time.
- *CPU time without the burn calls* is the process' CPU time minus that of its calls to `pbkdf2_hmac`.
- *Memory* is resident memory for a tool of one process; for several processes, the sum of their proportional shares
  (PSS).
- *A neighbour* is an independent load: a share of each CPU, in turns of some milliseconds. Beside one that burns for
  100 ms in each 300 ms, a load with the right mean that doesn't follow it at all would show an error of 1.5 pp, since a
  window holds three or four of its bursts. They come faster than a loop with 10 looks a second can make up for them.
"""
