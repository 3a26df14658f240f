"""Verdicts: the tables of docs/rebalance/verdict.md, each row of them tried."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import CASES, CPUS, EPOCH, MOVER, PLAN, TIMING, Scene, good, noticed, overloaded

from loadband.rebalance.events import (
    Alert,
    AlertState,
    Disturbance,
    EndReason,
    Event,
    Expectation,
    Move,
    MoveState,
    Part,
    Phase,
    PhaseName,
    Plan,
    Recording,
    Sample,
    Subject,
    Timing,
    Trigger,
    Trouble,
)
from loadband.rebalance.figures import DEFINITIONS, Figure, measure
from loadband.rebalance.verdict import Check, CheckKind, Outcome, Verdict, judge, overall, parse_limit

PAGE = Path(__file__).parents[2] / "docs/rebalance/verdict.md"
PLANNER = replace(MOVER, trigger=Trigger.LOOK)
"""A rebalancer that looks by itself."""


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def verdict_of(recording: Recording) -> Verdict:
    return judge(recording, measure(recording))


def checks_of(recording: Recording) -> dict[str, Check]:
    return {check.name: check for check in verdict_of(recording).checks}


# The truth table

LIMITS = {
    "kept": {"failed_moves": "== 0"},
    "broken": {"failed_moves": ">= 1"},
    "one not measured": {"pending_to_firing": "<= 60m", "failed_moves": "== 0"},
}


def played(
    expect: Expectation, *, as_expected: bool, limits: str, sound: bool, trigger: Trigger = Trigger.ALERT
) -> Recording:
    """A run in which that is so; who looks by itself moves before the alert fires."""
    plan = replace(PLAN, expect=expect, limits=LIMITS[limits])
    scene = overloaded(plan, rebalancer=replace(MOVER, trigger=trigger))
    if expect is Expectation.NO_ALERT and as_expected:
        for number in range(1, 5):
            scene.ask(29.0, f"a{number}", 0.5)  # over before the alert is due
    else:
        scene.alert(pending=None if limits == "one not measured" else 24.5, firing=34.5, notified=34.6, resolved=39.5)
    if as_expected is (expect is Expectation.BALANCE):
        scene.move(28.0 if trigger is Trigger.LOOK else 35.0, "a1", "b", takes=7.0)
    if not sound:
        scene.stop(EndReason.INTERRUPTED, 99.0)
    return scene.record()


def cells() -> Iterator[tuple[str, str, str, str, str]]:
    """The truth table with `any` written out."""
    choices = [[*Expectation], ["yes", "no"], [*LIMITS], ["yes", "no"]]
    for row in rows("The table"):
        for values in itertools.product(
            *([value] if value != "any" else choices[k] for k, value in enumerate(row[:4]))
        ):
            yield (*values, row[4])


def test_the_table_has_every_combination_once() -> None:
    found = [row[:4] for row in cells()]
    assert sorted(found) == sorted(itertools.product([*Expectation], ["yes", "no"], [*LIMITS], ["yes", "no"]))


@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize(("expect", "as_expected", "limits", "sound", "outcome"), list(cells()))
def test_the_truth_table(
    expect: str, as_expected: str, limits: str, sound: str, outcome: str, trigger: Trigger
) -> None:
    recording = played(
        Expectation(expect), as_expected=as_expected == "yes", limits=limits, sound=sound == "yes", trigger=trigger
    )
    verdict = verdict_of(recording)
    assert verdict.outcome == outcome
    assert verdict.sentence.startswith(f"{outcome}: ")


# What makes a run INVALID


def spoiled(spoil: Callable[[Scene], object], scene: Scene | None = None) -> Recording:
    """The story that goes well, with one thing spoiled."""
    scene = noticed() if scene is None else scene
    scene.move(35.0, "a1", "b")
    spoil(scene)
    return scene.record()


def without_alerts(recording: Recording) -> Recording:
    return replace(recording, events=tuple(event for event in recording.events if not isinstance(event, Alert)))


def cool() -> Recording:
    return CASES["never_hot"]()


def evenly_hot() -> Recording:
    """Both hosts are at 90 %."""
    scene = noticed()
    for number in range(1, 5):
        scene.ask(20.0, f"b{number}", 0.9)
    scene.move(35.0, "a1", "b")
    return scene.record()


def early(pending: float, firing: float, timing: Timing = TIMING) -> Recording:
    """As `good`, with an alert at other times."""
    scene = overloaded(timing=timing)
    scene.alert(pending=pending, firing=firing, notified=firing + 0.1, resolved=39.5)
    scene.move(35.0, "a1", "b")
    return scene.record()


def empty() -> Recording:
    """The hosts are loaded by programs of the run; there is no slice."""
    scene = Scene(plan=replace(PLAN, most_own=1.0))
    scene.use(Subject.OWN, "stress", "a", 2.0, until=20.0)
    scene.use(Subject.OWN, "stress", "a", 3.6, at=20.0)
    scene.alert(pending=24.5, firing=34.5)
    return scene.record()


def altered(recording: Recording, alter: Callable[[Event], Event]) -> Recording:
    """With each event as it is made of it."""
    return replace(recording, events=tuple(map(alter, recording.events)))


def jumped(recording: Recording) -> Recording:
    """The counter of b is ahead by 392 CPU-seconds from 50 s on."""

    def ahead(event: Event) -> Event:
        if isinstance(event, Sample) and event.name == "b" and event.at >= EPOCH + 50.0:
            return replace(event, cpu_seconds=event.cpu_seconds + 392.0)
        return event

    return altered(recording, ahead)


def end_early(scene: Scene) -> None:
    """Less is asked for just after the move began."""
    for number in range(1, 5):
        scene.ask(36.0, f"a{number}", 0.6)


def starve(scene: Scene) -> None:
    """After the move, those on a and a1 on b do less than they are asked to."""
    for number in range(1, 5):
        scene.ask(60.0, f"a{number}", 0.9, gets=0.52)


SPOILED: dict[str, Callable[[], Recording]] = {
    "complete": lambda: spoiled(lambda scene: scene.stop(EndReason.INTERRUPTED, 99.0)),
    "monitoring": lambda: spoiled(
        lambda scene: scene.trouble(30.0, Trouble.MONITORING_DOWN, who="prometheus", detail="it doesn't answer")
    ),
    "alert watched": lambda: spoiled(lambda _: None, noticed(timing=None)),
    "clocks together": lambda: spoiled(lambda _: None, noticed(offsets={"b": 1.5})),
    "clocks steady": lambda: spoiled(lambda scene: scene.step(36.0, "b", 0.4)),
    "samples": lambda: spoiled(lambda scene: scene.lose("b", 50.0, 54.0)),
    "counters": lambda: jumped(good()),
    "scrapes": lambda: spoiled(lambda scene: scene.trouble(30.0, Trouble.SCRAPE_FAILED, host="a")),
    "foreign load": lambda: spoiled(
        lambda scene: scene.use(Subject.FOREIGN, "backup (pid 4711)", "b", 0.4, at=50.0, until=54.0)
    ),
    "own programs": lambda: spoiled(lambda scene: scene.use(Subject.OWN, "prometheus", "b", 0.6, at=50.0, until=54.0)),
    "moves of others": CASES["foreign_move"],
    "same hosts": lambda: spoiled(lambda scene: scene.comes(36.0, "a", 8.0)),
    "rebalancer": lambda: spoiled(
        lambda scene: scene.trouble(30.0, Trouble.REBALANCER_DOWN, who="mover", detail="it failed")
    ),
    "hosts": lambda: spoiled(lambda scene: scene.trouble(30.0, Trouble.HOST_NOT_READY, host="b")),
    "slices": lambda: spoiled(lambda scene: scene.trouble(30.0, Trouble.SLICE_DIED, host="b", who="b2")),
    "something to move": empty,
    "load fidelity": CASES["unfaithful"],
    "overload stood": cool,
    "calm before the overload": lambda: early(1.0, 5.0),
    "imbalance stood": evenly_hot,
    "overload lasted": lambda: spoiled(end_early),
    "work at the end": lambda: spoiled(starve),
    "alert when due": lambda: without_alerts(CASES["unmovable"]()),
}
"""By check, a run that is spoiled by that."""
TOGETHER = {"something to move": {"load fidelity"}}
"""By check, others that can't be right if it isn't."""


def invalid(recording: Recording) -> set[str]:
    checks = verdict_of(recording).checks
    return {each.name for each in checks if each.kind is CheckKind.VALIDITY and each.outcome is not Outcome.PASS}


@pytest.mark.parametrize(("name", "example"), [(row[0], row[2]) for row in rows("What makes a run INVALID")])
def test_what_spoils_a_run_makes_it_invalid_and_nothing_else_does(name: str, example: str) -> None:
    recording = SPOILED[name]()
    assert invalid(recording) == {name} | TOGETHER.get(name, set())
    verdict = verdict_of(recording)
    assert verdict.outcome is Outcome.INVALID
    check = checks_of(recording)[name]
    assert (check.outcome, check.evidence) == (Outcome.INVALID, example)
    assert verdict.sentence.startswith(f"INVALID: the run proves nothing: {example}")
    assert check.margin is None or check.margin <= 0


def test_a_rebalancer_that_is_faster_than_the_window_is_named_where_nothing_was_left_to_balance() -> None:
    scene = noticed()
    scene.slice("tiny", "a", 0.1)
    for number in range(1, 5):
        scene.ask(20.0, f"b{number}", 0.9)
    scene.move(22.0, "tiny", "b")
    recording = scene.record()
    assert invalid(recording) == {"imbalance stood"}
    assert checks_of(recording)["imbalance stood"].evidence.endswith("; tiny had left a at 21.8 s")


def test_a_rebalancer_that_is_faster_than_the_overload_is_named_where_none_ever_stood() -> None:
    scene = noticed()
    scene.move(21.0, "a1", "b")
    recording = scene.record()
    assert "overload stood" in invalid(recording)
    assert checks_of(recording)["overload stood"].evidence.endswith("; a1 had left a at 20.8 s")


def test_a_control_whose_alert_never_fired_proves_nothing() -> None:
    recording = CASES["unmovable"]()
    assert verdict_of(recording).outcome is Outcome.PASS
    assert invalid(without_alerts(recording)) == {"alert when due"}


@pytest.mark.parametrize("case", ["short_burst", "unmovable", "symmetric", "good"])
def test_without_monitoring_nothing_is_proven(case: str) -> None:
    recording = CASES[case]()
    blind = replace(recording, run=replace(recording.run, timing=None, monitoring=()))
    assert invalid(blind) == {"alert watched"}


def test_a_recording_that_does_not_say_when_the_overload_began_proves_nothing() -> None:
    recording = good()
    events = tuple(event for event in recording.events if not isinstance(event, Phase))
    assert "complete" in invalid(replace(recording, events=events))


def test_the_page_has_all_reasons_and_those_of_a_good_run_are_none() -> None:
    names = [check.name for check in verdict_of(good()).checks if check.kind is CheckKind.VALIDITY]
    assert [*names, "alert when due"] == [row[0] for row in rows("What makes a run INVALID")]
    assert "alert when due" in checks_of(CASES["unmovable"]())
    assert invalid(good()) == set()
    assert verdict_of(good()).outcome is Outcome.PASS


def says(recording: Recording, *, counts_others: bool | None) -> Recording:
    """The same, by a platform that says this of itself."""
    platform = replace(recording.run.platform, counts_others=counts_others)
    return replace(recording, run=replace(recording.run, platform=platform))


@pytest.mark.parametrize("counts_others", [None, False])
@pytest.mark.parametrize("case", ["good", "short_burst", "unmovable", "symmetric"])
def test_that_nobody_was_looked_at_is_not_that_nobody_burned(case: str, *, counts_others: bool | None) -> None:
    recording = says(CASES[case](), counts_others=counts_others)
    assert verdict_of(CASES[case]()).outcome is Outcome.PASS
    assert invalid(recording) == {"foreign load", "own programs"}
    assert "the platform doesn't say that it counts what others" in verdict_of(recording).sentence


def test_an_older_recording_shows_by_its_samples_that_others_were_counted() -> None:
    scene = noticed()
    scene.use(Subject.OWN, "prometheus", "b", 0.1)
    scene.move(35.0, "a1", "b")
    assert invalid(says(scene.record(), counts_others=None)) == set()
    assert invalid(says(scene.record(), counts_others=False)) == {"foreign load", "own programs"}


def hot_late() -> Recording:
    """The alert fires and a slice is moved; only then does the host become hot, and is relieved."""
    scene = overloaded()
    for number in range(1, 5):
        scene.ask(20.0, f"a{number}", 0.6)
        scene.ask(40.0, f"a{number}", 0.98)
    scene.slice("tiny", "a", 0.1)
    scene.alert(pending=21.0, firing=23.0, notified=23.1, resolved=50.0)
    scene.move(24.0, "tiny", "b")
    scene.move(50.0, "a1", "b")
    return scene.record()


@pytest.mark.parametrize(
    ("recording", "evidence"),
    [
        (early(15.0, 25.0), "LoadbandHostHot was pending since 15.0 s, before the overload"),
        (
            early(20.5, 25.0, replace(TIMING, alert_for=12.0)),
            "LoadbandHostHot fired at 25.0 s, 1 s after a host was hot: sooner than its rule can",
        ),
        (hot_late(), "LoadbandHostHot fired at 23.0 s, 20 s before a host was hot: sooner than its rule can"),
    ],
)
def test_an_alert_that_has_begun_before_its_cause_proves_nothing(recording: Recording, evidence: str) -> None:
    assert invalid(recording) == {"calm before the overload"}
    assert checks_of(recording)["calm before the overload"].evidence == evidence


def test_a_slice_that_goes_to_nowhere_proves_nothing() -> None:
    lost = altered(good(), lambda event: replace(event, destination="zzz") if isinstance(event, Move) else event)
    assert invalid(lost) == {"same hosts"}
    assert checks_of(lost)["same hosts"].evidence == "a1 was moved to zzz, which isn't a host of this run"


@pytest.mark.parametrize("host", ["a", "c"])
def test_only_a_host_with_slices_must_stay(host: str) -> None:
    scene = noticed(hosts={"a": CPUS, "b": CPUS, "c": CPUS})
    scene.move(35.0, "a1", "b")
    scene.goes(60.0, host)
    assert ("same hosts" in invalid(scene.record())) is (host == "a")


@pytest.mark.parametrize("trouble", [Trouble.MONITORING_DOWN, Trouble.REBALANCER_DOWN, Trouble.HOST_NOT_READY])
def test_what_is_not_known_to_be_over_goes_on(trouble: Trouble) -> None:
    whole = spoiled(lambda scene: scene.event(Disturbance(at=5.0, what=trouble, host="b", who="x")))
    over = spoiled(lambda scene: scene.event(Disturbance(at=5.0, until=8.0, what=trouble, host="b", who="x")))
    assert len(invalid(whole)) == len(invalid(altered(whole, _later))) == 1
    assert invalid(altered(over, _later)) == set()


def _later(event: Event) -> Event:
    """The baseline begins at 10 s."""
    if isinstance(event, Phase) and event.name is PhaseName.BASELINE:
        return replace(event, at=EPOCH + 10.0)
    return event


@pytest.mark.parametrize("firing", [None, 50.0, 75.0])
def test_an_alert_that_fires_too_late_is_none_that_was_watched(firing: float | None) -> None:
    recording = without_alerts(CASES["unmovable"]())
    late = () if firing is None else (Alert(at=EPOCH + firing, state=AlertState.FIRING, name=PLAN.alert, host="a"),)
    assert invalid(replace(recording, events=(*recording.events, *late))) == {"alert when due"}


def test_a_host_that_nobody_expected_to_be_hot_is_watched_too() -> None:
    scene = overloaded(replace(PLAN, expect=Expectation.NO_MOVE, limits={}))
    scene.alert(pending=24.5, firing=34.5, notified=34.6)
    for number in range(1, 5):
        scene.ask(20.0, f"b{number}", 0.95)
    assert checks_of(scene.record())["alert when due"].evidence.startswith("b was hot for ")


# Expectations


def early_before_the_overload() -> Recording:
    scene = noticed(rebalancer=PLANNER)
    scene.move(10.0, "b1", "a")
    scene.move(35.0, "a1", "b")
    return scene.record()


def died_in_its_move() -> Recording:
    return spoiled(lambda scene: scene.trouble(36.0, Trouble.SLICE_DIED, host="a", who="a1"))


def lost_again() -> Recording:
    """Balance comes back, and then others are moved after the first."""

    def more(scene: Scene) -> None:
        for number in range(1, 4):
            scene.move(60.0, f"b{number}", "a")

    return spoiled(more)


def all_hot() -> Recording:
    """b is at 80 % before a1 comes, so that both are hot then."""
    scene = noticed(plan=replace(PLAN, theta=0.08))
    for number in range(1, 5):
        scene.ask(20.0, f"b{number}", 0.8)
    scene.slice("tiny", "a", 0.1)
    scene.move(35.0, "tiny", "b")
    return scene.record()


def needless_without_alert() -> Recording:
    return replace_plan(CASES["needless_move"](), expect=Expectation.NO_ALERT)


def fired_without_need() -> Recording:
    scene = overloaded(replace(PLAN, expect=Expectation.NO_ALERT))
    scene.alert(pending=24.5, firing=34.5)
    return scene.record()


def replace_plan(recording: Recording, **fields: object) -> Recording:
    plan: Plan = replace(recording.run.plan, **fields)  # type: ignore[arg-type] # as the caller says
    return replace(recording, run=replace(recording.run, plan=plan))


DISAPPOINTED: dict[tuple[str, str], Callable[[], Recording]] = {
    ("balance", "alert fired"): CASES["silent_alert"],
    ("balance", "moved after the alert"): CASES["early_move"],
    ("balance", "moved after the overload"): early_before_the_overload,
    ("balance", "balance came back"): CASES["lost_balance"],
    ("balance", "balance lasted"): lost_again,
    ("balance", "relieved"): all_hot,
    ("balance", "no harm"): died_in_its_move,
    ("no move", "no move"): CASES["needless_move"],
    ("no alert", "no alert"): fired_without_need,
    ("no alert", "no move"): needless_without_alert,
}


@pytest.mark.parametrize(
    ("expect", "name", "example"), [(row[0], row[1], row[3]) for row in rows("What the expectations ask")]
)
def test_a_platform_that_disappoints_fails(expect: str, name: str, example: str) -> None:
    recording = DISAPPOINTED[expect, name]()
    assert recording.run.plan.expect == expect
    verdict = verdict_of(recording)
    check = checks_of(recording)[name]
    assert (check.kind, check.outcome, check.evidence) == (CheckKind.EXPECTATION, Outcome.FAIL, example)
    assert verdict.outcome is Outcome.FAIL
    assert example in verdict.sentence


def relieved(rebalancer: Part, at: float) -> Recording:
    """A slice moves away, and the alert doesn't fire."""
    scene = overloaded(rebalancer=rebalancer)
    scene.alert(pending=24.5, dropped=at + 1.5)
    scene.move(at, "a1", "b")
    return scene.record()


