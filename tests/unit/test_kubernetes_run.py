"""What `loadband rebalance run --platform kubernetes` refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loadband.exits import Exit
from loadband.rebalance import shipped
from loadband.rebalance.run_command import run


def at_once(_: float) -> bool:
    return False


KUBERNETES = ["--platform", "kubernetes", "--rebalancer", "mover"]


def test_an_image_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hot-host", *KUBERNETES], at_once) == Exit.BAD_INPUT
    assert "the platform kubernetes needs --image" in capsys.readouterr().err


def test_without_lightkube_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "loadband.rebalance.platforms.kubernetes.api", None)
    assert run(["hot-host", *KUBERNETES, "--image", "x"], at_once) == Exit.BAD_INPUT
    assert "Kubernetes needs an extra: pip install 'loadband[kubernetes]'" in capsys.readouterr().err


def test_moves_that_have_to_fail_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "failing.toml"
    scenario.write_text("fail_moves = 1\n" + (shipped.path("scenarios") / "hot-host.toml").read_text())
    assert run([str(scenario), *KUBERNETES, "--image", "x"], at_once) == Exit.BAD_INPUT
    assert "the platform kubernetes can't let moves fail" in capsys.readouterr().err


def test_without_a_cluster_it_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    assert run(["hot-host", *KUBERNETES, "--image", "x"], at_once) == Exit.BAD_INPUT
    assert "there is no cluster: set KUBECONFIG" in capsys.readouterr().err


@pytest.mark.parametrize("cpus", ["0", "-1", "nan", "inf", "two"])
def test_a_number_of_cpus_that_is_none_is_refused(cpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["hot-host", *KUBERNETES, "--image", "x", f"--node-cpus={cpus}"], at_once)
    assert ended.value.code == Exit.BAD_INPUT
    assert "must be a number of CPUs above 0" in capsys.readouterr().err
