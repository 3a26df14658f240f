"""Following a platform: what is recorded of a day, through gaps, and after kill -9."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from simulated import Clocks
from simulated_production import ALERT, LOADBAND, Alertmanager, Cluster, File, Prometheus, following, plan, servers

from loadband.rebalance import recording
from loadband.rebalance.alertmanager import KnownAlert
from loadband.rebalance.events import (
    Alert,
    AlertState,
    Clock,
    Disturbance,
    EndReason,
    Host,
    Move,
    Part,
    Recording,
    Sample,
    Trouble,
)
from loadband.rebalance.figures import measure, shown
from loadband.rebalance.production import POLL, Production
from loadband.rebalance.run import MonitoringError
from loadband.rebalance.timeline import Timeline
from loadband.rebalance.verdict import Outcome, judge

HOSTS = ("a", "b", "c")
DAY = 86400.0
MOST_MEGABYTES = 200.0
"""Of a day of 50 hosts."""
MOST_CPU_SECONDS = 3 * 18.0
"""For writing it: three times what was measured, the simulation and the measuring of coverage included (5.5 without
that); 5 % of a CPU would be 4320."""


class World:
    """Three hosts, and what records them."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path, names: tuple[str, ...] = HOSTS) -> None:
        self.path = path
        self.patch = patch
        self.clocks = Clocks()
        self.prometheus = Prometheus(self.clocks, names)
        self.cluster = Cluster(self.clocks, names)
        self.alertmanager: Alertmanager | None = None

    def record(self, seconds: float | None, **changes: object) -> Recording:
        with servers(self.patch, self.prometheus, self.alertmanager) as access:
            known = Production(access, ALERT, 15.0, self.clocks)
        file = File(self.path)
        following(self.cluster, known, file, seconds, **changes).run()
        assert file.writer
        file.writer.close()
        assert self.cluster.closed
        assert self.prometheus.closed
        return recording.read(self.path)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path / "recording-1.jsonl")


def outcome(found: Recording) -> tuple[Outcome, str]:
    verdict = judge(found, measure(found))
    return verdict.outcome, verdict.sentence


def test_an_hour_with_an_alert_and_a_move_is_judged_by_its_limits(world: World) -> None:
    clocks, prometheus, cluster = world.clocks, world.prometheus, world.cluster
    clocks.at(600.0, lambda: prometheus.utilization.update(a=0.9))
    clocks.at(720.0, lambda: prometheus.alert("a", fires=False))
    clocks.at(840.0, prometheus.alerting.clear)
    clocks.at(840.0, lambda: prometheus.alert("a", since=clocks.wall() - 120.0))
    clocks.at(900.0, lambda: cluster.move("shop/web-1", "a", "b"))
    clocks.at(900.0, lambda: prometheus.utilization.update(a=0.4, b=0.5))
    clocks.at(1000.0, prometheus.alerting.clear)
    found = world.record(3600.0)
    assert found.run.followed
    assert found.run.timing
    assert (found.run.timing.alert_for, found.run.timing.evaluation) == (120.0, 15.0)
    assert [part.name for part in found.run.monitoring] == ["prometheus"]
    figures = measure(found)
    reaction = figures["alert_to_move"]
    assert reaction.value == pytest.approx(60.0, abs=POLL)
    assert reaction.resolution == pytest.approx(POLL + cluster.resolution)
    assert shown(figures["moves"]) == "1"
    assert figures["overload_time_fraction"].value == pytest.approx(300 / 3600, abs=0.02)
    assert outcome(found)[0] is Outcome.PASS
    assert found.events[-1].at == found.run.at + 3600.0
    assert outcome(world_of(found, alert_to_move="<= 30s"))[0] is Outcome.FAIL


def world_of(found: Recording, **limits: str) -> Recording:
    """The same recording with other limits."""
    return replace(found, run=replace(found.run, plan=replace(found.run.plan, limits=limits)))


