"""Write the configuration of a session of mutation tests: `python mutants.py PART`, for `make mutants`.

A part is a few modules and the tests that know them: those that answer fast come first, since the first that fails
ends the trial of a mutant.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PARTS = {
    "proof": (
        ["rebalance/timeline", "rebalance/figures", "rebalance/verdict"],
        ["figures", "timeline", "verdict"],
    ),
    "law": (["controller"], ["mutants", "controller", "latch", "sharing"]),
    "loop": (["regulator", "setpoint", "playback"], ["setpoint", "playback", "regulator", "latch", "controller"]),
    "sensor": (
        ["sensor/cgroups", "sensor/files", "sensor/procstat", "sensor/reading", "sensor/scopes"],
        ["mutants", "sensor_procstat", "sensor_cgroups", "sensor_scopes", "sensor_reading"],
    ),
    "workers": (["workers"], ["workers"]),
}
"""For each part the modules, and the files of tests, in their order."""
PYTEST = "python -m pytest -x -q --assert=plain -p no:cacheprovider -p no:xdist --hypothesis-profile=quick -k 'not big'"


def configuration(part: str) -> str:
    """The file that cosmic-ray reads.

    Raises:
        KeyError: no such part.
    """
    modules, tests = PARTS[part]
    common = Path(__file__).with_suffix(".toml").read_text()
    own = {
        "module-path": [f"src/loadband/{module}.py" for module in modules],
        "test-command": " ".join([PYTEST, *(f"tests/unit/test_{test}.py" for test in tests)]),
    }
    # Texts and lists of texts are written in TOML as in JSON.
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in own.items())
    return common.replace("[cosmic-ray]\n", "[cosmic-ray]\n" + lines, 1)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        sys.exit(f"PART is {' '.join(sys.argv[1:]) or 'not given'}: give one of {', '.join(PARTS)}")
    print(configuration(sys.argv[1]), end="")
