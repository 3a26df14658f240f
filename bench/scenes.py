"""The scenes: what is asked of a tool, what happens meanwhile, and the numbers that tell how it went."""

from __future__ import annotations

from dataclasses import dataclass

from bench import probes, recording
from bench.probes import Probe
from bench.recording import Number
from bench.slices import Shares
from bench.tracks import DAY, HIGH, LEVEL_SECONDS, LOW, PERIOD, SINE, SPEED, STEPS, Track

LEAD = 5.0
"""Seconds for a tool to find its level before it is measured."""
HOLD = 16.0
"""Seconds to watch after an event: being back means 10 s in the band, and the slowest peer takes some to come back."""
INNER = 0.01
"""Half of the inner band: 64..66 for 60..70."""


@dataclass(frozen=True, slots=True)
class Row:
    """A number of a scene."""

    key: str
    title: str
    unit: str
    of: Number
    goal: float | None = None
    at_least: bool = False
    """Whether the goal is a least value; else it is a most one."""

    @property
    def decimals(self) -> int:
        """Digits after the point that a value is shown with, and judged by."""
        return {
            "pp": 2,
            "% of one CPU": 2,
            "s": 1,
            "ms": 1,
            "%": 1,
            "% of the machine": 1,
            "% of a CPU": 1,
            "of 1": 3,
        }.get(self.unit, 0)

    def met(self, value: float) -> bool:
        """Whether a value reaches the goal."""
        value = round(value, self.decimals)
        return self.goal is None or (value >= self.goal if self.at_least else value <= self.goal)


@dataclass(frozen=True, slots=True)
class Act:
    """A part of a scene."""

    event: str
    """With which it begins."""
    seconds: float
    """How long it lasts; where it is what's measured, at least."""
    measured: bool = False
    """Whether it lasts the SECONDS that the user asked for."""
    neighbour: float | None = None
    """Somebody else's load from now on, a ratio of the capacity; None changes nothing."""

    def lasts(self, seconds: float) -> float:
        """Seconds, where the user asked for some."""
        return max(self.seconds, seconds) if self.measured else self.seconds


@dataclass(frozen=True, slots=True)
class Scene:
    """What one tool after the other has to play."""

    name: str
    title: str
    rows: tuple[Row, ...]
    acts: tuple[Act, ...]
    band: tuple[float, float] = (60.0, 70.0)
    """Percent."""
    quota: float | None = None
    """CPUs of a group that the tool runs in."""
    cpu: int | None = None
    """The one CPU that the tool may use; counted from the last for negative numbers."""
    workers: int | None = None
    slices: int = 1
    """Regulators that share the work."""
    latch: float | None = None
    """Seconds after which they freeze; None: never."""
    track: Track | None = None
    """A band that moves, in the place of the other."""
    probe: type[Probe] = Probe
    loadband_only: str = ""
    """Why no peer can play it."""
    picture: bool = True
    """Whether utilization over time tells something."""

    def seconds(self, seconds: float) -> float:
        """How long it takes one tool, where the user asked for that many measured ones."""
        return sum(act.lasts(seconds) for act in self.acts)


def _steady(error: float, memory: float | None = None) -> tuple[Row, ...]:
    return (
        Row("error", "mean abs. error", "pp", recording.mean_error("from", "until"), error),
        Row("error_tasks", "the same by the root cgroup", "pp", recording.mean_error_by_tasks("from", "until")),
        Row("in_band", "windows in the band", "%", recording.share_within("from", "until"), 100, at_least=True),
        Row("inner", "windows within 1 pp of its middle", "%", recording.share_within("from", "until", INNER)),
        Row("ticks", "/proc/stat ticks against the truth", "pp", recording.tick_error("from", "until"), 0.5),
        Row("memory", "memory", "MiB", recording.fact("memory"), memory),
    )


def _holding(error: float) -> tuple[Row, ...]:
    return tuple(row for row in _steady(error) if row.key in {"error", "error_tasks", "in_band"})


def _in_group(error: float) -> tuple[Row, ...]:
    return tuple(row for row in _steady(error) if row.key in {"error", "in_band"})


FAIRNESS = recording.fact("fairness")
CORRELATION = recording.correlates("from", "until")
ALONE = "it knows nothing of others of its kind"
STANDS_STILL = "its load is one number"
EDGE = 0.05
"""From a profile's target to its edges, a ratio."""
_MOVE = (Act("start", 20.0), Act("from", 6.0), Act("moves", 2.0), Act("moved", 5.0))


