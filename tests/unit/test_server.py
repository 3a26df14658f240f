from __future__ import annotations

import contextlib
import errno
import gzip
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import psutil
import pytest
from bad_clients import BAD_CLIENTS, misbehave, peer
from full_snapshot import INFO, SNAPSHOT
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from loadband.metrics import FAMILIES, registry
from loadband.page import Minute
from loadband.quantities import Counts, Snapshot
from loadband.server import Application
from loadband.serving import CONNECTIONS, ListenError, Server, _Listener, _OneAMinute

PROMETHEUS_2_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
READY = SNAPSHOT
STARTING = replace(SNAPSHOT, reading=None, utilization=None, in_band=False, counts=Counts())


def make_application(
    snapshot: Snapshot | None = READY,
    *,
    version: str = "1.2.3",
    stopping: Callable[[], bool] = lambda: False,
    now: float = SNAPSHOT.at,
) -> Application:
    return Application(
        registry(lambda: snapshot, INFO),
        Minute(lambda: snapshot),
        version=version,
        stopping=stopping,
        clock=lambda: now,
    )


@dataclass(frozen=True)
class Response:
    status: int
    headers: Message
    body: bytes


def run(application: WSGIApplication, environ: WSGIEnvironment) -> Response:
    status, headers = 0, Message()

    def start_response(line: str, fields: list[tuple[str, str]], *_: object) -> Callable[[bytes], object]:
        nonlocal status
        status = int(line.split(maxsplit=1)[0])
        for field in fields:
            headers.add_header(*field)
        return bytes

    parts = application(environ, start_response)
    body = b"".join(parts)
    if close := getattr(parts, "close", None):
        close()
    return Response(status, headers, body)


