"""Reads the kernel's files; one sentence says which of them couldn't be read or understood."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_CHUNK = 1 << 15
"""Bytes per read: enough to read most files at once, since the kernel may generate the text again for each read."""

_SHOWN = 40
"""Characters of a wrong text that a message repeats."""


class UnreadableError(Exception):
    """A file of the kernel couldn't be read or understood; the message is a sentence that names it."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """The value of a file, and two clocks at that moment."""

    path: str
    at: float
    """Monotonic clock, seconds."""
    own: float
    """CPU-seconds of this whole process."""
    value: T
    """What the parser returned for the text."""


def look(path: str, parse: Callable[[str], T]) -> Look[T]:
    """Read a whole file of the kernel, with the clocks as close to it as possible.

    The clocks are read between opening and reading: the kernel generates the text during the first read. Reading the
    process's CPU time first also makes the kernel charge this thread's running time to the control group.

    Args:
        path: a file whose text ends in a newline, as all those of the kernel do.
        parse: turns the text into a value; raises ValueError if it can't.

    Raises:
        UnreadableError: if the file is missing, forbidden, cut off, or not understood.
    """
    try:
        return _look(path, parse)
    except FileNotFoundError as error:
        raise _unreadable(path, error) from error


def look_if_there(path: str, parse: Callable[[str], T]) -> T | None:
    """Read a file like `look`; None if it doesn't exist.

    Raises:
        UnreadableError: if it exists, but is forbidden, cut off, or not understood.
    """
    try:
        return _look(path, parse).value
    except FileNotFoundError:
        return None


def _look(path: str, parse: Callable[[str], T]) -> Look[T]:
    """Read a file like `look`, but let FileNotFoundError through.

    The file is opened every time, because another one may have taken its place; but without a file object, which costs
    as much as all the rest.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            own = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
            at = time.monotonic()
            data = os.read(descriptor, _CHUNK)
            while more := os.read(descriptor, _CHUNK):
                data += more
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    text = data.decode("utf-8", "surrogateescape")
    if not text.endswith("\n"):
        raise UnreadableError(f"{path} is empty or cut off")
    try:
        return Look(path, at, own, parse(text))
    except ValueError as error:
        raise UnreadableError(f"{path} cannot be understood: {error}") from error


def _unreadable(path: str, error: OSError) -> UnreadableError:
    return UnreadableError(f"{path} cannot be read: {error.strerror}")


def whole_number(text: str) -> int:
    """A whole number, as the kernel writes it.

    Raises:
        ValueError: if it isn't one; unlike that of `int`, the message is for people.
    """
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text.strip()[:_SHOWN]!r} isn't a whole number") from None


@functools.lru_cache(maxsize=4)  # it rarely changes
def parse_cpu_list(text: str) -> frozenset[int]:
    """The CPUs of a list such as `0-3,8`, the format of cpuset(7).

    Raises:
        ValueError: if it isn't such a list, or an empty one.
    """
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        cpus.update(range(whole_number(first), whole_number(last if dash else first) + 1))
    if not cpus:
        raise ValueError(f"no CPUs in {text.strip()!r}")
    return frozenset(cpus)
