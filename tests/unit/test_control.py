"""The control listener: it does what it is asked to, or nothing."""

from __future__ import annotations

import io
import json
import logging
import math
import socket
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any
from wsgiref.types import WSGIEnvironment
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadband.control import MAX_BODY_BYTES, Control
from loadband.quantities import Band, Progress, Setpoint
from loadband.serving import Server
from loadband.setpoint import SetpointCell

TOKEN = "0123456789-secret-~+/=="
BEARER = f"Bearer {TOKEN}"
CONFIGURED = Setpoint(Band(0.6, 0.7))
BODY = b'{"min": 80, "max": 90.5}'
Answer = tuple[int, dict[str, str], Any]


def ask(
    control: Control,
    method: str = "GET",
    body: bytes = b"",
    *,
    path: str = "/band",
    authorization: str | None = BEARER,
    content_type: str | None = "application/json",
    length: str | None = None,
) -> Answer:
    """One request, with the standard library watching that both sides keep to PEP 3333."""
    environ: WSGIEnvironment = {"SCRIPT_NAME": "", "PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    environ |= {"REMOTE_ADDR": "192.0.2.7", "wsgi.input": io.BytesIO(body)}
    environ["CONTENT_LENGTH"] = str(len(body)) if length is None else length
    if authorization is not None:
        environ["HTTP_AUTHORIZATION"] = authorization
    if content_type is not None:
        environ["CONTENT_TYPE"] = content_type
    status, headers = 0, {}

    def start_response(line: str, fields: list[tuple[str, str]], *_: object) -> Any:
        nonlocal status, headers
        status, headers = int(line.split(maxsplit=1)[0]), dict(fields)
        return bytes

    parts = validator(control)(environ, start_response)
    content = b"".join(parts)
    parts.close()  # type: ignore[attr-defined] # the validator's
    return status, headers, json.loads(content) if content else None


@pytest.fixture
def cell() -> SetpointCell:
    return SetpointCell(CONFIGURED)


def test_put_changes_the_band_and_says_what_is_now_asked_for(cell: SetpointCell) -> None:
    control = Control(cell, TOKEN)
    status, headers, answer = ask(control, "PUT", BODY)
    assert (status, answer) == (200, {"source": "control", "min": 80, "max": 90.5})
    assert headers["Content-Type"] == "application/json"
    assert (cell.read().band, cell.read().source) == (Band(0.8, 0.905), "control")
    assert ask(control)[2] == answer
    assert cell.changes["control"] == 1


@pytest.mark.parametrize("effort", [0, 0.25, 1024])
def test_put_may_ask_for_a_fixed_effort_instead(cell: SetpointCell, effort: float) -> None:
    control = Control(cell, TOKEN)
    status, _, answer = ask(control, "PUT", b'{"effort": %s}' % str(effort).encode())
    assert (status, answer) == (200, {"source": "control", "effort": effort})
    assert (cell.read().band, cell.read().effort) == (None, effort)


@pytest.mark.parametrize("body", [b'{"effort": -0.1}', b'{"effort": 1025}', b'{"effort": "1"}', b'{"effort": NaN}'])
def test_an_effort_that_nobody_can_burn_is_refused(cell: SetpointCell, body: bytes) -> None:
    assert ask(Control(cell, TOKEN), "PUT", body)[0] == 400
    assert unchanged(cell)


@pytest.mark.parametrize("body", [b'{"effort": 1, "min": 5, "max": 10}', b'{"effort": 1e999999}'])
def test_a_band_and_an_effort_at_once_or_infinity_are_refused(cell: SetpointCell, body: bytes) -> None:
    assert ask(Control(cell, TOKEN), "PUT", body)[0] == 400
    assert unchanged(cell)


def test_nothing_can_be_asked_for_once_the_duration_is_over(cell: SetpointCell) -> None:
    status, _, answer = ask(Control(cell, TOKEN, over=lambda: True), "PUT", BODY)
    assert (status, answer) == (409, {"error": "LOADBAND_DURATION is over: nothing is burnt any more."})
    assert unchanged(cell)


def test_delete_goes_back_to_what_is_configured_and_may_be_repeated(cell: SetpointCell) -> None:
    control = Control(cell, TOKEN)
    ask(control, "PUT", BODY)
    for _ in range(2):
        assert ask(control, "DELETE", content_type=None)[::2] == (200, {"source": "settings", "min": 60, "max": 70})
    assert cell.read() == CONFIGURED
    assert cell.changes["control"] == 2


def test_get_says_where_a_profile_is_or_what_a_fixed_effort_is() -> None:
    played = Setpoint(Band(0.123456789012, 0.3), "profile", progress=Progress("day", "noon", ("noon",)))
    assert ask(Control(SetpointCell(played), TOKEN))[2] == {
        "source": "profile",
        "min": 12.345678901,
        "max": 30,
        "profile": "day",
        "phase": "noon",
    }
    assert ask(Control(SetpointCell(Setpoint(None, effort=0.25)), TOKEN))[2] == {"source": "settings", "effort": 0.25}


def test_head_is_get_without_a_body(cell: SetpointCell) -> None:
    status, headers, answer = ask(Control(cell, TOKEN), "HEAD")
    assert (status, answer) == (200, None)
    assert int(headers["Content-Length"]) > 10


@pytest.mark.parametrize("low", [0, 0.1, 5, 33.333, 57, 99.9])
def test_percent_arrive_as_the_nearest_ratio(cell: SetpointCell, low: float) -> None:
    assert ask(Control(cell, TOKEN), "PUT", b'{"max": 1e2, "min": %s}' % str(low).encode())[0] == 200
    band = cell.read().band
    assert band is not None
    assert (band.low, band.high) == (float(Decimal(str(low)) / 100), 1)


def unchanged(cell: SetpointCell) -> bool:
    return cell.read() is CONFIGURED and set(cell.changes.values()) == {0}


@pytest.mark.parametrize(
    "authorization",
    [
        *[None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"],
        *[f"Bearer x{TOKEN}", f"Bearer {TOKEN} {TOKEN}", "Bearer \xff\x00", f"Bearer {TOKEN.upper()}"],
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_without_the_token_nothing_is_told_or_changed(
    cell: SetpointCell, method: str, authorization: str | None
) -> None:
    status, headers, answer = ask(Control(cell, TOKEN), method, BODY, authorization=authorization)
    assert status == 401
    assert headers["WWW-Authenticate"] == 'Bearer realm="loadband"'
    assert method == "HEAD" or list(answer) == ["error"]
    assert unchanged(cell)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_has_no_case(cell: SetpointCell, scheme: str) -> None:
    assert ask(Control(cell, TOKEN), authorization=f"{scheme} {TOKEN}")[0] == 200


BAD_BODIES = [
    b"",
    b"{}",
    b"[80, 90]",
    b"80",
    b"null",
    b'{"min": 80}',
    b'{"min": 80, "max": 90, "force": true}',
    b'{"min": 80, "max": 90, "max": 95}',
    b'{"min": 80, "max": 90} ]',
    b'{"min": "80", "max": "90"}',
    b'{"min": true, "max": 90}',
    b'{"min": false, "max": true}',
    b'{"min": null, "max": 90}',
    b'{"min": [80], "max": {"max": 90}}',
    b'{"min": NaN, "max": 90}',
    b'{"min": 80, "max": Infinity}',
    b'{"min": -1, "max": 90}',
    b'{"min": 80, "max": 100.0001}',
    b'{"min": 80, "max": 80}',
    b'{"min": 90, "max": 80}',
    b'{"min": 0, "max": 1e-400}',
    b'{"min": 0, "max": 1e400}',
    b'{"min": 0, "max": 1e99999999999999999999}',
    b'{"min": 0, "max": ' + 900 * b"9" + b"}",
    b'{"min": 080, "max": 90}',
    b"\xef\xbb\xbf" + BODY,
    b'{"min": 80, "max": 90\xff}',
    b'{"min": 80, "max": 90, "\\ud800": 1}',
    1000 * b"[",
    BODY[:-1],
]


@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_body_that_is_no_band_changes_nothing(cell: SetpointCell, body: bytes) -> None:
    status, _, answer = ask(Control(cell, TOKEN), "PUT", body)
    assert (status, list(answer)) == (400, ["error"])
    assert "percent 0 <= MIN < MAX <= 100 as numbers" in answer["error"]
    assert unchanged(cell)


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (404, {"path": "/"}),
        (404, {"path": "/band/"}),
        (404, {"path": "/BAND", "authorization": None}),
        (405, {"method": "POST"}),
        (405, {"method": "PATCH", "authorization": None}),
        (405, {"method": "put"}),
        (413, {"body": BODY + MAX_BODY_BYTES * b" "}),
        (413, {"length": str(MAX_BODY_BYTES + 1)}),
        (415, {"content_type": None}),
        (415, {"content_type": "text/json"}),
        (415, {"content_type": "application/x-www-form-urlencoded"}),
        (400, {"length": ""}),
    ],
)
@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_what_is_wrong_has_its_status_and_a_sentence(cell: SetpointCell, status: int, request_: dict[str, Any]) -> None:
    answer = ask(Control(cell, TOKEN), **({"method": "PUT", "body": BODY} | request_))
    assert answer[0] == status
    assert answer[2]["error"].endswith(".")
    assert ("Allow" in answer[1]) == (status == 405)
    assert unchanged(cell)


@pytest.mark.parametrize(("length", "status"), [("-1", 400), ("\xb2", 400), ("1_0", 400), (5000 * "9", 413)])
def test_a_length_that_no_server_would_let_pass_changes_nothing(cell: SetpointCell, length: str, status: int) -> None:
    answered = ""
    environ: WSGIEnvironment = {}
    setup_testing_defaults(environ)
    environ |= {
        "PATH_INFO": "/band",
        "REQUEST_METHOD": "PUT",
        "HTTP_AUTHORIZATION": BEARER,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": length,
    }

    def start_response(line: str, *_: object) -> Any:
        nonlocal answered
        answered = line
        return bytes

    (content,) = Control(cell, TOKEN)(environ, start_response)
    assert answered.startswith(str(status))
    assert json.loads(content)["error"].endswith(".")
    assert unchanged(cell)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_a_media_type_may_have_parameters(cell: SetpointCell, content_type: str) -> None:
    assert ask(Control(cell, TOKEN), "PUT", BODY, content_type=content_type)[0] == 200


def test_who_changed_it_is_logged(cell: SetpointCell, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    control = Control(cell, TOKEN)
    ask(control)
    ask(control, "PUT", BODY)
    ask(control, "PUT", b"{}")
    ask(control, "DELETE")
    ask(control, "DELETE")
    assert [record.getMessage() for record in caplog.records] == [
        "PUT /band by 192.0.2.7: 80..90.5 %",
        "DELETE /band by 192.0.2.7: back to the configured setpoint",
        "DELETE /band by 192.0.2.7: nothing was overridden",
    ]


def test_wrong_tokens_are_logged_once_a_minute_and_never_shown(
    cell: SetpointCell, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    control = Control(cell, TOKEN, clock=lambda: now)
    for _ in range(50):
        ask(control, authorization="Bearer guessed")
        now += 3
    messages = [record.getMessage() for record in caplog.records]
    assert messages == 3 * ["a request without the right token from 192.0.2.7"]


numbers = st.one_of(st.integers(), st.floats(), st.floats(0, 100), st.decimals(allow_nan=False).map(str))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["min", "max", "x"]), inner)),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["min", "max", "effort", "x", "Min"]), st.one_of(numbers, json_values))
bodies = st.one_of(
    st.binary(max_size=1100),
    json_values.map(lambda value: json.dumps(value).encode()),
    objects.map(lambda value: json.dumps(value).encode()),
    st.tuples(numbers, numbers).map(lambda edges: f'{{"min": {edges[0]}, "max": {edges[1]}}}'.encode()),
    st.text(alphabet='{}[]",:minax0123456789.eE+- \\u', max_size=60).map(str.encode),
)
latin = st.text(alphabet=st.characters(max_codepoint=255), max_size=40)


