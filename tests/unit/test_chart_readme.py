"""The chart's values, their schema and the README's table are one."""

from __future__ import annotations

import json
from typing import Any

import yaml
from chart import CHART
from chart_texts import README, with_table


def test_the_table_is_made_from_schema_and_values() -> None:
    text = README.read_text()
    assert with_table(text) == text, "run `make values`"


def test_the_schema_knows_the_values_and_no_others() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(declared: dict[str, Any], given: dict[str, Any], own: set[str]) -> None:
        if "$ref" in declared:
            declared = schema["definitions"][declared["$ref"].rpartition("/")[2]]
        if declared.get("additionalProperties") is not False:
            return
        assert declared["properties"].keys() - own == given.keys()
        for name, value in given.items():
            if isinstance(value, dict):
                compare(declared["properties"][name], value, set())

    compare(schema, values, {"enabled"})
