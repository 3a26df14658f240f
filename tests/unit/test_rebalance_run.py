from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from plans import plan
from simulated import EPOCH, HOLD, Clocks, Idler, Machine, Memory, Watcher

from loadband.rebalance.events import (
    Alert,
    AlertState,
    Disturbance,
    End,
    EndReason,
    Event,
    Move,
    MoveState,
    Part,
    Phase,
    PhaseName,
    Sample,
    Slice,
    Trouble,
)
from loadband.rebalance.platforms import MoveRefusedError, PlatformError
from loadband.rebalance.rebalancers import Context, RebalancerError
from loadband.rebalance.run import ASK_INTERVAL, READY_SECONDS, TICK, Cast, Change, Conductor, Put, Result, Script

PLAN = plan()
SCRIPT = Script(
    plan=PLAN,
    slices=[Put("a-1", "a", 0.3), Put("a-2", "a", 0.2), Put("b-1", "b", 0.3)],
    overload=[Change(0, "a-3", 0.3, "a"), Change(5, "a-2", 0.25, "a")],
    baseline=5,
    recovery=10,
)
E = TypeVar("E")


class Mover(Idler):
    """Moves one slice when it is notified."""

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        super().notify(at, payload)
        if payload["alerts"][0]["status"] == "firing":
            assert self.context
            self.context.actuator.move("a-3", "b", by="idler", reason="it is hot")


class Stage:
    """A conductor with all that it conducts."""

    def __init__(self, script: Script = SCRIPT, rebalancer: Idler | None = None) -> None:
        self.clocks = Clocks()
        self.machine = Machine(self.clocks, ["a", "b"])
        self.watcher = Watcher(self.clocks, self.machine, script.plan)
        self.rebalancer = rebalancer or Idler()
        self.memory = Memory()
        cast = Cast(self.machine, self.watcher, self.rebalancer)
        self.conductor = Conductor(script, cast, self.memory, self.clocks, [self.memory])

    def run(self) -> Result:
        return self.conductor.run("r1", repeats=5)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.memory.events if isinstance(event, kind)]

    @property
    def phases(self) -> dict[PhaseName, float]:
        return {phase.name: phase.at - EPOCH for phase in self.of(Phase)}

    def assert_undone(self) -> None:
        assert (self.machine.state, self.watcher.state) == ("closed", "closed")


def test_the_phases_come_in_order_and_last_as_long_as_asked_for() -> None:
    stage = Stage()
    assert stage.run() == Result(EndReason.COMPLETE, "", ())
    phases = stage.phases
    assert list(phases) == list(PhaseName)
    assert phases[PhaseName.OVERLOAD] - phases[PhaseName.BASELINE] == pytest.approx(5)
    assert phases[PhaseName.WATCH] - phases[PhaseName.OVERLOAD] == pytest.approx(5)
    assert phases[PhaseName.RECOVERY] - phases[PhaseName.OVERLOAD] == pytest.approx(30)
    assert isinstance(stage.memory.events[-1], End)
    stage.assert_undone()


def test_the_overload_is_made_when_it_is_due_and_taken_away_again() -> None:
    stage = Stage()
    stage.run()
    overload, recovery = stage.phases[PhaseName.OVERLOAD], stage.phases[PhaseName.RECOVERY]
    changes = [each for each in stage.of(Slice) if each.at - EPOCH >= overload]
    assert [(each.name, each.cpus, each.present) for each in changes] == [
        ("a-3", 0.3, True),
        ("a-2", 0.25, True),
        ("a-3", 0.3, False),
        ("a-2", 0.2, True),
    ]
    due = [overload, overload + 5, recovery, recovery]
    assert [each.at - EPOCH for each in changes] == pytest.approx(due, abs=TICK)


def test_a_neighbour_loads_its_host_and_nobody_sees_or_moves_it() -> None:
    class Curious(Idler):
        """Looks at all slices, and tries to move the neighbour."""

        def step(self, now: float) -> None:
            super().step(now)
            assert self.context
            seen.update(one.name for one in self.context.actuator.view().slices)
            with pytest.raises(MoveRefusedError):
                self.context.actuator.move("n-1", "b", by="idler", reason="to try")

    seen = set[str]()
    slices = [Put("a-1", "a", 0.3), Put("n-1", "a", 0.2, movable=False)]
    overload = [Change(0, "n-2", 0.3, "a", movable=False)]
    stage = Stage(replace(SCRIPT, slices=slices, overload=overload), Curious())
    assert stage.run().reason is EndReason.COMPLETE
    assert stage.of(Disturbance) == []
    assert seen == {"a-1"}
    assert {event.name for event in stage.of(Slice)} == {"a-1", "n-1", "n-2"}


