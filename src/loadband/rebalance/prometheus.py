"""Prometheus: what its HTTP API answers, and a server of our own with the shipped configuration, made faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from loadband.rebalance import api, programs, shipped
from loadband.rebalance.api import Value

RESEND_SECONDS = 60.0
"""Prometheus' default of --rules.alert.resend-delay: from one notification of a firing alert to the next."""

_TARGETS = "targets/run.yaml"

Labels = Mapping[str, str]


class PrometheusError(api.ApiError):
    """Prometheus doesn't answer, or refuses; the message names the URL, what was asked, and what it said."""


def instant(text: str) -> float:
    """Seconds since the epoch of a time as Prometheus and Alertmanager write it (RFC 3339).

    Raises:
        ValueError: it isn't one.
    """
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An alert that is pending or firing."""

    labels: Labels
    fires: bool
    since: float
    """When it became pending, seconds since the epoch."""
    annotations: Labels = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its `alertname`."""
        return self.labels.get("alertname", "")


class Client(api.Client):
    """The HTTP API of a Prometheus, version 1."""

    _api = "/api/v1"
    _name = "Prometheus"
    _error = PrometheusError

    def _data(self, path: str, read: Callable[[Any], Value], **parameters: str) -> Value:
        return self._ask(path, lambda document: read(document["data"]), **parameters)

    def version(self) -> str:
        """Its version.

        Raises:
            PrometheusError: it doesn't answer.
        """
        return self._data("status/buildinfo", lambda data: str(data["version"]))

    def config(self) -> Mapping[str, Any]:
        """The configuration in force, as YAML has it; secrets are hidden in it.

        Raises:
            PrometheusError: it doesn't answer.
        """
        return self._data("status/config", lambda data: from_yaml(data["yaml"]))

    def query(self, expression: str, at: float | None = None) -> list[tuple[Labels, float]]:
        """Labels and value of each sample of an instant query; a scalar has no labels.

        Args:
            expression: PromQL.
            at: seconds since the epoch; None: now.

        Raises:
            PrometheusError: it refuses, or doesn't answer.
        """
        return self._data("query", _samples, query=expression, **({} if at is None else {"time": f"{at:.3f}"}))

    def range(self, expression: str, start: float, end: float, step: float) -> list[tuple[Labels, list[list[float]]]]:
        """Labels and points (time, value) of each series of a range query.

        Args:
            expression: PromQL.
            start: seconds since the epoch.
            end: likewise.
            step: seconds from one point to the next.

        Raises:
            PrometheusError: it refuses, or doesn't answer.
        """
        return self._data(
            "query_range", _series, query=expression, start=f"{start:.3f}", end=f"{end:.3f}", step=f"{step:.3f}"
        )

    def alerts(self) -> list[ActiveAlert]:
        """The alerts that are pending or firing now.

        Raises:
            PrometheusError: it doesn't answer.
        """
        return self._data("alerts", _active)

    def rules(self) -> list[Mapping[str, Any]]:
        """The rules of all groups, as the API gives them, each with `group` and `interval` (seconds) of its group.

        Raises:
            PrometheusError: it doesn't answer.
        """
        return self._data("rules", _rules)

    def targets(self) -> list[Mapping[str, Any]]:
        """The active targets, as the API gives them: `labels`, `health`, `lastError`, `scrapeInterval` ...

        Raises:
            PrometheusError: it doesn't answer.
        """
        return self._data("targets", lambda data: list(data["activeTargets"]), state="active")


def from_yaml(text: str) -> Mapping[str, Any]:
    """A configuration as YAML has it.

    Raises:
        ValueError: it isn't a mapping.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(document, dict):
        raise ValueError("not a mapping")  # noqa: TRY004 - the text is wrong, not its type
    return document


def _samples(data: Mapping[str, Any]) -> list[tuple[Labels, float]]:
    if data["resultType"] == "scalar":
        return [({}, float(data["result"][1]))]
    return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]


def _series(data: Mapping[str, Any]) -> list[tuple[Labels, list[list[float]]]]:
    return [
        (series["metric"], [[float(at), float(value)] for at, value in series["values"]]) for series in data["result"]
    ]


def _active(data: Mapping[str, Any]) -> list[ActiveAlert]:
    return [
        ActiveAlert(alert["labels"], alert["state"] == "firing", instant(alert["activeAt"]), alert["annotations"])
        for alert in data["alerts"]
    ]


def _rules(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        {**rule, "group": str(group["name"]), "interval": float(group["interval"])}
        for group in data["groups"]
        for rule in group["rules"]
    ]


class Server(programs.Server):
    """A Prometheus of our own, on the loopback address.

    Args:
        folder: empty; all that it writes is in it.
        alertmanager: `host:port` of the Alertmanager that it notifies.
        faster: how many times faster than shipped everything happens, > 0.

    Raises:
        MissingError: Prometheus isn't installed.
    """

    def __init__(self, folder: Path, alertmanager: str, faster: float) -> None:
        super().__init__()
        self._program = programs.find("prometheus", "prometheus")
        self._folder = folder
        self._faster = faster
        self._address = f"127.0.0.1:{programs.free_port()}"
        self.url = f"http://{self._address}"
        self.config = shipped.shorten(yaml.safe_load(shipped.path("prometheus.yml").read_text()), faster)
        self.config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
        (job,) = self.config["scrape_configs"]
        del job["dns_sd_configs"]  # compose's names; there is no compose here
        self.rules = {name: shipped.shorten(document, faster) for name, document in shipped.rules().items()}

    def targets(self, targets: Sequence[tuple[str, Labels]]) -> None:
        """Have these addresses scraped, each with labels of its own, and no others; at any time."""
        self._write(_TARGETS, [{"targets": [address], "labels": dict(labels)} for address, labels in targets])

    def _write(self, name: str, document: Any) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(yaml.safe_dump(document))
        part.rename(path)  # Prometheus may look at any time

    def start(self) -> None:
        """See `programs.Server`."""
        self._write("prometheus.yml", self.config)
        if not (self._folder / _TARGETS).exists():
            self.targets([])  # Prometheus watches the folder, which has to be there when it starts
        for name, document in self.rules.items():
            self._write(f"rules/{name}", document)
        command = [
            self._program,
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address={self._address}",
            f"--rules.alert.resend-delay={round(1000 * RESEND_SECONDS / self._faster)}ms",
            "--log.level=warn",
        ]
        with Client(self.url) as client:
            self._launch("Prometheus", command, self._folder / "prometheus.log", client.is_ready)

    def hold(self, alert: str) -> float:
        """The `for` of an alert, seconds.

        Raises:
            LookupError: there is no such alert in the rules.
        """
        for rule in self._each_rule():
            if rule.get("alert") == alert:
                return shipped.seconds(rule.get("for", "0s"))
        raise LookupError(f"there is no alert {alert!r} in the shipped rules")

    @property
    def window(self) -> float:
        """Over how long the rules average hosts' utilization, seconds."""
        (rule,) = (rule for rule in self._each_rule() if rule.get("record") == "instance:loadband_cpu:ratio")
        return shipped.seconds(rule["expr"].partition("[")[2].partition("]")[0])

    def _each_rule(self) -> list[dict[str, Any]]:
        return [rule for document in self.rules.values() for group in document["groups"] for rule in group["rules"]]

    @property
    def scrape(self) -> float:
        """Seconds from one scrape to the next."""
        return shipped.seconds(self.config["global"]["scrape_interval"])

    @property
    def evaluation(self) -> float:
        """Seconds from one evaluation of the rules to the next."""
        return shipped.seconds(self.config["global"]["evaluation_interval"])