def test_who_looks_by_itself_may_be_quicker_than_the_alert() -> None:
    verdict = verdict_of(relieved(PLANNER, 28.0))
    assert verdict.outcome is Outcome.PASS
    assert verdict.sentence == ("PASS: no alert fired, 1 slice moved, balance came back after 10 s (limit <= 30 s).")
    (limit,) = (check for check in verdict.checks if check.name == "time_to_alert")
    assert (limit.found, limit.evidence) == ("no alert", "time to alert: no alert fired, and mover waits for none")


def test_who_waits_for_the_alert_may_not() -> None:
    checks = checks_of(relieved(MOVER, 28.0))
    failed = {name for name, check in checks.items() if check.outcome is Outcome.FAIL}
    assert failed == {"alert fired", "moved after the alert", "time_to_alert"}


def test_who_looks_by_itself_needs_an_alert_that_would_have_fired() -> None:
    assert invalid(relieved(PLANNER, 50.0)) == {"alert when due"}


@pytest.mark.parametrize(("pending", "outcome"), [(24.5, Outcome.PASS), (44.5, Outcome.FAIL)])
def test_an_alert_that_fires_is_measured_whoever_needs_it(pending: float, outcome: Outcome) -> None:
    scene = overloaded(rebalancer=PLANNER)
    scene.alert(pending=pending, firing=pending + 10.0, notified=pending + 10.1, resolved=pending + 15.0)
    scene.move(28.0, "a1", "b", takes=7.0)
    assert checks_of(scene.record())["time_to_alert"].outcome is outcome


