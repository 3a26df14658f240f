"""Hosts of virtual machines that are only followed: each libvirt daemon is looked at, and nothing is changed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from loadband.rebalance.events import Event, Part, Trouble
from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.libvirt.binding import KEEPALIVE, Connection, Domain, Library, code_of, dotted
from loadband.rebalance.platforms.libvirt.whereabouts import Look, Whereabouts
from loadband.rebalance.troubles import Troubles

LOOK = 1.0
"""Seconds from one look at a host to the next."""
AGAIN = 5.0
"""Seconds until a daemon that couldn't be reached is tried again."""
LOST_SECONDS = 10.0
"""Without an answer until that counts."""
DAEMON = "libvirtd"


class Follower:
    """See `Followed`.

    Args:
        uris: by host, its libvirt daemon; a connection that may only read is enough.
        guests: patterns of the names of the guests whose moves count, as shells have them; none: all.
        library: libvirt's binding.
        clock: seconds since the epoch.
    """

    resolution = LOOK

    def __init__(
        self, uris: Mapping[str, str], guests: Sequence[str], library: Library, clock: Callable[[], float] = time.time
    ) -> None:
        self._uris = uris
        self._patterns = tuple(guests)
        self._clock = clock
        self._whereabouts = Whereabouts(guests)
        self._watched = {name: _Watched(name, uri, library, clock) for name, uri in uris.items()}
        self._found: queue.SimpleQueue[Look] = queue.SimpleQueue()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self._outages = Troubles(LOST_SECONDS)
        self._version = ""

    def start(self) -> None:
        """Look at each host once, and go on in threads.

        Raises:
            PlatformError: a daemon can't be reached.
        """
        for name, one in self._watched.items():
            look = one.look()
            if look is None:
                raise PlatformError(f"--host {name}={self._uris[name]}: {one.trouble}")
            self._found.put(look)
        self._version = next(iter(self._watched.values())).version()
        for one in self._watched.values():
            thread = threading.Thread(target=self._watch, args=[one], name=f"watch {one.name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _watch(self, one: _Watched) -> None:
        while not self._end.wait(AGAIN if one.trouble else LOOK):
            if (look := one.look()) is not None:
                self._found.put(look)
        one.close()

    def describe(self) -> Part:
        """What it is, for the report."""
        settings = {**self._uris, "guests": ", ".join(self._patterns) or "all"}
        settings |= {"times of moves": f"each host is looked at every {LOOK:g} s"}
        return Part(name="libvirt", version=self._version, settings=settings)

    def hosts(self) -> Collection[str]:
        """The names of the hosts."""
        return self._uris.keys()

    def poll(self) -> Sequence[Event]:
        """What has happened since the last call: moves, and daemons that don't answer."""
        events: list[Event] = []
        for _ in range(self._found.qsize()):
            events += self._whereabouts.take(self._found.get())
        down = [(name, DAEMON, one.trouble) for name, one in self._watched.items() if one.trouble]
        events += self._outages.update(self._clock(), Trouble.MONITORING_DOWN, down)
        return events

    def close(self) -> None:
        """End the watches."""
        self._end.set()
        if not self._threads:  # each closes its own
            for one in self._watched.values():
                one.close()


class _Watched:
    """A host's daemon; used by one thread at a time.

    Args:
        name: the host's.
        uri: of its daemon.
        library: libvirt's binding.
        clock: seconds since the epoch.
    """

    def __init__(self, name: str, uri: str, library: Library, clock: Callable[[], float]) -> None:
        self.name = name
        self.trouble = ""
        """Why the last look found nothing, a sentence; empty if it didn't fail."""
        self._uri = uri
        self._library = library
        self._clock = clock
        self._connection: Connection | None = None
        self._running: set[str] = set()
        """The UUIDs of those that were found to run here."""

    def look(self) -> Look | None:
        """Look at the guests; None if the daemon doesn't answer."""
        try:
            if self._connection is None:
                self._connection = self._library.openReadOnly(self._uri)
                self._connection.setKeepAlive(*KEEPALIVE)
            look = self._see(self._connection)
        except self._library.libvirtError as error:
            self.trouble = f"nothing is seen of the guests of {self.name}: {error}"
            self.close()
            self._running.clear()
            return None
        self.trouble = ""
        return look

    def _see(self, connection: Connection) -> Look:
        library, began = self._library, self._clock()
        guests: dict[str, str] = {}
        running: set[str] = set()
        for domain in connection.listAllDomains(library.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            uuid = domain.UUIDString()
            # One that has run here still belongs here, even if it is paused: only others are asked for.
            state = library.VIR_DOMAIN_RUNNING if uuid in self._running else self._state(domain)
            if state is not None:
                guests[uuid] = domain.name()
            if state == library.VIR_DOMAIN_RUNNING:
                running.add(uuid)
        self._running = running
        return Look(began, self._clock(), self.name, guests, running)

    def _state(self, domain: Domain) -> int | None:
        """One of VIR_DOMAIN_*; None if it has ended meanwhile."""
        try:
            return domain.info()[0]
        except self._library.libvirtError as error:
            if code_of(error) != self._library.VIR_ERR_NO_DOMAIN:
                raise
            return None

    def version(self) -> str:
        """Of the daemon, for people; empty if it doesn't say."""
        with suppress(self._library.libvirtError):
            if self._connection is not None:
                return dotted(self._connection.getLibVersion())
        return ""

    def close(self) -> None:
        """End the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._library.libvirtError):
                connection.close()
