"""A planner that stays, with programs of all kinds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from plans import PLAN

from loadband.rebalance.events import Part, Real, Trigger, Trouble
from loadband.rebalance.platforms import HostView, MoveRefusedError, SliceView, View
from loadband.rebalance.rebalancers import Context, RebalancerError
from loadband.rebalance.rebalancers.planner import LONGEST, AnswerError
from loadband.rebalance.rebalancers.resident import EVERY, Resident, read_introduction

VIEW = View(
    100.0,
    (HostView("host-a", 1.0, 0.9, 81.5), HostView("host-b", 1.0, 0.3, 20.0)),
    tuple(SliceView(f"slice-{i}", "host-a", 0.3, 4.0 + i) for i in range(3)),
    99.5,
)
HELLO = 'print(\'{"name": "wise", "version": "3.1", "interval": 15, "settings": {"mode": "calm"}}\', flush=True)'
QUIET = "import sys\nfor line in sys.stdin: print('{\"moves\": []}', flush=True)"


class Bench:
    """Shows a view and writes down the moves."""

    def __init__(self) -> None:
        self.shown = VIEW
        self.moves: list[tuple[str, str, str]] = []
        self.refuse = False
        self.watched: dict[str, int] = {}

    def view(self) -> View:
        return self.shown

    def move(self, name: str, destination: str, *, by: str, reason: str) -> str:
        self.moves.append((name, destination, by))
        assert reason in {"", "why"}
        if self.refuse:
            raise MoveRefusedError("refused by the test")
        return "id"

    def watch(self, programs: Mapping[str, int]) -> None:
        self.watched.update(programs)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture(name="made")
def _made(request: pytest.FixtureRequest, bench: Bench) -> Iterator[Resident]:
    """A resident planner whose program is the test's parameter, after it said who it is."""
    made = Resident([sys.executable, "-c", f"{HELLO}\n{request.param}"])
    made.start(Context(run="r", plan=PLAN, actuator=bench, prometheus=None, watch=bench.watch))
    yield made
    made.stop()


def answered(made: Resident, now: float) -> None:
    """Show it a state, and take turns at one and the same moment until the answer is there."""
    made.step(now)
    deadline = time.monotonic() + 30
    while made.is_waiting and time.monotonic() < deadline:
        made.step(now)
    assert not made.is_waiting


program = pytest.mark.parametrize


@program("made", [QUIET], indirect=True)
def test_it_is_what_it_says_that_it_is(made: Resident, bench: Bench) -> None:
    part = made.describe()
    assert (part.name, part.version, part.interval) == ("wise", "3.1", 15.0)
    assert (part.real, part.trigger, part.actors) == (Real.OUR_ACTUATOR, Trigger.LOOK, ("wise",))
    assert part.settings == {"mode": "calm"}
    assert list(bench.watched) == ["resident"]


MEMORY = """
import json, sys
seen = []
for line in sys.stdin:
    seen.append(json.loads(line))
    now, first = seen[-1], seen[0]
    grown = now["hosts"][0]["cpu_seconds"] - first["hosts"][0]["cpu_seconds"]
    passed = now["counted_at"] - first["counted_at"]
    hot = passed and grown / passed > 0.8
    moves = [{"slice": s["name"], "destination": "host-b", "reason": "why"} for s in now["slices"][:2]] if hot else []
    print(json.dumps({"moves": moves}), flush=True)
"""


@program("made", [MEMORY], indirect=True)
def test_one_and_the_same_process_sees_all_states_and_its_moves_are_made_in_turn(made: Resident, bench: Bench) -> None:
    answered(made, 0.0)
    made.step(EVERY / 2)
    assert not made.is_waiting, "the next state is due later"
    busy = replace(VIEW.hosts[0], cpu_seconds=82.4)
    bench.shown = replace(VIEW, hosts=(busy, VIEW.hosts[1]), counted_at=100.5)
    answered(made, EVERY)
    assert bench.moves == []
    made.step(EVERY)
    assert bench.moves == [("slice-0", "host-b", "wise")]
    bench.shown = replace(bench.shown, slices=(replace(VIEW.slices[0], host=None), *VIEW.slices[1:]))
    made.step(EVERY)
    assert len(bench.moves) == 1, "the first is still on its way"
    bench.shown = replace(bench.shown, slices=VIEW.slices)
    made.step(EVERY)
    assert [move[0] for move in bench.moves] == ["slice-0", "slice-1"]
    assert made.health(EVERY) is None


