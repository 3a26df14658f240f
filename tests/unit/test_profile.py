from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadband.document import DocumentError
from loadband.profile import MAX_PHASES, Profile, curve, parse
from loadband.quantities import Band

CONSTANT = '[[phase]]\nkind = "constant"\ntarget = 50\nduration = "10s"\n'


def reader(files: Mapping[str, str]) -> Callable[[str], str]:
    def read(name: str) -> str:
        if name not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[name]

    return read


def profile(text: str, **files: str) -> Profile:
    return parse(text, "day.toml", reader({name.replace("_", "."): content for name, content in files.items()}))


def problems(text: str, **files: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        profile(text, **files)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return list(caught.value.problems)


def profile_or_problems(text: str, **files: str) -> Profile | tuple[str, ...]:
    try:
        return profile(text, **files)
    except DocumentError as error:
        return error.problems


def phase(**keys: Any) -> str:
    return "[[phase]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def targets(played: Profile, *moments: float) -> list[float]:
    """Targets in percent."""
    return [round(100 * played.at(moment)[1].target, 6) for moment in moments]


def test_a_constant_is_one_band() -> None:
    played = profile("width = 20\n" + phase(kind="constant", target="65%", duration="1m"))
    assert (played.name, played.seconds, played.loop, played.start) == ("day", 60, False, None)
    assert {played.at(moment)[1] for moment in (-5, 0, 30, 60, 1e9)} == {Band(0.55, 0.75)}


def test_a_ramp_is_a_straight_line() -> None:
    played = profile(phase(kind="ramp", **{"from": 20}, to=80, duration=60))
    assert targets(played, 0, 15, 30, 60, 61) == [20, 35, 50, 80, 80]


def test_steps_are_levels_of_equal_height_and_length_with_both_ends() -> None:
    played = profile(phase(kind="step", **{"from": 20}, to=80, steps=4, duration="40s"))
    assert targets(played, 0, 9.9, 10, 19.9, 20, 30, 39.9, 50) == [20, 20, 40, 40, 60, 80, 80, 80]


def test_a_sine_begins_at_its_lowest_and_takes_one_period_unless_told() -> None:
    played = profile(phase(kind="sine", low=20, high=80, period="60s"))
    assert played.seconds == 60
    assert targets(played, 0, 15, 30, 45, 60) == [20, 50, 80, 50, 20]
    longer = profile(phase(kind="sine", low=20, high=80, period="60s", duration="90s"))
    assert targets(longer, 75, 90) == [50, 80]


def test_a_ramp_and_steps_go_on_from_where_the_phase_before_them_ended() -> None:
    played = profile(
        phase(kind="sine", low=20, high=80, period=20, duration=10)
        + phase(kind="ramp", to=40, duration=10)
        + phase(kind="step", to=60, steps=2, duration=10)
    )
    assert targets(played, 10, 15, 20, 24, 25, 30) == [80, 60, 40, 40, 60, 60]


def test_at_its_end_the_last_band_stays_or_it_begins_again() -> None:
    text = phase(name="up", kind="ramp", **{"from": 20}, to=60, duration=10) + phase(
        name="top", kind="constant", target=70, duration=10
    )
    held, looped = profile(text), profile('at_end = "loop"\n' + text)
    assert targets(held, 20, 25, 1e6) == [70, 70, 70]
    assert targets(looped, 20, 25, 30, 40 + 5) == [20, 40, 70, 40]
    assert [looped.at(moment)[0].name for moment in (-1, 0, 9.9, 10, 19.9, 20, 30)] == [
        *["up", "up", "up", "top", "top", "up", "top"]
    ]
    assert held.at(1e6)[0].name == "top"


@pytest.mark.parametrize(
    ("target", "width", "band"),
    [
        (50, 10, Band(0.45, 0.55)),
        (3, 10, Band(0, 0.06)),
        (98, 10, Band(0.96, 1)),
        (0, 10, Band(0, 0.01)),
        (100, 10, Band(0.99, 1)),
        (50, 100, Band(0, 1)),
    ],
)
def test_a_band_narrows_at_the_ends_so_that_the_target_stays_its_middle(target: int, width: int, band: Band) -> None:
    played = profile(phase(kind="constant", target=target, width=width, duration=1))
    assert played.at(0)[1] == band


def test_a_phase_may_have_a_width_and_a_name_of_its_own() -> None:
    played = profile("width = 4\n" + CONSTANT + phase(name="wide", kind="constant", target=50, width=20, duration=10))
    assert [(each.name, each.width) for each in played.phases] == [("constant 1", 0.04), ("wide", 0.2)]


def test_a_start_is_a_moment_of_the_wall_clock() -> None:
    assert profile("start = 2026-11-01T00:00:00+01:00\n" + CONSTANT).start == 1793487600


PROMETHEUS = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [{"metric": {"instance": "a"}, "values": [[1.7e9, "0.2"], [1.7e9 + 60, "0.4"], [1.7e9 + 180, "1"]]}],
    },
}


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("ratio", json.dumps(PROMETHEUS)),
        ("ratio", "\ufeff" + json.dumps(PROMETHEUS)),
        ("ratio", json.dumps(PROMETHEUS["data"]["result"])),  # type: ignore[index] # as promtool prints it
        ("percent", "0,20\n60,40\n180,100\n"),
        ("percent", "\ufefftime,value\r\n1700000000, 20\r\n1700000060, 4e1\r\n\r\n1700000180,100.0\r\n"),
        ("ratio", "Time,cpu\n2026-11-01 00:00:00,.2\n2026-11-01 00:01:00,0.4\n2026-11-01 00:03:00,1.02\n"),
        ("ratio", "2026-11-01T00:00:00Z,0.2\n2026-11-01T01:01:00+01:00,0.4\n2026-11-01T00:03:00Z,1\n"),
    ],
    ids=["range query", "byte order mark", "promtool", "csv", "headings", "local times", "zoned times"],
)
def test_a_replay_follows_a_series_in_straight_lines(unit: str, text: str) -> None:
    played = profile(phase(kind="replay", file="load.txt", unit=unit, speed=60), load_txt=text)
    assert played.seconds == 3
    assert targets(played, 0, 0.5, 1, 2, 3) == [20, 30, 40, 70, 99.5]


