"""One host's libvirt daemon, as a run uses it: what takes time happens in threads, one question at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.libvirt import guests
from loadband.rebalance.platforms.libvirt.binding import Connection, Domain, Library, Stream, code_of, dotted
from loadband.rebalance.platforms.libvirt.guests import Cost
from loadband.rebalance.platforms.machine import Cpus

LOOK = 0.25
"""Seconds from one look at a host's guests to the next."""
AT_ONCE = 8
"""Guests that are waited for, or ended, at once."""
END_SECONDS = 15.0
"""For a daemon to end what it does, and all guests of the run."""
SECOND_PASS = 2
"""The number of the first pass over a guest's memory in which only what it wrote meanwhile is sent."""
NANO = 1e-9

Answer = TypeVar("Answer")


class Migration(Enum):
    """What is done about a guest that writes its memory faster than it can be sent."""

    PRE_COPY = "pre-copy"
    """Nothing: the migration takes as long as it takes."""
    AUTO_CONVERGE = "auto-converge"
    """It is slowed down, the more the longer it takes."""
    POST_COPY = "post-copy"
    """After the first pass over its memory it runs at the destination, and the rest follows."""


@dataclass(frozen=True, slots=True)
class Usage:
    """A guest on a host."""

    running: bool
    """Whether its CPUs run: not while it is paused, or still on its way here."""
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a host has found."""

    began: float
    """Monotonic seconds before the daemon was asked."""
    at: float
    """When it had answered, seconds since the epoch."""
    monotonic: float
    """The same, monotonic seconds."""
    busy: float
    """CPU-seconds that the host was busy since some begin."""
    guests: Mapping[str, Usage]
    """By name, all domains that are there."""


@dataclass(frozen=True, slots=True)
class Console:
    """A guest's console."""

    stream: Stream

    def say(self, message: bytes) -> None:
        """Send a guest something; raises libvirt's error if it can't be sent."""
        while message:
            message = message[self.stream.send(message) :]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A migration that succeeded."""

    at: float
    """Seconds since the epoch."""
    cost: Cost


class Node:
    """A daemon.

    Args:
        name: the host's.
        uri: how this process and the other hosts reach it.
        connection: to it.
        library: libvirt's binding.
    """

    def __init__(self, name: str, uri: str, connection: Connection, library: Library) -> None:
        self.name = name
        self.uri = uri
        self._connection = connection
        self._library = library
        self._work = ThreadPoolExecutor(1, f"libvirt of {name}")
        self._moves = ThreadPoolExecutor(1, f"moves from {name}")
        self._consoles = ThreadPoolExecutor(AT_ONCE, f"consoles of {name}")
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name=f"watch {name}", daemon=True)
        self.seen: Seen | None = None
        """The last look; None until there is one."""
        self.trouble = ""
        """Why the last look found nothing, a sentence; empty if it didn't fail."""

    def version(self) -> str:
        """Of the daemon and of the hypervisor, for people.

        Raises:
            PlatformError: it doesn't answer.
        """
        try:
            return f"libvirt {dotted(self._connection.getLibVersion())}, QEMU {dotted(self._connection.getVersion())}"
        except self._library.libvirtError as error:
            raise PlatformError(f"the libvirt daemon of {self.name} doesn't answer: {error}") from error

    def watch(self) -> None:
        """Begin to look."""
        self._watcher.start()

    def submit(self, call: Callable[[], Answer]) -> Future[Answer]:
        """Have something done that takes a moment, after what was asked for before."""
        return self._work.submit(call)

    def submit_move(self, call: Callable[[], Answer]) -> Future[Answer]:
        """Have a guest leave, after those that were to leave before: one at a time."""
        return self._moves.submit(call)

    def bring(self, name: str, xml: str) -> Future[Console]:
        """Have a guest made, and wait until it runs: what it burns while it boots isn't the load."""
        making = self.submit(lambda: self.make(xml))

        def boot() -> Console:
            making.result()
            return self.console(name)

        return self._consoles.submit(boot)

    def reach(self, name: str) -> Future[Console]:
        """Have the console of a guest opened that is here already."""
        return self._consoles.submit(lambda: self.console(name))

    # What is done in threads; each raises libvirt's error if it can't be

    def make(self, xml: str) -> None:
        """Start a guest that is forgotten when it ends."""
        self._connection.createXML(xml)

    def console(self, name: str) -> Console:
        """Open a guest's console, and wait until it prints something: then it runs."""
        stream = self._connection.newStream()
        self._connection.lookupByName(name).openConsole(None, stream)
        stream.recv(1)
        return Console(stream)

    def migrate(  # noqa: PLR0913 - all that a migration is
        self,
        name: str,
        destination: Node,
        uri: str,
        parameters: Mapping[str, str],
        cpus: Cpus | None,
        *,
        how: Migration = Migration.PRE_COPY,
        made: bool = True,
    ) -> Arrival:
        """Migrate a guest, live, and wait until that is done.

        Args:
            name: the domain's.
            destination: where to.
            uri: how this daemon reaches that one.
            parameters: VIR_MIGRATE_PARAM_* beside the description.
            cpus: the guest's at the destination; None: all.
            how: what is done if it writes its memory faster than it can be sent.
            made: whether the run made it; if not, it stays as its owner has described it.
        """
        library, domain = self._library, self._connection.lookupByName(name)
        flags = library.VIR_MIGRATE_LIVE | library.VIR_MIGRATE_PEER2PEER | self._flag(how)
        if made:
            xml = guests.confined(domain.XMLDesc(library.VIR_DOMAIN_XML_MIGRATABLE), cpus)
            parameters = {library.VIR_MIGRATE_PARAM_DEST_XML: xml, **parameters}
        elif domain.isPersistent():
            flags |= library.VIR_MIGRATE_PERSIST_DEST | library.VIR_MIGRATE_UNDEFINE_SOURCE
        with self._switching(domain) if how is Migration.POST_COPY else nullcontext():
            domain.migrateToURI3(uri, dict(parameters), flags)
        return Arrival(time.time(), destination.cost(name))

    def _flag(self, how: Migration) -> int:
        library = self._library
        return {
            Migration.PRE_COPY: 0,
            Migration.AUTO_CONVERGE: library.VIR_MIGRATE_AUTO_CONVERGE,
            Migration.POST_COPY: library.VIR_MIGRATE_POSTCOPY,
        }[how]

    @contextmanager
    def _switching(self, domain: Domain) -> Iterator[None]:
        """Have a guest run at the destination as soon as all of its memory was sent once."""
        kind = self._library.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION

        def passed(_connection: Connection, guest: Domain, number: int, _opaque: object) -> None:
            if number == SECOND_PASS:
                with suppress(self._library.libvirtError):  # it has arrived meanwhile
                    guest.migrateStartPostCopy()

        watch = self._connection.domainEventRegisterAny(domain, kind, passed, None)
        try:
            yield
        finally:
            with suppress(self._library.libvirtError):  # the daemon may have ended
                self._connection.domainEventDeregisterAny(watch)

    def cost(self, name: str) -> Cost:
        """What the migration took by which a guest came here. Its source has forgotten it, with all that it knew."""
        try:
            domain = self._connection.lookupByName(name)
            return guests.cost(domain.jobStats(self._library.VIR_DOMAIN_JOB_STATS_COMPLETED))
        except self._library.libvirtError:
            return Cost(None, None, None)

    def cancel(self, name: str) -> None:
        """Have a migration given up; nothing if there is none."""
        with suppress(self._library.libvirtError):
            self._connection.lookupByName(name).abortJob()

    def destroy(self, name: str) -> None:
        """End a guest at once; nothing if it isn't here."""
        try:
            self._connection.lookupByName(name).destroy()
        except self._library.libvirtError as error:
            if code_of(error) != self._library.VIR_ERR_NO_DOMAIN:
                raise

    def of_run(self, run: str) -> list[str]:
        """The names of the domains that are slices of a run."""
        found = []
        for domain in self._connection.listAllDomains():
            with suppress(self._library.libvirtError):  # it has ended meanwhile
                if guests.run_of(domain.XMLDesc()) == run:
                    found.append(domain.name())
        return found

    # Looking

    def _watch(self) -> None:
        while not self._end.wait(LOOK):
            try:
                self.seen = self.look()
                self.trouble = ""
            except self._library.libvirtError as error:
                self.trouble = str(error)

    def look(self) -> Seen:
        """Look at the host and its guests; raises libvirt's error if the daemon doesn't answer."""
        began = time.monotonic()
        found = {}
        for domain in self._connection.listAllDomains():
            try:
                state, _, _, _, used = domain.info()
            except self._library.libvirtError as error:
                if code_of(error) != self._library.VIR_ERR_NO_DOMAIN:
                    raise
            else:
                found[domain.name()] = Usage(state == self._library.VIR_DOMAIN_RUNNING, used * NANO)
        times = self._connection.getCPUStats(-1)
        busy = sum(spent for what, spent in times.items() if what in {"user", "kernel"}) * NANO
        return Seen(began, time.time(), time.monotonic(), busy, found)

    # The end

    def close(self, run: str) -> list[str]:
        """End all guests of the run, and leave the daemon alone from now on.

        Returns:
            What is left, a sentence each.
        """
        self._end.set()
        cleaning = ThreadPoolExecutor(1, f"end of {self.name}")
        try:
            left = cleaning.submit(self._clean, run).result(END_SECONDS)
        except TimeoutError:
            left = [f"{self.name} doesn't answer: {self._command(run)}"]
        except self._library.libvirtError as error:
            left = [f"{self.name}: {error}: {self._command(run)}"]
        for pool in (cleaning, self._work, self._moves, self._consoles):
            pool.shutdown(wait=False, cancel_futures=True)
        with suppress(self._library.libvirtError):
            self._connection.close()
        return left

    def _clean(self, run: str) -> list[str]:
        # One takes half a second: libvirt waits for the process to end.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.destroy, self.of_run(run)))
        return [f"{name} is still there: virsh --connect '{self.uri}' destroy {name}" for name in self.of_run(run)]

    def _command(self, run: str) -> str:
        return f"virsh --connect '{self.uri}' destroy, each domain whose name begins with {guests.prefix(run)}"
