"""The whole program while the machine's own files break under it, its quota shrinks and its CPUs are taken away."""

from __future__ import annotations

import os
import re
import subprocess
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from control_groups import quota_group
from faulty import Run, running
from program import LOADBAND, get, wait_until

from loadband.regulator import lease_of

pytestmark = pytest.mark.cpu

STAT = Path("/proc/stat")


@pytest.fixture(scope="session")
def _own_mounts() -> None:
    """Whether we may give a process mounts of its own."""
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")


def in_mounts_of(run: Run, *command: str) -> None:
    subprocess.run(["nsenter", f"--target={run.pid}", "--mount", *command], check=True)


@contextmanager
def instead_of_stat(run: Run, path: Path) -> Iterator[None]:
    """Let the program find something else in the place of /proc/stat."""
    in_mounts_of(run, "mount", "--bind", str(path), str(STAT))
    try:
        yield
    finally:
        in_mounts_of(run, "umount", "--lazy", str(STAT))


def failures(run: Run, reason: str) -> float:
    return run.metric(f'loadband_cycle_failures_total{{reason="{reason}"}}')


def is_in(run: Run, state: str) -> Callable[[], bool]:
    return lambda: run.metric(f'loadband_state{{state="{state}"}}') == 1


def with_idle(text: str, change: int) -> str:
    """The text of /proc/stat with the idle time of all CPUs so many ticks further."""
    name, fields = text.split(maxsplit=1)
    user, nice, system, idle, rest = fields.split(" ", 4)
    return f"{name}  {user} {nice} {system} {int(idle) + change} {rest}"


@pytest.mark.usefixtures("_own_mounts")
def test_whatever_stands_in_proc_stat_it_burns_nothing_and_comes_back(tmp_path: Path) -> None:
    faults: dict[str, tuple[str, Callable[[str], str]]] = {
        "empty": ("unreadable", lambda _: ""),
        "truncated": ("unreadable", lambda text: text[:30]),
        "frozen": ("frozen", lambda text: text),
        "backwards": ("backwards", lambda text: with_idle(text, -100_000)),
        "absurd": ("absurd", lambda text: with_idle(text, 100_000)),
        "a CPU less": ("changed", lambda text: re.sub(r"^cpu0 .*\n", "", text, flags=re.MULTILINE)),
    }
    with running("holding", ["unshare", "--mount", LOADBAND]) as run:
        for name, (reason, spoil) in faults.items():
            before = failures(run, reason)
            broken = tmp_path / name
            broken.write_text(spoil(STAT.read_text()))
            with instead_of_stat(run, broken):
                wait_until(is_in(run, "failsafe"), 3, f"failsafe with {name}")
                assert failures(run, reason) > before, name
                assert run.metric("loadband_effort_cpus") == 0
                time.sleep(0.1)  # the last bursts
                assert run.used(0.5) < 0.05, name
                assert "runs" in get(run.port, "/healthz", timeout=1)
                assert "Ready" in get(run.port, "/readyz", timeout=1)
            run.wait_for("holding", 5)
        run.process.terminate()
        assert run.wait_until_gone() == 0


@pytest.mark.usefixtures("_own_mounts")
def test_a_look_that_never_ends_lets_it_burn_nothing_and_a_signal_still_ends_it(tmp_path: Path) -> None:
    fifo = tmp_path / "stat"
    os.mkfifo(fifo)

    def unhealthy() -> bool:
        try:
            get(run.port, "/healthz", timeout=1)
        except urllib.error.HTTPError as error:
            return error.code == 503
        return False

    with running("holding", ["unshare", "--mount", LOADBAND]) as run:
        with instead_of_stat(run, fifo):
            time.sleep(lease_of(0.1) + 0.3)  # and the last bursts
            assert run.used(1.0) < 0.05
            wait_until(unhealthy, 6, "being unhealthy")
        # Who waits for the first writer gets one, and the next look is at the real file again.
        fifo.write_text(STAT.read_text())
        wait_until(lambda: failures(run, "gap") == 1, 5, "a gap")  # until then, the state is that of before
        run.wait_for("holding", 5)
        in_mounts_of(run, "mount", "--bind", str(fifo), str(STAT))
        time.sleep(0.3)
        run.process.terminate()
        assert run.wait_until_gone(6) == 3


@pytest.mark.parametrize("scope", ["host", "container"])
def test_a_quota_of_a_tenth_of_a_cpu_is_borne_and_its_end_found(scope: str) -> None:
    with quota_group(100_000) as group:
        accounting = Path("/sys/fs/cgroup/cpuacct", group.name)
        enter = ["sh", "-c", 'echo $$ >"$0/cgroup.procs"; echo $$ >"$1/cgroup.procs"; shift; exec "$@"']
        with running("holding", [*enter, str(group), str(accounting), LOADBAND], SCOPE=scope) as run:
            (group / "cpu.cfs_quota_us").write_text("10000")
            wait_until(lambda: run.metric("loadband_reach_cpus") == pytest.approx(0.1), 5)
            wait_until(lambda: run.metric("loadband_effort_cpus") <= 0.1, 3)
            assert run.used(3.0) <= 0.4
            began = time.monotonic()
            assert "runs" in get(run.port, "/healthz", timeout=5)
            print(f"{scope}: /healthz after {1000 * (time.monotonic() - began):.0f} ms at a tenth of a CPU")
            (group / "cpu.cfs_quota_us").write_text("100000")
            run.wait_for("holding", 5)
            run.process.terminate()
            assert run.wait_until_gone() == 0
