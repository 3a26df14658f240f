"""Scenarios: what they say, what is refused, and what they make of the hosts of a platform."""

from __future__ import annotations

import json
import re
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
    RAMP_STEP,
    RAMP_STEPS,
    SHIPPED_WINDOW,
    asked,
    changes,
    outlook,
    remarks,
    script,
    start,
)
from loadband.rebalance.scenario_file import ARRAYS, MAX_CHANGES, MAX_SLICES, TABLES, parse, schema

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
    is_hot = {"record": "loadband:threshold:ratio", "labels": {"threshold": "host_hot"}}
    (hot,) = (rule["expr"] for rule in rules if is_hot.items() <= rule.items())
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
        "neighbour",
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


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_moving_helps_where_balance_is_expected_and_nothing_is_odd(file: Path) -> None:
    scenario = parse(file.read_text(), file.name)
    assert remarks(scenario) == ()
    seen = outlook(scenario)
    if scenario.expect is Expectation.BALANCE:
        assert seen.before > scenario.theta >= seen.left + 0.05
        total = sum(asked(scenario)[-1][1].values())
        assert total / len(scenario.hosts) < scenario.hot - 0.05
    if file.stem in {"symmetric", "unmovable"}:
        assert seen.moves == ()


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


def test_raises_follow_each_other_from_where_the_one_before_ended() -> None:
    document = """
[[slices]]
size = "20%"
[[overload]]
raise = "resident"
size = "80%"
after = "20s"
lasts = "10s"
[[overload]]
raise = "resident"
size = "40%"
"""
    course = [(change.after, round(change.cpus, 9)) for change in changes(parse(document, "s.toml"))]
    assert course == [(0.0, 0.4), (20.0, 0.8), (30.0, 0.4)]


def test_a_long_ramp_has_few_steps() -> None:
    found = changes(parse(OVERLOAD + 'over = "1h"\n[phases]\nwatch = "2h"', "s.toml"))
    assert len(found) == 2 * RAMP_STEPS
    assert (found[0].after, found[-1].after, found[-1].cpus) == (0.0, 3540.0, 0.3)


def test_a_neighbour_is_made_so_that_nobody_moves_it() -> None:
    document = "[[slices]]\nmovable = false\n" + OVERLOAD + "movable = false\n"
    scenario = parse(document, "s.toml")
    assert {put.movable for put in start(scenario)} == {change.movable for change in changes(scenario)} == {False}
    assert outlook(scenario).moves == ()
    assert remarks(scenario)[-2] == "there is no slice that a rebalancer may move"


def test_the_outlook_is_the_plainest_plan() -> None:
    scenario = parse('[[slices]]\nsize = "20%"\ncount = 2\n' + OVERLOAD.replace("2", "1"), "s.toml")
    seen = outlook(scenario)
    assert (seen.after, round(seen.before, 9), seen.moves, round(seen.left, 9)) == (
        0.0,
        0.3,
        (("resident-1-1", "host-2"),),
        0.1,
    )


