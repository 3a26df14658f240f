"""Platform *libvirt*: see the package."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from statistics import median

from loadband.rebalance.events import (
    Disturbance,
    Event,
    Host,
    Move,
    MoveState,
    Part,
    Plan,
    Sample,
    Slice,
    Subject,
    Trouble,
)
from loadband.rebalance.platforms import MoveRefusedError, PlatformError, SliceView, Target, View
from loadband.rebalance.platforms.history import History
from loadband.rebalance.platforms.libvirt import guests
from loadband.rebalance.platforms.libvirt.binding import Library, code_of
from loadband.rebalance.platforms.libvirt.grounds import Ground
from loadband.rebalance.platforms.libvirt.guests import Seed
from loadband.rebalance.platforms.libvirt.node import Arrival, Console, Migration, Node
from loadband.rebalance.platforms.libvirt.pace import MOST, UNITS_PER_CPU, Pace

SOMEBODY = "somebody else"
"""Who moved a slice, if it wasn't this run."""
MOVE_SECONDS = 20.0
"""For a migration, before it is cancelled."""
REPEAT = 5.0
"""Seconds from one message to a guest to the next: one that hears nothing for 30 s stops burning."""
FULL, LATELY = 0.97, 1.0
"""A host with that utilization over so many seconds has no CPU time left for a guest to reach what it is asked for."""
SURE = 1.0
"""Seconds for which a guest must be nowhere before it counts as dead: on its way it is at neither end for a moment."""
SILENT = 5.0
"""Seconds after which a daemon that doesn't answer is reported."""
CANCEL_SECONDS = 5.0
"""For migrations to be given up at the end."""
NOWHERE = "qemu+unix:///session?socket=/nonexistent/libvirt-sock"
"""Where a move goes that has to fail: libvirt itself refuses it."""


@dataclass(slots=True)
class _Moving:
    """A move that has begun."""

    move: str
    destination: str
    by: str
    reason: str
    began: float
    """Monotonic seconds."""
    end: Future[Arrival]
    cancelled: bool = False


@dataclass(slots=True)
class _Guest:
    """A slice and what is known of it."""

    name: str
    domain: str
    host: str
    asked: float
    movable: bool
    pace: Pace
    coming: Future[Console] | None
    """Until it runs."""
    console: Future[Console] | None = None
    """None until it is to be opened."""
    spoken: float = float("-inf")
    """When it was last sent something; monotonic seconds."""
    saying: Future[None] | None = None
    here: float = float("inf")
    """Since when it is on its host; monotonic seconds."""
    base: float = 0.0
    """CPU-seconds that it had used when it came to its host."""
    born: float | None = None
    """What its process there had used before it ran; None until that is known."""
    used: float = 0.0
    """CPU-seconds since it was made, as last recorded or read."""
    missing: float | None = None
    """Since when it is nowhere; monotonic seconds."""
    migration: _Moving | None = None
    sampled: float = float("-inf")
    """The time of its last sample."""
    burnt: History | None = None
    """Of a guest that was there already, what it has used lately; None: the run made it."""

    @property
    def made(self) -> bool:
        """Whether the run made it."""
        return self.burnt is None

    @property
    def up(self) -> bool:
        """Whether it runs on its host and isn't on its way."""
        return self.coming is None and self.migration is None


