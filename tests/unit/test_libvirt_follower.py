"""Following everybody's guests: where they are, and daemons that don't answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from simulated_libvirt import Daemon, Domain, SimulatedError, Simulation

from loadband.rebalance.events import Disturbance, Event, Move, MoveState, Trouble
from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.libvirt import follower
from loadband.rebalance.platforms.libvirt.follower import Follower
from loadband.rebalance.platforms.libvirt.whereabouts import FORGOTTEN_AFTER, SOMEBODY, Look, Whereabouts

PAUSED = 3


def look(
    at: float, host: str, *running: str, coming: Sequence[str] = (), began: float | None = None, names: str = ""
) -> Look:
    """Guests are called by their UUIDs, unless all have the one name."""
    guests = {uuid: names or uuid for uuid in (*running, *coming)}
    return Look(at if began is None else began, at, host, guests, set(running))


def taken(looks: Sequence[Look], patterns: Sequence[str] = ()) -> list[tuple[float, str, str, str, str | None]]:
    """The moves that looks show: time, state, guest, source, destination."""
    there = Whereabouts(patterns)
    found = [event for one in looks for event in there.take(one)]
    moves = [event for event in found if isinstance(event, Move)]
    assert moves == found
    assert {move.by for move in moves} <= {SOMEBODY}
    return [(move.at, move.state.value, move.slice, move.source, move.destination) for move in moves]


ALIVE = [
    look(1, "a", "x", "y"),
    look(1, "b", "z"),
    look(2, "a", "x", "y"),
    look(2, "b", "z", coming=["x"]),
    look(3, "a", "x", "y"),
    look(3, "b", "z", coming=["x"]),
    look(4, "a", "y"),
    look(4, "b", "z", "x"),
]


def test_a_live_migration_is_a_move() -> None:
    assert taken(ALIVE) == [(2, "accepted", "x", "a", "b"), (4, "done", "x", "a", "b")]
    there = Whereabouts()
    done = [event for one in ALIVE for event in there.take(one) if isinstance(event, Move)][-1]
    assert done.seconds == 2
    assert done.downtime is None


def test_one_between_two_looks_is_a_move_whose_length_nobody_knows() -> None:
    there = Whereabouts()
    there.take(look(1, "a", "x"))
    there.take(look(1, "b"))
    accepted, done = there.take(look(2, "b", "x"))
    assert isinstance(done, Move)
    assert (accepted.at, done.at, done.seconds) == (2, 2, None)


def test_it_may_go_back_and_keeps_its_name() -> None:
    back = [look(5, "b", "z", "x"), look(6, "b", "z"), look(7, "a", "y", "x")]
    assert taken([*ALIVE, *back])[2:] == [(6, "accepted", "x", "b", "a"), (7, "done", "x", "b", "a")]


def test_a_migration_that_is_given_up_has_failed() -> None:
    given_up = [*ALIVE[:6], look(4, "a", "x", "y"), look(4, "b", "z"), look(5, "a", "x", "y"), look(5, "b", "z")]
    assert taken(given_up) == [(2, "accepted", "x", "a", "b"), (4, "failed", "x", "a", "b")]


def test_it_may_turn_up_on_a_third_host() -> None:
    found = taken([*ALIVE[:6], look(4, "c", "x")])
    assert found[1:] == [
        (4, "failed", "x", "a", "b"),
        (4, "accepted", "x", "a", "c"),
        (4, "done", "x", "a", "c"),
    ]


def test_a_guest_that_is_stopped_and_started_elsewhere_has_moved() -> None:
    looks = [look(1, "a", "x"), look(2, "a"), look(3, "a"), look(9, "b", "x")]
    assert taken(looks) == [(2, "accepted", "x", "a", "b"), (9, "done", "x", "a", "b")]


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([look(1, "a", "x"), look(2, "a"), look(3, "a", "x")], id="stopped and started again"),
        pytest.param([look(1, "a", "x"), look(2, "a")], id="ended"),
        pytest.param([look(1, "a"), look(1, "b"), look(2, "b", "x")], id="new"),
        pytest.param([look(1, "b", coming=["x"]), look(2, "b", "x")], id="on its way when the recording began"),
        pytest.param([look(1, "a", "x"), look(2, "a", coming=["x"]), look(3, "a", "x")], id="paused"),
        pytest.param(
            [look(1, "a", "x"), look(2, "a"), look(3 + FORGOTTEN_AFTER, "a"), look(4 + FORGOTTEN_AFTER, "b", "x")],
            id="long ago",
        ),
    ],
)
def test_what_is_no_move(looks: Sequence[Look]) -> None:
    assert taken(looks) == []


def test_an_answer_that_is_late_doesn_t_send_a_guest_back() -> None:
    """a was asked before the guest had left, and answers after b."""
    late = [
        look(1, "a", "x"),
        look(1, "b"),
        look(3, "b", "x"),
        look(4, "a", "x", began=2),
        look(5, "a"),
        look(5, "b", "x"),
    ]
    assert [state for _, state, *_ in taken(late)] == ["accepted", "done"]


def test_patterns_choose_who_is_followed() -> None:
    assert taken(ALIVE, ["z*", "y"]) == []
    assert len(taken(ALIVE, ["z*", "?"])) == 2


def test_guests_of_one_name_on_two_hosts_are_told_apart() -> None:
    looks = [
        look(1, "a", "u1", names="web"),
        look(1, "b", "u2", names="web"),
        look(2, "a"),
        look(3, "b", "u1", names="web"),
    ]
    assert {slice_ for _, _, slice_, *_ in taken(looks)} == {"web"}
    looks = [
        look(1, "b", "u2", names="web"),
        look(1, "a", "u1", names="web"),
        look(2, "a"),
        look(3, "b", "u1", names="web"),
    ]
    assert {slice_ for _, _, slice_, *_ in taken(looks)} == {"web (u1)"}


# The shell, on daemons that obey at once


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "LOOK", 0.02)
    monkeypatch.setattr(follower, "AGAIN", 0.02)
    monkeypatch.setattr(follower, "LOST_SECONDS", 0.05)


class Stage:
    """Two daemons that are followed."""

    def __init__(self, *guests: str) -> None:
        self.library = Simulation("a", "b")
        self.a, self.b = self.library.daemons.values()
        for name in ("web-1", "db-1"):
            self.a.domains[name] = Domain(name, "", self.a)
        self.follower = Follower({"host-a": "a", "host-b": "b"}, guests, self.library)
        self.events: list[Event] = []

    def until(self, condition: Callable[[], object]) -> None:
        until = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < until, self.events
            self.events += self.follower.poll()
            time.sleep(0.005)

    def moves(self) -> list[tuple[MoveState, str, str, str | None]]:
        return [(one.state, one.slice, one.source, one.destination) for one in self.events if isinstance(one, Move)]

    def outages(self) -> list[Disturbance]:
        return [one for one in self.events if isinstance(one, Disturbance)]

    def moved(self, name: str) -> None:
        del self.a.domains[name]
        self.b.domains[name] = Domain(name, "", self.b)


@contextmanager
def stage(*guests: str) -> Iterator[Stage]:
    it = Stage(*guests)
    it.follower.start()
    try:
        it.follower.poll()
        yield it
    finally:
        it.follower.close()
    it.until(lambda: it.a.closed and it.b.closed)


def test_a_migration_is_seen() -> None:
    with stage() as it:
        assert set(it.follower.hosts()) == {"host-a", "host-b"}
        assert it.follower.describe().settings["guests"] == "all"
        assert it.follower.describe().version == "9.1.2"
        it.b.domains["web-1"] = Domain("web-1", "", it.b, state=PAUSED)
        it.until(it.moves)
        assert it.moves() == [(MoveState.ACCEPTED, "web-1", "host-a", "host-b")]
        it.moved("web-1")
        it.until(lambda: len(it.moves()) == 2)
        assert it.moves()[-1] == (MoveState.DONE, "web-1", "host-a", "host-b")


def test_only_guests_of_the_patterns_are_followed() -> None:
    with stage("db-*") as it:
        it.moved("web-1")
        it.moved("db-1")
        it.until(it.moves)
        assert {slice_ for _, slice_, *_ in it.moves()} == {"db-1"}


def test_a_daemon_that_doesn_t_answer_is_told_and_found_again() -> None:
    with stage() as it:
        it.b.broken = "the connection is lost"
        it.until(it.outages)
        (lost,) = it.outages()
        assert (lost.what, lost.host, lost.until) == (Trouble.MONITORING_DOWN, "host-b", None)
        assert "the connection is lost" in lost.detail
        it.moved("web-1")
        it.b.broken = ""
        it.until(lambda: len(it.outages()) == 2)
        assert it.outages()[-1].until is not None
        it.until(lambda: len(it.moves()) == 2)
        assert it.moves()[-1] == (MoveState.DONE, "web-1", "host-a", "host-b")


def test_a_guest_that_ends_while_it_is_looked_at_isn_t_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    codes = [Simulation.VIR_ERR_NO_DOMAIN]

    def info(self: Domain) -> Sequence[int]:
        asked.append(self.name_)
        raise SimulatedError("it can't be asked", codes[0])

    with stage() as it:
        monkeypatch.setattr(Domain, "info", info)
        it.moved("web-1")
        it.until(lambda: len(asked) >= 3)
        assert (it.moves(), it.outages()) == ([], [])
        codes[0] = Simulation.VIR_ERR_OPERATION_ABORTED
        it.until(it.outages)


def test_a_host_that_can_t_be_reached_is_refused() -> None:
    it = Stage()
    it.b.broken = "no route to host"
    with pytest.raises(
        PlatformError, match="--host host-b=b: nothing is seen of the guests of host-b: no route to host"
    ):
        it.follower.start()
    it.follower.close()
    assert it.a.closed


def test_a_daemon_that_doesn_t_say_its_version_is_followed_nevertheless(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: Daemon) -> int:
        raise SimulatedError("not supported")

    monkeypatch.setattr(Daemon, "getLibVersion", silent)
    with stage() as it:
        assert it.follower.describe().version == ""
