"""The chart's `rebalance.enabled`: a run inside the cluster, with the rights that the chart gives it and no others."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from chart import Object
from e2e.api import kubectl, wait
from e2e.cluster import Cluster, on
from e2e.descheduler import NAME, descheduler
from e2e.pods import IMAGE, pod_running
from e2e.prometheus import prometheus
from e2e.runs import HOT_NODE, dump
from e2e.said import Said

from loadband.exits import Exit

RUN_IMAGE = f"{IMAGE}-rebalance"
"""What the chart takes if nobody says otherwise."""


@pytest.mark.slow
def test_a_job_runs_the_scenario_to_its_verdict_and_leaves_nothing(
    cluster: Cluster, namespace: str, tmp_path: Path, said: Said
) -> None:
    """The descheduler is in a namespace of its own, which the run may look at."""
    if "LOAD_IMAGE" in os.environ:
        subprocess.run([*shlex.split(os.environ["LOAD_IMAGE"]), RUN_IMAGE], check=True)
    if not cluster.has(RUN_IMAGE):
        pytest.skip(f"no node has the image {RUN_IMAGE}: make image TARGET=rebalance")
    hot, cool = cluster.nodes[:2]
    slices, evictor = f"{namespace}-slices", f"{namespace}-evictor"
    filler = pod_running(namespace, "filler", hot.name, "import time; time.sleep(900)", cpu="400m")
    with (
        cluster.namespace(slices),
        cluster.namespace(evictor),
        prometheus(cluster, tmp_path) as server,
        descheduler(cluster, evictor, server, 50, 72, single=True),
    ):
        kubectl("apply", "--filename", "-", given=yaml.safe_dump(filler))
        before = dump(cluster, slices)
        rebalance = {
            "enabled": True,
            "namespace": slices,
            "scenarioFile": HOT_NODE.read_text(),
            "rebalancer": "descheduler",
            "descheduler": f"{evictor}/app.kubernetes.io/name={NAME}",
            "prometheus": server.url,
        }
        with cluster.release(namespace, {"rebalance": rebalance, "nodeSelector": on(cool)}, name="proof"):
            began = time.monotonic()
            (job,) = _jobs(cluster, namespace)
            name = job["metadata"]["name"]
            of_job = f"/api/v1/namespaces/{namespace}/pods?labelSelector=job-name%3D{name}"
            wait(lambda: cluster.api.items(of_job)[0]["status"]["phase"] != "Pending", 60, "the Job's pod")
            # Where nodes share one machine, a kubelet clears the logs of another one away: shown is what there is.
            log = kubectl("logs", f"job/{name}", "--namespace", namespace, "--follow", seconds=200)
            wait(lambda: any(map(_has_ended, _jobs(cluster, namespace))), 200, "the end of the Job")
            took = time.monotonic() - began
            (job,) = _jobs(cluster, namespace)
            (pod,) = cluster.api.items(of_job)
        after = dump(cluster, slices)
    print(log)
    (container,) = pod["status"]["containerStatuses"]
    code = container["state"]["terminated"]["exitCode"]
    said("the chart's Job, hot node, descheduler", "exit 0: PASS; nothing is left", f"exit {code} after {took:.0f} s")
    assert job["status"].get("succeeded") == 1, log
    assert code == Exit.OK, log
    assert "starting the slices" in log
    assert after == before


def _jobs(cluster: Cluster, namespace: str) -> list[Object]:
    return cluster.api.items(f"/apis/batch/v1/namespaces/{namespace}/jobs")


def _has_ended(job: Object) -> bool:
    return bool({"succeeded", "failed"} & job["status"].keys())
