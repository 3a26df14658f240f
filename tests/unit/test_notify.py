from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from program import run, running
from snapshots import snapshot

from loadband import notify
from loadband.quantities import Snapshot


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What PID 1 holds of the notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def heard(systemd: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in systemd.recv(8192).decode().splitlines())


def heard_until(systemd: socket.socket, condition: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    while not condition(said := heard(systemd)):
        pass
    return said


def test_only_a_loop_that_goes_on_feeds_the_watchdog(systemd: socket.socket) -> None:
    at, stop = iter([None, 1.0, 2.0, 2.0, 2.0, 3.0]), threading.Event()

    def source() -> Snapshot | None:
        moment = next(at, None)
        if moment == 3.0:
            stop.set()
        return None if moment is None else snapshot(moment)

    notify.run(source, stop, poll=0.001)
    fed = [heard(systemd) for _ in range(4)]
    assert [said.get("WATCHDOG") for said in fed] == ["1", "1", "1", None]
    assert fed[0] == {"READY": "1", "WATCHDOG": "1", "STATUS": "holding: 65.0 % is in the band"}
    assert fed[3] == {"STOPPING": "1"}


def test_a_status_of_several_lines_stays_one_assignment(systemd: socket.socket) -> None:
    notify.tell("STATUS=one\nWATCHDOG=1")
    assert heard(systemd) == {"STATUS": "one WATCHDOG=1"}


def test_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"loadband-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify.tell("READY=1")
        assert heard(listening) == {"READY": "1"}


@pytest.mark.parametrize("address", ["", "vsock:2:1", "/nowhere/notify"])
def test_nobody_there_is_no_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.tell("READY=1")


def test_systemd_that_does_not_listen_keeps_nobody_waiting(systemd: socket.socket) -> None:
    for _ in range(1000):  # far more than the socket's queue takes
        notify.tell("WATCHDOG=1")
    assert heard(systemd) == {"WATCHDOG": "1"}


def test_the_program_tells_systemd_how_it_goes(systemd: socket.socket) -> None:
    with running(MIN="0", MAX="100") as process:
        said = heard_until(systemd, lambda said: said.get("STATUS", "").startswith("holding"))
        assert said["READY"] == said["WATCHDOG"] == "1"
        process.send_signal(signal.SIGTERM)
        heard_until(systemd, lambda said: said == {"STOPPING": "1"})
        assert process.wait(5) == 0


def test_bad_settings_are_the_status(systemd: socket.socket) -> None:
    assert run(MIN="80x", MAX="200").returncode == 2
    status = heard(systemd)["STATUS"]
    assert status.startswith("bad settings: LOADBAND_MIN='80x'")
    assert "LOADBAND_MAX='200'" in status
