"""Structured log lines: one when something changes, and a summary every ten seconds.

There is never one per cycle: each topic may write a few lines at once, and then one every ten seconds, with the number
of changes that were left out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TextIO

from loadband import output
from loadband.quantities import Snapshot, State, Steal

if TYPE_CHECKING:
    import threading

    import structlog

Fields = Mapping[str, object]

POLL = 0.25
"""Seconds between two looks at the snapshot."""
SUMMARY = 10.0
"""Seconds between two summaries, and between two lines of a topic that has used up its burst."""
BURST = 3
"""Number of lines that a topic may write at once."""
ALARMING = frozenset({State.FAILSAFE, State.SATURATED})


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log; ratios are 0..1, amounts of CPU are CPUs, times are seconds."""

    level: int
    event: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class _Fact:
    """What a snapshot says about one topic; a line is due if `values` change."""

    topic: str
    event: str
    values: Fields
    baseline: Fields
    """The values that count as logged before the topic is first seen."""
    level: int = logging.INFO
    detail: Fields = field(default_factory=dict)
    urgent: bool = False
    """Whether it is told at once though its topic has used up its burst: as many lines again, and no more."""


@dataclass(slots=True)
class _Topic:
    said: Fields
    seen: Fields
    at: float
    allowance: float = BURST
    changes: int = 0


class Journal:
    """Decides what is worth a line. It reads no clock: snapshots carry their own times."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._summed_up: Snapshot | None = None
        self._seen: object = None

    def lines(self, snapshot: Snapshot) -> list[Line]:
        """The lines that a snapshot is worth, given the earlier ones; most snapshots are worth none."""
        lines: list[Line] = []
        seen = _seen(snapshot)
        # Mostly nothing has changed, and to find that out by topic costs more than all other work of this thread.
        if seen != self._seen or any(topic.changes for topic in self._topics.values()):
            self._seen = seen
            lines = [line for fact in _facts(snapshot) if (line := self._tell(fact, snapshot.at))]
        since = self._summed_up = self._summed_up or snapshot
        if snapshot.at - since.at >= SUMMARY:
            lines.append(Line(logging.INFO, "summary", _summary(since, snapshot)))
            self._summed_up = snapshot
        return lines

    def _tell(self, fact: _Fact, at: float) -> Line | None:
        topic = self._topics.setdefault(fact.topic, _Topic(fact.baseline, fact.baseline, at))
        topic.allowance = min(BURST, topic.allowance + (at - topic.at) / SUMMARY)
        topic.at = at
        if fact.values != topic.seen:
            topic.seen = fact.values
            topic.changes += 1
        if not topic.changes or topic.allowance < (1 - BURST if fact.urgent else 1):
            return None
        was = {f"was_{name}": value for name, value in topic.said.items() if value not in (None, fact.values.get(name))}
        left_out = {"changes_left_out": topic.changes - 1} if topic.changes > 1 else {}
        topic.said = fact.values
        topic.allowance -= 1
        topic.changes = 0
        return Line(fact.level, fact.event, {**fact.values, **was, **left_out, **fact.detail})


def _seen(snapshot: Snapshot) -> object:
    """All that the values of the facts are made of: while it stays equal, so do they."""
    reading, counts = snapshot.reading, snapshot.counts
    return (
        snapshot.verdict.state,
        snapshot.setpoint,
        snapshot.command.latched,
        snapshot.command.workers,
        (reading.capacity, reading.reach) if reading else None,
        counts.failures,
        counts.worker_restarts,
    )


def _facts(snapshot: Snapshot) -> Iterator[_Fact]:
    state = snapshot.verdict.state
    yield _Fact(
        "state",
        "state changed",
        values={"state": str(state)},
        baseline={"state": None},
        level=logging.WARNING if state in ALARMING else logging.INFO,
        detail={"why": snapshot.verdict.why, **_now(snapshot)},
        urgent=state in {State.FAILSAFE, State.EXPIRED},
    )
    setpoint = snapshot.setpoint
    if setpoint.band:
        edges = {"band_min_ratio": setpoint.band.low, "band_max_ratio": setpoint.band.high}
        asked: Fields = {**edges, "source": setpoint.source}
        if progress := setpoint.progress:
            # A moving band changes all the time; only a new phase is worth a line.
            asked = {"source": setpoint.source, "profile": progress.profile, "phase": progress.phase}
        yield _Fact("band", "band changed", values=asked, baseline=asked, detail=edges)
    latched = {"latched_effort_cpus": snapshot.command.latched and round(snapshot.command.latched, 4)}
    yield _Fact("latch", "latch changed", values=latched, baseline=latched)
    if snapshot.reading:
        cpus = {"capacity_cpus": snapshot.reading.capacity, "reach_cpus": snapshot.reading.reach}
        yield _Fact("capacity", "capacity changed", values=cpus, baseline=cpus)
    workers = {"workers": snapshot.command.workers}
    yield _Fact("workers", "workers changed", values=workers, baseline=workers)
    for reason, dropped in snapshot.counts.failures.items():
        yield _Fact(
            f"dropped {reason}",
            "readings dropped",
            values={"reason": str(reason), "dropped_total": dropped},
            baseline={"reason": str(reason), "dropped_total": 0},
            level=logging.WARNING,
        )
    yield _Fact(
        "restarts",
        "worker replaced",
        values={"worker_restarts_total": snapshot.counts.worker_restarts},
        baseline={"worker_restarts_total": 0},
        level=logging.WARNING,
    )


def _now(snapshot: Snapshot) -> Fields:
    fields: dict[str, object] = {}
    if snapshot.utilization is not None:
        fields["utilization_ratio"] = round(snapshot.utilization, 4)
    fields["effort_cpus"] = round(snapshot.command.effort, 4)
    if snapshot.reading:
        fields["reach_cpus"] = snapshot.reading.reach
    fields["workers"] = snapshot.command.workers
    return fields


def _summary(since: Snapshot, snapshot: Snapshot) -> Fields:
    """The time between two snapshots: ratios are means over it, other values are those at its end."""
    then, now = since.counts, snapshot.counts
    spent = {mode: getattr(now.cpu, mode) - getattr(then.cpu, mode) for mode in ("own", "other", "steal", "idle")}
    observed, total = now.observed_seconds - then.observed_seconds, sum(spent.values())
    fields: dict[str, object] = {"state": str(snapshot.verdict.state)}
    if observed > 0 and total > 0:
        ratios = {mode: seconds / total for mode, seconds in spent.items()}
        busy = ratios["own"] + ratios["other"] + (ratios["steal"] if snapshot.steal is Steal.BUSY else 0)
        fields["utilization_ratio"] = round(busy, 4)
        fields |= {f"{mode}_ratio": round(ratio, 4) for mode, ratio in ratios.items()}
        fields["in_band_ratio"] = round((now.in_band_seconds - then.in_band_seconds) / observed, 4)
    fields["observed_seconds"] = round(observed, 2)
    fields["effort_cpus"] = round(snapshot.command.effort, 4)
    fields["workers"] = snapshot.command.workers
    fields["overruns"] = now.overruns - then.overruns
    if snapshot.others:
        fields["others"] = snapshot.others
    return fields


def _line_of(record: logging.LogRecord) -> Line:
    """A message of another thread, with the traceback if it reports an exception; still one line."""
    fields = {"logger": record.name}
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return Line(record.levelno, record.getMessage(), fields)


def load() -> None:
    """Load structlog, unless it is loaded: while the loop runs already, what that takes would count as its own cost."""
    with _without(_ABSENT):
        import structlog  # noqa: F401, PLC0415 - to load it is all that is wanted


_ABSENT: Mapping[str, ModuleType | None] = {
    # For coloured tracebacks, which no line here has: 4 MiB. That None means absent is documented: docs.python.org, The
    # import system, the module cache.
    "rich": None,
    # For methods that are awaited, of which nobody here is one: 1.8 MiB. It can't be absent, only empty.
    "asyncio": ModuleType("asyncio"),
}
"""What structlog loads and doesn't need, and what it finds instead."""


