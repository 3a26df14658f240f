from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TextIO

import pytest
from snapshots import reading, snapshot

from loadband import log
from loadband.log import Journal, Line
from loadband.quantities import (
    Band,
    Command,
    CpuSeconds,
    DropReason,
    Progress,
    Setpoint,
    Snapshot,
    State,
    Steal,
    Verdict,
)


def told(snapshots: Iterable[Snapshot]) -> list[Line]:
    journal = Journal()
    return [line for each in snapshots for line in journal.lines(each)]


def changes(before: Snapshot, after: Snapshot) -> list[Line]:
    """What is told of the second after the first."""
    return told([before, after])[len(told([before])) :]


def with_counts(at: float = 42.0, **counts: Any) -> Snapshot:
    return snapshot(at, counts=replace(snapshot(at).counts, **counts))


def test_the_first_line_tells_the_state_and_why() -> None:
    (line,) = told([snapshot()])
    assert (line.level, line.event) == (logging.INFO, "state changed")
    assert line.fields == {
        "state": "holding",
        "why": "65.0 % is in the band",
        "utilization_ratio": 0.65,
        "effort_cpus": 1.2,
        "reach_cpus": 2.0,
        "workers": 2,
    }


@pytest.mark.parametrize("state", [state for state in State if state is not State.HOLDING])
def test_a_change_of_state_is_told_with_what_it_was(state: State) -> None:
    (line,) = changes(snapshot(), snapshot(42.0, verdict=Verdict(state, "because")))
    assert line.event == "state changed"
    assert (line.fields["state"], line.fields["was_state"], line.fields["why"]) == (state, "holding", "because")
    assert line.level == (logging.WARNING if state in {State.FAILSAFE, State.SATURATED} else logging.INFO)


def test_another_sentence_for_the_same_state_is_not_told() -> None:
    assert changes(snapshot(), snapshot(42.0, verdict=Verdict(State.HOLDING, "64.9 % is in the band"))) == []


def test_a_change_of_the_band_is_told_with_its_source() -> None:
    (line,) = changes(snapshot(), snapshot(42.0, setpoint=Setpoint(Band(0.4, 0.7), source="control")))
    assert line.event == "band changed"
    assert line.fields == {
        "band_min_ratio": 0.4,
        "band_max_ratio": 0.7,
        "source": "control",
        "was_band_min_ratio": 0.6,
        "was_source": "settings",
    }


def playing(at: float, phase: str, low: float) -> Snapshot:
    progress = Progress("day", phase, ("morning", "noon"))
    return snapshot(at, setpoint=Setpoint(Band(low, low + 0.1), "profile", progress=progress))


def test_of_a_band_that_moves_each_phase_is_told() -> None:
    before = [playing(41.0 + index / 4, "morning", 0.2 + index / 100) for index in range(20)]
    (line,) = told([*before, playing(46.0, "noon", 0.5)])[len(told(before)) :]
    assert (line.event, len(told(before))) == ("band changed", 1)
    assert line.fields == {
        "source": "profile",
        "profile": "day",
        "phase": "noon",
        "was_phase": "morning",
        "band_min_ratio": 0.5,
        "band_max_ratio": 0.6,
    }


def test_a_band_that_a_client_sets_before_a_profile_is_told() -> None:
    (line,) = changes(playing(41.0, "noon", 0.5), snapshot(42.0, setpoint=Setpoint(Band(0.2, 0.3), "control")))
    assert line.fields == {
        "source": "control",
        "band_min_ratio": 0.2,
        "band_max_ratio": 0.3,
        "was_source": "profile",
        "was_profile": "day",
        "was_phase": "noon",
    }


def test_a_change_of_reach_is_told() -> None:
    (line,) = changes(snapshot(), snapshot(42.0, reading=reading(42.0, reach=0.5)))
    assert line.event == "capacity changed"
    assert line.fields == {"capacity_cpus": 2.0, "reach_cpus": 0.5, "was_reach_cpus": 2.0}


def test_a_lost_reading_is_no_change_of_capacity() -> None:
    assert told([snapshot(), snapshot(42.0, reading=None), snapshot(43.0)]) == told([snapshot()])


def test_a_change_of_workers_is_told() -> None:
    (line,) = changes(snapshot(), snapshot(42.0, command=Command(workers=3, effort=1.2)))
    assert (line.event, line.fields) == ("workers changed", {"workers": 3, "was_workers": 2})


def test_dropped_readings_are_told_by_reason() -> None:
    lines = changes(snapshot(), with_counts(failures={DropReason.GAP: 1, DropReason.FROZEN: 3}))
    assert [(line.event, line.level, dict(line.fields)) for line in lines] == [
        ("readings dropped", logging.WARNING, {"reason": "gap", "dropped_total": 1, "was_dropped_total": 0}),
        ("readings dropped", logging.WARNING, {"reason": "frozen", "dropped_total": 3, "was_dropped_total": 0}),
    ]


def test_a_reading_dropped_before_the_first_look_is_told() -> None:
    assert "readings dropped" in [line.event for line in told([with_counts(failures={DropReason.GAP: 1})])]


