"""Whole runs on the cluster: a node runs hot, something moves, balance comes back; and what must not pass for that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from chart import Object
from e2e.api import kubectl, wait
from e2e.cluster import Cluster
from e2e.descheduler import NAME, descheduler
from e2e.pods import IMAGE, pod_running
from e2e.prometheus import prometheus
from e2e.said import Said

from loadband.exits import Exit
from loadband.rebalance.events import Move, MoveState, Recording
from loadband.rebalance.platforms.kubernetes.manifests import ROLE_LABEL, SLICE, SLICE_LABEL
from loadband.rebalance.platforms.kubernetes.platform import RESOLUTION
from loadband.rebalance.platforms.kubernetes.pods import SOMEBODY_DELETED
from loadband.rebalance.rebalancers.descheduler import CONTROLLER
from loadband.rebalance.recording import read

HERE = Path(__file__).parent
HOT_NODE = HERE / "hot-node.toml"
KINDS = "pods,replicasets,deployments,jobs,configmaps,secrets,services,serviceaccounts,leases,poddisruptionbudgets"
"""All that a run could leave behind in a namespace."""


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    code: int
    said: str
    recording: Recording

    @property
    def verdict(self) -> str:
        """The sentence under the report's title."""
        lines = self.said.splitlines()
        (title,) = (place for place, line in enumerate(lines) if " on kubernetes with " in line)
        return " ".join(lines[title : title + 4])

    def moves(self, state: MoveState) -> list[Move]:
        return [event for event in self.recording.events if isinstance(event, Move) and event.state is state]


def command(namespace: str, out: Path, scenario: str | Path, *words: str) -> list[str]:
    given = ["--platform", "kubernetes", "--namespace", namespace, "--image", IMAGE, "--out", str(out), *words]
    return [sys.executable, "-m", "loadband", "rebalance", "run", str(scenario), *given]


def finished(process: subprocess.Popen[str], out: Path) -> Run:
    said, _ = process.communicate(timeout=240)
    print(said)
    return Run(process.returncode, said, read(out / "recording-1.jsonl"))


@contextmanager
def started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def dump(cluster: Cluster, namespace: str) -> tuple[Object, list[str]]:
    """What a run could have changed: the nodes, and all objects of the namespace."""
    nodes = {
        node["metadata"]["name"]: [node["metadata"].get("labels"), node["spec"]]
        for node in cluster.api.items("/api/v1/nodes")
    }
    objects = json.loads(kubectl("get", KINDS, "--namespace", namespace, "--output", "json"))["items"]
    return nodes, sorted(f"{one['kind']}/{one['metadata']['name']}" for one in objects)


def evictions() -> dict[str, float]:
    """By pod, when the API server took its eviction, seconds since the epoch; by its audit log."""
    if "AUDIT_LOG" not in os.environ:
        pytest.skip("AUDIT_LOG is not set: which file does the API server write?")
    found = {}
    for line in Path(os.environ["AUDIT_LOG"]).read_text().splitlines():
        event = json.loads(line)
        about = event.get("objectRef", {})
        if about.get("subresource") == "eviction" and event["responseStatus"].get("code", 0) < 300:
            found[about["name"]] = _seconds(event["stageTimestamp"])
    return found


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


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
watch = "25s"
"""
"""Nothing to be done, and nobody who does it."""


def test_a_pod_deleted_by_hand_spoils_the_run(cluster: Cluster, namespace: str, tmp_path: Path, said: Said) -> None:
    scenario, out = tmp_path / "calm.toml", tmp_path / "out"
    scenario.write_text(CALM)
    with started(command(namespace, out, scenario, "--rebalancer", "none")) as process:
        recording = out / "recording-1.jsonl"
        wait(lambda: '"watch"' in recording.read_text(), 90, "the watch")
        slices = [pod for pod in cluster.api.items(f"/api/v1/namespaces/{namespace}/pods") if of_slice(pod)]
        victim = slices[0]["metadata"]["name"]
        kubectl("delete", "pod", victim, "--namespace", namespace, "--wait=false")
        run = finished(process, out)
    said("a slice's pod deleted by hand", "INVALID, and who", run.verdict)
    assert run.code == Exit.INVALID, run.said
    assert f"{SOMEBODY_DELETED} moved {slices[0]['metadata']['labels'][SLICE_LABEL]}" in run.verdict


def of_slice(pod: Object) -> bool:
    return bool(pod["metadata"]["labels"].get(ROLE_LABEL) == SLICE)


def test_ctrl_c_leaves_nothing(cluster: Cluster, namespace: str, tmp_path: Path, said: Said) -> None:
    before, out = dump(cluster, namespace), tmp_path / "out"
    with started(command(namespace, out, HOT_NODE, "--rebalancer", "mover")) as process:
        wait(lambda: '"overload"' in (out / "recording-1.jsonl").read_text(), 90, "the overload")
        there = len(dump(cluster, namespace)[1]) - len(before[1])
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        run = finished(process, out)
        took = time.monotonic() - began
    said("Ctrl-C in the overload", "INVALID, nothing left", f"exit {run.code} after {took:.1f} s, {there} objects gone")
    assert there > 0
    assert run.code == Exit.INVALID
    assert dump(cluster, namespace) == before


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
    done = run.moves(MoveState.DONE)
    said(
        f"hot node, descheduler, node {fuller + 1} has more requests",
        f"{code.name}; as many moves as evictions",
        f"{run.verdict}; {len(done)} moves, {evicted} in the audit log",
    )
    assert run.code == code, run.said
    assert len(done) == evicted > 0
    assert {move.by for move in done} == {f"{CONTROLLER}: LowNodeUtilization"}
    assert {move.destination for move in done} == {cluster.nodes[1 - fuller].name}
