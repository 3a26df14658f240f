"""A real Prometheus that scrapes the cluster's pods, with the documented relabelling and the shipped rules.

Debian builds its Prometheus without Kubernetes discovery. So a stand-in lists the pods, with the meta labels that
discovery's role `pod` gives (prometheus.io/docs, kubernetes_sd_config); what comes after that is the documented file.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from chart import CHART, Object
from e2e.api import wait
from e2e.cluster import Cluster
from program import free_port

from demo.shorten import shorten

FASTER = 8
"""Than shipped: rates over 15 s, and alerts after 15 s."""
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


def targets(pods: list[Object]) -> list[Object]:
    """What discovery makes of pods: a target for each container port, with meta labels."""
    found = []
    for pod in pods:
        metadata, spec, status = pod["metadata"], pod["spec"], pod["status"]
        labels = {
            "namespace": metadata["namespace"],
            "pod_name": metadata["name"],
            "pod_node_name": spec.get("nodeName", ""),
            "pod_phase": status["phase"],
        }
        labels |= {f"pod_label_{re.sub('[^a-zA-Z0-9_]', '_', key)}": text for key, text in metadata["labels"].items()}
        for container in spec["containers"]:
            for port in container.get("ports", []):
                if "podIP" in status:
                    own = {"pod_container_name": container["name"], "pod_container_port_name": port.get("name", "")}
                    meta = {f"__meta_kubernetes_{name}": text for name, text in (labels | own).items()}
                    found.append({"targets": [f"{status['podIP']}:{port['containerPort']}"], "labels": meta})
    return found


@contextmanager
def discovery(cluster: Cluster) -> Iterator[str]:
    """Where Prometheus asks for targets; all pods with labels are in the answer, as they are then."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pods = [pod for pod in cluster.api.items("/api/v1/pods") if "labels" in pod["metadata"]]
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(targets(pods)).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def prometheus(cluster: Cluster, folder: Path) -> Iterator[Prometheus]:
    """Start it, and wait until it answers."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    with discovery(cluster) as url, _running(cluster, program, url, folder) as found:
        yield found


@contextmanager
def _running(cluster: Cluster, program: str, url: str, folder: Path) -> Iterator[Prometheus]:
    listen = f"{address(cluster)}:{free_port()}"
    config = documented("scrape_configs")
    for job in config["scrape_configs"]:
        (asked,) = job.pop("kubernetes_sd_configs")
        assert asked == {"role": "pod"}
        job["http_sd_configs"] = [{"url": url, "refresh_interval": "2s"}]
    (folder / "rules").mkdir()
    for file in CHART.glob("files/rules/*.yaml"):
        (folder / "rules" / file.name).write_text(yaml.safe_dump(shorten(yaml.safe_load(file.read_text()), FASTER)))
    config |= {
        "global": shorten({"scrape_interval": "15s", "evaluation_interval": "15s"}, FASTER),
        "rule_files": ["rules/*.yaml"],
    }
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
            wait(lambda: process.poll() is not None or found.query("vector(1)"), 20, "Prometheus")
            assert process.poll() is None, (folder / "log").read_text()
            yield found
        finally:
            process.terminate()