def test_who_looks_by_itself_has_to_move() -> None:
    scene = noticed(rebalancer=PLANNER)
    assert checks_of(scene.record())["moved after the overload"].evidence == "nothing moved in the 56 s watched"
    scene.move(35.0, "a1", "b", end=MoveState.FAILED)
    said = "1 move began, and none was done by the end of the watch"
    assert checks_of(scene.record())["moved after the overload"].evidence == said


def test_balance_that_comes_before_any_move_is_not_due_to_it() -> None:
    scene = noticed()
    for number in range(1, 5):
        scene.ask(40.0, f"a{number}", 0.3)
    scene.move(60.0, "a1", "b")
    check = checks_of(scene.record())["balance came back"]
    assert check.outcome is Outcome.FAIL
    said = "balance came back after 19 s, before a slice had left for another host: no move caused it"
    assert check.evidence == said


def test_a_slice_that_is_moved_to_where_it_was_brings_no_balance() -> None:
    scene = noticed()
    scene.move(35.0, "a1", "a")
    for number in range(1, 5):
        scene.ask(36.0, f"a{number}", 0.9, gets=0.3)
    check = checks_of(scene.record())["balance came back"]
    assert check.outcome is Outcome.FAIL
    assert check.evidence.endswith("before a slice had left for another host: no move caused it")


