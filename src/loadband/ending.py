"""How a run ends: the first signal asks for it, a second one does it; a failure in any thread asks for it, too."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import traceback

LEAVE_VIEW = b"\x1b[?25h\x1b[?1049l"
"""Shows a terminal's cursor and its first screen again, as the live view would have at its end."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Ending:
    """The wish to end, which the main thread waits for.

    A pipe, not a `threading.Event`: an Event that a signal handler sets can deadlock with the wait it interrupts.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self.asked = False
        """Whether the run is to end; read by any thread at any time."""
        self.failed = False
        """Whether that is because a thread failed."""

    def install(self) -> None:
        """Take over the signals and the failures of threads; from the main thread, before there are others.

        As PID 1 a signal without a handler is ignored by the kernel: nothing may take long before this.
        """
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        threading.excepthook = self._on_failure

    def ask(self) -> None:
        """Ask for the end; from any thread or signal handler."""
        self.asked = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b".")

    def wait(self, seconds: float) -> bool:
        """Wait for some seconds (>= 0), or less when the end is asked for; returns whether it is."""
        if not self.asked:
            select.select([self._reader], [], [], seconds)
        return self.asked

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.asked and not self.failed:
            if os.isatty(1) and select.select([], [1], [], 0)[1]:
                os.write(1, LEAVE_VIEW)
            os._exit(128 + number)
        self.ask()

    def _on_failure(self, failure: threading.ExceptHookArgs) -> None:
        self.failed = True
        self.ask()
        name = failure.thread.name if failure.thread else "a thread"
        error = failure.exc_value or failure.exc_type()
        print(f"loadband: {name} failed: {error!r}", file=sys.stderr)  # noqa: T201 - the last word, whatever log there is
        traceback.print_exception(error)
