"""What is in the image, and that it is the same each time it is built."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from containers import BUILT_HERE, PORT, build, image, podman, run, running
from program import wait_until

pytestmark = [pytest.mark.container, pytest.mark.timeout(300)]

BASE = "debian:trixie-slim"


def inspect(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("image", "inspect", name).stdout)[0]
    return found


def shell(script: str) -> str:
    """What a script says in the image, as its user."""
    return podman("run", "--rm", "--network=none", "--entrypoint=sh", image(), "-c", script, check=False).stdout


def test_it_tells_a_platform_what_it_is() -> None:
    config = inspect(image())["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    uid, gid = map(int, config["User"].split(":"))
    assert min(uid, gid) > 0
    assert list(config["ExposedPorts"]) == [f"{PORT}/tcp"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["loadband"]
    assert run("--version").stdout == f"loadband {labels['version']}\n"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert labels["licenses"] == "Apache-2.0"


def test_the_metrics_name_the_revision_of_the_label() -> None:
    revision = inspect(image())["Config"]["Labels"]["org.opencontainers.image.revision"]
    with running(MIN="0", MAX="1", MAX_EFFORT="20m") as container:
        wait_until(lambda: f'revision="{revision}"' in container.metrics(), 10, "the revision in the metrics")


def test_it_adds_at_most_50_mib_to_its_base() -> None:
    podman("image", "exists", BASE)
    image_, base = inspect(image()), inspect(BASE)
    assert image_["RootFS"]["Layers"][: len(base["RootFS"]["Layers"])] == base["RootFS"]["Layers"]
    added = (image_["Size"] - base["Size"]) / 2**20
    print(f"the image adds {added:.1f} MiB to its base")
    assert added <= 50


def test_nothing_to_build_with_and_no_cache_is_in_it() -> None:
    tools = "pip pip3 gcc cc c++ make ld git curl wget"
    assert shell(f"for tool in {tools}; do command -v $tool; done") == ""
    assert shell("/opt/loadband/bin/python -c 'import importlib.util as u; print(u.find_spec(\"pip\"))'") == "None\n"
    assert shell("find /var/lib/apt/lists /var/cache /root /home -name '*.deb' -o -name '*.bin' -o -name pip") == ""
    assert shell("ls -A /var/lib/apt/lists; ls /source /wheels /tools 2>/dev/null") == ""


def test_its_user_owns_and_may_write_none_of_it() -> None:
    ours = "find / -xdev -path /proc -prune -o -path /sys -prune -o"
    assert shell(f"{ours} -user 65532 -print 2>/dev/null") == ""
    writable = shell(f"{ours} -path /dev -prune -o -writable ! -type l -print 2>/dev/null").split()
    assert set(writable) <= {"/tmp", "/var/tmp", "/run/lock"}


def test_all_that_it_imports_is_compiled_already() -> None:
    # Nobody may write byte code where it runs, so what lacks it is compiled at each start.
    script = """
import os, sys, environs, structlog
import loadband.cli, loadband.control, loadband.log, loadband.playback, loadband.running, loadband.server, loadband.view
for module in list(sys.modules.values()):
    compiled = getattr(module, "__cached__", None)
    if compiled and not os.path.exists(compiled):
        print(module.__name__)
"""
    command = ("run", "--rm", "--network=none", "--entrypoint=/opt/loadband/bin/python", image(), "-c", script)
    assert podman(*command).stdout.split() == []


def test_two_builds_in_a_row_have_the_same_layers() -> None:
    image()
    names = [f"{BUILT_HERE}-{number}" for number in (1, 2)]
    began = time.monotonic()
    try:
        for name in names:
            build(name, "--no-cache")
        layers = [inspect(name)["RootFS"]["Layers"] for name in names]
    finally:
        podman("rmi", "--force", *names, check=False)
    print(f"two builds from scratch in {time.monotonic() - began:.0f} s: {layers[0][1:]}")
    assert len(layers[0]) == 3
    assert layers[0] == layers[1]
