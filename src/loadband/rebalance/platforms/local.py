"""Platform *local*: this machine. Hosts are disjoint sets of its CPUs, slices are regulators, a move changes affinity.

A host's utilization is measured twice. For the recording it is read here, from the idle counters of the host's CPUs.
For Prometheus an *observer* stands on each host: a regulator that burns (next to) nothing and exports the host as its
cpuset, so that the shipped rules apply unchanged. The slices themselves aren't scraped: their series would carry the
name of the host that they have left.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from loadband.rebalance.events import (
    Clock,
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
    HostView,
    MoveRefusedError,
    PlatformError,
    SliceView,
    Target,
    View,
)
from loadband.rebalance.platforms.foreign import Ledger, Strangers
from loadband.rebalance.platforms.history import History
from loadband.rebalance.platforms.machine import BusyTime, Cpus, affinity, confine, cpu_time, divide
from loadband.rebalance.platforms.regulators import Regulator
from loadband.rebalance.programs import free_port

CLUSTER = "lab"
"""The label `cluster` of all that is scraped."""
RECORDER = "recorder"
"""The name of this process among the run's own programs."""
OBSERVER_INTERVAL = "200ms"
"""A scrape gets counters that are at most that old."""
AT_ONCE = 0.005
"""Seconds within which all counters are read, unless that has failed `READINGS` times."""
READINGS = 3
STARTS = 3
"""How often a slice is started that ends before it is up."""
END_SECONDS = 3.0
"""For the regulators to end before they are killed; each promises 2."""
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


@dataclass(slots=True)
class _Program:
    """A program of the run that isn't load."""

    pid: int
    host: str | None
    """None: on CPUs that are no host."""
    used: float = 0.0
    """CPU-seconds, as last read."""
    counted: float = 0.0
    """Of these, those that are counted as its host's already."""
    base: float = 0.0
    """CPU-seconds of processes of that name that were watched before."""


