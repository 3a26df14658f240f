"""docs/rebalance/figures.md says what the code says; its table is written by `python` and this file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import CASE, DRAWERS, PAGE, PICTURES, SECTION, cases, draw
from recordings import CASES

from loadband.rebalance.figures import DEFINITIONS, Better, measure, shown

HEADING = "\n## All figures\n\n"
BETTER = {Better.LESS: "less", Better.MORE: "more", Better.NEITHER: ""}
MOST_BYTES = 24_000
"""Of a picture."""


def table() -> str:
    rows = ["| figure | unit | definition | better | after |", "|---|---|---|---|---|"]
    rows += [
        f"| [`{each.name}`](#{each.name}) | {each.unit} | {each.text} | {BETTER[each.better]} | {each.source} |"
        for each in DEFINITIONS.values()
    ]
    return "\n".join([*rows, ""])


def sections() -> dict[str, str]:
    return dict(SECTION.findall(PAGE.read_text()))


def test_the_table_is_that_of_the_code() -> None:
    assert PAGE.read_text().partition(HEADING)[2] == table(), f"run python tests/unit/{Path(__file__).name}"


def test_each_figure_has_a_section_and_a_picture_in_the_order_of_the_code() -> None:
    assert list(sections()) == list(DEFINITIONS) == list(DRAWERS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_section_says_what_the_code_says(name: str) -> None:
    paragraph = sections()[name].strip().partition("\n\n")[0]
    assert " ".join(paragraph.split()) == DEFINITIONS[name].text
    case, value = cases()[name]
    assert shown(measure(CASES[case]())[name]) == value
    assert f"](figures/{name}.svg)" in sections()[name]
    assert len(CASE.findall(sections()[name])) == 1


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_picture_is_small_and_is_what_the_script_draws(name: str, tmp_path: Path) -> None:
    there = (PICTURES / f"{name}.svg").read_text()
    assert len(there) < MOST_BYTES
    drawn = draw(name, cases()[name][0], tmp_path).read_text()
    assert words(there) == words(drawn)


def words(picture: str) -> list[str]:
    """What is written in a picture; coordinates depend on the fonts of the machine."""
    return [line.partition(">")[2].partition("<")[0] for line in picture.splitlines() if "<text" in line]


def test_there_is_no_picture_without_a_figure() -> None:
    assert {path.stem for path in PICTURES.iterdir()} == set(DEFINITIONS)


def write() -> None:
    PAGE.write_text(PAGE.read_text().partition(HEADING)[0] + HEADING + table())


if __name__ == "__main__":
    write()
