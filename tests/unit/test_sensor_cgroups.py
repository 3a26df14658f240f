"""Which control groups we are in, and which of them can be seen."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_roots import RECORDED

from loadband.sensor.cgroups import Cgroups, find, parse_membership, parse_mountinfo
from loadband.sensor.files import UnreadableError, parse_cpu_list

V1_MOUNT = "32 31 0:29 {root} {point} rw,relatime shared:10 - cgroup cgroup rw,{controllers}\n"
V2_MOUNT = "35 23 0:30 {root} {point} rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"


def directories(root: Path, membership: str, mountinfo: str, *there: str, controller: str = "cpu") -> list[str]:
    """The groups that are found, ours first, as paths below the root, in which some directories are made before."""
    for directory in there:
        (root / directory).mkdir(parents=True, exist_ok=True)
    found = find(controller, parse_mountinfo(mountinfo), parse_membership(membership), root)
    return [str(group.path.relative_to(root)) for group in found.groups] if found else []


def test_v2_shows_all_ancestors_from_the_hosts_namespace(tmp_path: Path) -> None:
    mount = V2_MOUNT.format(root="/", point="/cg")
    assert directories(tmp_path, "0::/a/b\n", mount, "cg/a/b") == ["cg/a/b", "cg/a", "cg"]


def test_a_namespace_hides_the_ancestors(tmp_path: Path) -> None:
    assert directories(tmp_path, "0::/\n", V2_MOUNT.format(root="/", point="/cg"), "cg") == ["cg"]


def test_docker_on_v1_mounts_our_group_without_a_namespace(tmp_path: Path) -> None:
    mount = V1_MOUNT.format(root="/docker/ab12", point="/cg/cpu", controllers="cpu,cpuacct")
    assert directories(tmp_path, "4:cpu,cpuacct:/docker/ab12\n", mount, "cg/cpu") == ["cg/cpu"]
    assert directories(tmp_path, "4:cpu,cpuacct:/docker/ab12/x\n", mount, "cg/cpu/x") == ["cg/cpu/x", "cg/cpu"]


def test_a_mount_of_another_groups_subtree_shows_nothing(tmp_path: Path) -> None:
    mount = V1_MOUNT.format(root="/docker/ab", point="/cg/cpu", controllers="cpu")
    assert directories(tmp_path, "4:cpu:/docker/ab12\n", mount, "cg/cpu") == []


def test_a_root_outside_the_namespace_shows_only_what_can_be_named_from_there(tmp_path: Path) -> None:
    outside = V2_MOUNT.format(root="/../..", point="/cg")
    assert directories(tmp_path, "0::/\n", outside, "cg") == []
    assert directories(tmp_path, "0::/../../a\n", outside, "cg/a") == ["cg/a", "cg"]
    assert directories(tmp_path, "0::/../a\n", V2_MOUNT.format(root="/", point="/cg"), "cg/../a") == []
    assert directories(tmp_path, "0::/../../../a\n", outside, "a") == []


def test_of_several_mounts_the_one_that_shows_most_ancestors_is_taken(tmp_path: Path) -> None:
    mounts = V2_MOUNT.format(root="/a/b", point="/small") + V2_MOUNT.format(root="/", point="/large")
    assert directories(tmp_path, "0::/a/b\n", mounts, "small", "large/a/b") == ["large/a/b", "large/a", "large"]


def test_a_mount_below_another_one_on_the_same_point_is_not_seen(tmp_path: Path) -> None:
    mounts = V2_MOUNT.format(root="/", point="/cg") + V2_MOUNT.format(root="/a", point="/cg")
    assert directories(tmp_path, "0::/a\n", mounts, "cg/a") == ["cg"]


def test_a_group_that_is_not_there_is_not_seen(tmp_path: Path) -> None:
    assert directories(tmp_path, "0::/gone\n", V2_MOUNT.format(root="/", point="/cg"), "cg") == []


def test_escaped_characters_in_mountinfo_are_decoded(tmp_path: Path) -> None:
    mount = V2_MOUNT.format(root="/with\\040space", point="/tab\\011and\\134")
    assert directories(tmp_path, "0::/with space/a\n", mount, "tab\tand\\/a") == ["tab\tand\\/a", "tab\tand\\"]


@pytest.mark.parametrize(
    "line",
    [
        # Docker Desktop and WSL2: spaces and backslashes that aren't escaped.
        r"2260 190 0:311 / /Docker/host rw,noatime - 9p drvfs rw,aname=drvfs;path=C:\Program Files\Docker",
        "40 23 0:40 / /a\u2028b\x85c\x0cd rw - ext4 /dev/sda1 rw",
        "41 23 0:41 / /mnt rw - fuse",
        "the rest of an option with a line break",
        "",
    ],
)
def test_lines_that_are_not_about_cgroups_are_ignored(line: str, tmp_path: Path) -> None:
    mounts = f"{line}\n{V2_MOUNT.format(root='/', point='/cg')}{line}\n"
    assert directories(tmp_path, "0::/a\n", mounts, "cg/a") == ["cg/a", "cg"]


@pytest.mark.parametrize(
    "line",
    [
        "43 23 0:43 / - cgroup2 cgroup rw",
        "43 23 0:43 / /cg rw - cgroup2 cgroup",
        "43 23 0:43 / /cg rw - cgroup2 cgroup rw more",
    ],
)
def test_a_line_about_a_cgroup_mount_that_lacks_something_is_garbled(line: str) -> None:
    with pytest.raises(ValueError, match="the line of a mount of cgroup2 is garbled"):
        parse_mountinfo(line)


def test_a_cgroup_mount_below_another_file_system_is_not_seen(tmp_path: Path) -> None:
    mounts = V2_MOUNT.format(root="/", point="/cg") + "42 23 0:42 / /cg rw - tmpfs tmpfs rw\n"
    assert directories(tmp_path, "0::/a\n", mounts, "cg/a") == []


def test_only_a_newline_ends_the_name_of_a_group(tmp_path: Path) -> None:
    odd = "/a\u2028b\x85c\x0cd"
    mounts = V2_MOUNT.format(root="/", point="/cg") + V2_MOUNT.format(root="/", point=f"/x{odd}")
    assert directories(tmp_path, f"0::{odd}\n", mounts, f"cg{odd}") == [f"cg{odd}", "cg"]


def test_a_group_may_have_colons_in_its_name() -> None:
    assert parse_membership("0::/system.slice/a:b:c\n") == {"": PurePosixPath("/system.slice/a:b:c")}


def test_in_a_hybrid_the_controllers_of_v1_are_looked_for_there(tmp_path: Path) -> None:
    mounts = V2_MOUNT.format(root="/", point="/u") + V1_MOUNT.format(root="/", point="/c", controllers="cpu")
    membership = "1:cpu:/one\n0::/two\n"
    assert directories(tmp_path, membership, mounts, "u/two", "c/one") == ["c/one", "c"]
    assert directories(tmp_path, membership, mounts, controller="cpuset") == ["u/two", "u"]


def test_cpu_and_cpuacct_may_be_two_hierarchies(tmp_path: Path) -> None:
    mounts = "".join(V1_MOUNT.format(root="/", point=f"/{name}", controllers=name) for name in ("cpu", "cpuacct"))
    membership = "2:cpuacct:/b\n1:cpu:/a\n"
    assert directories(tmp_path, membership, mounts, "cpu/a") == ["cpu/a", "cpu"]
    assert directories(tmp_path, membership, mounts, "cpuacct/b", controller="cpuacct") == ["cpuacct/b", "cpuacct"]


@pytest.mark.parametrize(
    ("mount", "membership", "file"),
    [
        (V1_MOUNT.format(root="/", point="/cg", controllers="cpuset"), "1:cpuset:/a\n", "cpuset.effective_cpus"),
        (V2_MOUNT.format(root="/", point="/cg"), "0::/a\n", "cpuset.cpus.effective"),
    ],
)
def test_the_cpus_are_those_of_our_own_group(mount: str, membership: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "cg/a").mkdir(parents=True)
    (tmp_path / "cg" / file).write_text("0-3\n")
    (tmp_path / "cg/a" / file).write_text("1\n")
    hierarchy = find("cpuset", parse_mountinfo(mount), parse_membership(membership), tmp_path)
    assert hierarchy
    assert hierarchy.cpus() == frozenset({1})


def test_without_a_mount_nothing_is_found(tmp_path: Path) -> None:
    assert directories(tmp_path, "0::/\n1:cpu:/\n", "22 27 0:21 / /proc rw,relatime - proc proc rw\n") == []


@pytest.mark.parametrize(
    ("tree", "cpus", "group", "throttled"),
    [
        ("v1-podman-host-cgroupns", 0.5, "cpu", (1, 0, 0)),
        ("v1-podman-private-cgroupns", 0.5, "cpu", (0, 0, 0)),
        ("v1-nested", 0.6, "ab12", (900, 30, 0.6)),
        ("v2-pod", 0.5, "cgroup", (4711, 42, 1.5)),
        ("v2-nested", 0.6, "kubepods-podab12.slice", (900, 30, 0.6)),
    ],
)
def test_the_tightest_visible_quota_binds(
    tree: str, cpus: float, group: str, throttled: tuple[int, int, float]
) -> None:
    cgroups = Cgroups.visible(RECORDED / tree)
    limit = cgroups.limit()
    assert limit
    assert limit.cpus == pytest.approx(cpus)
    assert limit.group.path.name == group
    seen = cgroups.throttling(limit)
    assert seen
    assert (seen.periods, seen.throttled_periods, seen.throttled_seconds) == pytest.approx(throttled)
    assert Path(cgroups.usage(limit).path).parent.name in {group, "cpuacct"}


@pytest.mark.parametrize("tree", ["v1-hybrid-host", "v2-host"])
def test_the_root_group_is_known_as_such_and_has_no_limit(tree: str) -> None:
    cgroups = Cgroups.visible(RECORDED / tree)
    assert cgroups.accounting
    assert cgroups.accounting.is_root()
    assert cgroups.limit() is None
    assert cgroups.throttling(None) is None


@pytest.mark.parametrize(
    "tree", ["v1-podman-host-cgroupns", "v1-podman-private-cgroupns", "v2-pod", "v1-nested", "v2-nested"]
)
def test_the_root_of_a_namespace_is_not_taken_for_the_machines(tree: str) -> None:
    accounting = Cgroups.visible(RECORDED / tree).accounting
    assert accounting
    assert not accounting.is_root()


def test_without_a_limit_our_own_group_is_counted() -> None:
    cgroups = Cgroups.visible(RECORDED / "v2-nested")
    assert cgroups.usage(None).value == pytest.approx(20)
    assert cgroups.usage(cgroups.limit()).value == pytest.approx(30)


@pytest.mark.parametrize(("text", "cpus"), [("0-1\n", {0, 1}), ("3\n", {3}), ("0,2-4,8\n", {0, 2, 3, 4, 8})])
def test_lists_of_cpus(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["\n", "3-1\n", "a\n", "0-\n", "1,,2\n"])
def test_what_is_no_list_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_cpu_list(text)


@given(st.text(alphabet="/0:- .\\cgroup2,a\n", max_size=80))
def test_any_text_is_understood_or_refused(text: str) -> None:
    for parse in (parse_mountinfo, parse_membership):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - a text that is understood is fine, too


@pytest.mark.parametrize("file", ["proc/self/mountinfo", "proc/self/cgroup"])
def test_a_garbled_file_is_named(file: str, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(V2_MOUNT.format(root="/", point="/cg"))
    (tmp_path / file).write_text("garbage\n")
    with pytest.raises(UnreadableError, match=file):
        Cgroups.visible(tmp_path)
