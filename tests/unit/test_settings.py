from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from loadband import settings
from loadband.quantities import Band, Scope, Setpoint, Steal
from loadband.settings import (
    DECLARATIONS,
    Asked,
    LawName,
    Loaded,
    LogFormat,
    LogLevel,
    OnEnd,
    Settings,
    help_text,
    load,
)
from loadband.sources import Declaration, Origin, SettingsError
from loadband.units import Listen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BY_NAME = {d.name: d for d in DECLARATIONS}


def loaded(argv: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Loaded:
    with mock.patch.dict(os.environ, environ or {}, clear=True):
        result = load(argv)
    assert isinstance(result, Loaded)
    return result


def problems(argv: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    with mock.patch.dict(os.environ, environ or {}, clear=True), pytest.raises(SettingsError) as caught:
        load(argv)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return caught.value.problems


def origins(result: Loaded) -> dict[str, Origin]:
    return {given.declaration.name: given.origin for given in result.given}


def test_without_anything_given_the_defaults_of_the_design_hold() -> None:
    result = loaded()
    assert result.settings == Settings(
        setpoint=Setpoint(Band(0.60, 0.70)),
        latch=None,
        profile=None,
        scope=Scope.HOST,
        controller=LawName.ADAPTIVE,
        interval=0.1,
        workers=None,
        step=1,
        sleep=0.01,
        max_effort=None,
        steal=Steal.IDLE,
        nice=0,
        duration=0,
        on_end=OnEnd.EXIT,
        listen=Listen("::", settings.DEFAULT_PORT),
        control_listen=Listen("127.0.0.1", settings.CONTROL_PORT),
        control_token=None,
        log_level=LogLevel.INFO,
        log_format=LogFormat.TEXT,
    )
    assert result.warnings == ()
    assert result.check is False
    assert set(origins(result).values()) == {Origin.DEFAULT}


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda d: d.name)
def test_the_default_passes_its_own_parser_from_every_origin(declaration: Declaration) -> None:
    if declaration.default is None:
        settings = loaded().settings
        assert getattr(settings.setpoint if declaration.name == "EFFORT" else settings, declaration.field) is None
        return
    expected = loaded().settings
    assert loaded([f"{declaration.flag}={declaration.default}"]).settings == expected
    assert loaded([], {declaration.variable: declaration.default}).settings == expected


def test_every_field_of_settings_has_one_declaration() -> None:
    declared = [d.field for d in DECLARATIONS]
    fields = [f.name for f in dataclasses.fields(Settings)]
    assert sorted(declared) == sorted({*fields, "min", "max", "effort"} - {"setpoint"})


def test_no_setting_has_a_name_that_kubernetes_may_give_to_a_service_link() -> None:
    assert not [d.name for d in DECLARATIONS if d.name.startswith(("PORT", "SERVICE_"))]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SCOPE", "cpuset", Scope.CPUSET),
        ("SCOPE", "Container", Scope.CONTAINER),
        ("CONTROLLER", "step", LawName.STEP),
        ("INTERVAL", "50ms", 0.05),
        ("INTERVAL", "0.1", 0.1),
        ("INTERVAL", "5", 5.0),
        ("WORKERS", "1", 1),
        ("WORKERS", "1024", 1024),
        ("STEP", "1024", 1024),
        ("SLEEP_MS", "0", 0.0),
        ("SLEEP_MS", "2.5", 0.0025),
        ("SLEEP_MS", "10000", 10.0),
        ("MAX_EFFORT", "1.5", 1.5),
        ("MAX_EFFORT", "250m", 0.25),
        ("STEAL", "busy", Steal.BUSY),
        ("NICE", "19", 19),
        ("DURATION", "1.5s", 1.5),
        ("DURATION", "2m", 120.0),
        ("DURATION", " 1 h\n", 3600.0),
        ("DURATION", "10", 10.0),
        ("ON_END", "idle", OnEnd.IDLE),
        ("LISTEN", "off", None),
        ("LISTEN", "127.0.0.1:9100", Listen("127.0.0.1", 9100)),
        ("LISTEN", "localhost:0", Listen("localhost", 0)),
        ("LISTEN", "node-1.example:65535", Listen("node-1.example", 65535)),
        ("LISTEN", "[::]:9100", Listen("::", 9100)),
        ("LISTEN", "[fe80::1%eth0]:9100", Listen("fe80::1%eth0", 9100)),
        ("PROFILE", "profiles/day.toml", Path("profiles/day.toml")),
        ("CONTROL_LISTEN", "off", None),
        ("CONTROL_LISTEN", "[::1]:0", Listen("::1", 0)),
        ("LOG_LEVEL", "WARNING", LogLevel.WARNING),
        ("LOG_FORMAT", "json", LogFormat.JSON),
    ],
)
def test_a_good_value_arrives_in_inside_units_by_variable_and_by_flag(name: str, text: str, value: object) -> None:
    declaration = BY_NAME[name]
    for result in (loaded([], {declaration.variable: text}), loaded([declaration.flag, text])):
        got = getattr(result.settings, declaration.field)
        assert got == value
        assert type(got) is type(value)


