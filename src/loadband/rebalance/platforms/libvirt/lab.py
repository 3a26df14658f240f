"""Hosts of this machine: each is a set of its CPUs, with a libvirt daemon of the run's own and its guests on them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadband.rebalance.events import Disturbance, Event, Host, Plan, Trouble
from loadband.rebalance.platforms import HostView, PlatformError, Target
from loadband.rebalance.platforms.libvirt import guests
from loadband.rebalance.platforms.libvirt.binding import Library
from loadband.rebalance.platforms.libvirt.daemons import Daemon, find_daemon, give
from loadband.rebalance.platforms.libvirt.grounds import Count, Makings
from loadband.rebalance.platforms.libvirt.node import Node
from loadband.rebalance.platforms.machine import Cpus
from loadband.rebalance.platforms.site import Site, last_cpu_time

IMAGE = "guest.img"
HYPERVISOR = "qemu-system"
"""What the names of guests' processes begin with."""
GONE_SECONDS = 3.0
"""For guests that were killed to be gone."""


@dataclass(slots=True)
class _Process:
    """A guest's process."""

    pid: int
    used: float = 0.0
    """CPU-seconds, as last read."""
    counted: float = 0.0
    """Of these, those that are counted as its host's already."""


class Lab:
    """See `Ground` and the module.

    Args:
        names: of the hosts.
        plan: what decides the run.
        library: libvirt's binding.
        sector: the boot sector of the guests.

    Raises:
        MissingError: libvirt or QEMU isn't installed.
        PlatformError: there are too few CPUs.
    """

    def __init__(self, names: Sequence[str], plan: Plan, library: Library, sector: bytes) -> None:
        find_daemon()
        self._site = Site(names, plan, most=1)
        self._library = library
        self._sector = sector
        self._folder: Path | None = None
        self._daemons: dict[str, Daemon] = {}
        self._nodes: dict[str, Node] = {}
        self._accelerator = ""
        self._processes: dict[tuple[str, str], _Process] = {}
        """By host and domain; also of those that are on their way, and of those that have left until they end."""
        self._known: set[str] = set()
        """All domains that there ever were."""
        self._told: set[str] = set()
        """The hosts whose daemons were reported as ended."""

    def settings(self) -> Mapping[str, str]:
        """See `Ground`."""
        settings = self._site.settings()
        if self._accelerator:
            settings["guests"] = "emulated (TCG)" if self._accelerator == "qemu" else self._accelerator
        return settings

    def hosts(self) -> Sequence[Host]:
        """See `Ground`."""
        return self._site.hosts()

    def start(self) -> Sequence[Event]:
        """Start the daemons and the observers; see `Ground`."""
        # Not where the run's servers write: their folder is for this user alone, and so is TMPDIR on some systems.
        folder = self._folder = Path(tempfile.mkdtemp(prefix="lb-", dir="/tmp"))
        (folder / IMAGE).write_bytes(guests.disk(self._sector))
        give(folder)
        events = self._site.start()
        self._daemons = {name: Daemon(folder, name) for name in self._site.cpus}
        for name, daemon in self._daemons.items():
            self._site.watch_on(name, f"libvirtd of {name}", daemon.pid)
            connection = daemon.connect(self._library)
            try:
                self._accelerator = guests.accelerator(connection.getCapabilities())
            except (ValueError, self._library.libvirtError) as error:
                raise PlatformError(f"the libvirtd of {name} can't be used: {error}") from error
            self._nodes[name] = Node(name, daemon.uri, connection, self._library)
        return events

    def nodes(self) -> Mapping[str, Node]:
        """See `Ground`."""
        return self._nodes

    def targets(self) -> Sequence[Target]:
        """See `Ground`."""
        return self._site.targets()

    def watch(self, programs: Mapping[str, int]) -> None:
        """See `Ground`."""
        self._site.watch(programs)

    def views(self, window: float | None = None) -> tuple[HostView, ...]:
        """See `Ground`."""
        return self._site.views(window)

    def makings(self, domain: str) -> Makings:
        """See `Ground`."""
        self._known.add(domain)
        return Makings(str(self._place(IMAGE)), str(self._place(f"{domain}.log")), self._accelerator, ends_itself=True)

    def adopt(self, domain: str) -> None:
        """See `Ground`."""
        self._known.add(domain)

    def cpus(self, host: str) -> Cpus | None:
        """See `Ground`."""
        return self._site.cpus[host]

    def migration(self, move: str) -> Mapping[str, str]:
        """See `Ground`: through a socket, so that no port has to be free."""
        return {self._library.VIR_MIGRATE_PARAM_URI: f"unix://{self._place(move)}.sock"}

    def _place(self, name: str) -> Path:
        assert self._folder, "used before it was started"  # noqa: S101 - a bug of the platform
        return self._folder / name

    # What is used

    def count(self, host: str, domain: str) -> Count | None:
        """See `Ground`."""
        process = self._process(host, domain)
        if process is None:
            return None
        process.used = last_cpu_time(process.pid, process.used)
        return Count(time.time(), time.monotonic(), process.used)

    def _process(self, host: str, domain: str) -> _Process | None:
        known = self._processes.get((host, domain))
        if known is None and (pid := self._daemons[host].pid_of(domain)) is not None:
            known = self._processes[host, domain] = _Process(pid)
        return known

    def sample(self) -> Sequence[Event]:
        """See `Ground`."""
        reading = self._site.read(self._read)
        for (host, domain), process in list(self._processes.items()):
            self._site.ours(host, process.used - process.counted)
            process.counted = process.used
            if not psutil.pid_exists(process.pid):
                del self._processes[host, domain]
        return self._site.sample(reading, {process.pid for process in self._processes.values()})

    def _read(self) -> None:
        for host in self._daemons:
            for domain in self._known:
                self.count(host, domain)

    def check(self) -> Sequence[Event]:
        """See `Ground`."""
        self._site.check()
        events = []
        for name, daemon in self._daemons.items():
            if name not in self._told and (ended := daemon.ended):
                self._told.add(name)
                events.append(
                    Disturbance(at=time.time(), what=Trouble.HOST_NOT_READY, host=name, who="libvirtd", detail=ended)
                )
        return events

    # The end

    def close(self, left: Sequence[str]) -> Sequence[str]:  # noqa: ARG002 - processes of this machine can be killed
        """See `Ground`."""
        for daemon in self._daemons.values():
            daemon.stop()
        self._daemons.clear()
        remaining = list(self._site.close())
        if self._folder is not None:
            remaining += _kill(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        return remaining


def _kill(folder: Path) -> Sequence[str]:
    """Kill the guests that a daemon which ended early has left; they are known by the run's folder in their command."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name().startswith(HYPERVISOR) and any(f"{folder}/" in word for word in process.cmdline()):
                process.kill()
                found.append(process)
    _, alive = psutil.wait_procs(found, timeout=GONE_SECONDS)
    return [f"{process.name()} (pid {process.pid}) doesn't end: kill -KILL {process.pid}" for process in alive]
