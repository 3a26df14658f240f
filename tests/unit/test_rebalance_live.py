from __future__ import annotations

import io

import pytest
from plans import plan
from rich.console import Console
from simulated import EPOCH

from loadband.rebalance.events import (
    Alert,
    AlertState,
    Disturbance,
    End,
    EndReason,
    Event,
    Host,
    Move,
    MoveState,
    Phase,
    PhaseName,
    Sample,
    Subject,
    Trouble,
)
from loadband.rebalance.live import Lines, Scene, watching

PLAN = plan()


def move(at: float, name: str, state: MoveState, destination: str | None = "b") -> Move:
    return Move(
        at=EPOCH + at,
        move=name,
        state=state,
        slice=f"slice-{name}",
        source="a",
        destination=destination,
        by="mover",
        reason="a is hot",
    )


def alert(at: float, state: AlertState) -> Alert:
    return Alert(at=EPOCH + at, state=state, name="Hot", host="a")


def samples(until: int) -> list[Event]:
    """Host a at 90 %, host b at 20 %."""
    return [
        Sample(at=EPOCH + at, subject=Subject.HOST, name=name, host=name, cpu_seconds=ratio * cpus * at)
        for at in range(until)
        for name, ratio, cpus in (("a", 0.9, 2), ("b", 0.2, 1))
    ]


HOSTS: list[Event] = [Host(at=EPOCH, name="a", cpus=2), Host(at=EPOCH, name="b", cpus=1)]
BASELINE = Phase(at=EPOCH, name=PhaseName.BASELINE)


def drawn(*events: Event, now: float = 10.0, width: int = 120) -> str:
    scene = Scene("hot-host: mover on local", PLAN, clock=lambda: EPOCH + now)
    for event in (*HOSTS, *events):
        scene.event(event)
        if isinstance(event, Phase):
            scene.stage(event.name, EPOCH + 12.0)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(scene.render())
    return capture.get()


def row(text: str, word: str) -> str:
    (line,) = [line for line in text.splitlines() if word in line]
    return line


def words(line: str) -> str:
    """A line, with one space between two words."""
    return " ".join(line.split())


def test_the_phase_and_the_time_that_is_left_are_shown() -> None:
    first = drawn(BASELINE, Phase(at=EPOCH + 5, name=PhaseName.WATCH)).splitlines()[0]
    assert words(first) == "hot-host: mover on local baseline overload watch recovery 2 s left"


def test_each_host_has_a_bar_with_the_threshold_in_it() -> None:
    text = drawn(*samples(6))
    hot, cool = row(text, " 90 %"), row(text, " 20 %")
    assert (hot.split()[0], cool.split()[0]) == ("a", "b")
    assert hot.count("█") == 36
    assert cool.count("█") == 8
    place = hot.index("│")
    assert place == cool.index("│") == text.splitlines()[-1].index("hot") + 1
    assert hot[: hot.index("█") + 30].count("█") == 30


def test_a_host_of_which_nothing_is_known_yet_has_no_number() -> None:
    assert row(drawn(*samples(2)), "b  ").split()[-1] == "-"


def test_a_host_that_goes_is_not_shown_any_more() -> None:
    assert " 20 %" not in drawn(*samples(6), Host(at=EPOCH + 6, name="b", cpus=1, present=False))


def test_alerts_are_shown_from_pending_until_they_are_resolved() -> None:
    chain = [alert(3, AlertState.PENDING), alert(6, AlertState.FIRING), alert(7, AlertState.NOTIFIED)]
    assert words(row(drawn(BASELINE, *chain[:1]), "Hot")) == "pending Hot a since 3.0 s"
    assert words(row(drawn(BASELINE, *chain), "Hot")) == "firing Hot a since 6.0 s"
    assert "Hot" not in drawn(BASELINE, *chain, alert(8, AlertState.RESOLVED))
    assert "Hot" not in drawn(BASELINE, *chain[:1], alert(8, AlertState.DROPPED))


def test_a_move_has_one_line_with_its_latest_state() -> None:
    text = drawn(BASELINE, *(move(4, "1", state) for state in (MoveState.ASKED, MoveState.ACCEPTED, MoveState.DONE)))
    assert words(row(text, "slice-1")) == "4.0 s slice-1 a → b done a is hot"
    assert "a → ?" in drawn(BASELINE, move(4, "1", MoveState.ACCEPTED, destination=None))


def test_of_many_moves_the_last_ones_are_shown() -> None:
    text = drawn(*(move(at, str(at), MoveState.DONE) for at in range(9)))
    assert [name for name in map(str, range(9)) if f"slice-{name}" in text] == list("345678")


def test_what_spoils_the_run_is_shown() -> None:
    trouble = Disturbance(at=EPOCH + 4, what=Trouble.FOREIGN_LOAD, host="b", detail="yes (pid 4711) took 38 % of b")
    assert words(row(drawn(BASELINE, trouble), "4711")) == "4.0 s foreign load yes (pid 4711) took 38 % of b"
    bare = Disturbance(at=EPOCH + 4, what=Trouble.HOST_NOT_READY, host="b")
    assert words(row(drawn(BASELINE, bare), "ready")) == "4.0 s host not ready b"


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_narrow_terminal_is_enough(width: int) -> None:
    text = drawn(BASELINE, *samples(6), alert(3, AlertState.FIRING), move(4, "1", MoveState.DONE), width=width)
    assert max(map(len, text.splitlines())) <= width


def test_names_are_shown_as_they_are() -> None:
    assert "[red]x[/red]" in drawn(BASELINE, Alert(at=EPOCH, state=AlertState.FIRING, name="[red]x[/red]", host="a"))


def test_without_a_terminal_each_event_is_a_line() -> None:
    out = io.StringIO()
    events = [
        BASELINE,
        *samples(3),
        alert(3, AlertState.PENDING),
        move(4.25, "1", MoveState.DONE),
        Disturbance(at=EPOCH + 5, what=Trouble.SLICE_DIED, detail="slice-2 died"),
        End(at=EPOCH + 6, reason=EndReason.FAILED, detail="the machine is gone"),
    ]
    with watching(Console(file=out, width=30), "hot-host: mover on local", PLAN) as audience:
        audience.stage("starting the platform", None)
        audience.stage("starting the platform", None)
        for event in events:
            if isinstance(event, Phase):
                audience.stage(event.name, None)
            audience.event(event)
    assert out.getvalue().splitlines() == [
        "starting the platform",
        "  0.0 s  baseline begins",
        "  3.0 s  alert Hot a pending",
        "  4.2 s  move slice-1 from a to b done: a is hot",
        "  5.0 s  slice died: slice-2 died",
        "  6.0 s  end: failed: the machine is gone",
    ]


def test_in_a_terminal_it_is_drawn_in_place() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with watching(console, "hot-host: mover on local", PLAN) as audience:
        assert isinstance(audience, Scene)
        audience.event(BASELINE)
    assert "hot-host: mover on local" in out.getvalue()


def test_before_the_baseline_times_are_left_out() -> None:
    out: list[str] = []
    Lines(Scene("x", PLAN), out.append).event(alert(3, AlertState.PENDING))
    assert out == ["         alert Hot a pending"]
