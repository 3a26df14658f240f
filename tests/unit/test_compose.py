"""compose.yaml and what it mounts: valid, consistent with each other, and closed to the outside."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from loadband.playback import ProfileFile
from loadband.settings import DECLARATIONS, DEFAULT_PORT

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose.yaml"


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


SERVICES: dict[str, Any] = load(COMPOSE)["services"]


def mounts(service: str) -> dict[str, Path]:
    """Where a service finds what of this tree; all of it read-only."""
    found = {}
    for volume in SERVICES[service].get("volumes", []):
        source, target, mode = volume.split(":")
        assert mode == "ro"
        found[target] = ROOT / source
    return found


def seen(service: str, path: str) -> Path:
    """The file or directory of this tree that a service sees at a path."""
    for target, source in mounts(service).items():
        if path == target or path.startswith(f"{target}/"):
            return source / path.removeprefix(target).lstrip("/")
    raise AssertionError(f"{service} has nothing at {path}")


def networks(service: str) -> set[str]:
    return set(SERVICES[service].get("networks", ["default"]))


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Hold a file against the compose specification's schema, which the package check-jsonschema carries."""
    tool = Path(sys.executable).with_name("check-jsonschema")
    command = [str(tool), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_is_what_the_compose_specification_says() -> None:
    done = check_schema(COMPOSE)
    assert done.returncode == 0, done.stdout


def test_the_check_sees_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("cap_drop:", "capdrop:"))
    done = check_schema(wrong)
    assert done.returncode == 1
    assert "capdrop" in done.stdout


def test_all_that_is_mounted_is_there() -> None:
    missing = [source for service in SERVICES for source in mounts(service).values() if not source.exists()]
    assert missing == []


def test_the_regulator_has_no_privilege_and_no_way_out_and_writes_nowhere() -> None:
    regulator = SERVICES["loadband"]
    assert regulator["read_only"]
    assert regulator["cap_drop"] == ["ALL"]
    assert regulator["security_opt"] == ["no-new-privileges:true"]
    assert regulator["mem_limit"]
    assert regulator["volumes"] == ["./compose/profiles:/profiles:ro"]
    assert not {"ports", "privileged", "pid", "cap_add", "devices", "network_mode"} & set(regulator)
    assert all(load(COMPOSE)["networks"][network]["internal"] for network in networks("loadband"))


def test_the_profile_of_the_comment_is_there_and_good() -> None:
    (named,) = re.findall(r"LOADBAND_PROFILE=(\S+)", COMPOSE.read_text().partition("services:")[0])
    assert ProfileFile(seen("loadband", named)).load().loop


def test_its_variables_are_settings() -> None:
    known = {declaration.variable for declaration in DECLARATIONS}
    assert set(SERVICES["loadband"]["environment"]) <= known


def test_only_this_machine_reaches_what_is_published() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_images_of_others_are_of_one_release() -> None:
    images = {service["image"] for service in SERVICES.values() if "build" not in service}
    assert len(images) == 3
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image) for image in images)


def test_prometheus_scrapes_the_regulators_and_tells_the_alertmanager() -> None:
    config = load(seen("prometheus", "/etc/prometheus/prometheus.yml"))
    discovered = [sd for job in config["scrape_configs"] for sd in job.get("dns_sd_configs", [])]
    assert [(sd["names"], sd["type"], sd["port"]) for sd in discovered] == [(["loadband"], "A", DEFAULT_PORT)]
    told = [
        target for am in config["alerting"]["alertmanagers"] for sc in am["static_configs"] for target in sc["targets"]
    ]
    assert told == ["alertmanager:9093"]
    assert networks("prometheus") & networks("loadband")
    assert networks("prometheus") & networks("alertmanager")
    for pattern in config["rule_files"]:
        rules, name = f"/etc/prometheus/{pattern}".rsplit("/", 1)
        assert list(seen("prometheus", rules).glob(name))
    for job in config["scrape_configs"]:
        for pattern in (pattern for sd in job.get("file_sd_configs", []) for pattern in sd["files"]):
            targets, name = f"/etc/prometheus/{pattern}".rsplit("/", 1)
            assert list(seen("prometheus", targets).glob(name))


def test_grafana_asks_prometheus_and_shows_the_dashboards() -> None:
    provisioning = "/etc/grafana/provisioning"
    (source,) = load(seen("grafana", f"{provisioning}/datasources/loadband.yaml"))["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    assert networks("grafana") & networks("prometheus")
    (provider,) = load(seen("grafana", f"{provisioning}/dashboards/loadband.yaml"))["providers"]
    assert list(seen("grafana", provider["options"]["path"]).glob("*.json"))
    assert seen("grafana", SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
