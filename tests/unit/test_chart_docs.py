"""What docs/kubernetes.md tells people to type is what the chart takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from chart import CHART, Object, helm, of_kind, only, pods, read, render, selects

TEXT = (CHART.parents[1] / "docs/kubernetes.md").read_text()
BLOCKS = re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for _, kind, text in BLOCKS if kind == "console" for line in text.replace("\\\n", " ").splitlines()]
INSTALLS = [line.strip() for line in COMMANDS if "helm install" in line]


def documents() -> list[Object]:
    return [yaml.safe_load(text) for _, kind, text in BLOCKS if kind == "yaml"]


def rendered(command: str) -> list[Object]:
    """The objects that a `helm install` would make."""
    _, _, release, chart, *flags = shlex.split(command)
    assert Path(chart) == CHART.relative_to(CHART.parents[1])
    flags = [flag for flag in flags if flag != "--create-namespace"]
    return read(helm("template", release, CHART, *flags))


@pytest.mark.parametrize("command", INSTALLS, ids=range(len(INSTALLS)))
def test_each_install_renders(command: str) -> None:
    assert of_kind(rendered(command), "Service")


def test_there_are_installs() -> None:
    assert len(INSTALLS) >= 5


def test_the_command_that_stops_all_finds_each_kind() -> None:
    (selector,) = {
        line.partition("--selector ")[2] for line in COMMANDS if "kubectl delete" in line and "--all-namespaces" in line
    }
    key, _, value = selector.partition("=")
    (command,) = (line for line in COMMANDS if "--all-namespaces" in line)
    assert "cronjobs" in command
    for kind in ("Deployment", "DaemonSet", "Job"):
        objects = render({"kind": kind, "allNodes": True, "nameOverride": "other", "fullnameOverride": "another"})
        assert selects({key: value}, only(objects, kind)["metadata"])
        assert f"{kind.lower()}s" in command


def test_the_autoscaler_is_for_what_is_installed() -> None:
    (hpa,) = (one for one in documents() if one.get("kind") == "HorizontalPodAutoscaler")
    (command,) = (line for line in INSTALLS if "replicas=null" in line)
    deployment = only(rendered(command), "Deployment")
    assert hpa["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert hpa["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    assert "replicas" not in deployment["spec"]


def test_prometheus_would_keep_the_regulators_and_not_the_pod_of_the_test() -> None:
    (config,) = (one for one in documents() if "scrape_configs" in one)
    keep = config["scrape_configs"][0]["relabel_configs"][0]
    names = [name.removeprefix("__meta_kubernetes_pod_") for name in keep["source_labels"]]
    assert names == ["label_app_kubernetes_io_part_of", "container_port_name"]
    (regulators, regulators_spec), (_, test_spec) = pods(render({"nameOverride": "other"}))
    (port,) = regulators_spec["containers"][0]["ports"]
    assert f"{regulators['labels']['app.kubernetes.io/part-of']};{port['name']}" == keep["regex"]
    assert "ports" not in test_spec["containers"][0]


def test_the_deschedulers_query_is_the_one_of_the_alerts_page() -> None:
    (policy,) = (one for one in documents() if one.get("kind") == "DeschedulerPolicy")
    (query,) = re.findall(r"query: (.+)", (CHART.parents[1] / "docs/alerts.md").read_text())
    (balance,) = (one["args"] for one in policy["profiles"][0]["pluginConfig"] if one["name"] == "LowNodeUtilization")
    assert balance["metricsUtilization"]["prometheus"]["query"] == query
