"""`loadband set`: changes the band of a running regulator."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from loadband.client import ControlClient, ControlError
from loadband.commands import ArgumentParser, say, show
from loadband.exits import Exit
from loadband.quantities import Band
from loadband.settings import CONTROL_PORT, secret
from loadband.sources import SettingsError
from loadband.units import PERCENT, Number, Url

CONFIGURED = "configured"
"""The word for what the regulator was started with."""
EDGE = Number(PERCENT, "0", "100")


def main(words: Sequence[str]) -> Exit:
    """Run with the words after `loadband set`; the exit code is OK, NOT_ACHIEVED or BAD_INPUT."""
    arguments = parser().parse_args(words)
    band: Band | None = arguments.band
    try:
        token = secret("CONTROL_TOKEN", "--token-file", arguments.token_file)
        if token is None:
            return _failed(
                "no token: give --token-file FILE, or set LOADBAND_CONTROL_TOKEN_FILE or LOADBAND_CONTROL_TOKEN"
            )
        client = ControlClient(arguments.url, token)
        now = client.set_band(band) if band else client.withdraw()
    except SettingsError as error:
        return _failed("; ".join(error.problems))
    except ControlError as error:
        return _failed(str(error))
    return show(f"{now} ({now.source})\n")


def parser() -> ArgumentParser:
    """The arguments of `loadband set`."""
    arguments = ArgumentParser(
        prog="loadband set",
        usage="loadband set MIN MAX [--url URL] [--token-file FILE]\n       loadband set configured [...]",
        description="Changes the band of a running loadband that has a LOADBAND_CONTROL_TOKEN, until it restarts, gets "
        "a SIGHUP or is set back: `configured` is the band, profile or effort that it was started with.",
        epilog="The token comes from --token-file, LOADBAND_CONTROL_TOKEN_FILE or LOADBAND_CONTROL_TOKEN. "
        "Exit codes: 0 done, 1 not done, 2 bad arguments.",
    )
    arguments.add_argument(
        "band", nargs="+", action=_Band, metavar="MIN MAX", help="Percent, or the word `configured`."
    )
    arguments.add_argument(
        "--url",
        type=_url,
        default=f"http://127.0.0.1:{CONTROL_PORT}",
        help="The control listener; default %(default)s.",
    )
    arguments.add_argument("--token-file", metavar="FILE", help="A file that holds the token.")
    return arguments


def _url(text: str) -> str:
    try:
        return Url()(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _Band(argparse.Action):
    """A `Band` of two edges, or None for the word `configured`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        band = None
        if values != [CONFIGURED]:
            try:
                low, high = (EDGE(word) for word in values)
            except ValueError:
                parser.error(f"must be MIN MAX, each {EDGE.allowed}, or the word {CONFIGURED}")
            if low >= high:
                parser.error(f"{values[0]} must be less than {values[1]}")
            band = Band(low, high)
        setattr(namespace, self.dest, band)


def _failed(sentence: str) -> Exit:
    say(f"loadband set: {sentence}")
    return Exit.NOT_ACHIEVED
