"""Helper processes of a scene: ready before they are needed; a line starts them, and the end of their input ends them.

`python -m bench.helpers burn CPUS` is the neighbour: an ordinary load of that many CPUs, spread over all CPUs that it
may use, which ignores other processes. `burst CPUS` burns whole CPUs for 100 ms, then rests for 200 ms; `build CPUS` is
a compiler that keeps one CPU busy, and `serve CPUS` a web server with clients, 200 requests a second for each CPU.
`python -m bench.helpers scrape PORT RATE` requests /metrics RATE times a second over persistent connections, as
Prometheus does. At its end it prints how long each answer took, as a JSON list of seconds.
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
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

PERIOD = 0.0231
"""Seconds between two turns of a burner. It isn't a multiple of a kernel's tick and is dithered, so that tick readers
see the load."""
CHUNK = 200
"""Iterations between two reads of the clock: about 0.1 ms."""
BURST, REST = 0.1, 0.2
"""Seconds."""
REQUESTS = 200.0
"""Requests per second to a web server, for each CPU that it is to keep busy in part."""
RATE_OF_CONNECTION = 50
"""Scrapes per second that one connection can carry on a busy machine."""
END_SECONDS = 5.0


class Helper:
    """A helper process.

    Args:
        arguments: arguments of `bench.helpers`.
    """

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this module
            [sys.executable, "-m", "bench.helpers", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        assert self._process.stdout  # noqa: S101 - for the type checker
        self._process.stdout.readline()  # it has imported what it needs and waits

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def go(self) -> None:
        """Start the work."""
        assert self._process.stdin  # noqa: S101 - for the type checker
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def leave(self) -> str:
        """End the work and return the output."""
        return self._process.communicate(timeout=END_SECONDS)[0]


def burn(share: float) -> None:
    """Burn a share of one CPU (0..1) for ever; don't catch up on CPU time that wasn't available."""
    spent, last, owed = time.thread_time(), time.monotonic(), 0.0
    while True:
        time.sleep((1 - share) * PERIOD * random.uniform(0.75, 1.25))  # noqa: S311 - not a secret
        now = time.monotonic()
        owed = min(owed + share * (now - last), 2 * PERIOD)
        last = now
        while (used := time.thread_time() - spent) < owed:
            hashlib.pbkdf2_hmac("sha256", b"neighbour", b"neighbour", CHUNK)
        owed -= used
        spent += used


def burst() -> None:
    """Burn a CPU for a while, then rest, for ever."""
    while True:
        until = time.monotonic() + BURST
        while time.monotonic() < until:
            hashlib.pbkdf2_hmac("sha256", b"neighbour", b"neighbour", CHUNK)
        time.sleep(REST)


def build() -> None:
    """Compile Python's own library, for ever."""
    warnings.simplefilter("ignore")
    while True:
        for source in Path(json.__file__).parents[1].glob("*.py"):
            compile(source.read_bytes(), str(source), "exec")


def serve(rate: float) -> list[threading.Thread]:
    """Serve a folder with Python's library; returns clients that together ask so many times a second, not started."""
    folder = str(Path(json.__file__).parent)
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return clients(int(server.server_address[1]), rate, [], "/")


def clients(port: int, rate: float, took: list[float], path: str = "/metrics") -> list[threading.Thread]:
    """Return what requests a path so many times a second, over as many connections as that takes; not started."""
    count = max(round(rate / RATE_OF_CONNECTION), 1)
    return [
        threading.Thread(target=scrape, args=(port, rate / count, took, index / rate, path), daemon=True)
        for index in range(count)
    ]


def scrape(port: int, rate: float, took: list[float], phase: float, path: str) -> None:
    """Request a path at a rate, for ever, starting in `phase` seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    due = time.monotonic() + phase
    while True:
        time.sleep(max(due - time.monotonic(), 0.0))
        # A late request isn't made up for by a burst of requests.
        due = max(due + 1 / rate, time.monotonic() - 1 / rate)
        began = time.monotonic()
        connection.request("GET", path)
        connection.getresponse().read()
        took.append(time.monotonic() - began)


def main(kind: str, *arguments: str) -> None:
    """Wait for the line, work until the input ends, print the result."""
    print("ready", flush=True)  # noqa: T201 - the protocol
    if not sys.stdin.readline():
        return
    took: list[float] = []
    threads = []
    if kind == "burn":
        cpus = len(os.sched_getaffinity(0))
        threads = [threading.Thread(target=burn, args=(float(arguments[0]) / cpus,), daemon=True) for _ in range(cpus)]
    elif kind == "burst":
        threads = [threading.Thread(target=burst, daemon=True) for _ in range(round(float(arguments[0])))]
    elif kind == "build":
        threads = [threading.Thread(target=build, daemon=True)]
    elif kind == "serve":
        threads = serve(REQUESTS * float(arguments[0]))
    else:
        threads = clients(int(arguments[0]), float(arguments[1]), took)
    for thread in threads:
        thread.start()
    sys.stdin.read()
    json.dump(took, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
