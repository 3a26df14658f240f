"""What a Prometheus and an Alertmanager know of production: how busy hosts are, and their alerts. They are only read.

Utilization comes from the exporters' own counters, each with the time of its scrape, so no recording rule is needed and
nothing is averaged twice. node_exporter is taken if it is there, otherwise the regulators of loadband.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from loadband.rebalance import alertmanager, in_force, prometheus
from loadband.rebalance.access import Access
from loadband.rebalance.alerts import Active, AlertBook
from loadband.rebalance.api import ApiError
from loadband.rebalance.events import Alert, Clock, Event, Host, Part, Sample, Subject, Timing, Trouble
from loadband.rebalance.health import LATE, LATE_SCRAPES, host_of, known, version_of
from loadband.rebalance.in_force import Read, UnfitError, Waits
from loadband.rebalance.prometheus import Labels
from loadband.rebalance.run import MonitoringError, Time
from loadband.rebalance.scenario import SHIPPED_WINDOW
from loadband.rebalance.troubles import Troubles

POLL = 5.0
"""Seconds between two looks at the alerts; their times are exact nevertheless where the servers know them."""
REFRESH = 300.0
"""Seconds between two looks at the hosts' names, CPUs and clocks."""
SAME_SIZE = 0.02
"""How far the number of a host's CPUs may be from the one before without being another; a ratio."""


@dataclass(frozen=True, slots=True)
class _Exporter:
    """A kind of exporter, and what to ask for: PromQL that keeps `job`, `instance` and `node`."""

    name: str
    there: str
    busy: str
    stamps: str
    cpus: str
    """Ends in `%s`, which a window takes the place of, if it has one."""
    names: str
    """Labels `job`, `instance` and `nodename`; empty if the exporter knows no name."""


_BY = "by (job, instance, node)"
_EXPORTERS = (
    _Exporter(
        "node_exporter",
        "group by (job, instance) (node_cpu_seconds_total)",
        f'sum {_BY} (node_cpu_seconds_total{{mode!~"idle|iowait|steal"}})',
        f'min {_BY} (timestamp(node_cpu_seconds_total{{mode="idle"}}))',
        f'count {_BY} (node_cpu_seconds_total{{mode="idle"}})',
        "group by (job, instance, nodename) (node_uname_info)",
    ),
    _Exporter(
        "loadband",
        "group by (job, instance) (loadband_cpu_seconds_total)",
        f'sum {_BY} (loadband_cpu_seconds_total{{scope=~"host|cpuset",mode=~"own|other"}})',
        f'min {_BY} (timestamp(loadband_cpu_seconds_total{{scope=~"host|cpuset",mode="idle"}}))',
        f'round(sum {_BY} (rate(loadband_cpu_seconds_total{{scope=~"host|cpuset"}}[%s])), 0.01)',
        "",
    ),
)

_Instance = tuple[str, str]
"""The labels `job` and `instance` of an exporter."""


@dataclass(slots=True)
class _Source:
    """Where a host's counter comes from."""

    instance: _Instance
    offset: float = 0.0
    """What is added to it, so that another exporter's counter goes on where the one before ended."""
    last: float = 0.0
    """As it was recorded."""
    at: float = 0.0
    """When it was scraped last."""


