"""Scenarios: which hosts and slices there are, how the overload comes about, and what is expected of the platform.

A scenario is TOML; docs/rebalance/scenarios.md describes the format key by key. `parse` reads one, with every mistake
reported at once. `script` turns it into what the conductor does, on the hosts of a platform. Everything here is pure.

A scenario suits every platform: sizes are shares of a host, and durations of the monitoring are those that loadband
ships, divided by `faster`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Any, Literal

from loadband.document import DocumentError, Table, number, one_of, text
from loadband.document import parse as parse_document
from loadband.rebalance.events import Expectation, Host, Imbalance, Plan
from loadband.rebalance.figures import DEFINITIONS
from loadband.rebalance.run import Change, Put, Script
from loadband.rebalance.verdict import parse_limit
from loadband.units import PERCENT, TIME, Number, Unit, listed

MAX_NAME = 40
MAX_BYTES = 1 << 20
"""Of a scenario's file."""
RAMP_STEP = 2.0
"""Seconds from one size of a growing slice to the next."""
SHIPPED_WINDOW = 120.0
"""Over how long the shipped rules average a host's utilization, seconds; a test holds it against them."""

Where = Literal["hot", "cool", "each"]
"""The hosts that are overloaded on purpose, the others, or all; any other word names one host."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """Slices that are there from the start."""

    name: str
    """`resident` makes resident-1, resident-2 ..."""
    on: str
    """See `Where`."""
    count: int
    """On each of these hosts."""
    size: float
    """What each burns, a ratio of its host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A part of the overload: slices that come."""

    name: str
    on: str
    count: int
    size: float
    after: float
    """Seconds after the overload began."""
    over: float
    """Seconds in which they grow to their size; 0: at once."""
    lasts: float | None
    """Seconds after which they burn nothing any more; None: to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """A part of the overload: slices that are there burn another amount."""

    name: str
    """Of `Slices`."""
    on: str
    size: float
    after: float
    over: float
    lasts: float | None
    """Seconds after which they burn again what they did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that a scenario says; times in seconds, sizes and utilization as ratios."""

    name: str
    proves: str
    """One sentence."""
    expect: Expectation
    rebalancer: str
    """The one that is used if the command line names none."""
    hosts: tuple[str, ...]
    hot_hosts: tuple[str, ...]
    slices: tuple[Slices, ...]
    overload: tuple[Addition | Raise, ...]
    alert: str
    hot: float
    imbalance: Imbalance
    theta: float
    hold: float
    settle: float
    return_within: float
    baseline: float
    watch: float
    recovery: float
    limits: Mapping[str, str] = field(default_factory=dict)
    faster: float
    """By how much the shipped rules and configurations are shortened."""
    sample: float
    fail_moves: int
    """How many moves the platform lets fail before the first one succeeds."""
    repeats: int
    seed: int

    def plan(self) -> Plan:
        """What figures and verdict need of it."""
        return Plan(
            scenario=self.name,
            expect=self.expect,
            alert=self.alert,
            hot_hosts=self.hot_hosts,
            hot=self.hot,
            imbalance=self.imbalance,
            theta=self.theta,
            hold=self.hold,
            settle=self.settle,
            return_within=self.return_within,
            window=SHIPPED_WINDOW / self.faster,
            sample_interval=self.sample,
            watch=self.watch,
            limits=self.limits,
        )


