"""The league: several rebalancers through the same scenarios, each repeat recorded and judged. `make league`.

What is recorded stays: a league that was interrupted goes on where it was, and more rows, scenarios or repeats add to
it. Repeats take turns, so that whatever drifts on the machine does so for all. A repeat that proves nothing (INVALID)
is recorded again, `AGAIN` times at most; what it replaces stays in the folder `spoiled` beside it.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from bench import lanes, standings
from bench.adapters import moved
from bench.standings import COLOUR, Standing
from loadband.document import DocumentError
from loadband.ending import Ending
from loadband.exits import Exit
from loadband.rebalance import recording, session, shipped
from loadband.rebalance.check import load
from loadband.rebalance.events import End, EndReason, Expectation, Move, MoveState
from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.programs import MissingError
from loadband.rebalance.rebalancers import RebalancerError
from loadband.rebalance.report import compare, directory, document, words
from loadband.rebalance.report.evaluation import evaluate
from loadband.rebalance.report.result import Repeat
from loadband.rebalance.run import MonitoringError, Result
from loadband.rebalance.scenario import Scenario
from loadband.rebalance.session import Session, SessionError
from loadband.rebalance.verdict import CheckKind, Outcome

T = TypeVar("T")

AGAIN = 2
"""How often a repeat that proves nothing is recorded again."""
OVERHEAD = 12.0
"""Seconds that a repeat takes besides its phases: servers and slices start and end."""
LATE = 3.0
"""Seconds: what a tool says so shortly before the end of a recording may not be asked of the platform any more, or be
about slices that are gone."""
MOST_REPEATS = 100
TOOLS = Path("build/tools")
"""Where `make league` sets up the venvs of other projects' rebalancers."""
TOOL_LOG = "tool.log"
"""In a row's folder: what its tool says of all repeats."""
INTERRUPTED = 130

Play = Callable[[Session, int], Result]
"""Runs one repeat of a session and records it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A rebalancer in the league."""

    name: str
    about: str
    rebalancer: str
    """Its key in `session.REBALANCERS`."""
    planner: tuple[str, ...] = ()
    """The command of the rebalancer *planner*."""
    adapter: tuple[str, ...] = ()
    """Of the rebalancer *resident*: a module of bench/adapters and its arguments, run by the Python of `tool`."""
    tool: str = ""
    """The venv in `TOOLS` that the adapter needs; empty: none."""
    reads_utilization: bool = True
    expected: Mapping[Expectation, Outcome] = field(default_factory=dict)
    """By what a scenario expects, what every repeat must be; without an entry it is only measured."""


def _watcher(strategy: str, mode: str) -> Row:
    name = f"watcher-{strategy.removeprefix('workload_')}"
    return Row(
        name=name if mode == "shipped" else f"{name}-{mode}",
        about=f"OpenStack Watcher's {strategy}, {'as shipped' if mode == 'shipped' else 'tuned to react fast'}",
        rebalancer="resident",
        adapter=("bench.adapters.watcher", "--strategy", strategy, "--mode", mode),
        tool="watcher",
    )


ROWS = (
    Row(
        name="none",
        about="nobody: what happens without a rebalancer",
        rebalancer="none",
        reads_utilization=False,
        expected={
            Expectation.BALANCE: Outcome.FAIL,
            Expectation.NO_MOVE: Outcome.PASS,
            Expectation.NO_ALERT: Outcome.PASS,
        },
    ),
    Row(
        name="mover",
        about="loadband's own, which waits for the alert",
        rebalancer="mover",
        expected=dict.fromkeys(Expectation, Outcome.PASS),
    ),
    Row(name="hbal", about="Ganeti's hbal, asked every interval", rebalancer="hbal"),
    _watcher("workload_stabilization", "shipped"),
    _watcher("workload_stabilization", "tuned"),
    _watcher("workload_balance", "shipped"),
    _watcher("workload_balance", "tuned"),
    Row(
        name="proxlb",
        about="ProxLB by CPU, otherwise as in its example configuration: every 12 hours",
        rebalancer="resident",
        adapter=("bench.adapters.proxlb", "--mode", "shipped"),
        tool="proxlb",
    ),
    Row(
        name="proxlb-tuned",
        about="ProxLB by CPU, every minute",
        rebalancer="resident",
        adapter=("bench.adapters.proxlb", "--mode", "tuned"),
        tool="proxlb",
    ),
)