def test_utilization_is_exact_to_the_scrape(world: World) -> None:
    world.clocks.at(1000.0, lambda: world.prometheus.utilization.update(a=0.9))
    line = Timeline(world.record(2400.0))
    for host, before, after in (("a", 0.3, 0.9), ("b", 0.3, 0.3)):
        for at, value in line.utilization[host]:
            if at < line.run.at + 985.0:
                assert value == pytest.approx(before, abs=1e-6)
            elif at > line.run.at + 1135.0:
                assert value == pytest.approx(after, abs=1e-6)


def test_somebody_who_asks_for_the_end_gets_a_complete_recording(world: World) -> None:
    world.clocks.at(500.0, lambda: setattr(world.clocks, "asked_to_end", True))
    found = world.record(None)
    end = found.events[-1]
    assert (end.at - found.run.at, getattr(end, "reason", "")) == (500.0, EndReason.COMPLETE)
    assert outcome(world_of(found, moves="== 0"))[0] is Outcome.PASS


def test_a_lost_prometheus_is_a_gap_that_is_told_and_the_recording_goes_on(world: World) -> None:
    world.clocks.at(600.0, lambda: setattr(world.prometheus, "down", True))
    world.clocks.at(900.0, lambda: setattr(world.prometheus, "down", False))
    found = world.record(1800.0)
    troubles = [each for each in found.events if isinstance(each, Disturbance)]
    assert {each.what for each in troubles} == {Trouble.MONITORING_DOWN}
    begin, over = troubles
    assert (begin.at, begin.until) == (over.at, None)
    assert begin.at - found.run.at == pytest.approx(600.0, abs=2 * POLL)
    assert over.until
    assert over.until - found.run.at == pytest.approx(900.0, abs=2 * POLL)
    stamps = sorted(each.at for each in found.events if isinstance(each, Sample) and each.name == "a")
    assert max(late - early for early, late in pairwise(stamps)) == pytest.approx(300.0, abs=30.0)
    assert stamps[-1] - found.run.at > 1770.0
    verdict, sentence = outcome(found)
    assert verdict is Outcome.INVALID
    assert "monitoring down (prometheus)" in sentence
    assert measure(found)["overload_time_fraction"].value == 0.0


def test_a_short_hiccup_is_none(world: World) -> None:
    world.clocks.at(600.0, lambda: setattr(world.prometheus, "down", True))
    world.clocks.at(620.0, lambda: setattr(world.prometheus, "down", False))
    assert outcome(world_of(world.record(1800.0), moves="== 0"))[0] is Outcome.PASS


def test_a_host_that_is_not_scraped_is_told_and_one_that_goes_is_not(world: World) -> None:
    world.clocks.at(600.0, lambda: world.prometheus.unscraped.add("a"))
    world.clocks.at(700.0, lambda: world.cluster.names.remove("b"))
    world.clocks.at(900.0, world.prometheus.unscraped.clear)
    found = world.record(1800.0)
    troubles = [each for each in found.events if isinstance(each, Disturbance)]
    assert {(each.what, each.host) for each in troubles} == {(Trouble.SCRAPE_FAILED, "a")}
    assert [each.until is None for each in troubles] == [True, False]
    gone = [each for each in found.events if isinstance(each, Host) and not each.present]
    assert [each.name for each in gone] == ["b"]


def test_a_host_that_comes_has_its_clock_and_one_that_nobody_scrapes_is_told(world: World) -> None:
    world.cluster.names.remove("c")
    world.clocks.at(600.0, lambda: world.cluster.names.extend(["c", "ghost"]))
    found = world.record(1800.0)
    came = [each for each in found.events if isinstance(each, Host) and each.name == "c"]
    assert [each.at - found.run.at >= 585.0 for each in came] == [True]
    assert {each.host for each in found.events if isinstance(each, Clock)} == {"a", "b", "c"}
    assert {each.host for each in found.events if isinstance(each, Disturbance)} == {"ghost"}


def test_a_host_that_changes_its_size_is_recorded_again(world: World) -> None:
    world.clocks.at(600.0, lambda: world.prometheus.cpus.update(a=32.0))
    found = world.record(1800.0)
    assert [each.cpus for each in found.events if isinstance(each, Host) and each.name == "a"] == [16.0, 32.0]