LENGTHS = "must be 1s..8760h (time), written as 500ms, 1.5s, 2m or 1h; 10 is 10s"
MOMENT = "must be a date and time with an offset, as 2026-01-31T00:00:00Z, without quotes"


def test_every_problem_is_told_with_its_line() -> None:
    text = """\
name = ""
widht = 20
at_end = "stop"
start = 2026-11-01T00:00:00

[[phase]]
kind = "ramp"
to = 120         # from is missing, too
duration = [
  "10s",
]

# a remark
[[phase]]
kind = "triangle"

[[phase]]
kind = "sine"
low = 80
high = 20.5
period = "500ms"

[[phase]]
name = "same"
kind = "constant"
target = true
duration = inf

[[phase]]
name = "same"
kind = "constant"
target = 50
duration = "1s"
[[phase]]
name = "same"
kind = "constant"
target = 50
[[phase]]
name = "same"
kind = "constant"
target = 50
duration = "1s"
"""
    assert problems(text) == [
        "day.toml:1: name = '': must be a text of printable characters",
        "day.toml:2: the profile: unknown key 'widht'; did you mean width?",
        "day.toml:3: at_end = 'stop': must be hold or loop",
        f"day.toml:4: start = 2026-11-01T00:00:00: {MOMENT}",
        "day.toml:6: phase 1: from is missing",
        "day.toml:8: phase 1, to = 120: must be 0..100 (percent), written as 60 or 60%",
        f"day.toml:9: phase 1, duration = ['10s']: {LENGTHS}",
        "day.toml:15: phase 2, kind = 'triangle': must be constant, step, ramp, sine or replay",
        "day.toml:19: phase 3, low = 80: must be less than high",
        f"day.toml:21: phase 3, period = '500ms': {LENGTHS}",
        "day.toml:26: phase 4, target = true: must be 0..100 (percent), written as 60 or 60%",
        f"day.toml:27: phase 4, duration = inf: {LENGTHS}",
        "day.toml:34: phase 6: duration is missing",
        "day.toml:39: phase 7, name = 'same': another phase has that name",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "day.toml:1: the profile: phase is missing"),
        ("phase = 3", "day.toml:1: phase = 3: must be tables, each under [[phase]]"),
        ("phase = []", f"day.toml:1: phase = []: must be 1..{MAX_PHASES} tables, each under [[phase]]; there are 0"),
        ("\n\nwidth 10", "day.toml:3:7: Expected '=' after a key in a key/value pair"),
        ("x = 1\nx = 2 # again\n", "day.toml:2:6: Cannot overwrite a value"),
        ("\nname = [", "day.toml:2: Invalid value"),
        ("x = " + 5000 * "[", "day.toml: nested too deeply"),
        (f"{CONSTANT}foo = 1", "day.toml:5: phase 1: unknown key 'foo'; known are kind, name, width, target, duration"),
        (
            CONSTANT.replace("50", "0x" + 6000 * "f").replace("\n", "\r\n"),
            "day.toml:3: phase 1, target = (a number): Exceeds the limit",
        ),
        ("phase = [\n {}]", "day.toml:1: phase 1: kind is missing"),
        ((MAX_PHASES + 1) * CONSTANT, "day.toml:1: phase = "),
    ],
)
def test_what_is_no_profile_is_one_line_with_its_place(text: str, told: str) -> None:
    (line,) = problems(text)
    assert line.startswith(told)
    assert len(line) < 250


