"""The live view in a terminal: utilization and band over the last minute, and the figures around them."""

from __future__ import annotations

import math
import textwrap
from collections import deque
from contextlib import suppress
from datetime import timedelta
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple, TextIO

import plotext
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loadband import output
from loadband.quantities import State

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import RenderableType

    from loadband.quantities import Band, Setpoint, Snapshot

SPAN = 60.0
"""Seconds that the graph shows."""
FRAME = 0.5
"""Seconds between two frames, and between two points of the graph."""
MARGIN = 0.1
"""The least margin, a ratio, that the graph leaves above and below the band."""
BREAK = 3.0
"""Seconds without a point after which the curve is broken."""
ROOMY = 64
"""Number of columns from which two figures with their names fit side by side."""
AIRY = 20
"""Number of rows from which there is room for blank lines."""
LOW = 8
"""Rows of the graph below which the band needs all of them."""
NOTE = 20.0
"""Seconds for which a message replaces the address of the metrics."""

COLOUR = {
    State.FAILSAFE: "red",
    State.EXPIRED: "dim",
    State.LATCHED: "blue",
    State.YIELDING: "magenta",
    State.SATURATED: "yellow",
    State.HOLDING: "green",
    State.SETTLING: "cyan",
}
# Each mode has a glyph of its own, so that the bar can be read without colour.
MODES = (("own", "█", "cyan"), ("other", "▓", "blue"), ("steal", "▒", "magenta"), ("idle", "░", "dim"))


# Without a theme plotext paints a white background; a pixel given to a ruler or an axis takes it over.
plotext.add_theme("loadband", text=plotext.pixel(style="dim"))


class Point(NamedTuple):
    """One point of the graph."""

    at: float
    """Monotonic time, seconds."""
    utilization: float
    """A ratio."""
    band: Band | None = None
    """The band at that time; None if it was the current one."""


def render(
    snapshot: Snapshot | None, history: Sequence[Point], size: tuple[int, int], address: str | None, note: str = ""
) -> RenderableType:
    """Draw one frame.

    What a small terminal has no room for is left out: first the air, then the ends of lines, then the graph.

    Args:
        snapshot: what to show; None before the first cycle.
        history: utilization, oldest first; what is older than `SPAN` is left out.
        size: columns and rows of the terminal.
        address: the URL of the metrics; None when they are off.
        note: a message to show in its place.
    """
    columns, rows = size
    roomy, airy = columns >= ROOMY, rows >= AIRY
    margin = 2 if roomy else 1
    width = max(columns - 2 * margin, 1)
    air = [Text()] if airy else []

    above = [*air, _headline(snapshot, width), *_sentence(snapshot, width)]
    below = [*air, *_shares(snapshot, width), *air]
    figures = _figures(snapshot, brief=not (roomy or airy))
    pairs = 2 if roomy else 1
    height = rows - len(above) - len(below) - math.ceil(len(figures) / pairs) - 1 - len(air)
    graph = [_graph(snapshot, history, width, height)] if height >= LOW // 2 else []
    frame = Group(*above, *graph, *below, _grid(figures, pairs), _footer(address, note, width))
    return Padding(frame, (0, margin))


def _headline(snapshot: Snapshot | None, width: int) -> Text:
    """The state, the utilization and the band at the left; the time at the right, if there is room."""
    if snapshot is None:
        return Text.assemble((" starting ", "reverse"), no_wrap=True, overflow="ellipsis")
    state = snapshot.verdict.state
    now = "no reading" if snapshot.utilization is None else f"{100 * snapshot.utilization:.1f} %"
    left = Text.assemble(
        (f" {state} ", f"bold reverse {COLOUR[state]}"),
        "  ",
        (now, "bold"),
        ("  band " if snapshot.setpoint.band else "  effort ", "dim"),
        _asked(snapshot.setpoint),
        no_wrap=True,
        overflow="ellipsis",
    )
    time = _time(snapshot)
    return _justify(left, time, width)


def _asked(setpoint: Setpoint) -> str:
    """The setpoint; a band that moves always has the same number of digits."""
    if setpoint.band is None or setpoint.progress is None:
        return str(setpoint)
    return f"{100 * setpoint.band.low:.1f}..{100 * setpoint.band.high:.1f} %"


def _time(snapshot: Snapshot) -> str:
    """How long it has run and, with a deadline, how long it will: `0:00:41, 0:01:19 left`."""
    elapsed = timedelta(seconds=int(snapshot.at - snapshot.started))
    if snapshot.deadline is None:
        return f"{elapsed}"
    return f"{elapsed}, {timedelta(seconds=max(0, math.ceil(snapshot.deadline - snapshot.timestamp)))} left"


