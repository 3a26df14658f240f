from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
from snapshots import reading, snapshot

from loadband import output
from loadband.quantities import Band, Counts, CpuSeconds, Progress, Setpoint, State, Steal, Verdict


def test_summary_of_a_band_that_was_held() -> None:
    assert output.summary(snapshot()) == (
        "held 60..70 % for 99.2 % of 41 s; mean 65.0 %, own 60.1 % (1.20 of 2 CPUs), others 4.9 %; 0 overruns"
    )


def test_summary_names_a_profile_for_a_band_that_moved() -> None:
    played = Setpoint(Band(0.2, 0.3), "profile", progress=Progress("day", "noon", ("noon",)))
    assert output.summary(snapshot(setpoint=played)).startswith("held the profile day for 99.2 % of 41 s; ")


def test_summary_says_when_the_band_was_not_held() -> None:
    counts = replace(snapshot().counts, in_band_seconds=20.5, overruns=1)
    line = output.summary(snapshot(counts=counts))
    assert line.startswith("not held: in 60..70 % for 50.0 % of 41 s; ")
    assert line.endswith("; 1 overrun")


def test_summary_says_when_the_band_was_never_entered() -> None:
    counts = replace(snapshot().counts, in_band_seconds=0.0, observed_since_entry=0.0)
    assert output.summary(snapshot(counts=counts)).startswith("never in 60..70 % in 41 s; mean 65.0 %")


@pytest.mark.parametrize(("seen", "words", "end"), [(88.0, "not held: in", ", not seen for 12 s"), (99.5, "held", "")])
def test_summary_says_how_much_was_not_seen(seen: float, words: str, end: str) -> None:
    counts = replace(snapshot().counts, run_seconds=100.0, seen_seconds=seen)
    line = output.summary(snapshot(counts=counts))
    assert line.startswith(f"{words} 60..70 % for 99.2 % of 41 s; ")
    assert line.endswith(f"others 4.9 %{end}; 0 overruns")


def test_summary_says_why_nothing_was_observed() -> None:
    blind = snapshot(
        reading=None, utilization=None, counts=Counts(), verdict=Verdict(State.FAILSAFE, "/proc/stat is unreadable")
    )
    assert output.summary(blind) == "nothing observed in 41 s: /proc/stat is unreadable"


def test_summary_without_a_last_reading_leaves_out_the_cpus() -> None:
    assert "own 60.1 %, others 4.9 %" in output.summary(snapshot(reading=None, utilization=None))


@pytest.mark.parametrize(("steal", "mean"), [(Steal.IDLE, "mean 60.0 %"), (Steal.BUSY, "mean 70.0 %")])
def test_summary_counts_steal_as_the_setting_says(steal: Steal, mean: str) -> None:
    counts = replace(snapshot().counts, cpu=CpuSeconds(own=5.0, other=1.0, steal=1.0, idle=3.0))
    line = output.summary(snapshot(steal=steal, counts=counts, reading=reading(capacity=1.0)))
    assert mean in line
    assert "steal 10.0 %" in line


def test_a_thread_blocked_on_the_stream_does_not_keep_the_interpreter_from_exiting() -> None:
    script = textwrap.dedent("""
        import sys, threading
        from loadband import output

        def fill():
            with output.stdout() as file:
                while True:
                    file.write("x" * 4096)
                    sys.stderr.write("."); sys.stderr.flush()
        threading.Thread(target=fill, daemon=True).start()
        sys.stdin.readline()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stderr
        # A pipe holds 16 pages of 4 KiB: after as many writes the thread hangs, or is about to.
        written = 0
        while written < 16:
            written += child.stderr.read(1) == b"."
        child.stdin.close()
        assert child.wait(timeout=10) == 0
