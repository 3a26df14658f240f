"""A run while it goes on: a live view in a terminal, a line for each event elsewhere."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadband.rebalance.events import (
    Alert,
    AlertState,
    Disturbance,
    End,
    Event,
    Move,
    MoveState,
    Phase,
    PhaseName,
    Plan,
)
from loadband.rebalance.platforms.history import Hosts
from loadband.rebalance.run import Audience

BAR = 40
"""Characters of a host's bar."""
MOVES = 6
"""How many moves are shown, the last ones."""
FRAMES = 4
"""Frames a second."""
COLOUR = {
    AlertState.PENDING: "yellow",
    AlertState.FIRING: "red",
    MoveState.FAILED: "red",
    MoveState.CANCELLED: "red",
    MoveState.DONE: "green",
}


class Scene:
    """What can be seen of a run now, from the events so far.

    Args:
        title: what runs, for people.
        plan: says what is hot, and what is balance.
        clock: seconds since the epoch.
    """

    def __init__(self, title: str, plan: Plan, clock: Callable[[], float] = time.time) -> None:
        self._lock = threading.Lock()
        """A frame is drawn by a thread of its own, between two events."""
        self._title = title
        self._plan = plan
        self._clock = clock
        self._doing = "starting"
        self._until: float | None = None
        self._began: float | None = None
        """When the baseline began: times are shown since then."""
        self._phase: PhaseName | None = None
        self._hosts = Hosts(plan.window)
        self._alerts: dict[tuple[str, str], Alert] = {}
        self._moves: deque[Move] = deque(maxlen=MOVES)
        self._troubles: list[Disturbance] = []

    def stage(self, doing: str, until: float | None) -> None:
        """See `Audience`."""
        self._doing, self._until = doing, until

    def event(self, event: Event) -> None:
        """See `Audience`."""
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        self._hosts.take(event)
        match event:
            case Alert(name=name, host=host, state=state):
                if state in {AlertState.RESOLVED, AlertState.DROPPED}:
                    self._alerts.pop((name, host), None)
                elif state is not AlertState.NOTIFIED:
                    self._alerts[name, host] = event
            case Move(move=move):
                kept = [each for each in self._moves if each.move != move]
                self._moves = deque([*kept, event], maxlen=MOVES)
            case Disturbance():
                self._troubles.append(event)
            case Phase(at=at, name=phase):
                self._phase = phase
                self._began = at if self._began is None else self._began

    def since(self, at: float) -> str:
        """A time as it is shown: seconds since the begin of the baseline."""
        return "" if self._began is None else f"{at - self._began:.1f} s"

    def render(self) -> RenderableType:
        """Draw one frame."""
        with self._lock:
            parts: list[RenderableType] = [self._headline(), Text(), self._host_table()]
            tables = self._alert_table(), self._move_table(), self._trouble_table()
        for part in tables:
            if part.row_count:
                parts += [Text(), part]
        return Group(*parts)

    def _headline(self) -> Text:
        text = Text.assemble((self._title, "bold"), "   ")
        for phase in PhaseName:
            text.append(f" {phase} ", "reverse bold" if phase is self._phase else "dim")
        if self._phase != self._doing:
            text.append(f"   {self._doing}")
        if self._until is not None:
            text.append(f"   {max(self._until - self._clock(), 0.0):.0f} s left")
        return text

    def _host_table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, ratio in self._hosts.utilization().items():
            table.add_row(Text(name), self._bar(ratio), Text("-" if ratio is None else f"{100 * ratio:.0f} %"))
        if table.row_count:
            table.add_row("", Text(f"{'hot':>{round(BAR * self._plan.hot) + 2}}", "dim"), "")
        return table

    def _bar(self, ratio: float | None) -> Text:
        full, mark = round(BAR * (ratio or 0.0)), round(BAR * self._plan.hot)
        hot = ratio is not None and ratio >= self._plan.hot
        bar = Text("█" * full + "░" * (BAR - full), "red" if hot else "green")
        before, after = bar[:mark], bar[mark:]
        return Text.assemble(before, ("│", "bold"), after)

    def _alert_table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for (name, host), alert in self._alerts.items():
            lasts = f"since {self.since(alert.at)}"
            table.add_row(Text(alert.state, COLOUR.get(alert.state, "")), Text(name), Text(host), Text(lasts, "dim"))
        return table

    def _move_table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for move in self._moves:
            state = Text(move.state, COLOUR.get(move.state, ""))
            way = f"{move.source} → {move.destination or '?'}"
            table.add_row(
                Text(self.since(move.at), "dim"), Text(move.slice), Text(way), state, Text(move.reason, "dim")
            )
        return table

    def _trouble_table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for trouble in self._troubles[-MOVES:]:
            text = trouble.detail or " ".join(filter(None, (trouble.who, trouble.host)))
            table.add_row(Text(self.since(trouble.at), "dim"), Text(trouble.what, "bold red"), Text(text))
        return table


class Lines:
    """Prints a line for each event that people want to know of.

    Args:
        scene: knows since when times count.
        write: takes a line.
    """

    def __init__(self, scene: Scene, write: Callable[[str], object]) -> None:
        self._scene = scene
        self._write = write
        self._stage = ""

    def stage(self, doing: str, until: float | None) -> None:
        """See `Audience`."""
        self._scene.stage(doing, until)
        if doing not in {self._stage, *PhaseName}:
            self._write(doing)
        self._stage = doing

    def event(self, event: Event) -> None:
        """See `Audience`."""
        self._scene.event(event)
        if text := line_of(event):
            self._write(f"{self._scene.since(event.at):>7}  {text}".rstrip())


def line_of(event: Event) -> str:
    """What people want to know of an event, in one line; empty for the events that they don't."""
    match event:
        case Phase(name=name):
            return f"{name} begins"
        case Alert(name=name, host=host, state=state):
            return f"alert {name} {host} {state}"
        case Move(slice=name, source=source, destination=destination, state=state, reason=reason):
            return f"move {name} from {source} to {destination or '?'} {state}: {reason}"
        case Disturbance(what=what, detail=detail):
            return f"{what}: {detail}"
        case End(reason=reason, detail=detail):
            return f"end: {reason}{f': {detail}' if detail else ''}"
    return ""


@contextmanager
def watching(console: Console, title: str, plan: Plan) -> Iterator[Audience]:
    """Show a run for as long as the context lasts: live in a terminal, else line by line."""
    scene = Scene(title, plan)
    if not console.is_terminal:
        yield Lines(scene, lambda line: console.print(Text(line), soft_wrap=True))
        return
    with Live(console=console, get_renderable=scene.render, refresh_per_second=FRAMES, transient=True):
        yield scene
