"""The rules as files: what promtool and amtool say of them, and that alerts, tests, names and docs fit together."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadband.metrics import FAMILIES

TOP = Path(__file__).parents[2]
RULES = TOP / "helm/loadband/files/rules"
FILES = sorted(RULES.rglob("*.yaml"))
TESTS = sorted((TOP / "tests/unit/rules").glob("*_test.yaml"))
ALERTMANAGER = TOP / "compose/alertmanager/alertmanager.yml"
BY_CLUSTER = "cluster:loadband_threshold:ratio"
RUNBOOK = "https://github.com/loadband/loadband/blob/main/docs/alerts.md#"

Rule = dict[str, Any]


def tool(name: str, *arguments: str) -> str:
    """Run one of the tools that come with the servers; what it prints, if it is content."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} isn't on PATH")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=60, cwd=TOP)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules_of(path: Path) -> list[Rule]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


@cache
def rules() -> tuple[Rule, ...]:
    return tuple(rule for path in FILES for rule in rules_of(path))


ALERTS = {rule["alert"]: rule for path in FILES for rule in rules_of(path) if "alert" in rule}


def test_promtool_accepts_the_rules() -> None:
    said = tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", *map(str, FILES))
    assert said.count("SUCCESS") == len(FILES)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path: Path) -> None:
    assert "SUCCESS" in tool("promtool", "test", "rules", str(path))


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_seen_to_fire_and_not_to_fire_before_and_after(alert: str) -> None:
    seen = []
    for path in TESTS:
        for scene in yaml.safe_load(path.read_text())["tests"]:
            cases = [case for case in scene.get("alert_rule_test", []) if case["alertname"] == alert]
            seen += ["".join("F" if case["exp_alerts"] else "-" for case in cases)]
    # In one and the same scene: not yet, firing, no more. And somewhere it has no reason at all, or too little data.
    assert any("-F-" in cases for cases in seen)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_labelled_explained_and_documented(alert: str) -> None:
    rule = ALERTS[alert]
    assert re.fullmatch(r"Loadband([A-Z][a-z]+)+", alert)
    assert rule["labels"].keys() == {"severity", "test_load"}
    assert rule["labels"]["severity"] in {"info", "warning"}
    assert rule["labels"]["test_load"] == "true"
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert "{{" in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == RUNBOOK + alert.lower()
    _, heading, section = (TOP / "docs/alerts.md").read_text().partition(f"\n## {alert}\n")
    assert heading, "no section in docs/alerts.md"
    section = section.partition("\n## ")[0]
    for part in ("**Cause.**", "**Check.**", "**Remedy.**"):
        assert part in section


def test_docs_name_no_alert_that_is_gone() -> None:
    headings = re.findall(r"^## (Loadband\w+)$", (TOP / "docs/alerts.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)


def test_expressions_name_only_what_is_exported_or_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    exported = {family.name for family in FAMILIES}
    named = {
        name for rule in rules() for name in re.findall(r"(?:\w+:)*\bloadband\w*(?::\w+)*", unquoted(rule["expr"]))
    }
    assert named <= recorded | exported
    assert len(named) > 10


def unquoted(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)


def test_only_the_opt_in_file_records_a_name_of_others() -> None:
    names = {path.relative_to(RULES): {rule["record"] for rule in rules_of(path) if "record" in rule} for path in FILES}
    opt_in = names.pop(Path("opt-in/instance-node-cpu-ratio.yaml"))
    assert opt_in == {"instance:node_cpu:ratio"}
    assert all("loadband" in name for recorded in names.values() for name in recorded)


def test_thresholds_are_those_that_are_compared_with() -> None:
    recorded = [rule["labels"]["threshold"] for rule in rules_of(RULES / "thresholds.yaml")]
    compared = {
        name
        for rule in ALERTS.values()
        for name in re.findall(r'cluster:loadband_threshold:ratio\{threshold="(\w+)"\}', rule["expr"])
    }
    assert sorted(recorded) == sorted(compared)
    missed = re.findall(r'"threshold", "(\w+)"', ALERTS["LoadbandThresholdMissing"]["expr"])
    assert sorted(recorded) == sorted(missed)
    by_cluster = [rule["labels"]["threshold"] for rule in rules() if rule.get("record", "").startswith(BY_CLUSTER)]
    assert sorted(recorded) == sorted(by_cluster)


def test_no_rule_makes_one_number_of_what_there_may_be_several_of() -> None:
    """`scalar` is NaN if two clusters or replicas record a series, and an alert that compares with it is silent."""
    assert not any("scalar(" in rule["expr"] for rule in rules())


def test_nothing_sums_over_regulators_of_a_host() -> None:
    for rule in rules_of(RULES / "hosts.yaml"):
        assert not re.search(r"\bsum\s*(by|\()", rule["expr"])


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    shutil.copytree(TOP / "compose/prometheus", tmp_path, dirs_exist_ok=True)
    shutil.copytree(RULES, tmp_path / "rules")
    said = tool("promtool", "check", "config", str(tmp_path / "prometheus.yml"))
    assert f"{len(list(RULES.glob('*.yaml')))} rule files found" in said
    assert "WARNING" not in said


def test_alertmanager_accepts_its_configuration() -> None:
    tool("amtool", "check-config", str(ALERTMANAGER))


@pytest.mark.parametrize("alert", ALERTS)
def test_what_a_test_fires_pages_nobody(alert: str) -> None:
    labels = {"alertname": alert} | ALERTS[alert]["labels"]
    matched = [f"{name}={value}" for name, value in labels.items()]
    receiver = tool("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *matched).strip()
    (nobody,) = [one for one in yaml.safe_load(ALERTMANAGER.read_text())["receivers"] if one["name"] == receiver]
    assert nobody == {"name": "test-load"}


def test_what_isn_t_test_load_goes_where_it_went() -> None:
    route = ("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", "alertname=NodeCPUHighUsage")
    assert tool(*route).strip() == "default"


def test_inhibitions_name_alerts_that_exist_and_only_for_the_same_regulator() -> None:
    for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]:
        matchers = " ".join(rule["source_matchers"] + rule["target_matchers"])
        assert set(re.findall(r"Loadband[A-Z]\w+", matchers)) <= set(ALERTS)
        assert rule["equal"] == ["cluster", "job", "instance"]
