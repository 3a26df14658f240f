"""A `Result` as one HTML file: no script, nothing from elsewhere, for any width, light and dark, and paper. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from loadband.rebalance import figures
from loadband.rebalance.events import Expectation, Part, Real
from loadband.rebalance.figures import Better, Definition, Figure, Summary
from loadband.rebalance.report import charts, words
from loadband.rebalance.report.advice import advice
from loadband.rebalance.report.picture import MoveArrow, Picture
from loadband.rebalance.report.result import Repeat, Result, worst
from loadband.rebalance.report.story import description, story
from loadband.rebalance.verdict import Check, CheckKind, Outcome

MOVES = 200
"""Rows of a table of moves; result.json has them all."""
STORY = 120
"""Events told in words."""
TILES = 6
KEY_FIGURES: Mapping[Expectation, tuple[str, ...]] = {
    Expectation.BALANCE: (
        "time_to_alert",
        "time_to_first_move",
        "time_to_balance",
        "residual_imbalance",
        "moves",
        "thrash",
    ),
    Expectation.NO_MOVE: ("moves", "time_to_alert", "initial_imbalance", "load_fidelity"),
    Expectation.NO_ALERT: ("moves", "time_to_alert", "initial_imbalance", "load_fidelity"),
    Expectation.NOTHING: ("alert_to_move", "moves", "thrash", "residual_imbalance", "overload_time_fraction"),
}
"""By expectation, what is shown large beside the figures with limits."""
CHAIN = ("time_to_pending", "pending_to_firing", "firing_to_webhook", "time_to_alert", "alert_to_resolved")
"""The figures of the awaited alert, which have a table of their own."""
SMALL = 330
"""Width of a picture among many, CSS pixels."""

MEANS: Mapping[Outcome, str] = {
    Outcome.PASS: "the platform did what was expected, within every limit",
    Outcome.FAIL: "the run is sound, and the platform missed what was expected or a limit",
    Outcome.INVALID: "the run proves nothing, neither good nor bad: something spoiled it",
}
EXPECTED: Mapping[Expectation, str] = {
    Expectation.BALANCE: "the alert fires, something moves, and balance comes back",
    Expectation.NO_MOVE: "nothing moves, whether or not the alert fires",
    Expectation.NO_ALERT: "the alert doesn't fire, and nothing moves",
    Expectation.NOTHING: "nothing but what the limits say",
}
REAL: Mapping[Real, str] = {
    Real.REAL: "the real program, with its own actuator",
    Real.OUR_ACTUATOR: "the real program decides; loadband carries its decisions out",
    Real.STAND_IN_METRICS: "the real program decides, on metrics that loadband stands in for",
    Real.OURS: "loadband's own: an example and a reference",
    Real.CONTROL: "a control: nothing that reacts to utilization",
}


def html(result: Result) -> str:
    """The page."""
    return environment().get_template("report.html").render(page=_page(result))


@functools.cache
def environment() -> jinja2.Environment:
    """The templates: everything is escaped, and made printable, unless it is one of our own pictures."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: words.shown(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["tight"] = words.tight
    return made


def _page(result: Result) -> dict[str, Any]:
    many = len(result.repeats) > 1
    deciding = result.deciding
    return {
        "name": result.name,
        "scenario": result.plan.scenario,
        "scenario_short": words.short(result.plan.scenario, 60),
        "outcome": str(result.outcome),
        "means": MEANS[result.outcome],
        "sentence": result.sentence,
        "many": many,
        "todo": advice(deciding),
        "tiles": _tiles(result),
        "tested": _tested(result),
        "deciding": _repeat(deciding, drawn=True),
        "timeline_note": _timeline_note(result),
        "caption": _caption(deciding.picture),
        "figures": _figures(result),
        "figures_note": _figures_note(result),
        "expectations": _checks(result, CheckKind.EXPECTATION),
        "validity": _checks(result, CheckKind.VALIDITY),
        "chain": _chain(result),
        "chain_note": _chain_note(result),
        "repeats": [_repeat(repeat, drawn=many and repeat is not deciding, small=many) for repeat in result.repeats],
        "parts": _parts(result),
        "settings": _settings(result),
        "definitions": _definitions(result),
        "one_measure": _one_measure(result),
        "remarks": [
            f"{repeat.file}: {remark}" if many else remark for repeat in result.repeats for remark in repeat.remarks
        ],
        "footer": _footer(result),
    }


