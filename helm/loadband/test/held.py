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

SECONDS = 60
"""For all regulators to come to hold what they are asked to."""
ASKED_FOR_EACH = 4
"""A Service answers for any of its pods: so many requests for each pod meet nearly all of them."""
CLOSE = 0.8
"""Part of what a slice is to burn that counts as burning it: others may run on its CPU, too."""


def scrape(url: str) -> dict[str, float]:
    """The series of one regulator by name, with the labels' values: `loadband_state holding`."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - http, by the caller
        text = answer.read().decode()
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def judge(series: dict[str, float], kind: str) -> tuple[bool, str]:
    """Whether it holds what it is asked to, and how it stands, for people."""
    state = next((name.split()[1] for name in series if name.startswith("loadband_state ") and series[name]), "none")
    value = {name.split()[0]: series[name] for name in series if not name.startswith("loadband_cpu_ratio ")}
    own = [series[name] for name in series if name.startswith("loadband_cpu_ratio ") and name.endswith(" own")]
    if not own:
        return False, f"{state}: no reading yet"
    burnt = own[0] * value["loadband_capacity_cpus"]
    said = f"{state}: utilization {100 * value['loadband_cpu_utilization_ratio']:.1f} %, {burnt:.3f} CPUs of ours"
    if state == "latched":
        return burnt >= CLOSE * value["loadband_latched_effort_cpus"], said
    if state == "saturated" and kind == "Deployment":
        return burnt >= CLOSE * value["loadband_reach_cpus"], said
    return state != "expired" and value.get("loadband_in_band") == 1, said


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
            found[series["process_start_time_seconds"]] = judge(series, kind)
        lines = "\n".join(f"{'ok  ' if good else 'FAIL'} {said}" for good, said in found.values()) or f"FAIL {failure}"
        good = bool(found) and all(good for good, _ in found.values())
        if good or time.monotonic() > deadline:
            print(lines)  # noqa: T201 - what `helm test --logs` shows
            return 0 if good else 1
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
