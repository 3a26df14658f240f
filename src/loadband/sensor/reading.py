"""Turns two samples into a reading; pure.

Idle time is measured against the clock, not against the sum of ticks, and the process's own use by its CPU clock; the
rest of capacity x time is that of other processes (scopes host and cpuset). In the scope container, usage is known, and
the rest is idle time.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from loadband.quantities import Carry, Dropped, DropReason, Reading

if TYPE_CHECKING:
    from loadband.quantities import Sample

SHORTEST = 0.001
"""Seconds; a difference over less time says nothing."""

FROZEN_AFTER = 0.05
"""Seconds, after which counters in steps of 10 ms have moved, unless they are frozen."""

TOLERANCE = 0.25
"""How much more than the elapsed time a counter may claim, as a ratio: reading it takes time, too."""

BACKWARDS_STEPS = 1.5
"""Steps by which a counter may go back: one is rounding, two aren't."""

CARRIED_STEPS = 2
"""Steps of the counter that may be carried into the next reading: idle and iowait are each truncated to a step."""

EXPLAINED = 0.5
"""The part of the time that all counters together must account for while idle time stands still. Not all of it: busy
time is sampled at the kernel's tick, and a hypervisor may keep the kernel from sampling it."""

LATE = 0.002
"""Seconds by which a counter may be read later than the clock; so much time may be carried into the next reading."""

NOTHING = Carry()
"""The carry into the first of consecutive readings."""

_GRID = 2**40
"""Shares are multiples of 1 / 2^40, so that their sum is exactly 1, in whatever order they are added."""


def difference(previous: Sample, now: Sample, max_gap: float, carry: Carry = NOTHING) -> Reading | Dropped:
    """The reading between two samples of one sensor.

    Args:
        previous: the earlier sample.
        now: the later one.
        max_gap: the longest time between them that is trusted, seconds.
        carry: that of the reading that ended with `previous`, if there was one. With it, the sums of consecutive
            readings follow the counters to within a few steps, for ever; without it, every reading that had to be
            limited to 0..1 leaves an error (up to one point of mean utilization at 100 ms on 2 CPUs).

    Returns:
        The reading, or the reason why there is none.
    """
    dropped = _incomparable(previous, now, max_gap) or _implausible(previous, now)
    if dropped:
        return dropped
    dt = now.at - previous.at
    span = now.capacity * dt
    bound = CARRIED_STEPS * now.quantum + LATE * now.capacity + now.quota

    def place(seconds: float, free: float) -> tuple[float, float]:
        """The share of the capacity for some CPU-seconds, at most what is free, and the CPU-seconds left over."""
        share = floor(_GRID * min(max(seconds / span, 0.0), free)) / _GRID
        return share, min(max(seconds - share * span, -bound), bound)

    advanced = _advanced(previous, now)
    own_advanced = now.own - previous.own
    stolen, steal_fell = now.steal - previous.steal, _steal_fell(previous, now)
    steal = steal_left = other_left = idle_left = 0.0
    own, own_left = place(own_advanced + carry.own, 1.0)
    if now.busy is None:
        steal, steal_left = place(0.0 if steal_fell else stolen + carry.steal, 1 - own)
        idle, idle_left = place(advanced + carry.idle, 1 - own - steal)
        other = 1 - own - steal - idle
    else:
        other, other_left = place(advanced - own_advanced + carry.other, 1 - own)
        idle = 1 - own - other
    return Reading(
        at=now.at,
        dt=dt,
        capacity=now.capacity,
        reach=now.reach,
        own=own,
        other=other,
        steal=steal,
        idle=idle,
        uncertainty=now.quantum / span,
        carry=Carry(own=own_left, other=other_left, steal=steal_left, idle=idle_left),
        steal_fell=steal_fell,
    )


def _advanced(previous: Sample, now: Sample) -> float:
    """By how much the scope's counter of idle or busy time advanced, CPU-seconds."""
    if now.busy is not None and previous.busy is not None:
        return now.busy - previous.busy
    idle = (now.idle or 0.0) - (previous.idle or 0.0)
    # Waiting for I/O is idle time that moves from one counter to the other and back, so their sum can be trusted. But
    # iowait may also decrease by itself (proc_stat(5)).
    both = idle + now.iowait - previous.iowait
    return both if both >= -BACKWARDS_STEPS * now.quantum else idle


def _steal_fell(previous: Sample, now: Sample) -> bool:
    """Whether steal went backwards: on Xen and after live migrations, it may do so for ever while idle is right."""
    return now.steal - previous.steal < -BACKWARDS_STEPS * now.quantum


def _incomparable(previous: Sample, now: Sample, max_gap: float) -> Dropped | None:
    """Why the two samples have no difference."""
    dt = now.at - previous.at
    if not SHORTEST <= dt <= max_gap:
        return Dropped(
            DropReason.GAP,
            f"the samples are {dt:.3f} s apart, not {SHORTEST:g}..{max_gap:g} s: was the process stopped?",
        )
    if now.cpus != previous.cpus:
        return Dropped(
            DropReason.CHANGED, f"the CPUs changed from {len(previous.cpus)} to {len(now.cpus)} or to others"
        )
    if now.capacity != previous.capacity:
        return Dropped(DropReason.CHANGED, f"the capacity changed from {previous.capacity:g} to {now.capacity:g} CPUs")
    if now.source != previous.source:
        return Dropped(DropReason.CHANGED, f"the limit moved: use is now counted in {now.source}")
    return None


def _explains(previous: Sample, now: Sample) -> bool:
    """Whether all counters together account for most of the time, as on a machine that really is busy."""
    span = now.capacity * (now.at - previous.at)
    return now.ticks - previous.ticks + BACKWARDS_STEPS * now.quantum >= EXPLAINED * span or _steal_fell(previous, now)


def _implausible(previous: Sample, now: Sample) -> Dropped | None:
    """Why the counters can't be believed."""
    dt = now.at - previous.at
    own = now.own - previous.own
    scope = ("idle" if now.busy is None else "busy", _advanced(previous, now))
    most = (1 + TOLERANCE) * len(now.cpus) * dt + now.quantum
    for name, seconds in (scope, ("steal", now.steal - previous.steal), ("own", own)):
        if name != "steal" and seconds < -BACKWARDS_STEPS * now.quantum:
            return Dropped(DropReason.BACKWARDS, f"the {name} time of {now.source} went back by {-seconds:.3f} s")
        if seconds > most:
            why = f"the {name} time of {now.source} grew by {seconds:.3f} s in {dt:.3f} s on {len(now.cpus)} CPUs"
            return Dropped(DropReason.ABSURD, why)
    if dt >= FROZEN_AFTER and now.ticks == previous.ticks:
        return Dropped(DropReason.FROZEN, f"no counter of {now.source} moved in {dt:.3f} s")
    if dt >= FROZEN_AFTER and now.busy is None and scope[1] == 0 and not _explains(previous, now):
        why = f"the idle time of {now.source} stands still, although its other counters don't say that it is busy"
        return Dropped(DropReason.FROZEN, why)
    if now.busy is not None and own > 2 * scope[1] + now.quantum:
        why = f"{now.source} counted {scope[1]:.3f} s, but this process alone used {own:.3f} s"
        return Dropped(DropReason.FROZEN, why)
    return None
