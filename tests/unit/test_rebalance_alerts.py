from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadband.rebalance.alerts import PATIENCE, Active, AlertBook, Heard
from loadband.rebalance.events import Alert, AlertState

PENDING, FIRING, NOTIFIED, RESOLVED, DROPPED = AlertState
NOTICE = 4.0


def active(since: float, *, fires: bool = False) -> list[Active]:
    return [Active("Hot", "a", fires, since)]


def heard(starts: float, ends: float | None = None, arrived: float | None = None) -> list[Heard]:
    return [Heard("Hot", "a", ends is None, starts, ends, "f1", arrived)]


def told(alerts: list[Alert]) -> list[tuple[AlertState, float, float]]:
    assert {(alert.name, alert.host) for alert in alerts} <= {("Hot", "a")}
    return [(alert.state, alert.at, round(alert.resolution, 6)) for alert in alerts]


def test_an_episode_has_the_times_of_those_who_decided_them() -> None:
    book = AlertBook(NOTICE)
    assert told(book.polled(10.0, [])) == []
    assert told(book.polled(10.5, active(10.2))) == [(PENDING, 10.2, 0)]
    assert told(book.polled(11.0, active(10.2))) == []
    assert told(book.polled(13.5, active(10.2, fires=True))) == []
    assert book.undated
    assert told(book.heard(heard(13.2))) == [(FIRING, 13.2, 0)]
    assert not book.undated
    assert told(book.heard(heard(13.2, arrived=14.0))) == [(NOTIFIED, 14.0, 0)]
    assert told(book.heard(heard(13.2, arrived=18.0))) == []
    assert told(book.polled(20.0, [])) == []
    assert told(book.heard(heard(13.2, 19.8, 21.0))) == [(RESOLVED, 19.8, 0)]
    assert told(book.heard(heard(13.2, 19.8, 25.0))) == []
    assert told(book.polled(30.0, [])) == []


def test_the_fingerprint_is_that_of_alertmanager() -> None:
    book = AlertBook(NOTICE)
    (pending,) = book.polled(10.5, active(10.2))
    firing, notified = book.heard(heard(13.2, arrived=14.0))
    assert [one.fingerprint for one in (pending, firing, notified)] == ["", "f1", "f1"]


def test_a_webhook_may_be_faster_than_a_poll() -> None:
    book = AlertBook(NOTICE)
    assert told(book.heard(heard(13.2, arrived=13.3))) == [
        (PENDING, 13.2, 0),
        (FIRING, 13.2, 0),
        (NOTIFIED, 13.3, 0),
    ]
    assert told(book.polled(13.5, active(13.2, fires=True))) == []


def test_what_is_only_pending_is_dropped_at_the_poll_that_misses_it() -> None:
    book = AlertBook(NOTICE)
    book.polled(10.0, active(9.9))
    assert told(book.polled(10.6, [])) == [(DROPPED, 10.6, 0.6)]
    assert told(book.polled(11.0, active(10.9))) == [(PENDING, 10.9, 0)]


def test_without_alertmanager_the_polls_are_taken_after_some_time() -> None:
    book = AlertBook(NOTICE)
    book.polled(10.0, active(9.9))
    book.polled(13.0, active(9.9))
    assert told(book.polled(13.5, active(9.9, fires=True))) == []
    late = 13.5 + PATIENCE + 0.5
    assert told(book.polled(late, active(9.9, fires=True))) == [(FIRING, 13.5, 0.5)]
    assert told(book.polled(20.0, [])) == []
    gone = 20.0 + NOTICE + PATIENCE + 0.5
    assert told(book.polled(gone, [])) == [(RESOLVED, 20.0, round(20.0 - late, 6))]


def test_an_episode_whose_end_nobody_saw_ends_where_the_next_one_begins() -> None:
    book = AlertBook(NOTICE)
    book.polled(10.0, active(9.9))
    book.heard(heard(13.0))
    book.polled(14.0, active(9.9, fires=True))
    assert told(book.polled(30.0, active(29.0))) == [(RESOLVED, 29.0, 16.0), (PENDING, 29.0, 0)]
    assert told(book.heard(heard(13.0, 20.0, 31.0))) == []
    assert told(book.heard(heard(33.0, arrived=33.5))) == [(FIRING, 33.0, 0), (NOTIFIED, 33.5, 0)]


def test_one_that_comes_back_before_its_end_was_recorded_goes_on() -> None:
    book = AlertBook(NOTICE)
    book.polled(10.0, active(9.9))
    book.heard(heard(13.0))
    book.polled(14.0, active(9.9, fires=True))
    assert told(book.polled(15.0, [])) == []
    assert told(book.polled(15.5, active(9.9, fires=True))) == []
    assert told(book.polled(40.0, active(9.9, fires=True))) == []


ORDER = {PENDING: 0, FIRING: 1, NOTIFIED: 2, RESOLVED: 3, DROPPED: 3}
steps = st.lists(
    st.tuples(st.floats(0.1, 5), st.sampled_from(["none", "pending", "firing", "hear", "notify", "resolve"])),
    max_size=40,
)


@given(steps=steps)
def test_whatever_comes_in_whichever_order_episodes_are_whole(steps: list[tuple[float, str]]) -> None:
    """Each begins with pending, no state comes twice, and at most one is open."""
    book, now, since, recorded = AlertBook(NOTICE), 100.0, 100.0, list[Alert]()
    for passed, what in steps:
        now += passed
        if what == "none":
            recorded += book.polled(now, [])
            since = now
        elif what in {"pending", "firing"}:
            recorded += book.polled(now, active(since, fires=what == "firing"))
        else:
            arrived = None if what == "hear" else now
            recorded += book.heard(heard(since, now if what == "resolve" else None, arrived))
    last = 3
    for alert in recorded:
        order = ORDER[alert.state]
        assert order > last or (order, last) == (0, 3), [each.state for each in recorded]
        last = order
