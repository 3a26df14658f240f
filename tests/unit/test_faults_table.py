"""The table of faults names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs/faults.md").read_text()
ROWS = [line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith("| fault |")]
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", TABLE)))


def functions(file: str) -> set[str]:
    tree = ast.parse(next(TESTS.glob(f"*/{file}")).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[test for _, test in NAMED])
def test_a_test_that_the_table_names_exists(file: str, test: str) -> None:
    assert test in functions(file)


def test_every_fault_has_a_test() -> None:
    assert len(ROWS) > 50
    assert [row for row in ROWS if not re.search(r"`test_\w+\.py::test_\w+`", row)] == []


def test_every_test_of_faults_is_in_the_table() -> None:
    files = [path.name for path in TESTS.glob("*/test_faults_*.py") if path != Path(__file__)]
    tests = {(file, name) for file in files for name in functions(file) if name.startswith("test_")}
    assert tests - set(NAMED) == set()
