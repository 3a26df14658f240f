"""The workflows, as far as they can be judged without a forge; `make workflows` lints them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
DOCUMENT = ROOT / "docs/releasing.md"


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield f"{path.name}: {name}", job


JOBS = dict(jobs())


def commands() -> Iterator[str]:
    """What the jobs run, a command each."""
    for job in JOBS.values():
        for step in job["steps"]:
            yield from re.split(r"\n|&&|\|\|", step.get("run", ""))


def test_jobs_were_found() -> None:
    assert {path.stem for path in WORKFLOWS} == {"nightly", "release", "test"}
    assert len(JOBS) > 10


def test_each_target_that_a_job_makes_is_one_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    made = set[str]()
    for command in commands():
        if found := re.match(r"\s*(?:sudo |mkdir \S+ \S+ )?make\s+(.*)", command):
            words = re.sub(r'\w+="[^"]*"|\w+=\S+|--\S+|[<>].*', "", found[1]).split()
            assert words, command
            made.update(words)
    assert made >= {"unit", "wheel", "e2e", "publish", "push-image"}
    assert [target for target in made if not re.search(rf"^{target}:.*##", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_an_action_is_pinned_to_a_commit_with_its_version_beside_it(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


def test_an_action_has_one_version_everywhere() -> None:
    used = {one for path in WORKFLOWS for one in re.findall(r"uses: (.*)", path.read_text())}
    assert len(used) == len({one.partition("@")[0] for one in used})


@pytest.mark.parametrize("name", JOBS)
def test_a_job_says_what_it_may_do_and_how_long(name: str) -> None:
    job = JOBS[name]
    assert job["timeout-minutes"] <= 60
    writes = {what for what, how in job["permissions"].items() if how == "write"}
    assert writes <= ({"id-token", "attestations", "contents"} if name.startswith("release") else set())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_gives_its_jobs_no_permission_that_they_do_not_ask_for(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {}


def test_the_pythons_that_the_package_names_are_tested() -> None:
    pythons = JOBS["test.yaml: ubuntu"]["strategy"]["matrix"]["python"]
    named = re.findall(r":: Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert set(named) <= set(pythons)


def test_the_scenarios_of_each_night_are_there() -> None:
    names = JOBS["nightly.yaml: league"]["strategy"]["matrix"]["scenario"]
    assert [name for name in names if not (ROOT / f"scenarios/{name}.toml").is_file()] == []


def test_the_document_names_every_workflow_environment_and_secret() -> None:
    text = DOCUMENT.read_text()
    needed = {path.name for path in WORKFLOWS}
    needed |= {job["environment"] for job in JOBS.values() if "environment" in job}
    for path in WORKFLOWS:
        needed |= set(re.findall(r"\b(?:secrets|vars)\.(\w+)", path.read_text()))
    assert [one for one in needed if f"`{one}`" not in text] == []


@pytest.mark.parametrize(
    ("heading", "tag", "code"),
    [
        ("## [1.2.3] - 2026-01-02", "v1.2.3", 0),
        ("## [1.2.3] - unreleased", "v1.2.3", 2),
        ("## [1.2.4] - 2026-01-02", "v1.2.3", 2),
        ("## [1.2.3] - 2026-01-02", "v1.2.4", 2),
    ],
)
def test_notes_are_the_section_of_a_released_version(heading: str, tag: str, code: int, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text('version = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\n- New.\n\n## [1.2.2]\n\n- Old.\n")
    done = subprocess.run(
        ["make", "--silent", "notes", f"TAG={tag}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (code, "" if code else "- New."), done.stderr
