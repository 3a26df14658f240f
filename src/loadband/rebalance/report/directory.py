"""The files of a report: recordings in, `result.json`, `junit.xml` and `report.html` out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loadband.rebalance import recording
from loadband.rebalance.report import document, junit, page
from loadband.rebalance.report.evaluation import ResultError, evaluate
from loadband.rebalance.report.result import Result

RECORDINGS = "recording-*.jsonl"


class DirectoryError(Exception):
    """A directory can't be read or written; the message is a sentence that names the file."""


def read(directory: Path) -> Result:
    """Judge the recordings of a directory.

    Raises:
        DirectoryError: there are none, one can't be read, or they don't belong together.
    """
    if not directory.is_dir():
        raise DirectoryError(f"{directory}: no such directory")
    try:
        recordings = {path.name: recording.read(path) for path in sorted(directory.glob(RECORDINGS))}
    except recording.RecordingError as error:
        raise DirectoryError(str(error)) from None
    if not recordings:
        raise DirectoryError(f"{directory}: holds no {RECORDINGS}")
    try:
        return evaluate(directory.resolve().name, recordings)
    except ResultError as error:
        raise DirectoryError(f"{directory}: {error}") from None


def files_of(result: Result) -> Mapping[str, str]:
    """The files of a report by their names."""
    return {
        "result.json": document.text(document.document(result)),
        "junit.xml": junit.text(result),
        "report.html": page.html(result),
    }


def write(directory: Path, texts: Mapping[str, str]) -> None:
    """Write files; each replaces the one before it as a whole.

    Args:
        directory: is made if it doesn't exist.
        texts: by the file's name.

    Raises:
        DirectoryError: one can't be written.
    """
    for name, text in texts.items():
        path = directory / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{name}.new")
            fresh.write_text(text, encoding="utf-8", newline="\n")
            fresh.replace(path)
        except OSError as error:
            raise DirectoryError(f"{path}: cannot be written: {error.strerror}") from error
