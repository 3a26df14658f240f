"""Notifies systemd: ready, alive while the loop runs, and the state in one sentence.

The protocol is that of sd_notify(3): datagrams with assignments to the socket that NOTIFY_SOCKET names. Without the
variable, nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loadband.quantities import Snapshot

POLL = 1.0
"""Seconds between two looks at the loop; the watchdog's time must be a multiple."""


def tell(*assignments: str) -> None:
    """Send assignments such as `STATUS=...` to systemd if it listens; never waits and never fails."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    text = "\n".join(" ".join(assignment.splitlines()) for assignment in assignments)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        # A leading @ stands for the zero byte of Linux's abstract addresses.
        to = f"\0{address[1:]}" if address[0] == "@" else address
        sending.sendto(text.encode(errors="replace"), socket.MSG_DONTWAIT, to)


def run(source: Callable[[], Snapshot | None], stop: threading.Event, poll: float = POLL) -> None:
    """Feed the watchdog while the loop runs, until `stop` is set; runs in a thread of its own.

    Args:
        source: returns the latest snapshot, None before the first. One that isn't newer than the last feeds nothing:
            systemd restarts a loop that stands still.
        stop: ends it.
        poll: seconds between two looks, > 0.
    """
    last = None
    while not stop.wait(poll):
        snapshot = source()
        if snapshot is not None and snapshot.at != last:
            last = snapshot.at
            verdict = snapshot.verdict
            tell("READY=1", "WATCHDOG=1", f"STATUS={verdict.state}: {snapshot.sentence}")
    tell("STOPPING=1")


@contextmanager
def feeding(source: Callable[[], Snapshot | None]) -> Iterator[None]:
    """Notify systemd while the context lasts; see `run`."""
    if "NOTIFY_SOCKET" not in os.environ:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(source, stop), name="notify", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(POLL)
