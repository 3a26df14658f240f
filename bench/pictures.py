"""Draws the dashboards for the documents, on answers of a real Prometheus: `make pictures`. Takes three minutes.

The dashboard *Rebalance* shows a run of a shipped scenario in the lab, while the run's own Prometheus lives. For the
two about regulators, three regulators run on two CPUs, each of which stands for a host: one follows a profile, two have
a fixed size, and one of these moves from the hot host to the other one. Prometheus and the shipped rules are `FASTER`
times as fast as shipped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import panels
from bench.panels import Answers, Series
from loadband.exits import Exit
from loadband.rebalance import prometheus, shipped
from loadband.rebalance.platforms.machine import confine
from loadband.rebalance.programs import MissingError, Program, ProgramError, free_port, wait_for

TOP = Path(__file__).parents[1]
BOARDS = TOP / "helm/loadband/files/dashboards"
FASTER = 15.0
STEP = 0.5
"""Seconds between two points."""
SCRAPES = 4
"""Grafana's `$__rate_interval` is that many scrapes."""
NOBODY = "127.0.0.1:9"
"""An Alertmanager that isn't there: the alerts are looked at in Prometheus."""
PROFILE = """\
name = "working day"
width = 10

[[phase]]
name = "morning"
kind = "ramp"
from = 15
to = 45
duration = "25s"

[[phase]]
name = "noon"
kind = "constant"
target = 45
duration = "60s"

[[phase]]
name = "evening"
kind = "constant"
target = 30
duration = "1h"
"""
BEFORE_MOVE, AFTER_MOVE = 45.0, 50.0
"""Seconds."""


class PicturesError(Exception):
    """What is to be drawn didn't come about; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Regulator:
    """A regulator with the labels that a scraper in a cluster would attach."""

    pod: str
    host: str
    address: str
    """`host:port` of its metrics."""
    program: Program

    @property
    def labels(self) -> Mapping[str, str]:
        """As the scraper attaches them."""
        return {"cluster": "lab", "node": self.host, "namespace": "demo", "pod": self.pod}


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask and draw; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description="Draws the dashboards.")
    parser.add_argument("--out", type=Path, default=TOP / "docs/dashboards", help="The folder of the pictures.")
    parser.add_argument("--answers", type=Path, default=TOP / "build/pictures", help="Where answers are kept.")
    parser.add_argument("--again", action="store_true", help="Draw again from the answers that are kept.")
    parser.add_argument("--scenario", default="hot-host", help="What is run in the lab; default: hot-host.")
    asked = parser.parse_args(arguments)
    asked.answers.mkdir(parents=True, exist_ok=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    if not asked.again:
        try:
            for name, answers in {"rebalance": of_run(asked.scenario), **of_regulators()}.items():
                answers.write(asked.answers / f"{name}.json")
        except (MissingError, PicturesError, ProgramError, OSError) as error:
            print(f"pictures: {error}", file=sys.stderr)  # noqa: T201 - a program for a terminal
            return Exit.FAILED
    for name in ("regulator", "fleet", "rebalance"):
        picture = asked.out / f"{name}.png"
        panels.draw(board(name), Answers.read(asked.answers / f"{name}.json"), picture)
        print(picture)  # noqa: T201 - likewise
    return Exit.OK


def board(name: str) -> panels.Json:
    """The JSON of a dashboard."""
    found: panels.Json = json.loads((BOARDS / f"loadband-{name}.json").read_text())
    return found


def ask(
    name: str, asked: prometheus.Client, begin: float, scrape: float, variables: Mapping[str, str] | None = None
) -> Answers:
    """Ask all queries of a dashboard, up to now, as Grafana does with everything chosen.

    Args:
        name: of the dashboard.
        asked: who answers.
        begin: of the time range, seconds since the epoch.
        scrape: seconds from one scrape to the next.
        variables: the dashboard's own, by name; all others match everything.

    Raises:
        PrometheusError: it refuses a query, or doesn't answer.
    """
    end = time.time()
    values: dict[str, str] = {
        "__rate_interval": f"{round(1000 * SCRAPES * scrape)}ms",
        "__range": f"{end - begin:.0f}s",
        **(variables or {}),
    }
    series: dict[panels.Query, list[Series]] = {}
    for expression, now in panels.queries(board(name)):
        interpolated = re.sub(r"\$(\w+)", lambda found: values.get(found[1], ".*"), expression)
        if now:
            found = [(labels, [[end, value]]) for labels, value in asked.query(interpolated, end)]
        else:
            found = asked.range(interpolated, begin, end, STEP)
        series[expression, now] = [Series(labels, [(at, value) for at, value in points]) for labels, points in found]
    return Answers(begin, end, STEP, series)


def of_run(scenario: str) -> Answers:
    """What the run's own Prometheus knows when the watch of a run of a scenario is over.

    Raises:
        PicturesError: the run ended before.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["rebalance", "run", scenario, "--repeats", "1", "--out", f"{folder}/out"]
        with subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-m", "loadband", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run:
            try:
                url, begin = _watched(run)
                with prometheus.Client(url) as asked:
                    ((info, _),) = asked.query("loadband_rebalance_info")
                    scrape = shipped.seconds(asked.config()["global"]["scrape_interval"])
                    return ask("rebalance", asked, begin, scrape, info)
            finally:
                run.terminate()
                run.send_signal(signal.SIGCONT)