@pytest.mark.parametrize(
    ("low", "high", "band"),
    [
        ("0", "100", Band(0, 1)),
        ("57%", "58 %", Band(0.57, 0.58)),
        ("12.5", "12.75", Band(0.125, 0.1275)),
    ],
)
def test_percent_become_the_nearest_ratio(low: str, high: str, band: Band) -> None:
    assert loaded(["--min", low, "--max", high]).settings.setpoint.band == band


PERCENT = "must be 0..100 (percent), written as 60 or 60%"
TIME = "(time), written as 500ms, 1.5s, 2m or 1h; 10 is 10s"
ADDRESS = "must be host:port or [::]:port with a port of 0..65535 (0: any free one), or off"


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("MIN", "-5", PERCENT),
        ("MIN", "nan", PERCENT),
        ("MIN", "inf", PERCENT),
        ("MIN", "1e1", PERCENT),
        ("MIN", "6_0", PERCENT),
        ("MIN", "٦٠", PERCENT),
        ("MIN", "0x10", PERCENT),
        ("MAX", "100.1", PERCENT),
        ("MAX", "70%%", PERCENT),
        ("MAX", "70 percent", PERCENT),
        ("SCOPE", "node", "must be host, cpuset or container"),
        ("CONTROLLER", "pid", "must be adaptive or step"),
        ("INTERVAL", "49ms", f"must be 50ms..5s {TIME}"),
        ("INTERVAL", "5.001s", f"must be 50ms..5s {TIME}"),
        ("INTERVAL", "1 s s", f"must be 50ms..5s {TIME}"),
        ("WORKERS", "0", "must be a whole number 1..1024 (threads)"),
        ("WORKERS", "1025", "must be a whole number 1..1024 (threads)"),
        ("WORKERS", "1.5", "must be a whole number 1..1024 (threads)"),
        ("STEP", "2%", "must be a whole number 1..1024 (threads)"),
        ("SLEEP_MS", "10ms", "must be 0..10000 (milliseconds)"),
        ("SLEEP_MS", "10001", "must be 0..10000 (milliseconds)"),
        ("MAX_EFFORT", "0", "must be 1m..1024 (CPUs), written as 1.5 or 250m"),
        ("MAX_EFFORT", "0.5m", "must be 1m..1024 (CPUs), written as 1.5 or 250m"),
        ("STEAL", "other", "must be idle or busy"),
        ("NICE", "20", "must be a whole number 0..19 (niceness)"),
        ("NICE", "-1", "must be a whole number 0..19 (niceness)"),
        ("DURATION", "1d", f"must be 0..8760h {TIME}"),
        ("DURATION", "1h30m", f"must be 0..8760h {TIME}"),
        ("DURATION", "8761h", f"must be 0..8760h {TIME}"),
        ("DURATION", "infinity", f"must be 0..8760h {TIME}"),
        ("ON_END", "stop", "must be exit or idle"),
        ("LISTEN", "9100", ADDRESS),
        ("LISTEN", ":9100", ADDRESS),
        ("LISTEN", "localhost", ADDRESS),
        ("LISTEN", "localhost:65536", ADDRESS),
        ("LISTEN", "localhost:http", ADDRESS),
        ("LISTEN", "::1:9100", ADDRESS),
        ("LISTEN", "[::g]:9100", ADDRESS),
        ("LISTEN", "[127.0.0.1]:9100", ADDRESS),
        ("LISTEN", "[]:9100", ADDRESS),
        ("LISTEN", "300.1.1.1:9100", ADDRESS),
        ("LISTEN", "1.2.3:9100", ADDRESS),
        ("LISTEN", "-host:9100", ADDRESS),
        ("LISTEN", "http://localhost:9100", ADDRESS),
        ("PROFILE", "day.yaml", "must be the name of a file that ends in .toml"),
        ("PROFILE", "day\n.toml", "must be the name of a file that ends in .toml"),
        ("LOG_LEVEL", "loud", "must be debug, info, warning or error"),
        ("LOG_FORMAT", "logfmt", "must be text or json"),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_what_is_allowed(name: str, text: str, allowed: str) -> None:
    declaration = BY_NAME[name]
    assert problems([], {declaration.variable: text}) == (f"LOADBAND_{name}={text!r}: {allowed}",)
    assert problems([f"{declaration.flag}={text}"]) == (f"{declaration.flag}={text!r}: {allowed}",)


