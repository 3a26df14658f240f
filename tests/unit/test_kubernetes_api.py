"""lightkube behind the protocol `Api`, on an API server that is a transport."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import FakeServer, a_config, an_object
from lightkube import Client

from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.kubernetes import api as module
from loadband.rebalance.platforms.kubernetes.api import Server, connect
from loadband.rebalance.platforms.kubernetes.cluster import RefusedError, Seen
from loadband.rebalance.platforms.kubernetes.manifests import (
    RUN_LABEL,
    SLICE_LABEL,
    Makings,
    effort_patch,
    placement_patch,
)
from loadband.rebalance.platforms.kubernetes.states import workload_of

MAKINGS = Makings(run="r", image="loadband:test", token="t", lifetime=60.0)


def a_pod(name: str, run: str = "r") -> dict[str, Any]:
    pod = an_object("Pod", name, **{RUN_LABEL: run, SLICE_LABEL: "s"})
    return pod | {"spec": {"nodeName": "a", "containers": []}}


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
def server(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "AGAIN", 0.01)
    config = a_config()
    found = Server(Client(config, namespace="loadband", transport=fake))
    yield found
    found.close()


def test_nodes_are_chosen_by_equality_and_existence_and_sorted(fake: FakeServer, server: Server) -> None:
    fake.objects["nodes"] = [an_object("Node", name, pool="x") for name in "ba"]
    assert [node.name for node in server.nodes("pool=x, big")] == ["a", "b"]
    assert set(fake.requests[-1].url.params["labelSelector"].split(",")) == {"pool=x", "big"}
    assert len(server.nodes("")) == 2


def test_objects_are_made_as_their_manifests_say(fake: FakeServer, server: Server) -> None:
    for manifest, path in (
        (MAKINGS.deadline(), "/apis/batch/v1/namespaces/loadband/jobs"),
        (MAKINGS.first("s", "a", 1.0), "/api/v1/namespaces/loadband/pods"),
        (MAKINGS.owner("s", 1.0, "uid"), "/apis/apps/v1/namespaces/loadband/replicasets"),
    ):
        assert server.create(manifest) == "made"
        assert fake.requests[-1].url.path == path
        assert json.loads(fake.requests[-1].read())["spec"].keys() == manifest["spec"].keys()


def test_owners_are_patched_and_pods_evicted_if_they_are_still_the_same(fake: FakeServer, server: Server) -> None:
    server.patch_owner("x", placement_patch("a"))
    assert fake.requests[-1].headers["content-type"] == "application/merge-patch+json"
    server.patch_owner("x", effort_patch(1.0), strategic=True)
    assert fake.requests[-1].headers["content-type"] == "application/strategic-merge-patch+json"
    server.evict("p", "uid-p")
    assert fake.requests[-1].url.path == "/api/v1/namespaces/loadband/pods/p/eviction"
    assert json.loads(fake.requests[-1].read())["deleteOptions"]["preconditions"] == {"uid": "uid-p"}


def test_a_refusal_has_the_servers_words_and_status(fake: FakeServer, server: Server) -> None:
    fake.refusal = 429, "disruption budget"
    with pytest.raises(RefusedError, match="disruption budget") as refused:
        server.evict("p", "uid")
    assert refused.value.status == 429


def test_removing_what_is_gone_is_nothing_and_any_other_refusal_is_one(fake: FakeServer, server: Server) -> None:
    fake.objects["pods"] = [a_pod("p")]
    fake.refusal = 404, "not found"
    server.remove_owner("x")
    server.remove_pod("x")
    server.remove_all("r")
    fake.refusal = 403, "forbidden"
    for remove in (server.remove_owner, server.remove_pod, server.remove_all):
        with pytest.raises(RefusedError, match="forbidden"):
            remove("r")


def test_only_what_carries_the_runs_label_is_removed(fake: FakeServer, server: Server) -> None:
    fake.objects["pods"] = [a_pod("p"), a_pod("foreign", "another"), an_object("Pod", "bare")]
    fake.objects["jobs"] = [an_object("Job", "j", **{RUN_LABEL: "r"}) | {"spec": {"template": {}}}]
    assert server.left("r") == ["pod/p", "job/j"]
    server.remove_all("r")
    assert server.left("r") == []
    assert [one["metadata"]["name"] for one in fake.objects["pods"]] == ["foreign", "bare"]


def test_a_program_is_read_with_the_config_maps_of_its_namespace(fake: FakeServer, server: Server) -> None:
    labels = "app.kubernetes.io/name=descheduler"
    assert server.workload("kube-system", labels) == workload_of([], {})
    assert len(fake.requests) == 1
    pod = a_pod("d")
    pod["metadata"]["labels"] = {"app.kubernetes.io/name": "descheduler"}
    fake.objects["pods"] = [pod]
    found = server.workload("kube-system", labels)
    assert found == workload_of([pod], {})
    assert fake.requests[-1].url.path == "/api/v1/namespaces/kube-system/configmaps"


def test_a_server_that_does_not_answer_is_an_os_error(fake: FakeServer, server: Server) -> None:
    fake.down = True
    with pytest.raises(OSError, match="the API server doesn't answer: connection refused"):
        server.nodes("")


def seen(server: Server, holds: Callable[[list[Seen]], object]) -> list[Seen]:
    """Follow until something holds for all that was seen."""
    arrived, found = server.follow("r", ""), list[Seen]()
    until = time.monotonic() + 20.0
    while not holds(found):
        assert time.monotonic() < until, found
        found.append(arrived.get(timeout=20.0))
    return found


def test_watches_tell_what_is_there_what_changes_and_are_begun_again(fake: FakeServer, server: Server) -> None:
    fake.objects["pods"] = [a_pod("p")]
    fake.objects["nodes"] = [an_object("Node", "a"), an_object("Node", "b")]
    evicted = {
        "metadata": {"name": "e", "resourceVersion": "3", "labels": {}},
        "action": "Descheduled",
        "reason": "LowNodeUtilization",
        "reportingController": "descheduler",
        "regarding": {"kind": "Pod", "uid": "uid-p"},
    }
    fake.objects["events"] = [evicted]
    fake.lines = {
        "pods": [{"type": "MODIFIED", "object": a_pod("p")}, {"type": "DELETED", "object": a_pod("p")}],
        "events": [
            {"type": "ADDED", "object": evicted},
            {"type": "ADDED", "object": evicted | {"action": "Binding"}},
        ],
        "nodes": [
            {"type": "DELETED", "object": an_object("Node", "b")},
            {"type": "MODIFIED", "object": an_object("Node", "a")},
        ],
    }

    def again(found: list[Seen]) -> bool:
        return all(
            sum(one.watch == watch and not one.trouble for one in found) > 1 for watch in ("pods", "events", "nodes")
        )

    found = seen(server, again)
    assert [one.name for one in next(one for one in found if one.whole).pods] == ["p"]
    assert [pod.name for one in found for pod in one.gone] == ["p"]
    assert [each.who for one in found if not one.watch for each in one.evictions] == ["descheduler: LowNodeUtilization"]
    assert [len(one.nodes) for one in found if one.nodes][:3] == [2, 1, 1]
    assert "too old resource version" in {one.trouble for one in found}


def test_a_watch_of_a_server_that_is_down_says_why(fake: FakeServer, server: Server) -> None:
    fake.down = True
    found = seen(server, lambda found: {one.watch for one in found} == {"pods", "events", "nodes"})
    assert {one.trouble for one in found} == {"connection refused"}


def test_without_a_configuration_it_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    with pytest.raises(PlatformError, match="there is no cluster: set KUBECONFIG"):
        connect("loadband")


@pytest.mark.parametrize("user", ["fake", "", "unknown"])
def test_a_user_is_as_optional_as_for_kubectl(
    user: str, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = {"cluster": "fake"} | ({"user": user} if user else {})
    found = {
        "clusters": [{"name": "fake", "cluster": {"server": "http://fake"}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": context}],
        "current-context": "fake",
    }
    (tmp_path / "config").write_text(json.dumps(found))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(module, "transport_of", lambda _: fake)
    if user == "unknown":
        with pytest.raises(PlatformError, match=r"there is no cluster: .*'unknown'"):
            connect("loadband")
        return
    server = connect("loadband")
    assert server.nodes("") == []
    server.close()


def test_without_a_current_context_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(json.dumps({"clusters": [], "contexts": [], "users": []}))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(PlatformError, match=r"there is no cluster: set KUBECONFIG .*No current context"):
        connect("loadband")


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
def test_a_certificate_authority_needs_no_more_than_for_other_clients(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ssl.create_default_context()
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    monkeypatch.setattr(module, "verify_cluster", lambda *_: made)
    monkeypatch.setenv("http_proxy", proxy)
    config = a_config().get()
    assert config is not None
    module.transport_of(config).close()
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT
    assert made.verify_mode is ssl.CERT_REQUIRED
