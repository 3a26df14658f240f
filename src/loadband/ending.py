"""How a run ends: after a signal, after a failure in any thread, or when nobody reads standard output any more.

The first signal asks for the end, a second one ends the process at once. SIGHUP may ask for something else: to read the
configuration again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import stat
import threading
import traceback
from typing import NoReturn

from loadband.exits import Exit

LEAVE_VIEW = b"\x1b[?25h\x1b[?1049l"
"""Restores a terminal's cursor and first screen, as the live view does when it ends."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
END_SECONDS = 5
"""How long the end may take after the first signal, unless somebody needs longer: after that, something hangs."""
_STDOUT = 1
SAY_SECONDS = 1.0
"""How long a message about a failure may take: perhaps nobody reads it."""


class Ending:
    """The request to end, for which the main thread waits.

    It is a pipe, not a `threading.Event`: if a signal handler sets an Event, it can deadlock with the wait that it
    interrupts.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._watched = [self._reader, *_pipes_to_others()]
        self.signal = 0
        """The number of the first signal that asked for the end; 0 before it."""
        self.asked = False
        """Whether the run is to end; read by any thread at any time."""
        self.failed = False
        """Whether the reason is a failure."""
        self.reader_left = False
        """Whether the reason is that nobody reads standard output any more."""
        self.seconds = END_SECONDS
        """How long the end may take after the first signal, whole seconds."""
        self.rereads = False
        """Whether SIGHUP asks to read the configuration again, unless a terminal has hung up."""
        self.rereads_asked = 0
        """How often it has asked."""
        self._terminals = [descriptor for descriptor in range(3) if os.isatty(descriptor)]

    def install(self) -> None:
        """Take over the signals and the failures of threads; from the main thread, before there are others.

        The kernel ignores signals to PID 1 without a handler, so nothing before this may take long. SIGHUP stays
        ignored if it was: that is how nohup lets a program outlive its terminal.
        """
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        signal.signal(signal.SIGALRM, lambda *_: _exit(Exit.FAILED))
        threading.excepthook = self._on_failure

    def ask(self) -> None:
        """Ask for the end; from any thread or signal handler."""
        self.asked = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b".")

    def wait(self, seconds: float) -> bool:
        """Wait for some seconds (>= 0), or until the end is requested; returns whether it is."""
        if not self.asked and _STDOUT in select.select(self._watched, [], [], seconds)[0]:
            self.leave()
        return self.asked

    def leave(self) -> None:
        """Ask for the end because whoever read standard output has left; from any thread."""
        self.reader_left = True
        self.ask()

    def fail(self, name: str, error: BaseException) -> None:
        """Ask for the end because something failed, and report that on standard error; from any thread.

        Args:
            name: what failed, as the subject of a sentence.
            error: the reason.
        """
        self.failed = True
        self.ask()
        _say(f"loadband: {name} failed: {error!r}\n{''.join(traceback.format_exception(error))}")

    def _on_signal(self, number: int, _frame: object) -> None:
        # When the kernel sends SIGHUP because a terminal hung up, it isn't a terminal any more.
        if number == signal.SIGHUP and self.rereads and all(map(os.isatty, self._terminals)):
            self.rereads_asked += 1
            return
        if self.signal:
            _exit(128 + number)
        self.signal = number
        signal.alarm(self.seconds)
        self.ask()

    def _on_failure(self, failure: threading.ExceptHookArgs) -> None:
        self.fail(failure.thread.name if failure.thread else "a thread", failure.exc_value or failure.exc_type())


def _pipes_to_others() -> list[int]:
    """Standard output, if it is the writing end of a pipe: select takes it for readable once nobody can read it."""
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(_STDOUT).st_mode)
        mode = fcntl.fcntl(_STDOUT, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:  # it is closed
        return []
    return [_STDOUT] if is_pipe and mode == os.O_WRONLY else []


def _exit(code: int) -> NoReturn:
    """End at once, even if something hangs."""
    if os.isatty(1) and select.select([], [1], [], 0)[1]:
        os.write(1, LEAVE_VIEW)
    os._exit(code)


def _say(text: str) -> None:
    """Write to standard error, or give up if nobody reads it; takes no lock that the interpreter needs to exit."""

    def write() -> None:
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="replace"))

    thread = threading.Thread(target=write, name="last words", daemon=True)
    thread.start()
    thread.join(SAY_SECONDS)