@pytest.mark.parametrize("argv", [["--min", "-5"], ["--min=-5"]])
def test_a_negative_number_is_a_bad_value_and_no_flag(argv: list[str]) -> None:
    assert problems(argv) == (f"--min='-5': {PERCENT}",)


def test_a_hostile_value_stays_on_one_line_of_bounded_length() -> None:
    (line,) = problems([], {"LOADBAND_SCOPE": "host\n\x1b[31m\udcff" + 10_000 * "x"})
    assert line.startswith(r"LOADBAND_SCOPE='host\n\x1b[31m\udcffxxx")
    assert line.endswith("xxx...': must be host, cpuset or container")
    assert len(line) < 200


def test_all_problems_are_told_at_once() -> None:
    told = problems(
        ["--max", "110", "--frobnicate", "--step"],
        {"LOADBAND_MIN": "x", "LOADBAND_WORKERS": "many", "LOADBAND_LISTEN": "nowhere", "LOADBAND_SCOPE": "cpuset"},
    )
    assert [line.partition(":")[0] for line in told] == [
        "'--frobnicate'",
        "--step",
        "LOADBAND_MIN='x'",
        "--max='110'",
        "LOADBAND_WORKERS='many'",
        "LOADBAND_LISTEN='nowhere'",
    ]


@pytest.mark.parametrize(
    ("argv", "environ", "line"),
    [
        (["--min", "70"], {"LOADBAND_MAX": "60"}, "--min='70' with LOADBAND_MAX='60': MIN must be less than MAX"),
        (["--max=60%"], {}, "LOADBAND_MIN='60' (default) with --max='60%': MIN must be less than MAX"),
        (
            ["70", "60", "1", "1", "1"],
            {},
            "five numbers, MIN='70' with five numbers, MAX='60': MIN must be less than MAX",
        ),
    ],
)
def test_a_band_needs_its_lower_edge_below_its_upper_edge(argv: list[str], environ: dict[str, str], line: str) -> None:
    assert problems(argv, environ) == (line,)


