"""A run whose Alertmanager ends and comes back: the real programs, on a simulated platform in real time."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from exporters import Exporter, exporting
from plans import plan
from simulated import Clocks, Machine, Memory

from loadband.rebalance import alertmanager, prometheus
from loadband.rebalance.access import Access
from loadband.rebalance.api import Endpoint
from loadband.rebalance.events import (
    Alert,
    AlertState,
    Disturbance,
    EndReason,
    Move,
    MoveState,
    Recording,
    Trouble,
)
from loadband.rebalance.existing import Existing
from loadband.rebalance.figures import measure
from loadband.rebalance.health import HEALTH, POLL
from loadband.rebalance.monitoring import Servers
from loadband.rebalance.platforms import Target
from loadband.rebalance.programs import wait_for
from loadband.rebalance.rebalancers.mover import Mover
from loadband.rebalance.run import Cast, Change, Conductor, Monitoring, Put, Script
from loadband.rebalance.verdict import Outcome, judge

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager"))),
    reason="prometheus and prometheus-alertmanager are needed",
)

FASTER = 60.0
PLAN = plan(
    alert="LoadbandHostHot",
    theta=0.3,
    hold=2,
    settle=1,
    return_within=30,
    window=2,
    sample_interval=0.5,
    watch=22,
    limits={"thrash": "== 0"},
    # While the conductor itself starts Alertmanager again, it takes no samples.
    most_gap=20,
    least_fidelity=0,
)
SCRIPT = Script(
    plan=PLAN,
    slices=[Put("a-1", "a", 0.2), Put("b-1", "b", 0.2)],
    overload=[Change(0, f"g-{number}", 0.25, "a") for number in range(1, 4)],
    baseline=3,
    recovery=8,
)


class RealClocks(Clocks):
    """Time that passes by itself; while somebody waits, `meanwhile` is called."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self.meanwhile: Callable[[], None] = lambda: None

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() - self._began

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        self.passed = self.monotonic()
        self.meanwhile()
        return False


class Scraped(Machine):
    """Hosts that are scraped for real, sampled twice a second."""

    def __init__(self, clocks: Clocks, exporters: Mapping[str, Exporter], targets: Sequence[Target]) -> None:
        super().__init__(clocks, list(exporters))
        self._exporters = exporters
        self._scraped = targets

    def targets(self) -> Sequence[Target]:
        return self._scraped

    def show(self) -> None:
        for host, exporter in self._exporters.items():
            exporter.utilization = self.utilization(host)


class Hesitant(Mover):
    """The mover, which acts only once it was notified twice, or nothing came for some time: the second is the test.

    Args:
        patience: seconds that it waits for a second notification.
    """

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience = patience
        self.episodes: list[tuple[str, str]] = []
        """Fingerprint and start of each firing alert in each notification."""
        self._heard = float("inf")

    def notify(self, at: float, payload: Mapping[str, Any]) -> None:
        super().notify(at, payload)
        firing = [one for one in payload["alerts"] if one["status"] == "firing"]
        self.episodes += [
            (one["fingerprint"], one["startsAt"]) for one in firing if one["labels"]["alertname"] == PLAN.alert
        ]
        if self.episodes:
            self._heard = min(self._heard, at)

    def step(self, now: float) -> None:
        if len(self.episodes) > 1 or now > self._heard + self._patience:
            super().step(now)


@contextmanager
def own(folder: Path, _: Sequence[Target]) -> Iterator[tuple[Monitoring, alertmanager.Server]]:
    """The run's own servers."""
    servers = Servers(folder, ["a", "b"], PLAN, FASTER)
    yield servers, servers._alertmanager


@contextmanager
def somebody_elses(folder: Path, targets: Sequence[Target]) -> Iterator[tuple[Monitoring, alertmanager.Server]]:
    """Servers that watch the hosts before the run, and have no receiver for it."""
    notifies = alertmanager.Server(folder / "alertmanager", "http://127.0.0.1:9/", FASTER)
    scrapes = prometheus.Server(folder / "prometheus", notifies.address, FASTER)
    scrapes.targets([(target.address, target.labels) for target in targets])
    with notifies, scrapes, prometheus.Client(scrapes.url) as asked:
        wait_for(lambda: asked.query("loadband:threshold:ratio"), 30, "the rules to be evaluated")
        yield Existing(Access(Endpoint(scrapes.url), Endpoint(notifies.url)), ["a", "b"], PLAN), notifies


