"""Other rebalancers and controls on the cluster, and outages: what takes too long for each change (`make e2e-slow`)."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import yaml
from chart import CHART
from e2e.api import ApiError, kubectl, wait
from e2e.cluster import Cluster
from e2e.descheduler import NAME, descheduler
from e2e.koordinator import PLACE, koord_descheduler
from e2e.pods import pod_running
from e2e.prometheus import Prometheus, prometheus
from e2e.runs import HOT_NODE, command, dump, evictions, finished, started, wait_for
from e2e.said import Said

from loadband.exits import Exit
from loadband.rebalance.events import MoveState, PhaseName
from loadband.rebalance.rebalancers.descheduler import CONTROLLER, OF_KOORDINATOR

pytestmark = pytest.mark.slow

SYMMETRIC = """
expect = "no move"
foreign = "20%"
[hosts]
hot = 2
[[slices]]
name = "resident"
on = "each"
count = 2
size = "14%"
[[overload]]
add = "guest"
count = 3
size = "16%"
[phases]
watch = "40s"
[limits]
moves = "== 0"
"""
UNMOVABLE = """
expect = "no move"
foreign = "20%"
[[slices]]
name = "resident"
on = "cool"
count = 2
size = "12%"
[[overload]]
add = "giant"
size = "76%"
[phases]
watch = "40s"
[limits]
moves = "== 0"
"""
"""As the shipped scenarios, with room for what a cluster's own programs take."""


@pytest.mark.parametrize("text", [pytest.param(SYMMETRIC, id="symmetric"), pytest.param(UNMOVABLE, id="unmovable")])
def test_the_mover_moves_nothing_where_nothing_is_to_be_gained(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said, text: str
) -> None:
    before, known = dump(cluster, namespace), set(evictions())
    scenario, out = tmp_path / "scenario.toml", tmp_path / "out"
    scenario.write_text(text)
    with started(command(namespace, out, scenario, "--rebalancer", "mover")) as process:
        run = finished(process, out)
    said("nothing to be gained, mover", "PASS, no move", run.verdict)
    assert run.code == Exit.OK, run.said
    assert run.moves(MoveState.ASKED) == []
    assert set(evictions()) == known
    assert dump(cluster, namespace) == before


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(SYMMETRIC, Exit.OK, id="symmetric"),
        # Its only pod is too much for either node, and evicting it makes its node cool.
        pytest.param(UNMOVABLE, Exit.NOT_ACHIEVED, id="unmovable"),
    ],
)
def test_the_descheduler_where_nothing_is_to_be_gained(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said, text: str, code: Exit
) -> None:
    scenario, out, evictor = tmp_path / "scenario.toml", tmp_path / "out", f"{namespace}-evictor"
    scenario.write_text(text)
    with (
        cluster.namespace(evictor),
        prometheus(cluster, tmp_path) as server,
        descheduler(cluster, evictor, server, 50, 72, single=True),
    ):
        place = f"{evictor}/app.kubernetes.io/name={NAME}"
        words = ("--rebalancer", "descheduler", "--descheduler", place, "--prometheus", server.url)
        with started(command(namespace, out, scenario, *words)) as process:
            run = finished(process, out)
    said("nothing to be gained, descheduler", code.name, f"{run.verdict}; {len(run.moves(MoveState.DONE))} moves")
    assert run.code == code, run.said


