"""The chart, installed on a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chart import CHART, Object
from e2e.api import Api, run, wait
from e2e.pods import IMAGE, Pod

REGULATORS = "app.kubernetes.io/component=regulator"


@dataclass(frozen=True)
class Release:
    """The chart, installed."""

    name: str
    namespace: str
    api: Api

    def pods(self) -> list[Pod]:
        """Its regulators that aren't leaving."""
        return [one for one in self._every() if not one.leaving]

    def _every(self) -> list[Pod]:
        selector = f"{REGULATORS},app.kubernetes.io/instance={self.name}".replace(",", "%2C")
        found = self.api.items(f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={selector}")
        return [Pod(one, self.api) for one in found]

    def ready(self, count: int, seconds: float = 60) -> list[Pod]:
        """Its pods, once there are so many and all are ready."""
        found: list[Pod] = []

        def are_ready() -> bool:
            found[:] = self.pods()
            return len(found) == count and all(one.ready for one in found)

        wait(are_ready, seconds, f"{count} ready pods of {self.name}")
        return found

    def in_state(self, state: str, count: int, seconds: float = 60) -> list[Pod]:
        """Its pods, once there are so many and all of them are in a state."""
        found: list[Pod] = []

        def are_in_state() -> bool:
            found[:] = self.pods()
            return len(found) == count and all(one.ready and one.state() == state for one in found)

        wait(are_in_state, seconds, f"{count} pods of {self.name} {state}")
        return found

    def upgrade(self, values: Mapping[str, Any] | None, *arguments: str) -> str:
        """Give it other values, or leave that to the arguments, and wait until its pods are there."""
        return self._helm("upgrade", self.name, str(CHART), "--wait", *arguments, given=values)

    def rollback(self) -> None:
        self._helm("rollback", self.name, "--wait")

    def uninstall(self) -> None:
        """Remove it, and wait until its pods have ended."""
        self._helm("uninstall", self.name, "--wait", "--ignore-not-found")
        wait(lambda: not self._every(), 30, f"the end of {self.name}")

    def test(self) -> str:
        """What `helm test` prints."""
        return self._helm("test", self.name, "--logs")

    def install(self, values: Mapping[str, Any], chart: Path = CHART) -> str:
        return self._helm("install", self.name, str(chart), "--wait", given=values)

    def _helm(self, *arguments: str, given: Mapping[str, Any] | None = None) -> str:
        values = [] if given is None else ["--values", "-"]
        text = None if given is None else json.dumps(with_image(given))
        return run("helm", *arguments, "--namespace", self.namespace, *values, given=text)


def with_image(values: Mapping[str, Any]) -> Object:
    """The values, with the image that is tested; scope cpuset means a node wherever several share a machine."""
    repository, _, tag = IMAGE.rpartition(":")
    image = {"registry": "", "repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}
    return {"image": image, "scope": "cpuset", **values}
