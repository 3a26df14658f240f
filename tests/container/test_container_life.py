"""The container as a citizen: how it starts, what it says, what it needs, how it ends and what is left of it."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from containers import CGROUPS, PORT, Container, podman, run, running
from program import wait_until

pytestmark = [pytest.mark.container, pytest.mark.timeout(180)]

# Burns next to nothing: these tests are not about load.
MODEST = {"MIN": "0", "MAX": "1", "MAX_EFFORT": "20m"}


def alive(thread: int) -> bool:
    return Path(f"/proc/{thread}").exists()


def test_without_settings_it_holds_the_host_and_says_where_to_look() -> None:
    with running() as container:
        container.wait_for_band()
        wait_until(lambda: "state=holding" in podman("logs", container.name).stdout, 30, "a line that says so")
        done = podman("logs", container.name)
    print(done.stdout.splitlines()[0])
    assert '"60..70 %" scope=host' in done.stdout
    assert "metrics=http://127.0.0.1:10670/metrics" in done.stdout
    assert done.stderr == ""


def test_on_a_terminal_it_draws() -> None:
    done = run("--duration", "3s", flags=("--tty", "--read-only", "--env=TERM=xterm-256color"), **MODEST)
    assert "\x1b[?1049h" in done.stdout
    assert "Traceback" not in done.stdout


def test_help_version_check_and_the_five_numbers_work_through_the_entrypoint() -> None:
    assert "LOADBAND_SCOPE" in run("--help").stdout
    assert run("--version").stdout.startswith("loadband ")
    checked = run("--check", "60", "70", "10", "2", "10", INTERVAL="200ms")
    lines = {line.split()[0]: line.split(None, 1)[1] for line in checked.stdout.splitlines()}
    assert (checked.returncode, checked.stderr) == (0, "")
    assert lines["LOADBAND_CONTROLLER"].split(None, 1) == ["step", "five numbers"]
    assert lines["LOADBAND_WORKERS"].split(None, 1) == ["10", "five numbers"]
    assert lines["LOADBAND_INTERVAL"].split(None, 1) == ["200ms", "environment variable"]


def test_bad_settings_end_it_with_messages_alone() -> None:
    began = time.monotonic()
    done = run("--scope", "planet", MIN="80", MAX="70", INTERVAL="1ms")
    took = time.monotonic() - began
    print(f"bad settings: exit code {done.returncode} after {took:.1f} s, of it podman's own")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 3
    assert all(line.startswith("loadband: ") for line in done.stderr.splitlines())
    assert took < 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_pid_1_it_ends_when_asked(number: signal.Signals) -> None:
    with running(flags=(f"--stop-signal={number.name}",)) as container:
        container.wait_for_band()
        assert container.status("NSpid")[-1] == "1"
        threads = container.processes()
        began = time.monotonic()
        podman("stop", "--time=10", container.name)
        took = time.monotonic() - began
        print(f"{number.name}: stopped after {took:.2f} s while it burnt with {len(threads)} threads")
        assert took < 2
        assert container.exit_code() == 0
        assert not any(map(alive, threads))


def test_killed_it_leaves_nothing_running() -> None:
    with running() as container:
        container.wait_for_band()
        threads, group = container.processes(), container.group("cpuacct")
        assert len(threads) > 2
        podman("kill", "--signal=KILL", container.name)
        wait_until(lambda: not group.exists(), 5, "the end of its control group")
        assert not any(map(alive, threads))
        assert container.exit_code() == 128 + signal.SIGKILL


def test_fifty_rounds_of_start_and_stop_leave_nothing_behind() -> None:
    def live() -> tuple[str, float, float]:
        with running(flags=("--network=none",), LISTEN="off", **MODEST) as container:
            began = time.monotonic()
            wait_until(lambda: container.handles(signal.SIGTERM), 10, "a handler for SIGTERM")
            ready = time.monotonic()
            podman("stop", "--time=10", container.name)
            stopped = time.monotonic()
            assert container.exit_code() == 0
            return str(container.inspect()["Id"]), ready - began, stopped - ready

    with ThreadPoolExecutor(2) as pool:
        rounds = list(pool.map(lambda _: live(), range(50)))
    left = [where for name, _, _ in rounds for where in traces(name)]
    print(
        f"50 rounds: ready for a signal at most {max(ready for _, ready, _ in rounds):.2f} s after the start, "
        f"stopped at most {max(stop for *_, stop in rounds):.2f} s after the request"
    )
    assert left == []
    assert max(stop for *_, stop in rounds) < 2


def traces(container: str) -> list[str]:
    """Where the machine still knows a container by its id: processes, mounts, control groups, podman's own books."""
    found = [f"mount: {line}" for line in Path("/proc/mounts").read_text().splitlines() if container in line]
    found += [str(path) for path in CGROUPS.glob(f"*/*/*{container}*")]
    # With --external, podman's filters let through what a build that was killed has left.
    known = podman("ps", "--all", "--external", "--quiet", "--no-trunc").stdout.split()
    found += [f"podman: {each}" for each in known if each == container]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended while we looked
            if container in (process / "cmdline").read_text() + (process / "cgroup").read_text():
                found.append(f"process {process.name}")
    return found


HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=1000660000:0",
    "--memory=64m",
    "--cpus=0.5",
)


def test_it_needs_no_root_no_capability_no_writable_file_and_64_mib() -> None:
    with running(flags=HARDENED, SCOPE="container") as container:
        container.wait_for_band()
        for _ in range(50):
            container.metrics()
        peak = int((container.group("memory") / "memory.max_usage_in_bytes").read_text()) / 2**20
        refused = int((container.group("memory") / "memory.failcnt").read_text())
        resident = container.metric("process_resident_memory_bytes") / 2**20
        print(
            f"hardened: in the band with {peak:.0f} MiB at most, of it {resident:.0f} MiB resident; {refused} refused"
        )
        assert container.status("Uid") == ["1000660000"] * 4
        assert container.status("Gid") == ["0"] * 4
        assert container.status("NoNewPrivs") == ["1"]
        assert all(int(container.status(key)[0], 16) == 0 for key in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"))
        assert refused == 0
        assert resident <= 64
        podman("stop", container.name)
        assert container.exit_code() == 0
        assert changed_files(container) == []


def test_where_it_could_write_it_writes_nothing() -> None:
    # --passwd: podman would add our user to /etc/passwd.
    with running(flags=("--user=0", "--passwd=false"), **MODEST) as container:
        wait_until(lambda: container.metric("loadband_cycles_total") > 0)
        before = written_bytes(container)  # podman's own, which made ready what the process runs in
        wait_until(lambda: container.metric("loadband_cycles_total") > 20)
        written = written_bytes(container) - before
        root = Path(f"/proc/{container.pid}/root")
        files = [str(path) for place in ("tmp", "var/tmp", "dev/shm", "run/lock") for path in (root / place).rglob("*")]
        changed = changed_files(container)
    print(f"as root on a writable root: {written} bytes written to disks, files changed: {changed or 'none'}")
    assert written == 0
    assert files == []
    assert changed == []


def test_it_talks_to_nobody_who_has_not_asked() -> None:
    with running(flags=("--cap-drop=ALL",), **MODEST) as container:
        wait_until(lambda: container.metric("loadband_cycles_total") > 20)
        tables = {
            kind: Path(f"/proc/{container.pid}/net/{kind}") for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "unix")
        }
        sockets = {kind: table.read_text().splitlines()[1:] for kind, table in tables.items()}
    lines = sockets.pop("tcp") + sockets.pop("tcp6")
    ports = {int(line.split()[1].rpartition(":")[2], 16) for line in lines}
    assert ports == {PORT}
    assert not any(sockets.values())


def test_an_operator_finds_it_by_its_label_and_by_its_name() -> None:
    with running(flags=("--network=none",), LISTEN="off", **MODEST) as container:
        labelled = "label=org.opencontainers.image.title=loadband"
        assert container.name in podman("ps", "--format={{.Names}}", f"--filter={labelled}").stdout.split()
        wait_until(lambda: container.handles(signal.SIGTERM), 10, "a handler for SIGTERM")
        assert Path(f"/proc/{container.pid}/comm").read_text() == "loadband\n"


def changed_files(container: Container) -> list[str]:
    """What differs from the image, but for the directory in which podman makes a mount point of its own."""
    return [line for line in podman("diff", container.name).stdout.splitlines() if line != "C /etc"]


def written_bytes(container: Container) -> int:
    lines = Path(f"/proc/{container.pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes:")).split()[1])
