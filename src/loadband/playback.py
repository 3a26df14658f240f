"""Plays a profile: the setpoint at the current time, and a follower that notices when the file changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from loadband.document import DocumentError, read_text
from loadband.profile import Profile, parse
from loadband.quantities import Band, Progress, Setpoint
from loadband.setpoint import SetpointCell

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks at the files."""
MAX_PROFILE_BYTES = 1 << 16
MAX_SERIES_BYTES = 1 << 23
LOOKS_BACK = 10
"""Number of moments in the last window from which the mean of a moving band is calculated."""

_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Playback:
    """The setpoint of a profile at the current time; the source of a `SetpointCell`."""

    profile: Profile
    began: float
    """Monotonic time at which the profile began, seconds."""
    window: float = 1.0
    """Seconds over which utilization is published."""
    clock: Callable[[], float] = field(default=time.monotonic, compare=False)

    def __call__(self) -> Setpoint:
        """The current setpoint."""
        seconds = self.clock() - self.began
        phase, band = self.profile.at(seconds)
        step = self.window / LOOKS_BACK
        lately = [self.profile.at(seconds - (index + 0.5) * step)[1] for index in range(LOOKS_BACK)]
        mean = Band(_mean(band.low for band in lately), _mean(band.high for band in lately))
        names = tuple(phase.name for phase in self.profile.phases)
        return Setpoint(band, "profile", lately=mean, progress=Progress(self.profile.name, phase.name, names))


def _mean(edges: Iterable[float]) -> float:
    # Rounded like the bands: the mean of a band that stands still is the band itself.
    return round(sum(edges) / LOOKS_BACK, 9)


class ProfileFile:
    """A profile's file and the files that it names: reads them, and notices when one of them has changed.

    Args:
        path: the profile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamps: dict[Path, _Stamp] = {}

    def load(self) -> Profile:
        """Read the profile, changed or not.

        Raises:
            DocumentError: with everything that is wrong.
        """
        self._stamps = {}
        try:
            text = self._read(self._path, MAX_PROFILE_BYTES)
        except OSError as error:
            raise DocumentError([f"{self._path}: cannot be read: {error.strerror or error}"]) from error
        except ValueError as error:
            raise DocumentError([f"{self._path}: cannot be read: {error}"]) from error
        return parse(text, str(self._path), lambda name: self._read(self._path.parent / name, MAX_SERIES_BYTES))

    def changed(self) -> bool:
        """Whether any of the files has changed since `load`, readable or not."""
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())

    def _read(self, path: Path, most: int) -> str:
        # Stamped before it is read, so that a change in between is noticed.
        self._stamps[path] = _stamp(path)
        return read_text(path, most)


def _stamp(path: Path) -> _Stamp:
    """A value that changes with a file, even if a link (as in a mounted ConfigMap) changes; None without a file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def play(profile: Profile, window: float) -> Playback:
    """Play a profile from now on, or from the time that it names.

    The wall clock is read once, so that a step of it doesn't make the band jump later.
    """
    now = time.monotonic()
    return Playback(profile, now if profile.start is None else now - (time.time() - profile.start), window)


class Follower:
    """Reads the profile again when it has changed or on demand; on demand it also restores the configured setpoint.

    Args:
        cell: what is kept up to date.
        file: the profile's, None without one.
        profile: what was read of it.
        window: seconds that utilization is published over.
        demands: how often a new reading was asked for until now.
    """

    def __init__(
        self,
        cell: SetpointCell,
        file: ProfileFile | None,
        profile: Profile | None,
        window: float,
        demands: Callable[[], int],
    ) -> None:
        self._cell = cell
        self._file = file
        self._profile = profile
        self._window = window
        self._demands = demands
        self._answered = 0

    def run(self, stop: threading.Event) -> None:
        """Follow until `stop` is set; runs in a thread of its own, which a slow file system may block."""
        while not stop.wait(POLL):
            self.look()

    def look(self) -> None:
        """Do what is due now, if anything."""
        demands = self._demands()
        if demands != self._answered:
            self._answered = demands
            if self._again():
                restored = self._cell.restore("settings" if self._file is None else "profile")
                log.info("read again: %s", "back to the configured setpoint" if restored else "nothing was overridden")
        elif self._file and self._file.changed():
            self._again()

    def _again(self) -> bool:
        """Read the profile again, if there is one; returns whether the configured setpoint is good."""
        if self._file is None:
            return True
        try:
            profile = self._file.load()
        except DocumentError as error:
            for problem in error.problems:
                log.error("%s; the old profile goes on", problem)  # noqa: TRY400 - a sentence for people needs no trace
            return False
        if profile != self._profile:
            self._profile = profile
            self._cell.configure(play(profile, self._window), "profile")
            log.info("the profile has changed and starts: %s", profile)
        return True
