"""The mover's decisions: on views of a platform, with a clock of the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import PLAN

from loadband.rebalance.platforms import HostView, MoveRefusedError, SliceView, View
from loadband.rebalance.rebalancers import Context
from loadband.rebalance.rebalancers.mover import ACTOR, Alerts, Mover, Policy, choose

POLICY = Policy.of(PLAN)
T1, T2 = "2026-11-27T12:00:00.123456789Z", "2026-11-27T12:05:00Z"


def alert(
    host: str = "a", status: str = "firing", starts: str = T1, name: str = PLAN.alert, **more: Any
) -> dict[str, Any]:
    labels = {"alertname": name, "node": host}
    return {"status": status, "labels": labels, "startsAt": starts, "fingerprint": f"f-{name}-{host}"} | more


def payload(*alerts: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": "4", "status": "firing", "alerts": list(alerts), "some": "unknown key"}


@dataclass
class Bench:
    """Hosts with as much load as their slices have, and nothing else; a move is done at once, unless it must fail."""

    cpus: dict[str, float]
    slices: dict[str, tuple[str | None, float]]
    moves: list[tuple[str, str]] = field(default_factory=list)
    refuse: bool = False
    fail: bool = False

    def view(self) -> View:
        load = dict.fromkeys(self.cpus, 0.0)
        for host, cpus in self.slices.values():
            if host is not None:
                load[host] += cpus
        return View(
            0.0,
            tuple(HostView(name, cpus, load[name] / cpus) for name, cpus in self.cpus.items()),
            tuple(SliceView(name, host, cpus) for name, (host, cpus) in self.slices.items()),
        )

    def move(self, name: str, destination: str, *, by: str, reason: str) -> str:
        assert by == ACTOR
        assert reason
        self.moves.append((name, destination))
        if self.refuse:
            raise MoveRefusedError("refused by the test")
        if not self.fail:
            self.slices[name] = destination, self.slices[name][1]
        return f"move-{len(self.moves)}"


def hot_and_cool() -> Bench:
    return Bench({"a": 1.0, "b": 1.0}, {f"s{i}": ("a" if i < 5 else "b", 0.18) for i in range(6)})


def placed(*names: str) -> dict[str, tuple[str | None, float]]:
    """Slices of 0.3 CPUs on host a."""
    return dict.fromkeys(names, ("a", 0.3))


def started(bench: Bench, policy: Policy | None = None) -> Mover:
    mover = Mover(policy)
    mover.start(Context(run="r", plan=PLAN, actuator=bench, prometheus=None))
    return mover


def turns(mover: Mover, seconds: float, since: float = 0.0) -> float:
    """Four turns a second, as the conductor gives them."""
    for turn in range(round(seconds * 4)):
        mover.step(since + turn / 4)
    return since + seconds


def test_it_moves_one_slice_of_the_hot_host_to_the_coolest_when_the_alert_fires() -> None:
    bench = hot_and_cool()
    bench.cpus["c"] = 1.0
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    turns(mover, 4)
    assert bench.moves == [("s0", "c")]


def test_without_an_alert_it_moves_nothing_however_hot_a_host_is() -> None:
    bench = hot_and_cool()
    turns(started(bench), 30)
    assert bench.moves == []


def test_an_alert_of_another_name_or_without_a_host_moves_nothing() -> None:
    bench = hot_and_cool()
    mover = started(bench)
    nameless = alert()
    del nameless["labels"]["node"]
    mover.notify(0.0, payload(alert(name="Other"), nameless))
    turns(mover, 30)
    assert bench.moves == []
    assert mover.unread == 0


def test_an_alert_for_a_host_that_is_measured_cool_moves_nothing() -> None:
    bench = Bench({"a": 1.0, "b": 1.0}, {"s0": ("a", 0.3), "s1": ("a", 0.3)})
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    turns(mover, 30)
    assert bench.moves == []


def test_it_needs_three_hot_looks_of_four() -> None:
    bench = hot_and_cool()
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    mover.step(0.0)
    mover.step(1.0)
    assert bench.moves == []
    mover.step(2.0)
    assert bench.moves == [("s0", "b")]


def test_it_waits_for_the_cooldown_before_the_next_move() -> None:
    bench = Bench({"a": 1.0, "b": 1.0}, {f"s{i}": ("a", 0.24) for i in range(4)})
    bench.slices |= {"t": ("a", 0.24), "u": ("a", 0.24)}
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    now = turns(mover, 2.25)
    assert len(bench.moves) == 1
    now = turns(mover, POLICY.cooldown - 0.5, now)
    assert len(bench.moves) == 1
    turns(mover, 5, now)
    assert len(bench.moves) == 2


def test_a_refused_move_is_tried_again_after_the_cooldown() -> None:
    bench = hot_and_cool()
    bench.refuse = True
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    now = turns(mover, 4)
    assert len(bench.moves) == 1
    bench.refuse = False
    turns(mover, POLICY.cooldown + 1, now)
    assert bench.moves == [("s0", "b"), ("s0", "b")]
    assert bench.slices["s0"][0] == "b"


def test_a_move_that_failed_is_tried_again() -> None:
    bench = hot_and_cool()
    bench.fail = True
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    now = turns(mover, 4)
    bench.fail = False
    turns(mover, POLICY.cooldown + 1, now)
    assert bench.slices["s0"][0] == "b"
    assert len(bench.moves) == 2


def test_while_a_slice_is_on_its_way_nothing_else_moves() -> None:
    bench = hot_and_cool()
    bench.slices["s5"] = None, 0.18
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    turns(mover, 20)
    assert bench.moves == []


def test_a_slice_that_it_has_moved_stays_there() -> None:
    bench = Bench({"a": 1.0, "b": 1.0, "c": 1.0}, placed("big", "s1", "s2"))
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    now = turns(mover, 4)
    assert bench.moves == [("big", "b")]
    # Now b gets hot; by size and name the slice that has just come would be the first to leave it.
    bench.slices |= {"x": ("b", 0.3), "y": ("b", 0.3)}
    mover.notify(now, payload(alert("b"), alert(status="resolved")))
    turns(mover, POLICY.cooldown + 4, now)
    assert bench.moves[1:] == [("x", "c")]


def test_one_big_slice_has_nowhere_to_go() -> None:
    bench = Bench({"a": 1.0, "b": 1.0}, {"big": ("a", 0.9)})
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    turns(mover, 30)
    assert bench.moves == []


def test_the_source_does_not_fall_below_the_mean() -> None:
    view = Bench({"a": 1.0, "b": 1.0}, {"s0": ("a", 0.45), "s1": ("a", 0.45)}).view()
    assert choose(view, "a", POLICY) is not None
    view = Bench({"a": 1.0, "b": 1.0}, {"s0": ("a", 0.5), "s1": ("a", 0.4), "s2": ("b", 0.1)}).view()
    found = choose(view, "a", POLICY)
    assert found is not None
    assert found.slice == "s1"  # without s0 a would be at 40 %, and the mean is 50 %


def test_no_destination_rises_above_the_ceiling() -> None:
    slices = {f"s{i}": ("a", 0.19) for i in range(5)}
    view = Bench({"a": 1.0, "b": 1.0}, {**slices, "t": ("b", 0.66)}).view()
    assert choose(view, "a", POLICY) is None


def test_an_unknown_utilization_anywhere_moves_nothing() -> None:
    view = hot_and_cool().view()
    unknown = replace(view, hosts=(*view.hosts[:1], replace(view.hosts[1], utilization=None)))
    assert choose(view, "a", POLICY) is not None
    assert choose(unknown, "a", POLICY) is None
    assert choose(view, "z", POLICY) is None


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.01, 0.6)), max_size=12),
    st.sampled_from("abc"),
    st.tuples(*[st.sampled_from([1.0, 2.0, 8.0])] * 3),
)
def test_whatever_it_chooses_helps_and_harms_nobody(
    slices: list[tuple[str, float]], hot: str, sizes: tuple[float, ...]
) -> None:
    cpus = dict(zip("abc", sizes, strict=True))
    bench = Bench(cpus, {f"s{i}": (host, size) for i, (host, size) in enumerate(slices)})
    before = {host.name: host.utilization or 0.0 for host in bench.view().hosts}
    choice = choose(bench.view(), hot, POLICY)
    if choice is None:
        return
    assert bench.slices[choice.slice][0] == hot
    bench.move(choice.slice, choice.destination, by=ACTOR, reason=choice.reason)
    after = {host.name: host.utilization or 0.0 for host in bench.view().hosts}
    mean = sum(before[name] * cpus[name] for name in cpus) / sum(sizes)
    assert after[choice.destination] <= POLICY.ceiling + 1e-9
    assert after[choice.destination] < before[hot]
    assert after[hot] >= mean - POLICY.slack - 1e-9


class TestAlerts:
    """What it remembers of notifications."""

    def test_a_notification_that_comes_twice_counts_once(self) -> None:
        alerts = Alerts(PLAN.alert)
        for _ in range(2):
            assert alerts.hear(payload(alert())) == 0
        assert alerts.hosts == ("a",)

    def test_a_resolved_episode_stays_resolved_when_its_firing_comes_late(self) -> None:
        alerts = Alerts(PLAN.alert)
        alerts.hear(payload(alert(status="resolved")))
        alerts.hear(payload(alert()))
        assert alerts.hosts == ()

    def test_a_new_episode_fires_again_and_the_end_of_the_old_one_does_not_end_it(self) -> None:
        alerts = Alerts(PLAN.alert)
        alerts.hear(payload(alert(status="resolved")))
        alerts.hear(payload(alert(starts=T2)))
        alerts.hear(payload(alert(status="resolved")))
        assert alerts.hosts == ("a",)

    def test_the_lost_end_of_an_old_episode_is_made_up_for_by_the_end_of_the_next(self) -> None:
        alerts = Alerts(PLAN.alert)
        alerts.hear(payload(alert()))
        alerts.hear(payload(alert(status="resolved", starts=T2)))
        alerts.hear(payload(alert()))
        assert alerts.hosts == ()

    def test_without_a_fingerprint_the_labels_name_the_alert(self) -> None:
        alerts = Alerts(PLAN.alert)
        alerts.hear(payload(alert("a", fingerprint=""), alert("b", fingerprint="")))
        alerts.hear(payload(alert("a", fingerprint="", status="resolved")))
        assert alerts.hosts == ("b",)

    @pytest.mark.parametrize(
        ("broken", "unread"),
        [
            ({}, 0),
            ({"alerts": None}, 0),
            ({"alerts": "text"}, 0),
            ({"alerts": [None, 3, "x"]}, 3),
            ({"alerts": [{"labels": {"alertname": PLAN.alert}}]}, 1),
            ({"alerts": [alert(starts="yesterday")]}, 1),
            ({"alerts": [alert(starts="2026-11-27T12:00:00")]}, 1),
            ({"alerts": [alert(labels=[])]}, 1),
            ({"alerts": [alert(starts="yesterday"), alert()]}, 1),
        ],
    )
    def test_what_cannot_be_read_is_counted_and_the_rest_is_taken(self, broken: Any, unread: int) -> None:
        alerts = Alerts(PLAN.alert)
        assert alerts.hear(broken) == unread
        assert alerts.hosts == (("a",) if len(broken.get("alerts") or ()) == 2 else ())


def test_before_its_start_and_after_its_stop_it_does_nothing() -> None:
    mover = Mover()
    mover.notify(0.0, payload(alert()))
    mover.step(0.0)
    assert mover.health(0.0) is None
    bench = hot_and_cool()
    mover = started(bench)
    mover.notify(0.0, payload(alert()))
    mover.stop()
    turns(mover, 10)
    assert bench.moves == []


def test_it_describes_the_policy_that_it_follows() -> None:
    part = started(hot_and_cool()).describe()
    assert part.actors == (ACTOR,)
    assert part.settings["hot"] == "0.85"
    assert part.settings["cooldown"] == "5"
