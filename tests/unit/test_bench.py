"""The benchmark: its numbers on recorded marks, its table and its pictures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from math import inf, isnan, nan
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from program import processes, wait_until
from rich.console import Console

from bench import __main__ as command_line
from bench import machine, recording, report
from bench.groups import CannotError, limited
from bench.machine import Busy
from bench.meter import Mark
from bench.recording import Recording, Usage
from bench.results import Results, Run
from bench.scenes import EDGE, SCENES, Row
from bench.stage import task_of
from bench.tools import TOOLS, Task
from bench.tracks import DAY, SINE, STEPS, Track
from loadband.playback import ProfileFile

CPUS = 2
STEP = 0.1
SCENE = {scene.name: scene for scene in SCENES}
TOOL = {tool.name: tool for tool in TOOLS}


def recorded(
    utilization: Callable[[float], float],
    seconds: float,
    events: dict[str, float] | None = None,
    ticks_factor: float = 1.0,
    usage: tuple[Usage, ...] = (),
) -> Recording:
    """Marks of two CPUs that are as busy as a function of time says."""
    marks, busy = [], 0.0
    for index in range(round(seconds / STEP) + 1):
        at = index * STEP
        marks.append(Mark(at, CPUS * at - busy, busy, ticks_factor * busy, CPUS * at))
        busy += CPUS * STEP * utilization(at + STEP / 2)
    return Recording(
        marks,
        STEP,
        capacity=CPUS,
        of_group=False,
        cpus=CPUS,
        band=(0.6, 0.7),
        events={"start": 0.0, "from": 0.0, "until": seconds} | (events or {}),
        usage=usage,
    )


def test_errors_are_of_1_s_windows_against_the_middle_of_the_band() -> None:
    steady = recorded(lambda _: 0.66, 10)
    assert recording.mean_error("from", "until")(steady) == pytest.approx(1.0)
    assert recording.mean_error_by_tasks("from", "until")(steady) == pytest.approx(1.0)
    assert recording.mean_utilization("from", "until")(steady) == pytest.approx(66)
    # A swing within a window is none.
    swinging = recorded(lambda at: 0.15 if at % 1 < 0.5 else 1.15, 10)
    assert recording.mean_error("from", "until")(swinging) == pytest.approx(0.0, abs=1e-9)


def test_the_share_of_windows_in_a_band_counts_each_window() -> None:
    half = recorded(lambda at: 0.65 if at < 5 else 0.90, 10)
    # Of the 91 windows those from 0.0 to 4.2 begin early enough: 20 % of the next second keeps them at 70 %.
    assert recording.share_within("from", "until")(half) == pytest.approx(100 * 43 / 91, abs=1.2)
    assert recording.share_within("from", "until", 0.01)(half) == pytest.approx(100 * 41 / 91, abs=1.2)


def test_back_in_the_band_is_when_it_stays_for_10_s() -> None:
    absorbed = recorded(lambda at: 0.95 if 5 <= at < 7 else 0.65, 30, {"arrives": 5.0})
    took = recording.back_in_band("arrives", "until")(absorbed)
    assert took == pytest.approx(2.0 - 0.1, abs=0.11), "the window that starts 0.1 s early is still within 70 %"
    again = recorded(lambda at: 0.95 if 5 <= at < 7 or 12 <= at < 13 else 0.65, 30, {"arrives": 5.0})
    assert recording.back_in_band("arrives", "until")(again) == pytest.approx(8.0 - 0.1, abs=0.11)
    crowded = recorded(lambda at: 0.95 if at >= 5 else 0.65, 30, {"arrives": 5.0})
    assert recording.back_in_band("arrives", "until")(crowded) == inf
    assert isnan(recording.back_in_band("burn", "until")(crowded)), "it has no such event"


def test_ticks_are_held_against_the_truth() -> None:
    assert recording.tick_error("from", "until")(recorded(lambda _: 0.5, 10)) == pytest.approx(0.0, abs=1e-9)
    assert recording.tick_error("from", "until")(recorded(lambda _: 0.5, 10, ticks_factor=0.9)) == pytest.approx(5.0)


def test_who_used_what_is_told_apart() -> None:
    usage = tuple(
        Usage(at=at, tool=0.2 * at, neighbour=1.0 * at, all_ours=1.3 * at, tasks=1.3 * at + 1.0 * (at >= 6))
        for at in map(float, range(11))
    )
    seen = recorded(lambda _: 0.65, 10, usage=usage)
    assert recording.tool_use("from", "until")(seen) == pytest.approx(10)
    assert recording.neighbour_use("from", "until")(seen) == pytest.approx(50)
    assert recording.strangers(seen) == pytest.approx(50), "one CPU of two for one second"


def test_a_band_that_moves_is_held_against_its_mean_in_each_window() -> None:
    ramp = replace(recorded(lambda at: 0.2 + 0.04 * at, 10), asked=lambda at: 0.2 + 0.04 * at)
    assert recording.mean_error("from", "until")(ramp) == pytest.approx(0.0, abs=1e-9)
    assert recording.correlates("from", "until")(ramp) == pytest.approx(1.0)
    late = replace(recorded(lambda at: 0.2 + 0.04 * (at - 0.5), 10), asked=ramp.asked)
    assert recording.mean_error("from", "until")(late) == pytest.approx(2.0)
    opposite = replace(recorded(lambda at: 0.8 - 0.04 * at, 10), asked=ramp.asked)
    assert recording.correlates("from", "until")(opposite) == pytest.approx(-1.0)


def test_a_step_is_reached_when_the_new_edges_hold_for_10_s() -> None:
    late = recorded(lambda at: 0.7 if at >= 15 else 0.3, 30, {"up": 14.0})
    assert recording.reached("up", "until", 0.65, 0.75)(late) == pytest.approx(1.0 - 0.1, abs=0.11)
    assert recording.reached("up", "until", 0.75, 0.85)(late) == inf


@pytest.mark.parametrize("track", [SINE, STEPS, DAY], ids=["sine", "steps", "day"])
def test_a_track_asks_for_what_its_profile_asks_for(track: Track, tmp_path: Path) -> None:
    profile = ProfileFile(track.write(tmp_path, begins=1_000_000.25)).load()
    assert profile.start == 1_000_000.25
    for moment in (index / 7 for index in range(7 * 144)):
        band = profile.at(moment)[1]
        assert band.target == pytest.approx(track.target(moment), abs=1e-6)
        assert band.high - band.low == pytest.approx(2 * EDGE)


def run_of(scene: str, tool: str, **numbers: float) -> Run:
    curve = tuple((1 + index / 8, 65.0 + index % 3) for index in range(40))
    return Run(scene, tool, f"{tool} --some", numbers=numbers, events={"start": 0.0}, curve=curve)


def results_of(*runs: Run) -> Results:
    results = Results({"CPUs": "2 x some CPU"}, {"loadband": "1.2.3"})
    for run in runs:
        results.add(run)
    return results


def test_results_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deep/results.json"
    runs = (run_of("cold", "loadband", settled=0.25, settled_start=inf), Run("cost", "stress-ng", cannot="because"))
    results_of(*runs).save(path)
    again = Results.load(path)
    assert again == results_of(*runs)
    assert "Infinity" not in path.read_text()
    results_of(run_of("cold", "loadband", settled=nan)).save(path)
    assert isnan(Results.load(path).runs["cold", "loadband"].numbers["settled"])


def test_repeats_are_summed_up_by_the_median_and_the_range_of_each_figure(tmp_path: Path) -> None:
    runs = [
        run_of("cold", "loadband", settled=0.5, settled_start=inf),
        run_of("cold", "loadband", settled=0.3, settled_start=0.8),
        run_of("cold", "loadband", settled=0.4, settled_start=nan),
    ]
    run = Run.middle([replace(each, strangers=10.0 * index) for index, each in enumerate(runs)])
    assert run.numbers == {"settled": 0.4, "settled_start": 0.8}
    assert run.ranges == {"settled": (0.3, 0.5), "settled_start": (0.8, inf)}
    assert (run.repeats, run.strangers) == (3, 20.0)
    results_of(run).save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results_of(run)
    page = report.markdown(results_of(run), [])
    assert "| 0.4 s (0.3..0.5) ✓ |" in page
    assert "| 0.8 s (0.8..never) |" in page
    assert "medians of 3 runs" in page


def test_one_run_is_its_own_middle_and_one_that_failed_stands_for_all() -> None:
    good, bad = run_of("cold", "loadband", settled=0.5), Run("cold", "loadband", cannot="it ended")
    assert Run.middle([good]) is good
    assert Run.middle([good, bad, good]) is bad
    assert "median" not in report.markdown(results_of(good), [])


def test_a_range_without_width_is_not_shown() -> None:
    run = Run.middle([run_of("cold", "loadband", settled=value, settled_start=1.0) for value in (0.31, 0.32)])
    assert "| 0.3 s ✓ |" in report.markdown(results_of(run), [])


def test_a_new_run_replaces_the_old_one() -> None:
    results = results_of(run_of("cold", "loadband", settled=0.3), run_of("cold", "loadband", settled=0.4))
    assert [run.numbers["settled"] for run in results.runs.values()] == [0.4]


@pytest.mark.parametrize(
    ("goal", "at_least", "value", "met"),
    [(0.25, False, 0.25, True), (0.25, False, 0.26, False), (0.25, False, inf, False), (99.0, True, 98.0, False)],
)
def test_a_goal_is_met_or_missed(goal: float, at_least: bool, value: float, met: bool) -> None:  # noqa: FBT001 - a table
    assert Row("key", "title", "pp", lambda _: value, goal, at_least).met(value) is met


def test_the_page_has_goals_beside_what_was_measured_and_says_what_is_missed() -> None:
    results = results_of(
        run_of("cold", "loadband", settled=0.3, settled_start=0.8),
        run_of("cold", "stress-ng", settled=2.0, settled_start=2.1),
        run_of("neighbour", "loadband", back=3.14, error=0.5, again=inf),
        run_of("neighbour", "stress-ng", back=inf, error=15.0, again=1.0),
        Run("cost", "stress-ng", cannot="its burning can't be separated from its own cost"),
    )
    page = report.markdown(results, [("a picture", "cold.svg")])
    assert "| **cold start** | in the band after the first burn | ≤ 1 s | 0.3 s ✓ | 2.0 s |" in page
    assert "it arrives: back in the band after | ≤ 1 s | **3.1 s ✗** | never |" in page
    assert "**never ✗**" in page
    assert "stress-ng: own cost: its burning can't be separated from its own cost" in page
    assert "![a picture](cold.svg)" in page
    assert "`loadband --some`" in page
    assert [sentence.split(":")[0] for sentence in report.missed(results)] == [
        "a neighbour takes 30 % and leaves again, it arrives",
        "a neighbour takes 30 % and leaves again, it leaves",
    ]
    assert report.missed(results, ["cold"]) == []


def test_runs_that_others_disturbed_are_told() -> None:
    disturbed = Run("cold", "loadband", numbers={"settled": 0.3}, strangers=40.0)
    assert "cold, loadband: other processes used 40 % of the machine for a second" in report.markdown(
        results_of(disturbed), []
    )


def test_a_picture_shows_all_tools_and_the_band(tmp_path: Path) -> None:
    results = results_of(run_of("neighbour", "loadband"), run_of("neighbour", "stress-ng"), run_of("cost", "loadband"))
    command_line.publish(results, tmp_path)
    text = " ".join(ET.parse(tmp_path / "neighbour.svg").getroot().itertext())
    for word in ("loadband", "stress-ng", "band 60..70 %", "utilization"):
        assert word in text
    assert not (tmp_path / "cost.svg").exists(), "there is nothing to see"
    assert "(neighbour.svg)" in (tmp_path / "README.md").read_text()
    before = (tmp_path / "neighbour.svg").read_bytes()
    command_line.publish(results, tmp_path)
    assert (tmp_path / "neighbour.svg").read_bytes() == before, "the same numbers make the same bytes"


def test_a_repeat_of_all_takes_half_an_hour_at_most() -> None:
    assert command_line.estimate(SCENES, TOOLS, command_line.SECONDS) <= 30 * 60
    assert command_line.estimate([SCENE["steady"]], [TOOL["loadband"]], 100) > 100


@pytest.mark.parametrize(
    ("arguments", "scenes", "tools"),
    [
        (["--scenes", "cold,steady", "--tools", "loadband"], ["steady", "cold"], ["loadband"]),
        (["--scenes", " flood ", "--tools", "stress-ng lookbusy"], ["flood"], ["stress-ng", "lookbusy"]),
        ([], list(SCENE), list(TOOL)),
    ],
)
def test_scenes_and_tools_are_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], scenes: list[str], tools: list[str]
) -> None:
    played = []

    def measure(choice: command_line.Choice, _tools: object, results: Results, _console: object) -> None:
        played.append(([scene.name for scene in choice.scenes], [tool.name for tool in choice.tools]))
        results.add(run_of("cold", "loadband", settled=0.3, settled_start=0.8))

    monkeypatch.setattr(machine, "busy", lambda: Busy(0.5, ()))
    monkeypatch.setattr(command_line, "_measure", measure)
    assert command_line.main([*arguments, "--out", str(tmp_path)]) == 0
    assert played == [(scenes, tools)]


@pytest.mark.parametrize(
    "arguments", [["--scenes", "stedy"], ["--tools", "yes"], ["--seconds", "1"], ["--repeats", "0"]]
)
def test_what_is_not_there_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command_line.main(arguments)
    assert "error:" in capsys.readouterr().err


def test_a_machine_that_is_not_idle_is_refused_and_told_by_what(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "busy", lambda: Busy(40.0, ("compiler (42) 80 %",)))
    monkeypatch.setattr(command_line, "_measure", lambda *_: pytest.fail("it measures"))
    assert command_line.main(["--out", str(tmp_path)]) == 2
    assert "compiler (42) 80 %" in capsys.readouterr().out


def test_results_are_added_to_those_of_the_same_machine_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console, path = Console(width=200), tmp_path / "results.json"
    ours = Results({**machine.describe(), "date": "2026-01-01"})
    ours.add(run_of("cold", "loadband", settled=0.3))
    ours.save(path)
    assert ("cold", "loadband") in command_line._earlier(path, console).runs
    results_of(run_of("cold", "loadband", settled=0.3)).save(path)
    assert not command_line._earlier(path, console).runs
    assert "from another machine" in capsys.readouterr().out
    path.write_text('{"machine": 3')
    assert not command_line._earlier(path, console).runs


def test_every_tool_is_told_what_to_hold() -> None:
    half = Task(band=(60, 70), cpus=2, quota=0.5)
    assert list(TOOL["stress-ng"].launch(half).command)[-4:] == ["--cpu", "1", "--cpu-load", "32"]
    both = Task(band=(60, 70), cpus=2, quota=1.5)
    assert list(TOOL["stress-ng"].launch(both).command)[-4:] == ["--cpu", "2", "--cpu-load", "49"]
    assert TOOL["loadband"].launch(both).environment["LOADBAND_SCOPE"] == "container"
    assert TOOL["loadband"].launch(Task((60, 70), 1, pinned=True)).environment["LOADBAND_SCOPE"] == "cpuset"
    many = TOOL["ancestor"].launch(Task((60, 70), 2, workers=128)).environment
    # 128 threads that burn 1 ms and sleep 97 ms take 1.3 CPUs of 2.
    assert (many["LOADBAND_WORKERS"], many["LOADBAND_SLEEP_MS"]) == ("128", "97")
    with pytest.raises(CannotError, match="as many CPUs as it has processes"):
        TOOL["lookbusy"].launch(Task((60, 70), 2, workers=128))
    for unlike in (Task((60, 70), 2, workers=128), Task((60, 70), 2, quota=0.5), Task((60, 70), 1, pinned=True)):
        with pytest.raises(CannotError):
            TOOL["chaosblade"].launch(unlike)
    assert list(TOOL["chaosblade"].launch(Task((60, 70), 2)).command)[-4:] == [
        "--cpu-count",
        "2",
        "--cpu-percent",
        "65",
    ]
    with pytest.raises(CannotError, match="whole percentage"):
        TOOL["stress-ng"].launch(Task((0, 1), 2, workers=128))


def test_every_scene_says_in_order_what_happens_and_when() -> None:
    assert len(SCENE) == len(SCENES)
    for scene in SCENES:
        assert scene.acts[0].event == "start"
        assert len({row.key for row in scene.rows}) == len(scene.rows)
        assert TOOL["loadband"].launch(task_of(scene))


def test_a_group_holds_what_runs_in_it_and_is_gone_afterwards() -> None:
    if os.geteuid():
        pytest.skip("only root makes control groups")
    try:
        with limited(0.5) as group:
            command = group.entered(["sh", "-c", "cat /proc/self/cgroup"])
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert group.directories[0].name in said
            assert group.usage() >= 0
    except CannotError as error:
        pytest.skip(str(error))
    assert not any(directory.exists() for directory in group.directories)


SLEEPER = """
import sys
from bench import __main__ as command_line
from bench.tools import Launch, Tool
command_line.TOOLS = (Tool("loadband", "sleep", lambda task: Launch(["sleep", "100"]), "burns nothing"),)
sys.exit(command_line.run(["--anyway", "--scenes", "steady", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_end_it_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    badge = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(tmp_path)],
        env=os.environ | {"BENCH_BADGE": badge, "TMPDIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: any("sleep 100" in line for line in processes(badge)), 30, "the tool")
        process.send_signal(number)
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Interrupted" in said
    assert processes(badge) == []
    assert not list(tmp_path.glob("loadband-bench-*"))
