"""The settings of a run: one table of declarations, and the values that flags, variables and defaults give them.

Name, default, unit, range and help of each setting are in `DECLARATIONS` and nowhere else. Parsing, flags, `--help`,
`--check` and docs/reference/settings.md derive from that table. A new setting is one declaration there and one field
of `Settings`. Nothing here prints, exits or burns.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from loadband import flags
from loadband.quantities import Band, Scope, Setpoint, Steal
from loadband.sources import (
    PREFIX,
    Declaration,
    Given,
    Origin,
    SettingsError,
    find,
    find_secret,
    nearest,
    quoted,
    quotes,
)
from loadband.units import (
    CPUS,
    MILLISECONDS,
    NICENESS,
    PERCENT,
    THREADS,
    TIME,
    Address,
    Choice,
    Listen,
    Number,
    Parser,
    Token,
    TomlFile,
)

DEFAULT_PORT = 10670
"""Free in Prometheus' list of default port allocations."""
CONTROL_PORT = 10671


class LawName(enum.StrEnum):
    """The law by which effort follows utilization."""

    ADAPTIVE = "adaptive"
    STEP = "step"


class OnEnd(enum.StrEnum):
    """What happens when DURATION is over."""

    EXIT = "exit"
    IDLE = "idle"


class LogLevel(enum.StrEnum):
    """The lowest level of the log lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(enum.StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a run; ratios, seconds, CPUs."""

    setpoint: Setpoint
    """The band of MIN and MAX, or the fixed EFFORT."""
    latch: float | None
    """Seconds in closed loop until the load is frozen; None: never."""
    profile: Path | None
    """The file with a band over time, which replaces MIN and MAX; None: without."""
    scope: Scope
    controller: LawName
    interval: float
    """The control period, seconds."""
    workers: int | None
    """Threads; for the step law, at the start. None: ceil(reach)."""
    step: int
    """Threads that the step law adds or removes at a time."""
    sleep: float
    """Seconds that a worker of the step law sleeps between two bursts."""
    max_effort: float | None
    """The most CPUs that this process may burn; None: no limit."""
    steal: Steal
    nice: int
    duration: float
    """Seconds; 0: until it is stopped."""
    on_end: OnEnd
    listen: Listen | None
    """None: no server."""
    control_listen: Listen | None
    """None: no control."""
    control_token: str | None = field(repr=False)
    """What clients have to know; None: no control."""
    log_level: LogLevel
    log_format: LogFormat


DECLARATIONS = (
    Declaration("MIN", "60", Number(PERCENT, "0", "100"), "The lower edge of the band; less than MAX."),
    Declaration("MAX", "70", Number(PERCENT, "0", "100"), "The upper edge of the band."),
    Declaration(
        "SCOPE",
        "host",
        Choice(Scope),
        "Whose utilization: the machine's, that of the CPUs it may use, or its control group's against the limit.",
    ),
    Declaration(
        "CONTROLLER",
        "adaptive",
        Choice(LawName),
        "The law: adaptive calculates how much to burn; step adds or removes a few threads once a second.",
    ),
    Declaration(
        "INTERVAL",
        "100ms",
        Number(TIME, "50ms", "5s"),
        "The control period; at least 200ms in a calm band without other load.",
    ),
    Declaration(
        "WORKERS",
        None,
        Number(THREADS, "1", "1024", whole=True),
        "Threads that burn; for the step law, at the start. More threads than CPUs create CPU pressure (PSI).",
        instead="ceil(reach)",
    ),
    Declaration(
        "STEP", "1", Number(THREADS, "1", "1024", whole=True), "Step law only: threads added or removed at a time."
    ),
    Declaration(
        "SLEEP_MS", "10", Number(MILLISECONDS, "0", "10000"), "Step law only: a thread's sleep between bursts of 1 ms."
    ),
    Declaration(
        "EFFORT",
        None,
        Number(CPUS, "1m", "1024"),
        "A fixed amount of CPU to burn, whatever else runs, instead of a band.",
    ),
    Declaration(
        "LATCH",
        None,
        Number(TIME, "1s", "8760h"),
        "Hold the band for so long, then freeze: be an ordinary load of that size, which travels with its pod or VM.",
    ),
    Declaration(
        "PROFILE",
        None,
        TomlFile(),
        "A file with a band that changes over time, instead of MIN and MAX; docs/profiles.md has its format.",
    ),
    Declaration("MAX_EFFORT", None, Number(CPUS, "1m", "1024"), "The most that it may burn."),
    Declaration(
        "STEAL",
        "idle",
        Choice(Steal),
        "How time that the hypervisor stole counts: idle, as for load-aware schedulers, or busy.",
    ),
    Declaration(
        "NICE",
        "0",
        Number(NICENESS, "0", "19", whole=True),
        "Niceness of the burning threads. Protects processes in the same control group; CPU requests protect others.",
    ),
    Declaration("DURATION", "0", Number(TIME, "0", "8760h"), "How long to hold the band; 0: until it is stopped."),
    Declaration(
        "ON_END", "exit", Choice(OnEnd), "After DURATION: exit, or idle (stay up and ready, but burn nothing)."
    ),
    Declaration(
        "LISTEN",
        f"[::]:{DEFAULT_PORT}",
        Address(),
        "Where /metrics and the probes answer. [::]: all IPv4 and IPv6 addresses.",
    ),
    Declaration(
        "CONTROL_LISTEN",
        f"127.0.0.1:{CONTROL_PORT}",
        Address(),
        "Where /band answers GET, PUT and DELETE, if there is a CONTROL_TOKEN.",
    ),
    Declaration(
        "CONTROL_TOKEN",
        None,
        Token(),
        "The bearer token for changing the band; CONTROL_TOKEN_FILE names a file that holds it instead.",
        secret=True,
    ),
    Declaration("LOG_LEVEL", "info", Choice(LogLevel), "The lowest level of the log lines that are written."),
    Declaration("LOG_FORMAT", "text", Choice(LogFormat), "How log lines are written."),
)

