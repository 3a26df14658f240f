"""`loadband rebalance check SCENARIO` and `loadband rebalance schema WHAT`: nothing is started, moved or burned."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotext
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadband.commands import ArgumentParser, say, show
from loadband.document import DocumentError, read_text
from loadband.exits import Exit
from loadband.rebalance import access, recording, scenario, scenario_file, shipped
from loadband.rebalance.events import Part
from loadband.rebalance.report import document
from loadband.rebalance.run import MonitoringError
from loadband.rebalance.scenario import Addition, Raise, Scenario, Slices
from loadband.sources import SettingsError

HEIGHT = 14
"""Rows of the plot."""
MOST_LINES = 6
"""Hosts that are plotted each by a line of its own; of more only the hottest and the coolest."""
SCHEMAS = {"scenario": scenario_file.schema, "recording": recording.schema, "result": document.schema}
"""What makes the JSON Schema, by the word that asks for it."""
COLOURS = ("red", "cyan", "yellow", "green", "magenta", "blue")


def load(name: str) -> Scenario:
    """A scenario by the path of its file, or by the name of a shipped one.

    Raises:
        DocumentError: it isn't valid, or can't be read.
    """
    path = Path(name)
    if path.suffix != ".toml" and not path.exists():
        path = shipped.path("scenarios") / f"{name}.toml"
        if not path.exists():
            names = ", ".join(sorted(file.stem for file in shipped.path("scenarios").glob("*.toml")))
            raise DocumentError([f"{name}: neither a file that ends in .toml nor a shipped scenario: {names}"])
    try:
        document = read_text(path, scenario_file.MAX_BYTES)
    except OSError as error:
        raise DocumentError([f"{path}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise DocumentError([f"{path}: cannot be read: {error}"]) from error
    return scenario_file.parse(document, str(path))


def check(words: Sequence[str]) -> int:
    """Check a scenario and print its plan; returns the exit code.

    Args:
        words: those after `loadband rebalance check`.
    """
    asked = check_parser().parse_args(words)
    try:
        loaded = load(asked.scenario)
        servers = _in_force(loaded, access.named(asked))
    except (DocumentError, SettingsError) as error:
        say(str(error))
        return Exit.BAD_INPUT
    except MonitoringError as error:
        say(f"loadband: {error}")
        return Exit.BAD_INPUT
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=(sys.stdout and sys.stdout.isatty()) or None)
    draw(loaded, console)
    if servers:
        facts = Table.grid(padding=(0, 2))
        access.add_rows(facts, servers)
        console.print(facts)
    return show(drawn.getvalue())


def _in_force(loaded: Scenario, servers: access.Access | None) -> Sequence[Part]:
    """What is in force in servers that are there already; none without servers.

    Raises:
        MonitoringError: it doesn't suit the scenario.
    """
    if servers is None:
        return []
    from loadband.rebalance.existing import Existing  # noqa: PLC0415 - nothing else here asks anybody

    monitoring = Existing(servers, loaded.hosts, loaded.plan())
    try:
        return monitoring.describe()
    finally:
        monitoring.close()


def check_parser() -> ArgumentParser:
    """The arguments of `loadband rebalance check`."""
    parser = ArgumentParser(
        prog="loadband rebalance check",
        description="Checks a scenario and shows what would be made, watched and expected. Nothing is touched.",
        epilog="Exit codes: 0 the scenario is valid, 2 it is not. docs/rebalance/scenarios.md has the format.",
    )
    parser.add_argument("scenario", metavar="SCENARIO", help="A file, or the name of a shipped scenario: hot-host.")
    access.add_options(parser, "Does the scenario agree with what is in force there? Default: not asked.")
    return parser


def schema(words: Sequence[str]) -> int:
    """Print a JSON Schema; returns the exit code.

    Args:
        words: those after `loadband rebalance schema`.
    """
    made = SCHEMAS[schema_parser().parse_args(words).what]()
    return show(json.dumps(made, indent=2) + "\n")


def schema_parser() -> ArgumentParser:
    """The arguments of `loadband rebalance schema`."""
    parser = ArgumentParser(
        prog="loadband rebalance schema",
        description="Prints the JSON Schema of a scenario (as an editor of TOML wants it), of a recording's line, or "
        "of a report's result.json.",
    )
    parser.add_argument("what", choices=list(SCHEMAS), help="Which one.")
    return parser


def draw(loaded: Scenario, console: Console) -> None:
    """Print what a scenario does: a sentence, the hosts, the slices, the overload, and what is expected."""
    console.print(": ".join(filter(None, (loaded.name, loaded.proves))), highlight=False, markup=False)
    console.print()
    console.print(_slices(loaded))
    console.print()
    console.print(_rules(loaded))
    console.print()
    for remark in scenario.remarks(loaded):
        console.print(Text(f"Note: {remark}.", style="yellow"))
        console.print()
    lines = _lines(loaded)
    legend = Text("Utilization asked of each host if nothing moves, percent, from the begin of the overload (s):")
    for name, colour in zip(lines, COLOURS, strict=False):
        legend.append(f" {name}", style=colour)
    console.print(legend)
    console.print(_plot(loaded, lines, console.width))


def _slices(loaded: Scenario) -> Table:
    table = _table("when", "slices", "where", "what each burns")
    for group in loaded.slices:
        table.add_row("from the start", f"{group.count} {group.name}", _where(group.on), _each(group))
    for part in loaded.overload:
        when = f"overload + {part.after:g} s"
        what = _each(part)
        if part.over:
            what += f", growing to it for {part.over:g} s"
        if part.lasts is not None:
            what += f", for {part.lasts:g} s"
        slices = f"{part.count} more, {part.name}" if isinstance(part, Addition) else f"each {part.name}"
        table.add_row(when, slices, _where(part.on), what)
    return table


def _each(slices: Slices | Addition | Raise) -> str:
    """What each of some slices burns."""
    fixed = not isinstance(slices, Raise) and not slices.movable
    return f"{100 * slices.size:.4g} %{', not to be moved' if fixed else ''}"


def _where(on: str) -> str:
    return {"hot": "each hot host", "cool": "each cool host", "each": "each host"}.get(on, on)


def _rules(loaded: Scenario) -> Table:
    table = _table("what", "value")
    hot = ", ".join(loaded.hot_hosts) or "none"
    rows = [
        ("expected", loaded.expect),
        ("hosts", f"{len(loaded.hosts)}; overloaded: {hot}"),
        ("phases", f"baseline {loaded.baseline:g} s, watch {loaded.watch:g} s, recovery up to {loaded.recovery:g} s"),
        ("alert", f"{loaded.alert}; rules {loaded.faster:g} times faster than shipped"),
        ("hot", f"from {100 * loaded.hot:g} %, mean of {loaded.plan().window:g} s"),
        ("balance", f"{loaded.imbalance} <= {loaded.theta:g} for {loaded.hold:g} s"),
        ("moving", _moving(loaded)),
        ("rebalancer", f"{loaded.rebalancer}, unless the command line names another"),
        *((f"limit: {name}", limit) for name, limit in loaded.limits.items()),
    ]
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _moving(loaded: Scenario) -> str:
    """What moving slices could do."""
    seen = scenario.outlook(loaded)
    measure, worst = loaded.imbalance, f"{seen.before:.3g} at {seen.after:g} s"
    if not seen.before > loaded.theta:
        return f"{measure} {worst} at worst: nothing to balance"
    if not seen.moves:
        return f"no single move lowers the {measure}, {worst}"
    moved = Counter(name.rsplit("-", 2)[0] for name, _ in seen.moves)
    groups = ", ".join(f"{count} {name}" for name, count in moved.items())
    moves = "1 move lowers" if len(seen.moves) == 1 else f"{len(seen.moves)} moves lower"
    return f"{moves} the {measure}, {worst}, to {seen.left:.3g}: {groups}"


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _lines(loaded: Scenario) -> dict[str, list[float]]:
    """What is plotted, by name: ratios, one for each entry of `asked`."""
    course = scenario.asked(loaded)
    if len(loaded.hosts) <= MOST_LINES:
        return {host: [sums[host] for _, sums in course] for host in loaded.hosts}
    return {
        "hottest": [max(sums.values()) for _, sums in course],
        "coolest": [min(sums.values()) for _, sums in course],
    }


def _plot(loaded: Scenario, lines: Mapping[str, Sequence[float]], width: int) -> Text:
    course, end = scenario.asked(loaded), loaded.watch
    starts = [after for after, _ in course]
    plotext.terminal.limit(width=False, height=False)
    figure = plotext.figure
    figure.clear.all()
    figure.plot_size(width, HEIGHT)
    figure.ruler("y").lim(0, 100).ticks([0, 25, 50, 75, 100])
    figure.ruler("x").lim(min(starts), end)
    hot = figure.signal(
        [min(starts), end], [100 * loaded.hot] * 2, marker=plotext.marker(".", pixel=plotext.pixel("gray"))
    )
    hot.lines()
    figure.draw(hot)
    for values, colour in zip(lines.values(), COLOURS, strict=False):
        # A staircase: each value stands until the next one begins.
        times = [at for pair in zip(starts, [*starts[1:], end], strict=True) for at in pair]
        heights = [100 * value for value in values for _ in range(2)]
        line = figure.signal(times, heights, marker=plotext.marker("braille", pixel=plotext.pixel(colour)))
        line.lines()
        figure.draw(line)
    return Text.from_ansi(figure.build().string().removesuffix("\n"), no_wrap=True, overflow="crop")
