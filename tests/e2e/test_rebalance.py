"""Whole runs on the cluster: a node runs hot, something moves, balance comes back; and what must not pass for that."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest
import yaml
from e2e.api import kubectl
from e2e.cluster import Cluster
from e2e.descheduler import NAME, descheduler
from e2e.pods import pod_running
from e2e.prometheus import prometheus
from e2e.runs import HOT_NODE, command, dump, evictions, finished, of_slice, started, wait_for
from e2e.said import Said

from loadband.exits import Exit
from loadband.rebalance.events import MoveState, Phase, PhaseName
from loadband.rebalance.platforms.kubernetes.manifests import SLICE_LABEL
from loadband.rebalance.platforms.kubernetes.platform import RESOLUTION
from loadband.rebalance.platforms.kubernetes.pods import SOMEBODY_DELETED
from loadband.rebalance.rebalancers.descheduler import CONTROLLER


def test_the_mover_brings_balance_back_and_leaves_nothing(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    before, known = dump(cluster, namespace), set(evictions())
    with started(command(namespace, tmp_path / "out", HOT_NODE, "--rebalancer", "mover")) as process:
        run = finished(process, tmp_path / "out")
    evicted = {pod: at for pod, at in evictions().items() if pod not in known}
    accepted = run.moves(MoveState.ACCEPTED)
    apart = [min(abs(move.at - at) for at in evicted.values()) for move in accepted]
    said(
        "hot node, mover",
        f"PASS; moves within {RESOLUTION:g} s of the audit log",
        f"{run.verdict}; {len(accepted)} moves, {max(apart, default=0):.3f} s apart at most",
    )
    assert run.code == Exit.OK, run.said
    assert len(accepted) == len(evicted) == len(run.moves(MoveState.DONE)) > 0
    assert max(apart) <= RESOLUTION
    assert dump(cluster, namespace) == before


CALM = """
expect = "no move"
foreign = "25%"

[hosts]
hot = 0

[[slices]]
count = 2
size = "15%"

