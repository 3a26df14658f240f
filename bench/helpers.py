"""Helper processes of a scene: ready before they are needed, told to go by a line, gone when their input ends.

`python -m bench.helpers burn CPUS` is the neighbour: an ordinary load of that many CPUs, spread over all it may use,
that knows nothing of others. `python -m bench.helpers scrape PORT RATE` asks for /metrics RATE times a second over
connections that stay, as Prometheus does, and says at its end how long each answer took, as a JSON list of seconds.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

PERIOD = 0.0231
"""Seconds from one turn of a burner to the next; no multiple of a kernel's tick, dithered: it must not hide from it."""
CHUNK = 200
"""Iterations between two looks at the clock: about 0.1 ms."""
RATE_OF_CONNECTION = 50
"""Scrapes a second that one connection can carry on a busy machine."""
END_SECONDS = 5.0


class Helper:
    """Such a process.

    Args:
        arguments: of `bench.helpers`.
    """

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "bench.helpers", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        assert self._process.stdout  # noqa: S101 - for the type checker
        self._process.stdout.readline()  # it has imported what it needs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def go(self) -> None:
        """Begin."""
        assert self._process.stdin  # noqa: S101 - for the type checker
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def leave(self) -> str:
        """End; gives what it says."""
        return self._process.communicate(timeout=END_SECONDS)[0]


def burn(share: float) -> None:
    """Take a share of one CPU (0..1) for ever; what it didn't get in time is not caught up."""
    spent, last, owed = time.thread_time(), time.monotonic(), 0.0
    while True:
        time.sleep((1 - share) * PERIOD * random.uniform(0.75, 1.25))  # noqa: S311 - keeps no secret
        now = time.monotonic()
        owed = min(owed + share * (now - last), 2 * PERIOD)
        last = now
        while (used := time.thread_time() - spent) < owed:
            hashlib.pbkdf2_hmac("sha256", b"neighbour", b"neighbour", CHUNK)
        owed -= used
        spent += used


def scrape(port: int, rate: float, took: list[float], phase: float) -> None:
    """Ask for /metrics at a rate, for ever; `phase` seconds from now on."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    due = time.monotonic() + phase
    while True:
        time.sleep(max(due - time.monotonic(), 0.0))
        # What can't be had in time is not asked for twice as often later.
        due = max(due + 1 / rate, time.monotonic() - 1 / rate)
        began = time.monotonic()
        connection.request("GET", "/metrics")
        connection.getresponse().read()
        took.append(time.monotonic() - began)


def main(kind: str, *arguments: str) -> None:
    """Wait for the line, do it until the input ends, say what there is to say."""
    print("ready", flush=True)  # noqa: T201 - the protocol
    if not sys.stdin.readline():
        return
    took: list[float] = []
    threads = []
    if kind == "burn":
        cpus = len(os.sched_getaffinity(0))
        threads = [threading.Thread(target=burn, args=(float(arguments[0]) / cpus,), daemon=True) for _ in range(cpus)]
    else:
        port, rate = int(arguments[0]), float(arguments[1])
        count = max(round(rate / RATE_OF_CONNECTION), 1)
        threads = [
            threading.Thread(target=scrape, args=(port, rate / count, took, index / rate), daemon=True)
            for index in range(count)
        ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    json.dump(took, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
