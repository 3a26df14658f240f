"""Names, values, stories and curves: what is shown is exact, and nothing in a name hides or misleads."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import result

from loadband.rebalance.figures import Better, Definition, Figure
from loadband.rebalance.report import charts, words
from loadband.rebalance.report.picture import AlertSpan, Line, MoveArrow, Picture
from loadband.rebalance.report.story import description, story
from loadband.rebalance.report.terminal import timeline

PICTURE = result("good").repeats[0].picture
ARROW = PICTURE.moves[0]


def drawn(picture: Picture, size: charts.Size = charts.WIDE) -> ET.Element:
    return ET.fromstring(charts.timeline(picture, size, "x", ("title", "text")))


def texts(picture: Picture, size: charts.Size = charts.WIDE) -> list[str]:
    return [element.text or "" for element in drawn(picture, size).iter("{http://www.w3.org/2000/svg}text")]


# Names


@given(st.text(st.characters()))
def test_no_name_can_hide_break_or_turn_anything(name: str) -> None:
    shown = words.shown(name)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\ud800-\udfff]", shown)
    shown.encode()
    assert words.shown(shown) == shown


@given(st.lists(st.text(st.characters(), max_size=40), unique=True, max_size=30), st.integers(6, 20))
def test_short_labels_are_short_and_no_two_are_alike(names: list[str], limit: int) -> None:
    labels = words.labels(names, limit)
    assert list(labels) == names
    assert len(set(labels.values())) == len(names)
    assert all(len(label) <= limit for label in labels.values())


def test_a_short_name_keeps_begin_and_end() -> None:
    assert words.short("worker-pool-a-17.example.org", 12) == "worker-p…org"
    assert words.short("host", 12) == "host"


def test_numbers_in_names_are_sorted_as_people_do() -> None:
    assert sorted(["host-10", "host-9", "10", "host"], key=words.natural) == ["10", "host", "host-9", "host-10"]


# Values


def figure(value: float | None, unit: str = "s", **more: object) -> Figure:
    return replace(Figure(Definition("x", unit, "", Better.LESS), value), **more)  # type: ignore[arg-type] # as said


@pytest.mark.parametrize(
    ("unit", "resolution", "shown"),
    [("s", 1.0, "± 1 s"), ("ratio", 0.0001, "± 0.01 %"), ("", 0.002, "± 0.002"), ("s", 0.0, "exact"), ("s", None, "")],
)
def test_a_resolution_is_never_rounded_to_nothing(unit: str, resolution: float | None, shown: str) -> None:
    assert words.resolution(figure(1.0, unit, resolution=resolution)) == shown


def test_what_has_no_value_has_no_resolution() -> None:
    assert words.resolution(figure(None, resolution=1.0)) == ""


@pytest.mark.parametrize(
    ("least", "most", "shown"),
    [
        (figure(10.5), figure(10.5), "10.5 s"),
        (figure(10.5), figure(12.0), "10.5 to 12 s"),
        (figure(10.5), figure(56.0, censored=True), "10.5 s to > 56 s"),
        (figure(0.1, "ratio"), figure(0.25, "ratio"), "10 to 25 %"),
        (figure(1.0, "count"), figure(3.0, "count"), "1 to 3"),
    ],
)
def test_a_range_says_its_unit_once_unless_it_is_open(least: Figure, most: Figure, shown: str) -> None:
    assert words.span(least, most) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0.25, "0.25 s"), (14.2, "14.2 s"), (185.4, "3:05 min"), (3720.0, "1:02:00 h"), (-200, "-3:20 min")],
)
def test_durations(amount: float, shown: str) -> None:
    assert words.seconds(amount) == shown


@pytest.mark.parametrize(
    ("offset", "shown"), [(0.0, "0.0 s"), (14.24, "+14.2 s"), (-3.0, "-3.0 s"), (200.0, "+3:20 min")]
)
def test_moments(offset: float, shown: str) -> None:
    assert words.moment(offset) == shown


def test_a_date_that_no_calendar_has_is_a_number() -> None:
    assert words.date(0.0) == "1970-01-01 00:00:00 UTC"
    assert words.date(1e18) == "1000000000000000000 s since the epoch"


def test_long_lists_are_cut_with_their_count() -> None:
    assert words.listed([]) == ""
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b"]) == "a and b"
    assert words.listed(list("abcdef")) == "a, b, c and 3 more"


def test_no_line_ends_between_number_and_unit() -> None:
    assert words.tight("30 % for 10 s (limit <= 5 s), 3 slices") == "30\xa0% for 10\xa0s (limit <=\xa05\xa0s), 3 slices"


# The story


def test_the_story_is_in_order_and_complete() -> None:
    told = [(round(one.at, 1), one.text) for one in story(PICTURE)]
    assert told == sorted(told, key=lambda one: one[0])
    assert (11.0, "move 1 begins: slice a1 from a to b, by mover") in told
    assert (17.0, "balance") in told
    assert (0.0, "the overload holds") in told


def test_a_description_of_much_ends_with_a_count() -> None:
    moves = tuple(replace(ARROW, number=number) for number in range(1, 101))
    text = description(replace(PICTURE, moves=moves))
    assert re.search(r"\d+ more events\.$", text)
    assert len(text) < 5000


def test_a_description_without_samples_says_so() -> None:
    hosts = tuple(replace(host, line=Line((), ())) for host in PICTURE.hosts)
    assert "hosts are at unknown utilization" in description(replace(PICTURE, hosts=hosts))


# Curves


def path_of(picture: Picture) -> list[list[tuple[float, float]]]:
    """The pieces of the imbalance's curve in the drawing: it is the longest path."""
    data = max((element.get("d", "") for element in drawn(picture).iter("{http://www.w3.org/2000/svg}path")), key=len)
    pieces = [piece for piece in data.split("M") if piece.strip()]
    return [[(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", piece)] for piece in pieces]


def wave(gap: bool) -> Picture:  # noqa: FBT001 - says whether
    times = tuple(index * 0.05 - 20 for index in range(1900))
    values = tuple(
        None if gap and 900 <= index < 960 else 0.3 + 0.2 * math.sin(index / 3) for index in range(len(times))
    )
    hosts = tuple(replace(host, line=Line((), ())) for host in PICTURE.hosts)
    return replace(PICTURE, hosts=hosts, imbalance=Line(times, values), moves=(), alerts=())


def test_a_curve_of_many_points_keeps_its_extremes() -> None:
    (piece,) = path_of(wave(gap=False))
    assert len(piece) < 1000
    heights = [y for _, y in piece]
    assert max(heights) - min(heights) == pytest.approx(120 * 0.4 / (1.12 * 0.5), rel=0.02)


def test_a_gap_stays_a_gap() -> None:
    pieces = path_of(wave(gap=True))
    assert len(pieces) == 2
    pixels = (1000 - 58 - 118) / (PICTURE.end - PICTURE.begin)
    assert pieces[1][0][0] - pieces[0][-1][0] == pytest.approx(61 * 0.05 * pixels, abs=0.1)


# Pictures of unusual runs


def test_alerts_of_many_hosts_share_the_last_row() -> None:
    spans = tuple(
        AlertSpan(name="Hot", host=f"h{number}", awaited=False, pending=None, firing=5.0, notified=None, resolved=9.0)
        for number in range(20)
    )
    found = texts(replace(PICTURE, alerts=spans))
    assert "13 more" in found
    assert "h6" in found
    assert "h7" not in found


def test_a_picture_without_alerts_says_so() -> None:
    assert "no alert was pending or fired" in texts(replace(PICTURE, alerts=()))


@pytest.mark.parametrize("size", charts.SIZES)
def test_a_move_to_a_host_that_was_never_seen_does_no_harm(size: charts.Size) -> None:
    moves = (
        replace(ARROW, destination="elsewhere"),
        replace(ARROW, number=2, source="gone", destination=None),
        replace(ARROW, number=3, begin=30.0, end=None, state="accepted"),
    )
    found = texts(replace(PICTURE, moves=moves), size)
    assert "1" in found
    assert "3" in found
    assert "2" not in found


def test_many_moves_are_not_numbered() -> None:
    moves = tuple(replace(ARROW, number=1000 + number, begin=20.0 + number) for number in range(30))
    assert not any(text.startswith("10") and len(text) == 4 for text in texts(replace(PICTURE, moves=moves)))


def test_numbers_that_have_no_place_are_left_out() -> None:
    moves = tuple(replace(ARROW, number=number) for number in range(1, 13))
    numbers = [text for text in texts(replace(PICTURE, moves=moves)) if text in {str(move.number) for move in moves}]
    assert 3 <= len(numbers) < 12


@pytest.mark.parametrize("measure", ["cv", "peak", "sd"])
def test_every_measure_has_its_unit(measure: str) -> None:
    theta = 1.2 if measure == "peak" else 0.2
    values = tuple(1.3 if measure == "peak" else 0.3 for _ in PICTURE.imbalance.times)
    picture = replace(PICTURE, measure=measure, theta=theta, imbalance=Line(PICTURE.imbalance.times, values))
    assert f"balance: ≤ {'20 %' if measure == 'sd' else f'{theta:g}'}" in texts(picture)
    assert any(measure in line.plain for line in timeline(picture, 80))


def test_the_timeline_of_a_terminal_says_what_it_leaves_out() -> None:
    hosts = tuple(replace(PICTURE.hosts[0], name=f"host-{number}", hot=number == 0) for number in range(30))
    lines = [line.plain for line in timeline(replace(PICTURE, hosts=hosts), 80)]
    assert any("20 more hosts in report.html" in line for line in lines)


def test_an_arrow_is_a_value_that_names_its_move() -> None:
    assert isinstance(ARROW, MoveArrow)
    assert (ARROW.slice, ARROW.source, ARROW.destination, ARROW.state) == ("a1", "a", "b", "done")
    assert ARROW.counted
    assert not ARROW.foreign