Kind = Callable[[Path, Sequence[Target]], AbstractContextManager[tuple[Monitoring, alertmanager.Server]]]


def play(folder: Path, kind: Kind, mover: Hesitant, down: float = 0.0) -> Recording:
    """A run in which Alertmanager is killed after its first notification, and is down for some seconds."""
    clocks, memory = RealClocks(), Memory()
    came_back: list[float] = []
    killed: list[float] = []

    def meanwhile() -> None:
        machine.show()
        if not killed and mover.episodes:
            assert server.process
            server.process.signal(signal.SIGKILL)  # so that it forgets what it has notified of
            server.stop()
            killed.append(time.monotonic())
        if killed and not came_back and time.monotonic() >= killed[0] + down:
            server.start()
            came_back.append(time.monotonic())

    exporters = {"a": Exporter(0.0), "b": Exporter(0.0)}
    with exporting(exporters) as targets, kind(folder, targets) as (monitoring, server):
        machine = Scraped(clocks, exporters, targets)
        clocks.meanwhile = meanwhile
        result = Conductor(SCRIPT, Cast(machine, monitoring, mover), memory, clocks, [memory]).run("r1")
    assert (result.reason, result.left, len(came_back)) == (EndReason.COMPLETE, (), 1), result.detail
    assert memory.run
    return Recording(memory.run, tuple(memory.events))


def moves(recording: Recording) -> list[tuple[str, str | None]]:
    done = [one for one in recording.events if isinstance(one, Move) and one.state is MoveState.DONE]
    return [(one.source, one.destination) for one in done]


def states(recording: Recording) -> list[AlertState]:
    return [one.state for one in recording.events if isinstance(one, Alert) and one.name == PLAN.alert]


def troubles(recording: Recording) -> list[tuple[Trouble, str]]:
    return [(one.what, one.who) for one in recording.events if isinstance(one, Disturbance)]


ONCE = [AlertState.PENDING, AlertState.FIRING, AlertState.NOTIFIED, AlertState.RESOLVED]


@pytest.mark.parametrize("down", [0.0, 1.5 * HEALTH], ids=["at once", "later"])
def test_a_notification_that_comes_again_moves_nothing_again(tmp_path: Path, down: float) -> None:
    mover = Hesitant(patience=8.0)
    recording = play(tmp_path, own, mover, down)
    # It has forgotten that it has notified, and Prometheus repeats what fires.
    assert len(mover.episodes) > 1
    assert len(set(mover.episodes)) == 1
    assert moves(recording) == [("a", "b")]
    assert states(recording) == ONCE
    verdict = judge(recording, measure(recording))
    if down:
        assert troubles(recording) == [(Trouble.MONITORING_DOWN, "alertmanager")]
        assert verdict.outcome is Outcome.INVALID
        assert [check.name for check in verdict.checks if check.outcome is Outcome.INVALID] == ["monitoring"]
    else:
        assert troubles(recording) == []
        assert verdict.outcome is Outcome.PASS, verdict.sentence


def test_with_servers_of_somebody_else_the_mover_is_notified_once_and_passes(tmp_path: Path) -> None:
    mover = Hesitant(patience=3.0)
    recording = play(tmp_path, somebody_elses, mover)
    assert len(mover.episodes) == 1
    assert moves(recording) == [("a", "b")]
    assert states(recording) == ONCE
    assert troubles(recording) == []
    figures = measure(recording)
    notified = figures["firing_to_webhook"]
    assert notified.bounds == (0.0, POLL)
    assert notified.value is not None
    assert 0.0 <= notified.value < POLL + 1.0
    verdict = judge(recording, figures)
    assert verdict.outcome is Outcome.PASS, verdict.sentence
