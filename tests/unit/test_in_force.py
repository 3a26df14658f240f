"""What rules, targets and configurations of somebody else mean for a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from loadband.rebalance import in_force
from loadband.rebalance.in_force import UnfitError

LABELS = {"alertname": "Hot", "test_load": "true", "cluster": "c1", "quoted": 'a"b'}


def rule(name: str, query: str = "", group: str = "g", interval: float = 15, **more: Any) -> dict[str, Any]:
    kind = "alerting" if "duration" in more else "recording"
    return {"type": kind, "name": name, "query": query, "group": group, "interval": float(interval), **more}


HOST = "node:loadband_host_cpu:ratio"


def test_the_window_is_found_however_many_rules_are_between() -> None:
    rules = [
        rule("instance:x:ratio", "rate(x_total[90s]) / node:y:ratio"),
        rule("node:y:ratio", f"max by (node) (instance:x:ratio) or {HOST}"),
        rule(HOST, 'node:y:ratio{node=~"[a]b[1-9]"} or on (cluster, node) node:z:ratio'),
        rule("node:z:ratio", "rate(z_total[1m30s:15s])"),
        rule("node:other:ratio", "rate(x_total[5m])"),
    ]
    assert str(in_force.window(rules)) == f"90s, the rules of {HOST}"
    with pytest.raises(UnfitError, match="over no range: it must be one"):
        in_force.window([rule(HOST, "a_gauge")])


def test_of_several_rules_of_a_name_the_slowest_counts() -> None:
    alerts = [rule("Hot", duration=60), rule("Hot", duration=300), rule("Cold", duration=900)]
    assert str(in_force.alert_for(alerts, "Hot")) == "300s, the longest of 2 alerts Hot"
    assert str(in_force.alert_for(alerts, "Cold")) == "900s, alert Cold"


def test_a_group_that_records_what_another_one_compares_comes_on_top() -> None:
    records, alert = rule(HOST, group="records", interval=30), rule("Hot", duration=60, group="alerts")
    assert str(in_force.evaluation([records, alert], "Hot")) == "45s, group alerts after group records"
    assert str(in_force.evaluation([rule(HOST, group="alerts"), alert], "Hot")) == "15s, group alerts"
    assert in_force.recorded_every([records, alert]) == 30


def test_the_scrape_interval_is_the_longest_of_the_targets_that_export_hosts() -> None:
    targets = [
        {"labels": {"job": job, "instance": "a:1"}, "scrapeInterval": interval}
        for job, interval in (("loadband", "15s"), ("node", "1m"), ("slow", "1h"))
    ]
    exporters = [{"job": "loadband", "instance": "a:1"}, {"job": "node", "instance": "a:1"}]
    assert str(in_force.scrape(targets, exporters)) == "60s, job node"
    assert in_force.scrape(targets, [{"job": "loadband", "instance": "b:1"}]) is None


def test_labels_are_sure_only_if_nothing_changes_them() -> None:
    alerts = [
        rule("Hot", duration=60, labels={"severity": "page", "team": "{{ $labels.team }}", "a": "b"}),
        rule("Hot", duration=90, labels={"severity": "info", "a": "b"}),
    ]
    config: dict[str, Any] = {"global": {"external_labels": {"cluster": "c1"}}}
    assert in_force.labels_of(alerts, "Hot", config) == {"alertname": "Hot", "cluster": "c1", "a": "b"}
    config["alerting"] = {"alert_relabel_configs": [{"action": "labeldrop", "regex": "a"}]}
    assert in_force.labels_of(alerts, "Hot", config) == {}
    assert in_force.labels_of(alerts, "Hot", {"global": None, "alerting": None}) == {"alertname": "Hot", "a": "b"}


def waits(routes: str, labels: Mapping[str, str] = LABELS) -> tuple[float, str]:
    document = yaml.safe_load(f"{{route: {{receiver: all, group_interval: 2m, routes: [{routes}]}}}}")
    found = in_force.waits(document, labels)
    assert found.group_interval.seconds == 120  # all inherit it
    return found.group_wait.seconds, found.group_wait.source


@pytest.mark.parametrize(
    "matcher",
    [
        "matchers: ['test_load=\"true\"']",
        'matchers: [\'{alertname=~"Cold|Hot", cluster!="c2"}\']',
        "matchers: ['cluster!~c2', 'test_load=true']",
        "match: {test_load: 'true'}",
        "match_re: {alertname: 'H.+'}",
        'matchers: [\'quoted="a\\"b"\']',
    ],
)
def test_a_route_that_surely_takes_the_alert_decides(matcher: str) -> None:
    assert waits(f"{{receiver: r, group_wait: 7s, {matcher}}}, {{receiver: s, group_wait: 9s}}") == (7, "route to r")


@pytest.mark.parametrize(
    "matcher", ["matchers: ['test_load=\"false\"']", "matchers: ['cluster=~\"c\"']", "match: {alertname: Cold}"]
)
def test_a_route_that_surely_does_not_take_it_counts_for_nothing(matcher: str) -> None:
    assert waits(f"{{receiver: r, group_wait: 7s, {matcher}}}") == (30, "Alertmanager's default")


@pytest.mark.parametrize(
    "matcher", ["matchers: ['namespace=\"x\"']", "matchers: ['a = b = c']", "matchers: ['cluster=~\"(?i:\\\\pL)\"']"]
)
def test_where_nobody_knows_the_slowest_route_counts(matcher: str) -> None:
    among = ", the longest of 2 routes that it may take"
    assert waits(f"{{receiver: r, group_wait: 7s, {matcher}}}") == (30, f"Alertmanager's default{among}")
    assert waits(f"{{receiver: r, group_wait: 40s, {matcher}}}") == (40, f"route to r{among}")


def test_routes_inherit_and_go_on() -> None:
    inner = "{receiver: s, matchers: ['cluster=\"c1\"']}"
    outer = f"{{receiver: r, group_wait: 50s, matchers: ['alertname=\"Hot\"'], continue: true, routes: [{inner}]}}"
    among = ", the longest of 2 routes that it may take"
    assert waits(f"{outer}, {{receiver: t, group_wait: 3s, match: {{cluster: c1}}}}") == (50, f"route to s{among}")
