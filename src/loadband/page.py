"""The page for people at `/`: state, sentence, band, and the figures of the last minute. Pure but for `Minute.run`.

It loads nothing, runs no script and refreshes itself. Whoever asks for plain text, as curl does by accepting anything,
gets the same figures as text.
"""

from __future__ import annotations

import html
import threading
from collections import deque
from collections.abc import Callable
from string import Template

from loadband.quantities import Snapshot, Steal

SPAN = 60.0
"""Seconds that the figures are about, at most."""
STEP = 1.0
"""Seconds between two snapshots that are kept."""
REFRESH = 5
"""Seconds after which a browser asks again."""
_LINKS = {
    "/metrics": "for Prometheus, as text or OpenMetrics",
    "/healthz": "whether the control loop runs",
    "/readyz": "whether there is a trustworthy reading, and the program isn't stopping",
}


class Minute:
    """The snapshots of the last minute, one a second.

    Args:
        source: gives the latest snapshot, None before the first.
    """

    def __init__(self, source: Callable[[], Snapshot | None]) -> None:
        self._source = source
        self._kept: deque[Snapshot] = deque(maxlen=round(SPAN / STEP) + 1)

    def latest(self) -> Snapshot | None:
        """The latest snapshot; None before the first."""
        return self._source()

    def look(self) -> None:
        """Keep the latest snapshot."""
        snapshot = self._source()
        if snapshot is not None and (not self._kept or snapshot.at > self._kept[-1].at):
            self._kept.append(snapshot)

    def run(self, stop: threading.Event) -> None:
        """Look every second until told to stop."""
        while not stop.wait(STEP):
            self.look()

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Those of the last minute, oldest first; of a loop that stands still, those of its last minute."""
        kept = tuple(self._kept)
        return tuple(snapshot for snapshot in kept if snapshot.at >= kept[-1].at - SPAN)


def figures(kept: tuple[Snapshot, ...]) -> dict[str, str]:
    """What happened over these snapshots, by name, for people; fewer than two have nothing to tell.

    Args:
        kept: oldest first.
    """
    if len(kept) < 2:  # noqa: PLR2004 - a difference needs two
        return {}
    first, last = kept[0], kept[-1]
    then, now = first.counts, last.counts
    spent = {mode: getattr(now.cpu, mode) - getattr(then.cpu, mode) for mode in ("own", "other", "steal", "idle")}
    total = sum(spent.values())
    told = {"over the last": f"{last.at - first.at:.0f} s"}
    if total > 0:
        busy = spent["own"] + spent["other"] + (spent["steal"] if last.steal is Steal.BUSY else 0.0)
        seconds = [snapshot.utilization for snapshot in kept[1:] if snapshot.utilization is not None]
        span = f" (1-second windows: {_percent(min(seconds))}..{_percent(max(seconds))})" if seconds else ""
        told["utilization, mean"] = f"{_percent(busy / total)}{span}"
        told |= {mode: _percent(seconds / total) for mode, seconds in spent.items()}
    if (observed := now.observed_seconds - then.observed_seconds) > 0 and last.setpoint.band:
        told["in the band"] = f"{_percent((now.in_band_seconds - then.in_band_seconds) / observed)} of the time"
    told["workers"] = f"{last.command.workers}, effort {last.command.effort:.2f} CPUs"
    told["cycles that were late"] = str(now.overruns - then.overruns)
    return told


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def text(snapshot: Snapshot | None, kept: tuple[Snapshot, ...], version: str) -> str:
    """The page as plain text.

    Args:
        snapshot: the latest one; None before the first.
        kept: those of the last minute.
        version: the program's.
    """
    state, asked, why = _now(snapshot)
    lines = [f"loadband {version}", "", f"{state}: {asked}", why, ""]
    lines += [f"{name + ':':24}{value}" for name, value in figures(kept).items()]
    lines += ["", *(f"{path:24}{what}" for path, what in _LINKS.items())]
    return "\n".join(lines) + "\n"


def _now(snapshot: Snapshot | None) -> tuple[str, str, str]:
    """The state, what is asked for and what is, and the sentence."""
    if snapshot is None:
        return "starting", "no reading yet", "waiting for the first cycle"
    now = "no reading" if snapshot.utilization is None else f"{_percent(snapshot.utilization)} now"
    asked = f"band {snapshot.setpoint}" if snapshot.setpoint.band else f"effort {snapshot.setpoint}"
    return str(snapshot.verdict.state), f"{asked}, {now}", snapshot.sentence


def html_text(snapshot: Snapshot | None, kept: tuple[Snapshot, ...], version: str) -> str:
    """The page as HTML; see `text` for the arguments."""
    state, asked, why = (html.escape(part) for part in _now(snapshot))
    rows = "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in figures(kept).items()
    )
    links = "\n".join(f'<li><a href="{path}">{path}</a>: {html.escape(what)}</li>' for path, what in _LINKS.items())
    return _PAGE.substitute(
        version=html.escape(version), refresh=REFRESH, state=state, asked=asked, why=why, rows=rows, links=links
    )


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="$refresh">
<title>loadband: $state</title>
<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 sans-serif; margin: 2rem auto; max-width: 42rem; padding: 0 1rem; overflow-wrap: anywhere }
h1 { font-size: 1rem; font-weight: normal; opacity: .7 }
.state { font-size: 2rem; font-weight: bold; margin: 0 }
table { border-collapse: collapse; margin: 1.5rem 0 }
th, td { text-align: left; font-weight: normal; padding: .15rem 1.5rem .15rem 0; vertical-align: top }
th { opacity: .7 }
</style>
</head>
<body>
<h1>loadband $version</h1>
<p class="state">$state</p>
<p>$asked</p>
<p>$why</p>
<table>
<caption hidden>The last minute</caption>
$rows
</table>
<ul>
$links
</ul>
</body>
</html>
""")
