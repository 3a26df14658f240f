"""The rules and configurations that loadband ships, and the same made faster for a test.

They stand once: the rules in the chart, the configurations in compose. A wheel carries copies beside this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HOST_LABEL = "node"
"""The label of the rules that names the host."""
UTILIZATION = "node:loadband_host_cpu:ratio"
"""The series of the rules that has each host's utilization."""
THRESHOLD = "loadband:threshold:ratio"
"""The series of the rules that has the thresholds, each named by its label `threshold`."""
HOT = "host_hot"
"""The threshold of a hot host."""

_PACKAGED = Path(__file__).with_name("files")
_TREE = Path(__file__).parents[3]
_PLACES = {
    "rules": "helm/loadband/files/rules",
    "prometheus.yml": "compose/prometheus/prometheus.yml",
    "alertmanager.yml": "compose/alertmanager/alertmanager.yml",
    "scenarios": "scenarios",
}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+)(ms|[smhd])")
_RANGE = re.compile(r"\[(\w+)\]")
_KEYS = re.compile(r"for|interval|.+_(interval|wait|timeout)")
"""Of Prometheus' and Alertmanager's configuration and of rules: what has a duration as its value."""


def path(name: str) -> Path:
    """Where something shipped is.

    Args:
        name: `rules`, `prometheus.yml`, `alertmanager.yml` or `scenarios`.
    """
    packaged = _PACKAGED / name
    return packaged if packaged.exists() else _TREE / _PLACES[name]


@cache
def rules() -> Mapping[str, Any]:
    """The files of rules that are on by default, by name, as YAML has them."""
    return {file.name: yaml.safe_load(file.read_text()) for file in sorted(path("rules").glob("*.yaml"))}


def seconds(duration: str) -> float:
    """What Prometheus means by `15s` or `1h30m`.

    Raises:
        ValueError: it isn't a duration.
    """
    if not re.fullmatch(rf"({_DURATION.pattern})+", duration):
        raise ValueError(f"{duration!r} isn't a duration as Prometheus writes it")
    return sum(int(amount) * _SECONDS[unit] for amount, unit in _DURATION.findall(duration))


def shorten(document: Any, factor: float) -> Any:
    """A copy of a configuration or a file of rules in which every duration is divided, and nothing else changed.

    Args:
        document: as YAML has it.
        factor: > 0.
    """
    if isinstance(document, list):
        return [shorten(item, factor) for item in document]
    if isinstance(document, dict):
        return {key: _shorten_value(key, value, factor) for key, value in document.items()}
    return document


def _shorten_value(key: str, value: Any, factor: float) -> Any:
    if not isinstance(value, str):
        return shorten(value, factor)
    if key == "expr":
        return _RANGE.sub(lambda found: f"[{_divided(found[1], factor)}]", value)
    return _divided(value, factor) if _KEYS.fullmatch(key) else value


def _divided(duration: str, factor: float) -> str:
    return f"{round(1000 * seconds(duration) / factor)}ms"
