"""docs/rebalance/scenarios.md and recording.md say what the code says.

`python` and this file write their tables.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from loadband.document import DocumentError
from loadband.rebalance import events, recording, shipped
from loadband.rebalance.scenario_file import ARRAYS, TABLES, Key, parse

FOLDER = Path(__file__).parents[2] / "docs/rebalance"
SCENARIOS = FOLDER / "scenarios.md"
RECORDING = FOLDER / "recording.md"


def shipped_table() -> list[str]:
    rows = ["| scenario | expect | proves |", "|---|---|---|"]
    for file in sorted(shipped.path("scenarios").glob("*.toml")):
        scenario = parse(file.read_text(), file.name)
        rows.append(f"| [`{scenario.name}`](../../scenarios/{file.name}) | {scenario.expect} | {scenario.proves} |")
    return rows


def keys_tables() -> list[str]:
    lines = ['A percentage is a number or a text: `60`, `"60%"`. So is a time: `90`, `"500ms"`, `"1.5s"`, `"2m"`.']
    for name, keys in TABLES.items():
        heading = f"[[{name}]]" if name in ARRAYS else f"[{name}]"
        lines += ["", f"### {heading if name else 'At the top'}", ""]
        lines += ["| key | default | allowed | meaning |", "|---|---|---|---|", *map(key_row, keys)]
    return lines


def key_row(key: Key) -> str:
    default = "" if key.written is None else f"`{json.dumps(key.written)}`"
    allowed = key.allowed.partition(", written as")[0]
    return f"| `{key.name}` | {default} | {allowed} | {key.help} |"


def kinds_tables() -> list[str]:
    lines: list[str] = []
    kinds = [*recording.KINDS.values(), events.Plan, events.Part, events.Timing]
    titles = {cls: f"`{kind}`" for kind, cls in recording.KINDS.items()}
    for cls in kinds:
        schema = recording._schema_of(cls)
        rows = [field_row(cls, field, schema) for field in dataclasses.fields(cls)]
        title = titles.get(cls, f"Inside a run: {cls.__name__.lower()}")
        lines += [f"### {title}", "", (cls.__doc__ or "").partition("\n")[0], ""]
        lines += ["| field | type | default | meaning |", "|---|---|---|---|", *rows, ""]
    for words in (one for one in vars(events).values() if inspect.isclass(one) and issubclass(one, enum.StrEnum)):
        if words is not enum.StrEnum:
            lines += [f"### The words of {words.__name__}", "", (words.__doc__ or "").partition("\n")[0], ""]
            meanings = docstrings(words)
            lines += ["| word | meaning |", "|---|---|"]
            lines += [f"| {member} | {meanings.get(member.name, '')} |" for member in words]
            lines += [""]
    return lines[:-1]


def field_row(cls: type, field: dataclasses.Field[Any], schema: dict[str, Any]) -> str:
    default = "" if field.name in schema["required"] else shown_default(field)
    kind = type_of(schema["properties"][field.name], str(field.type))
    meaning = docstrings(cls).get(field.name, "When." if field.name == "at" else "")
    meaning = re.sub(r"\bNone\b", "null", meaning)
    return f"| `{field.name}` | {kind} | {default} | {meaning} |"


def shown_default(field: dataclasses.Field[Any]) -> str:
    made = field.default_factory
    value = field.default if made is dataclasses.MISSING else made()
    return f"`{json.dumps(value)}`"


def type_of(schema: dict[str, Any], annotation: str) -> str:
    if "anyOf" in schema:
        return f"{type_of(schema['anyOf'][0] | {k: v for k, v in schema.items() if k != 'anyOf'}, annotation)} or null"
    if "enum" in schema:
        return f"a word of {annotation.partition(' ')[0]}"
    if schema["type"] == "array":
        return f"list of {type_of(schema['items'], annotation)}"
    if schema["type"] == "object" and "properties" in schema:
        return str(re.findall(r"[A-Z]\w+", annotation)[0]).lower()
    if schema["type"] == "object":
        return "object of strings"
    bound = ", > 0" if "exclusiveMinimum" in schema else ", >= 0" if "minimum" in schema else ""
    return f"{schema['type']}{bound}"


def docstrings(cls: type) -> dict[str, str]:
    """What the source says right below each attribute of a class, on one line."""
    (tree,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for statement, after in zip(tree.body, tree.body[1:], strict=False):
        match statement, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split()).replace("|", "\\|")
    return found


GENERATED = {
    (SCENARIOS, "Shipped scenarios"): shipped_table,
    (SCENARIOS, "All keys"): keys_tables,
    (RECORDING, "All kinds"): kinds_tables,
}
"""By page and heading, what stands below it."""


def split(page: Path, heading: str) -> tuple[str, str, str]:
    """What stands in a page before a section, in it, and after it."""
    before, there, rest = page.read_text().partition(f"\n## {heading}\n")
    assert there, f"{page} has no section {heading}"
    section, there, after = rest.partition("\n## ")
    return before, section, there + after


@pytest.mark.parametrize(("page", "heading"), GENERATED, ids=lambda one: one.stem if isinstance(one, Path) else one)
def test_a_table_is_that_of_the_code(page: Path, heading: str) -> None:
    section = split(page, heading)[1].strip("\n").splitlines()
    assert section == GENERATED[page, heading](), f"run python tests/unit/{Path(__file__).name}"


def examples(page: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_whole_scenario_is_one() -> None:
    whole, _ = examples(SCENARIOS, "toml")
    assert parse(whole, "my-host.toml").limits["time_to_balance"] == "<= 60s"


def test_the_mistakes_are_refused_with_what_the_page_says() -> None:
    _, mistakes = examples(SCENARIOS, "toml")
    with pytest.raises(DocumentError) as refused:
        parse(mistakes, "mistakes.toml")
    assert "".join(f"    {problem}\n" for problem in refused.value.problems) in SCENARIOS.read_text()


def test_each_default_is_what_its_key_allows() -> None:
    written = [key for keys in TABLES.values() for key in keys if key.written is not None]
    assert len(written) >= 30
    for key in written:
        assert key.default == key.parser(key.written)
        jsonschema.validate(key.written, dict(key.json))


def test_the_lines_of_a_recording_are_such_lines() -> None:
    (lines,) = examples(RECORDING, "json")
    validator = jsonschema.Draft202012Validator(recording.schema())
    for line in lines.splitlines():
        validator.validate(json.loads(line))
        unknown = Counter[str]()
        event = recording._decode(line.encode(), unknown)
        assert not unknown
        assert recording.encode(event) == line


def test_every_field_and_every_word_of_a_recording_is_named() -> None:
    section = split(RECORDING, "All kinds")[1]
    for cls in recording.KINDS.values():
        for field in dataclasses.fields(cls):
            assert f"| `{field.name}` |" in section
    for words in (events.Trouble, events.MoveState, events.AlertState):
        for member in words:
            assert f"| {member} |" in section


def write() -> None:
    """Write the tables."""
    for (page, heading), make in GENERATED.items():
        before, _, after = split(page, heading)
        page.write_text("\n".join([before, f"## {heading}", "", *make(), ""]) + after)


if __name__ == "__main__":
    write()
