from __future__ import annotations

import io
import logging
import os
import pty
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.screen import Screen
from snapshots import EPOCH, reading, snapshot

from loadband import view
from loadband.quantities import Band, Command, Counts, Progress, Setpoint, Snapshot, State, Verdict
from loadband.view import Point

ADDRESS = "http://127.0.0.1:9999/metrics"
SIZES = [(80, 24), (120, 40), (40, 12), (64, 16), (200, 60)]
FULL = [Point(at=41 - 60 + i / 2, utilization=0.65 + 0.01 * (i % 3)) for i in range(121)]


def draw(
    shown: Snapshot | None,
    history: list[Point],
    size: tuple[int, int],
    address: str | None = ADDRESS,
    *,
    colour: bool = False,
) -> list[str]:
    """The rows that a terminal of that size shows."""
    console = Console(
        file=io.StringIO(),
        width=size[0],
        height=size[1],
        force_terminal=colour,
        color_system="standard" if colour else None,
    )
    with console.capture() as capture:
        console.print(Screen(view.render(shown, history, size, address)), end="")
    return capture.get().split("\n")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("state", State)
def test_a_frame_says_state_sentence_utilization_band_and_address(state: State, size: tuple[int, int]) -> None:
    text = "\n".join(draw(snapshot(verdict=Verdict(state, "because it is so")), FULL, size))
    for said in (f" {state} ", "because it is so", "65.0 %", "60..70 %", ADDRESS, "1.20 of 2", "99.2 %"):
        assert said in text


@pytest.mark.parametrize("history", [[], FULL[-1:], FULL], ids=["empty", "one point", "full"])
@pytest.mark.parametrize("size", SIZES)
def test_the_graph_has_the_edges_of_the_band(size: tuple[int, int], history: list[Point]) -> None:
    rows = draw(snapshot(setpoint=Setpoint(Band(0.4, 0.55))), history, size)
    for edge in ("40", "55"):
        row = next(row for row in rows if row.strip().startswith(f"{edge}┤"))
        assert row.count("─") > size[0] / 2


def test_the_curve_is_in_the_band_where_utilization_is() -> None:
    rows = draw(snapshot(), FULL, (80, 24))
    high = next(i for i, row in enumerate(rows) if "70┤" in row)
    low = next(i for i, row in enumerate(rows) if "60┤" in row)
    braille = [i for i, row in enumerate(rows) if any("\u2801" <= char <= "\u28ff" for char in row)]
    assert braille
    assert high < min(braille) <= max(braille) < low


def test_the_curve_is_green_inside_the_band_and_yellow_outside() -> None:
    inside = "\n".join(draw(snapshot(), FULL, (80, 24), colour=True))
    outside = "\n".join(draw(snapshot(), [Point(p.at, 0.9) for p in FULL], (80, 24), colour=True))
    assert "\x1b[92m" in inside
    assert "\x1b[33m" not in inside
    assert "\x1b[33m" in outside


def test_the_curve_is_broken_where_nothing_was_read() -> None:
    def columns(history: list[Point]) -> int:
        rows = draw(snapshot(), history, (80, 24))
        return sum(any("\u2801" <= row[i] <= "\u28ff" for row in rows) for i in range(80))

    # A line across a gap of 30 s would fill half the columns.
    assert columns([p for p in FULL if not 41 - 45 < p.at < 41 - 15]) < 0.6 * columns(FULL)


def test_points_older_than_a_minute_are_left_out() -> None:
    old = [Point(at=-30.0, utilization=0.05), *FULL]
    assert draw(snapshot(), old, (80, 24)) == draw(snapshot(), FULL, (80, 24))


MOVED = [Point(p.at, p.utilization - 0.3 + i / 400, Band(0.3 + i / 400, 0.4 + i / 400)) for i, p in enumerate(FULL)]
MOVING = snapshot(
    setpoint=Setpoint(Band(0.6, 0.7), "profile", progress=Progress("working day", "noon", ("morning", "noon")))
)


