"""OpenStack Watcher's own strategies as a planner that stays: a continuous audit, on a data source of ours.

Real are the strategy classes, with their parameters' defaults, and the cluster model that they work on. Ours are the
data source (means of the platform's counters over the strategy's own periods), the interval of the audit (Watcher has
no default) and the migrations. A strategy sees its own periods; the data source makes them as much shorter as the run
is faster than life. Run by the Python of Watcher's venv: `python -m bench.adapters.watcher --help`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watcher.common import utils
from watcher.decision_engine.datasources.base import DataSourceBase
from watcher.decision_engine.model import element, model_root
from watcher.decision_engine.strategy.strategies import workload_balance, workload_stabilization

from bench.adapters import watcher_cluster
from bench.adapters.lines import Counters, Interval, Move, State, keep_log, parser, serve

STRATEGIES = {
    "workload_stabilization": workload_stabilization.WorkloadStabilization,
    "workload_balance": workload_balance.WorkloadBalance,
}
HISTORY = 900.0
"""Seconds of life: longer than the strategies' longest period."""


@dataclass(frozen=True)
class Mode:
    """How a strategy is set up."""

    interval: float
    """Of the continuous audit, seconds of life."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the strategy's own defaults."""


MODES = {
    # Watcher has no default interval: that of the examples in its guide, doc/source/user/continuous_type_audit.rst.
    "shipped": {name: Mode(300.0) for name in STRATEGIES},
    # The shortest interval that the guide recommends, and periods as short as what the shipped alert averages over. The
    # threshold decides what is overloaded and where there is room (docstring of WorkloadBalance): above the cluster's
    # mean load, or there is no destination.
    "tuned": {
        "workload_stabilization": Mode(60.0, {"periods": {"instance": 120, "compute_node": 120, "node": 0}}),
        "workload_balance": Mode(60.0, {"threshold": 75.0, "period": 120}),
    },
}


class Source(DataSourceBase):  # type: ignore[misc] # Watcher has no types
    """What the platform measured, as one of Watcher's data sources.

    Args:
        counters: of CPU time.
        faster: by how much the run's time is shorter than that of the strategies' periods.
    """

    NAME = "loadband"

    def __init__(self, counters: Counters, faster: float) -> None:
        super().__init__()
        self._counters = counters
        self._faster = faster

    def _statistic_aggregation(  # noqa: PLR0913, PLR0917 - Watcher's signature
        self,
        resource: Any = None,
        resource_type: Any = None,
        meter_name: Any = None,
        period: float = 300,
        aggregate: str = "mean",
        granularity: float = 300,
    ) -> float | None:
        if meter_name not in {"host_cpu_usage", "instance_cpu_usage"} or aggregate != "mean":
            raise ValueError(f"no {aggregate} of {meter_name} of {resource_type} (granularity {granularity})")
        return watcher_cluster.usage(self._counters, resource.uuid, resource.vcpus, period / self._faster)


def cluster(state: State) -> Any:
    """Watcher's cluster model of a state."""
    made = model_root.ModelRoot()
    for fields in watcher_cluster.nodes(state):
        made.add_node(element.ComputeNode(**fields))
    for fields in watcher_cluster.instances(state):
        made.add_instance(element.Instance(**fields))
        made.map_instance(fields["uuid"], fields["host"])
    return made


def audit(strategy: str, parameters: Mapping[str, Any], model: Any, source: Any) -> list[Move]:
    """Execute a strategy once; returns the migrations of its solution, in its order.

    Args:
        strategy: one of `STRATEGIES`.
        parameters: what differs from its own defaults.
        model: the cluster.
        source: where its metrics come from: what has Watcher's `statistic_aggregation`.
    """
    real = STRATEGIES[strategy]
    # They are properties that would ask OpenStack's services.
    ours = type(real.__name__, (real,), {"compute_model": model, "datasource_backend": source})
    made = ours(config=utils.Struct(datasources=None))
    defaults = {name: told["default"] for name, told in real.get_schema()["properties"].items()}
    made.input_parameters = utils.Struct({**defaults, **parameters})
    return [
        {
            "slice": action["input_parameters"]["resource_id"],
            "destination": action["input_parameters"]["destination_node"],
            "reason": f"{strategy}: live migration from {action['input_parameters']['source_node']}",
        }
        for action in made.execute().actions
        if action["action_type"] == "migrate"
    ]


def main() -> None:
    """Speak the interface of a planner that stays."""
    options = parser(__doc__ or "", list(MODES))
    options.add_argument("--strategy", choices=list(STRATEGIES), required=True)
    asked = options.parse_args()
    mode = MODES[asked.mode][asked.strategy]
    keep_log(asked.log, "watcher.decision_engine.strategy")
    interval, counters = Interval(mode.interval / asked.faster), Counters(HISTORY / asked.faster)

    def plan(state: State) -> list[Move]:
        counters.add(state)
        if not interval.is_due(state["at"]):
            return []
        # It keeps what it was asked for, so each execution has one of its own, as in Watcher.
        return audit(asked.strategy, mode.parameters, cluster(state), Source(counters, asked.faster))

    serve(
        {
            "name": f"watcher {asked.strategy}",
            "version": importlib.metadata.version("python-watcher"),
            "interval": interval.seconds,
            "settings": {
                "parameters": ", ".join(f"{key} = {value}" for key, value in mode.parameters.items()) or "all defaults",
                "audit": f"continuous, every {mode.interval:g} s of life, {asked.faster:g} times as fast here",
                "data source": "means of the platform's counters over the strategy's own periods",
            },
        },
        plan,
    )


if __name__ == "__main__":
    main()
