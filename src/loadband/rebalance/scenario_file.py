"""The files of scenarios: TOML, every key with its default, and every mistake reported at once with its line.

docs/rebalance/scenarios.md describes the format key by key; its tables are made of `TABLES`. Everything here is pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

from loadband.document import Table, number, one_of, text
from loadband.document import parse as parse_document
from loadband.rebalance.events import Expectation, Imbalance
from loadband.rebalance.figures import DEFINITIONS
from loadband.rebalance.scenario import PLACES, Addition, Raise, Scenario, Slices, asked, course, places
from loadband.rebalance.verdict import parse_limit
from loadband.units import PERCENT, TIME, Number, Unit, listed

MAX_NAME = 40
MAX_BYTES = 1 << 20
"""Of a scenario's file."""
MAX_PARTS = 32
"""Tables of slices, and of the overload."""
MAX_SLICES = 2000
"""In all."""
MAX_CHANGES = 20_000
"""Of slices' sizes during the overload."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)


def _name(value: Any) -> str:
    """A value parser for a name that every platform takes: an RFC 1123 label."""
    given = text(MAX_NAME)(value)
    if not _NAME.fullmatch(given):
        raise ValueError("must be lower-case letters, digits and dashes, and begin and end with a letter or digit")
    return given


def _true_or_false(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - value parsers raise ValueError
    return value


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a scenario: its default and what it may be."""

    name: str
    parser: Callable[[Any], Any]
    written: str | int | bool | None
    """Its default, as TOML has it; None: one that depends on others, which `help` states, or none at all."""
    allowed: str
    help: str
    json: Mapping[str, Any]
    """What JSON Schema says of its value."""

    @property
    def default(self) -> Any:
        """What a scenario without the key has."""
        return None if self.written is None else self.parser(self.written)


_SIZE = Number(PERCENT, "0.1", "100")
_RATIO = Unit("ratio", {"": "1", "%": "0.01"}, "0.25 or 25%")
_SECONDS = Number(TIME, "0", "24h")
_SOME_SECONDS = Number(TIME, "100ms", "24h")
_COUNT = Unit("count", {"": "1"})
_FACTOR = Unit("factor", {"": "1"})


def _key(name: str, parser: Number, written: str | int | None, explained: str) -> Key:
    kind = "integer" if parser.whole else "number"
    return Key(name, number(parser), written, parser.allowed, explained, {"type": [kind, "string"]})


def _word(name: str, words: Sequence[str], written: str, explained: str) -> Key:
    return Key(name, one_of(*words), written, listed(*words), explained, {"enum": [str(word) for word in words]})


def _label(name: str, written: str | None, explained: str) -> Key:
    allowed = f"1..{MAX_NAME} lower-case letters, digits and dashes"
    return Key(name, _name, written, allowed, explained, {"type": "string", "pattern": f"^{_NAME.pattern}$"})


def _flag(name: str, explained: str) -> Key:
    json = {"type": "boolean"}
    return Key(name, _true_or_false, written=True, allowed="true or false", help=explained, json=json)


def _words_key(name: str, most: int, written: str | None, explained: str) -> Key:
    json = {"type": "string", "minLength": 1, "maxLength": most}
    return Key(name, text(most), written, f"1..{most} characters", explained, json)


_WHERE = "`hot`, `cool` or `each` host, or the host of that name."