REVISION = f"{PREFIX}REVISION"
"""The commit that an image was built from; the image sets it, for `build_info`. Users don't choose it."""
# Kubernetes gives the first two to every pod beside a Service named loadband; no setting may have such a name.
_NOT_OURS = (f"{PREFIX}PORT", f"{PREFIX}SERVICE_", REVISION)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings of a run, and where they came from."""

    settings: Settings
    given: tuple[Given, ...]
    """In the order of `DECLARATIONS`."""
    warnings: tuple[str, ...]
    """One line each."""
    check: bool
    """Whether `--check` was given: print the settings, don't run."""

    def check_text(self) -> str:
        """The output of `--check`: the effective settings and their origins, a line each."""
        name_width = max(len(given.declaration.variable) for given in self.given)
        shown_width = max(len(given.shown) for given in self.given)
        return "\n".join(
            f"{given.declaration.variable:{name_width}}  {given.shown:{shown_width}}  {given.origin}"
            for given in self.given
        )


class Asked(enum.Enum):
    """What the user wants to read instead of a run; the settings don't matter then."""

    HELP = enum.auto()
    VERSION = enum.auto()


def _nothing(_scope: Scope, _max_effort: float | None) -> None:
    pass


def load(argv: Sequence[str], at_sight: Callable[[Scope, float | None], None] = _nothing) -> Loaded | Asked:
    """The settings from a command line (without the program's name) and the environment of this process.

    A flag overrides a variable. The five numbers override variables too, and select the step law.

    Args:
        argv: the words.
        at_sight: is called with the scope and MAX_EFFORT as soon as they are seen, unless there is something wrong
            with them or nothing is to run. What else is wrong isn't known by then: environs takes long to load.

    Raises:
        SettingsError: with everything that is wrong.
    """
    line = flags.parse(argv, DECLARATIONS)
    if line.help:
        return Asked.HELP
    if line.version:
        return Asked.VERSION
    given = {d.name: find(d, os.environ, line.flags.get(d.name), line.numbers.get(d.name)) for d in DECLARATIONS}
    if not line.check:
        with suppress(ValueError):
            at_sight(_value(given["SCOPE"]), _value(given["MAX_EFFORT"]))
    values, bad = _parsed(given)
    problems = [
        *line.problems,
        *(each.problem for each in given.values() if each.problem),
        *_contradictions(given, line.numbers),
        *bad,
        *_conflicts(given, values),
    ]
    if problems:
        raise SettingsError(problems)
    low, high, effort = values.pop("min"), values.pop("max"), values.pop("effort")
    settings = Settings(setpoint=Setpoint(Band(low, high) if effort is None else None, effort=effort), **values)
    warnings = (*_unknown(os.environ), *_without_effect(settings, given))
    return Loaded(settings, tuple(given.values()), warnings, line.check)


def help_text() -> str:
    """Usage, every setting with unit, range, default and variable, exit codes and examples."""
    return flags.help_text(DECLARATIONS)


def secret(name: str, flag: str, file: str | None) -> str | None:
    """The value of one secret setting, for a client that has no others.

    Args:
        name: the setting's.
        flag: the client's own flag for a file, as the user writes it.
        file: the name given with it, None without.

    Raises:
        SettingsError: if it is bad, or its file can't be read.
    """
    declaration = next(d for d in DECLARATIONS if d.name == name)
    given = find_secret(declaration, os.environ, file, flag)
    values, bad = _parsed({name: given})
    if problems := [*([given.problem] if given.problem else []), *bad]:
        raise SettingsError(problems)
    return cast("str | None", values[declaration.field])


