"""The chart as Helm renders it, without a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "helm/loadband"
CI_FILES = sorted(CHART.glob("ci/*-values.yaml"))
REGULATOR_FILES = [file for file in CI_FILES if not file.name.startswith("rebalance-")]
"""Those that install regulators."""

Object = dict[str, Any]
"""A Kubernetes object as JSON has it."""


class UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, as strict readers of manifests do."""


def _mapping(loader: UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    pairs = loader.construct_pairs(node, deep=True)
    found = dict(pairs)
    assert len(found) == len(pairs), f"a key is there twice: {sorted(key for key, _ in pairs)}"
    return found


UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)


def read(text: str) -> list[Object]:
    """The objects of a rendering."""
    return [found for found in yaml.load_all(text, UniqueKeys) if found]


class Refused(Exception):  # noqa: N818 - what the chart did, not what went wrong
    """Helm did not render; the message is what it said."""


def helm(*arguments: str | Path, values: Mapping[str, Any] | None = None) -> str:
    """What Helm prints, given some values.

    Raises:
        Refused: if it fails.
    """
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed")
    done = subprocess.run(
        ["helm", *arguments, *(["--values", "-"] if values is not None else [])],
        input=None if values is None else json.dumps(values),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def render(values: Mapping[str, Any] | None = None, *arguments: str | Path, chart: Path = CHART) -> list[Object]:
    """The objects of a release called `one` in the namespace `space`."""
    return read(helm("template", "one", chart, "--namespace", "space", *arguments, values=values))


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def only(objects: list[Object], kind: str) -> Object:
    """The one object of that kind."""
    (found,) = of_kind(objects, kind)
    return found


def regulator(objects: list[Object]) -> Object:
    """What runs the regulators."""
    (found,) = (one for one in objects if one["kind"] in {"Deployment", "DaemonSet", "Job"})
    return found


def pods(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Metadata and spec of each pod that there will be, that of `helm test` last."""
    template = regulator(objects)["spec"]["template"]
    yield template["metadata"], template["spec"]
    test = only(objects, "Pod")
    yield test["metadata"], test["spec"]


def container(objects: list[Object]) -> Object:
    """The regulator's."""
    (found,) = regulator(objects)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(objects: list[Object]) -> dict[str, str]:
    """What the regulator finds there."""
    return {entry["name"]: entry["value"] for entry in container(objects)["env"]}


def selects(labels: Mapping[str, str], metadata: Object) -> bool:
    return set(labels.items()) <= set(metadata["labels"].items())
