"""What a host does beside the run, and whether it became more. Pure.

A host that isn't the run's own is never idle: a node of a cluster has its kubelet, its container runtime and the pods
of others. What it did before the overload is its background. More than that is somebody else's load, as long as no
slice of the run comes or goes: that costs the host something, too. A node is a host here, and a pod a slice on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from loadband.rebalance.events import Disturbance, Plan, Trouble
from loadband.rebalance.platforms.history import History

WORSE = 2.0
"""Foreign load that has grown by that factor is worth another word."""


class Background:
    """Holds what nodes do beside the run against what they did before.

    Args:
        cpus: by node, its capacity.
        plan: says how much more is too much, and over which time.
    """

    def __init__(self, cpus: Mapping[str, float], plan: Plan) -> None:
        self._cpus = cpus
        self._plan = plan
        self._ours = dict.fromkeys(cpus, 0.0)
        self._last: dict[str, float] = {}
        self._others = {node: History(plan.window) for node in cpus}
        self._usual: dict[str, float] = {}
        self._accused: dict[str, float] = {}
        self._restless = float("-inf")
        """When a pod of the run last came or went."""

    def ours(self, node: str, uid: str, seconds: float) -> None:
        """Count what a pod of the run has used.

        Args:
            node: where it is.
            uid: the pod's.
            seconds: CPU-seconds since its begin.
        """
        self._ours[node] += max(seconds - self._last.get(uid, 0.0), 0.0)
        self._last[uid] = seconds

    def restless(self, at: float) -> None:
        """Note that pods of the run come or go now; seconds, by the clock of `node`."""
        self._restless = max(self._restless, at)

    def node(self, at: float, node: str, busy: float) -> Disturbance | None:
        """Take what a node has been busy in all.

        Args:
            at: seconds since the epoch; never less than before.
            node: its name.
            busy: CPU-seconds since some begin.

        Returns:
            An accusation of whoever burns more than before, once, and again when it gets much worse.
        """
        history = self._others[node]
        history.add(at, busy - self._ours[node])
        if at < self._restless + self._plan.window:
            return None
        rate = history.rate()
        if rate is None:
            return None
        more, most = rate - self._usual.setdefault(node, rate), self._plan.most_foreign * self._cpus[node]
        if more <= most:
            self._accused.pop(node, None)
            return None
        if more <= WORSE * self._accused.get(node, 0.0):
            return None
        self._accused[node] = more
        share, before = 100 * rate / self._cpus[node], 100 * self._usual[node] / self._cpus[node]
        detail = f"others took {share:.0f} % of {node} over {self._plan.window:g} s, and {before:.0f} % at other times"
        return Disturbance(at=at, what=Trouble.FOREIGN_LOAD, host=node, who="others", amount=more, detail=detail)