def test_a_bad_edge_is_not_compared_with_the_other() -> None:
    assert problems([], {"LOADBAND_MIN": "80", "LOADBAND_MAX": "x"}) == (f"LOADBAND_MAX='x': {PERCENT}",)


@pytest.mark.parametrize(
    ("argv", "environ", "seen"),
    [
        ([], {}, [(Scope.HOST, None)]),
        (["--max-effort", "1.5"], {"LOADBAND_SCOPE": "container"}, [(Scope.CONTAINER, 1.5)]),
        ([], {"LOADBAND_SCOPE": "planet"}, []),
        ([], {"LOADBAND_MAX_EFFORT": "-1"}, []),
        (["--check"], {}, []),
        (["--help"], {}, []),
    ],
)
def test_what_is_measured_is_handed_out_before_the_rest_is_parsed(
    argv: list[str], environ: dict[str, str], seen: list[tuple[Scope, float | None]]
) -> None:
    found: list[tuple[Scope, float | None]] = []
    bad = {"LOADBAND_NICE": "90"}
    with mock.patch.dict(os.environ, environ | bad, clear=True), contextlib.suppress(SettingsError):
        load(argv, lambda scope, ceiling: found.append((scope, ceiling)))
    assert found == seen


def test_a_flag_overrides_a_variable_and_a_variable_the_default() -> None:
    result = loaded(["--max", "90"], {"LOADBAND_MAX": "80", "LOADBAND_MIN": "50"})
    assert result.settings.setpoint.band == Band(0.5, 0.9)
    assert origins(result) == dict.fromkeys(BY_NAME, Origin.DEFAULT) | {"MIN": Origin.VARIABLE, "MAX": Origin.FLAG}


def test_a_bad_variable_that_a_flag_overrides_harms_nothing() -> None:
    assert loaded(["--max", "90"], {"LOADBAND_MAX": "x"}).settings.setpoint.band == Band(0.6, 0.9)


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_text_counts_as_unset(empty: str) -> None:
    assert loaded([], {d.variable: empty for d in DECLARATIONS}).settings == loaded().settings
    assert loaded([f"--max={empty}"], {"LOADBAND_MAX": "80"}).settings.setpoint.band == Band(0.6, 0.8)


def test_a_flag_without_its_value_is_told_with_what_is_allowed() -> None:
    assert problems(["--max", "--min"]) == (f"--min: has no value; {PERCENT}", f"--max: has no value; {PERCENT}")


def test_the_five_numbers_override_variables_and_select_the_step_law() -> None:
    result = loaded(["40", "50%", "10", "2", "20"], {"LOADBAND_CONTROLLER": "adaptive", "LOADBAND_MIN": "x"})
    assert (result.settings.setpoint.band, result.settings.workers, result.settings.step) == (Band(0.4, 0.5), 10, 2)
    assert (result.settings.controller, result.settings.sleep) == (LawName.STEP, 0.02)
    told = {name for name, origin in origins(result).items() if origin is Origin.NUMBERS}
    assert told == {"MIN", "MAX", "WORKERS", "STEP", "SLEEP_MS", "CONTROLLER"}
    assert result.warnings == ()


def test_flags_may_stand_among_the_five_numbers() -> None:
    result = loaded(["--check", "60", "70", "--nice", "5", "10", "2", "--controller=step", "--", "10"])
    assert (result.check, result.settings.nice, result.settings.workers) == (True, 5, 10)


@pytest.mark.parametrize("numbers", ["60", "60 70 10 2", "60 70 10 2 10 5"])
def test_any_other_count_of_numbers_is_refused(numbers: str) -> None:
    count = len(numbers.split())
    assert problems(numbers.split()) == (
        f"{numbers!r}: must be five numbers, MIN MAX WORKERS STEP SLEEP_MS, or none; {count} were given",
    )


