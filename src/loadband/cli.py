"""The command line: parse, hand over to a command or a run, exit code; no other logic.

What a run needs beside its settings and its sensor is loaded late, in the first control interval: it takes as long.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from loadband import __version__, notify
from loadband.commands import say, show
from loadband.ending import Ending
from loadband.exits import Exit
from loadband.quantities import Sample, Scope
from loadband.sensor import Sensor, SensorError, UnreadableError, open_sensor
from loadband.settings import Asked, Loaded, help_text, load
from loadband.sources import SettingsError

if TYPE_CHECKING:
    from loadband.playback import ProfileFile
    from loadband.profile import Profile

UNDO_SECONDS = 60
"""How long the end of a rebalance run may take: what it made in a cluster has to be gone first."""


def main(ending: Ending) -> int:
    """Run with the arguments and the environment of this process; returns the exit code."""
    if (code := _aside(sys.argv[1:], ending)) is not None:
        return code
    first = _FirstLook()
    try:
        loaded = load(sys.argv[1:], first.take)
        if loaded is Asked.HELP:
            return show(help_text())
        if loaded is Asked.VERSION:
            return show(f"loadband {__version__}\n")
        assert isinstance(loaded, Loaded)  # noqa: S101 - for the type checker
        for warning in loaded.warnings:
            say(f"loadband: {warning}")
        played = _played(loaded.settings.profile)
        return show(loaded.check_text() + "\n") if loaded.check else _start(loaded, played, first, ending)
    except SettingsError as error:
        for problem in error.problems:
            say(f"loadband: {problem}")
        notify.tell(f"STATUS=bad settings: {'; '.join(error.problems)}")
        return Exit.BAD_INPUT


class _FirstLook:
    """The sensor and its first sample, taken early: while the rest is loaded, the first interval passes."""

    def __init__(self) -> None:
        self._sensor: Sensor | None = None
        self.sample: Sample | None = None
        """None if there is none yet that counts."""

    def take(self, scope: Scope, max_effort: float | None) -> None:
        """Try it; what is wrong is found again, and reported, by `sensor`."""
        with suppress(SensorError, UnreadableError):
            sensor = open_sensor(scope, max_effort)
            sensor.check()
            self.sample = sensor.sample()
            self._sensor = sensor

    def sensor(self, scope: Scope, max_effort: float | None) -> Sensor:
        """The sensor that was opened, or a new one.

        Raises:
            SensorError: if the scope can't be measured here.
            UnreadableError: if a file can't be read or understood.
        """
        if self._sensor is None:
            self.take(scope, max_effort)
        if self._sensor is None:
            sensor = open_sensor(scope, max_effort)
            sensor.check()
            self._sensor = sensor
        return self._sensor


def _aside(words: list[str], ending: Ending) -> int | None:
    """Run another command, and return its exit code; None if the words ask for a run."""
    match words:
        case ["profile", *rest]:
            from loadband import preview  # noqa: PLC0415 - costs memory and time that no run is worth

            return preview.main(rest)
        case ["set", *rest]:
            from loadband import set_band  # noqa: PLC0415 - likewise

            return set_band.main(rest)
        case [("rebalance" | "completion") as extra, *rest]:
            return _extra(extra, rest, ending)
    return None


def _extra(command: str, words: list[str], ending: Ending) -> int:
    """Run a command whose libraries may not be installed: they come with the extra of the same name."""
    try:
        if command == "completion":
            from loadband import completion  # noqa: PLC0415 - likewise

            return completion.main(words)
        from loadband.rebalance import cli as rebalance  # noqa: PLC0415 - likewise

        ending.seconds = UNDO_SECONDS
        return rebalance.main(words, ending.wait)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "loadband":
            raise
        say(f"loadband: {command} needs {error.name}, which isn't installed: pip install 'loadband[{command}]'")
        return Exit.BAD_INPUT


def _played(path: Path | None) -> tuple[ProfileFile, Profile] | None:
    """The profile's file and what is in it; None without one.

    Raises:
        SettingsError: with everything that is wrong.
    """
    if path is None:
        return None
    from loadband.document import DocumentError  # noqa: PLC0415 - costs memory and time that only a profile is worth
    from loadband.playback import ProfileFile  # noqa: PLC0415 - likewise

    file = ProfileFile(path)
    try:
        return file, file.load()
    except DocumentError as error:
        raise SettingsError(error.problems) from error


def _start(loaded: Loaded, played: tuple[ProfileFile, Profile] | None, first: _FirstLook, ending: Ending) -> int:
    """Run with these settings.

    Raises:
        SettingsError: if they can't be had here.
    """
    try:
        sensor = first.sensor(loaded.settings.scope, loaded.settings.max_effort)
        reach = sensor.sample().reach
        warnings = sensor.warnings
    except (SensorError, UnreadableError) as error:
        raise SettingsError([str(error)]) from error
    for warning in warnings:
        say(f"loadband: {warning}")
    from loadband import running  # noqa: PLC0415 - not before the first sample; see above

    return running.run(loaded, played, running.Measured(sensor, reach, first.sample), ending)
