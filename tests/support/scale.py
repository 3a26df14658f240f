"""How regulation scales with CPUs and with regulators, on simulated machines: `make scale` runs this.

It writes docs/benchmark/scale.md and its picture. Nothing is measured, so any machine may be busy with it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from plant import Plant, regulator, run, run_together

from loadband.quantities import Band

BAND = Band(0.6, 0.7)
CPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
REGULATORS = (1, 2, 4, 8, 16, 32, 64)
SHARED_CPUS = 16
"""Of the host on which several regulators are."""
ARRIVES, LEAVES, END = 20.0, 40.0, 60.0
"""Seconds, of the neighbour that comes and goes."""
AFTER = 3.0
"""Seconds after an event until errors count."""
NEIGHBOUR, QUIET = 0.3, 0.01
"""What the others want of all CPUs, with the neighbour and without."""
NOISE = 0.004
"""Standard deviation of that."""
FOLDER = Path(__file__).parents[2] / "docs/benchmark"


def as_alone(_time: float, _utilization: float) -> float:
    """Everybody's work takes as long as alone."""
    return 1.0


def beside_siblings(_time: float, utilization: float) -> float:
    """Two threads share a core: while the other one is busy, work takes 1.6 times as long."""
    return 1 + 0.6 * utilization


def at_changing_speed(time: float, _utilization: float) -> float:
    """The clock goes from full speed to 60 % of it and back in 10 s."""
    return 1 / (0.8 + 0.2 * math.cos(2 * math.pi * time / 10))


def on_unequal_cores(time: float, _utilization: float) -> float:
    """Every twentieth of a second the work comes to another core; half of them do 60 % of the work of the others."""
    return random.Random(round(20 * time)).choice((1.0, 1 / 0.6))


def no_theft(_time: float) -> float:
    """All CPUs run whenever somebody wants to."""
    return 0.0


def noisy_theft(time: float) -> float:
    """A hypervisor takes up to a fifth of the CPUs' time, another part every tenth of a second."""
    return random.Random(round(10 * time)).uniform(0.0, 0.2)


@dataclass(frozen=True, slots=True)
class Condition:
    """A kind of machine; see `Plant`."""

    title: str
    slowdown: Callable[[float, float], float] = as_alone
    stolen: Callable[[float], float] = no_theft


CONDITIONS = (
    Condition("plain CPUs"),
    Condition("two threads share a core", slowdown=beside_siblings),
    Condition("the clock goes down to 60 % and back in 10 s", slowdown=at_changing_speed),
    Condition("half of the cores do 60 % of the work", slowdown=on_unequal_cores),
    Condition("up to 20 % is stolen", stolen=noisy_theft),
)


@dataclass(frozen=True, slots=True)
class Alone:
    """What one regulator achieves on a machine; seconds, and ratios."""

    cold: float
    """From its first cycle until the band is held."""
    arrives: float
    """From a neighbour's arrival until it is held again."""
    leaves: float
    """The same, from its end."""
    error: float
    """Mean absolute error of 1-s windows without the neighbour."""
    beside: float
    """The same, with it."""


def alone(cpus: int, condition: Condition) -> Alone:
    """Simulate a minute of a regulator on a machine."""

    def others(time: float) -> float:
        return cpus * (NEIGHBOUR if ARRIVES <= time < LEAVES else QUIET)

    plant = Plant(cpus, others, noise=NOISE * cpus, slowdown=condition.slowdown, stolen=condition.stolen)
    run(plant, regulator(plant, BAND)[0], END)
    return Alone(
        cold=plant.settled(BAND, 0.0),
        arrives=plant.settled(BAND, ARRIVES),
        leaves=plant.settled(BAND, LEAVES),
        error=plant.mean_error(BAND.target, since=AFTER, until=ARRIVES),
        beside=plant.mean_error(BAND.target, since=ARRIVES + AFTER, until=LEAVES),
    )


@dataclass(frozen=True, slots=True)
class Together:
    """What several regulators achieve on one host; seconds, and ratios."""

    joined: float
    """From the start of the last one until the band is held."""
    arrives: float
    """From a neighbour's arrival until it is held again."""
    error: float
    """Mean absolute error of 1-s windows, from 5 s after the last start on."""
    fairness: float
    """Jain's index of what they used in the last 30 s, 0..1 (Jain, Chiu, Hawe 1984)."""


def together(regulators: int) -> Together:
    """Simulate regulators that start one after the other on a host, and a neighbour that comes to it later."""
    starts = [0.37 * index for index in range(regulators)]
    last, arrives, end = starts[-1], starts[-1] + 60, starts[-1] + 120
    plant = Plant(
        SHARED_CPUS,
        lambda time: SHARED_CPUS * (NEIGHBOUR if time >= arrives else QUIET),
        noise=NOISE * SHARED_CPUS,
        seed=regulators,
    )
    loops = [regulator(plant, BAND)[0] for _ in range(regulators)]
    spent = run_together(plant, loops, until=end, starts=starts)
    begin = next(used for at, used in spent if at >= end - 30)
    shares = [after - before for before, after in zip(begin, spent[-1][1], strict=True)]
    return Together(
        joined=plant.settled(BAND, last),
        arrives=plant.settled(BAND, arrives),
        error=plant.mean_error(BAND.target, since=last + 5, until=arrives),
        fairness=sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares)),
    )


