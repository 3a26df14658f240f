"""A CPU meter on each node: a pod that writes down how long the CPUs that pods may use there have been idle."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from math import inf

from e2e.api import Api, wait
from e2e.pods import through

METERS = "loadband-meters"
"""The namespace of the meters."""

METER = """
# Writes down every 200 ms how long the CPUs that pods may use here have been idle, and gives the last minutes of that.
import collections, http.server, json, os, threading, time
cpus = {f"cpu{cpu}" for cpu in os.sched_getaffinity(0)}
marks = collections.deque(maxlen=3000)
def look():
    lines = [line.split() for line in open("/proc/stat")]
    ticks = sum(int(line[4]) + int(line[5]) for line in lines if line[0] in cpus)
    marks.append((time.time(), ticks / os.sysconf("SC_CLK_TCK")))
def watch():
    while True:
        look()
        time.sleep(0.2)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        what = self.path[1:]
        found = len(cpus) if what == "cpus" else [mark for mark in list(marks) if mark[0] >= float(what)]
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
threading.Thread(target=watch, daemon=True).start()
http.server.HTTPServer(("", 8000), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Node:
    """A node, whose CPUs its meter watches."""

    name: str
    cpus: int
    api: Api

    def marks(self, since: float) -> list[tuple[float, float]]:
        """What the meter saw: wall clock (seconds), and seconds idle of all CPUs that pods may use there."""
        text = self.api.text(through(METERS, f"meter-{self.name}", 8000, f"/{since}"))
        return [(at, idle) for at, idle in json.loads(text)]

    def used(self, since: float, until: float = inf) -> float:
        """Mean utilization, a ratio, between two times of the wall clock.

        Raises:
            LookupError: there are no two marks in that time yet.
        """
        marks = [mark for mark in self.marks(since) if mark[0] <= until]
        if len(marks) < 2:
            raise LookupError("no marks yet")
        return self._between(marks[0], marks[-1])

    def windows(self, since: float, until: float = inf) -> list[float]:
        """Utilization in each second between two times of the wall clock."""
        found: list[float] = []
        begin: tuple[float, float] | None = None
        for mark in self.marks(since):
            if begin is None:
                begin = mark
            elif mark[0] <= until and mark[0] - begin[0] >= 1:
                found.append(self._between(begin, mark))
                begin = mark
        return found

    def settle(self, low: float, high: float, seconds: float = 30) -> None:
        """Wait until utilization was between two ratios for each of 3 s."""

        def in_band() -> bool:
            windows = self.windows(time.time() - 4)
            return len(windows) >= 3 and all(low <= used <= high for used in windows)

        wait(in_band, seconds, f"{100 * low:g}..{100 * high:g} % on {self.name}")

    def _between(self, first: tuple[float, float], last: tuple[float, float]) -> float:
        return 1 - (last[1] - first[1]) / (last[0] - first[0]) / self.cpus


def metered(name: str, api: Api) -> Node:
    """A node, once its meter answers."""
    path = through(METERS, f"meter-{name}", 8000, "/cpus")
    wait(lambda: api.text(path), 60, f"the meter of {name}")
    return Node(name, int(api.text(path)), api)