def _sentence(snapshot: Snapshot | None, width: int) -> list[Text]:
    """The verdict's sentence, always two lines, so that nothing below it moves."""
    why = snapshot.sentence if snapshot else "waiting for the first cycle"
    lines = textwrap.wrap(why, max(width, 10), max_lines=2, placeholder=" …")
    return [Text(line, no_wrap=True, overflow="ellipsis") for line in (*lines, "", "")[:2]]


def _shares(snapshot: Snapshot | None, width: int) -> list[Text]:
    """A bar of own, other, steal and idle, and its legend with the figures."""
    if snapshot is None or snapshot.reading is None:
        return [Text("░" * width, "dim"), Text("no reading", "dim", no_wrap=True)]
    ratios = [getattr(snapshot.reading, mode) for mode, _, _ in MODES]
    edges = [round(width * min(max(edge, 0.0), 1.0)) for edge in accumulate(ratios, initial=0.0)]
    cells = [max(0, end - start) for start, end in pairwise(edges)]
    bar = Text.assemble(
        *((glyph * count, colour) for (_, glyph, colour), count in zip(MODES, cells, strict=True)),
        no_wrap=True,
        overflow="crop",
    )
    legend = _legend(ratios, "{} {:z.1f} %", "   ")
    return [bar, legend if legend.cell_len <= width else _legend(ratios, "{} {:z.0f}", " ")]


def _legend(ratios: Iterable[float], form: str, gap: str) -> Text:
    items = (
        Text.assemble((glyph, colour), " ", form.format(mode, 100 * ratio))
        for (mode, glyph, colour), ratio in zip(MODES, ratios, strict=True)
    )
    legend = Text(gap).join(items)
    legend.no_wrap, legend.overflow = True, "ellipsis"
    return legend


def _figures(snapshot: Snapshot | None, *, brief: bool) -> list[tuple[str, str]]:
    """The other figures, as pairs of name and text; the brief list is for terminals that are narrow and low."""
    if snapshot is None:
        return []
    command, counts, reading = snapshot.command, snapshot.counts, snapshot.reading
    effort = f"{command.effort:.2f} of {_cpus(reading.reach)}" if reading else f"{command.effort:.2f} CPUs"
    scope = f"{snapshot.scope}, {_cpus(reading.capacity)}" if reading else f"{snapshot.scope}"
    workers = f"{command.workers}, duty {100 * command.duty:.0f} %"
    in_band, since = "not yet" if snapshot.setpoint.band else "no band", ""
    if counts.in_band_seconds > 0:
        in_band = f"{100 * counts.in_band_seconds / counts.observed_since_entry:.1f} %"
        since = f" of {counts.observed_since_entry:.0f} s"
    if brief:
        return [("effort", f"{effort.removesuffix(' CPUs')}, in band {in_band}")]
    figures = [("effort", effort), ("in band", in_band + since), ("workers", workers), ("scope", scope)]
    if progress := snapshot.setpoint.progress:
        figures += [("profile", progress.profile), ("phase", progress.phase)]
    return figures


def _footer(address: str | None, note: str, width: int) -> Text:
    """The address of the metrics and how to end, as far as there is room; or a message."""
    if note:
        return Text(note, "yellow", no_wrap=True, overflow="ellipsis")
    footer = Text.assemble(("metrics  ", "dim"), address or "off", no_wrap=True, overflow="ellipsis")
    if address and footer.cell_len > width:
        footer = Text(address, no_wrap=True, overflow="ellipsis")
    return _justify(footer, "Ctrl-C ends", width)


def _justify(left: Text, right: str, width: int) -> Text:
    """Put a remark at the right end of a line if there is room for it."""
    room = width - left.cell_len - len(right)
    return left.append(" " * room + right, "dim") if room > 1 else left


def _cpus(amount: float) -> str:
    return "1 CPU" if amount == 1 else f"{amount:.4g} CPUs"


def _grid(figures: Sequence[tuple[str, str]], pairs: int) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for _ in range(pairs):
        grid.add_column(style="dim", no_wrap=True, min_width=7)
        grid.add_column(no_wrap=True, overflow="ellipsis", min_width=20)
    for start in range(0, len(figures), pairs):
        grid.add_row(*(cell for pair in figures[start : start + pairs] for cell in pair))
    return grid