def test_no_more_than_twenty_problems_are_told() -> None:
    told = problems(CONSTANT.replace("50", "500") * 30)
    assert len(told) == 21
    assert told[-1] == "day.toml: and 10 more"


def with_result(result: object) -> str:
    return json.dumps({"status": "success", "data": {"result": result}})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there must be two samples or more; there are 0"),
        ("time,value\n0,50\n", "there must be two samples or more; there are 1"),
        ("0,50\n1,101.9\n2,106", "line 3: 106 isn't a utilization, which must be 0..100"),
        ("0,50\n1,-5.1", "line 2: -5.1 isn't a utilization, which must be 0..100"),
        ("0,50\n1,nan", "line 2: 'nan' isn't a number"),
        ("0,50\n1,1_0", "line 2: '1_0' isn't a number"),
        ("0,50\n1,1e999", "line 2: '1e999' isn't a number"),
        ("0,50\n\n1", "line 3: there must be two columns, a time and a utilization; there are 1"),
        ("0,50,a\n1,50,b", "line 1: there must be two columns, a time and a utilization; there are 3"),
        ("0,50\n0,60", "line 2: the time isn't later than the one before"),
        ("5,50\n4,60", "line 2: the time isn't later than the one before"),
        ("noon,50\n", "line 1: 'noon' isn't a time: it must be seconds, or a date and time by ISO 8601"),
        ("2026-11-01,50\n5,60", "line 2: the time is written differently from those before"),
        ("2026-11-01,50\n2026-11-02T00:00Z,60", "line 2: the time is written differently from those before"),
        ('0,50\n"1,60', "line 2: not valid CSV: unexpected end of data"),
        ("-1e308,50\n1e308,60", "the times are too far apart"),
        ("0,50\n0.5,50\n", "lasts 0.5 s at that speed; a phase must last 1 s or more"),
        ('{"data": \n}', "line 2, column 1: not valid JSON: Expecting value"),
        ("{}", "there is no data.result, which Prometheus' answer to a range query has"),
        ('{"data": []}', "there is no data.result, which Prometheus' answer to a range query has"),
        ('{"status": "error", "error": "query\\ntimed out"}', "answered with an error: 'query\\ntimed out'"),
        (with_result([]), "data.result: there must be one series; there are 0: narrow the query"),
        (with_result([{}, {}]), "data.result: there must be one series; there are 2: narrow the query"),
        (
            with_result([{"value": [1, "2"]}]),
            "data.result[0]: there are no values: query a range, not an instant",
        ),
        (with_result([7]), "data.result[0]: there are no values: query a range, not an instant"),
        (with_result([{"values": [[1, "2"], [2, "NaN"]]}]), "data.result[0].values[1]: 'NaN' isn't a finite number"),
        (with_result([{"values": [[1, 2]]}]), "data.result[0].values[0]: not a pair of a time and a text"),
        ('{"data":{"result":[{"values":[[NaN,"2"]]}]}}', "values[0]: not a pair of a time and a text"),
        ('{"data":{"result":[{"values":[[1e999,"2"]]}]}}', "values[0]: not a pair of a time and a text"),
        ("[" + 5000 * "[", "not valid JSON"),  # how deep a Python reads depends on its version
        ("\n".join(f"{index},50" for index in range(100_002)), "line 100001: there are more than 100000 samples"),
    ],
)
def test_what_is_no_series_is_told_with_both_places(text: str, told: str) -> None:
    (line,) = problems(CONSTANT + phase(kind="replay", file="load.txt", unit="percent"), load_txt=text)
    assert line.startswith("day.toml:7: phase 2, file = 'load.txt': ")
    assert told in line


