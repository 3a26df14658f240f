"""The exit codes of every command."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """An exit code; 128 + n instead, if signal n ended it at once, or before DURATION was over."""

    OK = 0
    NOT_ACHIEVED = 1
    """The command ran, but its aim was missed: the band wasn't held, wasn't changed, or a run is FAIL."""
    BAD_INPUT = 2
    """Settings, arguments or files are wrong; nothing was done. argparse has the same code."""
    FAILED = 3
    """Something inside failed: a thread, the output, or the end itself."""
    INVALID = 4
    """A rebalance run proves nothing: something spoiled it."""
    READER_LEFT = 141
    """Whoever read standard output has left: what a shell reports for programs that SIGPIPE ends (128 + 13)."""
