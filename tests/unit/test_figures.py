"""Figures of synthetic recordings, each worked out by hand: see the cases' docstrings."""

from __future__ import annotations

import pytest
from recordings import CASES, noticed

from loadband.rebalance.figures import DEFINITIONS, episodes, measure

CENSORED, MISSING = "censored", "missing"

EXPECTED: dict[str, dict[str, float | tuple[str, float] | str]] = {
    "good": {
        "time_to_alert": 10.5,
        "time_to_pending": 0.5,
        "pending_to_firing": 10.0,
        "firing_to_webhook": 0.1,
        "alert_to_resolved": 5.0,
        "time_to_first_move": 11.0,
        "time_to_relief": 14.0,
        "time_to_balance": 17.0,
        "initial_imbalance": 0.6,
        "residual_imbalance": 0.15,
        "spread": 0.15,
        "sd": 0.075,
        "cv": 0.125,
        "peak": 1.125,
        "moves": 1,
        "failed_moves": 0,
        "moves_per_slice": 1 / 8,
        "thrash": 0,
        "oscillation": 0,
        "overshoot": 0,
        "undershoot": 0,
        "overload_time_fraction": 13 / 56,
        "work_lost_ratio": 0,
        "migration_seconds": 2,
        "downtime_seconds": 0,
        "load_fidelity": 1,
    },
    "late_alert": {"time_to_alert": 30.5, "time_to_pending": 20.5, "pending_to_firing": 10.0, "time_to_balance": 37.0},
    "silent_alert": {
        "time_to_alert": (CENSORED, 56.0),
        "time_to_pending": 0.5,
        "pending_to_firing": MISSING,
        "firing_to_webhook": MISSING,
        "alert_to_resolved": MISSING,
        "time_to_first_move": (CENSORED, 56.0),
        "time_to_relief": (CENSORED, 56.0),
        "time_to_balance": (CENSORED, 56.0),
        "residual_imbalance": 0.6,
        "oscillation": 0,
        "overshoot": 0,
        "overload_time_fraction": 1,
        "work_lost_ratio": 0,
        "migration_seconds": 0,
        "downtime_seconds": 0,
    },
    # a falls below 85 % 0.89 s after 38 s, the spread below 20 points 3.56 s after it
    "early_move": {"time_to_alert": 10.5, "time_to_first_move": 4.0, "time_to_relief": 15.0, "time_to_balance": 18.0},
    # the spread goes 60, 15, 60, 15 points; back on a, a is at 90 % and b at 30 %, 30 points below the mean
    "thrash": {
        "moves": 3,
        "thrash": 2 / 3,
        "time_to_balance": 37.0,
        "oscillation": 2 * 0.45 / 0.6,
        "overshoot": 0.05,
        "undershoot": 0.3,
        "migration_seconds": 6,
    },
    # the spread goes 60, 0, 30, 0, 60 points, of which 60 to 60 is no net change; the zeros fall between two samples
    "slow_oscillation": {"moves": 4, "thrash": 0, "time_to_balance": (CENSORED, 56.0), "oscillation": 1.5 / 0.6},
    "never_balanced": {
        "time_to_relief": 15.0,
        "time_to_balance": (CENSORED, 56.0),
        "residual_imbalance": 0.375,
        "moves_per_slice": 1 / 9,
    },
    "lost_balance": {"time_to_balance": (CENSORED, 56.0), "residual_imbalance": 0.325},
    "two_at_once": {
        "moves": 2,
        "time_to_balance": (CENSORED, 56.0),
        "residual_imbalance": 0.3,
        "undershoot": 0.15,
        "migration_seconds": 8,
    },
    "failing_move": {
        "moves": 3,
        "failed_moves": 3,
        "time_to_first_move": 11.0,
        "time_to_relief": 19.0,
        "time_to_balance": 22.0,
        "migration_seconds": 4,
        "thrash": 0,
    },
    # a falls from 90 to 67.5 % from 35 s on; b rises from 38 s on; 3 s of a1 are lost of 45 s of 4.8 CPUs
    "evicted": {
        "time_to_relief": 12.0,
        "time_to_balance": 18.0,
        "work_lost_ratio": 3 * 0.9 / (45 * 4.8),
        "downtime_seconds": 3,
        "migration_seconds": 3,
    },
    # b is known again when its window of 4 s holds no gap: at 46 s
    "gap": {"time_to_relief": 14.0, "time_to_balance": 22.0},
    # mean of 67.5, 30 and 22.5 %: 40 %
    "host_comes": {"time_to_balance": (CENSORED, 56.0), "spread": 0.45, "peak": 0.675 / 0.4, "time_to_relief": 14.0},
    "host_goes": {"time_to_balance": 17.0, "spread": 0.15, "initial_imbalance": 0.9},
    "one_host": {"initial_imbalance": 0, "residual_imbalance": 0, "time_to_balance": 0, "peak": 1, "moves": 0},
    "no_slices": {"load_fidelity": MISSING, "moves_per_slice": MISSING, "time_to_alert": 10.5},
    "ends_during_move": {
        "time_to_alert": 10.5,
        "time_to_first_move": 11.0,
        "time_to_balance": (CENSORED, 12.0),
        "alert_to_resolved": (CENSORED, 1.5),
        "moves": 1,
        "thrash": 0,
        "migration_seconds": (CENSORED, 1.0),
        "downtime_seconds": (CENSORED, 0.0),
    },
    # balance holds from 41 s on, for 9 of 10 s
    "interrupted": {"time_to_relief": 14.0, "time_to_balance": (CENSORED, 17.0)},
    "foreign_move": {"moves": 1},
    "unfaithful": {"load_fidelity": 11 / 27},
    "symmetric": {
        "time_to_alert": (CENSORED, 60.0),
        "time_to_first_move": (CENSORED, 60.0),
        "time_to_relief": MISSING,
        "time_to_balance": 0,
        "moves": 0,
    },
    "needless_move": {"moves": 1, "time_to_first_move": 20.0, "residual_imbalance": 0.3, "oscillation": MISSING},
    "short_burst": {"time_to_alert": (CENSORED, 56.0), "time_to_relief": 6.0},
    "unmovable": {"time_to_alert": 10.5, "alert_to_resolved": (CENSORED, 65.5), "moves": 0},
    "never_hot": {
        "time_to_alert": MISSING,
        "time_to_balance": MISSING,
        "time_to_first_move": MISSING,
        "overload_time_fraction": MISSING,
        "residual_imbalance": 0.5,
        "load_fidelity": 1,
    },
}
"""By case: figures. A number is exact; a pair is censored."""


