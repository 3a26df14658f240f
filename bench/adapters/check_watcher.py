"""Canned input of which Watcher's own tests give the answer, through the adapter: `make league` runs it in the venv."""

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.adapters.lines import Counters, State, keep_log
from bench.adapters.moved import said_by_watcher
from bench.adapters.watcher import Source, audit, cluster

FASTER = 15.0


def told(hosts: Mapping[str, tuple[float, float]], slices: Mapping[str, tuple[str, float, float]]) -> list[State]:
    """The states of a run in which hosts and slices burn as much all the time.

    Args:
        hosts: by name, CPUs and how many of them are busy.
        slices: by name, the host, CPUs and how many of them are used.
    """
    return [
        {
            "at": at,
            "counted_at": at,
            "hosts": [{"name": name, "cpus": cpus, "cpu_seconds": at * busy} for name, (cpus, busy) in hosts.items()],
            "slices": [
                {"name": name, "host": host, "cpus": cpus, "cpu_seconds": at * used}
                for name, (host, cpus, used) in slices.items()
            ],
        }
        for at in (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
    ]


class Watcher(unittest.TestCase):
    """The real strategies."""

    def setUp(self) -> None:
        """Keep Watcher's log in a file, as a row of the league does."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.log = Path(folder.name, "log")
        keep_log(self.log, "watcher.decision_engine.strategy")

    def moves(self, strategy: str, states: list[State], **parameters: Any) -> list[tuple[str, str]]:
        """What the adapter makes of it; what Watcher's log says must be the same."""
        counters = Counters(60.0)
        for state in states:
            counters.add(state)
        found = audit(strategy, parameters, cluster(states[-1]), Source(counters, FASTER))
        moves = [(move["slice"], move["destination"]) for move in found]
        self.assertEqual(moves, said_by_watcher(self.log.read_text(), 0.0, float("inf")))
        return moves

    def test_workload_balance(self) -> None:
        """TestWorkloadBalance.test_filter_destination_hosts_cpu, of scenario_6_with_2_nodes.

        In watcher/tests/unit/decision_engine/strategy/strategies/test_workload_balance.py: at the default threshold of
        25 % the node at 32.5 % is overloaded, the instance at 50 % of 10 virtual CPUs is chosen, and makes the node at
        7.5 % one at 20 %. Usages are those of FakeGnocchiMetrics.get_average_usage_instance_cpu_wb.
        """
        states = told(
            {"Node_0": (40.0, 13.0), "Node_1": (40.0, 3.0)},
            {
                "INSTANCE_1": ("Node_0", 10.0, 8.0),
                "73b09e16": ("Node_0", 10.0, 5.0),
                "INSTANCE_3": ("Node_1", 10.0, 2.0),
                "INSTANCE_4": ("Node_1", 10.0, 1.0),
            },
        )
        self.assertEqual(self.moves("workload_balance", states), [("73b09e16", "Node_1")])
        for said in (
            "Node_0: host_cpu_usage_percent is 32.5. Higher than threshold 25.0: True",
            "Node_1: host_cpu_usage_percent is 7.5. Higher than threshold 25.0: False",
            "usage for cpu would be 20.0.",
        ):
            self.assertIn(said, self.log.read_text())

    def test_workload_balance_without_a_destination(self) -> None:
        """All nodes are above the threshold: nothing can be planned (WorkloadBalance.do_execute)."""
        states = told({"a": (1.0, 0.9), "b": (1.0, 0.4)}, {"big": ("a", 1.0, 0.9), "small": ("b", 1.0, 0.4)})
        self.assertEqual(self.moves("workload_balance", states), [])
        self.assertIn("there are no possible target", self.log.read_text())

    def five(self) -> list[State]:
        """The hosts of TestWorkloadStabilization, with the one instance that its migration case moves."""
        hosts = {f"Node_{index}": (40.0, 40.0 * busy) for index, busy in enumerate((0.07, 0.07, 0.8, 0.05, 0.05))}
        return told(hosts, {"d050ef1f": ("Node_2", 10.0, 1.0)})

    def test_workload_stabilization(self) -> None:
        """TestWorkloadStabilization.test_check_threshold_cpu and test_calculate_migration_case.

        In watcher/tests/unit/decision_engine/strategy/strategies/test_workload_stabilization.py: five nodes whose
        standard deviation is 0.296, and an instance at 10 % of 10 virtual CPUs on Node_2, which makes a node of 40 CPUs
        busier by 0.025 wherever it goes. The default `host_choice` draws the destination.
        """
        [(name, destination)] = self.moves("workload_stabilization", self.five())
        self.assertEqual(name, "d050ef1f")
        self.assertNotEqual(destination, "Node_2")
        self.assertRegex(self.log.read_text(), r"Standard deviation for instance_cpu_usage is 0\.296")
        # The same formula by hand: population standard deviation after 0.025 went from Node_2 to the destination.
        after = [0.07, 0.07, 0.775, 0.05, 0.05]
        after[int(destination[-1])] += 0.025
        mean = sum(after) / 5
        expected = (sum((one - mean) ** 2 for one in after) / 5) ** 0.5
        self.assertIn(f"reduces standard deviation to {expected:.6f}"[:-1], self.log.read_text())

    def test_workload_stabilization_below_its_threshold(self) -> None:
        """TestWorkloadStabilization.test_check_threshold_cpu_fail: 0.296 is below 0.4."""
        thresholds = {"instance_cpu_usage": 0.4, "instance_ram_usage": 0.4}
        self.assertEqual(self.moves("workload_stabilization", self.five(), thresholds=thresholds), [])


if __name__ == "__main__":
    unittest.main()
