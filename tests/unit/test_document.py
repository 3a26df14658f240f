from __future__ import annotations

import enum
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadband import document
from loadband.document import DocumentError, Table, number, one_of, read_text
from loadband.units import PERCENT, TIME, Number, Unit

SHARE = number(Number(PERCENT, "0", "100"))
SECONDS = number(Number(TIME, "1s", "1h"))
COUNT = number(Number(Unit("slices", {"": "1"}), "1", "9", whole=True))


class Expect(enum.StrEnum):
    BALANCE = "balance"
    NO_MOVE = "no move"


SCENARIO = """\
# a scenario
expect = "balance"
"hot threshold" = 80   # a quoted key
limits.alert = "20s"

[watch]
"for" = "10m"

[[host]]
name = "a = [b]"
[host.role]
kind = '''
hot
'''

[[host]] # the second
name = "b"
[[host.slice]]
count = 3
[[host.slice]]
count = [
  # more than one
  4,
  { x = 1 },
]
size = \"\"\"a \\
  "quoted\" text\"\"\"\"
end = 1
"""


def top(text: str) -> Table:
    return document.parse(text, "hot.toml", "the scenario")


def problems(table: Table) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        table.check()
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return list(caught.value.problems)


def test_values_are_read_by_their_parsers_and_missing_ones_have_their_default() -> None:
    table = top(
        'share = "60%"\ntime = 10\nexpect = "no move"\nname = "x"\nat = 1970-01-01T01:00:00+01:00\n[watch]\nn = 3'
    )
    assert table.take("share", SHARE) == 0.6
    assert table.take("time", SECONDS) == 10
    assert table.take("expect", one_of(*Expect)) is Expect.NO_MOVE
    assert table.take("name", document.text(10)) == "x"
    assert table.take("at", document.moment) == 0
    assert table.take("gone", SHARE, 0.5) == 0.5
    assert table.table("watch").take("n", COUNT) == 3
    assert table.table("gone too").take("n", COUNT, 1) == 1
    assert table.tables("host", least=0, most=2) == ()
    assert "share" in table
    assert "gone" not in table
    table.check()


def test_every_problem_has_the_line_of_its_key_wherever_it_stands() -> None:
    table = top(SCENARIO)
    table.take("hot threshold", SECONDS)
    table.take("expect", one_of("no move"))
    table.take("limits", document.text(5))
    table.table("watch").take("for", SHARE)
    first, second = table.tables("host", most=2)
    first.take("name", document.text(3))
    first.table("role").take("kind", document.text(9))
    second.take("name", document.text(9))
    one, two = second.tables("slice", most=9)
    one.take("count", COUNT)
    two.take("count", COUNT)
    two.take("size", SHARE)
    two.take("at", SHARE)
    two.take("endd", SHARE, 1.0)
    assert [problem.split(": must")[0] for problem in problems(table)] == [
        "hot.toml:2: expect = 'balance'",
        "hot.toml:4: limits = {'alert': '20s'}",
        "hot.toml:7: watch, for = '10m'",
        "hot.toml:10: host 1, name = 'a = [b]'",
        "hot.toml:12: host 1, role, kind = 'hot\\n'",
        "hot.toml:20: host 2, slice 2: at is missing",
        "hot.toml:21: host 2, slice 2, count = [4, {'x': 1}]",
        'hot.toml:26: host 2, slice 2, size = \'a "quoted" text"\'',
        "hot.toml:28: host 2, slice 2: unknown key 'end'; did you mean endd?",
    ]


def test_a_bad_value_becomes_the_default_and_is_known_to_be_bad() -> None:
    table = top("low = 'x'\nhigh = 20\n")
    assert table.take("low", SHARE, 0.3) == 0.3
    assert table.take("high", SHARE) == 0.2
    assert table.take("middle", SHARE) is None
    assert table.good("high", "else")
    assert not table.good("high", "low")
    assert not table.good("middle")


