"""The WSGI application that changes the setpoint of a running regulator; it has a listener of its own.

A request does everything it asks for, or nothing: it is checked completely before the one reference is replaced.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from loadband.quantities import Band, Setpoint
from loadband.serving import Answer, respond
from loadband.setpoint import SetpointCell

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024
MAX_EFFORT = 1024
"""CPUs; the same as for LOADBAND_EFFORT."""
REFUSALS_TOLD = 60.0
"""Seconds between two log lines about wrong tokens: whoever can reach the port could fill the log."""
_METHODS = "GET, HEAD, PUT, DELETE"


class _RefusalError(Exception):
    """A request is refused; the answer has the reason as a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.answer = Answer.of_json({"error": sentence}, status, **headers)


class Control:
    """`GET /band`, `PUT /band` with `{"min": percent, "max": percent}`, and `DELETE /band`, which withdraws it.

    `PUT /band` with `{"effort": CPUs}` asks for a fixed effort instead: a load of that size, whatever else runs.

    Each answers with the setpoint that is then in force. A request that is wrong changes nothing, and is answered with
    400, 401, 404, 405, 409, 413 or 415 and a sentence.

    Args:
        cell: the cell that is read and changed.
        token: the bearer token (RFC 6750) that a request needs.
        over: whether nothing is burnt any more, whatever is asked for.
        clock: the monotonic clock, seconds.
    """

    def __init__(
        self,
        cell: SetpointCell,
        token: str,
        over: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cell = cell
        self._token = token.encode()
        self._over = over
        self._clock = clock
        self._quiet_until = float("-inf")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        try:
            self._obey(environ)
            answer = Answer.of_json(_described(self._cell.read()))
        except _RefusalError as refusal:
            answer = refusal.answer
        return respond(answer, environ, start_response)

    def _obey(self, environ: WSGIEnvironment) -> None:
        """Carry out a request.

        Raises:
            _RefusalError: if that isn't possible or allowed; nothing was changed then.
        """
        method = environ["REQUEST_METHOD"]
        if environ.get("PATH_INFO") != "/band":
            raise _RefusalError(HTTPStatus.NOT_FOUND, "There is only /band.")
        if method not in _METHODS.split(", "):
            raise _RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, f"Only {_METHODS} are allowed.", Allow=_METHODS)
        self._authorize(environ)
        peer = environ.get("REMOTE_ADDR", "an unknown address")
        if method == "PUT":
            asked = _asked(_body(environ))
            if self._over():
                raise _RefusalError(HTTPStatus.CONFLICT, "LOADBAND_DURATION is over: nothing is burnt any more.")
            self._cell.replace(asked)
            log.info("PUT /band by %s: %s", peer, asked)
        elif method == "DELETE":
            changed = self._cell.restore("control")
            outcome = "back to the configured setpoint" if changed else "nothing was overridden"
            log.info("DELETE /band by %s: %s", peer, outcome)

    def _authorize(self, environ: WSGIEnvironment) -> None:
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        # WSGI's strings are the bytes of the request, as latin-1.
        if scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode("latin-1"), self._token):
            return
        now = self._clock()
        if now >= self._quiet_until:
            self._quiet_until = now + REFUSALS_TOLD
            log.warning("a request without the right token from %s", environ.get("REMOTE_ADDR", "an unknown address"))
        raise _RefusalError(
            HTTPStatus.UNAUTHORIZED,
            "The header must be `Authorization: Bearer` with the token of LOADBAND_CONTROL_TOKEN.",
            WWW_Authenticate='Bearer realm="loadband"',
        )


def _body(environ: WSGIEnvironment) -> bytes:
    """The body of a request, which must declare it as JSON."""
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
        raise _RefusalError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be application/json.")
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isascii() or not length.isdigit():
        raise _RefusalError(HTTPStatus.BAD_REQUEST, "The length of the body must be a number.")
    # The digits first: Python refuses to read thousands of them.
    if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
        raise _RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body must have {MAX_BODY_BYTES} bytes at most.")
    body: bytes = environ["wsgi.input"].read(int(length))
    return body


def _asked(body: bytes) -> Setpoint:
    """The setpoint that a body asks for."""
    expected = (
        'The body must be {"min": MIN, "max": MAX}, with percent 0 <= MIN < MAX <= 100 as numbers, '
        f'or {{"effort": CPUS}}, with 0 <= CPUS <= {MAX_EFFORT} as a number.'
    )
    try:
        asked = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_int=Decimal,
            parse_float=Decimal,
            parse_constant=lambda _: None,
        )
        match asked:
            # Decimal, so that 57 percent are 0.57 and not 0.5700000000000001.
            case {"min": Decimal() as low, "max": Decimal() as high, **rest} if not rest:
                return Setpoint(Band(float(low / 100), float(high / 100)), "control")
            case {"effort": Decimal() as effort, **rest} if not rest and 0 <= effort <= MAX_EFFORT:
                return Setpoint(None, "control", effort=float(effort))
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise _RefusalError(HTTPStatus.BAD_REQUEST, expected) from error
    raise _RefusalError(HTTPStatus.BAD_REQUEST, expected)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no key may be repeated."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _described(setpoint: Setpoint) -> dict[str, Any]:
    """A setpoint as JSON: percent and CPUs."""
    described: dict[str, Any] = {"source": setpoint.source}
    if setpoint.band:
        described |= {"min": round(100 * setpoint.band.low, 9), "max": round(100 * setpoint.band.high, 9)}
    if setpoint.effort is not None:
        described["effort"] = setpoint.effort
    if progress := setpoint.progress:
        described |= {"profile": progress.profile, "phase": progress.phase}
    return described
