"""Several results side by side: what may be compared, and which is best among what may. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadband.rebalance import figures
from loadband.rebalance.events import Expectation, Real
from loadband.rebalance.figures import Better, Definition, Figure, Summary
from loadband.rebalance.report import charts, document, page, words
from loadband.rebalance.report.result import Result
from loadband.rebalance.report.terminal import COLOUR
from loadband.rebalance.verdict import Outcome

VERSION = 1
"""Of the format of compare.json."""
ACROSS = 7
"""Figures beside each other; more go into another table."""
_PICTURE = 330


@dataclass(frozen=True, slots=True)
class Row:
    """A result among others."""

    result: Result
    best: frozenset[str]
    """The figures in which it is best of its kind; of several that differ by no more than they are exact, each is."""

    @property
    def real(self) -> Real:
        """How much of its rebalancer is real: only rows of the same kind are ranked against each other."""
        return self.result.run.rebalancer.real


@dataclass(frozen=True, slots=True)
class Group:
    """Results of the same scenario on the same platform with the same monitoring: their figures mean the same."""

    rows: tuple[Row, ...]
    """By kind, then by name."""
    figures: tuple[Definition, ...]
    """Those that any of the rows has: what decides first."""

    @property
    def first(self) -> Result:
        """One of them: what they have in common stands in each."""
        return self.rows[0].result


def compare(results: Sequence[Result]) -> tuple[Group, ...]:
    """Results by what may be compared, in the order in which they were given."""
    groups: list[list[Result]] = []
    for result in results:
        for group in groups:
            if _key(group[0]) == _key(result):
                group.append(result)
                break
        else:
            groups.append([result])
    return tuple(_group(group) for group in groups)


def _key(result: Result) -> tuple[Any, ...]:
    """What has to be the same. Limits may differ: they judge figures, but don't change them."""
    run = result.run
    plan = dataclasses.replace(run.plan, limits={})
    platform = (run.platform.name, run.platform.version, run.platform.real)
    return plan, platform, run.timing, len(result.deciding.picture.hosts)


def _group(results: Sequence[Result]) -> Group:
    kinds = list(Real)
    ordered = sorted(
        results, key=lambda result: (kinds.index(result.run.rebalancer.real), words.natural(result.run.rebalancer.name))
    )
    definitions: dict[str, Definition] = {}
    for result in ordered:
        for name, summary in result.summaries.items():
            definitions.setdefault(name, summary.definition)
    best = {
        (kind, name): _best([result for result in ordered if result.run.rebalancer.real is kind], name, definition)
        for kind in kinds
        for name, definition in definitions.items()
    }
    rows = tuple(
        Row(
            result,
            frozenset(
                name for name in definitions if any(one is result for one in best[result.run.rebalancer.real, name])
            ),
        )
        for result in ordered
    )
    return Group(rows, tuple(sorted(definitions.values(), key=_weight)))


def _weight(definition: Definition) -> int:
    """What decides comes first, the stages of the alert, which is not the rebalancer's doing, last."""
    first = list(page.KEY_FIGURES[Expectation.BALANCE])
    if definition.name in first:
        return first.index(definition.name)
    return len(first) + (definition.name in page.CHAIN)


_NO_MERIT = frozenset({"load_fidelity", "time_to_pending", "pending_to_firing", "firing_to_webhook"})
"""Figures that say how well the run was made, or how the monitoring is configured, not how good a rebalancer is."""


def _best(results: Sequence[Result], name: str, definition: Definition) -> list[Result]:
    """The best of results of one kind in one figure; none if there is nothing to choose from.

    Only PASS is ranked: who does nothing has the fewest moves.
    """
    if definition.better is Better.NEITHER or name in _NO_MERIT:
        return []
    ranked: list[tuple[float, float, Result]] = []
    for result in results:
        if name not in result.summaries or result.outcome is not Outcome.PASS:
            continue
        median = result.summaries[name].median
        if median.value is not None and not median.censored and result.run.rebalancer.real is not Real.CONTROL:
            ranked.append((median.value, median.resolution or 0.0, result))
    if len(ranked) < 2:  # noqa: PLR2004 - one alone is not the best of anything
        return []
    values = [value for value, _, _ in ranked]
    first = min(values) if definition.better is Better.LESS else max(values)
    exact = next(resolution for value, resolution, _ in ranked if value == first)
    chosen = [result for value, resolution, result in ranked if abs(value - first) <= max(resolution, exact)]
    return chosen if len(chosen) < len(ranked) else []


def plain(groups: Sequence[Group]) -> dict[str, Any]:
    """The comparison as values of JSON; each row's figures are as in its result.json."""
    return {
        "version": VERSION,
        "groups": [
            {
                "scenario": group.first.plan.scenario,
                "expect": group.first.plan.expect,
                "platform": f"{group.first.run.platform.name} {group.first.run.platform.version}".rstrip(),
                "hosts": len(group.first.deciding.picture.hosts),
                "rows": [_plain_row(row) for row in group.rows],
            }
            for group in groups
        ],
    }


