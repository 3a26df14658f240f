"""A plan of a run for tests that need any: two hosts, of which `a` gets hot."""

from __future__ import annotations

from loadband.rebalance.events import Expectation, Plan

PLAN = Plan(
    scenario="test",
    expect=Expectation.BALANCE,
    alert="LoadbandHostHot",
    hot_hosts=("a",),
    hot=0.85,
    theta=0.2,
    hold=5.0,
    settle=2.0,
    return_within=60.0,
    window=4.0,
    sample_interval=0.5,
    watch=60.0,
)
