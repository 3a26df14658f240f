"""The binding of libvirt, without libvirt."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest

from loadband.exits import Exit
from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.libvirt import binding
from loadband.rebalance.run_command import run


def test_without_the_binding_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(PlatformError, match=r"pip install 'loadband\[libvirt\]'"):
        binding.load()
    assert run(["hot-host", "--platform", "libvirt"], lambda _: False) == Exit.BAD_INPUT
    assert "libvirt's Python binding: pip install 'loadband[libvirt]'" in capsys.readouterr().err


def test_it_is_loaded_once_prints_nothing_and_handles_events(monkeypatch: pytest.MonkeyPatch) -> None:
    handled, registered = threading.Event(), []

    def turn() -> None:
        handled.set()
        threading.Event().wait()  # as the real one, if nothing happens; its thread ends with the process

    module = SimpleNamespace(
        registerErrorHandler=lambda handler, _: registered.append(handler),
        virEventRegisterDefaultImpl=lambda: registered.append("events"),
        virEventRunDefaultImpl=turn,
    )
    monkeypatch.setitem(sys.modules, "libvirt", module)
    monkeypatch.setattr(binding, "_LOADED", [])
    assert binding.load() is binding.load()
    assert handled.wait(5)
    handler, events = registered
    assert callable(handler)
    assert handler(None, ("an error",)) is None
    assert events == "events"


def test_an_error_says_of_what_kind_it_is() -> None:
    assert binding.code_of(Exception("of something else")) == 0
