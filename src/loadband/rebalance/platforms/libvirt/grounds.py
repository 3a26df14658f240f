"""What the platform libvirt needs of the hosts on which it stands: their daemons, and what they and the guests burn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loadband.rebalance.events import Event, Host
from loadband.rebalance.platforms import HostView, Target
from loadband.rebalance.platforms.libvirt.node import Node
from loadband.rebalance.platforms.machine import Cpus


@dataclass(frozen=True, slots=True)
class Count:
    """What a guest has used on a host."""

    at: float
    """Seconds since the epoch."""
    monotonic: float
    """The same, monotonic seconds."""
    cpu_seconds: float
    """Since it came there."""


@dataclass(frozen=True, slots=True)
class Makings:
    """What a guest is made from on a host."""

    image: str
    """The path of the disk."""
    console: str
    """The path of a file for what it prints; empty: none."""
    accelerator: str
    """libvirt's type of the domain."""
    ends_itself: bool
    """See `guests.Seed`."""


class Ground(Protocol):
    """Hosts with libvirt daemons."""

    def settings(self) -> Mapping[str, str]:
        """What it is, for the report."""
        ...

    def hosts(self) -> Sequence[Host]:
        """See `Platform`."""
        ...

    def start(self) -> Sequence[Event]:
        """Start or reach the daemons.

        Raises:
            PlatformError: that can't be done.
        """
        ...

    def nodes(self) -> Mapping[str, Node]:
        """By host, its daemon; after `start`."""
        ...

    def targets(self) -> Sequence[Target]:
        """See `Platform`."""
        ...

    def watch(self, programs: Mapping[str, int]) -> None:
        """See `Platform`."""
        ...

    def views(self, window: float | None = None) -> tuple[HostView, ...]:
        """What a rebalancer may know of the hosts, or the same over a shorter window, seconds."""
        ...

    def makings(self, domain: str) -> Makings:
        """What a guest is made from."""
        ...

    def adopt(self, domain: str) -> None:
        """Count a guest that was there already as part of the run."""
        ...

    def cpus(self, host: str) -> Cpus | None:
        """The CPUs that are a host; None: all of the machine."""
        ...

    def migration(self, move: str) -> Mapping[str, str]:
        """VIR_MIGRATE_PARAM_* for a move."""
        ...

    def count(self, host: str, domain: str) -> Count | None:
        """What a guest has used on a host, as fresh as can be had without waiting; None if that isn't known."""
        ...

    def sample(self) -> Sequence[Event]:
        """Samples of the hosts and of programs of the run; foreign load."""
        ...

    def check(self) -> Sequence[Event]:
        """What became of the daemons; each event once.

        Raises:
            PlatformError: the hosts can't be measured any more.
        """
        ...

    def close(self, left: Sequence[str]) -> Sequence[str]:
        """Undo what `start` did; see `Platform`. The nodes are closed already.

        Args:
            left: the guests that they couldn't end, a sentence each; part of the answer, unless they end now.
        """
        ...
