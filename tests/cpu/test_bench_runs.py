"""The benchmark on real CPUs: small runs of the real thing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from program import cpu_seconds, processes, wait_until

from bench import recording
from bench.helpers import Helper
from bench.results import Results
from bench.scenes import LEAD, SCENES, Act
from bench.stage import play
from bench.tools import TOOLS

pytestmark = pytest.mark.cpu

SCENE = {scene.name: scene for scene in SCENES}
TOOL = {tool.name: tool for tool in TOOLS}


def test_the_neighbour_takes_its_share() -> None:
    with Helper("burn", "0.6") as neighbour:
        assert cpu_seconds(neighbour.pid) < 1
        neighbour.go()
        wait_until(lambda: cpu_seconds(neighbour.pid) > 0.5)
        began, before = time.monotonic(), cpu_seconds(neighbour.pid)
        wait_until(lambda: cpu_seconds(neighbour.pid) > before + 1.8)
        took = time.monotonic() - began
        assert json.loads(neighbour.leave()) == []
    assert 1.8 / took == pytest.approx(0.6, abs=0.1)


def bench(out: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "--anyway", "--out", str(out), *arguments],
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_small_run_measures_and_shows(tmp_path: Path) -> None:
    process = bench(tmp_path, "--scenes", "steady", "--tools", "loadband", "--seconds", "2", "--repeats", "2")
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 0, said
    run = Results.load(tmp_path / "results.json").runs["steady", "loadband"]
    print(said)
    assert run.repeats == 2
    assert run.ranges["error"][0] <= run.numbers["error"] <= run.ranges["error"][1] <= 2.5
    assert run.numbers["memory"] <= 60
    assert run.curve[-1][0] == pytest.approx(LEAD + 2, abs=0.5)
    ET.parse(tmp_path / "steady.svg")
    assert "mean abs. error" in (tmp_path / "README.md").read_text()


def test_a_quarter_of_a_sine_is_tracked() -> None:
    scene = replace(SCENE["sine"], acts=(Act("start", 3.0), Act("from", 15.0)))
    tracked = play(scene, TOOL["loadband"], 0, lambda _: None)
    error, correlation = recording.mean_error("from", "until")(tracked), recording.correlates("from", "until")(tracked)
    print(f"mean abs. error {error:.2f} pp, correlation {correlation:.4f}")
    # Goals: 0.75 pp and 0.99, of a whole one.
    assert error <= 2.25
    assert correlation >= 0.97


def test_after_ctrl_c_no_process_of_a_scene_with_a_neighbour_is_left(tmp_path: Path) -> None:
    badge = uuid.uuid4().hex
    process = bench(tmp_path, "--scenes", "neighbour", "--tools", "loadband", BENCH_BADGE=badge)
    try:
        wait_until(lambda: len(processes(badge)) == 3, 30, "bench, neighbour and loadband")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert processes(badge) == []
