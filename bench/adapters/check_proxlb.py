"""Canned input of which ProxLB's source gives the answer, through the adapter: `make league` runs it in the venv."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Mapping
from pathlib import Path

from bench.adapters.moved import Moved, said_by_proxlb
from bench.adapters.proxlb import BASE, server
from bench.adapters.proxmox import Cluster

FASTER = 60.0
"""An interval of a minute is a second, the hour of a guest's history a minute."""
PASSES = 2
"""Of ProxLB's loop, after the first that has seen means of CPU time."""
PATIENCE = 60.0
FINISHED = "Finished: Balancing loop for guests."


class ProxLB(unittest.TestCase):
    """The real program."""

    def moves(self, slices: Mapping[str, tuple[str, float]]) -> list[Moved]:
        """What comes of slices on hosts of one CPU; what ProxLB's log says must be the same.

        Args:
            slices: by name, the host and how many CPUs are used. They are moved as ProxLB wants it.
        """
        where = {name: host for name, (host, _) in slices.items()}
        moves: list[Moved] = []
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            command = [sys.executable, "-W", "ignore", "-m", "bench.adapters.proxlb", "--mode", "tuned"]
            began = time.monotonic()
            with subprocess.Popen(  # noqa: S603 - the adapter itself
                [*command, "--faster", f"{FASTER:g}", "--log", str(log)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as program:
                tell, hear = program.stdin, program.stdout
                if tell is None or hear is None:
                    self.fail("no pipes")
                self.assertEqual(json.loads(hear.readline())["name"], "proxlb")
                while log_of(log).count(FINISHED) <= PASSES:
                    at = time.monotonic() - began
                    self.assertLess(at, PATIENCE)
                    use: dict[str, float] = {}
                    for name, (_, cpus) in slices.items():
                        use[where[name]] = use.get(where[name], 0.0) + cpus
                    state = {
                        "at": at,
                        "counted_at": at,
                        "hosts": [
                            {"name": name, "cpus": 1.0, "utilization": busy, "cpu_seconds": busy * at}
                            for name, busy in use.items()
                        ],
                        "slices": [
                            {"name": name, "host": where[name], "cpus": cpus, "cpu_seconds": cpus * at}
                            for name, (_, cpus) in slices.items()
                        ],
                    }
                    tell.write(json.dumps(state) + "\n")
                    tell.flush()
                    for move in json.loads(hear.readline())["moves"]:
                        moves.append((move["slice"], move["destination"]))
                        where[move["slice"]] = move["destination"]
                    time.sleep(0.1)
                tell.close()
            self.assertEqual(moves, said_by_proxlb(log_of(log), 0.0, float("inf")))
        return moves

    def test_a_guest_goes_to_the_node_with_the_lowest_use(self) -> None:
        """Calculations.get_balanciness, get_most_free_node, relocate_guests (proxlb/models/calculations.py).

        Nodes at 90 and 40 % differ by more than `balanciness`; guests are taken in turn from the most loaded node until
        they don't: the first makes them equal.
        """
        slices = {"one": ("host-a", 0.25), "two": ("host-a", 0.65), "three": ("host-b", 0.4)}
        self.assertEqual(self.moves(slices), [("one", "host-b")])

    def test_a_difference_that_balanciness_allows_is_left_alone(self) -> None:
        """Calculations.get_balanciness: a difference of 4 points is not above the 5 of the example configuration."""
        self.assertEqual(self.moves({"one": ("host-a", 0.7), "two": ("host-b", 0.66)}), [])


class Api(unittest.TestCase):
    """The server that it asks."""

    def test_a_connection_is_kept(self) -> None:
        """ProxmoxHttpSession asks for it (proxmoxer/backends/https.py), and Proxmox's pveproxy does it."""
        with tempfile.TemporaryDirectory() as folder:
            made = server(Cluster(FASTER), Path(folder))
            serving = threading.Thread(target=made.serve)
            serving.start()
            context = ssl.create_default_context(cafile=Path(folder, "server.crt"))
            context.check_hostname = False  # werkzeug's certificate has no address, only names
            host, port = made.bind_addr
            client = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
            try:
                for _ in range(2):
                    client.request("POST", f"{BASE}/access/ticket", "username=loadband&password=loadband")
                    self.assertEqual(client.getresponse().read()[:1], b"{")
                    self.assertIsNotNone(client.sock)
            finally:
                client.close()
                made.stop()
                serving.join()


def log_of(path: Path) -> str:
    """What the log holds; empty if there is none yet."""
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    unittest.main()
