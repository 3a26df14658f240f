"""`loadband rebalance record`: on a real Prometheus and Alertmanager, and what it refuses."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from exporters import Exporter, exporting
from rich.console import Console
from simulated import Clocks
from simulated_production import ALERT, Cluster, Prometheus, plan, servers

from loadband.exits import Exit
from loadband.rebalance import alertmanager, prometheus, record_command, recording
from loadband.rebalance.cli import main
from loadband.rebalance.events import Alert, AlertState, Disturbance, Host, Move, MoveState, Recording, Sample, Subject
from loadband.rebalance.figures import measure
from loadband.rebalance.programs import wait_for
from loadband.rebalance.record_command import Progress

FASTER = 60.0
SCENARIO = """
expect = "nothing"
faster = 1
hold = "2s"
[limits]
alert_to_move = "<= 20s"
moves = "== 1"
"""


class Now(Clocks):
    """The clocks of this machine, for a cluster that stamps its moves."""

    def wall(self) -> float:
        return time.time()


class Driver:
    """Waits as the program does, and plays what happens meanwhile: a host gets hot, and something is moved."""

    def __init__(self, exporters: Mapping[str, Exporter], cluster: Cluster, path: Path) -> None:
        self._exporters = exporters
        self._cluster = cluster
        self._path = path
        self._begin = time.monotonic()
        self._moved = False

    def _states(self) -> set[AlertState]:
        events = recording.read(self._path).events if self._path.exists() else ()
        return {each.state for each in events if isinstance(each, Alert) and each.name == ALERT}

    def __call__(self, seconds: float) -> bool:
        time.sleep(seconds)
        assert time.monotonic() < self._begin + 60.0, "it never happens"
        states = self._states()
        if not self._moved:
            self._exporters["a"].utilization = 0.9
            if AlertState.FIRING in states:
                self._moved = True
                self._cluster.move("shop/web-1", "a", "b")
                self._exporters["a"].utilization = 0.2
        return AlertState.RESOLVED in states


@pytest.mark.skipif(
    not (shutil.which("prometheus") and (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager"))),
    reason="prometheus and prometheus-alertmanager are needed",
)
def test_real_servers_are_followed_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loadband.rebalance.production.POLL", 0.25)
    notifies = alertmanager.Server(tmp_path / "alertmanager", "http://127.0.0.1:9/", FASTER)
    scrapes = prometheus.Server(tmp_path / "prometheus", notifies.address, FASTER)
    exporters, cluster, out = {"a": Exporter(0.2), "b": Exporter(0.2)}, Cluster(Now(), ["a", "b"]), tmp_path / "out"
    monkeypatch.setitem(vars(record_command)["PLATFORMS"], "kubernetes", lambda _: cluster)
    (tmp_path / "production.toml").write_text(SCENARIO)
    words = ["record", str(out), "--scenario", str(tmp_path / "production.toml")]
    words += ["--prometheus", scrapes.url, "--alertmanager", notifies.url]
    with exporting(exporters) as targets, notifies, scrapes, prometheus.Client(scrapes.url) as asked:
        scrapes.targets([(target.address, target.labels) for target in targets])
        ready = 'count_over_time(node:loadband_host_cpu:ratio{node="a"}[2s]) >= 7'
        wait_for(lambda: asked.query(ready), 30, "a whole window of host a")
        assert main(words, Driver(exporters, cluster, out / "recording-1.jsonl")) == Exit.OK
    said = capsys.readouterr().err
    assert "alert LoadbandHostHot a firing" in said
    assert "move shop/web-1 from a to b done" in said
    assert f"judge it: loadband rebalance report {out}" in said
    found = recording.read(out / "recording-1.jsonl")
    assert (found.run.plan.window, found.run.plan.sample_interval) == (2.0, 0.25)
    assert not [each for each in found.events if isinstance(each, Disturbance)]
    firing = next(each for each in found.events if isinstance(each, Alert) and each.state is AlertState.FIRING)
    assert (firing.host, firing.resolution) == ("a", 0.0)
    assert 0 < (measure(found)["alert_to_move"].value or 0.0) < 10
    assert main(["report", str(out)], lambda _: True) in {Exit.OK, Exit.INVALID}  # a busy machine may miss samples
    assert "every limit was kept" in capsys.readouterr().out or not _is_quick(found)
    assert main(words, lambda _: True) == Exit.BAD_INPUT
    assert "holds recordings already" in capsys.readouterr().err


def _is_quick(found: Recording) -> bool:
    """Whether this machine kept up: no host is without a sample for long."""
    stamps = sorted(each.at for each in found.events if isinstance(each, Sample) and each.name == "a")
    return max(late - early for early, late in pairwise(stamps)) < 0.75


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("", "set `faster = 1`"),
        ("faster = 1\n", 'set `expect = "nothing"`, "no move" or "no alert"'),
        ('faster = 1\nexpect = "nothing"\n[[slices]]\n', "leave out [[slices]] and [[overload]]"),
        (
            'faster = 1\nexpect = "nothing"\n[limits]\ntime_to_alert = "<= 1s"\n',
            "leave out the limits of time_to_alert: only a run",
        ),
    ],
)
def test_a_scenario_that_needs_a_run_is_refused(
    scenario: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.toml"
    file.write_text(scenario)
    words = ["record", str(tmp_path / "out"), "--scenario", str(file), "--prometheus", "http://host"]
    assert main(words, lambda _: True) == Exit.BAD_INPUT
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: --prometheus"),
        (["--prometheus", "http://host", "--for", "soon"], "--for: 'soon' must be 1s..8760h"),
    ],
)
def test_bad_words_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["record", "out", *words], lambda _: True)
    assert ended.value.code == Exit.BAD_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--platform", "libvirt"], "the platform libvirt needs --host NAME=URI, once for each host"),
        (
            ["--platform", "libvirt", "--host", "a=x", "--host", "a=y"],
            "--host: each name and each URI may be given once",
        ),
        (
            ["--platform", "libvirt", "--host", "a=x", "--by", "alice"],
            "--by belongs to --platform kubernetes, and this is libvirt",
        ),
        (["--host", "a=x"], "--host belongs to --platform libvirt, and this is kubernetes"),
        (
            ["--platform", "libvirt", "--namespace", "x"],
            "--namespace belongs to --platform kubernetes, and this is libvirt",
        ),
    ],
)
def test_options_of_another_platform_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["record", str(out), "--prometheus", "http://host", *words], lambda _: True) == Exit.BAD_INPUT
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `record` on a platform that is simulated, for as long as the words say."""
    clocks = Clocks()
    scrapes, cluster = Prometheus(clocks, "ab"), Cluster(clocks, "ab")
    monkeypatch.setattr(record_command, "RealTime", lambda _: clocks)
    monkeypatch.setitem(vars(record_command)["PLATFORMS"], "kubernetes", lambda _: cluster)

    def run(*words: str) -> int:
        with servers(monkeypatch, scrapes):
            return main(["record", *words, "--prometheus", "http://host"], lambda _: True)

    return run


