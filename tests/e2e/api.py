"""The API server of a cluster, and how to wait for it."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from chart import Object
from program import wait_until


class ApiError(Exception):
    """The API server refused; `status` is the HTTP one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def run(*command: str | Path, given: str | None = None, seconds: float = 120) -> str:
    """What a command prints.

    Raises:
        AssertionError: if it fails.
    """
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command[:4]))}: {done.stderr}{done.stdout}"
    return done.stdout


def kubectl(*arguments: str, given: str | None = None, seconds: float = 120) -> str:
    return run("kubectl", *arguments, given=given, seconds=seconds)


class Api:
    """The API server, through `kubectl proxy`, which knows how to get there and who we are.

    Args:
        url: the proxy's.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def text(self, path: str, method: str = "GET", body: object = None, kind: str = "application/json") -> str:
        """Ask, for any path.

        Raises:
            ApiError: it refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, error.read().decode()) from error

    def get(self, path: str) -> Object:
        return dict(json.loads(self.text(path)))

    def patch(self, path: str, change: Object) -> Object:
        return dict(json.loads(self.text(path, "PATCH", change, "application/strategic-merge-patch+json")))

    def items(self, path: str) -> list[Object]:
        return list(self.get(path)["items"])


def pause(seconds: float) -> float:
    """Let the load be measured for a while: that takes time, whatever else is true. Gives the wall clock."""
    time.sleep(seconds)
    return time.time()


def wait(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Until a condition is met: asked less often than one on this machine, each answer costs CPU time."""

    def asked() -> bool:
        try:
            if condition():
                return True
        except (ApiError, LookupError, OSError):
            pass
        time.sleep(0.3)
        return False

    wait_until(asked, seconds, what)
