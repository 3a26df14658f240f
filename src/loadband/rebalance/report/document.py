"""A `Result` as JSON (`result.json`); `schema` has its JSON Schema, which lies beside this file. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, cast

from loadband.rebalance.figures import Definition, Figure
from loadband.rebalance.report.picture import Line, Picture
from loadband.rebalance.report.result import Repeat, Result
from loadband.rebalance.verdict import Check

VERSION = 1
"""Of the format: fields may be added to it; a change of meaning makes it 2."""


def document(result: Result) -> dict[str, Any]:
    """The result as values of JSON. Times of a timeline are seconds since its `zero`; ratios are 0..1."""
    definitions = {name: figure.definition for repeat in result.repeats for name, figure in repeat.figures.items()}
    return {
        "version": VERSION,
        "name": result.name,
        "outcome": result.outcome,
        "sentence": result.sentence,
        "plan": _plain(result.plan),
        "platform": _plain(result.run.platform),
        "rebalancer": _plain(result.run.rebalancer),
        "monitoring": _plain(result.run.monitoring),
        "timing": _plain(result.run.timing),
        "definitions": {name: _definition(definition) for name, definition in definitions.items()},
        "counted": list(result.counted),
        "summaries": {
            name: {
                "median": _figure(summary.median),
                "least": _figure(summary.least),
                "most": _figure(summary.most),
                "count": summary.count,
            }
            for name, summary in result.summaries.items()
        },
        "repeats": [_repeat(repeat) for repeat in result.repeats],
    }


def text(value: Mapping[str, Any]) -> str:
    """JSON, with its final line end; ASCII, so that no name can be unreadable."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `result.json`."""
    return cast("dict[str, Any]", json.loads(files(__package__).joinpath("result.schema.json").read_text()))


def _repeat(repeat: Repeat) -> dict[str, Any]:
    return {
        "number": repeat.number,
        "file": repeat.file,
        "run": repeat.run.run,
        "at": repeat.run.at,
        "loadband": repeat.run.loadband,
        "seed": repeat.run.seed,
        "ending": repeat.ending,
        "outcome": repeat.outcome,
        "sentence": repeat.sentence,
        "checks": [_check(check) for check in repeat.verdict.checks],
        "figures": {name: _figure(figure) for name, figure in repeat.figures.items()},
        "timeline": _timeline(repeat.picture),
        "remarks": list(repeat.remarks),
    }


def _definition(definition: Definition) -> dict[str, Any]:
    return {name: value for name, value in _plain(definition).items() if name != "name"}


def _figure(figure: Figure) -> dict[str, Any]:
    return {name: value for name, value in _plain(figure).items() if name != "definition"}


def _check(check: Check) -> dict[str, Any]:
    return cast("dict[str, Any]", _plain(check))


def _timeline(picture: Picture) -> dict[str, Any]:
    made: dict[str, Any] = _plain(dataclasses.replace(picture, hosts=(), imbalance=Line((), ())))
    return made | {
        "hosts": [{"name": host.name, "hot": host.hot, "line": _line(host.line)} for host in picture.hosts],
        "imbalance": _line(picture.imbalance),
    }


def _line(line: Line) -> dict[str, Any]:
    """Times to the millisecond, values to a millionth: no counter knows more."""
    return {
        "times": [round(at, 3) for at in line.times],
        "values": [None if value is None else round(value, 6) for value in line.values],
    }


def _plain(value: Any) -> Any:
    """Values as JSON has them; every field of a dataclass is there."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
