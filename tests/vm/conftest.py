"""What the tests of the machine image need to be there, and the line that each prints."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Protocol

import pytest
from vm.machine import FIRMWARE, QEMU, Disks, find_accelerator, make_disks


class Said(Protocol):
    """Prints what was asked and what was measured; raises nothing."""

    def __call__(self, what: str, asked: str, measured: str) -> None: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "vm" in item.path.parts:
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    """A machine's, from the image of VM_IMAGE."""
    if "VM_IMAGE" not in os.environ:
        pytest.skip("VM_IMAGE is not set: which image?")
    for tool in (QEMU, "qemu-img", "xorriso"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if not FIRMWARE.exists():
        pytest.skip("the UEFI firmware (ovmf) is not installed")
    return make_disks(tmp_path_factory.mktemp("disks"), Path(os.environ["VM_IMAGE"]))


@pytest.fixture(scope="session")
def accelerator(disks: Disks, tmp_path_factory: pytest.TempPathFactory) -> str:
    return find_accelerator(tmp_path_factory.mktemp("probe") / "kvm", disks)


@pytest.fixture
def said() -> Said:
    began = time.monotonic()

    def say(what: str, asked: str, measured: str) -> None:
        print(f"\n{what}: asked {asked}; measured {measured}; {time.monotonic() - began:.0f} s")

    return say
