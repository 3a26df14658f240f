"""Platform kubernetes: what a run makes in the cluster."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from loadband.rebalance.platforms.kubernetes.manifests import (
    CONTROL_PORT,
    METRICS_PORT,
    NEIGHBOUR,
    OBSERVER,
    ROLE_LABEL,
    RUN_LABEL,
    SLICE,
    SLICE_LABEL,
    Makings,
    Manifest,
    effort,
    effort_patch,
    placement_patch,
)

MAKINGS = Makings(run="1a2b3c4d", image="registry.example/loadband:1", token="a-token-of-the-run", lifetime=600.2)
PODS = {
    OBSERVER: MAKINGS.observer("Worker-1.example.org"),
    NEIGHBOUR: MAKINGS.neighbour("noise-1-1", "worker-1", 0.5),
    SLICE: MAKINGS.first("resident-1-1", "worker-1", 0.25),
}
OWNER = MAKINGS.owner("resident-1-1", 0.25, "uid-of-the-job")
DEADLINE = MAKINGS.deadline()
SPECS = {role: pod["spec"] for role, pod in PODS.items()} | {"successor": OWNER["spec"]["template"]["spec"]}
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""RFC 1123, as the API server checks names of pods, ReplicaSets and Jobs."""


def environment(spec: Manifest) -> dict[str, str]:
    return {each["name"]: each["value"] for each in spec["containers"][0]["env"]}


@pytest.mark.parametrize("role", SPECS)
def test_every_pod_passes_pod_security_restricted(role: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    spec = SPECS[role]
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["runAsNonRoot"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "privileged" not in context
        assert all("hostPort" not in port for port in container["ports"])


@pytest.mark.parametrize("role", SPECS)
def test_every_pod_is_small_ready_when_its_regulator_is_and_ends_soon(role: str) -> None:
    spec = SPECS[role]
    (container,) = spec["containers"]
    assert container["image"] == MAKINGS.image
    assert container["resources"]["requests"]["cpu"] == "10m", "a utilization by requests must not see the load"
    assert "cpu" not in container["resources"]["limits"], "a throttled slice doesn't burn what it is asked to"
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": METRICS_PORT}
    assert spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] == 3


def test_a_regulator_burns_what_its_pod_is_for() -> None:
    efforts = {role: environment(spec)["LOADBAND_EFFORT"] for role, spec in SPECS.items()}
    assert efforts == {OBSERVER: "0.001000", NEIGHBOUR: "0.500000", SLICE: "0.250000", "successor": "0.250000"}
    for spec in SPECS.values():
        settings = environment(spec)
        assert settings["LOADBAND_SCOPE"] == "cpuset"
        assert settings["LOADBAND_CONTROL_LISTEN"] == f"[::]:{CONTROL_PORT}", "pods may have IPv4, IPv6 or both"
        assert settings["LOADBAND_CONTROL_TOKEN"] == MAKINGS.token


@pytest.mark.parametrize("made", [*PODS.values(), OWNER, DEADLINE], ids=lambda made: made["metadata"]["name"])
def test_names_are_valid_and_everything_carries_the_run(made: Manifest) -> None:
    name = made["metadata"]["name"]
    assert SUBDOMAIN.fullmatch(name)
    assert len(name) <= 253
    assert made["metadata"]["labels"][RUN_LABEL] == MAKINGS.run
    assert json.loads(json.dumps(made)) == made


def test_names_differ() -> None:
    names = [made["metadata"]["name"] for made in (*PODS.values(), OWNER, DEADLINE)]
    assert len(set(names)) == len(names)
    assert MAKINGS.name_of("Worker-1") == "loadband-1a2b3c4d-worker-1"


def test_pods_say_what_they_are_for() -> None:
    for role, pod in PODS.items():
        assert pod["metadata"]["labels"][ROLE_LABEL] == role
    assert SLICE_LABEL not in PODS[OBSERVER]["metadata"]["labels"]
    assert PODS[NEIGHBOUR]["metadata"]["labels"][SLICE_LABEL] == "noise-1-1"


@pytest.mark.parametrize("role", [OBSERVER, NEIGHBOUR])
def test_pods_that_nobody_may_move_have_no_owner_and_end_by_themselves(role: str) -> None:
    pod = PODS[role]
    assert "ownerReferences" not in pod["metadata"]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["activeDeadlineSeconds"] == 601


def test_observers_are_put_on_their_node_as_it_is_written() -> None:
    assert PODS[OBSERVER]["spec"]["nodeName"] == "Worker-1.example.org"


def test_the_owner_adopts_the_first_pod_and_makes_its_like() -> None:
    first = PODS[SLICE]
    selector, template = OWNER["spec"]["selector"]["matchLabels"], OWNER["spec"]["template"]
    assert selector.items() <= first["metadata"]["labels"].items()
    assert not selector.items() <= PODS[NEIGHBOUR]["metadata"]["labels"].items()
    assert template["metadata"]["labels"] == first["metadata"]["labels"]
    assert OWNER["spec"]["replicas"] == 1
    placed = {"nodeName": "worker-1", "restartPolicy": "Always"}
    assert first["spec"] == template["spec"] | placed, "the successor is free to go anywhere, and lives as long"


def test_a_scheduler_that_is_asked_for_places_the_successors() -> None:
    spec = replace(MAKINGS, scheduler="trimaran").owner("resident-1-1", 0.25, "uid")["spec"]["template"]["spec"]
    assert spec["schedulerName"] == "trimaran"
    assert "schedulerName" not in OWNER["spec"]["template"]["spec"]


def test_the_deadline_is_a_job_without_a_pod_that_takes_its_dependents_along() -> None:
    spec = DEADLINE["spec"]
    assert (spec["parallelism"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (0, 601, 0)
    (reference,) = OWNER["metadata"]["ownerReferences"]
    job = {key: DEADLINE[key] for key in ("apiVersion", "kind")} | {"name": DEADLINE["metadata"]["name"]}
    assert reference == job | {"uid": "uid-of-the-job"}


@pytest.mark.parametrize(
    ("cpus", "written"), [(0.0, "0.001000"), (0.0004, "0.001000"), (1.5, "1.500000"), (1e-3 / 3 + 1, "1.000333")]
)
def test_an_effort_is_written_as_a_plain_number_that_loadband_takes(cpus: float, written: str) -> None:
    assert effort(cpus) == written


def test_the_patch_of_the_effort_changes_that_variable_of_that_container() -> None:
    (patched,) = effort_patch(0.75)["spec"]["template"]["spec"]["containers"]
    assert patched["name"] == SPECS["successor"]["containers"][0]["name"], "a strategic merge goes by the name"
    assert patched["env"] == [{"name": "LOADBAND_EFFORT", "value": "0.750000"}]


def test_the_patch_of_the_placement_binds_to_a_node_and_lets_go_again() -> None:
    spec = placement_patch("worker-2")["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["worker-2"]}]}
    assert placement_patch(None) == {"spec": {"template": {"spec": {"affinity": None}}}}
