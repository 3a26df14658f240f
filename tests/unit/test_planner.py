"""The planner's interface, with programs of all kinds, and with the real hbal."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from plans import PLAN
from program import wait_until

from loadband.rebalance.events import Part, Real, Trigger, Trouble
from loadband.rebalance.platforms import HostView, MoveRefusedError, SliceView, View
from loadband.rebalance.platforms.machine import cpu_time
from loadband.rebalance.rebalancers import Context, RebalancerError, hbal
from loadband.rebalance.rebalancers.planner import LONGEST, AnswerError, Planner, checked, read_answer, state_text

VIEW = View(
    100.0,
    (HostView("host-a", 1.0, 0.9), HostView("host-b", 1.0, 0.3)),
    tuple(SliceView(f"slice-{i}", "host-a" if i < 3 else "host-b", 0.3) for i in range(4)),
)


@pytest.fixture(autouse=True)
def _stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop every planner at the end: its last program is a zombie until then."""
    started: list[Planner] = []
    start = Planner.start

    def remember(made: Planner, context: Context) -> None:
        started.append(made)
        start(made, context)

    monkeypatch.setattr(Planner, "start", remember)
    yield
    for made in started:
        made.stop()


class Bench:
    """Shows a view and writes down the moves."""

    def __init__(self, view: View = VIEW) -> None:
        self.shown = view
        self.moves: list[tuple[str, str, str, str]] = []
        self.refuse = False

    def view(self) -> View:
        return self.shown

    def move(self, name: str, destination: str, *, by: str, reason: str) -> str:
        self.moves.append((name, destination, by, reason))
        if self.refuse:
            raise MoveRefusedError("refused by the test")
        return "id"


def planner(code: str, bench: Bench) -> Planner:
    made = Planner(Part(name="test", interval=5.0, real=Real.OUR_ACTUATOR), [sys.executable, "-c", code])
    made.start(Context(run="r", plan=PLAN, actuator=bench, prometheus=None))
    return made


def answered(made: Planner, now: float) -> None:
    """Ask, and take turns at one and the same moment until the answer is there."""
    made.step(now)
    deadline = time.monotonic() + 30
    while made.is_waiting and time.monotonic() < deadline:
        made.step(now)
    assert not made.is_waiting


def answer(*moves: tuple[str, str]) -> str:
    return f"print({json.dumps({'moves': [{'slice': s, 'destination': d} for s, d in moves]})!r})"


def test_it_is_asked_with_the_state_and_its_moves_are_made_one_after_the_other() -> None:
    bench = Bench()
    code = (
        "import json, sys; state = json.load(sys.stdin); assert state['hosts'][0]['utilization'] == 0.9; "
        "json.dump({'moves': [{'slice': s['name'], 'destination': 'host-b', 'reason': 'why'}"
        " for s in state['slices'][:2]]}, sys.stdout)"
    )
    made = planner(code, bench)
    answered(made, 0.0)
    assert bench.moves == []
    made.step(0.1)
    assert bench.moves == [("slice-0", "host-b", "test", "why")]
    bench.shown = View(101.0, VIEW.hosts, (SliceView("slice-0", None, 0.3), *VIEW.slices[1:]))
    made.step(0.2)
    assert len(bench.moves) == 1  # the first is still on its way
    bench.shown = VIEW
    made.step(0.3)
    assert [move[0] for move in bench.moves] == ["slice-0", "slice-1"]
    assert made.health(1.0) is None


def test_what_it_burns_is_counted_as_the_runs_own_to_the_end() -> None:
    watched: list[Mapping[str, int]] = []
    made = Planner(Part(name="test", interval=5.0), [sys.executable, "-c", f"sum(range(2_000_000)); {answer()}"])
    made.start(Context(run="r", plan=PLAN, actuator=Bench(), prometheus=None, watch=watched.append))
    answered(made, 0.0)
    (pid,) = (program["test"] for program in watched)
    used = cpu_time(pid)
    assert used > 0.01
    made.step(4.0)
    assert cpu_time(pid) == used, "it has ended, and its clock can still be read"
    answered(made, 5.0)
    with pytest.raises(OSError, match="argument"):
        cpu_time(pid)
    assert [list(program) for program in watched] == [["test"], ["test"]]
    made.stop()
    with pytest.raises(OSError, match="argument"):
        cpu_time(watched[1]["test"])


def test_it_is_asked_again_only_after_its_interval() -> None:
    made = planner(answer(), Bench())
    answered(made, 0.0)
    made.step(4.9)
    assert not made.is_waiting
    made.step(5.0)
    assert made.is_waiting
    made.stop()


def test_it_is_not_asked_before_every_utilization_is_known() -> None:
    unknown = View(100.0, (VIEW.hosts[0], HostView("host-b", 1.0, None)), VIEW.slices)
    made = planner(answer(), Bench(unknown))
    made.step(0.0)
    assert not made.is_waiting


def test_a_refused_move_ends_the_plan() -> None:
    bench = Bench()
    bench.refuse = True
    made = planner(answer(("slice-0", "host-b"), ("slice-1", "host-b")), bench)
    answered(made, 0.0)
    for turn in range(5):
        made.step(0.1 * turn)
    assert len(bench.moves) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('no licence')", "ended with code 1: no licence"),
        ("print('hello')", "not valid JSON"),
        ("print('[]')", 'must be an object with a list "moves"'),
        ("""print('{"moves": [{"slice": 3}]}')""", "moves[0].slice must be a string, not 3"),
        ("""print('{"moves": ["x"]}')""", 'moves[0] must be an object, not "x"'),
        ("import os; os.kill(os.getpid(), 9)", "ended with code -9"),
    ],
)
def test_what_is_wrong_with_it_is_its_health_until_it_answers_well(code: str, said: str) -> None:
    bench = Bench()
    made = planner(code, bench)
    answered(made, 0.0)
    trouble = made.health(1.0)
    assert trouble is not None
    assert trouble.what is Trouble.REBALANCER_DOWN
    assert said in trouble.detail
    assert bench.moves == []


