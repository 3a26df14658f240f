"""What every command shares: its arguments, and its words on standard output and standard error.

Output that can't be written is a failure with one sentence, and a reader that has left is none: the command ends
quietly, as programs do that SIGPIPE ends. argparse handles such errors differently from one Python to the next (it
raises up to 3.11 and ignores them later), so nothing is printed by argparse itself.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import NoReturn, TextIO

from loadband.exits import Exit


def show(text: str) -> Exit:
    """Write what the user asked for to standard output.

    Args:
        text: with its final line end.

    Returns:
        The command's exit code: OK, READER_LEFT, or FAILED after a sentence on standard error.
    """
    try:
        _write(sys.stdout, text)
    except BrokenPipeError:
        return Exit.READER_LEFT
    except OSError as error:
        say(f"loadband: cannot write to standard output: {error.strerror}")
        return Exit.FAILED
    return Exit.OK


def say(lines: str) -> None:
    """Write something for people to standard error. That nobody can read it changes nothing."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, f"{lines}\n")


def _write(stream: TextIO | None, text: str) -> None:
    """Write and flush; if that fails, the stream leads nowhere from then on.

    Otherwise its buffer would fail again when the interpreter ends, with a message and an exit code of its own.

    Args:
        stream: None, as Python has it, if the program was started with the stream closed: nobody wants the text.
        text: what to write.
    """
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        raise


class ArgumentParser(argparse.ArgumentParser):
    """argparse with the output and the exit codes of all commands."""

    def print_help(self, file: object = None) -> NoReturn:  # noqa: ARG002 - standard output is what a help is for
        """Show the help and end.

        Raises:
            SystemExit: always.
        """
        raise SystemExit(show(self.format_help()))

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments and end.

        Raises:
            SystemExit: always.
        """
        say(f"{self.prog}: error: {message}; {self.prog} --help explains the arguments")
        raise SystemExit(Exit.BAD_INPUT)
