"""`loadband rebalance run`: plays a scenario, records it, and reports."""

from __future__ import annotations

import argparse
import io
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadband.commands import ArgumentParser, say, show
from loadband.document import DocumentError
from loadband.exits import Exit
from loadband.rebalance import access, uris
from loadband.rebalance import scenario as scenarios
from loadband.rebalance.check import draw, load
from loadband.rebalance.events import EndReason, Part
from loadband.rebalance.exporter import Exporter
from loadband.rebalance.platforms import Platform, PlatformError
from loadband.rebalance.platforms.libvirt.node import Migration
from loadband.rebalance.programs import MissingError
from loadband.rebalance.rebalancers import RebalancerError
from loadband.rebalance.rebalancers.descheduler import OF_KOORDINATOR, OF_KUBERNETES
from loadband.rebalance.run import MonitoringError, Result
from loadband.rebalance.session import (
    PLATFORMS,
    REBALANCERS,
    Cluster,
    Session,
    SessionError,
    Virtual,
    perform,
)
from loadband.rebalance.verdict import Outcome
from loadband.serving import ListenError
from loadband.sources import SettingsError
from loadband.units import Address, Listen

MOST_REPEATS = 100
OUTCOMES: Mapping[int, Outcome] = {
    Exit.OK: Outcome.PASS,
    Exit.NOT_ACHIEVED: Outcome.FAIL,
    Exit.INVALID: Outcome.INVALID,
}
"""By exit code, the verdict that it stands for."""


def run(words: Sequence[str], wait: Callable[[float], bool]) -> int:
    """Run a scenario; returns the exit code.

    Args:
        words: those after `loadband rebalance run`.
        wait: waits for some seconds, or less if the run is to end; returns whether it is.
    """
    asked = run_parser().parse_args(words)
    with ExitStack() as stack:
        try:
            session = _session(asked)
            if asked.dry_run:
                return _show_plan(session)
            if asked.listen is not None:
                session = replace(session, exporter=stack.enter_context(_exporter(asked.listen)))
            results = perform(session, wait, Console())
        except (DocumentError, SettingsError) as error:
            return _refuse(*error.problems)
        except (MissingError, MonitoringError, PlatformError, RebalancerError, SessionError, ListenError) as error:
            return _refuse(str(error))
        for problem in (problem for result in results for problem in result.left):
            say(f"loadband: not undone: {problem}")
        code = _judge(session, results)
        if session.exporter and code in OUTCOMES:
            session.exporter.judged(OUTCOMES[code], wait)
        return code


def _exporter(listen: Listen) -> Exporter:
    """What serves the run's metrics.

    Raises:
        ListenError: the address can't be had.
    """
    try:
        exporter = Exporter(listen)
    except ListenError as error:
        raise ListenError(f"--listen {listen}: {error}") from error
    say(f"loadband: metrics at http://{exporter.address}/metrics")
    return exporter


def _judge(session: Session, results: Sequence[Result]) -> int:
    """Report, unless there isn't all that was asked for."""
    last = results[-1]
    if last.reason is EndReason.COMPLETE:
        from loadband.rebalance.report import commands  # noqa: PLC0415 - draws pictures: not before the run is over

        return commands.report([str(session.out)])
    say(f"loadband: {last.detail or 'interrupted'}")
    if session.recording(len(results)).exists():
        say(f"loadband: what was recorded: loadband rebalance report {shlex.quote(str(session.out))}")
    return Exit.INVALID if last.reason is EndReason.INTERRUPTED else Exit.FAILED


def run_parser() -> ArgumentParser:
    """The arguments of `loadband rebalance run`."""
    parser = ArgumentParser(
        prog="loadband rebalance run",
        description="Runs a scenario on a platform with a rebalancer, records what happens, and reports whether "
        "balance came back. Whatever it started or changed is undone at the end.",
        epilog="Exit codes: 0 PASS, 1 FAIL, 2 bad input, 3 something inside failed, 4 INVALID.",
    )
    parser.add_argument("scenario", metavar="SCENARIO", help="A file, or the name of a shipped scenario.")
    parser.add_argument("--platform", choices=list(PLATFORMS), default="local", help="Default: local, this machine.")
    parser.add_argument("--rebalancer", choices=list(REBALANCERS), help="Default: the scenario's.")
    parser.add_argument(
        "--planner",
        metavar="COMMAND",
        type=shlex.split,
        default=[],
        help="With --rebalancer planner or resident: the program.",
    )
    cluster = parser.add_argument_group("with --platform kubernetes", "The cluster is that of KUBECONFIG.")
    cluster.add_argument(
        "--namespace", metavar="NAME", default="loadband", help="Where the slices are made; default: loadband."
    )
    cluster.add_argument(
        "--nodes", metavar="SELECTOR", default="", help="Label selector; default: all nodes that take pods."
    )
    cluster.add_argument("--image", metavar="IMAGE", default="", help="Of loadband, as the nodes have or pull it.")
    cluster.add_argument(
        "--descheduler",
        metavar="NAMESPACE/SELECTOR",
        default="",
        help="With --rebalancer descheduler or koord-descheduler: its pods; default: "
        f"{OF_KUBERNETES.place} or {OF_KOORDINATOR.place}.",
    )
    cluster.add_argument(
        "--scheduler",
        metavar="NAME",
        default="",
        help="The scheduler that places a slice's pod after a move; default: the cluster's default scheduler.",
    )
    cluster.add_argument(
        "--node-cpus", metavar="N", type=_cpus, help="What a pod may use of a node; default: what the node says."
    )
    virtual = parser.add_argument_group(
        "with --platform libvirt",
        "Default: hosts are CPUs of this machine, each with a libvirt of the run's own.",
    )
    uris.add_option(virtual, "A host and its libvirt, as the other hosts reach it, too; once for each host.")
    virtual.add_argument(
        "--pool", metavar="NAME", default="default", help="Storage pool for the guests' disk; default: default."
    )
    virtual.add_argument(
        "--guest",
        metavar="PATTERN",
        action="append",
        default=[],
        help="Guests that are there already and may be moved, as in 'web-*'; may be given several times. They stay as "
        "they are, and the run's own guests stay where they are. Default: the run's own are moved.",
    )
    virtual.add_argument(
        "--migration",
        choices=[each.value for each in Migration],
        default=Migration.PRE_COPY.value,
        help="Of a guest that writes its memory faster than it can be sent; default: pre-copy, which just takes long.",
    )
    access.add_options(parser, "Default: the run starts its own servers.")
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        type=_address,
        help="Export metrics of the run for a Prometheus to scrape: host:port or [::]:port; default: off.",
    )
    parser.add_argument("--repeats", metavar="N", type=_repeats, help="Default: the scenario's.")
    parser.add_argument("--seed", metavar="N", type=int, help="Default: the scenario's.")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="For recordings and report; default: a new folder in the current one."
    )
    parser.add_argument("--dry-run", action="store_true", help="Show what would be done; nothing is touched.")
    return parser