[phases]
watch = "18s"
"""
"""Nothing to be done, and nobody who does it."""


def test_a_pod_deleted_by_hand_spoils_the_run(cluster: Cluster, namespace: str, tmp_path: Path, said: Said) -> None:
    scenario, out = tmp_path / "calm.toml", tmp_path / "out"
    scenario.write_text(CALM)
    with started(command(namespace, out, scenario, "--rebalancer", "none")) as process:
        wait_for(PhaseName.WATCH, out)
        slices = [pod for pod in cluster.api.items(f"/api/v1/namespaces/{namespace}/pods") if of_slice(pod)]
        victim = slices[0]["metadata"]["name"]
        kubectl("delete", "pod", victim, "--namespace", namespace, "--wait=false")
        run = finished(process, out)
    said("a slice's pod deleted by hand", "INVALID, and who", run.verdict)
    assert run.code == Exit.INVALID, run.said
    assert f"{SOMEBODY_DELETED} moved {slices[0]['metadata']['labels'][SLICE_LABEL]}" in run.verdict


@pytest.mark.parametrize(
    "phase",
    [phase if phase is PhaseName.OVERLOAD else pytest.param(phase, marks=pytest.mark.slow) for phase in PhaseName],
)
def test_ctrl_c_leaves_nothing(cluster: Cluster, namespace: str, tmp_path: Path, said: Said, phase: PhaseName) -> None:
    before, out = dump(cluster, namespace), tmp_path / "out"
    with started(command(namespace, out, HOT_NODE, "--rebalancer", "mover")) as process:
        wait_for(phase, out)
        there = len(dump(cluster, namespace)[1]) - len(before[1])
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        run = finished(process, out)
        took = time.monotonic() - began
    said(f"Ctrl-C in the {phase}", "INVALID, nothing left", f"exit {run.code} after {took:.1f} s, {there} objects gone")
    assert there > 0
    assert run.code == Exit.INVALID
    assert dump(cluster, namespace) == before


LANDING = 5.0
"""Seconds from an eviction until the successor burns, at most."""


@pytest.mark.parametrize(
    ("fuller", "code"),
    [pytest.param(0, Exit.OK, id="hot-node-fuller"), pytest.param(1, Exit.NOT_ACHIEVED, id="cool-node-fuller")],
)
def test_the_descheduler_needs_a_scheduler_that_agrees(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said, fuller: int, code: Exit
) -> None:
    """It evicts; the default scheduler, which knows requests only, decides where the successor goes."""
    out, evictor, known = tmp_path / "out", f"{namespace}-evictor", set(evictions())
    filler = pod_running(namespace, "filler", cluster.nodes[fuller].name, "import time; time.sleep(900)", cpu="400m")
    with (
        cluster.namespace(evictor),
        prometheus(cluster, tmp_path) as server,
        descheduler(cluster, evictor, server, 50, 72, single=True),
    ):
        kubectl("apply", "--filename", "-", given=yaml.safe_dump(filler))
        place = f"{evictor}/app.kubernetes.io/name={NAME}"
        words = ("--rebalancer", "descheduler", "--descheduler", place, "--prometheus", server.url)
        with started(command(namespace, out, HOT_NODE, *words)) as process:
            run = finished(process, out)
    evicted = len(set(evictions()) - known)
    accepted, done = run.moves(MoveState.ACCEPTED), run.moves(MoveState.DONE)
    (end,) = (one.at for one in run.recording.events if isinstance(one, Phase) and one.name is PhaseName.RECOVERY)
    said(
        f"hot node, descheduler, node {fuller + 1} has more requests",
        f"{code.name}; as many moves as evictions",
        f"{run.verdict}; {len(accepted)} moves, {evicted} in the audit log",
    )
    assert run.code == code, run.said
    assert len(accepted) == evicted > 0
    # It never stops here, and the end of the overload takes away a slice that is still on its way then.
    assert {one.move for one in accepted if one.at < end - LANDING} <= {one.move for one in done}
    assert {move.by for move in done} == {f"{CONTROLLER}: LowNodeUtilization"}
    assert {move.destination for move in done} == {cluster.nodes[1 - fuller].name}


@pytest.mark.slow
def test_a_strategy_that_moves_pods_whatever_their_load_proves_nothing(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    """RemoveDuplicates finds nothing to do: each slice has an owner of its own. PodLifeTime evicts whatever is old."""
    out, evictor = tmp_path / "out", f"{namespace}-evictor"
    # LowNodeUtilization is enabled, and finds no node above its thresholds.
    others = {
        "RemoveDuplicates": {},
        "PodLifeTime": {"maxPodLifeTimeSeconds": 20, "namespaces": {"include": [namespace]}},
    }
    with (
        cluster.namespace(evictor),
        prometheus(cluster, tmp_path) as server,
        descheduler(cluster, evictor, server, 98, 99, single=True, others=others),
    ):
        place = f"{evictor}/app.kubernetes.io/name={NAME}"
        words = ("--rebalancer", "descheduler", "--descheduler", place, "--prometheus", server.url)
        with started(command(namespace, out, HOT_NODE, *words)) as process:
            run = finished(process, out)
    by = {move.by for move in run.moves(MoveState.DONE)}
    said("descheduler that evicts what is old", "INVALID, and which strategy", f"{run.verdict}; moved by {sorted(by)}")
    assert run.code == Exit.INVALID, run.said
    assert by == {f"{CONTROLLER}: PodLifeTime"}
    assert f"{CONTROLLER}: PodLifeTime moved" in run.wrong


def test_a_prometheus_that_dies_spoils_the_run(cluster: Cluster, namespace: str, tmp_path: Path, said: Said) -> None:
    before, scenario, out = dump(cluster, namespace), tmp_path / "calm.toml", tmp_path / "out"
    scenario.write_text(CALM)
    with started(command(namespace, out, scenario, "--rebalancer", "none")) as process:
        wait_for(PhaseName.WATCH, out)
        children = psutil.Process(process.pid).children(recursive=True)
        (server,) = (one for one in children if one.name().startswith("prometheus") and "alert" not in one.name())
        server.kill()
        run = finished(process, out)
    said("Prometheus killed in the watch", "INVALID, and what is missing; nothing left", run.verdict)
    assert run.code == Exit.INVALID, run.said
    assert "prometheus" in run.verdict.lower()
    assert dump(cluster, namespace) == before