def _name(value: Any) -> str:
    """A value parser for a name that every platform takes: an RFC 1123 label."""
    given = text(MAX_NAME)(value)
    if not _NAME.fullmatch(given):
        raise ValueError("must be lower-case letters, digits and dashes, and begin and end with a letter or digit")
    return given


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a scenario: its default and what it may be."""

    name: str
    parser: Callable[[Any], Any]
    default: Any
    """In inside units; None: a default that depends on others, which `help` states, or none at all."""
    allowed: str
    help: str
    json: Mapping[str, Any]
    """What JSON Schema says of its value."""


_SIZE = Number(PERCENT, "0.1", "100")
_RATIO = Unit("ratio", {"": "1", "%": "0.01"})
_SECONDS = Number(TIME, "0", "24h")
_SOME_SECONDS = Number(TIME, "100ms", "24h")
_COUNT = Unit("count", {"": "1"})
_FACTOR = Unit("factor", {"": "1"})


def _key(name: str, parser: Number, default: Any, explained: str) -> Key:
    kind = "integer" if parser.whole else "number"
    return Key(name, number(parser), default, parser.allowed, explained, {"type": [kind, "string"]})


def _word(name: str, words: Sequence[str], default: str, explained: str) -> Key:
    return Key(name, one_of(*words), default, listed(*words), explained, {"enum": [str(word) for word in words]})


def _label(name: str, default: str | None, explained: str) -> Key:
    allowed = f"1..{MAX_NAME} lower-case letters, digits and dashes"
    return Key(name, _name, default, allowed, explained, {"type": "string", "pattern": f"^{_NAME.pattern}$"})


def _words_key(name: str, most: int, default: str, explained: str) -> Key:
    return Key(name, text(most), default, f"1..{most} characters", explained, {"type": "string", "maxLength": most})


TOP = (
    _label("name", None, "The scenario's name; by default the file's."),
    _words_key("proves", 200, "", "What a run of it proves, one sentence."),
    _word("expect", list(Expectation), Expectation.BALANCE, "What is expected of the platform."),
    _label("rebalancer", "mover", "The rebalancer that is used if the command line names none."),
    _words_key("alert", 200, "LoadbandHostHot", "The name of the alert that is awaited."),
    _key("hot", _SIZE, 0.75, "The hot threshold: a host at or above it is hot."),
    _word("imbalance", list(Imbalance), Imbalance.SPREAD, "The measure of imbalance that decides."),
    _key("theta", Number(_RATIO, "0", "100"), 0.25, "Balance is an imbalance of at most this."),
    _key("hold", _SOME_SECONDS, 10.0, "H: balance and relief count only if they last that long."),
    _key("settle", _SOME_SECONDS, 2.0, "W: the overload counts from when it lasts that long."),
    _key("return_within", _SECONDS, 60.0, "C: a move back to a host that was left within C is thrash."),
    _key("faster", Number(_FACTOR, "1", "30"), 15.0, "By how much shipped rules and configurations are shortened."),
    _key("sample", Number(TIME, "100ms", "1m"), 0.5, "From one sample of a host to the next."),
    _key("fail_moves", Number(_COUNT, "0", "100", whole=True), 0, "How many moves fail before the first succeeds."),
    _key("repeats", Number(_COUNT, "1", "100", whole=True), 1, "How often the scenario is run."),
    _key("seed", Number(_COUNT, "0", "1000000", whole=True), 0, "Of whatever is drawn by chance."),
)
HOSTS = (
    _key("count", Number(_COUNT, "1", "1000", whole=True), 2, "How many hosts take part: host-1, host-2 ..."),
    _key("hot", Number(_COUNT, "0", "1000", whole=True), 1, "How many of them, the first ones, are overloaded."),
)
PHASES = (
    _key("baseline", _SECONDS, 5.0, "How long the platform is watched before the overload."),
    _key("watch", _SOME_SECONDS, 60.0, "How long it is watched from the begin of the overload."),
    _key("recovery", _SECONDS, 20.0, "How long the alert may take to resolve after that."),
)
SLICES = (
    _label("name", "resident", "The slices are called by this and a number."),
    _label("on", "each", "Where: on the hot hosts, the cool ones, on each, or on the host of that name."),
    _key("count", Number(_COUNT, "1", "1000", whole=True), 1, "How many, on each of these hosts."),
    _key("size", _SIZE, 0.2, "What each burns, as a share of its host."),
)
OVERLOAD = (
    _label("add", None, "Slices come, called by this and a number."),
    _label("raise", None, "The slices of that name, which are there, burn another amount."),
    _label("on", "hot", "Where: on the hot hosts, the cool ones, on each, or on the host of that name."),
    _key("count", Number(_COUNT, "1", "1000", whole=True), 1, "With add: how many, on each of these hosts."),
    _key("size", _SIZE, 0.2, "What each burns then, as a share of its host."),
    _key("after", _SECONDS, 0.0, "When, from the begin of the overload."),
    _key("over", _SECONDS, 0.0, "In which time they get to that size, step by step; 0: at once."),
    _key("lasts", _SOME_SECONDS, None, "After which time they burn again what they did; by default never."),
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
        DocumentError: with all that is wrong.
    """
    top = parse_document(document, file, "the scenario")
    values = _take(top, TOP)
    if "name" not in top:
        stem = re.sub(r"[^a-z0-9]+", "-", PurePath(file).stem.lower()).strip("-")[:MAX_NAME]
        values["name"] = stem or "scenario"
    inside = top.table("hosts")
    counts = _take(inside, HOSTS)
    if inside.good("count", "hot") and counts["hot"] > counts["count"]:
        inside.refuse("hot", f"must be at most count, which is {counts['count']}")
    names = tuple(f"host-{number}" for number in range(1, counts["count"] + 1))
    hot_hosts = names[: counts["hot"]]
    groups = tuple(_slices(table, names) for table in top.tables("slices", least=0, most=64))
    parts = tuple(
        part
        for table in top.tables("overload", least=0, most=64)
        if (part := _overload(table, names, {group.name for group in groups})) is not None
    )
    phases = _take(top.table("phases"), PHASES)
    limits = _limits(top.table("limits"))
    top.check()
    scenario = Scenario(
        hosts=names, hot_hosts=hot_hosts, slices=groups, overload=parts, limits=limits, **values, **phases
    )
    _check_whole(scenario, file)
    return scenario