TOP = (
    _label("name", None, "The scenario's name; by default that of the file."),
    _words_key("proves", 200, None, "What a run proves, one sentence."),
    _word("expect", list(Expectation), "balance", "What is expected of the platform."),
    _label("rebalancer", "mover", "The rebalancer that is used unless the command line names one."),
    _words_key("alert", 200, "LoadbandHostHot", "The alert that is awaited."),
    _key("hot", _SIZE, "75%", "The hot threshold: a host at or above it is hot."),
    _word("imbalance", list(Imbalance), "spread", "The measure of imbalance that decides."),
    _key("theta", Number(_RATIO, "0", "100"), "25%", "Balance is an imbalance of at most this."),
    _key("hold", _SOME_SECONDS, "10s", "H: balance and relief count only if they last that long."),
    _key("settle", _SOME_SECONDS, "2s", "W: the overload stands once it has lasted that long."),
    _key("return_within", _SECONDS, "60s", "C: a move back to a host that was left within C is thrash."),
    _key(
        "faster",
        Number(_FACTOR, "1", "30"),
        15,
        "How many times shorter the durations of the shipped rules and configurations are.",
    ),
    _key("sample", Number(TIME, "100ms", "1m"), "500ms", "From one sample of a host to the next."),
    _key("foreign", _SIZE, "5%", "What others may burn of a host, mean over the window; above that a run is INVALID."),
    _key("fail_moves", Number(_COUNT, "0", "100", whole=True), 0, "How many moves fail before the first one succeeds."),
    _key("repeats", Number(_COUNT, "1", "100", whole=True), 1, "How often the scenario is run."),
    _key(
        "seed",
        Number(_COUNT, "0", "1000000", whole=True),
        0,
        "Recorded with each run, for platforms that draw by chance.",
    ),
)
HOSTS = (
    _key("count", Number(_COUNT, "1", "200", whole=True), 2, "How many hosts take part: `host-1`, `host-2`, ..."),
    _key("hot", Number(_COUNT, "0", "200", whole=True), 1, "How many of them are overloaded: the first ones."),
)
PHASES = (
    _key("baseline", _SECONDS, "5s", "How long the platform is watched before the overload."),
    _key("watch", _SOME_SECONDS, "60s", "How long it is watched from the begin of the overload."),
    _key("recovery", _SECONDS, "20s", "How long the alert may take to resolve after that, at most."),
)
SLICES = (
    _label("name", "resident", "The slices are called `resident-1-2`: the second one on `host-1`."),
    _label("on", "each", _WHERE),
    _key("count", Number(_COUNT, "1", "1000", whole=True), 1, "How many slices on each of these hosts."),
    _key("size", _SIZE, "20%", "What each burns, as a share of its host."),
    _flag("movable", "Whether a rebalancer may move them. If not, they are neighbours: load that it only sees."),
)
OVERLOAD = (
    _label("add", None, "Slices come; they are called by this name."),
    _label("raise", None, "The slices of that name, which are there from the start, burn another amount."),
    _label("on", "hot", _WHERE),
    _key("count", Number(_COUNT, "1", "1000", whole=True), 1, "With `add`: how many slices on each of these hosts."),
    _key("size", _SIZE, "20%", "What each burns then, as a share of its host."),
    _flag("movable", "With `add`: whether a rebalancer may move them."),
    _key("after", _SECONDS, "0s", "When this begins, from the begin of the overload."),
    _key("over", _SECONDS, "0s", "How long they take to get to that size, step by step; 0: at once."),
    _key(
        "lasts",
        _SOME_SECONDS,
        None,
        "How long from `after` until they burn again what they did before; by default for ever.",
    ),
)
LIMITED = tuple(DEFINITIONS)
"""The figures that may have a limit."""
TABLES: Mapping[str, Sequence[Key]] = {
    "": TOP,
    "hosts": HOSTS,
    "phases": PHASES,
    "slices": SLICES,
    "overload": OVERLOAD,
}
"""All keys but those of `limits`, by table; the top of the document has no name."""
ARRAYS = frozenset({"slices", "overload"})
"""The tables that may stand several times, each under `[[name]]`."""


def parse(document: str, file: str) -> Scenario:
    """Read a scenario.

    Args:
        document: TOML.
        file: its name, for the messages and for a scenario without a name.

    Raises:
        DocumentError: with all that is wrong; what is asked of a host is summed only if nothing else is.
    """
    top = parse_document(document, file, "the scenario")
    values = _take(top, TOP)
    values["proves"] = values["proves"] or ""
    if "name" not in top:
        stem = re.sub(r"[^a-z0-9]+", "-", PurePath(file).stem.lower())[:MAX_NAME].strip("-")
        values["name"] = stem or "scenario"
    hosts = _hosts(top.table("hosts"), values["expect"])
    inside = top.table("phases")
    phases = _take(inside, PHASES)
    _check_spans(top, values, inside, phases["watch"])
    slices = _Slices(hosts, phases["watch"] if inside.good("watch") else math.inf)
    for table in top.tables("slices", least=0, most=MAX_PARTS):
        slices.take_group(table)
    for table in top.tables("overload", least=0, most=MAX_PARTS):
        slices.take_part(table)
    limits = _limits(top.table("limits"))
    top.check()
    scenario = Scenario(
        hosts=hosts.names,
        hot_hosts=hosts.hot,
        slices=tuple(group for _, group in slices.groups),
        overload=tuple(part for _, part in slices.parts),
        limits=limits,
        **values,
        **phases,
    )
    slices.check_sums(scenario)
    top.check()
    return scenario


def _take(table: Table, keys: Sequence[Key]) -> dict[str, Any]:
    return {key.name: table.take(key.name, key.parser, key.default) for key in keys}


