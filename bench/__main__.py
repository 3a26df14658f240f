"""The command line of the benchmark: `python -m bench`, or `make bench`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bench import figures, machine, report
from bench.groups import CannotError
from bench.results import Results, Run
from bench.scenes import SCENES, Scene
from bench.stage import Tick, ToolFailedError, play, task_of
from bench.tools import TOOLS, Launch, Tool

T = TypeVar("T")

SECONDS = 6.0
REPEATS = 3
OVERHEAD = 0.7
"""Seconds that it takes to start and end a tool."""
TRIES = 3
"""Maximum number of attempts at an undisturbed run."""
INTERRUPTED = 130


class Choice(NamedTuple):
    """The user's choice."""

    scenes: tuple[Scene, ...]
    tools: tuple[Tool, ...]
    seconds: float
    repeats: int
    out: Path
    anyway: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and show the results; return the exit code: 0, 2 if the machine is busy, 130 after Ctrl-C."""
    choice = _parse(arguments)
    console = Console(highlight=False)
    absent = [tool.name for tool in choice.tools if not tool.found]
    if absent:
        console.print(f"Left out because not on PATH: {', '.join(absent)}.")
    tools = tuple(tool for tool in choice.tools if tool.found)
    minutes = choice.repeats * estimate(choice.scenes, tools, choice.seconds) / 60
    console.print(
        f"Scenes: {len(choice.scenes)}; tools: {', '.join(tool.name for tool in tools)}; {minutes:.0f} minutes."
    )
    busy = machine.busy()
    if busy.too_busy:
        console.print(
            f"[bold red]The machine isn't idle: {busy.percent:.0f} % in use"
            f"{' by ' + ', '.join(busy.by) if busy.by else ''}.[/]"
        )
        if not choice.anyway:
            console.print("Wait until it is, or measure anyway with --anyway (make bench ANYWAY=1).")
            return 2
    results = _earlier(choice.out / "results.json", console)
    results.versions |= {tool.name: tool.version() for tool in tools}
    try:
        _measure(choice, tools, results, console)
    except KeyboardInterrupt:
        console.print("Interrupted: the results so far are kept.")
        return INTERRUPTED
    finally:
        if results.runs:
            publish(results, choice.out)
    names = [scene.name for scene in choice.scenes]
    console.print(report.terminal(results, names))
    for sentence in report.missed(results, names):
        console.print(f"[bold red]missed[/]: {sentence}")
    console.print(f"{choice.out / 'README.md'}, results.json and a picture of each scene were written.")
    return 0


def estimate(scenes: Sequence[Scene], tools: Sequence[Tool], seconds: float) -> float:
    """Return the seconds that all tools take to play all scenes."""
    return sum(scene.seconds(seconds) + OVERHEAD for scene in scenes for tool in tools if not _cannot(scene, tool))


def publish(results: Results, out: Path) -> None:
    """Write the pictures and the page."""
    pictures = []
    for scene in SCENES:
        runs = [run for tool in TOOLS if (run := results.runs.get((scene.name, tool.name))) and run.curve]
        if scene.picture and runs:
            pictures.append((scene.title, figures.draw(scene, runs, out).name))
    (out / "README.md").write_text(report.markdown(results, pictures))


def _measure(choice: Choice, tools: Sequence[Tool], results: Results, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=1) as progress:
        bar = progress.add_task("", total=choice.repeats * estimate(choice.scenes, tools, choice.seconds))
        for scene in choice.scenes:
            for tool in tools:
                progress.update(bar, description=f"{scene.name} · {tool.name}")
                runs: list[Run] = []
                while len(runs) < choice.repeats and not (runs and runs[-1].cannot):
                    runs.append(
                        _run(scene, tool, choice.seconds, lambda passed: progress.advance(bar, passed), console)
                    )
                    results.add(Run.middle(runs))
                    results.save(choice.out / "results.json")
                console.print(_summary(scene, results.runs[scene.name, tool.name]))


def _run(scene: Scene, tool: Tool, seconds: float, tick: Tick, console: Console) -> Run:
    if why := _cannot(scene, tool):
        return Run(scene.name, tool.name, cannot=why)
    for attempt in range(TRIES):
        try:
            recording = play(scene, tool, seconds, tick)
        except (CannotError, ToolFailedError) as error:
            return Run(scene.name, tool.name, cannot=str(error))
        run = Run.of(scene, tool, shown(scene, tool), recording, seconds)
        if not run.strangers > report.STRANGERS:
            break
        again = ": trying again" if attempt + 1 < TRIES else ""
        console.print(
            f"[bold red]disturbed[/]: while {tool.name} played {scene.name}, other processes used"
            f" {run.strangers:.0f} % of the machine for a second{again}"
        )
    return run


def _cannot(scene: Scene, tool: Tool) -> str:
    """Return why a tool can't play a scene, as far as known beforehand; empty if it may."""
    if scene.loadband_only and tool.name != report.OURS:
        return scene.loadband_only
    try:
        tool.launch(task_of(scene))
    except CannotError as error:
        return str(error)
    return ""


