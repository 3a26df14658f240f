"""What to do about a run that isn't PASS: what stands in the recording, turned into the next thing to look at. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadband.rebalance import figures
from loadband.rebalance.events import Expectation, Trigger
from loadband.rebalance.figures import Figure
from loadband.rebalance.report import words
from loadband.rebalance.report.picture import AlertSpan, MoveArrow
from loadband.rebalance.report.result import Repeat
from loadband.rebalance.verdict import Check, CheckKind, Outcome


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about one check that didn't pass."""

    about: str
    """The check's name, for people."""
    text: str


def advice(repeat: Repeat) -> list[Advice]:
    """What to do, the most important first; empty if the run is PASS.

    For an INVALID run it is about what makes it INVALID: what else is missed says nothing yet.
    """
    broken = [check for check in repeat.verdict.checks if check.outcome is repeat.outcome]
    if repeat.outcome is Outcome.PASS:
        return []
    found: dict[str, Advice] = {}
    for check in broken:
        text = _about(check, repeat)
        found.setdefault(text, Advice(words.title(check.name), text))
    return list(found.values())


def _about(check: Check, repeat: Repeat) -> str:
    if check.kind is CheckKind.VALIDITY:
        return _VALIDITY.get(check.name, _SPOILED)
    if check.outcome is Outcome.INVALID:
        return (
            "This could not be measured, so it says neither yes nor no. Mend what the evidence names, and run it again."
        )
    if check.kind is CheckKind.EXPECTATION:
        return _EXPECTATIONS.get(check.name, _no_balance)(repeat)
    figure = repeat.figures.get(check.name)
    make = _LIMITS.get(check.name)
    if figure is None or make is None:
        return (
            "The limit is missed. Look at when it happened in the timeline, or set a limit that this platform can keep."
        )
    return make(repeat, figure)


_SPOILED = "Remove what the evidence names, and run it again: as it is, the run proves nothing."
_VALIDITY: Mapping[str, str] = {
    "complete": "Run it again and let it come to its end; if it ended by itself, the evidence says why.",
    "overload stood": (
        "The hot hosts never came to the threshold, so there was nothing to notice. Ask for more load (a higher band, "
        "more slices), look whether the slices got the CPU they asked for, or lower the hot threshold. Where a slice "
        "had left before, the rebalancer was faster than the load."
    ),
    "imbalance stood": (
        "The hosts were as good as balanced when the overload stood. Put less load on the other hosts, more on the hot "
        "ones, or lower theta. Where a slice had left before, the rebalancer is faster than the window over which "
        "utilization is averaged."
    ),
    "calm before the overload": (
        "The alert was firing before the overload began. Lower the baseline, wait until it has resolved, or find out "
        "what else made the hosts hot."
    ),
    "something to move": "Give the scenario at least two hosts, and slices small enough to be moved.",
    "load fidelity": (
        "The slices did not burn what they were asked for. Look for throttling (CPU limits, quotas), for more load "
        "than the host has CPUs, and for other programs on the host."
    ),
    "samples": (
        "Samples of a host are missing. Look at the network and at what reads its counters at that time, or raise "
        "most_gap if such gaps are usual and harmless here."
    ),
    "counters": (
        "A host cannot have used so much. Look at what reads its counters at that time, and whether the number of its "
        "CPUs is right."
    ),
    "same hosts": "A host with slices went, or changed its size. Keep autoscalers away for the time of the run.",
    "overload lasted": (
        "The load ended before balance had held, so nobody knows whether a move or that brought it back. Let the "
        "overload last as long as the watch, or give the rebalancer less time."
    ),
    "work at the end": (
        "The slices did less than they were asked to, though their hosts had room: that relieves a host, too. Look at "
        "their logs, and at CPU limits where they are now."
    ),
    "scrapes": "Prometheus could not scrape a target. Look at its page of targets for the error.",
    "clocks together": "Set the hosts' clocks by NTP (chrony, systemd-timesyncd), and run it again once they agree.",
    "clocks steady": "A clock was set during the run. Let NTP come to rest, and keep suspend and VM pauses away.",
    "foreign load": (
        "Something that is not of the run loads a host. Stop what the evidence names, move it elsewhere, or run this "
        "at a quieter time."
    ),
    "own programs": (
        "Monitoring and rebalancer themselves load a host. Run them elsewhere, scrape less often, or use bigger hosts."
    ),
    "moves of others": (
        "Somebody else moved something. Switch other rebalancers and autoscalers off for the time of the run; if it "
        "was the one under test, name it among its actors."
    ),
    "rebalancer": "The rebalancer was not running as described. Its own log at that time says why.",
    "alert watched": (
        "Nobody evaluates the awaited alert. Compare its name in the scenario with the rules that Prometheus has "
        "loaded."
    ),
    "alert when due": (
        "A host was hot for long enough, and the alert did not fire, so nobody was asked to move anything. Query the "
        "alert's expression in Prometheus: is the host scraped, and is the threshold the scenario's?"
    ),
    "monitoring": "Prometheus or Alertmanager was down, so nothing can be said about the alert. Its log says why.",
    "hosts": "A host was not ready or under pressure. Mend it, and run this again.",
    "slices": "A slice ended or waited without being moved. Look at its log, at limits, and at free room on its host.",
}


