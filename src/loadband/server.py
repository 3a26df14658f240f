"""What answers HTTP: the application, and the server that keeps it answering whatever the clients do.

waitress serves; what is added here bounds what it leaves open. A connection carries one exchange and has limited time
for it, and when there are too many, the one that has kept us waiting longest makes room for the newest. So a probe gets
in at once, however many slow, broken or never-ending requests there are. Nothing is ever written to a file.
"""

from __future__ import annotations

import gzip
import html
import ipaddress
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import BadRequest

from loadband.metrics import SnapshotSource
from loadband.quantities import CpuSeconds

STALE_INTERVALS = 10
STALE_SECONDS = 5.0
"""The loop is alive while its last cycle is younger than that many intervals and seconds, whichever is more."""

CONNECTIONS = 64
"""Open at once, before the oldest that still waits for its client is closed for a new one."""
EXCHANGE_SECONDS = 10.0
"""From connecting to the last byte of the answer: Prometheus gives up on a scrape after the same time by default."""
CLOSE_SECONDS = 0.9
"""The longest that closing waits for its threads."""

_POLL_SECONDS = 1.0
_THREADS = 4
_MAX_HEADER_BYTES = 8192
_MAX_BODY_BYTES = 4096
_TEXT = "text/plain; charset=utf-8"

_KNOWN_RANGE = re.compile(
    r"\s*(application/openmetrics-text|text/plain)"
    r"(\s*;\s*(version=(0\.0\.1|0\.0\.4|1\.0\.0)|escaping=[a-z0-9-]+|charset=utf-8|q=[0-9.]+))*\s*"
)
"""The media ranges that scrapers send. The client library raises on other versions or repeats them in its answer."""


class ListenError(Exception):
    """We can't listen on an address; its message is one sentence that names the address."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What goes back to the client."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    headers: dict[str, str] = field(default_factory=dict)


class Application:
    """The WSGI application: `/metrics`, `/healthz`, `/readyz` and `/`.

    Other paths get 404, other methods than GET and HEAD 405. The only 5xx is the 503 of the two probes.

    Args:
        registry: what `/metrics` shows, as text or OpenMetrics, gzipped where the client asks for it.
        source: gives the snapshot of the last cycle, for the probes.
        version: shown on `/`.
        stopping: whether we are about to end; we aren't ready from then on.
        clock: the monotonic clock of the snapshots, seconds.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        source: SnapshotSource,
        *,
        version: str,
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._source = source
        self._page = _PAGE.format(version=html.escape(version)).encode()
        self._stopping = stopping
        self._clock = clock
        self._routes = {"/": self._root, "/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        method = environ["REQUEST_METHOD"]
        route = self._routes.get(environ.get("PATH_INFO", ""))
        if route is None:
            answer = _Answer(HTTPStatus.NOT_FOUND, b"Not found. See / for what there is.\n")
        elif method not in {"GET", "HEAD"}:
            allow = {"Allow": "GET, HEAD"}
            answer = _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"Only GET and HEAD are allowed.\n", headers=allow)
        else:
            answer = route(environ)
        headers = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **answer.headers,
        }
        start_response(f"{answer.status.value} {answer.status.phrase}", list(headers.items()))
        return [] if method == "HEAD" else [answer.body]

    def _metrics(self, environ: WSGIEnvironment) -> _Answer:
        ranges = [part for part in environ.get("HTTP_ACCEPT", "").split(",") if _KNOWN_RANGE.fullmatch(part)]
        encode, content_type = choose_encoder(",".join(ranges))
        body = encode(self._registry)
        if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            return _Answer(HTTPStatus.OK, gzip.compress(body), content_type, {"Content-Encoding": "gzip"})
        return _Answer(HTTPStatus.OK, body, content_type)

    def _healthz(self, _: WSGIEnvironment) -> _Answer:
        snapshot = self._source()
        if snapshot is None:
            return _unavailable("The control loop has not completed a cycle yet.")
        age = self._clock() - snapshot.at
        if age > max(STALE_INTERVALS * snapshot.interval, STALE_SECONDS):
            return _unavailable(f"The control loop stands still: its last cycle was {age:.1f} s ago.")
        return _ok(f"The control loop runs: its last cycle was {age:.1f} s ago.")

    def _readyz(self, _: WSGIEnvironment) -> _Answer:
        if self._stopping():
            return _unavailable("Stopping.")
        snapshot = self._source()
        # Counted CPU time stays when a later reading is lost: ready once is ready until the end.
        if snapshot is None or (snapshot.reading is None and snapshot.counts.cpu == CpuSeconds()):
            return _unavailable("There is no trustworthy reading yet.")
        return _ok("Ready.")

    def _root(self, _: WSGIEnvironment) -> _Answer:
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return _Answer(HTTPStatus.OK, self._page, "text/html; charset=utf-8", policy)


