"""The league's results: a table for the terminal, and a page of Markdown. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from loadband.rebalance.events import Part
from loadband.rebalance.figures import shown
from loadband.rebalance.report import words
from loadband.rebalance.report.result import Result
from loadband.rebalance.scenario import Scenario
from loadband.rebalance.verdict import Outcome

COLUMNS = 120
"""Width of the page, except for tables."""
FIGURES = (
    "time_to_alert",
    "time_to_first_move",
    "time_to_balance",
    "residual_imbalance",
    "moves",
    "thrash",
    "overshoot",
    "work_lost_ratio",
)
"""What the page shows of each match; compare.html has all figures."""
COLOUR = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.INVALID: "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one rebalancer does in one scenario."""

    scenario: Scenario
    row: str
    """The rebalancer's name in the league."""
    expected: Outcome | None
    """What every repeat must be; None: nothing is expected, it is only measured."""
    result: Result | None
    """None: nothing is recorded."""
    cannot: str
    """Why it isn't played here; empty if it is."""
    differs: str = ""
    """How recordings and the tool's own log differ; empty if they don't, or the row has no tool."""
    again: int
    """Repeats that were INVALID and were recorded again."""

    @property
    def missed(self) -> str:
        """What is wrong, a sentence without its stop; empty if all is as expected or nothing is."""
        name = f"{self.row} in {self.scenario.name}"
        if self.differs:
            return f"{name}: the tool's own log says something else: {self.differs}"
        if self.expected is None or self.cannot:
            return ""
        if self.result is None:
            return f"{name}: nothing is recorded, expected is {self.expected}"
        wrong = next((repeat for repeat in self.result.repeats if repeat.outcome is not self.expected), None)
        if wrong is not None:
            return f"{name}: repeat {wrong.number} is {wrong.outcome}, expected is {self.expected}: {wrong.sentence}"
        if missing := _missing(self.result):
            return f"{name}: {words.count(missing, 'repeat')} missing"
        return ""

    @property
    def cell(self) -> str:
        """For a table: `PASS 5/5`, `5 PASS, 1 INVALID of 6`."""
        if self.cannot and self.result is None:
            return "not played"
        if self.result is None:
            return "nothing recorded"
        repeats = self.result.repeats
        counts = [(outcome, sum(repeat.outcome is outcome for repeat in repeats)) for outcome in Outcome]
        asked = len(repeats) + _missing(self.result)
        there = [(outcome, count) for outcome, count in counts if count]
        if len(there) == 1:
            return f"{there[0][0]} {there[0][1]}/{asked}"
        return f"{', '.join(f'{count} {outcome}' for outcome, count in there)} of {asked}"


def _missing(result: Result) -> int:
    return max(max(repeat.run.repeats for repeat in result.repeats) - len(result.repeats), 0)


def table(standings: Sequence[Standing]) -> Table:
    """The verdicts: a row for each scenario, a column for each rebalancer; what isn't as expected has a mark."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    rows = list(dict.fromkeys(each.row for each in standings))
    made.add_column("scenario", no_wrap=True)
    for row in rows:
        made.add_column(Text(row))
    for name, there in by_scenario(standings):
        cells = {each.row: each for each in there}
        made.add_row(Text(name), *(_coloured(cells[row]) if row in cells else Text() for row in rows))
    return made


def _coloured(standing: Standing) -> Text:
    outcome = standing.result.outcome if standing.result else None
    return Text(f"{standing.cell}{' !' if standing.missed else ''}", COLOUR[outcome] if outcome else "dim")


def by_scenario(standings: Sequence[Standing]) -> Iterator[tuple[str, list[Standing]]]:
    """Each scenario's name, and what was played of it."""
    for name in dict.fromkeys(each.scenario.name for each in standings):
        yield name, [each for each in standings if each.scenario.name == name]


