"""The script that the pod of `helm test` runs, against a Service of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from chart import CHART, only, render

SERIES = """\
process_start_time_seconds {start}
loadband_state{{state="{state}"}} 1
loadband_state{{state="another"}} 0
loadband_cpu_utilization_ratio{{scope="host"}} 0.65
loadband_cpu_ratio{{mode="own",scope="host"}} {own}
loadband_cpu_ratio{{mode="other",scope="host"}} 0.1
loadband_capacity_cpus{{scope="host"}} 2
loadband_in_band {in_band}
loadband_latched_effort_cpus 0.2
loadband_reach_cpus 0.2
"""


@contextmanager
def service(*answers: str) -> Iterator[int]:
    """The port of a Service that gives these answers in turn."""
    asked = iter(range(1_000_000))

    class Pods(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(answers[next(asked) % len(answers)].encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Pods) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def held(port: int, kind: str = "Deployment", pods: int = 1, seconds: float = 0) -> subprocess.CompletedProcess[str]:
    """Run the script as the chart does, with less patience."""
    (container,) = only(render({"kind": kind, "replicas": pods, "allNodes": True}), "Pod")["spec"]["containers"]
    script, *arguments = container["args"]
    assert script == (CHART / "test/held.py").read_text()
    script = script.replace("SECONDS = 60\n", f"SECONDS = {seconds}\n")
    environment = {"ONE_LOADBAND_SERVICE_HOST": "127.0.0.1", "ONE_LOADBAND_SERVICE_PORT": str(port)}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("kind", "state", "own", "in_band", "good"),
    [
        ("Deployment", "holding", 0.1, 1, True),
        ("Deployment", "settling", 0.1, 0, False),
        ("Deployment", "yielding", 0.0, 0, False),
        ("Deployment", "expired", 0.0, 1, False),
        # A slice is asked for its ceiling, not for the band alone.
        ("Deployment", "saturated", 0.1, 0, True),
        ("Deployment", "saturated", 0.05, 0, False),
        ("DaemonSet", "saturated", 0.1, 0, False),
        # A latched or fixed load is asked for its effort, wherever the band is.
        ("Deployment", "latched", 0.1, 0, True),
        ("Deployment", "latched", 0.05, 1, False),
    ],
)
def test_each_state(kind: str, state: str, own: float, in_band: int, *, good: bool) -> None:
    with service(SERIES.format(start=1, state=state, own=own, in_band=in_band)) as port:
        done = held(port, kind)
    assert done.returncode == (0 if good else 1)
    assert done.stdout == f"{'ok  ' if good else 'FAIL'} {state}: utilization 65.0 %, {2 * own:.3f} CPUs burned\n"


def test_the_programs_own_words_are_understood() -> None:
    golden = (Path(__file__).parent / "exposition.txt").read_text()
    with service(f"{golden}process_start_time_seconds 1\n") as port:
        done = held(port)
    assert (done.returncode, done.stdout) == (0, "ok   holding: utilization 62.5 %, 2.000 CPUs burned\n")


def test_each_pod_is_asked() -> None:
    good = SERIES.format(start=1, state="holding", own=0.1, in_band=1)
    bad = SERIES.format(start=2, state="settling", own=0.1, in_band=0)
    with service(good, good, good, good, good, good, bad, good) as port:
        done = held(port, pods=2)
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["ok   holding", "FAIL settling"]


def test_it_waits_for_the_band() -> None:
    late = [SERIES.format(start=1, state="settling", own=0.1, in_band=0)] * 4
    with service(*late, SERIES.format(start=1, state="holding", own=0.1, in_band=1)) as port:
        assert held(port, seconds=20).returncode == 0


def test_nobody_answers() -> None:
    done = held(1)
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL http://127.0.0.1:1/metrics: ")


def test_no_reading_yet() -> None:
    with service('process_start_time_seconds 1\nloadband_state{state="settling"} 0\n') as port:
        done = held(port)
    assert (done.returncode, done.stdout) == (1, "FAIL starting: no reading\n")
