"""The threads that burn.

They are threads, not processes: they die with the process whatever ends it, even SIGKILL, and one CPU clock covers them
all. `hashlib.pbkdf2_hmac` runs in the cache with the GIL released, so one call burns a chosen time on one CPU while the
controller goes on. Where OpenSSL refuses that (a FIPS provider wants longer passwords and more iterations, or allows no
PBKDF2 at all), or Python has none, they compute CRC-32 of a block of memory instead, which no policy forbids.

Nothing here needs the GIL, so free-threaded builds of Python (PEP 703) run it as well. What threads share is either
written by the controller alone, one value at a time (the command and the lease), or a deque, or the rate, of which any
value ever written will do; a list of threads that workers can see never gets shorter.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import os
import random
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable

from loadband.quantities import Command

log = logging.getLogger(__name__)

PERIOD = 1 / 24
"""Seconds from one turn on a CPU to the next: a whole number of turns a second, so that all windows of a second hold
the same number, and no multiple of a kernel's tick (1, 3.3, 4, 10 ms)."""
TURNS_PER_SECOND = 640
"""Limit for all workers together: with many CPUs, turns become rarer and longer, as far as bursts may."""
MAX_TURN = 0.07
"""Limit of the seconds from one turn on a CPU to the next: even with dither and a debt, a burst is within its bound."""
DITHER = 0.1
"""Random part of the time from one turn on a CPU to the next, about a tick: programs that count ticks wouldn't see
turns that are in step with the kernel's tick (cpu-load.rst). It costs accuracy: what a window holds varies with it."""
SHORT_BURST = 0.0005
"""CPU-seconds: rather than shorter bursts, turns become as rare as they may. What surrounds a burst costs about a tenth
of that."""
MAX_BURST = 0.1
"""Limit of one burst in CPU-seconds; shorter than any lease."""
CATCH_UP = 0.02
"""CPU-seconds by which a worker that was kept from running catches up, or the next burn less: more would be seen as a
peak when other processes leave."""
START = 0.0005
"""Seconds from the start of the first worker to its first turn: it has to look at the clock before that."""
MIN_BURST = 50e-6
"""CPU-seconds; less is carried over to the next turn."""
PARTS = (0.5, 0.8, 1.0)
"""What part of the rest of a burst each call burns. A CPU's speed changes within milliseconds, above all if it is a
virtual one, and only between two calls can be seen what is left (docs/benchmark/cost.md)."""
SHORT_REST = 0.002
"""CPU-seconds that one call burns: by what it can be off is little, and another call costs 10 to 30 us."""
CALIBRATION = 500
"""Iterations that a worker burns to learn its rate: some tenths of a millisecond."""
_BYTES = 1024
"""For CRC-32, an iteration is so many bytes, which take about as long as an iteration of PBKDF2."""
MAX_RATE = 1e8
"""Iterations per CPU-second, more than any CPU reaches: a clock that hardly moves must not cause an endless burst."""


def burn(iterations: int) -> None:
    """Keep one CPU busy for a number of iterations, with the GIL released."""
    hashlib.pbkdf2_hmac("sha256", b"loadband", b"loadband", iterations)