def main() -> None:
    """Simulate all, and write the page and its picture."""
    machines = {condition: [alone(cpus, condition) for cpus in CPUS] for condition in CONDITIONS}
    hosts = [together(regulators) for regulators in REGULATORS]
    _draw(machines, hosts).savefig(FOLDER / "scale.svg", metadata={"Date": None})
    (FOLDER / "scale.md").write_text(_page(machines, hosts))
    print(f"written: {FOLDER / 'scale.md'} and its picture")


def _draw(machines: dict[Condition, list[Alone]], hosts: Sequence[Together]) -> Figure:
    mpl.rcParams.update({"svg.hashsalt": "scale", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure = Figure(figsize=(10, 7.2), layout="constrained")
    (settling, error), (joining, fairness) = figure.subplots(2, 2)
    for condition, found in machines.items():
        worst = [max(one.cold, one.arrives, one.leaves) for one in found]
        settling.plot(CPUS, worst, marker=".", label=condition.title)
        error.plot(CPUS, [100 * max(one.error, one.beside) for one in found], marker=".")
    joining.plot(REGULATORS, [one.joined for one in hosts], marker=".", label="the last one starts")
    joining.plot(REGULATORS, [one.arrives for one in hosts], marker=".", label="a neighbour of 30 % arrives")
    fairness.plot(REGULATORS, [one.fairness for one in hosts], marker=".")
    for axes, what, of in (
        (settling, "longest settling time, s", "CPUs"),
        (error, "larger mean error, percentage points", "CPUs"),
        (joining, "settling time, s", "regulators on a host"),
        (fairness, "Jain's index of their shares", "regulators on a host"),
    ):
        axes.set_xscale("log", base=2)
        axes.set_xticks(CPUS if of == "CPUs" else REGULATORS, labels=map(str, CPUS if of == "CPUs" else REGULATORS))
        axes.set_ylim(0, 1.02 if axes is fairness else None)
        axes.set_xlabel(of)
        axes.set_ylabel(what)
        axes.grid(alpha=0.3)
    settling.legend(fontsize="small")
    joining.legend(fontsize="small")
    return figure


_ABOUT = """\
The real loop and law on simulated machines (`make scale`), since one with 512 CPUs wasn't at hand. The regulator holds
60..70 %; a neighbour that wants 30 % of the machine comes after 20 s and leaves after 40 s. Times are those until the
band is held for 10 s, errors are those of 1-second windows.

What is regulated is CPU time. CPUs that are slow, share a core or differ from each other don't change what the
regulator burns, but how long others take for the same work; that is what is simulated. What a kernel with so many CPUs
costs isn't: `test_many_cpus.py` measures a cycle on files of such a machine.
"""
_TOGETHER = f"""\
Several regulators on a host with {SHARED_CPUS} CPUs start one after the other; the neighbour comes a minute after the
last of them. Jain's index is that of the second half minute beside the neighbour: the more there are, the longer it
takes until their shares are equal again. From about 20 on, the gains with which those come up that burn little add up
to more than one host can stand: they overshoot, see it, and come up slower for some seconds. Without that,
64 of them swung between 54 and 89 % after the neighbour left, and were in the band for 23 % of the next minute. The
price is paid by one that has little of the band beside others whose load jumps by a fifth of the machine: when they
leave, it is back in the band after 0.8 s instead of 0.5 s.
"""


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{abs(value):.1f} s"  # -0.0 is one of the plant's rounding


def _page(machines: dict[Condition, list[Alone]], hosts: Sequence[Together]) -> str:
    lines = [
        "# How it scales, simulated",
        "",
        _ABOUT,
        "![settling time and error by CPUs, settling time and fairness by regulators](scale.svg)",
        "",
        "| machine | CPUs | start | neighbour arrives | it leaves | error alone | error beside it |",
        "|---|---|---|---|---|---|---|",
    ]
    for condition, found in machines.items():
        lines += [
            f"| {condition.title} | {cpus} | {_seconds(one.cold)} | {_seconds(one.arrives)} | {_seconds(one.leaves)} "
            f"| {100 * one.error:.2f} pp | {100 * one.beside:.2f} pp |"
            for cpus, one in zip(CPUS, found, strict=True)
        ]
    lines += [
        "",
        _TOGETHER,
        "| regulators | the last one starts | neighbour arrives | error | Jain's index of their shares |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {count} | {_seconds(one.joined)} | {_seconds(one.arrives)} "
        f"| {100 * one.error:.2f} pp | {one.fairness:.3f} |"
        for count, one in zip(REGULATORS, hosts, strict=True)
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
