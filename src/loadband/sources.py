"""Where the value of a setting comes from: a flag, the five numbers, an environment variable, a file, or its default.

A setting is one `Declaration`; `find` gives the text that counts for it, and remembers its origin for `--check` and
for messages. Texts are parsed elsewhere, all in the same way, whatever their origin.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadband.units import Parser

PREFIX = "LOADBAND_"
"""Of all environment variables."""
_MAX_SECRET_BYTES = 4096
_MAX_SHOWN = 60


class SettingsError(Exception):
    """Everything wrong with the settings, one line each: the origin, the value (never a secret), what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Declaration:
    """Everything about one setting."""

    name: str
    """Without the prefix."""
    default: str | None
    """As the user would write it: it is parsed like any other text. None: the value is None."""
    parser: Parser
    help: str
    instead: str = "none"
    """What `--help` and `--check` show for a default of None."""
    secret: bool = False
    """Never shown. Its flag names a file, because everybody on the machine can read a command line."""

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
        """For a secret: the environment variable that names a file with the value."""
        return f"{self.variable}_FILE"

    @property
    def variables(self) -> tuple[str, ...]:
        """All its environment variables."""
        return (self.variable, self.file_variable) if self.secret else (self.variable,)

    @property
    def field(self) -> str:
        """Its field in `Settings`, which has no unit in its name: times are seconds there."""
        return self.name.lower().removesuffix("_ms")

    @property
    def shown_default(self) -> str:
        """The default, for people."""
        return self.instead if self.default is None else self.default


class Origin(enum.StrEnum):
    """Where a value came from."""

    DEFAULT = "default"
    VARIABLE = "environment variable"
    NUMBERS = "five numbers"
    FLAG = "flag"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Given:
    """The text that counts for a setting, and where it came from."""

    declaration: Declaration
    text: str | None
    """None if there is a default of None, or a `problem`."""
    origin: Origin
    file: str = ""
    """The flag or variable that names the file, and the file, if the text comes from one."""
    problem: str = ""
    """Why there is no text, as a line; empty if nothing is wrong."""

    @property
    def shown(self) -> str:
        """The text, for people; never that of a secret."""
        if self.text is None:
            return self.declaration.instead
        return "(secret)" if self.declaration.secret else self.text

    def __str__(self) -> str:
        """Origin and text on one line: `LOADBAND_MIN='5x'`."""
        if self.file:
            return self.file
        name = self.declaration.variable
        if self.origin is Origin.FLAG:
            name = self.declaration.flag
        elif self.origin is Origin.NUMBERS:
            name = f"five numbers, {self.declaration.name}"
        default = " (default)" if self.origin is Origin.DEFAULT else ""
        return f"{name}={quoted(self.shown)}{default}"


def find(
    declaration: Declaration, environ: Mapping[str, str], flag: str | None = None, number: str | None = None
) -> Given:
    """The text that counts for a setting: that of the flag, else the number, the variable, the default.

    An empty text counts as none.

    Args:
        declaration: the setting's.
        environ: the environment.
        flag: the text of its flag, None without; for a secret, the name of a file.
        number: its text among the five numbers, None without.
    """
    if declaration.secret:
        return find_secret(declaration, environ, flag, declaration.flag)
    if flag and (text := flag.strip()):
        return Given(declaration, text, Origin.FLAG)
    if number is not None:
        return Given(declaration, number, Origin.NUMBERS)
    return _variable(declaration, environ)


def find_secret(declaration: Declaration, environ: Mapping[str, str], file: str | None, flag: str) -> Given:
    """The text that counts for a secret: that in the flag's file, else that of the variable or in its file.

    A variable beside a variable that names a file, and a file that can't be read, are a `Given.problem`.

    Args:
        declaration: the secret's.
        environ: the environment.
        file: the name given with the flag, None without.
        flag: the flag that names the file, as the user writes it.
    """
    by_flag, by_variable = (file or "").strip(), environ.get(declaration.file_variable, "").strip()
    given = _variable(declaration, environ)
    if by_flag:
        return _in_file(declaration, by_flag, f"{flag}={quoted(by_flag)}")
    if not by_variable:
        return given
    named = f"{declaration.file_variable}={quoted(by_variable)}"
    if given.origin is Origin.VARIABLE:
        return Given(declaration, None, Origin.FILE, named, f"{named} with {given}: give one of the two")
    return _in_file(declaration, by_variable, named, quotes(by_variable))


def _variable(declaration: Declaration, environ: Mapping[str, str]) -> Given:
    if text := environ.get(declaration.variable, "").strip():
        return Given(declaration, text, Origin.VARIABLE)
    return Given(declaration, declaration.default, Origin.DEFAULT)


def _in_file(declaration: Declaration, file: str, named: str, hint: str = "") -> Given:
    try:
        with Path(file).open("rb") as opened:
            # Some editors begin with a byte order mark.
            text = opened.read(_MAX_SECRET_BYTES).decode("utf-8-sig").strip()
    except OSError as error:
        return Given(declaration, None, Origin.FILE, named, f"{named}: cannot be read: {error.strerror}{hint}")
    except ValueError:
        return Given(declaration, None, Origin.FILE, named, f"{named}: cannot be read as text")
    return Given(declaration, text, Origin.FILE, named)


def quotes(text: str) -> str:
    """The end of a message about a variable whose text is in quotes, which no setting allows; else empty."""
    kept = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return "; leave out the quotes around it, which docker's --env-file keeps" if kept else ""


def nearest(name: str, known: Mapping[str, str]) -> str:
    """The end of a message about an unknown name, which offers the most similar known one.

    Args:
        name: the unknown one, without prefix and dashes, which would make any two names alike.
        known: by such a name, how the user writes it.
    """
    import difflib  # noqa: PLC0415 - for a message only

    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {known[near[0]]}?" if near else "; loadband --help lists them all"


def quoted(text: str) -> str:
    """A text from outside, for a message: one line of bounded length, whatever is in it."""
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")
