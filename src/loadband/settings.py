"""What the user may set: one table of declarations, and how a run's settings come from it.

Each variable's name, default, unit, range and help stand once, in `DECLARATIONS`. The parsing, the flags, `--help` and
`--check` all derive from that table. A new setting is one declaration there and one field of `Settings`.

Every value is a text until one parser has read it, wherever it came from. So a rule and its message are the same for
a variable, a flag, one of the five numbers and a default. Nothing here prints, exits or burns.
"""

from __future__ import annotations

import argparse
import difflib
import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from environs import Env, EnvValidationError, ValidationError

from loadband.quantities import Band, Scope, Setpoint, Steal
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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "LOADBAND_"
DEFAULT_PORT = 10670
"""A port that is free in Prometheus' allocation list."""
CONTROL_PORT = 10671

FIVE_NUMBERS = ("MIN", "MAX", "WORKERS", "STEP", "SLEEP_MS")
"""The settings that the ancestor's positional numbers give, in its order."""


class Controller(enum.StrEnum):
    """The law by which effort follows utilization."""

    ADAPTIVE = "adaptive"
    STEP = "step"


class OnEnd(enum.StrEnum):
    """What happens when DURATION is over."""

    EXIT = "exit"
    IDLE = "idle"


class LogLevel(enum.StrEnum):
    """The least severe log lines that are written."""

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
    """The settings of a run, in inside units: ratios, seconds, CPUs."""

    setpoint: Setpoint
    """The band of MIN and MAX, or the fixed EFFORT."""
    latch: float | None
    """Seconds in closed loop until the load is frozen; None for never."""
    profile: Path | None
    """The file of a band over time, which goes before that of MIN and MAX; None for none."""
    scope: Scope
    controller: Controller
    interval: float
    """The control period, seconds."""
    workers: int | None
    """Threads, the step law's initial number; None for ceil(reach)."""
    step: int
    """Threads that the step law adds or removes at a time."""
    sleep: float
    """Seconds that a worker of the step law sleeps between two bursts."""
    max_effort: float | None
    """A ceiling of our own, CPUs; None for none."""
    steal: Steal
    nice: int
    duration: float
    """Seconds; 0 for ever."""
    on_end: OnEnd
    listen: Listen | None
    """None for no server."""
    control_listen: Listen | None
    """None for no control."""
    control_token: str | None = field(repr=False)
    """What a client has to know; None for no control."""
    log_level: LogLevel
    log_format: LogFormat