def test_the_outlook_relieves_hosts_that_are_equally_hot() -> None:
    for measure in ("spread", "peak"):
        document = f"""
imbalance = "{measure}"
theta = 1.2
[hosts]
count = 3
hot = 2
[[overload]]
add = "guest"
count = 4
size = "20%"
"""
        document = document.replace("1.2", "0.3") if measure == "spread" else document
        seen = outlook(parse(document, "s.toml"))
        assert [destination for _, destination in seen.moves] == ["host-3", "host-3"], measure
        assert {name for name, _ in seen.moves} == {"guest-1-1", "guest-2-1"}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            OVERLOAD,
            "host-1 is to be hot and is asked for at most 60 %, which is below the hot threshold: only with other",
        ),
        (OVERLOAD.replace("2", "3") + 'on = "each"', "host-2 isn't among the hot hosts and is asked for 90 %"),
        (
            OVERLOAD.replace("2", "1").replace("30", "90"),
            "balance is expected, and moving slices from the fullest host to the emptiest leaves the spread at",
        ),
        (OVERLOAD + 'lasts = "20s"', "part of the overload ends 20 s after its begin, before the watch does"),
    ],
)
def test_what_is_odd_is_remarked(document: str, said: str) -> None:
    assert any(remark.startswith(said) for remark in remarks(parse(document, "s.toml")))


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
            "s.toml:4: overload 1, size = '30%': host-1 is asked for 120 % of itself 0 s after the overload",
        ),
        (
            '[[slices]]\ncount = 4\nsize = "30%"',
            "s.toml:3: slices 1, size = '30%': host-1 is asked for 120 % of itself from the start, as is another",
        ),
        (OVERLOAD + 'after = "2m"', "after = '2m': ends 120 s after the overload began, and the watch 60 s after that"),
        (OVERLOAD + 'over = "2m"', "over = '2m': ends 120 s after the overload began"),
        (OVERLOAD + 'over = "9s"\nlasts = "5s"', "lasts = '5s': must be at least over, which is 9 s"),
        ("[hosts]\nhot = 0", "s.toml:2: hosts, hot = 0: must be at least 1 where balance is expected"),
        (
            'expect = "no move"\n[hosts]\nhot = 0\n' + OVERLOAD,
            "overload 1, on: hot names no host: 0 of 2 hosts are hot",
        ),
        ("[hosts]\nhot = 2\n[[slices]]\non = 'cool'", "on = 'cool': cool names no host: 2 of 2 hosts are hot"),
        ('[[slices]]\nname = "guest"\n' + OVERLOAD, "add = 'guest': is the name of other slices on host-1"),
        ('[[slices]]\n[[slices]]\non = "hot"', "s.toml:2: slices 2, name: is the name of other slices on host-1"),
        (OVERLOAD + OVERLOAD, "s.toml:6: overload 2, add = 'guest': is the name of other slices on host-1"),
        (
            '[[slices]]\non = "cool"\n[[overload]]\nraise = "resident"',
            "raise = 'resident': there are no slices resident on",
        ),
        (
            OVERLOAD + '[[overload]]\nraise = "guest"',
            "must be the name of slices that are there from the start: there are",
        ),
        (
            "[[slices]]\n" + 2 * '[[overload]]\nraise = "resident"\nlasts = "5s"\n',
            "s.toml:6: overload 2, raise = 'resident': overload 1 changes the same slices, from 0 to 5 s",
        ),
        ('[[slices]]\n[[overload]]\nraise = "resident"\nmovable = false', "movable = false: is for add only"),
        ("[[slices]]\nmovable = 1", "movable = 1: must be true or false"),
        ('hold = "1m"', "s.toml:1: hold = '1m': must be less than the watch, which takes 60 s"),
        ('[phases]\nwatch = "10s"', "s.toml:2: phases, watch = '10s': must be more than hold, which is 10 s"),
        (
            '[hosts]\ncount = 3\n[[slices]]\ncount = 1000\nsize = "0.1%"',
            f"s.toml:4: slices 1, count = 1000: makes 3000 slices in all: at most {MAX_SLICES}",
        ),
        (
            '[[overload]]\nadd = "x"\ncount = 999\nsize = "0.1%"\nover = "60s"',
            f"s.toml:5: overload 1, over = '60s': makes 29970 changes of slices in all: at most {MAX_CHANGES}",
        ),
        (
            "[hosts]\ncount = 201\n[[slices]]\non = 'host-7'",
            "s.toml:2: hosts, count = 201: must be a whole number 1..200",
        ),
        ("x = ", "Invalid value"),
        ('[limits]\nthrash = "== 0s"', "thrash = '== 0s': must be written as `<= 10%`, `== 0` or `0.1..0.2`"),
        ('[limits]\nmoves = "some"', "moves = 'some': must be written as `== 0`"),
    ],
)
def test_what_makes_no_sense_is_refused(document: str, said: str) -> None:
    (problem,) = problems(document)
    assert said in problem
    assert re.match(r"s\.toml:\d+: ", problem)


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
