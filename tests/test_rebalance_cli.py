"""`loadband rebalance`: its commands, and what they say of scenarios."""

from __future__ import annotations

import builtins
import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from program import run

from loadband import cli
from loadband.exits import Exit
from loadband.rebalance import shipped
from loadband.rebalance.cli import COMMANDS, main


def test_help_lists_every_command_and_each_has_a_help_of_its_own() -> None:
    said = run("rebalance", "--help")
    assert said.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in said.stdout
        inside = run("rebalance", name, "--help")
        assert (inside.returncode, inside.stderr) == (0, "")
        assert inside.stdout.startswith(f"usage: loadband rebalance {name} ")


def test_an_unknown_command_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chek"]) == Exit.BAD_INPUT
    assert capsys.readouterr().err.startswith("loadband rebalance: unknown command 'chek'; there are check, ")


@pytest.mark.parametrize("name", sorted(file.stem for file in shipped.path("scenarios").glob("*.toml")))
def test_check_shows_the_plan_of_each_shipped_scenario(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name]) == Exit.OK
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: ")
    for word in ("from the start", "overload + 0 s", "expected", "host-1", "100┤"):
        assert word in said


def test_check_refuses_a_bad_scenario_with_all_its_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('hot = "200%"\nthetta = 1\n')
    assert main(["check", str(file)]) == Exit.BAD_INPUT
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
    assert main(["check", name]) == Exit.BAD_INPUT
    assert said in capsys.readouterr().err


def test_schema_prints_schemas_that_hold(capsys: pytest.CaptureFixture[str]) -> None:
    for what in ("scenario", "recording"):
        assert main(["schema", what]) == Exit.OK
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
    assert cli._aside(["rebalance", "check", "hot-host"]) == Exit.BAD_INPUT
    said = "loadband: rebalance needs yaml, which isn't installed: pip install 'loadband[rebalance]'\n"
    assert capsys.readouterr().err == said