def test_a_move_that_failed_brings_no_balance() -> None:
    scene = noticed()
    scene.move(35.0, "a1", "b", end=MoveState.FAILED)
    scene.move(70.0, "a2", "b")
    for number in range(1, 5):
        scene.ask(40.0, f"b{number}", 0.3, gets=0.6)
    assert checks_of(scene.record())["balance came back"].outcome is Outcome.FAIL


def test_a_mover_that_is_at_it_before_the_alert_fails_in_the_baseline_too() -> None:
    scene = noticed()
    scene.move(8.0, "b1", "a")
    scene.move(14.0, "b1", "b")
    scene.move(35.0, "a1", "b")
    check = checks_of(scene.record())["moved after the alert"]
    assert check.outcome is Outcome.FAIL
    assert check.evidence == "b1 was moved at 8.0 s, 26.5 s before the alert fired: the alert didn't cause it"


@pytest.mark.parametrize(("at", "outcome"), [(50.0, Outcome.FAIL), (78.0, Outcome.PASS)])
def test_slices_that_leave_and_never_come_are_harmed(at: float, outcome: Outcome) -> None:
    scene = noticed()
    scene.move(35.0, "a1", "b")
    for name in ("a2", "b2"):
        scene.move(at, name, "b" if name == "a2" else "a", takes=100.0, end=None)
        scene.ask(at, name, 0.9 if name == "a2" else 0.3, gets=0.0)
    check = checks_of(scene.record())["no harm"]
    assert check.outcome is outcome
    if outcome is Outcome.FAIL:
        said = "a2, b2 had left by 49.8 s, and did less than 75 % of the work at the end of the watch"
        assert (check.found, check.evidence) == ("2 slices away", said)


