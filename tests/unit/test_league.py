"""The league, with recordings of runs that never took place."""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import EPOCH, Scene
from rich.console import Console

from bench import lanes, league, standings
from bench.league import AGAIN, INTERRUPTED, ROWS, Match, Row, measure
from loadband.exits import Exit
from loadband.rebalance import recording
from loadband.rebalance.check import load
from loadband.rebalance.events import EndReason, Part, Real, Recording, Trouble
from loadband.rebalance.recording import Writer
from loadband.rebalance.report import charts
from loadband.rebalance.run import Result
from loadband.rebalance.session import Session
from loadband.rebalance.verdict import Outcome

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two CPUs are needed, one for each host")

ROW = {row.name: row for row in ROWS}
DONE = Result(EndReason.COMPLETE, "", ())


def hot_host(session: Session, number: int, outcome: Outcome | None, moved: float = 37.0) -> Recording:
    """The scenario hot-host as it would be recorded: host-1 rises from 40 to 90 %, one slice of 20 % goes to host-2.

    Without that move it fails; with somebody else's load it is invalid; None: it is cut off. At 21 s it comes before
    the load was an overload.
    """
    part = Part(name=session.rebalancer, version="1", real=Real.OURS, actors=(session.rebalancer,))
    scene = Scene(hosts={"host-1": 4.0, "host-2": 4.0}, plan=session.scenario.plan(), rebalancer=part)
    for host in ("host-1", "host-2"):
        for index in (1, 2):
            scene.slice(f"resident-{host}-{index}", host, 0.8)
    for index in range(5):
        scene.slice(f"guest-{index}", "host-1", 0.4, at=20.0)
    scene.alert("host-1", pending=27.0, firing=35.0, notified=35.1, resolved=45.0)
    if outcome is Outcome.INVALID:
        scene.trouble(30.0, Trouble.FOREIGN_LOAD, host="host-2", who="backup (pid 4711)", amount=1.2)
    if outcome is not Outcome.FAIL:
        scene.move(moved, "resident-host-1-1", "host-2", by=session.rebalancer)
    if outcome is None:
        scene.stop(None, 40.0)
    made = scene.record()
    local = Part(name="local", version=f"Linux {platform.release()}", counts_others=True)
    run = replace(made.run, at=EPOCH + number, repeat=number, repeats=session.repeats, platform=local)
    return replace(made, run=run)


class Stage:
    """Plays what it is told to, and remembers it."""

    def __init__(self, *outcomes: Outcome | None) -> None:
        self.outcomes = list(outcomes)
        """By turn, what comes out; after these, what the row's expectation is."""
        self.played: list[tuple[str, int]] = []
        self.interrupt_at: int | None = None
        self.moved = 37.0
        """When a slice moves, seconds."""

    def play(self, session: Session, number: int) -> Result:
        self.played.append((session.out.name, number))
        interrupted = len(self.played) == self.interrupt_at
        usual = Outcome.FAIL if session.rebalancer == "none" else Outcome.PASS
        outcome = None if interrupted else self.outcomes.pop(0) if self.outcomes else usual
        made = hot_host(session, number, outcome, self.moved)
        session.out.mkdir(parents=True, exist_ok=True)
        with Writer(session.recording(number), made.run) as writer:
            for event in made.events:
                writer.write(event)
        return Result(EndReason.INTERRUPTED, "", ()) if interrupted else DONE


def matches(out: Path, *names: str, repeats: int = 2, scenario: str = "hot-host") -> list[Match]:
    return [league.match(ROW[name], load(scenario), repeats, out) for name in names]


def measured(stage: Stage, found: Sequence[Match]) -> tuple[bool, str]:
    said = io.StringIO()
    return measure(found, stage.play, Console(file=said, width=1000), lambda: 0.0), said.getvalue()


def test_repeats_take_turns_and_what_is_recorded_is_kept(tmp_path: Path) -> None:
    stage, found = Stage(), matches(tmp_path, "none", "mover")
    done, said = measured(stage, found)
    assert done
    assert stage.played == [("none", 1), ("mover", 1), ("none", 2), ("mover", 2)]
    assert "4 repeats to record" in said
    assert "hot-host · mover · 2 of 2: PASS The alert fired after" in said
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    more = matches(tmp_path, "none", "mover", repeats=3)
    assert measured(stage, more)[0]
    assert stage.played[4:] == [("none", 3), ("mover", 3)]
    assert {path: path.read_bytes() for path in before} == before
    assert [league.standing(each).missed for each in more] == ["", ""]


def test_the_time_left_is_that_of_what_was_measured(tmp_path: Path) -> None:
    said, times = io.StringIO(), iter([0.0, 60.0, 120.0, 180.0])
    measure(matches(tmp_path, "mover", repeats=3), Stage().play, Console(file=said), lambda: next(times))
    assert "2 repeats left, about 2:00 min." in said.getvalue()
    assert "1 repeat left, about 60 s." in said.getvalue()


