"""Write the dashboards: `python -m dashboards`."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import fleet, rebalance, regulator

FOLDER = Path(__file__).parents[1] / "helm/loadband/files/dashboards"
DASHBOARDS = {
    "loadband-regulator.json": regulator.dashboard,
    "loadband-fleet.json": fleet.dashboard,
    "loadband-rebalance.json": rebalance.dashboard,
}


def text(name: str) -> str:
    """Return the JSON that belongs in the file of that name."""
    return JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False).encode(DASHBOARDS[name]()) + "\n"


if __name__ == "__main__":
    for file in DASHBOARDS:
        (FOLDER / file).write_text(text(file))
