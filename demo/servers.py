"""Prometheus and Alertmanager as they are installed, with the shipped configuration, and who receives what they say."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import yaml

from demo.shorten import seconds, shorten

TOP = Path(__file__).parents[1]
RULES = TOP / "helm/loadband/files/rules"
PROMETHEUS = TOP / "compose/prometheus"
ALERTMANAGER = TOP / "compose/alertmanager/alertmanager.yml"
START_SECONDS = 30.0

Labels = dict[str, str]
Value = TypeVar("Value")


class MissingError(Exception):
    """Something that is needed isn't installed; the message says what and how to get it."""


def programs() -> tuple[str, str]:
    """Where Prometheus and Alertmanager are.

    Raises:
        MissingError: one of them isn't on PATH.
    """
    found = [
        next(filter(None, map(shutil.which, names)), None)
        for names in (("prometheus",), ("prometheus-alertmanager", "alertmanager"))
    ]
    prometheus, alertmanager = found
    if prometheus is None or alertmanager is None:
        missing = " and ".join(
            name for name, path in zip(("prometheus", "alertmanager"), found, strict=True) if path is None
        )
        raise MissingError(
            f"{missing} can't be found: on Debian and Ubuntu, apt install prometheus prometheus-alertmanager "
            "(and systemctl disable --now both, if they aren't to run all the time)"
        )
    return prometheus, alertmanager


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def get(url: str, seconds: float = 5.0) -> str:
    """What a URL of this machine answers.

    Raises:
        OSError: nobody answers in time, or with an error.
    """
    with urllib.request.urlopen(url, timeout=seconds) as answer:  # noqa: S310 - our own, http on loopback
        return str(answer.read().decode())


def wait(condition: Callable[[], Value | None], seconds: float, what: str) -> Value:
    """Wait until a condition has a true value, and give that. While nobody answers, it has none.

    Raises:
        TimeoutError: it hasn't in time; the message names it.
    """
    deadline = time.monotonic() + seconds
    while True:
        last = ""
        try:
            if value := condition():
                return value
        except OSError as error:
            last = f": {error}"
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}{last}")
        time.sleep(0.05)


def instant(text: str) -> float:
    """Seconds since the epoch of a time as the servers write it."""
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class Notification:
    """One alert in what Alertmanager sent."""

    at: float
    """When it arrived, seconds since the epoch."""
    receiver: str
    status: str
    """`firing` or `resolved`."""
    labels: Labels
    annotations: Labels
    starts: float
    ends: float
    """Seconds since the epoch; in the far past while it fires."""