@dataclass(frozen=True, slots=True)
class Match:
    """A rebalancer in a scenario."""

    row: Row
    session: Session
    cannot: str
    """Why it can't be played here; empty if it can."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.session.scenario.name} · {self.row.name}"

    @property
    def seconds(self) -> float:
        """How long a repeat takes, at most."""
        scenario = self.session.scenario
        return OVERHEAD + scenario.baseline + scenario.watch + scenario.recovery


def match(row: Row, scenario: Scenario, repeats: int, out: Path) -> Match:
    """A match, whose recordings are in a folder of its own; nothing is started."""
    folder = out / scenario.name / row.name
    command = row.planner
    if row.adapter:
        options = ("--faster", f"{scenario.faster:g}", "--log", str(folder / TOOL_LOG))
        command = (str(_python(row)), "-W", "ignore", "-m", *row.adapter, *options)
    made = Session(
        scenario=scenario,
        platform="local",
        rebalancer=row.rebalancer,
        planner=command,
        repeats=repeats,
        seed=scenario.seed,
        out=folder,
    )
    return Match(row, made, _cannot(row, made))


def _python(row: Row) -> Path:
    return TOOLS / row.tool / "bin" / "python"


def _cannot(row: Row, made: Session) -> str:
    if row.tool and not _python(row).exists():
        return f"{row.tool} isn't set up: make league ROWS={row.name} does it"
    if made.scenario.rebalancer == "none" and row.reads_utilization:
        return "it is for rebalancers that don't read utilization"
    try:
        made.new_platform()
        made.new_rebalancer()
    except (PlatformError, RebalancerError) as error:
        return str(error)
    return ""


def stale(matches: Sequence[Match]) -> list[str]:
    """Why earlier recordings can't be gone on with, a sentence each.

    They can't be read, or are of another scenario, or of several machines: all who meet in a scenario do so on one.
    What is complete may be of another machine than this one.
    """
    found = []
    machines: dict[Path, set[str]] = {}
    for each in matches:
        made = each.session
        repeats: tuple[Repeat, ...] = ()
        there = machines.setdefault(made.out.parent, set())
        if _recorded(made):
            try:
                result = directory.read(made.out)
            except directory.DirectoryError as error:
                found.append(str(error))
                continue
            if result.plan != made.scenario.plan():
                found.append(f"{made.out}: was recorded before the scenario {result.plan.scenario} was changed")
            there.add(result.run.platform.version)
            repeats = result.repeats
        kept = sum(_is_kept(made, repeat) for repeat in repeats if repeat.number <= made.repeats)
        if not each.cannot and kept < made.repeats:
            there.add(made.new_platform().describe().version)
    for folder, there in machines.items():
        if len(there) > 1:
            found.append(f"{folder}: who meets in a scenario must do so on one machine: {words.listed(sorted(there))}")
    return found


def _recorded(made: Session) -> list[Path]:
    return sorted(made.out.glob(directory.RECORDINGS))


# Measuring


def measure(
    matches: Sequence[Match], play: Play, console: Console, clock: Callable[[], float] = time.monotonic
) -> bool:
    """Record every repeat that isn't there yet.

    Args:
        matches: those that can't be played are left out.
        play: runs a repeat.
        console: where progress is shown, a line for each repeat.
        clock: monotonic, seconds.

    Returns:
        False if somebody asked for the end; what was recorded before is kept.
    """
    most = max((each.session.repeats for each in matches), default=0)
    due = [
        (each, number)
        for number in range(1, most + 1)
        for each in matches
        if not each.cannot and number <= each.session.repeats and _is_due(each.session, number, console)
    ]
    began, ahead, passed = clock(), sum(each.seconds for each, _ in due), 0.0
    console.print(f"{words.count(len(due), 'repeat')} to record, about {words.seconds(ahead)}.")
    for index, (each, number) in enumerate(due, 1):
        if not _record(each, number, play, console):
            return False
        passed += each.seconds
        if rest := len(due) - index:
            left = (ahead - passed) * (clock() - began) / passed
            console.print(Text(f"{words.count(rest, 'repeat')} left, about {words.seconds(round(left))}.", "dim"))
    return True


def _is_due(made: Session, number: int, console: Console) -> bool:
    """Whether a repeat has to be recorded; makes room for it."""
    path = made.recording(number)
    if not path.exists():
        return True
    try:
        repeat = judged(made, number)
    except recording.RecordingError as error:
        console.print(Text(f"{error}: recorded again"))
        path.unlink()
        return True
    if repeat is None:
        path.unlink()  # it was cut off: nothing that could be kept
        return True
    if _is_kept(made, repeat):
        return False
    _set_aside(made, number)
    return True


def _is_kept(made: Session, repeat: Repeat) -> bool:
    """Whether a repeat that was recorded isn't recorded again."""
    return not _is_spoiled(repeat) or _spoiled(made, repeat.number) >= AGAIN