def _tiles(result: Result) -> list[dict[str, Any]]:
    limited = [name for kind, name in result.checks if kind is CheckKind.LIMIT and name in result.summaries]
    names = list(
        dict.fromkeys([*limited, *(name for name in KEY_FIGURES[result.plan.expect] if name in result.summaries)])
    )[:TILES]
    many = len(result.counted) > 1
    tiles = []
    for name in names:
        summary = result.summaries[name]
        limit, outcome, _ = _limit(result, name)
        tiles.append(
            {
                "title": words.title(name),
                "value": figures.shown(summary.median),
                "range": _range(summary) if many else "",
                "limit": limit,
                "outcome": outcome,
            }
        )
    return tiles


def _limit(result: Result, name: str) -> tuple[str, str, str]:
    """A figure's limit, its worst outcome over the repeats, and in how many it has that; empty without a limit."""
    found = [check for check in result.check(CheckKind.LIMIT, name) if check is not None]
    if not found:
        return "", "", ""
    outcome = worst(found)
    return found[0].asked, str(outcome), _share(found, outcome)


def _share(checks: Sequence[Check], outcome: Outcome | None) -> str:
    if len(checks) == 1:
        return ""
    return f"in {sum(check.outcome is outcome for check in checks)} of {len(checks)}"


def _tested(result: Result) -> list[str]:
    plan, run = result.plan, result.run
    hosts = len(result.deciding.picture.hosts)
    where = f"{words.count(hosts, 'host')} of the platform {run.platform.name}"
    if run.followed:
        span = words.seconds(result.deciding.picture.end - result.deciding.picture.begin)
        followed = (
            f"For {span}, from {words.date(run.at)} on, loadband followed {where}. It made no load and changed "
            "nothing, so nobody knows when an overload began: figures that count from there aren't known."
        )
        expected = (
            f"Expected: {EXPECTED[plan.expect]}. The alert awaited is {plan.alert}. Balance means that the "
            f"{plan.imbalance} of the hosts' utilization is at most {words.balance(plan)}."
        )
        return [followed, expected]
    hot = words.listed(words.short(host, 40) for host in plan.hot_hosts)
    doing = (
        f"loadband overloads {hot} to at least {words.percent(plan.hot)} of its CPUs"
        if len(plan.hot_hosts) == 1
        else f"loadband overloads {hot} to at least {words.percent(plan.hot)} of their CPUs"
        if hot
        else "loadband makes load, but overloads no host"
    )
    made = (
        f"On {where}, {doing}, with real CPU load in slices that can be moved, and watches for "
        f"{words.seconds(plan.watch)}. The rebalancer under test is {run.rebalancer.name} "
        f"({REAL[run.rebalancer.real]})."
    )
    times = "once" if len(result.repeats) == 1 else f"{len(result.repeats)} times"
    expected = (
        f"Expected: {EXPECTED[plan.expect]}. The alert awaited is {plan.alert}. Balance means that the "
        f"{plan.imbalance} of the hosts' utilization is at most {words.balance(plan)} for {words.seconds(plan.hold)}. "
        f"The scenario was run {times}, first on {words.date(run.at)}."
    )
    return [made, expected]


def _timeline_note(result: Result) -> str:
    if len(result.repeats) == 1:
        return ""
    if result.deciding.outcome is Outcome.PASS:
        return "The first repeat; the others are below."
    return f"The first repeat that is {result.deciding.outcome}; the others are below."


