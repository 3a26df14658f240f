"""What is used of libvirt's Python binding, which has no types of its own; loaded only when a run needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from loadband.rebalance.platforms import PlatformError

KEEPALIVE = 5, 3
"""A daemon is asked for a sign of life every so many seconds, and given up after so many that didn't come."""


class Stream(Protocol):
    """A guest's console."""

    def send(self, data: bytes) -> int:
        """Write; returns how many bytes were taken."""
        ...

    def recv(self, nbytes: int) -> bytes:
        """Wait for something to read; empty at the end."""
        ...

    def finish(self) -> int:
        """End it once all has arrived."""
        ...


class Volume(Protocol):
    """A file in a storage pool."""

    def path(self) -> str:
        """Where it is on the host."""
        ...

    def upload(self, stream: Stream, offset: int, length: int, flags: int = 0) -> int:
        """Write to it what the stream is sent."""
        ...

    def delete(self, flags: int = 0) -> int:
        """Remove it."""
        ...


class Pool(Protocol):
    """A storage pool of a host."""

    def refresh(self, flags: int = 0) -> int:
        """Look again what is in it."""
        ...

    def listVolumes(self) -> Sequence[str]:  # noqa: N802 - libvirt's own name
        """The names of what is in it."""
        ...

    def storageVolLookupByName(self, name: str) -> Volume:  # noqa: N802 - libvirt's own name
        """What has that name; an error if nothing has."""
        ...

    def createXML(self, xmlDesc: str, flags: int = 0) -> Volume:  # noqa: N802, N803 - libvirt's own names
        """Make a file."""
        ...


class Domain(Protocol):
    """A guest on the host of its connection."""

    def name(self) -> str:
        """Its name."""
        ...

    def isPersistent(self) -> int:  # noqa: N802 - libvirt's own name
        """1 if its host remembers it when it has ended."""
        ...

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's own name
        """The same on all hosts, and for ever."""
        ...

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802 - libvirt's own name
        """Its description."""
        ...

    def openConsole(self, dev_name: str | None, st: Stream, flags: int = 0) -> int:  # noqa: N802 - libvirt's own name
        """Connect a stream to its console; None is the first one."""
        ...

    def migrateToURI3(self, dconnuri: str, params: Mapping[str, str], flags: int = 0) -> int:  # noqa: N802 - as above
        """Migrate it; returns when that is done, and raises if it isn't."""
        ...

    def migrateStartPostCopy(self, flags: int = 0) -> int:  # noqa: N802 - libvirt's own name
        """Let it run at the destination from now on, while the rest of its memory follows."""
        ...

    def jobStats(self, flags: int = 0) -> Mapping[str, object]:  # noqa: N802 - libvirt's own name
        """Statistics of a job."""
        ...

    def abortJob(self) -> int:  # noqa: N802 - libvirt's own name
        """Give up what is done with it now."""
        ...

    def info(self) -> Sequence[int]:
        """State, memory, memory in use, CPUs, and CPU time in nanoseconds."""
        ...

    def destroy(self) -> int:
        """End it at once."""
        ...