class Libvirt:
    """See `Platform` and the package.

    Args:
        ground: the hosts.
        plan: what decides the run.
        library: libvirt's binding.
        fail_moves: how many moves fail before the first one succeeds.
        patience: seconds for a migration before it is cancelled.
        how: how guests migrate.
        theirs: patterns of the names of guests that are there already and may be moved, as shells have them. If there
            are any, what the run makes stays where it is.
    """

    def __init__(  # noqa: PLR0913 - the parts, and what a run may want otherwise
        self,
        ground: Ground,
        plan: Plan,
        library: Library,
        *,
        fail_moves: int = 0,
        patience: float = MOVE_SECONDS,
        how: Migration = Migration.PRE_COPY,
        theirs: Sequence[str] = (),
    ) -> None:
        self._ground = ground
        self._plan = plan
        self._library = library
        self._fail_moves = fail_moves
        self._patience = patience
        self._how = how
        self._theirs = tuple(theirs)
        self._run = secrets.token_hex(4)
        self._nodes: Mapping[str, Node] = {}
        self._guests: dict[str, _Guest] = {}
        self._events: list[Event] = []
        self._work: list[Future[None]] = []
        """What was begun beside guests' comings and moves; a failure of it is the platform's."""
        self._moves = 0
        self._next_sample = 0.0
        self._versions = ""
        self._silent: set[str] = set()
        """The hosts that were reported as not answering."""

    # What it is

    def describe(self) -> Part:
        """See `Platform`."""
        settings = {**self._ground.settings(), "migration": self._how.value, "run": self._run}
        if self._theirs:
            settings["may be moved"] = f"the guests {', '.join(self._theirs)}, which the run didn't make"
        return Part(name="libvirt", version=self._versions, counts_others=True, settings=settings)

    @property
    def moves_resolution(self) -> float:
        """Moves are begun here, and libvirt says itself when one is done."""
        return 0.0

    def hosts(self) -> Sequence[Host]:
        """See `Platform`."""
        return self._ground.hosts()

    def start(self) -> None:
        """See `Platform`."""
        self._events += self._ground.start()
        self._nodes = self._ground.nodes()
        self._versions = ", ".join(sorted({node.version() for node in self._nodes.values()}))
        for node in self._nodes.values():
            node.watch()
        if self._theirs:
            self._adopt()

    def _adopt(self) -> None:
        """Find the guests that are there already and may be moved.

        Raises:
            PlatformError: there is none, a name is on two hosts, or a daemon doesn't answer.
        """
        for host, node in self._nodes.items():
            try:
                found = node.look().guests
            except self._library.libvirtError as error:
                raise PlatformError(f"host {host} doesn't say which guests it has: {error}") from error
            for name, usage in found.items():
                if not (usage.running and any(fnmatchcase(name, pattern) for pattern in self._theirs)):
                    continue
                if name in self._guests:
                    where = f"on {self._guests[name].host} and on {host}"
                    raise PlatformError(f"--guest: a guest {name} is {where}: give patterns that tell them apart")
                self._guests[name] = _Guest(
                    name, name, host, 0.0, movable=True, pace=Pace(0.0), coming=None, burnt=History(self._plan.window)
                )
                self._guests[name].here = time.monotonic()
                self._ground.adopt(name)
        if not self._guests:
            raise PlatformError(f"--guest {' '.join(self._theirs)}: no guest of such a name runs on any host")

    def targets(self) -> Sequence[Target]:
        """See `Platform`."""
        return self._ground.targets()

    def watch(self, programs: Mapping[str, int]) -> None:
        """See `Platform`."""
        self._ground.watch(programs)

    # Slices

    def make(self, name: str, host: str, cpus: float, *, movable: bool = True) -> None:
        """See `Platform`."""
        if name in self._guests:
            raise PlatformError(f"there is a slice {name} already")
        if host not in self._nodes:
            raise PlatformError(f"there is no host {host} for slice {name}")
        _check_size(name, cpus)
        domain = guests.prefix(self._run) + name
        of = self._ground.makings(domain)
        xml = guests.domain_xml(
            Seed(
                name=domain,
                run=self._run,
                slice=name,
                image=of.image,
                console=of.console,
                accelerator=of.accelerator,
                cpus=self._ground.cpus(host),
                ends_itself=of.ends_itself,
            )
        )
        coming = self._nodes[host].bring(domain, xml)
        movable = movable and not self._theirs
        self._guests[name] = _Guest(name, domain, host, cpus, movable, Pace(cpus, self._units_per_cpu(host)), coming)

    def _units_per_cpu(self, host: str) -> float:
        """Where the search for a slice's work begins: at what the others on the host have found."""
        known = [
            one.pace.units_per_cpu
            for one in self._guests.values()
            if one.made and one.host == host and one.asked and one.pace.settled
        ]
        return median(known) if known else UNITS_PER_CPU

    def ask(self, name: str, cpus: float) -> None:
        """See `Platform`."""
        _check_size(name, cpus)
        one = self._guests[name]
        one.asked = cpus
        one.pace.ask(cpus)
        one.spoken = float("-inf")
        if one.coming is None:
            self._tell(one)

    def remove(self, name: str) -> None:
        """See `Platform`."""
        if (one := self._guests.pop(name, None)) is None:
            return
        if one.coming is None:
            self._tell(one, present=False)
        domain, nodes = one.domain, list(self._nodes.values())
        if one.migration is None:
            node = self._nodes[one.host]
            self._work.append(node.submit(lambda: node.destroy(domain)))
            return
        # It may arrive nevertheless: what is done after the move ends it on either side.
        self._end_move(one, one.migration, MoveState.CANCELLED, "the slice was removed")
        self._cancel(one)
        self._work.append(self._nodes[one.host].submit_move(partial(_destroy, nodes, domain)))

    def pending(self) -> Sequence[str]:
        """See `Platform`."""
        return [one.name for one in self._guests.values() if not (one.up and one.pace.settled)]

    def _tell(self, one: _Guest, *, present: bool = True) -> None:
        self._events.append(
            Slice(at=time.time(), name=one.name, host=one.host, cpus=one.asked, present=present, made=one.made)
        )

    # Moves

    def move(self, name: str, destination: str, *, by: str, reason: str) -> str:
        """See `Platform`."""
        self._moves += 1
        move = f"{name}-{self._moves}"
        one = self._guests.get(name)
        source = one.host if one else ""

        def tell(state: MoveState, why: str) -> None:
            self._events.append(
                Move(
                    at=time.time(),
                    move=move,
                    state=state,
                    slice=name,
                    source=source,
                    destination=destination,
                    by=by,
                    reason=why,
                )
            )

        tell(MoveState.ASKED, reason)
        if one is None or (why := self._hinders(one, destination)):
            why = why if one else f"there is no slice {name} in this run"
            tell(MoveState.FAILED, why)
            raise MoveRefusedError(why)
        tell(MoveState.ACCEPTED, reason)
        one.migration = _Moving(move, destination, by, reason, time.monotonic(), self._migrate(one, move, destination))
        return move

    def _hinders(self, one: _Guest, destination: str) -> str:
        """Why a slice can't be moved, a sentence; empty if it can."""
        if not one.movable:
            return f"{one.name} is a neighbour, which nobody may move"
        if destination not in self._nodes:
            return f"there is no host {destination}"
        if one.host == destination:
            return f"{one.name} is on {destination} already"
        if one.coming is not None:
            return f"{one.name} isn't made yet"
        if one.migration is not None:
            return f"{one.name} is on its way already"
        return ""

    def _migrate(self, one: _Guest, move: str, destination: str) -> Future[Arrival]:
        source, target = self._nodes[one.host], self._nodes[destination]
        parameters, cpus, domain = self._ground.migration(move), self._ground.cpus(destination), one.domain
        uri = target.uri
        if self._fail_moves > 0:
            self._fail_moves -= 1
            uri = NOWHERE
        how, made = self._how, one.made
        return source.submit_move(lambda: source.migrate(domain, target, uri, parameters, cpus, how=how, made=made))

    def _end_move(
        self, one: _Guest, migration: _Moving, state: MoveState, why: str, arrival: Arrival | None = None
    ) -> None:
        cost = arrival.cost if arrival else None
        self._events.append(
            Move(
                at=arrival.at if arrival else time.time(),
                move=migration.move,
                state=state,
                slice=one.name,
                source=one.host,
                destination=migration.destination,
                by=migration.by,
                reason=why,
                seconds=cost.seconds if cost else None,
                downtime=cost.downtime if cost else None,
            )
        )

    def _follow_move(self, one: _Guest, migration: _Moving, now: float) -> None:
        """See what has become of a move."""
        if not migration.end.done():
            if not migration.cancelled and now > migration.began + self._patience:
                migration.cancelled = True
                self._cancel(one)
            return
        one.migration = None
        try:
            arrival = migration.end.result()
        except self._library.libvirtError as error:
            aborted = code_of(error) == self._library.VIR_ERR_OPERATION_ABORTED
            state = MoveState.CANCELLED if migration.cancelled or aborted else MoveState.FAILED
            late = f"it took longer than {self._patience:g} s: " if migration.cancelled else ""
            self._end_move(one, migration, state, f"{late}{error}")
            return
        sent = "" if arrival.cost.sent is None else f"; {arrival.cost.sent / 1e6:.2f} MB were sent"
        self._end_move(one, migration, MoveState.DONE, f"{migration.reason}{sent}", arrival)
        self._arrive(one, migration.destination)

    def _arrive(self, one: _Guest, host: str) -> None:
        """Note that a slice is on another host from now on."""
        one.host = host
        one.base, one.born = one.used, None
        one.here, one.missing = time.monotonic(), None
        one.console = None
        one.pace.forget()

    def _cancel(self, one: _Guest) -> None:
        node, domain = self._nodes[one.host], one.domain
        node.submit(lambda: node.cancel(domain))

    # What happens

    def view(self) -> View:
        """See `Platform`."""
        return View(
            time.time(),
            self._ground.views(),
            tuple(
                SliceView(one.name, one.host if one.up and not self._unknown(one) else None, one.asked)
                for one in self._guests.values()
                if one.movable
            ),
        )

    @staticmethod
    def _unknown(one: _Guest) -> bool:
        """Whether nobody knows yet what a guest burns."""
        return one.burnt is not None and one.burnt.rate() is None

    def poll(self) -> Sequence[Event]:
        """See `Platform`."""
        now = time.monotonic()
        self._events += self._ground.check()
        self._look_for_silence(now)
        self._own_work()
        # Not over the window of the plan, which would still take a host for empty that has just become full.
        room = {host.name: (host.utilization or 0.0) < FULL for host in self._ground.views(LATELY)}
        for one in list(self._guests.values()):
            if one.coming is not None:
                self._come(one)
            if one.migration is not None:
                self._follow_move(one, one.migration, now)
            if one.up:
                self._measure(one, room=room[one.host])
                if one.made:
                    self._talk(one, now)
                self._look_for(one, now)
        if now >= self._next_sample:
            self._sample()
            # Not from now on: what is late once must not be late for ever.
            self._next_sample = max(self._next_sample + self._plan.sample_interval, now)
        events, self._events = self._events, []
        return events

    def _come(self, one: _Guest) -> None:
        """See whether a slice runs."""
        if one.coming is None or not one.coming.done():
            return
        try:
            one.coming.result()
        except self._library.libvirtError as error:
            raise PlatformError(f"slice {one.name} can't be made on {one.host}: {error}") from error
        one.console, one.coming = one.coming, None
        one.here = time.monotonic()
        self._tell(one)

    def _measure(self, one: _Guest, *, room: bool) -> None:
        """Read what a slice has used, and correct how much it works."""
        count = self._ground.count(one.host, one.domain)
        if count is None:
            return
        if one.born is None:
            one.born = count.cpu_seconds
        one.used = one.base + max(count.cpu_seconds - one.born, 0.0)
        if one.burnt is not None:
            self._look_at(one, one.burnt, count.monotonic)
        elif one.pace.add(count.monotonic, one.used, room=room):
            one.spoken = float("-inf")

    def _look_at(self, one: _Guest, burnt: History, at: float) -> None:
        """See how much a guest burns that was there already."""
        before = burnt.rate()
        burnt.add(at, one.used)
        rate = burnt.rate()
        one.asked = rate or 0.0
        if before is None and rate is not None:
            self._tell(one)

    def _talk(self, one: _Guest, now: float) -> None:
        """Tell a slice how much to work, if that has changed or was told long ago."""
        node, domain = self._nodes[one.host], one.domain
        if one.saying is not None and one.saying.done():
            if one.saying.exception() is not None:
                one.console = None  # it is opened again; if the guest is gone, that is noticed elsewhere
            one.saying = None
        if one.saying is not None or now < one.spoken + REPEAT:
            return
        if one.console is None or (one.console.done() and one.console.exception() is not None):
            one.console = node.reach(domain)
        console, message = one.console, one.pace.message
        if console.done() and console.exception() is None:
            one.saying = node.submit(lambda: console.result().say(message))
            one.spoken = now

    def _look_for(self, one: _Guest, now: float) -> None:
        """Notice that a slice has died, or was moved by somebody else."""
        seen = self._nodes[one.host].seen
        if seen is None or seen.began < one.here:
            return
        if one.domain in seen.guests:
            one.missing = None
            return
        one.missing = now if one.missing is None else one.missing
        for name, node in self._nodes.items():
            found = node.seen.guests.get(one.domain) if node.seen else None
            if found is not None and found.running and name != one.host:
                self._moves += 1
                theirs = _Moving(f"{one.name}-{self._moves}", name, SOMEBODY, "", now, Future())
                self._end_move(one, theirs, MoveState.DONE, "it was migrated by a program that isn't part of the run")
                self._arrive(one, name)
                return
        if now > one.missing + SURE:
            del self._guests[one.name]
            self._events.append(
                Disturbance(
                    at=time.time(),
                    what=Trouble.SLICE_DIED,
                    host=one.host,
                    who=one.name,
                    detail=f"slice {one.name} died: its domain {one.domain} is gone",
                )
            )
            self._tell(one, present=False)

    def _look_for_silence(self, now: float) -> None:
        """Notice daemons that don't answer."""
        for name, node in self._nodes.items():
            silent = node.seen is not None and now > node.seen.monotonic + SILENT
            if not silent:
                self._silent.discard(name)
            elif name not in self._silent:
                self._silent.add(name)
                detail = f"its libvirt daemon doesn't answer{node.trouble and ': '}{node.trouble}"
                self._events.append(
                    Disturbance(at=time.time(), what=Trouble.HOST_NOT_READY, host=name, who="libvirtd", detail=detail)
                )

    def _own_work(self) -> None:
        """Look whether what was begun went well.

        Raises:
            PlatformError: something didn't.
        """
        done = [work for work in self._work if work.done()]
        self._work = [work for work in self._work if not work.done()]
        for work in done:
            try:
                work.result()
            except self._library.libvirtError as error:
                raise PlatformError(f"a slice can't be ended: {error}") from error

    def _sample(self) -> None:
        self._events += self._ground.sample()
        for one in self._guests.values():
            count = self._ground.count(one.host, one.domain) if one.up and one.made else None
            if count is None or one.born is None or count.at <= one.sampled:
                continue
            one.sampled = count.at
            used = one.base + max(count.cpu_seconds - one.born, 0.0)
            self._events.append(
                Sample(at=count.at, subject=Subject.SLICE, name=one.name, host=one.host, cpu_seconds=used)
            )

    # The end

    def close(self) -> Sequence[str]:
        """See `Platform`: all domains that carry the run's id are ended, on all hosts."""
        moving = [one for one in self._guests.values() if one.migration is not None]
        for one in moving:
            self._cancel(one)
        _wait([one.migration.end for one in moving if one.migration is not None], CANCEL_SECONDS)
        nodes, self._nodes = self._nodes, {}
        left = [sentence for node in nodes.values() for sentence in node.close(self._run)]
        self._guests.clear()
        return self._ground.close(left)


def _destroy(nodes: Sequence[Node], domain: str) -> None:
    for node in nodes:
        node.destroy(domain)


def _wait(futures: Sequence[Future[Arrival]], seconds: float) -> None:
    until = time.monotonic() + seconds
    for future in futures:
        try:
            future.exception(max(until - time.monotonic(), 0.0))
        except TimeoutError:
            return


def _check_size(name: str, cpus: float) -> None:
    """Look whether a guest can burn that much.

    Raises:
        PlatformError: it can't.
    """
    if cpus > MOST:
        raise PlatformError(
            f"slice {name} is to burn {cpus:g} CPUs, and a guest burns {MOST:g} at most: choose a scenario "
            "with more and smaller slices"
        )
