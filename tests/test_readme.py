"""What README says of settings and metrics is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from loadband.metrics import FAMILIES
from loadband.quantities import State
from loadband.settings import DECLARATIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def table(heading: str) -> list[str]:
    """The rows of the table under a heading, without its two lines of head."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_the_settings_table_is_that_of_the_code() -> None:
    rows = [f"| `{d.variable}` | `{d.shown_default}` | {d.parser.allowed} | {d.help} |" for d in DECLARATIONS]
    assert table("Settings") == rows


def test_the_metrics_table_is_that_of_the_code() -> None:
    rows = []
    for family in FAMILIES:
        labels = "".join(("{", ",".join(family.labels), "}")) if family.labels else ""
        rows.append(f"| `{family.name}{labels}` | {family.kind} | {family.help} |")
    assert table("Metrics") == rows


def test_each_state_is_explained() -> None:
    section = README.split("\n## What it says of itself\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [state.value for state in State]


def test_links_lead_to_files_that_exist() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not link.startswith(("http://", "https://")):
                assert (page.parent / link).exists(), f"{page.name} links to {link}"
