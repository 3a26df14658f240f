"""The command line of a run: a flag for each setting, the five numbers, and the help."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from loadband.sources import Declaration, SettingsError, nearest, quoted
from loadband.units import Choice

FIVE_NUMBERS = ("MIN", "MAX", "WORKERS", "STEP", "SLEEP_MS")
"""The settings that the ancestor took as positional numbers, in its order. The ancestor: the script that loadband
grew out of."""

_USAGE = f"""loadband [--SETTING VALUE ...] [--check]
       loadband {" ".join(FIVE_NUMBERS)}
       loadband profile FILE
       loadband set MIN MAX [--url URL] [--token-file FILE]
       loadband rebalance COMMAND ...
       loadband completion SHELL"""
_DESCRIPTION = f"""\
Holds a machine's CPU utilization inside a band and exports what it does to Prometheus.

Every setting is an environment variable and a flag that overrides it; an empty one counts as unset. The five numbers
{" ".join(FIVE_NUMBERS)} select the step law. `profile` shows what a profile will do; `set` changes the
band of a running loadband; `rebalance` tests whether a platform comes back to balance; `completion` makes a shell
complete all this. Each has a --help of its own."""
_EPILOG = """\
exit codes:
  0      ok, or the band was held for DURATION (in it for 95 % of the time after first reaching it)
  1      the band was not held for DURATION, or more than 5 % of that was not seen
  2      bad settings
  3      internal failure
  141    whoever read standard output has left, as in loadband | head -1
  128+n  signal n ended it before DURATION was over (unless ON_END=idle), or was the second one

examples:
  loadband                                    hold 60..70 % of this machine until Ctrl-C
  loadband --min 40 --max 50% --duration 10m  then exit with 0 if the band was held
  LOADBAND_SCOPE=container loadband --check   show the settings and where each came from
  loadband --effort 250m                      burn a quarter of a CPU, whatever else runs
  loadband 60 70 10 2 10                      the step law: 10 threads, 2 at a time, sleeping 10 ms"""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The words of a command line, sorted; nothing is parsed yet."""

    flags: Mapping[str, str | None]
    """The text of each flag by the name of its setting; None for a flag without its value."""
    numbers: Mapping[str, str]
    """What the five numbers mean, by setting; empty without them."""
    problems: tuple[str, ...]
    """What is wrong with the rest, one line each."""
    check: bool
    help: bool
    version: bool


def parse(argv: Sequence[str], declarations: Sequence[Declaration]) -> CommandLine:
    """Sort the words of a command line (without the program's name).

    Raises:
        SettingsError: if argparse itself can't go on, as with a value for a switch.
    """
    namespace, rest = _parser(declarations, nargs="?").parse_known_args(argv)
    flags: dict[str, str | None] = {d.name: getattr(namespace, d.name) for d in declarations if d.name in namespace}
    numbers, problems = _positional(rest, declarations)
    problems += [
        f"{d.flag}: has no value; must be {'the name of a file' if d.secret else d.parser.allowed}"
        for d in declarations
        if d.name in flags and flags[d.name] is None
    ]
    return CommandLine(flags, numbers, tuple(problems), namespace.check, namespace.help, namespace.version)


def help_text(declarations: Sequence[Declaration]) -> str:
    """Usage, every setting with unit, range, default and variable, exit codes and examples."""
    return parser(declarations).format_help()


def parser(declarations: Sequence[Declaration]) -> argparse.ArgumentParser:
    """A parser that knows the flags of a run, their placeholders and their words: for those who describe them."""
    return _parser(declarations, nargs=None)


class _Parser(argparse.ArgumentParser):
    """argparse with errors in the form of all others. Only a value for a switch, as in --check=yes, is left to it."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError([f"{message}; loadband --help explains the flags"])


def _parser(declarations: Sequence[Declaration], *, nargs: str | None) -> _Parser:
    """The flags; each takes a text.

    With nargs="?" a flag without its value is None, which is one problem among others: argparse itself would stop.
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
    for d in declarations:
        text = f"{d.help} {d.variable}: {d.parser.allowed}; default {d.shown_default}."
        group.add_argument(
            d.flag,
            dest=d.name,
            nargs=nargs,
            default=argparse.SUPPRESS,
            metavar=d.parser.metavar,
            # Known to those who describe the flag; a run leaves its value to d.parser, which also knows upper case.
            choices=list(d.parser.words) if nargs is None and isinstance(d.parser, Choice) else None,
            help=text.replace("%", "%%"),
        )
    switches = parser.add_argument_group("instead of a run")
    switches.add_argument("--check", action="store_true", help="Print the settings and where each comes from.")
    switches.add_argument("-h", "--help", action="store_true", help="Print this help.")
    switches.add_argument("--version", action="store_true", help="Print the version.")
    return parser


def _positional(rest: Sequence[str], declarations: Sequence[Declaration]) -> tuple[dict[str, str], list[str]]:
    """The five numbers by setting, if they are there, and what is wrong with words that aren't known flags."""
    words = [word for word in rest if word != "--"]
    # A negative number is a bad number, not a flag.
    unknown = [word.partition("=")[0] for word in words if word.startswith("-") and not word[1:2].isdigit()]
    if unknown:
        # The other words may be the values of unknown flags, even secrets: don't repeat them.
        known = {d.name: d.flag for d in declarations}
        names = [flag.strip("-").replace("-", "_").upper() for flag in unknown]
        return {}, [
            f"{quoted(flag)}: unknown flag{nearest(name, known)}" for flag, name in zip(unknown, names, strict=True)
        ]
    if not words:
        return {}, []
    if len(words) != len(FIVE_NUMBERS):
        shown = quoted(" ".join(words))
        return {}, [f"{shown}: must be five numbers, {' '.join(FIVE_NUMBERS)}, or none; {len(words)} were given"]
    return dict(zip(FIVE_NUMBERS, words, strict=True)) | {"CONTROLLER": "step"}, []
