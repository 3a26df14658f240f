"""Exporters whose hosts are as busy as asked for, for a real Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from loadband.rebalance.platforms import Target
from loadband.rebalance.programs import free_port


class Exporter(Collector):
    """Counters of a host, as a regulator has them."""

    def __init__(self, utilization: float = 0.2) -> None:
        self.utilization = utilization
        self._busy = self._idle = 0.0
        self._last = time.monotonic()

    def collect(self) -> Iterator[Metric]:
        passed, self._last = time.monotonic() - self._last, time.monotonic()
        self._busy += self.utilization * passed
        self._idle += (1 - self.utilization) * passed
        seconds = CounterMetricFamily("loadband_cpu_seconds", "Of the host.", labels=["scope", "mode"])
        seconds.add_metric(["cpuset", "other"], self._busy)
        seconds.add_metric(["cpuset", "idle"], self._idle)
        yield seconds
        info = GaugeMetricFamily("loadband_build_info", "Always 1.", labels=["version"])
        info.add_metric(["0"], 1)
        yield info


@contextmanager
def exporting(exporters: Mapping[str, Exporter]) -> Iterator[list[Target]]:
    """Serve exporters, by host; gives what Prometheus has to scrape."""
    ends, targets = [], []
    try:
        for host, exporter in exporters.items():
            registry = CollectorRegistry()
            registry.register(exporter)
            port = free_port()
            ends.append(start_http_server(port, "127.0.0.1", registry))
            targets.append(Target(f"127.0.0.1:{port}", {"cluster": "lab", "node": host}))
        yield targets
    finally:
        for server, thread in ends:
            server.shutdown()
            server.server_close()
            thread.join()