class Receiver:
    """A webhook that remembers what it gets."""

    def __init__(self) -> None:
        self.notifications: list[Notification] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                arrived = time.time()
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.notifications += [_notification(arrived, payload, alert) for alert in payload["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                """Say nothing: what arrives is shown by who asks for it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    @contextmanager
    def open(self) -> Iterator[None]:
        """Answer for as long as the context lasts."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def _notification(at: float, payload: dict[str, Any], alert: dict[str, Any]) -> Notification:
    return Notification(
        at,
        payload["receiver"],
        alert["status"],
        alert["labels"],
        alert["annotations"],
        instant(alert["startsAt"]),
        instant(alert["endsAt"]),
    )


@dataclass(frozen=True, slots=True)
class Timing:
    """What the configuration in force allows; seconds."""

    scrape: float
    evaluation: float
    group_wait: float
    group_interval: float
    holds: dict[str, float] = field(default_factory=dict)
    """The `for` of each alert."""
    window: float = 0.0
    """Over how long host utilization is averaged."""


class Servers:
    """Both servers, and the receiver of their notifications.

    Args:
        folder: empty; all that they write is in it.
        factor: how many times faster than shipped everything happens.
    """

    def __init__(self, folder: Path, factor: float) -> None:
        self._folder = folder
        self._programs = programs()
        self._ports = free_port(), free_port()
        self.receiver = Receiver()
        self.timing = self._configure(factor)

    @property
    def url(self) -> str:
        """Of Prometheus."""
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def alertmanager_url(self) -> str:
        """Of Alertmanager."""
        return f"http://127.0.0.1:{self._ports[1]}"

    def _configure(self, factor: float) -> Timing:
        """Write the shipped files, faster, with the addresses of here."""
        prometheus = shorten(_read(PROMETHEUS / "prometheus.yml"), factor)
        prometheus["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"127.0.0.1:{self._ports[1]}"]}]}]
        (job,) = prometheus["scrape_configs"]
        del job["dns_sd_configs"]  # there is no compose here that would answer
        alertmanager = shorten(_read(ALERTMANAGER), factor)
        (test_load,) = (one for one in alertmanager["receivers"] if one["name"] == "test-load")
        test_load["webhook_configs"] = [{"url": self.receiver.url}]
        rules = {path.name: shorten(_read(path), factor) for path in RULES.glob("*.yaml")}
        self._write("prometheus.yml", prometheus)
        self._write("alertmanager.yml", alertmanager)
        for name, document in rules.items():
            self._write(f"rules/{name}", document)
        self.target([])
        (route,) = alertmanager["route"]["routes"]
        every = [rule for document in rules.values() for group in document["groups"] for rule in group["rules"]]
        (utilization,) = (rule for rule in every if rule.get("record") == "instance:loadband_cpu:ratio")
        return Timing(
            scrape=seconds(prometheus["global"]["scrape_interval"]),
            evaluation=seconds(prometheus["global"]["evaluation_interval"]),
            group_wait=seconds(route["group_wait"]),
            group_interval=seconds(route["group_interval"]),
            holds={rule["alert"]: seconds(rule.get("for", "0s")) for rule in every if "alert" in rule},
            window=seconds(utilization["expr"].partition("[")[2].partition("]")[0]),
        )

    def _write(self, name: str, document: Any) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: Prometheus may look at any time.
        part = path.with_suffix(".part")
        part.write_text(yaml.safe_dump(document))
        part.rename(path)

    def target(self, targets: Sequence[tuple[str, Labels]]) -> None:
        """Have these addresses scraped, each with labels of its own, and no others."""
        self._write("targets/demo.yaml", [{"targets": [address], "labels": labels} for address, labels in targets])

    @contextmanager
    def open(self) -> Iterator[None]:
        """Run them for as long as the context lasts.

        Raises:
            TimeoutError: one of them doesn't get ready; its last words are in the message.
        """
        prometheus, alertmanager = self._programs
        commands = {
            "alertmanager": [
                alertmanager,
                f"--config.file={self._folder}/alertmanager.yml",
                f"--storage.path={self._folder}/alertmanager",
                f"--web.listen-address=127.0.0.1:{self._ports[1]}",
                "--cluster.listen-address=",
                "--log.level=warn",
            ],
            "prometheus": [
                prometheus,
                f"--config.file={self._folder}/prometheus.yml",
                f"--storage.tsdb.path={self._folder}/prometheus",
                f"--web.listen-address=127.0.0.1:{self._ports[0]}",
                "--log.level=warn",
            ],
        }
        with ExitStack() as stack:
            stack.enter_context(self.receiver.open())
            for (name, command), url in zip(commands.items(), (self.alertmanager_url, self.url), strict=True):
                log = self._folder / f"{name}.log"
                process = stack.enter_context(_running(command, log))
                try:
                    wait(partial(get, f"{url}/-/ready"), START_SECONDS, f"{name} to be ready")
                except TimeoutError as error:
                    process.poll()
                    raise TimeoutError(f"{error}\n{log.read_text()[-2000:]}") from None
            yield

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """The samples of an instant query.

        Raises:
            OSError: Prometheus refuses it.
        """
        asked = urllib.parse.urlencode({"query": expression})
        try:
            answer = json.loads(get(f"{self.url}/api/v1/query?{asked}"))["data"]
        except urllib.error.HTTPError as error:
            raise OSError(f"{expression}: {error.read().decode()}") from None
        if answer["resultType"] == "scalar":
            return [({}, float(answer["result"][1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in answer["result"]]

    def alerts(self) -> list[dict[str, Any]]:
        """Those that are pending or firing in Prometheus now, as its API gives them."""
        return list(json.loads(get(f"{self.url}/api/v1/alerts"))["data"]["alerts"])


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)  # noqa: S603 - a server of this machine
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