def _caption(picture: Picture) -> str:
    what = (
        "Each row is a host, warm colours are above the hot threshold"
        if charts.is_heat(picture)
        else "Each line is a host's CPU utilization"
    )
    return (
        f"{what}; an arrow is a move, from where and when it began to where and when it ended. Below: the alerts, and "
        f"the {picture.measure} of the hosts' utilization. Zero: {picture.zero_name}, {words.seconds(-picture.begin)} "
        "after the begin of the recording; findings below name times since that begin."
    )


def _chart(picture: Picture, name: str) -> dict[str, Any]:
    title = f"Utilization of {words.count(len(picture.hosts), 'host')}, moves, alerts and imbalance over time"
    text = (title, description(picture))
    alerts = [alert for alert in picture.alerts if alert.begin is not None]
    made: dict[str, Any] = {
        size.name: Markup(charts.timeline(picture, size, f"{name}{size.name}", text))  # noqa: S704 - our own SVG
        for size in charts.SIZES
    }
    return made | {
        "hosts": [] if charts.is_heat(picture) else [host.name for host in picture.hosts],
        "pending": any(alert.pending is not None for alert in alerts),
        "firing": any(alert.firing is not None for alert in alerts),
        "notified": any(alert.notified is not None for alert in alerts),
        "moves": bool(picture.moves),
        "numbered": len(picture.moves) <= charts.NUMBERED,
        "failed": any(move.state != "done" for move in picture.moves),
    }


def _repeat(repeat: Repeat, *, drawn: bool, small: bool = False) -> dict[str, Any]:
    picture, name = repeat.picture, f"r{repeat.number}"
    told = story(picture)
    said = [{"at": words.moment(one.at), "text": f"{one.text[:1].upper()}{one.text[1:]}"} for one in told[:STORY]]
    if len(told) > STORY:
        said.append({"at": "", "text": f"{len(told) - STORY} more events"})
    made: dict[str, Any] = {
        "number": repeat.number,
        "outcome": str(repeat.outcome),
        "sentence": repeat.sentence,
        "story": said,
        "moves": [_move(move) for move in picture.moves[:MOVES]],
        "moves_title": words.count(len(picture.moves), "move"),
        "moves_left": f"{len(picture.moves) - MOVES} more are in result.json." if len(picture.moves) > MOVES else "",
        "chart": _chart(picture, name) if drawn else None,
        "small": "",
        "facts": [
            ("run", f"{repeat.run.run}, {words.date(repeat.run.at)}"),
            ("recording", repeat.file),
            ("ended", repeat.ending),
            ("verdict", repeat.sentence),
        ],
        "figures": [
            {**_measured(figure), "based_on": figure.based_on, "title": words.title(key)}
            for key, figure in repeat.figures.items()
        ],
    }
    if small:
        text = (f"Repeat {repeat.number}: utilization and imbalance over time", repeat.sentence)
        made["small"] = Markup(charts.small(picture, SMALL, f"{name}small", text))  # noqa: S704 - our own SVG
    return made


def _measured(figure: Figure) -> dict[str, str]:
    return {"value": figures.shown(figure), "missing": figure.missing, "resolution": words.resolution(figure)}


def _move(move: MoveArrow) -> dict[str, Any]:
    if move.seconds is not None:
        took = words.seconds(move.seconds)
    else:
        took = "" if move.end is None else words.seconds(move.end - move.begin)
    return {
        "number": move.number,
        "slice": move.slice,
        "source": move.source,
        "destination": "" if move.destination is None else move.destination,
        "began": words.moment(move.begin),
        "took": took,
        "downtime": words.seconds(move.downtime) if move.downtime else "",
        "by": move.by,
        "foreign": move.foreign,
        "state": move.state if move.end is not None else f"{move.state}, not ended",
        "reason": move.reason,
    }


def _figures(result: Result) -> list[dict[str, Any]]:
    rows = []
    for name, summary in result.summaries.items():
        limit, outcome, share = _limit(result, name)
        if name in CHAIN and name != "time_to_alert" and not limit:
            continue
        rows.append(
            {
                **_measured(summary.median),
                "title": words.title(name),
                "limit": limit,
                "range": _range(summary),
                "outcome": outcome,
                "share": share,
            }
        )
    return rows