def test_the_recovery_ends_when_the_alert_has_resolved_and_at_the_latest_in_time() -> None:
    soon = Stage()
    soon.run()
    assert [alert.state for alert in soon.of(Alert)] == [AlertState.PENDING, AlertState.FIRING, AlertState.RESOLVED]
    assert soon.of(End)[0].at - EPOCH == pytest.approx(soon.phases[PhaseName.RECOVERY] + 2, abs=2 * TICK)

    hot_for_ever = Stage(replace(SCRIPT, slices=[Put("a-1", "a", 0.9), Put("a-2", "a", 0.1)]))
    hot_for_ever.run()
    assert hot_for_ever.of(End)[0].at - EPOCH == pytest.approx(hot_for_ever.phases[PhaseName.RECOVERY] + 10, abs=TICK)


def test_a_rebalancer_gets_its_turns_and_notifications_and_what_it_moves_is_recorded() -> None:
    stage = Stage(rebalancer=Mover())
    stage.run()
    assert [move.state for move in stage.of(Move)] == [MoveState.ASKED, MoveState.ACCEPTED, MoveState.DONE]
    firing = next(alert for alert in stage.of(Alert) if alert.state is AlertState.FIRING)
    assert firing.at - EPOCH == pytest.approx(stage.phases[PhaseName.OVERLOAD] + HOLD, abs=2 * TICK)
    assert all(0 <= move.at - firing.at <= TICK for move in stage.of(Move))
    steps = stage.rebalancer.steps
    assert steps[0] - EPOCH <= stage.phases[PhaseName.BASELINE] + TICK
    assert max(later - earlier for earlier, later in pairwise(steps)) == pytest.approx(TICK)
    assert steps[-1] <= stage.of(End)[0].at
    assert (stage.rebalancer.context, stage.rebalancer.stops) != (None, 0)


def test_the_recording_begins_with_what_was_real_and_asked() -> None:
    stage = Stage()
    stage.run()
    run = stage.memory.run
    assert run
    assert (run.run, run.repeat, run.repeats) == ("r1", 1, 5)
    assert (run.plan, run.timing) == (PLAN, stage.watcher.timing)
    assert (run.platform.name, run.rebalancer.name, run.monitoring[0].name) == (
        "simulated",
        "idler",
        "simulated monitoring",
    )
    assert stage.machine.watched == {"prometheus": 4711}
    assert stage.rebalancer.context
    stage.rebalancer.context.watch({"planner": 4712})
    assert stage.machine.watched == {"planner": 4712}, "a rebalancer's programs are the run's own"
    assert stage.watcher.targets == stage.machine.targets()


class Late(Idler):
    """Knows what it is when it has started."""

    def describe(self) -> Part:
        return replace(super().describe(), settings={"started": str(self.context is not None)})


def test_a_rebalancer_describes_itself_when_it_has_started() -> None:
    stage = Stage(rebalancer=Late())
    stage.run()
    assert stage.memory.run
    assert stage.memory.run.rebalancer.settings == {"started": "True"}


def test_samples_go_on_from_the_first_slice_to_the_end() -> None:
    stage = Stage()
    stage.run()
    hosts = [sample.at for sample in stage.of(Sample) if sample.name == "a"]
    assert max(later - earlier for earlier, later in pairwise(hosts)) <= 1 + TICK
    assert stage.of(End)[0].at - hosts[-1] <= 1 + TICK


def test_the_audience_sees_what_is_recorded() -> None:
    stage = Stage()
    stage.run()
    assert stage.memory.seen == stage.memory.events
    assert list(dict.fromkeys(stage.memory.stages))[-5:] == [*PhaseName, "cleaning up"]


def test_it_waits_until_slices_and_monitoring_are_ready() -> None:
    stage = Stage()
    stage.machine.slow_slices.add("b-1")
    stage.watcher.unseen = "host a in Prometheus"
    stage.clocks.at(3, stage.machine.slow_slices.clear)
    stage.clocks.at(9, lambda: setattr(stage.watcher, "unseen", ""))
    stage.run()
    assert stage.phases[PhaseName.BASELINE] == pytest.approx(9, abs=ASK_INTERVAL + TICK)
    assert "waiting for the slices to burn what they are asked for" in stage.memory.stages
    assert "waiting for host a in Prometheus" in stage.memory.stages


