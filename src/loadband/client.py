"""`loadband set`: changes the band of a running regulator through its control listener."""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from decimal import Decimal
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from loadband.commands import ArgumentParser, say, show
from loadband.exits import Exit
from loadband.settings import CONTROL_PORT, secret
from loadband.sources import SettingsError
from loadband.units import PERCENT, Number

CONFIGURED = "configured"
"""The word for what was asked for before any client."""
SECONDS = 10.0
"""For the answer."""
_TOKEN = "CONTROL_TOKEN"  # noqa: S105 - the name of a setting
_edge = Number(PERCENT, "0", "100")


def main(words: Sequence[str]) -> int:
    """Run with the words after `loadband set`; returns the exit code: 0 done, 1 it was not, 2 bad words."""
    arguments = _parser().parse_args(words)
    try:
        token = secret(_TOKEN, "--token-file", arguments.token_file)
    except SettingsError as error:
        return _failed("; ".join(error.problems))
    if token is None:
        return _failed("no token: give --token-file FILE, or set LOADBAND_CONTROL_TOKEN_FILE or LOADBAND_CONTROL_TOKEN")
    return _ask(arguments.url, token, arguments.band)


def _ask(url: str, token: str, band: list[str]) -> int:
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        f"{url}/band", headers={"Authorization": f"Bearer {token}"}
    )
    if band == [CONFIGURED]:
        request.method = "DELETE"
    else:
        request.method = "PUT"
        request.data = '{{"min": {}, "max": {}}}'.format(*(Decimal(word.rstrip(" %")) for word in band)).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - likewise
            now = json.load(answer)
            said = f"{_band(now)} ({now['source']})\n"
    except urllib.error.HTTPError as error:
        return _failed(f"{url}: {error.code} {error.reason}: {_sentence(error)}")
    except urllib.error.URLError as error:
        return _failed(f"{url}: {error.reason}")
    except (OSError, HTTPException, ValueError, TypeError, KeyError) as error:
        return _failed(f"{url}: no answer of a loadband: {error!r}")
    return show(said)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="loadband set",
        usage="loadband set MIN MAX [--url URL] [--token-file FILE]\n       loadband set configured [...]",
        description="Changes the band of a loadband that runs with a LOADBAND_CONTROL_TOKEN, until it restarts, gets a "
        "SIGHUP or is set back: `configured` is the band, profile or effort that it was started with.",
        epilog="The token is read from --token-file, LOADBAND_CONTROL_TOKEN_FILE or LOADBAND_CONTROL_TOKEN. "
        "Exit codes: 0 done, 1 not done, 2 bad arguments.",
    )
    parser.add_argument("band", nargs="+", action=_Band, metavar="MIN MAX", help="Percent, or the word `configured`.")
    parser.add_argument(
        "--url",
        type=_url,
        default=f"http://127.0.0.1:{CONTROL_PORT}",
        help="Of the control listener; default %(default)s.",
    )
    parser.add_argument("--token-file", metavar="FILE", help="A file with the token in it.")
    return parser


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} must be http://host:port, or https")
    return text.rstrip("/")


class _Band(argparse.Action):
    """Two edges, or the word that stands for what is configured."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        if values != [CONFIGURED]:
            try:
                low, high = (_edge(word) for word in values)
            except ValueError:
                parser.error(f"must be MIN MAX, each {_edge.allowed}, or the word configured")
            if low >= high:
                parser.error(f"{values[0]} must be less than {values[1]}")
        setattr(namespace, self.dest, values)


def _band(now: dict[str, Any]) -> str:
    return f"{now['min']:g}..{now['max']:g} %" if "min" in now else f"{now['effort']:g} CPUs"


def _sentence(error: urllib.error.HTTPError) -> str:
    """What a refusal says, on one line."""
    try:
        return str(json.load(error)["error"])
    except (OSError, HTTPException, ValueError, TypeError, KeyError):
        return "it says no more"


def _failed(sentence: str) -> int:
    say(f"loadband set: {sentence}")
    return Exit.NOT_ACHIEVED
