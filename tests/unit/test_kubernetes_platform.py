"""The platform kubernetes on a cluster that obeys at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from plans import plan
from simulated_cluster import NODES, FakeApi, FakeMeters, refused

from loadband.client import ControlClient, ControlError
from loadband.quantities import Setpoint
from loadband.rebalance.events import Disturbance, Event, Move, MoveState, Sample, Slice, Trouble
from loadband.rebalance.platforms import MoveRefusedError, PlatformError
from loadband.rebalance.platforms.kubernetes import platform as module
from loadband.rebalance.platforms.kubernetes.cluster import Seen
from loadband.rebalance.platforms.kubernetes.manifests import Where
from loadband.rebalance.platforms.kubernetes.platform import Kubernetes
from loadband.rebalance.platforms.kubernetes.states import Eviction

PLAN = plan(scenario="test", hot=0.8, hold=4.0, settle=4.0, return_within=60.0, sample_interval=0.5, watch=60.0)
WHERE = Where(namespace="loadband", image="loadband:test")


class Told:
    """The control listeners of all pods."""

    def __init__(self) -> None:
        self.efforts: list[float] = []
        self.error: ControlError | None = None


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found = Told()

    def set_effort(_: ControlClient, cpus: float) -> Setpoint:
        found.efforts.append(cpus)
        if found.error:
            raise found.error
        return Setpoint(None, "control", effort=cpus)

    monkeypatch.setattr(ControlClient, "set_effort", set_effort)
    return found


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {
        "START_SECONDS": 0.3,
        "ADOPTION": 0.0,
        "BUDGET_PAUSE": 0.01,
        "GONE_SECONDS": 0.1,
        "END_SECONDS": 0.0,
        "LOST_SECONDS": -1.0,
    }.items():
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(module, "Meters", FakeMeters)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def a_platform(api: FakeApi, where: Where = WHERE, count: int = 2) -> Kubernetes:
    return Kubernetes(api, where, PLAN, count=count, seconds=60.0)


def meters_of(platform: Kubernetes) -> FakeMeters:
    found = platform._meters
    assert isinstance(found, FakeMeters)
    return found


@pytest.fixture
def platform(api: FakeApi) -> Iterator[Kubernetes]:
    found = a_platform(api)
    found.start()
    yield found
    api.stays = []
    found.close()


def until(platform: Kubernetes, holds: Callable[[list[Event]], object]) -> list[Event]:
    """Poll until something holds for all events since then."""
    events: list[Event] = []
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        events += platform.poll()
        if holds(events):
            return events
        time.sleep(0.005)
    raise AssertionError(f"it never held: {events}")


def states(events: list[Event]) -> list[MoveState]:
    return [event.state for event in events if isinstance(event, Move)]


def troubles(events: list[Event]) -> list[Disturbance]:
    return [event for event in events if isinstance(event, Disturbance)]


def a_slice(platform: Kubernetes, api: FakeApi, name: str = "s", cpus: float = 0.5) -> None:
    """Have a slice that burns what it is asked for."""
    platform.make(name, "a", cpus)
    until(platform, lambda _: any(pod.slice == name for pod in api.pods.values()) and platform._book.pod(name))
    now = time.time()
    for second in (0.0, 1.0):
        meters_of(platform).read(now + second, {api.of(name).uid: cpus * second})
        platform.poll()
    until(platform, lambda _: not platform.pending() and any(one["kind"] == "ReplicaSet" for one in api.made))


# Before the run


def test_nodes_that_are_closed_or_not_ready_do_not_count() -> None:
    api = FakeApi([replace(NODES[0], open=False), replace(NODES[1], ready=False), NODES[2]])
    with pytest.raises(PlatformError, match="needs 2 nodes, and 1 of 3 are ready and take pods"):
        a_platform(api)
    with pytest.raises(PlatformError, match="1 of 3 with the labels pool=x are ready"):
        a_platform(api, replace(WHERE, nodes="pool=x"))


def test_an_api_server_that_refuses_or_does_not_answer_is_a_sentence(api: FakeApi) -> None:
    api.errors["nodes"] = [OSError("no answer"), refused(403)]
    for why in ("no answer", "refused with 403"):
        with pytest.raises(PlatformError, match=why):
            a_platform(api)


def test_it_says_what_it_is(platform: Kubernetes) -> None:
    part = platform.describe()
    assert (part.name, part.version) == ("kubernetes", "v1.34.0")
    assert part.settings["a"] == "2 CPUs"
    assert [(host.name, host.cpus) for host in platform.hosts()] == [("a", 2.0), ("b", 2.0)]
    assert platform.moves_resolution > 0
    assert [dict(target.labels)["node"] for target in platform.targets()] == ["a", "b"]
    platform.watch({"prometheus": 1})


def test_another_capacity_than_the_pods_find_names_the_option(api: FakeApi) -> None:
    platform = a_platform(api, replace(WHERE, cpus=1.0))
    with pytest.raises(PlatformError, match=r"pods on a may use 2 CPUs, and the run takes it for 1.*--node-cpus 2"):
        platform.start()
    assert platform.close() == ()


def test_an_observer_that_never_is_ready_is_named_with_its_reason(api: FakeApi) -> None:
    api.ready = False
    platform = a_platform(api)
    with pytest.raises(PlatformError, match=r"the observer on a isn't ready after .* \(Running\)"):
        platform.start()
    platform.close()


def test_an_observer_that_cannot_be_reached_is_named_with_its_address(api: FakeApi) -> None:
    platform = a_platform(api)
    meters_of(platform).answers = False
    with pytest.raises(PlatformError, match=r"the observer on a is ready and can't be reached at 10\.0\.0\.2:10670"):
        platform.start()
    platform.close()


def test_an_observer_that_ends_fails_the_run(platform: Kubernetes, api: FakeApi) -> None:
    api.tell(replace(api.observer("b"), phase="Failed", ended="OOMKilled"))
    with pytest.raises(PlatformError, match="the observer on b ended: OOMKilled"):
        platform.poll()


# Slices


def test_a_slice_is_made_adopted_and_removed_with_its_owner(platform: Kubernetes, api: FakeApi) -> None:
    a_slice(platform, api)
    owner = next(one for one in api.made if one["kind"] == "ReplicaSet")
    assert owner["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert [(one.name, one.host, one.cpus) for one in platform.view().slices] == [("s", "a", 0.5)]
    platform.remove("s")
    platform.remove("s")
    events = until(platform, lambda _: api.removed)
    assert api.removed == [owner["metadata"]["name"]]
    assert [event.present for event in events if isinstance(event, Slice)] == [False]


def test_a_neighbour_has_no_owner_is_in_no_view_and_cannot_be_moved(platform: Kubernetes, api: FakeApi) -> None:
    platform.make("n", "a", 0.5, movable=False)
    until(platform, lambda _: platform._book.pod("n"))
    assert platform.view().slices == ()
    with pytest.raises(MoveRefusedError, match="neighbour"):
        platform.move("n", "b", by="me", reason="")
    platform.remove("n")
    until(platform, lambda _: api.removed)
    assert api.removed == [api.of("n").name]
    assert not any(one["kind"] == "ReplicaSet" for one in api.made)


def test_a_slice_twice_or_on_no_host_is_refused(platform: Kubernetes, api: FakeApi) -> None:
    a_slice(platform, api)
    with pytest.raises(PlatformError, match="there is a slice s already"):
        platform.make("s", "a", 1.0)
    with pytest.raises(PlatformError, match="there is no host z for slice t"):
        platform.make("t", "z", 1.0)


def test_what_is_asked_of_a_slice_is_told_to_its_pod_and_its_owner(
    platform: Kubernetes, api: FakeApi, told: Told
) -> None:
    a_slice(platform, api)
    platform.ask("s", 1.5)
    assert platform.pending() == ["s"]
    until(platform, lambda _: told.efforts == [1.5] and api.patches)
    assert api.patches[0][1]["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == "1.500000"


def test_what_is_asked_before_there_is_an_owner_is_what_the_owner_is_made_with(
    platform: Kubernetes, api: FakeApi, told: Told
) -> None:
    api.errors["patch_owner"] = [refused(404)]
    platform.make("s", "a", 0.5)
    platform.ask("s", 1.5)
    until(platform, lambda _: told.efforts == [1.5] and any(one["kind"] == "ReplicaSet" for one in api.made))
    (owner,) = (one for one in api.made if one["kind"] == "ReplicaSet")
    assert owner["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == "1.500000"
    assert api.patches == []


def test_a_pod_that_refuses_what_is_asked_of_it_fails_the_run(platform: Kubernetes, api: FakeApi, told: Told) -> None:
    a_slice(platform, api)
    told.error = ControlError("http://10.0.0.4:10671: 401")
    platform.ask("s", 1.5)
    with pytest.raises(PlatformError, match="401"):
        until(platform, lambda _: False)


def test_what_is_asked_of_a_slice_on_its_way_is_told_to_its_successor(
    platform: Kubernetes, api: FakeApi, told: Told
) -> None:
    a_slice(platform, api)
    pod = api.of("s")
    api.tell(replace(pod, leaving=True))
    platform.poll()
    platform.ask("s", 1.0)
    platform.poll()
    assert told.efforts == []
    api.tell(replace(pod, name="successor", uid="next", node="b", leaving=False))
    until(platform, lambda _: told.efforts == [1.0])


def test_what_the_api_server_refuses_to_make_fails_the_run(platform: Kubernetes, api: FakeApi) -> None:
    api.errors["create"] = [refused(403)]
    platform.make("s", "a", 0.5)
    with pytest.raises(PlatformError, match="refused with 403"):
        until(platform, lambda _: False)


# Moves


def test_a_move_directs_the_successor_and_lets_the_scheduler_choose_again(platform: Kubernetes, api: FakeApi) -> None:
    a_slice(platform, api)
    move = platform.move("s", "b", by="me", reason="a is hot")
    events = until(platform, lambda events: MoveState.DONE in states(events))
    assert states(events) == [MoveState.ASKED, MoveState.ACCEPTED, MoveState.DONE]
    assert {event.move for event in events if isinstance(event, Move)} == {move}
    assert api.of("s").node == "b"
    until(platform, lambda _: set(api.wanted.values()) == {""})
    assert platform.view().slices[0].host == "b"


def test_a_disruption_budget_is_waited_for(platform: Kubernetes, api: FakeApi) -> None:
    a_slice(platform, api)
    api.errors["evict"] = [refused(429), refused(429)]
    platform.move("s", "b", by="me", reason="")
    assert MoveState.DONE in states(until(platform, lambda events: MoveState.DONE in states(events)))


@pytest.mark.parametrize("budget", [True, False])
def test_an_eviction_that_is_refused_fails_the_move(
    platform: Kubernetes, api: FakeApi, monkeypatch: pytest.MonkeyPatch, *, budget: bool
) -> None:
    monkeypatch.setattr(module, "BUDGET_SECONDS", 0.0)
    a_slice(platform, api)
    api.errors["evict"] = [refused(429 if budget else 404)]
    platform.move("s", "b", by="me", reason="")
    events = until(platform, lambda events: MoveState.FAILED in states(events))
    assert states(events) == [MoveState.ASKED, MoveState.FAILED]
    assert platform.view().slices[0].host == "a"


def test_who_evicted_comes_from_an_event(platform: Kubernetes, api: FakeApi) -> None:
    a_slice(platform, api)
    pod = api.of("s")
    api.tell(replace(pod, leaving=True))
    api.seen.put(Seen(time.time(), evictions=[Eviction(uid=pod.uid, who="descheduler")], gone=[pod]))
    events = until(platform, lambda events: MoveState.ACCEPTED in states(events))
    assert {event.by for event in events if isinstance(event, Move)} == {"descheduler"}
    assert platform.view().slices[0].host is None


# What happens


def test_samples_are_recorded_and_utilization_is_known_after_a_window(platform: Kubernetes, api: FakeApi) -> None:
    a_slice(platform, api)
    assert platform.view().hosts[0].utilization is None
    observer, now = api.observer("a").uid, time.time()
    events: list[Event] = []
    for second in range(6):
        meters_of(platform).read(now + 1 + second, {observer: 1.0 + second, "nobody's": 1.0})
        events += platform.poll()
    assert platform.view().hosts[0].utilization == pytest.approx(0.5)
    assert {event.name for event in events if isinstance(event, Sample)} == {"a", "observer of a"}


def test_load_of_others_is_recorded(platform: Kubernetes, api: FakeApi) -> None:
    observer, now = api.observer("a").uid, time.time() + 100
    events: list[Event] = []
    platform._background.node(now - 50, "a", 0.0)
    platform._background.node(now - 45, "a", 0.0)
    for second in range(10):
        reading = {observer: 0.0}
        meters_of(platform).read(now + second, reading)
        found = meters_of(platform).found
        found[0] = replace(found[0], counters=replace(found[0].counters, busy=1.5 * second))
        events += platform.poll()
    assert Trouble.FOREIGN_LOAD in {one.what for one in troubles(events)}


def test_a_lost_api_server_is_recorded_once_until_it_answers(platform: Kubernetes, api: FakeApi) -> None:
    for watch in ("pods", "nodes"):
        api.seen.put(Seen(time.time(), watch=watch, trouble="connection refused"))
    events = [*platform.poll(), *platform.poll()]
    assert [(one.what, one.who) for one in troubles(events)] == [(Trouble.MONITORING_DOWN, "kube-apiserver")]
    assert "connection refused" in troubles(events)[0].detail
    whole = [pod for pod in api.pods.values() if pod.slice]
    api.seen.put(Seen(time.time(), watch="pods", pods=whole, whole=True))
    api.seen.put(Seen(time.time(), watch="nodes"))
    platform.poll()
    api.seen.put(Seen(time.time(), watch="events", trouble="again"))
    assert len(troubles(list(platform.poll()))) == 1


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([replace(NODES[0], ready=False), NODES[1]], "isn't ready"),
        ([replace(NODES[0], open=False), NODES[1]], "takes no pods any more"),
        ([NODES[1]], "is gone"),
    ],
)
def test_a_node_that_is_not_well_is_recorded_once(
    platform: Kubernetes, api: FakeApi, nodes: list[object], why: str
) -> None:
    for seen in (nodes, nodes, NODES, nodes):
        api.seen.put(Seen(time.time(), nodes=seen))  # type: ignore[arg-type] # pytest's parameters have no type
    found = troubles(list(platform.poll()))
    assert [(one.what, one.host, one.detail) for one in found] == [
        (Trouble.HOST_NOT_READY, "a", f"node a {why}") for _ in range(2)
    ]


# The end


def test_what_is_left_is_a_sentence_with_the_command_once(api: FakeApi) -> None:
    platform = a_platform(api)
    platform.start()
    api.stays = ["pod/x"]
    api.errors["remove_all"] = [OSError("no answer")] * 1000
    (left,) = platform.close()
    assert "kubectl delete replicaset,pod,job --namespace loadband --selector loadband-run=" in left
    assert "(no answer)" in left
    assert api.closed
    assert meters_of(platform).closed
    assert platform.close() == ()
