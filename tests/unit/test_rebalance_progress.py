"""The metrics of a run: events in, samples out, the same as the recording says, and served over HTTP."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from followed import ABOUT, FOLLOWED, Follower, balanced
from program import get
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse_text
from recordings import CASES, EPOCH, PLAN, Scene

from loadband.metrics import PointCollector, registry_of
from loadband.rebalance.events import Imbalance, PhaseName, Trouble
from loadband.rebalance.exporter import LAST_SCRAPE_SECONDS, LOOPBACK, Exporter
from loadband.rebalance.figures import measure
from loadband.rebalance.progress import FAMILIES, Progress
from loadband.rebalance.timeline import Timeline
from loadband.rebalance.verdict import Outcome
from loadband.serving import ListenError
from loadband.units import Listen

PHASES = [phase.value for phase in PhaseName]


def following(scene: Scene | None = None) -> Follower:
    return Follower((scene or balanced()).record())


def exposed(progress: Progress) -> bytes:
    return generate_latest(registry_of(PointCollector(FAMILIES, progress.points)))


def test_the_current_phase_alone_is_one() -> None:
    run = following()
    seen = {}
    for at in (-1.0, 5.0, 30.0, 85.0, 100.0):
        run.until(at)
        seen[at] = [phase for phase in PHASES if run.value("phase", phase) == 1]
        assert {run.value("phase", phase) for phase in PHASES} <= {0, 1}
    assert seen == {-1.0: [], 5.0: ["baseline"], 30.0: ["watch"], 85.0: ["recovery"], 100.0: []}


def test_a_phase_has_the_time_at_which_it_began() -> None:
    run = following()
    run.until(30.0)
    assert run.value("phase_timestamp_seconds", "watch") == EPOCH + 20
    assert run.value("phase_timestamp_seconds", "recovery") is None


def test_an_alert_is_pending_then_firing_then_over() -> None:
    run, seen = following(), []
    for at in (21.0, 25.0, 30.2, 31.0, 45.0):
        run.until(at)
        states = [run.value("alert", PLAN.alert, "a", state) for state in ("pending", "firing")]
        seen.append((*states, run.value("notifications_total")))
    assert seen == [(None, None, 0), (1, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)]


def test_a_move_is_in_progress_then_done_and_takes_its_slice_along() -> None:
    run, seen = following(), []
    for at in (30.0, 31.5, 34.0, 55.0):
        run.until(at)
        moved = [run.value("moves_in_progress"), run.value("moves_total", "done"), run.value("moves_total", "failed")]
        seen.append((*moved, run.value("host_slices", "a"), run.value("host_slices", "b")))
    assert seen == [(0, 0, 0, 3, 1), (1, 0, 0, 3, 1), (0, 1, 0, 2, 2), (0, 1, 1, 2, 2)]
    run.until(95.0)
    assert run.value("host_slices", "b") == 1, "the overload was taken away"


def test_disturbances_are_counted_by_kind_from_zero() -> None:
    run = following()
    run.until(50.0)
    assert {run.value("disturbances_total", trouble) for trouble in Trouble} == {0}
    run.until(61.0)
    assert run.value("disturbances_total", Trouble.FOREIGN_LOAD) == 1


def test_a_host_is_unknown_before_a_whole_window_and_once_its_samples_stop() -> None:
    scene = balanced()
    scene.lose("a", 50.0, 60.0)
    run = following(scene)
    known = []
    for at in (2.0, 4.0, 52.0, 54.5, 60.5):
        run.until(at)
        host, spread = run.value("host_cpu_utilization_ratio", "a"), run.value("spread_ratio")
        known.append((host is not None, spread is not None))
        assert at < 4 or run.value("host_cpu_utilization_ratio", "b") is not None
    assert known == [(False, False), (True, True), (True, True), (False, False), (True, True)]


def test_a_host_that_goes_is_gone() -> None:
    scene = balanced()
    scene.comes(10.0, "c")
    scene.goes(30.0, "c")
    run = following(scene)
    run.until(29.0)
    assert run.value("host_slices", "c") == 0
    run.until(31.0)
    assert run.value("host_slices", "c") is run.value("host_cpu_utilization_ratio", "c") is None
    assert run.value("spread_ratio") is not None


@pytest.mark.parametrize("measured", Imbalance)
def test_utilization_and_imbalance_are_those_of_the_recording(measured: Imbalance) -> None:
    recording = replace_measure(balanced(), measured).record()
    line, run, compared = Timeline(recording), Follower(recording), 0
    columns = {"spread_ratio": line.imbalances(Imbalance.SPREAD), "imbalance": line.imbalance}
    for index, at in enumerate(line.moments):
        run.until(at - EPOCH)
        for host, levels in line.levels.items():
            same(run.value("host_cpu_utilization_ratio", host), levels[index])
        for name, column in columns.items():
            same(run.value(name, *([measured] if name == "imbalance" else [])), column[index])
        compared += not math.isnan(line.imbalance[index])
    assert compared > 80


def replace_measure(scene: Scene, measured: Imbalance) -> Scene:
    scene.plan = replace(scene.plan, imbalance=measured)
    return scene


def same(exported: float | None, recorded: float) -> None:
    assert (exported is None) == math.isnan(recorded)
    if exported is not None:
        assert exported == pytest.approx(recorded, abs=1e-9)


def test_moves_are_those_of_the_figures() -> None:
    recording = balanced().record()
    run = Follower(recording)
    run.until(100.0)
    figures = measure(recording)
    assert run.value("moves_total", "done") == figures["moves"].value == 1
    assert run.value("moves_total", "failed") == figures["failed_moves"].value == 1


@pytest.mark.parametrize("name", CASES)
def test_counters_never_fall_whatever_happens(name: str) -> None:
    counters = {family.name for family in FAMILIES if family.kind == "counter"}
    run = Follower(CASES[name]())
    seen: list[dict[tuple[str, tuple[str, ...]], Any]] = []
    for at in range(0, 200, 5):
        run.until(at)
        seen.append({(one.name, one.labels): one.value for one in run.progress.points() if one.name in counters})
    for before, after in pairwise(seen):
        assert before.keys() == after.keys()
        assert all(before[key] <= after[key] for key in before)


def test_every_family_has_a_value_with_the_declared_labels_and_no_other_has() -> None:
    points = FOLLOWED.points()
    assert {point.name for point in points} == {family.name for family in FAMILIES}
    assert len({(point.name, point.labels) for point in points}) == len(points)
    number = {family.name: len(family.labels) for family in FAMILIES}
    assert all(len(point.labels) == number[point.name] for point in points)


def test_what_runs_is_said() -> None:
    (info,) = (
        sample
        for family in parse_text(exposed(FOLLOWED).decode())
        for sample in family.samples
        if sample.name == "loadband_rebalance_info"
    )
    assert info.labels == {
        "run": "synthetic",
        "scenario": "hot-host",
        "platform": "local",
        "rebalancer": "mover",
        "version": "1.2.3",
    }
    assert info.value == 1


@pytest.mark.parametrize("progress", [FOLLOWED, Progress(ABOUT, PLAN)], ids=["full", "fresh"])
def test_promtool_has_nothing_to_say(progress: Progress) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool isn't on PATH")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=exposed(progress), capture_output=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


# Served


class Scraper:
    """Waits as the program does; scrapes while it does."""

    def __init__(self, exporter: Exporter, times: int = 1) -> None:
        self.exporter = exporter
        self.left = times
        self.waited = 0.0
        self.text = ""

    def scrape(self) -> str:
        return get(int(self.exporter.address.rpartition(":")[2]), "/metrics")

    def wait(self, seconds: float) -> bool:
        self.waited += seconds
        if self.left:
            self.left -= 1
            self.text = self.scrape()
        return False


def test_a_run_is_served_from_its_begin_and_each_repeat_in_its_turn() -> None:
    with Exporter(LOOPBACK) as exporter:
        scraper = Scraper(exporter)
        assert "loadband_rebalance" not in scraper.scrape()
        exporter.follow(ABOUT, PLAN)
        assert "\nloadband_rebalance_repeat 2.0\n" in scraper.scrape()
        exporter.follow(replace(ABOUT, repeat=3), PLAN)
        assert "\nloadband_rebalance_repeat 3.0\n" in scraper.scrape()
        assert "\nprocess_cpu_seconds_total " in scraper.scrape()


def test_the_verdict_waits_for_a_scrape() -> None:
    with Exporter(LOOPBACK) as exporter:
        exporter.follow(ABOUT, PLAN)
        scraper = Scraper(exporter)
        scraper.scrape()
        exporter.judged(Outcome.FAIL, scraper.wait)
        assert '\nloadband_rebalance_verdict{verdict="FAIL"} 1.0\n' in scraper.text
        assert '\nloadband_rebalance_verdict{verdict="PASS"} 0.0\n' in scraper.text
        assert scraper.waited < 1


@pytest.mark.parametrize(
    ("scraped", "stopped", "waits"), [(1, False, LAST_SCRAPE_SECONDS), (0, False, 0), (1, True, 0.2)]
)
def test_a_verdict_that_nobody_scrapes_doesn_t_wait_for_ever(scraped: int, stopped: bool, waits: float) -> None:  # noqa: FBT001 - a case
    waited = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return stopped

    with Exporter(LOOPBACK) as exporter:
        exporter.follow(ABOUT, PLAN)
        for _ in range(scraped):
            Scraper(exporter).scrape()
        exporter.judged(Outcome.PASS, wait)
    assert sum(waited) == pytest.approx(waits)


def test_an_address_that_is_taken_is_refused() -> None:
    with Exporter(LOOPBACK) as exporter:
        host, port = exporter.address.split(":")
        with pytest.raises(ListenError, match="cannot listen on"):
            Exporter(Listen(host, int(port)))