def _check_whole(scenario: Scenario, file: str) -> None:
    """Refuse what no single key is to blame for.

    Raises:
        DocumentError: with all of it.
    """
    problems = []
    most: dict[str, tuple[float, float]] = {}
    for after, sums in asked(scenario):
        for host, size in sums.items():
            if size > max(most.get(host, (0.0, 1.0))[1], 1.0):
                most[host] = after, size
    problems += [
        f"{file}: {host} is asked for {100 * size:.4g} % of itself, {after:g} s after the overload began: at most 100 %"
        for host, (after, size) in most.items()
    ]
    late = [change.after for change in changes(scenario) if change.after > scenario.watch]
    if late:
        problems.append(f"{file}: the overload changes {max(late):g} s after it began, and the watch ends before that")
    if scenario.expect is Expectation.BALANCE and not scenario.hot_hosts:
        problems.append(f"{file}: expect = 'balance' needs a hot host: [hosts] hot is 0")
    if problems:
        raise DocumentError(problems)


def _take(table: Table, keys: Sequence[Key]) -> dict[str, Any]:
    return {key.name: table.take(key.name, key.parser, key.default) for key in keys}


def _slices(table: Table, hosts: Sequence[str]) -> Slices:
    values = _take(table, SLICES)
    _check_place(table, values["on"], hosts)
    return Slices(**values)


def _check_place(table: Table, on: str, hosts: Sequence[str]) -> None:
    if table.good("on") and on not in {"hot", "cool", "each", *hosts}:
        table.refuse("on", f"must be hot, cool, each or one of the hosts, {hosts[0]}..{hosts[-1]}")


def _overload(table: Table, hosts: Sequence[str], known: set[str]) -> Addition | Raise | None:
    values = _take(table, OVERLOAD)
    _check_place(table, values["on"], hosts)
    add, raised = values.pop("add"), values.pop("raise")
    if not table.good("add", "raise"):
        return None
    if (add is None) == (raised is None):
        table.refuse("add" if add is not None else "raise", "must stand there without the other: add or raise")
        return None
    if add is not None:
        if add in known:
            table.refuse("add", "is the name of slices that are there already")
        return Addition(name=add, **values)
    if raised not in known:
        near = ", ".join(sorted(known)) or "there are none"
        table.refuse("raise", f"must be the name of slices that are there from the start: {near}")
    if "count" in table:
        table.refuse("count", "is for add only")
    values.pop("count")
    return Raise(name=raised, **values)


def _limit(figure: str, value: Any) -> str:
    """A value parser for the limit of a figure."""
    written = text(MAX_NAME)(value)
    parse_limit(figure, written)
    return written


def _limits(table: Table) -> dict[str, str]:
    """The limits as they are written."""
    taken = {name: table.take(name, partial(_limit, name), None) for name in LIMITED}
    return {name: limit for name, limit in taken.items() if limit is not None}