def test_it_is_well_again_after_a_good_answer(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    code = f"import os, sys; os.path.exists({str(flag)!r}) or sys.exit('not yet'); {answer()}"
    made = planner(code, Bench())
    answered(made, 0.0)
    assert made.health(0.0) is not None
    flag.touch()
    answered(made, 5.0)
    assert made.health(5.0) is None


def test_a_program_that_hangs_is_given_up() -> None:
    made = planner("import time; time.sleep(600)", Bench())
    made.step(0.0)
    made.step(LONGEST - 0.1)
    assert made.is_waiting
    made.step(LONGEST)
    assert not made.is_waiting
    trouble = made.health(LONGEST)
    assert trouble is not None
    assert "no answer within 30 s" in trouble.detail


def ask_and_wait(pid: Path) -> None:
    """A run whose planner is asked, says who it is, and doesn't answer."""
    tempfile.tempdir = str(pid.parent)
    code = f"import os, time; print(os.getpid(), file=open({str(pid)!r}, 'w'), flush=True); time.sleep(600)"
    planner(code, Bench()).step(0.0)
    time.sleep(600)


def test_a_program_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    run = multiprocessing.get_context("spawn").Process(target=ask_and_wait, args=(pid,))
    run.start()
    try:
        wait_until(lambda: pid.read_text().endswith("\n"), 20, "the planner to be asked")
    finally:
        run.kill()
        run.join()
        run.close()
    planned = Path("/proc") / pid.read_text().strip()
    wait_until(lambda: not planned.exists(), 5, "the planner's end")


def test_a_program_that_does_not_exist_is_named() -> None:
    made = Planner(Part(name="test", interval=5.0), ["/nonexistent/planner"])
    made.start(Context(run="r", plan=PLAN, actuator=Bench(), prometheus=None))
    answered(made, 0.0)
    trouble = made.health(0.0)
    assert trouble is not None
    assert trouble.detail == "ended with code 1: /nonexistent/planner: No such file or directory"
    with pytest.raises(RebalancerError, match="/nonexistent/planner"):
        checked(["/nonexistent/planner"])
    assert checked([sys.executable]) == [sys.executable]


def test_more_output_than_a_pipe_holds_does_not_block_it() -> None:
    bench = Bench()
    code = "import sys; sys.stderr.write('x' * 1000000); print('{\"moves\": []}' + ' ' * 1000000)"
    made = planner(code, bench)
    answered(made, 0.0)
    assert made.health(0.0) is None


def test_the_answer_may_have_more_keys() -> None:
    (move,) = read_answer('{"moves": [{"slice": "s", "destination": "d", "score": 3}], "version": 2}')
    assert (move.slice, move.destination, move.reason) == ("s", "d", "")
    with pytest.raises(AnswerError):
        read_answer("")


class TestHbal:
    """The real program, on states whose answer its own manual gives."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        if shutil.which("hbal") is None:
            pytest.skip("hbal is not installed (Debian: ganeti-htools)")

    def moves(self, view: View) -> Sequence[tuple[str, str]]:
        bench = Bench(view)
        made = hbal.planner(5.0)
        made.start(Context(run="r", plan=PLAN, actuator=bench, prometheus=None))
        answered(made, 0.0)
        assert made.health(0.0) is None
        for _ in range(10):
            made.step(0.1)
        return [move[:2] for move in bench.moves]

    def test_it_moves_one_of_three_equal_slices(self) -> None:
        assert [destination for _, destination in self.moves(VIEW)] == ["host-b"]

    def test_it_leaves_balance_alone(self) -> None:
        slices = tuple(SliceView(f"s{i}", f"host-{'ab'[i % 2]}", 0.3) for i in range(4))
        assert self.moves(View(0.0, VIEW.hosts, slices)) == []

    def test_one_slice_that_moves_alone_improves_nothing(self) -> None:
        assert self.moves(View(0.0, VIEW.hosts, (SliceView("big", "host-a", 0.9),))) == []

    def test_no_slices_at_all(self) -> None:
        assert self.moves(View(0.0, VIEW.hosts, ())) == []

    def test_names_that_would_break_the_format(self) -> None:
        hosts = (HostView("host a|x", 1.0, 0.9), HostView("\n", 1.0, 0.0))
        slices = tuple(SliceView(f"slice {i}|,;", "host a|x", 0.45) for i in range(2))
        assert [destination for _, destination in self.moves(View(0.0, hosts, slices))] == ["\n"]

    def test_it_states_what_is_real(self) -> None:
        part = hbal.planner(5.0).describe()
        assert part.real is Real.OUR_ACTUATOR
        assert part.version[0].isdigit()
        assert part.interval == 5.0
        assert part.trigger is Trigger.LOOK


def test_hbal_says_what_it_did_not_understand() -> None:
    state = json.loads(state_text(VIEW, 0.85))
    assert hbal.moves(state, "    gnt-instance migrate -f -n n1 i0\n    gnt-instance failover -f i1\n") == [
        {"slice": "slice-0", "destination": "host-b", "reason": "improves hbal's cluster score"}
    ]


def test_without_hbal_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RebalancerError, match="apt install ganeti-htools"):
        hbal.planner(5.0)