@settings(max_examples=800, deadline=None)
@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "PUT", "PUT", "DELETE", "POST", "OPTIONS"]),
    path=st.sampled_from(["/band", "/band", "/band", "/", "/band/x", "/%62and"]),
    authorization=st.one_of(st.just(BEARER), st.just(BEARER), st.none(), latin, latin.map("Bearer ".__add__)),
    content_type=st.one_of(st.just("application/json"), st.just("application/json"), st.none(), latin),
    body=bodies,
)
def test_whatever_is_asked_the_answer_is_one_of_ours_and_the_change_whole_or_none(
    method: str, path: str, authorization: str | None, content_type: str | None, body: bytes
) -> None:
    cell = SetpointCell(CONFIGURED)
    status, _, answer = ask(
        Control(cell, TOKEN), method, body, path=path, authorization=authorization, content_type=content_type
    )
    assert status in {200, 400, 401, 404, 405, 413, 415}
    if status != 200:
        assert method == "HEAD" or list(answer) == ["error"]
    if (status, method) == (200, "PUT"):
        asked = json.loads(body)
        band = cell.read().band
        assert cell.changes["control"] == 1
        if "effort" in asked:
            assert (set(asked), band, cell.read().effort) == ({"effort"}, None, asked["effort"])
            return
        assert set(asked) == {"min", "max"}
        assert band is not None
        assert math.isclose(band.low, asked["min"] / 100, rel_tol=1e-12, abs_tol=1e-12)
        assert math.isclose(band.high, asked["max"] / 100, rel_tol=1e-12, abs_tol=1e-12)
        assert 0 <= band.low < band.high <= 1
    else:
        assert unchanged(cell)


