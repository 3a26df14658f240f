"""Libvirt's binding with daemons that obey at once: what the platform libvirt is tested on."""

from __future__ import annotations

import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KVM = "<capabilities><guest><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>"
TCG = "<capabilities><guest><arch name='x86_64'><domain type='qemu'/></arch></guest></capabilities>"
NO_DOMAIN, ABORTED, OTHER = 42, 78, 38


class SimulatedError(Exception):
    """As libvirt's own."""

    def __init__(self, text: str, code: int = OTHER) -> None:
        super().__init__(text)
        self._code = code

    def get_error_code(self) -> int:
        return self._code


AT_ONCE = 3, 400_000
"""Bytes that a stream takes of a message, and of a file."""


class Stream:
    """Takes what it is sent in pieces."""

    def __init__(self) -> None:
        self.into = bytearray()
        self.finished = False
        self.broken = False

    def send(self, data: bytes) -> int:
        if self.broken:
            raise SimulatedError("the stream is broken")
        taken = data[: AT_ONCE[len(data) > AT_ONCE[0] * 100]]
        self.into += taken
        return len(taken)

    def recv(self, nbytes: int) -> bytes:
        return b"."[:nbytes]

    def finish(self) -> int:
        self.finished = True
        return 0


@dataclass
class Domain:
    """A guest; what it burns is `rate` CPUs, unless it takes its orders from its console."""

    name_: str
    xml: str
    daemon: Daemon
    state: int = 1
    before: float = 0.0
    rate: float = 0.0
    since: float = field(default_factory=time.monotonic)
    consoles: list[Stream] = field(default_factory=list)
    persistent: bool = False

    @property
    def used(self) -> float:
        """CPU-seconds on its host."""
        return self.before + self.rate * (time.monotonic() - self.since)

    def burn(self, cpus: float) -> None:
        self.before, self.since, self.rate = self.used, time.monotonic(), cpus

    @property
    def said(self) -> bytes:
        """What it was told on its last console."""
        return bytes(self.consoles[-1].into) if self.consoles else b""

    def name(self) -> str:
        return self.name_

    def isPersistent(self) -> int:  # noqa: N802 - likewise
        return int(self.persistent)

    def UUIDString(self) -> str:  # noqa: N802 - likewise
        return f"uuid-of-{self.name_}"

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: ARG002, N802 - libvirt's own
        return self.xml

    def openConsole(self, dev_name: str | None, st: Any, flags: int = 0) -> int:  # noqa: ARG002, N802 - likewise
        self.consoles.append(st)
        return 0

    def info(self) -> Sequence[int]:
        return [self.state, 16384, 16384, 1, int(self.used * 1e9)]

    def migrateToURI3(self, dconnuri: str, params: Mapping[str, str], flags: int = 0) -> int:  # noqa: N802 - likewise
        daemon = self.daemon
        daemon.flags.append(flags)
        daemon.aborted.clear()
        if daemon.migrating is not None and (problem := daemon.migrating()) is not None:
            raise problem
        if daemon.aborted.is_set():
            raise SimulatedError("operation aborted: canceled by client", ABORTED)
        there = daemon.library.daemons.get(dconnuri)
        if there is None:
            raise SimulatedError(f"Failed to connect to {dconnuri}")
        for passed in daemon.listeners.values():
            for number in (1, 2, 3):
                passed(daemon, self, number, None)
        del daemon.domains[self.name_]
        there.domains[self.name_] = Domain(self.name_, params.get("destination_xml", self.xml), there)
        return 0

    def migrateStartPostCopy(self, flags: int = 0) -> int:  # noqa: ARG002, N802 - likewise
        self.daemon.switched.append(self.name_)
        return 0

    def jobStats(self, flags: int = 0) -> Mapping[str, object]:  # noqa: ARG002, N802 - likewise
        if self.daemon.statistics is None:
            raise SimulatedError("no statistics")
        return self.daemon.statistics

    def abortJob(self) -> int:  # noqa: N802 - likewise
        self.daemon.aborted.set()
        return 0

    def destroy(self) -> int:
        if self.daemon.clinging:
            raise SimulatedError("can't be destroyed")
        self.daemon.domains.pop(self.name_, None)
        return 0


