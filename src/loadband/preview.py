"""`loadband profile FILE`: what a profile will do, as a table and a plot."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import plotext
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadband.commands import ArgumentParser, say, show
from loadband.document import DocumentError
from loadband.exits import Exit
from loadband.playback import ProfileFile
from loadband.profile import Profile, curve

HEIGHT = 16
"""Height of the plot, rows."""
TICKS = 5


def main(words: Sequence[str]) -> int:
    """Run with the words after `loadband profile`; the exit code is OK for a good profile, BAD_INPUT for a bad one."""
    try:
        profile = ProfileFile(parser().parse_args(words).file).load()
    except DocumentError as error:
        say(str(error))
        return Exit.BAD_INPUT
    drawn = io.StringIO()
    # None leaves it to rich, which has variables that ask for colour without a terminal.
    draw(profile, Console(file=drawn, force_terminal=(sys.stdout and sys.stdout.isatty()) or None))
    return show(drawn.getvalue())


def parser() -> ArgumentParser:
    """The arguments of `loadband profile`."""
    arguments = ArgumentParser(
        prog="loadband profile",
        description="Checks a profile and shows what it does, without burning. docs/profiles.md describes the format.",
        epilog="Exit codes: 0 the profile is good, 2 it isn't.",
    )
    arguments.add_argument("file", type=Path, metavar="FILE", help="The profile, as for LOADBAND_PROFILE.")
    return arguments


def draw(profile: Profile, console: Console) -> None:
    """Print a table of the phases, and one pass as a plot of the band's edges."""
    console.print(_headline(profile), highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, side in (("begins", "right"), ("lasts", "right"), ("phase", "left"), ("kind", "left")):
        table.add_column(title, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("target")
    table.add_column("width", justify="right", no_wrap=True)
    for begins, phase in zip(profile.begins, profile.phases, strict=True):
        cells = (_time(begins), _time(phase.seconds), phase.name, phase.kind, str(phase.shape))
        table.add_row(*map(Text, cells), f"{100 * phase.width:g}")
    console.print(table)
    console.print(_plot(profile, console.width))


def _headline(profile: Profile) -> str:
    begin = ""
    if profile.start is not None:
        begin = f", from {datetime.fromtimestamp(profile.start, UTC).isoformat().replace('+00:00', 'Z')}"
    end = "begins again" if profile.loop else "keeps its last band"
    return f"{profile.name}: {_time(profile.seconds)}{begin}, then {end}"


def _plot(profile: Profile, width: int) -> Text:
    plotext.terminal.limit(width=False, height=False)
    figure = plotext.figure
    figure.clear.all()
    figure.plot_size(width, HEIGHT)
    figure.ruler("y").lim(0, 100).ticks([0, 25, 50, 75, 100])
    figure.ruler("x").lim(0, profile.seconds)
    ticks = [profile.seconds * index / (TICKS - 1) for index in range(TICKS)]
    figure.ruler("x").ticks(ticks, [_time(tick) for tick in ticks])
    points = list(curve(profile, 4 * width))
    for edge in ("low", "high"):
        line = figure.signal(
            [seconds for seconds, _ in points],
            [100 * getattr(band, edge) for _, band in points],
            marker=plotext.marker("braille", pixel=plotext.pixel("green")),
        )
        line.lines()
        figure.draw(line)
    return Text.from_ansi(figure.build().string().removesuffix("\n"), no_wrap=True, overflow="crop")


def _time(seconds: float) -> str:
    """Like `0:01:30`, or `2 days, 3:00:00`."""
    return str(timedelta(seconds=round(seconds, 1))).removesuffix("00000")
