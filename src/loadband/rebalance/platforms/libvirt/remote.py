"""Hosts that are there: each is a libvirt daemon that is reached by its URI, with all CPUs of its machine.

libvirt itself says what a host and its guests use, so nothing has to run there. The disk of the guests is uploaded to a
storage pool, once for each host. Who watches the hosts for the alert is the user's own Prometheus.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from loadband.rebalance.events import Clock, Disturbance, Event, Host, Plan, Sample, Subject
from loadband.rebalance.platforms import HostView, PlatformError, Target
from loadband.rebalance.platforms.background import Background
from loadband.rebalance.platforms.history import History
from loadband.rebalance.platforms.libvirt import guests
from loadband.rebalance.platforms.libvirt.binding import KEEPALIVE, Connection, Library, Volume
from loadband.rebalance.platforms.libvirt.grounds import Count, Makings
from loadband.rebalance.platforms.libvirt.node import Node, Seen
from loadband.rebalance.platforms.machine import Cpus

VOLUME = "loadband-guest.img"
"""The disk's name in the pool."""
_CPUS = 2
"""The place of the number of CPUs in what libvirt says of a host."""


class Remote:
    """See `Ground` and the module.

    Args:
        uris: by host, how this process and the other hosts reach its daemon.
        plan: what decides the run.
        library: libvirt's binding.
        sector: the boot sector of the guests.
        pool: the storage pool, by name; it is on each host, and at the same place.

    Raises:
        PlatformError: a daemon can't be reached; nothing was started.
    """

    def __init__(self, uris: Mapping[str, str], plan: Plan, library: Library, sector: bytes, pool: str) -> None:
        self._library = library
        self._sector = sector
        self._pool = pool
        self._uris = uris
        self._connections: dict[str, Connection] = {}
        for name, uri in uris.items():
            try:
                self._connections[name] = connection = library.open(uri)
                connection.setKeepAlive(*KEEPALIVE)
            except library.libvirtError as error:
                self._disconnect()
                raise PlatformError(f"--host {name}={uri}: can't be reached: {error}") from error
        try:
            self._cpus = {name: float(one.getInfo()[_CPUS]) for name, one in self._connections.items()}
        except library.libvirtError as error:
            self._disconnect()
            raise PlatformError(f"a host doesn't say how many CPUs it has: {error}") from error
        self._nodes = {name: Node(name, uris[name], one, library) for name, one in self._connections.items()}
        self._histories = {name: History(plan.window) for name in uris}
        self._background = Background(self._cpus, plan)
        self._sampled: dict[str, float] = {}
        """By host, the time of the last sample."""
        self._volumes: list[tuple[str, Volume]] = []
        """By host, what was uploaded."""
        self._known: set[str] = set()
        """All domains that there ever were."""
        self._here: dict[str, set[str]] = {}
        """By host, those that were there at the last sample."""
        self._image = ""
        self._accelerators: set[str] = set()

    def _disconnect(self) -> None:
        for connection in self._connections.values():
            with suppress(self._library.libvirtError):
                connection.close()

    def settings(self) -> Mapping[str, str]:
        """See `Ground`."""
        return {**self._uris, "pool": self._pool, "guests": self._accelerator}

    @property
    def _accelerator(self) -> str:
        """What all hosts can do: a guest migrates only to a host that has what it was started with."""
        return "kvm" if self._accelerators == {"kvm"} else "qemu"

    def hosts(self) -> Sequence[Host]:
        """See `Ground`."""
        return [Host(at=time.time(), name=name, cpus=cpus) for name, cpus in self._cpus.items()]

    def start(self) -> Sequence[Event]:
        """Upload the disk; see `Ground`."""
        events: list[Event] = [*self.hosts()]
        for name, connection in self._connections.items():
            try:
                began = time.monotonic()
                self._accelerators.add(guests.accelerator(connection.getCapabilities()))
                self._image = self._upload(name, connection)
                took = time.monotonic() - began
            except (ValueError, self._library.libvirtError) as error:
                raise PlatformError(f"host {name} can't be used: {error}") from error
            # Samples are stamped here, when the daemon has answered: its own clock isn't used.
            events.append(Clock(at=time.time(), host=name, offset=0.0, uncertainty=took / 2))
        return events

    def _upload(self, host: str, connection: Connection) -> str:
        """The path of the disk in the pool of a host. If hosts share it, the first one's is everybody's."""
        pool = connection.storagePoolLookupByName(self._pool)
        pool.refresh()
        if VOLUME in pool.listVolumes():
            return pool.storageVolLookupByName(VOLUME).path()
        content = guests.disk(self._sector)
        volume = pool.createXML(guests.volume_xml(VOLUME, len(content)))
        self._volumes.append((host, volume))
        stream = connection.newStream()
        volume.upload(stream, 0, len(content))
        while content:
            content = content[stream.send(content) :]
        stream.finish()
        return volume.path()

    def nodes(self) -> Mapping[str, Node]:
        """See `Ground`."""
        return self._nodes

    def targets(self) -> Sequence[Target]:
        """See `Ground`: none, somebody else watches the hosts."""
        return ()

    def watch(self, programs: Mapping[str, int]) -> None:
        """See `Ground`: they don't run on the hosts."""

    def views(self, window: float | None = None) -> tuple[HostView, ...]:
        """See `Ground`."""
        histories = self._histories
        return tuple(
            HostView(name, cpus, histories[name].utilization(cpus, window)) for name, cpus in self._cpus.items()
        )

    def makings(self, domain: str) -> Makings:
        """See `Ground`."""
        self._known.add(domain)
        return Makings(self._image, "", self._accelerator, ends_itself=False)

    def adopt(self, domain: str) -> None:
        """See `Ground`."""
        self._known.add(domain)

    def cpus(self, host: str) -> Cpus | None:  # noqa: ARG002 - the same for all
        """See `Ground`."""
        return None

    def migration(self, move: str) -> Mapping[str, str]:  # noqa: ARG002 - the same for all
        """See `Ground`: by the hosts' own names and ports."""
        return {}

    def count(self, host: str, domain: str) -> Count | None:
        """See `Ground`: as of the last look."""
        seen = self._nodes[host].seen
        usage = seen.guests.get(domain) if seen else None
        return None if seen is None or usage is None else Count(seen.at, seen.monotonic, usage.cpu_seconds)

    def sample(self) -> Sequence[Event]:
        """See `Ground`: as of the last look, if it is a new one."""
        events: list[Event] = []
        for name, node in self._nodes.items():
            seen = node.seen
            if seen is None or seen.at == self._sampled.get(name):
                continue
            self._sampled[name] = seen.at
            self._histories[name].add(seen.monotonic, seen.busy)
            events.append(Sample(at=seen.at, subject=Subject.HOST, name=name, host=name, cpu_seconds=seen.busy))
            if accusation := self._accusation(name, seen):
                events.append(accusation)
        return events

    def _accusation(self, name: str, seen: Seen) -> Disturbance | None:
        """Whether others do more on a host than before."""
        here = self._known & set(seen.guests)
        if here != self._here.get(name):
            self._here[name] = here
            self._background.restless(seen.at)
        for domain in here:
            self._background.ours(name, domain, seen.guests[domain].cpu_seconds)
        return self._background.node(seen.at, name, seen.busy)

    def check(self) -> Sequence[Event]:
        """See `Ground`: a daemon that doesn't answer is noticed by who asks it."""
        return ()

    def close(self, left: Sequence[str]) -> Sequence[str]:
        """See `Ground`: remove what was uploaded."""
        remaining = list(left)
        for host, volume in self._volumes:
            try:
                volume.delete()
            except self._library.libvirtError as error:
                command = f"virsh --connect '{self._uris[host]}' vol-delete {VOLUME} --pool {self._pool}"
                remaining.append(f"{VOLUME} is still on {host} ({error}): {command}")
        self._volumes.clear()
        self._disconnect()
        return remaining