def test_a_repeat_that_proves_nothing_is_recorded_again(tmp_path: Path) -> None:
    stage, (match,) = Stage(Outcome.INVALID), matches(tmp_path, "mover", repeats=1)
    done, said = measured(stage, [match])
    assert done
    assert len(stage.played) == 2
    assert "proves nothing: recording it again, 1 of 2" in said
    assert [path.name for path in (match.session.out / "spoiled").iterdir()] == ["recording-1-1.jsonl"]
    standing = league.standing(match)
    assert (standing.cell, standing.again, standing.missed) == ("PASS 1/1", 1, "")


def test_it_is_recorded_again_twice_at_most_even_by_another_run(tmp_path: Path) -> None:
    (match,) = matches(tmp_path, "mover", repeats=1)
    stage = Stage(*[Outcome.INVALID] * 9)
    stage.interrupt_at = 2
    assert not measured(stage, [match])[0]
    assert measured(stage, [match])[0]
    assert len(stage.played) == 2 + AGAIN
    assert not measured(stage, [match])[1].startswith("1 repeat")
    assert len(stage.played) == 2 + AGAIN
    standing = league.standing(match)
    assert (standing.cell, standing.again) == ("INVALID 1/1", AGAIN)
    assert standing.missed.startswith("mover in hot-host: repeat 1 is INVALID, expected is PASS: ")


def test_a_rebalancer_that_moves_before_there_is_an_overload_would_do_so_again(tmp_path: Path) -> None:
    (match,) = matches(tmp_path, "mover", repeats=2)
    stage = Stage()
    stage.moved = 21.0
    assert measured(stage, [match])[0]
    assert stage.played == [("mover", 1), ("mover", 2)]
    standing = league.standing(match)
    assert (standing.cell, standing.again) == ("INVALID 2/2", 0)
    assert measured(stage, [match])[1].startswith("0 repeats to record")
    repeat = league.judged(match.session, 1)
    assert repeat
    assert "resident-host-1-1 had left host-1 at 19.8 s" in repeat.sentence


def test_after_ctrl_c_what_was_recorded_is_kept_and_the_rest_is_not(tmp_path: Path) -> None:
    stage, found = Stage(), matches(tmp_path, "mover", repeats=3)
    stage.interrupt_at = 2
    assert not measured(stage, found)[0]
    (match,) = found
    assert [path.name for path in match.session.out.iterdir()] == ["recording-1.jsonl"]
    assert measured(stage, found)[0]
    assert [number for _, number in stage.played] == [1, 2, 2, 3]


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), lambda path: path.write_text("x\n")])
def test_what_was_cut_off_or_cannot_be_read_is_recorded_again(tmp_path: Path, damage: Callable[[Path], int]) -> None:
    (match,) = matches(tmp_path, "mover", repeats=2)
    stage = Stage()
    assert measured(stage, [match])[0]
    first, second = match.session.recording(1), match.session.recording(2)
    first.write_text(first.read_text().rpartition('{"kind":"end"')[0])
    damage(second)
    stage.played.clear()
    assert measured(stage, [match])[0]
    assert stage.played == [("mover", 1), ("mover", 2)]
    assert league.judged(match.session, 2) is not None


def test_a_repeat_that_could_not_begin_is_missing(tmp_path: Path) -> None:
    (match,) = matches(tmp_path, "mover", repeats=1)
    said = io.StringIO()

    def failing(_: Session, __: int) -> Result:
        return Result(EndReason.FAILED, "not ready after 40 s", ("host-1 still burns",))

    assert measure([match], failing, Console(file=said, width=200))
    assert said.getvalue().count("INVALID not ready after 40 s") == 1 + AGAIN
    assert "not undone: host-1 still burns" in said.getvalue()
    assert league.standing(match).missed == "mover in hot-host: nothing is recorded, expected is PASS"


def test_what_cannot_be_played_here_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (blind,) = matches(tmp_path, "mover", scenario="blind")
    assert blind.cannot == "it is for rebalancers that don't read utilization"
    assert matches(tmp_path, "none", scenario="blind")[0].cannot == ""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    (many,) = matches(tmp_path, "mover", scenario="two-hot-hosts")
    assert many.cannot.startswith("3 hosts need 3 CPUs, one each, and this process may use 2")
    monkeypatch.setenv("PATH", "/nonexistent")
    (hbal,) = matches(tmp_path, "hbal")
    assert "apt install ganeti-htools" in hbal.cannot
    stage = Stage()
    assert measured(stage, [blind, many, hbal]) == (True, "0 repeats to record, about 0 s.\n")
    assert [league.standing(each).missed for each in (blind, many, hbal)] == ["", "", ""]
    page = standings.markdown([league.standing(each) for each in (blind, many)], "make league")
    assert "- blind with mover: it is for rebalancers that don't read utilization." in page
    assert "- two-hot-hosts with mover: 3 hosts need 3 CPUs" in page