def test_the_start_of_slices_is_in_no_window_of_the_recording() -> None:
    """To start them costs a host CPU time that nobody takes later."""
    stage = Stage()
    stage.machine.slow_slices.add("b-1")
    stage.clocks.at(3, stage.machine.slow_slices.clear)
    stage.run()
    assert stage.phases[PhaseName.BASELINE] == pytest.approx(3 + PLAN.window, abs=2 * TICK)
    assert any("in which nothing starts" in said for said in stage.memory.stages)


def test_an_alert_that_comes_while_nothing_starts_is_waited_for() -> None:
    stage = Stage()
    stage.clocks.at(2, lambda: setattr(stage.watcher, "unseen", "the alert to end"))
    stage.clocks.at(9, lambda: setattr(stage.watcher, "unseen", ""))
    stage.run()
    assert stage.phases[PhaseName.BASELINE] == pytest.approx(9, abs=ASK_INTERVAL + TICK)


def test_the_monitoring_is_not_asked_in_every_turn_whether_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer costs CPU time on a host that is measured soon."""
    stage, asked = Stage(), []

    def missing() -> str:
        asked.append(stage.clocks.passed)
        return "host a in Prometheus" if stage.clocks.passed < 7 else ""

    monkeypatch.setattr(stage.watcher, "missing", missing)
    stage.run()
    assert asked[-1] == pytest.approx(7, abs=ASK_INTERVAL)
    assert min(later - earlier for earlier, later in pairwise(asked)) >= ASK_INTERVAL - TICK / 2


def test_a_rebalancer_starts_before_the_wait_for_a_window_and_acts_after_it() -> None:
    """What its start burns is over when the first window is looked at."""
    stage, seen = Stage(), []
    stage.watcher.unseen = "host a in Prometheus"
    stage.clocks.at(3, lambda: seen.append((stage.rebalancer.context is not None, len(stage.rebalancer.steps))))
    stage.clocks.at(7, lambda: setattr(stage.watcher, "unseen", ""))
    stage.run()
    assert seen == [(True, 0)]
    assert stage.rebalancer.steps


def test_what_never_gets_ready_ends_the_run_with_the_reason() -> None:
    stage = Stage()
    stage.watcher.unseen = "host a in Prometheus"
    result = stage.run()
    assert (result.reason, "host a in Prometheus" in result.detail) == (EndReason.FAILED, True)
    assert stage.clocks.passed == pytest.approx(READY_SECONDS + PLAN.window, abs=ASK_INTERVAL + TICK)
    assert stage.of(End)[0].detail == result.detail
    stage.assert_undone()


def test_what_never_gets_ready_is_told_with_what_went_wrong() -> None:
    stage = Stage()
    stage.watcher.unseen = "host a in Prometheus"
    load = Disturbance(at=EPOCH, what=Trouble.FOREIGN_LOAD, host="a", detail="yes (pid 4711) took 38 % of a over 8 s")
    stage.clocks.at(2, lambda: stage.machine._events.append(load))
    assert stage.run().detail.endswith("still waiting for host a in Prometheus; yes (pid 4711) took 38 % of a over 8 s")


def test_an_overload_that_never_stands_is_watched_nevertheless() -> None:
    stage = Stage()
    stage.machine.slow_slices.add("a-3")
    assert stage.run().reason is EndReason.COMPLETE
    assert stage.phases[PhaseName.RECOVERY] - stage.phases[PhaseName.OVERLOAD] == pytest.approx(30, abs=TICK)


@pytest.mark.parametrize("second", [0.05, 2, 7, 20, 38])
def test_whenever_it_is_interrupted_all_is_undone_and_the_recording_says_so(second: float) -> None:
    stage = Stage()
    stage.watcher.unseen = "something"
    stage.clocks.at(1, lambda: setattr(stage.watcher, "unseen", ""))
    stage.clocks.at(second, lambda: setattr(stage.clocks, "asked_to_end", True))
    assert stage.run().reason is EndReason.INTERRUPTED
    assert stage.of(End)[0].reason is EndReason.INTERRUPTED
    assert stage.clocks.passed < second + 2 * TICK
    stage.assert_undone()


def test_a_step_of_the_clock_is_recorded_once_with_its_size() -> None:
    stage = Stage()
    stage.clocks.at(9, lambda: setattr(stage.clocks, "stepped", -3.5))
    stage.run()
    (step,) = stage.of(Disturbance)
    assert step.what is Trouble.CLOCK_STEPPED
    assert step.amount == pytest.approx(-3.5)


class Failing(Idler):
    """Fails at its third turn."""

    def step(self, now: float) -> None:
        super().step(now)
        if len(self.steps) == 3:
            raise KeyError("slice")


def test_a_rebalancer_that_fails_is_recorded_and_left_alone() -> None:
    stage = Stage(rebalancer=Failing())
    assert stage.run().reason is EndReason.COMPLETE
    (down,) = stage.of(Disturbance)
    assert (down.what, down.who, "KeyError" in down.detail) == (Trouble.REBALANCER_DOWN, "idler", True)
    assert (len(stage.rebalancer.steps), stage.rebalancer.stops) == (3, 1)


def test_an_ailing_rebalancer_is_recorded_once() -> None:
    stage = Stage()
    stage.rebalancer.trouble = Disturbance(at=EPOCH, what=Trouble.REBALANCER_CHANGED, detail="another version")
    stage.run()
    assert stage.of(Disturbance) == [stage.rebalancer.trouble]


class Unwilling(Idler):
    """Doesn't start."""

    def start(self, context: Context) -> None:
        super().start(context)
        raise RebalancerError("it isn't installed")


