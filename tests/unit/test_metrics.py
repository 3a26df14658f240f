from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from full_snapshot import INFO, SNAPSHOT
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from loadband.metrics import FAMILIES, SnapshotCollector, registry
from loadband.quantities import Counts, DropReason, Histogram, Snapshot, State

GOLDEN = Path(__file__).with_name("exposition.txt")
"""What `python tests/unit/test_metrics.py` records; look at the difference before it is committed."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def collector_registry(snapshot: Snapshot | None) -> CollectorRegistry:
    own = CollectorRegistry()
    own.register(SnapshotCollector(lambda: snapshot, INFO))
    return own


def generate_openmetrics(own: CollectorRegistry) -> bytes:
    encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
    return encode(own)


def samples(snapshot: Snapshot | None) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(generate_latest(collector_registry(snapshot)).decode())
        for sample in family.samples
    }


def names(snapshot: Snapshot | None) -> set[str]:
    return {name for name, _ in samples(snapshot)}


def by_label(values: Samples, name: str, label: str) -> dict[str, float]:
    return {dict(labels)[label]: value for (found, labels), value in values.items() if found == name}


def test_exposition_of_a_snapshot_is_the_recorded_one() -> None:
    assert generate_latest(collector_registry(SNAPSHOT)).decode() == GOLDEN.read_text()


def test_every_declared_family_is_exposed_and_no_other() -> None:
    exposed = {
        line.split()[2]
        for line in generate_latest(collector_registry(SNAPSHOT)).decode().splitlines()
        if line.startswith("# TYPE")
    }
    assert exposed == {family.name for family in FAMILIES}
    assert len(FAMILIES) == len(exposed)


def test_every_sample_has_the_declared_labels() -> None:
    declared = {family.name: set(family.labels) for family in FAMILIES if family.kind != "histogram"}
    for name, labels in samples(SNAPSHOT):
        if name in declared:
            assert {key for key, _ in labels} == declared[name]


def test_both_formats_say_the_same() -> None:
    text = generate_openmetrics(collector_registry(SNAPSHOT)).decode()
    openmetrics = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_openmetrics(text)  # type: ignore[no-untyped-call]  # the library's
        for sample in family.samples
    }
    assert openmetrics == samples(SNAPSHOT)


@pytest.mark.parametrize("snapshot", [SNAPSHOT, replace(SNAPSHOT, reading=None, utilization=None), None])
def test_promtool_has_nothing_to_say(snapshot: Snapshot | None) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool isn't on PATH")
    text = generate_latest(registry(lambda: snapshot, INFO))
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_process_and_platform_are_shown_too() -> None:
    exposed = generate_latest(registry(lambda: SNAPSHOT, INFO)).decode()
    assert "\nprocess_resident_memory_bytes " in exposed
    assert "\npython_info{" in exposed


def test_nothing_says_when_it_was_created() -> None:
    own = registry(lambda: SNAPSHOT, INFO)
    assert "_created" not in generate_latest(own).decode() + generate_openmetrics(own).decode()


@pytest.mark.parametrize("snapshot", [None, replace(SNAPSHOT, counts=Counts())])
def test_counters_exist_from_the_start_with_every_label_value(snapshot: Snapshot | None) -> None:
    values = samples(snapshot)
    failures = by_label(values, "loadband_cycle_failures_total", "reason")
    assert failures == {reason.value: 0 for reason in DropReason}
    seconds = by_label(values, "loadband_cpu_seconds_total", "mode")
    assert seconds == {"own": 0, "other": 0, "steal": 0, "idle": 0}
    assert by_label(values, "loadband_band_changes_total", "source") == {"settings": 0, "profile": 0, "control": 0}
    always = {f.name for f in FAMILIES if f.kind == "counter" and "throttled" not in f.name and "periods" not in f.name}
    assert always <= {name for name, _ in values}


@pytest.mark.parametrize("state", State)
def test_exactly_the_state_that_applies_is_one(state: State) -> None:
    values = samples(replace(SNAPSHOT, verdict=replace(SNAPSHOT.verdict, state=state)))
    assert by_label(values, "loadband_state", "state") == {other.value: other is state for other in State}


def test_no_state_applies_before_the_first_cycle() -> None:
    assert by_label(samples(None), "loadband_state", "state") == {state.value: 0 for state in State}


def test_without_a_trustworthy_reading_what_it_would_say_is_absent() -> None:
    lost = names(SNAPSHOT) - names(replace(SNAPSHOT, reading=None, utilization=None, in_band=False))
    assert lost == {
        "loadband_cpu_utilization_ratio",
        "loadband_cpu_ratio",
        "loadband_in_band",
        "loadband_capacity_cpus",
        "loadband_reach_cpus",
    }


def test_out_of_band_is_zero_not_absent() -> None:
    assert samples(replace(SNAPSHOT, in_band=False))["loadband_in_band", frozenset()] == 0


def test_without_a_quota_throttling_is_absent() -> None:
    lost = names(SNAPSHOT) - names(replace(SNAPSHOT, throttling=None))
    assert lost == {
        "loadband_cpu_throttled_seconds_total",
        "loadband_cpu_throttled_periods_total",
        "loadband_cpu_periods_total",
    }


def test_without_a_duration_the_deadline_is_absent() -> None:
    lost = names(SNAPSHOT) - names(replace(SNAPSHOT, deadline=None))
    assert lost == {"loadband_deadline_timestamp_seconds"}


def test_before_the_first_cycle_there_are_only_counters_states_and_infos() -> None:
    kinds = {family.name: family.kind for family in FAMILIES}
    assert {name for name in names(None) if kinds[name] not in {"counter", "info"}} == {"loadband_state"}


def test_registering_reads_no_snapshot() -> None:
    def source() -> Snapshot:
        raise AssertionError("read")

    registry(source, INFO)


def test_label_values_are_escaped() -> None:
    revision = 'a"b\\c\nd'
    own = CollectorRegistry()
    own.register(SnapshotCollector(lambda: SNAPSHOT, replace(INFO, revision=revision)))
    (info,) = (
        sample
        for family in parse_text(generate_latest(own).decode())
        for sample in family.samples
        if sample.name == "loadband_build_info"
    )
    assert info.labels["revision"] == revision


@given(counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=12), total=st.floats(0, 1e9))
def test_histogram_is_cumulative_and_its_last_bucket_is_its_count(counts: list[int], total: float) -> None:
    bounds = tuple(2.0**n for n in range(len(counts) - 1))
    values = samples(replace(SNAPSHOT, durations=Histogram(bounds, tuple(counts), total)))
    buckets = by_label(values, "loadband_cycle_duration_seconds_bucket", "le")
    assert [*map(float, buckets)] == [*bounds, math.inf]
    assert [*buckets.values()] == [*itertools.accumulate(counts)]
    assert values["loadband_cycle_duration_seconds_count", frozenset()] == sum(counts)
    assert values["loadband_cycle_duration_seconds_sum", frozenset()] == total


def numbered(n: int) -> Snapshot:
    """A snapshot that says n in many places."""
    return replace(
        SNAPSHOT,
        timestamp=float(n),
        command=replace(SNAPSHOT.command, workers=n),
        reading=replace(SNAPSHOT.reading, capacity=float(n)) if SNAPSHOT.reading else None,
        counts=replace(SNAPSHOT.counts, cycles=n, worker_restarts=n),
        durations=Histogram((1.0,), (n, 0), float(n)),
    )


def test_a_scrape_never_mixes_two_cycles() -> None:
    snapshots = [numbered(n) for n in range(1, 1000)]
    present = snapshots[0]
    stop = threading.Event()

    def swap() -> None:
        nonlocal present
        for snapshot in itertools.cycle(snapshots):
            present = snapshot
            if stop.is_set():
                return

    own = CollectorRegistry()
    own.register(SnapshotCollector(lambda: present, INFO))
    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(200):
            values = {s.name: s.value for family in own.collect() for s in family.samples}
            numbers = {
                values["loadband_last_cycle_timestamp_seconds"],
                values["loadband_workers"],
                values["loadband_capacity_cpus"],
                values["loadband_cycles_total"],
                values["loadband_worker_restarts_total"],
                values["loadband_cycle_duration_seconds_count"],
                values["loadband_cycle_duration_seconds_sum"],
            }
            assert len(numbers) == 1
            seen |= numbers
    finally:
        stop.set()
        swapping.join()
    assert len(seen) > 1


def test_a_scrape_reads_its_source_once() -> None:
    reads = itertools.count()

    def source() -> Snapshot:
        next(reads)
        return SNAPSHOT

    generate_latest(registry(source, INFO))
    assert next(reads) == 1


if __name__ == "__main__":
    GOLDEN.write_bytes(generate_latest(collector_registry(SNAPSHOT)))