def test_a_slice_that_stops_working_after_its_move_is_no_relief() -> None:
    scene = noticed()
    scene.move(35.0, "a1", "b")
    for number in range(1, 5):
        scene.ask(37.0, f"a{number}", 0.9, gets=0.0)
        scene.ask(37.0, f"b{number}", 0.3, gets=0.0)
    assert invalid(scene.record()) == {"work at the end"}


def test_a_notification_says_that_the_alert_fired() -> None:
    scene = overloaded(replace(PLAN, expect=Expectation.NO_ALERT, limits={}))
    scene.event(Alert(at=34.6, state=AlertState.NOTIFIED, name=PLAN.alert, host="a"))
    assert checks_of(scene.record())["no alert"].evidence == "LoadbandHostHot fired about a at 34.6 s"


@pytest.mark.parametrize(("resolution", "outcome"), [(0.0, Outcome.FAIL), (0.4, Outcome.FAIL), (0.6, Outcome.PASS)])
def test_a_move_is_before_the_alert_if_that_is_sure(resolution: float, outcome: Outcome) -> None:
    scene = noticed(moves_resolution=resolution)
    scene.move(34.0, "a1", "b")
    assert checks_of(scene.record())["moved after the alert"].outcome is outcome
    polled = overloaded()
    polled.alert(pending=24.5, firing=34.5)
    polled.event(Alert(at=34.6, state=AlertState.NOTIFIED, name=PLAN.alert, host="a", resolution=resolution))
    polled.move(34.0, "a1", "b")
    assert checks_of(polled.record())["moved after the alert"].outcome is outcome