@dataclass(frozen=True, slots=True)
class _Hosts:
    """The hosts of a scenario."""

    names: tuple[str, ...]
    hot: tuple[str, ...]
    sure: bool
    """Whether the file says so many: if not, nothing can be held against it."""

    def at(self, on: str) -> tuple[str, ...]:
        """Those that a word names; none if it is none of the words."""
        return places(self.names, self.hot, on) if on in {*PLACES, *self.names} else ()


def _hosts(table: Table, expect: Expectation) -> _Hosts:
    counts = _take(table, HOSTS)
    if table.good("count", "hot") and counts["hot"] > counts["count"]:
        table.refuse("hot", f"must be at most count, which is {counts['count']}")
    elif expect is Expectation.BALANCE and not counts["hot"]:
        table.refuse("hot", "must be at least 1 where balance is expected")
    names = tuple(f"host-{number}" for number in range(1, counts["count"] + 1))
    return _Hosts(names, names[: counts["hot"]], sure=table.good("count"))


def _check_spans(top: Table, values: Mapping[str, Any], phases: Table, watch: float) -> None:
    """Refuse what can't last so long in the time that is watched."""
    for key in ("hold", "settle"):
        if top.good(key) and phases.good("watch") and values[key] >= watch:
            if key in top:
                top.refuse(key, f"must be less than the watch, which takes {watch:g} s")
            else:
                phases.refuse("watch", f"must be more than {key}, which is {values[key]:g} s")


