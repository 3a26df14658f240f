"""Scenarios: which hosts and slices there are, how the overload comes about, and what is expected of the platform.

`scenario_file.parse` reads one. `script` turns it into what the conductor does, on the hosts of a platform; `outlook`
says what moving slices could do about the overload. Everything here is pure.

A scenario suits every platform: sizes are shares of a host, and durations of the monitoring are those that loadband
ships, divided by `faster`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from loadband.rebalance.events import Expectation, Host, Imbalance, Plan
from loadband.rebalance.run import Change, Put, Script
from loadband.rebalance.timeline import imbalance_of

RAMP_STEP = 2.0
"""Seconds from one size of a growing slice to the next, at least."""
RAMP_STEPS = 60
"""Sizes that a growing slice takes, at most."""
SHIPPED_WINDOW = 120.0
"""Over how long the shipped rules average a host's utilization, seconds; a test holds it against them."""

PLACES = ("hot", "cool", "each")
"""The hosts that are overloaded on purpose, the others, or all. Where slices are is one of these words or a host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """Slices that are there from the start."""

    name: str
    """`resident` makes resident-1, resident-2 ..."""
    on: str
    """See `PLACES`."""
    count: int
    """On each of these hosts."""
    size: float
    """What each burns, a ratio of its host."""
    movable: bool
    """Whether a rebalancer may move them; if not, they are neighbours that it only sees as load of their host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A part of the overload: slices that come."""

    name: str
    on: str
    count: int
    size: float
    movable: bool
    """As in `Slices`."""
    after: float
    """Seconds after the overload began."""
    over: float
    """Seconds in which they grow to their size; 0: at once."""
    lasts: float | None
    """Seconds after `after` when they stop burning; None: they don't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """A part of the overload: slices that are there burn another amount."""

    name: str
    """Of `Slices`."""
    on: str
    size: float
    after: float
    over: float
    lasts: float | None
    """Seconds after `after` when they burn again what they did before; None: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that a scenario says; times in seconds, sizes and utilization as ratios."""

    name: str
    proves: str
    """One sentence."""
    expect: Expectation
    rebalancer: str
    """The one that is used if the command line names none."""
    hosts: tuple[str, ...]
    hot_hosts: tuple[str, ...]
    slices: tuple[Slices, ...]
    overload: tuple[Addition | Raise, ...]
    alert: str
    hot: float
    imbalance: Imbalance
    theta: float
    hold: float
    settle: float
    return_within: float
    baseline: float
    watch: float
    recovery: float
    limits: Mapping[str, str] = field(default_factory=dict)
    faster: float
    """By how much the shipped rules and configurations are shortened."""
    sample: float
    foreign: float
    """What others may burn of a host, a ratio."""
    fail_moves: int
    """How many moves the platform lets fail before the first one succeeds."""
    repeats: int
    seed: int

    def plan(self) -> Plan:
        """What figures and verdict need of it."""
        return Plan(
            scenario=self.name,
            expect=self.expect,
            alert=self.alert,
            hot_hosts=self.hot_hosts,
            hot=self.hot,
            imbalance=self.imbalance,
            theta=self.theta,
            hold=self.hold,
            settle=self.settle,
            return_within=self.return_within,
            window=SHIPPED_WINDOW / self.faster,
            sample_interval=self.sample,
            watch=self.watch,
            limits=self.limits,
            most_foreign=self.foreign,
        )


def places(hosts: Sequence[str], hot: Sequence[str], on: str) -> tuple[str, ...]:
    """The hosts that a word names.

    Args:
        hosts: all of them.
        hot: those of them that are overloaded on purpose.
        on: one of `PLACES`, or a host's name.
    """
    match on:
        case "each":
            return tuple(hosts)
        case "hot":
            return tuple(hot)
        case "cool":
            return tuple(host for host in hosts if host not in hot)
    return (on,)


def _at(scenario: Scenario, on: str) -> tuple[str, ...]:
    return places(scenario.hosts, scenario.hot_hosts, on)


