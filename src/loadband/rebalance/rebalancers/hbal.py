"""Ganeti's `hbal` as a planner: `python -m loadband.rebalance.rebalancers.hbal` speaks the planner's interface.

The real program decides, on a model of the platform in htools' text format (htools(1), "--text-data"): each host is a
node, each slice an instance of one virtual CPU whose dynamic CPU load is what it burns. hbal minimizes a score that
also weighs memory, disk and the number of virtual CPUs; every slice gets the same small amount of those, so that they
follow the number of slices. hbal has no threshold: `--min-gain` (its own default) is all that keeps it from moving.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadband.rebalance.events import Part, Real
from loadband.rebalance.programs import Program
from loadband.rebalance.rebalancers import RebalancerError
from loadband.rebalance.rebalancers.planner import LONGEST, Planner

PROGRAM = "hbal"
_GROUP = "loadband"
_NODE_MEMORY, _SLICE_MEMORY = 1 << 20, 128
"""MiB: so much that memory never decides."""
_DISK = 1024
_QUIET_LOAD = 0.000001
"""hbal's manual advises against a load of zero."""
_MIGRATE = re.compile(r"^\s*gnt-instance migrate -f -n (?P<node>\S+) (?P<instance>\S+)\s*$", re.MULTILINE)


def planner(interval: float) -> Planner:
    """The rebalancer: hbal, asked every interval (seconds).

    Raises:
        RebalancerError: it isn't installed.
    """
    if shutil.which(PROGRAM) is None:
        raise RebalancerError("hbal can't be found on PATH: on Debian and Ubuntu, apt install ganeti-htools")
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - the real one
    version = re.search(r"version (\S+)", said)
    part = Part(
        name=PROGRAM,
        version=version[1] if version else "",
        real=Real.OUR_ACTUATOR,
        interval=interval,
        settings={"options": "-C", "model": "a text model with the slices' size as dynamic CPU load"},
    )
    return Planner(part, [sys.executable, "-m", __name__])


def model(state: Mapping[str, Any]) -> tuple[str, str]:
    """The cluster in htools' text format, and the instances' dynamic load, of a planner's state.

    Names become numbers, so that no name can break the format: node `n3` is the fourth host, instance `i0` the first
    slice.
    """
    hosts: Sequence[Mapping[str, Any]] = state["hosts"]
    slices: Sequence[Mapping[str, Any]] = state["slices"]
    number = {host["name"]: index for index, host in enumerate(hosts)}
    largest = max((host["cpus"] for host in hosts), default=1.0)
    nodes = [
        f"n{index}|{_NODE_MEMORY}|0|{_NODE_MEMORY}|{_NODE_MEMORY}|{_NODE_MEMORY}|{max(round(host['cpus']), 1)}|"
        f"{'N' if index else 'M'}|{_GROUP}|1||N|1|0|{host['cpus'] / largest}"
        for index, host in enumerate(hosts)
    ]
    instances = [
        f"i{index}|{_SLICE_MEMORY}|{_DISK}|1|running|Y|n{number[one['host']]}||sharedfile||1|-|N"
        for index, one in enumerate(slices)
    ]
    # The specs that the policy allows: standard, then least and most; memory, CPUs, disk, disks, NICs, spindles.
    standard, least = f"{_SLICE_MEMORY},1,{_DISK},1,1,1", "1,1,1,1,1,1"
    policy = f"|{standard}|{least};{_NODE_MEMORY},1024,{_NODE_MEMORY},16,8,12|sharedfile|1024.0|1024.0"
    tags: list[str] = []
    sections = ([f"default|{_GROUP}|preferred||"], nodes, instances, tags, [policy])
    load = [f"i{index} {max(one['cpus'], _QUIET_LOAD):.6f} 0.01 0.01 0.01" for index, one in enumerate(slices)]
    return "\n\n".join("\n".join(section) for section in sections) + "\n", "\n".join(load) + "\n"


def moves(state: Mapping[str, Any], said: str) -> list[dict[str, str]]:
    """The moves in what `hbal -C` printed, in the names of the state."""
    return [
        {
            "slice": state["slices"][int(found["instance"][1:])]["name"],
            "destination": state["hosts"][int(found["node"][1:])]["name"],
            "reason": "improves hbal's cluster score",
        }
        for found in _MIGRATE.finditer(said)
    ]


def main() -> int:
    """Read a state, ask hbal, write its moves; returns the exit code."""
    state = json.load(sys.stdin)
    if not state["slices"]:
        json.dump({"moves": []}, sys.stdout)
        return 0
    cluster, load = model(state)
    with tempfile.TemporaryDirectory(prefix="loadband-hbal-") as folder:
        files = Path(folder, "cluster"), Path(folder, "load")
        for file, text in zip(files, (cluster, load), strict=True):
            file.write_text(text)
        command = [PROGRAM, "-t", str(files[0]), "-U", str(files[1]), "-C"]
        with Program(command, Path(folder, "said")) as program:
            program.wait(LONGEST)
            if program.code != 0:
                sys.stderr.write(program.ended or f"hbal takes longer than {LONGEST:g} s")
                return 1
        said = Path(folder, "said").read_text()
    json.dump({"moves": moves(state, said)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
