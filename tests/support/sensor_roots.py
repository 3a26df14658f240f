"""Trees of files in the place of `/`, for the sensor's tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

RECORDED = Path(__file__).parent / "recorded"


def copy(name: str, to: Path, stat: str | None = None) -> Path:
    """A copy of a recorded tree that a test may change, on request with another /proc/stat."""
    root = shutil.copytree(RECORDED / name, to / name)
    if stat:
        shutil.copyfile(RECORDED / "proc_stat" / stat, root / "proc/stat")
    return root


def allow_cpus(monkeypatch: pytest.MonkeyPatch, *cpus: int) -> None:
    """Let the kernel say that we may use these CPUs: no file holds that."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cpus))
