"""The chart is accepted, installed, changed and removed."""

from __future__ import annotations

import json
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
import yaml
from chart import CHART, CI_FILES, helm, read
from drift import drift
from e2e.api import kubectl, pause, run
from e2e.cluster import Cluster, on
from e2e.meter import Node
from e2e.release import Release
from e2e.said import Said

MONITORING = "monitoring.coreos.com"


def test_a_bare_install_is_ready_and_passes_its_own_test(cluster: Cluster, namespace: str, said: Said) -> None:
    with cluster.release(namespace, {}) as release:
        (pod,) = release.ready(1)
        report = release.test()
        assert "ok   saturated" in report or "ok   holding" in report, report
        assert pod.again().restarts == 0
        said("bare install under Pod Security restricted", "ready, helm test", report.strip().splitlines()[-1])
    left = kubectl("get", "pods,services,deployments", "--namespace", namespace, "--output=name")
    assert left.strip() == ""


@pytest.mark.parametrize("file", CI_FILES, ids=lambda file: file.name)
def test_the_api_server_keeps_what_is_rendered(file: Path, cluster: Cluster, namespace: str, said: Said) -> None:
    """It accepts all objects, and a GitOps tool that reads them back sees no difference."""
    slices = f"rebalance.namespace={namespace}"
    manifest = helm("template", "one", CHART, "--namespace", namespace, "--values", file, "--set", slices)
    if MONITORING in manifest and MONITORING not in cluster.kinds:
        pytest.skip(f"the cluster has no CRDs of {MONITORING}")
    # A dry run makes neither for the pod that wants it. The accounts go with the namespace.
    wanted = [one for one in yaml.safe_load_all(manifest) if one and one["kind"] in {"PriorityClass", "ServiceAccount"}]
    for one in wanted:
        kubectl("apply", "--filename=-", given=yaml.safe_dump(one))
    classes = [one for one in wanted if one["kind"] == "PriorityClass"]
    try:
        done = subprocess.run(
            ["kubectl", "apply", "--dry-run=server", "--output=json", "--filename=-"],
            input=manifest,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        for one in classes:
            kubectl("delete", "priorityclass", one["metadata"]["name"])
    assert done.returncode == 0, done.stderr
    assert "violate PodSecurity" not in done.stderr
    kept = json.loads(done.stdout)["items"]
    assert drift(read(manifest), kept) == []
    said(f"server-side dry run of {file.name}", "accepted, kept as it is", f"{len(kept)} objects, no difference")


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_an_older_chart_upgrades_to_this_one(
    kind: str, cluster: Cluster, namespace: str, said: Said, tmp_path: Path
) -> None:
    version, chart = previous_chart(tmp_path)
    enabled = {"enabled": True}
    values = {"kind": kind, "nodeSelector": on(cluster.nodes[0]), "networkPolicy": enabled, "dashboards": enabled}
    release = Release("loadband", namespace, cluster.api)
    try:
        release.install(values, chart=chart)
        (before,) = release.ready(1)
        if kind == "Deployment":
            release.upgrade(values | {"duration": "30m"})
        else:
            release.upgrade(None, "--reset-then-reuse-values", "--set=duration=30m")
        (after,) = release.ready(1)
        assert after.name != before.name
        kinds = "deployments,daemonsets,services,configmaps,networkpolicies"
        selector = "--selector=app.kubernetes.io/part-of=loadband"
        found = json.loads(kubectl("get", kinds, "--namespace", namespace, selector, "--output=json"))["items"]
        charts = {one["metadata"]["labels"]["helm.sh/chart"] for one in found}
        said(f"helm upgrade of a {kind} from {version}", "all objects new", ", ".join(sorted(charts)))
        assert charts == {f"loadband-{yaml.safe_load((CHART / 'Chart.yaml').read_text())['version']}"}
    finally:
        release.uninstall()


def previous_chart(folder: Path) -> tuple[str, Path]:
    """Version and folder of the last chart in the git history whose minor version isn't this one's."""
    root, path = CHART.parents[1], CHART.relative_to(CHART.parents[1])
    here = minor((CHART / "Chart.yaml").read_text())
    for commit in run("git", "-C", root, "rev-list", "HEAD", "--", path).split():
        described = run("git", "-C", root, "show", f"{commit}:{path}/Chart.yaml")
        if minor(described) != here:
            archive = folder / "chart.tar"
            run("git", "-C", root, "archive", f"--output={archive}", commit, path)
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
            return yaml.safe_load(described)["version"], folder / path
    raise AssertionError(f"no chart of another minor version in the history: is {root} a shallow clone?")


def minor(described: str) -> list[str]:
    """The minor version in a Chart.yaml."""
    return str(yaml.safe_load(described)["version"]).split(".")[:2]


def test_upgrade_rollback_refusal_and_uninstall(cluster: Cluster, namespace: str, said: Said) -> None:
    node = cluster.nodes[0]
    values = {"replicas": 2, "nodeSelector": on(node), "maxEffort": "none", "band": {"min": 40, "max": 50}}
    with cluster.release(namespace, values) as release:
        assert held(node, 40, 50) == pytest.approx(0.45, abs=0.02)

        release.upgrade(values | {"band": {"min": 60, "max": 70}})
        upgraded = held(node, 60, 70)
        said("helm upgrade", "60..70 % instead of 40..50 %", f"{100 * upgraded:.1f} %")
        assert upgraded == pytest.approx(0.65, abs=0.02)

        release.rollback()
        back = held(node, 40, 50)
        said("helm rollback", "40..50 %", f"{100 * back:.1f} %")
        assert back == pytest.approx(0.45, abs=0.02)

        before = {pod.name for pod in release.pods()}
        with pytest.raises(AssertionError, match=r"band.min \(90\) must be less than band.max \(70\)"):
            release.upgrade(values | {"band": {"min": 90, "max": 70}})
        assert {pod.name for pod in release.pods()} == before
        assert '"revision":"3"' in run("helm", "list", "--namespace", namespace, "--output=json")

        release.uninstall()
    kinds = "all,configmaps,networkpolicies,serviceaccounts,poddisruptionbudgets"
    selector = "--selector=app.kubernetes.io/part-of=loadband"
    assert kubectl("get", kinds, "--namespace", namespace, selector, "--output=name").strip() == ""
    since = time.time()
    idle = node.used(since, pause(4))
    said("helm uninstall", "no object, nothing burns", f"no object, {node.name} at {100 * idle:.1f} %")
    assert idle < 0.35


def held(node: Node, low: int, high: int) -> float:
    """Mean utilization of a node for a while, once it is in the band (percent)."""
    node.settle(low / 100, high / 100)
    since = time.time()
    return node.used(since, pause(6))
