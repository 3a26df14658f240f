"""TOML documents that people write: tables whose keys are taken one by one, and every mistake reported with its line.

A reader of a document takes each key that it knows, with a parser for the value:

    top = document.parse(text, "day.toml", "the profile")
    width = top.take("width", number(WIDTH), 0.1)
    for phase in top.tables("phase", most=64):
        ...
    top.check()

Bad values, missing keys and unknown keys don't stop it: they are collected, and `check` raises them all at once. A
value parser takes what TOML holds and raises ValueError with a sentence such as "must be ...".
"""

from __future__ import annotations

import difflib
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from loadband.units import Number, listed

MAX_PROBLEMS = 20
"""Reported at once; a broken document can have thousands."""
MAX_SHOWN = 60
"""Characters of a value in a message."""
Place = tuple[str | int, ...]
"""Keys and indices (from 0) that lead from the top of a document to a value."""

_T = TypeVar("_T")
_D = TypeVar("_D")
_W = TypeVar("_W", bound=str)


class _Missing(Enum):
    MISSING = 0


_MISSING = _Missing.MISSING


class DocumentError(Exception):
    """Everything wrong with a document, one line each: file, line, what is there, what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read_text(path: Path, most: int) -> str:
    """The text of a UTF-8 file.

    Args:
        path: a regular file.
        most: bytes that it may have.

    Raises:
        OSError: if it can't be read.
        ValueError: if it isn't a regular file, is too long or isn't UTF-8; the message is a sentence without a name.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it isn't a regular file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} isn't UTF-8") from error


def parse(text: str, file: str, subject: str) -> Table:
    """The top table of a document.

    Args:
        text: TOML; a byte order mark before it is ignored.
        file: its name, for the messages.
        subject: what the document is, as the subject of a sentence: `the profile`.

    Raises:
        DocumentError: if the text isn't TOML.
    """
    text = text.removeprefix("\ufeff")
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise DocumentError([f"{file}: nested too deeply"]) from None
    except ValueError as error:
        raise DocumentError([_syntax_error(text, file, str(error))]) from error
    return Table(values, (), subject, _Problems(file, _lines(text)))


_AT = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.DOTALL)


def _syntax_error(text: str, file: str, message: str) -> str:
    """The line for a text that isn't TOML; tomllib's message names the place at its end."""
    match = _AT.match(message)
    if match is None:
        return f"{file}: {message}"
    place = f"{match['line']}:{match['column']}" if match["line"] else str(text.rstrip().count("\n") + 1)
    return f"{file}:{place}: {match['what']}"


class _Problems:
    """Collects what is wrong, with its line."""

    def __init__(self, file: str, lines: Mapping[Place, int]) -> None:
        self._file = file
        self._lines = lines
        self._found: list[tuple[int, str]] = []

    def add(self, place: Place, subject: str, sentence: str) -> None:
        """Report the value at a place, or what is missing there."""
        # Inside an inline table, and for what is missing, the nearest line is that of what it stands in.
        line = next((self._lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self._lines), 1)
        self._found.append((line, f"{self._file}:{line}: {subject}: {sentence}"))

    def check(self) -> None:
        """Raise everything that was reported, in the order of the lines.

        Raises:
            DocumentError: if there is any.
        """
        if self._found:
            told = [sentence for _, sentence in sorted(self._found, key=lambda found: found[0])]
            more = [f"{self._file}: and {len(told) - MAX_PROBLEMS} more"] if len(told) > MAX_PROBLEMS else []
            raise DocumentError(told[:MAX_PROBLEMS] + more)


