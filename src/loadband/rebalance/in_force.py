"""What rules, targets and configurations that are somebody else's mean for a run. Pure.

Everything here is read from what a Prometheus and an Alertmanager say of themselves. Where that leaves several
answers, the slowest is taken, so that a bound is never too narrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadband.rebalance import shipped

GROUP_WAIT, GROUP_INTERVAL = "30s", "5m"
"""Alertmanager's defaults of `group_wait` and `group_interval`."""

Rules = Sequence[Mapping[str, Any]]
"""As `prometheus.Client.rules` has them."""

_RANGE = re.compile(r"\[((?:\d+(?:ms|[smhdwy]))+)(?::\w*)?\]")
_MATCHER = re.compile(
    r"""\s*"?(?P<name>[^"=!~\s{},]+)"?\s*(?P<operator>=~|!~|!=|=)\s*(?P<value>"(?:[^"\\]|\\.)*"|[^",{}\s]*)\s*"""
)
"""As Alertmanager writes a matcher: `severity="warning"`, `alertname!~"A|B"`."""
_TEMPLATE = "{{"
"""In a label's value: it is made when the alert is."""


class UnfitError(Exception):
    """What is in force can't serve a run; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Read:
    """A duration that was read."""

    seconds: float
    source: str
    """Where it stands, for people."""

    def __str__(self) -> str:
        """`15s, of the group loadband-hosts`."""
        return f"{self.seconds:g}s, {self.source}"


def alert_for(rules: Rules, alert: str) -> Read:
    """The `for` of an alert; of several rules of that name the longest.

    Raises:
        UnfitError: there is no such alert.
    """
    waits = [float(rule["duration"]) for rule in _alerts(rules, alert)]
    source = f"alert {alert}" if len(waits) == 1 else f"the longest of {len(waits)} alerts {alert}"
    return Read(max(waits), source)


def evaluation(rules: Rules, alert: str) -> Read:
    """Seconds from one evaluation of an alert to the next.

    If another group records the utilization, its interval comes on top: a group reads what the other one last wrote.

    Raises:
        UnfitError: there is no such alert.
    """
    own = max(_alerts(rules, alert), key=lambda rule: float(rule["interval"]))
    recorded = [rule for rule in _recording(rules, shipped.UTILIZATION) if rule["group"] != own["group"]]
    seconds, source = float(own["interval"]), f"group {own['group']}"
    if recorded:
        feeds = max(recorded, key=lambda rule: float(rule["interval"]))
        return Read(seconds + float(feeds["interval"]), f"{source} after group {feeds['group']}")
    return Read(seconds, source)


def recorded_every(rules: Rules) -> float:
    """Seconds from one value of the hosts' utilization to the next.

    Raises:
        UnfitError: no rule records it.
    """
    return max(float(rule["interval"]) for rule in _utilization(rules))


def window(rules: Rules) -> Read:
    """Over how long the rules average the hosts' utilization.

    Raises:
        UnfitError: no rule records it, or it isn't one duration.
    """
    _utilization(rules)
    ranges = {shipped.seconds(written) for written in _ranges(rules, shipped.UTILIZATION, set())}
    if len(ranges) != 1:
        found = " and ".join(f"{one:g} s" for one in sorted(ranges)) or "no range"
        raise UnfitError(f"the rules average {shipped.UTILIZATION} over {found}: it must be one")
    return Read(ranges.pop(), f"the rules of {shipped.UTILIZATION}")


def _alerts(rules: Rules, name: str) -> Rules:
    alerts = [rule for rule in rules if rule["type"] == "alerting"]
    if found := [rule for rule in alerts if rule["name"] == name]:
        return found
    there = ", ".join(sorted({str(rule["name"]) for rule in alerts}))
    raise UnfitError(f"there is no alert {name!r} in its rules; there {f'are {there}' if there else 'is none at all'}")


def _recording(rules: Rules, name: str) -> Rules:
    return [rule for rule in rules if rule["type"] == "recording" and rule["name"] == name]


def _utilization(rules: Rules) -> Rules:
    if found := _recording(rules, shipped.UTILIZATION):
        return found
    raise UnfitError(f"none of its rules records {shipped.UTILIZATION}: load the rules that loadband ships")


def _ranges(rules: Rules, name: str, seen: set[str]) -> Iterator[str]:
    """The ranges in the rules that a recorded series is made from, as written."""
    seen.add(name)
    for rule in _recording(rules, name):
        query = str(rule["query"])
        yield from _RANGE.findall(query)
        words = set(re.findall(r"[\w:]+", query))
        for other in sorted({str(one["name"]) for one in rules if one["name"] in words} - seen):
            yield from _ranges(rules, other, seen)


def scrape(targets: Sequence[Mapping[str, Any]], exporters: Sequence[Mapping[str, str]]) -> Read | None:
    """Seconds from one scrape to the next: the longest of the targets that export the hosts.

    Args:
        targets: the active ones, as Prometheus' API has them.
        exporters: labels `job` and `instance` of the series that the hosts' utilization is made from.

    Returns:
        None if none of the targets is one of these.
    """
    wanted = {(labels.get("job"), labels.get("instance")) for labels in exporters}
    found = [
        (shipped.seconds(target["scrapeInterval"]), str(target["labels"].get("job")))
        for target in targets
        if (target["labels"].get("job"), target["labels"].get("instance")) in wanted
    ]
    if not found:
        return None
    seconds, job = max(found)
    return Read(seconds, f"job {job}")


def labels_of(rules: Rules, alert: str, config: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels that an alert surely has when it comes to Alertmanager.

    Args:
        rules: with the alert.
        alert: its name.
        config: of the Prometheus. If it relabels alerts, nothing is sure.
    """
    if (config.get("alerting") or {}).get("alert_relabel_configs"):
        return {}
    outside = (config.get("global") or {}).get("external_labels") or {}
    common = [set((rule.get("labels") or {}).items()) for rule in _alerts(rules, alert)]
    inside = {name: value for name, value in set.intersection(*common) if _TEMPLATE not in value}
    return {**outside, **inside, "alertname": alert}


