"""What the sensors make of recorded files, and of broken ones."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sensor_roots import RECORDED, allow_cpus, copy

from loadband.quantities import Dropped, DropReason, Reading, Sample, Scope
from loadband.sensor import Sensor, SensorError, UnreadableError, difference, open_sensor


@pytest.fixture(autouse=True)
def _two_cpus_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_cpus(monkeypatch, 0, 1)


def host(tmp_path: Path, stat: str) -> Sensor:
    return open_sensor(Scope.HOST, None, copy("v1-hybrid-host", tmp_path, stat))


def copy_stat(tmp_path: Path, stat: str) -> None:
    shutil.copyfile(RECORDED / "proc_stat" / stat, tmp_path / "v1-hybrid-host/proc/stat")


def compare(before: Sample, after: Sample) -> Reading | Dropped:
    """The difference as if 100 ms lay between."""
    return difference(before, replace(after, at=before.at + 0.1), 1.0)


def is_changed(before: Sample, after: Sample) -> bool:
    result = compare(before, after)
    return isinstance(result, Dropped) and result.reason is DropReason.CHANGED


def test_the_host_is_all_online_cpus_by_the_sum_that_is_cut_once() -> None:
    sample = open_sensor(Scope.HOST, None, RECORDED / "v1-hybrid-host").sample()
    assert sample.cpus == {0, 1}
    assert (sample.capacity, sample.reach, sample.quantum) == (2, 2, 0.01)
    fields = (RECORDED / "v1-hybrid-host/proc/stat").read_text().split()
    assert (sample.idle, sample.iowait, sample.steal) == pytest.approx([int(fields[n]) / 100 for n in (4, 5, 8)])
    assert sample.busy is None
    assert sample.throttling is None
    assert sample.own > 0


def test_256_cpus_are_a_capacity_of_256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_cpus(monkeypatch, *range(256))
    root = copy("v1-hybrid-host", tmp_path, "256-cpus")
    shutil.rmtree(root / "sys/fs/cgroup/cpuset")
    sample = open_sensor(Scope.HOST, None, root).sample()
    assert (sample.capacity, sample.reach, len(sample.cpus)) == (256, 256, 256)
    narrow = open_sensor(Scope.CPUSET, None, root).sample()
    assert (narrow.capacity, narrow.quantum) == pytest.approx((256, 2.56))


def test_an_offline_cpu_leaves_capacity_and_reach_in_the_next_sample(tmp_path: Path) -> None:
    sensor = host(tmp_path, "2-cpus")
    before = sensor.sample()
    copy_stat(tmp_path, "cpu-1-offline")
    after = sensor.sample()
    assert after.cpus == {0}
    assert (after.capacity, after.reach) == (1, 1)
    assert is_changed(before, after)


def test_behind_lxcfs_the_capacity_is_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_cpus(monkeypatch, 4, 9, 12)
    sensor = host(tmp_path, "lxcfs")
    assert (sensor.sample().capacity, sensor.sample().reach) == (2, 2)
    with pytest.raises(SensorError, match="lxcfs"):
        open_sensor(Scope.CPUSET, None, tmp_path / "v1-hybrid-host")


def test_iowait_that_decreases_gives_a_reading(tmp_path: Path) -> None:
    sensor = host(tmp_path, "iowait-before")
    before = sensor.sample()
    copy_stat(tmp_path, "iowait-after")
    after = sensor.sample()
    assert (after.idle or 0) + after.iowait - (before.idle or 0) - before.iowait == pytest.approx(0.14)
    reading = compare(before, after)
    assert isinstance(reading, Reading)
    assert reading.idle == pytest.approx(0.7)


def test_a_cpuset_is_the_cpus_that_we_may_use_by_their_own_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_cpus(monkeypatch, 1, 7)
    sample = open_sensor(Scope.CPUSET, None, RECORDED / "v1-hybrid-host").sample()
    line = (RECORDED / "v1-hybrid-host/proc/stat").read_text().splitlines()[2].split()
    assert line[0] == "cpu1"
    assert sample.cpus == {1}
    assert (sample.capacity, sample.reach, sample.quantum) == (1, 1, 0.01)
    assert (sample.idle, sample.iowait) == pytest.approx((int(line[4]) / 100, int(line[5]) / 100))


@pytest.mark.parametrize(
    ("tree", "capacity", "busy", "quota", "source"),
    [
        ("v1-podman-host-cgroupns", 0.5, 0.041472431, 0.05, "cpuacct/cpuacct.usage"),
        ("v1-podman-private-cgroupns", 0.5, 0.037435134, 0.05, "cpuacct/cpuacct.usage"),
        ("v1-nested", 0.6, 30, 0.06, "pods/ab12/cpuacct.usage"),
        ("v2-pod", 0.5, 123.456789, 0.05, "cgroup/cpu.stat"),
        ("v2-nested", 0.6, 30, 0.06, "kubepods-podab12.slice/cpu.stat"),
    ],
)
def test_a_container_is_all_that_share_its_tightest_quota(
    tree: str, capacity: float, busy: float, quota: float, source: str
) -> None:
    sensor = open_sensor(Scope.CONTAINER, None, RECORDED / tree)
    sample = sensor.sample()
    assert (sample.capacity, sample.reach, sample.busy) == pytest.approx((capacity, capacity, busy))
    assert sample.quota == pytest.approx(quota)
    assert sample.source.endswith(source)
    assert sample.idle is None
    assert sample.throttling
    assert sensor.warnings == []


def test_a_quota_limits_the_reach_on_the_host_but_not_the_capacity() -> None:
    sample = open_sensor(Scope.HOST, None, RECORDED / "v2-pod").sample()
    assert (sample.capacity, sample.reach) == pytest.approx((2, 0.5))
    assert sample.throttling
    assert sample.throttling.throttled_seconds == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("file", "text", "reach"),
    [
        ("cpuset.cpus.effective", "1\n", 1),
        ("cpu.max", "150000 100000\n", 1.5),
        ("cpu.max", "max 100000\n", 2),
        ("cpu.max", "2000000 100000\n", 2),
    ],
)
def test_reach_is_the_least_of_cpuset_quota_and_cpus(file: str, text: str, reach: float, tmp_path: Path) -> None:
    root = copy("v2-pod", tmp_path)
    (root / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    sensor = open_sensor(Scope.HOST, None, root, limits_every=0.0)
    (root / "sys/fs/cgroup" / file).write_text(text)
    assert sensor.sample().reach == pytest.approx(reach)


def test_max_effort_and_affinity_limit_the_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_sensor(Scope.HOST, 0.25, RECORDED / "v2-pod").sample().reach == 0.25
    allow_cpus(monkeypatch, 1)
    assert open_sensor(Scope.HOST, None, RECORDED / "v1-hybrid-host").sample().reach == 1


def test_without_a_limit_a_containers_capacity_is_all_cpus_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_cpus(monkeypatch, 0, 1)
    root = copy("v2-pod", tmp_path)
    (root / "sys/fs/cgroup/cpu.max").unlink()
    sensor = open_sensor(Scope.CONTAINER, 1.5, root)
    assert (sensor.sample().capacity, sensor.sample().reach) == (2, 1.5)
    assert [warning for warning in sensor.warnings if "no CPU limit" in warning]


def test_a_quota_changed_in_place_is_in_the_next_sample_and_drops_it(tmp_path: Path) -> None:
    root = copy("v2-pod", tmp_path)
    sensor = open_sensor(Scope.CONTAINER, None, root)
    before = sensor.sample()
    (root / "sys/fs/cgroup/cpu.max").write_text("10000 100000\n")
    after = sensor.sample()
    assert (after.capacity, after.reach) == pytest.approx((0.1, 0.1))
    assert is_changed(before, after)


def test_a_limit_that_moves_to_another_group_drops_the_sample(tmp_path: Path) -> None:
    root = copy("v1-nested", tmp_path)
    sensor = open_sensor(Scope.CONTAINER, None, root)
    before = sensor.sample()
    pods = root / "sys/fs/cgroup/cpu,cpuacct/pods"
    (pods / "cpu.cfs_quota_us").write_text("60000\n")
    after = sensor.sample()
    assert after.capacity == before.capacity
    assert after.source == str(pods / "cpuacct.usage")
    assert is_changed(before, after)


def test_cpuacct_of_another_group_is_read_where_we_are(tmp_path: Path) -> None:
    root = copy("v1-podman-private-cgroupns", tmp_path)
    (root / "proc/self/cgroup").write_text("2:cpuacct:/there\n1:cpu:/here\n")
    shutil.copytree(root / "sys/fs/cgroup/cpu", root / "sys/fs/cgroup/cpu/here")
    shutil.copytree(root / "sys/fs/cgroup/cpuacct", root / "sys/fs/cgroup/cpuacct/there")
    (root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").write_text("-1\n")
    sample = open_sensor(Scope.CONTAINER, None, root).sample()
    assert sample.capacity == pytest.approx(0.5)
    assert sample.source.endswith("cpuacct/there/cpuacct.usage")


@pytest.mark.parametrize("tree", ["v1-hybrid-host", "v2-host"])
def test_a_container_in_the_root_group_is_refused(tree: str) -> None:
    with pytest.raises(SensorError, match="root control group"):
        open_sensor(Scope.CONTAINER, None, RECORDED / tree)


def test_a_container_without_accounting_is_refused_and_the_host_is_not(tmp_path: Path) -> None:
    root = copy("v2-pod", tmp_path)
    (root / "proc/self/mountinfo").write_text("22 27 0:21 / /proc rw,relatime - proc proc rw\n")
    with pytest.raises(SensorError, match="neither cpuacct nor cgroup2"):
        open_sensor(Scope.CONTAINER, None, root)
    sensor = open_sensor(Scope.HOST, None, root)
    assert sensor.sample().reach == 2
    assert [warning for warning in sensor.warnings if "no control group is visible" in warning]


def test_a_kernel_without_control_groups_has_a_host(tmp_path: Path) -> None:
    root = copy("v2-pod", tmp_path)
    (root / "proc/self/cgroup").unlink()
    assert open_sensor(Scope.HOST, None, root).sample().reach == 2


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SensorError, match=r"Linux.*darwin"):
        open_sensor(Scope.HOST, None)


READ = [
    (Scope.HOST, "v1-hybrid-host", "proc/stat"),
    (Scope.CPUSET, "v1-hybrid-host", "proc/stat"),
    (Scope.HOST, "v1-podman-private-cgroupns", "sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    (Scope.HOST, "v1-podman-private-cgroupns", "sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    (Scope.HOST, "v1-podman-private-cgroupns", "sys/fs/cgroup/cpu/cpu.stat"),
    (Scope.HOST, "v1-podman-private-cgroupns", "sys/fs/cgroup/cpuset/cpuset.effective_cpus"),
    (Scope.CONTAINER, "v1-podman-private-cgroupns", "sys/fs/cgroup/cpuacct/cpuacct.usage"),
    (Scope.CONTAINER, "v1-podman-private-cgroupns", "sys/devices/system/cpu/online"),
    (Scope.CONTAINER, "v2-pod", "sys/fs/cgroup/cpu.max"),
    (Scope.CONTAINER, "v2-pod", "sys/fs/cgroup/cpu.stat"),
    (Scope.CONTAINER, "v2-pod", "sys/fs/cgroup/cpuset.cpus.effective"),
]
MAY_BE_MISSING = {"cpu.cfs_quota_us", "cpuset.effective_cpus", "cpu.max", "cpuset.cpus.effective"}


@pytest.mark.parametrize("text", ["", "garbage\n", "\x00\n", "0", "1 2\n3\n"])
@pytest.mark.parametrize(("scope", "tree", "file"), READ)
def test_an_empty_or_garbled_or_cut_off_file_is_named(
    scope: Scope, tree: str, file: str, text: str, tmp_path: Path
) -> None:
    root = copy(tree, tmp_path)
    sensor = open_sensor(scope, None, root, limits_every=0.0)
    (root / file).write_text(text)
    with pytest.raises(UnreadableError, match=str(root / file)):
        sensor.sample()
    with pytest.raises(SensorError, match=str(root / file)):
        open_sensor(scope, None, root)


@pytest.mark.parametrize(("scope", "tree", "file"), READ)
def test_no_cut_of_a_file_gives_another_sample(scope: Scope, tree: str, file: str, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)
    sensor = open_sensor(scope, None, root, limits_every=0.0)
    whole = (root / file).read_bytes()
    before = sensor.sample()
    for length in range(0, len(whole), max(1, len(whole) // 200)):
        (root / file).write_bytes(whole[:length])
        try:
            now = sensor.sample()
        except UnreadableError:
            continue
        assert (now.cpus, now.idle, now.busy, now.reach) == (before.cpus, before.idle, before.busy, before.reach)


@pytest.mark.parametrize(("scope", "tree", "file"), READ)
def test_a_missing_file_is_named_unless_a_controller_may_lack_it(
    scope: Scope, tree: str, file: str, tmp_path: Path
) -> None:
    root = copy(tree, tmp_path)
    sensor = open_sensor(scope, None, root, limits_every=0.0)
    (root / file).unlink()
    if Path(file).name in MAY_BE_MISSING:
        assert sensor.sample().reach > 0
        return
    with pytest.raises(UnreadableError, match=f"{root / file} cannot be read: No such file or directory"):
        sensor.sample()


def test_a_directory_in_the_place_of_a_file_is_unreadable(tmp_path: Path) -> None:
    root = copy("v2-pod", tmp_path)
    (root / "sys/fs/cgroup/cpu.max").unlink()
    (root / "sys/fs/cgroup/cpu.max").mkdir()
    with pytest.raises(SensorError, match="Is a directory"):
        open_sensor(Scope.HOST, None, root)


@pytest.mark.parametrize("text", ["0 100000\n", "-5 100000\n", "50000 0\n"])
def test_a_quota_that_is_no_limit_and_no_number_above_zero_is_refused(text: str, tmp_path: Path) -> None:
    root = copy("v2-pod", tmp_path)
    (root / "sys/fs/cgroup/cpu.max").write_text(text)
    with pytest.raises(SensorError, match="isn't greater than 0"):
        open_sensor(Scope.HOST, None, root)


@pytest.mark.parametrize("scope", [Scope.HOST, Scope.CPUSET])
@pytest.mark.parametrize(
    ("tree", "instead"),
    [("v2-pod", "try the scope container"), ("v1-hybrid-host", "no scope can be measured here")],
)
@pytest.mark.parametrize(
    ("counters", "what"), [("0 0 0 0 0 0 0 0", "nothing but zeros"), ("7 0 7 99 0 0 0 0", "moment")]
)
def test_counters_that_never_move_are_refused_with_the_scope_that_works(
    counters: str, what: str, tree: str, instead: str, scope: Scope, tmp_path: Path
) -> None:
    root = copy(tree, tmp_path)
    (root / "proc/stat").write_text(f"cpu  {counters}\ncpu0 {counters}\ncpu1 {counters}\nintr 0\n")
    waits: list[float] = []
    with pytest.raises(SensorError, match=rf"{what}.*: {instead}$"):
        open_sensor(scope, None, root).check(waits.append)
    assert 0.05 <= sum(waits) < 0.1


def test_a_check_ends_as_soon_as_a_counter_moves(tmp_path: Path) -> None:
    sensor = host(tmp_path, "iowait-before")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        copy_stat(tmp_path, "iowait-after")

    sensor.check(wait)
    assert len(waits) == 1


def test_a_container_needs_no_moving_counter() -> None:
    open_sensor(Scope.CONTAINER, None, RECORDED / "v2-pod").check()


def move(root: Path, group: str) -> None:
    (root / "proc/self/cgroup").write_text((root / "proc/self/cgroup").read_text().replace("ab12/cd34", group))


@pytest.mark.parametrize("scope", [Scope.HOST, Scope.CONTAINER])
def test_a_move_to_another_control_group_is_followed(
    scope: Scope, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = copy("v1-nested", tmp_path)
    sensor = open_sensor(scope, None, root, limits_every=0.0)
    before = sensor.sample()
    pods = root / "sys/fs/cgroup/cpu,cpuacct/pods"
    shutil.copytree(pods / "ab12", pods / "other")
    (pods / "other/cpu.cfs_quota_us").write_text("20000\n")
    move(root, "other")
    after = sensor.sample()
    assert after.reach == pytest.approx(0.2)
    assert (after.capacity == pytest.approx(0.2)) is (scope is Scope.CONTAINER)
    assert is_changed(before, after) is (scope is Scope.CONTAINER)
    sensor.sample()
    assert [record.getMessage() for record in caplog.records] == [
        "this process was moved to another control group, whose limits count from now on"
    ]


@pytest.mark.parametrize("scope", [Scope.HOST, Scope.CPUSET])
def test_limits_are_looked_at_once_in_half_a_second(
    scope: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    root = copy("v2-pod", tmp_path)
    sensor = open_sensor(scope, None, root)
    (root / "sys/fs/cgroup/cpu.max").write_text("20000 100000\n")
    reaches = []
    for _ in range(10):
        now += 0.1
        reaches.append(sensor.sample().reach)
    assert reaches == pytest.approx([0.5] * 4 + [0.2] * 6)


def test_a_limit_that_cannot_be_read_is_tried_again_in_every_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    root = copy("v2-pod", tmp_path)
    sensor = open_sensor(Scope.HOST, None, root)
    (root / "sys/fs/cgroup/cpu.max").write_text("garbage\n")
    now += 0.5
    for _ in range(2):
        with pytest.raises(UnreadableError, match=r"cpu\.max"):
            sensor.sample()
        now += 0.01
    (root / "sys/fs/cgroup/cpu.max").write_text("20000 100000\n")
    assert sensor.sample().reach == pytest.approx(0.2)


def test_a_move_out_of_sight_is_a_reason_until_it_is_undone(tmp_path: Path) -> None:
    root = copy("v2-pod", tmp_path)
    sensor = open_sensor(Scope.HOST, None, root, limits_every=0.0)
    (root / "proc/self/cgroup").write_text("0::/../other\n")
    for _ in range(2):
        with pytest.raises(UnreadableError, match="a control group that can't be seen from here"):
            sensor.sample()
    (root / "proc/self/cgroup").write_text("0::/\n")
    assert sensor.sample().reach == pytest.approx(0.5)


def test_a_container_that_is_moved_to_the_root_group_has_no_reading(tmp_path: Path) -> None:
    root = copy("v2-pod", tmp_path)
    sensor = open_sensor(Scope.CONTAINER, None, root)
    (root / "sys/fs/cgroup/cgroup.events").unlink()
    (root / "proc/self/cgroup").write_text("0::/.\n")
    for _ in range(2):
        with pytest.raises(UnreadableError, match="root control group"):
            sensor.sample()


def test_the_host_counts_every_process() -> None:
    members = open_sensor(Scope.HOST, None, RECORDED / "v1-hybrid-host").members()
    assert members(1)


def test_a_cpuset_counts_the_processes_that_may_use_its_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = {0: {0, 1}, 7: {1, 2}, 8: {2, 3}}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed[pid])
    members = open_sensor(Scope.CPUSET, None, RECORDED / "v1-hybrid-host").members()
    assert members(7)
    assert not members(8)
    monkeypatch.undo()
    assert not members(2**22 + 1)  # more than any PID: it has ended


@pytest.mark.parametrize(
    ("tree", "inside", "outside"),
    [
        ("v2-pod", ["0::/\n", "0::/below\n"], ["0::/..\n", "0::/../other/below\n", "", "garbled\n"]),
        (
            "v1-nested",  # whose limit is that of /pods/ab12
            ["4:cpu,cpuacct:/pods/ab12/cd34\n", "4:cpu,cpuacct:/pods/ab12/ef56\n"],
            ["4:cpu,cpuacct:/pods\n", "4:cpu,cpuacct:/pods/ab123\n", "5:cpuset:/pods/ab12/cd34\n"],
        ),
    ],
)
def test_a_container_counts_the_processes_in_the_group_that_is_measured(
    tree: str, inside: list[str], outside: list[str], tmp_path: Path
) -> None:
    root = copy(tree, tmp_path)
    members = open_sensor(Scope.CONTAINER, None, root).members()
    for pid, membership in enumerate(inside + outside, start=1):
        (root / f"proc/{pid}").mkdir()
        (root / f"proc/{pid}/cgroup").write_text(membership)
    assert [pid for pid in range(1, 20) if members(pid)] == list(range(1, len(inside) + 1))