def _repeats(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MOST_REPEATS):
        raise argparse.ArgumentTypeError(f"must be 1..{MOST_REPEATS}")
    return int(text)


def _address(text: str) -> Listen | None:
    try:
        return Address()(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _cpus(text: str) -> float:
    with suppress(ValueError):
        if (cpus := float(text)) > 0 and math.isfinite(cpus):
            return cpus
    raise argparse.ArgumentTypeError(f"{text!r}: must be a number of CPUs above 0")


def _session(asked: argparse.Namespace) -> Session:
    """What is asked for.

    Raises:
        DocumentError: the scenario can't be read.
        RebalancerError: the scenario's rebalancer isn't known.
        MonitoringError: the servers can't be used.
        PlatformError: the hosts can't be used.
        SettingsError: a token isn't one.
    """
    scenario = load(asked.scenario)
    rebalancer = asked.rebalancer or scenario.rebalancer
    if rebalancer not in REBALANCERS:
        raise RebalancerError(f"the scenario's rebalancer {rebalancer!r} isn't known: {', '.join(REBALANCERS)}")
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Session(
        scenario=scenario,
        platform=asked.platform,
        rebalancer=rebalancer,
        planner=asked.planner,
        cluster=Cluster(
            namespace=asked.namespace,
            nodes=asked.nodes,
            image=asked.image,
            node_cpus=asked.node_cpus,
            descheduler=asked.descheduler,
            scheduler=asked.scheduler,
        ),
        virtual=Virtual(
            uris=uris.named(asked), pool=asked.pool, migration=Migration(asked.migration), guests=asked.guest
        ),
        repeats=asked.repeats or scenario.repeats,
        seed=scenario.seed if asked.seed is None else asked.seed,
        out=asked.out or Path(f"{scenario.name}-{rebalancer}-{stamp}"),
        existing=_existing(asked),
    )


def _existing(asked: argparse.Namespace) -> access.Access | None:
    """The servers that watch the hosts already, if any are named.

    Raises:
        MonitoringError: they can't be used.
        SettingsError: a token isn't one.
    """
    found = access.named(asked)
    if found is not None and (asked.platform == "local" or (asked.platform == "libvirt" and not asked.host)):
        more = " or name hosts with --host" if asked.platform == "libvirt" else " or choose another --platform"
        raise MonitoringError(
            f"--prometheus: the hosts of the platform {asked.platform} are CPUs of this machine that only the run's "
            f"own Prometheus scrapes: leave it out,{more}"
        )
    return found


def _show_plan(session: Session) -> int:
    """Show what would be done, and by whom."""
    made = session.new_platform()
    platform, rebalancer = made.describe(), session.new_rebalancer().describe()
    servers = _read_servers(session, made) if session.existing else []
    facts = Table.grid(padding=(0, 2))
    facts.add_row("platform", Text(f"{platform.name}, {platform.version}"))
    for name, value in platform.settings.items():
        facts.add_row("", Text(f"{name}: {value}"))
    access.add_rows(facts, servers)
    facts.add_row("rebalancer", Text(f"{rebalancer.name} ({rebalancer.real})"))
    facts.add_row("repeats", Text(f"{session.repeats}, recorded in {session.out}"))
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=(sys.stdout and sys.stdout.isatty()) or None)
    draw(session.scenario, console)
    console.print(facts)
    return show(drawn.getvalue())


def _read_servers(session: Session, platform: Platform) -> Sequence[Part]:
    """What is in force in servers that are there already; they are read, and not changed.

    Raises:
        MonitoringError: it doesn't suit the scenario.
    """
    hosts = platform.hosts()
    plan = scenarios.script(session.scenario, hosts).plan
    monitoring = session.new_monitoring(session.out, [host.name for host in hosts], plan)
    try:
        return monitoring.describe()
    finally:
        monitoring.close()


def _refuse(*problems: str) -> int:
    for problem in problems:
        say(f"loadband: {problem}")
    return Exit.BAD_INPUT
