"""The chains from a cause to its notification and back, each step timed and held against what the settings allow."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet import Regulator, hosts, running
from rich.table import Table
from watched import Notification, Servers

from loadband.rebalance.programs import wait_for

FACTOR = 15.0
"""How many times faster than shipped: a scrape a second instead of every 15."""
SLACK = 1.5
"""Seconds that a busy machine may take on top of what the settings allow, once a step."""
PATIENCE = 30.0
"""Seconds after which a step that is overdue is given up."""

LOW, HIGH = (25, 45), (80, 96)
"""Bands, percent: well below the threshold for hot hosts, and well above it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain; seconds since the step before it, and of the first since its cause is there, or gone."""

    chain: str
    name: str
    took: float
    at_least: float
    at_most: float
    allowed: str
    """What the latest time is made of."""

    @property
    def late(self) -> bool:
        """Whether it came later than it must be."""
        return self.took > self.at_most + SLACK

    @property
    def early(self) -> bool:
        """Whether it came sooner than an honest chain could."""
        return self.took < self.at_least - SLACK


class Chains:
    """Two hosts with some regulators each, watched by the real servers.

    Args:
        folder: empty; all that the servers write is in it.
    """

    def __init__(self, folder: Path) -> None:
        self.servers = Servers(folder, FACTOR)
        nodes = hosts()
        first, second = nodes.items()
        self.raised = Regulator("raised", *first, MIN=str(LOW[0]), MAX=str(LOW[1]))
        self.steady = Regulator("steady", *second, MIN=str(LOW[0]), MAX=str(LOW[1]))
        # Beside `raised` it never gets to burn; beside `steady` it may not burn enough.
        self.yielding = Regulator("yielding", *first, MIN="5", MAX="10")
        self.saturated = Regulator("saturated", *second, MIN="75", MAX="85", MAX_EFFORT="0.05")
        self.fixed = Regulator("fixed", *second, EFFORT="50m", DURATION="1h")
        self.regulators = (self.raised, self.steady, self.yielding, self.saturated, self.fixed)

    @property
    def hot_from(self) -> float:
        """The threshold for hot hosts, a ratio."""
        ((_, threshold),) = self.servers.query('loadband:threshold:ratio{threshold="host_hot"}')
        return threshold

    @contextmanager
    def open(self) -> Iterator[None]:
        """Run all of it, from when everything is seen and as it should be.

        Raises:
            TimeoutError: something doesn't get there.
        """
        with self.servers.open(), running(self.regulators):
            self.servers.target([(one.address, one.labels) for one in self.regulators])
            wait_for(lambda: self.raised.is_in("holding"), PATIENCE, "the first host to be in its band")
            wait_for(lambda: self.steady.is_in("holding"), PATIENCE, "the second host to be in its band")
            wait_for(lambda: self.yielding.is_in("yielding"), PATIENCE, "a regulator to yield")
            wait_for(lambda: self.saturated.is_in("saturated"), PATIENCE, "a regulator to be saturated")
            count = len(self.regulators)
            wait_for(lambda: len(self.servers.query("loadband_build_info")) == count, PATIENCE, "scrapes")
            wait_for(self._is_calm, PATIENCE, "both hosts to be recorded, and nobody to be hot")
            yield

    def _is_calm(self) -> bool:
        """Whether a whole window of each host is recorded, and none is hot."""
        server = self.servers.prometheus
        samples = int(server.window / server.evaluation) - 1
        span = f"{round(1000 * server.window)}ms"
        recorded = self.servers.query(f"count_over_time(node:loadband_host_cpu:ratio[{span}]) >= {samples}")
        return len(recorded) == len(hosts()) and not self._active("LoadbandHostHot", {})

    def hot(self) -> list[Step]:
        """A band is raised above the threshold for hot hosts, and lowered again."""
        timing, labels = self.servers.prometheus, {"node": self.raised.node}
        threshold = self.hot_from
        # How much of the window at least has to be of the new load until its mean crosses the threshold.
        up = (threshold - LOW[1] / 100) / (1 - LOW[1] / 100)
        down = (HIGH[0] / 100 - threshold) / (HIGH[0] / 100)
        sampled = timing.window - 2 * timing.scrape
        crossing = timing.window + timing.scrape + timing.evaluation
        return self._chain(
            "hot host",
            "LoadbandHostHot",
            labels,
            begin=lambda: self._retarget(self.raised, HIGH),
            end=lambda: self._retarget(self.raised, LOW),
            pending=(up * sampled, crossing, "window + scrape + evaluation"),
            resolved=(down * sampled, crossing, "window + scrape + evaluation"),
        )

    def killed(self) -> list[Step]:
        """A regulator is killed, and started again."""

        def kill() -> None:
            self.steady.signal(signal.SIGKILL)

        def start() -> None:
            self.steady.stop()
            self.steady.start()
            wait_for(lambda: self.steady.metric("loadband_cycles_total"), PATIENCE, "the regulator to answer again")

        timing = self.servers.prometheus
        return self._chain(
            "killed",
            "LoadbandDown",
            {"instance": self.steady.address},
            begin=kill,
            end=start,
            pending=(0.0, timing.scrape + timing.evaluation, "scrape + evaluation"),
            resolved=(0.0, timing.scrape + timing.evaluation, "scrape + evaluation"),
        )

    def stopped(self) -> list[Step]:
        """A regulator is stopped with SIGSTOP, so that it doesn't answer, and continued."""
        timing = self.servers.prometheus
        # Not the one that was killed: Alertmanager keeps a group for half a minute after its last alert, and what joins
        # it meanwhile waits for a group_interval. Prometheus gives a scrape no longer than until the next one.
        return self._chain(
            "stopped",
            "LoadbandDown",
            {"instance": self.raised.address},
            begin=lambda: self.raised.signal(signal.SIGSTOP),
            end=lambda: self.raised.signal(signal.SIGCONT),
            pending=(0.0, 2 * timing.scrape + timing.evaluation, "scrape + its timeout + evaluation"),
            resolved=(0.0, 2 * timing.scrape + timing.evaluation, "scrape + its timeout + evaluation"),
        )

    def _retarget(self, regulator: Regulator, band: tuple[int, int]) -> None:
        """Have it hold another band; returns when it does."""
        regulator.set(band)

        def held() -> bool:
            taken = regulator.metric("loadband_band_max_ratio") == band[1] / 100
            return taken and regulator.metric("loadband_in_band") == 1

        wait_for(held, PATIENCE, f"the band of {band} to be held")

    def _chain(
        self,
        chain: str,
        alert: str,
        labels: dict[str, str],
        *,
        begin: Callable[[], None],
        end: Callable[[], None],
        pending: tuple[float, float, str],
        resolved: tuple[float, float, str],
    ) -> list[Step]:
        """From a cause to its alert, and from its end to the alert's.

        Args:
            chain: what it is called.
            alert: the one that it has to fire.
            labels: that tell this alert from others of the same name.
            begin: brings the cause about, and returns when it is there.
            end: ends it, likewise.
            pending: from when the cause is there until it is noticed: the least and the most seconds, and why so many.
            resolved: from when the cause is gone, likewise.
        """
        timing, notifies, steps = self.servers.prometheus, self.servers.alertmanager, list[Step]()

        def step(name: str, took: float, bounds: tuple[float, float, str]) -> None:
            at_least, at_most, allowed = bounds
            steps.append(Step(chain, name, took, max(at_least, 0.0), at_most, allowed))

        asked = time.time()
        begin()
        there = time.time()
        seen = wait_for(lambda: self._active(alert, labels), pending[1] + PATIENCE, f"{alert} to be pending")
        step("to pending", seen - there, (pending[0] - (there - asked), *pending[1:]))
        hold = timing.hold(alert)
        told = wait_for(lambda: self._told(alert, labels, "firing", asked), hold + PATIENCE, f"{alert} to be notified")
        step("to firing", told.starts - seen, (hold, hold + timing.evaluation, "for + evaluation"))
        step("to webhook", told.at - told.starts, (0.0, notifies.group_wait, "group_wait"))
        asked = time.time()
        end()
        gone = time.time()
        limit = resolved[1] + notifies.group_interval + PATIENCE
        over = wait_for(lambda: self._told(alert, labels, "resolved", asked), limit, f"{alert} to be resolved")
        step("to resolved", over.ends - gone, (resolved[0] - (gone - asked), *resolved[1:]))
        step("to webhook", over.at - over.ends, (0.0, notifies.group_interval, "group_interval"))
        return steps

    def _active(self, alert: str, labels: dict[str, str]) -> float | None:
        """Since when such an alert is pending or firing in Prometheus; None where none is."""
        found = self.servers.client.alerts()
        named = (one for one in found if one.name == alert and labels.items() <= one.labels.items())
        return min((one.since for one in named), default=None)

    def _told(self, alert: str, labels: dict[str, str], status: str, since: float) -> Notification | None:
        """The first such notification since a time."""
        for one in self.servers.receiver.notifications:
            named = one.labels["alertname"] == alert and labels.items() <= one.labels.items()
            if named and one.status == status and one.at >= since:
                return one
        return None


@contextmanager
def chains() -> Iterator[Chains]:
    """Everything running, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="loadband-chains-") as folder:
        made = Chains(Path(folder))
        with made.open():
            yield made


def steps_table(steps: list[Step]) -> Table:
    """What took how long, and how long it may have taken."""
    table = Table(title=f"Seconds from step to step, {FACTOR:g} times faster than shipped", title_justify="left")
    for column in ("chain", "step", "took", "allowed", "made of", ""):
        table.add_column(column)
    for step in steps:
        verdict = "late" if step.late else "too early" if step.early else "in time"
        allowed = f"{step.at_least:.2f} .. {step.at_most:.2f}"
        table.add_row(step.chain, step.name, f"{step.took:.2f}", allowed, step.allowed, verdict)
    return table
