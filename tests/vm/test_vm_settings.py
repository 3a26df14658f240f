"""One machine, by BIOS: what user-data and edits of the settings do to it, in the order in which the tests stand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.error import URLError

import pytest
from program import wait_until
from vm.bands import BAD, GOOD, user_data
from vm.conftest import Said
from vm.machine import LOADBAND, Disks, Machine, running_machine, slowly, write_seed
from vm.utilization import mean, record

IDLE = 0.10
"""The most that an emulated machine uses for itself."""


@pytest.fixture(scope="module")
def machine(disks: Disks, accelerator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """First booted with bad user-data."""
    write_seed(disks.seed, "first", user_data(BAD))
    directory = tmp_path_factory.mktemp("machine") / "bios"
    with running_machine(directory, disks, accelerator, uefi=False) as running:
        yield running


def test_bad_user_data_is_reported_and_burns_nothing(machine: Machine, accelerator: str, said: Said) -> None:
    began = time.monotonic()
    machine.wait_booted()
    booted = time.monotonic() - began
    assert machine.out("systemctl is-active multi-user.target") == "active"
    firmware = machine.out("test -d /sys/firmware/efi && echo UEFI || echo BIOS")
    journal = machine.out("journalctl --unit loadband --output cat --no-pager")
    status = machine.run("systemctl status loadband --no-pager --lines 0")[1]
    shown = machine.shown("ActiveState", "ExecMainStatus", "NRestarts")
    for problem in ("LOADBAND_MIN='30x'", "LOADBAND_MAX='400'"):
        assert problem in journal
        assert problem in machine.console
        assert problem in status
    assert shown == ["failed", "2", "0"]
    used = mean(record(machine, 10))
    with pytest.raises((ConnectionError, URLError)):
        machine.get(LOADBAND, "/metrics")
    said(
        f"bad user-data, by {firmware} on {accelerator}",
        "up, reported in journal, console and status, idle",
        f"up after {booted:.0f} s, reported, failed with exit code 2, no restart, {100 * used:.1f} % used",
    )
    assert firmware == "BIOS"
    assert used < IDLE


def test_what_is_in_it(machine: Machine, said: Said) -> None:
    size, free = map(int, machine.out("df --output=size,avail --block-size=M / | tail -1 | tr -d M").split())
    listening = machine.out("ss -tulnH | awk '{print $1, $5}' | sort -u").splitlines()
    secrets = machine.out(
        "awk -F: '$2 !~ /^[!*]/' /etc/shadow; find /etc/ssh /root /home -name '*key*' -size +0 2>/dev/null; true"
    )
    exposure = machine.out("systemd-analyze security loadband --no-pager | tail -1")
    print(machine.out("systemd-analyze time; systemd-analyze blame --no-pager | grep -v '[.]device' | head -12"))
    said(
        "what is in it",
        "root grown to the disk's 6 GiB, one port open with a service that failed, no password, no key",
        f"{size} MiB, {free} free; {', '.join(listening)}; {secrets or 'none'}; {exposure}",
    )
    assert size > 5000
    assert not secrets
    ports = {line.split()[1].rpartition(":")[2] for line in listening if line.startswith("tcp")}
    assert ports == {"9100"}


def test_good_user_data_heals_and_a_reboot_comes_back(machine: Machine, disks: Disks, said: Said) -> None:
    old = machine.out("cat /proc/sys/kernel/random/boot_id")
    write_seed(disks.seed, "second", user_data(GOOD))
    machine.qmp.ask("blockdev-change-medium", id="cdrom", filename=str(disks.seed), format="raw", force=True)
    began = time.monotonic()
    machine.start("systemctl --no-block reboot")
    machine.wait_booted(old)
    booted = time.monotonic() - began
    machine.wait_holding()
    said("reboot, with good user-data now", "up by itself, holding", f"up after {booted:.0f} s, holding")


def test_a_change_of_the_settings_restarts_it(machine: Machine, said: Said) -> None:
    machine.write_settings("LOADBAND_MIN=30x\nLOADBAND_MAX 40\n")
    wait_until(slowly(lambda: machine.shown("ActiveState") == ["failed"], 2), 60, "the refusal")
    skipped = "no NAME=value, skipped: LOADBAND_MAX 40"
    journal = machine.out("journalctl --unit loadband --output cat --no-pager --lines 20")
    burnt = mean(record(machine, 5))
    began = time.monotonic()
    machine.write_settings(GOOD)
    machine.wait_holding()
    healed = time.monotonic() - began
    said(
        "edited to nonsense, and back",
        "told, idle, then holding",
        f"{skipped in journal and skipped in machine.console}, {100 * burnt:.1f} %, holding after {healed:.1f} s",
    )
    assert skipped in journal
    assert skipped in machine.console
    assert burnt < IDLE


def test_the_watchdog_ends_a_loop_that_stands_still(machine: Machine, said: Said) -> None:
    began = time.monotonic()
    started = machine.exported("process_start_time_seconds")
    machine.out("systemctl kill --signal STOP loadband")
    wait_until(slowly(lambda: machine.exported("process_start_time_seconds") > started, 2), 90, "the restart")
    machine.wait_holding()
    again = time.monotonic() - began
    journal = machine.out("journalctl --unit loadband --output cat --no-pager --lines 40")
    said("stopped by SIGSTOP", "restarted by the watchdog of 15 s", f"holding again after {again:.0f} s")
    assert "Watchdog timeout" in journal


def test_stop_is_clean_and_stays(machine: Machine, said: Said) -> None:
    took = float(
        machine.out("s=$(date +%s.%N); systemctl stop loadband; echo $(date +%s.%N) $s | awk '{print $1 - $2}'")
    )
    shown = machine.shown("Result", "ExecMainStatus")
    machine.write_settings(GOOD)
    used = mean(record(machine, 4))
    state = machine.run("systemctl is-active loadband")[1]
    machine.out("systemctl start loadband")
    machine.wait_holding()
    said(
        "systemctl stop", "clean in 2 s, an edit starts nothing", f"{took:.2f} s, {shown}, {state}, {100 * used:.1f} %"
    )
    assert took < 2
    assert shown == ["success", "0"]
    assert state == "inactive"
    assert used < IDLE
