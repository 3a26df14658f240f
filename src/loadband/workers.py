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
from collections import deque
from collections.abc import Callable

from loadband.quantities import Command

log = logging.getLogger(__name__)

PERIOD = 0.0207
"""Seconds from one turn on a CPU to the next; no multiple of a kernel's tick (1, 3.3, 4, 10 ms)."""
TURNS_PER_SECOND = 640
"""Of all workers together, on many CPUs: then the turns are longer, as far as bursts may be."""
MAX_TURN = 0.07
"""Seconds from one turn on a CPU to the next: with the dither and a debt the burst is within its bound."""
DITHER = 0.25
"""Of the time from one turn on a CPU to the next, at random: turns in step with the kernel's tick would hide from those
who count ticks (cpu-load.rst)."""
MAX_BURST = 0.1
"""CPU-seconds of one burst at most: shorter than any lease."""
MIN_BURST = 50e-6
"""CPU-seconds; less is carried to the next turn."""
CALIBRATION = 500
"""Iterations of what a worker burns to learn its rate: some tenths of a millisecond."""
MAX_RATE = 1e8
"""Iterations per CPU-second, more than any CPU can: a clock that hardly moves must not make an endless burst."""


def burn(iterations: int) -> None:
    """Keep one CPU busy for a number of iterations, with the GIL released."""
    hashlib.pbkdf2_hmac("sha256", b"loadband", b"loadband", iterations)


class Account:
    """What the workers of a pool share.

    Many workers have seldom turns: what one burnt too much or too little the next one settles, not itself a second
    later, and what one learnt of the CPUs' speed all know. No lock: a deque's ends are safe for threads, and a rate
    that is overwritten makes place for one just as true.
    """

    def __init__(self) -> None:
        self.rate = 0.0
        """Iterations per CPU-second; 0 before the first burst."""
        self.left: deque[float] = deque()
        """CPU-seconds still owed, or below 0: burnt too much, by each of those who had a turn at the same time."""

    def take(self) -> float:
        """Take over what is left of one turn."""
        try:
            return self.left.popleft()
        except IndexError:
            return 0.0


class Burner:
    """What one worker does in its turns.

    Args:
        cpu_clock: CPU time of the calling thread, seconds.
        burst: burns a number of iterations.
    """

    def __init__(self, cpu_clock: Callable[[], float] = time.thread_time, burst: Callable[[int], None] = burn) -> None:
        self._cpu_clock = cpu_clock
        self._burst = burst
        self._spent = cpu_clock()
        self.account = Account()
        """Of this one alone, unless a pool puts its own here."""

    def turn(self, duty: float, elapsed: float, period: float) -> None:
        """Burn what `duty` (0..1) asks for the `elapsed` seconds, less what was burnt too much before.

        All CPU time of the thread counts, so that what surrounds a burst is paid from the same account. A worker that
        was kept from running catches up by `PERIOD` at most, or by its own period (seconds), where that is less.
        """
        bound = min(period, PERIOD)
        began = self._cpu_clock()
        owed = self.account.take() - (began - self._spent)
        owed = min(max(owed, -bound) + duty * elapsed, duty * period + bound, MAX_BURST)
        now = began
        if owed >= MIN_BURST:
            if not self.account.rate:
                now = self._learn(CALIBRATION, now)
            if (rest := owed - (now - began)) > 0:
                now = self._learn(max(int(rest * self.account.rate), 1), now)
        self._spent = now
        self.account.left.append(owed - (now - began))

    def _learn(self, iterations: int, before: float) -> float:
        """Burn, learn from it how fast this CPU is; takes the CPU clock of before and returns that of afterwards."""
        self._burst(iterations)
        after = self._cpu_clock()
        if after > before:
            # For ever, since frequency, SMT siblings and emulation change what an iteration costs; half the way, since
            # one burst may have met a cold cache.
            rate = min(iterations / (after - before), MAX_RATE)
            self.account.rate = (self.account.rate + rate) / 2 if self.account.rate else rate
        return after

    def forget(self) -> None:
        """Owe nothing: what was not burnt in time is not burnt later."""
        self._spent = self._cpu_clock()
        self.account.left.clear()


class Workers:
    """A pool of threads that spread a commanded effort evenly among them.

    They burn only while a lease is fresh: a controller that stalls, stops or dies leaves them idle.

    Args:
        lease: seconds for which a command is good.
        nice: 0..19, of the workers alone; the controller and the server keep theirs.
        period: seconds between the turns of a worker; None lets it grow with their number.
        burner: makes what a worker does in its turns, in its thread.
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
        self._account = Account()
        self._threads: list[threading.Thread | None] = []
        self._wanted = 0
        self._duty = 0.0
        self._period = self._step = period or PERIOD
        self._expires = 0.0
        self._names = itertools.count()
        self._told = ""
        self._epoch = time.monotonic()
        self.restarts = 0
        """Workers that died and were replaced."""

    def apply(self, command: Command) -> None:
        """Renew the lease with a new command: start, stop and replace threads as it asks."""
        self._wanted = command.workers
        if len(self._threads) != command.workers:
            self._pace(command.workers)  # now: those that are started look at it
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
        self._pace(alive)
        self._duty = min(command.effort / alive, 1.0) if alive else 0.0
        self._expires = time.monotonic() + self._lease

    def close(self) -> None:
        """Stop burning and end all threads; whoever sleeps for longer than a burst may end after this returns."""
        self._wanted = 0
        self._expires = 0.0
        threads, self._threads = self._threads, []
        deadline = time.monotonic() + 2 * MAX_BURST
        for thread in threads:
            if thread is not None:
                thread.join(max(deadline - time.monotonic(), 0.0))

    @property
    def alive(self) -> int:
        """Threads that run."""
        return sum(thread is not None and thread.is_alive() for thread in self._threads)

    def _pace(self, workers: int) -> None:
        """Choose the time between turns: as many turns on a CPU as one worker would take there, shared by all of it."""
        busy = min(max(workers, 1), len(os.sched_getaffinity(0)))
        self._step = self._fixed_period or min(max(PERIOD, busy / TURNS_PER_SECOND), MAX_TURN)
        self._period = self._fixed_period or self._step * max(workers, 1) / busy

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
        burner.account = self._account
        mine = threading.current_thread()
        due = self._next_turn(index, time.monotonic())
        last = due - self._period  # as if there had been turns before: else many workers would come in slowly
        while True:
            time.sleep(max(due - time.monotonic(), 0.0))
            threads = self._threads
            if index >= self._wanted or index >= len(threads) or threads[index] not in (mine, None):
                return
            now = time.monotonic()
            if now < self._expires:
                burner.turn(self._duty, now - last, self._period)
            else:
                burner.forget()
            last = now
            due = self._next_turn(index, now)

    def _next_turn(self, index: int, last: float) -> float:
        """When the turn after that of `last` is due, on a grid shifted by the worker's part of a period.

        So the workers don't burn in step, and the dither is never summed up.
        """
        period = self._period
        base = self._epoch + period * index / max(self._wanted, 1)
        dither = DITHER * self._step * random.random()  # noqa: S311 - keeps no secret
        return base + period * ((last - base) // period + 1) + dither