def changes(scenario: Scenario) -> list[Change]:
    """What the overload does, step by step, with sizes as shares of a host; in the order of time."""
    found: list[Change] = []
    sizes = {(group.name, host): group.size for group in scenario.slices for host in _where(scenario, group.on)}
    counts = {(group.name, host): group.count for group in scenario.slices for host in _where(scenario, group.on)}
    for part in scenario.overload:
        for host in _where(scenario, part.on):
            before = sizes.get((part.name, host), 0.0)
            count = part.count if isinstance(part, Addition) else counts.get((part.name, host), 0)
            for name in _names(part.name, host, count):
                found += [Change(after, name, size, host) for after, size in _course(part, before)]
    return sorted(found, key=lambda change: change.after)


def _course(part: Addition | Raise, before: float) -> list[tuple[float, float]]:
    """When a slice is asked for which size."""
    steps = max(round(part.over / RAMP_STEP), 1)
    course = [
        (part.after + part.over * step / steps, before + (part.size - before) * (step + 1) / steps)
        for step in range(steps)
    ]
    return course if part.lasts is None else [*course, (part.after + part.lasts, before)]


def _where(scenario: Scenario, on: str) -> tuple[str, ...]:
    """The hosts that a word names."""
    hot = scenario.hot_hosts
    places = {"hot": hot, "each": scenario.hosts, "cool": tuple(host for host in scenario.hosts if host not in hot)}
    return places.get(on, (on,))


def _names(name: str, host: str, count: int) -> list[str]:
    """What the slices of a group on a host are called: resident-1-2 is the second one on host-1."""
    return [f"{name}-{host.removeprefix('host-')}-{number}" for number in range(1, count + 1)]


def start(scenario: Scenario) -> list[Put]:
    """The slices that are there from the start, with sizes as shares of a host."""
    return [
        Put(name, host, group.size)
        for group in scenario.slices
        for host in _where(scenario, group.on)
        for name in _names(group.name, host, group.count)
    ]


def asked(scenario: Scenario) -> list[tuple[float, dict[str, float]]]:
    """What is asked of each host if nothing moves: from when (seconds after the overload began), ratios by host.

    The first entry is the baseline's; its time is 0 or less.
    """
    sizes = {put.name: (put.host, put.cpus) for put in start(scenario)}
    course = [(-scenario.baseline, _sums(scenario, sizes))]
    for change in changes(scenario):
        sizes[change.name] = change.host, change.cpus
        if course[-1][0] == change.after:
            course.pop()
        course.append((change.after, _sums(scenario, sizes)))
    return course


def _sums(scenario: Scenario, sizes: Mapping[str, tuple[str, float]]) -> dict[str, float]:
    sums = dict.fromkeys(scenario.hosts, 0.0)
    for host, size in sizes.values():
        sums[host] += size
    return {host: round(value, 9) for host, value in sums.items()}


def script(scenario: Scenario, hosts: Sequence[Host], seed: int | None = None) -> Script:
    """What the conductor does: a scenario on the hosts of a platform, which stand for host-1, host-2 ... in order.

    Args:
        scenario: what to do.
        hosts: at least as many as the scenario has.
        seed: instead of the scenario's.

    Raises:
        ValueError: there are too few hosts.
    """
    if len(hosts) < len(scenario.hosts):
        raise ValueError(f"{scenario.name} needs {len(scenario.hosts)} hosts; there are {len(hosts)}")
    real = dict(zip(scenario.hosts, hosts, strict=False))
    plan = dataclasses.replace(scenario.plan(), hot_hosts=tuple(real[host].name for host in scenario.hot_hosts))
    return Script(
        plan=plan,
        slices=[Put(put.name, real[put.host].name, put.cpus * real[put.host].cpus) for put in start(scenario)],
        overload=[
            Change(change.after, change.name, change.cpus * real[change.host].cpus, real[change.host].name)
            for change in changes(scenario)
        ],
        baseline=scenario.baseline,
        recovery=scenario.recovery,
        seed=scenario.seed if seed is None else seed,
    )


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
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: {"description": f"{key.help} {key.allowed}", **key.json} for key in keys},
    }
