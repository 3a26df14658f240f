"""All repeats of a scenario on a platform with a rebalancer: composed, run and recorded."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from loadband import __version__
from loadband.rebalance import scenario as scenarios
from loadband.rebalance.access import Access
from loadband.rebalance.events import EndReason, Event, Part, Plan, Real, Run
from loadband.rebalance.existing import Existing
from loadband.rebalance.exporter import LOOPBACK, Exporter
from loadband.rebalance.live import watching
from loadband.rebalance.monitoring import Servers
from loadband.rebalance.platforms import Platform, PlatformError
from loadband.rebalance.platforms.kubernetes.manifests import Where
from loadband.rebalance.platforms.libvirt import binding
from loadband.rebalance.platforms.libvirt.grounds import Ground
from loadband.rebalance.platforms.libvirt.lab import Lab
from loadband.rebalance.platforms.libvirt.node import Migration
from loadband.rebalance.platforms.libvirt.platform import Libvirt
from loadband.rebalance.platforms.libvirt.remote import Remote
from loadband.rebalance.platforms.local import Local
from loadband.rebalance.progress import About
from loadband.rebalance.rebalancers import Rebalancer, RebalancerError, hbal
from loadband.rebalance.rebalancers.descheduler import OF_KOORDINATOR, OF_KUBERNETES, Descheduler, Kind
from loadband.rebalance.rebalancers.mover import Mover
from loadband.rebalance.rebalancers.none import Nobody
from loadband.rebalance.rebalancers.planner import Planner, checked
from loadband.rebalance.rebalancers.resident import Resident
from loadband.rebalance.recording import Writer
from loadband.rebalance.run import Cast, Conductor, Monitoring, RealTime, Result
from loadband.rebalance.scenario import Scenario

if TYPE_CHECKING:
    from loadband.rebalance.platforms.kubernetes.api import Server

PLANNER_INTERVAL = 15.0
"""Seconds from one question to the next, for planners that have no interval of their own.

At 15 times the shipped speed that is what a timer of four minutes is in life. A planner that looks more often than the
hosts' utilization is averaged would move before anybody could tell that a host is hot.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Which nodes of a Kubernetes are used, and how."""

    namespace: str = "loadband"
    """Where the slices are made; it must be there."""
    nodes: str = ""
    """A label selector; empty: all that take pods."""
    image: str = ""
    """Of the regulators."""
    node_cpus: float | None = None
    """Of each node; None: what the node says."""
    descheduler: str = ""
    """Its pods: namespace/label selector; empty: where its own chart puts it."""
    scheduler: str = ""
    """The name of the scheduler that places the slices' next pods; empty: the cluster's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Virtual:
    """Which hosts of virtual machines are used."""

    uris: Mapping[str, str] = field(default_factory=dict)
    """By host, its libvirt daemon; empty: the run starts two or more on this machine."""
    pool: str = "default"
    """The storage pool for the guests' disk, on each host."""
    migration: Migration = Migration.PRE_COPY
    """How guests migrate."""
    guests: Sequence[str] = ()
    """Patterns of the names of guests that are there already and may be moved; none: those that the run makes are."""


Platforms = Mapping[str, Callable[["Session"], Platform]]
Rebalancers = Mapping[str, Callable[[Sequence[str], Cluster], Rebalancer]]


def _local(session: Session) -> Platform:
    scenario = session.scenario
    return Local(scenario.hosts, scenario.plan(), fail_moves=scenario.fail_moves)


def _kubernetes(session: Session) -> Platform:
    scenario, cluster = session.scenario, session.cluster
    if not cluster.image:
        raise PlatformError("the platform kubernetes needs --image: the image of loadband that the nodes have or pull")
    if scenario.fail_moves:
        raise PlatformError(f"the platform kubernetes can't let moves fail, as {scenario.name} wants: fail_moves")
    api = connect(cluster.namespace)
    from loadband.rebalance.platforms.kubernetes.platform import Kubernetes  # noqa: PLC0415 - only where it is asked for

    where = Where(
        namespace=cluster.namespace,
        nodes=cluster.nodes,
        image=cluster.image,
        cpus=cluster.node_cpus,
        scheduler=cluster.scheduler,
    )
    seconds = scenario.baseline + scenario.watch + scenario.recovery
    return Kubernetes(api, where, scenario.plan(), count=len(scenario.hosts), seconds=seconds)