@settings(max_examples=300, deadline=None)
@given(low=st.integers(0, 10**6), high=st.integers(0, 10**6))
def test_every_band_of_percent_is_taken_and_read_back(low: int, high: int) -> None:
    control = Control(SetpointCell(CONFIGURED), TOKEN)
    status, _, answer = ask(control, "PUT", f'{{"min": {low / 10_000}, "max": {high / 10_000}}}'.encode())
    assert status == (200 if low < high else 400)
    if low < high:
        assert (answer["min"], answer["max"]) == (low / 10_000, high / 10_000)


@contextmanager
def served(cell: SetpointCell) -> Iterator[Server]:
    server = Server.open(Control(cell, TOKEN), "127.0.0.1", 0)
    server.start()
    try:
        yield server
    finally:
        server.close()


def exchange(server: Server, sent: bytes) -> bytes:
    url = urllib.parse.urlsplit(server.address)
    received = b""
    with (
        socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=10) as client,
        suppress(ConnectionError),
    ):
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while more := client.recv(65536):
            received += more
    return received


HEAD = f"PUT /band HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER}\r\nContent-Type: application/json\r\n".encode()


def test_over_a_socket_a_band_is_changed_in_one_piece_or_chunks(cell: SetpointCell) -> None:
    with served(cell) as server:
        whole = exchange(server, HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
        assert whole.startswith(b"HTTP/1.1 200 ")
        chunked = exchange(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n18\r\n%s\r\n0\r\n\r\n" % BODY)
        assert chunked.startswith(b"HTTP/1.1 200 ")
    assert cell.changes["control"] == 2


def test_over_a_socket_a_body_that_is_cut_off_or_too_large_changes_nothing(cell: SetpointCell) -> None:
    with served(cell) as server:
        assert exchange(server, HEAD + b"Content-Length: 999\r\n\r\n" + BODY) == b""
        for length in (1025, 5000, 10**9):
            answer = exchange(server, HEAD + b"Content-Length: %d\r\n\r\n" % length + BODY + 1001 * b" " + 5000 * b" ")
            assert answer.split(b" ")[1] == b"413"
    assert unchanged(cell)


def test_over_a_socket_no_bytes_make_a_500(cell: SetpointCell) -> None:
    with served(cell) as server:

        @settings(max_examples=150, deadline=None)
        @given(st.one_of(st.binary(max_size=300), latin.map(lambda text: HEAD + text.encode("latin-1") + b"\r\n\r\n")))
        def fuzzed(sent: bytes) -> None:
            answer = exchange(server, sent)
            assert not answer.startswith(b"HTTP/1.1 500")
            assert not answer.startswith(b"HTTP/1.0 500")

        fuzzed()
        assert exchange(server, b"GET /band HTTP/1.1\r\nAuthorization: %s\r\n\r\n" % BEARER.encode())
    assert unchanged(cell)
