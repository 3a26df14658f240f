"""A real Prometheus that finds the cluster's pods, with the documented configuration and the shipped rules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
import yaml
from chart import CHART, Object
from e2e.api import wait
from e2e.cluster import Cluster
from program import free_port

from loadband.rebalance.shipped import shorten

PROGRAM = os.environ.get("PROMETHEUS", "prometheus")
FASTER = 15
"""Than shipped: rates over 8 s, and alerts after 8 s."""
DOCS = CHART.parents[1] / "docs/kubernetes.md"


def documented(word: str) -> Any:
    """The block of YAML in the documentation that has a word in it, as a value."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if word in block)
    return yaml.safe_load(found)


@dataclass(frozen=True)
class Prometheus:
    """The server, running."""

    url: str
    """Where this machine and the pods find it."""

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that an instant query gives."""
        found = self._get("query?" + urllib.parse.urlencode({"query": expression}))["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def firing(self, alert: str) -> set[str]:
        """The nodes for which an alert fires."""
        return {
            one["labels"].get("node", "")
            for one in self._get("alerts")["alerts"]
            if one["labels"]["alertname"] == alert and one["state"] == "firing"
        }


def address(cluster: Cluster) -> str:
    """This machine's, as pods see it: that of a node, where the nodes are this machine."""
    ours = {one.address for found in psutil.net_if_addrs().values() for one in found}
    nodes = cluster.api.items("/api/v1/nodes")
    theirs = {one["address"] for node in nodes for one in node["status"]["addresses"]}
    if not ours & theirs:
        pytest.skip("the nodes are not on this machine: pods and a Prometheus here would not find each other")
    return min(ours & theirs)


@contextmanager
def prometheus(cluster: Cluster, folder: Path, *more: Path) -> Iterator[Prometheus]:
    """Start one that finds the cluster's pods, with more files of rules, and wait until it answers."""
    config = documented("scrape_configs")
    for job in config["scrape_configs"]:
        for discovery in job["kubernetes_sd_configs"]:
            discovery["api_server"] = cluster.api.url  # a Prometheus in a pod needs none
    (folder / "rules").mkdir()
    for file in (*CHART.glob("files/rules/*.yaml"), *more):
        (folder / "rules" / file.name).write_text(yaml.safe_dump(shorten(yaml.safe_load(file.read_text()), FASTER)))
    config |= {
        "global": shorten({"scrape_interval": "15s", "evaluation_interval": "15s"}, FASTER),
        "rule_files": ["rules/*.yaml"],
    }
    with serving(folder, config, address(cluster)) as found:
        yield found


@contextmanager
def serving(folder: Path, config: Object, host: str) -> Iterator[Prometheus]:
    """Start one with a configuration, and wait until it answers at an address of this machine."""
    program = shutil.which(PROGRAM)
    if program is None:
        pytest.skip(f"{PROGRAM} is not installed")
    listen = f"{host}:{free_port()}"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={listen}",
        "--log.level=warn",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            found = Prometheus(f"http://{listen}")
            wait(lambda: process.poll() is not None or found.query("vector(1)"), 30, "Prometheus")
            if process.poll() is not None:
                _ended((folder / "log").read_text())
            yield found
        finally:
            process.terminate()


def _ended(log: str) -> NoReturn:
    if "field kubernetes_sd_configs not found" in log:
        pytest.skip(f"{PROGRAM} is built without Kubernetes discovery (Debian's is): PROMETHEUS names another")
    pytest.fail(log)