class Connection(Protocol):
    """A libvirt daemon."""

    def createXML(self, xmlDesc: str, flags: int = 0) -> Domain:  # noqa: N802, N803 - libvirt's own names
        """Start a guest that is forgotten when it ends."""
        ...

    def lookupByName(self, name: str) -> Domain:  # noqa: N802 - libvirt's own name
        """The guest of a name; an error if there is none."""
        ...

    def listAllDomains(self, flags: int = 0) -> Sequence[Domain]:  # noqa: N802 - libvirt's own name
        """All guests."""
        ...

    def getInfo(self) -> Sequence[Any]:  # noqa: N802 - libvirt's own name
        """The host's CPU model, memory and, third, number of CPUs; more follows."""
        ...

    def getCPUStats(self, cpuNum: int, flags: int = 0) -> Mapping[str, int]:  # noqa: N802, N803 - libvirt's own names
        """CPU time of the host in nanoseconds by what it was used for; cpuNum -1: of all its CPUs together."""
        ...

    def getCapabilities(self) -> str:  # noqa: N802 - libvirt's own name
        """What the host can do, XML; seconds if the daemon hasn't looked yet."""
        ...

    def domainEventRegisterAny(  # noqa: N802 - libvirt's own name
        self,
        dom: Domain | None,
        eventID: int,  # noqa: N803 - libvirt's own name
        cb: Callable[[Connection, Domain, int, object], None],
        opaque: object,
    ) -> int:
        """Have a function called with a connection, a domain, what happened to it, and `opaque`; returns its number."""
        ...

    def domainEventDeregisterAny(self, callbackID: int) -> int:  # noqa: N802, N803 - libvirt's own names
        """Don't call the function of a number any more."""
        ...

    def setKeepAlive(self, interval: int, count: int) -> int:  # noqa: N802 - libvirt's own name
        """Give the connection up when so many questions, sent every `interval` seconds, aren't answered."""
        ...

    def storagePoolLookupByName(self, name: str) -> Pool:  # noqa: N802 - libvirt's own name
        """The storage pool of that name; an error if there is none."""
        ...

    def newStream(self, flags: int = 0) -> Stream:  # noqa: N802 - libvirt's own name
        """A stream that isn't connected yet."""
        ...

    def getLibVersion(self) -> int:  # noqa: N802 - libvirt's own name
        """The daemon's version: 9001002 is 9.1.2."""
        ...

    def getVersion(self) -> int:  # noqa: N802 - libvirt's own name
        """The hypervisor's version, likewise."""
        ...

    def close(self) -> int:
        """Leave."""
        ...


class Library(Protocol):
    """The module."""

    VIR_MIGRATE_LIVE: int
    VIR_MIGRATE_PEER2PEER: int
    VIR_MIGRATE_PERSIST_DEST: int
    VIR_MIGRATE_UNDEFINE_SOURCE: int
    VIR_MIGRATE_AUTO_CONVERGE: int
    VIR_MIGRATE_POSTCOPY: int
    VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION: int
    VIR_DOMAIN_RUNNING: int
    VIR_CONNECT_LIST_DOMAINS_ACTIVE: int
    VIR_MIGRATE_PARAM_URI: str
    VIR_MIGRATE_PARAM_DEST_XML: str
    VIR_DOMAIN_XML_MIGRATABLE: int
    VIR_DOMAIN_JOB_STATS_COMPLETED: int
    VIR_ERR_OPERATION_ABORTED: int
    VIR_ERR_NO_DOMAIN: int

    @property
    def libvirtError(self) -> type[Exception]:  # noqa: N802 - libvirt's own name
        """What all its calls raise."""
        ...

    def open(self, name: str) -> Connection:
        """Connect to a daemon."""
        ...

    def openReadOnly(self, name: str) -> Connection:  # noqa: N802 - libvirt's own name
        """Connect to a daemon, only to look."""
        ...


def load() -> Library:
    """Load libvirt's Python binding, and begin to handle its events, which keepalive needs.

    Raises:
        PlatformError: it isn't installed.
    """
    try:
        import libvirt  # noqa: PLC0415 - a part of the system, which only this platform needs
    except ImportError as error:
        raise PlatformError(
            "the platform libvirt needs libvirt's Python binding: pip install 'loadband[libvirt]', which compiles it "
            "(on Debian and Ubuntu: apt install libvirt-dev pkg-config gcc python3-dev), or python3-libvirt and an "
            "environment that was made with --system-site-packages"
        ) from error
    if not _LOADED:
        _LOADED.append(cast("Library", libvirt))
        # Every error is raised, too: nothing is to be printed.
        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_handle_events, args=[libvirt], name="libvirt events", daemon=True).start()
    return _LOADED[0]


def code_of(error: Exception) -> int:
    """What kind of error of libvirt's it is, one of VIR_ERR_*."""
    return int(getattr(error, "get_error_code", int)() or 0)


def dotted(number: int) -> str:
    """A version as people write it: 9001002 is 9.1.2."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


_LOADED: list[Library] = []
"""The binding, once it is loaded: events are handled by one thread, for all runs of a process."""


def _handle_events(libvirt: Any) -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