@dataclass(frozen=True, slots=True)
class Declaration:
    """All there is to know of one setting."""

    name: str
    """Without the prefix."""
    default: str | None
    """As the user would write it: it goes through the parser like any other text. None: `Settings` has None."""
    parser: Parser
    help: str
    instead: str = "none"
    """What stands for a default of None, for people."""
    secret: bool = False
    """Never shown, and its flag names a file: everybody on the machine can read a command line."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name

    @property
    def flag(self) -> str:
        """The flag that overrides the variable."""
        return "--" + self.name.lower().replace("_", "-") + ("-file" if self.secret else "")

    @property
    def file_variable(self) -> str:
        """The environment variable that names a file with the value, for secrets."""
        return f"{self.variable}_FILE"

    @property
    def variables(self) -> tuple[str, ...]:
        """All its environment variables."""
        return (self.variable, self.file_variable) if self.secret else (self.variable,)

    @property
    def field(self) -> str:
        """Its field in `Settings`, where times are seconds and no name says so."""
        return self.name.lower().removesuffix("_ms")

    @property
    def shown_default(self) -> str:
        """The default for people."""
        return self.instead if self.default is None else self.default


DECLARATIONS = (
    Declaration("MIN", "60", Number(PERCENT, "0", "100"), "The lower edge of the band; less than MAX."),
    Declaration("MAX", "70", Number(PERCENT, "0", "100"), "The upper edge of the band."),
    Declaration(
        "SCOPE",
        "host",
        Choice(Scope),
        "Whose utilization: the machine's, that of the CPUs this process may use, or our cgroup's against its limit.",
    ),
    Declaration(
        "CONTROLLER",
        "adaptive",
        Choice(Controller),
        "The law: adaptive knows what effort does to the machine; step is the ancestor's, threads added and removed.",
    ),
    Declaration("INTERVAL", "100ms", Number(TIME, "50ms", "5s"), "The control period."),
    Declaration(
        "WORKERS",
        None,
        Number(THREADS, "1", "1024", whole=True),
        "How many threads burn; the step law's initial number. More than there are CPUs makes CPU pressure (PSI).",
        instead="ceil(reach)",
    ),
    Declaration(
        "STEP", "1", Number(THREADS, "1", "1024", whole=True), "Step law only: the threads added or removed at a time."
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
        "Hold the band for that long, then freeze: from there on be an ordinary load of that size, which travels.",
    ),
    Declaration(
        "PROFILE",
        None,
        TomlFile(),
        "A file with the band over time, instead of MIN and MAX; docs/profiles.md has its format.",
    ),
    Declaration("MAX_EFFORT", None, Number(CPUS, "1m", "1024"), "A ceiling of our own to what is burnt."),
    Declaration(
        "STEAL",
        "idle",
        Choice(Steal),
        "How time that the hypervisor took counts: idle as load-aware schedulers have it, or busy.",
    ),
    Declaration(
        "NICE",
        "0",
        Number(NICENESS, "0", "19", whole=True),
        "Of the burning threads. Guards processes beside us, not other pods: the cgroup's weight (requests) does that.",
    ),
    Declaration("DURATION", "0", Number(TIME, "0", "8760h"), "How long to hold the band; 0 for ever."),
    Declaration("ON_END", "exit", Choice(OnEnd), "After DURATION: exit, or idle (stay up and ready, burn nothing)."),
    Declaration("LISTEN", f"0.0.0.0:{DEFAULT_PORT}", Address(), "Where /metrics and the probes answer."),
    Declaration(
        "CONTROL_LISTEN",
        f"127.0.0.1:{CONTROL_PORT}",
        Address(),
        "Where /band answers to GET, PUT and DELETE, if there is a CONTROL_TOKEN.",
    ),
    Declaration(
        "CONTROL_TOKEN",
        None,
        Token(),
        "The bearer token that changes the band; CONTROL_TOKEN_FILE names a file with it instead.",
        secret=True,
    ),
    Declaration("LOG_LEVEL", "info", Choice(LogLevel), "The least severe log lines that are written."),
    Declaration("LOG_FORMAT", "text", Choice(LogFormat), "How log lines are written."),
)

REVISION = f"{PREFIX}REVISION"
"""Which commit an image was built from; the image sets it, for `build_info`. No setting: nobody chooses it."""
# Kubernetes gives the first two to every pod beside a Service named loadband; no setting may have such a name.
_NOT_OURS = (f"{PREFIX}PORT", f"{PREFIX}SERVICE_", REVISION)

_USAGE = f"""loadband [--SETTING VALUE ...] [--check]
       loadband {" ".join(FIVE_NUMBERS)}
       loadband profile FILE
       loadband set MIN MAX [--url URL] [--token-file FILE]"""
_DESCRIPTION = f"""\
Holds a machine's CPU utilization inside a band and exports what it does to Prometheus.

Every setting is an environment variable, and a flag that overrides it; an empty one counts as unset. The five numbers
{" ".join(FIVE_NUMBERS)} select the step law. `profile` shows what a profile will do, and `set` changes the
band of a loadband that runs; each has a --help of its own."""
_EPILOG = """\
exit codes:
  0      ok, or the band was held for DURATION (in it for 95 % of the time after first reaching it)
  1      the band was not held for DURATION
  2      bad settings
  3      internal failure
  141    whoever read standard output has left, as in loadband | head -1
  128+n  ended by a second signal n