def _awaited(repeat: Repeat) -> list[AlertSpan]:
    return [alert for alert in repeat.picture.alerts if alert.awaited]


def _moves(repeat: Repeat) -> list[MoveArrow]:
    return [move for move in repeat.picture.moves if move.counted]


def _unexpected(repeat: Repeat) -> str:
    """Something moved, or an alert fired, where it should not."""
    moves = _moves(repeat)
    plan = repeat.run.plan
    if moves:
        reason = f' Its reason: "{words.short(moves[0].reason, 120)}".' if moves[0].reason else ""
        return (
            f"Nothing should move in this scenario, but {words.short(moves[0].by, 60)} moved "
            f"{words.short(moves[0].slice, 60)} at {words.moment(moves[0].begin)}.{reason} Raise its threshold, have "
            "it look at a longer window, or have it check that a move improves the balance before it moves."
        )
    if plan.expect is Expectation.NO_ALERT:
        return (
            f"Alert {words.short(plan.alert, 60)} should not fire on this load. Give its rule a longer for, or a "
            "higher threshold."
        )
    return "Look at the timeline: something happened that this scenario rules out."


def _not_by_alert(repeat: Repeat) -> str:
    """Nothing was moved after the alert; perhaps before it."""
    moves = _moves(repeat)
    firing = min((span.firing for span in _awaited(repeat) if span.firing is not None), default=None)
    if not moves or (firing is not None and moves[0].begin >= firing):
        return _no_balance(repeat)
    reason = f' Its reason was "{words.short(moves[0].reason, 120)}".' if moves[0].reason else ""
    return (
        f"{words.short(moves[0].by, 60)} moved before the alert fired, so it reacts to something else.{reason} Find "
        "out what told it to move; if it isn't meant to wait for this alert, await the signal that it does react to."
    )


def _without_need(repeat: Repeat) -> str:
    """Nothing was moved, or something before the overload."""
    overload = next((phase.begin for phase in repeat.picture.phases if phase.name == "overload"), float("-inf"))
    early = [move for move in repeat.picture.moves if move.begin < overload]
    if not early:
        return _no_balance(repeat)
    return (
        f"{words.short(early[0].by, 60)} moved {words.short(early[0].slice, 60)} before the overload, while the hosts "
        "were as the scenario wants them. Raise its threshold, or make the baseline more even."
    )


def _harmed(_: Repeat) -> str:
    return (
        "A slice died of its move. Look at the platform's log of that move, and at what ends a slice there: signals, "
        "grace periods, memory limits, disruption budgets."
    )


def _no_balance(repeat: Repeat) -> str:
    """The first link of the chain from alert to balance that is broken."""
    plan, alerts, moves = repeat.run.plan, _awaited(repeat), _moves(repeat)
    alert = words.short(plan.alert, 60)
    done = [move for move in moves if move.state == "done"]
    if not moves and repeat.run.rebalancer.trigger is Trigger.LOOK:
        return (
            "Nothing was moved. Read the rebalancer's log from that time: when did it look, what did it see, and what "
            "kept it from moving? It must look at least twice while the overload stands."
        )
    if not any(span.firing is not None for span in alerts) and repeat.run.rebalancer.trigger is Trigger.ALERT:
        if alerts:
            return (
                f"Alert {alert} was pending {words.count(len(alerts), 'time')} but never fired: its expression didn't "
                f"stay true for the whole of its for{_for(repeat)}. Shorten that, lower the rule's threshold below "
                f"{words.percent(plan.hot)}, or average over a longer window."
            )
        hosts = words.listed(words.short(host, 40) for host in plan.hot_hosts)
        return (
            f"Alert {alert} was never even pending. Check in Prometheus that its rule is loaded, that its series "
            f"exist for {hosts or 'the hosts'}, and that its threshold is not above {words.percent(plan.hot)}."
        )
    if not moves:
        told = any(span.notified is not None for span in alerts)
        return (
            f"The alert fired{' and the webhook got it' if told else ''}, but nothing was moved. "
            + ("" if told else "The webhook never got it: check Alertmanager's route and receiver. ")
            + "Read the rebalancer's log from that time: does it react to this signal at all, is it in a cooldown, is "
            "there a host on which a slice fits?"
        )
    if not done:
        reasons = words.listed(dict.fromkeys(f'"{words.short(move.reason, 120)}"' for move in moves if move.reason))
        return (
            f"The rebalancer asked for {words.count(len(moves), 'move')}, and none was done"
            f"{f' ({reasons})' if reasons else ''}. Look for the reason in the platform's own log of that time."
        )
    return _not_enough(repeat, done)


