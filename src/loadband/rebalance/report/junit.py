"""A `Result` as JUnit XML: a suite for each repeat, a case for each check. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from loadband.rebalance.report import words
from loadband.rebalance.report.result import Repeat, Result
from loadband.rebalance.verdict import Check, Outcome


def text(result: Result) -> str:
    """The document. INVALID is an error, FAIL a failure: asked and found are the message, the evidence the text."""
    document = JUnitXml(f"loadband rebalance {words.shown(result.plan.scenario)}")
    for repeat in result.repeats:
        document.add_testsuite(_suite(repeat))
    document.update_statistics()
    made: bytes = document.tostring()
    return made.decode()


def _suite(repeat: Repeat) -> TestSuite:
    run = repeat.run
    suite = TestSuite(f"{words.shown(run.plan.scenario)}, repeat {repeat.number}")
    suite.timestamp = _stamp(run.at)
    for name, value in (
        ("run", run.run),
        ("platform", f"{run.platform.name} {run.platform.version}".rstrip()),
        ("rebalancer", f"{run.rebalancer.name} {run.rebalancer.version}".rstrip()),
        ("real", str(run.rebalancer.real)),
        ("loadband", run.loadband),
        ("recording", repeat.file),
        ("sentence", repeat.sentence),
    ):
        suite.add_property(name, words.shown(value))
    for check in repeat.verdict.checks:
        suite.add_testcase(_case(check, suite.name))
    return suite


def _case(check: Check, suite: str) -> TestCase:
    case = TestCase(words.shown(f"{check.kind}: {words.title(check.name)}"), classname=f"loadband.rebalance.{suite}")
    if check.outcome is not Outcome.PASS:
        message = words.shown(f"asked {check.asked}, found {check.found}")
        outcome = (Error if check.outcome is Outcome.INVALID else Failure)(message, str(check.outcome))
        outcome.text = words.shown(check.evidence)
        case.result = [outcome]
    return case


def _stamp(at: float) -> str:
    """ISO 8601, as JUnit wants it; empty for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return ""