def test_prometheus_clock_is_compared_and_taken_out(world: World) -> None:
    world.prometheus.ahead = 5.0
    found = world.record(900.0)
    offsets = {each.offset for each in found.events if isinstance(each, Clock)}
    assert offsets == {5.0}
    assert Timeline(found).busy["a"].times[-1] <= found.run.at + 900.0
    assert outcome(world_of(found, moves="== 0"))[0] is Outcome.PASS
    world.prometheus.ahead = 20.0


def test_alertmanager_dates_the_alert_and_is_told_when_it_is_down(world: World) -> None:
    world.alertmanager = alertmanager = Alertmanager()
    clocks = world.clocks

    def fire() -> None:
        world.prometheus.alert("a", since=clocks.wall() - 121.0)
        labels = {"alertname": ALERT, "node": "a"}
        alertmanager.known.append(
            KnownAlert(
                labels=labels,
                annotations={},
                fingerprint="f",
                starts=clocks.wall() - 1.0,
                ends=clocks.wall() + 300.0,
                suppressed=False,
            )
        )

    clocks.at(600.0, fire)
    clocks.at(900.0, lambda: setattr(alertmanager, "down", True))
    found = world.record(1800.0)
    firing = next(each for each in found.events if isinstance(each, Alert) and each.state is AlertState.FIRING)
    assert (firing.at, firing.resolution, firing.host) == (found.run.at + 599.0, 0.0, "a")
    assert [each.who for each in found.events if isinstance(each, Disturbance)] == ["alertmanager"]
    assert found.run.timing
    assert found.run.timing.group_wait == 10.0


def test_alerts_are_taken_by_node_by_instance_and_the_awaited_one_without_either(world: World) -> None:
    def fire() -> None:
        world.prometheus.alert("", job="node", instance="b:9100")
        world.prometheus.alert("", severity="page")
        world.prometheus.alert("elsewhere")
        world.prometheus.alerting.append(
            type(world.prometheus.alerting[0])({"alertname": "DiskFull", "disk": "sda"}, fires=True, since=1.0)
        )

    world.clocks.at(60.0, fire)
    found = world.record(300.0)
    firing = [each for each in found.events if isinstance(each, Alert) and each.state is AlertState.FIRING]
    assert sorted((each.name, each.host) for each in firing) == [(ALERT, ""), (ALERT, "b")]


def test_a_clock_that_steps_is_recorded(world: World) -> None:
    world.clocks.at(600.0, lambda: setattr(world.clocks, "stepped", 3.0))
    found = world.record(900.0)
    assert [each.what for each in found.events if isinstance(each, Disturbance)] == [Trouble.CLOCK_STEPPED]


# What is in force


def known(world: World) -> Production:
    with servers(world.patch, world.prometheus, world.alertmanager) as access:
        return Production(access, ALERT, 20.0, world.clocks)


def settings(found: Production) -> Part:
    return found.describe()[0]


def test_what_is_in_force_is_read(world: World) -> None:
    found = known(world)
    assert (found.window, found.sample_interval) == (120.0, 15.0)
    assert settings(found).settings["scrape_interval"] == "15s, job node"
    assert settings(found).settings["hosts by"] == "node_exporter"


def test_without_rules_nobody_watches_the_alert_and_the_window_is_the_shipped_one(world: World) -> None:
    world.prometheus.rules_found = []
    found = known(world)
    assert (found.timing, found.window) == (None, 120.0)
    assert settings(found).settings["alert"].startswith(f"{ALERT} isn't watched: there is no alert")
    recorded = world.record(300.0)
    assert outcome(world_of(recorded, moves="== 0"))[0] is Outcome.PASS
    assert outcome(world_of(recorded, alert_to_resolved="<= 1m"))[0] is Outcome.INVALID


def test_a_server_without_targets_is_sampled_as_the_scenario_says(world: World) -> None:
    world.prometheus.scrapes = None
    found = known(world)
    assert found.sample_interval == 20.0
    assert "doesn't say how often" in settings(found).settings["scrape_interval"]


