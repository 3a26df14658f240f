"""Regulators on real CPUs: each CPU stands for a host."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from program import get, metric

from loadband.rebalance.programs import MissingError, environment, free_port

LOADBAND = Path(sys.executable).with_name("loadband")
_PINNED = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"


def hosts() -> dict[str, int]:
    """Names of two hosts, and the CPU that each of them is.

    Raises:
        MissingError: we may use less than two CPUs.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise MissingError("two CPUs are needed, each stands for a host, and this process may use only one")
    return {"node-1": cpus[0], "node-2": cpus[1]}


class Regulator:
    """One regulator on one host, with an address that it keeps when it is started anew.

    Args:
        name: what it is there for.
        node: the host's name.
        cpu: the host.
        settings: its environment, names without the prefix.
    """

    def __init__(self, name: str, node: str, cpu: int, **settings: str) -> None:
        self.name = name
        self.node = node
        self._cpu = cpu
        self._settings = settings
        self.address = f"127.0.0.1:{free_port()}"
        self._control = {"LOADBAND_CONTROL_LISTEN": f"127.0.0.1:{free_port()}"}
        self._control["LOADBAND_CONTROL_TOKEN"] = secrets.token_hex()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What a scraper attaches, as it would in a cluster."""
        return {"cluster": "test", "node": self.node, "namespace": "test", "pod": self.name}

    def start(self, **settings: str) -> None:
        """Start it, with some settings changed for good."""
        self._settings |= settings
        own = {"LOADBAND_SCOPE": "cpuset", "LOADBAND_LISTEN": self.address, "LOADBAND_LOG_LEVEL": "error"}
        own |= {f"LOADBAND_{name}": value for name, value in self._settings.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PINNED, str(self._cpu), str(LOADBAND)],
            env=environment() | self._control | own,
            stdout=subprocess.DEVNULL,
        )

    def set(self, band: tuple[int, int]) -> None:
        """Give it another band, percent, while it runs.

        Raises:
            subprocess.CalledProcessError: it didn't take it.
        """
        url = f"http://{self._control['LOADBAND_CONTROL_LISTEN']}"
        subprocess.run(
            [str(LOADBAND), "set", *map(str, band), "--url", url],
            env=environment() | self._control,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it, if it runs, and wait until it is gone."""
        if self._process is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def metric(self, name: str) -> float | None:
        """The value of a metric now, by its name with labels as exposed; None where it has none.

        Raises:
            OSError: it doesn't answer.
        """
        try:
            return metric(get(int(self.address.rpartition(":")[2]), "/metrics", 1.0), name)
        except LookupError:
            return None

    def is_in(self, state: str) -> bool:
        """Whether that is its verdict now.

        Raises:
            OSError: it doesn't answer.
        """
        return self.metric(f'loadband_state{{state="{state}"}}') == 1


@contextmanager
def running(regulators: Sequence[Regulator]) -> Iterator[None]:
    """Run them for as long as the context lasts; none is left, however it ends."""
    try:
        for regulator in regulators:
            regulator.start()
        yield
    finally:
        for regulator in regulators:
            regulator.stop()
