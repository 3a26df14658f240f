"""Probes, which measure something besides utilization while a scene is played."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, quantiles

import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.helpers import Helper
from bench.meter import Mark, Meter
from bench.recording import Curve

SCRAPES = 20
"""Scrapes per second while answer times are measured."""
MANY_SCRAPES = 200


@dataclass(frozen=True, slots=True)
class Subject:
    """The running tool, as a probe sees it."""

    pid: int
    slices: int
    """Number of regulators that the tool starts."""
    meter: Meter
    port: int
    burnt: Path


class Probe:
    """A probe that measures nothing, and the base of the others.

    Args:
        subject: the tool, already running.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.facts: dict[str, float] = {}
        """The results, complete after `until`."""

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The CPU time of each of several regulators over time."""
        return ()

    def at(self, event: str) -> None:
        """React to the event with which an act of the scene begins; the last is `until`."""

    def close(self) -> None:
        """End what the probe started; also called after a failure."""


class Cost(Probe):
    """Measures the CPU time of the process without that of its burn calls, in percent of one CPU."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._since = 0.0

    def at(self, event: str) -> None:
        """See `Probe`."""
        if event == "from":
            self._since = time.monotonic()
        elif event == "until":
            lines = [[float(word) for word in line.split()] for line in self.subject.burnt.read_text().splitlines()]
            (start, used, burnt), *_, (end, used_last, burnt_last) = [line for line in lines if line[0] >= self._since]
            self.facts["cost"] = 100 * ((used_last - used) - (burnt_last - burnt)) / (end - start)


class Readers(Probe):
    """Compares what psutil and sar report every second with the meter over the same time, in percentage points."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._stop = threading.Event()
        self._said: dict[str, list[tuple[Mark, float]]] = {"psutil": [], "sar": []}
        """For each report, its time and the utilization (ratio) since the previous report."""
        self._sar: subprocess.Popen[str] | None = None
        self._threads: list[threading.Thread] = []

    def at(self, event: str) -> None:
        """See `Probe`."""
        if event == "from":
            self._start(self._ask_psutil)
            if path := shutil.which("sar"):
                self._sar = subprocess.Popen(  # noqa: S603 - found on PATH
                    [path, "-u", "1"],
                    stdout=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"LC_ALL": "C", "S_TIME_FORMAT": "ISO"},
                    start_new_session=True,
                )
                self._start(self._listen_to_sar)
        elif event == "until":
            self.close()
            for name, said in self._said.items():
                self._judge(name, said)

    def close(self) -> None:
        """See `Probe`."""
        self._stop.set()
        if self._sar:
            self._sar.kill()
        for thread in self._threads:
            thread.join()
        if self._sar:
            self._sar.communicate()
            self._sar = None

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _ask_psutil(self) -> None:
        while not self._stop.is_set():
            # A thread's first answer is meaningless; it only starts the interval of the second.
            self._said["psutil"].append((self.subject.meter.look(), psutil.cpu_percent() / 100))
            self._stop.wait(1.0)

    def _listen_to_sar(self) -> None:
        assert self._sar  # noqa: S101 - for the type checker
        assert self._sar.stdout  # noqa: S101 - for the type checker
        columns: list[str] = []
        for line in self._sar.stdout:
            words = line.split()
            if "%idle" in words:
                columns = words
            elif columns and len(words) == len(columns) and words[0] != "Average:":
                self._said["sar"].append((self.subject.meter.look(), 1 - float(words[columns.index("%idle")]) / 100))

    def _judge(self, name: str, said: list[tuple[Mark, float]]) -> None:
        if len(said) < 2:  # noqa: PLR2004 - a difference needs two
            return
        marks = [mark for mark, _ in said]
        utilizations = [utilization for _, utilization in said[1:]]
        truths = [self.subject.meter.utilization(*pair) for pair in pairwise(marks)]
        self.facts[name] = 100 * abs(fmean(utilizations) - self.subject.meter.utilization(marks[0], marks[-1]))
        self.facts[f"{name}_worst"] = 100 * max(
            abs(utilization - truth) for utilization, truth in zip(utilizations, truths, strict=True)
        )


class Itself(Probe):
    """Compares loadband's metrics about utilization with the meter, in percentage points."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._stop = threading.Event()
        self._looks: list[tuple[Mark, float, float, float]] = []
        """The meter and the metrics then: busy and all CPU-seconds, and utilization over the last second (ratio)."""
        self._thread = threading.Thread(target=self._look, daemon=True)

    def at(self, event: str) -> None:
        """See `Probe`."""
        if event == "from":
            self._thread.start()
        elif event == "until":
            self.close()
            (start, busy, everything, _), *_, (end, busy_last, everything_last, _) = self._looks
            told = (busy_last - busy) / (everything_last - everything)
            self.facts["counters"] = 100 * abs(told - self.subject.meter.utilization(start, end))
            self.facts["gauge"] = 100 * fmean(
                abs(now[3] - self.subject.meter.utilization(before[0], now[0])) for before, now in pairwise(self._looks)
            )

    def close(self) -> None:
        """See `Probe`."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.subject.port, timeout=10)
        due = time.monotonic()
        while not self._stop.is_set():
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            self._looks.append((self.subject.meter.look(), *_told(text)))
            due += 1.0
            self._stop.wait(max(due - time.monotonic(), 0.0))
        connection.close()


def _told(text: str) -> tuple[float, float, float]:
    """Return busy CPU-seconds, all CPU-seconds, and utilization over the last second, from an exposition."""
    samples = {
        (sample.name, sample.labels.get("mode")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    seconds = {mode: samples["loadband_cpu_seconds_total", mode] for mode in ("own", "other", "steal", "idle")}
    return seconds["own"] + seconds["other"], sum(seconds.values()), samples["loadband_cpu_utilization_ratio", None]


class Latency(Probe):
    """Measures how long /metrics takes to answer, in milliseconds."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._scraper = Helper("scrape", str(subject.port), str(SCRAPES))

    def at(self, event: str) -> None:
        """See `Probe`."""
        if event == "from":
            self._scraper.go()
        elif event == "until":
            took = [1000 * seconds for seconds in json.loads(self._scraper.leave())]
            percentiles = quantiles(took, n=100)
            self.facts |= {"p50": percentiles[49], "p99": percentiles[98]}

    def close(self) -> None:
        """See `Probe`."""
        self._scraper.__exit__(None, None, None)


class Flood(Probe):
    """Scrapes many times a second and counts the answers."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._scraper = Helper("scrape", str(subject.port), str(MANY_SCRAPES))
        self._began = 0.0

    def at(self, event: str) -> None:
        """See `Probe`."""
        if event == "scraped":
            self._began = time.monotonic()
            self._scraper.go()
        elif event == "until":
            seconds = time.monotonic() - self._began
            self.facts["rate"] = len(json.loads(self._scraper.leave())) / seconds

    def close(self) -> None:
        """See `Probe`."""
        self._scraper.__exit__(None, None, None)
