"""What the guests of the platform libvirt are: their disk, their description, and what libvirt says of them. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

from loadband.rebalance.platforms.machine import Cpus

NAMESPACE = "urn:loadband:slice"
"""Of the element in a domain's metadata that says of which run it is."""
MEMORY = 16
"""MiB of a guest; firmware and working set fill less than one."""
DISK = 1 << 20
"""Bytes: the firmware finds no geometry for a disk that is only a boot sector, and doesn't boot from it."""
EXIT_PORT = 0xF4
"""As in guest.S."""
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
"""The namespace of what libvirt hands to QEMU as it is."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What a guest is made from."""

    name: str
    """The domain's."""
    run: str
    """The run's id."""
    slice: str
    image: str
    """The path of the disk, see `disk`; the same on every host."""
    console: str = ""
    """The path of a file to which what the guest prints is appended; empty: it is kept nowhere."""
    accelerator: str = "qemu"
    """libvirt's type of the domain: `kvm`, or `qemu`, which emulates and works everywhere."""
    cpus: Cpus | None = None
    """To which it is confined; None: to none."""
    ends_itself: bool = False
    """Whether it has the device by which it ends when it is left behind, of which libvirt doesn't know."""


def prefix(run: str) -> str:
    """What the names of a run's domains begin with."""
    return f"loadband-{run}-"


def disk(sector: bytes) -> bytes:
    """The disk that a guest boots from.

    Args:
        sector: the boot sector, 512 bytes.
    """
    return sector.ljust(DISK, b"\0")


def domain_xml(seed: Seed) -> str:
    """The description of a guest."""
    ET.register_namespace("loadband", NAMESPACE)
    ET.register_namespace("qemu", _QEMU)
    domain = ET.Element("domain", type=seed.accelerator)
    ET.SubElement(domain, "name").text = seed.name
    metadata = ET.SubElement(domain, "metadata")
    ET.SubElement(metadata, f"{{{NAMESPACE}}}slice", run=seed.run, name=seed.slice)
    ET.SubElement(domain, "memory", unit="MiB").text = str(MEMORY)
    ET.SubElement(domain, "vcpu").text = "1"
    system = ET.SubElement(domain, "os")
    ET.SubElement(system, "type", arch="x86_64", machine="pc").text = "hvm"
    ET.SubElement(system, "boot", dev="hd")
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        ET.SubElement(domain, event).text = "destroy"
    devices = ET.SubElement(domain, "devices")
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="raw")
    ET.SubElement(disk, "source", file=seed.image)
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    ET.SubElement(disk, "readonly")  # so that a migration needs no shared storage
    serial = ET.SubElement(devices, "serial", type="pty")
    if seed.console:
        ET.SubElement(serial, "log", file=seed.console, append="on")
    ET.SubElement(serial, "target", port="0")
    ET.SubElement(devices, "controller", type="usb", model="none")
    ET.SubElement(devices, "memballoon", model="none")
    ET.SubElement(ET.SubElement(devices, "video"), "model", type="none")
    if seed.ends_itself:
        command = ET.SubElement(domain, f"{{{_QEMU}}}commandline")
        for word in ("-device", f"isa-debug-exit,iobase={EXIT_PORT:#x}"):
            ET.SubElement(command, f"{{{_QEMU}}}arg", value=word)
    return confined(ET.tostring(domain, encoding="unicode"), seed.cpus)


def volume_xml(name: str, size: int) -> str:
    """The description of a file in a storage pool; size in bytes."""
    volume = ET.Element("volume")
    ET.SubElement(volume, "name").text = name
    ET.SubElement(volume, "capacity", unit="bytes").text = str(size)
    ET.SubElement(ET.SubElement(volume, "target"), "format", type="raw")
    return ET.tostring(volume, encoding="unicode")


def confined(xml: str, cpus: Cpus | None) -> str:
    """A guest's description with other CPUs: libvirt lets it run on all unless the description names some.

    Raises:
        ValueError: it isn't the description of a guest of ours.
    """
    ET.register_namespace("loadband", NAMESPACE)
    ET.register_namespace("qemu", _QEMU)
    domain = ET.fromstring(xml)  # noqa: S314 - libvirt's own answer
    count, tune = domain.find("vcpu"), domain.find("cputune")
    if count is None:
        raise ValueError("the domain's description doesn't mention CPUs")
    if tune is not None:
        domain.remove(tune)
    if cpus is None:
        count.attrib.pop("cpuset", None)
    else:
        numbers = ",".join(map(str, sorted(cpus)))
        count.set("cpuset", numbers)
        ET.SubElement(ET.SubElement(domain, "cputune"), "emulatorpin", cpuset=numbers)
    return ET.tostring(domain, encoding="unicode")


def accelerator(capabilities: str) -> str:
    """The type of domain that suits a host: `kvm` where its daemon says that it can, else `qemu`, which emulates.

    Args:
        capabilities: XML, as libvirt gives it.

    Raises:
        ValueError: the host runs no virtual machines of this architecture.
    """
    root = ET.fromstring(capabilities)  # noqa: S314 - libvirt's own answer
    types = {one.get("type", "") for one in root.iterfind("guest/arch[@name='x86_64']/domain")}
    for name in ("kvm", "qemu"):
        if name in types:
            return name
    raise ValueError("it runs no x86_64 machines: qemu-system-x86 isn't installed there")


def run_of(xml: str) -> str:
    """The id of the run whose slice a domain is; empty if it is of none."""
    found = ET.fromstring(xml).find(f"metadata/{{{NAMESPACE}}}slice")  # noqa: S314 - libvirt's own answer
    return "" if found is None else found.get("run", "")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a migration took, as libvirt states it; None: it doesn't."""

    seconds: float | None
    downtime: float | None
    """Seconds."""
    sent: int | None
    """Bytes."""


def cost(statistics: Mapping[str, object]) -> Cost:
    """Read libvirt's statistics of a completed migration, which count in milliseconds."""

    def seconds(name: str) -> float | None:
        value = statistics.get(name)
        return value / 1000 if isinstance(value, int | float) else None

    sent = statistics.get("data_processed")
    return Cost(seconds("time_elapsed"), seconds("downtime"), sent if isinstance(sent, int) else None)
