"""How much a guest works so that it burns what it is asked for. Pure.

A guest is a boot sector (guest.S) that does a number of units of work every 10 ms. How long a unit takes depends on the
machine, so `Pace` holds what a guest has burnt, measured from outside, against what it is asked for, and says how many
units it does next.
"""

from __future__ import annotations

from loadband.rebalance.platforms.history import History

MOST = 0.95
"""CPUs that a guest can burn: it has one, and must find the time to look at its timer."""
SETTLED = 0.8
"""Seconds over which a guest must have burnt what it is asked for until it isn't pending any more."""
STEADY = 2.0
"""Seconds over which a guest is measured that is off by so little that a shorter look might be wrong about it."""
NEAR = 0.05, 0.02
"""How far from what it is asked for a settled guest may be: as a ratio of it, and in CPUs; the larger counts."""
FAR = 0.04, 0.003
"""Above that, likewise, a short look is enough: guests that crowd a CPU share what there is, and so hide how much
more they want, so that only several corrections, one after the other, find it."""
EXACT = 0.01, 0.003
"""Within that, likewise, it isn't corrected."""
FOUND = 0.1, 0.003
"""Within that, likewise, it is known how fast the machine is."""
FIRST_CORRECTION, NEXT_CORRECTION = 8.0, 1.2
"""By which factor the work changes at most, before that is known and after it."""
UNITS_PER_CPU = 20_000
"""What one emulated CPU did in 10 ms. Other machines do more or less; a search has to begin somewhere."""
ALL = 0.98
"""CPUs; a guest that burns that much has more to do than it can: nobody knows how much more."""
HALF = 0.5
"""By which its work is changed then."""
MOST_UNITS = 10_000_000
LEAST_RATE = 0.001
"""CPUs; less isn't told apart from none."""


class Pace:
    """How much a guest works.

    Args:
        asked: CPUs that it is asked for.
        units_per_cpu: where the search begins: that many units of work in 10 ms burn a CPU.
    """

    def __init__(self, asked: float, units_per_cpu: float = UNITS_PER_CPU) -> None:
        self._lately = History(STEADY)
        self._units_per_cpu = units_per_cpu
        self.asked = asked
        self.units = round(units_per_cpu * asked)
        self.settled = asked == 0
        self._found = False

    def ask(self, cpus: float) -> None:
        """Ask for another amount from now on, CPUs, 0..`MOST`."""
        self._units_per_cpu = self.units_per_cpu
        self.units = round(self._units_per_cpu * cpus)
        self.asked = cpus
        self.settled = cpus == 0
        self._found = False
        self._lately.clear()

    @property
    def units_per_cpu(self) -> float:
        """What was found out about the machine."""
        return self.units / self.asked if self.asked else self._units_per_cpu

    def forget(self) -> None:
        """Forget what was measured: it was made under other circumstances."""
        self._lately.clear()

    def add(self, at: float, used: float, *, room: bool) -> bool:
        """Take what it has burnt, and correct how much it works; returns whether that has changed.

        Args:
            at: monotonic seconds.
            used: its CPU-seconds since some begin.
            room: whether its host has CPU time left. If not, it gets less than it is asked for through no fault of its
                own: it isn't told to work more, which would be too much once there is room again.
        """
        self._lately.add(at, used)
        rate = self._lately.rate(SETTLED)
        if rate is None or self.asked == 0:
            return False
        off = abs(rate - self.asked)
        if self.settled and off <= _allowance(self.asked, FAR):
            if (rate := self._lately.rate(STEADY)) is None:
                return False
            off = abs(rate - self.asked)
        self.settled = self.settled or off <= _allowance(self.asked, NEAR)
        self._found = self._found or (off <= _allowance(self.asked, FOUND) and rate <= ALL)
        if off <= _allowance(self.asked, EXACT) or (rate < self.asked and not room):
            return False
        most = NEXT_CORRECTION if self._found else FIRST_CORRECTION
        factor = min(max(self.asked / max(rate, LEAST_RATE), 1 / most), most)
        if rate > ALL and not self._found:
            factor = min(factor, HALF)
        self.units = min(max(round(self.units * factor), 1), MOST_UNITS)
        self._lately.clear()
        return True

    @property
    def message(self) -> bytes:
        """What the guest is told on its console. The first newline ends what it may have half heard before."""
        return b"\n%d\n" % self.units


def _allowance(asked: float, bounds: tuple[float, float]) -> float:
    ratio, cpus = bounds
    return max(ratio * asked, cpus)
