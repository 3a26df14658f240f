"""Platform kubernetes: the counters of regulators, read over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from full_snapshot import INFO, SNAPSHOT
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest, start_http_server

from loadband.metrics import SnapshotSource, registry
from loadband.quantities import CpuSeconds, Scope, Snapshot
from loadband.rebalance.platforms.kubernetes.meters import Counters, Meters, Reading, Stamp, parse
from loadband.rebalance.programs import wait_for

IN_A_POD = replace(INFO, scope=Scope.CPUSET)
COUNTED = replace(SNAPSHOT, scope=Scope.CPUSET)
HERE, NOBODY = "127.0.0.1", "127.0.0.2"
"""Where a regulator answers, and where none does."""


def exposition(source: SnapshotSource) -> str:
    """What a regulator in a pod exports."""
    return generate_latest(registry(source, IN_A_POD)).decode()


def counters(whole: float, cpus: float = 4.0) -> Counters:
    return Counters(own=0.0, busy=0.0, whole=whole, cpus=cpus)


# What a regulator exports


def test_the_counters_of_a_real_exposition_are_found() -> None:
    found = parse(exposition(lambda: COUNTED))
    assert found == Counters(own=200.5, busy=250.75, whole=394.0, cpus=4.0)


@pytest.mark.parametrize("snapshot", [None, replace(COUNTED, reading=None)])
def test_without_a_reading_there_are_no_counters_yet(snapshot: Snapshot | None) -> None:
    assert parse(exposition(lambda: snapshot)) is None


def test_a_mode_that_is_missing_is_not_taken_for_zero() -> None:
    text = exposition(lambda: COUNTED)
    assert parse("\n".join(line for line in text.splitlines() if 'mode="steal"' not in line)) is None
    assert parse("") is None


# When they stood like that


def test_the_least_old_read_sets_the_clock() -> None:
    stamp = Stamp()
    assert stamp.of(1000.3, counters(40.0)) == pytest.approx(1000.3)
    assert stamp.of(1001.1, counters(44.0)) == pytest.approx(1001.1)
    assert stamp.of(1002.4, counters(48.0)) == pytest.approx(1002.1), "0.3 s old when it was read"


@pytest.mark.parametrize("same", [counters(40.0), counters(50.0, cpus=0.0)])
def test_nothing_new_has_no_time(same: Counters) -> None:
    stamp = Stamp()
    assert stamp.of(1000.0, counters(40.0)) == 1000.0
    assert stamp.of(1001.0, same) is None


def test_counters_that_begin_again_have_a_time() -> None:
    stamp = Stamp()
    stamp.of(1000.0, counters(40.0))
    assert stamp.of(1001.0, counters(2.0)) == 1001.0


@given(
    st.lists(st.tuples(st.floats(0.05, 2.0), st.floats(0.0, 0.25)), min_size=2, max_size=30),
    st.floats(0.5, 64.0),
)
def test_times_never_go_backwards_and_are_off_by_the_least_age(reads: list[tuple[float, float]], cpus: float) -> None:
    """A regulator that was started at 1000.0 counts all there is; each read finds it some time old."""
    stamp, read, true, last = Stamp(), 1010.0, 1009.0, 0.0
    least = 1.0
    for pause, age in reads:
        read += pause
        true = max(true + 0.01, read - age)
        least = min(least, read - true)
        at = stamp.of(read, counters((true - 1000.0) * cpus, cpus))
        assert at is not None
        assert at - true == pytest.approx(least, abs=1e-6), "off by the least age so far"
        assert last < at
        last = at


# Reading them


class Regulator:
    """Counts on with every read; without a reading before that is allowed."""

    def __init__(self) -> None:
        self.reads = 0
        self.knows = True

    def __call__(self) -> Snapshot:
        self.reads += 1
        if not self.knows:
            return replace(COUNTED, reading=None)
        cpu = CpuSeconds(own=float(self.reads), other=0.0, steal=0.0, idle=float(self.reads))
        return replace(COUNTED, counts=replace(COUNTED.counts, cpu=cpu))


@contextmanager
def metering(regulator: Regulator) -> Iterator[Meters]:
    """Serve a regulator, and read whoever is asked every 10 ms."""
    server, thread = start_http_server(0, HERE, registry(regulator, IN_A_POD))
    meters = Meters(0.01, server.server_port)
    try:
        meters.start()
        yield meters
    finally:
        meters.close()
        server.shutdown()
        server.server_close()
        thread.join()


def some(meters: Meters, count: int) -> list[Reading]:
    """Wait for that many readings."""
    found: list[Reading] = []

    def enough() -> bool:
        found.extend(meters.readings())
        return len(found) >= count

    wait_for(enough, 30.0, "readings")
    return found


def test_regulators_are_read_again_and_again() -> None:
    with metering(Regulator()) as meters:
        meters.ask({"u1": HERE})
        found = some(meters, 3)
        assert {each.uid for each in found} == {"u1"}
        values = [each.counters.own for each in found]
        assert values == sorted(set(values))
        times = [each.at for each in found]
        assert times == sorted(times)


def test_one_that_does_not_answer_stops_nobody_else() -> None:
    with metering(Regulator()) as meters:
        meters.ask({"u2": NOBODY, "u1": HERE, "u6": "::1"})
        assert {each.uid for each in some(meters, 3)} == {"u1"}
        meters.ask({"u2": HERE})
        wait_for(lambda: "u2" in {each.uid for each in meters.readings()}, 30.0, "an answer")


def test_nothing_is_read_of_a_regulator_that_knows_nothing_yet() -> None:
    regulator = Regulator()
    regulator.knows = False
    with metering(regulator) as meters:
        meters.ask({"u1": HERE})
        before = regulator.reads
        wait_for(lambda: regulator.reads >= before + 3, 30.0, "three reads")
        assert meters.readings() == []


def test_counters_that_stand_still_are_told_once() -> None:
    server, thread = start_http_server(0, HERE, registry(lambda: COUNTED, IN_A_POD))
    meters = Meters(1.0, server.server_port)
    try:
        meters._read("u1", HERE)
        meters._read("u1", HERE)
        assert [each.uid for each in meters.readings()] == ["u1"]
    finally:
        meters.close()
        server.shutdown()
        server.server_close()
        thread.join()


def test_closing_twice_or_before_the_start_does_no_harm() -> None:
    with metering(Regulator()) as meters:
        meters.close()
        assert not meters._thread.is_alive()
    unused = Meters(1.0, 1)
    unused.close()
    unused.close()
    unused._read("u1", HERE)
    assert unused.readings() == []