def test_a_band_that_has_moved_is_drawn_where_it_was() -> None:
    rows = draw(MOVING, MOVED, (80, 24))
    graph = [row for row in rows if any("\u2801" <= char <= "\u28ff" for char in row)]
    columns = [[bool("\u2801" <= row[i] <= "\u28ff") for row in graph] for i in range(10, 77)]
    # It rises: its top is high at the right and its bottom low at the left, with the curve between them.
    assert not columns[0][0]
    assert columns[0][-1]
    assert columns[-1][0]
    assert not columns[-1][-1]
    assert not any("─" * 20 in row for row in rows)


def test_points_are_judged_by_the_band_of_their_time() -> None:
    assert "\x1b[33m" not in "\n".join(draw(MOVING, MOVED, (80, 24), colour=True))
    late = [Point(p.at, p.utilization + 0.2, p.band) for p in MOVED]
    assert "\x1b[33m" in "\n".join(draw(MOVING, late, (80, 24), colour=True))


def test_a_profile_and_its_phase_are_shown() -> None:
    text = "\n".join(draw(MOVING, MOVED, (80, 24)))
    for said in ("band 60.0..70.0 %", "working day", "noon"):
        assert said in text
    assert "profile" not in "\n".join(draw(snapshot(), FULL, (80, 24)))


def test_a_message_stands_in_the_place_of_the_address() -> None:
    console = Console(file=io.StringIO(), width=80, height=24)
    with console.capture() as capture:
        console.print(Screen(view.render(snapshot(), FULL, (80, 24), ADDRESS, "it is so")), end="")
    assert "it is so" in capture.get()
    assert ADDRESS not in capture.get()


def test_what_others_say_while_it_runs_is_shown_and_written_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    source, stop = Source(), threading.Event()

    def saying() -> Snapshot:
        if source.looks == 0:
            for number in range(3):
                logging.getLogger("loadband.playback").error("mistake %d", number)
        return source()

    with terminal() as (file, seen):
        thread = threading.Thread(target=view.run, args=(saying, stop, ADDRESS, file))
        thread.start()
        assert source.drawn.wait(timeout=10)
        stop.set()
        thread.join(timeout=10)
    assert b"mistake 0 (and 2 more)" in b"".join(seen)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("size", [*SIZES, (24, 6), (10, 3), (1, 1), (300, 5)])
@pytest.mark.parametrize("history", [[], FULL], ids=["empty", "full"])
def test_a_frame_fits_its_terminal(size: tuple[int, int], history: list[Point]) -> None:
    for shown in (snapshot(), snapshot(reading=None, utilization=None, counts=Counts()), MOVING, None):
        rows = draw(shown, MOVED if shown is MOVING and history else history, size)
        assert len(rows) == size[1]
        assert {len(row) for row in rows} == {size[0]}


@pytest.mark.parametrize("size", SIZES)
def test_the_last_row_is_used(size: tuple[int, int]) -> None:
    rows = draw(snapshot(), FULL, size)
    used = [i for i, row in enumerate(rows) if row.strip()]
    assert size[1] - used[-1] <= 2


def test_before_the_first_cycle_it_says_that_it_waits() -> None:
    text = "\n".join(draw(None, [], (80, 24)))
    assert "starting" in text
    assert ADDRESS in text


def test_without_a_reading_it_says_so_and_shows_no_shares() -> None:
    blind = snapshot(reading=None, utilization=None, verdict=Verdict(State.FAILSAFE, "/proc/stat is unreadable"))
    text = "\n".join(draw(blind, [], (80, 24)))
    assert "no reading" in text
    assert "own" not in text


def test_shares_are_drawn_in_proportion() -> None:
    shown = snapshot(reading=reading(own=0.5, other=0.25, steal=0.125, idle=0.125))
    (bar,) = (row.strip() for row in draw(shown, [], (84, 24)) if "██" in row)
    assert bar == "█" * 40 + "▓" * 20 + "▒" * 10 + "░" * 10


