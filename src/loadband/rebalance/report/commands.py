"""`loadband rebalance report DIR` and `loadband rebalance compare DIR...`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from loadband.commands import ArgumentParser, say, show
from loadband.exits import Exit
from loadband.rebalance.report import compare as comparison
from loadband.rebalance.report import directory, document, terminal
from loadband.rebalance.verdict import Outcome

EXITS: Mapping[Outcome, Exit] = {
    Outcome.PASS: Exit.OK,
    Outcome.FAIL: Exit.NOT_ACHIEVED,
    Outcome.INVALID: Exit.INVALID,
}


def report(words: Sequence[str]) -> int:
    """Judge a directory's recordings again; returns the exit code.

    Args:
        words: those after `loadband rebalance report`.
    """
    asked = report_parser().parse_args(words)
    try:
        result = directory.read(asked.directory)
    except directory.DirectoryError as error:
        say(f"loadband: {error}")
        return Exit.BAD_INPUT
    out: Path = asked.out or asked.directory
    code = _output(out, directory.files_of(result), lambda console: terminal.draw(result, console), "report.html")
    return EXITS[result.outcome] if code is Exit.OK else code


def report_parser() -> ArgumentParser:
    """The arguments of `loadband rebalance report`."""
    parser = ArgumentParser(
        prog="loadband rebalance report",
        description="Computes all figures and the verdict again from the recordings of a run, prints them, and writes "
        "report.html, result.json and junit.xml. The same recordings make the same files.",
        epilog="Exit codes: 0 PASS, 1 FAIL, 2 bad input, 3 a file can't be written, 4 INVALID.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="Holds recording-1.jsonl, recording-2.jsonl ...")
    parser.add_argument("--out", type=Path, metavar="DIR", help="Where the files are written; default: the same DIR.")
    return parser


def compare(words: Sequence[str]) -> int:
    """Put several runs side by side; returns the exit code.

    Args:
        words: those after `loadband rebalance compare`.
    """
    asked = compare_parser().parse_args(words)
    try:
        groups = comparison.compare([directory.read(path) for path in asked.directories])
    except directory.DirectoryError as error:
        say(f"loadband: {error}")
        return Exit.BAD_INPUT
    texts = {"compare.json": document.text(comparison.plain(groups)), "compare.html": comparison.html(groups)}
    return _output(asked.out, texts, lambda console: comparison.draw(groups, console), "compare.html")


def compare_parser() -> ArgumentParser:
    """The arguments of `loadband rebalance compare`."""
    parser = ArgumentParser(
        prog="loadband rebalance compare",
        description="Puts the figures of several runs side by side, prints them, and writes compare.html and "
        "compare.json. The best is marked only among runs that are comparable.",
        epilog="Exit codes: 0 compared, whatever the verdicts, 2 bad input, 3 a file can't be written.",
    )
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="Each one as for report.")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path(), help="Where the files are written; default: here."
    )
    return parser


def _output(out: Path, texts: Mapping[str, str], draw: Callable[[Console], None], first: str) -> Exit:
    """Write the files, and print what `draw` draws and where the page is."""
    try:
        directory.write(out, texts)
    except directory.DirectoryError as error:
        say(f"loadband: {error}")
        return Exit.FAILED
    drawn = io.StringIO()
    # None leaves it to rich, which has variables that ask for colour without a terminal.
    console = Console(file=drawn, force_terminal=(sys.stdout and sys.stdout.isatty()) or None)
    draw(console)
    return show(f"{drawn.getvalue()}\n{out / first}\n")
