"""The scenes: what each asks of a tool, what happens in it, and which figures it yields."""

from __future__ import annotations

from dataclasses import dataclass

from bench import probes, recording
from bench.probes import Probe
from bench.recording import Number
from bench.slices import Shares
from bench.tracks import DAY, HIGH, LEVEL_SECONDS, LOW, PERIOD, SINE, SPEED, STEPS, Track

LEAD = 5.0
"""Seconds that a tool has to settle before it is measured."""
HOLD = 16.0
"""Seconds to watch after an event: being back means 10 s in the band, and the slowest peer takes a while."""
INNER = 0.01
"""Half the width of the inner band (ratio): 64..66 for 60..70."""


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of a scene."""

    key: str
    title: str
    unit: str
    of: Number
    goal: float | None = None
    at_least: bool = False
    """Whether the goal is a minimum; otherwise it is a maximum."""

    @property
    def decimals(self) -> int:
        """Number of decimals to which a value is rounded, both to show and to judge it."""
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
    """The event with which the act begins."""
    seconds: float
    """Duration; for a measured act, the minimum."""
    measured: bool = False
    """Whether the act lasts as long as the user asked for with SECONDS."""
    neighbour: float | None = None
    """The neighbour's load from now on, as a ratio of the capacity; None leaves it as it is."""

    def lasts(self, seconds: float) -> float:
        """Return the duration in seconds, if the user asked for that many measured seconds."""
        return max(self.seconds, seconds) if self.measured else self.seconds


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene, played by one tool after the other."""

    name: str
    title: str
    rows: tuple[Row, ...]
    acts: tuple[Act, ...]
    band: tuple[float, float] = (60.0, 70.0)
    """Lower and upper edge, in percent."""
    quota: float | None = None
    """Quota of the group that the tool runs in, in CPUs; None for no group."""
    cpu: int | None = None
    """The only CPU that the tool may use; negative numbers count from the last CPU."""
    workers: int | None = None
    slices: int = 1
    """Number of regulators that share the work."""
    latch: float | None = None
    """Seconds after which the regulators latch; None for never."""
    track: Track | None = None
    """A moving band, in place of `band`."""
    company: str = "burn"
    """What the neighbour does, see `helpers`."""
    probe: type[Probe] = Probe
    loadband_only: str = ""
    """Why no peer can play the scene; empty if peers can."""
    picture: bool = True
    """Whether a picture of utilization over time is worth drawing."""

    def seconds(self, seconds: float) -> float:
        """Return the duration in seconds for one tool, if the user asked for that many measured seconds."""
        return sum(act.lasts(seconds) for act in self.acts)


def _steady(error: float, memory: float | None = None) -> tuple[Row, ...]:
    return (
        Row("error", "mean abs. error", "pp", recording.mean_error("from", "until"), error),
        Row("error_tasks", "mean abs. error, by the root cgroup", "pp", recording.mean_error_by_tasks("from", "until")),
        Row("in_band", "windows in the band", "%", recording.share_within("from", "until"), 100, at_least=True),
        Row("inner", "windows within 1 pp of the middle", "%", recording.share_within("from", "until", INNER)),
        Row("ticks", "error of tick readers (/proc/stat)", "pp", recording.tick_error("from", "until"), 0.5),
        Row("memory", "memory", "MiB", recording.fact("memory"), memory),
    )


def _holding(error: float) -> tuple[Row, ...]:
    return tuple(row for row in _steady(error) if row.key in {"error", "error_tasks", "in_band"})


def _in_group(error: float) -> tuple[Row, ...]:
    return tuple(row for row in _steady(error) if row.key in {"error", "in_band"})


FAIRNESS = recording.fact("fairness")
CORRELATION = recording.correlates("from", "until")
ALONE = "its instances don't share a band"
STANDS_STILL = "its target is fixed"
EDGE = 0.05
"""Distance from a profile's target to the edges of its band, a ratio."""
_MOVE = (Act("start", 20.0), Act("from", 6.0), Act("moves", 2.0), Act("moved", 5.0))


def _moved(old: str) -> tuple[Row, ...]:
    return (
        Row("share", "share of the slice that moves", "% of a CPU", recording.fact("share")),
        Row("old", old, "% of a CPU", recording.fact("old")),
        Row("new", "the new CPU is at", "% of a CPU", recording.fact("new")),
    )


def _beside(name: str, title: str, company: str) -> Scene:
    """A neighbour that wants up to one CPU of two, and not steadily."""
    error = recording.mean_error("arrives", "until", 2.0)
    rows = (
        Row("error", "mean abs. error beside it (from 2 s on)", "pp", error, 1.0),
        Row("took", "it gets", "% of the machine", recording.neighbour_use("arrives", "until")),
    )
    acts = (Act("start", LEAD), Act("arrives", 10.0, measured=True, neighbour=0.5))
    return Scene(name, title, rows, acts, company=company)


