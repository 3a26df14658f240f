"""Whatever clients do to the server, the loop goes on, and each answer is of one cycle."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from bad_clients import BAD_CLIENTS, misbehave
from faulty import Run, running
from program import get, metric, wait_until

from loadband.regulator import CALM_INTERVAL

pytestmark = pytest.mark.cpu

SECONDS = 8.0


@contextmanager
def bad_clients(count: int, address: str) -> Iterator[None]:
    stop = threading.Event()
    clients = [
        threading.Thread(target=misbehave, args=(BAD_CLIENTS[number % len(BAD_CLIENTS)], address, stop))
        for number in range(count)
    ]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        stop.set()
        for client in clients:
            client.join()


def resources(run: Run) -> tuple[int, int]:
    """Descriptors and threads; the fewest that are seen in a second.

    The server hangs up a moment after a client has its answer, so a look right after that finds one descriptor more.
    """
    process, until = psutil.Process(run.pid), time.monotonic() + 1
    looks = []
    while time.monotonic() < until:
        looks.append((process.num_fds(), process.num_threads()))
        time.sleep(0.02)
    descriptors, threads = zip(*looks, strict=True)
    return min(descriptors), min(threads)


def test_a_hundred_bad_clients_cost_no_cycle_and_no_memory_and_no_probe() -> None:
    with running("holding") as run:
        for _ in range(200):
            run.metrics()
        before = resources(run)  # only now is all there that it ever loads
        memory = psutil.Process(run.pid).memory_info().rss
        calm = run.metrics()
        began, answers = time.monotonic(), []
        with bad_clients(100, f"http://127.0.0.1:{run.port}"):
            while time.monotonic() < began + SECONDS:
                asked = time.monotonic()
                assert "runs" in get(run.port, "/healthz", timeout=1)
                answers.append(time.monotonic() - asked)
                time.sleep(0.05)
            stormy, took = run.metrics(), time.monotonic() - began
        wait_until(lambda: resources(run) == before, 15, "that descriptors and threads are as many as before")
        grown = psutil.Process(run.pid).memory_info().rss - memory
        run.process.terminate()
        assert run.wait_until_gone() == 0
        assert run.process.stdout
        assert run.process.stderr
        said = run.process.stdout.read() + run.process.stderr.read()

    cycles, overruns = (
        metric(stormy, name) - metric(calm, name) for name in ("loadband_cycles_total", "loadband_cycle_overruns_total")
    )
    print(
        f"in {took:.1f} s: {cycles:.0f} cycles, {overruns:.0f} overruns; "
        f"/healthz at most {1000 * max(answers):.0f} ms; memory {grown / 2**20:+.1f} MiB"
    )
    assert overruns == 0
    assert cycles >= took / CALM_INTERVAL - 2
    assert max(answers) < 1
    assert grown < 8 << 20
    assert b"Traceback" not in said
    assert b"level=error" not in said


def own_lines(text: str) -> str:
    """All that is said of the loop; the client library's own collectors are of the moment of the scrape."""
    return "".join(re.findall(r"^loadband_.*\n", text, re.MULTILINE))


def test_a_scrape_never_mixes_two_cycles_of_the_running_loop() -> None:
    seen: dict[float, set[str]] = {}
    lock = threading.Lock()

    def scrape(run: Run, until: float) -> None:
        while time.monotonic() < until:
            text = own_lines(run.metrics())
            with lock:
                seen.setdefault(metric(text, "loadband_cycles_total"), set()).add(text)

    with running("holding", INTERVAL="50ms") as run:
        until = time.monotonic() + 5
        scrapers = [threading.Thread(target=scrape, args=(run, until)) for _ in range(8)]
        for scraper in scrapers:
            scraper.start()
        for scraper in scrapers:
            scraper.join()
    modes = ("own", "other", "steal", "idle")
    spent = 0.0
    for cycles, texts in sorted(seen.items()):
        assert len(texts) == 1, f"cycle {cycles:.0f} was told in {len(texts)} ways"
        (text,) = texts
        ratios = [metric(text, f'loadband_cpu_ratio{{mode="{mode}",scope="host"}}') for mode in modes]
        assert sum(ratios) == pytest.approx(1, abs=1e-9)
        utilization = metric(text, 'loadband_cpu_utilization_ratio{scope="host"}')
        assert utilization == pytest.approx(ratios[0] + ratios[1], abs=1e-9)
        inside = metric(text, "loadband_band_min_ratio") <= utilization <= metric(text, "loadband_band_max_ratio")
        assert metric(text, "loadband_in_band") == inside
        assert metric(text, "loadband_cycle_duration_seconds_count") == cycles
        assert sum(float(value) for value in re.findall(r"^loadband_state\{.*\} (\S+)$", text, re.MULTILINE)) == 1
        before = spent
        spent = sum(metric(text, f'loadband_cpu_seconds_total{{mode="{mode}",scope="host"}}') for mode in modes)
        assert spent > before
    assert len(seen) > 50, "the loop went on while it was scraped"
