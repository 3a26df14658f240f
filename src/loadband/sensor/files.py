"""Reads the kernel's files, and says in one sentence which one could not be read or understood."""

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
"""Bytes asked for at once: most files are read in one go, since for each read the kernel may make the text anew."""


class UnreadableError(Exception):
    """A file of the kernel could not be read or understood; the message is a sentence that names it."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What a file said, and the two clocks at that moment."""

    path: str
    at: float
    """Monotonic clock, seconds."""
    own: float
    """CPU-seconds of this whole process."""
    value: T
    """What the parser made of the text."""


def look(path: str, parse: Callable[[str], T]) -> Look[T]:
    """Read a file of the kernel whole, with the clocks as close to it as can be.

    The clocks are read between opening and reading: the kernel makes the text during the first read. Reading our own
    CPU time first also makes the kernel charge this thread's running time to our control group.

    Args:
        path: any file whose text ends in a newline, as the kernel's do.
        parse: makes the value of the text; raises ValueError where it cannot.

    Raises:
        UnreadableError: the file is missing, forbidden, cut off, or not understood.
    """
    try:
        return _look(path, parse)
    except FileNotFoundError as error:
        raise _unreadable(path, error) from error


def look_if_there(path: str, parse: Callable[[str], T]) -> T | None:
    """Read a file like `look`; None where there is none.

    Raises:
        UnreadableError: it is there, but forbidden, cut off, or not understood.
    """
    try:
        return _look(path, parse).value
    except FileNotFoundError:
        return None


def _look(path: str, parse: Callable[[str], T]) -> Look[T]:
    """Read a file like `look`, but for one that is missing.

    It is opened each time, since one that was put in its place is another; but without a file object, which costs as
    much as all the rest.
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


@functools.lru_cache(maxsize=4)  # it rarely changes
def parse_cpu_list(text: str) -> frozenset[int]:
    """The CPUs of a list such as `0-3,8`, the format of cpuset(7).

    Raises:
        ValueError: it is no such list, or an empty one.
    """
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        cpus.update(range(int(first), int(last if dash else first) + 1))
    if not cpus:
        raise ValueError(f"no CPUs in {text.strip()!r}")
    return frozenset(cpus)
