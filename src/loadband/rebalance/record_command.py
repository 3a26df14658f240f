"""`loadband rebalance record`: follows a platform that somebody else runs, and records it, so that it can be judged."""

from __future__ import annotations

import argparse
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadband.commands import ArgumentParser, say
from loadband.document import DocumentError
from loadband.exits import Exit
from loadband.rebalance import access, scenario_file, uris
from loadband.rebalance.access import Access
from loadband.rebalance.check import load
from loadband.rebalance.events import (
    Alert,
    AlertState,
    Event,
    Expectation,
    Host,
    Move,
    MoveState,
    Plan,
    Sample,
)
from loadband.rebalance.figures import NEEDS_A_RUN
from loadband.rebalance.following import Followed, Following, Order, Sources
from loadband.rebalance.live import line_of
from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.libvirt import binding, follower
from loadband.rebalance.production import Production
from loadband.rebalance.recording import RecordingError
from loadband.rebalance.run import MonitoringError, RealTime
from loadband.rebalance.scenario import Scenario
from loadband.rebalance.session import File, SessionError, connect
from loadband.sources import SettingsError
from loadband.units import TIME, Number

DEFAULT = """
name = "production"
expect = "nothing"
faster = 1
sample = "15s"
hold = "2m"
return_within = "10m"
[hosts]
hot = 0
[phases]
watch = "1h"
"""
"""The scenario of a recording that names none."""
_FOR = Number(TIME, "1s", "8760h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What is followed."""

    namespaces: Sequence[str] = ()
    """Whose pods; none: everybody's."""
    nodes: str = ""
    """A label selector; empty: all."""
    uris: Mapping[str, str] = field(default_factory=dict)
    """By host of virtual machines, its libvirt daemon."""
    guests: Sequence[str] = ()
    """Patterns of the names of the guests that are followed; none: all."""


def _kubernetes(where: Where) -> Followed:
    from loadband.rebalance.platforms.kubernetes.follower import Follower  # noqa: PLC0415 - only where it is asked for

    return Follower(connect("default"), where.namespaces, where.nodes)


def _libvirt(where: Where) -> Followed:
    if not where.uris:
        raise PlatformError("the platform libvirt needs --host NAME=URI, once for each host")
    return follower.Follower(where.uris, where.guests, binding.load())


PLATFORMS: Mapping[str, Callable[[Where], Followed]] = {"kubernetes": _kubernetes, "libvirt": _libvirt}
OPTIONS = {"kubernetes": ("nodes", "namespace", "by"), "libvirt": ("host", "guest")}
"""By platform, the options that no other one has."""


def record(words: Sequence[str], wait: Callable[[float], bool]) -> int:
    """Record a platform; returns the exit code.

    Args:
        words: those after `loadband rebalance record`.
        wait: waits for some seconds, or less if the recording is to end; returns whether it is.
    """
    asked = record_parser().parse_args(words)
    try:
        loaded = _scenario(asked.scenario)
        servers = access.named(asked)
        assert servers is not None, "the option is required"  # noqa: S101 - a mistake in the parser
        _record(asked, loaded, servers, RealTime(wait))
    except (DocumentError, SettingsError) as error:
        return _refuse(*error.problems)
    except (MonitoringError, PlatformError, SessionError) as error:
        return _refuse(str(error))
    except RecordingError as error:
        say(f"loadband: {error}")
        return Exit.FAILED
    say(f"loadband: recorded; judge it: loadband rebalance report {shlex.quote(str(asked.out))}")
    return Exit.OK


def record_parser() -> ArgumentParser:
    """The arguments of `loadband rebalance record`."""
    parser = ArgumentParser(
        prog="loadband rebalance record",
        description="Follows a platform without making load, and records its alerts, moves and utilization, so that "
        "`loadband rebalance report` can judge what its rebalancer does. Everything is only read. Ctrl-C ends it.",
        epilog="Exit codes: 0 recorded, 2 bad input, 3 the recording can't be written.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="A new folder for the recording.")
    parser.add_argument("--for", dest="seconds", metavar="TIME", type=_seconds, help="How long; default: until Ctrl-C.")
    parser.add_argument(
        "--scenario",
        metavar="FILE",
        help="Its alert, thresholds and limits are what the report judges by; default: no limits.",
    )
    parser.add_argument(
        "--platform", choices=list(PLATFORMS), default="kubernetes", help="Default: kubernetes, that of KUBECONFIG."
    )
    cluster = parser.add_argument_group("with --platform kubernetes")
    cluster.add_argument(
        "--nodes", metavar="SELECTOR", default="", help="Label selector of the nodes that are followed; default: all."
    )
    cluster.add_argument(
        "--namespace",
        metavar="NAME",
        action="append",
        default=[],
        help="Whose pods are followed; may be given several times; default: all.",
    )
    cluster.add_argument(
        "--by",
        metavar="WHO",
        action="append",
        default=[],
        help="Who may move, as recorded: anybody else's move makes the verdict INVALID. May be given several times; "
        "default: moves of anybody count.",
    )
    virtual = parser.add_argument_group("with --platform libvirt")
    uris.add_option(virtual, "A host, by its name in Prometheus, and its libvirt; once for each host. It is only read.")
    virtual.add_argument(
        "--guest",
        metavar="PATTERN",
        action="append",
        default=[],
        help="Whose migrations are followed, as in 'web-*'; may be given several times; default: all guests.",
    )
    access.add_options(parser, "The one that scrapes the hosts.", required=True)
    return parser


def _seconds(text: str) -> float:
    try:
        return _FOR(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _scenario(name: str | None) -> Scenario:
    """What it is judged by.

    Raises:
        DocumentError: it can't be read, or asks for what a recording of production can't have.
    """
    if name is None:
        return scenario_file.parse(DEFAULT, "production.toml")
    loaded = load(name)
    problems = []
    if loaded.faster != 1:
        problems.append("set `faster = 1`: nothing of a platform that is only followed is made faster")
    if loaded.slices or loaded.overload:
        problems.append("leave out [[slices]] and [[overload]]: no load is made")
    if loaded.expect is Expectation.BALANCE:
        problems.append(
            'set `expect = "nothing"`, "no move" or "no alert": nobody can say that balance came back from an overload '
            "without knowing when it began"
        )
    if needs := sorted(NEEDS_A_RUN & loaded.limits.keys()):
        problems.append(f"leave out the limits of {', '.join(needs)}: only a run that makes the load has these figures")
    if problems:
        raise DocumentError([f"{name}: {problem}" for problem in problems])
    return loaded


def _record(asked: argparse.Namespace, loaded: Scenario, servers: Access, time: RealTime) -> None:
    if any(asked.out.glob("recording-*.jsonl")):
        raise SessionError(f"{asked.out} holds recordings already: give another OUT")
    for name, options in OPTIONS.items():
        if name != asked.platform and (given := [option for option in options if getattr(asked, option)]):
            raise PlatformError(f"--{given[0]} belongs to --platform {name}, and this is {asked.platform}")
    where = Where(namespaces=asked.namespace, nodes=asked.nodes, uris=uris.named(asked), guests=asked.guest)
    platform = PLATFORMS[asked.platform](where)
    known = Production(servers, loaded.alert, loaded.sample, time)
    plan = replace(
        loaded.plan(),
        hot_hosts=(),
        window=known.window,
        sample_interval=known.sample_interval,
        watch=asked.seconds or loaded.watch,
    )
    order = Order(secrets.token_hex(4), plan, tuple(asked.by), asked.seconds)
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SessionError(f"{asked.out}: can't be made: {error.strerror}") from error
    path = asked.out / "recording-1.jsonl"
    with ExitStack() as stack:
        progress = Progress(Console(stderr=True), path, plan)
        stack.enter_context(progress)
        Following(order, Sources(platform, known), File(path, stack), time, [progress]).run()


def _refuse(*problems: str) -> int:
    for problem in problems:
        say(f"loadband: {problem}")
    return Exit.BAD_INPUT


class Progress:
    """Shows a recording while it goes on: a line for each event that matters, and on a terminal one for all of it.

    Args:
        console: where.
        path: of the recording.
        plan: says which alert is awaited.
    """

    def __init__(self, console: Console, path: Path, plan: Plan) -> None:
        self._console = console
        self._path = path
        self._plan = plan
        self._until: float | None = None
        self._begin = self._now = 0.0
        self._hosts: set[str] = set()
        self._firing: set[tuple[str, str]] = set()
        self._moves = 0
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def stage(self, doing: str, until: float | None) -> None:
        """See `Audience`."""
        self._until = until
        ends = "until Ctrl-C" if until is None else f"until {datetime.fromtimestamp(until).astimezone():%Y-%m-%d %H:%M}"
        self._say(f"{doing} {ends}, recorded in {self._path}")

    def event(self, event: Event) -> None:
        """See `Audience`."""
        match event:
            case Host(name=name, present=present):
                (self._hosts.add if present else self._hosts.discard)(name)
            case Alert(name=name, host=host, state=AlertState.FIRING):
                self._firing.add((name, host))
            case Alert(name=name, host=host):
                self._firing.discard((name, host))
            case Move(state=MoveState.ACCEPTED):
                self._moves += 1
        if (not isinstance(event, Alert) or event.name == self._plan.alert) and (text := line_of(event)):
            self._say(f"{datetime.fromtimestamp(event.at).astimezone():%H:%M:%S}  {text}".rstrip(": "))
        if isinstance(event, Sample) and self._live is not None:
            self._draw(event.at)

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _draw(self, at: float) -> None:
        self._begin = self._begin or at
        if at <= self._now or self._live is None:
            return
        self._now = at
        megabytes = self._path.stat().st_size / 1e6
        text = (
            f"{(at - self._begin) / 3600:.1f} h, {len(self._hosts)} hosts, {len(self._firing)} alerts fire, "
            f"{self._moves} moves, {megabytes:.1f} MB"
        )
        self._live.update(Text(text, "dim"), refresh=True)