def test_koordinators_descheduler_moves_slices_to_the_cool_node(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    out, evictor, known = tmp_path / "out", f"{namespace}-evictor", set(evictions())
    filler = pod_running(namespace, "filler", cluster.nodes[0].name, "import time; time.sleep(900)", cpu="400m")
    with (
        cluster.namespace(evictor),
        prometheus(cluster, tmp_path) as server,
        koord_descheduler(cluster, evictor, namespace, server),
    ):
        kubectl("apply", "--filename", "-", given=yaml.safe_dump(filler))
        place = f"{evictor}/{PLACE}"
        words = ("--rebalancer", OF_KOORDINATOR.name, "--descheduler", place, "--prometheus", server.url)
        with started(command(namespace, out, HOT_NODE, *words)) as process:
            run = finished(process, out)
    done = run.moves(MoveState.DONE)
    evicted = len(set(evictions()) - known)
    said("hot node, koord-descheduler", "PASS", f"{run.verdict}; {len(done)} moves, {evicted} in the audit log")
    assert run.code == Exit.OK, run.said
    assert len(done) == evicted > 0
    assert {move.by for move in done} == {f"{OF_KOORDINATOR.name}: LowNodeLoad"}


def test_trimaran_sends_evicted_slices_to_the_cool_node_though_it_has_more_requests(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    """The same as the descheduler's test that fails with the default scheduler.

    Trimaran asks Prometheus when it starts and then once a minute, which can't be made faster: it is started when the
    node has become hot.
    """
    out, evictor, known = tmp_path / "out", f"{namespace}-evictor", set(evictions())
    filler = pod_running(namespace, "filler", cluster.nodes[1].name, "import time; time.sleep(900)", cpu="400m")
    with (
        cluster.namespace(evictor),
        prometheus(cluster, tmp_path, CHART / "files/rules/opt-in/instance-node-cpu-ratio.yaml") as server,
        descheduler(cluster, evictor, server, 50, 72, single=True),
        ExitStack() as stack,
    ):
        kubectl("apply", "--filename", "-", given=yaml.safe_dump(filler))
        place = f"{evictor}/app.kubernetes.io/name={NAME}"
        words = ("--rebalancer", "descheduler", "--descheduler", place, "--scheduler", "trimaran")
        with started(command(namespace, out, HOT_NODE, *words, "--prometheus", server.url)) as process:
            wait_for(PhaseName.OVERLOAD, out)
            wait(lambda: max(ratio for _, ratio in server.query("instance:node_cpu:ratio")) > 0.6, 30, "a hot node")
            stack.enter_context(trimaran(server, tmp_path))
            run = finished(process, out)
    done = run.moves(MoveState.DONE)
    said(
        "hot node, descheduler and Trimaran, node 2 has more requests",
        "PASS",
        f"{run.verdict}; {len(done)} moves, {len(set(evictions()) - known)} in the audit log",
    )
    assert run.code == Exit.OK, run.said
    assert {move.by for move in done} == {f"{CONTROLLER}: LowNodeUtilization"}
    assert {move.destination for move in done} == {cluster.nodes[1].name}


@contextmanager
def trimaran(server: Prometheus, folder: Path) -> Iterator[None]:
    """A second scheduler with LoadVariationRiskBalancing, which doesn't count requests, from the program TRIMARAN."""
    program = shutil.which(os.environ.get("TRIMARAN", "trimaran"))
    if program is None:
        pytest.skip("TRIMARAN is not set: where is a kube-scheduler with Trimaran's plugins?")
    by_requests = [{"name": name} for name in ("NodeResourcesFit", "NodeResourcesBalancedAllocation")]
    arguments = {"metricProvider": {"type": "Prometheus", "address": server.url}}
    profile = {
        "schedulerName": "trimaran",
        "plugins": {"score": {"disabled": by_requests, "enabled": [{"name": "LoadVariationRiskBalancing"}]}},
        "pluginConfig": [{"name": "LoadVariationRiskBalancing", "args": arguments}],
    }
    configuration = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": os.environ["KUBECONFIG"]},
        "profiles": [profile],
    }
    (folder / "trimaran.yaml").write_text(yaml.safe_dump(configuration))
    flags = [f"--config={folder / 'trimaran.yaml'}", "--secure-port=0", "--v=2"]
    with (folder / "trimaran.log").open("w") as log, subprocess.Popen([program, *flags], stdout=log, stderr=log) as one:
        try:
            yield
        finally:
            one.terminate()
            one.wait()
            print((folder / "trimaran.log").read_text()[-4000:])


def test_the_default_scheduler_alone_moves_nothing(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    before, out = dump(cluster, namespace), tmp_path / "out"
    with started(command(namespace, out, HOT_NODE, "--rebalancer", "none")) as process:
        run = finished(process, out)
    said("hot node, the default scheduler alone", "FAIL, no move", run.verdict)
    assert run.code == Exit.NOT_ACHIEVED, run.said
    assert dump(cluster, namespace) == before
    assert run.moves(MoveState.ASKED) == []


def test_an_autoscaler_moves_nothing(cluster: Cluster, namespace: str, tmp_path: Path, said: Said) -> None:
    """It sees what each slice uses, and that this is below its target: which node they share is no concern of its."""
    try:
        cluster.api.get("/apis/metrics.k8s.io/v1beta1/nodes")
    except ApiError as error:
        pytest.skip(f"no metrics-server answers: {error.status}")
    out = tmp_path / "out"
    with started(command(namespace, out, HOT_NODE, "--rebalancer", "none")) as process:
        wait_for(PhaseName.OVERLOAD, out)
        owners = cluster.api.items(f"/apis/apps/v1/namespaces/{namespace}/replicasets")
        scalers = [scaler(one["metadata"]["name"]) for one in owners]
        kubectl("apply", "--namespace", namespace, "--filename", "-", given=yaml.safe_dump_all(scalers))
        wait(lambda: any(seen(cluster, namespace)), 60, "an autoscaler that knows what its pod uses")
        run = finished(process, out)
    found = json.dumps(seen(cluster, namespace))
    said("hot node, an autoscaler for each slice", "FAIL, no move", f"{run.verdict}; {found[:200]}")
    assert run.code == Exit.NOT_ACHIEVED, run.said
    assert run.moves(MoveState.ASKED) == []


def seen(cluster: Cluster, namespace: str) -> list[object]:
    """What each autoscaler knows of its pod, None if nothing yet."""
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    return [one["status"].get("currentMetrics") for one in cluster.api.items(path)]


def scaler(owner: str) -> dict[str, object]:
    """An autoscaler for a ReplicaSet, whose target is above what its pod burns."""
    target = {"type": "AverageValue", "averageValue": "300m"}
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": owner},
        "spec": {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 3, "metrics": [metric]},
    }


def test_an_api_server_that_restarts_spoils_the_run_and_everything_is_undone(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    """REPAIR is a command that starts a killed API server."""
    if "REPAIR" not in os.environ:
        pytest.skip("REPAIR is not set: what starts the API server again?")
    before, scenario, out = dump(cluster, namespace), tmp_path / "scenario.toml", tmp_path / "out"
    scenario.write_text(SYMMETRIC)
    with started(command(namespace, out, scenario, "--rebalancer", "mover")) as process:
        wait_for(PhaseName.WATCH, out)
        killed = [one for one in psutil.process_iter() if one.name() == "kube-apiserver"]
        if not killed:
            pytest.skip("the API server is not on this machine")
        for one in killed:
            one.kill()
            one.wait(10)
        began = time.monotonic()
        time.sleep(5)  # as long as nobody starts it
        subprocess.run(shlex.split(os.environ["REPAIR"]), check=True, stdout=subprocess.DEVNULL)
        took = time.monotonic() - began
        run = finished(process, out)
    said(f"API server gone for {took:.0f} s", "INVALID, and what was missing; nothing left", run.verdict)
    assert run.code == Exit.INVALID, run.said
    assert "kube-apiserver" in run.wrong
    assert dump(cluster, namespace) == before
