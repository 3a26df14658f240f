"""The whole proof on a simulated platform: a good mover passes, and each broken one is caught with the right reason."""

from __future__ import annotations

from dataclasses import replace

import broken_movers as movers
import pytest
from plans import plan
from simulated import Clocks, Idler, Machine, Memory, Watcher

from loadband.rebalance.events import Disturbance, EndReason, Expectation, Part, Plan, Recording, Trouble
from loadband.rebalance.figures import measure
from loadband.rebalance.rebalancers.mover import Mover
from loadband.rebalance.rebalancers.none import Nobody
from loadband.rebalance.run import Cast, Change, Conductor, Put, Script
from loadband.rebalance.verdict import Outcome, Verdict, judge

PLAN = plan(hold=4, settle=2, window=2, watch=40, limits={"time_to_balance": "<= 16s", "thrash": "== 0"})
SCRIPT = Script(
    plan=PLAN,
    slices=[Put("a-1", "a", 0.2), Put("a-2", "a", 0.2), Put("b-1", "b", 0.2), Put("b-2", "b", 0.2)],
    overload=[Change(0, f"g-{number}", 0.1, "a") for number in range(1, 6)],
    baseline=5,
    recovery=10,
)


def verdict(rebalancer: object, plan: Plan = PLAN, clocks: Clocks | None = None) -> Verdict:
    clocks = clocks or Clocks()
    script = replace(SCRIPT, plan=plan)
    machine = Machine(clocks, ["a", "b"])
    watcher = Watcher(clocks, machine, plan, hold=6.0)
    memory = Memory()
    cast = Cast(machine, watcher, rebalancer)  # type: ignore[arg-type] # each of them has the protocol
    assert Conductor(script, cast, memory, clocks, [memory]).run("r1").reason is EndReason.COMPLETE
    assert memory.run
    recording = Recording(memory.run, tuple(memory.events))
    return judge(recording, measure(recording))


def failed(found: Verdict) -> set[str]:
    return {check.name for check in found.checks if check.outcome is not Outcome.PASS}


@pytest.mark.parametrize("mover", [movers.Good, Mover], ids=["good", "ours"])
def test_a_mover_that_works_passes(mover: type[object]) -> None:
    found = verdict(mover())
    assert (found.outcome, failed(found)) == (Outcome.PASS, set()), found.sentence


@pytest.mark.parametrize(
    ("mover", "outcome", "reasons"),
    [
        (movers.Nothing, Outcome.FAIL, {"moved after the alert", "balance came back", "time_to_balance"}),
        (Nobody, Outcome.FAIL, {"moved after the alert", "balance came back", "time_to_balance"}),
        (movers.ToTheHottest, Outcome.FAIL, {"balance came back", "time_to_balance"}),
        (movers.Everything, Outcome.FAIL, {"balance came back", "time_to_balance"}),
        (movers.TooLate, Outcome.FAIL, {"time_to_balance"}),
        (movers.BackAndForth, Outcome.FAIL, {"thrash"}),
        (movers.BeforeTheAlert, Outcome.FAIL, {"alert fired", "moved after the alert"}),
        (movers.NotOurs, Outcome.INVALID, {"moves of others", "moved after the alert", "balance came back"}),
        (movers.Dies, Outcome.INVALID, {"rebalancer", "moved after the alert", "balance came back"}),
    ],
)
def test_a_broken_mover_is_caught_with_the_right_reason(
    mover: type[object], outcome: Outcome, reasons: set[str]
) -> None:
    found = verdict(mover())
    assert found.outcome is outcome, found.sentence
    assert reasons <= failed(found), found.sentence


def test_it_is_named_who_moved_what_is_not_ours_and_what_a_mover_died_of() -> None:
    assert "somebody-elses-database" in verdict(movers.NotOurs()).sentence
    assert "index out of range" in verdict(movers.Dies()).sentence


def test_a_move_by_somebody_else_is_invalid_however_well_it_balances() -> None:
    class Somebody(movers.Good):
        def describe(self) -> Part:
            return replace(super().describe(), actors=("the rebalancer under test",))

    found = verdict(Somebody())
    assert found.outcome is Outcome.INVALID
    assert "mover moved a-1" in found.sentence


def test_a_rebalancer_that_is_down_at_the_last_moment_is_noticed() -> None:
    class Late(movers.Good):
        def health(self, now: float) -> Disturbance | None:
            if clocks.passed < 44.95:
                return None
            return Disturbance(at=now, what=Trouble.REBALANCER_DOWN, who="mover", detail="out of memory")

    clocks = Clocks()
    found = verdict(Late(), clocks=clocks)
    assert (found.outcome, failed(found)) == (Outcome.INVALID, {"rebalancer"}), found.sentence


@pytest.mark.parametrize("step", [5.0, -5.0, 0.3])
def test_a_clock_that_steps_during_the_run_is_invalid(step: float) -> None:
    clocks = Clocks()
    clocks.at(20.0, lambda: setattr(clocks, "stepped", step))
    found = verdict(movers.Good(), clocks=clocks)
    assert found.outcome is Outcome.INVALID
    assert "clocks steady" in failed(found)


@pytest.mark.parametrize("mover", [movers.Nothing, Nobody])
def test_where_no_move_is_expected_keeping_still_is_right(mover: type[object]) -> None:
    plan = replace(PLAN, expect=Expectation.NO_MOVE, limits={"moves": "== 0"})
    found = verdict(mover(), plan)
    assert (found.outcome, failed(found)) == (Outcome.PASS, set()), found.sentence
    assert verdict(movers.Good(), plan).outcome is Outcome.FAIL


def test_the_mover_hears_of_the_alert() -> None:
    """Else none of these verdicts would say anything."""
    idler = Idler()
    verdict(idler)
    assert [payload["alerts"][0]["status"] for payload in idler.notified][:1] == ["firing"]