def burn_without_hash(iterations: int) -> None:
    """Keep one CPU busy like `burn`, without OpenSSL; the GIL is taken for a moment between two blocks."""
    block = _block()
    blocks, rest = divmod(iterations, len(block) // _BYTES)
    for _ in range(blocks):
        zlib.crc32(block)
    zlib.crc32(block[: rest * _BYTES])


@functools.cache
def _block() -> memoryview:
    """Memory that fits into a CPU's second cache; made only if it is needed."""
    return memoryview(bytes(1 << 18))


def choose_burn() -> tuple[Callable[[int], None], str]:
    """A burn that works here, and why it isn't the usual one, as a sentence; empty if it is."""
    try:
        burn(1)
    except (AttributeError, ValueError) as error:  # without OpenSSL, hashlib has no PBKDF2
        return burn_without_hash, f"PBKDF2 can't be used here ({error}): CRC-32 burns instead"
    return burn, ""


class Account:
    """What the workers of a pool share: the CPU time still owed, and the speed of the CPUs.

    With many workers, turns are rare: the next worker makes up for what the last one over- or under-burned, and all
    know what one has learned about the CPUs' speed. There is no lock: the ends of a deque are thread-safe, and a rate
    that is overwritten is replaced by one that is just as good.
    """

    def __init__(self) -> None:
        self.rate = 0.0
        """Iterations per CPU-second; 0 before the first burst."""
        self.left: deque[float] = deque()
        """CPU-seconds still owed, or below 0 if too much was burnt; one entry for each turn at the same time."""

    def take(self) -> float:
        """Take over what one turn has left."""
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
        """Its own, unless a pool replaces it by a shared one."""

    def turn(self, duty: float, elapsed: float, period: float) -> None:
        """Burn `duty` (0..1) of the `elapsed` seconds, and what is still owed.

        All CPU time of the thread counts, so what surrounds a burst is paid from the same account. A worker that was
        kept from running catches up by at most `CATCH_UP`, or its own period (seconds) if that is shorter.
        """
        bound = min(period, CATCH_UP)
        began = self._cpu_clock()
        owed = self.account.take() - (began - self._spent)
        owed = min(max(owed, -bound) + duty * elapsed, duty * period + bound, MAX_BURST)
        now = began
        if owed >= MIN_BURST:
            if not self.account.rate:
                now = self._learn(CALIBRATION, now)
            for part in PARTS:
                if (rest := owed - (now - began)) < MIN_BURST:
                    break
                short = rest < SHORT_REST
                now = self._learn(max(int((1.0 if short else part) * rest * self.account.rate), 1), now)
                if short:
                    break
        self._spent = now
        self.account.left.append(owed - (now - began))

    def _learn(self, iterations: int, before: float) -> float:
        """Burn, and learn how fast this CPU is; takes the CPU clock before the burst and returns it after the burst."""
        self._burst(iterations)
        after = self._cpu_clock()
        if after > before:
            # It never stops learning, since frequency, SMT siblings and emulation change the cost of an iteration. It
            # goes half the way, since the cache may have been cold.
            rate = min(iterations / (after - before), MAX_RATE)
            self.account.rate = (self.account.rate + rate) / 2 if self.account.rate else rate
        return after

    def forget(self) -> None:
        """Owe nothing: what wasn't burnt in time isn't burnt later."""
        self._spent = self._cpu_clock()
        self.account.left.clear()


class Workers:
    """A pool of threads that share a commanded effort evenly.

    They burn only while a lease is fresh: if the controller stalls, stops or dies, they idle.

    Args:
        lease: seconds for which a command is valid.
        nice: niceness of the workers, 0..19; the controller and the server keep theirs.
        period: seconds between the turns of a worker; None: it grows with the number of workers.
        burner: makes the `Burner` of a worker, in its thread.
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
        """Renew the lease with a new command: start, stop and replace threads as needed."""
        self._wanted = command.workers
        if len(self._threads) != command.workers:
            self._pace(command.workers, command.effort)  # before the new threads start and look at it
            if not self._threads:
                self._epoch = time.monotonic() - self._period + START  # the first turn is due now
            # The list comes before the threads: a worker looks itself up there to see whether it is still wanted. It is
            # a new one, so that none gets shorter while a worker looks into it.
            kept = self._threads[: command.workers]
            self._threads = kept + [None] * (command.workers - len(kept))
        for index in range(command.workers):
            thread = self._threads[index]
            if thread is not None and not thread.is_alive():
                self.restarts += 1
                thread = None
            if thread is None:
                self._threads[index] = self._started(index)
        alive = sum(thread is not None for thread in self._threads)
        self._pace(alive, command.effort)
        self._duty = min(command.effort / alive, 1.0) if alive else 0.0
        self._expires = time.monotonic() + self._lease

    def close(self) -> None:
        """Stop burning and end all threads; one that sleeps for longer than a burst may end after this returns."""
        self._wanted = 0
        self._expires = 0.0
        threads, self._threads = self._threads, []
        deadline = time.monotonic() + 2 * MAX_BURST
        for thread in threads:
            if thread is not None:
                thread.join(max(deadline - time.monotonic(), 0.0))

    @property
    def alive(self) -> int:
        """Number of running threads."""
        return sum(thread is not None and thread.is_alive() for thread in self._threads)

    def _pace(self, workers: int, effort: float) -> None:
        """Choose the time between turns: a CPU gets as many turns as one worker would take, whoever takes them.

        Args:
            workers: how many there are.
            effort: what all of them burn, CPUs.
        """
        busy = min(max(workers, 1), len(os.sched_getaffinity(0)))
        # Either, or: a period that changes with every command would shift the turns all the time.
        rare = PERIOD if effort * PERIOD >= SHORT_BURST * busy else MAX_TURN
        self._step = self._fixed_period or min(max(rare, busy / TURNS_PER_SECOND), MAX_TURN)
        self._period = self._fixed_period or self._step * max(workers, 1) / busy

    def _started(self, index: int) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, args=(index,), name=f"worker-{next(self._names)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None  # there is a limit on threads: the others carry the effort, and the next cycle tries again
        return thread

    def _run(self, index: int) -> None:
        try:
            self._work(index)
        except Exception as error:
            # It doesn't end the program: the next cycle replaces and counts the thread. The same reason is logged once.
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
        last = due - self._period  # as if there had been turns before; otherwise many workers would start slowly
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
        """When the turn after the one at `last` is due, on a grid that is shifted by the worker's part of a period.

        So the workers don't burn in step, and the dither doesn't accumulate.
        """
        period = self._period
        base = self._epoch + period * index / max(self._wanted, 1)
        dither = DITHER * self._step * random.random()  # noqa: S311 - not a secret
        return base + period * ((last - base) // period + 1) + dither
