"""What a test says of what it measured."""

from __future__ import annotations

from typing import Protocol


class Said(Protocol):
    """Prints what was asked and what was measured; raises nothing."""

    def __call__(self, what: str, asked: str, measured: str) -> None: ...
