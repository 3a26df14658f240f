"""Scenarios: what they say, what is refused, and what they make of the hosts of a platform."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadband.document import DocumentError
from loadband.rebalance import shipped
from loadband.rebalance.events import Expectation, Host, Imbalance
from loadband.rebalance.run import Change, Put
from loadband.rebalance.scenario import (
    ARRAYS,
    RAMP_STEP,
    SHIPPED_WINDOW,
    TABLES,
    asked,
    changes,
    parse,
    schema,
    script,
    start,
)

FILES = sorted(shipped.path("scenarios").glob("*.toml"))
OVERLOAD = '[[overload]]\nadd = "guest"\ncount = 2\nsize = "30%"\n'


def problems(document: str) -> tuple[str, ...]:
    with pytest.raises(DocumentError) as refused:
        parse(document, "s.toml")
    return refused.value.problems


def test_an_empty_scenario_has_all_the_defaults() -> None:
    scenario = parse("", "some/My Scenario.toml")
    assert scenario.name == "my-scenario"
    assert scenario.expect is Expectation.BALANCE
    assert scenario.imbalance is Imbalance.SPREAD
    assert (scenario.hosts, scenario.hot_hosts) == (("host-1", "host-2"), ("host-1",))
    plan = scenario.plan()
    assert (plan.hot, plan.theta, plan.window, plan.watch) == (0.75, 0.25, 8.0, 60.0)


def test_the_window_and_the_threshold_are_those_of_the_shipped_rules() -> None:
    rules = [rule for file in shipped.rules().values() for group in file["groups"] for rule in group["rules"]]
    (window,) = (rule["expr"] for rule in rules if rule.get("record") == "instance:loadband_cpu:ratio")
    assert shipped.seconds(window.partition("[")[2].partition("]")[0]) == SHIPPED_WINDOW
    (hot,) = (rule["expr"] for rule in rules if rule.get("labels") == {"threshold": "host_hot"})
    assert hot == f"vector({parse('', 's.toml').hot:g})"


def test_there_are_the_scenarios_that_the_design_names() -> None:
    assert {file.stem for file in FILES} == {
        "hot-host",
        "flapping",
        "symmetric",
        "unmovable",
        "blind",
        "slow-ramp",
        "short-burst",
        "two-hot-hosts",
        "failing-move",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_each_shipped_scenario_is_whole_and_says_what_it_proves(file: Path) -> None:
    document = file.read_text()
    scenario = parse(document, file.name)
    assert scenario.name == file.stem
    assert scenario.proves.endswith(".")
    assert document.startswith("# ")
    assert max(map(len, document.splitlines())) <= 120
    jsonschema.validate(tomllib.loads(document), schema())
    hottest = max(sums[host] for _, sums in asked(scenario) for host in scenario.hosts)
    assert hottest > scenario.hot + 0.04
    assert all(size < scenario.hot for size in asked(scenario)[0][1].values())


def test_balance_can_be_reached_where_it_is_expected() -> None:
    for file in FILES:
        scenario = parse(file.read_text(), file.name)
        if scenario.expect is Expectation.BALANCE:
            total = sum(asked(scenario)[-1][1].values())
            assert total / len(scenario.hosts) < scenario.hot - 0.05, file.stem


def test_slices_are_placed_and_sized_on_the_hosts_of_the_platform() -> None:
    document = '[[slices]]\ncount = 2\nsize = "10%"\n' + OVERLOAD + 'after = "3s"\nlasts = "5s"\n'
    hosts = [Host(at=0.0, name=name, cpus=cpus) for name, cpus in (("node-a", 4.0), ("node-b", 8.0), ("node-c", 1.0))]
    made = script(parse(document, "s.toml"), hosts)
    assert made.plan.hot_hosts == ("node-a",)
    assert made.slices == [
        Put("resident-1-1", "node-a", 0.4),
        Put("resident-1-2", "node-a", 0.4),
        Put("resident-2-1", "node-b", 0.8),
        Put("resident-2-2", "node-b", 0.8),
    ]
    assert made.overload == [
        Change(3.0, "guest-1-1", 1.2, "node-a"),
        Change(3.0, "guest-1-2", 1.2, "node-a"),
        Change(8.0, "guest-1-1", 0.0, "node-a"),
        Change(8.0, "guest-1-2", 0.0, "node-a"),
    ]
    with pytest.raises(ValueError, match="s needs 2 hosts; there are 1"):
        script(parse(document, "s.toml"), hosts[:1])


def test_a_raise_changes_the_slices_that_are_there_and_ends_where_it_began() -> None:
    document = """
