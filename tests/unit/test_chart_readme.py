"""The chart's values, their schema and the README's table are one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from chart import CHART

WHOLE = {"nodeSelector", "podSecurityContext", "securityContext", "dashboards.labels"}
"""Maps that are Kubernetes' own: the table shows each as one value."""


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that the user sets, by its key from the top."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value and key not in WHOLE:
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def test_the_table_is_the_values() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert [(key, json.loads(default)) for key, default in rows] == list(leaves(values))


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
