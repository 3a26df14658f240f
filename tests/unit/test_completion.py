"""Shell completion and the man page: each shell accepts its script, and both know what the parsers know."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from program import run

from loadband.completion import SHELLS, script
from loadband.rebalance.cli import COMMANDS, parsers
from loadband.settings import DECLARATIONS

ROOT = Path(__file__).parents[2]
SYNTAX = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}
ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"
"$(complete -p loadband | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does when someone presses the tab key after these words; `complete -p` says which function it asks."""


def completed(tmp_path: Path, line: str) -> set[str]:
    """What bash offers at the end of a line; its last word is the one that is being typed."""
    (tmp_path / "completion.bash").write_text(script("bash"))
    words = ["bash", "--norc", "-c", ASK, "bash", "completion.bash", *shlex.split(line)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_accepts_its_script_and_refuses_half_of_it(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} isn't installed")
    text = run("completion", shell).stdout
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.write_text(text)
    half.write_text(text + '\nif "')
    codes = [
        subprocess.run([*SYNTAX[shell], file], capture_output=True, check=False).returncode for file in (whole, half)
    ]
    assert codes[0] == 0
    assert codes[1] != 0


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_every_flag_and_command(shell: str) -> None:
    text = script(shell)
    flags = [d.flag for d in DECLARATIONS] + ["--check", "--token-file", "--dry-run"]
    form = "-l {} " if shell == "fish" else "--{}"
    assert [flag for flag in flags if form.format(flag[2:]) not in text] == []
    assert [name for name in COMMANDS if name not in text] == []


def test_bash_completes_flags_words_commands_and_files(tmp_path: Path) -> None:
    (tmp_path / "day.toml").touch()
    assert completed(tmp_path, "loadband --max") == {"--max", "--max-effort"}
    assert completed(tmp_path, "loadband --scope ''") == {"host", "cpuset", "container"}
    assert completed(tmp_path, "loadband reb") == {"rebalance"}
    assert completed(tmp_path, "loadband rebalance re") == {"record", "report"}
    assert completed(tmp_path, "loadband rebalance run --platform lo") == {"local"}
    assert completed(tmp_path, "loadband completion z") == {"zsh"}
    assert completed(tmp_path, "loadband profile d") == {"day.toml"}
    assert completed(tmp_path, "loadband --no-such") == set()


def test_each_command_of_rebalance_has_a_parser_of_its_own_name() -> None:
    for name, parser in parsers().items():
        assert parser is not None
        assert parser.prog == f"loadband rebalance {name}"


def without(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run loadband where a library isn't installed."""
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {words!r}\n"
        "from loadband.__main__ import main; sys.exit(main())"
    )
    return run(command=(sys.executable, "-c", code))


def test_without_shtab_it_says_what_to_install() -> None:
    done = without("shtab", "completion", "bash")
    assert (done.returncode, done.stdout) == (2, "")
    said = "loadband: completion needs shtab, which isn't installed: pip install 'loadband[completion]'\n"
    assert done.stderr == said


def test_without_the_rebalance_extra_its_commands_are_completed_by_name_alone() -> None:
    done = without("yaml", "completion", "bash")
    assert done.returncode == 0
    assert "--token-file" in done.stdout
    assert "--dry-run" not in done.stdout
    assert "compare" in done.stdout


@pytest.mark.parametrize("words", [(), ("tcsh",), ("bash", "zsh")])
def test_what_is_not_one_shell_is_bad_input(words: tuple[str, ...]) -> None:
    done = run("completion", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "loadband completion: error: " in done.stderr


def test_the_man_page_says_what_the_commands_say_of_themselves() -> None:
    tool = Path(sys.executable).with_name("argparse-manpage")
    whole = ["--module", "loadband.completion", "--function", "whole", "--prog", "loadband"]
    form = ["--format", "single-commands-section"]
    done = subprocess.run([tool, *whole, *form], capture_output=True, text=True, timeout=30, check=True)
    page = (ROOT / "docs" / "loadband.1").read_text()
    made, kept = (text.partition(".SH SYNOPSIS")[2].split() for text in (done.stdout, page))
    assert len(made) > 1000
    assert kept == made, "make man writes it again"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert page.startswith(f'.TH LOADBAND "1" "" "loadband {version}"')
