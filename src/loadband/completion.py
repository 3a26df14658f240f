"""`loadband completion SHELL`: a script that completes loadband's words, made from the parsers that read them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import shtab

from loadband import flags, preview, set_band
from loadband.commands import ArgumentParser, show
from loadband.exits import Exit
from loadband.rebalance import cli as rebalance
from loadband.settings import DECLARATIONS

SHELLS = ("bash", "zsh", "fish")
_FILES = {"FILE": shtab.FILE, "SCENARIO": shtab.FILE, "DIR": shtab.DIRECTORY}
"""By placeholder in the help: what may stand there."""


def main(words: Sequence[str]) -> Exit:
    """Run with the words after `loadband completion`: print the script for a shell.

    Args:
        words: the name of the shell.
    """
    return show(script(parser().parse_args(words).shell) + "\n")


def parser() -> ArgumentParser:
    """The arguments of `loadband completion`."""
    arguments = ArgumentParser(
        prog="loadband completion",
        description="Prints a script that makes a shell complete the commands, flags and words of loadband.",
        epilog='For this shell only: eval "$(loadband completion bash)", the same with zsh, or '
        "loadband completion fish | source. docs/install.md says how to keep it.",
    )
    arguments.add_argument("shell", choices=SHELLS, help="Which shell.")
    return arguments


def script(shell: str) -> str:
    """The script for a shell.

    Args:
        shell: one of `SHELLS`.
    """
    return shtab.complete(whole(), shell)


def whole() -> argparse.ArgumentParser:
    """All commands as one parser. It describes them and parses nothing: a run also takes five numbers."""
    root = flags.parser(DECLARATIONS)
    _mark_files(root)
    commands = root.add_subparsers(prog="loadband")
    _add(commands, "profile", preview.parser())
    _add(commands, "set", set_band.parser())
    _add(commands, "completion", parser())
    nested = commands.add_parser(
        "rebalance", help="Tests whether a platform comes back to balance.", add_help=False
    ).add_subparsers(prog="loadband rebalance")
    for name, described in rebalance.parsers().items():
        _add(nested, name, described or argparse.ArgumentParser())
    return root


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, one: argparse.ArgumentParser
) -> None:
    """Add a command with the arguments of its own parser."""
    _mark_files(one)
    text = one.description or name
    commands.add_parser(name, parents=[one], add_help=False, description=text, help=text.replace("%", "%%"))


def _mark_files(one: argparse.ArgumentParser) -> None:
    """Let shtab know which arguments are names of files."""
    for action in one._actions:  # noqa: SLF001 - argparse has no other way to list them
        if isinstance(action.metavar, str) and action.metavar in _FILES:
            action.complete = _FILES[action.metavar]  # type: ignore[attr-defined] # the attribute that shtab looks for
