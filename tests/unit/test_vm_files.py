"""What the machine image is made of fits the program, wherever a machine can't be booted."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from loadband.settings import DEFAULT_PORT, Loaded, load

TOP = Path(__file__).parents[2]
VM = TOP / "vm"
SETTINGS = "/etc/loadband/loadband.env"
UNITS = VM / "service/etc/systemd/system"
EXPOSURE = 12
"""Tenths, of `systemd-analyze security`; docs/vm.md names it."""


def manifests() -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all((VM / "kubevirt.yaml").read_text())}


def from_user_data(text: str) -> str:
    assert text.startswith("#cloud-config\n")
    (file,) = yaml.safe_load(text)["write_files"]
    assert file["path"] == SETTINGS
    return str(file["content"])


def kubevirt_user_data() -> str:
    volumes = manifests()["VirtualMachine"]["spec"]["template"]["spec"]["volumes"]
    (text,) = (volume["cloudInitNoCloud"]["userData"] for volume in volumes if "cloudInitNoCloud" in volume)
    return str(text)


@pytest.mark.parametrize(
    "text",
    [
        (VM / f"service{SETTINGS}").read_text(),
        from_user_data((VM / "user-data.yaml").read_text()),
        from_user_data(kubevirt_user_data()),
    ],
    ids=["shipped", "user-data", "KubeVirt"],
)
def test_settings_are_taken_without_a_warning(text: str) -> None:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    with mock.patch.dict(os.environ, (line.split("=", 1) for line in lines), clear=True):
        loaded = load([])
    assert isinstance(loaded, Loaded)
    assert not loaded.warnings


def test_without_settings_the_band_is_modest() -> None:
    assert "LOADBAND_MAX=30\n" in (VM / f"service{SETTINGS}").read_text()


def test_the_unit_reads_the_settings_and_what_watches_them_watches_that_file() -> None:
    assert f"\nEnvironmentFile={SETTINGS}\n" in (UNITS / "loadband.service").read_text()
    assert f"\nPathChanged={SETTINGS}\n" in (UNITS / "loadband-settings.path").read_text()


def test_lines_that_systemd_skips_are_told(tmp_path: Path) -> None:
    (line,) = (line for line in (UNITS / "loadband.service").read_text().splitlines() if "ExecStartPre=" in line)
    settings = tmp_path / "loadband.env"
    settings.write_text("# a comment\n\n ; another\nLOADBAND_MIN=30\nLOADBAND_MAX 40\n")
    command = line.removeprefix("ExecStartPre=+").replace("$$", "$").replace(SETTINGS, str(settings))
    told = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
    assert told.stderr == "no NAME=value, skipped: LOADBAND_MAX 40\n"
    settings.write_text("LOADBAND_MIN=30\n")
    assert subprocess.run(shlex.split(command), capture_output=True, check=True).stderr == b""


def test_the_unit_is_valid_and_as_closed_as_documented(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS.iterdir():
        # Only the program isn't here.
        (tmp_path / unit.name).write_text(unit.read_text().replace("=/opt/loadband/bin/loadband", "=/bin/true"))
    names = [str(path) for path in sorted(tmp_path.iterdir())]
    verified = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    security = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}"]
    rated = subprocess.run([*security, str(tmp_path / "loadband.service")], capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout.splitlines()[-1]
    assert f"{EXPOSURE / 10}" in (TOP / "docs/vm.md").read_text()


def test_what_kubevirt_monitors_is_what_it_lets_in_and_what_listens() -> None:
    found = manifests()
    template = found["VirtualMachine"]["spec"]["template"]
    (interface,) = template["spec"]["domain"]["devices"]["interfaces"]
    service = found["Service"]["spec"]
    assert {port["port"] for port in interface["ports"]} == {port["port"] for port in service["ports"]}
    assert {port["name"]: port["port"] for port in service["ports"]} == {"metrics": DEFAULT_PORT, "node-exporter": 9100}
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    monitor = found["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= found["Service"]["metadata"]["labels"].items()
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} == {port["name"] for port in service["ports"]}