def _parsed(given: Mapping[str, Given]) -> tuple[dict[str, Any], list[str]]:
    """The values by field of `Settings`, None for bad ones; and a line for each bad one.

    environs reads the variables of this process's environment; the texts of other origins go to the same parsers.
    """
    variables = {name: each for name, each in given.items() if each.origin is Origin.VARIABLE}
    found, problems = _variables(variables) if variables else ({}, {})
    values: dict[str, Any] = {}
    for name, each in given.items():
        value = found.get(name)
        if name not in variables:
            try:
                value = _value(each)
            except ValueError as error:
                problems[name] = str(error)
        values[each.declaration.field] = value
    return values, [f"{given[name]}: {problems[name]}{_quotes(given[name])}" for name in given if name in problems]


def _value(given: Given) -> Any:
    """The value of a text.

    Raises:
        ValueError: if it isn't one.
    """
    return None if given.text is None else given.declaration.parser(given.text)


def _variables(given: Mapping[str, Given]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of environment variables by name, None for bad ones; and what is wrong with these."""
    from environs import Env, EnvValidationError, ValidationError  # noqa: PLC0415 - the slowest and largest import

    def setting(text: str, parser: Parser) -> object:
        """A parser for environs, which collects errors of its own type."""
        try:
            return parser(text.strip())
        except ValueError as error:
            raise ValidationError(str(error)) from error

    env = Env(eager=False, prefix=PREFIX)
    env.add_parser("setting", setting)
    values = {name: env.setting(name, parser=each.declaration.parser) for name, each in given.items()}
    try:
        env.seal()
    except EnvValidationError as error:
        messages = cast("Mapping[str, list[str]]", error.error_messages)  # a list only if Env is eager
        return values, {variable.removeprefix(PREFIX): " ".join(said) for variable, said in messages.items()}
    return values, {}


def _quotes(given: Given) -> str:
    return quotes(given.text or "") if given.origin is Origin.VARIABLE else ""


def _contradictions(given: Mapping[str, Given], numbers: Mapping[str, str]) -> list[str]:
    """A line for each flag that contradicts one of the five numbers."""
    return [
        f"{given[name]}: contradicts {Given(given[name].declaration, number, Origin.NUMBERS)}; give one of the two"
        for name, number in numbers.items()
        if given[name].origin is Origin.FLAG and given[name].text != number
    ]


def _conflicts(given: Mapping[str, Given], values: Mapping[str, Any]) -> list[str]:
    """A line for each pair of good values that exclude each other."""
    low, high, effort, ceiling = (values[name] for name in ("min", "max", "effort", "max_effort"))
    problems = []
    if low is not None and high is not None and low >= high:
        problems.append(f"{given['MIN']} with {given['MAX']}: MIN must be less than MAX")
    if effort is not None:
        problems += [
            f"{given['EFFORT']} with {given[name]}: a fixed effort has no band; give one of the two"
            for name in ("MIN", "MAX", "LATCH", "PROFILE")
            if given[name].origin is not Origin.DEFAULT
        ]
    if values["latch"] is not None and values["profile"] is not None:
        problems.append(f"{given['LATCH']} with {given['PROFILE']}: a latch is a load of one size; give one of the two")
    if effort is not None and ceiling is not None and effort > ceiling:
        problems.append(f"{given['EFFORT']} with {given['MAX_EFFORT']}: EFFORT must be at most MAX_EFFORT")
    return problems


def _unknown(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable with the prefix that isn't a setting."""
    known = {variable.removeprefix(PREFIX): variable for d in DECLARATIONS for variable in d.variables}
    return [
        f"{quoted(variable)}: unknown variable, ignored{nearest(variable.removeprefix(PREFIX), known)}"
        for variable in sorted(environ)
        if variable.startswith(PREFIX) and variable not in known.values() and not variable.startswith(_NOT_OURS)
    ]


def _without_effect(settings: Settings, given: Mapping[str, Given]) -> list[str]:
    """A line for each setting that was given but has no effect."""
    reasons: dict[str, str] = {}
    if settings.controller is not LawName.STEP:
        reasons |= dict.fromkeys(("STEP", "SLEEP_MS"), "it is for CONTROLLER=step only")
    if not settings.duration:
        reasons["ON_END"] = "it needs a DURATION"
    if settings.profile is not None:
        reasons |= dict.fromkeys(("MIN", "MAX"), "PROFILE says what the band is")
    if settings.control_token is None:
        reasons["CONTROL_LISTEN"] = "it needs a CONTROL_TOKEN"
    return [
        f"{given[name]}: has no effect, {reason}"
        for name, reason in reasons.items()
        if given[name].origin is not Origin.DEFAULT
    ]
