"""The synthetic recordings are what their builder says."""

from __future__ import annotations

import pytest
from recordings import CASES, EPOCH, big, evicted, good, out_of_order, shifted

from loadband.rebalance.events import End, Move, Sample, Subject


def counter(recording_name: str, subject: Subject, name: str) -> dict[float, float]:
    return {
        event.at - EPOCH: event.cpu_seconds
        for event in CASES[recording_name]().events
        if isinstance(event, Sample) and event.subject is subject and event.name == name
    }


def test_counters_are_the_integral_of_what_is_burnt() -> None:
    hosts = counter("good", Subject.HOST, "a")
    assert hosts[20] - hosts[0] == pytest.approx(20 * 2.0)
    assert hosts[37] - hosts[20] == pytest.approx(17 * 3.6)
    assert hosts[60] - hosts[40] == pytest.approx(20 * 2.7)
    slices = counter("good", Subject.SLICE, "a1")
    assert (slices[0], slices[20], slices[60]) == pytest.approx((0.0, 10.0, 10.0 + 40 * 0.9))


def test_an_evicted_slice_burns_nothing_meanwhile_and_begins_its_counter_again() -> None:
    slices = counter("evicted", Subject.SLICE, "a1")
    assert {36.0, 37.0}.isdisjoint(slices)
    assert slices[40] == pytest.approx(2 * 0.9)
    assert [event.state for event in evicted().events if isinstance(event, Move)] == ["asked", "accepted", "done"]


def test_events_out_of_order_are_the_same_events() -> None:
    assert set(out_of_order().events) == set(good().events)
    assert out_of_order().events != good().events


def test_a_recording_can_be_shifted() -> None:
    later = shifted(good(), 100.0)
    assert later.run.at == good().run.at + 100
    assert [event.at - 100 for event in later.events] == [event.at for event in good().events]


@pytest.mark.parametrize("case", CASES)
def test_a_case_says_what_it_shows_and_ends_as_it_says(case: str) -> None:
    recording = CASES[case]()
    assert CASES[case].__doc__
    assert any(isinstance(event, End) for event in recording.events) == (case != "ends_during_move")


def test_the_big_one_is_as_big_as_a_recording_may_be() -> None:
    samples = sum(isinstance(event, Sample) for event in big().events)
    assert samples == pytest.approx((50 + 200) * 241, rel=0.01)