@pytest.mark.parametrize("name", ["Aaa", "Zzz"])
def test_other_alerts_may_fire(name: str) -> None:
    recording = CASES["short_burst"]()
    other = Alert(at=EPOCH + 30, state=AlertState.FIRING, name=name, host="a")
    recording = replace(recording, events=(*recording.events, other))
    assert verdict_of(recording).outcome is Outcome.PASS


def test_the_page_has_all_expectations() -> None:
    asked = {(row[0], row[1]) for row in rows("What the expectations ask")}
    found = {
        (recording.run.plan.expect, check.name)
        for recording in (good(), relieved(PLANNER, 28.0), CASES["symmetric"](), CASES["short_burst"]())
        for check in verdict_of(recording).checks
        if check.kind is CheckKind.EXPECTATION
    }
    assert found == asked


# Limits


@pytest.mark.parametrize(
    ("figure", "text", "low", "high"),
    [
        ("time_to_alert", "<= 20s", None, 20.0),
        ("time_to_alert", "<=20", None, 20.0),
        ("time_to_alert", "  < 1.5m ", None, 90.0),
        ("time_to_alert", "> 500ms", 0.5, None),
        ("time_to_alert", "== 3 s", 3.0, 3.0),
        ("time_to_first_move", ">= -2s", -2.0, None),
        ("time_to_balance", "10s..20s", 10.0, 20.0),
        ("time_to_balance", "1 .. 2m", 60.0, 120.0),
        ("time_to_balance", "30s..2m", 30.0, 120.0),
        ("thrash", "== 0", 0.0, 0.0),
        ("thrash", "<= 12.5%", None, 0.125),
        ("thrash", "5..10%", 0.05, 0.1),
        ("moves", "1..3", 1.0, 3.0),
        ("peak", "<= 1.2", None, 1.2),
    ],
)
def test_a_limit_is_read_in_the_unit_of_its_figure(
    figure: str, text: str, low: float | None, high: float | None
) -> None:
    limit = parse_limit(figure, text)
    assert limit.low == (-math.inf if low is None else pytest.approx(low))
    assert limit.high == (math.inf if high is None else pytest.approx(high))
    assert limit.figure == figure