def _graph(snapshot: Snapshot | None, history: Sequence[Point], width: int, height: int) -> Text:
    """Plot the last minute, green inside the band; `height` rows."""
    if snapshot is None:
        return Text("\n" * (height - 1))
    band, now = snapshot.setpoint.band, snapshot.at
    points = [point for point in history if now - point.at <= SPAN]
    # A low graph has no rows for what is far from the band: there the curve runs along the border.
    bottom, top = _limits(band, points if height >= LOW else ())

    plotext.terminal.limit(width=False, height=False)
    figure = plotext.figure
    figure.clear.all()
    figure.theme("loadband")
    figure.plot_size(width, height)
    figure.axes(active=False)
    figure.axes(active=True, axis="y", side="left")
    moves = any(point.band not in (None, band) for point in points)
    edges = [100 * band.low, 100 * band.high] if band else []
    ticks = [bottom, *edges, top]
    figure.ruler("y").lim(bottom, top).ticks(ticks, [f"{tick:.0f}" if moves else f"{tick:g}" for tick in ticks])
    figure.ruler("x").lim(-SPAN, 0)
    if height >= LOW:
        figure.ruler("x").ticks([-60, -45, -30, -15, 0], ["-60 s", "-45 s", "-30 s", "-15 s", "now"])
    else:
        figure.ruler("x").frequency(0)
    if moves:
        _draw_edges(points, now)
    else:
        for edge in edges:
            figure.draw(figure.segment((-SPAN, 0), (edge, edge), marker=plotext.line(pixel=plotext.pixel("green"))))
    if points:
        inside = plotext.marker("braille", pixel=plotext.pixel(foreground="green+"))
        outside = plotext.marker("braille", pixel=plotext.pixel(foreground="orange"))
        curve = figure.signal(
            [point.at - now for point in points],
            [min(max(100 * point.utilization, bottom), top) for point in points],
            marker=[inside if _held(point, band) else outside for point in points],
        )
        curve.lines()
        pause = max(BREAK, 2 * snapshot.interval)
        for index, (before, after) in enumerate(pairwise(points), start=1):
            if after.at - before.at > pause:
                curve.line(index, active=False)
        figure.draw(curve)
    return Text.from_ansi(figure.build().string().removesuffix("\n"), no_wrap=True, overflow="crop")


def _held(point: Point, band: Band | None) -> bool:
    """Whether a point is in its own band, else in the current one; true without any."""
    held = point.band or band
    return held is None or point.utilization in held


def _draw_edges(points: Sequence[Point], now: float) -> None:
    """Draw the edges of a band that has moved."""
    marker = plotext.marker("braille", pixel=plotext.pixel("green"))
    at = [point.at - now for point in points if point.band]
    for edge in ("low", "high"):
        edges = [100 * getattr(point.band, edge) for point in points if point.band]
        curve = plotext.figure.signal(at, edges, marker=marker)
        curve.lines()
        plotext.figure.draw(curve)


def _limits(band: Band | None, points: Iterable[Point]) -> tuple[int, int]:
    """The graph's limits in percent: band, margins and all points, widened to tens so that they rarely move."""
    if band is None:
        return 0, 100
    points = list(points)
    moved = [point.band for point in points if point.band]
    values = [point.utilization for point in points]
    values += [edge for each in moved for edge in (each.low, each.high)]
    low, high = min([band.low - MARGIN, *values]), max([band.high + MARGIN, *values])
    # Rounding first: 0.7 + 0.1 is a hair below 0.8, and 0.6 + 0.2 above it.
    bottom, top = math.floor(round(10 * low, 6)), math.ceil(round(10 * high, 6))
    return max(0, 10 * bottom), min(100, 10 * top)


def run(source: Callable[[], Snapshot | None], stop: threading.Event, address: str | None, file: TextIO) -> None:
    """Show the view until `stop` is set, then print the summary; runs in a thread of its own: a terminal may block it.

    It draws on the alternate screen, so a resize leaves no traces, and afterwards the terminal is as before, with one
    more line. A terminal that goes away isn't an error.

    Args:
        source: returns the latest snapshot, None before the first.
        stop: ends the view, within `FRAME` seconds.
        address: the URL of the metrics; None when they are off.
        file: the terminal; see `output.stdout`.
    """
    history: deque[Point] = deque(maxlen=round(SPAN / FRAME) + 1)
    console = Console(file=file)
    live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    snapshot = None
    note, note_frames = "", 0.0
    with output.inbox() as inbox, suppress(OSError):
        with live:
            stopping = False
            while not stopping:
                snapshot = source()
                if snapshot and snapshot.utilization is not None and not (history and history[-1].at == snapshot.at):
                    history.append(Point(snapshot.at, snapshot.utilization, snapshot.setpoint.judged))
                note_frames -= 1
                if said := [record.getMessage().partition("\n")[0] for record in inbox.take()]:
                    note, note_frames = f"{said[0]}{f' (and {len(said) - 1} more)' if said[1:] else ''}", NOTE / FRAME
                shown = note if note_frames > 0 else ""
                live.update(render(snapshot, history, console.size, address, shown), refresh=True)
                stopping = stop.wait(FRAME)
        snapshot = source() or snapshot
        if snapshot:
            file.write(output.summary(snapshot) + "\n")
            file.flush()