def test_a_replaced_worker_is_told() -> None:
    (line,) = changes(snapshot(), with_counts(worker_restarts=1))
    assert (line.event, line.level) == ("worker replaced", logging.WARNING)
    assert line.fields["worker_restarts_total"] == 1


def test_an_overrun_waits_for_the_summary() -> None:
    assert changes(snapshot(), with_counts(overruns=5)) == []
    (line,) = changes(snapshot(), with_counts(51.0, overruns=5))
    assert (line.event, line.fields["overruns"]) == ("summary", 5)


def test_steady_cycles_are_worth_a_summary_every_ten_seconds_and_nothing_else() -> None:
    lines = told(snapshot(i / 10) for i in range(10, 1011))
    assert [line.event for line in lines] == ["state changed", *["summary"] * 10]


def test_a_summary_has_the_means_of_its_own_ten_seconds() -> None:
    before = with_counts(40.0, cpu=CpuSeconds(1.0, 1.0, 1.0, 1.0), observed_seconds=40.0, in_band_seconds=40.0)
    after = with_counts(50.0, cpu=CpuSeconds(11.0, 3.0, 2.0, 8.0), observed_seconds=50.0, in_band_seconds=45.0)
    (line,) = changes(before, after)
    assert (line.level, line.event) == (logging.INFO, "summary")
    assert line.fields == {
        "state": "holding",
        "utilization_ratio": 0.6,
        "own_ratio": 0.5,
        "other_ratio": 0.1,
        "steal_ratio": 0.05,
        "idle_ratio": 0.35,
        "in_band_ratio": 0.5,
        "observed_seconds": 10.0,
        "effort_cpus": 1.2,
        "workers": 2,
        "overruns": 0,
    }
    (line,) = changes(replace(before, steal=Steal.BUSY), replace(after, steal=Steal.BUSY))
    assert line.fields["utilization_ratio"] == 0.65


def test_a_summary_of_time_in_which_nothing_was_read_has_no_ratios() -> None:
    counts = snapshot().counts
    (line,) = changes(snapshot(40.0, counts=counts), snapshot(50.0, counts=counts, reading=None, utilization=None))
    assert line.fields["observed_seconds"] == 0
    assert not [name for name in line.fields if name.endswith("_ratio")]


def flapping(cycles: int) -> list[Snapshot]:
    """Everything changes in every cycle of 100 ms."""
    flaps = [
        snapshot(
            i / 10,
            verdict=Verdict((State.HOLDING, State.SETTLING)[i % 2], "because"),
            setpoint=Setpoint(Band((0.6, 0.5)[i % 2], 0.7)),
            command=Command(workers=2 + i % 2, effort=1.2),
            reading=reading(i / 10, reach=2.0 - i % 2),
        )
        for i in range(cycles)
    ]
    return [
        replace(flap, counts=replace(flap.counts, worker_restarts=i, failures=dict.fromkeys(DropReason, i)))
        for i, flap in enumerate(flaps)
    ]


def test_lines_stay_bounded_when_everything_flaps_in_every_cycle() -> None:
    lines = told(flapping(1001))
    for event in ("state changed", "band changed", "capacity changed", "workers changed", "worker replaced"):
        assert 10 <= sum(line.event == event for line in lines) <= log.BURST + 10
    assert len(lines) <= 11 * (log.BURST + 10) + 10


def test_no_change_is_lost_uncounted_when_the_state_flaps() -> None:
    flaps = flapping(1000)
    end = [replace(flaps[-1], at=100.0 + i) for i in range(1, 20)]  # it settles: the last state is told at last
    lines = [line for line in told([*flaps, *end]) if line.event == "state changed"]
    assert sum(1 + line.fields.get("changes_left_out", 0) for line in lines) == 1000  # type: ignore[operator, misc]
    assert lines[-1].fields["state"] == "settling"


def test_failsafe_is_told_at_once_even_after_other_states_have_flapped() -> None:
    states = [State.HOLDING, State.SATURATED] * 10
    flaps = [snapshot(index * 0.1, verdict=Verdict(state, "flapping")) for index, state in enumerate(states)]
    (line,) = changes_after(flaps, snapshot(2.0, verdict=Verdict(State.FAILSAFE, "blind")))
    assert (line.level, line.fields["state"], line.fields["why"]) == (logging.WARNING, "failsafe", "blind")


def test_failsafe_that_flaps_is_told_twice_as_often_and_no_more() -> None:
    states = [State.HOLDING, State.FAILSAFE] * 500
    lines = told(snapshot(index * 0.1, verdict=Verdict(state, "flapping")) for index, state in enumerate(states))
    assert sum(line.event == "state changed" for line in lines) <= 2 * log.BURST + 10


def test_a_quiet_topic_may_speak_at_once_again() -> None:
    flaps = flapping(100)
    calm = [replace(flaps[-1], at=10.0 + i) for i in range(1, 60)]
    after = replace(calm[-1], at=80.0, verdict=Verdict(State.FAILSAFE, "blind"))
    assert "failsafe" in [line.fields.get("state") for line in changes_after([*flaps, *calm], after)]


