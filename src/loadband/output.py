"""What the live view and the log share: their stream, the messages of other threads, and the last sentence."""

from __future__ import annotations

import io
import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from loadband.quantities import Steal

if TYPE_CHECKING:
    from loadband.quantities import Snapshot


class Inbox(logging.Handler):
    """Keeps the log records of other threads until one thread writes them: a blocked pipe must not block the others."""

    def __init__(self) -> None:
        super().__init__()
        self._records: deque[logging.LogRecord] = deque(maxlen=100)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._records.append(record)

    def take(self) -> Iterator[logging.LogRecord]:
        """The records since the last call, oldest first."""
        while self._records:
            yield self._records.popleft()


@contextmanager
def inbox() -> Iterator[Inbox]:
    """Collect log records while the context lasts: loadband's own from INFO on, those of libraries from WARNING on."""
    handler, ours = Inbox(), logging.getLogger("loadband")
    level = ours.level
    ours.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)
        ours.setLevel(level)


def stdout() -> TextIO:
    """Open a second, unbuffered stream on standard output, for a thread that may be blocked by it.

    A thread that hangs in `sys.stdout` holds its lock, which the interpreter needs to exit. This stream shares only the
    file: it blocks no other thread and keeps nothing for later. Characters that the terminal's encoding lacks become
    question marks. The caller closes it.

    Raises:
        OSError: if standard output is closed.
    """
    raw = io.FileIO(os.dup(1), "w")
    return io.TextIOWrapper(raw, errors="replace", write_through=True)


def summary(snapshot: Snapshot) -> str:
    """A whole run in one line, for people.

    The shares are means over all that was observed; the share of time in the band counts from the first entry, like
    `held`.

    Args:
        snapshot: that of the last cycle.
    """
    counts, cpu, asked = snapshot.counts, snapshot.counts.cpu, snapshot.setpoint
    total = cpu.own + cpu.other + cpu.steal + cpu.idle
    if total <= 0 or (asked.band and counts.observed_seconds <= 0):
        return f"nothing observed in {snapshot.at - snapshot.started:.0f} s: {snapshot.verdict.why}"
    band = f"the profile {asked.progress.profile}" if asked.progress else str(asked)
    if asked.band is None:
        head = f"asked for {asked}"
    elif counts.in_band_seconds <= 0:
        head = f"never in {band} in {counts.observed_seconds:.0f} s"
    else:
        share = counts.in_band_seconds / counts.observed_since_entry
        words = "held" if snapshot.held else "not held: in"
        head = f"{words} {band} for {100 * share:.1f} % of {counts.observed_since_entry:.0f} s"
    busy = cpu.own + cpu.other + (cpu.steal if snapshot.steal is Steal.BUSY else 0)
    parts = [f"mean {100 * busy / total:.1f} %", f"own {100 * cpu.own / total:.1f} %"]
    if snapshot.reading:
        capacity = snapshot.reading.capacity
        parts[-1] += f" ({cpu.own / total * capacity:.2f} of {capacity:.4g} CPUs)"
    parts.append(f"others {100 * cpu.other / total:.1f} %")
    if cpu.steal / total >= 0.0005:  # noqa: PLR2004 - half of the last printed digit
        parts.append(f"steal {100 * cpu.steal / total:.1f} %")
    unseen = counts.run_seconds - counts.seen_seconds
    if unseen >= 0.01 * counts.run_seconds and unseen >= 1:
        parts.append(f"not seen for {unseen:.0f} s")
    overruns = "1 overrun" if counts.overruns == 1 else f"{counts.overruns} overruns"
    return f"{head}; {', '.join(parts)}; {overruns}"