def _range(summary: Summary) -> str:
    return "" if summary.most.value is None else words.span(summary.least, summary.most)


def _figures_note(result: Result) -> str:
    zero = f"Times are seconds from zero: {result.deciding.picture.zero_name}."
    censored = " “>” means that it hadn't happened when the watch ended: it counts as larger than any limit."
    if len(result.repeats) == 1:
        return zero + censored
    left = [str(repeat.number) for repeat in result.repeats if repeat.number not in result.counted]
    if left:
        return (
            f"Median and range over {len(result.counted)} of {len(result.repeats)} repeats, without the INVALID "
            f"{words.listed(left)}. {zero}{censored}"
        )
    over = f"Median and range over {words.count(len(result.counted), 'repeat')}"
    spoiled = ", all of them INVALID: they prove nothing" if result.outcome is Outcome.INVALID else ""
    return f"{over}{spoiled}. {zero}{censored}"


def _checks(result: Result, wanted: CheckKind) -> list[dict[str, Any]]:
    """A row for each check; of several repeats, the one that is worst or came closest."""
    rows = []
    for kind, name in result.checks:
        if kind is not wanted:
            continue
        made = [
            (repeat.number, check)
            for repeat, check in zip(result.repeats, result.check(kind, name), strict=True)
            if check is not None
        ]
        outcome = worst([check for _, check in made])
        number, check = min(
            ((number, check) for number, check in made if check.outcome is outcome),
            key=lambda each: float("inf") if each[1].margin is None else each[1].margin,
        )
        where = f"repeat {number}: " if len(result.repeats) > 1 else ""
        rows.append(
            {
                "title": words.title(name),
                "asked": check.asked,
                "found": f"{where}{check.found}",
                "evidence": check.evidence,
                "margin": _margin(result, check),
                "outcome": str(outcome),
                "share": _share([check for _, check in made], outcome),
            }
        )
    return rows


_RATIOS = frozenset({"load fidelity", "overload stood", "foreign load", "own programs"})
"""Checks whose margin is a ratio."""


def _margin(result: Result, check: Check) -> str:
    """How much was left, with its unit: `+8.7 %`, `-3 s`."""
    if check.margin is None:
        return ""
    if check.kind is CheckKind.LIMIT:
        unit = result.summaries[check.name].definition.unit
    elif check.name == "imbalance stood":
        unit = result.summaries["initial_imbalance"].definition.unit
    elif check.name == "no move":
        unit = "count"
    else:
        unit = "ratio" if check.name in _RATIOS else "s"
    return f"{'+' if check.margin > 0 else ''}{figures.written(check.margin, unit)}"


def _chain(result: Result) -> list[dict[str, Any]]:
    rows = []
    for name in CHAIN:
        summary = result.summaries.get(name)
        if summary is None:
            continue
        bounds = summary.median.bounds
        rows.append(
            {
                **_measured(summary.median),
                "title": words.title(name),
                "text": _plain(summary.definition),
                "range": _range(summary),
                "bounds": words.between(bounds, summary.definition.unit) if bounds else "",
                "within": _within(summary),
            }
        )
    return rows


def _within(summary: Summary) -> str:
    """Whether all repeats are within the bounds, as exactly as they are known."""
    bounds, least, most = summary.median.bounds, summary.least, summary.most
    if bounds is None or least.value is None or most.value is None:
        return ""
    if most.censored or most.value > bounds[1] + (most.resolution or 0.0) + _STAMP:
        return "no, later"
    return "yes" if least.value >= bounds[0] - (least.resolution or 0.0) - _STAMP else "no, earlier"


_STAMP = 0.01
"""Seconds: what the rounding of two times may make of a difference; Alertmanager's are in milliseconds."""


