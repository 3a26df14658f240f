"""What the conductor and the rebalancers need of a platform: hosts, slices on them, and moves.

A platform runs slices of known size on hosts, moves them, and reports all that happens as the events of a recording.
Nothing here waits: a call begins something, and `poll` reports what has become of it. One thread calls a platform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from loadband.rebalance.events import Event, Host, Part


class PlatformError(Exception):
    """A platform can't do what a run needs; the message is a sentence that says what and why."""


class MoveRefusedError(Exception):
    """A move doesn't begin; the message is a sentence that says why. The platform reports it as a failed move, too."""


@dataclass(frozen=True, slots=True)
class HostView:
    """A host now."""

    name: str
    cpus: float
    """Its capacity, > 0."""
    utilization: float | None
    """Mean over the plan's window, 0..1; None until that much is known."""
    cpu_seconds: float | None = None
    """Counter of its busy CPU time since some begin, as read at `View.counted_at`; None: the platform shows none."""


@dataclass(frozen=True, slots=True)
class SliceView:
    """A slice of the run now."""

    name: str
    host: str | None
    """None while it is nowhere, or on its way."""
    cpus: float
    """What is asked of it."""
    cpu_seconds: float | None = None
    """Counter of the CPU time that it used, as read at `View.counted_at`; None until it is up, and on a platform that
    shows none."""


@dataclass(frozen=True, slots=True)
class View:
    """What a rebalancer may know of a platform: the hosts and the slices of the run, now."""

    at: float
    """Seconds since the epoch."""
    hosts: tuple[HostView, ...]
    slices: tuple[SliceView, ...]
    """Those that may be moved."""
    counted_at: float | None = None
    """When the counters of CPU time were read, seconds since the epoch; None: there are none."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something for Prometheus to scrape."""

    address: str
    """`host:port`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """To attach; `node` names the host that its series speak of."""


class Actuator(Protocol):
    """The part of a platform that a rebalancer may use."""

    def view(self) -> View:
        """The hosts and the slices, now; no I/O that may block."""
        ...

    def move(self, name: str, destination: str, *, by: str, reason: str) -> str:
        """Begin to move a slice to another host.

        Args:
            name: the slice's.
            destination: the host's name.
            by: who asks: one of the rebalancer's `Part.actors`.
            reason: for people.

        Returns:
            The move's id, as in `Move.move`; `poll` reports it as asked and accepted, and later how it ended.

        Raises:
            MoveRefusedError: it doesn't begin: no slice of this run, no such host, already there or on its way. `poll`
                reports it as asked and failed.
        """
        ...


class Platform(Actuator, Protocol):
    """Hosts, and slices of this run on them."""

    def describe(self) -> Part:
        """What it is, for the report."""
        ...

    @property
    def moves_resolution(self) -> float:
        """Seconds: how exact the times of moves are; 0.0 if the platform stamps them itself."""
        ...

    def hosts(self) -> Sequence[Host]:
        """The hosts, with their capacity; known before anything is started.

        Raises:
            PlatformError: it has not what the run needs; nothing was started.
        """
        ...

    def start(self) -> None:
        """Start what the platform itself needs, before the first slice.

        Raises:
            PlatformError: it doesn't start.
        """
        ...

    def targets(self) -> Sequence[Target]:
        """What Prometheus has to scrape so that the shipped rules know the hosts' utilization; after `start`."""
        ...

    def make(self, name: str, host: str, cpus: float, *, movable: bool = True) -> None:
        """Begin to run a slice.

        Args:
            name: unique within the run.
            host: where it is put at first.
            cpus: what it burns, CPUs, >= 0.
            movable: whether a rebalancer may move it. If not, it is a neighbour: no `view` shows it, and `move` refuses
                it as if it weren't of this run.

        Raises:
            PlatformError: it can't be made.
        """
        ...

    def ask(self, name: str, cpus: float) -> None:
        """Have a slice burn another amount from now on, CPUs, >= 0."""
        ...

    def remove(self, name: str) -> None:
        """End a slice; nothing if it is gone already."""
        ...

    def pending(self) -> Sequence[str]:
        """Of the slices, those that don't burn what they are asked for yet: being made, changed or moved."""
        ...

    def watch(self, programs: Mapping[str, int]) -> None:
        """Count these processes as programs of the run (`Subject.OWN`), not as foreign.

        Args:
            programs: by name, the process's id.
        """
        ...

    def poll(self) -> Sequence[Event]:
        """All that has happened since the last call, each event once.

        Hosts and slices that came, changed or went; moves in each of their states; a sample of each host, slice and own
        program if the sample interval has passed; foreign load; slices that died. Called several times a second.

        Raises:
            PlatformError: the platform itself is gone.
        """
        ...

    def close(self) -> Sequence[str]:
        """Undo all that was started or changed; may be called at any time, and more than once.

        Returns:
            What could not be undone, a sentence each, with the command that does it; empty if nothing is left.
        """
        ...
