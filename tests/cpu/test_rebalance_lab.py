"""The whole lab on real CPUs: `loadband rebalance run` with a real Prometheus, a real Alertmanager and real slices."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from loadband.rebalance import prometheus, recording
from loadband.rebalance.events import (
    Alert,
    AlertState,
    Disturbance,
    End,
    EndReason,
    Imbalance,
    Move,
    MoveState,
    Phase,
    PhaseName,
    Recording,
    Trouble,
)
from loadband.rebalance.timeline import Timeline

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.timeout(240),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two CPUs are needed, one for each host"),
    pytest.mark.skipif(
        not (shutil.which("prometheus") and (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager"))),
        reason="prometheus and prometheus-alertmanager are needed",
    ),
]

SCENARIO = """\
hot = "70%"
faster = 30
hold = "4s"

[[slices]]
name = "resident"
on = "each"
count = 1
size = "30%"

[[overload]]
add = "guest"
count = 3
size = "17%"

[phases]
baseline = "2s"
watch = "26s"
recovery = "10s"
"""
"""Everything 30 times faster: a window of 4 s, and an alert that is pending for 4 s."""


class Lab:
    """A run as a program."""

    def __init__(self, folder: Path, rebalancer: str, environment: dict[str, str]) -> None:
        self.out = folder / "out"
        scenario = folder / "small.toml"
        scenario.write_text(SCENARIO)
        command = ["rebalance", "run", str(scenario), "--rebalancer", rebalancer, "--out", str(self.out)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "loadband", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environment,
        )
        self.said = ""
        self.programs: list[psutil.Process] = []

    def until(self, words: str) -> None:
        """Read what it says up to a line with these words."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if words in line:
                self.programs = psutil.Process(self.process.pid).children(recursive=True)
                return
        raise AssertionError(f"it ended without saying {words!r}:\n{self.said}")

    def end(self) -> int:
        """Read the rest, and wait for the end; returns the exit code."""
        assert self.process.stdout
        self.said += self.process.stdout.read()
        print(self.said)
        return self.process.wait(30)

    def program(self, name: str) -> psutil.Process:
        """One of the servers that it has started."""
        (found,) = [one for one in self.programs if one.name() == name]
        return found

    @property
    def recording(self) -> Recording:
        return recording.read(self.out / "recording-1.jsonl")

    def troubles(self, what: Trouble) -> list[Disturbance]:
        return [one for one in self.recording.events if isinstance(one, Disturbance) and one.what is what]


@contextmanager
def lab(folder: Path, rebalancer: str = "mover", **environment: str) -> Iterator[Lab]:
    running = Lab(folder, rebalancer, environment)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout
        running.process.stdout.close()
    assert len(running.programs) >= 6, "two observers, two servers, two slices at least"
    _, alive = psutil.wait_procs(running.programs, timeout=5)
    assert alive == []


def ending(found: Recording) -> EndReason | None:
    return next((event.reason for event in found.events if isinstance(event, End)), None)


BOARD = Path(__file__).parents[2] / "helm/loadband/files/dashboards/loadband-rebalance.json"
LATE = 1.5
"""Seconds that a value of Prometheus may be behind the recording: a scrape and a sample, on a busy machine."""


class Scraped:
    """What the run's own Prometheus has scraped of the run.

    Args:
        running: its servers are still there.
    """

    def __init__(self, running: Lab) -> None:
        (listens,) = (word for word in running.program("prometheus").cmdline() if "--web.listen-address" in word)
        with prometheus.Client(f"http://{listens.partition('=')[2]}") as asked:
            ((self.info, _),) = asked.query("loadband_rebalance_info")
            (self.done,) = (value for _, value in asked.query('loadband_rebalance_moves_total{outcome="done"}'))
            now = time.time()
            self.spread = asked.range("loadband_rebalance_spread_ratio", now - 40, now, 1)[0][1]
            self.phases = asked.range("loadband_rebalance_phase == 1", now - 40, now, 1)
            self.empty = [
                (panel["title"], target["expr"])
                for panel in json.loads(BOARD.read_text())["panels"]
                for target in panel.get("targets", [])
                if not asked.range(self._interpolated(target["expr"]), now - 40, now, 1)
            ]

    def _interpolated(self, expression: str) -> str:
        return expression.replace("$instance", self.info["instance"]).replace("$__rate_interval", "5s")

    def assert_agrees(self, found: Recording) -> None:
        """Check it against the recording of the same run."""
        assert (self.info["run"], self.info["rebalancer"]) == (found.run.run, found.run.rebalancer.name)
        assert {title for title, _ in self.empty} <= {"Disturbances by kind"}
        line = Timeline(found)
        spreads = zip(line.moments, line.imbalances(Imbalance.SPREAD), strict=True)
        recorded = [(at, spread) for at, spread in spreads if not math.isnan(spread)]
        compared = 0
        for at, value in self.spread:
            near = [spread for when, spread in recorded if at - 2 * LATE <= when <= at + LATE]
            assert not near or min(near) - 0.01 <= value <= max(near) + 0.01
            compared += bool(near)
        assert compared > 20
        begins = {str(event.name): event.at for event in found.events if isinstance(event, Phase)}
        for labels, points in self.phases:
            assert begins[labels["phase"]] <= points[0][0] <= begins[labels["phase"]] + 1 + LATE
        assert {"baseline", "watch"} <= {labels["phase"] for labels, _ in self.phases}