def test_hosts_may_be_known_by_loadbands_own_exporters(world: World) -> None:
    world.prometheus.exporter = LOADBAND
    found = world.record(900.0)
    assert {each.name for each in found.events if isinstance(each, Host)} == set(HOSTS)


def test_another_exporter_of_a_host_goes_on_where_the_one_before_ended(world: World) -> None:
    def other(host: str) -> dict[str, str]:
        return {"job": "node", "instance": f"{host}:9200"}

    def change() -> None:
        world.patch.setattr(world.prometheus, "labels", other)
        world.prometheus.query("time()")
        vars(world.prometheus)["_busy"]["a"] += 1e6

    world.clocks.at(600.0, change)
    line = Timeline(world.record(1800.0))
    assert max(value for _, value in line.utilization["a"]) < 0.4


@pytest.mark.parametrize("what", ["nothing is exported", "no answer"])
def test_a_prometheus_that_knows_no_host_is_refused(world: World, what: str) -> None:
    if what == "no answer":
        world.prometheus.down = True
    else:
        world.prometheus.cpus.clear()
    with pytest.raises(MonitoringError, match=r"connection refused|neither node_cpu_seconds_total nor"):
        known(world)
    assert world.prometheus.closed


# A day, and kill -9


def test_a_day_of_50_hosts_is_small_and_costs_little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = tuple(f"node-{number:02}.eu-central.example.org" for number in range(50))
    world = World(monkeypatch, tmp_path / "recording-1.jsonl", names)
    for hour in range(24):
        at = 3600.0 * hour
        world.clocks.at(at + 600, lambda: world.prometheus.alert(names[0], since=world.clocks.wall() - 120.0))
        for move in range(20):
            one = partial(world.cluster.move, f"shop/web-{hour}-{move}", names[0], names[1])
            world.clocks.at(at + 620 + move, one)
        world.clocks.at(at + 900, world.prometheus.alerting.clear)
    with servers(monkeypatch, world.prometheus) as access:
        known_ = Production(access, ALERT, 15.0, world.clocks)
    file = File(world.path)
    began = time.thread_time()
    following(world.cluster, known_, file, DAY).run()
    spent = time.thread_time() - began
    assert file.writer
    file.writer.close()
    size = world.path.stat().st_size / 1e6
    print(f"a day of 50 hosts: {size:.1f} MB, {spent:.1f} s of CPU time, {100 * spent / DAY:.3f} % of a CPU")
    lines = world.path.read_bytes().count(b"\n")
    assert lines > 50 * DAY / 15
    assert size < MOST_MEGABYTES
    assert spent < MOST_CPU_SECONDS
    # Nothing is kept but what goes on now.
    assert len(vars(known_)["_sources"]) == 50
    assert vars(vars(known_)["_book"])["_episodes"] == {}


SCRIPT = """
import sys
from pathlib import Path
import pytest
from simulated import Clocks
from simulated_production import ALERT, LOADBAND, Cluster, File, Prometheus, following, servers
from loadband.rebalance.production import Production
clocks = Clocks()
prometheus, cluster = Prometheus(clocks, "abc"), Cluster(clocks, "abc")
with servers(pytest.MonkeyPatch(), prometheus) as access:
    known = Production(access, ALERT, 15.0, clocks)
clocks.at(60.0, lambda: cluster.move("shop/web-1", "a", "b"))
following(cluster, known, File(Path(sys.argv[1])), None).run()
"""


def test_what_was_recorded_before_kill_9_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "recording-1.jsonl"
    support = Path(__file__).parents[1] / "support"
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)], cwd=support) as process:
        until = time.monotonic() + 60.0
        while not (path.exists() and path.stat().st_size > 100_000):
            assert process.poll() is None, "it ended"
            assert time.monotonic() < until, "nothing is recorded"
            time.sleep(0.01)
        process.kill()
    found = recording.read(path)
    assert len(found.events) > 500
    assert any(isinstance(each, Move) for each in found.events)
    assert outcome(found)[0] is Outcome.INVALID
    assert "breaks off" in outcome(found)[1]
    assert shown(measure(found)["moves"]) == "1"
    assert found.run.plan == plan()
