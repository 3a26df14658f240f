"""Platform *local*: this machine. Hosts are disjoint sets of its CPUs, slices are regulators, a move changes affinity.

`site` measures the hosts and observes them for Prometheus. The slices themselves aren't scraped: their series would
carry the name of the host that they have left.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

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
from loadband.rebalance.platforms import (
    MoveRefusedError,
    PlatformError,
    SliceView,
    Target,
    View,
)
from loadband.rebalance.platforms.history import History
from loadband.rebalance.platforms.machine import affinity, confine
from loadband.rebalance.platforms.regulators import Regulator
from loadband.rebalance.platforms.site import Site, end, listed

STARTS = 3
"""How often a slice is started that ends before it is up."""
SETTLED = 0.8
"""Seconds over which a slice must have burnt what it is asked for until it isn't pending any more."""
SOMEBODY = "somebody else"
"""Who moved a slice, if it wasn't us."""


@dataclass(slots=True)
class _Slice:
    """A slice and what is known of it."""

    name: str
    host: str
    asked: float
    regulator: Regulator
    movable: bool
    used: float = 0.0
    """CPU-seconds, as last read."""
    counted: float = 0.0
    """Of these, those that are counted as its hosts' already."""
    up: bool = False
    """Whether it answers: what it burns before that isn't the load."""
    lately: History = field(default_factory=lambda: History(SETTLED))
    """Its CPU-seconds since it is up and was last asked for something."""
    settled: bool = False
    """Whether it has burnt that since then."""
    starts: int = 1
    """How often it was started."""


