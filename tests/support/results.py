"""Results of synthetic recordings, as a directory of a run would give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from recordings import CASES

from loadband.rebalance.events import Recording
from loadband.rebalance.report.evaluation import evaluate
from loadband.rebalance.report.result import Result


def repeats(*names: str) -> dict[str, Recording]:
    """Recordings by file, a repeat of each case that is named."""
    made = {}
    for number, name in enumerate(names, 1):
        recording = CASES[name]()
        made[f"recording-{number}.jsonl"] = replace(recording, run=replace(recording.run, repeat=number))
    return made


@cache
def result(*names: str) -> Result:
    """The result of these cases, each a repeat."""
    return evaluate("run-1", repeats(*names))


def changed(name: str, change: Callable[[Recording], Recording]) -> Result:
    """The result of one case, changed."""
    return evaluate("run-1", {"recording-1.jsonl": change(CASES[name]())})


def limited(name: str, **limits: str) -> Result:
    """The result of one case with other limits."""

    def change(recording: Recording) -> Recording:
        plan = replace(recording.run.plan, limits=limits)
        return replace(recording, run=replace(recording.run, plan=plan))

    return changed(name, change)
