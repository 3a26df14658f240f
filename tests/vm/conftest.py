"""What the tests of the machine image need to be there, and the line that each prints."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Protocol

import pytest
from vm.bands import GOOD, user_data
from vm.machine import FIRMWARE, QEMU, Disks, find_accelerator, make_disks, write_seed


class Said(Protocol):
    """Prints what was asked and what was measured; raises nothing."""

    def __call__(self, what: str, asked: str, measured: str) -> None: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "vm" in item.path.parts:
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="module")
def disks(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Disks:
    """A new machine's."""
    return make_disks(tmp_path_factory.mktemp("disks"), image)


@pytest.fixture(scope="session")
def image() -> Path:
    """That of VM_IMAGE, where there is all that it takes to boot it."""
    if "VM_IMAGE" not in os.environ:
        pytest.skip("VM_IMAGE is not set: which image?")
    for tool in (QEMU, "qemu-img", "xorriso", "setpriv"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if not FIRMWARE.exists():
        pytest.skip("the UEFI firmware (ovmf) is not installed")
    return Path(os.environ["VM_IMAGE"])


@pytest.fixture(scope="session")
def accelerator(image: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("probe")
    disks = make_disks(directory, image)
    write_seed(disks.seed, "probe", user_data(GOOD))
    return find_accelerator(directory / "kvm", disks)


@pytest.fixture
def said() -> Said:
    began = time.monotonic()

    def say(what: str, asked: str, measured: str) -> None:
        print(f"\n{what}: asked {asked}; measured {measured}; {time.monotonic() - began:.0f} s")

    return say