def call(application: WSGIApplication, path: str, method: str = "GET", **headers: str) -> Response:
    """One request, with the standard library watching that both sides keep to PEP 3333."""
    environ: WSGIEnvironment = {"SCRIPT_NAME": "", "PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return run(validator(application), environ)


@contextlib.contextmanager
def serving(application: WSGIApplication, host: str = "127.0.0.1", **options: Any) -> Iterator[Server]:
    server = Server.open(application, host, 0, **options)
    server.start()
    try:
        yield server
    finally:
        server.close()


def fetch(url: str, timeout: float = 10, **headers: str) -> Response:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Response(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Response(error.code, error.headers, error.read())


def exchange(server: Server, sent: bytes) -> bytes:
    """What comes back until the server hangs up; nothing more, where it does so rudely."""
    received = b""
    with socket.create_connection(peer(server.address), timeout=10) as client, contextlib.suppress(ConnectionError):
        client.sendall(sent)
        while more := client.recv(65536):
            received += more
    return received


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# Routes, methods, negotiation


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz"])
def test_every_route_answers_and_head_is_the_same_without_a_body(path: str, method: str) -> None:
    answer = call(make_application(), path, method)
    full = call(make_application(), path).body
    assert answer.status == 200
    assert answer.headers["Content-Type"].endswith("charset=utf-8")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    if method == "GET":
        assert answer.headers["Content-Length"] == str(len(answer.body))
    else:
        assert answer.body == b""
        # Memory and CPU time of the process go on between two scrapes.
        assert int(answer.headers["Content-Length"]) == pytest.approx(len(full), abs=50)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz"])
@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")  # that is what is sent
def test_other_methods_are_not_allowed(path: str, method: str) -> None:
    answer = call(make_application(), path, method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/favicon.ico", "/metrics/", "/Metrics", "/healthz/x", "/..", "/<script>"])
def test_other_paths_are_not_found(path: str, method: str) -> None:
    answer = call(make_application(), path, method)
    assert answer.status == 404
    assert path.encode() not in answer.body


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        (PROMETHEUS_2_ACCEPT, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PROMETHEUS_3_ACCEPT, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text; version=x", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=99", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_metrics_come_in_the_format_asked_for(accept: str, content_type: str) -> None:
    answer = call(make_application(), "/metrics", accept=accept)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(content_type)
    if "openmetrics" in content_type:
        families = parse_openmetrics(answer.body.decode())  # type: ignore[no-untyped-call]  # the library's
    else:
        families = parse_text(answer.body.decode())
    exposed = {sample.name for family in families for sample in family.samples}
    assert {family.name for family in FAMILIES if family.kind != "histogram"} < exposed


def test_metrics_are_gzipped_only_where_that_is_accepted() -> None:
    plain = call(make_application(), "/metrics")
    zipped = call(make_application(), "/metrics", accept_encoding="deflate, gzip")
    assert "Content-Encoding" not in plain.headers
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert b"\nloadband_in_band 1.0\n" in gzip.decompress(zipped.body)
    assert len(zipped.body) < len(plain.body) / 2


@pytest.mark.parametrize(
    ("accepted", "gzipped"),
    [
        ("gzip;q=0", False),
        ("identity, gzip ; Q=0.000", False),
        ("br;q=1.0, gzip;q=0.0, *;q=0", False),
        ("gzip;q=0.001", True),
        ("gzip;q=0.5, br;q=0", True),
        ("gzip;q=1", True),
    ],
)
def test_an_encoding_of_weight_zero_is_not_wanted(accepted: str, *, gzipped: bool) -> None:
    answer = call(make_application(), "/metrics", accept_encoding=accepted)
    assert ("Content-Encoding" in answer.headers) == gzipped


def test_metrics_answer_before_the_first_cycle() -> None:
    answer = call(make_application(None), "/metrics")
    assert answer.status == 200
    assert b"\nloadband_cycles_total 0.0\n" in answer.body


@pytest.mark.parametrize(
    ("interval", "age", "status"),
    [(0.1, 0.0, 200), (0.1, 4.9, 200), (0.1, 5.1, 503), (2.0, 19.9, 200), (2.0, 20.1, 503)],
)
def test_health_is_the_age_of_the_loop(interval: float, age: float, status: int) -> None:
    snapshot = replace(READY, interval=interval)
    answer = call(make_application(snapshot, now=snapshot.at + age), "/healthz")
    assert answer.status == status
    assert f"{age:.1f} s ago" in answer.body.decode()


@pytest.mark.parametrize("snapshot", [replace(READY, in_band=False), STARTING])
def test_health_is_neither_the_band_nor_the_reading(snapshot: Snapshot) -> None:
    assert call(make_application(snapshot), "/healthz").status == 200


def test_not_healthy_before_the_first_cycle() -> None:
    answer = call(make_application(None), "/healthz")
    assert (answer.status, answer.body) == (503, b"The control loop has not completed a cycle yet.\n")


@pytest.mark.parametrize("snapshot", [None, STARTING])
def test_not_ready_before_the_first_trustworthy_reading(snapshot: Snapshot | None) -> None:
    answer = call(make_application(snapshot), "/readyz")
    assert (answer.status, answer.body) == (503, b"There is no trustworthy reading yet.\n")


def test_ready_with_the_first_reading_and_when_a_later_one_is_lost() -> None:
    first = replace(READY, counts=Counts())
    lost = replace(READY, reading=None, utilization=None, in_band=False)
    assert call(make_application(first), "/readyz").status == 200
    assert call(make_application(lost), "/readyz").status == 200


def test_not_ready_at_once_when_stopping() -> None:
    stopping = threading.Event()
    application = make_application(stopping=stopping.is_set)
    assert call(application, "/readyz").status == 200
    stopping.set()
    answer = call(application, "/readyz")
    assert (answer.status, answer.body) == (503, b"Stopping.\n")
    assert call(application, "/healthz").status == 200


def test_page_says_what_this_is_and_escapes() -> None:
    page = call(make_application(version="1<b>&"), "/", accept="text/html").body.decode()
    assert "loadband 1&lt;b&gt;&amp;" in page
    for link in ("/metrics", "/healthz", "/readyz"):
        assert f'href="{link}"' in page


latin1 = st.text(st.characters(max_codepoint=255), max_size=60)


@given(
    method=st.sampled_from(["GET", "HEAD", "POST"]) | latin1,
    path=st.sampled_from(["/", "/metrics", "/healthz", "/readyz"]) | latin1,
    query=latin1 | st.just("name[]=loadband_state"),
    accept=latin1
    | st.builds(
        "{}; version={}; escaping={}".format,
        st.sampled_from(["application/openmetrics-text", "text/plain"]),
        latin1 | st.sampled_from(["1.0.0", "2", "1.x", "x.1", "-1", "1e9", "٣"]),
        latin1 | st.sampled_from(["dots", "values", "allow-utf-8"]),
    ),
    encoding=latin1 | st.just("gzip"),
)
def test_no_request_makes_the_application_fail(method: str, path: str, query: str, accept: str, encoding: str) -> None:
    environ: WSGIEnvironment = {}
    setup_testing_defaults(environ)
    environ |= {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
    environ |= {"HTTP_ACCEPT": accept, "HTTP_ACCEPT_ENCODING": encoding}
    assert run(make_application(), environ).status in {200, 404, 405}


# The server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(make_application()) as running:
        yield running


def test_serves_over_a_socket(server: Server) -> None:
    answer = fetch(f"{server.address}/metrics")
    assert answer.status == 200
    assert b"\nloadband_in_band 1.0\n" in answer.body
    assert "Server" not in answer.headers


def test_head_over_a_socket_has_no_body(server: Server) -> None:
    head, _, body = exchange(server, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: " in head
    assert body == b""


def test_a_connection_carries_one_exchange(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    answers = exchange(server, request * 50)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") <= 1
    answer = exchange(server, request)
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000, 431),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 10000000000\r\n\r\n", 413),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 10000000000\r\nExpect: 100-continue\r\n\r\n", 413),
        (b"GET /healthz HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", 200),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: magic\r\n\r\n", 501),
        (b"\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET /healthz HTTP/7.7\r\n\r\n", 200),
        (b"GET //healthz HTTP/1.1\r\n\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 404),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 404),
    ],
)
def test_odd_requests_are_answered(server: Server, sent: bytes, status: int) -> None:
    assert exchange(server, sent).split(b" ", 2)[1] == str(status).encode()


token = st.binary(max_size=30)
line = st.builds(b"%s: %s\r\n".__mod__, st.tuples(token, token))
looks_like_a_request = st.builds(
    lambda method, uri, version, lines, body: b"%s %s %s\r\n%s\r\n%s" % (method, uri, version, b"".join(lines), body),
    st.sampled_from([b"GET", b"HEAD", b"POST"]) | token,
    st.sampled_from([b"/metrics", b"http://[", b"//", b"/%00", b"/%ff?%", b"http://a:99999/"]) | token,
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""]) | token,
    st.lists(
        st.sampled_from(
            [
                b"Transfer-Encoding: chunked\r\n",
                b"Transfer-Encoding: chunked, gzip\r\n",
                b"Content-Length: 7\r\n",
                b"Content-Length: 7, 8\r\n",
                b"Expect: 100-continue\r\n",
                b"Connection: upgrade\r\n",
                b" folded\r\n",
                b"Accept: application/openmetrics-text; version=\xe9\r\n",
            ]
        )
        | line,
        max_size=4,
    ),
    st.sampled_from([b"", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffffffff\r\n", b"-1\r\n"]) | token,
)


@settings(max_examples=300, deadline=None)
@given(sent=st.binary(max_size=300) | looks_like_a_request)
def test_garbage_is_refused_or_hung_up_on(server: Server, sent: bytes) -> None:
    received = b""
    with socket.create_connection(peer(server.address), timeout=10) as client, contextlib.suppress(ConnectionError):
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while more := client.recv(65536):
            received += more
    if received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"):
        status = int(received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").split(b" ", 2)[1])
        assert status == 200 or 400 <= status < 500 or (status == 501 and b"transfer-encoding" in sent.lower())
    assert b"Traceback" not in received
    assert fetch(f"{server.address}/healthz").status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "::", "::1"])
def test_address_is_one_that_a_client_here_can_use(host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with serving(make_application(), host) as server:
        assert fetch(f"{server.address}/healthz").status == 200
        assert "0.0.0.0" not in server.address
        if host == "::":
            for either in ("127.0.0.1", "[::1]"):
                assert fetch(f"http://{either}:{peer(server.address)[1]}/healthz").status == 200


def test_all_addresses_are_those_of_ipv4_where_the_kernel_has_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    made = socket.create_server

    def without_ipv6(address: tuple[Any, ...], *, family: socket.AddressFamily, **others: Any) -> socket.socket:
        if family is socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return made(address, family=family, **others)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with serving(make_application(), "::") as server:
        assert peer(server.address)[0] == "127.0.0.1"
        assert fetch(f"{server.address}/healthz").status == 200
    with pytest.raises(ListenError, match=r"cannot listen on \[::1\]:0: Address family not supported by protocol"):
        Server.open(make_application(), "::1", 0)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_taken_port_is_one_clear_sentence() -> None:
    with serving(make_application()) as server:
        host, port = peer(server.address)
        with pytest.raises(ListenError) as raised:
            Server.open(make_application(), host, port)
    assert str(raised.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use"


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("192.0.2.1", 0, "cannot listen on 192.0.2.1:0: Cannot assign requested address"),
        ("no such host", 80, "cannot listen on no such host:80: "),
        ("a" * 70, 80, "cannot listen on aaa"),
        ("2001:db8::1", 80, "cannot listen on [2001:db8::1]:80: "),
    ],
)
def test_a_bad_address_is_one_clear_sentence(host: str, port: int, says: str) -> None:
    with pytest.raises(ListenError) as raised:
        Server.open(make_application(), host, port)
    assert str(raised.value).startswith(says)
    assert len(str(raised.value)) > len(says) or says.endswith("address")


def test_a_port_can_be_taken_again_at_once() -> None:
    with serving(make_application()) as server:
        host, port = peer(server.address)
        assert fetch(f"{server.address}/healthz").status == 200
    Server.open(make_application(), host, port).close()


def test_close_gives_everything_back_within_a_second() -> None:
    before = (threading.active_count(), psutil.Process().num_fds())
    server = Server.open(make_application(), "127.0.0.1", 0)
    server.start()
    with contextlib.ExitStack() as clients:
        for sent in [b"", b"GET", b"GET / HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\n\r\n"] * 20:
            client = clients.enter_context(socket.create_connection(peer(server.address)))
            client.sendall(sent)
        assert fetch(f"{server.address}/healthz").status == 200
        began = time.monotonic()
        server.close()
        took = time.monotonic() - began
    server.close()
    assert took < 1
    assert (threading.active_count(), psutil.Process().num_fds()) == before


def test_close_without_start_gives_everything_back() -> None:
    before = psutil.Process().num_fds()
    Server.open(make_application(), "127.0.0.1", 0).close()
    assert psutil.Process().num_fds() == before


def test_a_failure_of_the_serving_thread_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)

    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(_Listener, "handle_accept", fail)
    with serving(make_application()) as server, socket.create_connection(peer(server.address)):
        assert wait_for(lambda: bool(heard))
    assert heard[0].exc_type is ZeroDivisionError
    assert heard[0].thread
    assert heard[0].thread.name == "server"
    heard.clear()  # an exception keeps its frames, and those keep sockets


def test_a_failing_application_is_a_500_and_one_log_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: WSGIEnvironment, __: StartResponse) -> list[bytes]:
        raise ZeroDivisionError("secret")

    with serving(fail) as server:
        for _ in range(5):
            answer = fetch(f"{server.address}/")
            assert answer.status == 500
            assert b"secret" not in answer.body
    assert len([record for record in caplog.records if record.name.startswith("waitress")]) <= 1


def test_one_log_record_a_minute_passes() -> None:
    now = 0.0
    one_a_minute = _OneAMinute(lambda: now)
    record = logging.makeLogRecord({})
    passes = {}
    for now in (0.0, 0.1, 59.9, 60.1, 61.0, 200.0):
        passes[now] = one_a_minute.filter(record)
    assert passes == {0.0: True, 0.1: False, 59.9: False, 60.1: True, 61.0: False, 200.0: True}


def trickle(client: socket.socket) -> None:
    client.sendall(b"G")


def sip(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    client.recv(1)


def flood(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """More than the socket's buffers hold."""
    start_response("200 OK", [])
    return [bytes(32 << 20)]


@pytest.mark.parametrize("act", [trickle, sip])
def test_no_connection_outlives_its_time_however_busy(act: Callable[[socket.socket], None]) -> None:
    with serving(flood, exchange_seconds=0.5) as server:
        fds = psutil.Process().num_fds()
        with socket.create_connection(peer(server.address)) as client:
            assert wait_for(lambda: psutil.Process().num_fds() == fds + 2)
            client.settimeout(0)

            def hung_up() -> bool:
                with contextlib.suppress(OSError):
                    act(client)
                return psutil.Process().num_fds() == fds + 1

            assert wait_for(hung_up, 5)


def test_urgent_data_is_hung_up_on(server: Server) -> None:
    with socket.create_connection(peer(server.address), timeout=5) as client:
        client.send(b"!", socket.MSG_OOB)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_those_who_keep_us_waiting_make_room_for_a_probe(server: Server) -> None:
    with contextlib.ExitStack() as clients:
        waiting = [
            clients.enter_context(socket.create_connection(peer(server.address), timeout=5))
            for _ in range(2 * CONNECTIONS)
        ]
        assert fetch(f"{server.address}/healthz", timeout=1).status == 200
        assert waiting[0].recv(1) == b""
        waiting[-1].sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert waiting[-1].recv(12) == b"HTTP/1.1 200"


SERVE = textwrap.dedent("""
    import os, sys, threading, time
    from full_snapshot import INFO, SNAPSHOT
    from loadband.metrics import registry
    from loadband.page import Minute
    from loadband.server import Application
    from loadband.serving import Server

    def forbid_writing(event, arguments):
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            os.write(2, f"opened {arguments[0]} for writing\\n".encode())
            os._exit(3)

    source = lambda: SNAPSHOT
    application = Application(
        registry(source, INFO), Minute(source), version="1", stopping=lambda: False, clock=lambda: SNAPSHOT.at
    )
    server = Server.open(application, "127.0.0.1", 0)
    server.start()
    print(server.address, flush=True)
    sys.addaudithook(forbid_writing)
    sys.stdin.read()
    began = time.monotonic()
    server.close()
    print(time.monotonic() - began, threading.active_count(), flush=True)
""")


def test_a_hundred_bad_clients_stop_no_probe_and_leave_nothing_behind() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        assert child.stdout
        address = child.stdout.readline().strip()
        process = psutil.Process(child.pid)
        before = (process.num_fds(), process.num_threads())
        for _ in range(200):
            assert fetch(f"{address}/metrics").status == 200
        memory = process.memory_info().rss

        stop = threading.Event()
        clients = [
            threading.Thread(target=misbehave, args=(BAD_CLIENTS[n % len(BAD_CLIENTS)], address, stop))
            for n in range(100)
        ]
        latencies = []
        try:
            for client in clients:
                client.start()
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                began = time.monotonic()
                assert fetch(f"{address}/healthz").status == 200
                latencies.append(time.monotonic() - began)
                time.sleep(0.05)
            most = process.memory_info().rss
        finally:
            stop.set()
            for client in clients:
                client.join()

        assert max(latencies) < 1
        wait_for(lambda: (process.num_fds(), process.num_threads()) == before)
        assert (process.num_fds(), process.num_threads()) == before
        assert process.memory_info().rss - memory < 8 << 20
        assert most - memory < 32 << 20
        child.stdin.close()
        took, threads = child.stdout.readline().split()
        assert float(took) < 1
        assert int(threads) == 1
    assert child.returncode == 0


# A real Prometheus


def as_text(application: WSGIApplication) -> WSGIApplication:
    """Prometheus asks for OpenMetrics first; without its wishes it gets text."""

    def textual(environ: WSGIEnvironment, start_response: StartResponse) -> object:
        return application({**environ, "HTTP_ACCEPT": "text/plain;version=0.0.4"}, start_response)

    return textual  # type: ignore[return-value]  # what the application gives


@pytest.mark.parametrize("wrap", [lambda application: application, as_text], ids=["openmetrics", "text"])
def test_a_real_prometheus_scrapes_every_metric(
    tmp_path: Path, wrap: Callable[[WSGIApplication], WSGIApplication]
) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus isn't on PATH")
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"

    def ask(path: str) -> object:
        with contextlib.suppress(OSError, json.JSONDecodeError):  # it starts: nobody listens, or it says so in words
            answer = json.loads(fetch(f"http://{listen}{path}").body)
            assert answer["status"] == "success"
            return answer["data"]
        return None

    def scraped() -> bool:
        query = urllib.parse.quote('count_over_time(up{job="loadband"}[1m]) > 1')
        data = ask(f"/api/v1/query?query={query}")
        return isinstance(data, dict) and bool(data["result"])

    with serving(wrap(make_application())) as server:
        config = tmp_path / "prometheus.json"
        target = server.address.removeprefix("http://")
        scrape = {"job_name": "loadband", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
        config.write_text(json.dumps({"scrape_configs": [scrape | {"scrape_timeout": "1s"}]}))
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address={listen}",
        ]
        with (tmp_path / "log").open("w") as log, subprocess.Popen([prometheus, *arguments], stderr=log) as child:
            try:
                assert wait_for(scraped), (tmp_path / "log").read_text()
                targets = ask("/api/v1/targets")
                series = ask("/api/v1/label/__name__/values")
            finally:
                child.terminate()
    assert isinstance(targets, dict)
    (active,) = targets["activeTargets"]
    assert (active["health"], active["lastError"]) == ("up", "")
    assert isinstance(series, list)
    own = {name for name in series if name.startswith("loadband_")}
    histogram = {"loadband_cycle_duration_seconds" + suffix for suffix in ("_bucket", "_count", "_sum")}
    assert own == {family.name for family in FAMILIES if family.kind != "histogram"} | histogram
