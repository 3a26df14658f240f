"""Runs side by side: only what is comparable is ranked."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import CASES
from results import repeats, result
from rich.console import Console

from loadband.exits import Exit
from loadband.rebalance import cli
from loadband.rebalance.events import Part, Real, Recording
from loadband.rebalance.recording import Writer
from loadband.rebalance.report import compare, page
from loadband.rebalance.report.evaluation import evaluate
from loadband.rebalance.report.result import Result
from loadband.rebalance.verdict import Outcome


def by(name: str, *cases: str, real: Real = Real.REAL, platform: str = "synthetic") -> Result:
    """A result of some rebalancer."""
    recordings = {}
    for file, recording in repeats(*cases).items():
        rebalancer = Part(name=name, version="1", real=real, actors=("mover",))
        run = replace(recording.run, rebalancer=rebalancer, platform=replace(recording.run.platform, name=platform))
        recordings[file] = Recording(run, recording.events, recording.remarks)
    return evaluate(f"{name}-1", recordings)


def best(groups: tuple[compare.Group, ...]) -> dict[str, frozenset[str]]:
    return {row.result.run.rebalancer.name: row.best for group in groups for row in group.rows}


def test_the_better_median_is_marked() -> None:
    found = best(compare.compare([by("fast", "good"), by("slow", "failing_move")]))
    assert "time_to_balance" in found["fast"]
    assert "time_to_balance" not in found["slow"]


def test_medians_closer_than_their_resolution_are_not_ranked() -> None:
    found = best(compare.compare([by("one", "good"), by("other", "evicted")]))
    # 17 and 18 s, each ± 1 s
    assert "time_to_balance" not in found["one"] | found["other"]


def test_of_three_two_that_differ_by_less_than_the_resolution_are_both_best() -> None:
    found = best(compare.compare([by("one", "good"), by("two", "evicted"), by("slow", "failing_move")]))
    assert "time_to_balance" in found["one"]
    assert "time_to_balance" in found["two"]
    assert "time_to_balance" not in found["slow"]


@pytest.mark.parametrize("case", ["thrash", "foreign_load"])
def test_only_pass_is_ranked(case: str) -> None:
    found = best(compare.compare([by("one", "failing_move"), by("other", case)]))
    assert found == {"one": frozenset(), "other": frozenset()}


def test_kinds_are_not_ranked_against_each_other() -> None:
    results = [by("fast", "good", real=Real.OURS), by("slow", "failing_move", real=Real.REAL)]
    groups = compare.compare(results)
    assert len(groups) == 1
    assert best(groups) == {"fast": frozenset(), "slow": frozenset()}
    assert [row.real for row in groups[0].rows] == [Real.REAL, Real.OURS]


def test_controls_are_never_best() -> None:
    results = [by("fast", "good", real=Real.CONTROL), by("slow", "failing_move", real=Real.CONTROL)]
    assert set(best(compare.compare(results)).values()) == {frozenset()}


def test_another_platform_or_scenario_is_another_group() -> None:
    results = [by("one", "good"), by("two", "good", platform="other"), by("three", "symmetric"), by("four", "evicted")]
    groups = compare.compare(results)
    assert [[row.result.run.rebalancer.name for row in group.rows] for group in groups] == [
        ["four", "one"],
        ["two"],
        ["three"],
    ]


def test_a_repeat_that_is_missing_is_told_everywhere() -> None:
    recordings = {
        file: replace(recording, run=replace(recording.run, repeats=3))
        for file, recording in repeats("good", "evicted").items()
    }
    made = evaluate("run-1", recordings)
    assert made.outcome is Outcome.INVALID
    said = "repeat 3 of 3 is missing: the run was interrupted"
    assert said in made.sentence
    assert made.deciding.outcome is Outcome.PASS
    assert said in page.html(made)
    drawn = io.StringIO()
    compare.draw(compare.compare([made]), Console(file=drawn, width=100))
    assert "INVALID 0/2, 1 missing" in drawn.getvalue()


def test_limits_may_differ() -> None:
    recording = CASES["good"]()
    plan = replace(recording.run.plan, limits={"moves": "<= 9"})
    other = evaluate("x", {"recording-1.jsonl": replace(recording, run=replace(recording.run, plan=plan))})
    assert len(compare.compare([result("good"), other])) == 1


def test_rows_of_one_rebalancer_can_be_told_apart_in_the_terminal() -> None:
    drawn = io.StringIO()
    compare.draw(
        compare.compare([result("good"), by("slow", "failing_move", "evicted")]), Console(file=drawn, width=100)
    )
    text = drawn.getvalue()
    assert "hot-host, on synthetic 1, 2 hosts" in text
    assert "mover (run-1)" in text
    assert "slow (slow-1)" in text
    assert "18 to 22 s" in text


def test_compare_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in ("good", "failing_move"):
        (tmp_path / case).mkdir()
        for name, recording in repeats(case).items():
            with Writer(tmp_path / case / name, recording.run) as writer:
                for event in recording.events:
                    writer.write(event)
    out = tmp_path / "out"
    words = ["compare", str(tmp_path / "good"), str(tmp_path / "failing_move"), "--out", str(out)]
    assert cli.main(words, lambda _: False) == Exit.OK
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "compare.html")
    made = json.loads((out / "compare.json").read_text())
    (group,) = made["groups"]
    assert [row["name"] for row in group["rows"]] == ["good", "failing_move"]
    assert "time_to_balance" in group["rows"][0]["best"]
    first = (out / "compare.html").read_bytes()
    cli.main(words, lambda _: False)
    assert (out / "compare.html").read_bytes() == first


def test_compare_refuses_a_directory_without_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(tmp_path)], lambda _: False) == Exit.BAD_INPUT
    assert "holds no recording" in capsys.readouterr().err


def test_what_decides_stands_first_and_the_stages_of_the_alert_last() -> None:
    (group,) = compare.compare([result("good")])
    names = [definition.name for definition in group.figures]
    assert names[:3] == ["time_to_alert", "time_to_first_move", "time_to_balance"]
    assert names[-1] == "alert_to_resolved"


def test_how_well_a_run_was_made_is_no_merit_of_the_rebalancer() -> None:
    found = best(compare.compare([by("one", "good"), by("other", "evicted")]))
    assert not {"load_fidelity", "pending_to_firing"} & (found["one"] | found["other"])
