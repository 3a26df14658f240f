"""The commands that a newcomer copies from README, tutorial and install page are understood as they stand there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadband import completion, flags, preview, set_band
from loadband.rebalance.cli import parsers
from loadband.settings import DECLARATIONS

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/tutorial.md", "docs/install.md")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Page, and words after `loadband`, of each command in an indented block."""
    for page in PAGES:
        for line in re.findall(r"^    (?:LOADBAND_\w+=\S+ )?loadband\b(.*)$", (ROOT / page).read_text(), re.MULTILINE):
            yield page, shlex.split(re.sub(r" >.*| #.*|\s\| .*", "", line))


def understand(words: list[str]) -> None:
    """Parse the words after `loadband`.

    Raises:
        SystemExit: they aren't understood.
    """
    match words:
        case ["rebalance", name, *rest]:
            parser = parsers()[name]
            assert parser is not None
            parser.parse_args(rest)
        case ["profile", *rest]:
            preview.parser().parse_args(rest)
        case ["set", *rest]:
            set_band.parser().parse_args(rest)
        case ["completion", *rest]:
            completion.parser().parse_args(rest)
        case _:
            if flags.parse(words, DECLARATIONS).problems:
                raise SystemExit(2)


@pytest.mark.parametrize(
    ("page", "words"), [pytest.param(*one, id=f"{one[0]}: {shlex.join(one[1])}") for one in commands()]
)
def test_a_command_is_understood(page: str, words: list[str]) -> None:  # noqa: ARG001 - names the page of a failure
    understand(words)


def test_commands_of_every_page_and_kind_were_found() -> None:
    found = list(commands())
    assert {page for page, _ in found} == set(PAGES)
    assert {words[0] for _, words in found if words} >= {"rebalance", "profile", "set", "completion", "--min"}


@pytest.mark.parametrize(
    "line", ["rebalance run", "rebalance run hot-host --out", "--mxa 70", "set 90", "completion csh"]
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    with pytest.raises(SystemExit):
        understand(shlex.split(line))
