"""The descheduler as it is found in a cluster: described from its own configuration, and watched."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from plans import PLAN
from program import wait_until
from simulated import Clocks, Machine

from loadband.rebalance.events import Disturbance, Real, Trigger, Trouble
from loadband.rebalance.platforms.kubernetes.cluster import RefusedError
from loadband.rebalance.platforms.kubernetes.states import Workload, workload_of
from loadband.rebalance.rebalancers import Context, RebalancerError
from loadband.rebalance.rebalancers.descheduler import (
    OF_KOORDINATOR,
    OF_KUBERNETES,
    Descheduler,
    configuration,
    interval,
    strategies,
    thresholds,
)

PLACE = "kube-system/app.kubernetes.io/name=descheduler"


def policy(*enabled: str) -> str:
    plugins = {"balance": {"enabled": list(enabled)}, "deschedule": {"enabled": []}}
    arguments = {"thresholds": {"MetricResource": 40}, "targetThresholds": {"MetricResource": 60}}
    config = [{"name": "DefaultEvictor"}, {"name": "LowNodeUtilization", "args": arguments}]
    profile = {"name": "one", "plugins": plugins, "pluginConfig": config}
    return json.dumps({"kind": "DeschedulerPolicy", "profiles": [profile]})


FOUND = Workload(
    pods=["descheduler-0"],
    ready=True,
    image="localhost/descheduler:0.36.0",
    arguments=["--policy-config-file=/policy/policy.yaml", "--descheduling-interval=1m30s"],
    files={"descheduler/policy.yaml": policy("LowNodeUtilization", "RemoveDuplicates"), "descheduler/other": "{"},
)
CONTEXT = Context(run="1", plan=PLAN, actuator=Machine(Clocks(), ("a", "b")), prometheus=None)


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        (["--descheduling-interval=10s"], 10.0),
        (["--v=3", "--descheduling-interval", "1h5m"], 3900.0),
        (["--descheduling-interval=500ms"], 0.5),
        (["--descheduling-interval=0"], None),
        (["--descheduling-interval"], None),
        (["--v=3"], None),
    ],
)
def test_the_interval_is_read_from_its_arguments(arguments: list[str], seconds: float | None) -> None:
    assert interval(arguments) == seconds


def test_strategies_and_thresholds_are_those_of_its_policy() -> None:
    found = configuration(FOUND, "DeschedulerPolicy")
    assert strategies(found) == ["LowNodeUtilization", "RemoveDuplicates"]
    assert thresholds(found, "LowNodeUtilization")["LowNodeUtilization thresholds"] == "{'MetricResource': 40}"
    assert thresholds(found, "RemoveDuplicates") == {}
    assert strategies(configuration(replace(FOUND, files={"a": "kind: Other", "b": ": ["}), "DeschedulerPolicy")) == []


def test_only_strategies_that_look_at_utilization_are_its_actors() -> None:
    balancer = Descheduler(lambda: FOUND, PLACE, OF_KUBERNETES)
    before = balancer.describe()
    balancer.start(CONTEXT)
    part = balancer.describe()
    assert (before.name, before.real, before.trigger) == ("descheduler", Real.REAL, Trigger.LOOK)
    assert (part.version, part.interval, part.trigger) == ("0.36.0", 90.0, Trigger.LOOK)
    assert part.actors == ("sigs.k8s.io.descheduler: LowNodeUtilization",)
    assert part.settings["strategies"] == "LowNodeUtilization, RemoveDuplicates"


KOORD = Workload(
    pods=["koord-descheduler-0"],
    ready=True,
    image="localhost/koord-descheduler:1.7.0",
    arguments=["/koord-descheduler", "--config=/config/koord-descheduler.config"],
    files={
        "config/koord-descheduler-config": """
apiVersion: descheduler/v1alpha2
kind: DeschedulerConfiguration
deschedulingInterval: 1m10s
profiles:
  - name: koord-descheduler
    plugins:
      balance: {enabled: [{name: LowNodeLoad}]}
      deschedule: {disabled: [{name: "*"}]}
    pluginConfig:
      - {name: LowNodeLoad, args: {kind: LowNodeLoadArgs, highThresholds: {cpu: 75}}}
