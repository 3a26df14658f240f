"""Texts of the chart that repeat others: `make values` runs this and writes them.

- The table of values in its README: names and meanings come from the schema, defaults from the values.
- The changes in Chart.yaml, which Artifact Hub shows: they come from CHANGELOG.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from chart import CHART

README = CHART / "README.md"
DESCRIPTION = CHART / "Chart.yaml"
SECTIONS = {
    "Added": "added",
    "Changed": "changed",
    "Deprecated": "deprecated",
    "Removed": "removed",
    "Fixed": "fixed",
    "Security": "security",
}
"""What Artifact Hub calls the kinds of a change, by the changelog's headings."""
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


def meaning(schema: dict[str, Any], key: str) -> str:
    """What the schema says about a value.

    Raises:
        KeyError: it says nothing, or doesn't know the value.
    """
    declared = schema
    for name in key.split("."):
        if "properties" not in declared:
            declared = schema["definitions"][declared["$ref"].rpartition("/")[2]]
        declared = declared["properties"][name]
    return str(declared["description"])


def table() -> str:
    """The table as Markdown has it."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = [f"| `{key}` | `{json.dumps(default)}` | {meaning(schema, key)} |" for key, default in leaves(values)]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows, ""])


def with_table(text: str) -> str:
    """A README with this table in the place of the one that it has."""
    found, count = re.subn(r"^\| key \| default \|.*\n(\|.*\n)*", lambda _: table(), text, flags=re.MULTILINE)
    assert count == 1, f"{count} tables of values"
    return found


def changes() -> list[dict[str, str]]:
    """What the changelog says about the chart of this version, as Artifact Hub wants it."""
    version = re.escape(yaml.safe_load(DESCRIPTION.read_text())["version"])
    text = (CHART.parents[1] / "CHANGELOG.md").read_text()
    (section,) = re.findall(rf"^## \[{version}\].*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    found = []
    for heading, entries in re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", section, re.MULTILINE | re.DOTALL):
        for entry in re.findall(r"^- Chart: (.*?)(?=^- |\Z)", entries, re.MULTILINE | re.DOTALL):
            said = " ".join(entry.split())
            found.append({"kind": SECTIONS[heading], "description": said[0].upper() + said[1:]})
    return found


def with_changes(text: str) -> str:
    """A Chart.yaml with these changes in the place of those that it ends with."""
    head, key, _ = text.partition("  artifacthub.io/changes: |\n")
    assert key, "Chart.yaml has no changes"
    body = yaml.safe_dump(changes(), sort_keys=False, width=110)
    return head + key + "".join(f"    {line}\n" for line in body.splitlines())


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
    DESCRIPTION.write_text(with_changes(DESCRIPTION.read_text()))