def _moved(old: str) -> tuple[Row, ...]:
    return (
        Row("share", "share of the one that moves", "% of a CPU", recording.fact("share")),
        Row("old", old, "% of a CPU", recording.fact("old")),
        Row("new", "the new place is at", "% of a CPU", recording.fact("new")),
    )


_STEADY = (Act("start", LEAD), Act("from", 2.0, measured=True))
_INNER_GOAL = 99.0


def _main_rows() -> tuple[Row, ...]:
    return tuple(
        Row(row.key, row.title, row.unit, row.of, _INNER_GOAL, at_least=True) if row.key == "inner" else row
        for row in _steady(0.25, 45)
    )


SCENES = (
    Scene("steady", "60..70 %, nobody else", _main_rows(), _STEADY),
    Scene(
        "cold",
        "cold start",
        (
            Row("settled", "in the band after the first burn", "s", recording.back_in_band("burn", "until"), 1.0),
            Row("settled_start", "after the start of the process", "s", recording.back_in_band("start", "until")),
        ),
        (Act("start", HOLD),),
    ),
    Scene(
        "neighbour",
        "a neighbour takes 30 % and leaves again",
        (
            Row("back", "it comes: back in the band after", "s", recording.back_in_band("arrives", "leaves"), 1.0),
            Row(
                "error",
                "mean abs. error beside it (from 2 s on)",
                "pp",
                recording.mean_error("arrives", "leaves", 2.0),
                0.6,
            ),
            Row("again", "it leaves: back in the band after", "s", recording.back_in_band("leaves", "until"), 1.0),
        ),
        (Act("start", LEAD), Act("arrives", HOLD, neighbour=0.3), Act("leaves", HOLD, neighbour=0)),
    ),
    Scene(
        "flood",
        "others want 90 %",
        (
            Row("own", "burns beside it (from 1 s on)", "% of the machine", recording.tool_use("flooded", "leaves")),
            Row("got", "the others get", "% of the machine", recording.neighbour_use("flooded", "leaves")),
            Row("again", "they leave: back in the band after", "s", recording.back_in_band("leaves", "until"), 1.0),
        ),
        (Act("start", LEAD), Act("arrives", 1, neighbour=0.9), Act("flooded", 5), Act("leaves", HOLD, neighbour=0)),
    ),
    Scene("low", "5..10 %", _holding(0.5), _STEADY, band=(5.0, 10.0)),
    Scene("middle", "40..50 %", _holding(0.5), _STEADY, band=(40.0, 50.0)),
    Scene("high", "90..95 %", _holding(0.5), _STEADY, band=(90.0, 95.0)),
    Scene("quota-0.5", "60..70 % of a quota of 0.5 CPUs", _in_group(0.5), _STEADY, quota=0.5),
    Scene("quota-1.5", "60..70 % of a quota of 1.5 CPUs", _in_group(0.5), _STEADY, quota=1.5),
    Scene("cpuset", "60..70 % of one CPU", _in_group(0.5), _STEADY, cpu=-1),
    Scene("workers-128", "60..70 % with 128 workers", _steady(0.5, 64), _STEADY, workers=128),
    Scene(
        "cost",
        "own cost",
        (Row("cost", "CPU time less the burn calls", "% of one CPU", recording.fact("cost"), 1.0),),
        _STEADY,
        probe=probes.Cost,
        loadband_only="its burning can't be told from the rest",
        picture=False,
    ),
    Scene(
        "cost-128",
        "own cost of 128 workers",
        (Row("cost", "CPU time less the burn calls", "% of one CPU", recording.fact("cost")),),
        _STEADY,
        workers=128,
        probe=probes.Cost,
        loadband_only="its burning can't be told from the rest",
        picture=False,
    ),
    Scene(
        "readers",
        "what tick readers say",
        (
            Row("psutil", "psutil against the truth", "pp", recording.fact("psutil"), 0.5),
            Row("psutil_worst", "psutil, its worst second", "pp", recording.fact("psutil_worst")),
            Row("sar", "sar against the truth", "pp", recording.fact("sar"), 0.5),
            Row("sar_worst", "sar, its worst second", "pp", recording.fact("sar_worst")),
        ),
        _STEADY,
        probe=probes.Readers,
        picture=False,
    ),
    Scene(
        "itself",
        "what it says of itself",
        (
            Row("counters", "cpu_seconds_total against the meter", "pp", recording.fact("counters"), 0.25),
            Row("gauge", "cpu_utilization_ratio against the meter, mean", "pp", recording.fact("gauge")),
        ),
        (Act("start", LEAD), Act("from", 10.0, measured=True)),
        probe=probes.Itself,
        loadband_only="it exports nothing",
        picture=False,
    ),
    Scene(
        "latency",
        "/metrics at 95..99 %",
        (
            Row("p50", "p50", "ms", recording.fact("p50")),
            Row("p99", "p99", "ms", recording.fact("p99"), 50.0),
            Row("utilization", "utilization meanwhile", "%", recording.mean_utilization("from", "until")),
        ),
        (Act("start", LEAD), Act("from", 10.0, measured=True)),
        band=(95.0, 99.0),
        probe=probes.Latency,
        loadband_only="it exports nothing",
        picture=False,
    ),
    Scene(
        "scrapes",
        "200 scrapes a second",
        (
            Row(
                "moved",
                "utilization moves by (from 2 s on)",
                "pp",
                recording.moved("from", "scraped", "until", 2.0),
                0.5,
            ),
            Row(
                "error", "mean abs. error meanwhile (from 2 s on)", "pp", recording.mean_error("scraped", "until", 2.0)
            ),
            Row("rate", "scrapes answered", "1/s", recording.fact("rate")),
        ),
        (Act("start", LEAD), Act("from", 4.0, measured=True), Act("scraped", 4.0, measured=True)),
        probe=probes.Flood,
        loadband_only="it exports nothing",
        picture=True,
    ),
    Scene(
        "slices",
        "4 slices share a host",
        (*_holding(0.5), Row("fairness", "Jain's index of their shares", "of 1", FAIRNESS, 0.95, at_least=True)),
        (Act("start", 20.0), Act("from", 2.0, measured=True)),
        slices=4,
        probe=Shares,
        loadband_only=ALONE,
    ),
    Scene(
        "slices-killed",
        "8 slices, one is killed",
        (
            Row("back", "back in the band after", "s", recording.back_in_band("killed", "until"), 5.0),
            Row("error", "mean abs. error (from 5 s on)", "pp", recording.mean_error("killed", "until", 5.0), 0.5),
            Row("fairness", "Jain's index of the other shares", "of 1", FAIRNESS, 0.95, at_least=True),
        ),
        (Act("start", 25.0), Act("killed", HOLD)),
        slices=8,
        probe=Shares,
        loadband_only=ALONE,
    ),
    Scene(
        "sine",
        f"a sine from 20 to 80 %, {PERIOD:g} s long",
        (Row("error", "mean abs. error", "pp", recording.mean_error("from", "until"), 0.75),),
        (Act("start", LEAD), Act("from", PERIOD)),
        track=SINE,
        loadband_only=STANDS_STILL,
    ),
    Scene(
        "step",
        "a step from 30 to 70 % and back",
        (
            Row("up", "up: in the band after", "s", recording.reached("up", "down", HIGH - EDGE, HIGH + EDGE), 1.0),
            Row(
                "down", "down: in the band after", "s", recording.reached("down", "until", LOW - EDGE, LOW + EDGE), 1.0
            ),
        ),
        (Act("start", LEVEL_SECONDS), Act("up", LEVEL_SECONDS), Act("down", LEVEL_SECONDS)),
        track=STEPS,
        loadband_only=STANDS_STILL,
    ),
    Scene(
        "day",
        f"a recorded day, {SPEED} times as fast",
        (
            Row("correlation", "correlation with what was recorded", "of 1", CORRELATION, 0.99, at_least=True),
            Row("error", "mean abs. error", "pp", recording.mean_error("from", "until")),
        ),
        (Act("start", 2.0), Act("from", 24 * 3600 / SPEED - 2.0)),
        track=DAY,
        loadband_only=STANDS_STILL,
    ),
    Scene(
        "latched",
        "4 latched slices on one CPU, one moves to another",
        (
            *_moved("the old place is at"),
            Row("fall", "it falls by the share, but for", "pp", recording.fact("fall"), 0.5),
            Row("rise", "the new one rises by it, but for", "pp", recording.fact("rise"), 0.5),
        ),
        _MOVE,
        cpu=-1,
        slices=4,
        latch=5,
        probe=Shares,
        loadband_only=ALONE,
    ),
    Scene(
        "unlatched",
        "the same without a latch",
        _moved("the old place is refilled to"),
        _MOVE,
        cpu=-1,
        slices=4,
        probe=Shares,
        loadband_only=ALONE,
    ),
)