def changes_after(earlier: list[Snapshot], last: Snapshot) -> list[Line]:
    journal = Journal()
    for each in earlier:
        journal.lines(each)
    return journal.lines(last)


def write(source: Callable[[], Snapshot | None], **options: Any) -> list[str]:
    """Run the log until it has looked once, and return its lines."""
    file = io.StringIO()
    stop = threading.Event()
    stop.set()
    log.run(source, stop, file, **options)
    return file.getvalue().splitlines()


def test_text_lines_begin_with_time_level_and_event() -> None:
    lines = write(snapshot, settings={"scope": "host", "address": "http://127.0.0.1:9999/metrics"})
    assert [line.split("event=")[1].split(" ")[0] for line in lines] == ["started", '"state', "stopped"]
    first = lines[0].split(" ")
    assert [pair.split("=")[0] for pair in first] == ["timestamp", "level", "event", "scope", "address"]
    assert "held=true" in lines[-1]
    assert 'summary="held 60..70 % for 99.2 % of 41 s' in lines[-1]


def test_json_lines_parse_and_their_time_is_utc() -> None:
    records = [json.loads(line) for line in write(snapshot, style="json", settings={"band_min_ratio": 0.6})]
    assert [(each["event"], each["level"]) for each in records] == [
        ("started", "info"),
        ("state changed", "info"),
        ("stopped", "info"),
    ]
    assert records[0]["band_min_ratio"] == 0.6
    assert all(datetime.fromisoformat(each["timestamp"]).utcoffset() == timedelta(0) for each in records)


def test_lines_below_the_level_are_not_written() -> None:
    blind = snapshot(verdict=Verdict(State.FAILSAFE, "blind"))
    (line,) = write(lambda: blind, level="warning")
    assert "state=failsafe" in line


def test_before_the_first_cycle_there_is_nothing_to_tell() -> None:
    assert [line.split("event=")[1] for line in write(lambda: None)] == ["started", "stopped"]


def test_warnings_of_libraries_get_the_same_form_and_their_handler_leaves_with_the_log() -> None:
    handlers = list(logging.getLogger().handlers)

    def source() -> Snapshot:
        logging.getLogger("library").warning("%d clients", 7)
        logging.getLogger("library").info("not this")
        logging.getLogger("loadband.control").info("but this")
        return snapshot()

    records = [json.loads(line) for line in write(source, style="json")]
    (record,) = (each for each in records if each.get("logger") == "library")
    assert (record["level"], record["event"]) == ("warning", "7 clients")
    assert ("info", "but this") in [(each["level"], each["event"]) for each in records]
    assert logging.getLogger().handlers == handlers


class Full(io.StringIO):
    """A disk without room for the first lines."""

    def __init__(self, refused: int) -> None:
        super().__init__()
        self.refused = refused

    def write(self, text: str) -> int:
        if self.refused:
            self.refused -= 1
            raise OSError(28, "No space left on device")
        return super().write(text)


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_exception_is_one_line_with_its_traceback(style: str) -> None:
    def work() -> None:
        raise RuntimeError("no\nmemory")

    def source() -> Snapshot:
        try:
            work()
        except RuntimeError:
            logging.getLogger("loadband.workers").exception("worker 0 died")
        return snapshot()

    (line,) = [line for line in write(source, style=style) if "worker 0 died" in line]
    traceback = json.loads(line)["traceback"] if style == "json" else line.partition("traceback=")[2]
    assert "Traceback (most recent call last)" in traceback
    assert __file__ in traceback
    assert "RuntimeError: no" in traceback


def test_a_message_without_an_exception_has_no_traceback() -> None:
    def source() -> Snapshot:
        logging.getLogger("loadband.workers").warning("worker 0 is slow")
        return snapshot()

    assert [line for line in write(source) if "worker 0 is slow" in line and "traceback" not in line]


def test_a_line_that_cannot_be_written_does_not_end_the_log() -> None:
    file: TextIO = Full(refused=2)
    stop = threading.Event()
    stop.set()
    log.run(snapshot, stop, file)
    assert isinstance(file, Full)
    assert "event=stopped" in file.getvalue()


def test_the_loop_writes_once_a_change_and_ends_when_told() -> None:
    looks = iter([snapshot(41.0), snapshot(41.0), snapshot(42.0, command=Command(workers=3, effort=1.2))])
    stop = threading.Event()
    last = snapshot(43.0, command=Command(workers=3, effort=1.2))

    def source() -> Snapshot:
        look = next(looks, None)
        if look is None:
            stop.set()
        return look or last

    file = io.StringIO()
    log.run(source, stop, file, style="json")
    events = [json.loads(line)["event"] for line in file.getvalue().splitlines()]
    assert events == ["started", "state changed", "workers changed", "stopped"]


def test_the_log_does_not_load_what_it_does_not_need_and_hides_it_from_nobody() -> None:
    code = """
import io, sys, threading
from loadband import log
stop = threading.Event()
stop.set()
log.run(lambda: None, stop, io.StringIO())
print(*(name in sys.modules for name in ("rich", "asyncio", "structlog")))
import asyncio, rich
asyncio.run(asyncio.sleep(0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False False True\n", "")