def test_bad_numbers_among_the_five_are_named_by_what_they_stand_for() -> None:
    assert problems(["-1", "70", "0", "2", ""]) == (
        f"five numbers, MIN='-1': {PERCENT}",
        "five numbers, WORKERS='0': must be a whole number 1..1024 (threads)",
        "five numbers, SLEEP_MS='': must be 0..10000 (milliseconds)",
    )


def test_a_flag_that_contradicts_the_five_numbers_is_refused() -> None:
    assert problems(["60", "70", "10", "2", "10", "--controller", "adaptive", "--max", "80", "--step", "2"]) == (
        "--max='80': contradicts five numbers, MAX='70'; give one of the two",
        "--controller='adaptive': contradicts five numbers, CONTROLLER='step'; give one of the two",
    )


def test_an_unknown_flag_is_told_with_the_nearest_known_one_but_no_value() -> None:
    assert problems(["--mix=hush", "--token", "hush"]) == (
        "'--mix': unknown flag; did you mean --min?",
        "'--token': unknown flag; loadband --help lists them all",
    )


def test_flags_are_not_abbreviated() -> None:
    assert problems(["--interv", "1s"]) == ("'--interv': unknown flag; did you mean --interval?",)


def test_a_value_for_a_switch_is_refused_in_the_same_form() -> None:
    (line,) = problems(["--check=yes"])
    assert "--check" in line
    assert "'yes'" in line
    assert line.endswith("loadband --help explains the flags")


def test_an_unknown_variable_warns_with_the_nearest_known_one_and_no_value() -> None:
    result = loaded([], {"LOADBAND_MAXX": "hush", "LOADBAND_ZZ": "hush", "loadband_min": "1", "LOADBANDMIN": "1"})
    assert result.warnings == (
        "'LOADBAND_MAXX': unknown variable, ignored; did you mean LOADBAND_MAX?",
        "'LOADBAND_ZZ': unknown variable, ignored; loadband --help lists them all",
    )


def test_what_kubernetes_injects_for_a_service_of_our_name_is_ignored() -> None:
    result = loaded(
        [],
        {
            "LOADBAND_PORT": "tcp://10.96.0.7:10670",
            "LOADBAND_PORT_10670_TCP": "tcp://10.96.0.7:10670",
            "LOADBAND_PORT_10670_TCP_ADDR": "10.96.0.7",
            "LOADBAND_PORT_10670_TCP_PORT": "10670",
            "LOADBAND_PORT_10670_TCP_PROTO": "tcp",
            "LOADBAND_SERVICE_HOST": "10.96.0.7",
            "LOADBAND_SERVICE_PORT": "10670",
            "LOADBAND_SERVICE_PORT_METRICS": "10670",
        },
    )
    assert result == loaded()


def test_settings_without_effect_warn_where_they_were_given() -> None:
    assert loaded(["--sleep-ms", "5"], {"LOADBAND_STEP": "2", "LOADBAND_ON_END": "idle"}).warnings == (
        "LOADBAND_STEP='2': has no effect, it is for CONTROLLER=step only",
        "--sleep-ms='5': has no effect, it is for CONTROLLER=step only",
        "LOADBAND_ON_END='idle': has no effect, it needs a DURATION",
    )
    effective = {
        "LOADBAND_STEP": "2",
        "LOADBAND_CONTROLLER": "step",
        "LOADBAND_ON_END": "idle",
        "LOADBAND_DURATION": "1s",
    }
    assert loaded([], effective).warnings == ()


@pytest.mark.parametrize(
    ("argv", "asked"),
    [(["--help"], Asked.HELP), (["-h", "--bogus"], Asked.HELP), (["--version", "--min", "x"], Asked.VERSION)],
)
def test_help_and_version_are_given_whatever_the_settings_are(argv: list[str], asked: Asked) -> None:
    with mock.patch.dict(os.environ, LOADBAND_MAX="x"):
        assert load(argv) is asked


