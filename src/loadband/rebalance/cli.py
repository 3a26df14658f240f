"""`loadband rebalance COMMAND`: each command is a function that takes the words after its name, and waits if it must.

A command is imported when it is asked for: `check` draws no pictures, and `report` starts no servers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from loadband.commands import ArgumentParser, say, show
from loadband.exits import Exit

COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "check": ("loadband.rebalance.check", "check", "SCENARIO: is it valid, and what would happen? Nothing is touched."),
    "run": ("loadband.rebalance.run_command", "run", "SCENARIO: run it on a platform, record it, and judge it."),
    "record": (
        "loadband.rebalance.record_command",
        "record",
        "OUT: follow a platform without making load or changing anything, and record it.",
    ),
    "report": (
        "loadband.rebalance.report.commands",
        "report",
        "DIR: figures, verdict and report.html again, from what was recorded.",
    ),
    "compare": (
        "loadband.rebalance.report.commands",
        "compare",
        "DIR...: several runs side by side; the best is marked among what is comparable.",
    ),
    "schema": ("loadband.rebalance.check", "schema", "scenario|recording|result: its JSON Schema."),
}
"""By name: the module, the function, and what it does."""
PARSER = "_parser"
"""The end of the name of the function that makes a command's parser, beside the command itself."""
WAITING = {"run", "record"}
"""The commands that take `wait`, too."""

_HEAD = """\
usage: loadband rebalance COMMAND ...

Overloads a platform on purpose, watches whether it notices, moves something and comes back to balance, and reports
when each happened and how sure that is.

commands (each has a --help of its own):
"""


def help_text() -> str:
    """What `loadband rebalance --help` prints."""
    width = max(map(len, COMMANDS))
    return _HEAD + "".join(f"  {name:{width}}  {text}\n" for name, (_, _, text) in COMMANDS.items())


def parsers() -> Mapping[str, ArgumentParser | None]:
    """By command, the parser of its arguments; None where the extra that it needs isn't installed."""
    return {name: _parser(module, function) for name, (module, function, _) in COMMANDS.items()}


def _parser(module: str, function: str) -> ArgumentParser | None:
    try:
        made = getattr(importlib.import_module(module), f"{function}{PARSER}")()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "loadband":
            raise
        return None
    return cast("ArgumentParser", made)


def main(words: Sequence[str], wait: Callable[[float], bool]) -> int:
    """Run a command; returns the exit code: 0 PASS or done, 1 FAIL, 2 bad input, 3 failure inside, 4 INVALID.

    Args:
        words: those after `loadband rebalance`.
        wait: waits for some seconds, or less if the program is to end; returns whether it is.
    """
    if not words or words[0] in {"-h", "--help"}:
        return show(help_text())
    if words[0] not in COMMANDS:
        say(f"loadband rebalance: unknown command {words[0]!r}; there are {', '.join(COMMANDS)}")
        return Exit.BAD_INPUT
    module, function, _ = COMMANDS[words[0]]
    command = getattr(importlib.import_module(module), function)
    return cast("int", command(words[1:], wait) if words[0] in WAITING else command(words[1:]))