[[slices]]
size = "20%"
[[overload]]
raise = "resident"
on = "host-2"
size = "80%"
over = "6s"
lasts = "9s"
"""
    scenario = parse(document, "s.toml")
    course = [(change.after, round(change.cpus, 9), change.name) for change in changes(scenario)]
    name = "resident-2-1"
    assert course == [(0.0, 0.4, name), (RAMP_STEP, 0.6, name), (2 * RAMP_STEP, 0.8, name), (9.0, 0.2, name)]
    assert asked(scenario)[0] == (-5.0, {"host-1": 0.2, "host-2": 0.2})
    assert asked(scenario)[-1] == (9.0, {"host-1": 0.2, "host-2": 0.2})


def test_everything_wrong_is_reported_at_once_with_its_line() -> None:
    document = """
expect = "magic"
hott = "80%"
theta = -1
[hosts]
count = 2
hot = 3
[[slices]]
name = "Bad Name"
on = "nowhere"
size = "0"
[[overload]]
add = "x"
raise = "y"
[[overload]]
size = "10%"
[[overload]]
raise = "nobody"
count = 2
[limits]
time_to_alrt = "<= 3s"
"""
    said = problems(document)
    places = [problem.split(": ")[0] for problem in said]
    assert places == [f"s.toml:{n}" for n in (2, 3, 4, 7, 9, 10, 11, 13, 15, 18, 19, 21)]
    assert "did you mean hot?" in said[1]
    assert "did you mean time_to_alert?" in said[-1]
    assert "must be at most count, which is 2" in said[3]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            OVERLOAD.replace("2", "4"),
            "host-1 is asked for 120 % of itself, 0 s after the overload began: at most 100 %",
        ),
        (OVERLOAD + 'after = "2m"', "the overload changes 120 s after it began, and the watch ends before that"),
        ("[hosts]\nhot = 0", "needs a hot host"),
        ('[[slices]]\nname = "guest"\n' + OVERLOAD, "is the name of slices that are there already"),
        ("x = ", "Invalid value"),
        ('[limits]\nthrash = "== 0s"', "thrash = '== 0s': must be written as `<= 10%`, `== 0` or `0.1..0.2`"),
        ('[limits]\nmoves = "some"', "moves = 'some': must be written as `== 0`"),
    ],
)
def test_what_makes_no_sense_is_refused(document: str, said: str) -> None:
    (problem,) = problems(document)
    assert said in problem


def test_the_schema_knows_the_same_keys_and_refuses_others() -> None:
    known = schema()["properties"]
    for table, keys in TABLES.items():
        inside = known if not table else known[table]
        properties = inside["items"]["properties"] if table in ARRAYS else inside.get("properties", inside)
        assert {key.name for key in keys} <= set(properties)
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid({"hot": "80%", "repeats": 3, "slices": [{"count": 2}]})
    for broken in ('{"hott": 1}', '{"slices": {}}', '{"expect": "magic"}', '{"repeats": 1.5}', '{"limits": {"x": ""}}'):
        assert not validator.is_valid(json.loads(broken)), broken


_values = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=8), st.sampled_from(["10%", "3s", "hot"])
)


@given(
    st.dictionaries(st.sampled_from([key.name for key in TABLES[""]]), _values, max_size=4),
    st.dictionaries(st.sampled_from([key.name for key in TABLES["overload"]]), _values, max_size=4),
    st.text(max_size=30),
)
def test_whatever_is_written_is_read_or_refused(top: dict[str, object], inside: dict[str, object], noise: str) -> None:
    def toml(values: dict[str, object]) -> str:
        return "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())

    for document in (f"{toml(top)}\n[[overload]]\n{toml(inside)}\n", noise):
        try:
            scenario = parse(document, "s.toml")
        except DocumentError as error:
            assert all(problem.startswith("s.toml") for problem in error.problems)  # noqa: PT017 - both are right
        else:
            assert start(scenario) == []
