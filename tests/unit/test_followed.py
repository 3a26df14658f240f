"""What a recording of a platform that was only followed says, and what it can't say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from recordings import MOVER, PLAN, Scene

from loadband.rebalance.events import (
    Alert,
    AlertState,
    Disturbance,
    End,
    EndReason,
    Event,
    Expectation,
    Host,
    Part,
    Phase,
    Real,
    Recording,
    Slice,
    Subject,
    Trouble,
)
from loadband.rebalance.figures import DEFINITIONS, NEEDS_A_RUN, Figure, measure, shown
from loadband.rebalance.report.directory import files_of
from loadband.rebalance.report.evaluation import evaluate
from loadband.rebalance.timeline import Timeline
from loadband.rebalance.verdict import Check, Outcome, Verdict, judge

ANYBODY = Part(name="whoever moves something", real=Real.REAL)
LIMITS = {"alert_to_move": "<= 5s", "moves": "<= 2", "thrash": "== 0"}


def scene() -> Scene:
    """Host a gets hot at 20 s, its alert fires at 34.5 s, and at 36 s a slice of it is moved to b."""
    made = Scene()
    for number in range(1, 5):
        made.slice(f"a{number}", "a", 0.5)
        made.slice(f"b{number}", "b", 0.3)
        made.ask(20.0, f"a{number}", 0.9)
    made.alert(pending=24.5, firing=34.5, notified=34.6, resolved=39.5)
    made.move(36.0, "a1", "b")
    return made


def followed(
    made: Scene | None = None,
    *,
    expect: Expectation = Expectation.NOTHING,
    limits: Mapping[str, str] = LIMITS,
    actors: tuple[str, ...] = (),
    more: tuple[Event, ...] = (),
) -> Recording:
    """What following would have recorded of a scene: no phases, no slices, only the hosts' counters."""
    recording = (made or scene()).record()
    plan = replace(PLAN, expect=expect, limits=limits, hot_hosts=())
    events = [
        event
        for event in recording.events
        if not isinstance(event, (Phase, Slice)) and getattr(event, "subject", Subject.HOST) is Subject.HOST
    ]
    events = [event for event in events if getattr(event, "state", None) is not AlertState.NOTIFIED]
    run = replace(recording.run, plan=plan, followed=True, rebalancer=replace(ANYBODY, actors=actors))
    return Recording(run, (*events, *more))


def verdict_of(recording: Recording) -> Verdict:
    return judge(recording, measure(recording))


def invalid(recording: Recording) -> Check:
    """The one check that makes it INVALID."""
    verdict = verdict_of(recording)
    assert verdict.outcome is Outcome.INVALID
    (found,) = [check for check in verdict.checks if check.outcome is Outcome.INVALID]
    return found


def figure(recording: Recording, name: str) -> Figure:
    return measure(recording)[name]


def test_limits_alone_decide() -> None:
    verdict = verdict_of(followed())
    assert verdict.outcome is Outcome.PASS
    assert verdict.sentence == (
        "PASS: in the 100 s watched every limit was kept: alert to move 1.5 s (limit <= 5 s), moves 1 (limit <= 2), "
        "and 1 more figure."
    )
    broken = verdict_of(followed(limits={**LIMITS, "alert_to_move": "<= 1s"}))
    assert (broken.outcome, broken.sentence) == (Outcome.FAIL, "FAIL: alert to move: 1.5 s (limit <= 1 s).")


@pytest.mark.parametrize("name", sorted(NEEDS_A_RUN))
def test_what_needs_an_overload_of_ours_is_not_measured_and_a_limit_on_it_proves_nothing(name: str) -> None:
    found = figure(followed(), name)
    assert found.value is None
    assert found.missing.startswith("the platform was only followed, so ")
    check = invalid(followed(limits={name: "<= 1"}))
    assert (check.name, check.found) == (name, "not known")


def test_everything_else_has_a_value() -> None:
    found = measure(followed())
    assert {name for name, each in found.items() if each.value is None} - NEEDS_A_RUN == set()
    assert list(found) == list(DEFINITIONS)


def test_shares_of_time_and_means_are_of_the_whole_recording() -> None:
    recording = followed()
    times = [at for at in Timeline(recording).moments if at - recording.run.at >= PLAN.window]
    known = times[-1] - times[0] + PLAN.sample_interval  # the first of them says how it was since the one before
    assert figure(recording, "overload_time_fraction").based_on.endswith(f"s of {known:.1f} s")
    assert figure(recording, "imbalance_time_fraction").based_on.endswith(f"s of {known:.1f} s")
    assert " from the begin to 100.0 s" in figure(recording, "spread").based_on