def _is_spoiled(repeat: Repeat) -> bool:
    """Whether a repeat proves nothing, and may do better next time.

    A rebalancer that moves slices away before they are an overload does so each time: that is a result.
    """
    broken = {
        check.name
        for check in repeat.verdict.checks
        if check.kind is CheckKind.VALIDITY and check.outcome is Outcome.INVALID
    }
    moves = repeat.figures["moves"].value
    return repeat.outcome is Outcome.INVALID and not (moves and broken <= _NO_OVERLOAD)


_NO_OVERLOAD = frozenset({"overload stood", "imbalance stood"})
"""Checks that say that there was nothing to do."""


def judged(made: Session, number: int) -> Repeat | None:
    """A repeat as recorded; None if there is none, or it was cut off or interrupted.

    Raises:
        RecordingError: it can't be read.
    """
    path = made.recording(number)
    if not path.exists():
        return None
    found = recording.read(path)
    ends = [event for event in found.events if isinstance(event, End)]
    if not ends or ends[-1].reason is EndReason.INTERRUPTED:
        return None
    return evaluate(made.out.name, {path.name: found}).repeats[0]


def _record(each: Match, number: int, play: Play, console: Console) -> bool:
    """Record a repeat, again if it proves nothing; returns False if somebody asked for the end."""
    made = each.session
    label = f"{each.name} · {number} of {made.repeats}"
    for attempt in range(_spoiled(made, number), AGAIN + 1):
        ended = play(made, number)
        for problem in ended.left:
            console.print(Text(f"not undone: {problem}", "bold red"))
        if ended.reason is EndReason.INTERRUPTED:
            made.recording(number).unlink(missing_ok=True)
            return False
        repeat = judged(made, number)
        outcome = repeat.outcome if repeat else Outcome.INVALID
        said = repeat.sentence if repeat else ended.detail
        console.print(Text.assemble(f"{label}: ", (outcome, COLOUR[outcome]), f" {words.shown(said)}"))
        if repeat and not _is_spoiled(repeat):
            break
        if attempt < AGAIN:
            console.print(Text(f"{label} proves nothing: recording it again, {attempt + 1} of {AGAIN}", "yellow"))
            _set_aside(made, number)
    return True


def _aside(made: Session, number: int) -> list[Path]:
    return sorted((made.out / "spoiled").glob(f"recording-{number}-*.jsonl"))


def _spoiled(made: Session, number: int) -> int:
    """How many recordings of a repeat were set aside."""
    return len(_aside(made, number))


def _set_aside(made: Session, number: int) -> None:
    path = made.recording(number)
    if path.exists():
        aside = made.out / "spoiled"
        aside.mkdir(exist_ok=True)
        path.rename(aside / f"recording-{number}-{_spoiled(made, number) + 1}.jsonl")


# Results


def differs(each: Match) -> str:
    """How what was recorded and the tool's own log differ, a sentence without its stop; empty if they don't.

    Raises:
        RecordingError: a recording can't be read.
    """
    log = each.session.out / TOOL_LOG
    if not each.row.tool:
        return ""
    text = log.read_text(errors="replace") if log.exists() else ""
    for path in _recorded(each.session):
        found = recording.read(path)
        by = found.run.rebalancer.name
        ends = [event.at for event in found.events if isinstance(event, End)]
        made = [
            (event.slice, event.destination or "")
            for event in found.events
            if isinstance(event, Move) and event.state is MoveState.ASKED and event.by == by
        ]
        end = ends[-1] if ends else float("inf")
        said, sure = (moved.SAID[each.row.tool](text, found.run.at, until) for until in (end, end - LATE))
        if why := moved.disagreement(made, said, len(sure)):
            return f"{path.name}: {why}"
    return ""


def standing(each: Match) -> Standing:
    """What is recorded of a match, judged.

    Raises:
        DirectoryError: the recordings don't belong together.
    """
    made = each.session
    return Standing(
        scenario=made.scenario,
        row=each.row.name,
        expected=each.row.expected.get(made.scenario.expect),
        result=directory.read(made.out) if _recorded(made) else None,
        cannot=each.cannot,
        differs=differs(each),
        again=sum(_spoiled(made, number) for number in range(1, made.repeats + 1)),
    )


def publish(found: Sequence[Standing], out: Path, command: str) -> None:
    """Write the page with its pictures, and the comparison.

    Raises:
        DirectoryError: a file can't be written.
    """
    groups = compare.compare([each.result for each in found if each.result is not None])
    texts = {
        "README.md": standings.markdown(found, command),
        "compare.json": document.text(compare.plain(groups)),
        "compare.html": compare.html(groups),
    }
    texts |= {
        f"{name}.svg": lanes.draw(there)
        for name, there in standings.by_scenario(found)
        if any(each.result for each in there)
    }
    directory.write(out, texts)


