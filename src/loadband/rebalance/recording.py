"""Recordings on disk: the events as JSON, one a line, and what can be read of a file that was cut anywhere.

The first line is the `Run`; `docs/rebalance/recording.md` describes the format, and `schema` states it as JSON Schema.
A line is an object with `kind` (the event's class, in lower case) and the event's fields; a field at its default is
left out. A reader tolerates kinds and fields that it doesn't know, and reports them.

What looks like a secret is hidden when it is written; `redaction` says what that can't do.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import os
import types
import typing
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self, cast

from loadband.rebalance import events
from loadband.rebalance.events import (
    VERSION,
    Alert,
    Clock,
    Event,
    Host,
    Move,
    Part,
    Plan,
    Recording,
    Run,
    Sample,
    Slice,
    Timing,
)
from loadband.rebalance.redaction import hide_in_settings, hide_in_text

MAX_REMARKS = 20
"""On kinds and fields that aren't known."""
LAST_MOMENT = 253402300799.0
"""The end of the year 9999, seconds since the epoch: later times have no date."""
MOST = 1e15
"""The largest number: a billion CPUs don't use that many seconds in ten days, and larger ones have no exact sums."""
KINDS: Mapping[str, type] = {cls.__name__.lower(): cls for cls in (Run, *typing.get_args(Event))}
"""By the word in `kind`."""
_WORDS = {cls: kind for kind, cls in KINDS.items()}


_POSITIVE: Mapping[type, Collection[str]] = {
    Host: {"cpus"},
    Plan: {"window", "sample_interval", "watch"},
    Timing: {"faster", "polled"},
    Run: {"repeat", "repeats", "version"},
}
"""The fields whose numbers must be more than 0: others would have no meaning, or be divided by."""
_NOT_NEGATIVE: Mapping[type, Collection[str]] = {
    Plan: {"hold", "settle", "return_within", "tolerance", "least_fidelity", "most_foreign", "most_own", "most_gap"},
    Slice: {"cpus"},
    Sample: {"cpu_seconds"},
    Run: {"moves_resolution"},
    Alert: {"resolution"},
    Move: {"seconds", "downtime"},
    Clock: {"uncertainty"},
}
"""Those whose numbers must be at least 0."""
_TIMES = {"at", "until"}
"""Those that hold a moment, in every event."""


class RecordingError(Exception):
    """A file is no recording, or can't be read or written; the message names it, the line, and what is wrong."""


class Writer:
    """Appends events to a new file. One thread uses it.

    Each line is written whole, with one system call, and is in the file when `write` returns: a process that is killed
    loses nothing. It isn't forced to the disk: a machine that loses its power may lose the last seconds.

    Args:
        path: must not exist.
        run: the first line.

    Raises:
        RecordingError: the file can't be made.
    """

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        try:
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be made: {error.strerror}") from error
        self._size = 0
        try:
            self.write(run)
        except RecordingError:
            # Not even its first line: an empty file would only keep the next one from being made.
            self._file.close()
            path.unlink(missing_ok=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, event: Run | Event) -> None:
        """Append an event.

        Raises:
            RecordingError: the disk is full, or the file is gone bad; what was written before stays readable.
        """
        line = (encode(event) + "\n").encode()
        try:
            written = self._file.write(line)
            if written != len(line):
                os.ftruncate(self._file.fileno(), self._size)
                raise RecordingError(f"{self.path}: cannot be written: the disk is full")
        except OSError as error:
            raise RecordingError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._size += len(line)

    def close(self) -> None:
        """Close the file; nothing can be written any more."""
        self._file.close()


def encode(event: Run | Event) -> str:
    """An event as one line of JSON, without the end of the line."""
    fields = {"kind": _WORDS[type(event)], **_plain_fields(event)}
    return hide_in_text(json.dumps(fields, separators=(",", ":"), allow_nan=False))