def at_once(_: float) -> bool:
    raise AssertionError("nothing here waits")


def play(out: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    def perform(session: Session, run: str, number: int, wait: object, console: Console) -> Result:
        assert run
        assert wait is at_once
        assert console
        return stage.play(session, number)

    monkeypatch.setattr("loadband.rebalance.session.play", perform)
    words = ["--scenarios", "hot-host", "--rows", "none mover", "--repeats", "2", "--out", str(out)]
    return league.main([*words, *arguments], at_once)


def test_it_ends_with_a_table_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert play(tmp_path, Stage(), monkeypatch) == Exit.OK
    said = capsys.readouterr().out
    assert "hot-host  FAIL 2/2  PASS 2/2" in said
    assert "not as expected" not in said
    page = (tmp_path / "README.md").read_text()
    assert '- command: `make league ROWS="none mover" SCENARIOS="hot-host" REPEATS=2`' in page
    assert "| [hot-host](#hot-host) | balance | FAIL 2/2 | PASS 2/2 |" in page
    assert "| mover | 1 | ours | alert |  |  |" in page
    assert "| mover | PASS 2/2 | 9 s | " in page
    assert max(len(line) for line in page.splitlines() if not line.startswith(("|", "- "))) <= standings.COLUMNS
    (group,) = json.loads((tmp_path / "compare.json").read_text())["groups"]
    assert [row["name"] for row in group["rows"]] == ["mover", "none"]
    assert (tmp_path / "compare.html").read_text().startswith("<!doctype html>")
    assert "\n![What each rebalancer made of hot-host](hot-host.svg)\n" in page
    picture = (tmp_path / "hot-host.svg").read_text()
    assert [f">{title}</text>" in picture for title in ("none: FAIL 2/2", "mover: PASS 2/2")] == [True, True]


def test_many_hosts_share_a_colour_in_a_lane(tmp_path: Path) -> None:
    (match,) = matches(tmp_path, "mover", repeats=1)
    assert measured(Stage(), [match])[0]
    found = league.standing(match)
    assert found.result
    repeat = found.result.repeats[0]
    hosts = tuple(replace(repeat.picture.hosts[-1], name=f"host-{number}") for number in range(charts.FEW + 1))
    result = replace(found.result, repeats=(replace(repeat, picture=replace(repeat.picture, hosts=hosts)),))
    text = lanes.draw([replace(found, result=result)])
    assert lanes.MANY in text
    assert lanes.COOL[0] not in text


def test_what_is_not_as_expected_is_said_and_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    stage = Stage(Outcome.FAIL, Outcome.FAIL, Outcome.PASS, Outcome.PASS)
    assert play(tmp_path, stage, monkeypatch) == Exit.NOT_ACHIEVED
    said = capsys.readouterr().out
    assert "not as expected: mover in hot-host: repeat 1 is FAIL, expected is PASS: " in said
    assert "not as expected: none in hot-host: repeat 2 is PASS, expected is FAIL: " in said
    assert "1 PASS, 1 FAIL of 2 !" in said
    assert "1 PASS, 1 FAIL of 2 **!**" in (tmp_path / "README.md").read_text()


def test_a_league_that_could_play_nothing_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert play(tmp_path, Stage(), monkeypatch) == Exit.NOT_ACHIEVED


def test_an_interrupted_league_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage()
    stage.interrupt_at = 1
    assert play(tmp_path, stage, monkeypatch) == INTERRUPTED
    assert "What was recorded is kept" in capsys.readouterr().out
    assert not (tmp_path / "README.md").exists()


def test_recordings_of_another_scenario_or_machine_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert play(tmp_path, Stage(), monkeypatch) == Exit.OK
    file = tmp_path / "hot-host" / "mover" / "recording-1.jsonl"
    for old, new, said in (
        ('"theta":0.25', '"theta":0.3', "is of another plan than"),
        (f"Linux {platform.release()}", "Linux 2.6", "is of another platform than"),
    ):
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        assert play(tmp_path, Stage(), monkeypatch) == Exit.BAD_INPUT
        assert said in capsys.readouterr().out
        file.write_text(text)
    for one in file.parent.glob("*.jsonl"):
        one.write_text(one.read_text().replace('"theta":0.25', '"theta":0.3', 1))
    assert play(tmp_path, Stage(), monkeypatch) == Exit.BAD_INPUT
    assert "was recorded before the scenario hot-host was changed" in capsys.readouterr().out
    for one in file.parent.glob("*.jsonl"):
        found = recording.read(one)
        assert found.run.plan.theta == 0.3
        changed = one.read_text().replace('"theta":0.3', '"theta":0.25', 1)
        one.write_text(changed.replace(f"Linux {platform.release()}", "Linux 2.6", 1))
    assert play(tmp_path, Stage(), monkeypatch) == Exit.BAD_INPUT
    two = f"Linux 2.6 and Linux {platform.release()}"
    assert f"who meets in a scenario must do so on one machine: {two}" in capsys.readouterr().out


def test_what_is_complete_may_be_of_another_machine_and_nothing_is_added_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert play(tmp_path, Stage(), monkeypatch) == Exit.OK
    for one in tmp_path.rglob("*.jsonl"):
        one.write_text(one.read_text().replace(f"Linux {platform.release()}", "Linux 2.6", 1))
    stage = Stage()
    assert play(tmp_path, stage, monkeypatch) == Exit.OK
    assert stage.played == []
    assert "- platform: local, Linux 2.6\n" in (tmp_path / "README.md").read_text()
    capsys.readouterr()
    assert play(tmp_path, stage, monkeypatch, "--repeats", "3") == Exit.BAD_INPUT
    assert f"on one machine: Linux 2.6 and Linux {platform.release()}" in capsys.readouterr().out
    assert stage.played == []


def test_what_would_be_recorded_again_is_not_on_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(tmp_path, Stage(), monkeypatch) == Exit.OK
    (match,) = matches(tmp_path, "mover")
    match.session.recording(2).unlink()
    Stage(Outcome.INVALID).play(match.session, 2)
    for one in tmp_path.rglob("*.jsonl"):
        one.write_text(one.read_text().replace(f"Linux {platform.release()}", "Linux 2.6", 1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    stage = Stage()
    capsys.readouterr()
    assert play(tmp_path, stage, monkeypatch) == Exit.BAD_INPUT
    assert "must do so on one machine" in capsys.readouterr().out.replace("\n", " ")
    assert stage.played == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == before


def test_the_page_says_which_scenario_was_played_on_which_machine(tmp_path: Path) -> None:
    found = [*matches(tmp_path, "none", repeats=1), *matches(tmp_path, "none", repeats=1, scenario="neighbour")]
    assert measured(Stage(), found)[0]
    one = found[1].session.recording(1)
    one.write_text(one.read_text().replace(f"Linux {platform.release()}", "Linux 2.6", 1))
    page = standings.markdown([league.standing(each) for each in found], "make league")
    assert f"- platform: local, Linux {platform.release()} (hot-host)\n- platform: local, Linux 2.6 (neighbour)" in page


@pytest.mark.parametrize("words", [["--rows", "movr"], ["--scenarios", "cold-host"], ["--repeats", "0"]])
def test_bad_words_are_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        league.main([*words, "--out", str(tmp_path)], at_once)
    assert ended.value.code == Exit.BAD_INPUT
    assert capsys.readouterr().err


def test_each_row_can_be_made_and_says_what_it_is() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert isinstance(row, Row)
        assert row.about


SAID = "Migration of resident-host-1-1 from host-1 to host-2 reduces standard deviation to 0.05."


@pytest.mark.parametrize(
    ("log", "missed"),
    [
        (f"{EPOCH + 37.0:.3f} INFO watcher.strategy: {SAID}\n", ""),
        (
            f"{EPOCH - 5.0:.3f} INFO watcher.strategy: {SAID}\n",
            "recording-1.jsonl: recorded: resident-host-1-1 to host-2",
        ),
        (None, "the tool's log: nothing"),
    ],
)
def test_a_tool_that_says_something_else_in_its_log_is_not_as_expected(
    log: str | None, missed: str, tmp_path: Path
) -> None:
    (match,) = matches(tmp_path, "watcher-stabilization", repeats=1)
    Stage().play(match.session, 1)
    if log is not None:
        (match.session.out / league.TOOL_LOG).write_text(log)
    found = league.standing(match).missed
    assert missed in found
    assert found.startswith("watcher-stabilization in hot-host: the tool's own log says something else") is bool(missed)


def test_a_tool_is_asked_as_its_adapter_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(league, "TOOLS", tmp_path)
    (match,) = matches(tmp_path, "proxlb-tuned")
    assert match.cannot == "proxlb isn't set up: make league ROWS=proxlb-tuned does it"
    python = tmp_path / "proxlb" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o700)
    (match,) = matches(tmp_path, "proxlb-tuned")
    assert match.cannot == ""
    assert match.session.planner[:4] == (str(python), "-W", "ignore", "-m")
    options = match.session.planner[4:]
    assert options[:3] == ("bench.adapters.proxlb", "--mode", "tuned")
    assert options[3:5] == ("--faster", f"{match.session.scenario.faster:g}")
    assert options[5:] == ("--log", str(match.session.out / league.TOOL_LOG))
