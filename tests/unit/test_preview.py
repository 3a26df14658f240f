"""`loadband profile FILE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadband import preview

PROFILE = """\
name = "working [b]day[/b]"
at_end = "loop"
start = 2026-01-01T00:00:00+01:00
[[phase]]
name = "up"
kind = "ramp"
from = 20
to = 80
duration = "90s"
[[phase]]
kind = "step"
to = 20
steps = 4
width = 4
duration = "26h"
[[phase]]
kind = "sine"
low = 20
high = 80
period = "1.5s"
duration = "3s"
[[phase]]
kind = "replay"
file = "load.csv"
unit = "percent"
"""


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "day.toml").write_text(PROFILE)
    (tmp_path / "load.csv").write_text("0,20\n3600,50\n7200,20\n")
    assert preview.main([str(tmp_path / "day.toml")]) == 0
    return capsys.readouterr().out.splitlines()


def test_it_says_what_each_phase_will_do(shown: list[str]) -> None:
    assert shown[0] == ("working [b]day[/b]: 1 day, 4:01:33, from 2025-12-31T23:00:00Z, then begins again")
    cells = [line.split("  ") for line in shown[2:6]]
    assert [[cell.strip() for cell in line if cell.strip()] for line in cells] == [
        ["0:00:00", "0:01:30", "up", "ramp", "20 % to 80 %", "10"],
        ["0:01:30", "1 day, 2:00:00", "step 2", "step", "80 % to 20 % in 4 steps", "4"],
        ["1 day, 2:01:30", "0:00:03", "sine 3", "sine", "20 % to 80 % and back, 2 times", "10"],
        ["1 day, 2:01:33", "2:00:00", "replay 4", "replay", "load.csv, 3 samples", "10"],
    ]


def test_it_draws_the_curve_within_the_width(shown: list[str]) -> None:
    plot = shown[6:]
    assert any("100┤" in line for line in plot)
    assert sum("\u2801" <= char <= "\u28ff" for line in plot for char in line) > 100
    assert max(map(len, shown)) <= 100


def test_a_bad_profile_is_told_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "day.toml"
    path.write_text(PROFILE)
    assert preview.main([str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (f"{path}:24: phase 4, file = 'load.csv': cannot be read: No such file or directory\n")


@pytest.mark.parametrize("words", [[], ["a", "b"]])
def test_it_wants_one_file(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        preview.main(words)
    assert caught.value.code == 2
