"""The chart's annotations for Artifact Hub, in the form that its documentation gives."""

from __future__ import annotations

import yaml
from chart import CHART
from chart_texts import DESCRIPTION, SECTIONS, with_changes

ANNOTATIONS = yaml.safe_load(DESCRIPTION.read_text())["annotations"]
CATEGORIES = {
    "ai-machine-learning",
    "database",
    "integration-delivery",
    "monitoring-logging",
    "networking",
    "security",
    "skip-prediction",
    "storage",
    "streaming-messaging",
}


def test_every_annotation_is_a_text() -> None:
    assert {type(value) for value in ANNOTATIONS.values()} == {str}
    assert all(name.startswith("artifacthub.io/") for name in ANNOTATIONS)


def test_the_license_is_the_packages_and_the_category_exists() -> None:
    assert f'license = "{ANNOTATIONS["artifacthub.io/license"]}"' in (CHART.parents[1] / "pyproject.toml").read_text()
    assert ANNOTATIONS["artifacthub.io/category"] in CATEGORIES
    assert ANNOTATIONS["artifacthub.io/operator"] == "false"


def test_the_changes_are_the_changelogs() -> None:
    assert with_changes(DESCRIPTION.read_text()) == DESCRIPTION.read_text(), "run `make values`"
    listed = yaml.safe_load(ANNOTATIONS["artifacthub.io/changes"])
    assert len(listed) > 3
    for one in listed:
        assert one.keys() == {"kind", "description"}
        assert one["kind"] in SECTIONS.values()
        assert one["description"].endswith(".")
