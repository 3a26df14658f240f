"""What a directory of recordings is turned into: result.json, junit.xml, the terminal, exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml
from recordings import CASES, MOVER, TIMING, big
from results import changed, limited, repeats, result
from rich.console import Console

from loadband.exits import Exit
from loadband.rebalance import cli
from loadband.rebalance.events import Alert, AlertState, Move, Part, Recording
from loadband.rebalance.recording import Writer
from loadband.rebalance.report import document, junit, page, terminal
from loadband.rebalance.report.advice import advice
from loadband.rebalance.report.directory import files_of
from loadband.rebalance.report.evaluation import ResultError, evaluate
from loadband.rebalance.verdict import CheckKind, Outcome

SOME = ("good", "late_alert", "thrash", "silent_alert", "foreign_load", "one_host", "ends_during_move", "symmetric")


def write(directory: Path, recordings: dict[str, Recording]) -> Path:
    directory.mkdir(exist_ok=True)
    for name, recording in recordings.items():
        with Writer(directory / name, recording.run) as writer:
            for event in recording.events:
                writer.write(event)
    return directory


def text_of(*names: str, width: int = 100) -> str:
    drawn = io.StringIO()
    terminal.draw(result(*names), Console(file=drawn, width=width))
    return drawn.getvalue()


# The overall verdict


def test_one_invalid_repeat_makes_all_invalid_and_the_figures_leave_it_out() -> None:
    found = result("good", "foreign_load", "evicted")
    assert found.outcome is Outcome.INVALID
    assert found.deciding.number == 2
    assert found.counted == (1, 3)
    assert found.summaries["time_to_balance"].count == 2


def test_figures_cover_all_repeats_if_each_is_invalid() -> None:
    assert result("foreign_load", "foreign_move").counted == (1, 2)


def test_repeats_are_in_the_order_of_their_numbers() -> None:
    recordings = dict(reversed(repeats("good", "thrash").items()))
    assert [repeat.number for repeat in evaluate("x", recordings).repeats] == [1, 2]


@pytest.mark.parametrize("other", ["symmetric", "short_burst"])
def test_recordings_of_two_scenarios_are_refused(other: str) -> None:
    with pytest.raises(ResultError, match=r"recording-2\.jsonl is of another scenario than recording-1\.jsonl"):
        result("good", other)


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("rebalancer", {"rebalancer": Part(name="other")}),
        ("rebalancer", {"rebalancer": replace(MOVER, settings={"threshold": "90"})}),
        ("rebalancer", {"rebalancer": replace(MOVER, actors=("mover", "alice"))}),
        ("timing", {"timing": replace(TIMING, scrape=60.0)}),
        ("version of loadband", {"loadband": "0.1.0"}),
    ],
)
def test_recordings_of_two_runs_are_refused(what: str, other: dict[str, Any]) -> None:
    recordings = repeats("good", "good")
    second = recordings["recording-2.jsonl"]
    recordings["recording-2.jsonl"] = replace(second, run=replace(second.run, **other))
    with pytest.raises(ResultError, match=f"another {what}"):
        evaluate("x", recordings)


def test_the_same_repeat_twice_is_refused() -> None:
    recordings = {"recording-1.jsonl": CASES["good"](), "recording-2.jsonl": CASES["good"]()}
    with pytest.raises(ResultError, match="both repeat 1"):
        evaluate("x", recordings)


# result.json


@pytest.mark.parametrize("name", CASES)
def test_the_result_of_each_case_validates(name: str) -> None:
    made = json.loads(document.text(document.document(result(name))))
    jsonschema.validate(made, document.schema(), cls=jsonschema.Draft202012Validator)


def test_a_recording_that_ends_after_any_line_is_invalid_and_can_be_reported() -> None:
    recording = CASES["good"]()
    ends = [*range(40), *range(40, len(recording.events) - 1, 97)]
    for end in ends:
        found = evaluate("cut", {"recording-1.jsonl": replace(recording, events=recording.events[:end])})
        assert found.outcome is Outcome.INVALID, end
        assert files_of(found)["report.html"].startswith("<!doctype html>")


def test_the_result_of_repeats_validates() -> None:
    made = json.loads(document.text(document.document(result("good", "thrash", "failing_move"))))
    jsonschema.validate(made, document.schema(), cls=jsonschema.Draft202012Validator)
    assert [repeat["outcome"] for repeat in made["repeats"]] == ["PASS", "FAIL", "PASS"]


def test_the_schema_refuses_what_is_no_result() -> None:
    made = document.document(result("good"))
    del made["repeats"][0]["figures"]["moves"]["resolution"]
    with pytest.raises(jsonschema.ValidationError, match="resolution"):
        jsonschema.validate(made, document.schema())


def test_the_schema_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "result"], lambda _: False) == Exit.OK
    assert json.loads(capsys.readouterr().out) == document.schema()


# junit.xml


@pytest.mark.parametrize("names", [(name,) for name in SOME] + [("good", "thrash", "foreign_load")])
def test_junit_has_a_suite_for_each_repeat_and_a_case_for_each_check(names: tuple[str, ...]) -> None:
    found = result(*names)
    parsed = JUnitXml.fromstring(junit.text(found).encode())
    for suite, repeat in zip(parsed, found.repeats, strict=True):
        cases = list(suite)
        assert len(cases) == len(repeat.verdict.checks)
        assert {check.kind for check in repeat.verdict.checks} >= {CheckKind.VALIDITY, CheckKind.EXPECTATION}
        for case, check in zip(cases, repeat.verdict.checks, strict=True):
            kinds = [type(each) for each in case.result]
            assert kinds == {Outcome.PASS: [], Outcome.FAIL: [Failure], Outcome.INVALID: [Error]}[check.outcome]
            if case.result:
                assert check.found in case.result[0].message
                assert case.result[0].text == check.evidence
    assert (parsed.tests, parsed.failures, parsed.errors) == (
        sum(len(repeat.verdict.checks) for repeat in found.repeats),
        sum(check.outcome is Outcome.FAIL for repeat in found.repeats for check in repeat.verdict.checks),
        sum(check.outcome is Outcome.INVALID for repeat in found.repeats for check in repeat.verdict.checks),
    )


# Advice


@pytest.mark.parametrize("name", CASES)
def test_there_is_advice_exactly_if_a_case_is_not_pass(name: str) -> None:
    repeat = result(name).repeats[0]
    assert bool(advice(repeat)) == (repeat.outcome is not Outcome.PASS)


@pytest.mark.parametrize(
    ("name", "about", "words"),
    [
        ("late_alert", "time to alert", "later than the configuration allows (8 to 13 s)"),
        ("late_alert", "time to balance", "30.5 s, is the time from the overload to the firing alert"),
        ("silent_alert", "alert fired", "was pending 2 times but never fired"),
        ("early_move", "moved after the alert", "mover moved before the alert fired"),
        ("thrash", "thrash", "66.7 % of the moves bring a slice back"),
        ("slow_oscillation", "balance came back", "swings to and fro"),
        ("never_balanced", "balance came back", "1 move was done, which was too little"),
        ("lost_balance", "balance came back", "Balance was reached at +17.0 s and lost at"),
        ("two_at_once", "balance came back", "fell 15 % below the mean: too much was moved"),
        ("needless_move", "no move", 'mover moved a1 at +20.0 s. Its reason: "a is hot"'),
        ("foreign_load", "foreign load", "Stop what the evidence names"),
        ("foreign_move", "moves of others", "Somebody else moved something"),
        ("never_hot", "overload stood", "never came to the threshold"),
        ("interrupted", "complete", "Run it again"),
    ],
)
def test_advice_names_the_cause(name: str, about: str, words: str) -> None:
    found = {one.about: one.text for one in advice(result(name).repeats[0])}
    assert words in found[about]


@pytest.mark.parametrize(
    ("name", "limit", "text", "words"),
    [
        ("good", "time_to_alert", "<= 5s", "The alert came as the configuration allows (8 to 13 s)"),
        (
            "good",
            "time_to_first_move",
            "<= 5s",
            "The longest part, 10.5 s, is the time from the overload to the firing",
        ),
        ("good", "time_to_relief", "<= 5s", "That is where most time can be saved"),
        ("good", "moves", "== 0", "Moves: 1. Have the rebalancer choose slices that fit the gap"),
        ("good", "load_fidelity", "< 50%", "The limit is missed. Look at when it happened"),
        ("good", "residual_imbalance", "<= 1%", "1 move was done, which was too little"),
        ("failing_move", "failed_moves", "== 0", "The reasons given: "),
        ("slow_oscillation", "oscillation", "<= 0.1", "swings to and fro"),
        ("lost_balance", "overshoot", "== 0", "A destination became hot itself"),
        ("two_at_once", "undershoot", "== 0", "More was moved than was needed"),
        ("evicted", "work_lost_ratio", "== 0", "look at the moves' downtime"),
        ("needless_move", "moves", "== 0", "Nothing should move in this scenario"),
        ("silent_alert", "time_to_alert", "<= 5s", "was pending 2 times but never fired"),
        ("silent_alert", "time_to_first_move", "<= 5s", "was pending 2 times but never fired"),
        ("silent_alert", "firing_to_webhook", "<= 5s", "This could not be measured"),
    ],
)
def test_advice_about_a_limit_names_the_cause(name: str, limit: str, text: str, words: str) -> None:
    repeat = limited(name, **{limit: text}).repeats[0]
    found = {one.about: one.text for one in advice(repeat)}
    about = limit.replace("_", " ")
    # What the expectation's check already says isn't said twice.
    assert any(words in one for key, one in found.items() if key == about or about not in found)


def without(recording: Recording, *kinds: type, states: tuple[str, ...] = ()) -> Recording:
    """A recording without some events; of those with a state only the ones in these states."""
    kept = tuple(
        event
        for event in recording.events
        if not isinstance(event, kinds) or (states and getattr(event, "state", None) not in states)
    )
    return replace(recording, events=kept)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: without(one, Move), "the webhook got it, but nothing was moved"),
        (
            lambda one: without(without(one, Move), Alert, states=("notified",)),
            "nothing was moved. The webhook never got it: check Alertmanager's route",
        ),
        (lambda one: without(one, Alert, Move), "was never even pending. Check in Prometheus that its rule is loaded"),
        (
            lambda one: without(one, Move, states=("done",)),
            'asked for 1 move, and none was done ("a is hot")',
        ),
    ],
)
def test_advice_names_the_link_of_the_chain_that_is_broken(
    change: Callable[[Recording], Recording], words: str
) -> None:
    texts = " ".join(one.text for one in advice(changed("never_balanced", change).repeats[0]))
    assert words in texts


def test_advice_on_an_alert_that_should_not_fire() -> None:
    def fire(recording: Recording) -> Recording:
        events = tuple(
            replace(event, state=AlertState.FIRING)
            if isinstance(event, Alert) and event.state is AlertState.DROPPED
            else event
            for event in recording.events
        )
        return replace(recording, events=events)

    texts = " ".join(one.text for one in advice(changed("short_burst", fire).repeats[0]))
    assert "should not fire on this load. Give its rule a longer for" in texts


def test_without_the_monitorings_intervals_nothing_is_said_of_bounds() -> None:
    def forget(recording: Recording) -> Recording:
        plan = replace(recording.run.plan, limits={"time_to_alert": "<= 5s"})
        return replace(recording, run=replace(recording.run, timing=None, plan=plan))

    found = changed("good", forget)
    (one,) = advice(found.repeats[0])
    assert one.text.startswith("Nobody evaluates the awaited alert.")
    assert "the bounds can&#39;t be stated" in page.html(found)


@pytest.mark.parametrize(
    ("polled", "said"),
    [
        (None, "group_wait not known, group_interval not known."),
        (0.5, "and a look at the firing alerts every 0.5 s, which stands for the webhook."),
    ],
)
def test_a_report_says_what_is_not_known_of_alertmanager(polled: float | None, said: str) -> None:
    def forget(recording: Recording) -> Recording:
        assert recording.run.timing
        timing = replace(recording.run.timing, group_wait=None, group_interval=None, polled=polled)
        return replace(recording, run=replace(recording.run, timing=timing))

    found = changed("good", forget)
    assert said in page.html(found).replace("\N{NO-BREAK SPACE}", " ")
    jsonschema.validate(document.document(found), document.schema())


# The terminal


def test_the_terminal_begins_with_verdict_and_sentence() -> None:
    lines = text_of("good", "thrash").splitlines()
    assert lines[0].split() == ["FAIL", "hot-host", "on", "synthetic", "with", "mover,", "2", "repeats"]
    assert lines[1].startswith("1 of 2 repeats failed; in repeat 2, time to balance: 37 s")


def test_the_terminal_shows_limits_and_resolution() -> None:
    (line,) = [line for line in text_of("good").splitlines() if line.startswith("time to balance")]
    assert line.split() == ["time", "to", "balance", "<=", "30", "s", "17", "s", "±", "1", "s", "PASS"]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("name", ["good", "failing_move", "no_slices", "one_host"])
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    assert max(map(len, text_of(name, width=width).splitlines())) <= width


def test_the_timeline_marks_hot_alert_and_moves() -> None:
    lines = {line.strip().partition(" ")[0]: line for line in text_of("failing_move").splitlines()}
    assert lines["moves"].count("▼") == 1
    assert lines["moves"].count("✕") == 2  # two of the three are in one cell
    assert "░" in lines["alert"]
    assert "█" in lines["alert"]


# The commands


def test_report_writes_the_files_and_exits_with_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case, code in (("good", Exit.OK), ("thrash", Exit.NOT_ACHIEVED), ("foreign_load", Exit.INVALID)):
        directory = write(tmp_path / case, repeats(case))
        assert cli.main(["report", str(directory)], lambda _: False) == code
        assert capsys.readouterr().out.splitlines()[-1] == str(directory / "report.html")
        for name, text in files_of(evaluate(case, repeats(case))).items():
            assert (directory / name).read_text() == text
        assert sorted(path.name for path in directory.iterdir()) == [
            "junit.xml",
            "recording-1.jsonl",
            "report.html",
            "result.json",
        ]


def test_a_report_can_be_written_elsewhere(tmp_path: Path) -> None:
    directory = write(tmp_path / "run", repeats("good"))
    assert cli.main(["report", str(directory), "--out", str(tmp_path / "a/b")], lambda _: False) == Exit.OK
    assert (tmp_path / "a/b/report.html").is_file()
    assert [path.name for path in directory.iterdir()] == ["recording-1.jsonl"]


def test_what_can_not_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path / "none")], lambda _: False) == Exit.BAD_INPUT
    assert "none: no such directory" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path)], lambda _: False) == Exit.BAD_INPUT
    assert "holds no recording-*.jsonl" in capsys.readouterr().err
    (tmp_path / "recording-1.jsonl").write_text("{}\n")
    assert cli.main(["report", str(tmp_path)], lambda _: False) == Exit.BAD_INPUT
    assert "recording-1.jsonl:1: must be an object with a kind" in capsys.readouterr().err


def test_what_can_not_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write(tmp_path / "run", repeats("good"))
    (tmp_path / "file").touch()
    assert cli.main(["report", str(directory), "--out", str(tmp_path / "file")], lambda _: False) == Exit.FAILED
    assert "cannot be written" in capsys.readouterr().err


def test_a_recording_that_was_cut_can_be_reported(tmp_path: Path) -> None:
    directory = write(tmp_path / "run", repeats("good"))
    path = directory / "recording-1.jsonl"
    path.write_bytes(path.read_bytes()[:-100])
    assert cli.main(["report", str(directory)], lambda _: False) == Exit.INVALID
    assert "has no end" in (directory / "report.html").read_text()


def test_the_big_report_costs_little(tmp_path: Path) -> None:
    directory = write(tmp_path / "big", {"recording-1.jsonl": big()})
    # A child's ru_maxrss begins with what its parent had: its own peak is asked for inside.
    code = (
        "import sys, time; from pathlib import Path; from loadband.rebalance.report.commands import report\n"
        "code = report(sys.argv[1:]); peak = Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
        "print(code, time.process_time(), peak, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)], capture_output=True, text=True, timeout=100, check=True
    )
    exit_code, seconds, kilobytes = done.stderr.split()
    print(f"{float(seconds):.1f} s of CPU, {int(kilobytes) / 1024:.0f} MiB")
    assert int(exit_code) == Exit.OK
    assert float(seconds) < 60
    assert int(kilobytes) < 300 * 1024
