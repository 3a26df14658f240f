"""Troubles that begin and end: told when they have lasted for some time, and again when they are over. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from loadband.rebalance.events import Disturbance, Trouble


@dataclass(slots=True)
class _Open:
    """A trouble that isn't over."""

    told: Disturbance
    is_told: bool = False


class Troubles:
    """What is wrong now; times are seconds since the epoch.

    Args:
        patience: seconds that a trouble may last until it is told.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._open: dict[tuple[Trouble, str, str], _Open] = {}

    def update(
        self, at: float, what: Trouble, now: Iterable[tuple[str, str, str]], since: float | None = None
    ) -> list[Disturbance]:
        """Take all that is wrong of one kind; what isn't among it any more is over.

        Args:
            at: when that was found.
            what: the kind.
            now: of each trouble the host, who it is about, and the detail.
            since: when it began, if that is known to be earlier.

        Returns:
            What is to be recorded: a begin without an end, or the same with its end.
        """
        found: list[Disturbance] = []
        wrong = {(what, host, who): detail for host, who, detail in now}
        for key, detail in wrong.items():
            _, host, who = key
            begin = at if since is None else since
            one = self._open.setdefault(key, _Open(Disturbance(at=begin, what=what, host=host, who=who, detail=detail)))
            if not one.is_told and at >= one.told.at + self._patience:
                one.is_told = True
                found.append(one.told)
        for key in [key for key in self._open if key[0] is what and key not in wrong]:
            one = self._open.pop(key)
            if one.is_told:
                over = f"{one.told.detail} (over after {at - one.told.at:.0f} s)"
                found.append(replace(one.told, until=at, detail=over))
        return found