@program("made", [MEMORY], indirect=True)
def test_a_refused_move_ends_the_plan(made: Resident, bench: Bench) -> None:
    bench.refuse = True
    answered(made, 0.0)
    bench.shown = replace(VIEW, hosts=(replace(VIEW.hosts[0], cpu_seconds=99.0), VIEW.hosts[1]), counted_at=110.0)
    answered(made, EVERY)
    for _ in range(3):
        made.step(EVERY)
    assert len(bench.moves) == 1


@program("made", [QUIET], indirect=True)
def test_it_is_shown_nothing_before_every_utilization_is_known_nor_after_the_end(made: Resident, bench: Bench) -> None:
    bench.shown = replace(VIEW, hosts=(VIEW.hosts[0], replace(VIEW.hosts[1], utilization=None)))
    made.step(0.0)
    assert not made.is_waiting
    made.stop()
    made.stop()
    made.step(10.0)
    assert not made.is_waiting
    assert made.health(10.0) is None


@program(
    "made",
    ["input()\nprint('hello', flush=True)\ninput()\nprint('{\"moves\": []}', flush=True)\ninput()"],
    indirect=True,
)
def test_a_bad_answer_is_its_health_until_a_good_one(made: Resident) -> None:
    answered(made, 0.0)
    trouble = made.health(0.0)
    assert trouble is not None
    assert (trouble.what, trouble.who) == (Trouble.REBALANCER_DOWN, "wise")
    assert trouble.detail.startswith("its answer can't be used: not valid JSON")
    answered(made, EVERY)
    assert made.health(EVERY) is None


@program("made", ["input(); import sys; sys.exit('no licence')"], indirect=True)
def test_one_that_ends_is_not_started_again(made: Resident) -> None:
    answered(made, 0.0)
    for now in (1.0, 100.0):
        made.step(now)
        trouble = made.health(now)
        assert trouble is not None
        assert trouble.detail.endswith("ended with exit code 1: no licence")
        assert not made.is_waiting


@program("made", ["import time; time.sleep(600)"], indirect=True)
def test_one_that_hangs_is_given_up_even_if_it_does_not_read(made: Resident, bench: Bench) -> None:
    bench.shown = replace(VIEW, slices=tuple(replace(VIEW.slices[0], name=f"s-{i}" * 20) for i in range(3000)))
    made.step(0.0)
    made.step(LONGEST - 0.1)
    assert made.is_waiting
    made.step(LONGEST)
    trouble = made.health(LONGEST)
    assert trouble is not None
    assert trouble.detail == "gave no answer within 30 s"


@program("made", [QUIET], indirect=True)
def test_a_state_larger_than_a_pipe_arrives(made: Resident, bench: Bench) -> None:
    bench.shown = replace(VIEW, slices=tuple(replace(VIEW.slices[0], name=f"s-{i}" * 20) for i in range(3000)))
    answered(made, 0.0)
    assert made.health(0.0) is None


@program(
    ("code", "said"),
    [
        ("import sys; sys.exit('no licence')", "ended with exit code 1: no licence"),
        ("print('[]', flush=True); input()", 'must be an object with a text "name"'),
        ("print('{', flush=True); input()", "not valid JSON"),
    ],
)
def test_one_that_does_not_introduce_itself_does_not_start(code: str, said: str, bench: Bench) -> None:
    made = Resident([sys.executable, "-c", code])
    with pytest.raises(RebalancerError, match="the resident planner doesn't start: ") as caught:
        made.start(Context(run="r", plan=PLAN, actuator=bench, prometheus=None))
    assert said in str(caught.value)
    made.step(0.0)
    assert made.describe().name == "resident"


def test_without_a_folder_it_does_not_start(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(RebalancerError, match="missing"):
        Resident(["true"]).start(Context(run="r", plan=PLAN, actuator=bench, prometheus=None))


@program(
    "line",
    [
        '{"name": ""}',
        '{"name": "x", "interval": 0}',
        '{"name": "x", "interval": true}',
        '{"name": "x", "settings": {"a": 1}}',
    ],
)
def test_an_introduction_that_is_wrong_is_refused(line: str) -> None:
    with pytest.raises(AnswerError):
        read_introduction(line)


def test_a_name_is_enough() -> None:
    assert read_introduction('{"name": "x"}') == Part(
        name="x", real=Real.OUR_ACTUATOR, actors=("x",), trigger=Trigger.LOOK
    )
