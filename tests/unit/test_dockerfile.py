"""The Dockerfile, as far as it can be judged without building it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from loadband.settings import DEFAULT_PORT

ROOT = Path(__file__).parents[2]
HADOLINT = Path(sys.executable).with_name("hadolint")


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([HADOLINT, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_is_silenced_for_nothing_but_unpinned_packages() -> None:
    ignored = re.findall(r"hadolint .*ignore=(\S+)", (ROOT / "Dockerfile").read_text())
    assert set(ignored) == {"DL3008"}


def test_the_port_is_the_default_one() -> None:
    assert f"EXPOSE {DEFAULT_PORT}\n" in (ROOT / "Dockerfile").read_text()


def test_what_is_installed_by_name_alone_is_held_to_its_hash() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip\b[^&\n]* install ([^&\n]*)", dockerfile)
    assert len(installs) == 4
    assert all("--require-hashes" in words or "--no-index" in words for words in installs)


def test_the_regulators_image_is_the_last_one_and_needs_nothing_of_the_other() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    by_name = {stage.partition("\n")[0].rpartition(" AS ")[2]: stage for stage in stages}
    assert {"python", "build", "program", "rebalance"} <= by_name.keys()
    assert stages[-1].startswith("program\nCOPY --from=build /opt/loadband")
    assert by_name["rebalance"].startswith("program AS rebalance\nCOPY --from=build-rebalance /opt/loadband")
    assert "kubernetes.txt" not in by_name["build"]