@pytest.mark.parametrize(("deadline", "said"), [(None, "0:00:41"), (EPOCH + 120, "0:00:41, 0:01:19 left")])
def test_time_is_elapsed_and_with_a_deadline_left(deadline: float | None, said: str) -> None:
    assert any(row.rstrip().endswith(said) for row in draw(snapshot(deadline=deadline), [], (80, 24)))


def test_effort_is_of_reach_and_capacity_is_of_the_scope() -> None:
    shown = snapshot(reading=reading(capacity=64.0, reach=1.0), command=Command(workers=1, effort=0.5))
    text = "\n".join(draw(shown, [], (80, 24)))
    for said in ("0.50 of 1 CPU ", "host, 64 CPUs", "1, duty 50 %"):
        assert said in text


def test_without_metrics_it_says_off() -> None:
    assert any("metrics  off" in row for row in draw(snapshot(), [], (80, 24), address=None))


def test_a_long_sentence_takes_two_lines_and_moves_nothing() -> None:
    long = draw(snapshot(verdict=Verdict(State.SATURATED, "word " * 60)), FULL, (80, 24))
    assert long[4:] == draw(snapshot(), FULL, (80, 24))[4:]
    assert "…" in long[3]


@given(
    low=st.integers(0, 99),
    width=st.integers(1, 100),
    utilizations=st.lists(st.floats(0, 1), max_size=5),
)
def test_the_limits_hold_the_band_and_every_point(low: int, width: int, utilizations: list[float]) -> None:
    band = Band(low / 100, min(low + width, 100) / 100)
    bottom, top = view._limits(band, [Point(0.0, u) for u in utilizations])
    assert 0 <= bottom <= 100 * min([band.low, *utilizations]) + 1e-6
    assert 100 >= top >= 100 * max([band.high, *utilizations]) - 1e-6
    assert bottom % 10 == top % 10 == 0
    assert bottom < top


@contextmanager
def terminal() -> Iterator[tuple[io.TextIOWrapper, list[bytes]]]:
    """A pseudo-terminal, and what was written to it; it is read until everybody has closed it."""
    ours, theirs = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(ours, 65536):
                seen.append(chunk)
        except OSError:  # EIO: the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(theirs, "w") as file:
            yield file, seen
    finally:
        reader.join(timeout=10)
        os.close(ours)


class Source:
    """Snapshots, and the event that the first of them has been drawn: the view has come back for another."""

    def __init__(self) -> None:
        self.looks = 0
        self.drawn = threading.Event()

    def __call__(self) -> Snapshot:
        self.looks += 1
        if self.looks > 1:
            self.drawn.set()
        return snapshot(at=41.0 + self.looks)


def test_the_loop_draws_stops_at_once_and_leaves_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    source, stop = Source(), threading.Event()
    with terminal() as (file, seen):
        thread = threading.Thread(target=view.run, args=(source, stop, ADDRESS, file))
        thread.start()
        assert source.drawn.wait(timeout=10)
        before = time.monotonic()
        stop.set()
        thread.join(timeout=10)
        took = time.monotonic() - before
        assert not thread.is_alive()
    shown, after = b"".join(seen).decode().split("\x1b[?1049l")
    assert "\x1b[?1049h" in shown
    assert "60..70 %" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert after.startswith("held 60..70 %")
    assert took < 4 * view.FRAME


def test_a_terminal_that_goes_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    source, stop = Source(), threading.Event()
    ours, theirs = pty.openpty()
    with io.TextIOWrapper(io.FileIO(theirs, "w"), write_through=True) as file:
        thread = threading.Thread(target=view.run, args=(source, stop, ADDRESS, file))
        thread.start()  # an exception in it would be a warning of pytest's, and so an error
        assert os.read(ours, 1)
        os.close(ours)
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_without_any_snapshot_nothing_is_summed_up() -> None:
    stop = threading.Event()
    stop.set()
    file = io.StringIO()
    view.run(lambda: None, stop, ADDRESS, file)
    assert file.getvalue() == ""
