"""The image with `loadband rebalance`, which the chart's `rebalance.enabled` runs."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from containers import BUILT_HERE, build, image, podman

pytestmark = [pytest.mark.container, pytest.mark.timeout(300)]

LOCKED_DOWN = ("--network=none", "--read-only", "--cap-drop=ALL", "--user=1000660000:0")


@pytest.fixture(scope="module")
def rebalance() -> str:
    """The image's name."""
    image()
    name = f"{BUILT_HERE}-rebalance"
    build(name, target="rebalance")
    return name


def inspect(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("image", "inspect", name).stdout)[0]
    return found


def loadband(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return podman("run", "--rm", *LOCKED_DOWN, name, *words, check=False)


def test_it_is_the_same_program_on_the_same_base(rebalance: str) -> None:
    ours, regulators = inspect(rebalance), inspect(image())
    print(
        f"the image with rebalance: {ours['Size'] / 2**20:.0f} MiB, the regulator's: {regulators['Size'] / 2**20:.0f}"
    )
    assert ours["RootFS"]["Layers"][:-1] == regulators["RootFS"]["Layers"][:-1]
    for key in ("User", "Entrypoint", "StopSignal"):
        assert ours["Config"][key] == regulators["Config"][key]
    assert loadband(rebalance, "--version").stdout == loadband(image(), "--version").stdout


def test_it_knows_the_shipped_scenarios_and_kubernetes(rebalance: str) -> None:
    done = loadband(rebalance, "rebalance", "check", "hot-host")
    assert (done.returncode, done.stderr) == (0, "")
    words = ["rebalance", "run", "hot-host", "--platform=kubernetes", "--image=x", "--namespace=y", "--dry-run"]
    done = loadband(rebalance, *words)
    assert done.returncode == 2
    assert "there is no cluster" in done.stderr


def test_it_draws_reports_where_only_tmp_can_be_written(rebalance: str) -> None:
    script = "import matplotlib.font_manager, loadband.rebalance.report.commands"
    command = ("run", "--rm", *LOCKED_DOWN, "--entrypoint=/opt/loadband/bin/python", rebalance, "-c", script)
    done = podman(*command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_regulators_image_has_nothing_of_it() -> None:
    done = loadband(image(), "rebalance", "check", "hot-host")
    assert done.returncode == 2
    assert "pip install 'loadband[rebalance]'" in done.stderr
