"""A thousand nodes that KWOK simulates beside the real ones: what following them costs, and if a move is missed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psutil
import pytest
from chart import Object
from e2e.api import kubectl, pause, wait
from e2e.cluster import Cluster
from e2e.pods import HARMLESS, Pod
from e2e.prometheus import serving
from e2e.runs import Run
from e2e.said import Said
from program import cpu_seconds

from loadband.rebalance.events import Disturbance, MoveState, Sample
from loadband.rebalance.recording import read

NODES, PODS, DEPLOYMENTS = 1000, 5000, 50
FAKE = {"type": "kwok"}
"""The label of the simulated nodes."""
EVICTIONS_PER_SECOND = 2.0
SECONDS = 60.0
CPUS, MEBIBYTES = 0.5, 500
"""What following may take, at most."""
SCRAPE = 15.0
BUSY = 0.3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_thousand_nodes_are_followed(cluster: Cluster, namespace: str, tmp_path: Path, said: Said) -> None:
    if shutil.which("kwok") is None:
        pytest.skip("kwok is not installed")
    out = tmp_path / "out"
    with nodes(cluster, tmp_path / "kwok.log"), monitored(tmp_path) as url, slices(cluster, namespace):
        words = ["--nodes", "type=kwok", "--prometheus", url]
        command = [sys.executable, "-m", "loadband", "rebalance", "record", str(out), *words]
        with subprocess.Popen(command) as process:
            try:
                wait(lambda: b'"subject":"host"' in (out / "recording-1.jsonl").read_bytes(), 120, "the first sample")
                began, start = pause(0), cpu_seconds(process.pid)
                evicted = evict(cluster, namespace, SECONDS)
                ended, spent = pause(SCRAPE), cpu_seconds(process.pid) - start
                memory = psutil.Process(process.pid).memory_info().rss / (1 << 20)
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 0
            finally:
                process.kill()
        run = Run(process.returncode, "", read(out / "recording-1.jsonl"))
        done = {move.move for move in run.moves(MoveState.DONE)}
        hosts = {event.name for event in run.recording.events if isinstance(event, Sample)}
        wrong = [event.detail for event in run.recording.events if isinstance(event, Disturbance)]
        share = spent / (ended - began)
        said(
            f"{NODES} nodes, {PODS} pods, {evicted} evicted",
            f"below {CPUS:g} CPUs and {MEBIBYTES} MiB, every move known",
            f"{share:.3f} CPUs ({start:.1f} s to begin), {memory:.0f} MiB, {len(done)} moves, {len(hosts)} hosts, "
            f"{(out / 'recording-1.jsonl').stat().st_size / 1e6:.1f} MB, {wrong or 'nothing wrong'}",
        )
    assert len(hosts) == NODES
    assert len(done) == evicted > 0
    assert {move.source for move in run.moves(MoveState.ACCEPTED)} <= hosts
    assert not wrong
    assert share < CPUS
    assert memory < MEBIBYTES


def running(cluster: Cluster, namespace: str) -> list[Pod]:
    """The pods that are ready, and are to stay."""
    found = [Pod(each, cluster.api) for each in cluster.api.items(f"/api/v1/namespaces/{namespace}/pods")]
    return [pod for pod in found if pod.ready and not pod.leaving]


def evict(cluster: Cluster, namespace: str, seconds: float) -> int:
    """Evict pods for some time, one after the other, and wait until all were replaced; gives their number."""
    pods = running(cluster, namespace)
    began, count = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        pod = pods[count]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.name, "namespace": namespace}}
        cluster.api.text(f"{pod.path}/eviction", "POST", body)
        count += 1
        time.sleep(max(0.0, began + count / EVICTIONS_PER_SECOND - time.monotonic()))
    wait(lambda: len(running(cluster, namespace)) == PODS, 60, "the last successor")
    return count


# What there is


def in_parallel(calls: Iterable[Callable[[], object]]) -> None:
    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(call) for call in calls]:
            one.result()


@contextmanager
def nodes(cluster: Cluster, log: Path) -> Iterator[None]:
    """Nodes that KWOK keeps alive, gone afterwards."""
    words = ["--kubeconfig", os.environ["KUBECONFIG"], "--manage-all-nodes=false"]
    # A renewal every 30 s, which nodes may take 40 for: every 10 s, a thousand would keep a small machine busy.
    words += ["--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", "--node-lease-duration-seconds=120"]
    with log.open("w") as out, subprocess.Popen(["kwok", *words], stdout=out, stderr=out) as kwok:
        try:
            in_parallel(partial(cluster.api.text, "/api/v1/nodes", "POST", node(each)) for each in range(NODES))
            yield
        finally:
            kubectl("delete", "node", "--selector", "type=kwok", "--wait=false", seconds=600)
            kwok.terminate()


def node(number: int) -> Object:
    size = {"cpu": "32", "memory": "256Gi", "pods": "110"}
    metadata = {"name": f"kwok-{number:04}", "labels": FAKE, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    spec = {"taints": [{"key": "kwok", "effect": "NoSchedule"}]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": metadata,
        "spec": spec,
        "status": {"allocatable": size, "capacity": size},
    }


def deployment(number: int) -> Object:
    labels = {"app": f"slices-{number}"}
    container = {"name": "main", "image": "none", "securityContext": HARMLESS}
    spec = {"nodeSelector": FAKE, "tolerations": [{"key": "kwok", "operator": "Exists"}], "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"slices-{number}"},
        "spec": {
            "replicas": PODS // DEPLOYMENTS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


@contextmanager
def slices(cluster: Cluster, namespace: str) -> Iterator[None]:
    """All pods, running; gone afterwards, and not one by one."""
    path = f"/apis/apps/v1/namespaces/{namespace}"
    try:
        for number in range(DEPLOYMENTS):
            cluster.api.text(f"{path}/deployments", "POST", deployment(number))
        wait(lambda: len(running(cluster, namespace)) == PODS, 900, f"{PODS} pods")
        yield
    finally:
        for kind in ("deployments", "replicasets"):
            cluster.api.text(f"{path}/{kind}?propagationPolicy=Background", "DELETE")
        wait(lambda: not cluster.api.items(f"{path}/replicasets"), 120, "the end of the owners")
        pods = f"/api/v1/namespaces/{namespace}/pods"

        def emptied() -> bool:
            cluster.api.text(f"{pods}?gracePeriodSeconds=0", "DELETE")
            return not cluster.api.items(pods)

        wait(emptied, 300, "the end of the pods")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def exported(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """A node's counters, as its node_exporter would have them."""
    start_response("200 OK", [("Content-Type", "text/plain; version=0.0.4")])
    now = time.time()
    modes = {"user": BUSY * now, "idle": (1 - BUSY) * now}
    text = "".join(f'node_cpu_seconds_total{{cpu="0",mode="{mode}"}} {value}\n' for mode, value in modes.items())
    assert parse_qs(environ["QUERY_STRING"])["node"]
    return [text.encode()]


@contextmanager
def monitored(folder: Path) -> Iterator[str]:
    """A Prometheus that scrapes each of the simulated nodes; gives its URL."""
    with make_server("127.0.0.1", 0, exported, _Server, _Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        relabel = [
            {"source_labels": ["__address__"], "target_label": "__param_node"},
            {"source_labels": ["__address__"], "target_label": "instance"},
            {"source_labels": ["__address__"], "target_label": "node"},
            {"target_label": "__address__", "replacement": f"127.0.0.1:{server.server_port}"},
        ]
        job = {
            "job_name": "node-exporter",
            "static_configs": [{"targets": [f"kwok-{number:04}" for number in range(NODES)]}],
            "relabel_configs": relabel,
        }
        config = {"global": {"scrape_interval": f"{SCRAPE:g}s"}, "scrape_configs": [job]}
        try:
            with serving(folder, config, "127.0.0.1") as found:
                exporters = "count(node_cpu_seconds_total{mode='idle'})"
                wait(lambda: [value for _, value in found.query(exporters)] == [NODES], 60, "all exporters")
                yield found.url
        finally:
            server.shutdown()
