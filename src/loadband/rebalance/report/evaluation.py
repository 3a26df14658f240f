"""From the recordings of a run to its `Result`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from loadband.rebalance.events import End, Recording, Run
from loadband.rebalance.figures import measure, summarize
from loadband.rebalance.report import words
from loadband.rebalance.report.picture import picture
from loadband.rebalance.report.result import Repeat, Result
from loadband.rebalance.timeline import Timeline
from loadband.rebalance.verdict import Outcome, judge, overall


class ResultError(Exception):
    """Recordings don't belong together; the message is a sentence that says why."""


def belonging(recordings: Mapping[str, Recording]) -> list[tuple[str, Recording]]:
    """Recordings by the number of their repeat.

    Args:
        recordings: by the file's name.

    Raises:
        ResultError: there is none, they are of different scenarios, platforms, rebalancers, timing or versions,
            or two are one repeat.
    """
    if not recordings:
        raise ResultError("there is no recording")
    ordered = sorted(recordings.items(), key=lambda item: (item[1].run.repeat, words.natural(item[0])))
    first_file, first = ordered[0]
    repeats: dict[int, str] = {}
    for file, recording in ordered:
        for what, get in _SAME.items():
            if get(recording.run) != get(first.run):
                raise ResultError(f"{words.shown(file)} is of another {what} than {words.shown(first_file)}")
        if (other := repeats.setdefault(recording.run.repeat, file)) != file:
            raise ResultError(
                f"{words.shown(file)} and {words.shown(other)} are both repeat {recording.run.repeat}: a directory "
                "holds the repeats of one run"
            )
    return ordered


_SAME: Mapping[str, Callable[[Run], object]] = {
    "scenario": lambda run: run.plan.scenario,
    "plan": lambda run: run.plan,
    "platform": lambda run: (run.platform.name, run.platform.version),
    "rebalancer": lambda run: run.rebalancer,
    "timing": lambda run: run.timing,
    "version of loadband": lambda run: run.loadband,
}


def evaluate(name: str, recordings: Mapping[str, Recording]) -> Result:
    """Judge recordings.

    Args:
        name: the directory's, without its parents.
        recordings: by the file's name.

    Raises:
        ResultError: they don't belong together.
    """
    repeats = tuple(_repeat(file, recording) for file, recording in belonging(recordings))
    sound = [repeat for repeat in repeats if repeat.outcome is not Outcome.INVALID] or repeats
    asked = max(repeat.run.repeats for repeat in repeats)
    verdict = overall({repeat.number: repeat.verdict for repeat in repeats}, asked)
    return Result(
        name=name,
        repeats=repeats,
        summaries=summarize([repeat.figures for repeat in sound]),
        counted=tuple(repeat.number for repeat in sound),
        verdict=verdict,
    )


def _repeat(file: str, recording: Recording) -> Repeat:
    figures = measure(recording)
    return Repeat(
        number=recording.run.repeat,
        file=file,
        run=recording.run,
        figures=figures,
        verdict=judge(recording, figures),
        picture=picture(Timeline(recording), figures),
        ending=_ending(recording),
        remarks=recording.remarks,
    )


def _ending(recording: Recording) -> str:
    ends = [event for event in recording.events if isinstance(event, End)]
    if not ends:
        return "interrupted: the recording has no end"
    return f"{ends[-1].reason}: {ends[-1].detail}" if ends[-1].detail else str(ends[-1].reason)
