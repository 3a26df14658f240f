"""An API server that is a transport of lightkube."""

from __future__ import annotations

import json
from typing import Any

import httpx2
from lightkube.config.kubeconfig import KubeConfig

LISTS = {
    "nodes": "NodeList",
    "pods": "PodList",
    "replicasets": "ReplicaSetList",
    "jobs": "JobList",
    "configmaps": "ConfigMapList",
}


def an_object(kind: str, name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "2", "labels": labels}
    version = "apps/v1" if kind == "ReplicaSet" else "batch/v1" if kind == "Job" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {}, "status": {}}


def a_status(code: int, message: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message}


def a_config() -> KubeConfig:
    return KubeConfig.from_dict(
        {
            "clusters": [{"name": "fake", "cluster": {"server": "http://fake"}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "current-context": "fake",
        }
    )


class FakeServer(httpx2.BaseTransport):
    """Lists what it is given; every watch sends its lines once, and is refused from then on."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {name: [] for name in (*LISTS, "events")}
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[httpx2.Request] = []
        self.refusal: tuple[int, str] | None = None
        self.down = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self.down:
            raise httpx2.ConnectError("connection refused")
        path = request.url.path.split("/")
        if self.refusal and request.method != "GET":
            code, message = self.refusal
            return httpx2.Response(code, json=a_status(code, message), request=request)
        if request.method == "GET":
            return self._read(request, path[-1])
        if request.method == "DELETE":
            plural, name = path[-2:]
            self.objects[plural] = [one for one in self.objects[plural] if one["metadata"]["name"] != name]
            return httpx2.Response(200, json=a_status(200, ""), request=request)
        body = json.loads(request.read())
        if request.method == "POST":
            body["metadata"]["uid"] = "made"
        else:
            body = an_object("ReplicaSet", path[-1])
            body |= {"spec": {"selector": {}}, "status": {"replicas": 1}}
        return httpx2.Response(201, json=body, request=request)

    def _read(self, request: httpx2.Request, plural: str) -> httpx2.Response:
        if request.url.params.get("watch"):
            lines = self.lines.pop(plural, [{"type": "ERROR", "object": a_status(410, "too old resource version")}])
            return httpx2.Response(200, text="".join(json.dumps(line) + "\n" for line in lines), request=request)
        wanted = dict(each.split("=") for each in request.url.params.get("labelSelector", "").split(",") if "=" in each)
        items = [one for one in self.objects[plural] if wanted.items() <= one["metadata"]["labels"].items()]
        kind = LISTS.get(plural, "EventList")
        return httpx2.Response(
            200, json={"kind": kind, "metadata": {"resourceVersion": "1"}, "items": items}, request=request
        )
