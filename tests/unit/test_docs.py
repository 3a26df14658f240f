"""The documents say what the code does, their links lead somewhere, and their lines fit on a screen."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import pytest
import yaml
from trove_classifiers import classifiers

from loadband.exits import Exit
from loadband.metrics import FAMILIES, Family
from loadband.quantities import State
from loadband.rebalance import progress
from loadband.settings import DECLARATIONS

ROOT = next(path for path in Path(__file__).parents if (path / "pyproject.toml").is_file())
REFERENCE = ROOT / "docs/reference"
HIDDEN = {"build", "dist", "node_modules"}
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in HIDDEN for part in path.relative_to(ROOT).parts)
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README_LINES = 160
COLUMNS = 120


def settings_table() -> list[str]:
    rows = [f"| `{d.variable}` | `{d.shown_default}` | {d.parser.allowed} | {d.help} |" for d in DECLARATIONS]
    return ["| variable | default | allowed | meaning |", "|---|---|---|---|", *rows]


def metrics_table(families: Sequence[Family] = FAMILIES) -> list[str]:
    rows = ["| metric | type | meaning |", "|---|---|---|"]
    for family in families:
        labels = "".join(("{", ",".join(family.labels), "}")) if family.labels else ""
        rows.append(f"| `{family.name}{labels}` | {family.kind} | {family.help} |")
    return rows


TABLES: Mapping[str, tuple[str, Callable[[], list[str]]]] = {
    "settings.md": ("All settings", settings_table),
    "metrics.md": ("All metrics", metrics_table),
    "rebalance-metrics.md": ("All metrics of a run", partial(metrics_table, progress.FAMILIES)),
}
"""By file, the heading of the last section and what stands under it. `python` and this file write them."""


def without_blocks(page: Path) -> str:
    """A page without its fenced blocks, in which # begins a comment and brackets are no links."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found = set[str]()
    for heading in re.findall(r"^#+ +(.+?)\s*$", without_blocks(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-")
        number = sum(1 for one in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", one))
        found.add(f"{slug}-{number}" if number else slug)
    return found


def links() -> Iterator[tuple[Path, str]]:
    """Each link of each page that leads to another place of the repository."""
    for page in PAGES:
        text = re.sub(r"^ {4,}.*$|`[^`\n]*`", "", without_blocks(page), flags=re.MULTILINE)
        for link in re.findall(r"\]\(([^()\s]+)\)", text):
            if not re.match(r"[a-z]+:", link):
                yield page, link


@pytest.mark.parametrize("name", TABLES)
def test_a_reference_table_is_that_of_the_code(name: str) -> None:
    heading, table = TABLES[name]
    section = (REFERENCE / name).read_text().partition(f"\n## {heading}\n\n")[2]
    assert section.splitlines() == table(), f"run python {Path(__file__).relative_to(ROOT)}"


def test_each_state_is_explained() -> None:
    section = (REFERENCE / "states.md").read_text().partition("\n## States\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [state.value for state in State]


def test_each_exit_code_is_explained() -> None:
    section = (REFERENCE / "states.md").read_text().partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (\d+) \|", section, re.MULTILINE) == [str(code.value) for code in Exit]


def test_the_module_table_is_the_package() -> None:
    section = (ROOT / "docs/architecture.md").read_text().partition("\n## The modules\n")[2]
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", section, re.MULTILINE)
    package = ROOT / "src/loadband"
    there = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "__init__.py" or re.search("^class |^def ", path.read_text(), re.MULTILINE)
    }
    assert {"not listed": there - set(listed), "not there": set(listed) - there} == {
        "not listed": set(),
        "not there": set(),
    }
    assert len(listed) == len(set(listed))


def test_architecture_names_only_what_exists() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`((?:src|bench|dashboards|helm|tests|scenarios|vm|compose)/[\w./-]*)`", page))
    assert {path for path in named if not (ROOT / path).exists()} == set()
    assert len(named) > 15


def test_what_architecture_says_to_change_is_in_the_files_that_it_names() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    rows = page.partition("\n## Where to change what\n")[2].partition("\n## ")[0].splitlines()[3:]
    checked = 0
    for row in filter(None, rows):
        words = re.findall(r"`([^`]+)`", row)
        files = [folder / word for folder in (ROOT, ROOT / "src/loadband") for word in words if word.endswith(".py")]
        text = "".join(path.read_text() for path in files if path.is_file())
        names = [word for word in words if re.fullmatch(r"_?[A-Z]\w+|[a-z]+_[a-z]+|judge", word) and text]
        assert [name for name in names if not re.search(rf"\b{name}\b", text)] == [], row
        checked += len(names)
    assert checked >= 8


@pytest.mark.parametrize(
    ("page", "link"), [pytest.param(page, link, id=f"{page.relative_to(ROOT)}:{link}") for page, link in links()]
)
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target)


def test_pages_and_links_were_found() -> None:
    assert {page.relative_to(ROOT).as_posix() for page in PAGES} >= {"README.md", "docs/alerts.md", "SECURITY.md"}
    assert sum(1 for _ in links()) > 60
    assert any("#" in link for _, link in links())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_lines_fit_on_a_screen(page: Path) -> None:
    # A row of a table can't be wrapped.
    assert [line for line in page.read_text().splitlines() if len(line) > COLUMNS and not line.startswith("|")] == []


def test_one_version_is_named_everywhere() -> None:
    version = PROJECT["version"]
    chart = yaml.safe_load((ROOT / "helm/loadband/Chart.yaml").read_text())
    assert {chart["version"], chart["appVersion"]} == {version}
    newest = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == version
    for page in ("README.md", "docs/container.md", "docs/vm.md"):
        named = set(re.findall(r"loadband[-\w]*[:-](\d+\.\d+\.\d+)", (ROOT / page).read_text()))
        assert named == {version}, page


def test_classifiers_exist_and_readme_names_the_same_pythons() -> None:
    assert set(PROJECT["classifiers"]) <= classifiers
    pythons = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if ":: Python :: 3." in text]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert f"Python {', '.join(pythons[:-1])} or {pythons[-1]}" in (ROOT / "README.md").read_text()


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def write() -> None:
    """Write the reference tables."""
    for name, (heading, table) in TABLES.items():
        page = REFERENCE / name
        before = page.read_text().partition(f"\n## {heading}\n")[0]
        page.write_text("\n".join([before, f"## {heading}", "", *table(), ""]))


if __name__ == "__main__":
    write()
