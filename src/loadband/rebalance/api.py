"""JSON over HTTP: what the clients of Prometheus and Alertmanager have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import httpx

ASK_SECONDS = 5.0
"""For an answer."""
_MOST_SAID = 200
"""Characters of a server's own words in a message."""

Value = TypeVar("Value")


class ApiError(OSError):
    """A server doesn't answer, or refuses; the message names the URL, what was asked, and what it said."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that is somebody else's."""

    url: str
    """Where it is: `http://host:port` or `https://host`, and a path if it has one."""
    token: str | None = field(default=None, repr=False)
    """The bearer token that it wants; never shown."""


class Client:
    """Asks a server.

    Args:
        server: its URL, for a server on this machine; or an endpoint, for any other. Only that is reached through the
            proxy, and checked against the certificates, that the environment names.
    """

    _api: ClassVar[str]
    """The path of its API."""
    _name: ClassVar[str]
    """What it is, for people."""
    _error: ClassVar[type[ApiError]]

    def __init__(self, server: str | Endpoint) -> None:
        foreign = isinstance(server, Endpoint)
        endpoint = server if isinstance(server, Endpoint) else Endpoint(server)
        self.url = endpoint.url.rstrip("/")
        headers = {} if endpoint.token is None else {"Authorization": f"Bearer {endpoint.token}"}
        self._http = httpx.Client(timeout=ASK_SECONDS, trust_env=foreign, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def is_ready(self) -> bool:
        """Whether it serves."""
        try:
            return self._http.get(f"{self.url}/-/ready").is_success
        except httpx.HTTPError:
            return False

    def _ask(self, path: str, read: Callable[[Any], Value], **parameters: str) -> Value:
        """Ask for a document, and read it.

        Args:
            path: below `_api`.
            read: takes from the document what is wanted; whatever it can't find isn't this server's API.
            parameters: of the query.

        Raises:
            ApiError: it doesn't answer, refuses, or answers with something else.
        """
        where = f"{self.url}{self._api}/{path}"
        asked = f"{where} {parameters['query']}" if "query" in parameters else where
        try:
            answer = self._http.get(where, params=parameters)
        except httpx.HTTPError as error:
            raise self._error(f"{asked}: {error or type(error).__name__}") from error
        status = f"{answer.status_code} {answer.reason_phrase}"
        try:
            document = answer.json()
        except ValueError:
            raise self._error(f"{asked}: {status}, and no JSON") from None
        if answer.is_error:
            said = document.get("error", document) if isinstance(document, dict) else document
            raise self._error(f"{asked}: {status}: {str(said)[:_MOST_SAID]}")
        try:
            return read(document)
        except (AttributeError, LookupError, TypeError, ValueError):
            raise self._error(f"{asked}: {status}, and not what {self._name} answers") from None