class Table:
    """A table of a document, of which each key is taken once; `parse` makes the first.

    Args:
        values: what TOML holds.
        place: where in the document.
        subject: its name in messages.
        problems: those of the whole document.
    """

    def __init__(self, values: Mapping[str, Any], place: Place, subject: str, problems: _Problems) -> None:
        self._values = values
        self._place = place
        self._subject = subject
        self._problems = problems
        self._known: list[str] = []
        self._bad: set[str] = set()
        self._inner: list[Table] = []
        self._any_key = False

    def __contains__(self, key: str) -> bool:
        """Whether the table has that key, good or bad."""
        return key in self._values

    @overload
    def take(self, key: str, parser: Callable[[Any], _T]) -> _T | None: ...
    @overload
    def take(self, key: str, parser: Callable[[Any], _T], default: _D) -> _T | _D: ...
    def take(
        self, key: str, parser: Callable[[Any], _T], default: _D | Literal[_Missing.MISSING] = _MISSING
    ) -> _T | _D | None:
        """The value of a key.

        A bad value is reported and becomes the default, so that the reader can go on; `check` refuses the document.

        Args:
            key: which.
            parser: turns what TOML holds into a value, or raises ValueError with a sentence.
            default: the value if the key is missing. Without one, a missing key is reported, and a missing or bad
                value is None.
        """
        self._known.append(key)
        if key not in self._values:
            if default is _MISSING:
                self._bad.add(key)
                self._problems.add(self._place, self._subject, f"{key} is missing")
        else:
            try:
                return parser(self._values[key])
            except ValueError as error:
                self.refuse(key, str(error))
        return None if default is _MISSING else default

    def table(self, key: str) -> Table:
        """The table under a key; an empty one if the key is missing, or isn't a table, which is reported."""
        values = self.take(key, _table, {})
        return self._inside(values, (*self._place, key), key)

    def tables(self, key: str, *, least: int = 1, most: int) -> tuple[Table, ...]:
        """The tables of an array, each under `[[key]]`.

        Args:
            key: which.
            least: tables that must be there.
            most: tables that may be there.

        Returns:
            None of them if there are too many, too few, or something else, which is reported.
        """
        header = ".".join(str(name) for name in (*self._place, key) if isinstance(name, str))

        def read(value: Any) -> Sequence[Mapping[str, Any]]:
            if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
                raise ValueError(f"must be tables, each under [[{header}]]")
            if not least <= len(value) <= most:
                raise ValueError(f"must be {least}..{most} tables, each under [[{header}]]; there are {len(value)}")
            return value

        found = self.take(key, read) if least else self.take(key, read, ())
        return tuple(
            self._inside(values, (*self._place, key, index), f"{key} {index + 1}")
            for index, values in enumerate(found or ())
        )

    def _inside(self, values: Mapping[str, Any], place: Place, name: str) -> Table:
        inner = Table(values, place, f"{self._subject}, {name}" if self._place else name, self._problems)
        self._inner.append(inner)
        return inner

    def refuse(self, key: str, sentence: str) -> None:
        """Report the value of a key, for a reason that its parser can't know: `must be less than high`."""
        self._bad.add(key)
        subject = f"{key} = {_shown(self._values[key])}" if key in self._values else key
        self._problems.add((*self._place, key), f"{self._subject}, {subject}" if self._place else subject, sentence)

    def good(self, *keys: str) -> bool:
        """Whether nothing was reported for these keys: only then is it worth comparing their values."""
        return self._bad.isdisjoint(keys)

    def allow_any_key(self) -> None:
        """Don't report the keys that nobody takes: the one that says which are known is itself bad."""
        self._any_key = True

    def check(self) -> None:
        """Report every key that nobody took, here and in the tables inside, and raise all that was reported.

        Raises:
            DocumentError: if anything is wrong with the document.
        """
        self._report_unknown()
        self._problems.check()

    def _report_unknown(self) -> None:
        for key in self._values:
            if key not in self._known and not self._any_key:
                near = difflib.get_close_matches(key, self._known, n=1)
                known = f"known are {', '.join(self._known)}" if self._known else "there is none"
                hint = f"did you mean {near[0]}?" if near else known
                self._problems.add((*self._place, key), self._subject, f"unknown key {_shown(key)}; {hint}")
        for inner in self._inner:
            inner._report_unknown()  # noqa: SLF001 - another of this class


