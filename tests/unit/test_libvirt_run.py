"""What `loadband rebalance run --platform libvirt` refuses, and what it shows before it does anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulated_libvirt import Simulation

from loadband.exits import Exit
from loadband.rebalance import scenario_file, shipped
from loadband.rebalance.access import Access
from loadband.rebalance.api import Endpoint
from loadband.rebalance.platforms.libvirt import binding, daemons
from loadband.rebalance.run_command import _session, run, run_parser
from loadband.rebalance.session import Session, Virtual

A, B = "qemu+ssh://a/system", "qemu+ssh://b/system"
LIBVIRT = ["hot-host", "--platform", "libvirt", "--rebalancer", "mover"]
SERVER = ["--prometheus", "http://127.0.0.1:9"]


def at_once(_: float) -> bool:
    return False


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> Simulation:
    library = Simulation(A, B)
    monkeypatch.setattr(binding, "load", lambda: library)
    return library


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", f"a={A}", "--host", f"b={B}"], "--host needs --prometheus"),
        (["--host", f"a={A}", *SERVER], "hot-host needs 2 hosts, each named by --host NAME=URI"),
        (["--host", f"a={A}", "--host", f"a={B}", *SERVER], "--host: each name and each URI may be given once"),
        (["--host", f"a={A}", "--host", f"b={A}", *SERVER], "--host: each name and each URI may be given once"),
        (["--host", f"a={A}", "--host", "b=qemu+ssh://c/system", *SERVER], "--host b=qemu+ssh://c/system: can't be "),
        (["--guest", "web-*"], "--guest needs --host"),
        (SERVER, "--prometheus: the hosts of the platform libvirt are CPUs of this machine"),
    ],
)
def test_hosts_that_do_not_suit_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*LIBVIRT, "--out", str(tmp_path / "out"), *words], at_once) == Exit.BAD_INPUT
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("host", ["a", "=x", "a="])
def test_a_host_without_a_name_or_a_uri_is_refused(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run([*LIBVIRT, "--host", host], at_once)
    assert ended.value.code == Exit.BAD_INPUT
    assert "must be NAME=URI, as in host-1=qemu+ssh://host-1/system" in capsys.readouterr().err


def test_without_qemu_or_libvirt_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(LIBVIRT, at_once) == Exit.BAD_INPUT
    assert "apt install qemu-system-x86" in capsys.readouterr().err
    (tmp_path / "qemu-system-x86_64").touch(0o755)
    monkeypatch.setattr(daemons, "SYSTEM_FOLDERS", ())
    assert run(LIBVIRT, at_once) == Exit.BAD_INPUT
    assert "apt install libvirt-daemon libvirt-daemon-driver-qemu" in capsys.readouterr().err


def test_hosts_that_are_named_are_used_with_the_server_that_watches_them(simulated: Simulation) -> None:
    hot_host = scenario_file.parse((shipped.path("scenarios") / "hot-host.toml").read_text(), "hot-host")
    asked = Session(
        scenario=hot_host,
        platform="libvirt",
        rebalancer="mover",
        virtual=Virtual(uris={"a": A, "b": B}, pool="images"),
        repeats=1,
        seed=0,
        out=Path(),
        existing=Access(Endpoint("http://127.0.0.1:9")),
    )
    platform = asked.new_platform()
    assert [(one.name, one.cpus) for one in platform.hosts()] == [("a", 2.0), ("b", 2.0)]
    assert platform.describe().settings["pool"] == "images"
    assert platform.close() == []
    assert [one.closed for one in simulated.daemons.values()] == [True, True]


def test_without_hosts_the_lab_is_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in ("qemu-system-x86_64", "libvirtd"):
        (tmp_path / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    hot_host = scenario_file.parse((shipped.path("scenarios") / "hot-host.toml").read_text(), "hot-host")
    asked = Session(scenario=hot_host, platform="libvirt", rebalancer="mover", repeats=1, seed=0, out=Path())
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    platform = asked.new_platform()
    assert [(one.name, one.cpus) for one in platform.hosts()] == [("host-1", 1), ("host-2", 1)]
    assert platform.describe().settings["host-2"] == "CPU 1"


def test_how_guests_migrate_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = ["--host", f"a={A}", "--host", f"b={B}", *SERVER]
    with pytest.raises(SystemExit):
        run([*LIBVIRT, *hosts, "--migration", "teleport"], at_once)
    assert "--migration: invalid choice: 'teleport'" in capsys.readouterr().err
    asked = run_parser().parse_args([*LIBVIRT, *hosts, "--migration", "post-copy"])
    assert _session(asked).new_platform().describe().settings["migration"] == "post-copy"