def _for(repeat: Repeat) -> str:
    timing = repeat.run.timing
    return f" ({words.seconds(timing.alert_for)})" if timing else ""


def _not_enough(repeat: Repeat, done: list[MoveArrow]) -> str:
    """Something was moved, but balance didn't come back, or didn't stay."""
    plan = repeat.run.plan
    if _value(repeat, "thrash"):
        return _thrash(repeat, repeat.figures["thrash"])
    if _value(repeat, "oscillation") > 1:
        return _swinging(repeat, repeat.figures["oscillation"])
    moved = f"{words.count(len(done), 'move')} {'was' if len(done) == 1 else 'were'} done"
    wanted = f"a {plan.imbalance} of at most {words.balance(plan)} for {words.seconds(plan.hold)}"
    undershoot, overshoot = _value(repeat, "undershoot"), _value(repeat, "overshoot")
    if len(done) > 1 and undershoot > plan.theta / 2:
        return (
            f"{moved}, and a source fell {figures.written(undershoot, 'ratio')} below the mean: too much was moved, so "
            "that the hosts are out of balance the other way. Have the rebalancer move one slice at a time, and count "
            "those that are on their way."
        )
    if (stay := _short_stay(repeat, done[0].begin)) is not None:
        begin, end = stay
        return (
            f"Balance was reached at {words.moment(begin)} and lost at {words.moment(end)}: it has to stay for "
            f"{words.seconds(plan.hold)}. Look at what changed then: another load, another move, a slice that grew?"
        )
    if overshoot > 0:
        return f"{moved}, and a destination became hot itself. {_COUNT} {_window(repeat)}."
    left = repeat.figures["residual_imbalance"]
    ended = f", and it ended at {figures.shown(left)}" if left.value is not None else ""
    return (
        f"{moved}, which was too little: asked was {wanted}{ended}. Have the rebalancer go on until that is reached "
        "(its own threshold at or below theta), move bigger slices, or move sooner; if it only needs longer, raise the "
        "scenario's watch; if no slice fits, make slices smaller."
    )


_COUNT = "Have the rebalancer count what it has already sent there, since utilization shows a move only after"
_DECIDE = (
    "Give the rebalancer a longer cooldown, or have it decide on data that already shows its last move: utilization "
    "here is averaged over"
)


def _value(repeat: Repeat, name: str) -> float:
    """A figure's value; 0 if it isn't known."""
    figure = repeat.figures.get(name)
    return 0.0 if figure is None or figure.value is None else figure.value


def _short_stay(repeat: Repeat, since: float) -> tuple[float, float] | None:
    """The first time after a moment in which the imbalance was at most theta, but for less than it has to be."""
    picture, plan = repeat.picture, repeat.run.plan
    begin: float | None = None
    for at, value in zip(picture.imbalance.times, picture.imbalance.values, strict=True):
        balanced = value is not None and value <= plan.theta
        if at >= since and balanced and begin is None:
            begin = at
        elif begin is not None and not balanced:
            return (begin, at) if at - begin < plan.hold else None
    return None


def _thrash(repeat: Repeat, figure: Figure) -> str:
    back = words.seconds(repeat.run.plan.return_within)
    return (
        f"{figures.shown(figure)} of the moves bring a slice back to a host that it had left less than {back} before. "
        f"{_DECIDE} {_window(repeat)}."
    )


def _swinging(repeat: Repeat, _: Figure) -> str:
    return f"The imbalance swings to and fro: too much is moved, and then moved back. {_DECIDE} {_window(repeat)}."


def _window(repeat: Repeat) -> str:
    return words.seconds(repeat.run.plan.window)