def _libvirt(session: Session) -> Platform:
    scenario, plan = session.scenario, session.scenario.plan()
    library = binding.load()
    sector = files("loadband.rebalance.platforms.libvirt").joinpath("guest.img").read_bytes()
    ground: Ground
    virtual = session.virtual
    if virtual.guests and not virtual.uris:
        raise PlatformError("--guest needs --host: the hosts that a run makes on this machine have no other guests")
    if virtual.uris:
        if session.existing is None:
            raise PlatformError("--host needs --prometheus: the run's own Prometheus sees no hosts but this machine's")
        if len(virtual.uris) != len(scenario.hosts):
            raise PlatformError(f"{scenario.name} needs {len(scenario.hosts)} hosts, each named by --host NAME=URI")
        ground = Remote(virtual.uris, plan, library, sector, virtual.pool)
    else:
        ground = Lab(scenario.hosts, plan, library, sector)
    return Libvirt(ground, plan, library, fail_moves=scenario.fail_moves, how=virtual.migration, theirs=virtual.guests)


def connect(namespace: str) -> Server:
    """The API server of KUBECONFIG, or of the cluster that this runs in.

    Args:
        namespace: the one that is meant where none is named.

    Raises:
        PlatformError: there is no configuration, or the extra isn't installed.
    """
    try:
        from loadband.rebalance.platforms.kubernetes.api import connect as asked  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        raise PlatformError(f"Kubernetes needs an extra: pip install 'loadband[kubernetes]' ({error})") from error
    return asked(namespace)


def _descheduler(kind: Kind, cluster: Cluster) -> Rebalancer:
    place = cluster.descheduler or kind.place
    namespace, sign, labels = place.partition("/")
    if not (namespace and sign and labels):
        raise RebalancerError(f"--descheduler {place!r}: must be NAMESPACE/SELECTOR")
    try:
        api = connect(cluster.namespace)
    except PlatformError as error:
        raise RebalancerError(str(error)) from error
    return Descheduler(lambda: api.workload(namespace, labels), place, kind)


def _wanted(rebalancer: str, command: Sequence[str]) -> list[str]:
    if not command:
        raise RebalancerError(f'the rebalancer {rebalancer} needs --planner "PROGRAM ARGUMENTS"')
    return checked(command)


def _planner(command: Sequence[str], _: Cluster) -> Rebalancer:
    found = _wanted("planner", command)
    settings = {"command": " ".join(command)}
    part = Part(name="planner", real=Real.OUR_ACTUATOR, interval=PLANNER_INTERVAL, settings=settings)
    return Planner(part, found)


PLATFORMS: Platforms = {"local": _local, "kubernetes": _kubernetes, "libvirt": _libvirt}
REBALANCERS: Rebalancers = {
    "mover": lambda *_: Mover(),
    "none": lambda *_: Nobody(),
    "planner": _planner,
    "resident": lambda command, _: Resident(_wanted("resident", command)),
    "hbal": lambda *_: hbal.planner(PLANNER_INTERVAL),
    OF_KUBERNETES.name: lambda _, cluster: _descheduler(OF_KUBERNETES, cluster),
    OF_KOORDINATOR.name: lambda _, cluster: _descheduler(OF_KOORDINATOR, cluster),
}


class SessionError(Exception):
    """What was asked for can't be run; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is run.

    The parts are named by their keys in `PLATFORMS` and `REBALANCERS`.
    """

    scenario: Scenario
    platform: str
    rebalancer: str
    cluster: Cluster = Cluster()
    """Of the platform *kubernetes*."""
    virtual: Virtual = Virtual()
    """Of the platform *libvirt*."""
    planner: Sequence[str] = ()
    """The command of the rebalancers *planner* and *resident*."""
    repeats: int
    seed: int
    out: Path
    """The folder of the recordings; made if it isn't there."""
    existing: Access | None = None
    """Servers that watch the hosts already; None: the run has its own."""
    exporter: Exporter | None = None
    """Shows the run's metrics to others; None: only the run's own Prometheus sees them."""

    def new_platform(self) -> Platform:
        """A fresh platform.

        Raises:
            PlatformError: it has not what the scenario needs.
        """
        return PLATFORMS[self.platform](self)

    def new_rebalancer(self) -> Rebalancer:
        """A fresh rebalancer.

        Raises:
            RebalancerError: it can't be had.
        """
        return REBALANCERS[self.rebalancer](self.planner, self.cluster)

    def new_monitoring(self, folder: Path, hosts: Sequence[str], plan: Plan, exporter: str = "") -> Monitoring:
        """A Prometheus and an Alertmanager, not started.

        Args:
            folder: empty; what they write is in it.
            hosts: the names of those that have to be seen.
            plan: names the alert and the hot threshold.
            exporter: `host:port` of the run's own metrics, for a Prometheus of its own to scrape; empty: it doesn't.

        Raises:
            MissingError: a program isn't installed.
            MonitoringError: the plan asks for what the rules don't have, or an existing server doesn't answer.
        """
        if self.existing is not None:
            return Existing(self.existing, hosts, plan)
        servers = Servers(folder, hosts, plan, self.scenario.faster)
        if exporter:
            servers.scrape_exporter(exporter)
        return servers

    def recording(self, repeat: int) -> Path:
        """Where a repeat is recorded."""
        return self.out / f"recording-{repeat}.jsonl"