def _watched(run: subprocess.Popen[str]) -> tuple[str, float]:
    """Hold a run when its watch is over; returns the URL of its Prometheus, and when the baseline began."""
    said, begin = "", 0.0
    assert run.stdout  # noqa: S101 - it was asked for
    for line in run.stdout:
        said += line
        if line.endswith("baseline begins\n"):
            begin = time.time()
        if line.endswith("recovery begins\n"):
            run.send_signal(signal.SIGSTOP)  # it would end its Prometheus in a moment
            for child in psutil.Process(run.pid).children(recursive=True):
                if child.name() == "prometheus":
                    (address,) = (word for word in child.cmdline() if word.startswith("--web.listen-address="))
                    return f"http://{address.partition('=')[2]}", begin
    raise PicturesError(f"the run ended before its recovery:\n{said}")


def of_regulators() -> Mapping[str, Answers]:
    """What a Prometheus knows of three regulators on two hosts, one of which gets hot until a load moves away."""
    cpus = dict(zip(("host-1", "host-2"), sorted(os.sched_getaffinity(0)), strict=False))
    if len(cpus) < 2:  # noqa: PLR2004 - hosts
        raise PicturesError("two CPUs are needed, each stands for a host, and this process may use only one")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "day.toml").write_text(PROFILE)
        server = prometheus.Server(folder / "prometheus", NOBODY, FASTER)
        stack.enter_context(server)
        asked = stack.enter_context(prometheus.Client(server.url))

        @contextmanager
        def regulating(pod: str, host: str, **settings: str) -> Iterator[Regulator]:
            address = f"127.0.0.1:{free_port()}"
            own = {"SCOPE": "cpuset", "LISTEN": address, "LOG_LEVEL": "error"} | settings
            with Program([sys.executable, "-m", "loadband"], settings=own) as program:
                confine(program.pid, frozenset({cpus[host]}))
                yield Regulator(pod, host, address, program)

        def scrape(*regulators: Regulator) -> None:
            server.targets([(one.address, one.labels) for one in regulators])

        resident = stack.enter_context(regulating("resident", "host-1", EFFORT="0.4"))
        day = stack.enter_context(regulating("day", "host-2", PROFILE=str(folder / "day.toml"), DURATION="10m"))
        begin = time.time()
        with regulating("guest-1", "host-1", EFFORT="0.45") as guest:
            scrape(resident, day, guest)
            time.sleep(BEFORE_MOVE)
        guest = stack.enter_context(regulating("guest-2", "host-2", EFFORT="0.25"))
        scrape(resident, day, guest)
        time.sleep(AFTER_MOVE)
        wait_for(lambda: asked.query("node:loadband_host_cpu:ratio"), 10, "the hosts' utilization in Prometheus")
        return {
            "fleet": ask("fleet", asked, begin, server.scrape),
            "regulator": ask("regulator", asked, begin, server.scrape, {"instance": day.address}),
        }


if __name__ == "__main__":
    sys.exit(main())