examples:
  loadband                                    hold 60..70 % of this machine until Ctrl-C
  loadband --min 40 --max 50% --duration 10m  then exit with 0 if the band was held
  LOADBAND_SCOPE=container loadband --check   show the settings and where each came from
  loadband --effort 250m                      burn a quarter of a CPU, whatever else runs
  loadband 60 70 10 2 10                      as the ancestor: 10 threads, 2 at a time, sleeping 10 ms"""


class SettingsError(Exception):
    """All that is wrong with what was given, one line each: where, the value (never a secret), what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Origin(enum.StrEnum):
    """Where a value came from."""

    DEFAULT = "default"
    VARIABLE = "environment variable"
    NUMBERS = "five numbers"
    FLAG = "flag"
    FILE = "file"


_LONGEST_SHOWN = 60
_MAX_SECRET_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Given:
    """A setting's text and where it came from."""

    declaration: Declaration
    text: str | None
    """None only as a default."""
    origin: Origin
    file: str = ""
    """Which one it came from, as the variable or flag that names it and its name."""

    @property
    def shown(self) -> str:
        """The text for people; never a secret's."""
        if self.text is None:
            return self.declaration.instead
        return "(secret)" if self.declaration.secret else self.text

    def __str__(self) -> str:
        """Where and what, on one line: `LOADBAND_MIN='5x'`."""
        if self.file:
            return self.file
        name = self.declaration.variable
        if self.origin is Origin.FLAG:
            name = self.declaration.flag
        elif self.origin is Origin.NUMBERS:
            name = f"five numbers, {self.declaration.name}"
        default = " (default)" if self.origin is Origin.DEFAULT else ""
        return f"{name}={_quoted(self.shown)}{default}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings of a run, and how they came about."""

    settings: Settings
    given: tuple[Given, ...]
    """In the order of `DECLARATIONS`."""
    warnings: tuple[str, ...]
    """One line each."""
    check: bool
    """Whether only `--check` was asked for."""

    def check_text(self) -> str:
        """The effective settings and where each came from, a line each: the output of `--check`."""
        name_width = max(len(given.declaration.variable) for given in self.given)
        shown_width = max(len(given.shown) for given in self.given)
        return "\n".join(
            f"{given.declaration.variable:{name_width}}  {given.shown:{shown_width}}  {given.origin}"
            for given in self.given
        )


class Asked(enum.Enum):
    """What the user wants to read instead of a run, whatever the settings are."""

    HELP = enum.auto()
    VERSION = enum.auto()


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Loaded | Asked:
    """The settings from a command line (without the program's name) and an environment.

    A flag overrides a variable. The five numbers override variables too, and select the step law.

    Raises:
        SettingsError: with all that is wrong.
    """
    namespace, rest = _parser(nargs="?").parse_known_args(argv)
    if namespace.help:
        return Asked.HELP
    if namespace.version:
        return Asked.VERSION

    numbers, problems = _positional(rest)
    flags: dict[str, str | None] = {d.name: getattr(namespace, d.name) for d in DECLARATIONS if d.name in namespace}
    given = {d.name: _chosen(d, flags, numbers, environ) for d in DECLARATIONS}
    for d in DECLARATIONS:
        if d.secret:
            given[d.name] = _from_file(given[d.name], d.flag, flags.get(d.name), environ, problems)
    problems += [
        f"{d.flag}: has no value; must be {'the name of a file' if d.secret else d.parser.allowed}"
        for d in DECLARATIONS
        if d.name in flags and flags[d.name] is None
    ]
    problems += [
        f"{given[name]}: contradicts {Given(given[name].declaration, number, Origin.NUMBERS)}; give one of the two"
        for name, number in numbers.items()
        if given[name].origin is Origin.FLAG and given[name].text != number
    ]
    values, bad = _parsed(given)
    problems += bad
    low, high = values.pop("min", None), values.pop("max", None)
    if low is not None and high is not None and low >= high:
        problems.append(f"{given['MIN']} with {given['MAX']}: MIN must be less than MAX")
    effort, ceiling = values.pop("effort"), values["max_effort"]
    if effort is not None:
        problems += [
            f"{given['EFFORT']} with {given[name]}: a fixed effort seeks no band; give one of the two"
            for name in ("MIN", "MAX", "LATCH", "PROFILE")
            if given[name].origin is not Origin.DEFAULT
        ]
    if values["latch"] is not None and values["profile"] is not None:
        problems.append(f"{given['LATCH']} with {given['PROFILE']}: a latch is a load of one size; give one of the two")
    if effort is not None and ceiling is not None and effort > ceiling:
        problems.append(f"{given['EFFORT']} with {given['MAX_EFFORT']}: EFFORT must be at most MAX_EFFORT")
    if problems:
        raise SettingsError(problems)

    settings = Settings(setpoint=Setpoint(Band(low, high) if effort is None else None, effort=effort), **values)
    return Loaded(
        settings, tuple(given.values()), (*_unknown(environ), *_without_effect(settings, given)), namespace.check
    )