@pytest.mark.parametrize("case", EXPECTED)
def test_the_figures_of_a_case_are_those_of_its_construction(case: str) -> None:
    figures = measure(CASES[case]())
    for name, expected in EXPECTED[case].items():
        figure = figures[name]
        if expected == MISSING:
            assert figure.value is None, name
        else:
            value, censored = (expected[1], True) if isinstance(expected, tuple) else (expected, False)
            assert figure.value == pytest.approx(value, abs=1e-6), name
            assert figure.censored == censored, name


@pytest.mark.parametrize("case", ["counter_reset", "clock_offset", "out_of_order"])
def test_what_is_put_right_changes_no_figure(case: str) -> None:
    plain, put_right = measure(CASES["good"]()), measure(CASES[case]())
    for name, figure in plain.items():
        assert put_right[name].value == pytest.approx(figure.value, abs=1e-6), name


@pytest.mark.parametrize("case", CASES)
def test_each_figure_has_a_value_or_says_why_not(case: str) -> None:
    figures = measure(CASES[case]())
    assert list(figures) == list(DEFINITIONS)
    for figure in figures.values():
        assert (figure.value is None) == bool(figure.missing)
        assert (figure.value is None) != bool(figure.based_on)


def test_an_alert_that_is_pending_again_at_the_moment_that_it_is_resolved_has_two_episodes() -> None:
    scene = noticed()
    scene.alert(pending=39.5, dropped=45.0)
    found = episodes(scene.record())
    assert [(each.firing is not None, each.ended is not None) for each in found] == [(True, True), (False, True)]
    assert found[0].ended == found[1].pending
    assert episodes(scene.record(shuffled=3)) == found
