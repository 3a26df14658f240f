"""A recording in order of time: counters, hosts that come and go, episodes of alerts, moves from begin to end."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from recordings import CASES, CPUS, EPOCH, MOVER, PLAN, Scene, good, noticed, overloaded

from loadband.rebalance.events import (
    Alert,
    AlertState,
    Clock,
    End,
    EndReason,
    Event,
    Host,
    Imbalance,
    Move,
    MoveState,
    Part,
    Phase,
    PhaseName,
    Recording,
    Run,
    Sample,
    Slice,
    Subject,
)
from loadband.rebalance.figures import Episode, Migration, Series, episodes, imbalance, moves, t0, utilization
from loadband.rebalance.timeline import Counter, Steps, Timeline, imbalance_of

RUN = Run(at=0.0, run="r", plan=PLAN, platform=Part(name="p"), rebalancer=MOVER, moves_resolution=0.0)


def recording(*events: Event) -> Recording:
    return Recording(RUN, events)


def points(series: Series) -> dict[float, float]:
    return {round(at - EPOCH, 3): value for at, value in series}


# Counters


def test_a_counter_is_a_line_between_its_samples() -> None:
    counter = Counter([(2.0, 30.0), (0.0, 10.0), (1.0, 10.0)], most_gap=1.0)
    assert [counter.at(time) for time in (-0.1, 0.0, 0.5, 1.0, 1.25, 2.0, 2.1)] == [None, 0, 0, 0, 5, 20, None]
    assert counter.grown(0.5, 1.5) == 10
    assert counter.grown(-1.0, 1.0) is None
    assert counter.grown(1.0, 3.0) is None


def test_inside_a_gap_a_counter_is_not_known_and_across_it_is() -> None:
    counter = Counter([(0.0, 0.0), (1.0, 1.0), (5.0, 9.0)], most_gap=3.0)
    assert counter.at(3.0) is None
    assert counter.grown(1.0, 5.0) == 8
    assert Counter([(0.0, 0.0), (3.0, 3.0)], most_gap=3.0).at(1.0) == 1


def test_after_a_reset_a_counter_goes_on_from_zero() -> None:
    counter = Counter([(0.0, 100.0), (1.0, 101.0), (2.0, 0.5), (3.0, 1.5)], most_gap=1.0)
    assert counter.grown(0.0, 3.0) == pytest.approx(1 + 0.5 + 1)


def test_after_a_reset_a_counter_has_not_grown_by_more_than_it_can() -> None:
    counter = Counter([(0.0, 1000.0), (1.0, 900.0)], most_gap=1.0, most=4.0)
    assert counter.grown(0.0, 1.0) == 4


def test_of_two_samples_at_one_time_the_last_one_counts() -> None:
    assert Counter([(0.0, 0.0), (1.0, 5.0), (1.0, 6.0)], most_gap=1.0).grown(0.0, 1.0) == 6


def test_what_is_known_of_a_counter_can_be_less_than_what_is_asked() -> None:
    counter = Counter([(1.0, 0.0), (2.0, 2.0), (3.0, 3.0)], most_gap=1.0)
    assert counter.known_growth(0.0, 4.0) == 3
    assert counter.known_growth(1.5, 2.5) == pytest.approx(1.5)
    assert counter.known_growth(1.5, 9.0) == 2
    assert counter.known_growth(0.0, 1.5) == 1
    assert counter.known_growth(5.0, 9.0) == 0
    assert counter.known_growth(-5.0, 0.5) == 0


def test_steps_keep_their_value_until_the_next() -> None:
    steps = Steps([(10.0, 2.0), (0.0, 1.0)])
    assert [steps.at(time) for time in (-1.0, 0.0, 9.9, 10.0, 99.0)] == [0, 1, 1, 2, 2]
    assert steps.integral(-2.0, 12.0) == 10 * 1 + 2 * 2
    assert steps.integral(3.0, 5.0) == 2
    assert steps.integral(10.0, 11.0) == 2
    assert steps.least(5.0, 12.0) == 1
    assert steps.least(10.0, 12.0) == 2
    assert steps.least(-1.0, 12.0) == 0


@pytest.mark.parametrize(
    ("measure", "expected"),
    [(Imbalance.SPREAD, 0.6), (Imbalance.SD, 0.3), (Imbalance.CV, 0.6), (Imbalance.PEAK, 1.6)],
)
def test_imbalance_of_two_hosts(measure: Imbalance, expected: float) -> None:
    assert imbalance_of([0.8, 0.2], measure) == pytest.approx(expected)
    assert math.isnan(imbalance_of([], measure))


def test_idle_hosts_have_no_cv_and_no_peak() -> None:
    assert [imbalance_of([0.0, 0.0], each) for each in (Imbalance.SPREAD, Imbalance.SD)] == [0, 0]
    assert all(math.isnan(imbalance_of([0.0, 0.0], each)) for each in (Imbalance.CV, Imbalance.PEAK))


# Utilization


def test_utilization_is_the_mean_over_the_window_up_to_each_sample() -> None:
    shown = points(utilization(good())["a"])
    assert min(shown) == 4.0
    assert max(shown) == 100.0
    for at, expected in {4: 0.5, 20: 0.5, 21: 0.6, 22: 0.7, 24: 0.9, 37: 0.9, 39: 0.7875, 41: 0.675}.items():
        assert shown[at] == pytest.approx(expected), at


def test_a_gap_ends_a_piece_and_the_next_one_begins_a_window_after_it() -> None:
    pieces = utilization(CASES["gap"]())["b"].pieces
    assert [(piece.times[0] - EPOCH, piece.times[-1] - EPOCH) for piece in pieces] == [(4.0, 30.0), (46.0, 100.0)]
    assert len(imbalance(CASES["gap"]()).pieces) == 2


def test_imbalance_is_not_known_while_any_host_that_was_there_is_not() -> None:
    for host in ("a", "b", "c"):
        scene = noticed(hosts=dict.fromkeys("abc", CPUS))
        scene.lose(host, 50.0, 60.0)
        shown = points(imbalance(scene.record()))
        assert {at for at in range(4, 101) if at not in shown} == set(range(51, 64)), host


def test_a_time_without_any_sample_ends_a_piece_too() -> None:
    scene = noticed()
    scene.lose("a", 50.0, 60.0)
    scene.lose("b", 50.0, 60.0)
    for series in (*utilization(scene.record()).values(), imbalance(scene.record())):
        assert [piece.times[-1] - EPOCH for piece in series.pieces] == [50.0, 100.0]


def test_a_gap_that_the_window_spans_hides_nothing() -> None:
    scene = noticed(replace(PLAN, window=20.0))
    scene.lose("b", 30.0, 42.0)
    pieces = utilization(scene.record())["b"].pieces
    # from 51 to 61 s the window begins in the gap
    assert [(piece.times[0] - EPOCH, piece.times[-1] - EPOCH) for piece in pieces] == [(20, 30), (42, 50), (62, 100)]


def test_missing_samples_are_bridged_up_to_the_longest_gap() -> None:
    scene = noticed()
    scene.lose("b", 50.0, 53.0)
    assert len(utilization(scene.record())["b"].pieces) == 1


def test_a_host_that_comes_counts_after_a_window_and_one_that_goes_no_more() -> None:
    came = CASES["host_comes"]()
    assert min(points(utilization(came)["c"])) == 34.0
    spread = points(imbalance(came))
    assert spread[33.0] == pytest.approx(0.6)
    assert spread[34.0] == pytest.approx(0.9)
    assert set(range(4, 101)) == {int(at) for at in spread}
    gone = CASES["host_goes"]()
    assert max(points(utilization(gone)["c"])) < 30.0
    assert points(imbalance(gone))[29.0] == pytest.approx(0.9)
    assert points(imbalance(gone))[31.0] == pytest.approx(0.6)


def test_a_host_that_grows_has_its_capacity_of_each_moment() -> None:
    scene = noticed()
    scene.comes(50.0, "a", 8.0)
    shown = points(utilization(scene.record())["a"])
    assert shown[50.0] == pytest.approx(0.9)
    assert shown[52.0] == pytest.approx(3.6 * 4 / (2 * 4 + 2 * 8))
    assert shown[54.0] == pytest.approx(0.45)


def test_hosts_that_are_sampled_at_different_times_are_compared_at_the_same_ones() -> None:
    scene = noticed(phases={"b": 0.7})
    scene.move(35.0, "a1", "b")
    line = Timeline(scene.record())
    gaps = [after - before for before, after in zip(line.moments, line.moments[1:], strict=False)]
    assert min(gaps) >= 0.5
    assert {at - EPOCH for at, _ in line.utilization["a"]} & {at - EPOCH for at, _ in line.utilization["b"]}
    assert points(line.imbalance_series)[24.7] == pytest.approx(0.6)


def test_a_clock_that_drifts_is_put_right() -> None:
    events: list[Event] = [
        Host(at=0.0, name="a", cpus=1.0),
        Clock(at=0.0, host="a", offset=0.0, uncertainty=0.0),
        Clock(at=100.0, host="a", offset=10.0, uncertainty=0.0),
        *(
            Sample(at=at * 1.1, subject=Subject.HOST, name="a", host="a", cpu_seconds=at * 0.5)
            for at in map(float, range(101))
        ),
    ]
    shown = dict(iter(utilization(recording(*events))["a"]))
    assert all(value == pytest.approx(0.5) for value in shown.values())
    assert max(shown) == pytest.approx(100.0)


def test_before_the_first_and_after_the_last_comparison_a_clock_is_as_far_off_as_then() -> None:
    samples = [Sample(at=at, subject=Subject.HOST, name="a", host="a", cpu_seconds=at) for at in map(float, range(40))]
    clocks = [Clock(at=at, host="a", offset=offset, uncertainty=0.0) for at, offset in ((10.0, 2.0), (20.0, 4.0))]
    line = Timeline(recording(Host(at=-9.0, name="a", cpus=1.0), *clocks, *samples))
    times = line.busy["a"].times
    assert times[0] == pytest.approx(-2.0)
    assert times[12] == pytest.approx(10.0)
    assert times[18] == pytest.approx(15.0)
    assert times[39] == pytest.approx(35.0)


def test_hosts_without_samples_and_samples_without_a_host_are_told_apart() -> None:
    sample = Sample(at=1.0, subject=Subject.HOST, name="ghost", host="ghost", cpu_seconds=1.0)
    line = Timeline(recording(Host(at=0.0, name="a", cpus=1.0), sample))
    assert dict(line.busy) == {}
    assert {name: series.pieces for name, series in line.utilization.items()} == {"a": ()}


# When


def test_the_watch_ends_with_the_recovery_or_with_the_recording() -> None:
    phases = [Phase(at=at, name=name) for at, name in zip((1.0, 2.0, 3.0, 9.0), PhaseName, strict=True)]
    end = End(at=12.0, reason=EndReason.COMPLETE)
    line = Timeline(recording(*phases, end))
    assert (line.begin, line.overload, line.end, line.last) == (1.0, 2.0, 9.0, 12.0)
    line = Timeline(recording(*phases[:3], end))
    assert (line.end, line.last) == (12.0, 12.0)
    line = Timeline(recording(*phases[:3]))
    assert (line.end, line.last) == (3.0, 3.0)
    line = Timeline(recording(phases[2], Phase(at=20.0, name=PhaseName.RECOVERY)))
    assert (line.begin, line.overload, line.end) == (0.0, 3.0, 20.0)
    line = Timeline(recording())
    assert (line.begin, line.overload, line.end, line.last) == (0.0, 0.0, 0.0, 0.0)


def test_t0_is_the_first_moment_from_which_the_overload_is_held() -> None:
    assert t0(good()) == EPOCH + 24
    assert t0(CASES["never_hot"]()) is None
    assert t0(CASES["symmetric"]()) == EPOCH + 20
    assert t0(recording()) is None


def test_an_overload_that_breaks_off_does_not_count() -> None:
    scene = overloaded()
    for number in range(1, 5):
        scene.ask(25.0, f"a{number}", 0.5)
        scene.ask(40.0, f"a{number}", 0.9)
    # hot at 24 and 25 s only; again from 44 s on
    assert t0(scene.record()) == EPOCH + 44


def test_an_overload_that_is_relieved_by_a_move_counts_however_short_it_was() -> None:
    scene = overloaded(replace(PLAN, settle=8.0))
    scene.move(26.0, "a1", "b", takes=0.5)
    assert t0(scene.record()) == EPOCH + 24
    other = overloaded(replace(PLAN, settle=8.0))
    other.move(26.0, "b1", "a", takes=0.5)
    other.ask(27.0, "a1", 0.0)
    assert t0(other.record()) is None


def test_with_two_hot_hosts_both_have_to_be_hot() -> None:
    scene = overloaded(replace(PLAN, hot_hosts=("a", "b")))
    for number in range(1, 5):
        scene.ask(30.0, f"b{number}", 0.9)
    # b passes 85 % at 33.67 s
    assert t0(scene.record()) == EPOCH + 34
    assert t0(overloaded(replace(PLAN, hot_hosts=("a", "x"))).record()) is None


def test_what_has_to_hold_holds_for_so_long_within_the_watch() -> None:
    line = Timeline(good())
    ok = [False] * len(line.moments)
    for index in line.span(EPOCH + 40, EPOCH + 50):
        ok[index] = True
    assert line.first_held(ok, EPOCH + 24, 10.0) == (40, EPOCH + 40)
    assert line.first_held(ok, EPOCH + 43, 5.0) == (43, EPOCH + 43)
    assert line.first_held(ok, EPOCH + 24, 11.0) == (None, EPOCH + 80)
    for index in line.span(EPOCH + 75, EPOCH + 99):
        ok[index] = True
    assert line.first_held(ok, EPOCH + 60, 5.0) == (75, EPOCH + 75)
    assert line.first_held(ok, EPOCH + 60, 6.0) == (None, EPOCH + 75)


def test_nothing_is_held_through_a_time_without_samples() -> None:
    scene = noticed()
    scene.lose("a", 50.0, 60.0)
    scene.lose("b", 50.0, 60.0)
    line = Timeline(scene.record())
    always = [True] * len(line.moments)
    index, _ = line.first_held(always, EPOCH + 48, 10.0)
    assert index is not None
    assert line.moments[index] == EPOCH + 60


# Alerts


def alert(at: float, state: AlertState, host: str = "a", name: str = "Hot", resolution: float = 0.0) -> Alert:
    return Alert(at=at, state=state, name=name, host=host, resolution=resolution)


def test_states_of_an_alert_become_episodes() -> None:
    found = episodes(
        recording(
            alert(1, AlertState.PENDING),
            alert(3, AlertState.DROPPED),
            alert(5, AlertState.PENDING),
            alert(5, AlertState.PENDING, "b"),
            alert(7, AlertState.FIRING, resolution=0.5),
            alert(8, AlertState.NOTIFIED),
            alert(9, AlertState.NOTIFIED),
            alert(10, AlertState.RESOLVED),
            alert(12, AlertState.FIRING),
        )
    )
    assert found == (
        Episode(alert="Hot", host="a", pending=1, ended=3),
        Episode(alert="Hot", host="a", pending=5, firing=7, notified=8, ended=10, resolution=0.5),
        Episode(alert="Hot", host="b", pending=5),
        Episode(alert="Hot", host="a", firing=12),
    )


def test_a_notification_may_come_after_the_end_of_its_episode() -> None:
    found = episodes(
        recording(
            alert(7, AlertState.FIRING),
            alert(8, AlertState.RESOLVED),
            alert(9, AlertState.NOTIFIED),
            alert(20, AlertState.PENDING),
        )
    )
    assert found == (
        Episode(alert="Hot", host="a", firing=7, notified=9, ended=8),
        Episode(alert="Hot", host="a", pending=20),
    )


def test_a_new_pending_begins_a_new_episode_even_if_the_end_was_missed() -> None:
    found = episodes(recording(alert(1, AlertState.PENDING), alert(3, AlertState.FIRING), alert(9, AlertState.PENDING)))
    assert [(each.pending, each.firing) for each in found] == [(1, 3), (9, None)]
    repeated = episodes(recording(alert(1, AlertState.PENDING), alert(2, AlertState.PENDING)))
    assert [each.pending for each in repeated] == [1]


def test_states_of_one_moment_are_in_their_natural_order() -> None:
    found = episodes(
        recording(alert(5, AlertState.NOTIFIED), alert(5, AlertState.FIRING), alert(5, AlertState.PENDING))
    )
    assert found == (Episode(alert="Hot", host="a", pending=5, firing=5, notified=5),)


def test_the_episode_that_counts_is_the_first_that_fired_in_time() -> None:
    scene = overloaded()
    scene.alert(pending=24.5, dropped=26.5)
    scene.alert(pending=28.5, firing=38.5)
    scene.alert("b", pending=21.0, firing=31.0)
    line = Timeline(scene.record())
    assert line.episode is not None
    assert line.episode.firing == EPOCH + 38.5
    late = overloaded()
    late.alert(pending=24.5, dropped=30.5)
    late.alert(pending=75.0, firing=85.0)
    line = Timeline(late.record())
    assert line.episode is not None
    assert line.episode.pending == EPOCH + 24.5
    assert Timeline(overloaded().record()).episode is None


@pytest.mark.parametrize("name", ["Aaa", "Zzz"])
def test_other_alerts_are_not_awaited(name: str) -> None:
    scene = noticed()
    scene.event(Alert(at=25.0, state=AlertState.FIRING, name=name, host="a"))
    line = Timeline(scene.record())
    assert len(line.episodes) == 2
    assert [each.alert for each in line.awaited] == [PLAN.alert]


def test_without_hot_hosts_an_alert_about_any_host_is_awaited() -> None:
    scene = overloaded(replace(PLAN, hot_hosts=()))
    scene.alert("b", pending=24.5, firing=34.5)
    scene.alert("elsewhere", pending=24.5, firing=34.5)
    assert [each.host for each in Timeline(scene.record()).awaited] == ["b"]


def test_an_alert_about_no_host_counts_too() -> None:
    scene = overloaded()
    scene.alert("", pending=24.5, firing=34.5)
    line = Timeline(scene.record())
    assert line.episode is not None
    assert line.episode.firing == EPOCH + 34.5


# Moves


def move(at: float, state: MoveState, name: str = "m1", **fields: object) -> Move:
    base = Move(at=at, move=name, state=state, slice="s", source="a", destination="b", by="mover", reason="hot")
    return replace(base, **fields)  # type: ignore[arg-type] # as the caller says


def test_the_lines_of_a_move_become_one() -> None:
    (found,) = moves(
        recording(
            move(3, MoveState.DONE, seconds=1.5, downtime=0.2, reason=""),
            move(1, MoveState.ASKED, destination=None),
            move(2, MoveState.ACCEPTED, destination=None),
        )
    )
    assert found == Migration(
        move="m1",
        slice="s",
        source="a",
        destination="b",
        by="mover",
        state=MoveState.DONE,
        asked=1,
        accepted=2,
        ended=3,
        reason="hot",
        seconds=1.5,
        downtime=0.2,
    )


def test_a_move_under_way_a_failed_and_a_refused_one() -> None:
    found = moves(
        recording(
            move(5, MoveState.ASKED, "m3"),
            move(5, MoveState.FAILED, "m3", reason="no room"),
            move(1, MoveState.ASKED, "m1", destination=None),
            move(2, MoveState.ACCEPTED, "m1", destination=None),
            move(3, MoveState.ASKED, "m2"),
            move(4, MoveState.ACCEPTED, "m2"),
            move(6, MoveState.CANCELLED, "m2", reason="too slow"),
        )
    )
    assert [(each.move, each.state, each.accepted, each.ended) for each in found] == [
        ("m1", MoveState.ACCEPTED, 2, None),
        ("m2", MoveState.CANCELLED, 4, 6),
        ("m3", MoveState.FAILED, None, 5),
    ]
    assert [each.failure for each in found] == ["", "too slow", "no room"]
    assert [each.destination for each in found] == [None, "b", "b"]
    assert [each.begin for each in found] == [1, 3, 5]


def test_a_move_of_which_only_the_end_is_known_began_when_its_duration_says() -> None:
    (found,) = moves(recording(move(9, MoveState.DONE, seconds=2.0)))
    assert (found.asked, found.accepted, found.ended) == (None, 7, 9)
    (found,) = moves(recording(move(9, MoveState.DONE)))
    assert found.accepted == 9


def test_moves_count_from_the_begin_of_the_overload_to_the_end_of_the_watch() -> None:
    scene = noticed()
    for at, name in ((10.0, "a4"), (35.0, "a1"), (79.0, "a2"), (85.0, "a3")):
        scene.move(at, name, "b")
    line = Timeline(scene.record())
    assert [each.slice for each in line.migrations] == ["a4", "a1", "a2", "a3"]
    assert [each.slice for each in line.accepted] == ["a4", "a1", "a2"]
    assert [each.slice for each in line.counted] == ["a1", "a2"]
    assert [each.slice for each in line.all_done] == ["a4", "a1"]
    assert [each.slice for each in line.done] == ["a1"]


# Slices


def test_slices_are_there_from_their_first_event_to_their_last() -> None:
    scene = Scene(hosts={"a": CPUS})
    scene.slice("early", "a", 1.0, gone=30.0)
    scene.slice("late", "a", 1.0, at=50.0)
    line = Timeline(scene.record())
    assert line.present(EPOCH + 10, EPOCH + 20) == ["early"]
    assert line.present(EPOCH + 30, EPOCH + 49) == []
    assert line.present(EPOCH + 29, EPOCH + 50) == ["early", "late"]
    assert line.asked["early"].at(EPOCH + 31) == 0
    assert line.slices_on("a") == ["early", "late"]
    assert line.slices_on("0") == line.slices_on("b") == []
    assert line.placed("late", EPOCH + 49) is None
    assert line.placed("late", EPOCH + 50) == "a"


def test_a_slice_that_is_moved_is_where_it_was_moved_to() -> None:
    scene = Scene(hosts={"a": CPUS, "b": CPUS})
    scene.slice("s", "a", 1.0)
    scene.move(10.0, "s", "b", end=MoveState.FAILED)
    scene.move(20.0, "s", "b")
    line = Timeline(scene.record())
    ended = line.all_done[0].ended
    assert ended is not None
    assert [line.placed("s", at) for at in (EPOCH + 15, ended - 0.001, ended)] == ["a", "a", "b"]
    assert line.slices_on("a") == line.slices_on("b") == ["s"]


def test_a_pending_slice_is_nowhere() -> None:
    line = Timeline(
        recording(Slice(at=0.0, name="s", host=None, cpus=1.0), Slice(at=5.0, name="s", host="a", cpus=1.0))
    )
    assert (line.placed("s", 1.0), line.placed("s", 5.0)) == (None, "a")
