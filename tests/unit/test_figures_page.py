"""docs/rebalance/figures.md says what the code says. `python` and this file write its table."""

from __future__ import annotations

from pathlib import Path

from loadband.rebalance.figures import DEFINITIONS, Better

PAGE = (
    next(path for path in Path(__file__).parents if (path / "pyproject.toml").is_file()) / "docs/rebalance/figures.md"
)
HEADING = "\n## All figures\n\n"
BETTER = {Better.LESS: "less", Better.MORE: "more", Better.NEITHER: ""}


def table() -> str:
    rows = ["| figure | unit | definition | better | after |", "|---|---|---|---|---|"]
    rows += [
        f"| `{each.name}` | {each.unit} | {each.text} | {BETTER[each.better]} | {each.source} |"
        for each in DEFINITIONS.values()
    ]
    return "\n".join([*rows, ""])


def test_the_table_is_that_of_the_code() -> None:
    assert PAGE.read_text().partition(HEADING)[2] == table(), f"run python tests/unit/{Path(__file__).name}"


def write() -> None:
    PAGE.write_text(PAGE.read_text().partition(HEADING)[0] + HEADING + table())


if __name__ == "__main__":
    write()
