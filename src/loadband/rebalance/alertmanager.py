"""Alertmanager: what its API answers, a server of our own, and who receives its notifications."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIEnvironment

import yaml

from loadband import serving
from loadband.rebalance import api, programs, shipped
from loadband.rebalance.prometheus import Labels, from_yaml, instant
from loadband.serving import Answer, respond

MAX_BODY = 1 << 22
"""Bytes of a notification: hundreds of alerts take some hundred KiB."""
TEST_LOAD = "test-load"
"""The shipped configuration's receiver of alerts about test load."""


class AlertmanagerError(api.ApiError):
    """Alertmanager doesn't answer, or refuses; the message names the URL and what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAlert:
    """An alert that Alertmanager knows."""

    labels: Labels
    annotations: Labels
    fingerprint: str
    starts: float
    ends: float
    """Seconds since the epoch; while it fires: when it will count as resolved if it isn't heard of again."""
    suppressed: bool
    """Whether it is silenced or inhibited: nobody is notified of it."""


class Client(api.Client):
    """The HTTP API of an Alertmanager, version 2."""

    _api = "/api/v2"
    _name = "Alertmanager"
    _error = AlertmanagerError

    def version(self) -> str:
        """Its version.

        Raises:
            AlertmanagerError: it doesn't answer.
        """
        return self._ask("status", lambda status: str(status["versionInfo"]["version"]))

    def config(self) -> Mapping[str, Any]:
        """The configuration in force, as YAML has it; secrets are hidden in it.

        Raises:
            AlertmanagerError: it doesn't answer.
        """
        return self._ask("status", lambda status: from_yaml(status["config"]["original"]))

    def alerts(self) -> list[KnownAlert]:
        """The alerts that it knows as firing, silenced and inhibited ones included.

        Raises:
            AlertmanagerError: it doesn't answer.
        """
        return self._ask("alerts", lambda alerts: [_known(alert) for alert in alerts])


def _known(alert: Mapping[str, Any]) -> KnownAlert:
    return KnownAlert(
        labels=alert["labels"],
        annotations=alert["annotations"],
        fingerprint=alert["fingerprint"],
        starts=instant(alert["startsAt"]),
        ends=instant(alert["endsAt"]),
        suppressed=alert["status"]["state"] == "suppressed",
    )


class Server(programs.Server):
    """An Alertmanager of our own, on the loopback address.

    Args:
        folder: empty; all that it writes is in it.
        webhook: the URL that gets the notifications about test load.
        faster: how many times faster than shipped everything happens, > 0.

    Raises:
        MissingError: Alertmanager isn't installed.
    """

    def __init__(self, folder: Path, webhook: str, faster: float) -> None:
        super().__init__()
        self._program = programs.find("prometheus-alertmanager", "prometheus-alertmanager", "alertmanager")
        self._folder = folder
        self.address = f"127.0.0.1:{programs.free_port()}"
        self.url = f"http://{self.address}"
        self.config = shipped.shorten(yaml.safe_load(shipped.path("alertmanager.yml").read_text()), faster)
        (receiver,) = (one for one in self.config["receivers"] if one["name"] == TEST_LOAD)
        receiver["webhook_configs"] = [{"url": webhook}]

    def start(self) -> None:
        """See `programs.Server`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "alertmanager.yml"
        config.write_text(yaml.safe_dump(self.config))
        command = [
            self._program,
            f"--config.file={config}",
            f"--storage.path={self._folder}/data",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        with Client(self.url) as client:
            self._launch("Alertmanager", command, self._folder / "alertmanager.log", client.is_ready)

    @property
    def group_wait(self) -> float:
        """Seconds until the first notification about a host."""
        return shipped.seconds(self._route["group_wait"])

    @property
    def group_interval(self) -> float:
        """Seconds from one notification about a host to the next."""
        return shipped.seconds(self._route["group_interval"])

    @property
    def _route(self) -> Mapping[str, Any]:
        (route,) = (one for one in self.config["route"]["routes"] if one["receiver"] == TEST_LOAD)
        return dict(route)


@dataclass(frozen=True, slots=True)
class Notification:
    """One alert in what Alertmanager sent."""

    at: float
    """When it arrived, seconds since the epoch."""
    fires: bool
    labels: Labels
    annotations: Labels
    starts: float
    ends: float | None
    """Seconds since the epoch; None while it fires."""
    fingerprint: str


class PayloadError(ValueError):
    """The body of a notification isn't one; the message says where."""


def parse(at: float, payload: object) -> tuple[Notification, ...]:
    """The alerts in the body of a notification, version 4 of the webhook's format; unknown keys are no error.

    Args:
        at: when it arrived, seconds since the epoch.
        payload: as JSON has it.

    Raises:
        PayloadError: a key that is needed is missing or not what it must be.
    """
    alerts = payload.get("alerts") if isinstance(payload, dict) else None
    if not isinstance(alerts, list):
        raise PayloadError('must be an object with a list "alerts"')
    return tuple(_notification(at, f"alerts[{index}]", alert) for index, alert in enumerate(alerts))


def _notification(at: float, place: str, alert: object) -> Notification:
    if not isinstance(alert, dict):
        raise PayloadError(f"{place} must be an object")
    fires = alert.get("status") == "firing"
    try:
        starts, ends = instant(alert["startsAt"]), None if fires else instant(alert["endsAt"])
    except (KeyError, TypeError, ValueError):
        raise PayloadError(f"{place} must have the times startsAt and, once it is resolved, endsAt") from None
    return Notification(
        at,
        fires,
        _texts(place, "labels", alert),
        _texts(place, "annotations", alert),
        starts,
        ends,
        str(alert.get("fingerprint", "")),
    )


def _texts(place: str, key: str, alert: Mapping[str, Any]) -> Labels:
    value = alert.get(key, {})
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise PayloadError(f"{place}.{key} must be an object of strings")
    return value


class Receiver:
    """A webhook for Alertmanager, on the loopback address. It answers 200 only to what was understood and handed over.

    Args:
        take: gets the time of arrival and the body of each notification, in a thread of the server.
    """

    def __init__(self, take: Callable[[float, Mapping[str, Any]], None]) -> None:
        self._take = take
        self._port = programs.free_port()
        self._server: serving.Server | None = None
        self.url = f"http://127.0.0.1:{self._port}/"
        """Where it answers once it is entered."""

    def __enter__(self) -> Self:
        self._server = serving.Server.open(self._application, "127.0.0.1", self._port, max_body=MAX_BODY)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.close()

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return respond(self._answer(environ), environ, start_response)

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        arrived = time.time()
        if environ["REQUEST_METHOD"] != "POST":
            return Answer.of_text("only POST is served here", HTTPStatus.METHOD_NOT_ALLOWED, Allow="POST")
        try:
            payload = json.loads(environ["wsgi.input"].read())
            parse(arrived, payload)
        except (ValueError, RecursionError) as error:
            return Answer.of_text(f"not a notification: {error}", HTTPStatus.BAD_REQUEST)
        self._take(arrived, payload)
        return Answer.of_text("taken")