def start(scenario: Scenario) -> list[Put]:
    """The slices that are there from the start, with sizes as shares of a host."""
    return [
        Put(name, host, group.size, group.movable)
        for group in scenario.slices
        for host in _at(scenario, group.on)
        for name in _names(group.name, host, group.count)
    ]


def _names(name: str, host: str, count: int) -> list[str]:
    """What the slices of a group on a host are called: resident-1-2 is the second one on host-1."""
    return [f"{name}-{host.removeprefix('host-')}-{number}" for number in range(1, count + 1)]


def changes(scenario: Scenario) -> list[Change]:
    """What the overload does, step by step, with sizes as shares of a host; in the order of time."""
    groups = {(group.name, host): group for group in scenario.slices for host in _at(scenario, group.on)}
    sizes = {key: group.size for key, group in groups.items()}
    found: list[Change] = []
    for part in sorted(scenario.overload, key=lambda part: part.after):
        for host in _at(scenario, part.on):
            key = part.name, host
            group = part if isinstance(part, Addition) else groups[key]
            steps = course(part, sizes.get(key, 0.0))
            sizes[key] = steps[-1][1]
            for name in _names(part.name, host, group.count):
                found += [Change(after, name, size, host, group.movable) for after, size in steps]
    return sorted(found, key=lambda change: change.after)


def course(part: Addition | Raise, before: float) -> list[tuple[float, float]]:
    """When each slice of a part is asked for which size; at least once.

    Args:
        part: of the overload.
        before: what the slice burns until then, a ratio.

    Returns:
        Seconds after the overload began, with ratios.
    """
    steps = min(max(round(part.over / RAMP_STEP), 1), RAMP_STEPS)
    found = [
        (part.after + part.over * step / steps, before + (part.size - before) * (step + 1) / steps)
        for step in range(steps)
    ]
    return found if part.lasts is None else [*found, (part.after + part.lasts, before)]


