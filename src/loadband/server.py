"""The read-only web applications: of a regulator, `/metrics` for Prometheus, two probes, and `/` for people.

`serving.Server` serves it.
"""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

from loadband import page
from loadband.page import Minute
from loadband.quantities import CpuSeconds
from loadband.serving import Answer, respond

STALE_INTERVALS = 10
STALE_SECONDS = 5.0
"""The loop counts as alive while its last cycle is younger than so many intervals or seconds, whichever is more."""

_KNOWN_RANGE = re.compile(
    r"\s*(application/openmetrics-text|text/plain)"
    r"(\s*;\s*(version=(0\.0\.1|0\.0\.4|1\.0\.0)|escaping=[a-z0-9-]+|charset=utf-8|q=[0-9.]+))*\s*"
)
"""The media ranges that scrapers send. On other versions, the client library raises or repeats them in its answer."""
_REFUSED = re.compile(r"[^;]*;\s*q=0(\.0{0,3})?\s*", re.ASCII | re.IGNORECASE)
"""An encoding that the client doesn't want (RFC 9110); the client library doesn't look at the weight."""


class Exposition:
    """A WSGI application with metrics and nothing else: `/metrics`, and a sentence at `/`.

    Other paths get 404, methods other than GET and HEAD get 405.

    Args:
        registry: what `/metrics` shows, as text or OpenMetrics, gzipped if the client asks for it.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._routes = {"/": self._root, "/metrics": self._metrics}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        route = self._routes.get(environ.get("PATH_INFO", ""))
        if route is None:
            answer = Answer.of_text("Not found. See / for what there is.", HTTPStatus.NOT_FOUND)
        elif environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            sentence = "Only GET and HEAD are allowed."
            answer = Answer.of_text(sentence, HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        else:
            answer = route(environ)
        return respond(answer, environ, start_response)

    def _metrics(self, environ: WSGIEnvironment) -> Answer:
        ranges = [part for part in environ.get("HTTP_ACCEPT", "").split(",") if _KNOWN_RANGE.fullmatch(part)]
        encode, content_type = choose_encoder(",".join(ranges))
        body = encode(self._registry)
        encodings = environ.get("HTTP_ACCEPT_ENCODING", "").split(",")
        if gzip_accepted(",".join(each for each in encodings if not _REFUSED.fullmatch(each))):
            return Answer(HTTPStatus.OK, gzip.compress(body), content_type, {"Content-Encoding": "gzip"})
        return Answer(HTTPStatus.OK, body, content_type)

    def _root(self, _: WSGIEnvironment) -> Answer:
        return Answer.of_text("Metrics for Prometheus are at /metrics.")


class Application(Exposition):
    """The WSGI application of a regulator: `/metrics`, `/healthz`, `/readyz` and `/`.

    The only 5xx is the 503 of the two probes.

    Args:
        registry: what `/metrics` shows, as text or OpenMetrics, gzipped if the client asks for it.
        minute: has the latest snapshot, for the probes, and those of the last minute, shown on `/`.
        version: shown on `/`.
        stopping: returns whether the program is about to end; from then on it isn't ready.
        clock: the monotonic clock of the snapshots, seconds.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        minute: Minute,
        *,
        version: str,
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(registry)
        self._source = minute.latest
        self._version = version
        self._minute = minute
        self._stopping = stopping
        self._clock = clock
        self._routes |= {"/healthz": self._healthz, "/readyz": self._readyz}

    def _healthz(self, _: WSGIEnvironment) -> Answer:
        snapshot = self._source()
        if snapshot is None:
            return _unavailable("The control loop has not completed a cycle yet.")
        age = self._clock() - snapshot.at
        if age > max(STALE_INTERVALS * snapshot.interval, STALE_SECONDS):
            return _unavailable(f"The control loop stands still: its last cycle was {age:.1f} s ago.")
        return Answer.of_text(f"The control loop runs: its last cycle was {age:.1f} s ago.")

    def _readyz(self, _: WSGIEnvironment) -> Answer:
        if self._stopping():
            return _unavailable("Stopping.")
        snapshot = self._source()
        # Counted CPU time stays if a later reading is lost: once ready, it is ready until the end.
        if snapshot is None or (snapshot.reading is None and snapshot.counts.cpu == CpuSeconds()):
            return _unavailable("There is no trustworthy reading yet.")
        return Answer.of_text("Ready.")

    def _root(self, environ: WSGIEnvironment) -> Answer:
        """The page for people: HTML for browsers, plain text for whoever doesn't ask for HTML."""
        shown = self._minute.latest(), self._minute.snapshots(), self._version
        if "text/html" not in environ.get("HTTP_ACCEPT", ""):
            return Answer(HTTPStatus.OK, page.text(*shown).encode(), "text/plain; charset=utf-8", {"Vary": "Accept"})
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Vary": "Accept"}
        return Answer(HTTPStatus.OK, page.html_text(*shown).encode(), "text/html; charset=utf-8", policy)


def _unavailable(sentence: str) -> Answer:
    return Answer.of_text(sentence, HTTPStatus.SERVICE_UNAVAILABLE)
