"""From looks at hosts to the moves of everybody's guests. Pure.

A guest is known by its UUID, and has moved when it runs on another host than before. While it migrates live it is on
both: paused at the destination, until the source has let it go. One that is stopped on a host and started on another
has moved, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from loadband.rebalance.events import Event, Move, MoveState

SOMEBODY = "somebody who moved the guest"
"""Libvirt doesn't say who."""
FORGOTTEN_AFTER = 600.0
"""Seconds without running anywhere after which a guest counts as a new one."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found on a host; times are seconds since the epoch."""

    began: float
    """When the daemon was asked."""
    at: float
    """When it had answered."""
    host: str
    guests: Mapping[str, str]
    """The names of those that are active there, by UUID."""
    running: Collection[str]
    """The UUIDs of those that have begun to run there; others are paused, or on their way."""


@dataclass(slots=True)
class _Guest:
    """A guest, and where it is."""

    slice: str
    """What it is called in the recording."""
    host: str
    """Where it ran last."""
    since: float
    """When it was first found there."""
    left: float | None = None
    """When it wasn't found there any more."""
    coming: Move | None = None
    """How its migration was recorded that isn't over."""


class Whereabouts:
    """Keeps where everybody's guests are.

    Args:
        patterns: of the names of those that are followed, as shells have them; none: all.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = tuple(patterns)
        self._guests: dict[str, _Guest] = {}
        """By UUID."""
        self._count = 0

    def take(self, look: Look) -> list[Event]:
        """Take a look at a host; gives the moves that it shows."""
        found: list[Event] = []
        for uuid, name in look.guests.items():
            if self._is_followed(name):
                found += self._is_there(look, uuid, name)
        for uuid, guest in list(self._guests.items()):
            if uuid not in look.guests:
                found += self._is_not_there(look, guest)
            if guest.left is not None and look.at > guest.left + FORGOTTEN_AFTER:
                del self._guests[uuid]
        return found

    def _is_followed(self, name: str) -> bool:
        return not self._patterns or any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def _is_there(self, look: Look, uuid: str, name: str) -> list[Event]:
        runs = uuid in look.running
        guest = self._guests.get(uuid)
        if guest is None:
            if runs:
                self._guests[uuid] = _Guest(self._named(name, uuid), look.host, look.at)
            return []
        if guest.host == look.host:
            guest.left = None
            return []
        if look.began < guest.since:
            return []  # it was still here when the daemon was asked, and has been found elsewhere meanwhile
        if not runs:
            return [] if guest.coming is not None else [self._comes(look, guest)]
        return self._has_moved(look, guest)

    def _is_not_there(self, look: Look, guest: _Guest) -> list[Event]:
        if guest.host == look.host:
            if guest.left is None and look.began >= guest.since:
                guest.left = look.at
            return []
        move = guest.coming
        if move is None or move.destination != look.host:
            return []
        guest.coming = None
        why = f"the migration to {look.host} was given up"
        return [replace(move, at=look.at, state=MoveState.FAILED, reason=why)]

    def _comes(self, look: Look, guest: _Guest) -> Move:
        """A guest that runs elsewhere is being received here."""
        guest.coming = self._begun(look, guest, look.at)
        return guest.coming

    def _has_moved(self, look: Look, guest: _Guest) -> list[Event]:
        found: list[Event] = []
        move = guest.coming
        if move is not None and move.destination != look.host:
            found.append(replace(move, at=look.at, state=MoveState.FAILED, reason=f"it runs on {look.host} instead"))
            move = None
        seen = move is not None or guest.left is not None
        if move is None:
            move = self._begun(look, guest, look.at if guest.left is None else guest.left)
            found.append(move)
        found.append(replace(move, at=look.at, state=MoveState.DONE, seconds=look.at - move.at if seen else None))
        guest.host, guest.since, guest.left, guest.coming = look.host, look.at, None, None
        return found

    def _begun(self, look: Look, guest: _Guest, at: float) -> Move:
        self._count += 1
        return Move(
            at=at,
            move=f"move-{self._count}",
            state=MoveState.ACCEPTED,
            slice=guest.slice,
            source=guest.host,
            destination=look.host,
            by=SOMEBODY,
        )

    def _named(self, name: str, uuid: str) -> str:
        """What a guest is called: by its name, unless another one has that, on another host."""
        taken = {guest.slice for guest in self._guests.values()}
        return f"{name} ({uuid})" if name in taken else name
