"""What the workers burn, by the process's own CPU clock."""

from __future__ import annotations

import time

import pytest
from program import wait_until

from loadband.quantities import Command
from loadband.workers import Workers

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize(("count", "effort"), [(2, 0.2), (2, 1.3), (16, 1.0)])
def test_effort_is_kept_by_the_process_cpu_clock(count: int, effort: float) -> None:
    workers = Workers(lease=1.0)
    try:
        workers.apply(Command(count, effort))
        wait_until(lambda: workers.alive == count)
        time.sleep(0.5)
        began, spent = time.monotonic(), time.process_time()
        while time.monotonic() - began < 3:
            workers.apply(Command(count, effort))
            time.sleep(0.05)
        measured = (time.process_time() - spent) / (time.monotonic() - began)
    finally:
        workers.close()
    assert measured == pytest.approx(effort, rel=0.05, abs=0.03)
