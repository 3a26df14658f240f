"""What the league's adapters make of states and of the tools' logs, without the tools."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from bench.adapters import moved, proxmox, watcher_cluster
from bench.adapters.lines import Counters, Interval, keep_log, serve


def state(at: float, *, host: float, one: float | None) -> dict[str, Any]:
    return {
        "at": at,
        "counted_at": at,
        "hosts": [{"name": "host-a", "cpus": 2.0, "cpu_seconds": host}],
        "slices": [{"name": "one", "host": "host-a", "cpus": 0.5, "cpu_seconds": one}],
    }


def test_a_mean_is_that_of_the_window_or_of_what_is_known() -> None:
    counters = Counters(40.0)
    assert counters.mean("host-a", 40.0) is None
    for second in range(101):
        burnt = max(second - 80, 0) * 1.0
        counters.add(state(float(second), host=burnt, one=None if second < 95 else 0.25 * (second - 95)))
    assert counters.mean("host-a", 40.0) == pytest.approx(0.5)
    assert counters.mean("host-a", 10.0) == pytest.approx(1.0)
    assert counters.mean("host-a", 0.5) == pytest.approx(1.0), "the last two values, if the window is shorter"
    assert counters.mean("one", 40.0) == pytest.approx(0.25), "younger than the window"


def test_a_counter_that_starts_again_or_goes_is_forgotten() -> None:
    counters = Counters(40.0)
    counters.add(state(0.0, host=0.0, one=50.0))
    counters.add(state(1.0, host=1.0, one=0.1))
    assert counters.mean("one", 40.0) is None
    counters.add(state(2.0, host=2.0, one=0.6))
    assert counters.mean("one", 40.0) == pytest.approx(0.5)
    counters.add(state(2.0, host=9.0, one=0.9))
    assert counters.mean("one", 40.0) == pytest.approx(0.5), "the same reading again"
    counters.add(state(3.0, host=3.0, one=None) | {"slices": []})
    assert counters.mean("one", 40.0) is None
    counters.add(state(4.0, host=4.0, one=1.0) | {"counted_at": None})
    assert counters.mean("host-a", 40.0) == pytest.approx(1.0)


def test_an_interval_begins_with_the_first_look() -> None:
    interval = Interval(20.0)
    due = [at for at in range(100, 200) if interval.is_due(float(at))]
    assert due == [100, 120, 140, 160, 180]
    assert interval.is_due(500.0), "after a long pause at once, and once"
    assert not interval.is_due(519.0)


def test_it_introduces_itself_and_answers_each_state(capsys: pytest.CaptureFixture[str]) -> None:
    lines = io.StringIO('{"at": 1}\n{"at": 2}\n')
    serve({"name": "x"}, lambda told: [{"slice": "s", "destination": str(told["at"]), "reason": ""}], lines)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[0] == {"name": "x"}
    assert [answer["moves"][0]["destination"] for answer in said[1:]] == ["1", "2"]


def test_a_tools_log_is_kept_with_the_time(tmp_path: Path) -> None:
    path = tmp_path / "row" / "tool.log"
    keep_log(path, "test.tool")
    logger = logging.getLogger("test.tool.part")
    logger.debug("Migration of %s from a to b reduces standard deviation\nto 0.1.", "one")
    for handler in logging.getLogger("test.tool").handlers:
        handler.close()
    assert moved.said_by_watcher(path.read_text(), 0.0, float("inf")) == [("one", "b")]
    assert moved.said_by_watcher(path.read_text(), 0.0, 1.0) == [], "another run's"


def test_hosts_are_nodes_and_slices_are_instances_of_as_many_cpus_as_they_can_use() -> None:
    told = state(0.0, host=0.0, one=0.0)
    told["slices"].append({"name": "big", "host": "host-a", "cpus": 1.2, "cpu_seconds": 0.0})
    (node,) = watcher_cluster.nodes(told)
    assert (node["uuid"], node["hostname"], node["vcpus"]) == ("host-a", "host-a", 2)
    assert node["vcpus"] * node["vcpu_ratio"] >= 30
    instances = watcher_cluster.instances(told)
    assert [(one["uuid"], one["host"], one["vcpus"]) for one in instances] == [
        ("one", "host-a", 1),
        ("big", "host-a", 2),
    ]


def test_usage_is_percent_of_what_there_is() -> None:
    counters = Counters(40.0)
    counters.add(state(0.0, host=0.0, one=0.0))
    counters.add(state(10.0, host=15.0, one=5.0))
    assert watcher_cluster.usage(counters, "host-a", 2.0, 40.0) == pytest.approx(75.0)
    assert watcher_cluster.usage(counters, "one", 1.0, 40.0) == pytest.approx(50.0)
    assert watcher_cluster.usage(counters, "host-a", 1.0, 40.0) == 100.0
    assert watcher_cluster.usage(counters, "nobody", 1.0, 40.0) is None


def load(host: str, percent: float) -> str:
    return f"Host usage for {host}: host_cpu_usage_percent is {percent}. Higher than threshold 75.0: {percent >= 75}"


def candidate(host: str, name: str, percent: float) -> str:
    would = f"Host usage for cpu would be {percent}.The threshold is: 75.0. selected: {percent < 75}"
    return f"Host {host} evaluated as destination for {name}. {would}"


SAID = {
    10.0: load("a", 90.0),
    10.1: load("b", 40.0),
    10.2: load("c", 30.0),
    10.3: candidate("b", "one", 60.0),
    10.4: candidate("c", "one", 50.0),
    20.0: load("a", 70.0),
    30.0: candidate("c", "two", 80.0),
}
LOG = "".join(f"{at:.3f} DEBUG watcher.strategy: {said}\n" for at, said in SAID.items())


def test_of_the_hosts_that_take_an_instance_the_least_loaded_gets_it() -> None:
    assert moved.said_by_watcher(LOG, 0.0, 100.0) == [("one", "c")]
    assert moved.said_by_watcher(LOG, 15.0, 100.0) == []


def test_proxlb_says_what_it_migrates() -> None:
    said = "Balancing: Starting to migrate VM guest one from a to b."
    assert moved.SAID["proxlb"](f"5.000 INFO ProxLB: {said}\n9.000 INFO ProxLB: Finished\n", 0.0, 10.0) == [
        ("one", "b")
    ]


class TestProxmox:
    """The part of its API that ProxLB uses."""

    @pytest.fixture(name="cluster")
    def _cluster(self) -> proxmox.Cluster:
        made = proxmox.Cluster(60.0)
        assert not made.show(self.state(0.0))
        return made

    def state(self, at: float, *, on: str = "host-a", young: bool = False) -> dict[str, Any]:
        told = state(at, host=at, one=0.25 * at)
        told["hosts"] = [{**told["hosts"][0], "name": name, "utilization": 0.6} for name in ("host-a", "host-b")]
        told["slices"][0]["host"] = on
        if young:
            told["slices"].append({"name": "new", "host": "host-b", "cpus": 1.0, "cpu_seconds": 0.5 * at})
        return told

    def mean(self, cluster: proxmox.Cluster, path: str) -> float:
        """As ProxLB makes it of the rows (Guests.get_guest_rrd_value): rows without a value count, too."""
        rows = cluster.get(path)
        return float(sum(row["cpu"] for row in rows if "cpu" in row) / len(rows))

    def test_nodes_and_guests_are_hosts_and_slices(self, cluster: proxmox.Cluster) -> None:
        cluster.show(self.state(0.4))  # the hosts are at 60 %, most of it by others than guests
        assert [(node["node"], node["cpu"], node["maxcpu"]) for node in cluster.get("/nodes")] == [
            ("host-a", pytest.approx(0.125), 2),
            ("host-b", 0.0, 2),
        ]
        (guest,) = cluster.get("/nodes/host-a/qemu")
        assert (guest["vmid"], guest["name"], guest["cpus"], guest["status"]) == (100, "one", 1, "running")
        assert cluster.get("/nodes/host-b/qemu") == cluster.get("/nodes/host-a/lxc") == []
        assert cluster.get("/nodes/host-a/version") == {"version": proxmox.VERSION}
        assert cluster.get("/nodes/host-a/qemu/100/config") == {"tags": ""}
        assert cluster.get("/pools") == cluster.get("/cluster/ha/rules") == []
        assert "VM.Migrate" in cluster.get("/access/permissions")["/"]

    def test_a_guest_of_the_first_state_was_always_there_and_a_young_one_was_not(
        self, cluster: proxmox.Cluster
    ) -> None:
        assert not cluster.knows
        cluster.show(self.state(10.0, young=True))
        cluster.show(self.state(25.0, young=True))
        assert cluster.knows
        assert self.mean(cluster, "/nodes/host-a/qemu/100/rrddata") == pytest.approx(0.25)
        assert self.mean(cluster, "/nodes/host-b/qemu/101/rrddata") == pytest.approx(0.5 * 15 / 60)
        assert cluster.get("/nodes/host-b/qemu/102/rrddata") == []

    def test_a_migration_is_handed_on_once_and_runs_until_the_guest_is_there(self, cluster: proxmox.Cluster) -> None:
        task = cluster.migrate("/nodes/host-a/qemu/100/migrate", "host-b")
        path = f"/nodes/host-a/tasks/{task}/status"
        assert cluster.get(path) == {"type": "qmigrate", "status": "running"}
        (move,) = cluster.show(self.state(1.0))
        assert (move["slice"], move["destination"]) == ("one", "host-b")
        assert cluster.show(self.state(2.0, on="host-b")) == []
        assert cluster.get(path)["exitstatus"] == "OK"

    def test_what_is_not_there_is_unknown(self, cluster: proxmox.Cluster) -> None:
        for path in ("/cluster/ceph", "/nodes/host-a/tasks/UPID:none/status"):
            with pytest.raises(proxmox.UnknownError):
                cluster.get(path)
        with pytest.raises(proxmox.UnknownError):
            cluster.migrate("/nodes/host-a/qemu/999/migrate", "host-b")
        with pytest.raises(proxmox.UnknownError):
            proxmox.Cluster(1.0).get("/nodes")


def test_a_disagreement_is_said_with_both_sides() -> None:
    assert moved.disagreement([("one", "c")], [("one", "c")], 1) == ""
    assert moved.disagreement([("one", "b")], [], 0) == "recorded: one to b; the tool's log: nothing"


def test_what_a_log_says_just_before_the_end_need_not_be_recorded() -> None:
    said = [("one", "c"), ("two", "a")]
    assert moved.disagreement([("one", "c")], said, 1) == moved.disagreement(said, said, 1) == ""
    assert moved.disagreement([("one", "c")], said, 2) == "recorded: one to c; the tool's log: one to c, two to a"
    assert moved.disagreement([("two", "a")], said, 1) != ""
    assert moved.disagreement([], said, 1) != ""
