"""`loadband rebalance`: its commands, and what they say of scenarios."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from followed import ABOUT
from program import get, run
from recordings import CASES

from loadband import cli
from loadband.ending import Ending
from loadband.exits import Exit
from loadband.rebalance import shipped
from loadband.rebalance.cli import COMMANDS, main
from loadband.rebalance.events import EndReason
from loadband.rebalance.exporter import LOOPBACK, Exporter
from loadband.rebalance.recording import Writer
from loadband.rebalance.run import Result
from loadband.rebalance.session import Session


def test_help_lists_every_command_and_each_has_a_help_of_its_own() -> None:
    said = run("rebalance", "--help")
    assert said.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in said.stdout
        inside = run("rebalance", name, "--help")
        assert (inside.returncode, inside.stderr) == (0, "")
        assert inside.stdout.startswith(f"usage: loadband rebalance {name} ")


def test_an_unknown_command_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chek"], at_once) == Exit.BAD_INPUT
    assert capsys.readouterr().err.startswith("loadband rebalance: unknown command 'chek'; there are check, ")


def at_once(seconds: float) -> bool:
    raise AssertionError(f"nothing here waits, and somebody waited for {seconds} s")


@pytest.mark.parametrize("name", sorted(file.stem for file in shipped.path("scenarios").glob("*.toml")))
def test_check_shows_the_plan_of_each_shipped_scenario(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name], at_once) == Exit.OK
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: ")
    for word in ("from the start", "overload + 0 s", "expected", "host-1", "100┤"):
        assert word in said


def test_check_refuses_a_bad_scenario_with_all_its_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('hot = "200%"\nthetta = 1\n')
    assert main(["check", str(file)], at_once) == Exit.BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{file}:1: hot = '200%': must be 0.1..100 (percent)" in said.err
    assert f"{file}:2: the scenario: unknown key 'thetta'; did you mean theta?" in said.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "neither a file that ends in .toml nor a shipped scenario: blind, "),
        ("nothing.toml", "cannot be read: No such file"),
        (".", "neither a file that ends in .toml nor"),
    ],
)
def test_check_names_a_file_that_it_cannot_read(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name == ".":
        said = "it isn't a regular file"
    assert main(["check", name], at_once) == Exit.BAD_INPUT
    assert said in capsys.readouterr().err


def test_schema_prints_schemas_that_hold(capsys: pytest.CaptureFixture[str]) -> None:
    for what in ("scenario", "recording"):
        assert main(["schema", what], at_once) == Exit.OK
        schema = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator.check_schema(schema)
        if what == "scenario":
            text = (shipped.path("scenarios") / "hot-host.toml").read_text()
            jsonschema.validate(tomllib.loads(text), schema)


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "loadband.rebalance" or name.startswith("yaml"):
            raise ModuleNotFoundError("No module named 'yaml'", name="yaml")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert cli._aside(["rebalance", "check", "hot-host"], Ending()) == Exit.BAD_INPUT
    said = "loadband: rebalance needs yaml, which isn't installed: pip install 'loadband[rebalance]'\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hot-hots"], "hot-hots: neither a file that ends in .toml nor a shipped scenario"),
        (["hot-host", "--rebalancer", "planner"], 'the rebalancer planner needs --planner "PROGRAM ARGUMENTS"'),
        (
            ["hot-host", "--rebalancer", "planner", "--planner", "/nonexistent/x -v"],
            "the planner '/nonexistent/x' can't be found on PATH",
        ),
        (["hot-host", "--out", "OUT"], "OUT holds recordings already: give another --out"),
        pytest.param(
            ["hot-host", "--out", "OUT/recording-1.jsonl"],
            "recording-1.jsonl: can't be made: ",
            marks=pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus isn't installed"),
        ),
    ],
)
def test_run_refuses_what_it_cannot_run(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recording-1.jsonl").touch()
    assert main(["run", *(word.replace("OUT", str(tmp_path)) for word in words)], at_once) == Exit.BAD_INPUT
    assert said.replace("OUT", str(tmp_path)) in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--repeats", "0"], ["--rebalancer", "move"], ["--platform", "moon"], ["--listen", "moon"], []]
)
def test_run_refuses_bad_arguments(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", *(["hot-host"] if words else []), *words], at_once)
    assert ended.value.code == Exit.BAD_INPUT
    assert "loadband rebalance run: error: " in capsys.readouterr().err


def test_run_refuses_an_address_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with Exporter(LOOPBACK) as taken:
        assert main(["run", "hot-host", "--listen", taken.address], at_once) == Exit.BAD_INPUT
        said = f"loadband: --listen {taken.address}: cannot listen on {taken.address}: Address already in use\n"
        assert capsys.readouterr().err == said


def test_run_serves_metrics_until_its_verdict_has_been_scraped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = CASES["good"]()
    scraped: list[str] = []
    exporters: list[Exporter] = []

    def perform(session: Session, wait: Callable[[float], bool], _: object) -> list[Result]:
        """A run that is over at once."""
        assert session.exporter
        exporters.append(session.exporter)
        session.exporter.follow(ABOUT, recording.run.plan)
        wait(1)
        session.out.mkdir()
        with Writer(session.recording(1), recording.run) as writer:
            for event in recording.events:
                writer.write(event)
        return [Result(EndReason.COMPLETE, "", ())]

    def wait(_: float) -> bool:
        scraped.append(get(int(exporters[0].address.rpartition(":")[2]), "/metrics"))
        return False

    monkeypatch.setattr("loadband.rebalance.run_command.perform", perform)
    words = ["run", "hot-host", "--listen", "127.0.0.1:0", "--out", str(tmp_path / "out")]
    assert main(words, wait) == Exit.OK
    assert f"loadband: metrics at http://{exporters[0].address}/metrics\n" in capsys.readouterr().err
    during, after = scraped
    assert 'loadband_rebalance_verdict{verdict="PASS"} 0.0\n' in during
    assert 'loadband_rebalance_verdict{verdict="PASS"} 1.0\n' in after
    with pytest.raises(OSError, match="refused"):
        wait(1)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two CPUs are needed, one for each host")
def test_a_dry_run_shows_the_plan_and_what_takes_part_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["run", "hot-host", "--dry-run", "--rebalancer", "none", "--repeats", "3", "--out", str(out)]
    assert main(words, at_once) == Exit.OK
    said = " ".join(capsys.readouterr().out.split())
    for part in ("hot-host: ", "platform local, Linux", "host-1: CPU ", "rebalancer none (control)", "repeats 3"):
        assert part in said
    assert not out.exists()


def test_with_one_cpu_the_local_platform_refuses_clearly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert main(["run", "hot-host", "--out", str(tmp_path)], at_once) == Exit.BAD_INPUT
    assert "2 hosts need 2 CPUs, one each, and this process may use 1: give it more" in capsys.readouterr().err
