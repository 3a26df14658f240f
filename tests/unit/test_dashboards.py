"""The dashboards as files: what the code gives, valid, laid out, documented, and about metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from followed import FOLLOWED
from full_snapshot import INFO, SNAPSHOT
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dashboards.__main__ import DASHBOARDS, FOLDER, text
from loadband.metrics import PointCollector, registry, registry_of
from loadband.rebalance import progress

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs/dashboards.md"
Json = dict[str, Any]
WORKLOAD = {"cluster", "node", "namespace", "pod"}

register_default_plugins()


@cache
def board(name: str) -> Json:
    loaded: Json = json.loads((FOLDER / name).read_text())
    return loaded


def panels(name: str) -> list[Json]:
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


@dataclass(frozen=True)
class Asked:
    """One query of a panel."""

    title: str
    expression: str
    legend: str
    unit: str


def queries(name: str) -> Iterator[Asked]:
    for panel in panels(name):
        config = panel["fieldConfig"]
        units = {
            rule["matcher"]["options"]: option["value"]
            for rule in config["overrides"]
            for option in rule["properties"]
            if option["id"] == "unit"
        }
        renamed = [
            step["options"]["renameByName"] for step in panel.get("transformations", []) if step["id"] == "organize"
        ]
        for target in panel["targets"]:
            legend = renamed[0][f"Value #{target['refId']}"] if renamed else target["legendFormat"]
            yield Asked(panel["title"], target["expr"], legend, units.get(legend, config["defaults"]["unit"]))


def named(expression: str) -> set[str]:
    """The metrics in an expression."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(by|on|without|ignoring|group_left) \([^)]*\)', "", expression)
    return set(re.findall(r"(?:\w+:)*\b(?:loadband|process|python|node|cluster|up\b|ALERTS)\w*(?::\w+)*", bare))


def exported() -> set[str]:
    """The names of all series on the /metrics of a regulator and of a run."""
    run = registry_of(PointCollector(progress.FAMILIES, FOLLOWED.points))
    lines = [generate_latest(one).decode() for one in (registry(lambda: SNAPSHOT, INFO), run)]
    return {sample.name for text in lines for family in parse_text(text) for sample in family.samples}


def recorded() -> set[str]:
    files = (TOP / "helm/loadband/files/rules").glob("*.yaml")
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_committed_is_what_the_code_gives(name: str) -> None:
    assert (FOLDER / name).read_text() == text(name), "run `make dashboards`"


def test_there_is_no_other_file() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_all_of_it_is_in_grafana_s_schema(name: str) -> None:
    # The SDK keeps what its types know and drops the rest: what comes back is what Grafana understands.
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(board(name))))
    for mark in board(name)["annotations"]["list"]:
        # The SDK's type of annotations knows no query; see dashboards/parts.py.
        assert mark["target"]["expr"] == mark["expr"]
    ours = board(name) | {"annotations": None}
    assert again | {"annotations": None} == ours


@pytest.mark.parametrize("name", DASHBOARDS)
def test_it_has_a_fixed_name_and_the_variables_that_it_uses(name: str) -> None:
    made = board(name)
    assert f"{made['uid']}.json" == name
    variables = {variable["name"] for variable in made["templating"]["list"]}
    assert variables >= {"datasource"} | ({"run", "instance"} if "rebalance" in name else WORKLOAD)
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(made)))
    builtin = {"__rate_interval", "__range", "__url_time_range", "__value", "__all"}
    assert used - builtin <= variables
    assert variables <= used


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_side_by_side(name: str) -> None:
    taken = set[tuple[int, int]]()
    for panel in board(name)["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in board(name)["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_panel_asks_the_chosen_source_and_is_explained(name: str) -> None:
    heading = board(name)["title"].removeprefix("loadband / ")
    section = DOCS.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    for panel in panels(name):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len(panel["description"]) > 15
        assert panel["title"] in documented
        assert panel["type"] in {"timeseries", "stat", "state-timeline", "bargauge", "table"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_options_of_single_series_are_for_series_that_there_are(name: str) -> None:
    for panel in panels(name):
        legends = {asked.legend for asked in queries(name) if asked.title == panel["title"]}
        columns = {"instance"} if panel["type"] == "table" else set()
        if panel["type"] == "bargauge":
            columns = {"own", "other", "steal", "idle"}
        for rule in panel["fieldConfig"]["overrides"]:
            assert rule["matcher"]["id"] == "byName"
            assert rule["matcher"]["options"] in legends | columns
            for option in rule["properties"]:
                if option["id"] == "custom.fillBelowTo":
                    assert option["value"] in legends


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_query_names_a_metric_that_there_is_not(name: str) -> None:
    known = exported() | recorded() | {"up", "ALERTS"}
    marks = [mark["expr"] for mark in board(name)["annotations"]["list"]]
    choices = [choice["query"] for choice in board(name)["templating"]["list"] if choice["type"] == "query"]
    for expression in [asked.expression for asked in queries(name)] + marks:
        assert named(expression)
        assert named(expression) <= known
    for choice in choices:
        asked = re.fullmatch(r"label_values\((.+)\{.*\}, \w+\)", choice)
        assert asked
        assert asked[1] in known


def test_each_metric_is_on_a_panel_or_said_not_to_be() -> None:
    shown = {metric for name in DASHBOARDS for asked in queries(name) for metric in named(asked.expression)}
    listed = set(re.findall(r"`(\w+)`", DOCS.read_text().partition("\n## Not shown\n")[2]))
    assert exported() - shown == listed


@pytest.mark.parametrize("name", DASHBOARDS)
def test_units_are_those_of_what_is_shown(name: str) -> None:
    for asked in queries(name):
        assert asked.unit == unit_of(asked.expression), asked
        if asked.unit == "percentunit":
            assert "* 100" not in asked.expression


def unit_of(expression: str) -> str:
    """What an expression's value is in, by Prometheus' conventions for names and by what is done with them."""
    bare = re.sub(r"\{[^}]*\}", "", expression)
    return next(unit for shape, unit in UNITS if re.search(shape, bare))


# The first that is found in an expression without its label matchers.
UNITS = (
    (r"histogram_quantile|_seconds_sum.* / ", "s"),
    (r" / ", "percentunit"),
    (r"^count|ALERTS|loadband_(state|build_info|settings_info|profile_info|profile_phase)\b", "short"),
    (r"loadband_rebalance_imbalance", "percentunit"),  # of spread and sd; cv and peak have no unit
    (r"loadband_rebalance_((info|repeats?|phase|verdict|alert|host_slices)\b|moves_|\w+_total\b)", "short"),
    (r"_timestamp_seconds \* 1000$", "dateTimeFromNow"),
    (r" - \w+_timestamp_seconds$", "s"),
    (r"\brate\(\w+_seconds_total", "suffix: CPUs"),
    (r"\brate\(\w+_total", "cps"),
    (r"_cpus\b", "suffix: CPUs"),
    (r"_ratio\b|_in_band\b|:(ratio|avg|spread|stddev|cv)\b", "percentunit"),
    (r"_bytes\b", "bytes"),
    (r"^increase\(|_workers\b", "short"),
)
