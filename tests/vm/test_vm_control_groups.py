"""The regulator under systemd's limits, on a real cgroup v2, against what the machine's root reads of each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from program import metric, wait_until
from vm.bands import user_data
from vm.conftest import Said
from vm.machine import CPUS, LOADBAND, Disks, Machine, running_machine, slowly, write_seed

LOW, HIGH = 60, 70
MIDDLE = (LOW + HIGH) / 200
GATE = 0.015
"""How far a mean may be from the band's middle, and from what the regulator exports."""
SECONDS = 10
SETTLE = 3
UNIT = "under-test"
BUSY = "/bin/sh -c 'while :; do :; done'"
LATE_PERIODS = 3
"""By which an exported counter may be behind: a cycle is as long as a period, and an emulated machine is slow."""

# Metrics between two looks at the group, so that they can't be earlier than the first or later than the second.
_LOOK = """\
group=/sys/fs/cgroup{group}
look() {{
    read up idle </proc/uptime
    echo "uptime $up"
    sed 's/^/stat /' $group/cpu.stat
    grep '^cpu0 ' /proc/stat
}}
both() {{
    look
    exec 3<>/dev/tcp/127.0.0.1/{port}
    printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3
    cat <&3 | tr -d '\\r'
    exec 3>&-
    look
}}
both
sleep {seconds}
both
"""


@dataclass(frozen=True)
class Look:
    """What the machine's root reads at one time."""

    at: float
    """Seconds since the boot."""
    stat: Mapping[str, int]
    """The group's `cpu.stat`; microseconds and numbers of periods."""
    idle: int
    """Of the first CPU, with what waits for disks; hundredths of a second."""


@dataclass(frozen=True)
class Seen:
    """Two times some seconds apart; at each a look, the metrics, and another look."""

    looks: tuple[Look, Look, Look, Look]
    metrics: tuple[str, str]

    @property
    def used(self) -> float:
        """CPUs that the group used between."""
        first, last = self.looks[0], self.looks[-1]
        return (last.stat["usage_usec"] - first.stat["usage_usec"]) / 1e6 / (last.at - first.at)

    @property
    def busy(self) -> float:
        """Share of the time for which the first CPU was busy, 0..1."""
        first, last = self.looks[0], self.looks[-1]
        return 1 - (last.idle - first.idle) / 100 / (last.at - first.at)

    def exported(self, scope: str) -> float:
        """Utilization between, by the regulator's own counters, 0..1."""
        spent = {
            mode: self.increase(f'loadband_cpu_seconds_total{{mode="{mode}",scope="{scope}"}}')
            for mode in ("own", "other", "steal", "idle")
        }
        return (spent["own"] + spent["other"]) / sum(spent.values())

    def increase(self, series: str) -> float:
        before, after = (metric(text, series) for text in self.metrics)
        return after - before


def read(output: str) -> Seen:
    """What `_LOOK` wrote."""
    looks: list[Look] = []
    texts: list[str] = []
    for block in output.split("uptime ")[1:]:
        lines = block.splitlines()
        stat = dict(line.split()[1:] for line in lines if line.startswith("stat "))
        (cpu,) = (line.split() for line in lines if line.startswith("cpu0 "))
        looks.append(
            Look(float(lines[0]), {name: int(value) for name, value in stat.items()}, int(cpu[4]) + int(cpu[5]))
        )
        if len(looks) % 2:
            texts.append(block)
    assert len(looks) == 4
    return Seen((looks[0], looks[1], looks[2], looks[3]), (texts[0], texts[1]))


