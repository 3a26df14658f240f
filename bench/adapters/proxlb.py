"""ProxLB as a planner that stays: its own main loop, against a small server that speaks Proxmox's API.

Real is the whole program, started as `python -m proxlb` starts it, with a configuration file. Ours are the server, the
migrations, and its sleeps (of its schedule, and between two looks at a migration), which are as much shorter as the run
is faster than life. Run by the Python of ProxLB's venv:
`python -m bench.adapters.proxlb --help`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import pkgutil
import runpy
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter
from werkzeug.exceptions import NotFound
from werkzeug.serving import make_ssl_devcert
from werkzeug.wrappers import Request, Response

from bench.adapters.lines import Move, State, keep_log, parser, serve
from bench.adapters.proxmox import RECENT, Cluster, UnknownError

BASE = "/api2/json"
EXAMPLE: Mapping[str, Any] = {
    "enable": True,
    "enforce_affinity": False,
    "parallel": False,
    "parallel_jobs": 1,
    "live": True,
    "with_local_disks": True,
    "balance_types": ["vm", "ct"],
    "max_job_validation": 1800,
    "balanciness": 5,
    "mode": "used",
    "method": "cpu",
}
"""The balancing of its example configuration, but for the method: that is memory there, and nothing reacts to CPU."""
SCHEDULES = {"shipped": {"interval": 12, "format": "hours"}, "tuned": {"interval": 1, "format": "minutes"}}
"""As in the example; and the shortest that the configuration can say."""
SECONDS = {"shipped": 12 * 3600.0, "tuned": 60.0}


def server(cluster: Cluster, folder: Path) -> Any:
    """An HTTPS server on a free port of the loopback address, whose API shows the cluster.

    It keeps connections, as Proxmox does: a handshake for each request would be load that ProxLB doesn't make in life.

    Args:
        cluster: what is shown.
        folder: for its certificate.
    """

    def answer(request: Any) -> Any:
        path = request.path.removeprefix(BASE)
        if request.method == "POST" and path == "/access/ticket":
            return _data({"ticket": "PVE:loadband", "CSRFPreventionToken": "loadband", "username": "loadband@pve"})
        try:
            if request.method == "POST":
                return _data(cluster.migrate(path, request.form["target"]))
            return _data(cluster.get(path))
        except UnknownError as error:
            raise NotFound(str(error)) from error

    def application(environ: Any, start: Any) -> Any:
        try:
            made = answer(Request(environ))
        except NotFound as error:
            made = error
        return made(environ, start)

    made = wsgi.Server(("127.0.0.1", 0), application)
    made.ssl_adapter = BuiltinSSLAdapter(*make_ssl_devcert(str(folder / "server"), host="127.0.0.1"))
    made.prepare()
    return made


def _data(data: Any) -> Any:
    return Response(json.dumps({"data": data}), mimetype="application/json")


def configuration(port: int, mode: str) -> dict[str, Any]:
    """ProxLB's configuration file."""
    return {
        "proxmox_api": {
            "hosts": [f"127.0.0.1:{port}"],
            "user": "loadband@pve",
            "pass": "loadband",
            "ssl_verification": False,
            "timeout": 10,
        },
        "balancing": dict(EXAMPLE),
        "service": {"daemon": True, "schedule": SCHEDULES[mode], "log_level": "DEBUG"},
    }


def load() -> None:
    """Import what ProxLB will need: 0.4 s of a CPU, which would count as load if it came in the run."""
    for package in ("proxlb", "proxlb_solver"):
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)


def main() -> None:
    """Speak the interface of a planner that stays."""
    asked = parser(__doc__ or "", list(SCHEDULES)).parse_args()
    cluster, shown = Cluster(asked.faster), threading.Event()
    # ProxLB logs to standard output, which is the interface here.
    said, sys.stdout = sys.stdout, sys.stderr
    # With each connection it reads all authorities that the machine trusts, to verify none: a quarter of its CPU time,
    # which would be load of the run.
    os.environ["SSL_CERT_FILE"], os.environ["SSL_CERT_DIR"] = os.devnull, os.devnull
    keep_log(asked.log, "ProxLB")
    folder = tempfile.TemporaryDirectory(prefix="loadband-proxlb-")
    made = server(cluster, Path(folder.name))
    load()
    threading.Thread(target=made.serve, daemon=True).start()

    def plan(state: State) -> list[Move]:
        moves = cluster.show(state)
        if cluster.knows:
            shown.set()
        return moves

    def speak() -> None:
        serve(introduction(asked.mode, asked.faster), plan, output=said)
        folder.cleanup()
        os._exit(0)  # the run is over, and ProxLB's loop has no end

    threading.Thread(target=speak, daemon=True).start()
    shown.wait()
    file = Path(folder.name, "proxlb.yaml")
    # JSON is YAML.
    file.write_text(json.dumps(configuration(made.bind_addr[1], asked.mode)))
    sys.argv = ["proxlb", "--config", str(file)]
    sleep = time.sleep
    with mock.patch.object(time, "sleep", lambda seconds: sleep(seconds / asked.faster)):
        runpy.run_module("proxlb", run_name="__main__")


def introduction(mode: str, faster: float) -> dict[str, Any]:
    """Who it is."""
    schedule = SCHEDULES[mode]
    return {
        "name": "proxlb",
        "version": importlib.metadata.version("proxlb"),
        "interval": SECONDS[mode] / faster,
        "settings": {
            "balancing": ", ".join(f"{key} = {value}" for key, value in EXAMPLE.items()),
            "schedule": f"{schedule['interval']} {schedule['format']} of life, {faster:g} times as fast here",
            "API": f"a server of ours: a host's use is its guests', over {RECENT:g} s of life; a guest's, over an hour",
        },
    }


if __name__ == "__main__":
    main()
