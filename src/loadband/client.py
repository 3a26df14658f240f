"""A client of the control listener: reads and changes what a running regulator aims at."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException

from loadband.quantities import SETPOINT_SOURCES, Band, Setpoint

SECONDS = 10.0
"""The longest wait for an answer."""


class ControlError(Exception):
    """The regulator didn't answer, or refused; the message is one sentence that begins with the URL."""


class ControlClient:
    """Talks to one control listener. Each method makes one request and returns the setpoint that is then in force.

    Args:
        url: of the listener: `http://host:port`.
        token: its bearer token; no message repeats it.
        seconds: the longest wait for an answer, > 0.
    """

    def __init__(self, url: str, token: str, seconds: float = SECONDS) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._seconds = seconds

    def read(self) -> Setpoint:
        """Change nothing.

        Raises:
            ControlError: if there is no answer, or none of a regulator.
        """
        return self._ask("GET")

    def set_band(self, band: Band) -> Setpoint:
        """Ask for a band.

        Raises:
            ControlError: if there is no answer, or none of a regulator.
        """
        # As people wrote them: 57.5 percent, not 57.49999999999999.
        return self._ask("PUT", {"min": round(100 * band.low, 9), "max": round(100 * band.high, 9)})

    def set_effort(self, cpus: float) -> Setpoint:
        """Ask for a fixed effort in CPUs, >= 0.

        Raises:
            ControlError: if there is no answer, or none of a regulator.
        """
        return self._ask("PUT", {"effort": cpus})

    def withdraw(self) -> Setpoint:
        """Go back to the band, profile or effort that the regulator was started with.

        Raises:
            ControlError: if there is no answer, or none of a regulator.
        """
        return self._ask("DELETE")

    def _ask(self, method: str, asked: dict[str, float] | None = None) -> Setpoint:
        request = urllib.request.Request(  # noqa: S310 - the caller chose the URL, and with it the scheme
            f"{self._url}/band",
            method=method,
            data=json.dumps(asked).encode() if asked else None,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self._seconds) as answer:  # noqa: S310 - likewise
                return _setpoint(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                raise ControlError(f"{self._url}: {error.code} {error.reason}: {_reason(error)}") from error
        except urllib.error.URLError as error:
            raise ControlError(f"{self._url}: {error.reason}") from error
        except (OSError, HTTPException, ValueError, TypeError, KeyError) as error:
            raise ControlError(f"{self._url}: not the answer of a loadband: {error!r}") from error


def _setpoint(answer: dict[str, object]) -> Setpoint:
    """What an answer says is in force.

    Raises:
        ValueError, TypeError, KeyError: if a regulator wouldn't say so.
    """
    source = next((known for known in SETPOINT_SOURCES if known == answer["source"]), None)
    if source is None:
        raise ValueError(f"unknown source {answer['source']!r}")
    if "min" not in answer:
        return Setpoint(None, source, effort=_number(answer["effort"]))
    return Setpoint(Band(_number(answer["min"]) / 100, _number(answer["max"]) / 100), source)


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} isn't a number")
    return value


def _reason(error: urllib.error.HTTPError) -> str:
    """The sentence of a refusal."""
    try:
        return str(json.load(error)["error"])
    except (OSError, HTTPException, ValueError, TypeError, KeyError):
        return "no reason given"
