"""This machine's CPUs as hosts: disjoint sets of them, observed for Prometheus and measured for the recording.

A host's utilization is measured twice. For the recording it is read here, from the idle counters of the host's CPUs.
For Prometheus an *observer* stands on each host: a regulator that burns (next to) nothing and exports the host as its
cpuset, so that the shipped rules apply unchanged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from loadband.rebalance.events import Clock, Event, Host, Plan, Sample, Subject
from loadband.rebalance.platforms import HostView, PlatformError, Target
from loadband.rebalance.platforms.foreign import Ledger, Strangers
from loadband.rebalance.platforms.history import History
from loadband.rebalance.platforms.machine import BusyTime, Cpus, confine, cpu_time, divide
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
END_SECONDS = 3.0
"""For the regulators to end before they are killed; each promises 2."""


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


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of all hosts, read as nearly at once as can be."""

    at: float
    """Seconds since the epoch."""
    monotonic: float
    """Seconds since some begin."""
    busy: Mapping[str, float]
    """By host, its busy CPU-seconds since some begin."""


class Site:
    """See the module.

    Args:
        names: of the hosts.
        plan: what decides the run; the run's own programs are put on a host that isn't hot on purpose, unless a CPU is
            left over.
        most: CPUs of a host; None: as many as there are.

    Raises:
        PlatformError: there are fewer CPUs than hosts.
    """

    def __init__(self, names: Sequence[str], plan: Plan, *, most: int | None = None) -> None:
        self._names = tuple(names)
        self._plan = plan
        self._before = frozenset(os.sched_getaffinity(0))
        self._division = divide(self._before, names, most)
        self.cpus: Mapping[str, Cpus] = self._division.hosts
        """By host, the numbers of its CPUs."""
        self._observers: dict[str, tuple[Regulator, str]] = {}
        """By host, with the address of its metrics."""
        self._programs: dict[str, _Program] = {}
        self._busy = BusyTime(self.cpus)
        self._latest: Reading | None = None
        self._histories = {name: History(plan.window) for name in names}
        self._ledger = Ledger(self.cpus, plan, Strangers())

    # What it is

    def settings(self) -> dict[str, str]:
        """Which CPUs are which host, for people."""
        settings = {name: listed(cpus) for name, cpus in self.cpus.items()}
        settings["own programs"] = listed(self._own_cpus)
        return settings

    def hosts(self) -> Sequence[Host]:
        """The hosts, now."""
        now = time.time()
        return [Host(at=now, name=name, cpus=len(cpus)) for name, cpus in self.cpus.items()]

    def views(self, window: float | None = None) -> tuple[HostView, ...]:
        """What a rebalancer may know of the hosts, or the same over a shorter window, seconds."""
        return tuple(
            HostView(
                name,
                len(cpus),
                self._histories[name].utilization(len(cpus), window),
                self._latest.busy[name] if self._latest else None,
            )
            for name, cpus in self.cpus.items()
        )

    @property
    def counted_at(self) -> float | None:
        """When the counters were read that the latest sample was made of; None before the first one."""
        return self._latest.at if self._latest else None

    def targets(self) -> Sequence[Target]:
        """The observers."""
        return [Target(address, {"cluster": CLUSTER, "node": name}) for name, (_, address) in self._observers.items()]

    @property
    def _calm_host(self) -> str:
        calm = [name for name in self._names if name not in self._plan.hot_hosts]
        return (calm or self._names)[-1]

    @property
    def _own_cpus(self) -> Cpus:
        return self._division.spare or self.cpus[self._calm_host]

    @property
    def _own_host(self) -> str | None:
        return None if self._division.spare else self._calm_host

    # What happens

    def start(self) -> Sequence[Event]:
        """Confine this process to the CPUs of own programs, and put an observer on each host.

        Raises:
            PlatformError: an observer can't be started.
        """
        self.watch({RECORDER: os.getpid()})
        for name, cpus in self.cpus.items():
            address = f"127.0.0.1:{free_port()}"
            observer = Regulator(0.0, cpus, interval=OBSERVER_INTERVAL, listen=address)
            self._observers[name] = observer, address
            self._programs[f"observer of {name}"] = _Program(observer.pid, name)
        # One machine has one clock.
        clocks = [Clock(at=time.time(), host=name, offset=0.0, uncertainty=0.0) for name in self._names]
        return [*self.hosts(), *clocks]

    def watch(self, programs: Mapping[str, int]) -> None:
        """See `Platform.watch`; they are confined to the CPUs of own programs."""
        for name, pid in programs.items():
            self._watch(name, pid, self._own_cpus, self._own_host)

    def watch_on(self, host: str, name: str, pid: int) -> None:
        """Count a process as a program of the run that belongs to a host, and confine it to that."""
        self._watch(name, pid, self.cpus[host], host)

    def _watch(self, name: str, pid: int, cpus: Cpus, host: str | None) -> None:
        with suppress(ProcessLookupError):  # its end is noticed by who started it
            confine(pid, cpus)
        # Our children were born on these CPUs: all that they have used, they have used there.
        before = last_cpu_time(pid, 0.0) if pid == os.getpid() else 0.0
        if (earlier := self._programs.get(name)) is None:
            self._programs[name] = _Program(pid, host, before, before)
        else:
            # A program that is started again and again, as a planner is: its counter goes on.
            self._programs[name] = _Program(pid, host, earlier.used, earlier.counted, base=earlier.used)

    def ours(self, host: str, seconds: float) -> None:
        """Count CPU-seconds that a slice has used on a host."""
        self._ledger.ours(host, seconds)

    def read(self, also: Callable[[], None]) -> Reading:
        """Read all counters as nearly at once as can be.

        This process may have to wait for a CPU in the middle of it: then it reads again.

        Args:
            also: reads those of the slices, which are others' business.
        """
        for _ in range(READINGS):
            began, at = time.monotonic(), time.time()
            also()
            for program in self._programs.values():
                program.used = program.base + last_cpu_time(program.pid, program.used - program.base)
            now, busy = self._busy.read()
            if now - began < AT_ONCE:
                break
        return Reading(at, now, busy)

    def sample(self, reading: Reading, pids: Collection[int]) -> Sequence[Event]:
        """Samples of hosts and own programs, and whether somebody else burns; what slices used is counted before.

        Args:
            reading: all counters.
            pids: ids of the processes of slices.
        """
        events: list[Event] = []
        self._latest = reading
        for name, program in self._programs.items():
            if program.host is not None:
                self._ledger.ours(program.host, program.used - program.counted)
                events.append(
                    Sample(at=reading.at, subject=Subject.OWN, name=name, host=program.host, cpu_seconds=program.used)
                )
            program.counted = program.used
        for name, seconds in reading.busy.items():
            events.append(Sample(at=reading.at, subject=Subject.HOST, name=name, host=name, cpu_seconds=seconds))
            self._histories[name].add(reading.monotonic, seconds)
        own = {program.pid for program in self._programs.values()}
        return [*events, *self._ledger.examine(reading.monotonic, reading.busy, own | set(pids))]

    def check(self) -> None:
        """Look whether the hosts are still observed.

        Raises:
            PlatformError: an observer has died.
        """
        for name, (observer, _) in self._observers.items():
            if observer.ended:
                raise PlatformError(f"the observer of {name} died: {observer.ended}")

    # The end

    def close(self) -> Sequence[str]:
        """End the observers, and get this process its CPUs back; see `Platform.close`."""
        end([observer for observer, _ in self._observers.values()])
        self._observers.clear()
        self._programs.clear()
        try:
            confine(os.getpid(), self._before)
        except OSError as error:
            command = f"taskset --all-tasks --cpu-list --pid {_numbers(self._before)} {os.getpid()}"
            return [f"this process couldn't get its CPUs back ({error}): {command}"]
        return []


def end(regulators: Sequence[Regulator]) -> None:
    """End regulators, all at once, and wait until they are gone."""
    for one in regulators:
        one.end()
    until = time.monotonic() + END_SECONDS
    for one in regulators:
        if not one.wait(max(until - time.monotonic(), 0.0)):
            one.kill()
            one.wait(END_SECONDS)


def last_cpu_time(pid: int, before: float) -> float:
    """CPU-seconds of a process, or what was last known of one that is gone."""
    try:
        return cpu_time(pid)
    except OSError:
        return before


def listed(cpus: Cpus) -> str:
    """As people read it: `CPU 0,1`."""
    return f"CPU {_numbers(cpus)}"


def _numbers(cpus: Cpus) -> str:
    return ",".join(map(str, sorted(cpus)))
