"""How a command line names hosts of virtual machines: an option with the URI of each one's libvirt daemon."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from loadband.rebalance.platforms import PlatformError


def add_option(group: argparse._ArgumentGroup, meaning: str) -> None:  # argparse has no public name for it
    """Add the option that `named` reads.

    Args:
        group: of a command's options.
        meaning: for its help; a sentence.
    """
    group.add_argument("--host", metavar="NAME=URI", action="append", type=_host, default=[], help=meaning)


def named(asked: argparse.Namespace) -> Mapping[str, str]:
    """By host, the URI of its daemon.

    Args:
        asked: what a parser with the option found.

    Raises:
        PlatformError: a name or a URI is there twice.
    """
    uris = dict(asked.host)
    if len(uris) < len(asked.host) or len(set(uris.values())) < len(uris):
        raise PlatformError("--host: each name and each URI may be given once")
    return uris


def _host(text: str) -> tuple[str, str]:
    name, sign, uri = text.partition("=")
    if not (name and sign and uri):
        raise argparse.ArgumentTypeError(f"{text!r}: must be NAME=URI, as in host-1=qemu+ssh://host-1/system")
    return name, uri
