"""A regulator that is killed, a container runtime that is, and a node that others fill."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from e2e.api import pause, wait
from e2e.cluster import Cluster, on
from e2e.pods import Pod
from e2e.said import Said

LIMIT = 0.9
"""CPUs of each CPU of the node."""


@pytest.fixture(scope="module")
def pod(cluster: Cluster) -> Iterator[Pod]:
    """One regulator under a CPU limit, which all that happens here happens to."""
    node = cluster.nodes[0]
    values = {"nodeSelector": on(node), "resources": {"limits": {"cpu": f"{1000 * LIMIT * node.cpus:.0f}m"}}}
    with cluster.namespace("e2e-faults") as namespace, cluster.release(namespace, values) as release:
        (found,) = release.ready(1)
        yield found


def own(pod: Pod) -> float:
    """CPU time that it has burnt, seconds."""
    return pod.series()["loadband_cpu_seconds_total own cpuset"]


def process(pod: Pod) -> psutil.Process:
    """The pod's, where its node is this machine."""
    (status,) = pod.again().object["status"]["containerStatuses"]
    container = status["containerID"].rpartition("/")[2]
    for one in psutil.process_iter():
        try:
            if container in Path(f"/proc/{one.pid}/cgroup").read_text() and one.name() == "loadband":
                return one
        except OSError:
            continue
    pytest.skip("the nodes are not on this machine: nothing here can be killed")


def test_a_regulator_that_is_killed_comes_back_to_the_band(cluster: Cluster, pod: Pod, said: Said) -> None:
    node = cluster.nodes[0]
    node.settle(0.6, 0.7)
    since = time.time()
    process(pod).kill()
    wait(lambda: pod.again().restarts == 1 and pod.again().ready, 60, "the container's restart")
    node.settle(0.6, 0.7)
    said("SIGKILL", "in the band again, by itself", f"in it for 3 s after {time.time() - since:.0f} s")


def test_a_restart_of_containerd_leaves_the_load_as_it_is(cluster: Cluster, pod: Pod, said: Said) -> None:
    """REPAIR is a command that starts a killed containerd, where nothing does so by itself."""
    node = cluster.nodes[0]
    node.settle(0.6, 0.7)
    regulator, restarts = process(pod), pod.again().restarts
    shim = regulator.parent()
    assert shim
    arguments = shim.cmdline()
    socket = arguments[arguments.index("-address") + 1]
    (runtime,) = {one.pid for one in psutil.net_connections("unix") if str(one.laddr) == socket and one.pid}
    before, began = own(pod), time.time()
    killed = psutil.Process(runtime)
    killed.kill()
    killed.wait(10)
    if "REPAIR" in os.environ:
        subprocess.run(shlex.split(os.environ["REPAIR"]), check=True, stdout=subprocess.DEVNULL)
    wait(lambda: Path(socket).is_socket() and pod.again().ready, 60, "a pod that is ready")
    node.settle(0.6, 0.7)
    since = time.time()
    until = pause(8)
    mean, burnt = node.used(since, until), (own(pod) - before) / (until - began)
    said("containerd killed", "65 %, the same process", f"{100 * mean:.1f} %, {burnt:.2f} CPUs of ours")
    assert regulator.is_running()
    assert pod.again().restarts == restarts
    assert burnt <= LIMIT * node.cpus
    assert mean == pytest.approx(0.65, abs=0.03)


def test_others_that_fill_the_node_are_left_alone(cluster: Cluster, pod: Pod, said: Said) -> None:
    node, restarts = cluster.nodes[0], pod.again().restarts
    node.settle(0.6, 0.7)
    with cluster.neighbour(pod.namespace, node):
        wait(lambda: pod.state() == "yielding", 20, "a regulator that yields")
        before, since = own(pod), time.time()
        until = pause(6)
        burnt = (own(pod) - before) / (until - since)
    since = time.time()
    node.settle(0.6, 0.7)
    took = time.time() - since
    said(
        "a neighbour takes all of the node, and leaves",
        "no load of ours, then the band",
        f"{burnt:.3f} CPUs of ours, in the band for 3 s after {took:.1f} s",
    )
    assert pod.again().restarts == restarts
    assert pod.again().ready
    assert burnt <= 0.05 * node.cpus
    assert took <= 15