def markdown(standings: Sequence[Standing], command: str) -> str:
    """The page; the picture of a scenario of which something is recorded is its name and `.svg`.

    Args:
        standings: by scenario.
        command: that measures them again, for people.
    """
    lines = ["# The league", "", *_filled(_HEAD), ""]
    lines += [*_item(f"command: `{command}`"), *_machine(standings), ""]
    rows = list(dict.fromkeys(each.row for each in standings))
    lines += ["## Verdicts", "", *_table_head("scenario", "expected", *rows)]
    for name, there in by_scenario(standings):
        cells = {each.row: each for each in there}
        marked = [f"{cells[row].cell}{' **!**' if cells[row].missed else ''}" if row in cells else "" for row in rows]
        lines.append(_row(f"[{name}](#{name})", there[0].scenario.expect, *marked))
    if missed := [each.missed for each in standings if each.missed]:
        lines += ["", "Not as expected (**!**):", "", *(line for sentence in missed for line in _item(f"{sentence}."))]
    lines += ["", "## Who plays", "", *_filled(_KINDS), "", *_players(standings)]
    for name, there in by_scenario(standings):
        lines += ["", f"## {name}", "", *_filled(there[0].scenario.proves), ""]
        if any(each.result for each in there):
            lines += [f"![What each rebalancer made of {name}]({name}.svg)", ""]
        lines += _figures(there)
    if left := list(_left_out(standings)):
        lines += ["", "## Not played", "", *left]
    return "\n".join(lines) + "\n"


_HEAD = """\
The same overload, the same meter, several rebalancers. Each repeat is a recording, from which `loadband rebalance
report` makes every figure and verdict again. A picture shows each row's first repeat. compare.html shows all figures,
and each row's course."""
_KINDS = """\
How much of each is the real program decides what it may be compared with: rows of different kinds are never ranked
against each other. Rows without an interval are told by the alert, or do nothing."""


def _machine(standings: Sequence[Standing]) -> Iterator[str]:
    results = [each.result for each in standings if each.result is not None]
    if not results:
        return
    runs = [repeat.run for result in results for repeat in result.repeats]
    where: dict[str, dict[str, None]] = {}
    for each in standings:
        if each.result is not None:
            platform = each.result.run.platform
            where.setdefault(f"{platform.name}, {platform.version}", {})[each.scenario.name] = None
    for platform_name, names in where.items():
        of = f" ({words.listed(names, len(names))})" if len(where) > 1 else ""
        yield from _item(f"platform: {platform_name}{of}")
    yield f"- loadband: {words.listed(dict.fromkeys(run.loadband for run in runs))}"
    monitoring = dict.fromkeys(f"{part.name} {part.version}".rstrip() for run in runs for part in run.monitoring)
    yield f"- monitoring: {words.listed(monitoring) or 'none'}"
    yield f"- recorded: {words.date(min(run.at for run in runs))} to {words.date(max(run.at for run in runs))}"


def _players(standings: Sequence[Standing]) -> Iterator[str]:
    yield from _table_head("row", "version", "kind", "acts on", "interval", "settings")
    seen: set[str] = set()
    for each in standings:
        if each.result is None or each.row in seen:
            continue
        seen.add(each.row)
        part: Part = each.result.run.rebalancer
        interval = "" if part.interval is None else words.seconds(part.interval)
        settings = "; ".join(words.setting_lines(part.settings))
        yield _row(each.row, part.version, part.real, part.trigger, interval, settings)


def _figures(standings: Sequence[Standing]) -> Iterator[str]:
    played = [each for each in standings if each.result is not None]
    if not played:
        yield "Nothing is recorded."
        return
    known = {name for each in played if each.result for name in each.result.summaries}
    names = [name for name in FIGURES if name in known]
    yield from _table_head("row", "verdict", *map(words.title, names))
    for each in played:
        yield _row(each.row, each.cell, *(_figure(each.result, name) for name in names if each.result))
    yield ""
    for each in played:
        if each.result:
            yield from _item(f"**{each.row}**: {words.shown(each.result.sentence)}")


def _figure(result: Result | None, name: str) -> str:
    """The median, with the range where repeats differ."""
    summary = result.summaries.get(name) if result else None
    if summary is None or summary.median.value is None:
        return ""
    median, span = shown(summary.median), words.span(summary.least, summary.most)
    return median if span == median else f"{median} ({span})"


def _left_out(standings: Sequence[Standing]) -> Iterator[str]:
    for name, there in by_scenario(standings):
        for why in dict.fromkeys(each.cannot for each in there if each.cannot):
            who = words.listed([each.row for each in there if each.cannot == why])
            yield from _item(f"{name} with {who}: {why}.")
    for each in standings:
        if each.again:
            was = "repeat was" if each.again == 1 else "repeats were"
            yield from _item(f"{each.row} in {each.scenario.name}: {each.again} {was} INVALID and recorded again.")


def _table_head(*titles: str) -> list[str]:
    return [_row(*titles), f"|{'---|' * len(titles)}"]


def _row(*cells: str) -> str:
    return f"| {' | '.join(words.shown(cell).replace('|', '&#124;') for cell in cells)} |"


def _item(text: str) -> list[str]:
    """Of a list."""
    return textwrap.wrap(f"- {text}", COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _filled(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS)