def asked(scenario: Scenario) -> list[tuple[float, dict[str, float]]]:
    """What is asked of each host if nothing moves: from when (seconds after the overload began), ratios by host.

    The first entry is the baseline's; its time is 0 or less.
    """
    sizes = {put.name: put.cpus for put in start(scenario)}
    sums = dict.fromkeys(scenario.hosts, 0.0)
    for put in start(scenario):
        sums[put.host] += put.cpus
    found = [(-scenario.baseline, dict(sums))]
    for after, together in groupby(changes(scenario), key=lambda change: change.after):
        for change in together:
            sums[change.host] += change.cpus - sizes.get(change.name, 0.0)
            sizes[change.name] = change.cpus
        if found[-1][0] == after:
            found.pop()
        found.append((after, dict(sums)))
    return [(after, {host: round(value, 9) for host, value in levels.items()}) for after, levels in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What moving slices could do about the overload when it is worst, if all hosts are of the same size."""

    after: float
    """When it is worst: seconds after the overload began."""
    before: float
    """Imbalance then, in the unit of the scenario's measure."""
    moves: tuple[tuple[str, str], ...]
    """Slices and destinations; none if no move from the fullest to the emptiest host lowers the imbalance."""
    left: float
    """Imbalance after these moves: theta at most, or what moving can't lower any more."""


def outlook(scenario: Scenario) -> Outlook:
    """Move from the fullest host to the emptiest what lowers the imbalance most, until it is at most theta.

    That is the plainest of all plans, and not always the shortest.
    """
    after, levels = max(asked(scenario), key=lambda each: (max(each[1].values()), -each[0]))
    sizes = {put.name: (put.host, put.cpus) for put in start(scenario) if put.movable}
    for change in changes(scenario):
        if change.after <= after and change.movable:
            sizes[change.name] = change.host, change.cpus
    best = before = _unevenness(scenario, levels)
    moves: list[tuple[str, str]] = []
    while best[0] > scenario.theta:
        fullest, emptiest = max(levels, key=levels.__getitem__), min(levels, key=levels.__getitem__)
        # Slices of one size are as good as each other: the first by name is tried.
        here = {size: name for name, (host, size) in sorted(sizes.items(), reverse=True) if host == fullest and size}
        tried = [(_unevenness(scenario, _moved(levels, fullest, emptiest, size)), size) for size in here]
        if not tried or min(tried)[0] >= best:
            break
        best, size = min(tried)
        levels = _moved(levels, fullest, emptiest, size)
        sizes[here[size]] = emptiest, size
        moves.append((here[size], emptiest))
    return Outlook(after=max(after, 0.0), before=before[0], moves=tuple(moves), left=best[0])


def _unevenness(scenario: Scenario, levels: Mapping[str, float]) -> tuple[float, float]:
    """Imbalance by the scenario's measure and, where that doesn't change, by the standard deviation."""
    measures = scenario.imbalance, Imbalance.SD
    measured, deviation = (round(imbalance_of(list(levels.values()), measure), 9) for measure in measures)
    return measured, deviation


def _moved(levels: Mapping[str, float], source: str, destination: str, size: float) -> dict[str, float]:
    return {**levels, source: levels[source] - size, destination: levels[destination] + size}


def remarks(scenario: Scenario) -> tuple[str, ...]:
    """What isn't wrong with a scenario and yet makes one wonder, a sentence each without its point."""
    found = []
    levels = [sums for _, sums in asked(scenario)]
    for host in scenario.hosts:
        most = max(sums[host] for sums in levels)
        if host in scenario.hot_hosts and most < scenario.hot:
            found.append(
                f"{host} is to be hot and is asked for at most {100 * most:.4g} %, which is below the hot threshold: "
                "only with other load is there an overload"
            )
        elif host not in scenario.hot_hosts and most >= scenario.hot:
            found.append(f"{host} isn't among the hot hosts and is asked for {100 * most:.4g} %")
    if not any(part.movable for part in (*scenario.slices, *scenario.overload) if not isinstance(part, Raise)):
        found.append("there is no slice that a rebalancer may move")
    seen = outlook(scenario)
    if scenario.expect is Expectation.BALANCE and seen.left > scenario.theta:
        measured = f"the {scenario.imbalance} at {seen.left:.3g}, above theta"
        found.append(f"balance is expected, and moving slices from the fullest host to the emptiest leaves {measured}")
    ends = [part.after + part.lasts for part in scenario.overload if part.lasts is not None]
    if scenario.expect is Expectation.BALANCE and ends and min(ends) < scenario.watch:
        found.append(
            f"part of the overload ends {min(ends):g} s after its begin, before the watch does: a run in which balance "
            "hasn't held by then is INVALID, since it may come back by itself"
        )
    return tuple(found)


def script(scenario: Scenario, hosts: Sequence[Host], seed: int | None = None) -> Script:
    """What the conductor does: a scenario on the hosts of a platform, which stand for host-1, host-2 ... in order.

    Args:
        scenario: what to do.
        hosts: at least as many as the scenario has.
        seed: instead of the scenario's.

    Raises:
        ValueError: there are too few hosts.
    """
    if len(hosts) < len(scenario.hosts):
        raise ValueError(f"{scenario.name} needs {len(scenario.hosts)} hosts; there are {len(hosts)}")
    real = dict(zip(scenario.hosts, hosts, strict=False))
    plan = dataclasses.replace(scenario.plan(), hot_hosts=tuple(real[host].name for host in scenario.hot_hosts))
    return Script(
        plan=plan,
        slices=[
            Put(put.name, real[put.host].name, put.cpus * real[put.host].cpus, put.movable) for put in start(scenario)
        ],
        overload=[
            dataclasses.replace(change, cpus=change.cpus * real[change.host].cpus, host=real[change.host].name)
            for change in changes(scenario)
        ],
        baseline=scenario.baseline,
        recovery=scenario.recovery,
        seed=scenario.seed if seed is None else seed,
    )