def _plain_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON has them, without those at their default."""
    return {
        field.name: _plain(now)
        for field, default in _fields(type(value))
        if (now := getattr(value, field.name)) != default or default is dataclasses.MISSING
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        value = dataclasses.replace(value, settings=hide_in_settings(value.settings))
    if dataclasses.is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _fields(cls: type) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    """The fields of a dataclass, each with its default, or MISSING."""
    if cls not in _FIELDS:
        _FIELDS[cls] = _look_up_fields(cls)
    return _FIELDS[cls]


_FIELDS: dict[type, tuple[tuple[dataclasses.Field[Any], Any], ...]] = {}


def _look_up_fields(cls: type) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    return tuple(
        (field, field.default if field.default_factory is dataclasses.MISSING else field.default_factory())
        for field in dataclasses.fields(cls)
    )


def read(path: Path) -> Recording:
    """Read a file.

    A last line without its end is left out and named in the remarks, as are kinds and fields that aren't known.

    Raises:
        RecordingError: it can't be read, doesn't begin with a run, is of a later version, or has a bad line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    *lines, rest = data.split(b"\n")
    unknown: Counter[str] = Counter()
    read_events: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            event = _decode(line, unknown)
        except _DecodeError as error:
            raise RecordingError(f"{path}:{number}: {error}") from None
        if event is not None:
            read_events.append(event)
            if number == 1 and not isinstance(event, Run):
                raise RecordingError(f"{path}:1: must be a run, not {_WORDS[type(event)]!r}")
    if not read_events or not isinstance(read_events[0], Run):
        raise RecordingError(f"{path}: is empty, or was cut within its first line")
    if any(isinstance(event, Run) for event in read_events[1:]):
        raise RecordingError(f"{path}: has a second run; each has a file of its own")
    remarks = [
        f"{what} ({count} {'time' if count == 1 else 'times'}): left out"
        for what, count in sorted(unknown.items())[:MAX_REMARKS]
    ]
    if more := len(unknown) - MAX_REMARKS:
        remarks += [f"{more} more kinds and fields that aren't known: left out"] if more > 0 else []
    if rest:
        remarks.append(f"line {len(lines) + 1} has no end ({len(rest)} bytes): left out")
    return Recording(read_events[0], tuple(read_events[1:]), tuple(remarks))


class _DecodeError(ValueError):
    """What is wrong with a line."""


def _decode(line: bytes, unknown: Counter[str]) -> Any:
    """The event of a line; None if its kind isn't known, which is counted."""
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise _DecodeError(f"not valid JSON: {error}") from None
    except RecursionError:
        raise _DecodeError("not valid JSON: nested too deeply") from None
    kind = fields.pop("kind", None) if isinstance(fields, dict) else None
    if not isinstance(kind, str):
        raise _DecodeError("must be an object with a kind")
    if kind == _WORDS[Run] and isinstance(version := fields.get("version", VERSION), int) and version > VERSION:
        raise _DecodeError(f"version {version} is later than {VERSION}, the latest that this loadband reads")
    cls = KINDS.get(kind)
    if cls is None:
        unknown[f"unknown kind {_shown(kind)}"] += 1
        return None
    return _decoder(cls)(fields, kind, unknown)


_Decoder = Callable[[Any, str, Counter[str]], Any]
"""Takes a value of JSON, its place (for messages), and the count of what isn't known."""


@functools.cache
def _decoder(cls: Any) -> _Decoder:  # noqa: PLR0911 - one return for each kind of type
    """The function that makes a value of a type out of JSON."""
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin is types.UnionType:
        (inner,) = (one for one in arguments if one is not types.NoneType)
        decode = _decoder(inner)
        return lambda value, place, unknown: None if value is None else decode(value, place, unknown)
    if origin is tuple:
        item = _decoder(arguments[0])
        return lambda value, place, unknown: tuple(
            item(one, f"{place}[{index}]", unknown) for index, one in enumerate(_of(list, value, place, "a list"))
        )
    if origin is Mapping:
        return _texts
    if dataclasses.is_dataclass(cls):
        return _object(cast("type", cls))
    if issubclass(cls, enum.StrEnum):
        words = {str(member): member for member in cls}
        return lambda value, place, _: (
            words[value] if type(value) is str and value in words else _refuse(place, value, f"one of {list(words)}")
        )
    if cls is float:
        return _number
    if cls is bool:
        return lambda value, place, _: _of(bool, value, place, "true or false")
    if cls is int:
        return lambda value, place, _: value if type(value) is int else _refuse(place, value, "a whole number")
    return lambda value, place, _: _text(value) if type(value) is str else _refuse(place, value, "a string")