class Volume:
    """A file in a pool."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self._daemon = daemon
        self._name = name
        self.stream: Stream | None = None
        self.length = 0

    def path(self) -> str:
        return f"/pool/{self._name}"

    def upload(self, stream: Any, offset: int, length: int, flags: int = 0) -> int:  # noqa: ARG002 - libvirt's own
        self.stream, self.length = stream, length
        return 0

    def delete(self, flags: int = 0) -> int:  # noqa: ARG002 - libvirt's own
        if self._daemon.clinging:
            raise SimulatedError("the volume is in use")
        del self._daemon.volumes[self._name]
        return 0


class Daemon:
    """A host's daemon, and a connection to it, and its storage pool."""

    def __init__(self, library: Simulation, cpus: int = 2) -> None:
        self.library = library
        self.cpus = cpus
        self.domains: dict[str, Domain] = {}
        self.volumes: dict[str, Volume] = {}
        self.capabilities = KVM
        self.statistics: dict[str, object] | None = {"time_elapsed": 300, "downtime": 9, "data_processed": 600_000}
        self.migrating: Callable[[], Exception | None] | None = None
        """What happens in the middle of a migration: may wait, and may say what it fails with."""
        self.aborted = threading.Event()
        self.flags: list[int] = []
        self.listeners: dict[int, Callable[[Any, Any, int, object], None]] = {}
        """What is to be told of each pass over a guest's memory."""
        self.switched: list[str] = []
        """The guests that were to run at the destination before all of their memory was there."""
        self.others = 0.0
        """CPUs that others burn."""
        self.began = time.monotonic()
        self.broken = ""
        """Why the daemon doesn't answer; empty if it does."""
        self.clinging = False
        """Whether nothing can be ended or removed."""
        self.closed = False
        self.alive: tuple[int, int] | None = None

    def answer(self) -> None:
        if self.broken:
            raise SimulatedError(self.broken)

    def createXML(self, xmlDesc: str, flags: int = 0) -> Any:  # noqa: ARG002, N802, N803 - libvirt's own
        self.answer()
        root = ET.fromstring(xmlDesc)
        name = root.findtext("name") or ""
        if root.tag == "volume":
            self.volumes[name] = Volume(self, name)
            return self.volumes[name]
        self.domains[name] = Domain(name, xmlDesc, self)
        return self.domains[name]

    def lookupByName(self, name: str) -> Domain:  # noqa: N802 - likewise
        self.answer()
        if name not in self.domains:
            raise SimulatedError(f"no domain with matching name '{name}'", NO_DOMAIN)
        return self.domains[name]

    def listAllDomains(self, flags: int = 0) -> Sequence[Domain]:  # noqa: ARG002, N802 - likewise
        self.answer()
        return list(self.domains.values())

    def getInfo(self) -> Sequence[Any]:  # noqa: N802 - likewise
        self.answer()
        return ["x86_64", 1024, self.cpus, 2000, 1, 1, self.cpus, 1]

    def getCPUStats(self, cpuNum: int, flags: int = 0) -> Mapping[str, int]:  # noqa: ARG002, N802, N803 - likewise
        self.answer()
        busy = self.others * (time.monotonic() - self.began) + sum(one.used for one in self.domains.values())
        return {"user": int(busy * 1e9), "kernel": 0, "idle": 1, "iowait": 1}

    def getCapabilities(self) -> str:  # noqa: N802 - likewise
        self.answer()
        return self.capabilities

    def domainEventRegisterAny(self, dom: Any, eventID: int, cb: Any, opaque: object) -> int:  # noqa: ARG002, N802, N803 - likewise
        self.listeners[len(self.listeners)] = cb
        return len(self.listeners) - 1

    def domainEventDeregisterAny(self, callbackID: int) -> int:  # noqa: N802, N803 - likewise
        del self.listeners[callbackID]
        return 0

    def setKeepAlive(self, interval: int, count: int) -> int:  # noqa: N802 - likewise
        self.alive = interval, count
        return 0

    def storagePoolLookupByName(self, name: str) -> Daemon:  # noqa: N802 - likewise
        if name != "default":
            raise SimulatedError(f"no storage pool with matching name '{name}'")
        return self

    def refresh(self, flags: int = 0) -> int:
        return flags

    def listVolumes(self) -> Sequence[str]:  # noqa: N802 - likewise
        return list(self.volumes)

    def storageVolLookupByName(self, name: str) -> Volume:  # noqa: N802 - likewise
        return self.volumes[name]

    def newStream(self, flags: int = 0) -> Stream:  # noqa: ARG002, N802 - likewise
        return Stream()

    def getLibVersion(self) -> int:  # noqa: N802 - likewise
        self.answer()
        return 9_001_002

    def getVersion(self) -> int:  # noqa: N802 - likewise
        return 7_002_000

    def close(self) -> int:
        self.closed = True
        return 0


class Simulation:
    """The module, with a daemon for each of some URIs."""

    libvirtError = SimulatedError  # noqa: N815 - libvirt's own name
    VIR_MIGRATE_LIVE = 1
    VIR_MIGRATE_PEER2PEER = 2
    VIR_MIGRATE_PERSIST_DEST = 8
    VIR_MIGRATE_UNDEFINE_SOURCE = 16
    VIR_MIGRATE_AUTO_CONVERGE = 8192
    VIR_MIGRATE_POSTCOPY = 32768
    VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION = 18
    VIR_MIGRATE_PARAM_URI = "migrate_uri"
    VIR_MIGRATE_PARAM_DEST_XML = "destination_xml"
    VIR_DOMAIN_RUNNING = 1
    VIR_CONNECT_LIST_DOMAINS_ACTIVE = 1
    VIR_DOMAIN_XML_MIGRATABLE = 8
    VIR_DOMAIN_JOB_STATS_COMPLETED = 1
    VIR_ERR_OPERATION_ABORTED = ABORTED
    VIR_ERR_NO_DOMAIN = NO_DOMAIN

    def __init__(self, *uris: str) -> None:
        self.daemons = {uri: Daemon(self) for uri in uris}

    def open(self, name: str) -> Daemon:
        if name not in self.daemons:
            raise SimulatedError(f"Failed to connect socket of {name}")
        return self.daemons[name]

    def openReadOnly(self, name: str) -> Daemon:  # noqa: N802 - libvirt's own name
        daemon = self.open(name)
        daemon.answer()
        daemon.closed = False
        return daemon
