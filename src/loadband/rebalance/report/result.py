"""What every page, table and file of a report shows: the repeats of a run, judged. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadband.rebalance.events import Plan, Run
from loadband.rebalance.figures import Figures, Summary
from loadband.rebalance.report.picture import Picture
from loadband.rebalance.verdict import Check, CheckKind, Outcome, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """One run of the scenario."""

    number: int
    """From 1, as the recording says."""
    file: str
    """The recording's name, without its directory."""
    run: Run
    figures: Figures
    verdict: Verdict
    picture: Picture
    ending: str
    """How the recording ended, for people: `complete`, `interrupted: Ctrl-C`."""
    remarks: tuple[str, ...]
    """What the reader left out of the file."""

    @property
    def outcome(self) -> Outcome:
        """The verdict's."""
        return self.verdict.outcome

    @property
    def sentence(self) -> str:
        """What happened and what decided; the outcome itself isn't said again."""
        return told(self.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All repeats of a scenario on one platform with one rebalancer."""

    name: str
    """The directory's, without its parents."""
    repeats: tuple[Repeat, ...]
    """At least one, by their number."""
    summaries: Mapping[str, Summary]
    """By figure, over the repeats in `counted`."""
    counted: tuple[int, ...]
    """Numbers of the repeats that the summaries cover: those that aren't INVALID, or all if each one is."""
    verdict: Verdict
    """On all repeats: INVALID if one of them is or is missing, else FAIL if one is, else PASS."""

    @property
    def outcome(self) -> Outcome:
        """The verdict's."""
        return self.verdict.outcome

    @property
    def sentence(self) -> str:
        """What happened and what decided; the outcome itself isn't said again."""
        return told(self.verdict)

    @property
    def run(self) -> Run:
        """The first repeat's: what was asked, and of whom, is the same for all."""
        return self.repeats[0].run

    @property
    def plan(self) -> Plan:
        """What was asked."""
        return self.run.plan

    @property
    def deciding(self) -> Repeat:
        """The first repeat with the worst outcome: the one to look at first."""
        return min(self.repeats, key=lambda repeat: WORST_FIRST.index(repeat.outcome))

    @property
    def checks(self) -> tuple[tuple[CheckKind, str], ...]:
        """Kind and name of everything that was checked in any repeat, in order."""
        names = dict.fromkeys((check.kind, check.name) for repeat in self.repeats for check in repeat.verdict.checks)
        order = list(CheckKind)
        return tuple(sorted(names, key=lambda key: order.index(key[0])))

    def check(self, kind: CheckKind, name: str) -> tuple[Check | None, ...]:
        """What one check found in each repeat; None where it wasn't made."""
        return tuple(
            next((check for check in repeat.verdict.checks if (check.kind, check.name) == (kind, name)), None)
            for repeat in self.repeats
        )


WORST_FIRST = (Outcome.INVALID, Outcome.FAIL, Outcome.PASS)


_ORDINARY = frozenset({"the", "nothing", "balance", "all", "time", "no", "moves", "failed", "residual", "overload"})
"""Words that a sentence may begin with and that are hardly names: those keep their first letter as it is."""


def told(verdict: Verdict) -> str:
    """A verdict's sentence without the outcome that it begins with, for where that stands beside it."""
    said = verdict.sentence.removeprefix(f"{verdict.outcome}: ")
    first = said.partition(" ")[0]
    return f"{first.capitalize()}{said[len(first) :]}" if first in _ORDINARY else said


def worst(checks: Sequence[Check]) -> Outcome | None:
    """The worst outcome of some checks; None without a check."""
    return next((one for one in WORST_FIRST if any(check.outcome is one for check in checks)), None)