@contextmanager
def _without(absent: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Put others in place of modules, for as long as it lasts; those that are loaded already stay."""
    # Any: that None stands for a module is unknown to the stubs.
    hidden: dict[str, Any] = {name: module for name, module in absent.items() if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def _writer(file: TextIO, level: str, style: Literal["text", "json"]) -> Callable[[Line], None]:
    load()
    import structlog  # noqa: PLC0415 - see `load`

    order = ["timestamp", "level", "event"]
    text = structlog.processors.LogfmtRenderer(key_order=order, bool_as_flag=False)
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(file),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer() if style == "json" else text,
        ],
    )

    def write(line: Line) -> None:
        # A full disk costs this line, but never the load: the metrics still work. A reader that has left ends the run.
        try:
            logger.log(line.level, line.event, **line.fields)
        except BrokenPipeError:
            raise
        except OSError:
            pass

    return write


def run(  # noqa: PLR0913 - the two ends, the stream, and three settings
    source: Callable[[], Snapshot | None],
    stop: threading.Event,
    file: TextIO,
    *,
    level: str = "info",
    style: Literal["text", "json"] = "text",
    settings: Fields | None = None,
) -> None:
    """Write the log until `stop` is set; runs in a thread of its own, which a blocked pipe may block.

    The first line is `started`, with the settings; the last is `stopped`, with the summary of the whole run.

    Args:
        source: returns the latest snapshot, None before the first.
        stop: ends the log, within `POLL` seconds.
        file: where the lines go, one `write` each; see `output.stdout`.
        level: the lowest level that is written: debug, info, warning, error or critical.
        style: `text` writes `key=value` pairs (logfmt), `json` one object per line.
        settings: the fields of the first line.

    Raises:
        BrokenPipeError: if whoever read the log has left.
        KeyError: if there is no such level.
    """
    journal = Journal()
    with output.inbox() as inbox:
        write = _writer(file, level, style)
        write(Line(logging.INFO, "started", settings or {}))
        stopping = False
        while not stopping:
            stopping = stop.wait(POLL)
            snapshot = source()
            for line in journal.lines(snapshot) if snapshot else ():
                write(line)
            for record in inbox.take():
                write(_line_of(record))
        end = {"held": snapshot.held, "summary": output.summary(snapshot)} if snapshot else {}
        write(Line(logging.INFO, "stopped", end))