def shown(scene: Scene, tool: Tool) -> str:
    """Return the command with which a tool plays a scene, as one would type it."""
    launch: Launch = tool.launch(task_of(scene))
    return launch.shown()


def _summary(scene: Scene, run: Run) -> str:
    told = run.cannot or " · ".join(f"{row.title} {report.written(row, run.numbers[row.key])}" for row in scene.rows)
    return f"[bold]{scene.name} · {run.tool}[/]: {told}"


def _earlier(path: Path, console: Console) -> Results:
    """Return earlier results of this machine, to add to; empty results if there are none."""
    here = machine.describe()
    try:
        results = Results.load(path)
    except OSError:
        return Results({**here, "date": machine.today()})
    except (ValueError, KeyError, TypeError) as error:
        console.print(f"{path} can't be read ({error}): starting over.")
        return Results({**here, "date": machine.today()})
    if here != {name: value for name, value in results.machine.items() if name != "date"}:
        console.print(f"{path} is from another machine: starting over.")
        return Results({**here, "date": machine.today()})
    results.machine["date"] = machine.today()
    return results


def _parse(arguments: Sequence[str] | None) -> Choice:
    scenes = {scene.name: scene for scene in SCENES}
    tools = {tool.name: tool for tool in TOOLS}
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Runs loadband and its peers through the same scenes, with a meter outside of them all.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(
            [
                "scenes:",
                *(f"  {scene.name:12} {scene.title}" for scene in SCENES),
                "tools:",
                *(f"  {tool.name:12} {tool.about}" for tool in TOOLS),
            ]
        ),
    )
    parser.add_argument("--scenes", default="", help="names of scenes, separated by commas or spaces; default all")
    parser.add_argument(
        "--tools", default="", help="names of tools, separated by commas or spaces; default all on PATH"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="duration of each measured span; default %(default)g"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=REPEATS,
        help="runs of each scene with each tool, of which the figures are medians; default %(default)s",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/benchmark"),
        help="directory for results.json, README.md and the pictures; earlier results of this machine stay unless"
        " they are measured again; default %(default)s",
    )
    parser.add_argument("--anyway", action="store_true", help="measure even if the machine isn't idle")
    given = parser.parse_args(arguments)
    if not 2 <= given.seconds <= 600:  # noqa: PLR2004 - at least two windows; more than 10 minutes is another kind of test
        parser.error("--seconds must be 2..600")
    if not 1 <= given.repeats <= 99:  # noqa: PLR2004 - more is a mistake
        parser.error("--repeats must be 1..99")

    def chosen(text: str, known: Mapping[str, T]) -> tuple[T, ...]:
        names = text.replace(",", " ").split() or list(known)
        if unknown := [name for name in names if name not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
        return tuple(thing for name, thing in known.items() if name in names)

    return Choice(
        chosen(given.scenes, scenes), chosen(given.tools, tools), given.seconds, given.repeats, given.out, given.anyway
    )


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `main`; on Ctrl-C, SIGTERM or a closed terminal, end everything that was started."""
    # Not only SIGINT: a shell without job control makes background processes ignore it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return main(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())