# The command line


def main(arguments: Sequence[str] | None, wait: Callable[[float], bool]) -> int:
    """Play the league; returns the exit code.

    0: everything is as expected; 1: something isn't, or nothing could be played; 2: bad input; 3: something failed; 130
    after Ctrl-C.

    Args:
        arguments: of the command line; None: those of this process.
        wait: waits for some seconds, or less if the league is to end; returns whether it is.
    """
    asked = _parse(arguments)
    console = Console(highlight=False)
    run = secrets.token_hex(4)

    def play(made: Session, number: int) -> Result:
        return session.play(made, run, number, wait, console)

    try:
        scenarios = [load(name) for name in asked.scenarios]
        matches = [match(row, scenario, asked.repeats, asked.out) for scenario in scenarios for row in asked.rows]
        if problems := stale(matches):
            console.print(Text("\n".join(problems)))
            console.print(f"Remove what isn't of this league from {asked.out}, or choose another OUT.")
            return Exit.BAD_INPUT
        for each in matches:
            if each.cannot:
                console.print(Text(f"{each.name}: not played: {each.cannot}", "dim"))
        if not measure(matches, play, console):
            console.print("Interrupted. What was recorded is kept: the same command goes on from there.")
            return INTERRUPTED
        found = [standing(each) for each in matches]
        publish(found, asked.out, f"make league {asked.shown}".rstrip())
    except (DocumentError, MissingError, MonitoringError, PlatformError, RebalancerError, SessionError) as error:
        console.print(Text(str(error), "bold red"))
        return Exit.BAD_INPUT
    except (directory.DirectoryError, recording.RecordingError) as error:
        console.print(Text(str(error), "bold red"))
        return Exit.FAILED
    return _conclude(found, asked.out, console)


def _conclude(found: Sequence[Standing], out: Path, console: Console) -> int:
    compare.draw(compare.compare([each.result for each in found if each.result is not None]), console)
    console.print()
    console.print(standings.table(found))
    console.print()
    for each in found:
        if each.missed:
            console.print(Text.assemble(("not as expected: ", "bold red"), words.shown(each.missed)))
    console.print(f"{out / 'README.md'}, compare.html and compare.json were written.")
    is_good = any(each.result for each in found) and not any(each.missed for each in found)
    return Exit.OK if is_good else Exit.NOT_ACHIEVED


@dataclass(frozen=True, slots=True)
class _Asked:
    rows: Sequence[Row]
    scenarios: Sequence[str]
    repeats: int
    out: Path
    shown: str
    """What was chosen, as variables of make."""


def _parse(arguments: Sequence[str] | None) -> _Asked:
    rows = {row.name: row for row in ROWS}
    names = {file.stem: file.stem for file in sorted(shipped.path("scenarios").glob("*.toml"))}
    parser = argparse.ArgumentParser(
        prog="python -m bench.league",
        description="Plays scenarios with several rebalancers, records and judges each repeat, and compares them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["rows:", *(f"  {row.name:27} {row.about}" for row in ROWS)]),
    )
    parser.add_argument("--rows", default="", help="names of rows, separated by commas or spaces; default all")
    parser.add_argument("--scenarios", default="", help="names of scenarios, likewise; default all that are shipped")
    parser.add_argument("--repeats", type=int, default=5, help="of each row in each scenario; default %(default)d")
    parser.add_argument(
        "--out", type=Path, default=Path("build/league"), help="for recordings and results; default %(default)s"
    )
    given = parser.parse_args(arguments)
    if not 1 <= given.repeats <= MOST_REPEATS:
        parser.error(f"--repeats must be 1..{MOST_REPEATS}")

    def chosen(text: str, known: Mapping[str, T]) -> list[T]:
        wanted = text.replace(",", " ").split() or list(known)
        if unknown := [name for name in wanted if name not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
        return [thing for name, thing in known.items() if name in wanted]

    shown = [f'{name}="{text}"' for name, text in (("ROWS", given.rows), ("SCENARIOS", given.scenarios)) if text]
    shown.append(f"REPEATS={given.repeats}")
    return _Asked(chosen(given.rows, rows), chosen(given.scenarios, names), given.repeats, given.out, " ".join(shown))


def run() -> int:
    """Run `main`; the first Ctrl-C or SIGTERM ends it in good order."""
    ending = Ending()
    ending.install()
    return main(None, ending.wait)


if __name__ == "__main__":
    sys.exit(run())
