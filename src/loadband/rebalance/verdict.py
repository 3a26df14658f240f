"""From figures and limits to PASS, FAIL or INVALID, with every reason and its evidence. Pure."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from loadband.rebalance.events import (
    Disturbance,
    EndReason,
    Expectation,
    Recording,
    Subject,
    Timing,
    Trigger,
    Trouble,
)
from loadband.rebalance.figures import DEFINITIONS, Figure, Figures, number_of, shown, written
from loadband.rebalance.timeline import Migration, Timeline, run_at_end

STEP = 0.1
"""Seconds by which a clock may change at once against the recorder's and still count as steady."""
DRIFT = 0.0005
"""What a clock may gain or lose in a second: as fast as Linux slews a clock to put it right."""
IMPOSSIBLE = 1.2
"""Utilization of a host over the window, a ratio, that no clock or counter explains: it would be of another thing."""
LEAST_WORK = 0.75
"""What slices must get at the end of what they are asked for, a ratio, on hosts that have room: below it, a host is
only relieved because its slices do less."""
FULL = 0.95
"""Utilization of a host, a ratio, from which it has no room."""
_REASONS = 2
"""That many are named in the sentence, and the others counted."""
_DIGITS = 8
"""After the point: as many as are ever written."""
_CLOSE = 1e-9
"""A difference, relative and absolute, that comes from rounding only."""
_ABOUT_ALERT = frozenset(
    {"time_to_alert", "time_to_pending", "pending_to_firing", "firing_to_webhook", "alert_to_resolved", "alert_to_move"}
)
"""Figures that are about the awaited alert alone."""
_STATES = frozenset({Trouble.MONITORING_DOWN, Trouble.REBALANCER_DOWN, Trouble.HOST_NOT_READY})
"""Troubles that go on until they are said to be over; others are of a moment."""


class Outcome(enum.StrEnum):
    """What a run says."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    INVALID = "INVALID"
    """The run proves nothing."""


_RANK = (Outcome.INVALID, Outcome.FAIL, Outcome.PASS)
"""The worst first: a run that proves nothing doesn't fail, either."""


class CheckKind(enum.StrEnum):
    """What a check is about."""

    VALIDITY = "validity"
    """Whether the run proves anything: PASS or INVALID."""
    EXPECTATION = "expectation"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked."""

    kind: CheckKind
    name: str
    """Of a limit: the figure's. Else a short one: `load fidelity`, `foreign load`, `balance came back`."""
    outcome: Outcome
    asked: str
    """For people: `<= 20 s`, `at least 90 %`."""
    found: str
    """For people: `14.2 s`, `> 60 s`, `38 % of host-a by yes (pid 4711)`."""
    evidence: str = ""
    """One sentence with the places in the recording: hosts, times, processes."""
    margin: float | None = None
    """How much was left until the outcome would have been another, in the figure's unit; negative if it broke."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, and everything that was checked."""

    outcome: Outcome
    sentence: str
    """One, for people: what happened, and what decided."""
    checks: tuple[Check, ...]
    """Validity first, then expectation, then limits; all of them, whatever the outcome."""


# Limits


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure has to be, in the figure's unit."""

    figure: str
    """Its name."""
    low: float = -math.inf
    high: float = math.inf
    low_counts: bool = True
    """Whether the lower end itself is allowed."""
    high_counts: bool = True

    def __str__(self) -> str:
        """As people read it: `<= 20 s`, `10 s .. 20 s`."""
        unit = DEFINITIONS[self.figure].unit
        if self.low == self.high:
            return f"== {written(self.low, unit)}"
        if math.isinf(self.low):
            return f"<{'=' if self.high_counts else ''} {written(self.high, unit)}"
        if math.isinf(self.high):
            return f">{'=' if self.low_counts else ''} {written(self.low, unit)}"
        return f"{written(self.low, unit)} .. {written(self.high, unit)}"

    def holds(self, figure: Figure) -> bool:
        """Whether a figure keeps to it; one that is censored is larger than anything, one without a value doesn't."""
        if figure.value is None:
            return False
        if figure.censored:
            return math.isinf(self.high)
        return _above(figure.value, self.low, equal=self.low_counts) and _above(
            self.high, figure.value, equal=self.high_counts
        )

    def margin(self, figure: Figure) -> float | None:
        """How far a figure is from breaking the limit, negative if it does; None if that isn't known."""
        if figure.value is None or figure.censored:
            return None
        return min(figure.value - self.low, self.high - figure.value)


