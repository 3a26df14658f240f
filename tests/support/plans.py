"""Plans of runs for tests that need any: two hosts, of which `a` gets hot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from loadband.rebalance.events import Expectation, Plan

LAB = Plan(
    scenario="hot-host",
    expect=Expectation.BALANCE,
    alert="Hot",
    hot_hosts=("a",),
    hot=0.75,
    theta=0.2,
    hold=3.0,
    settle=3.0,
    return_within=20.0,
    window=4.0,
    sample_interval=1.0,
    watch=30.0,
)


def plan(**changes: Any) -> Plan:
    """A short one, of tests that play it, with some fields changed."""
    return replace(LAB, **changes)


PLAN = plan(
    scenario="test",
    alert="LoadbandHostHot",
    hot=0.85,
    hold=5.0,
    settle=2.0,
    return_within=60.0,
    sample_interval=0.5,
    watch=60.0,
)