@pytest.fixture(scope="module")
def machine(disks: Disks, accelerator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The image's own regulator is stopped."""
    write_seed(disks.seed, "groups", user_data("LOADBAND_MIN=0\nLOADBAND_MAX=1\n"))
    with running_machine(tmp_path_factory.mktemp("machine") / "groups", disks, accelerator) as running:
        running.wait_booted()
        running.out("systemctl stop loadband")
        assert running.out("stat --file-system --format %T /sys/fs/cgroup") == "cgroup2fs"
        yield running


@contextmanager
def regulator(machine: Machine, scope: str, *properties: str, command: str = "", **settings: str) -> Iterator[str]:
    """A unit of the machine that holds the band; gives its control group, and is gone afterwards.

    Args:
        properties: of systemd, as in `CPUQuota=50%`.
        command: that runs beside it, in the same group.
    """
    named = {"MIN": str(LOW), "MAX": str(HIGH), "SCOPE": scope} | settings
    flags = [f"--setenv LOADBAND_{name}={value}" for name, value in named.items()]
    flags += [f"--property {each}" for each in properties]
    run = "/opt/loadband/bin/loadband"
    if command:
        run = f'/bin/sh -c "{command} & exec {run}"'
    try:
        machine.out(f"systemd-run --quiet --collect --unit {UNIT} {' '.join(flags)} {run}")
        wait_until(slowly(lambda: machine.exported("loadband_cycles_total") > 10, 1), 60, "the first cycles")
        yield machine.out(f"systemctl show -P ControlGroup {UNIT}")
    finally:
        machine.run(f"systemctl stop {UNIT}")


def capacity_of(machine: Machine, scope: str = "container") -> float:
    """What the regulator takes for its scope's CPUs."""
    return machine.exported(f'loadband_capacity_cpus{{scope="{scope}"}}')


def wait_for_capacity(machine: Machine, capacity: float) -> None:
    wait_until(slowly(lambda: capacity_of(machine) == pytest.approx(capacity), 1), 30, f"a capacity of {capacity:g}")


def watched(machine: Machine, group: str, seconds: int = SECONDS) -> Seen:
    """Let it settle, then look."""
    script = _LOOK.format(group=group, port=LOADBAND, seconds=seconds)
    return read(machine.out(f"sleep {SETTLE}; exec bash <<'END'\n{script}END", 120))


@pytest.mark.parametrize("quota", [0.5, 1.5])
def test_a_quota_is_what_the_band_is_of(machine: Machine, said: Said, quota: float) -> None:
    with regulator(machine, "container", f"CPUQuota={100 * quota:g}%") as group:
        machine.wait_holding()
        capacity = capacity_of(machine)
        seen = watched(machine, group)
    used, exported = seen.used / quota, seen.exported("container")
    said(
        f"CPUQuota={100 * quota:g}%",
        f"{100 * MIDDLE:g} % +- {100 * GATE:g} of it",
        f"capacity {capacity:g}; {100 * used:.2f} % by the root's cpu.stat, {100 * exported:.2f} % by /metrics",
    )
    assert capacity == pytest.approx(quota)
    assert used == pytest.approx(MIDDLE, abs=GATE)
    assert exported == pytest.approx(used, abs=GATE)


def test_the_nearest_limit_of_nested_slices_counts_with_all_that_is_in_it(machine: Machine, said: Said) -> None:
    quota, neighbour = 0.8, 0.2
    machine.out(f"systemctl set-property --runtime outer.slice CPUQuota={100 * quota:g}%")
    beside = f"--unit beside --slice outer-other.slice --property CPUQuota={100 * neighbour:g}%"
    machine.out(f"systemd-run --quiet --collect {beside} {BUSY}")
    try:
        with regulator(machine, "container", "Slice=outer-inner.slice", "CPUQuota=150%") as group:
            machine.wait_holding()
            own, capacity = group, capacity_of(machine)
            seen = watched(machine, "/outer.slice")
    finally:
        machine.run("systemctl stop beside outer.slice")
    used, exported = seen.used / quota, seen.exported("container")
    other = seen.increase('loadband_cpu_seconds_total{mode="other",scope="container"}')
    share = other / (seen.looks[-1].at - seen.looks[0].at)
    said(
        f"CPUQuota=150% in a slice of {100 * quota:g}%, with a neighbour of {neighbour:g} CPUs",
        f"{100 * MIDDLE:g} % +- {100 * GATE:g} of the slice",
        f"{own}: capacity {capacity:g}; {100 * used:.2f} % by the root's cpu.stat of outer.slice, "
        f"{100 * exported:.2f} % by /metrics, of others {share:.2f} CPUs",
    )
    assert capacity == pytest.approx(quota)
    assert used == pytest.approx(MIDDLE, abs=GATE)
    assert exported == pytest.approx(used, abs=GATE)
    assert share == pytest.approx(neighbour, abs=0.03)


def test_a_quota_that_changes_is_followed_and_so_is_none(machine: Machine, said: Said) -> None:
    """Without any quota systemd takes the controller away, and `cpu.max` with it."""
    found: dict[str, float] = {}
    with regulator(machine, "container", "CPUQuota=50%") as group:
        machine.wait_holding()
        file, quota = f"/sys/fs/cgroup{group}/cpu.max", f"systemctl set-property --runtime {UNIT} CPUQuota="
        changes = {f"{quota}120%": 1.2, f"{quota}40%": 0.4, f"echo max >{file}": CPUS, quota: CPUS}
        for change, capacity in changes.items():
            machine.out(change)
            wait_for_capacity(machine, capacity)
            limit = machine.run(f"cat {file}")[1] or "no file"
            found[limit] = watched(machine, group, 6).used / capacity
    said(
        "cpu.max changed under it",
        f"{100 * MIDDLE:g} % +- {100 * GATE:g} of each",
        ", ".join(f"{limit}: {100 * used:.2f} %" for limit, used in found.items()),
    )
    assert list(found) == ["120000 100000", "40000 100000", "max 100000", "no file"]
    assert list(found.values()) == [pytest.approx(MIDDLE, abs=GATE)] * 4


def test_allowed_cpus_are_the_scope_cpuset(machine: Machine, said: Said) -> None:
    with regulator(machine, "cpuset", "AllowedCPUs=0") as group:
        machine.wait_holding()
        capacity = capacity_of(machine, "cpuset")
        assert machine.out(f"cat /sys/fs/cgroup{group}/cpuset.cpus.effective") == "0"
        seen = watched(machine, group)
    exported = seen.exported("cpuset")
    said(
        "AllowedCPUs=0, scope cpuset",
        f"{100 * MIDDLE:g} % +- {100 * GATE:g} of CPU 0",
        f"capacity {capacity:g}; {100 * seen.busy:.2f} % by /proc/stat, {100 * exported:.2f} % by /metrics",
    )
    assert capacity == 1
    assert seen.busy == pytest.approx(MIDDLE, abs=GATE)
    assert exported == pytest.approx(seen.busy, abs=GATE)


def test_throttling_is_counted_as_the_kernel_counts_it(machine: Machine, said: Said) -> None:
    """A neighbour in the same group takes all that the quota gives."""
    with regulator(machine, "container", "CPUQuota=50%", command="while :; do :; done") as group:
        seen = watched(machine, group)
    throttled = seen.increase("loadband_cpu_throttled_periods_total")
    periods = seen.increase("loadband_cpu_periods_total")
    seconds = seen.increase("loadband_cpu_throttled_seconds_total")
    least, most = (
        {name: last.stat[name] - first.stat[name] for name in ("nr_periods", "nr_throttled", "throttled_usec")}
        for first, last in ((seen.looks[1], seen.looks[2]), (seen.looks[0], seen.looks[3]))
    )
    said(
        "CPUQuota=50%, all of it taken by another process of the group",
        "the kernel's counters between the looks before and after",
        f"periods {periods:g} ({least['nr_periods']}..{most['nr_periods']}), "
        f"throttled {throttled:g} ({least['nr_throttled']}..{most['nr_throttled']}), "
        f"seconds {seconds:.2f} ({least['throttled_usec'] / 1e6:.2f}..{most['throttled_usec'] / 1e6:.2f})",
    )
    assert least["nr_throttled"] > 0
    assert least["nr_periods"] - LATE_PERIODS <= periods <= most["nr_periods"] + LATE_PERIODS
    assert least["nr_throttled"] - LATE_PERIODS <= throttled <= most["nr_throttled"] + LATE_PERIODS
    late = LATE_PERIODS * 0.1 * CPUS
    assert least["throttled_usec"] / 1e6 - late <= seconds <= most["throttled_usec"] / 1e6 + late