def _plain_row(row: Row) -> dict[str, Any]:
    result = row.result
    made = document.document(result)
    return {
        "name": result.name,
        "outcome": result.outcome,
        "sentence": result.sentence,
        "rebalancer": made["rebalancer"],
        "repeats": len(result.repeats),
        "counted": made["counted"],
        "best": sorted(row.best),
        "summaries": made["summaries"],
    }


def draw(groups: Sequence[Group], console: Console) -> None:
    """Print the comparison, a table for each group."""
    for index, group in enumerate(groups):
        if index:
            console.print()
        console.print(Text(_title(group), "bold"))
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("figure", no_wrap=True)
        labels = words.labels([_label(row.result) for row in group.rows], 24)
        for row in group.rows:
            table.add_column(Text(labels[_label(row.result)]), justify="right")
        table.add_row(
            "verdict",
            *(Text(f"{row.result.outcome} {_tally(row.result)}", COLOUR[row.result.outcome]) for row in group.rows),
        )
        table.add_row("kind", *(Text(str(row.real), "dim") for row in group.rows))
        for definition in group.figures:
            cells = [_cell(row, definition.name) for row in group.rows]
            table.add_row(
                words.title(definition.name),
                *(
                    Text(
                        "\n".join(filter(None, (f"{cell['value']}{' *' if cell['best'] else ''}", cell["range"]))),
                        "bold green" if cell["best"] else "dim" if cell["dim"] else "",
                    )
                    for cell in cells
                ),
            )
        console.print(table)
    console.print(Text(f"\n* {RANKED}", "dim"))


RANKED = (
    "best of its kind: only PASS is ranked, only against the same kind of rebalancer, and only where medians differ "
    "by more than they are exact"
)


def _title(group: Group) -> str:
    result = group.first
    hosts = words.count(len(result.deciding.picture.hosts), "host")
    platform = f"{result.run.platform.name} {result.run.platform.version}".rstrip()
    return words.shown(f"{words.short(result.plan.scenario, 60)}, on {words.short(platform, 60)}, {hosts}")


def _label(result: Result) -> str:
    """What tells a row from others: its rebalancer, and the directory that it is from."""
    return f"{result.run.rebalancer.name} ({result.name})"


def _tally(result: Result) -> str:
    having = sum(repeat.outcome is result.outcome for repeat in result.repeats)
    missing = max(max(repeat.run.repeats for repeat in result.repeats) - len(result.repeats), 0)
    return f"{having}/{len(result.repeats)}{f', {missing} missing' if missing else ''}"


def _cell(row: Row, name: str) -> dict[str, Any]:
    summary: Summary | None = row.result.summaries.get(name)
    if summary is None:
        return {"value": "", "range": "", "best": False, "dim": True}
    median: Figure = summary.median
    value, spread = figures.shown(median), words.span(summary.least, summary.most)
    return {
        "value": value,
        "range": spread if summary.most.value is not None and spread != value else "",
        "best": name in row.best,
        "dim": row.result.outcome is Outcome.INVALID,
    }


def html(groups: Sequence[Group]) -> str:
    """The comparison as one HTML file, like a report's."""
    return (
        page.environment()
        .get_template("compare.html")
        .render(groups=[_page_group(group, f"g{index}") for index, group in enumerate(groups)], ranked=RANKED)
    )


def _page_group(group: Group, name: str) -> Mapping[str, Any]:
    result = group.first
    tables = -(-len(group.figures) // ACROSS)
    size = -(-len(group.figures) // max(tables, 1))
    return {
        "title": result.plan.scenario,
        "platform": f"{result.run.platform.name} {result.run.platform.version}".rstrip(),
        "hosts": words.count(len(result.deciding.picture.hosts), "host"),
        "expected": page.EXPECTED[result.plan.expect],
        "kinds": len({row.real for row in group.rows}),
        "tables": [
            {
                "titles": [words.title(definition.name) for definition in group.figures[start : start + size]],
                "rows": [
                    {
                        "name": row.result.run.rebalancer.name,
                        "kind": str(row.real),
                        "outcome": str(row.result.outcome),
                        "cells": [_cell(row, definition.name) for definition in group.figures[start : start + size]],
                    }
                    for row in group.rows
                ],
            }
            for start in range(0, len(group.figures), max(size, 1))
        ],
        "rows": [_page_row(row, f"{name}r{index}") for index, row in enumerate(group.rows)],
    }


def _page_row(row: Row, name: str) -> dict[str, Any]:
    result, rebalancer = row.result, row.result.run.rebalancer
    text = (f"Utilization and imbalance with {words.short(rebalancer.name, 60)}", result.sentence)
    picture = charts.small(result.deciding.picture, _PICTURE, name, text)
    return {
        "name": rebalancer.name,
        "directory": result.name,
        "version": rebalancer.version,
        "real": page.REAL[rebalancer.real],
        "interval": "" if rebalancer.interval is None else f"every {words.seconds(rebalancer.interval)}",
        "settings": words.setting_lines(rebalancer.settings),
        "outcome": str(result.outcome),
        "tally": f"{_tally(result)} repeats",
        "sentence": result.sentence,
        "drawn": f"repeat {result.deciding.number}" if len(result.repeats) > 1 else "",
        "picture": Markup(picture),  # noqa: S704 - our own SVG
    }
