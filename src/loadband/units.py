"""How people write values: numbers with units, words, addresses, file names and tokens.

Each parser is a value that turns one text into what the program calculates with: ratios, seconds, CPUs. It describes
itself, so that `--help` and every message name the same range. All of them raise ValueError with one sentence.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit


class Parser(Protocol):
    """Turns a text into a value."""

    @property
    def metavar(self) -> str:
        """The placeholder for the value in `--help`."""
        ...

    @property
    def allowed(self) -> str:
        """What a text must be, with range and unit; completes "must be ..."."""
        ...

    def __call__(self, text: str) -> object:
        """The value.

        Raises:
            ValueError: if the text isn't allowed; the message says what is.
        """
        ...


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that people write after a number."""

    name: str
    factors: Mapping[str, str]
    """By suffix: the value of one of it, as a decimal, so that 57 % is 0.57 and not 0.5700000000000001."""
    example: str = ""
    """How a value may be written; completes "written as ..."."""


PERCENT = Unit("percent", {"": "0.01", "%": "0.01"}, "60 or 60%")
"""Parsed as a ratio."""
TIME = Unit("time", {"": "1", "ms": "0.001", "s": "1", "m": "60", "h": "3600"}, "500ms, 1.5s, 2m or 1h; 10 is 10s")
"""Parsed as seconds."""
MILLISECONDS = Unit("milliseconds", {"": "0.001"})
"""Parsed as seconds."""
CPUS = Unit("CPUs", {"": "1", "m": "0.001"}, "1.5 or 250m")
THREADS = Unit("threads", {"": "1"})
NICENESS = Unit("niceness", {"": "1"})

# The limit on digits keeps absurd texts out of the arithmetic; every range is far inside it.
_NUMBER = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?P<suffix>[a-z%]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Number:
    """A decimal number with a unit's suffix."""

    unit: Unit
    low: str
    """The least value allowed, written like the value itself."""
    high: str
    """The greatest value allowed, likewise."""
    whole: bool = False

    @property
    def metavar(self) -> str:
        """The unit's name."""
        return self.unit.name.upper()

    @property
    def allowed(self) -> str:
        """Range, unit and examples."""
        number = "a whole number " if self.whole else ""
        example = f", written as {self.unit.example}" if self.unit.example else ""
        return f"{number}{self.low}..{self.high} ({self.unit.name}){example}"

    def __call__(self, text: str) -> float:
        """The number in the program's unit; an int if it must be whole.

        Raises:
            ValueError: if the text isn't such a number, or is outside the range.
        """
        value, low, high = (self._scaled(written) for written in (text, self.low, self.high))
        assert low is not None, "the lower bound isn't a number of its unit"  # noqa: S101 - a mistake in a declaration
        assert high is not None, "the upper bound isn't a number of its unit"  # noqa: S101 - likewise
        if value is None or not low <= value <= high or (self.whole and value % 1):
            raise ValueError(f"must be {self.allowed}")
        return int(value) if self.whole else float(value)

    def _scaled(self, text: str) -> Decimal | None:
        match = _NUMBER.fullmatch(text)
        if match is None or match["suffix"] not in self.unit.factors:
            return None
        return Decimal(match["number"]) * Decimal(self.unit.factors[match["suffix"]])


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of an enumeration, in lower or upper case."""

    words: type[enum.StrEnum]

    @property
    def metavar(self) -> str:
        """WORD; `allowed` lists the words."""
        return "WORD"

    @property
    def allowed(self) -> str:
        """The words."""
        return listed(*self.words)

    def __call__(self, text: str) -> enum.StrEnum:
        """The member of the enumeration.

        Raises:
            ValueError: if the text isn't one of the words.
        """
        try:
            return self.words(text.lower())
        except ValueError:
            raise ValueError(f"must be {self.allowed}") from None


def listed(*words: str) -> str:
    """Words as the end of a sentence: `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


@dataclass(frozen=True, slots=True)
class Listen:
    """An address that a server listens on."""

    host: str
    """A name or an address; an IPv6 address without its brackets."""
    port: int
    """0..65535; 0 lets the kernel choose."""

    def __str__(self) -> str:
        """As people write it: `host:port` or `[::]:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# RFC 1123: the last label isn't a number, so 300.1.1.1 is a bad address and not a strange host name.
_HOST_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}", re.ASCII)
_LAST_PORT = 65535


class Address:
    """An address to listen on, or `off`."""

    metavar = "ADDRESS"
    allowed = f"host:port or [::]:port with a port of 0..{_LAST_PORT} (0: any free one), or off"

    def __call__(self, text: str) -> Listen | None:
        """Host and port, None for `off`.

        Raises:
            ValueError: if the text is neither.
        """
        if text.lower() == "off":
            return None
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match["port"]) > _LAST_PORT or not self._is_host(match["host"], match["v6"]):
            raise ValueError(f"must be {self.allowed}")
        return Listen(match["host"] or match["v6"], int(match["port"]))

    @staticmethod
    def _is_host(host: str | None, v6: str | None) -> bool:
        try:
            ipaddress.IPv4Address(host) if v6 is None else ipaddress.IPv6Address(v6)
        except ValueError:
            return host is not None and _HOST_NAME.fullmatch(host) is not None
        return True


class TomlFile:
    """The name of a TOML file. Whether the file is good shows when it is read."""

    metavar = "FILE"
    allowed = "the name of a file that ends in .toml"

    def __call__(self, text: str) -> Path:
        """The path.

        Raises:
            ValueError: if the name ends differently or has unprintable characters.
        """
        if not text.endswith(".toml") or not text.isprintable():
            raise ValueError(f"must be {self.allowed}")
        return Path(text)


class Url:
    """Where a server is, over HTTP."""

    metavar = "URL"
    allowed = "http://host:port or https://host, and a path if it has one; no user, no ? and no #"

    def __call__(self, text: str) -> str:
        """The URL, without a slash at its end.

        Raises:
            ValueError: if the text isn't one.
        """
        try:
            parts = urlsplit(text)
            good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:  # a port or an IPv6 address that is none
            good = False
        if not good or parts.scheme not in {"http", "https"} or not text.isprintable() or set(text) & set("@?# "):
            raise ValueError(f"must be {self.allowed}")
        return text.rstrip("/")


_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token (RFC 6750): by default one that is too long to guess."""

    least: int = 16
    """Characters."""
    most: int = 512

    @property
    def metavar(self) -> str:
        """FILE: a flag names the file."""
        return "FILE"

    @property
    def allowed(self) -> str:
        """Length and characters."""
        return f"{self.least}..{self.most} of the characters A-Z a-z 0-9 - . _ ~ + / and then = as padding"

    def __call__(self, text: str) -> str:
        """The token.

        Raises:
            ValueError: if the text isn't one; the message doesn't repeat the text.
        """
        if not _TOKEN.fullmatch(text) or not self.least <= len(text.rstrip("=")) <= self.most:
            raise ValueError(f"must be {self.allowed}")
        return text