def _late_alert(repeat: Repeat, figure: Figure) -> str:
    if figure.value is None or figure.censored:
        return _no_balance(repeat)
    if figure.bounds is None:
        return "Shorten the rule's for, the scrape interval or the evaluation interval, or set a longer limit."
    allowed = words.between(figure.bounds, figure.definition.unit)
    if figure.value <= figure.bounds[1] + (figure.resolution or 0.0):
        return (
            f"The alert came as the configuration allows ({allowed}): only another configuration makes it faster. "
            "Shorten the rule's for, the scrape interval or the evaluation interval, or set a longer limit."
        )
    return (
        f"The alert came later than the configuration allows ({allowed}). Was utilization at the threshold all that "
        "time? If so, look at Prometheus' own metrics: missed rule evaluations, slow scrapes."
    )


def _late_move(repeat: Repeat, figure: Figure) -> str:
    if figure.value is None or figure.censored:
        return _no_balance(repeat)
    return f"{_slowest(repeat)} That is where time can be saved."


def _late_balance(repeat: Repeat, figure: Figure) -> str:
    if figure.value is None or figure.censored:
        return _no_balance(repeat)
    return f"{_slowest(repeat)} That is where most time can be saved."


def _slowest(repeat: Repeat) -> str:
    """Which link of the chain took longest, as one sentence."""
    firing = min((span.firing for span in _awaited(repeat) if span.firing is not None), default=None)
    moves = _moves(repeat)
    begin = min((move.begin for move in moves), default=None)
    end = max((move.end for move in moves if move.end is not None), default=None)
    links: list[tuple[float, str]] = []
    if firing is not None:
        links.append((firing, "from the overload to the firing alert"))
    if begin is not None:
        since = firing if firing is not None and firing < begin else 0.0
        links.append(
            (begin - since, "from there to the first move" if since else "from the overload to the first move")
        )
    if begin is not None and end is not None:
        links.append((end - begin, "from the first move's begin to the last one's end"))
    if not links:
        return "Nothing of the chain was recorded."
    took, what = max(links)
    return f"The longest part, {words.seconds(took)}, is the time {what}."


def _failed(repeat: Repeat, _: Figure) -> str:
    reasons = dict.fromkeys(
        f'"{words.short(move.reason, 120)}"' for move in _moves(repeat) if move.state == "failed" and move.reason
    )
    why = f" The reasons given: {words.listed(reasons)}." if reasons else ""
    return f"Look for the failed moves in the platform's own log.{why}"


def _many(repeat: Repeat, figure: Figure) -> str:
    if repeat.run.plan.expect is not Expectation.BALANCE:
        return _unexpected(repeat)
    return (
        f"{words.title(figure.definition.name).capitalize()}: {figures.shown(figure)}. Have the rebalancer choose "
        "slices that fit the gap, or fewer per round."
    )


def _overshot(repeat: Repeat, _: Figure) -> str:
    return f"A destination became hot itself. {_COUNT} {_window(repeat)}."


def _undershot(_: Repeat, __: Figure) -> str:
    return "More was moved than was needed: have the rebalancer move one slice at a time, or smaller ones."


def _lost(_: Repeat, __: Figure) -> str:
    return (
        "Slices got less CPU than they asked for: look at the moves' downtime, and at how long hosts stayed saturated."
    )


_EXPECTATIONS: Mapping[str, Callable[[Repeat], str]] = {
    "balance lasted": lambda _: (
        "Balance came back and was lost again. Look at what moved last: have the rebalancer count the slices that are "
        "on their way, and stop when the hosts are balanced."
    ),
    "relieved": lambda _: (
        "The hosts are balanced, and hot. Moving cannot relieve them: add a host, or ask for less load."
    ),
    "moved after the alert": _not_by_alert,
    "moved after the overload": _without_need,
    "no harm": _harmed,
    "no move": _unexpected,
    "no alert": _unexpected,
}
_LIMITS: Mapping[str, Callable[[Repeat, Figure], str]] = {
    "time_to_alert": _late_alert,
    "time_to_first_move": _late_move,
    "time_to_relief": _late_balance,
    "time_to_balance": _late_balance,
    "overload_time_fraction": _late_balance,
    "residual_imbalance": lambda repeat, _: _no_balance(repeat),
    "moves": _many,
    "moves_per_slice": _many,
    "failed_moves": _failed,
    "thrash": _thrash,
    "oscillation": _swinging,
    "overshoot": _overshot,
    "undershoot": _undershot,
    "work_lost_ratio": _lost,
}