def test_help_names_every_setting_with_its_range_default_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    text = " ".join(help_text().split())
    for d in DECLARATIONS:
        told = f"{d.flag} {d.parser.metavar} {d.help} {d.variable}: {d.parser.allowed}; default {d.shown_default}."
        assert text.count(told) == 1
    for part in ("usage: loadband", "MIN MAX WORKERS STEP SLEEP_MS", "exit codes:", "128+n", "examples:", "--check"):
        assert part in text


def test_check_lists_the_effective_settings_and_where_each_came_from() -> None:
    result = loaded(["--check", "--max", "80%"], {"LOADBAND_NICE": "5"})
    assert result.check
    lines = dict(line.split(maxsplit=1) for line in result.check_text().splitlines())
    assert list(lines) == [d.variable for d in DECLARATIONS]
    assert lines["LOADBAND_MAX"].split(maxsplit=1) == ["80%", "flag"]
    assert lines["LOADBAND_NICE"].split(maxsplit=1) == ["5", "environment variable"]
    assert lines["LOADBAND_WORKERS"].split(maxsplit=1) == ["ceil(reach)", "default"]


@pytest.mark.parametrize("text", ["0.0.0.0:10670", "[::]:10670", "[::1]:0", "localhost:1"])
def test_listen_reads_back_as_it_was_written(text: str) -> None:
    assert str(loaded(["--listen", text]).settings.listen) == text


TOKEN = "0123456789-hush/hush=="
ALLOWED_TOKEN = BY_NAME["CONTROL_TOKEN"].parser.allowed


@pytest.mark.parametrize("text", ['"60"', "'60'", '""', '"'])
def test_quotes_that_were_kept_are_named(text: str) -> None:
    (problem,) = problems(environ={"LOADBAND_MIN": text})
    assert problem.startswith(f"LOADBAND_MIN={text!r}: must be 0..100 (percent), written as 60 or 60%")
    assert ("; leave out the quotes around it" in problem) == (len(text) > 1)


def test_quotes_around_the_name_of_a_file_are_named_too() -> None:
    (problem,) = problems([], {"LOADBAND_CONTROL_TOKEN_FILE": "'/nowhere'"})
    assert problem.startswith("LOADBAND_CONTROL_TOKEN_FILE=\"'/nowhere'\": cannot be read: No such file or directory")
    assert problem.endswith("; leave out the quotes around it, which docker's --env-file keeps")


def test_a_byte_order_mark_before_a_secret_is_no_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"\ufeff{TOKEN}\n")
    assert loaded(["--control-token-file", str(file)]).settings.control_token == TOKEN


def test_a_secret_comes_from_its_variable_or_a_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    for result, origin in (
        (loaded([], {"LOADBAND_CONTROL_TOKEN": TOKEN}), Origin.VARIABLE),
        (loaded([], {"LOADBAND_CONTROL_TOKEN_FILE": str(file)}), Origin.FILE),
        (loaded(["--control-token-file", str(file)]), Origin.FILE),
        (loaded(["--control-token-file", str(file)], {"LOADBAND_CONTROL_TOKEN": "overridden"}), Origin.FILE),
        (loaded(["--control-token-file", str(file)], {"LOADBAND_CONTROL_TOKEN_FILE": "/overridden"}), Origin.FILE),
    ):
        assert result.settings.control_token == TOKEN
        assert origins(result)["CONTROL_TOKEN"] is origin
        assert "(secret)" in result.check_text()
        assert "hush" not in result.check_text() + repr(result.settings)
        assert result.warnings == ()