def _ok(sentence: str) -> _Answer:
    return _Answer(HTTPStatus.OK, f"{sentence}\n".encode())


def _unavailable(sentence: str) -> _Answer:
    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{sentence}\n".encode())


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>loadband</title>
<style>body {{ font-family: sans-serif; margin: 3em auto; max-width: 40em; padding: 0 1em }}</style>
</head>
<body>
<h1>loadband {version}</h1>
<p>Holds this machine's CPU utilization inside a band and says truthfully what it does.</p>
<ul>
<li><a href="/metrics">/metrics</a>: for Prometheus, as text or OpenMetrics</li>
<li><a href="/healthz">/healthz</a>: whether the control loop runs</li>
<li><a href="/readyz">/readyz</a>: whether there was a trustworthy reading, and we aren't stopping</li>
</ul>
</body>
</html>
"""


class Server:
    """Serves a WSGI application from threads of its own; made by `open`.

    Args:
        application: what answers.
        listening: a bound and listening TCP socket; owned from now on.
        exchange_seconds: what one connection has, from connecting to the last byte of its answer, > 0.
    """

    def __init__(self, application: WSGIApplication, listening: socket.socket, exchange_seconds: float) -> None:
        _quieten()
        self.address = _url(listening)
        """Where a client on this machine finds us: `http://host:port`."""
        self._stop = threading.Event()
        self._dispatcher = _Dispatcher()
        self._map: dict[int, wasyncore.dispatcher] = {}
        self._listener = _Listener(application, listening, self._map, self._dispatcher, exchange_seconds)
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    @classmethod
    def open(
        cls, application: WSGIApplication, host: str, port: int, *, exchange_seconds: float = EXCHANGE_SECONDS
    ) -> Self:
        """Bind and listen; nothing is answered before `start`.

        Args:
            application: what answers.
            host: name or address, IPv6 without brackets; `::` listens on IPv4 too.
            port: 0..65535; 0 takes a free one, which `address` tells.
            exchange_seconds: what one connection has, from connecting to the last byte of its answer, > 0.

        Raises:
            ListenError: if that is not possible: a taken port, a bad address, a port that needs rights.
        """
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, (address, _, *rest) = found[0]
            both = family is socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
            listening = socket.create_server((address, port, *rest), family=family, backlog=1024, dualstack_ipv6=both)
        except (OSError, UnicodeError) as error:
            raise ListenError(f"cannot listen on {_host_port(host, port)}: {_reason(error)}") from error
        return cls(application, listening, exchange_seconds)

    def start(self) -> None:
        """Answer from now on. A failure of the serving thread reaches `threading.excepthook`."""
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
            # Only now: a thread that still ran would wake the loop through a descriptor that may by then be another's.
            self._listener.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            wasyncore.loop(_POLL_SECONDS, use_poll=True, map=self._map, count=1)
            self._listener.close_overdue()


class _Request(HTTPRequestParser):  # type: ignore[misc]  # waitress ships no types
    """A request that can't crash its reader, and after which its connection is closed."""

    path = ""  # waitress logs it, also of what could not be parsed

    def received(self, data: bytes) -> int:
        try:
            consumed: int = super().received(data)
        except ValueError as error:  # a bracket without its pair in the URI, for one
            self.error = BadRequest(str(error))
            self.completed = True
        if self.completed and not self.empty:
            # What follows in the same packet would be answered too, at some 20 KB for every 20 bytes: let it fall.
            consumed = len(data)
            self.expect_continue = False
            self.headers["CONNECTION"] = "close"
        return consumed


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    """One connection, which knows since when it is open by a clock that doesn't jump."""

    parser_class = _Request

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.opened = time.monotonic()
        super().__init__(*args, **kwargs)

    def handle_expt(self) -> None:
        # Urgent data, which HTTP has none of: left unread it would wake the loop for ever.
        self.handle_close()


