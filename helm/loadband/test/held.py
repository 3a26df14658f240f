# ruff: noqa: INP001 - a script, which the chart hands to a pod as text
"""What `helm test` runs: the metrics answer, and every regulator behind the Service does what it is asked to.

Usage: held.py SERVICE PODS KIND, where SERVICE_SERVICE_HOST and SERVICE_SERVICE_PORT are in the environment.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

SECONDS = 60
"""For all regulators to come to hold what they are asked to."""
ASKED_FOR_EACH = 4
"""A Service answers for any of its pods: so many requests for each pod meet nearly all of them."""
CLOSE = 0.8
"""Part of what a slice is to burn that counts as burning it: others may run on its CPU, too."""


def scrape(url: str) -> list[Sample]:
    """All series of one regulator."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - http, by the caller
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def judge(series: list[Sample], kind: str) -> tuple[bool, str]:
    """Whether it holds what it is asked to, and how it stands, for people."""

    def value(name: str, **labels: str) -> float | None:
        return next((one.value for one in series if one.name == name and labels.items() <= one.labels.items()), None)

    state = next((one.labels["state"] for one in series if one.name == "loadband_state" and one.value), "starting")
    own = value("loadband_cpu_ratio", mode="own")
    utilization, capacity = value("loadband_cpu_utilization_ratio"), value("loadband_capacity_cpus")
    if own is None or utilization is None or capacity is None:
        return False, f"{state}: no reading"
    said = f"{state}: utilization {100 * utilization:.1f} %, {own * capacity:.3f} CPUs of ours"
    # What it is to burn, where that is all that it is asked for.
    size = value({"latched": "loadband_latched_effort_cpus", "saturated": "loadband_reach_cpus"}.get(state, ""))
    if state == "latched" or (state == "saturated" and kind == "Deployment"):
        return size is not None and own * capacity >= CLOSE * size, said
    return state != "expired" and value("loadband_in_band") == 1, said


def main(service: str, pods: int, kind: str) -> int:
    """The exit code: 0 when each regulator that answers holds."""
    host, port = (os.environ[f"{service}_SERVICE_{part}"] for part in ("HOST", "PORT"))
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
    deadline = time.monotonic() + SECONDS
    while True:
        found: dict[float, tuple[bool, str]] = {}
        failure = f"{url} answers for no regulator"
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
            print(lines)  # noqa: T201 - what `helm test --logs` shows
            return 0 if good else 1
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