def _chain_note(result: Result) -> str:
    timing = result.run.timing
    if timing is None:
        return "The monitoring's intervals weren't recorded, so the bounds can't be stated."
    faster = f" Everything was {timing.faster:g} times as fast as shipped." if timing.faster != 1 else ""
    if timing.polled is not None:
        notices = f"and a look at the firing alerts every {words.seconds(timing.polled)}, which stands for the webhook"
    else:
        notices = f"group_wait {_known(timing.group_wait)}, group_interval {_known(timing.group_interval)}"
    return (
        f"Bounds from scrape interval {words.seconds(timing.scrape)}, evaluation interval "
        f"{words.seconds(timing.evaluation)}, for {words.seconds(timing.alert_for)}, {notices}.{faster}"
    )


def _known(seconds: float | None) -> str:
    return "not known" if seconds is None else words.seconds(seconds)


def _parts(result: Result) -> list[dict[str, Any]]:
    run = result.run
    roles = [("platform", run.platform), ("rebalancer", run.rebalancer), *(("monitoring", p) for p in run.monitoring)]
    versions = dict.fromkeys(repeat.run.loadband for repeat in result.repeats)
    loadband = Part(name="loadband", version=words.listed(version for version in versions if version))
    return [_part(role, part) for role, part in [*roles, ("made the load, recorded and judged", loadband)]]


def _part(role: str, part: Part) -> dict[str, Any]:
    return {
        "role": role,
        "name": part.name,
        "version": part.version or "not stated",
        "real": REAL[part.real] if role in {"platform", "rebalancer"} else "",
        "interval": "" if part.interval is None else words.seconds(part.interval),
        "settings": words.setting_lines(part.settings),
    }


def _settings(result: Result) -> list[tuple[str, str]]:
    plan, timing = result.plan, result.run.timing
    listed = [
        ("limits", "; ".join(f"{words.title(name)} {limit}" for name, limit in plan.limits.items()) or "none"),
        ("hot from", words.percent(plan.hot)),
        ("balance", f"{plan.imbalance} at most {words.balance(plan)} for {words.seconds(plan.hold)}"),
        ("overload counts after", words.seconds(plan.settle)),
        ("utilization averaged over", words.seconds(plan.window)),
        ("samples every", words.seconds(plan.sample_interval)),
        ("thrash", f"a move back within {words.seconds(plan.return_within)}"),
        ("moves are stamped", _stamped(result)),
        ("seeds", words.listed(dict.fromkeys(str(repeat.run.seed) for repeat in result.repeats))),
    ]
    if timing is not None:
        listed += [
            ("scrape, evaluation", f"{words.seconds(timing.scrape)}, {words.seconds(timing.evaluation)}"),
            ("for, group_wait", f"{words.seconds(timing.alert_for)}, {_known(timing.group_wait)}"),
        ]
    return listed


def _stamped(result: Result) -> str:
    resolution = result.run.moves_resolution
    return "by the platform itself" if resolution == 0 else f"to {words.seconds(resolution)}, by polling"


def _definitions(result: Result) -> list[dict[str, str]]:
    figures: dict[str, Definition] = {}
    for repeat in result.repeats:
        figures |= {name: figure.definition for name, figure in repeat.figures.items()}
    better = {Better.LESS: "Less is better.", Better.MORE: "More is better.", Better.NEITHER: ""}
    return [
        {
            "title": words.title(definition.name),
            "unit": {"ratio": "percent", "count": "count", "s": "seconds"}.get(definition.unit, definition.unit),
            "text": f"{_plain(definition)} {better[definition.better]}".rstrip(),
            "source": definition.source,
        }
        for definition in figures.values()
    ]


def _plain(definition: Definition) -> str:
    """A definition without the marks of code."""
    return definition.text.replace("`", "")


def _one_measure(result: Result) -> str:
    if len(result.deciding.picture.hosts) == 2:  # noqa: PLR2004 - where one number says it all
        return "With two hosts, spread, sd, cv and peak all say the same: they follow from one difference and the mean."
    return ""


def _footer(result: Result) -> str:
    return f"Made from {words.count(len(result.repeats), 'recording')} by loadband."
