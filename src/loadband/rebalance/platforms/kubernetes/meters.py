"""Reads the counters of regulators over HTTP, all of them every so often, in threads of its own."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

SECONDS = 2.0
"""For an answer: the node may be busy on purpose."""
THREADS = 8
"""Regulators that are asked at once."""
_COUNTER = re.compile(r'^loadband_cpu_seconds_total\{mode="(\w+)",scope="cpuset"\} (\S+)$', re.MULTILINE)
_CAPACITY = re.compile(r'^loadband_capacity_cpus\{scope="cpuset"\} (\S+)$', re.MULTILINE)
# Two of some hundred lines, several times a second from every pod: the library's parser would cost ten times as much.


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a regulator has counted since its start, CPU-seconds."""

    own: float
    """Its own."""
    busy: float
    """Of all who run on the CPUs of its scope, its own included."""
    whole: float
    """Busy, stolen and idle: what there was."""
    cpus: float
    """The capacity of its scope."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters, and when they stood like that."""

    uid: str
    """The pod's."""
    at: float
    """Seconds since the epoch, by this machine's clock."""
    counters: Counters


def parse(text: str) -> Counters | None:
    """The counters of a regulator in the Prometheus text format; None if they aren't all there (yet)."""
    modes = {mode: float(value) for mode, value in _COUNTER.findall(text)}
    capacity = _CAPACITY.search(text)
    if capacity is None or not modes.keys() >= {"own", "other", "steal", "idle"}:
        return None
    busy = modes["own"] + modes["other"]
    return Counters(
        own=modes["own"], busy=busy, whole=busy + modes["steal"] + modes["idle"], cpus=float(capacity.group(1))
    )


class Stamp:
    """When the counters of one regulator stood as they were read.

    They are as old as the regulator's last round, some hundred milliseconds, and each read finds another age: too much
    for rates over seconds. But what was there to be had in all is a clock of its own: it grows by the capacity every
    second. So only one offset is not known, and of all reads the least old one gives it best.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._whole = -1.0

    def of(self, read: float, counters: Counters) -> float | None:
        """The time, seconds since the epoch; None if nothing is new since the last read.

        Args:
            read: when they were read.
            counters: what was read.
        """
        if counters.whole < self._whole:  # it was restarted in place: another begin
            self._offset = None
        if counters.whole == self._whole or counters.cpus <= 0:
            return None
        self._whole = counters.whole
        age = counters.whole / counters.cpus
        self._offset = read - age if self._offset is None else min(self._offset, read - age)
        return self._offset + age


class Meters:
    """Asks regulators for their counters, in the background.

    Args:
        interval: from one round to the next, seconds.
        port: of their metrics.
    """

    def __init__(self, interval: float, port: int) -> None:
        self._interval = interval
        self._port = port
        self._addresses: Mapping[str, str] = {}
        self._stamps: dict[str, Stamp] = {}
        self._found: queue.SimpleQueue[Reading] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._client = httpx.Client(timeout=SECONDS, trust_env=False)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, addresses: Mapping[str, str]) -> None:
        """Say who is asked from now on: by the uid of a pod, its IP."""
        self._addresses = addresses

    def readings(self) -> list[Reading]:
        """What was read since the last call, in order."""
        found = []
        while not self._found.empty():
            found.append(self._found.get())
        return found

    def close(self) -> None:
        """End; may be called more than once."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(SECONDS)
        self._client.close()

    def _run(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            due = time.monotonic()
            while not self._ended.wait(max(due - time.monotonic(), 0.0)):
                addresses = self._addresses
                list(pool.map(self._read, addresses, addresses.values()))
                due = max(due + self._interval, time.monotonic())

    def _read(self, uid: str, address: str) -> None:
        host = f"[{address}]" if ":" in address else address
        try:
            text = self._client.get(f"http://{host}:{self._port}/metrics").text
            read = time.time()
        except (httpx.HTTPError, RuntimeError):  # RuntimeError: closed meanwhile
            return
        counters = parse(text)
        if counters is None:
            return
        at = self._stamps.setdefault(uid, Stamp()).of(read, counters)
        if at is not None:
            self._found.put(Reading(uid, at, counters))