_STEADY = (Act("start", LEAD), Act("from", 2.0, measured=True))
_INNER_GOAL = 99.0


def _main_rows() -> tuple[Row, ...]:
    return tuple(
        Row(row.key, row.title, row.unit, row.of, _INNER_GOAL, at_least=True) if row.key == "inner" else row
        for row in _steady(0.25, 45)
    )


SCENES = (
    Scene("steady", "60..70 %, no other load", _main_rows(), _STEADY),
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
            Row("back", "it arrives: back in the band after", "s", recording.back_in_band("arrives", "leaves"), 1.0),
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
        "other processes want 90 %",
        (
            Row("own", "burned beside them (from 1 s on)", "% of the machine", recording.tool_use("flooded", "leaves")),
            Row("got", "the other processes get", "% of the machine", recording.neighbour_use("flooded", "leaves")),
            Row("again", "they leave: back in the band after", "s", recording.back_in_band("leaves", "until"), 1.0),
        ),
        (Act("start", LEAD), Act("arrives", 1, neighbour=0.9), Act("flooded", 5), Act("leaves", HOLD, neighbour=0)),
    ),
    _beside("bursts", "a neighbour burns a CPU for 100 ms, then rests for 200 ms", "burst"),
    _beside("build", "a neighbour compiles Python's library", "build"),
    _beside("web", "a neighbour serves 200 requests a second", "serve"),
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
        (Row("cost", "CPU time without the burn calls", "% of one CPU", recording.fact("cost"), 1.0),),
        _STEADY,
        probe=probes.Cost,
        loadband_only="its burning can't be separated from its own cost",
        picture=False,
    ),
    Scene(
        "cost-128",
        "own cost of 128 workers",
        (Row("cost", "CPU time without the burn calls", "% of one CPU", recording.fact("cost")),),
        _STEADY,
        workers=128,
        probe=probes.Cost,
        loadband_only="its burning can't be separated from its own cost",
        picture=False,
    ),
    Scene(
        "readers",
        "what tick readers report",
        (
            Row("psutil", "error of psutil", "pp", recording.fact("psutil"), 0.5),
            Row("psutil_worst", "error of psutil, worst second", "pp", recording.fact("psutil_worst")),
            Row("sar", "error of sar", "pp", recording.fact("sar"), 0.5),
            Row("sar_worst", "error of sar, worst second", "pp", recording.fact("sar_worst")),
        ),
        _STEADY,
        probe=probes.Readers,
        picture=False,
    ),
    Scene(
        "itself",
        "what its metrics report",
        (
            Row("counters", "error of cpu_seconds_total", "pp", recording.fact("counters"), 0.25),
            Row("gauge", "mean error of cpu_utilization_ratio", "pp", recording.fact("gauge")),
        ),
        (Act("start", LEAD), Act("from", 10.0, measured=True)),
        probe=probes.Itself,
        loadband_only="it exports no metrics",
        picture=False,
    ),
    Scene(
        "latency",
        "/metrics at 95..99 %",
        (
            Row("p50", "p50", "ms", recording.fact("p50")),
            Row("p99", "p99", "ms", recording.fact("p99"), 50.0),
            Row("utilization", "utilization at that time", "%", recording.mean_utilization("from", "until")),
        ),
        (Act("start", LEAD), Act("from", 10.0, measured=True)),
        band=(95.0, 99.0),
        probe=probes.Latency,
        loadband_only="it exports no metrics",
        picture=False,
    ),
    Scene(
        "scrapes",
        "200 scrapes a second",
        (
            Row(
                "moved",
                "utilization changes by (from 2 s on)",
                "pp",
                recording.moved("from", "scraped", "until", 2.0),
                0.5,
            ),
            Row("error", "mean abs. error (from 2 s on)", "pp", recording.mean_error("scraped", "until", 2.0)),
            Row("rate", "scrapes answered", "1/s", recording.fact("rate")),
        ),
        (Act("start", LEAD), Act("from", 4.0, measured=True), Act("scraped", 4.0, measured=True)),
        probe=probes.Flood,
        loadband_only="it exports no metrics",
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
            *_moved("the old CPU is at"),
            Row("fall", "it falls by the share, within", "pp", recording.fact("fall"), 0.5),
            Row("rise", "the new CPU rises by the share, within", "pp", recording.fact("rise"), 0.5),
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
        _moved("the old CPU is refilled to"),
        _MOVE,
        cpu=-1,
        slices=4,
        probe=Shares,
        loadband_only=ALONE,
    ),
)