def test_an_overload_fires_the_alert_and_the_mover_brings_balance_back(tmp_path: Path) -> None:
    with lab(tmp_path) as running:
        running.until("recovery begins")
        scraped = Scraped(running)
        running.end()
        found = running.recording
    scraped.assert_agrees(found)
    assert ending(found) is EndReason.COMPLETE
    assert [event.name for event in found.events if isinstance(event, Phase)] == list(PhaseName)
    states = [event.state for event in found.events if isinstance(event, Alert) and event.name == found.run.plan.alert]
    while states[:2] == [AlertState.PENDING, AlertState.DROPPED]:
        states = states[2:]  # at the threshold the first evaluations may go either way
    assert states[:4] == [AlertState.PENDING, AlertState.FIRING, AlertState.NOTIFIED, AlertState.RESOLVED]
    moved = [event for event in found.events if isinstance(event, Move) and event.state is MoveState.DONE]
    assert len(moved) == scraped.done > 0
    assert {(move.source, move.destination, move.by) for move in moved} == {("host-1", "host-2", "mover")}
    assert found.run.rebalancer.settings
    assert [part.name for part in found.run.monitoring] == ["prometheus", "alertmanager"]


def test_a_foreign_load_is_named(tmp_path: Path) -> None:
    program = shutil.which("yes")
    assert program
    cpu = max(os.sched_getaffinity(0))
    with lab(tmp_path, "none") as running:
        running.until("watch begins")
        with subprocess.Popen([program], stdout=subprocess.DEVNULL) as yes:
            os.sched_setaffinity(yes.pid, {cpu})
            running.until(f"yes (pid {yes.pid})")
            yes.kill()
        running.process.send_signal(signal.SIGINT)
        running.end()
        assert any(f"yes (pid {yes.pid})" in one.who for one in running.troubles(Trouble.FOREIGN_LOAD))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_is_ended_nothing_burns_and_the_recording_can_be_read(
    tmp_path: Path, number: signal.Signals
) -> None:
    with lab(tmp_path, "none") as running:
        running.until("overload begins")
        asked = time.monotonic()
        running.process.send_signal(number)
        code = running.end()
        assert time.monotonic() - asked < 5
        found = running.recording
    assert [event.name for event in found.events if isinstance(event, Phase)][:2] == list(PhaseName)[:2]
    assert found.run.plan.scenario == "small"
    if number is signal.SIGKILL:
        assert (code, ending(found)) == (-signal.SIGKILL, None)
    else:
        assert (code, ending(found)) == (4, EndReason.INTERRUPTED)
        assert "loadband: interrupted" in running.said


@pytest.mark.parametrize("name", ["prometheus", "prometheus-alertmanager"])
def test_a_server_that_is_killed_spoils_the_run_and_the_rest_is_undone(tmp_path: Path, name: str) -> None:
    with lab(tmp_path, "none") as running:
        running.until("overload begins")
        running.program(name).kill()
        running.until("monitoring down")
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 4
        (down,) = running.troubles(Trouble.MONITORING_DOWN)
        assert down.who == name.removeprefix("prometheus-")
        assert "signal 9" in down.detail


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; only root may have one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_under_the_servers_spoils_the_run_and_nothing_is_left(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk, lab(tmp_path, "none", TMPDIR=str(disk)) as running:
        running.until("baseline begins")
        with pytest.raises(OSError, match="No space left"):
            (disk / "filler").write_bytes(bytes(1 << 24))
        running.until("scrape failed")
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 4
        assert {one.host for one in running.troubles(Trouble.SCRAPE_FAILED)} == {"host-1", "host-2"}