def help_text() -> str:
    """Usage, every setting with unit, range, default and variable, exit codes and examples."""
    return _parser(nargs=None).format_help()


class _Parser(argparse.ArgumentParser):
    """argparse, whose own errors are ours. All that is left to it is a value for a switch, as in --check=yes."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError([f"{message}; loadband --help says what is allowed"])


def _parser(*, nargs: str | None) -> _Parser:
    """The flags; all of them take a text.

    With nargs="?" a flag without its value is None, one problem among others: argparse itself would stop there.
    """
    parser = _Parser(
        prog="loadband",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    group = parser.add_argument_group("settings")
    for d in DECLARATIONS:
        text = f"{d.help} {d.variable}: {d.parser.allowed}; default {d.shown_default}."
        group.add_argument(
            d.flag,
            dest=d.name,
            nargs=nargs,
            default=argparse.SUPPRESS,
            metavar=d.parser.metavar,
            help=text.replace("%", "%%"),
        )
    switches = parser.add_argument_group("instead of a run")
    switches.add_argument("--check", action="store_true", help="Print the settings and where each came from.")
    switches.add_argument("-h", "--help", action="store_true", help="Print this.")
    switches.add_argument("--version", action="store_true", help="Print the version.")
    return parser


def _positional(rest: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The five numbers by setting, or nothing; and what is wrong with all that is no known flag."""
    words = [word for word in rest if word != "--"]
    # A negative number is a bad number, not a flag.
    unknown = [word.partition("=")[0] for word in words if word.startswith("-") and not word[1:2].isdigit()]
    if unknown:
        # The other words may be an unknown flag's value, even a secret: say nothing of them.
        known = {d.name: d.flag for d in DECLARATIONS}
        names = [flag.strip("-").replace("-", "_").upper() for flag in unknown]
        return {}, [
            f"{_quoted(flag)}: unknown flag{_nearest(name, known)}" for flag, name in zip(unknown, names, strict=True)
        ]
    if words and len(words) != len(FIVE_NUMBERS):
        shown = _quoted(" ".join(words))
        return {}, [f"{shown}: must be five numbers, {' '.join(FIVE_NUMBERS)}, or none; {len(words)} were given"]
    return dict(zip(FIVE_NUMBERS, words, strict=True)) | {"CONTROLLER": "step"} if words else {}, []


def _chosen(
    d: Declaration, flags: Mapping[str, str | None], numbers: Mapping[str, str], environ: Mapping[str, str]
) -> Given:
    """The text that counts for a setting; for a secret, without regard to files."""
    if flag := not d.secret and (flags.get(d.name) or "").strip():
        return Given(d, flag, Origin.FLAG)
    if d.name in numbers:
        return Given(d, numbers[d.name], Origin.NUMBERS)
    if variable := environ.get(d.variable, "").strip():
        return Given(d, variable, Origin.VARIABLE)
    return Given(d, d.default, Origin.DEFAULT)


