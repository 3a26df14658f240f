"""The installed program with a profile and a control listener, and what SIGHUP means to it."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from program import LOADBAND, environment, free_port, get, metric, run, running, wait_until

TOKEN = "0123456789abcdef"
PROFILE = """\
name = "{name}"
at_end = "loop"
width = 1
[[phase]]
name = "low"
kind = "constant"
target = {target}
duration = "2s"
[[phase]]
name = "high"
kind = "constant"
target = 3
duration = "2s"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "day.toml"
    file.write_text(PROFILE.format(name="first", target=1))
    return file


def test_a_bad_profile_is_told_before_anything_burns(path: Path) -> None:
    path.write_text("[[phase]]\nkind = 'constant'\ntarget = 500\n")
    for words in ([], ["--check"]):
        done = run(*words, PROFILE=str(path))
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.splitlines() == [
            f"loadband: {path}:1: phase 1: duration is missing",
            f"loadband: {path}:3: phase 1, target = 500: must be 0..100 (percent), written as 60 or 60%",
        ]


def test_the_band_moves_with_the_profile_and_its_phases_are_shown(path: Path) -> None:
    port = free_port()
    with running(PROFILE=str(path), LISTEN=f"127.0.0.1:{port}") as process:
        assert process.stdout is not None
        assert "first: 2 phases in 4 s, then again" in process.stdout.readline()
        text = ""

        def is_in(phase: str) -> bool:
            nonlocal text
            text = get(port, "/metrics")
            return metric(text, f'loadband_profile_phase{{phase="{phase}"}}') == 1

        for phase, edge in 2 * (("low", 0.015), ("high", 0.035)):
            wait_until(partial(is_in, phase))
            assert metric(text, "loadband_band_max_ratio") == edge
            assert metric(text, 'loadband_profile_info{profile="first"}') == 1
        assert metric(text, 'loadband_band_changes_total{source="profile"}') == 0


def test_a_changed_profile_is_followed_and_a_bad_one_told(path: Path) -> None:
    port = free_port()
    with running(PROFILE=str(path), LISTEN=f"127.0.0.1:{port}") as process:
        wait_until(lambda: metric(get(port, "/metrics"), 'loadband_profile_info{profile="first"}'))
        path.write_text("nonsense")
        assert process.stdout is not None
        line = ""
        while "level=error" not in line:
            line = process.stdout.readline()
            assert line
        assert f"{path}:1: Expected '=' after a key" in line
        path.write_text(PROFILE.format(name="second", target=2))
        wait_until(lambda: metric(get(port, "/metrics"), 'loadband_profile_info{profile="second"}'))
        assert metric(get(port, "/metrics"), 'loadband_band_changes_total{source="profile"}') == 1


def test_the_band_is_set_and_set_back_by_the_client_and_by_sighup(path: Path) -> None:
    port, control = free_port(), free_port()
    settings = {"CONTROL_TOKEN": TOKEN, "CONTROL_LISTEN": f"127.0.0.1:{control}"}
    words = ("--url", f"http://127.0.0.1:{control}")
    with running(PROFILE=str(path), LISTEN=f"127.0.0.1:{port}", **settings) as process:
        wait_until(lambda: metric(get(port, "/metrics"), "loadband_band_max_ratio"))
        for back in ("client", "signal"):
            done = run("set", "5", "6.5", *words, **settings)
            assert (done.returncode, done.stdout, done.stderr) == (0, "5..6.5 % (control)\n", "")
            wait_until(lambda: metric(get(port, "/metrics"), "loadband_band_max_ratio") == 0.065)
            assert "loadband_profile_phase{" not in get(port, "/metrics")
            if back == "client":
                assert run("set", "configured", *words, **settings).stdout.endswith("% (profile)\n")
            else:
                process.send_signal(signal.SIGHUP)
            wait_until(lambda: 'loadband_profile_phase{phase="low"}' in get(port, "/metrics"))
        text = get(port, "/metrics")
        assert metric(text, 'loadband_band_changes_total{source="control"}') == 3
        assert metric(text, 'loadband_band_changes_total{source="profile"}') == 1
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=5)
    assert process.returncode == 0
    assert "PUT /band by 127.0.0.1: 5..6.5 %" in out
    assert TOKEN not in out + err


def test_nobody_controls_it_without_a_token(path: Path) -> None:
    control = free_port()
    with running(PROFILE=str(path), CONTROL_LISTEN=f"127.0.0.1:{control}") as process:
        assert process.stdout is not None
        assert "event=started" in process.stdout.readline()
        time.sleep(0.5)
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", control)):
            pass


def test_a_taken_control_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(CONTROL_LISTEN=address, CONTROL_TOKEN=TOKEN)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"loadband: LOADBAND_CONTROL_LISTEN={address!r}: cannot listen on {address}: Address already in use\n"
    )


@pytest.mark.parametrize(
    "settings", [{"PROFILE": "day.toml"}, {"CONTROL_TOKEN": TOKEN, "CONTROL_LISTEN": "127.0.0.1:0"}]
)
def test_a_terminal_that_hangs_up_ends_it_all_the_same(path: Path, settings: dict[str, str]) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", LOADBAND],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(settings | {"LISTEN": "off"}) | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        cwd=path.parent,
    )
    os.close(terminal)
    try:
        seen, deadline = "", time.monotonic() + 10
        while "Ctrl-C ends" not in seen:
            assert time.monotonic() < deadline
            if select.select([controller], [], [], 0.1)[0]:
                seen += os.read(controller, 65536).decode(errors="replace")
        if "PROFILE" in settings:
            # Sent by somebody while the terminal is there, it asks for another reading.
            path.write_text("nonsense")
            process.send_signal(signal.SIGHUP)
            while "Expected '='" not in seen:
                assert time.monotonic() < deadline
                if select.select([controller], [], [], 0.1)[0]:
                    seen += os.read(controller, 65536).decode(errors="replace")
            assert process.poll() is None
        os.close(controller)
        assert process.wait(3) == 0
    finally:
        process.kill()
        process.wait()