def _above(value: float, bound: float, *, equal: bool) -> bool:
    same = math.isclose(value, bound, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return equal if same else value > bound


_NUMBER = r"(-?[0-9]+(?:\.[0-9]+)?)\s*([a-z%]*)"
_COMPARISON = re.compile(rf"(<=|<|==|>=|>)\s*{_NUMBER}", re.ASCII)
_RANGE = re.compile(rf"{_NUMBER}\s*\.\.\s*{_NUMBER}", re.ASCII)
_FACTORS: Mapping[str, Mapping[str, float]] = {
    "s": {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0},
    "ratio": {"": 1.0, "%": 0.01},
    "count": {"": 1.0},
    "": {"": 1.0},
}
"""By the figure's unit: what may stand after a number, and what one of it is."""
_EXAMPLES: Mapping[str, str] = {
    "s": "`<= 20s`, `> 500ms` or `10s..2m` (ms, s, m; a number alone is seconds)",
    "ratio": "`<= 10%`, `== 0` or `0.1..0.2` (% or a ratio)",
    "count": "`== 0`, `<= 3` or `1..3` (no unit)",
    "": "`<= 1.2`, `> 0` or `0..0.5` (no unit)",
}


def parse_limit(figure: str, text: str) -> Limit:
    """Read a limit as people write it: `<= 20s`, `== 0`, `10s..20s`.

    Args:
        figure: the name of the figure that it is about; says which units are allowed.
        text: one of `<`, `<=`, `==`, `>=`, `>` and a number, or two numbers with `..` between them, both allowed. A
            number without a unit before the `..` has the unit of the one after it.

    Raises:
        ValueError: there is no such figure, or it isn't such a limit; the message says what is allowed.
    """
    if figure not in DEFINITIONS:
        raise ValueError(f"there is no figure {figure!r}: must be one of {', '.join(DEFINITIONS)}")
    allowed = f"must be written as {_EXAMPLES[DEFINITIONS[figure].unit]}"
    factors = _FACTORS[DEFINITIONS[figure].unit]
    if match := _COMPARISON.fullmatch(text.strip()):
        sign, number, unit = match.groups()
        if unit not in factors:
            raise ValueError(allowed)
        value = float(number) * factors[unit]
        return {
            "<=": Limit(figure, high=value),
            "<": Limit(figure, high=value, high_counts=False),
            "==": Limit(figure, value, value),
            ">=": Limit(figure, low=value),
            ">": Limit(figure, low=value, low_counts=False),
        }[sign]
    if match := _RANGE.fullmatch(text.strip()):
        first, first_unit, second, second_unit = match.groups()
        first_unit = first_unit or second_unit
        if first_unit not in factors or second_unit not in factors:
            raise ValueError(allowed)
        low, high = float(first) * factors[first_unit], float(second) * factors[second_unit]
        if low > high:
            raise ValueError("must be a range whose first number is the smaller one")
        return Limit(figure, low, high)
    raise ValueError(allowed)


# The verdict


def judge(recording: Recording, figures: Figures) -> Verdict:
    """The verdict on one run: INVALID before FAIL before PASS.

    Args:
        recording: what happened; its plan says what was expected.
        figures: of that recording, as `measure` computes them.
    """
    judge = _Judge(Timeline(recording), figures)
    checks = (*judge.validity(), *judge.expectation(), *judge.limits())
    outcome = _worst(check.outcome for check in checks)
    return Verdict(outcome, f"{outcome}: {judge.sentence(checks, outcome)}.", checks)


def overall(verdicts: Mapping[int, Verdict], asked: int = 0) -> Verdict:
    """The verdict on all repeats of a run: the worst of them, and INVALID if one that was asked for is missing.

    Its checks are those of the repeats: of each the worst, with the repeat in its evidence and the least margin.

    Args:
        verdicts: by the number of the repeat; without one, nothing is proven.
        asked: how many repeats were asked for.
    """
    if not verdicts:
        return Verdict(Outcome.INVALID, "INVALID: there is no run, which proves nothing.", ())
    missing = [number for number in range(1, asked + 1) if number not in verdicts]
    if len(verdicts) == 1 and not missing:
        return next(iter(verdicts.values()))
    outcome = _worst(each.outcome for each in verdicts.values())
    number, worst = next((number, each) for number, each in verdicts.items() if each.outcome is outcome)
    count = sum(each.outcome is outcome for each in verdicts.values())
    said = worst.sentence.removeprefix(f"{outcome}: ")
    if missing:
        short = _short(missing, asked)
        sentence = f"INVALID: the run proves nothing: {short.evidence}; in repeat {number}, {said}"
        return Verdict(Outcome.INVALID, sentence, (short, *_joined(verdicts)))
    if outcome is Outcome.PASS:
        sentence = f"PASS: all {len(verdicts)} repeats passed; in the first one, {said}"
    else:
        what = "failed" if outcome is Outcome.FAIL else "proved nothing"
        sentence = f"{outcome}: {count} of {len(verdicts)} repeats {what}; in repeat {number}, {said}"
    return Verdict(outcome, sentence, _joined(verdicts))


def _short(missing: Sequence[int], asked: int) -> Check:
    """The check that fails if repeats are missing."""
    which = f"{'repeat' if len(missing) == 1 else 'repeats'} {_listed([str(number) for number in missing])}"
    evidence = f"{which} of {asked} {'is' if len(missing) == 1 else 'are'} missing: the run was interrupted"
    found = f"{asked - len(missing)} recorded"
    return _Question.validity("repeats", f"{asked} of them").answer(found, evidence, ok=False)


def _joined(verdicts: Mapping[int, Verdict]) -> tuple[Check, ...]:
    """Each check of the repeats once: validity first, then expectation, then limits."""
    found: dict[tuple[CheckKind, str], list[tuple[int, Check]]] = {}
    for repeat, verdict in verdicts.items():
        for check in verdict.checks:
            found.setdefault((check.kind, check.name), []).append((repeat, check))
    order = list(CheckKind)
    return tuple(_merged(checks) for (_, _), checks in sorted(found.items(), key=lambda item: order.index(item[0][0])))


def _merged(checks: Sequence[tuple[int, Check]]) -> Check:
    """The same check of several repeats."""

    def badness(each: tuple[int, Check]) -> tuple[int, float]:
        _, check = each
        return _RANK.index(check.outcome), math.inf if check.margin is None else check.margin

    repeat, worst = min(checks, key=badness)
    evidence = f"repeat {repeat}: {worst.evidence or worst.found}"
    return Check(worst.kind, worst.name, worst.outcome, worst.asked, worst.found, evidence, worst.margin)


def _worst(outcomes: Iterator[Outcome]) -> Outcome:
    return min(outcomes, key=_RANK.index, default=Outcome.INVALID)


@dataclass(frozen=True, slots=True)
class _Question:
    """What a check asks, and what it says if the answer is no."""

    kind: CheckKind
    name: str
    asked: str
    otherwise: Outcome

    @classmethod
    def validity(cls, name: str, asked: str) -> _Question:
        return cls(CheckKind.VALIDITY, name, asked, Outcome.INVALID)

    @classmethod
    def expectation(cls, name: str, asked: str) -> _Question:
        return cls(CheckKind.EXPECTATION, name, asked, Outcome.FAIL)

    def answer(self, found: str, evidence: str = "", *, ok: bool, margin: float | None = None) -> Check:
        outcome = Outcome.PASS if ok else self.otherwise
        return Check(self.kind, self.name, outcome, self.asked, found, evidence, margin)

    def unknown(self, figure: Figure) -> Check:
        """The answer if the figure that it depends on has no value."""
        evidence = f"{_spoken(figure.definition.name)} isn't known: {figure.missing}"
        return Check(self.kind, self.name, Outcome.INVALID, self.asked, shown(figure), evidence)


@dataclass(frozen=True, slots=True)
class _Use:
    """What programs took of a host."""

    share: float
    """Of its CPUs, mean over the plan's window."""
    host: str
    who: str
    """The programs, the busiest first; empty if there is none."""
    at: float


class _Judge:
    """Checks one run."""

    def __init__(self, line: Timeline, figures: Figures) -> None:
        self._line = line
        self._run = line.run
        self._plan = line.plan
        self._figures = figures

    # Validity

    def validity(self) -> Iterator[Check]:
        """Whether the run proves anything; causes before what follows from them."""
        if self._line.followed:
            yield from self._followed_well()
            return
        yield self._complete()
        yield self._no_trouble("monitoring", "running", {Trouble.MONITORING_DOWN})
        yield self._alert_watched()
        yield self._clocks_together()
        yield self._clocks_steady()
        yield self._samples()
        yield self._counters()
        yield self._scrapes()
        yield self._foreign_load()
        yield self._own_programs()
        yield self._foreign_moves()
        yield self._same_hosts()
        kinds = {Trouble.REBALANCER_DOWN, Trouble.REBALANCER_CHANGED}
        yield self._no_trouble("rebalancer", "running, and as described", kinds)
        yield self._no_trouble("hosts", "ready, without pressure", {Trouble.HOST_NOT_READY, Trouble.PRESSURE})
        yield self._slices()
        if self._plan.expect is not Expectation.NO_ALERT:
            yield self._something_to_move()
        yield self._fidelity()
        if self._plan.hot_hosts:
            yield self._overload_stood()
        if self._plan.expect is Expectation.BALANCE:
            yield self._calm()
            if self._line.t0 is not None:
                yield self._imbalance_stood()
                yield self._overload_lasted()
            yield self._work_at_end()
        if self._run.timing is not None and not self._alert_must_fire:
            yield self._alert_when_due(self._run.timing)
        yield from self._something_asked()

    def _followed_well(self) -> Iterator[Check]:
        """Whether a recording of a platform that was only followed proves anything."""
        yield self._whole()
        yield self._no_trouble("monitoring", "running", {Trouble.MONITORING_DOWN})
        if self._plan.expect is Expectation.NO_ALERT or _ABOUT_ALERT & self._plan.limits.keys():
            yield self._alert_watched()
        yield self._clocks_together()
        yield self._clocks_steady()
        yield self._samples()
        yield self._counters()
        yield self._scrapes()
        if self._run.rebalancer.actors:
            yield self._foreign_moves()
        yield self._no_trouble("hosts", "ready, without pressure", {Trouble.HOST_NOT_READY, Trouble.PRESSURE})
        yield from self._something_asked()
        if self._plan.expect is Expectation.BALANCE:
            question = _Question.validity("overload", "made by loadband, so that its begin is known")
            evidence = "the platform was only followed: whether it came back to balance from an overload isn't known"
            yield question.answer("none was made", evidence, ok=False)

    def _something_asked(self) -> Iterator[Check]:
        """Without an expectation and limits, a sound run would pass whatever happened."""
        if self._plan.expect is Expectation.NOTHING:
            question = _Question.validity("something to judge", "an expectation, or a limit")
            limits = number_of(len(self._plan.limits), "limit")
            evidence = "" if self._plan.limits else "nothing is expected and no limit is set, so there is no verdict"
            yield question.answer(limits, evidence, ok=bool(self._plan.limits))

    @property
    def _looks_itself(self) -> bool:
        """Whether the rebalancer waits for no alert: it may have relieved the host before the alert is due."""
        return self._run.rebalancer.trigger is Trigger.LOOK

    @property
    def _alert_must_fire(self) -> bool:
        """Whether the platform fails if the alert doesn't fire."""
        return self._plan.expect is Expectation.BALANCE and not self._looks_itself

    def _complete(self) -> Check:
        line = self._line
        watched, least = line.end - line.overload, self._plan.watch
        question = _Question.validity("complete", f"{written(least, 's')} watched, to the end")
        found = f"{written(watched, 's')} watched"
        if not line.has_overload:
            return question.answer("no overload", "the recording doesn't say when the overload began", ok=False)
        if (cut := self._cut(question, found)) is not None:
            return cut
        ok = watched >= least - self._plan.sample_interval
        evidence = "" if ok else f"the watch ended at {line.moment(line.end)}"
        return question.answer(found, evidence, ok=ok, margin=watched - least)

    def _whole(self) -> Check:
        """Of a platform that was only followed: it may be ended at any time, but not be cut."""
        question = _Question.validity("complete", "followed to the end")
        found = f"{written(self._line.end - self._line.begin, 's')} followed"
        return self._cut(question, found) or question.answer(found, ok=True)

    def _cut(self, question: _Question, found: str) -> Check | None:
        """The answer if the recording breaks off, or the run did; None if neither did."""
        line, end = self._line, self._line.ending
        if end is None:
            said = f": {line.recording.remarks[-1]}" if line.recording.remarks else ""
            evidence = f"the recording breaks off at {line.moment(line.last)}{said}"
            return question.answer(f"{found}, no end", evidence, ok=False)
        if end.reason is not EndReason.COMPLETE:
            said = f": {end.detail}" if end.detail else ""
            evidence = f"the run was {_ended(end.reason)} at {line.moment(end.at)}{said}"
            return question.answer(f"{found}, {end.reason}", evidence, ok=False)
        return None

    def _alert_watched(self) -> Check:
        """Without monitoring, that nothing fired and nothing moved says nothing."""
        question = _Question.validity("alert watched", "by rules that have it")
        timing = self._run.timing
        if timing is None:
            evidence = f"nobody watched {self._plan.alert}: there is no monitoring, or its rules don't have that alert"
            return question.answer("nobody", evidence, ok=False)
        return question.answer(f"every {written(timing.evaluation, 's')}", ok=True)

    def _alert_when_due(self, timing: Timing) -> Check:
        """A host that was surely hot for longer than the alert waits must have made it fire, whatever is expected."""
        line, plan = self._line, self._plan
        due = timing.alert_for + 2 * (timing.scrape + timing.evaluation) + 2 * plan.sample_interval
        question = _Question.validity("alert when due", f"within {written(due, 's')} of a host that stays hot")
        rules = [each for each in line.episodes if each.alert == plan.alert and each.firing is not None]
        longest, who = 0.0, "a host"
        for host, levels in line.levels.items():
            fires = [each.firing or 0.0 for each in rules if each.host in {host, ""}]
            begin = math.nan
            for index in line.span(line.overload, line.end):
                if not levels[index] >= plan.hot + plan.tolerance / 2:
                    begin = math.nan
                    continue
                begin = line.moments[index] if math.isnan(begin) else begin
                hot = line.moments[index] - begin
                if hot > longest and not any(firing <= begin + due for firing in fires):
                    longest, who = hot, host
        fired = bool(rules)
        found = f"hot for {written(longest, 's')}, {'fired' if fired else 'not fired'}"
        if longest > due:
            when = " in time" if fired else ""
            evidence = (
                f"{who} was hot for {written(longest, 's')}, and {plan.alert} didn't fire{when}: does anybody watch it?"
            )
            return question.answer(found, evidence, ok=False, margin=due - longest)
        return question.answer(found, ok=True, margin=None if fired else due - longest)

    def _overload_stood(self) -> Check:
        line, hot = self._line, self._plan.hot
        hosts = " and ".join(self._plan.hot_hosts)
        question = _Question.validity(
            "overload stood", f"{hosts} at or above {_percent(hot)} for {written(self._plan.settle, 's')}"
        )
        levels = [level for level in self._within(line.coolest) if not math.isnan(level)]
        most = f"{_percent(max(levels))} at most" if levels else "utilization isn't known"
        if line.t0 is None:
            evidence = f"{hosts} never stood at or above {_percent(hot)}: {most}{self._had_left()}"
            margin = max(levels) - hot if levels else None
            return question.answer(most, evidence, ok=False, margin=margin)
        return question.answer(
            most, f"from {line.moment(line.t0)} on", ok=True, margin=max(levels) - hot if levels else None
        )

    def _imbalance_stood(self) -> Check:
        figure, theta = self._figures["initial_imbalance"], self._plan.theta
        unit = figure.definition.unit
        question = _Question.validity("imbalance stood", f"more than {written(theta, unit)} at t0")
        if figure.value is None:
            return question.answer(shown(figure), figure.missing, ok=False)
        ok = figure.value > theta
        evidence = figure.based_on
        if not ok:
            evidence = f"there was nothing to balance: {shown(figure)} {figure.based_on}{self._had_left()}"
        return question.answer(shown(figure), evidence, ok=ok, margin=figure.value - theta)

    def _had_left(self) -> str:
        """Which slice had left a hot host before the overload stood: a rebalancer may be faster than that."""
        line = self._line
        left = line.reliefs[0] if line.reliefs else None
        if left is None or left.begin >= (line.end if line.t0 is None else line.t0):
            return ""
        return f"; {left.slice} had left {left.source} at {line.moment(left.begin)}"

    def _calm(self) -> Check:
        question = _Question.validity("calm before the overload", "the alert isn't pending or firing yet")
        line, plan = self._line, self._plan
        for episode in line.awaited:
            began, ended = episode.begin, episode.ended
            if began < line.overload and (ended is None or ended > line.overload):
                firing = episode.firing is not None and episode.firing < line.overload
                state = "firing" if firing else "pending"
                since = line.moment(episode.firing if firing and episode.firing is not None else began)
                evidence = f"{plan.alert} was {state} since {since}, before the overload"
                return question.answer(state, evidence, ok=False)
        first = line.episode
        if first is not None and first.firing is not None and line.t0 is not None:
            early = line.t0 - first.firing
            if early > plan.window + first.resolution - self._least_wait:
                when = f"{written(abs(early), 's')} {'before' if early > 0 else 'after'} a host was hot"
                evidence = f"{plan.alert} fired at {line.moment(first.firing)}, {when}: sooner than its rule can"
                return question.answer("too early", evidence, ok=False)
        return question.answer("neither", ok=True)

    @property
    def _least_wait(self) -> float:
        """Seconds that the alert surely waits from when a host is hot."""
        if (timing := self._run.timing) is None:
            return 0.0
        return max(timing.alert_for - 2 * (timing.scrape + timing.evaluation), 0.0)

    @property
    def _balanced(self) -> float | None:
        """When balance came back; None if it didn't, or if that isn't known."""
        t0, figure = self._line.t0, self._figures["time_to_balance"]
        return None if t0 is None or figure.value is None or figure.censored else t0 + figure.value

    def _overload_lasted(self) -> Check:
        """If less is asked for before balance has held, no move need have brought it back."""
        line, balanced = self._line, self._balanced
        question = _Question.validity("overload lasted", "as much is asked for until balance has held")
        until = line.end if balanced is None else min(balanced + self._plan.hold, line.end)
        less = line.asked_until
        if line.t0 is None or less >= until:
            return question.answer("it did", ok=True)
        before, after = (f"{line.asked_in_all(at):.3g}" for at in (line.t0, less))
        evidence = (
            f"{after} CPUs were asked for from {line.moment(less)} on, before {before}: the overload ended by itself"
        )
        return question.answer(f"until {line.moment(less)}", evidence, ok=False, margin=less - until)

    def _work_at_end(self) -> Check:
        """If slices do less than they are asked to, that alone may have relieved the hosts."""
        line = self._line
        question = _Question.validity(
            "work at the end", f"at least {_percent(LEAST_WORK)} of what is asked for, where there is room"
        )
        work = [self._work(name) for name in self._working]
        asked = math.fsum(asked for _, asked in work)
        if not asked:
            return question.answer("nothing asked for", ok=True)
        share = math.fsum(got for got, _ in work) / asked
        begin = line.moment(line.end - self._plan.window)
        evidence = (
            f"from {begin} to {line.moment(line.end)}, the slices got {_percent(share)} of what they were asked for"
        )
        return question.answer(_percent(share), evidence, ok=share >= LEAST_WORK, margin=share - LEAST_WORK)

    @property
    def _working(self) -> Iterator[str]:
        """The slices that are at the end on a host that has room, as far as they are counted."""
        line = self._line
        last = line.span(line.begin, line.end)
        away = {move.slice for move in self._away}
        for name in sorted(line.made & line.got.keys() - away):
            levels = line.levels.get(line.placed(name, line.end) or "")
            if last and levels is not None and levels[last[-1]] < FULL:
                yield name

    def _work(self, name: str) -> tuple[float, float]:
        """CPU-seconds that a slice got and was asked for over the last window of the watch, up to its last sample."""
        line = self._line
        counter = line.got[name]
        last = next((at for at in reversed(counter.times) if at <= line.end), line.begin)
        end = max(last, line.end - line.most_gap)
        begin = end - self._plan.window
        return counter.known_growth(begin, end), line.asked[name].integral(begin, end)

    @cached_property
    def _away(self) -> list[Migration]:
        """The moves that began before the last window and haven't ended, of slices that do less than they should."""
        line = self._line
        found = []
        for move in line.counted:
            ended = move.ended is not None and move.ended <= line.end
            if ended or move.accepted is None or move.accepted > line.end - self._plan.window:
                continue
            if move.slice in line.made:
                got, asked = self._work(move.slice) if move.slice in line.got else (0.0, 1.0)
                if got < LEAST_WORK * asked:
                    found.append(move)
        return found

    def _same_hosts(self) -> Check:
        """A host that goes, or becomes larger, is relieved without a move. An empty one may come and go."""
        line = self._line
        question = _Question.validity("same hosts", "those of slices stay, in their size")
        for host, cpus in line.capacity.items():
            for at in cpus.times:
                if line.begin < at <= line.end and any(line.placed(name, at) == host for name in line.asked):
                    before, after = (f"{value:g}" for value in (cpus.at(line.begin), cpus.at(at)))
                    evidence = f"{host} had {before} CPUs, and {after} from {line.moment(at)} on"
                    return question.answer(f"{host} changed", evidence, ok=False)
        for move in line.done:
            if move.destination not in line.capacity:
                where = move.destination or "a place that isn't known"
                evidence = f"{move.slice} was moved to {where}, which isn't a host of this run"
                return question.answer("another one", evidence, ok=False)
        return question.answer("the same", ok=True)

    def _counters(self) -> Check:
        line = self._line
        question = _Question.validity("counters", f"at most {_percent(IMPOSSIBLE)} of a host's CPUs")
        most, where = 0.0, ""
        for host, levels in line.levels.items():
            for index in line.span(line.begin, line.end):
                if levels[index] > most:
                    most, where = levels[index], f"{host} at {line.moment(line.moments[index])}"
        evidence = f"{_percent(most)} of the CPUs of {where}" if where else ""
        return question.answer(f"{_percent(most)} at most", evidence, ok=most <= IMPOSSIBLE, margin=IMPOSSIBLE - most)

    def _something_to_move(self) -> Check:
        line = self._line
        slices = line.present(line.overload, line.end)
        hosts = [name for name, cpus in line.capacity.items() if cpus.at(line.overload) > 0]
        question = _Question.validity("something to move", "a slice, and two hosts")
        found = f"{number_of(len(slices), 'slice')}, {number_of(len(hosts), 'host')}"
        if not slices:
            return question.answer(found, "there is no slice that could be moved", ok=False)
        if len(hosts) < 2:  # noqa: PLR2004 - one to leave, one to go to
            return question.answer(found, "there is no other host to move a slice to", ok=False)
        return question.answer(found, ok=True)

    def _fidelity(self) -> Check:
        figure, least = self._figures["load_fidelity"], self._plan.least_fidelity
        question = _Question.validity("load fidelity", f"at least {_percent(least)}")
        if figure.value is None:
            evidence = f"it isn't known whether the load was what was asked for: {figure.missing}"
            return question.answer(shown(figure), evidence, ok=False)
        ok = _above(figure.value, least, equal=True)
        evidence = figure.based_on if ok else f"the load was as asked in only {shown(figure)}, {figure.based_on}"
        return question.answer(shown(figure), evidence, ok=ok, margin=figure.value - least)

    def _samples(self) -> Check:
        line = self._line
        question = _Question.validity("samples", f"of each host, at most {written(line.most_gap, 's')} apart")
        gaps = [(end - begin, host, begin, end) for host in line.capacity for begin, end in self._gaps(host)]
        if not gaps:
            return question.answer("no host", "there is no host", ok=False)
        longest, host, begin, end = max(gaps, key=lambda gap: (gap[0], gap[1]))
        ok = longest <= line.most_gap or math.isclose(longest, line.most_gap, rel_tol=1e-6)
        evidence = "" if ok else f"{host} has no sample from {line.moment(begin)} to {line.moment(end)}"
        return question.answer(f"at most {written(longest, 's')}", evidence, ok=ok, margin=line.most_gap - longest)

    def _gaps(self, host: str) -> Iterator[tuple[float, float]]:
        """The times between samples of a host that was there, from the baseline to the end of the watch."""
        line, capacity = self._line, self._line.capacity[host]
        changes = [at for at in capacity.times if line.begin < at < line.end]
        times = line.busy[host].times if host in line.busy else ()
        for low, high in pairwise((line.begin, *changes, line.end)):
            if capacity.at(low) > 0:
                yield from pairwise((low, *(at for at in times if low < at < high), high))

    def _scrapes(self) -> Check:
        question = _Question.validity("scrapes", "none failed")
        found = self._troubles({Trouble.SCRAPE_FAILED})
        if found:
            return question.answer(f"{len(found)} failed", self._described(found[0]), ok=False)
        return question.answer("none failed", ok=True)

    def _clocks_together(self) -> Check:
        line, most = self._line, self._plan.sample_interval
        question = _Question.validity("clocks together", f"within {written(most, 's')}, the resolution of the samples")
        unknown = [host for host in line.capacity if host not in line.clocks]
        if unknown:
            evidence = f"the clock of {unknown[0]} was never compared with the recorder's"
            return question.answer("not known", evidence, ok=False)
        offsets = [(abs(each.offset) + each.uncertainty, each) for clocks in line.clocks.values() for each in clocks]
        if not offsets:
            return question.answer("no host", "there is no host", ok=False)
        far, clock = max(offsets, key=lambda each: each[0])
        found = f"{written(clock.offset, 's')} ± {written(clock.uncertainty, 's')} at most"
        evidence = f"the clock of {clock.host} was {written(clock.offset, 's')} off at {line.moment(clock.at)}"
        return question.answer(found, evidence, ok=far <= most, margin=most - far)

    def _clocks_steady(self) -> Check:
        line = self._line
        question = _Question.validity("clocks steady", f"no step of more than {written(STEP, 's')}")
        if found := self._troubles({Trouble.CLOCK_STEPPED}):
            stepped = "a step" if found[0].amount is None else written(found[0].amount, "s")
            return question.answer(stepped, self._described(found[0]), ok=False)
        worst, where = 0.0, ""
        for host, clocks in line.clocks.items():
            for before, after in pairwise(clocks):
                unsure = before.uncertainty + after.uncertainty + DRIFT * (after.at - before.at)
                step = abs(after.offset - before.offset) - unsure
                if step > worst:
                    worst = step
                    where = f"the clock of {host} went {written(after.offset - before.offset, 's')}"
                    where += f" between {line.moment(before.at)} and {line.moment(after.at)}"
        ok = worst <= STEP
        return question.answer(f"{written(worst, 's')} at most", where, ok=ok, margin=STEP - worst)

    def _foreign_load(self) -> Check:
        most = self._plan.most_foreign
        question = _Question.validity(
            "foreign load", f"at most {_percent(most)} of a host over {written(self._plan.window, 's')}"
        )
        if not self._others_counted:
            return question.answer("not measured", self._NOT_COUNTED, ok=False)
        worst = self._busiest(Subject.FOREIGN)
        accused = False
        for found in self._troubles({Trouble.FOREIGN_LOAD}):
            accused = True
            cpus = self._cpus(found.host, found.at)
            share = found.amount / cpus if found.amount is not None and cpus else most
            if share >= worst.share:
                worst = _Use(share, found.host, found.who or "somebody unknown", found.at)
        if not worst.who:
            return question.answer("none recorded", ok=True, margin=most)
        return self._use(question, worst, most, ok=worst.share <= most and not accused)

    def _use(self, question: _Question, worst: _Use, most: float, *, ok: bool) -> Check:
        share = _percent(worst.share)
        evidence = f"{worst.who} took {share} of {worst.host} at {self._line.moment(worst.at)}"
        found = f"{share} of {worst.host} by {worst.who}"
        margin = most - worst.share if ok else min(most - worst.share, 0.0)
        return question.answer(found, evidence, ok=ok, margin=margin)

    def _own_programs(self) -> Check:
        most = self._plan.most_own
        question = _Question.validity(
            "own programs", f"at most {_percent(most)} of a host over {written(self._plan.window, 's')}"
        )
        if not self._others_counted:
            return question.answer("not measured", self._NOT_COUNTED, ok=False)
        worst = self._busiest(Subject.OWN)
        if not worst.who:
            return question.answer("none on a host", ok=True, margin=most)
        return self._use(question, worst, most, ok=worst.share <= most)

    _NOT_COUNTED = "not measured: the platform doesn't say that it counts what others than the slices burn"

    @property
    def _others_counted(self) -> bool:
        """Whether the platform measures what others than the slices burn."""
        if (says := self._run.platform.counts_others) is not None:
            return says
        return any(self._line.programs(subject) for subject in (Subject.OWN, Subject.FOREIGN))

    def _busiest(self, subject: Subject) -> _Use:
        """The most that programs took of a host."""
        line, window = self._line, self._plan.window
        worst = _Use(0.0, "", "", line.begin)
        for host, counters in line.programs(subject).items():
            for index in line.span(line.begin, line.end):
                at = line.moments[index]
                if not (cpus := self._cpus(host, at)):
                    continue
                took = {name: counter.known_growth(at - window, at) for name, counter in counters.items()}
                share = math.fsum(took.values()) / window / cpus
                if share > worst.share:
                    names = sorted((name for name in took if took[name] > 0), key=lambda name: (-took[name], name))
                    worst = _Use(share, host, _listed(names), at)
        return worst

    def _cpus(self, host: str, at: float) -> float:
        return self._line.capacity[host].at(at) if host in self._line.capacity else 0.0

    def _foreign_moves(self) -> Check:
        actors, line = self._run.rebalancer.actors, self._line
        question = _Question.validity("moves of others", f"none but by {_listed(actors) or 'nobody'}")
        for move in line.migrations:
            if move.by not in actors or (move.slice not in line.asked and not line.followed):
                who = f"{move.by or 'somebody unknown'} moved {move.slice} at {line.moment(move.begin)}"
                why = f"the rebalancer under test is {self._run.rebalancer.name}"
                if move.slice not in line.asked and not line.followed:
                    why = f"{move.slice} isn't a slice of this run"
                return question.answer(f"by {move.by or 'somebody unknown'}", f"{who}: {why}", ok=False)
        return question.answer("none", ok=True)

    def _slices(self) -> Check:
        """Slices that died or were pending, except for what their own moves did to them."""
        question = _Question.validity("slices", "running until they are moved")
        for found in self._troubles({Trouble.SLICE_DIED}):
            if self._move_of(found) is None:
                return question.answer("one died", self._described(found), ok=False)
        for found in self._troubles({Trouble.SLICE_PENDING}):
            moved = any(each.slice == found.who and each.begin <= found.at for each in self._line.migrations)
            early = found.until is not None and self._line.t0 is not None and found.until <= self._line.t0
            if not moved and not early:
                return question.answer("one was pending", self._described(found), ok=False)
        return question.answer("all of them", ok=True)

    def _move_of(self, death: Disturbance) -> Migration | None:
        """The move during which a slice died; None if it wasn't on its way."""
        for move in self._line.migrations:
            over = self._line.last if move.ended is None else move.ended
            if move.slice == death.who and move.begin <= death.at <= over:
                return move
        return None

    def _no_trouble(self, name: str, asked: str, kinds: Collection[Trouble]) -> Check:
        question = _Question.validity(name, asked)
        found = self._troubles(kinds)
        if found:
            return question.answer(found[0].what, self._described(found[0]), ok=False)
        return question.answer("yes", ok=True)

    def _troubles(self, kinds: Collection[Trouble]) -> list[Disturbance]:
        """Those between the begin of the baseline and the end of the watch; what isn't known to be over goes on."""

        def over(each: Disturbance) -> float:
            if each.until is None:
                return math.inf if each.what in _STATES else each.at
            return each.until

        return [
            each
            for each in self._line.disturbances
            if each.what in kinds and each.at <= self._line.end and over(each) >= self._line.begin
        ]

    def _described(self, trouble: Disturbance) -> str:
        where = f" of {trouble.host}" if trouble.host else ""
        who = f" ({trouble.who})" if trouble.who else ""
        said = f": {trouble.detail}" if trouble.detail else ""
        return f"{trouble.what}{where}{who} at {self._line.moment(trouble.at)}{said}"

    def _within(self, column: Sequence[float]) -> list[float]:
        return [column[index] for index in self._line.span(self._line.overload, self._line.end)]

    # Expectation

    def expectation(self) -> Iterator[Check]:
        """Whether the platform did what the scenario expects."""
        match self._plan.expect:
            case Expectation.BALANCE if not self._line.followed:
                if self._looks_itself:
                    yield self._moved_after_overload()
                else:
                    yield self._alert_fired()
                    yield self._moved_after_alert()
                yield self._balance_came_back()
                yield self._balance_lasted()
                yield self._relieved()
                yield self._no_harm()
            case Expectation.NO_MOVE:
                yield self._no_move()
            case Expectation.NO_ALERT:
                yield self._no_alert()
                yield self._no_move()

    @property
    def _watched(self) -> str:
        """For people: how long was watched, from t0 on, or from the begin of the overload or the recording."""
        begin = self._line.overload if self._line.t0 is None else self._line.t0
        return written(self._line.end - begin, "s")

    def _alert_fired(self) -> Check:
        figure = self._figures["time_to_alert"]
        question = _Question.expectation("alert fired", f"{self._plan.alert} fires")
        if figure.value is None:
            return question.unknown(figure)
        if figure.censored:
            evidence = f"{self._plan.alert} didn't fire in the {self._watched} watched"
            return question.answer("no", evidence, ok=False)
        return question.answer(f"after {shown(figure)}", f"the alert fired after {shown(figure)}", ok=True)

    def _moved_after_overload(self) -> Check:
        """Of a rebalancer that looks by itself: the alert needn't have caused the move, but the overload must."""
        question = _Question.expectation("moved after the overload", "a move is done, and none began before it")
        line = self._line
        early = [each for each in line.accepted if each not in line.counted]
        if early:
            began = early[0].begin if early[0].accepted is None else early[0].accepted
            evidence = f"{early[0].slice} was moved at {line.moment(began)}, before the overload: nothing called for it"
            return question.answer("before it", evidence, ok=False)
        return self._none_moved(question) or question.answer(self._moved, f"{self._moved} after the overload", ok=True)

    def _none_moved(self, question: _Question) -> Check | None:
        """The answer if no move was done; None if one was."""
        if not self._line.counted:
            return question.answer("no move", f"nothing moved in the {self._watched} watched", ok=False)
        if not self._line.done:
            begun = number_of(len(self._line.counted), "move")
            evidence = f"{begun} began, and none was done by the end of the watch"
            return question.answer("none done", evidence, ok=False)
        return None

    def _moved_after_alert(self) -> Check:
        question = _Question.expectation("moved after the alert", "a move is done that began after the alert fired")
        line, episode = self._line, self._line.episode
        firing = episode.firing if episode is not None and episode.firing is not None else math.inf
        before = [each for each in line.accepted if each.accepted is not None and each.accepted >= line.begin]
        if not before:
            return question.answer("no move", f"nothing moved in the {self._watched} watched", ok=False)
        first = before[0]
        exact = line.run.moves_resolution + (episode.resolution if episode is not None else 0.0)
        began = first.accepted if first.accepted is not None else first.begin
        if began < firing - exact:
            early = f"{written(firing - began, 's')} before the alert fired: the alert didn't cause it"
            if math.isinf(firing):
                early = "and the alert didn't fire"
            evidence = f"{first.slice} was moved at {line.moment(began)}, {early}"
            return question.answer("before it", evidence, ok=False)
        if (none := self._none_moved(question)) is not None:
            return none
        moved = self._moved
        return question.answer(moved, f"{moved} after the alert", ok=True, margin=began - firing)

    @property
    def _moved(self) -> str:
        """For people: what was moved."""
        slices = {move.slice for move in self._line.done}
        times = len(self._line.done)
        again = f" ({times} moves)" if times > len(slices) else ""
        return f"{number_of(len(slices), 'slice')} moved{again}"

    def _balance_came_back(self) -> Check:
        line, plan, figure = self._line, self._plan, self._figures["time_to_balance"]
        unit = self._figures["residual_imbalance"].definition.unit
        question = _Question.expectation(
            "balance came back", f"{plan.imbalance} at most {written(plan.theta, unit)} for {written(plan.hold, 's')}"
        )
        if figure.value is None:
            return question.unknown(figure)
        if figure.censored:
            left = f"the {plan.imbalance} is {shown(self._figures['residual_imbalance'])} at the end"
            evidence = f"balance didn't come back in the {self._watched} watched: {left}"
            return question.answer("no", evidence, ok=False)
        after = f"after {shown(figure)}"
        moved = [move.accepted for move in line.done if move.accepted is not None and move.destination != move.source]
        if self._balanced is not None and (not moved or self._balanced < min(moved)):
            evidence = f"balance came back {after}, before a slice had left for another host: no move caused it"
            return question.answer(after, evidence, ok=False)
        spare = None if line.t0 is None else line.end - plan.hold - line.t0 - figure.value
        return question.answer(after, f"balance came back {after}", ok=True, margin=spare)

    def _balance_lasted(self) -> Check:
        """Whether it is still there at the end, or when less is asked for."""
        line, plan = self._line, self._plan
        question = _Question.expectation("balance lasted", "to the end of the watch")
        if self._balanced is None:
            return question.answer("it didn't come back", ok=True)
        lost = [imbalance > plan.theta for imbalance in line.imbalance]
        since = self._until_the_end(lost, self._balanced)
        if since is not None:
            unit = self._figures["residual_imbalance"].definition.unit
            level = written(line.imbalance[line.span(since, line.asked_until)[-1]], unit)
            evidence = f"balance was lost again at {line.moment(since)}: the {plan.imbalance} is {level} at the end"
            return question.answer(f"until {line.moment(since)}", evidence, ok=False)
        return question.answer("it did", ok=True)

    def _relieved(self) -> Check:
        """Balance on hosts that are all hot isn't what anybody wants; the alert goes on there."""
        line, plan = self._line, self._plan
        question = _Question.expectation("relieved", f"no hot host still at or above {_percent(plan.hot)} at the end")
        if self._balanced is None:
            return question.answer("balance didn't come back", ok=True)
        for host in plan.hot_hosts:
            hot = [level >= plan.hot for level in line.levels.get(host, ())]
            since = self._until_the_end(hot, line.overload) if hot else None
            if since is not None:
                evidence = f"{host} was at or above {_percent(plan.hot)} from {line.moment(since)} to the end"
                return question.answer(f"{host} isn't", evidence, ok=False)
        return question.answer("none", ok=True)

    def _until_the_end(self, held: Sequence[bool], begin: float) -> float | None:
        """Since when something holds, at each of the moments, until less is asked for; None if for less than `hold`."""
        line = self._line
        index = run_at_end(held, line.span(begin, line.asked_until))
        since = None if index is None else line.moments[index]
        return since if since is not None and line.asked_until - since >= self._plan.hold else None

    def _no_harm(self) -> Check:
        question = _Question.expectation("no harm", "no slice dies of its move, and each comes to another host")
        if away := self._away:
            names = sorted({move.slice for move in away})
            left = f"{_listed(names)} had left by {self._line.moment(max(move.begin for move in away))}"
            evidence = f"{left}, and did less than {_percent(LEAST_WORK)} of the work at the end of the watch"
            return question.answer(f"{number_of(len(names), 'slice')} away", evidence, ok=False)
        for found in self._troubles({Trouble.SLICE_DIED}):
            if (move := self._move_of(found)) is not None:
                evidence = f"{move.slice} died at {self._line.moment(found.at)}, during its move from {move.source}"
                return question.answer(f"{move.slice} died", evidence, ok=False)
        return question.answer("none did", ok=True)

    def _no_move(self) -> Check:
        question = _Question.expectation("no move", "no move is accepted")
        begun = [each for each in self._line.migrations if each.accepted is not None]
        if begun:
            first = begun[0]
            evidence = f"{first.slice} was moved from {first.source} at {self._line.moment(first.begin)}"
            return question.answer(number_of(len(begun), "move"), evidence, ok=False, margin=-len(begun))
        return question.answer("none", f"nothing moved in the {self._watched} watched", ok=True)

    def _no_alert(self) -> Check:
        question = _Question.expectation("no alert", f"{self._plan.alert} doesn't fire")
        for episode in self._line.episodes:
            firing = episode.notified if episode.firing is None else episode.firing
            if episode.alert == self._plan.alert and firing is not None:
                about = f" about {episode.host}" if episode.host else ""
                evidence = f"{self._plan.alert} fired{about} at {self._line.moment(firing)}"
                return question.answer("fired", evidence, ok=False)
        return question.answer("didn't fire", "the alert didn't fire", ok=True)

    # Limits

    def limits(self) -> Iterator[Check]:
        """Whether each figure kept to its limit."""
        for name, text in self._plan.limits.items():
            try:
                limit = parse_limit(name, text)
            except ValueError as error:
                evidence = f"the limit {text!r} of {name} can't be read: {error}"
                yield Check(CheckKind.LIMIT, name, Outcome.INVALID, text, "not checked", evidence)
                continue
            yield self._not_due(limit) if self._needs_no_alert(name) else _limited(limit, self._figures[name])

    def _needs_no_alert(self, figure: str) -> bool:
        """Whether a figure is about an alert that didn't fire and needn't have."""
        fired = self._line.episode is not None and self._line.episode.firing is not None
        balance = self._plan.expect is Expectation.BALANCE
        return balance and self._looks_itself and figure in _ABOUT_ALERT and not fired

    def _not_due(self, limit: Limit) -> Check:
        """How soon an alert must fire says nothing about one that was never due; `alert when due` sees to that."""
        evidence = f"{_spoken(limit.figure)}: no alert fired, and {self._run.rebalancer.name} waits for none"
        return Check(CheckKind.LIMIT, limit.figure, Outcome.PASS, str(limit), "no alert", evidence)

    # The sentence

    def sentence(self, checks: Sequence[Check], outcome: Outcome) -> str:
        """What happened and what decided, without the outcome and the last point."""
        if outcome is Outcome.PASS:
            return self._success()
        deciding = [check for check in checks if check.outcome is outcome]
        # What couldn't be measured follows from what made the run invalid.
        deciding = [check for check in deciding if check.kind is CheckKind.VALIDITY] or deciding
        reasons = [check.evidence or f"{check.name}: {check.found}" for check in deciding[:_REASONS]]
        if rest := len(deciding) - len(reasons):
            reasons.append(f"and {number_of(rest, 'more reason')}")
        said = "; ".join(reasons)
        return f"the run proves nothing: {said}" if outcome is Outcome.INVALID else said

    def _success(self) -> str:
        if self._plan.expect is Expectation.NO_ALERT:
            return f"the alert didn't fire and nothing moved in the {self._watched} watched, as expected"
        if self._plan.expect is Expectation.NOTHING:
            kept = [f"{_spoken(name)} {shown(self._figures[name])}{self._limit_of(name)}" for name in self._plan.limits]
            more = [f"and {number_of(len(kept) - _REASONS, 'more figure')}"] if len(kept) > _REASONS else []
            return f"in the {self._watched} watched every limit was kept: {', '.join([*kept[:_REASONS], *more])}"
        if self._plan.expect is Expectation.NO_MOVE:
            alert = self._figures["time_to_alert"]
            fired = alert.value is not None and not alert.censored
            said = f"; the alert fired after {shown(alert)}" if fired else ""
            return f"nothing moved in the {self._watched} watched, as expected{said}"
        alert, balance = self._figures["time_to_alert"], self._figures["time_to_balance"]
        said = f"the alert fired after {shown(alert)}{self._limit_of('time_to_alert')}"
        if self._needs_no_alert("time_to_alert"):
            said = "no alert fired"
        return f"{said}, {self._moved}, balance came back after {shown(balance)}{self._limit_of('time_to_balance')}"

    def _limit_of(self, name: str) -> str:
        text = self._plan.limits.get(name)
        return f" (limit {parse_limit(name, text)})" if text else ""


def _limited(limit: Limit, figure: Figure) -> Check:
    name, spoken = limit.figure, _spoken(limit.figure)
    if figure.value is None:
        evidence = f"{spoken} has the limit {limit} and isn't known: {figure.missing}"
        return Check(CheckKind.LIMIT, name, Outcome.INVALID, str(limit), shown(figure), evidence)
    ok, margin = limit.holds(figure), limit.margin(figure)
    near = ""
    if margin is not None and figure.resolution and abs(margin) < figure.resolution:
        near = f", nearer than its resolution of {written(figure.resolution, figure.definition.unit)}"
    found = shown(figure)
    if not ok and not figure.censored:
        bound = limit.high if figure.value > limit.high else limit.low
        # A value that breaks its limit by little is written so exactly that this is seen.
        found = next(
            (
                text
                for digits in range(1, _DIGITS)
                if (text := written(figure.value, figure.definition.unit, digits))
                != written(bound, figure.definition.unit, digits)
            ),
            found,
        )
    evidence = f"{spoken}: {found} (limit {limit}){near}"
    return Check(CheckKind.LIMIT, name, Outcome.PASS if ok else Outcome.FAIL, str(limit), found, evidence, margin)


def _spoken(figure: str) -> str:
    return figure.replace("_", " ")


def _percent(ratio: float) -> str:
    return written(ratio, "ratio")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _ended(reason: EndReason) -> str:
    return "interrupted" if reason is EndReason.INTERRUPTED else "ended by a failure"