def test_without_a_scenario_nothing_is_limited(simulated: Callable[..., int], tmp_path: Path) -> None:
    assert simulated(str(tmp_path / "out"), "--for", "5m", "--by", "alice") == Exit.OK
    found = recording.read(tmp_path / "out" / "recording-1.jsonl")
    assert (found.run.plan.scenario, found.run.plan.limits, found.run.plan.watch) == ("production", {}, 300.0)
    assert found.run.rebalancer.actors == ("alice",)
    assert {each.name for each in found.events if isinstance(each, Host)} == {"a", "b"}


def test_a_folder_that_cannot_be_made_is_named(
    simulated: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert simulated(str(tmp_path / "file" / "out"), "--for", "5m") == Exit.BAD_INPUT
    assert "can't be made" in capsys.readouterr().err


def test_a_terminal_shows_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "recording-1.jsonl"
    path.write_text("x" * 2_000_000)
    drawn = io.StringIO()
    with Progress(Console(file=drawn, force_terminal=True, width=200), path, plan()) as progress:
        progress.stage("following", None)
        progress.event(Host(at=0.0, name="a", cpus=1.0))
        progress.event(Alert(at=1.0, state=AlertState.FIRING, name=ALERT, host="a"))
        progress.event(Move(at=2.0, state=MoveState.ACCEPTED, move="m", slice="s", source="a", destination="b", by="x"))
        for at in (10.0, 3610.0, 3610.0):
            progress.event(Sample(at=at, subject=Subject.HOST, name="a", host="a", cpu_seconds=1.0))
        progress.event(Alert(at=3.0, state=AlertState.RESOLVED, name=ALERT, host="a"))
        progress.event(Host(at=4.0, name="a", cpus=1.0, present=False))
    assert "following until Ctrl-C" in drawn.getvalue()
    assert "1.0 h, 1 hosts, 1 alerts fire, 1 moves, 2.0 MB" in drawn.getvalue()
