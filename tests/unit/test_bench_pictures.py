"""The pictures of the dashboards: every panel is at its place and shows what was answered, and it isn't Grafana."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from bench import panels, pictures
from bench.panels import NOTE, Answers, Series, draw, figure, formatted, named, queries, query_of
from bench.pictures import board
from loadband.exits import Exit

BOARDS = ("regulator", "fleet", "rebalance")
BEGIN, END, STEP = 1_700_000_000.0, 1_700_000_060.0, 1.0
LABELS = (
    "node",
    "namespace",
    "pod",
    "instance",
    "scope",
    "mode",
    "phase",
    "host",
    "alert",
    "measure",
    "outcome",
    "disturbance",
)


def points(value: Callable[[float], float] | float) -> list[tuple[float, float]]:
    """A point each second."""
    return [(BEGIN + at, value(at) if callable(value) else value) for at in range(60)]


def answered(name: str, value: float = 0.5) -> Answers:
    """Two series for each query of a dashboard, everywhere the same value."""
    labels = [{label: f"{label}-{number}" for label in LABELS} for number in (1, 2)]
    return Answers(
        BEGIN,
        END,
        STEP,
        {asked: [Series(one, points(value)) for one in labels] for asked in queries(board(name))},
    )


def only(name: str, title: str, *series: Sequence[Series]) -> Figure:
    """A dashboard of one panel, with the series of each of its queries."""
    (panel,) = (panel for panel in board(name)["panels"] if panel["title"] == title)
    asked = [query_of(target) for target in panel["targets"]]
    found = dict(zip(asked, series, strict=False))
    alone = {"title": "alone", "annotations": {"list": []}, "panels": [{**panel, "gridPos": AT_TOP}]}
    return figure(alone, Answers(BEGIN, END, STEP, found))


AT_TOP = {"x": 0, "y": 0, "w": 12, "h": 8}


def texts(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.texts]


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_is_drawn_at_its_place(name: str) -> None:
    shown = board(name)
    drawn = figure(shown, answered(name))
    said = texts(drawn)
    for panel in shown["panels"]:
        assert panel["title"] in said
    assert NOTE in said
    assert "no data" not in said
    places = [box.get_window_extent().bounds for box in drawn.patches if box.get_zorder() < 0]
    assert len(places) == sum(panel["type"] != "row" for panel in shown["panels"])
    for number, (x, y, width, height) in enumerate(places):
        assert 0 <= x < x + width <= 100 * drawn.get_figwidth()
        for left, bottom, across, up in places[:number]:
            assert x >= left + across or left >= x + width or y >= bottom + up or bottom >= y + height


@pytest.mark.parametrize("name", BOARDS)
def test_without_answers_panels_are_empty_and_say_so(name: str) -> None:
    said = texts(figure(board(name), Answers(BEGIN, END, STEP, {})))
    assert said.count("no data") >= sum(panel["type"] != "row" for panel in board(name)["panels"]) - 2


def test_a_graph_has_the_values_and_what_the_dashboard_says_about_them() -> None:
    hosts = [Series({"host": name}, points(level)) for name, level in (("a", 0.9), ("b", 0.2))]
    (axes,) = only("rebalance", "Hosts against the hot threshold", hosts, [Series({}, points(0.75))]).axes
    drawn = {str(line.get_label()): line for line in axes.get_lines()}
    assert list(drawn) == ["a", "b", "hot from"]
    assert set(drawn["a"].get_ydata()) == {0.9}  # type: ignore[arg-type] # numbers
    assert drawn["hot from"].get_color() == panels.COLOURS["red"]
    assert drawn["hot from"].is_dashed()
    assert axes.get_ylim() == (0, 1)
    legend = axes.get_legend()
    assert legend
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "hot from"]


def test_a_line_is_broken_where_points_are_missing() -> None:
    lost = [point for point in points(0.5) if not 20 < point[0] - BEGIN < 30]
    (axes,) = only("rebalance", "Hosts against the hot threshold", [Series({"host": "a"}, lost)]).axes
    (line,) = axes.get_lines()
    values: Any = line.get_ydata()
    assert [place for place, value in enumerate(values) if math.isnan(value)] == [21]


def test_layers_of_a_stack_lie_on_each_other() -> None:
    series = [Series({"host": name}, points(count)) for name, count in (("a", 3.0), ("b", 2.0))]
    (axes,) = only("rebalance", "Slices by host", series).axes
    tops = [layer.get_datalim(axes.transData).ymax for layer in axes.collections]
    assert tops == [3.0, 5.0]


def test_numbers_are_shown_as_words_or_with_their_unit_and_colour() -> None:
    drawn = only("rebalance", "Phase", [Series({}, [(END, 3.0)])])
    (text,) = (text for text in drawn.texts if text.get_text() == "watch")
    assert text.get_color() == panels.COLOURS["purple"]
    for count, colour in ((0.0, "green"), (2.0, "red")):
        drawn = only("rebalance", "Disturbances", [Series({}, [(END, count)])])
        (text,) = (text for text in drawn.texts if text.get_text() == f"{count:g}")
        assert text.get_color() == panels.COLOURS[colour]


def test_a_timeline_has_a_bar_for_each_time_that_a_value_lasts() -> None:
    went = points(lambda at: 1.0 if 10 <= at < 20 else 2.0 if 20 <= at < 50 else 0.0)
    drawn = only("rebalance", "Alerts of the run", [Series({"alert": "Hot", "host": "a"}, went)])
    (axes,) = drawn.axes
    bars = [(bar.get_x(), bar.get_width(), bar.get_facecolor()[:3]) for bar in axes.patches]  # type: ignore[attr-defined] # bars
    assert [(x, width) for x, width, _ in bars] == [(0, 10), (10, 10), (20, 30), (50, 10)]
    assert len({colour for _, _, colour in bars}) == 3
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Hot a"]
    assert {"over", "pending", "firing"} <= set(texts(drawn))


def test_a_table_joins_its_columns() -> None:
    labels = {"node": "n", "namespace": "s", "pod": "p", "instance": "i"}
    values = [7.0, 0.5, 0.25, 0.75]
    drawn = only("fleet", "All regulators", *([Series(labels, [(END, value)])] for value in values))
    (table,) = drawn.axes[0].tables
    cells = {place: cell.get_text().get_text() for place, cell in table.get_celld().items()}
    headings = [cells[0, column] for column in range(8)]
    assert headings == ["node", "namespace", "pod", "instance", "state", "utilization", "band from", "band to"]
    assert [cells[1, column] for column in range(8)] == ["n", "s", "p", "i", "settling", "50 %", "25 %", "75 %"]


def test_marks_are_where_they_begin() -> None:
    shown = board("rebalance")
    marks = {mark["name"]: query_of(mark) for mark in shown["annotations"]["list"]}
    graph = next(panel for panel in shown["panels"] if panel["title"] == "Slices by host")
    answers = {
        query_of(graph["targets"][0]): [Series({"host": "a"}, points(1.0))],
        marks["Phases"]: [Series({}, points(1000 * (BEGIN + 12)))],
        marks["Moves"]: [Series({}, [point for point in points(1.0) if 30 <= point[0] - BEGIN < 35])],
    }
    drawn = figure(shown, Answers(BEGIN, END, STEP, answers))
    lines: list[tuple[Any, Any]] = [
        (line.get_xdata(), line.get_color()) for axes in drawn.axes for line in axes.get_lines()
    ]
    assert {(times[0], colour) for times, colour in lines if len(times) == 2} == {
        (12.0, panels.COLOURS["purple"]),
        (30.0, panels.COLOURS["blue"]),
    }


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.4213, "percentunit", "42.1 %"),
        (3.0, "short", "3"),
        (0.45, "suffix: CPUs", "0.45 CPUs"),
        (9.98, "cps", "9.98 /s"),
        (0.0012, "s", "1.2 ms"),
        (2.0, "s", "2 s"),
        (32 * 2**20, "bytes", "32 MiB"),
        (1000 * (END + 30), "dateTimeFromNow", "in 30 s"),
        (1000 * (END - 5), "dateTimeFromNow", "5 s ago"),
        (0.0, "short", "0"),
    ],
)
def test_values_have_their_units(value: float, unit: str, said: str) -> None:
    assert formatted(value, unit, END) == said


def test_every_unit_of_the_dashboards_is_known() -> None:
    units = {
        panel["fieldConfig"]["defaults"]["unit"]
        for name in BOARDS
        for panel in board(name)["panels"]
        if "fieldConfig" in panel
    }
    for unit in units:
        assert re.fullmatch(r"[-\d.]+( (%|CPUs|/s|s|ms|MiB))?|in \d+ s|\d+ s ago", formatted(1.0, unit, END))


def test_names_are_filled_in() -> None:
    labels = {"__name__": "up", "node": "a", "pod": ""}
    assert named("{{node}} {{pod}} {{other}}", labels) == "a"
    assert named("max - min", labels) == "max - min"
    assert named("", {"__name__": "up", "node": "a"}) == "a"


def test_answers_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    kept = answered("rebalance")
    kept.write(tmp_path / "kept.json")
    assert Answers.read(tmp_path / "kept.json") == kept


def test_pictures_are_drawn_again_from_answers_that_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in BOARDS:
        answered(name).write(tmp_path / f"{name}.json")
    assert pictures.main(["--again", "--answers", str(tmp_path), "--out", str(tmp_path / "out")]) == Exit.OK
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / f"out/{name}.png") for name in BOARDS]
    for name in BOARDS:
        assert imread(tmp_path / f"out/{name}.png").shape[1] == 1240
    draw(board("fleet"), answered("fleet"), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out/fleet.png").read_bytes()