class Production:
    """See the module.

    Args:
        access: where the servers are.
        alert: the name of the alert that is awaited.
        sample: seconds from one sample to the next if Prometheus doesn't say how often it scrapes.
        time: the clocks.

    Raises:
        MonitoringError: a server doesn't answer, or knows no host.
    """

    def __init__(self, access: Access, alert: str, sample: float, time: Time) -> None:
        self._alert = alert
        self._time = time
        self._ask = prometheus.Client(access.prometheus)
        self._ask_alertmanager = None if access.alertmanager is None else alertmanager.Client(access.alertmanager)
        try:
            self._exporter = self._choose()
            self._scrape = self._scraped(sample)
            self.window, self.timing, self._settings = self._in_force()
        except ApiError as error:
            self.close()
            raise MonitoringError(str(error)) from error
        except MonitoringError:
            self.close()
            raise
        self.sample_interval = self._scrape.seconds
        late = LATE_SCRAPES * self.sample_interval + LATE
        self._outages, self._unscraped = Troubles(late), Troubles(late)
        self._down: dict[str, str] = {}
        """By server that doesn't answer, why."""
        self._book = AlertBook(0.0)
        self._sources: dict[str, _Source] = {}
        """By host."""
        self._cpus: dict[str, float] = {}
        """By host, as recorded."""
        self._names: dict[_Instance, str] = {}
        """What node_exporter calls its hosts."""
        self._sizes: dict[_Instance, float] = {}
        self._clock: Clock | None = None
        """Of Prometheus, as it was measured last."""
        self._next_alerts = self._next_samples = self._next_refresh = 0.0

    # What is in force

    def _choose(self) -> _Exporter:
        for exporter in _EXPORTERS:
            if self._ask.query(exporter.there):
                return exporter
        raise MonitoringError(
            f"{self._ask.url}: there is neither node_cpu_seconds_total nor loadband_cpu_seconds_total, so nobody can "
            "say how busy the hosts are: give the Prometheus that scrapes their node_exporter"
        )

    def _scraped(self, sample: float) -> Read:
        with suppress(ApiError, ValueError, LookupError):
            exporters = [labels for labels, _ in self._ask.query(self._exporter.there)]
            if found := in_force.scrape(self._ask.targets(), exporters):
                return found
        return Read(sample, "sample of the scenario: this server doesn't say how often it scrapes")

    def _in_force(self) -> tuple[float, Timing | None, Mapping[str, str]]:
        """Window, what the alert waits, and the same for people; without rules that have the alert, there is none."""
        try:
            rules = self._ask.rules()
            averaged = in_force.window(rules)
        except (ApiError, UnfitError, ValueError, LookupError):
            averaged = Read(max(SHIPPED_WINDOW, 4 * self._scrape.seconds), "no rule of loadband's is there")
        said = {"scrape_interval": str(self._scrape), "window": str(averaged)}
        try:
            rules = self._ask.rules()
            holds, evaluated = in_force.alert_for(rules, self._alert), in_force.evaluation(rules, self._alert)
        except (ApiError, UnfitError, ValueError, LookupError) as error:
            return averaged.seconds, None, {**said, "alert": f"{self._alert} isn't watched: {error}"}
        waits = self._waits(rules)
        timing = Timing(
            scrape=self._scrape.seconds,
            evaluation=evaluated.seconds,
            alert_for=holds.seconds,
            group_wait=waits.group_wait.seconds if waits else None,
            group_interval=waits.group_interval.seconds if waits else None,
            polled=POLL,
        )
        return averaged.seconds, timing, {**said, "evaluation_interval": str(evaluated), "for": str(holds)}

    def _waits(self, rules: in_force.Rules) -> Waits | None:
        if self._ask_alertmanager is None:
            return None
        config = self._ask_alertmanager.config()
        with suppress(ApiError, UnfitError, ValueError, LookupError):
            return in_force.waits(config, in_force.labels_of(rules, self._alert, self._ask.config()))
        return None

    def describe(self) -> Sequence[Part]:
        """The servers, for the report."""
        settings = {"url": self._ask.url, "hosts by": self._exporter.name, **self._settings}
        interval = None if self.timing is None else self.timing.evaluation
        parts = [Part(name="prometheus", version=version_of(self._ask), interval=interval, settings=settings)]
        if (asked := self._ask_alertmanager) is not None:
            parts.append(Part(name="alertmanager", version=version_of(asked), settings={"url": asked.url}))
        return parts

    def close(self) -> None:
        """Close the connections."""
        self._ask.close()
        if self._ask_alertmanager is not None:
            self._ask_alertmanager.close()

    # What happens

    def poll(self, hosts: Collection[str], *, last: bool = False) -> Sequence[Event]:
        """What has happened since the last call, as far as the time for the next look has come.

        Args:
            hosts: the names of those that are followed now.
            last: whether this is the last call, for which it has come.
        """
        now, found = self._time.monotonic(), list[Event]()
        if now >= self._next_refresh:
            self._next_refresh = now + REFRESH
            found += self._refreshed()
        if now >= self._next_samples or last:
            self._next_samples = now + self.sample_interval
            found += self._sampled(hosts)
        if now >= self._next_alerts or last:
            self._next_alerts = now + POLL
            found += self._alerted(hosts)
            down = [("", name, f"no answer: {why}") for name, why in self._down.items()]
            found += self._outages.update(self._time.wall(), Trouble.MONITORING_DOWN, down)
        return found

    def _answered(self, server: str, error: ApiError | None = None) -> None:
        """Note whether a server answers."""
        if error is None:
            self._down.pop(server, None)
        else:
            self._down[server] = str(error)

    def _refreshed(self) -> list[Event]:
        """Ask for what seldom changes: names, CPUs, and how far Prometheus' clock is off."""
        exporter = self._exporter
        try:
            asked = self._time.wall()
            ((_, there),) = self._ask.query("time()")
            answered = self._time.wall()
            names = self._ask.query(exporter.names) if exporter.names else []
            window = f"{round(1000 * self.window)}ms"
            sizes = self._ask.query(exporter.cpus % window if "%s" in exporter.cpus else exporter.cpus)
        except (ApiError, ValueError) as error:
            self._answered("prometheus", error if isinstance(error, ApiError) else None)
            return []
        self._names = {_instance(labels): labels.get("nodename", "") for labels, _ in names}
        self._sizes = {_instance(labels): cpus for labels, cpus in sizes if cpus > 0}
        middle = (asked + answered) / 2
        uncertainty = max((answered - asked) / 2, 0.0)
        self._clock = Clock(at=middle, host="", offset=there - middle, uncertainty=uncertainty)
        return [self._clock_of(host, self._clock) for host in self._cpus]

    def _clock_of(self, host: str, clock: Clock) -> Clock:
        return Clock(at=clock.at, host=host, offset=clock.offset, uncertainty=clock.uncertainty)

    def _host_of(self, labels: Labels) -> str:
        """The host of an exporter's series, named as the shipped rules do."""
        return host_of(labels) or self._names.get(_instance(labels)) or labels.get("instance", "").rpartition(":")[0]

    # How busy

    def _sampled(self, hosts: Collection[str]) -> list[Event]:
        at = self._time.wall()
        try:
            busy = self._ask.query(self._exporter.busy, at)
            stamps = {_instance(labels): stamp for labels, stamp in self._ask.query(self._exporter.stamps, at)}
        except ApiError as error:
            self._answered("prometheus", error)
            return []
        self._answered("prometheus")
        found: list[Event] = self._gone(at, hosts)
        for labels, seconds in sorted(busy, key=lambda one: _instance(one[0])):
            host, instance = self._host_of(labels), _instance(labels)
            if host in hosts and (stamp := stamps.get(instance)) is not None:
                found += self._sample(host, instance, stamp, seconds)
        late = LATE_SCRAPES * self.sample_interval + LATE
        quiet = [
            (host, "", f"Prometheus has no fresh sample of {host}")
            for host in sorted(hosts)
            if (source := self._sources.get(host)) is None or source.at < at - late
        ]
        return [*found, *self._unscraped.update(at, Trouble.SCRAPE_FAILED, quiet)]

    def _gone(self, at: float, hosts: Collection[str]) -> list[Event]:
        """The hosts that aren't followed any more."""
        gone = self._cpus.keys() - set(hosts)
        events = [Host(at=at, name=host, cpus=self._cpus[host], present=False) for host in sorted(gone)]
        for host in gone:
            del self._cpus[host]
            self._sources.pop(host, None)
        return list(events)

    def _sample(self, host: str, instance: _Instance, stamp: float, seconds: float) -> list[Event]:
        """A sample of a host, if it is a new one, and the host itself if it came or changed its size."""
        source = self._sources.setdefault(host, _Source(instance))
        if source.instance != instance:
            if stamp < source.at + LATE_SCRAPES * self.sample_interval + LATE:
                return []  # another exporter of the same host
            source.instance, source.offset = instance, source.last - seconds
        if stamp <= source.at or (cpus := self._sizes.get(instance, self._cpus.get(host))) is None:
            if instance not in self._sizes:
                self._next_refresh = min(self._next_refresh, self._time.monotonic() + self.sample_interval)
            return []
        source.at, source.last = stamp, max(seconds + source.offset, 0.0)
        found: list[Event] = []
        before = self._cpus.get(host)
        if before is None or abs(cpus - before) > SAME_SIZE * before:
            self._cpus[host] = cpus
            found.append(Host(at=stamp, name=host, cpus=cpus))
            if before is None and self._clock is not None:
                found.append(self._clock_of(host, self._clock))
        found.append(Sample(at=stamp, subject=Subject.HOST, name=host, host=host, cpu_seconds=source.last))
        return found

    # Alerts

    def _alerted(self, hosts: Collection[str]) -> list[Alert]:
        at = self._time.wall()
        try:
            active = [
                Active(alert.name, host, alert.fires, alert.since)
                for alert in self._ask.alerts()
                if (host := self._about(alert.labels, hosts)) is not None
            ]
        except ApiError as error:
            self._answered("prometheus", error)
            return []
        self._answered("prometheus")
        found = self._book.polled(at, active)
        if self._ask_alertmanager is None:
            return found
        firing = {(one.name, one.host) for one in active if one.fires}
        try:
            listed = self._ask_alertmanager.alerts()
        except ApiError as error:
            self._answered("alertmanager", error)
            return found
        self._answered("alertmanager")
        heard = []
        for alert in listed:
            one = known(alert)
            host = self._about(alert.labels, hosts)
            if host is not None and (one.name, host) in firing:
                heard.append(known(alert, host=host))
        return [*found, *self._book.heard(heard)]

    def _about(self, labels: Labels, hosts: Collection[str]) -> str | None:
        """The host that an alert is about; empty if it is the awaited one and names none, None if it doesn't count."""
        name = host_of(labels)
        if not name and "instance" in labels:
            name = self._names.get(_instance(labels)) or labels["instance"].rpartition(":")[0]
        if name in hosts:
            return name
        return "" if labels.get("alertname") == self._alert and not host_of(labels) else None


def _instance(labels: Labels) -> _Instance:
    return labels.get("job", ""), labels.get("instance", "")
