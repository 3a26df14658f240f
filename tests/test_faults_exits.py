"""Ends under odd circumstances; nothing here burns."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from program import LOADBAND, free_port, get, metric, run, running, wait_until

MODEST = {"MIN": "1", "MAX": "2", "MAX_EFFORT": "20m"}
HANGING = """
import sys, time
import loadband.ending, loadband.regulator, loadband.workers

def hang(*_):
    print("hanging", file=sys.stderr, flush=True)
    time.sleep(60)

def fail(*_):
    loadband.workers.Workers.close = hang
    raise RuntimeError("broken")

loadband.ending.END_SECONDS = 1
{sabotage}
from loadband.__main__ import main
sys.exit(main())
"""


@contextmanager
def hanging(sabotage: str) -> Iterator[subprocess.Popen[str]]:
    """The program with an end that is given up a second after a signal, once it hangs."""
    with running(command=[sys.executable, "-c", HANGING.format(sabotage=sabotage)], **MODEST) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        if "close" in sabotage:
            process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == "hanging\n"
        yield process


def test_an_end_that_hangs_is_given_up_with_3() -> None:
    with hanging("loadband.workers.Workers.close = hang") as process:
        began = time.monotonic()
        assert process.wait(5) == 3
    assert time.monotonic() - began < 2


def test_a_cycle_that_hangs_stops_no_end() -> None:
    with hanging("loadband.regulator.judge = hang") as process:
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 3


def test_after_a_failure_a_second_signal_is_obeyed_at_once() -> None:
    with hanging("loadband.regulator.judge = fail") as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(0.5) == 128 + signal.SIGINT


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_fault(closed: str) -> None:
    port = free_port()
    command = ("sh", "-c", f'exec "$0" "$@" {closed}', LOADBAND)
    with running(command=command, **MODEST, LISTEN=f"127.0.0.1:{port}") as process:
        wait_until(lambda: metric(get(port, "/metrics"), "loadband_observed_seconds_total") > 0)
        assert metric(get(port, "/metrics"), "loadband_cycles_total") < 100
        process.send_signal(signal.SIGTERM)
        assert process.wait(3) == 0


def test_a_full_disk_under_the_log_costs_lines_only() -> None:
    command = ("sh", "-c", 'exec "$0" "$@" >/dev/full', LOADBAND)
    done = run(command=command, **MODEST | {"MIN": "0", "MAX": "100"}, DURATION="3s")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_help_that_nobody_reads_is_an_internal_failure_and_not_a_band_that_was_not_held() -> None:
    done = run("--help", command=("sh", "-c", 'exec "$0" "$@" >/dev/full', LOADBAND))
    assert done.returncode == 3
    assert "No space left" in done.stderr
