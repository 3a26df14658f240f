"""What a guest of the platform libvirt is, and how much it works."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_libvirt import KVM, TCG

from loadband.rebalance.platforms.libvirt import guests
from loadband.rebalance.platforms.libvirt.guests import Cost, Seed
from loadband.rebalance.platforms.libvirt.pace import EXACT, MOST, NEAR, SETTLED, Pace

PACKAGE = files("loadband.rebalance.platforms.libvirt")
SEED = Seed(name="loadband-r1-s1", run="r1", slice="s1", image="/pool/guest.img")


def test_a_guest_is_of_its_run_and_confined_to_its_cpus() -> None:
    seed = Seed(
        name="loadband-r1-s1",
        run="r1",
        slice="s1",
        image="/x/guest.img",
        console="/x/s1.log",
        accelerator="kvm",
        cpus=frozenset({3, 1}),
        ends_itself=True,
    )
    text = guests.domain_xml(seed)
    domain = ET.fromstring(text)
    assert guests.run_of(text) == "r1"
    assert (domain.get("type"), domain.findtext("name")) == ("kvm", "loadband-r1-s1")
    places = [domain.find("vcpu"), domain.find("cputune/emulatorpin")]
    assert [place.get("cpuset") for place in places if place is not None] == ["1,3", "1,3"]
    log, disk = domain.find("devices/serial/log"), domain.find("devices/disk/source")
    assert log is not None
    assert disk is not None
    assert (log.get("file"), disk.get("file")) == ("/x/s1.log", "/x/guest.img")
    assert domain.find("devices/disk/readonly") is not None
    assert "isa-debug-exit,iobase=0xf4" in text


def test_a_guest_on_a_host_of_its_own_may_run_anywhere() -> None:
    text = guests.domain_xml(SEED)
    domain = ET.fromstring(text)
    assert domain.get("type") == "qemu"
    assert "cpuset" not in text
    assert "isa-debug-exit" not in text
    assert domain.find("devices/serial/log") is None


def test_other_cpus_replace_those_that_were_there_and_leave_the_rest() -> None:
    first = guests.domain_xml(SEED)
    there = guests.confined(guests.confined(first, frozenset({0})), frozenset({1}))
    assert there.count('cpuset="1"') == 2
    assert 'cpuset="0"' not in there
    assert guests.confined(there, None) == first
    assert guests.run_of(there) == "r1"


def test_what_is_no_guest_is_refused_and_of_no_run() -> None:
    with pytest.raises(ValueError, match="doesn't mention CPUs"):
        guests.confined("<domain/>", frozenset({0}))
    assert guests.run_of("<domain><metadata/></domain>") == ""


def test_kvm_is_used_where_the_host_has_it() -> None:
    assert guests.accelerator(KVM) == "kvm"
    assert guests.accelerator(TCG) == "qemu"
    with pytest.raises(ValueError, match="runs no x86_64 machines"):
        guests.accelerator("<capabilities><guest><arch name='s390x'/></guest></capabilities>")


def test_the_cost_of_a_migration_is_what_libvirt_states() -> None:
    stated = {"time_elapsed": 312, "downtime": 11, "data_processed": 598_933, "memory_total": 1}
    assert guests.cost(stated) == Cost(0.312, 0.011, 598_933)
    assert guests.cost({}) == Cost(None, None, None)


def test_the_disk_begins_with_the_boot_sector() -> None:
    sector = PACKAGE.joinpath("guest.img").read_bytes()
    assert (len(sector), sector[-2:]) == (512, b"\x55\xaa")
    disk = guests.disk(sector)
    assert len(disk) == guests.DISK
    assert disk.startswith(sector)


@pytest.mark.skipif(not (shutil.which("as") and shutil.which("ld")), reason="no assembler: binutils isn't installed")
def test_the_boot_sector_is_made_of_its_source(tmp_path: Path) -> None:
    source = tmp_path / "guest.S"
    source.write_bytes(PACKAGE.joinpath("guest.S").read_bytes())
    subprocess.run(["as", "--32", "-o", "guest.o", source], cwd=tmp_path, check=True)
    link = ["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", "guest.img", "guest.o"]
    subprocess.run(link, cwd=tmp_path, check=True)
    assert (tmp_path / "guest.img").read_bytes() == PACKAGE.joinpath("guest.img").read_bytes()


class Burner:
    """A guest of which so many units burn a CPU, measured ten times a second."""

    def __init__(self, pace: Pace, units_per_cpu: float) -> None:
        self.pace = pace
        self.units_per_cpu = units_per_cpu
        self.now = self.used = 0.0
        self.corrections = 0

    @property
    def rate(self) -> float:
        return min(self.pace.units / self.units_per_cpu, 1.0)

    def go(self, seconds: float, *, most: float = 1.0) -> None:
        """Let time pass; `most`: what its host has for it."""
        for _ in range(round(10 * seconds)):
            self.now += 0.1
            self.used += 0.1 * min(self.rate, most)
            self.corrections += self.pace.add(self.now, self.used, room=most == 1.0)


@given(st.floats(0.02, MOST), st.floats(3000, 150_000))
def test_a_guest_burns_what_it_is_asked_for_whatever_its_machine(asked: float, units_per_cpu: float) -> None:
    one = Burner(Pace(asked), units_per_cpu)
    one.go(8)
    assert one.pace.settled
    assert one.rate == pytest.approx(asked, abs=max(NEAR[0] * asked, NEAR[1]))
    one.go(20)
    # What is measured and what is true aren't quite the same: units are whole numbers, and time passes in steps.
    assert one.rate == pytest.approx(asked, abs=1.1 * max(EXACT[0] * asked, EXACT[1]))


def test_what_was_found_out_about_the_machine_stays_when_it_is_asked_for_another_amount() -> None:
    one = Burner(Pace(0.2), 50_000)
    one.go(6)
    one.pace.ask(0.4)
    assert not one.pace.settled
    assert one.rate == pytest.approx(0.4, rel=0.03)
    one.go(SETTLED + 0.2)
    assert one.pace.settled
    one.pace.ask(0.0)
    assert one.pace.settled
    assert one.pace.message == b"\n0\n"
    one.go(3)
    one.pace.ask(0.1)
    assert one.pace.message == b"\n5000\n"


def test_a_guest_on_a_full_host_is_not_told_to_work_more() -> None:
    one = Burner(Pace(0.4), 20_000)
    one.go(4)
    before = one.pace.units
    one.go(10, most=0.2)
    assert one.pace.units == before
    one.go(10)
    assert one.rate == pytest.approx(0.4, rel=0.02)


def test_after_a_move_only_what_is_measured_since_counts() -> None:
    one = Burner(Pace(0.4), 20_000)
    one.go(4)
    before = one.corrections
    one.pace.forget()
    one.now += 1.0
    one.go(1.5)
    assert one.corrections == before


def test_guests_that_crowd_a_cpu_and_hide_what_they_want_are_found_out_soon() -> None:
    """On a full CPU all get the same share of what they want, and each unit costs a little more."""
    guests = [Burner(Pace(asked), 20_000) for asked in (0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1)]
    for one in guests:
        one.go(3)
        one.units_per_cpu /= 1.12
    for one in guests[2:]:
        one.pace.units = round(1.5 * one.pace.units)
    late = 0
    for step in range(60):
        share = min(0.97 / sum(one.rate for one in guests), 1.0)
        for one in guests:
            one.now += 0.1
            one.used += 0.1 * one.rate * share
            one.pace.add(one.now, one.used, room=share == 1.0)
        if any(abs(one.rate * share - one.pace.asked) > 0.05 * one.pace.asked for one in guests):
            late = step
    assert late / 10 < 4.0
