"""Control groups of this machine, for tests with limits."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def quota_group(quota_us: int) -> Iterator[Path]:
    """A control group of v1 with a quota, in the hierarchies of cpu and cpuacct; gives the former."""
    hierarchies = [Path("/sys/fs/cgroup", controller) for controller in ("cpu", "cpuacct")]
    if not all(os.access(hierarchy / "cgroup.procs", os.W_OK) for hierarchy in hierarchies):
        pytest.skip("needs root and cgroup v1 with cpu and cpuacct")
    groups = [hierarchy / f"loadband-test-{os.getpid()}" for hierarchy in hierarchies]
    # Where both are one hierarchy, the second path is the first group.
    for group in groups:
        group.mkdir(exist_ok=True)
    try:
        (groups[0] / "cpu.cfs_quota_us").write_text(str(quota_us))
        yield groups[0]
    finally:
        deadline = time.monotonic() + 10
        while any(group.exists() for group in groups) and time.monotonic() < deadline:
            for group in groups:
                with suppress(OSError):  # busy until the kernel has put its last process away
                    group.rmdir()
