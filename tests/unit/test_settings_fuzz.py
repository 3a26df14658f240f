"""Whatever is given, `load` answers with settings or with lines that say what is wrong, and with nothing else."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadband.flags import FIVE_NUMBERS
from loadband.settings import DECLARATIONS, Loaded, load
from loadband.sources import Declaration, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A bad secret isn't shown: test_settings.py has those.
BY_NAME = {d.name: d for d in DECLARATIONS if not d.secret}

# Each of these is bad for every setting.
WRONG_EVERYWHERE = [
    *["nan", "inf", "-inf", "-1", "-0.5", "1e3", "1_0", "+5", "0x1f", "1,5", "..", "5.", "true", "null", "None"],
    *["99999999999", "9" * 400, "1e400", "10 20", "60;70", "$(reboot)", "${LOADBAND_MAX}", "'60'", '"60"', "60\t%%"],
    *["-5ms", "5 parsecs", "1h30m", "host,cpuset", ":", "[::]", "[::]:", "a:b:c", "x:99999", "http://h:1", "\x00", "é"],
    *["٦٠", "½", "∞", "a\nb", "\x1b[2J", "\udcff", "%", "%s", "%(prog)s", "{0}", "-", "=", "m", "ms"],
]
wrong = st.one_of(
    st.sampled_from(WRONG_EVERYWHERE),
    st.text(min_size=1, max_size=200).map(lambda text: "?" + text),
    st.integers(min_value=10**8).map(str),
    st.floats(max_value=-1e-3).map(str),
)


def in_environment(text: str) -> bool:
    """Whether an environment can hold it: bytes without a zero, which Python decodes in its own way."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


wrong_by_name = st.dictionaries(st.sampled_from(sorted(BY_NAME)), wrong, min_size=1)
wrong_variables = st.dictionaries(st.sampled_from(sorted(BY_NAME)), wrong.filter(in_environment), min_size=1)


def problems(argv: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    with mock.patch.dict(os.environ, environ, clear=True), pytest.raises(SettingsError) as caught:
        load(argv)
    assert str(caught.value).split("\n") == list(caught.value.problems)
    return list(caught.value.problems)


QUOTES = "; leave out the quotes around it, which docker's --env-file keeps"


def line_of(place: str, text: str, declaration: Declaration) -> str:
    text = text.strip()
    shown = repr(text if len(text) <= 60 else text[:60] + "...")
    return f"{place}={shown}: must be {declaration.parser.allowed}"


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(in_environ=wrong_variables, in_flags=st.one_of(st.just({}), wrong_by_name))
def test_every_bad_setting_has_its_line_with_name_value_and_what_is_allowed(
    in_environ: dict[str, str], in_flags: dict[str, str]
) -> None:
    told = problems(
        [f"{BY_NAME[name].flag}={text}" for name, text in in_flags.items()],
        {BY_NAME[name].variable: text for name, text in in_environ.items()},
    )
    assert told == [
        line_of(d.flag, in_flags[d.name], d)
        if d.name in in_flags
        else line_of(d.variable, in_environ[d.name], d) + (QUOTES if in_environ[d.name] in {"'60'", '"60"'} else "")
        for d in DECLARATIONS
        if d.name in in_flags or d.name in in_environ
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(wrong.filter(lambda text: not re.match(r"-\D|-\Z", text)), min_size=5, max_size=5))
def test_five_bad_numbers_are_each_named_with_value_and_what_is_allowed(numbers: list[str]) -> None:
    told = problems(numbers, {})
    assert [line.partition("=")[0] for line in told] == [f"five numbers, {name}" for name in FIVE_NUMBERS]
    for line, name, text in zip(told, FIVE_NUMBERS, numbers, strict=True):
        assert repr(text)[:60].rstrip("'\"") in line
        assert line.endswith(f": must be {BY_NAME[name].parser.allowed}")


words = st.one_of(
    st.text(max_size=20),
    wrong,
    st.sampled_from([d.flag for d in DECLARATIONS] + ["--check", "--help", "-h", "--version", "--", "60", "70%", "10"]),
)
variables = st.one_of(
    st.sampled_from([d.variable for d in DECLARATIONS]),
    st.text(st.characters(exclude_characters="="), max_size=9).filter(in_environment).map("LOADBAND_".__add__),
)


@settings(max_examples=500, deadline=None)
@given(argv=st.lists(words, max_size=8), environ=st.dictionaries(variables, words.filter(in_environment), max_size=4))
def test_nothing_makes_load_fail_in_another_way(argv: list[str], environ: dict[str, str]) -> None:
    try:
        with mock.patch.dict(os.environ, environ, clear=True):
            result = load(argv)
    except SettingsError as error:
        lines = error.problems or ("",)
    else:
        lines = result.warnings if isinstance(result, Loaded) else ()
    assert all(line and line.isprintable() for line in lines)
