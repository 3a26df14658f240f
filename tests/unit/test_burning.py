"""The benchmark's count of what the burn calls of a process take."""

from __future__ import annotations

import threading
import time

import pytest
from program import wait_until

from bench import burning


def test_a_burn_call_counts_while_it_goes_on_and_once_when_it_has_ended() -> None:
    ended: list[float] = []

    def burn() -> None:
        before = time.thread_time()
        burning.counted("sha256", b"", b"", 3_000_000)
        ended.append(time.thread_time() - before)

    assert burning.going_on() == 0
    thread = threading.Thread(target=burn)
    thread.start()
    wait_until(lambda: burning.going_on() > 0.02 or bool(ended))
    assert not ended, "the call was to last longer"
    assert not burning.burnt
    thread.join()
    assert burning.going_on() == 0
    assert sum(burning.burnt.values()) == pytest.approx(ended[0], abs=0.001)