class Local:
    """See `Platform` and the module.

    Args:
        names: of the hosts.
        plan: what decides the run; the run's own programs are put on a host that isn't hot on purpose, unless a CPU is
            left over.
        fail_moves: how many moves fail before the first one succeeds.
    """

    def __init__(self, names: Sequence[str], plan: Plan, *, fail_moves: int = 0) -> None:
        self._plan = plan
        self._site = Site(names, plan)
        self._fail_moves = fail_moves
        self._events: list[Event] = []
        self._slices: dict[str, _Slice] = {}
        self._ending: list[_Slice] = []
        """Slices that were asked to end: what they burn until then is ours, too."""
        self._moves = 0
        self._next_sample = 0.0

    # What it is

    def describe(self) -> Part:
        """See `Platform`."""
        return Part(
            name="local", version=f"Linux {platform.release()}", counts_others=True, settings=self._site.settings()
        )

    @property
    def moves_resolution(self) -> float:
        """Moves are made and stamped here."""
        return 0.0

    def hosts(self) -> Sequence[Host]:
        """See `Platform`."""
        return self._site.hosts()

    def start(self) -> None:
        """Confine this process to the CPUs of own programs, and put an observer on each host."""
        self._events += self._site.start()

    def targets(self) -> Sequence[Target]:
        """See `Platform`."""
        return self._site.targets()

    def watch(self, programs: Mapping[str, int]) -> None:
        """See `Platform`; they are confined to the CPUs of own programs."""
        self._site.watch(programs)

    # Slices

    def make(self, name: str, host: str, cpus: float, *, movable: bool = True) -> None:
        """See `Platform`."""
        if name in self._slices:
            raise PlatformError(f"there is a slice {name} already")
        if host not in self._site.cpus:
            raise PlatformError(f"there is no host {host} for slice {name}")
        self._slices[name] = _Slice(name, host, cpus, Regulator(cpus, self._site.cpus[host]), movable)
        self._tell(self._slices[name])

    def ask(self, name: str, cpus: float) -> None:
        """See `Platform`."""
        one = self._slices[name]
        one.regulator.ask(cpus)
        one.asked = cpus
        one.lately.clear()
        one.settled = False
        self._tell(one)

    def remove(self, name: str) -> None:
        """See `Platform`."""
        if (one := self._slices.pop(name, None)) is None:
            return
        self._leaves(one)
        one.regulator.end()
        self._ending.append(one)
        self._tell(one, present=False)

    def pending(self) -> Sequence[str]:
        """See `Platform`."""
        return [one.name for one in self._slices.values() if not one.settled]

    def _tell(self, one: _Slice, *, present: bool = True) -> None:
        self._events.append(Slice(at=time.time(), name=one.name, host=one.host, cpus=one.asked, present=present))

    def _count(self, one: _Slice) -> None:
        """Count what was used since the last time as used on the host on which it is."""
        self._site.ours(one.host, one.used - one.counted)
        one.counted = one.used

    def _leaves(self, one: _Slice) -> None:
        """Count and sample a slice at the moment at which it leaves its host."""
        at, one.used = time.time(), one.regulator.used()
        self._count(one)
        self._sampled(at, one)

    # Moves

    def move(self, name: str, destination: str, *, by: str, reason: str) -> str:
        """See `Platform`."""
        self._moves += 1
        move = f"{name}-{self._moves}"
        one = self._slices.get(name)
        source = one.host if one else ""

        def tell(state: MoveState, why: str = reason, seconds: float | None = None) -> None:
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
                    seconds=seconds,
                    downtime=None if seconds is None else 0.0,  # the scheduler takes it along while it runs
                )
            )

        def refuse(why: str) -> MoveRefusedError:
            tell(MoveState.FAILED, why)
            return MoveRefusedError(why)

        tell(MoveState.ASKED)
        if one is None:
            raise refuse(f"there is no slice {name} in this run")
        if not one.movable:
            raise refuse(f"{name} is a neighbour, which nobody may move")
        if destination not in self._site.cpus:
            raise refuse(f"there is no host {destination}")
        if destination == source:
            raise refuse(f"{name} is on {destination} already")
        tell(MoveState.ACCEPTED)
        began = time.monotonic()
        if self._fail_moves > 0:
            self._fail_moves -= 1
            tell(MoveState.FAILED, "the scenario has this move fail")
            return move
        self._leaves(one)
        try:
            confine(one.regulator.pid, self._site.cpus[destination])
        except OSError as error:
            with suppress(OSError):
                confine(one.regulator.pid, self._site.cpus[source])
            tell(MoveState.FAILED, str(error))
            return move
        one.host = destination
        tell(MoveState.DONE, seconds=time.monotonic() - began)
        return move

    def _notice_moves(self) -> None:
        """Report what somebody else did to the affinity of our slices."""
        for one in self._slices.values():
            expected, found = self._site.cpus[one.host], affinity(one.regulator.pid)
            if found in {None, expected}:
                continue
            host = next((name for name, cpus in self._site.cpus.items() if found and found <= cpus), None)
            self._moves += 1
            self._events.append(
                Move(
                    at=time.time(),
                    move=f"{one.name}-{self._moves}",
                    state=MoveState.DONE,
                    slice=one.name,
                    source=one.host,
                    destination=host or one.host,
                    by=SOMEBODY,
                    reason=f"its affinity was changed to {listed(found or frozenset())}",
                )
            )
            self._leaves(one)
            one.host = host or one.host
            confine(one.regulator.pid, self._site.cpus[one.host])

    # What happens

    def view(self) -> View:
        """See `Platform`."""
        return View(
            time.time(),
            self._site.views(),
            tuple(
                SliceView(one.name, one.host, one.asked, one.used if one.up else None)
                for one in self._slices.values()
                if one.movable
            ),
            self._site.counted_at,
        )

    def poll(self) -> Sequence[Event]:
        """See `Platform`."""
        self._notice_deaths()
        self._notice_moves()
        now = time.monotonic()
        for one in self._slices.values():
            one.up = one.up or one.regulator.answers()
            if one.up:
                one.lately.add(now, one.regulator.used())
                one.settled = one.settled or one.lately.burns(one.asked)
        if now >= self._next_sample:
            self._sample()
            # Not from now on: what is late once must not be late for ever.
            self._next_sample = max(self._next_sample + self._plan.sample_interval, now)
        events, self._events = self._events, []
        return events

    def _notice_deaths(self) -> None:
        for one in [each for each in self._slices.values() if each.regulator.ended]:
            self._leaves(one)
            if one.regulator.refused and one.starts < STARTS:
                # Another program took its port in the moment between finding and using it.
                one.starts += 1
                one.regulator = Regulator(one.asked, self._site.cpus[one.host])
                one.used = one.counted = 0.0
                continue
            del self._slices[one.name]
            self._events.append(
                Disturbance(
                    at=time.time(),
                    what=Trouble.SLICE_DIED,
                    host=one.host,
                    who=one.name,
                    detail=f"slice {one.name} died: {one.regulator.ended}",
                )
            )
            self._tell(one, present=False)
        self._site.check()

    def _sample(self) -> None:
        """Take a sample of everything, and see whether somebody else burns."""
        reading = self._site.read(self._read_slices)
        for one in self._slices.values():
            self._count(one)
            self._sampled(reading.at, one)
        for one in self._ending:
            self._count(one)
        self._ending = [one for one in self._ending if not one.regulator.ended]
        self._events += self._site.sample(reading, self._pids())
        for one in self._slices.values():
            with suppress(ProcessLookupError):  # its end is noticed at the next poll
                confine(one.regulator.pid, self._site.cpus[one.host])

    def _read_slices(self) -> None:
        for one in (*self._slices.values(), *self._ending):
            one.used = one.regulator.used()

    def _sampled(self, at: float, one: _Slice) -> None:
        self._events.append(Sample(at=at, subject=Subject.SLICE, name=one.name, host=one.host, cpu_seconds=one.used))

    def _pids(self) -> set[int]:
        return {one.regulator.pid for one in (*self._slices.values(), *self._ending)}

    # The end

    def close(self) -> Sequence[str]:
        """See `Platform`."""
        end([one.regulator for one in (*self._slices.values(), *self._ending)])
        self._slices.clear()
        self._ending.clear()
        return self._site.close()