"""
    },
)


def test_koordinators_is_described_from_its_own_configuration() -> None:
    balancer = Descheduler(lambda: KOORD, OF_KOORDINATOR.place, OF_KOORDINATOR)
    balancer.start(CONTEXT)
    part = balancer.describe()
    balancer.stop()
    assert (part.name, part.version, part.interval, part.real) == ("koord-descheduler", "1.7.0", 70.0, Real.REAL)
    assert part.actors == ("koord-descheduler: LowNodeLoad",)
    assert part.settings["LowNodeLoad highThresholds"] == "{'cpu': 75}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: DeschedulerConfiguration", "the koord-descheduler at .* has no strategy: enable LowNodeLoad"),
        ("kind: DeschedulerPolicy", "has no strategy"),
        (
            next(iter(KOORD.files.values())).replace("deschedulingInterval: 1m10s", ""),
            "runs once: give it a deschedulingInterval in its configuration",
        ),
    ],
)
def test_one_of_koordinators_that_cannot_be_under_test_is_refused(text: str, said: str) -> None:
    with pytest.raises(RebalancerError, match=said):
        Descheduler(lambda: replace(KOORD, files={"c": text}), OF_KOORDINATOR.place, OF_KOORDINATOR).start(CONTEXT)


def _pod(name: str, **metadata: str) -> dict[str, object]:
    ready = metadata.pop("ready", "True")
    container = {"image": "x:1", "command": ["/bin/descheduler"], "args": ["--v=3"]}
    volumes = [{"name": "policy", "configMap": {"name": "policy"}}, {"name": "tmp", "emptyDir": {}}]
    return {
        "metadata": {"name": name, "uid": name, **metadata},
        "spec": {"containers": [container], "volumes": volumes},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def test_a_workload_is_read_from_its_pods_and_the_configuration_that_they_mount() -> None:
    pods = [_pod("old", deletionTimestamp="2026-01-01T00:00:00Z"), _pod("b"), _pod("a", ready="False")]
    maps = {"policy": {"data": {"policy.yaml": "kind: X"}}, "other": {"data": {"y": "z"}}}
    found = workload_of(pods, maps)
    assert found == Workload(
        pods=["a", "b"],
        ready=True,
        image="x:1",
        arguments=["/bin/descheduler", "--v=3"],
        files={"policy/policy.yaml": "kind: X"},
    )
    assert not workload_of([_pod("a", ready="False")], {}).ready
    assert workload_of([], {}) == Workload(pods=[], ready=False, arguments=[])


def _refuse() -> Workload:
    raise RefusedError(403, "pods is forbidden")


@pytest.mark.parametrize(
    ("find", "said"),
    [
        (lambda: Workload(pods=[], ready=False), "there is no such pod"),
        (lambda: replace(FOUND, ready=False), "descheduler-0 isn't ready"),
        (lambda: replace(FOUND, files={"p": policy("RemoveDuplicates")}), "has RemoveDuplicates: enable LowNode"),
        (lambda: replace(FOUND, files={}), "has no strategy"),
        (lambda: replace(FOUND, arguments=["--v=3"]), "runs once: give it --descheduling-interval"),
        (_refuse, "pods is forbidden"),
    ],
)
def test_one_that_cannot_be_under_test_is_refused(find: Callable[[], Workload], said: str) -> None:
    with pytest.raises(RebalancerError, match=said):
        Descheduler(find, PLACE, OF_KUBERNETES).start(CONTEXT)


@pytest.mark.parametrize(
    ("later", "what", "said"),
    [
        (lambda: replace(FOUND, ready=False), Trouble.REBALANCER_DOWN, "none of its pods is ready"),
        (lambda: replace(FOUND, pods=["descheduler-1"]), Trouble.REBALANCER_DOWN, "it was started anew: descheduler-1"),
        (lambda: replace(FOUND, image="localhost/descheduler:0.37.0"), Trouble.REBALANCER_CHANGED, "its image"),
        (lambda: replace(FOUND, files={"p": policy()}), Trouble.REBALANCER_CHANGED, "configuration were changed"),
        (_refuse, Trouble.REBALANCER_DOWN, "it can't be looked at: pods is forbidden"),
    ],
)
def test_one_that_changes_or_goes_is_told(later: Callable[[], Workload], what: Trouble, said: str) -> None:
    answers = [lambda: FOUND, later]
    balancer = Descheduler(lambda: answers.pop(0)() if len(answers) > 1 else answers[0](), PLACE, OF_KUBERNETES)
    balancer.start(CONTEXT)
    balancer.notify(0.0, {})
    trouble = _look(balancer)
    balancer.stop()
    assert trouble is not None
    assert trouble.what is what
    assert said in trouble.detail


def test_one_that_is_well_again_is_not_told() -> None:
    answers = [FOUND, replace(FOUND, ready=False), FOUND]
    balancer = Descheduler(lambda: answers.pop(0) if len(answers) > 1 else answers[0], PLACE, OF_KUBERNETES)
    balancer.start(CONTEXT)
    assert _look(balancer) is not None
    wait_until(lambda: _health(balancer, time.time() + 1000) is None, 5, "the next look")
    balancer.stop()


def _look(balancer: Descheduler) -> Disturbance | None:
    """What is wrong with it after the next look."""
    wait_until(lambda: _health(balancer, time.time()), 5, "a look")
    return balancer.health(time.time())


def _health(balancer: Descheduler, now: float) -> Disturbance | None:
    balancer.step(now)
    return balancer.health(now)
