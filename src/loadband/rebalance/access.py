"""How a command line names servers that are somebody else's: options for their URLs, variables for their tokens."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from loadband.rebalance.api import Endpoint
from loadband.rebalance.events import Part
from loadband.rebalance.redaction import hide_in_text
from loadband.rebalance.run import MonitoringError
from loadband.sources import Declaration, SettingsError, find_secret
from loadband.units import Token, Url

TOKEN = Token(1, 4000)
"""Somebody else's: of any length."""
TOKENS = {
    name: Declaration(f"{name.upper()}_TOKEN", None, TOKEN, "Bearer token.", secret=True)
    for name in ("prometheus", "alertmanager")
}
"""By server, its bearer token."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the servers are."""

    prometheus: Endpoint
    alertmanager: Endpoint | None = None
    """None: notifications are made from Prometheus' list of alerts."""


def add_options(parser: argparse.ArgumentParser, without: str, *, required: bool = False) -> None:
    """Add the options that `named` reads.

    Args:
        parser: of a command.
        without: what happens without the options; a sentence.
        required: whether a Prometheus must be named.
    """
    servers = parser.add_argument_group(
        "with your own Prometheus",
        f"It must scrape the hosts{'' if required else ' and evaluate the rules'}; nothing of it is changed. "
        f"Bearer tokens: {TOKENS['prometheus'].variable}, {TOKENS['alertmanager'].variable}, or the same with _FILE.",
    )
    servers.add_argument("--prometheus", metavar="URL", type=_url, help=without, required=required)
    servers.add_argument(
        "--alertmanager", metavar="URL", type=_url, help="Default: alerts are taken from Prometheus alone."
    )


def named(asked: argparse.Namespace) -> Access | None:
    """The servers that are named; None if none are.

    Args:
        asked: what a parser with the options found.

    Raises:
        MonitoringError: an Alertmanager without the Prometheus that notifies it.
        SettingsError: a token isn't one, or can't be read; the message doesn't repeat it.
    """
    if asked.prometheus is None:
        if asked.alertmanager is not None:
            raise MonitoringError("--alertmanager needs --prometheus: the one that notifies it")
        return None
    return Access(
        Endpoint(asked.prometheus, _token("prometheus")),
        None if asked.alertmanager is None else Endpoint(asked.alertmanager, _token("alertmanager")),
    )


def add_rows(facts: Table, parts: Sequence[Part]) -> None:
    """Add what programs say of themselves to a table of two columns: a row each, and one for each setting."""
    for part in parts:
        facts.add_row(part.name, Text(part.version))
        for name, value in part.settings.items():
            facts.add_row("", Text(f"{name}: {value}"))


def _url(text: str) -> str:
    try:
        return Url()(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{hide_in_text(text)!r} {error}") from None


def _token(server: str) -> str | None:
    given = find_secret(TOKENS[server], os.environ, None, "")
    if given.problem:
        raise SettingsError([given.problem])
    try:
        return None if given.text is None else TOKEN(given.text)
    except ValueError as error:
        raise SettingsError([f"{given}: {error}"]) from None