def test_a_bad_secret_is_told_by_its_place_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("token")
    file.write_text("hush hush hush hush")
    told = (f"LOADBAND_CONTROL_TOKEN_FILE={str(file)!r}: must be {ALLOWED_TOKEN}",)
    assert problems([], {"LOADBAND_CONTROL_TOKEN": "hush"}) == (
        f"LOADBAND_CONTROL_TOKEN='(secret)': must be {ALLOWED_TOKEN}",
    )
    assert problems([], {"LOADBAND_CONTROL_TOKEN_FILE": str(file)}) == told
    file.write_text("")
    assert problems([], {"LOADBAND_CONTROL_TOKEN_FILE": str(file)}) == told
    file.write_bytes(b"\xff" * 20)
    assert problems([f"--control-token-file={file}"]) == (
        f"--control-token-file={str(file)!r}: cannot be read as text",
    )
    assert problems(["--control-token-file=/nowhere"]) == (
        "--control-token-file='/nowhere': cannot be read: No such file or directory",
    )


def test_a_secret_and_a_file_for_it_are_refused_together() -> None:
    named = {"LOADBAND_CONTROL_TOKEN": TOKEN, "LOADBAND_CONTROL_TOKEN_FILE": "token"}
    assert problems([], named) == (
        "LOADBAND_CONTROL_TOKEN_FILE='token' with LOADBAND_CONTROL_TOKEN='(secret)': give one of the two",
    )


def test_a_secret_has_no_flag_that_holds_it() -> None:
    assert problems([f"--control-token={TOKEN}"]) == (
        "'--control-token': unknown flag; did you mean --control-token-file?",
    )
    (line,) = problems(["--control-token-file"])
    assert line == "--control-token-file: has no value; must be the name of a file"


def test_a_client_finds_the_secret_in_the_same_places(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)

    def find(file: str | None, environ: dict[str, str]) -> str | None:
        with mock.patch.dict(os.environ, environ, clear=True):
            return settings.secret("CONTROL_TOKEN", "--token-file", file)

    assert find(None, {}) is None
    assert find(str(file), {}) == find(None, {"LOADBAND_CONTROL_TOKEN_FILE": str(file)}) == TOKEN
    assert find(str(file), {"LOADBAND_CONTROL_TOKEN": "another"}) == TOKEN
    with pytest.raises(SettingsError, match="--token-file='/nowhere': cannot be read"):
        find("/nowhere", {})


def test_a_profile_goes_before_a_band_that_was_given() -> None:
    result = loaded(["--profile", "day.toml", "--min", "10"])
    assert result.settings.profile == Path("day.toml")
    assert result.warnings == ("--min='10': has no effect, PROFILE says what the band is",)


def test_a_latch_is_refused_beside_a_profile() -> None:
    assert problems(["--profile", "day.toml", "--latch", "30s"]) == (
        "--latch='30s' with --profile='day.toml': a latch is a load of one size; give one of the two",
    )


def test_a_control_listener_without_a_token_warns() -> None:
    assert loaded(["--control-listen", "localhost:1"]).warnings == (
        "--control-listen='localhost:1': has no effect, it needs a CONTROL_TOKEN",
    )


def test_a_fixed_effort_has_no_band() -> None:
    assert loaded(["--effort", "250m"]).settings.setpoint == Setpoint(None, effort=0.25)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"LOADBAND_EFFORT": "1", "LOADBAND_MIN": "40"}, "LOADBAND_MIN='40'"),
        ({"LOADBAND_EFFORT": "1", "LOADBAND_MAX": "80%"}, "LOADBAND_MAX='80%'"),
        ({"LOADBAND_EFFORT": "1", "LOADBAND_LATCH": "30s"}, "LOADBAND_LATCH='30s'"),
        ({"LOADBAND_EFFORT": "1", "LOADBAND_PROFILE": "x.toml"}, "LOADBAND_PROFILE='x.toml'"),
        ({"LOADBAND_EFFORT": "1", "LOADBAND_MAX_EFFORT": "500m"}, "EFFORT must be at most MAX_EFFORT"),
    ],
)
def test_a_fixed_effort_is_refused_beside_what_it_contradicts(environ: dict[str, str], named: str) -> None:
    (problem,) = problems([], environ)
    assert problem.startswith("LOADBAND_EFFORT='1' with ")
    assert named in problem
