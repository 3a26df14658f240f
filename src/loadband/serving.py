"""An HTTP server for WSGI applications that keeps answering whatever its clients do, and the answers that they give.

waitress serves; what is added here bounds what it leaves open. A connection carries one exchange and has limited time
for it. If there are too many, the one that has made us wait the longest makes room for the newest. So a probe gets in
at once, however many slow, broken or endless requests there are. Nothing is ever written to a file.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import BadRequest

CONNECTIONS = 64
"""Open at once; beyond that, the oldest that still makes us wait for its request is closed for a new one."""
EXCHANGE_SECONDS = 10.0
"""From connecting to the last byte of the answer: Prometheus gives up on a scrape after the same time by default."""
CLOSE_SECONDS = 0.9
"""The longest that closing waits for its threads."""

_POLL_SECONDS = 1.0
_THREADS = 4
_MAX_HEADER_BYTES = 8192
_BACKLOG = 1024
MAX_BODY = 4096
"""Bytes of a request's body, if the application needs no more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client."""

    status: HTTPStatus
    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_text(cls, sentence: str, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Self:
        """A sentence as plain text; in the names of headers an underscore stands for a dash."""
        return cls(status, f"{sentence}\n".encode(), "text/plain; charset=utf-8", _names(headers))

    @classmethod
    def of_json(cls, value: object, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Self:
        """A value as JSON; in the names of headers an underscore stands for a dash."""
        return cls(status, json.dumps(value).encode() + b"\n", "application/json", _names(headers))


def _names(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def respond(answer: Answer, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Give an answer as a WSGI application does (PEP 3333); without its body if HEAD asks for it."""
    headers = {
        "Content-Type": answer.content_type,
        "Content-Length": str(len(answer.body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **answer.headers,
    }
    start_response(f"{answer.status.value} {answer.status.phrase}", list(headers.items()))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]


class ListenError(Exception):
    """An address can't be listened on; the message is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a client may take; see `Server.open`."""

    exchange_seconds: float
    max_body: int


class Server:
    """Serves a WSGI application from threads of its own; made by `open`.

    Args:
        application: what answers.
        listening: a bound and listening TCP socket; owned from now on.
        limits: what a client may take.
    """

    def __init__(self, application: WSGIApplication, listening: socket.socket, limits: _Limits) -> None:
        _quieten()
        self.address = _url(listening)
        """The URL for a client on this machine: `http://host:port`."""
        self._stop = threading.Event()
        self._dispatcher = _Dispatcher()
        self._map: dict[int, wasyncore.dispatcher] = {}
        self._listener = _Listener(application, listening, self._map, self._dispatcher, limits)
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    @classmethod
    def open(
        cls,
        application: WSGIApplication,
        host: str,
        port: int,
        *,
        exchange_seconds: float = EXCHANGE_SECONDS,
        max_body: int = MAX_BODY,
    ) -> Self:
        """Bind and listen; nothing is answered before `start`.

        Args:
            application: what answers.
            host: name or address, IPv6 without brackets; `::` is every address, of IPv4 too, and of IPv4 alone if the
                kernel has no IPv6.
            port: 0..65535; 0 takes a free one, which `address` names.
            exchange_seconds: what one connection has, from connecting to the last byte of its answer, > 0.
            max_body: bytes of a request's body; a longer one is refused with 413.

        Raises:
            ListenError: if the address can't be had: a taken port, a bad address, a port that needs rights.
        """
        try:
            listening = _listen(host, port)
        except (OSError, UnicodeError) as error:
            raise ListenError(f"cannot listen on {_host_port(host, port)}: {_reason(error)}") from error
        return cls(application, listening, _Limits(exchange_seconds, max_body))

    def start(self) -> None:
        """Start to answer. A failure of the serving thread reaches `threading.excepthook`."""
        self._dispatcher.set_thread_count(_THREADS)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and hang up, within a second whatever the clients do; may be called twice."""
        if self._stop.is_set():
            return
        self._stop.set()
        deadline = time.monotonic() + CLOSE_SECONDS
        if self._thread.ident is not None:
            self._listener.pull_trigger()
            self._thread.join(deadline - time.monotonic())
        self._listener.hang_up()
        if self._dispatcher.stop(deadline):
            # Only now: a thread that still runs would wake the loop through a descriptor that may be reused by then.
            self._listener.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            wasyncore.loop(_POLL_SECONDS, use_poll=True, map=self._map, count=1)
            self._listener.close_overdue()


class _Request(HTTPRequestParser):  # type: ignore[misc]  # waitress ships no types
    """A request that can't crash its parser, and whose connection is closed after it."""

    path = ""  # waitress logs it even if the request couldn't be parsed

    def received(self, data: bytes) -> int:
        try:
            consumed: int = super().received(data)
        except ValueError as error:  # a bracket without its pair in the URI, for one
            self.error = BadRequest(str(error))
            self.completed = True
        if self.completed and not self.empty:
            # Requests that follow in the same packet would be answered too, with 20 KB for every 20 bytes: drop them.
            consumed = len(data)
            self.expect_continue = False
            self.headers["CONNECTION"] = "close"
        return consumed


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    """One connection; it knows by a clock that doesn't jump when it was opened."""

    parser_class = _Request

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.opened = time.monotonic()
        super().__init__(*args, **kwargs)

    def handle_expt(self) -> None:
        # Urgent data has no meaning in HTTP; unread, it would wake the loop for ever.
        self.handle_close()


class _Listener(TcpWSGIServer):  # type: ignore[misc]  # waitress ships no types
    """Accepts connections, and closes those that take too long or must make room."""

    channel_class = _Channel

    def __init__(
        self,
        application: WSGIApplication,
        listening: socket.socket,
        dispatchers: dict[int, wasyncore.dispatcher],
        tasks: ThreadedTaskDispatcher,
        limits: _Limits,
    ) -> None:
        self._exchange_seconds = limits.exchange_seconds
        adjustments = Adjustments(
            sockets=[listening],
            asyncore_use_poll=True,
            backlog=_BACKLOG,
            # Clients that make us wait never reach it, since they make room; it bounds those that all want answers.
            connection_limit=2 * CONNECTIONS,
            max_request_header_size=_MAX_HEADER_BYTES,
            max_request_body_size=limits.max_body,
            # Beyond these, waitress writes temporary files, and the root file system may be read-only: never reached.
            inbuf_overflow=1 << 30,
            outbuf_overflow=1 << 30,
            ident=None,
            expose_tracebacks=False,
            log_socket_errors=False,
        )
        super().__init__(
            application,
            map=dispatchers,
            _sock=listening,
            dispatcher=tasks,
            adj=adjustments,
            sockinfo=(listening.family, listening.type, listening.proto, listening.getsockname()),
            bind_socket=False,
        )

    def handle_accept(self) -> None:
        if len(self.active_channels) >= CONNECTIONS:
            # Dicts keep their order: the first channel without a complete request has made us wait the longest.
            waiting = (channel for channel in self.active_channels.values() if not channel.requests)
            if oldest := next(waiting, None):
                oldest.handle_close()
        super().handle_accept()

    def maintenance(self, now: float) -> None:
        """Does nothing; see `close_overdue`. waitress's own clock jumps, and each byte puts its deadline off."""

    def close_overdue(self) -> None:
        """Close every connection whose time is up."""
        oldest = time.monotonic() - self._exchange_seconds
        for channel in list(self.active_channels.values()):
            if channel.opened < oldest:
                # At once, not when it is writable: with a client that doesn't read its answer, it never is.
                channel.handle_close()

    def hang_up(self) -> None:
        """Stop listening and close every connection; the trigger stays."""
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        wasyncore.dispatcher.close(self)

    def handle_error(self) -> None:
        # waitress would close the listening socket with one log line. Called while the exception is handled.
        raise  # noqa: PLE0704 - the exception that the caller handles


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress ships no types
    """waitress's thread pool, which can be joined."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[threading.Thread] = []

    def start_new_thread(self, target: Callable[[int], None], thread_no: int) -> None:
        thread = threading.Thread(target=target, args=(thread_no,), name=f"server-{thread_no}", daemon=True)
        thread.start()
        self._started.append(thread)

    def stop(self, deadline: float) -> bool:
        """End all threads; returns whether they ended by the deadline (monotonic clock, seconds)."""
        self.shutdown(timeout=max(deadline - time.monotonic(), 0.0))
        for thread in self._started:
            thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._started)


class _OneAMinute(logging.Filter):
    """Passes one record a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._quiet_until = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the records don't differ
        now = self._clock()
        if now < self._quiet_until:
            return False
        self._quiet_until = now + 60
        return True


_ONE_A_MINUTE = _OneAMinute()


def _quieten() -> None:
    """Let waitress log failures only, and one a minute.

    Below that level it logs every client that is slow, broken or gone, and every queued request: whoever can reach the
    port could fill the log. Failures of the application are left, and may come with every request.
    """
    logger = logging.getLogger("waitress")
    logger.setLevel(logging.ERROR)
    logger.addFilter(_ONE_A_MINUTE)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; see `Server.open`. `OSError` or `UnicodeError` if the address can't be had."""
    # Bytes need no codec of international names, which takes 5 ms and 0.4 MiB to load.
    name = host.encode() if host.isascii() else host
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, (address, _, *rest) = found[0]
    if family is socket.AF_INET6 and address == "::":
        if not socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET, backlog=_BACKLOG)
        return socket.create_server((address, port), family=family, backlog=_BACKLOG, dualstack_ipv6=True)
    return socket.create_server((address, port, *rest), family=family, backlog=_BACKLOG)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        # Every address of IPv6 means those of IPv4, too; a container without IPv6 has no ::1.
        host = "127.0.0.1"
    return f"http://{_host_port(host, port)}"


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
