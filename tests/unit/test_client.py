"""The control client and `loadband set`, against a control listener and against other servers."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadband import set_band
from loadband.client import ControlClient, ControlError
from loadband.control import Control
from loadband.quantities import Band, Setpoint
from loadband.serving import Server
from loadband.setpoint import SetpointCell

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LOADBAND_CONTROL_TOKEN", "LOADBAND_CONTROL_TOKEN_FILE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.fixture
def cell() -> SetpointCell:
    return SetpointCell(Setpoint(Band(0.6, 0.7)))


@pytest.fixture
def url(cell: SetpointCell) -> Iterator[str]:
    server = Server.open(Control(cell, TOKEN), "127.0.0.1", 0)
    server.start()
    yield server.address
    server.close()


@pytest.mark.parametrize(
    ("words", "band"),
    [
        (["80", "90"], Band(0.8, 0.9)),
        (["05%", "57.5 %"], Band(0.05, 0.575)),
        (["0", "0.0000001"], Band(0, 1e-9)),
    ],
)
def test_it_sets_a_band_and_says_what_is_asked_for_now(
    cell: SetpointCell, url: str, token: Path, words: list[str], band: Band, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set_band.main([*words, "--url", f"{url}/", "--token-file", str(token)]) == 0
    assert cell.read().band == band
    assert capsys.readouterr().out == f"{band} (control)\n".replace("..1e-07", "..1e-07")


@pytest.mark.parametrize(
    ("configured", "said"),
    [(Setpoint(Band(0.6, 0.7)), "60..70 % (settings)\n"), (Setpoint(None, effort=0.25), "0.25 CPUs (settings)\n")],
)
def test_it_goes_back_to_what_is_configured(
    configured: Setpoint, said: str, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = SetpointCell(configured)
    cell.replace(Setpoint(Band(0.1, 0.2), "control"))
    server = Server.open(Control(cell, TOKEN), "127.0.0.1", 0)
    server.start()
    try:
        assert set_band.main(["configured", "--url", server.address, "--token-file", str(token)]) == 0
    finally:
        server.close()
    assert cell.read() == configured
    assert capsys.readouterr().out == said


def test_the_token_may_come_from_the_environment(
    cell: SetpointCell, url: str, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOADBAND_CONTROL_TOKEN_FILE", str(token))
    assert set_band.main(["10", "20", "--url", url]) == 0
    monkeypatch.delenv("LOADBAND_CONTROL_TOKEN_FILE")
    monkeypatch.setenv("LOADBAND_CONTROL_TOKEN", TOKEN)
    assert set_band.main(["20", "30", "--url", url]) == 0
    assert cell.read().band == Band(0.2, 0.3)


@pytest.mark.parametrize(
    "words", [[], ["80"], ["80", "90", "95"], ["90", "80"], ["x", "90"], ["default"], ["80", "101"]]
)
def test_what_is_no_band_is_refused_before_anything_is_asked(
    words: list[str], token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        set_band.main([*words, "--token-file", str(token)])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:10671", "ftp://host", "http://"])
def test_what_is_no_http_url_is_refused(url: str, token: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        set_band.main(["80", "90", "--url", url, "--token-file", str(token)])
    assert caught.value.code == 2


def failed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What it says in one line."""
    assert set_band.main(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert TOKEN not in line
    return line


def test_without_a_token_it_says_where_to_put_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no token: give --token-file FILE" in failed(["80", "90"], capsys)


def test_a_token_file_that_cannot_be_read_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--token-file='/nowhere': cannot be read" in failed(["80", "90", "--token-file", "/nowhere"], capsys)


def test_a_wrong_token_is_told_with_the_answer(
    cell: SetpointCell, url: str, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token.write_text("0123456789-another")
    line = failed(["80", "90", "--url", url, "--token-file", str(token)], capsys)
    assert f"{url}: 401 Unauthorized: The header must be" in line
    assert set(cell.changes.values()) == {0}


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that says the same to everybody; its URL."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\n\r\n{"source": "settings"}',
        b'HTTP/1.1 200 OK\r\n\r\n{"source": "x", "min": 1, "max": 2}',
        b'HTTP/1.1 200 OK\r\n\r\n{"source": "control", "min": "a", "max": 1}',
        b'HTTP/1.1 200 OK\r\n\r\n{"source": "control", "min": 2, "max": 1}',
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
        b"HTTP/1.1 404 Not Found\r\n\r\nno",
        b"HTTP/1.1 307 Elsewhere\r\nLocation: http://192.0.2.1/\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_of_ours_is_told_in_a_line(
    answer: bytes, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(answer) as url:
        assert url in failed(["80", "90", "--url", url, "--token-file", str(token)], capsys)


def test_nobody_there_is_told_in_a_line(token: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = failed(["80", "90", "--url", "http://127.0.0.1:1", "--token-file", str(token)], capsys)
    assert "Connection refused" in line


def test_a_client_reads_and_changes_what_is_in_force(cell: SetpointCell, url: str) -> None:
    client = ControlClient(url, TOKEN)
    assert client.read() == Setpoint(Band(0.6, 0.7))
    assert client.set_band(Band(0.2, 0.575)) == Setpoint(Band(0.2, 0.575), "control")
    assert client.set_effort(0.25) == Setpoint(None, "control", effort=0.25)
    assert cell.read().effort == 0.25
    assert client.withdraw() == Setpoint(Band(0.6, 0.7))


def test_a_client_raises_a_sentence(url: str) -> None:
    with pytest.raises(ControlError, match=f"{url}: 401 Unauthorized: The header must be"):
        ControlClient(url, "another token").read()
    with pytest.raises(ControlError, match=r"http://127.0.0.1:1: .*refused"):
        ControlClient("http://127.0.0.1:1", TOKEN).withdraw()
