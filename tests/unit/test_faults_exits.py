"""Ends under odd circumstances; nothing here burns."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from program import LOADBAND, free_port, get, metric, run, running, wait_until

from loadband.control import Control
from loadband.quantities import Band, Setpoint
from loadband.serving import Server
from loadband.setpoint import SetpointCell

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


COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "check": ["--check"],
    "profile": ["profile", "PROFILE"],
    "help of profile": ["profile", "--help"],
    "set": ["set", "configured", "--url", "URL", "--token-file", "TOKEN"],
    "help of set": ["set", "--help"],
}
"""All that print and end; the words in capitals stand for what a test puts there."""


@pytest.fixture(params=COMMANDS)
def words(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The words of a command that prints something and ends with 0, if it can."""
    (tmp_path / "day.toml").write_text('[[phase]]\nkind = "constant"\ntarget = 50\nduration = "10s"\n')
    (tmp_path / "token").write_text("0123456789abcdef")
    server = Server.open(Control(SetpointCell(Setpoint(Band(0.6, 0.7))), "0123456789abcdef"), "127.0.0.1", 0)
    server.start()
    places = {"PROFILE": str(tmp_path / "day.toml"), "TOKEN": str(tmp_path / "token"), "URL": server.address}
    yield [places.get(word, word) for word in COMMANDS[request.param]]
    server.close()


def to_nobody(stdout: str = "", stderr: str = "") -> tuple[str, ...]:
    """A command before a command that has it write to a pipe that nobody reads, as a shell makes it."""
    pipe = "import os, sys; r, w = os.pipe(); os.close(r); fds = [int(n) for n in sys.argv[1].split()]; "
    run_it = "[os.dup2(w, fd) for fd in fds]; os.close(w); os.execv(sys.argv[2], sys.argv[2:])"
    return (sys.executable, "-c", pipe + run_it, f"{stdout} {stderr}", LOADBAND)


def test_a_command_says_what_it_was_asked_for(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")


def test_a_command_whose_reader_has_left_ends_quietly(words: list[str]) -> None:
    done = run(*words, command=to_nobody(stdout="1"))
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


def test_a_command_whose_output_cannot_be_written_ends_with_3_and_one_sentence(words: list[str]) -> None:
    done = run(*words, command=("sh", "-c", 'exec "$0" "$@" >/dev/full', LOADBAND))
    assert done.returncode == 3
    assert done.stderr == "loadband: cannot write to standard output: No space left on device\n"


def test_a_command_with_closed_standard_streams_does_its_work(words: list[str]) -> None:
    assert run(*words, command=("sh", "-c", 'exec "$0" "$@" >&- 2>&-', LOADBAND)).returncode == 0


@pytest.mark.parametrize("command", [to_nobody(stderr="2"), ("sh", "-c", 'exec "$0" "$@" 2>&-', LOADBAND)])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--min", "x"], 2),
        (["profile", "/nowhere"], 2),
        (["profile"], 2),
        (["set", "1"], 2),
        (["set", "1", "2", "--token-file", "/nowhere"], 1),
    ],
    ids=["bad setting", "bad profile", "bad arguments of profile", "bad arguments of set", "set that fails"],
)
def test_a_message_that_nobody_reads_changes_no_exit_code(
    arguments: list[str], code: int, command: tuple[str, ...]
) -> None:
    done = run(*arguments, command=command)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_run_that_nobody_reads_any_more_ends_at_once_and_quietly() -> None:
    with running(**MODEST) as process:
        assert process.stdout
        assert process.stderr
        assert "event=started" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(2) == 141  # long before the next line is due
        assert process.stderr.read() == ""


def test_a_run_that_nobody_reads_from_the_start_ends_quietly() -> None:
    done = run(command=to_nobody(stdout="1", stderr="2"), **MODEST, MINN="a warning")
    assert (done.returncode, done.stderr) == (141, "")


def test_a_run_whose_messages_nobody_reads_goes_on() -> None:
    done = run(command=to_nobody(stderr="2"), **MODEST | {"MIN": "0", "MAX": "100"}, DURATION="2s", MINN="a warning")
    assert done.returncode == 0
    assert "event=stopped" in done.stdout


def test_an_exception_before_the_loop_is_an_internal_failure_and_not_a_band_that_was_not_held() -> None:
    broken = "import loadband.cli, sys; loadband.cli.load = None; from loadband.__main__ import main; sys.exit(main())"
    done = run(command=(sys.executable, "-c", broken))
    assert done.returncode == 3
    assert "loadband: the program failed: TypeError" in done.stderr