@dataclass(frozen=True, slots=True)
class Waits:
    """What an alert waits for in Alertmanager."""

    group_wait: Read
    group_interval: Read


def waits(config: Mapping[str, Any], labels: Mapping[str, str]) -> Waits:
    """`group_wait` and `group_interval` of the route that an alert takes; of several that it may take the longest.

    Args:
        config: of the Alertmanager.
        labels: those that the alert surely has. It may have others.
    """
    routes = list(_reached(config["route"], {}, labels))
    among = "" if len(routes) == 1 else f", the longest of {len(routes)} routes that it may take"

    def longest(key: str, default: str) -> Read:
        found = [
            (shipped.seconds(route.get(key) or default), not route.get(key), route["receiver"]) for route in routes
        ]
        seconds, is_default, receiver = max(found)
        named = "Alertmanager's default" if is_default else f"route to {receiver}"
        return Read(seconds, f"{named}{among}")

    return Waits(longest("group_wait", GROUP_WAIT), longest("group_interval", GROUP_INTERVAL))


def _reached(
    route: Mapping[str, Any], inherited: Mapping[str, Any], labels: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """The routes at which an alert may end, below one that it reaches, each with what it inherits."""
    here = {**inherited, **{key: value for key, value in route.items() if key != "routes" and value}}
    found: list[Mapping[str, Any]] = []
    surely = False
    for child in route.get("routes") or ():
        matches = _matches(child, labels)
        if matches is False:
            continue
        found += _reached(child, here, labels)
        surely = surely or matches is True
        if matches and not child.get("continue"):
            break
    return found if surely else [*found, here]


def _matches(route: Mapping[str, Any], labels: Mapping[str, str]) -> bool | None:
    """Whether a route takes alerts with these labels; None if that depends on others."""
    conditions = [(name, "=", value) for name, value in (route.get("match") or {}).items()]
    conditions += [(name, "=~", value) for name, value in (route.get("match_re") or {}).items()]
    answers = [_holds(name, operator, str(value), labels) for name, operator, value in conditions]
    for written in route.get("matchers") or ():
        text = str(written).strip("{} ")
        parts = [match.group("name", "operator", "value") for match in _MATCHER.finditer(text)]
        answers += [_holds(name, operator, _unquoted(value), labels) for name, operator, value in parts]
        if _MATCHER.sub("", text).strip(", "):
            answers.append(None)  # a way to write it that isn't known here
    if False in answers:
        return False
    return None if None in answers else True


def _holds(name: str, operator: str, value: str, labels: Mapping[str, str]) -> bool | None:
    actual = labels.get(name)
    if actual is None:
        return None
    if operator in {"=", "!="}:
        return (actual == value) == (operator == "=")
    try:
        return (re.fullmatch(value, actual) is not None) == (operator == "=~")
    except re.error:  # RE2 knows what Python doesn't
        return None


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], value[1:-1])
