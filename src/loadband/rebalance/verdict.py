"""From figures and limits to PASS, FAIL or INVALID, with every reason and its evidence. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.StrEnum):
    """What a run says."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    INVALID = "INVALID"
    """The run proves nothing."""


class CheckKind(enum.StrEnum):
    """What a check is about."""

    VALIDITY = "validity"
    """Whether the run proves anything: PASS or INVALID."""
    EXPECTATION = "expectation"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked."""

    kind: CheckKind
    name: str
    """Of a limit: the figure's. Else a short one: `load fidelity`, `foreign load`, `balance came back`."""
    outcome: Outcome
    asked: str
    """For people: `<= 20 s`, `at least 90 %`."""
    found: str
    """For people: `14.2 s`, `> 60 s`, `yes 38 % of host-a (pid 4711)`."""
    evidence: str = ""
    """One sentence with the places in the recording: hosts, times, processes."""
    margin: float | None = None
    """How much was left until the outcome would have been another, in the figure's unit; negative if it broke."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, and everything that was checked."""

    outcome: Outcome
    sentence: str
    """One, for people: what happened, and what decided."""
    checks: tuple[Check, ...]
    """Validity first, then expectation, then limits; all of them, whatever the outcome."""