@pytest.mark.parametrize(
    ("figure", "text", "message"),
    [
        ("time_to_alert", "20s", "must be written as `<= 20s`, `> 500ms` or `10s..2m`"),
        ("time_to_alert", "<= 20h", "ms, s, m; a number alone is seconds"),
        ("time_to_alert", "<= 20%", "ms, s, m"),
        ("time_to_alert", "= 20s", "must be written as"),
        ("time_to_alert", "<= ", "must be written as"),
        ("time_to_alert", "<= 1e3", "must be written as"),
        ("time_to_alert", "<= nan", "must be written as"),
        ("time_to_alert", "20s..10s", "must be a range whose first number is the smaller one"),
        ("time_to_alert", "1h..2s", "must be written as"),
        ("time_to_alert", "1s..2h", "must be written as"),
        ("thrash", "<= 3s", "must be written as `<= 10%`, `== 0` or `0.1..0.2`"),
        ("moves", "<= 3%", "no unit"),
        ("peak", "<= 3%", "no unit"),
        ("balance", "<= 3s", "there is no figure 'balance': must be one of time_to_alert, time_to_pending"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_is(figure: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_limit(figure, text)


@pytest.mark.parametrize(
    ("text", "value", "holds", "margin"),
    [
        ("<= 20s", 20.0, True, 0.0),
        ("<= 20s", 20.1, False, -0.1),
        ("< 20s", 20.0, False, 0.0),
        ("< 20s", 19.0, True, 1.0),
        (">= 20s", 20.0, True, 0.0),
        (">= 20s", 19.0, False, -1.0),
        ("> 20s", 20.0, False, 0.0),
        ("> 20s", 23.0, True, 3.0),
        ("== 20s", 20.0, True, 0.0),
        ("== 20s", 20.5, False, -0.5),
        ("== 20s", 19.5, False, -0.5),
        ("10s..20s", 10.0, True, 0.0),
        ("10s..20s", 20.0, True, 0.0),
        ("10s..20s", 13.0, True, 3.0),
        ("10s..20s", 9.0, False, -1.0),
        ("10s..20s", 22.0, False, -2.0),
        ("<= 300ms", 0.1 + 0.2, True, 0.0),
    ],
)
def test_a_limit_holds_or_not_and_says_by_how_much(text: str, value: float, *, holds: bool, margin: float) -> None:
    limit, figure = parse_limit("time_to_alert", text), Figure(DEFINITIONS["time_to_alert"], value)
    assert limit.holds(figure) == holds
    assert limit.margin(figure) == pytest.approx(margin)


@pytest.mark.parametrize(
    ("text", "holds"),
    [("<= 20s", False), ("< 60m", False), ("== 5s", False), ("1s..90m", False), (">= 90m", True), ("> 1s", True)],
)
def test_a_censored_figure_is_larger_than_any_limit(text: str, *, holds: bool) -> None:
    limit, figure = parse_limit("time_to_alert", text), Figure(DEFINITIONS["time_to_alert"], 5.0, censored=True)
    assert limit.holds(figure) == holds
    assert limit.margin(figure) is None


@pytest.mark.parametrize("text", ["<= 20s", ">= 0s", "== 0s"])
def test_a_figure_without_a_value_keeps_no_limit(text: str) -> None:
    limit, figure = parse_limit("time_to_alert", text), Figure(DEFINITIONS["time_to_alert"], None, missing="why")
    assert not limit.holds(figure)
    assert limit.margin(figure) is None


@pytest.mark.parametrize(
    ("figure", "text", "shown"),
    [
        ("time_to_alert", "<=20", "<= 20 s"),
        ("time_to_alert", "<1.5m", "< 90 s"),
        ("time_to_alert", ">=500ms", ">= 0.5 s"),
        ("time_to_alert", ">2", "> 2 s"),
        ("thrash", "==0", "== 0 %"),
        ("thrash", "0.1..0.2", "10 % .. 20 %"),
        ("moves", "1..3", "1 .. 3"),
    ],
)
def test_a_limit_is_written_with_its_unit(figure: str, text: str, shown: str) -> None:
    assert str(parse_limit(figure, text)) == shown


@pytest.mark.parametrize("row", rows("Limits"), ids=lambda row: row[0])
def test_the_page_says_how_limits_are_written(row: list[str]) -> None:
    unit, written = row
    figures = [each.name for each in DEFINITIONS.values() if each.unit == ("" if unit == "none" else unit)]
    for text in re.findall("`([^`]+)`", written):
        assert parse_limit(figures[0], text)
    with pytest.raises(ValueError, match=re.escape(f"must be written as {written}")):
        parse_limit(figures[0], "?")


@pytest.mark.parametrize(
    ("limits", "outcome", "evidence"),
    [
        ({"time_to_alert": "<= 15s"}, Outcome.PASS, "time to alert: 10.5 s (limit <= 15 s)"),
        (
            {"time_to_alert": "<= 10s"},
            Outcome.FAIL,
            "time to alert: 10.5 s (limit <= 10 s), nearer than its resolution",
        ),
        ({"time_to_alert": "<= 9s"}, Outcome.FAIL, "time to alert: 10.5 s (limit <= 9 s)"),
        ({"overload_time_fraction": "<= 23.21%"}, Outcome.FAIL, "overload time fraction: 23.214 % (limit"),
        (
            {"time_to_alert": "soon"},
            Outcome.INVALID,
            "the limit 'soon' of time_to_alert can't be read: must be written",
        ),
        ({"speed": "<= 1s"}, Outcome.INVALID, "the limit '<= 1s' of speed can't be read: there is no figure 'speed'"),
    ],
)
def test_a_check_of_a_limit_says_what_was_found(limits: dict[str, str], outcome: Outcome, evidence: str) -> None:
    (check,) = [each for each in verdict_of(replace_plan(good(), limits=limits)).checks if each.kind is CheckKind.LIMIT]
    assert check.outcome is outcome
    assert check.evidence.startswith(evidence)
    assert check.name == next(iter(limits))


def test_a_limit_on_a_figure_without_a_value_is_invalid_and_says_why() -> None:
    recording = replace_plan(CASES["symmetric"](), limits={"time_to_relief": "<= 1m"})
    check = checks_of(recording)["time_to_relief"]
    assert check.outcome is Outcome.INVALID
    assert check.evidence == "time to relief has the limit <= 60 s and isn't known: no host is hot on purpose"
    assert verdict_of(recording).sentence == f"INVALID: the run proves nothing: {check.evidence}."


# Sentences


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (
            "good",
            (
                "PASS: the alert fired after 10.5 s (limit <= 15 s), 1 slice moved, balance came back after 17 s "
                "(limit <= 30 s)."
            ),
        ),
        ("late_alert", "FAIL: time to alert: 30.5 s (limit <= 15 s); time to balance: 37 s (limit <= 30 s)."),
        (
            "silent_alert",
            (
                "FAIL: LoadbandHostHot didn't fire in the 56 s watched; nothing moved in the 56 s watched; and 3 more "
                "reasons."
            ),
        ),
        ("symmetric", "PASS: nothing moved in the 60 s watched, as expected."),
        ("unmovable", "PASS: nothing moved in the 56 s watched, as expected; the alert fired after 10.5 s."),
        ("short_burst", "PASS: the alert didn't fire and nothing moved in the 56 s watched, as expected."),
        (
            "ends_during_move",
            (
                "INVALID: the run proves nothing: the recording breaks off at 36.0 s: line 212 has no end (17 bytes): "
                "left out."
            ),
        ),
    ],
)
def test_one_sentence_says_what_happened(case: str, sentence: str) -> None:
    assert verdict_of(CASES[case]()).sentence == sentence


VERDICTS = {
    "good": Outcome.PASS,
    "late_alert": Outcome.FAIL,
    "silent_alert": Outcome.FAIL,
    "early_move": Outcome.FAIL,
    "thrash": Outcome.FAIL,
    "slow_oscillation": Outcome.FAIL,
    "never_balanced": Outcome.FAIL,
    "lost_balance": Outcome.FAIL,
    "two_at_once": Outcome.FAIL,
    "failing_move": Outcome.PASS,
    "evicted": Outcome.PASS,
    "gap": Outcome.INVALID,
    "counter_reset": Outcome.PASS,
    "host_comes": Outcome.FAIL,
    "host_goes": Outcome.PASS,
    "clock_offset": Outcome.PASS,
    "clocks_apart": Outcome.INVALID,
    "clock_step": Outcome.INVALID,
    "out_of_order": Outcome.PASS,
    "one_host": Outcome.INVALID,
    "no_slices": Outcome.INVALID,
    "ends_during_move": Outcome.INVALID,
    "interrupted": Outcome.INVALID,
    "foreign_load": Outcome.INVALID,
    "foreign_move": Outcome.INVALID,
    "unfaithful": Outcome.INVALID,
    "symmetric": Outcome.PASS,
    "needless_move": Outcome.FAIL,
    "short_burst": Outcome.PASS,
    "unmovable": Outcome.PASS,
    "never_hot": Outcome.INVALID,
}


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_its_verdict(case: str) -> None:
    assert verdict_of(CASES[case]()).outcome is VERDICTS[case]


# Repeats


def together(*verdicts: Verdict) -> Verdict:
    return overall(dict(enumerate(verdicts, 1)), len(verdicts))


def test_the_worst_repeat_decides() -> None:
    passed, failed, spoiled = (verdict_of(CASES[case]()) for case in ("good", "late_alert", "interrupted"))
    assert together(passed, passed).outcome is Outcome.PASS
    assert together(passed, failed, passed).outcome is Outcome.FAIL
    assert together(passed, failed, spoiled).outcome is Outcome.INVALID
    assert together().outcome is Outcome.INVALID
    assert together(failed) == failed


def test_a_repeat_that_is_missing_spoils_the_whole() -> None:
    passed = verdict_of(good())
    short = overall({2: passed}, asked=3)
    assert short.outcome is Outcome.INVALID
    assert short.sentence.startswith(
        "INVALID: the run proves nothing: repeats 1, 3 of 3 are missing: the run was interrupted; in repeat 2, the"
    )
    assert [check.name for check in short.checks if check.outcome is Outcome.INVALID] == ["repeats"]
    assert [check.name for check in short.checks[1:]] == [check.name for check in passed.checks]
    assert overall({1: passed, 2: passed}, asked=3).checks[0].evidence == (
        "repeat 3 of 3 is missing: the run was interrupted"
    )
    assert overall({1: passed, 2: passed}, asked=2).outcome is Outcome.PASS
    assert overall({2: passed}, asked=1).outcome is Outcome.INVALID


def test_the_verdict_on_repeats_says_which_one_decided() -> None:
    passed, failed = verdict_of(good()), verdict_of(CASES["late_alert"]())
    both = together(passed, failed, failed)
    assert both.sentence == f"FAIL: 2 of 3 repeats failed; in repeat 2, {failed.sentence.removeprefix('FAIL: ')}"
    assert together(passed, passed).sentence.startswith("PASS: all 2 repeats passed; in the first one, the alert fired")
    invalid = verdict_of(CASES["interrupted"]())
    assert together(passed, invalid).sentence.startswith("INVALID: 1 of 2 repeats proved nothing; in repeat 2, the run")
    checks = {check.name: check for check in both.checks}
    assert checks["time_to_alert"].outcome is Outcome.FAIL
    assert checks["time_to_alert"].evidence == "repeat 2: time to alert: 30.5 s (limit <= 15 s)"
    assert checks["thrash"].evidence == "repeat 1: thrash: 0 % (limit == 0 %)"
    assert [check.name for check in both.checks] == [check.name for check in passed.checks]


def test_of_checks_that_all_passed_the_one_with_the_least_margin_is_shown() -> None:
    near = replace_plan(good(), limits={"time_to_balance": "<= 30s"})
    scene = noticed(replace(PLAN, limits={"time_to_balance": "<= 30s"}), resolved=41.5)
    scene.move(37.0, "a1", "b")
    both = together(verdict_of(near), verdict_of(scene.record()))
    check = next(check for check in both.checks if check.name == "time_to_balance")
    assert check.found == "19 s"
    assert check.margin == pytest.approx(11.0)
