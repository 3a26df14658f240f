"""Laws that figures obey whatever happens in a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import CASES, PLAN, Scene, shifted

from loadband.rebalance.events import EndReason, Event, Imbalance, MoveState, Recording, Sample, Subject
from loadband.rebalance.figures import Figure, Figures, imbalance, measure, utilization
from loadband.rebalance.timeline import imbalance_of

NEAR = 1e-6
TIMES = ["time_to_alert", "time_to_first_move", "time_to_relief", "time_to_balance", "alert_to_resolved"]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A run with some hosts, slices, moves, an alert and phases of its own: whatever may happen."""
    names = ["a", "b", "c"][: draw(st.integers(2, 3))]
    scene = Scene(hosts=dict.fromkeys(names, 4.0), plan=replace(PLAN, hold=draw(st.sampled_from([4.0, 10.0]))))
    for host in names:
        for number in range(1, draw(st.integers(1, 3)) + 1):
            name = f"{host}{number}"
            scene.slice(name, host, draw(st.sampled_from([0.2, 0.4, 0.6])))
            if host == "a":
                scene.ask(20.0, name, draw(st.sampled_from([0.6, 1.2, 1.8])))
    at = 26.0
    for _ in range(draw(st.integers(0, 5))):
        at += draw(st.sampled_from([1.0, 3.0, 8.0, 15.0]))
        scene.move(
            at,
            draw(st.sampled_from(["a1", "b1"])),
            draw(st.sampled_from(names)),
            takes=0.5,
            end=draw(st.sampled_from([MoveState.DONE, MoveState.DONE, MoveState.FAILED])),
        )
    if draw(st.booleans()):
        pending = draw(st.sampled_from([22.5, 24.5, 40.5]))
        scene.alert(pending=pending, firing=pending + 10, notified=pending + 10.1, resolved=pending + 20)
    return scene


def assert_same(found: Figures, expected: Figures, within: float = NEAR) -> None:
    assert found.keys() == expected.keys()
    for name, figure in expected.items():
        if figure.value is None:
            assert found[name].value is None, name
        else:
            assert found[name].value == pytest.approx(figure.value, abs=within), name
        assert found[name].censored == figure.censored, name


@given(scenes(), st.sampled_from([-1000.0, 12345.0, 3e6]))
@settings(max_examples=40, deadline=None)
def test_shifting_all_times_changes_no_figure(scene: Scene, seconds: float) -> None:
    recording = scene.record()
    assert_same(measure(shifted(recording, seconds)), measure(recording), 1e-4)


def renamed(recording: Recording, names: Mapping[str, str]) -> Recording:
    """With other names for the hosts."""

    def rename(event: Event) -> Event:
        changes: dict[str, object] = {}
        for field in ("host", "source", "destination"):
            if name := getattr(event, field, None):
                changes[field] = names[name]
        if type(event).__name__ == "Host" or (isinstance(event, Sample) and event.subject is Subject.HOST):
            changes["name"] = names[event.name]  # type: ignore[union-attr] # both have one
        return replace(event, **changes)  # type: ignore[arg-type] # fields of that event

    plan = replace(recording.run.plan, hot_hosts=tuple(names[host] for host in recording.run.plan.hot_hosts))
    run = replace(recording.run, plan=plan)
    return Recording(run, tuple(rename(event) for event in recording.events), recording.remarks)


@given(scenes(), st.permutations(["a", "b", "c"]))
@settings(max_examples=40, deadline=None)
def test_names_of_hosts_change_no_figure(scene: Scene, names: list[str]) -> None:
    recording = scene.record()
    assert_same(measure(renamed(recording, dict(zip("abc", names, strict=True)))), measure(recording))


@given(scenes(), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_the_order_of_events_changes_no_figure(scene: Scene, seed: int) -> None:
    assert_same(measure(scene.record(shuffled=seed)), measure(scene.record()))


@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=8),
    st.floats(0.1, 1),
)
def test_scaling_utilization_scales_spread_and_sd_and_leaves_cv_and_peak(levels: list[float], scale: float) -> None:
    scaled = [scale * level for level in levels]
    for measure_, factor in (
        (Imbalance.SPREAD, scale),
        (Imbalance.SD, scale),
        (Imbalance.CV, 1.0),
        (Imbalance.PEAK, 1.0),
    ):
        assert imbalance_of(scaled, measure_) == pytest.approx(factor * imbalance_of(levels, measure_), abs=1e-9)