class Local:
    """See `Platform` and the module.

    Args:
        names: of the hosts.
        plan: what decides the run; the run's own programs are put on a host that isn't hot on purpose, unless a CPU is
            left over.
        fail_moves: how many moves fail before the first one succeeds.
    """

    def __init__(self, names: Sequence[str], plan: Plan, *, fail_moves: int = 0) -> None:
        self._names = tuple(names)
        self._plan = plan
        self._fail_moves = fail_moves
        self._before = frozenset(os.sched_getaffinity(0))
        self._division = divide(self._before, names)
        self._events: list[Event] = []
        self._slices: dict[str, _Slice] = {}
        self._ending: list[_Slice] = []
        """Slices that were asked to end: what they burn until then is ours, too."""
        self._observers: dict[str, tuple[Regulator, str]] = {}
        """By host, with the address of its metrics."""
        self._programs: dict[str, _Program] = {}
        self._moves = 0
        self._busy = BusyTime(self._division.hosts)
        self._busy_history = {name: History(plan.window) for name in names}
        self._ledger = Ledger(self._division.hosts, plan, Strangers())
        self._next_sample = 0.0

    # What it is

    def describe(self) -> Part:
        """See `Platform`."""
        settings = {name: _listed(cpus) for name, cpus in self._division.hosts.items()}
        settings["own programs"] = _listed(self._own_cpus)
        return Part(name="local", version=f"Linux {platform.release()}", counts_others=True, settings=settings)

    @property
    def moves_resolution(self) -> float:
        """Moves are made and stamped here."""
        return 0.0

    @property
    def _calm_host(self) -> str:
        calm = [name for name in self._names if name not in self._plan.hot_hosts]
        return (calm or self._names)[-1]

    @property
    def _own_cpus(self) -> Cpus:
        return self._division.spare or self._division.hosts[self._calm_host]

    @property
    def _own_host(self) -> str | None:
        return None if self._division.spare else self._calm_host

    def hosts(self) -> Sequence[Host]:
        """See `Platform`."""
        now = time.time()
        return [Host(at=now, name=name, cpus=len(cpus)) for name, cpus in self._division.hosts.items()]

    def start(self) -> None:
        """Confine this process to the CPUs of own programs, and put an observer on each host."""
        self.watch({RECORDER: os.getpid()})
        for name, cpus in self._division.hosts.items():
            address = f"127.0.0.1:{free_port()}"
            observer = Regulator(0.0, cpus, interval=OBSERVER_INTERVAL, listen=address)
            self._observers[name] = observer, address
            self._programs[f"observer of {name}"] = _Program(observer.pid, name)
        self._events += self.hosts()
        # One machine has one clock.
        self._events += [Clock(at=time.time(), host=name, offset=0.0, uncertainty=0.0) for name in self._names]

    def targets(self) -> Sequence[Target]:
        """See `Platform`."""
        return [Target(address, {"cluster": CLUSTER, "node": name}) for name, (_, address) in self._observers.items()]

    def watch(self, programs: Mapping[str, int]) -> None:
        """See `Platform`; they are confined to the CPUs of own programs."""
        for name, pid in programs.items():
            with suppress(ProcessLookupError):  # its end is noticed by who started it
                confine(pid, self._own_cpus)
            # Our children were born on these CPUs: all that they have used, they have used there.
            before = _cpu_time(pid, 0.0) if pid == os.getpid() else 0.0
            if (earlier := self._programs.get(name)) is None:
                self._programs[name] = _Program(pid, self._own_host, before, before)
            else:
                # A program that is started again and again, as a planner is: its counter goes on.
                used, counted = earlier.used, earlier.counted
                self._programs[name] = _Program(pid, self._own_host, used, counted, base=used)

    # Slices

    def make(self, name: str, host: str, cpus: float, *, movable: bool = True) -> None:
        """See `Platform`."""
        if name in self._slices:
            raise PlatformError(f"there is a slice {name} already")
        if host not in self._division.hosts:
            raise PlatformError(f"there is no host {host} for slice {name}")
        self._slices[name] = _Slice(name, host, cpus, Regulator(cpus, self._division.hosts[host]), movable)
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

    def _count(self, one: _Slice | _Program) -> None:
        """Count what was used since the last time as used on the host on which it is."""
        if one.host is not None:
            self._ledger.ours(one.host, one.used - one.counted)
        one.counted = one.used

    def _leaves(self, one: _Slice) -> None:
        """Count and sample a slice at the moment at which it leaves its host."""
        at, one.used = time.time(), one.regulator.used()
        self._count(one)
        self._sampled(at, Subject.SLICE, one.name, one.host, one.used)

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
        if destination not in self._division.hosts:
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
            confine(one.regulator.pid, self._division.hosts[destination])
        except OSError as error:
            with suppress(OSError):
                confine(one.regulator.pid, self._division.hosts[source])
            tell(MoveState.FAILED, str(error))
            return move
        one.host = destination
        tell(MoveState.DONE, seconds=time.monotonic() - began)
        return move

    def _notice_moves(self) -> None:
        """Report what somebody else did to the affinity of our slices."""
        for one in self._slices.values():
            expected, found = self._division.hosts[one.host], affinity(one.regulator.pid)
            if found in {None, expected}:
                continue
            host = next((name for name, cpus in self._division.hosts.items() if found and found <= cpus), None)
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
                    reason=f"its affinity was changed to {_listed(found or frozenset())}",
                )
            )
            self._leaves(one)
            one.host = host or one.host
            confine(one.regulator.pid, self._division.hosts[one.host])

    # What happens

    def view(self) -> View:
        """See `Platform`."""
        return View(
            time.time(),
            tuple(
                HostView(name, len(cpus), self._busy_history[name].utilization(len(cpus)))
                for name, cpus in self._division.hosts.items()
            ),
            tuple(SliceView(one.name, one.host, one.asked) for one in self._slices.values() if one.movable),
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
                one.regulator = Regulator(one.asked, self._division.hosts[one.host])
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
        for name, (observer, _) in self._observers.items():
            if observer.ended:
                raise PlatformError(f"the observer of {name} died: {observer.ended}")

    def _sample(self) -> None:
        """Take a sample of everything, and see whether somebody else burns."""
        at, now, busy = self._read_counters()
        for one in self._slices.values():
            self._count(one)
            self._sampled(at, Subject.SLICE, one.name, one.host, one.used)
        for one in self._ending:
            self._count(one)
        self._ending = [one for one in self._ending if not one.regulator.ended]
        for name, program in self._programs.items():
            self._count(program)
            if program.host is not None:
                self._sampled(at, Subject.OWN, name, program.host, program.used)
        for name, seconds in busy.items():
            self._sampled(at, Subject.HOST, name, name, seconds)
            self._busy_history[name].add(now, seconds)
        self._events += self._ledger.examine(now, busy, self._pids())
        for one in self._slices.values():
            with suppress(ProcessLookupError):  # its end is noticed at the next poll
                confine(one.regulator.pid, self._division.hosts[one.host])

    def _read_counters(self) -> tuple[float, float, Mapping[str, float]]:
        """Read all counters as nearly at once as can be; returns both clocks' times, and the hosts' busy time.

        This process may have to wait for a CPU in the middle of it: then it reads again.
        """
        for _ in range(READINGS):
            began, at = time.monotonic(), time.time()
            for one in (*self._slices.values(), *self._ending):
                one.used = one.regulator.used()
            for program in self._programs.values():
                program.used = program.base + _cpu_time(program.pid, program.used - program.base)
            now, busy = self._busy.read()
            if now - began < AT_ONCE:
                break
        return at, now, busy

    def _sampled(self, at: float, subject: Subject, name: str, host: str, seconds: float) -> None:
        self._events.append(Sample(at=at, subject=subject, name=name, host=host, cpu_seconds=seconds))

    def _pids(self) -> set[int]:
        slices = [*self._slices.values(), *self._ending]
        return {one.regulator.pid for one in slices} | {program.pid for program in self._programs.values()}

    # The end

    def close(self) -> Sequence[str]:
        """See `Platform`."""
        regulators = [one.regulator for one in (*self._slices.values(), *self._ending)]
        regulators += [observer for observer, _ in self._observers.values()]
        for one in regulators:
            one.end()
        until = time.monotonic() + END_SECONDS
        for one in regulators:
            if not one.wait(max(until - time.monotonic(), 0.0)):
                one.kill()
                one.wait(END_SECONDS)
        self._slices.clear()
        self._ending.clear()
        self._observers.clear()
        self._programs.clear()
        try:
            confine(os.getpid(), self._before)
        except OSError as error:
            command = f"taskset --all-tasks --cpu-list --pid {_numbers(self._before)} {os.getpid()}"
            return [f"this process couldn't get its CPUs back ({error}): {command}"]
        return []


def _cpu_time(pid: int, before: float) -> float:
    """CPU-seconds of a process, or what was last known of one that is gone."""
    try:
        return cpu_time(pid)
    except OSError:
        return before


def _listed(cpus: Cpus) -> str:
    return f"CPU {_numbers(cpus)}"


def _numbers(cpus: Cpus) -> str:
    return ",".join(map(str, sorted(cpus)))