def _object(cls: type) -> _Decoder:
    hints = typing.get_type_hints(cls, vars(events))
    decoders = {field.name: _bounded(cls, field.name, _decoder(hints[field.name])) for field, _ in _fields(cls)}
    required = frozenset(field.name for field, default in _fields(cls) if default is dataclasses.MISSING)

    def decode(value: Any, place: str, unknown: Counter[str]) -> Any:
        fields = _of(dict, value, place, "an object")
        made = {}
        for name, one in fields.items():
            decoder = decoders.get(name)
            if decoder is None:
                unknown[f"unknown field {_shown(name)} of {place}"] += 1
            else:
                made[name] = decoder(one, f"{place}.{name}", unknown)
        if missing := required - made.keys():
            raise _DecodeError(f"{place}: {', '.join(sorted(missing))} missing")
        return cls(**made)

    return decode


def _bounds(cls: type, name: str) -> dict[str, float]:
    """The range of a field's numbers, as JSON Schema says it; empty for any."""
    if name in _POSITIVE.get(cls, ()):
        return {"exclusiveMinimum": 0.0}
    if name in _NOT_NEGATIVE.get(cls, ()):
        return {"minimum": 0.0}
    return {"minimum": 0.0, "maximum": LAST_MOMENT} if name in _TIMES else {}


def _bounded(cls: type, name: str, decode: _Decoder) -> _Decoder:
    bounds = _bounds(cls, name)
    if not bounds:
        return decode
    if "exclusiveMinimum" in bounds:
        allowed = "more than 0"
    else:
        allowed = "a time until the year 9999, in seconds since the epoch" if "maximum" in bounds else "at least 0"
    least, most, zero = 0.0, bounds.get("maximum", math.inf), "minimum" in bounds

    def check(value: Any, place: str, unknown: Counter[str]) -> Any:
        number = decode(value, place, unknown)
        good = number is None or least < number <= most or (zero and number == least)
        return number if good else _refuse(place, value, allowed)

    return check


def _number(value: Any, place: str, _: Counter[str]) -> float:
    if type(value) in {float, int} and abs(value) <= MOST:
        return float(value)
    return cast("float", _refuse(place, value, f"a finite number, {MOST:g} at most"))


def _text(value: str) -> str:
    """A text without halves of surrogate pairs: JSON may hold them, and no file or terminal takes them."""
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _texts(value: Any, place: str, _: Counter[str]) -> dict[str, str]:
    if any(not isinstance(one, str) for one in _of(dict, value, place, "an object").values()):
        _refuse(place, value, "an object of strings")
    return {_text(name): _text(one) for name, one in value.items()}


def _of(cls: type, value: Any, place: str, allowed: str) -> Any:
    return value if isinstance(value, cls) else _refuse(place, value, allowed)


def _refuse(place: str, value: Any, allowed: str) -> Any:
    raise _DecodeError(f"{place} = {_shown(value)}: must be {allowed}")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes, or nested too deeply
        return "(a value)"
    return text if len(text) <= 60 else f"{text[:60]}..."  # noqa: PLR2004 - half a line of a terminal


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of one line of a recording."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One line of a loadband rebalance recording",
        "description": "The first line is a run. Times: seconds since the epoch; amounts of CPU: CPUs; ratios: 0..1.",
        "oneOf": [
            {
                **_schema_of(cls),
                "properties": {"kind": {"const": kind}, **_schema_of(cls)["properties"]},
                "required": ["kind", *_schema_of(cls)["required"]],
            }
            for kind, cls in KINDS.items()
        ],
    }


def _schema_of(cls: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin is types.UnionType:
        (inner,) = (one for one in arguments if one is not types.NoneType)
        return {"anyOf": [_schema_of(inner), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls, vars(events))
        fields = _fields(cast("type", cls))
        return {
            "description": (cls.__doc__ or "").partition("\n")[0],
            "type": "object",
            "properties": {
                field.name: {**_schema_of(hints[field.name]), **_bounds(cast("type", cls), field.name)}
                for field, _ in fields
            },
            "required": [field.name for field, default in fields if default is dataclasses.MISSING],
        }
    if issubclass(cls, enum.StrEnum):
        return {"enum": [str(member) for member in cls]}
    names = {float: "number", int: "integer", bool: "boolean", str: "string"}
    return {"type": names[cls]}
