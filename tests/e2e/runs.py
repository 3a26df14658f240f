"""`loadband rebalance run` on the cluster: started, interrupted, and what it left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from chart import Object
from e2e.api import kubectl, wait
from e2e.cluster import Cluster
from e2e.pods import IMAGE

from loadband.rebalance.events import Move, MoveState, PhaseName, Recording
from loadband.rebalance.figures import measure
from loadband.rebalance.platforms.kubernetes.manifests import ROLE_LABEL, SLICE
from loadband.rebalance.recording import read
from loadband.rebalance.verdict import Outcome, judge

HOT_NODE = Path(__file__).parent / "hot-node.toml"
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
        return " ".join(" ".join(lines[title : title + 4]).split())

    @property
    def wrong(self) -> str:
        """The evidence of each check that it didn't pass; the sentence has the first two."""
        checks = judge(self.recording, measure(self.recording)).checks
        return "; ".join(f"{one.name}: {one.evidence}" for one in checks if one.outcome is not Outcome.PASS)

    def moves(self, state: MoveState) -> list[Move]:
        return [event for event in self.recording.events if isinstance(event, Move) and event.state is state]


def command(namespace: str, out: Path, scenario: str | Path, *words: str) -> list[str]:
    given = ["--platform", "kubernetes", "--namespace", namespace, "--image", IMAGE, "--out", str(out), *words]
    return [sys.executable, "-m", "loadband", "rebalance", "run", str(scenario), *given]


def finished(process: subprocess.Popen[str], out: Path) -> Run:
    said, _ = process.communicate(timeout=240)
    print(said)
    return Run(process.returncode, said, read(out / "recording-1.jsonl"))


def wait_for(phase: PhaseName, out: Path) -> None:
    """Until a run that records there has come to a phase."""
    begun = f'"kind":"phase",.*"name":"{phase}"'
    wait(lambda: re.search(begun, (out / "recording-1.jsonl").read_text()), 120, f"the {phase}")


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


def of_slice(pod: Object) -> bool:
    return bool(pod["metadata"]["labels"].get(ROLE_LABEL) == SLICE)
