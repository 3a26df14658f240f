"""The comparison that the chart is held to on a cluster finds what it is for."""

from __future__ import annotations

from typing import Any

import pytest
from drift import drift


def workload(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", **metadata}, "spec": spec}


def monitor(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    meta = {"name": "a", **metadata}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": meta, "spec": spec}


@pytest.mark.parametrize(
    ("rendered", "kept", "line"),
    [
        (workload({"cpu": "1000m"}), workload({"cpu": "1"}), "Deployment.spec.cpu: '1000m' becomes '1'"),
        (workload({"n": 1}), workload({"n": True}), "Deployment.spec.n: 1 becomes True"),
        (workload({"env": [""]}), workload({}), "Deployment.spec.env: [''] is dropped"),
        (workload({"v": [{"a": 1}]}), workload({"v": [{"a": 2}]}), "Deployment.spec.v[0].a: 1 becomes 2"),
        (workload({"v": [1]}), workload({"v": [1, 2]}), "Deployment.spec.v: [1] becomes [1, 2]"),
        (monitor({"r": [{}]}), monitor({"r": [{"action": "x"}]}), "PodMonitor.spec.r[0].action: 'x' is added"),
    ],
)
def test_finds_what_would_stay_out_of_sync(rendered: dict[str, Any], kept: dict[str, Any], line: str) -> None:
    assert drift([rendered], [kept]) == [line]


def test_lets_the_api_servers_own_additions_pass() -> None:
    rendered = [workload({"v": [{"a": 1}]}), monitor({"r": []})]
    kept = [
        monitor({"r": []}, uid="u") | {"status": {}},
        workload({"v": [{"a": 1, "b": 2}], "c": 3}, uid="u") | {"status": {}},
    ]
    assert drift(rendered, kept) == []


def test_leaves_hooks_out_and_misses_what_is_not_kept() -> None:
    hook = workload({"a": 1}, annotations={"helm.sh/hook": "test"})
    assert drift([hook], []) == []
    with pytest.raises(KeyError):
        drift([workload({})], [])