def test_unknown_keys_are_reported_in_every_table_that_was_looked_into() -> None:
    table = top("a = 1\nb = 2\n[c]\nd = 1\n[[e]]\nf = 1\n[[e]]\nf = 1\n[g]\nh = 1")
    table.take("a", COUNT)
    table.table("c")
    free, _ = table.tables("e", most=2)
    free.allow_any_key()
    assert problems(table) == [
        "hot.toml:2: the scenario: unknown key 'b'; known are a, c, e",
        "hot.toml:4: c: unknown key 'd'; there is none",
        "hot.toml:8: e 2: unknown key 'f'; there is none",
        "hot.toml:9: the scenario: unknown key 'g'; known are a, c, e",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("watch = 1", "watch = 1: must be a table"),
        ("host = 1", "host = 1: must be tables, each under [[host]]"),
        ("host = [1]", "host = [1]: must be tables, each under [[host]]"),
        ("[[host]]\n[[host]]\n[[host]]", "host = [{}, {}, {}]: must be 0..2 tables, each under [[host]]; there are 3"),
        ("on = true", "on = true: must be no move or balance"),
        ("on = 07:32:00", "on = 07:32:00: must be no move or balance"),
        ("on = 2026-11-27", "on = 2026-11-27: must be no move or balance"),
    ],
)
def test_a_value_of_the_wrong_kind_is_one_line(text: str, problem: str) -> None:
    table = top(text)
    table.table("watch")
    table.tables("host", least=0, most=2)
    table.take("on", one_of("no move", "balance"), None)
    assert problems(table) == [f"hot.toml:1: {problem}"]


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "hot.toml").write_bytes(b"\xef\xbb\xbfa = 60\n")
    table = top(read_text(tmp_path / "hot.toml", 100))
    assert table.take("a", SHARE) == 0.6


names = st.one_of(st.sampled_from(["a", "b", "c-d"]), st.text(max_size=3).filter(str.isprintable))
plain = st.one_of(st.integers(), st.booleans(), st.text(alphabet="a\"\\\n[]{}=#,.' ", max_size=8))


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def lines_of(values: dict[str, object], place: tuple[str | int, ...], out: list[str], at: dict[object, int]) -> None:
    """Write a document, and the line of each of its keys."""
    for key, value in values.items():
        if not isinstance(value, dict | list):
            out.append(f"{quoted(key)} = {quoted(value) if isinstance(value, str) else json.dumps(value)} # x = [")
            at[(*place, key)] = len(out)
    header = ".".join(quoted(name) for name in place if isinstance(name, str))
    for key, value in values.items():
        path = f"{header}.{quoted(key)}" if header else quoted(key)
        if isinstance(value, dict):
            out.append(f"[ {path} ]")
            at[(*place, key)] = len(out)
            lines_of(value, (*place, key), out, at)
        for index, each in enumerate(value if isinstance(value, list) else ()):
            out.extend(["", f"[[{path}]]"])
            at.setdefault((*place, key), len(out))
            at[(*place, key, index)] = len(out)
            lines_of(each, (*place, key, index), out, at)


tables = st.recursive(
    st.dictionaries(names, plain, max_size=3),
    lambda inner: st.dictionaries(names, st.one_of(plain, inner, st.lists(inner, min_size=1, max_size=2)), max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(tables)
def test_any_key_of_any_document_is_found_on_its_line(values: dict[str, object]) -> None:
    out: list[str] = []
    at: dict[object, int] = {}
    lines_of(values, (), out, at)
    text = "\n".join(out)
    assert tomllib.loads(text) == values

    def refuse_all(table: Table, values: dict[str, object]) -> int:
        refused = 0
        for key, value in values.items():
            if isinstance(value, dict):
                refused += refuse_all(table.table(key), value)
            elif isinstance(value, list):
                for inner, each in zip(table.tables(key, most=2), value, strict=True):
                    refused += refuse_all(inner, each)
            else:
                table.take(key, one_of("-"))
                refused += 1
        return refused

    table = top(text)
    refused = refuse_all(table, values)
    if refused:
        expected = sorted(line for place, line in at.items() if not isinstance(value_at(values, place), dict | list))
        assert [int(problem.split(":")[1]) for problem in problems(table)][:20] == expected[:20]


def value_at(values: object, place: object) -> object:
    assert isinstance(place, tuple)
    for key in place:
        values = values[key]  # type: ignore[index] # the place is one of these values
    return values