@given(scenes(), st.sampled_from([0.5, 0.8]))
@settings(max_examples=20, deadline=None)
def test_scaling_all_counters_scales_spread_and_sd(scene: Scene, scale: float) -> None:
    recording = scene.record()
    less = Recording(
        recording.run,
        tuple(
            replace(event, cpu_seconds=scale * event.cpu_seconds) if isinstance(event, Sample) else event
            for event in recording.events
        ),
    )
    found, expected = measure(less), measure(recording)
    for name, factor in (("spread", scale), ("sd", scale), ("cv", 1.0), ("peak", 1.0)):
        value = expected[name].value
        assert value is not None
        assert found[name].value == pytest.approx(factor * value, abs=NEAR)


@given(scenes(), st.integers(1, 90), st.sampled_from(["a", "b"]))
@settings(max_examples=40, deadline=None)
def test_a_sample_on_the_line_between_two_changes_nothing_beyond_the_resolution(
    scene: Scene, second: int, host: str
) -> None:
    recording = scene.record()
    counts = {
        event.at: event.cpu_seconds
        for event in recording.events
        if isinstance(event, Sample) and event.subject is Subject.HOST and event.name == host
    }
    times = sorted(counts)
    low, high = times[second - 1], times[second]
    middle = Sample(
        at=(low + high) / 2,
        subject=Subject.HOST,
        name=host,
        host=host,
        cpu_seconds=(counts[low] + counts[high]) / 2,
    )
    plain = measure(recording)
    more = measure(Recording(recording.run, (*recording.events, middle)))
    for name, figure in plain.items():
        if figure.censored or more[name].censored or figure.value is None:
            continue
        resolution = figure.resolution
        if resolution is not None and name in {*TIMES, "initial_imbalance", "residual_imbalance", "spread", "moves"}:
            steep = 0.25 if name == "initial_imbalance" else 0.02  # what utilization changes by between two samples
            allowed = resolution if name in TIMES else steep
            assert more[name].value == pytest.approx(figure.value, abs=allowed + NEAR), name


def at_least(figure: Figure) -> float:
    """The least that a figure may be; censored ones are larger than any other."""
    return math.inf if figure.censored else figure.value or 0.0


@given(scenes(), st.integers(27, 79))
@settings(max_examples=60, deadline=None)
def test_censoring_never_makes_a_time_smaller(scene: Scene, seconds: int) -> None:
    whole = measure(scene.record())
    scene.stop(EndReason.INTERRUPTED, float(seconds))
    cut = measure(scene.record())
    for name in TIMES:
        if cut[name].value is not None and whole[name].value is not None:
            assert at_least(cut[name]) >= at_least(whole[name]) - NEAR, name
            if cut[name].censored and not whole[name].censored:
                # what was watched is a lower bound
                assert (cut[name].value or 0.0) <= (whole[name].value or 0.0) + NEAR, name


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_another_return_never_lowers_thrash(way: list[str]) -> None:
    scene = Scene(hosts=dict.fromkeys("abc", 4.0))
    scene.slice("s", "a", 1.0)
    scene.ask(20.0, "s", 3.6)
    here, at, before = "a", 26.0, None
    for host in way:
        if host != here:
            scene.move(at, "s", host, takes=0.5)
            here, before, at = host, here, at + 2
    less = measure(scene.record())["thrash"].value
    if before is not None:
        scene.move(at, "s", before, takes=0.5)
        more = measure(scene.record())["thrash"].value
        assert less is not None
        assert more is not None
        assert more >= less
        assert more > 0


@pytest.mark.parametrize("case", CASES)
def test_the_spread_is_that_of_the_utilization_that_is_shown(case: str) -> None:
    recording = CASES[case]()
    levels: dict[float, list[float]] = {}
    for series in utilization(recording).values():
        for at, value in series:
            levels.setdefault(at, []).append(value)
    for at, value in imbalance(recording):
        assert value == pytest.approx(max(levels[at]) - min(levels[at]))