class _Slices:
    """Reads the slices and the overload, and holds them against each other.

    Args:
        hosts: where they may be.
        watch: seconds from the begin of the overload to the end of the watch.
    """

    def __init__(self, hosts: _Hosts, watch: float) -> None:
        self._hosts = hosts
        self._watch = watch
        self.groups: list[tuple[Table, Slices]] = []
        self.parts: list[tuple[Table, Addition | Raise]] = []
        """Each with the table that it was read from."""
        self._counts: dict[tuple[str, str], int] = {}
        """Slices by their group's name and host."""
        self._added: set[tuple[str, str]] = set()
        self._busy: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
        """By group and host: from when to when a part of the overload, and which, changes them."""
        self._changes = 0
        self._part = 0
        """The number of the part that is being read, from 1."""

    def take_group(self, table: Table) -> None:
        """Read slices that are there from the start."""
        values = _take(table, SLICES)
        self._check_place(table, values["on"])
        if table.good("name", "on", "count") and self._hosts.sure:
            self._put(table, "name", values["name"], values)
        self.groups.append((table, Slices(**values)))

    def take_part(self, table: Table) -> None:
        """Read a part of the overload."""
        self._part += 1
        values = _take(table, OVERLOAD)
        self._check_place(table, values["on"])
        self._check_times(table, values)
        add, raised = values.pop("add"), values.pop("raise")
        if not table.good("add", "raise"):
            return
        if (add is None) == (raised is None):
            table.refuse("add" if add is not None else "raise", "must stand there without the other: add or raise")
        elif add is not None:
            if table.good("on", "count") and self._hosts.sure:
                self._put(table, "add", add, values)
                self._added |= {(add, host) for host in self._hosts.at(values["on"])}
                self._count_changes(table, add, Addition(name=add, **values))
            self.parts.append((table, Addition(name=add, **values)))
        else:
            for key in {"count", "movable"} & set(values):
                if key in table:
                    table.refuse(key, "is for add only")
                values.pop(key)
            part = Raise(name=raised, **values)
            if table.good("on") and self._hosts.sure:
                self._check_raised(table, part)
                self._count_changes(table, raised, part)
            self.parts.append((table, part))

    def _check_place(self, table: Table, on: str) -> None:
        names = self._hosts.names
        if not table.good("on") or not self._hosts.sure:
            return
        if on not in {*PLACES, *names}:
            table.refuse("on", f"must be {listed(*PLACES)}, or one of the hosts, {names[0]}..{names[-1]}")
        elif not self._hosts.at(on):
            table.refuse("on", f"{on} names no host: {len(self._hosts.hot)} of {len(names)} hosts are hot")

    def _check_times(self, table: Table, values: Mapping[str, Any]) -> None:
        after, over, lasts = (values[key] for key in ("after", "over", "lasts"))
        if not table.good("after", "over", "lasts"):
            return
        if lasts is not None and lasts < over:
            table.refuse("lasts", f"must be at least over, which is {over:g} s")
        end = after + (over if lasts is None else lasts)
        if end > self._watch:
            key = next((key for key in ("lasts", "over", "after") if key in table), "after")
            table.refuse(key, f"ends {end:g} s after the overload began, and the watch {self._watch:g} s after that")

    def _put(self, table: Table, key: str, name: str, values: Mapping[str, Any]) -> None:
        """Note slices that come, if they are no others' namesakes, and not too many."""
        for host in self._hosts.at(values["on"]):
            if (name, host) in self._counts:
                table.refuse(key, f"is the name of other slices on {host}")
                return
        before = sum(self._counts.values())
        self._counts |= {(name, host): values["count"] for host in self._hosts.at(values["on"])}
        total = sum(self._counts.values())
        if total > MAX_SLICES >= before:
            table.refuse("count", f"makes {total} slices in all: at most {MAX_SLICES}")

    def _check_raised(self, table: Table, part: Raise) -> None:
        """Refuse a raise of slices that aren't there, or that another part of the overload is changing."""
        known = sorted({name for name, _ in self._counts.keys() - self._added})
        if part.name not in known:
            there = listed(*known) if known else "there are none"
            table.refuse("raise", f"must be the name of slices that are there from the start: {there}")
            return
        for host in self._hosts.at(part.on):
            if (part.name, host) not in self._counts.keys() - self._added:
                table.refuse("on" if "on" in table else "raise", f"there are no slices {part.name} on {host}")
                return
            begin, end = part.after, part.after + (part.over if part.lasts is None else part.lasts)
            others = self._busy.setdefault((part.name, host), [])
            for other_begin, other_end, other in others:
                if begin < other_end and other_begin < end:
                    span = f"from {other_begin:g} to {other_end:g} s after the overload began"
                    table.refuse("raise", f"overload {other} changes the same slices, {span}")
                    return
            others.append((begin, end, self._part))

    def _count_changes(self, table: Table, name: str, part: Addition | Raise) -> None:
        slices = sum(self._counts.get((name, host), 0) for host in self._hosts.at(part.on))
        before, self._changes = self._changes, self._changes + slices * len(course(part, 0.0))
        if self._changes > MAX_CHANGES >= before:
            key = "over" if "over" in table else "add" if "add" in table else "raise"
            table.refuse(key, f"makes {self._changes} changes of slices in all: at most {MAX_CHANGES}")

    def check_sums(self, scenario: Scenario) -> None:
        """Refuse what asks a host for more than it has, once for each table that does."""
        levels = asked(scenario)
        for index, (after, sums) in enumerate(levels):
            too_much = {host: size for host, size in sums.items() if size > 1.0}
            before = levels[index - 1][1] if index else dict.fromkeys(scenario.hosts, 0.0)
            for host in too_much:
                table = self._to_blame(host, after if index else None)
                if before[host] <= 1.0 and table.good("size"):
                    more = len(too_much) - 1
                    others = f", as are {more} more" if more > 1 else ", as is another one" if more else ""
                    when = f"{after:g} s after the overload began" if index else "from the start"
                    said = f"{host} is asked for {100 * sums[host]:.4g} % of itself {when}{others}"
                    table.refuse("size", f"{said}: at most 100 %")

    def _to_blame(self, host: str, after: float | None) -> Table:
        """The last table that asks for something on a host at a time; None: from the start."""
        if after is not None:
            for table, part in reversed(self.parts):
                if host in self._hosts.at(part.on) and after in {at for at, _ in course(part, 0.0)}:
                    return table
        return next(table for table, group in reversed(self.groups) if host in self._hosts.at(group.on))


def _limit(figure: str, value: Any) -> str:
    """A value parser for the limit of a figure."""
    written = text(MAX_NAME)(value)
    parse_limit(figure, written)
    return written


def _limits(table: Table) -> dict[str, str]:
    """The limits as they are written."""
    taken = {name: table.take(name, partial(_limit, name), None) for name in LIMITED}
    return {name: limit for name, limit in taken.items() if limit is not None}


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a scenario, for editors; what `parse` checks between keys isn't in it."""
    tables = {name: _schema_of(keys) for name, keys in TABLES.items() if name}
    properties = {
        name: {"type": "array", "items": table} if name in ARRAYS else table for name, table in tables.items()
    }
    limits = {"type": "object", "additionalProperties": False, "properties": {n: {"type": "string"} for n in LIMITED}}
    top = _schema_of(TOP)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A scenario of loadband rebalance",
        **top,
        "properties": {**top["properties"], **properties, "limits": limits},
    }


def _schema_of(keys: Sequence[Key]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {key.name: _property(key) for key in keys}}


def _property(key: Key) -> dict[str, Any]:
    default = {} if key.written is None else {"default": key.written}
    return {"description": f"{key.help} Must be {key.allowed}.", **key.json, **default}
