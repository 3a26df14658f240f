"""The threads that burn.

Threads, not processes: they die with the process whatever ends it, SIGKILL included, and one process CPU clock covers
them all. `hashlib.pbkdf2_hmac` runs its iterations in cache with the GIL released, so one call burns a chosen time on
one CPU while the controller goes on.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable

from loadband.quantities import Command

log = logging.getLogger(__name__)

PERIOD = 0.0207
"""Seconds from one turn of a worker to the next, for few workers; no multiple of a kernel's tick (1, 3.3, 4, 10 ms)."""
MAX_PERIOD = 0.2
"""For many: longer turns, so that the switches of 128 workers don't become a load of their own."""
TURNS_PER_SECOND = 640
"""Of all workers together, where the limits of the period allow."""
DITHER = 0.25
"""Of a period, at random: turns in step with the kernel's tick would hide from those who count ticks (cpu-load.rst)."""
MAX_BURST = 0.1
"""CPU-seconds of one burst at most: shorter than any lease."""
MIN_BURST = 50e-6
"""CPU-seconds; less is carried to the next turn."""
CALIBRATION = 500
"""Iterations of the first burst of a worker: some tenths of a millisecond."""


def burn(iterations: int) -> None:
    """Keep one CPU busy for a number of iterations, with the GIL released."""
    hashlib.pbkdf2_hmac("sha256", b"loadband", b"loadband", iterations)


class Burner:
    """The account of one worker: what CPU time it owes, and how fast this CPU burns.

    Args:
        cpu_clock: CPU time of the calling thread, seconds.
        burst: burns a number of iterations.
    """

    def __init__(self, cpu_clock: Callable[[], float] = time.thread_time, burst: Callable[[int], None] = burn) -> None:
        self._cpu_clock = cpu_clock
        self._burst = burst
        self._spent = cpu_clock()
        self._rate = 0.0  # iterations per CPU-second; 0 before the first burst
        self.owed = 0.0

    def turn(self, duty: float, elapsed: float, period: float) -> None:
        """Burn what `duty` (0..1) asks for the `elapsed` seconds, less what was burnt too much before.

        All CPU time of the thread counts, so that what surrounds a burst is paid from the same account. A worker that
        was kept from running catches up by one period at most.
        """
        spent = self._cpu_clock()
        self.owed -= spent - self._spent
        self._spent = spent
        self.owed = min(max(self.owed, -period) + duty * elapsed, (1 + duty) * period, MAX_BURST)
        if self.owed < MIN_BURST:
            return
        iterations = max(int(self.owed * self._rate), 1) if self._rate else CALIBRATION
        before = self._cpu_clock()
        self._burst(iterations)
        took = self._cpu_clock() - before
        if took > 0:
            # For ever, since frequency, SMT siblings and emulation change what an iteration costs; half the way, since
            # one burst may have met a cold cache.
            rate = iterations / took
            self._rate = (self._rate + rate) / 2 if self._rate else rate

    def forget(self) -> None:
        """Owe nothing: what was not burnt in time is not burnt later."""
        self._spent = self._cpu_clock()
        self.owed = 0.0


class Workers:
    """A pool of threads that spread a commanded effort evenly among them.

    They burn only while a lease is fresh: a controller that stalls, stops or dies leaves them idle.

    Args:
        lease: seconds for which a command is good.
        nice: 0..19, of the workers alone; the controller and the server keep theirs.
        period: seconds between the turns of a worker; None lets it grow with their number.
        burner: makes the account of a worker, in its thread.
    """

    def __init__(
        self,
        lease: float,
        nice: int = 0,
        period: float | None = None,
        burner: Callable[[], Burner] = Burner,
    ) -> None:
        self._lease = lease
        self._nice = nice
        self._fixed_period = period
        self._burner = burner
        self._threads: list[threading.Thread | None] = []
        self._wanted = 0
        self._duty = 0.0
        self._period = period or PERIOD
        self._expires = 0.0
        self._names = itertools.count()
        self._told = ""
        self._epoch = time.monotonic()
        self.restarts = 0
        """Workers that died and were replaced."""

    def apply(self, command: Command) -> None:
        """Renew the lease with a new command: start, stop and replace threads as it asks."""
        self._wanted = command.workers
        # In the list first: a worker looks itself up there to learn whether it is still wanted.
        self._threads.extend([None] * (command.workers - len(self._threads)))
        for index in range(command.workers):
            thread = self._threads[index]
            if thread is not None and not thread.is_alive():
                self.restarts += 1
                thread = None
            if thread is None:
                self._threads[index] = self._started(index)
        del self._threads[command.workers :]
        alive = sum(thread is not None for thread in self._threads)
        self._period = self._fixed_period or min(max(PERIOD, alive / TURNS_PER_SECOND), MAX_PERIOD)
        self._duty = min(command.effort / alive, 1.0) if alive else 0.0
        self._expires = time.monotonic() + self._lease

    def close(self) -> None:
        """Stop burning and end all threads; returns within a burst and a period."""
        self._wanted = 0
        self._expires = 0.0
        threads, self._threads = self._threads, []
        for thread in threads:
            if thread is not None:
                thread.join()

    @property
    def alive(self) -> int:
        """Threads that run."""
        return sum(thread is not None and thread.is_alive() for thread in self._threads)

    def _started(self, index: int) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, args=(index,), name=f"worker-{next(self._names)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None  # a limit on threads: the others carry the effort, and the next cycle tries again
        return thread

    def _run(self, index: int) -> None:
        try:
            self._work(index)
        except Exception as error:
            # Not our end: the next cycle puts another in our place and counts it. What kills each of them is told once.
            told, self._told = self._told, repr(error)
            if self._told != told:
                log.exception("worker %d died: %s", index, self._told)

    def _work(self, index: int) -> None:
        if self._nice:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
        burner = self._burner()
        mine = threading.current_thread()
        last = time.monotonic()
        while True:
            time.sleep(max(self._next_turn(index, last) - time.monotonic(), 0.0))
            threads = self._threads
            if index >= self._wanted or index >= len(threads) or threads[index] not in (mine, None):
                return
            now = time.monotonic()
            if now < self._expires:
                burner.turn(self._duty, now - last, self._period)
            else:
                burner.forget()
            last = now

    def _next_turn(self, index: int, last: float) -> float:
        """When the turn after that of `last` is due, on a grid shifted by the worker's part of a period.

        So the workers don't burn in step, and the dither is never summed up.
        """
        period = self._period
        base = self._epoch + period * index / max(self._wanted, 1)
        dither = DITHER * random.random()  # noqa: S311 - keeps no secret
        return base + period * ((last - base) // period + 1 + dither)