class File:
    """A recording in a file: see `Sink`.

    Args:
        path: must not exist when the recording begins.
        stack: closes it.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path = path
        self._stack = stack
        self._writer: Writer | None = None

    def begin(self, run: Run) -> None:
        """See `Sink`."""
        self._writer = self._stack.enter_context(Writer(self._path, run))

    def write(self, event: Event) -> None:
        """See `Sink`."""
        assert self._writer, "written before it began"  # noqa: S101 - a bug of the conductor
        self._writer.write(event)


def perform(session: Session, wait: Callable[[float], bool], console: Console) -> list[Result]:
    """Run all repeats, each from scratch; returns how each ended. After one that isn't complete no other is begun.

    Args:
        session: what to run.
        wait: see `RealTime`.
        console: where it is shown.

    Raises:
        MissingError, MonitoringError, PlatformError, RebalancerError: something can't be had; nothing was started.
        SessionError: the folder can't be had.
    """
    if any(session.out.glob("recording-*.jsonl")):
        raise SessionError(f"{session.out} holds recordings already: give another --out")
    run = secrets.token_hex(4)
    results: list[Result] = []
    for repeat in range(1, session.repeats + 1):
        results.append(play(session, run, repeat, wait, console))
        if results[-1].reason is not EndReason.COMPLETE:
            break
    return results


def play(session: Session, run: str, repeat: int, wait: Callable[[float], bool], console: Console) -> Result:
    """Run one repeat from scratch, and record it; returns how it ended.

    Args:
        session: what to run; that repeat isn't recorded yet.
        run: the run's id.
        repeat: which one, from 1.
        wait: see `RealTime`.
        console: where it is shown.

    Raises:
        MissingError, MonitoringError, PlatformError, RebalancerError: something can't be had; nothing was started.
        SessionError: the folder can't be had.
    """
    scenario = session.scenario
    title = f"{scenario.name}: {session.rebalancer} on {session.platform}"
    if session.repeats > 1:
        title += f", {repeat} of {session.repeats}"
    with ExitStack() as stack:
        # What the servers store is of no use afterwards; their last words are in the errors.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadband-rebalance-")))
        platform, rebalancer = session.new_platform(), session.new_rebalancer()
        script = scenarios.script(scenario, platform.hosts(), session.seed)
        names = [host.name for host in platform.hosts()]
        exporters = [session.exporter] if session.exporter else []
        address = ""
        if session.existing is None:
            # One of its own: whoever else scrapes may still be there when this Prometheus is gone.
            exporters.append(own := stack.enter_context(Exporter(LOOPBACK)))
            address = own.address
        monitoring = session.new_monitoring(folder, names, script.plan, address)
        stack.callback(monitoring.close)
        try:
            session.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SessionError(f"{session.out}: can't be made: {error.strerror}") from error
        sink = File(session.recording(repeat), stack)
        about = About(
            run=run,
            scenario=scenario.name,
            platform=session.platform,
            rebalancer=session.rebalancer,
            version=__version__,
            repeat=repeat,
            repeats=session.repeats,
        )
        audience = [stack.enter_context(watching(console, title, script.plan))]
        audience += [exporter.follow(about, script.plan) for exporter in exporters]
        cast = Cast(platform, monitoring, rebalancer)
        return Conductor(script, cast, sink, RealTime(wait), audience).run(run, repeat, session.repeats)
