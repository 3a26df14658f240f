"""Child processes: ready before they are used, named when they fail, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from program import wait_until

from loadband.rebalance.programs import (
    END_SECONDS,
    MissingError,
    Program,
    ProgramError,
    environment,
    find,
    free_port,
    wait_for,
)

SLEEPS = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_program_runs_until_it_is_stopped(tmp_path: Path) -> None:
    with Program(SLEEPS, tmp_path / "log") as program:
        wait_for(lambda: "up" in program.last_words(), 10, "its first words", program)
        assert program.ended == ""
        pid = program.pid
    assert not is_there(pid)
    assert program.ended == f"{Path(sys.executable).name} was ended by signal 15: up"
    program.stop()


def test_a_program_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadband.rebalance.programs.END_SECONDS", 0.2)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    with Program([sys.executable, "-c", code], tmp_path / "log") as program:
        wait_for(lambda: "up" in program.last_words(), 10, "its first words", program)
    assert "signal 9" in program.ended


def test_a_program_is_killed_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from loadband.rebalance.programs import Program\n"
        f"p = Program({SLEEPS!r}, Path({str(tmp_path / 'log')!r})); print(p.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        wait_until(lambda: "up" in (tmp_path / "log").read_text(), 10, "the child's first words")
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: not is_there(pid), 5, "the child's end")


@pytest.mark.parametrize("how", ["stopped", "killed by somebody else"])
def test_what_a_program_has_started_ends_with_it(how: str, tmp_path: Path) -> None:
    code = (
        f"import subprocess, time; print(subprocess.Popen({SLEEPS!r}, stdout=subprocess.DEVNULL).pid, flush=True);"
        "time.sleep(600)"
    )
    with Program([sys.executable, "-c", code], tmp_path / "log") as program:
        child = int(wait_for(program.last_words, 10, "the child's number", program))
        if how == "stopped":
            program.stop()
        else:
            os.kill(program.pid, signal.SIGKILL)
            assert program.wait(10)
        wait_until(lambda: not is_there(child), 5, "the child's end")


def test_a_program_that_is_slow_to_end_gets_as_long_as_it_is_given(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    with Program([sys.executable, "-c", code], tmp_path / "log") as program:
        wait_for(program.last_words, 10, "its first words", program)
        began = time.monotonic()
        program.stop(0.1)
        assert 0.1 <= time.monotonic() - began < END_SECONDS
    assert "signal 9" in program.ended


def test_a_program_reads_a_file_and_its_output_is_apart_from_its_log(tmp_path: Path) -> None:
    (tmp_path / "told").write_text("what it is told")
    code = "import sys; print(sys.stdin.read()); sys.exit('complaint')"
    command = [sys.executable, "-c", code]
    with Program(command, tmp_path / "log", stdin=tmp_path / "told", stdout=tmp_path / "out") as program:
        assert program.wait(10)
    assert (tmp_path / "out").read_text() == "what it is told\n"
    assert program.last_words() == "complaint"
    with pytest.raises(ProgramError, match=r"can't be started: .*no-such-file"):
        Program(command, stdin=tmp_path / "no-such-file")


def test_the_end_of_a_program_ends_the_waiting_and_names_its_last_words(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no such option')"
    with (
        Program([sys.executable, "-c", code], tmp_path / "log") as program,
        pytest.raises(ProgramError, match="ended with exit code 1: no such option"),
    ):
        wait_for(lambda: None, 10, "what never comes", program)


def test_waiting_ends_in_time_and_says_what_for() -> None:
    def refuse() -> None:
        raise OSError("connection refused")

    with pytest.raises(TimeoutError, match=r"waited 0\.1 s for a miracle: connection refused"):
        wait_for(refuse, 0.1, "a miracle")
    assert wait_for(lambda: 42, 0, "the answer") == 42


def test_a_missing_program_is_named_with_its_package() -> None:
    assert find("coreutils", "no-such-program", "true").endswith("/true")
    with pytest.raises(MissingError, match=r"no-such-program can't be found .* apt install some-package"):
        find("some-package", "no-such-program")


def test_a_program_that_cannot_be_executed_says_so(tmp_path: Path) -> None:
    with Program(["/nonexistent/program"], tmp_path / "log") as program:
        assert program.wait(10)
        assert program.ended == "program ended with exit code 1: /nonexistent/program: No such file or directory"
    with pytest.raises(ProgramError, match="can't be started"):
        Program(SLEEPS, tmp_path / "no" / "folder")


def test_its_environment_has_only_the_settings_that_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADBAND_MIN", "7")
    monkeypatch.setenv("SOMETHING", "else")
    made = environment({"EFFORT": "1m"})
    assert made["LOADBAND_EFFORT"] == "1m"
    assert made["SOMETHING"] == "else"
    assert "LOADBAND_MIN" not in made


def test_free_ports_differ() -> None:
    assert len({free_port() for _ in range(5)}) > 1


def test_a_free_port_is_none_that_an_outgoing_connection_may_take(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outgoing = tmp_path / "range"
    monkeypatch.setattr("loadband.rebalance.programs._PORT_RANGE", outgoing)
    outgoing.write_text("32768\t60999\n")
    assert all(20_000 <= free_port() < 32_768 for _ in range(50))
    # The kernel may use nearly all: then any port that is free now has to do. Likewise where it doesn't say.
    outgoing.write_text("1024\t65535\n")
    assert free_port() >= 1024
    outgoing.unlink()
    assert free_port() > 0


def test_a_port_that_is_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", free_port()))
        taken = listening.getsockname()[1]
        # No other port than the one that is taken: the kernel has to be asked for another.
        outgoing = tmp_path / "range"
        outgoing.write_text(f"{taken + 1}\t60999\n")
        monkeypatch.setattr("loadband.rebalance.programs._PORT_RANGE", outgoing)
        monkeypatch.setattr("loadband.rebalance.programs._FIRST_PORT", taken)
        assert free_port() != taken