class _Listener(TcpWSGIServer):  # type: ignore[misc]  # waitress ships no types
    """Accepts connections, and closes those that take too long or that must make room."""

    channel_class = _Channel

    def __init__(
        self,
        application: WSGIApplication,
        listening: socket.socket,
        dispatchers: dict[int, wasyncore.dispatcher],
        tasks: ThreadedTaskDispatcher,
        exchange_seconds: float,
    ) -> None:
        self._exchange_seconds = exchange_seconds
        adjustments = Adjustments(
            sockets=[listening],
            asyncore_use_poll=True,
            backlog=1024,
            # Never reached by clients that keep us waiting, they make room; the end for those that all want answers.
            connection_limit=2 * CONNECTIONS,
            max_request_header_size=_MAX_HEADER_BYTES,
            max_request_body_size=_MAX_BODY_BYTES,
            # waitress overflows to temporary files, and the root file system is read-only: far above all we hold.
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
            # Dicts keep their order: the first that has no complete request has kept us waiting longest.
            waiting = (channel for channel in self.active_channels.values() if not channel.requests)
            if oldest := next(waiting, None):
                oldest.handle_close()
        super().handle_accept()

    def maintenance(self, now: float) -> None:
        """Leave it to `close_overdue`: waitress's own goes by a clock that jumps, and any byte puts it off."""

    def close_overdue(self) -> None:
        """Close every connection whose time is over."""
        oldest = time.monotonic() - self._exchange_seconds
        for channel in list(self.active_channels.values()):
            if channel.opened < oldest:
                # At once, not when it is writable: a client that doesn't read its answer never is.
                channel.handle_close()

    def hang_up(self) -> None:
        """Stop listening and close every connection; the trigger stays."""
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        wasyncore.dispatcher.close(self)

    def handle_error(self) -> None:
        # waitress would close the listening socket with one log line; called where the exception is being handled.
        raise  # noqa: PLE0704 - the caller's


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress ships no types
    """waitress's pool of threads, which can be joined."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[threading.Thread] = []

    def start_new_thread(self, target: Callable[[int], None], thread_no: int) -> None:
        thread = threading.Thread(target=target, args=(thread_no,), name=f"server-{thread_no}", daemon=True)
        thread.start()
        self._started.append(thread)

    def stop(self, deadline: float) -> bool:
        """End all threads; whether they had by then (monotonic clock, seconds)."""
        self.shutdown(timeout=max(deadline - time.monotonic(), 0.0))
        for thread in self._started:
            thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._started)


class _OneAMinute(logging.Filter):
    """Lets one record pass a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._quiet_until = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - any record
        now = self._clock()
        if now < self._quiet_until:
            return False
        self._quiet_until = now + 60
        return True


_ONE_A_MINUTE = _OneAMinute()


def _quieten() -> None:
    """Let waitress log failures only, and one a minute.

    What it says below that level it says for every client that is slow, broken or gone, and for every queued request:
    whoever can reach the port could fill the log. What is left are failures of ours, which repeat with every request.
    """
    logger = logging.getLogger("waitress")
    logger.setLevel(logging.ERROR)
    logger.addFilter(_ONE_A_MINUTE)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004 - a name in itself
    return f"http://{_host_port(host, port)}"


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
