"""Reads the kernel's files, and says in one sentence which one could not be read or understood."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


class UnreadableError(Exception):
    """A file of the kernel could not be read or understood; the message is a sentence that names it."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What a file said, and the two clocks at that moment."""

    path: Path
    at: float
    """Monotonic clock, seconds."""
    own: float
    """CPU-seconds of this whole process."""
    value: T
    """What the parser made of the text."""


def look(path: Path, parse: Callable[[str], T]) -> Look[T]:
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
        with path.open("rb", buffering=0) as file:
            own = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
            at = time.monotonic()
            text = file.read().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from error
    if not text.endswith("\n"):
        raise UnreadableError(f"{path} is empty or cut off")
    try:
        return Look(path, at, own, parse(text))
    except ValueError as error:
        raise UnreadableError(f"{path} cannot be understood: {error}") from error


def look_if_there(path: Path, parse: Callable[[str], T]) -> T | None:
    """Read a file like `look`; None where there is none.

    Raises:
        UnreadableError: it is there, but forbidden, cut off, or not understood.
    """
    try:
        return look(path, parse).value
    except UnreadableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


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