def test_a_series_that_is_not_there_is_told() -> None:
    assert problems(phase(kind="replay", file="gone.csv", unit="ratio")) == [
        "day.toml:3: phase 1, file = 'gone.csv': cannot be read: No such file or directory"
    ]


def test_equal_texts_make_equal_profiles_and_another_series_another_one() -> None:
    text = phase(kind="replay", file="load.txt", unit="percent")
    assert profile(text, load_txt="0,1\n5,2") == profile(text, load_txt="0,1\n5,2")
    assert profile(text, load_txt="0,1\n5,2") != profile(text, load_txt="0,1\n5,3")


def test_the_curve_of_one_pass_has_its_begin_and_its_end() -> None:
    played = profile('at_end = "loop"\n' + phase(kind="ramp", **{"from": 20}, to=60, duration=10))
    points = list(curve(played, 11))
    assert [round(seconds) for seconds, _ in points] == list(range(11))
    assert [round(100 * band.target) for _, band in points] == list(range(20, 61, 4))


def test_the_examples_of_the_documentation_are_profiles() -> None:
    page = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 3
    for text in examples:
        assert profile(text, load_json="0,0.1\n86400,0.2\n").phases


numbers = st.one_of(st.integers(-5, 105), st.floats(-5, 105), st.sampled_from(["5%", "60s", "1m", "x", "", math.inf]))
keys = st.sampled_from(
    [
        "kind",
        "name",
        "width",
        "target",
        "duration",
        "from",
        "to",
        "steps",
        "low",
        "high",
        "period",
        "file",
        "unit",
        "speed",
    ]
)
values = st.one_of(
    numbers,
    st.sampled_from(["constant", "step", "ramp", "sine", "replay", "load.csv", "percent", "ratio", "gone"]),
    st.booleans(),
    st.lists(numbers, max_size=2),
)


def toml(value: object) -> str:
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


def document(top: Mapping[str, object], tables: list[dict[str, object]]) -> str:
    lines = [f"{key} = {toml(value)}" for key, value in top.items()]
    for table in tables:
        lines += ["[[phase]]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    return "\n".join(lines)


@settings(max_examples=300, deadline=None)
@example(
    top={"name": 0, "width": 0},
    tables=[{}, *[{"kind": "constant", "name": 0, "width": 0, "from": 0, "to": 0}] * 3],
    moments=[],
)
@given(
    top=st.dictionaries(st.sampled_from(["name", "width", "at_end", "start", "x"]), values, max_size=2),
    tables=st.lists(st.dictionaries(keys, values, max_size=6), max_size=4),
    moments=st.lists(st.floats(-10, 1e7), max_size=5),
)
def test_any_document_is_a_profile_with_a_band_at_every_moment_or_told_line_by_line(
    top: dict[str, object], tables: list[dict[str, object]], moments: list[float]
) -> None:
    text = document(top, tables)
    match profile_or_problems(text, load_csv="0,10\n60,20\n"):
        case Profile() as played:
            for moment in moments:
                phase_then, band = played.at(moment)
                assert phase_then in played.phases
                assert isinstance(band, Band)
        case told:
            assert told
            *listed, last = told
            for line in listed if re.fullmatch(r"day\.toml: and \d+ more", last) else told:
                place = re.match(r"day\.toml:(\d+)(:\d+)?: .", line)
                assert place
                assert 1 <= int(place[1]) <= text.count("\n") + 1
                assert line.isprintable()


@settings(max_examples=300, deadline=None)
@given(st.text())
@example("a = 1\n\ud800")
def test_no_text_breaks_the_parser(text: str) -> None:
    assert isinstance(profile_or_problems(text), Profile | tuple)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(), st.text(alphabet='0123456789,.\n"-:TZ eE'), st.text(alphabet='{}[]",:0123456789.datresulvm'))
)
def test_no_text_breaks_a_replay(text: str) -> None:
    match profile_or_problems(phase(kind="replay", file="load.txt", unit="percent"), load_txt=text):
        case Profile() as played:
            assert isinstance(played.at(1.0)[1], Band)
        case told:
            assert len(told) == 1
            assert told[0].isprintable()