def secret(name: str, flag: str, file: str | None, environ: Mapping[str, str]) -> str | None:
    """The value of a secret setting alone, for a client.

    Args:
        name: the setting's.
        flag: the client's own flag for a file, as the user writes it.
        file: what was given with it.
        environ: the environment.

    Raises:
        SettingsError: where it is bad, or its file can't be read.
    """
    problems: list[str] = []
    declaration = next(d for d in DECLARATIONS if d.name == name)
    given = _from_file(_chosen(declaration, {}, {}, environ), flag, file, environ, problems)
    values, bad = _parsed({name: given})
    if problems or bad:
        raise SettingsError(problems + bad)
    return cast("str | None", values[declaration.field])


def _from_file(given: Given, flag: str, file: str | None, environ: Mapping[str, str], problems: list[str]) -> Given:
    """The secret that counts, which a file may hold; what is wrong with that file is added to the problems."""
    d = given.declaration
    named = (file or "").strip()
    place = flag if named else d.file_variable
    name = named or environ.get(d.file_variable, "").strip()
    if not name:
        return given
    said = f"{place}={_quoted(name)}"
    if not named and given.origin is Origin.VARIABLE:
        problems.append(f"{said} with {given}: give one of the two")
        return given
    try:
        with Path(name).open("rb") as opened:
            text = opened.read(_MAX_SECRET_BYTES).decode().strip()
    except OSError as error:
        problems.append(f"{said}: cannot be read: {error.strerror}")
    except ValueError:
        problems.append(f"{said}: cannot be read as text")
    else:
        return Given(d, text, Origin.FILE, said)
    return Given(d, None, Origin.FILE, said)


class _Texts(Env):
    """environs over the texts that were given, wherever they came from.

    environs knows `os.environ` only, where a flag is not. Its own `FileAwareEnv` overrides the same method. The other
    ways in are worse: what is put into its `_environ` loses against `os.environ`, and changing `os.environ` itself
    would change it for everybody.
    """

    def __init__(self, given: Mapping[str, Given]) -> None:
        super().__init__(eager=False)
        self._given = given
        self.add_parser("setting", _setting)

    def _get_value(self, env_key: str, default: object) -> Any:
        given = self._given.get(env_key)
        return default if given is None else given.text


def _setting(text: str, parser: Parser) -> object:
    """A parser for environs, which collects only errors of its own type."""
    try:
        return parser(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def _parsed(given: Mapping[str, Given]) -> tuple[dict[str, Any], list[str]]:
    """The values by field of `Settings`, None for the bad ones; and a line for each of these."""
    texts = _Texts(given)
    values = {
        g.declaration.field: None if g.text is None else texts.setting(name, parser=g.declaration.parser)
        for name, g in given.items()
    }
    try:
        texts.seal()
    except EnvValidationError as error:
        # It is a list where a single value was parsed eagerly.
        messages = cast("Mapping[str, list[str]]", error.error_messages)
        return values, [f"{given[name]}: {' '.join(said)}" for name, said in messages.items()]
    return values, []


def _unknown(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that has our prefix and is no setting."""
    known = {variable.removeprefix(PREFIX): variable for d in DECLARATIONS for variable in d.variables}
    return [
        f"{_quoted(variable)}: unknown variable, ignored{_nearest(variable.removeprefix(PREFIX), known)}"
        for variable in sorted(environ)
        if variable.startswith(PREFIX) and variable not in known.values() and not variable.startswith(_NOT_OURS)
    ]


def _without_effect(settings: Settings, given: Mapping[str, Given]) -> list[str]:
    """A line for each setting that was given and changes nothing."""
    reasons: dict[str, str] = {}
    if settings.controller is not Controller.STEP:
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


def _nearest(name: str, known: Mapping[str, str]) -> str:
    """The end of a sentence that offers what is known by a name most like this one.

    Names are compared without prefix and dashes, which would make any two of them alike.
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {known[near[0]]}?" if near else "; loadband --help lists them all"


def _quoted(text: str) -> str:
    """A text from outside on one line of bounded length, whatever is in it."""
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")