def number(parser: Number) -> Callable[[Any], float]:
    """A value parser for a number, or a text with a number and its unit; gives what the `Number` does."""

    def read(value: Any) -> float:
        written = isinstance(value, str | int | float) and not isinstance(value, bool)
        return parser(str(value).strip() if written else "")

    return read


def one_of(*words: _W) -> Callable[[Any], _W]:
    """A value parser for one of some words, or of the members of a StrEnum: `one_of(*Kind)`."""

    def read(value: Any) -> _W:
        for word in words:
            if word == value:
                return word
        raise ValueError(f"must be {listed(*words)}")

    return read


def text(most: int) -> Callable[[Any], str]:
    """A value parser for a printable text of 1 to so many characters."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ValueError("must be a text of printable characters")
        if len(value) > most:
            raise ValueError(f"must have at most {most} characters")
        return value

    return read


def moment(value: Any) -> float:
    """A value parser for a date and time with an offset; gives seconds since the epoch."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a date and time with an offset, as 2026-01-31T00:00:00Z, without quotes")
    return value.timestamp()


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be a table")  # noqa: TRY004 - value parsers raise ValueError
    return value


def _shown(value: Any) -> str:
    """A value as TOML writes it, about; on one line of bounded length."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):
        return value.isoformat()
    try:
        shown = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "(a number)"
    return shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + "..."


_PIECE = re.compile(
    r"""
    (?P<string> \"{3} (?:\\.|[^\\])*? \"{3,5} | '{3} .*? '{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
    | (?P<mark> [\[\]{}=\n] )
    | (?P<word> [^\s\[\]{}=.,"'#]+ )
    | \#[^\n]*
    """,
    re.VERBOSE | re.DOTALL,
)


def _lines(text: str) -> dict[Place, int]:
    """The lines (from 1) of all table headers and of all keys outside of inline tables.

    tomllib gives no places, and this needn't parse: the text is known to be TOML.

    Args:
        text: valid TOML.
    """
    lines: dict[Place, int] = {}
    lengths: dict[Place, int] = {}
    table: Place = ()
    for line, pieces in _statements(text):
        if pieces[0] == "[":
            *names, last = _keys(pieces)
            table = (*_resolved((), names, lengths), last)
            if pieces[1] == "[":
                lengths[table] = lengths.get(table, 0) + 1
            table = _resolved(table[:-1], [last], lengths)
            place = table
        else:
            place = _resolved(table, _keys(pieces[: pieces.index("=")]), {})
        for end in range(1, len(place) + 1):
            lines.setdefault(place[:end], line)
    return lines


def _resolved(start: Place, names: Sequence[str], lengths: Mapping[Place, int]) -> Place:
    """The place that a dotted key names: in an array of tables, that is the last table so far."""
    place = start
    for name in names:
        place = (*place, name)
        if place in lengths:
            place = (*place, lengths[place] - 1)
    return place


def _keys(pieces: Sequence[str]) -> list[str]:
    """The names of a dotted key or a table's header."""
    names = (piece for piece in pieces if piece not in {"[", "]"})
    return [next(iter(tomllib.loads(f"{name} = 0"))) if name[0] in "\"'" else name for name in names]


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """The pieces of each statement, with the line that it begins on: brackets and strings may span lines."""
    line, began, depth = 1, 1, 0
    pieces: list[str] = []
    for match in _PIECE.finditer(text.replace("\r\n", "\n") + "\n"):
        piece = match[0]
        if piece == "\n" and not depth:
            if pieces:
                yield began, pieces
            pieces = []
        elif piece != "\n" and match.lastgroup:
            began = began if pieces else line
            pieces.append(piece)
            depth += (piece in {"[", "{"}) - (piece in {"]", "}"})
        line += piece.count("\n")
