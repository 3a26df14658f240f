# ruff: noqa: INP001 - a script that the chart passes to a pod as text
"""The check that `helm test` runs: every regulator behind the Service answers and does what it was asked to.

Usage: held.py SERVICE PODS KIND, with SERVICE_SERVICE_HOST and SERVICE_SERVICE_PORT in the environment.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

SECONDS = 60
"""Time that the regulators have to reach what they were asked for."""
ASKED_FOR_EACH = 4
"""Requests per pod. A Service picks any of its pods, so it takes several requests to meet nearly all of them."""
CLOSE = 0.8
"""Share of its target size that a slice must burn; other processes may use its CPU, too."""


def scrape(url: str) -> list[Sample]:
    """Return all series of one regulator."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - main passes an http URL
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def judge(series: list[Sample], kind: str) -> tuple[bool, str]:
    """Return whether a regulator does what it was asked to, and a sentence about it."""

    def value(name: str, **labels: str) -> float | None:
        return next((one.value for one in series if one.name == name and labels.items() <= one.labels.items()), None)

    state = next((one.labels["state"] for one in series if one.name == "loadband_state" and one.value), "starting")
    own = value("loadband_cpu_ratio", mode="own")
    utilization, capacity = value("loadband_cpu_utilization_ratio"), value("loadband_capacity_cpus")
    if own is None or utilization is None or capacity is None:
        return False, f"{state}: no reading"
    said = f"{state}: utilization {100 * utilization:.1f} %, {own * capacity:.3f} CPUs burned"
    # The size that it should burn, if a size is what it was asked for.
    size = value({"latched": "loadband_latched_effort_cpus", "saturated": "loadband_reach_cpus"}.get(state, ""))
    if state == "latched" or (state == "saturated" and kind == "Deployment"):
        return size is not None and own * capacity >= CLOSE * size, said
    return state != "expired" and value("loadband_in_band") == 1, said


def main(service: str, pods: int, kind: str) -> int:
    """Return the exit code: 0 if each regulator that answers does what it was asked to."""
    host, port = (os.environ[f"{service}_SERVICE_{part}"] for part in ("HOST", "PORT"))
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
    deadline = time.monotonic() + SECONDS
    while True:
        found: dict[float, tuple[bool, str]] = {}
        failure = f"{url}: no regulator answers"
        for _ in range(ASKED_FOR_EACH * pods):
            try:
                series = scrape(url)
            except OSError as error:
                failure = f"{url}: {error}"
                continue
            started = next(one.value for one in series if one.name == "process_start_time_seconds")
            found[started] = judge(series, kind)
        lines = "\n".join(f"{'ok  ' if good else 'FAIL'} {said}" for good, said in found.values()) or f"FAIL {failure}"
        good = bool(found) and all(good for good, _ in found.values())
        if good or time.monotonic() > deadline:
            print(lines)  # noqa: T201 - `helm test --logs` shows it
            return 0 if good else 1
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