def test_a_rebalancer_that_does_not_start_ends_the_run() -> None:
    stage = Stage(rebalancer=Unwilling())
    result = stage.run()
    assert (result.reason, result.detail) == (EndReason.FAILED, "it isn't installed")
    assert stage.rebalancer.stops == 1
    stage.assert_undone()


def test_a_platform_that_breaks_ends_the_run_and_what_it_left_is_named() -> None:
    stage = Stage()
    stage.machine.left = ["slice a-1 is still there: kill 4711"]

    def breaks() -> None:
        def poll() -> list[Event]:
            raise PlatformError("the machine is gone")

        stage.machine.poll = poll  # type: ignore[method-assign] # it breaks in the middle of a run

    stage.clocks.at(12, breaks)
    result = stage.run()
    assert result == Result(EndReason.FAILED, "the machine is gone", ("slice a-1 is still there: kill 4711",))
    assert stage.of(End)[0].reason is EndReason.FAILED
    stage.assert_undone()


def failing_stop() -> None:
    raise RuntimeError("stuck")


def test_one_undo_that_fails_keeps_no_other_from_being_tried() -> None:
    stage = Stage()
    stage.rebalancer.stop = failing_stop  # type: ignore[method-assign] # it fails when it is needed
    result = stage.run()
    assert result.left == ("the rebalancer could not be undone: RuntimeError('stuck')",)
    stage.assert_undone()


@pytest.mark.parametrize("events", [0, 1, 50])
def test_a_full_disk_under_the_recording_ends_the_run_and_all_is_undone(events: int) -> None:
    stage = Stage()
    stage.memory.full_after = events
    result = stage.run()
    assert (result.reason, "disk is full" in result.detail) == (EndReason.FAILED, True)
    stage.assert_undone()


def cannot_start() -> None:
    raise PlatformError("there are no CPUs")


def test_what_fails_before_there_is_a_recording_leaves_none() -> None:
    stage = Stage()
    stage.machine.start = cannot_start  # type: ignore[method-assign] # it fails when it is needed
    result = stage.run()
    assert (result.reason, result.detail) == (EndReason.FAILED, "there are no CPUs")
    assert (stage.memory.run, stage.memory.events) == (None, [])
    assert stage.machine.state == "closed"


def test_a_bug_is_not_hidden_and_all_is_undone_nevertheless() -> None:
    stage = Stage()

    def buggy() -> None:
        raise ZeroDivisionError

    undone: Callable[[], None] = stage.assert_undone
    stage.clocks.at(8, buggy)
    with pytest.raises(ZeroDivisionError):
        stage.run()
    undone()


def test_a_slice_that_dies_before_the_baseline_ends_the_run() -> None:
    stage = Stage()
    stage.watcher.unseen = "host a in Prometheus"
    died = Disturbance(at=EPOCH, what=Trouble.SLICE_DIED, host="a", who="a-1", detail="slice a-1 died: signal 9")
    stage.clocks.at(2, lambda: stage.machine._events.append(died))
    assert stage.run() == Result(EndReason.FAILED, "before the baseline, slice a-1 died: signal 9", ())
    assert stage.of(Disturbance) == [died]
    stage.assert_undone()
