"""Hides what looks like a secret, before it is written into a recording that people hand around.

No program can know a secret under an innocent name. So whoever describes a part of a run leaves secrets out; this is
the net below: it knows the usual names, credentials in URLs, and bearer tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

HIDDEN = "***"

_WORD = r"[\w-]*(?:token|passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key|credential|authorization)[\w-]*"
# The name of a file that holds a secret is none.
_NAME = rf"(?!{_WORD}(?<=file)\b){_WORD}"
_NAMED = re.compile(_NAME, re.IGNORECASE | re.ASCII)
_ASSIGNED = re.compile(
    rf"""(?P<name>  --?{_NAME}[=\s]\s*  |  (?<![\w-]){_NAME}["']?\s*[=:]\s*(?:(?:basic|bearer)\s+)?  )
         (?P<quote>["']?)  [^\s"']+""",
    re.IGNORECASE | re.ASCII | re.VERBOSE,
)
_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^\s/@\"'\\<>]+@", re.IGNORECASE | re.ASCII)
_BEARER = re.compile(r"(?P<word>\bbearer\s+)[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE | re.ASCII)


def hide_in_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings with the values of secret names hidden, and what looks like a secret in the others.

    Args:
        settings: by name; a value may be a command with its arguments.
    """
    return {
        name: HIDDEN if _NAMED.fullmatch(name) else _ASSIGNED.sub(rf"\g<name>\g<quote>{HIDDEN}", hide_in_text(value))
        for name, value in settings.items()
    }


def hide_in_text(text: str) -> str:
    """A text with the credentials of URLs and bearer tokens hidden. JSON stays JSON."""
    if "://" in text:
        text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _BEARER.sub(rf"\g<word>{HIDDEN}", text) if "earer" in text.lower() else text
