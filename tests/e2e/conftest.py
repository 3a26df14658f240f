"""One cluster for all tests, a namespace for each, and the line that each prints."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
from e2e.cluster import Cluster, open_cluster
from e2e.pods import IMAGE
from e2e.said import Said

LONGEST = 45
"""Letters of a namespace's name; a name has 63 at most, and what is beside it adds some."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if "KUBECONFIG" not in os.environ:
        pytest.skip("KUBECONFIG is not set: which cluster?")
    for tool in ("kubectl", "helm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if "LOAD_IMAGE" in os.environ:
        subprocess.run([*shlex.split(os.environ["LOAD_IMAGE"]), IMAGE], check=True)
    with open_cluster() as found:
        if len(found.nodes) < 2:
            pytest.skip("two schedulable nodes are needed")
        yield found


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")
    if len(name) > LONGEST:
        # A digest tells the cases of one test apart: the last one's namespace may still be there.
        digest = hashlib.sha256(name.encode()).hexdigest()[:6]
        name = f"{name[: LONGEST - len(digest) - 1].rstrip('-')}-{digest}"
    with cluster.namespace(f"e2e-{name}") as made:
        yield made


@pytest.fixture
def said() -> Said:
    began = time.monotonic()

    def say(what: str, asked: str, measured: str) -> None:
        print(f"\n{what}: asked {asked}; measured {measured}; {time.monotonic() - began:.0f} s")

    return say