def test_no_alert_no_move_can_be_judged_and_balance_cannot() -> None:
    quiet = Scene()
    quiet.slice("a1", "a", 0.5)
    for expect in (Expectation.NO_ALERT, Expectation.NO_MOVE):
        assert verdict_of(followed(quiet, expect=expect, limits={})).outcome is Outcome.PASS
        assert verdict_of(followed(expect=expect, limits={})).outcome is Outcome.FAIL
    check = invalid(followed(expect=Expectation.BALANCE))
    assert (check.name, check.found) == ("overload", "none was made")
    assert "isn't known" in check.evidence


def test_without_an_expectation_and_limits_there_is_no_verdict() -> None:
    assert invalid(followed(limits={})).name == "something to judge"


def test_the_slowest_alert_counts_and_one_without_a_move_is_larger_than_any_limit() -> None:
    more = (
        Alert(at=followed().run.at + 50.0, state=AlertState.FIRING, name=PLAN.alert, host="b"),
        Alert(at=followed().run.at + 60.0, state=AlertState.RESOLVED, name=PLAN.alert, host="b"),
    )
    recording = followed(more=more)
    found = figure(recording, "alert_to_move")
    assert shown(found) == "> 10 s"
    assert found.based_on == "1 of 2 alerts had a move; the slowest about b fired at 50.0 s"
    assert verdict_of(recording).outcome is Outcome.FAIL
    assert shown(figure(recording, "alert_to_resolved")) == "10 s"
    assert shown(figure(followed(more=more[:1]), "alert_to_resolved")) == "> 50 s"
    assert figure(followed(Scene()), "alert_to_move").missing == "LoadbandHostHot didn't fire"


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (Trouble.MONITORING_DOWN, "monitoring"),
        (Trouble.SCRAPE_FAILED, "scrapes"),
        (Trouble.HOST_NOT_READY, "hosts"),
        (Trouble.CLOCK_STEPPED, "clocks steady"),
    ],
)
def test_a_gap_proves_nothing_and_what_is_told_of_it_later_replaces_what_was_told_first(
    what: Trouble, name: str
) -> None:
    at = followed().run.at + 50.0
    first = Disturbance(at=at, what=what, who="prometheus", detail="no answer")
    later = replace(first, until=at + 8.0, detail="no answer for 8 s")
    recording = followed(more=(first, later))
    check = invalid(recording)
    assert check.name == name
    assert "no answer for 8 s" in check.evidence
    assert Timeline(recording).disturbances == [later]


def test_what_breaks_off_proves_nothing_and_has_its_figures() -> None:
    whole = followed()
    cut = Recording(whole.run, tuple(event for event in whole.events if not isinstance(event, End)))
    check = invalid(cut)
    assert (check.name, check.evidence) == ("complete", "the recording breaks off at 100.0 s")
    assert shown(figure(cut, "alert_to_move")) == "1.5 s"


def test_moves_of_anybody_count_unless_somebody_is_named() -> None:
    assert verdict_of(followed(actors=MOVER.actors)).outcome is Outcome.PASS
    check = invalid(followed(actors=("sigs.k8s.io/descheduler: LowNodeUtilization",)))
    assert (check.name, check.found) == ("moves of others", "by mover")


def test_an_alert_that_nobody_watches_counts_only_where_the_verdict_depends_on_it() -> None:
    whole = followed(limits={"moves": "<= 2"})
    assert verdict_of(Recording(replace(whole.run, timing=None), whole.events)).outcome is Outcome.PASS
    whole = followed()
    assert invalid(Recording(replace(whole.run, timing=None), whole.events)).name == "alert watched"


def test_a_report_says_that_it_was_only_followed() -> None:
    result = evaluate("day", {"recording-1.jsonl": followed()})
    page = files_of(result)["report.html"]
    assert "It made no load and changed nothing" in page
    assert "the recording begins" in page
    assert "loadband overloads" not in page


def test_a_host_that_goes_is_no_trouble() -> None:
    whole = followed()
    at = whole.run.at + 60.0
    events = [each for each in whole.events if not (getattr(each, "name", "") == "b" and each.at > at)]
    events += [Host(at=at, name="b", cpus=4.0, present=False)]
    assert verdict_of(Recording(whole.run, tuple(events))).outcome is Outcome.PASS
    assert any(isinstance(each, End) and each.reason is EndReason.COMPLETE for each in events)
