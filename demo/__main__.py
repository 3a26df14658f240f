"""The demo, live in a terminal: `python -m demo`."""

from __future__ import annotations

import sys
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.chains import FACTOR, SLACK, Demo, Step, demo
from demo.servers import MissingError

MISSING, LATE, OK = 2, 1, 0


def steps_table(steps: list[Step]) -> Table:
    """What took how long, and how long it may have taken."""
    table = Table(title=f"Seconds from step to step, {FACTOR:g} times faster than shipped", title_justify="left")
    table.add_column("chain")
    table.add_column("step")
    table.add_column("took", justify="right")
    table.add_column("allowed", justify="right")
    table.add_column("made of")
    table.add_column("")
    for place, step in enumerate(steps):
        first = place == 0 or steps[place - 1].chain != step.chain
        verdict = ("late", "red") if step.late else ("too early", "red") if step.early else ("in time", "green")
        table.add_row(
            step.chain if first else "",
            step.name,
            f"{step.took:.2f}",
            f"{step.at_least:.2f} .. {step.at_most:.2f}",
            step.allowed,
            Text(*verdict),
            end_section=place + 1 == len(steps) or steps[place + 1].chain != step.chain,
        )
    table.caption = f"A step is late {SLACK:g} s after what is allowed: a machine that is saturated on purpose is slow."
    table.caption_justify = "left"
    return table


def now(running: Demo) -> RenderableType:
    """The hosts as the rules see them, and the alerts that they make."""
    hosts = Table.grid(padding=(0, 2))
    for labels, value in running.servers.query("sort_desc(node:loadband_host_cpu:ratio)"):
        colour = "red" if value >= running.hot_from else "green"
        hosts.add_row(
            labels["node"],
            ProgressBar(total=1.0, completed=value, width=40, complete_style=colour, finished_style=colour),
            f"{100 * value:.0f} %",
        )
    alerts = Table.grid(padding=(0, 2))
    for alert in running.servers.alerts():
        labels, state = alert["labels"], alert["state"]
        where = " ".join(labels[name] for name in ("node", "pod") if name in labels)
        alerts.add_row(Text(state, "red" if state == "firing" else "yellow"), labels["alertname"], where)
    return Group(Text(running.doing, "bold"), "", hosts, "", alerts, "")


def main() -> int:
    """Run all chains; 0 where all steps were in time, 1 where not, 2 where something is missing."""
    console = Console()
    steps: list[Step] = []
    running: Demo | None = None
    frame: RenderableType = Text("starting Prometheus, Alertmanager and the regulators ...", "bold")

    def draw() -> RenderableType:
        nonlocal frame
        with suppress(OSError):  # a server is busy: the frame before is good enough
            frame = now(running) if running else frame
        return Group(frame, steps_table(steps)) if steps else frame

    def tell(step: Step) -> None:
        steps.append(step)
        if not console.is_terminal:
            console.print(f"{step.chain}: {step.name}: {step.took:.2f} s")

    try:
        with Live(console=console, get_renderable=draw, refresh_per_second=4, transient=True), demo(tell) as running:
            running.run()
    except MissingError as error:
        print(f"loadband demo: {error}", file=sys.stderr)  # noqa: T201 - for people
        return MISSING
    except TimeoutError as error:
        console.print(steps_table(steps))
        print(f"loadband demo: {error}", file=sys.stderr)  # noqa: T201 - for people
        return LATE
    console.print(steps_table(steps))
    return LATE if any(step.late or step.early for step in steps) else OK


if __name__ == "__main__":
    sys.exit(main())
