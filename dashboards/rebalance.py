"""The rebalance dashboard: one run of a scenario: its phases, alerts, moves, imbalance and verdict."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from dashboards.parts import (
    COUNT,
    CPUS,
    RATIO,
    Annotation,
    assemble,
    colour,
    lines,
    number,
    query,
    rows,
    run_variables,
    timeline,
)

RUN = 'instance="$instance"'
"""Label matcher of the chosen run."""
DASHED = {"custom.lineStyle": {"fill": "dash", "dash": [10, 10]}, "custom.lineWidth": 2}
PHASES = {"baseline": "green", "overload": "orange", "watch": "purple", "recovery": "blue"}
VERDICTS = {"PASS": "green", "FAIL": "red", "INVALID": "orange"}


def _numbered(words: dict[str, str], without: str) -> model.ValueMap:
    """Words for numbers: `without` for 0, the others from 1."""
    results = {"0": model.ValueMappingResult(text=without, color="text", index=0)}
    for place, (word, shade) in enumerate(words.items(), start=1):
        results[str(place)] = model.ValueMappingResult(text=word, color=shade, index=place)
    return model.ValueMap(results)


def _which(metric: str, label: str, words: dict[str, str]) -> str:
    """An expression for the position, from 1, of the label's value whose series is 1; 0 if none is."""
    each = " or ".join(f'{metric}{{{label}="{word}",{RUN}}} * {place}' for place, word in enumerate(words, start=1))
    return f"sum without ({label}) ({each})"


ALERT_MAPPING = _numbered({"pending": "orange", "firing": "red"}, "over")
CURRENT = model.ValueMap({"1": model.ValueMappingResult(text="current", color="blue", index=0)})

NOW = [
    number(
        "Phase",
        "Baseline, overload, watch, recovery, in this order. The overload is made in *overload* and held in *watch*.",
        COUNT,
        [query(_which("loadband_rebalance_phase", "phase", PHASES), now=True)],
        mapping=_numbered(PHASES, "none"),
    ),
    number(
        "Verdict",
        "On all repeats; known when the report is written. A run waits up to a minute for this to be scraped.",
        COUNT,
        [query(_which("loadband_rebalance_verdict", "verdict", VERDICTS), now=True)],
        mapping=_numbered(VERDICTS, "not yet"),
    ),
    number(
        "Repeat",
        "The current repeat, and how many were asked for.",
        COUNT,
        [
            query(f"loadband_rebalance_repeat{{{RUN}}}", "current", now=True),
            query(f"loadband_rebalance_repeats{{{RUN}}}", "asked for", now=True),
        ],
    ),
    number(
        "Moves",
        "Moves of this repeat that are done or in progress. Expected: a few after the alert, then none.",
        COUNT,
        [
            query(f'loadband_rebalance_moves_total{{outcome="done",{RUN}}}', "done", now=True),
            query(f"loadband_rebalance_moves_in_progress{{{RUN}}}", "in progress", now=True),
        ],
    ),
    number(
        "Alerts firing",
        "Healthy: 0, except between the overload and its end.",
        COUNT,
        [query(f'count(loadband_rebalance_alert{{state="firing",{RUN}}} == 1) or vector(0)', now=True)],
    ),
    number(
        "Disturbances",
        "What isn't part of the scenario: foreign load, a failed scrape, a dead slice. Healthy: 0.",
        COUNT,
        [query(f"sum(loadband_rebalance_disturbances_total{{{RUN}}})", now=True)],
        thresholds=[(None, "green"), (1, "red")],
    ),
]

COURSE = [
    timeline(
        "Phases",
        "When each phase of the run was current.",
        [query(f"loadband_rebalance_phase{{{RUN}}} == 1", "{{phase}}")],
        CURRENT,
        size=(12, 6),
    ),
    timeline(
        "Alerts of the run",
        "One row per alert and host: when it was pending and when it fired. Healthy: the hot host's alert fires in "
        "*watch* and is over before the run ends.",
        [
            query(
                f'sum without (state) (loadband_rebalance_alert{{state="pending",{RUN}}}'
                f' or loadband_rebalance_alert{{state="firing",{RUN}}} * 2)',
                "{{alert}} {{host}}",
            )
        ],
        ALERT_MAPPING,
        size=(12, 6),
    ),
    lines(
        "Hosts against the hot threshold",
        "CPU utilization of each host, averaged over the scenario's window, as the run records it. Balance came back: "
        "the hot host's line falls below the dashed one, and the lines run together.",
        RATIO,
        [
            query(f"loadband_rebalance_host_cpu_utilization_ratio{{{RUN}}}", "{{host}}"),
            query(f"loadband_rebalance_hot_threshold_ratio{{{RUN}}}", "hot from"),
        ],
        size=(24, 9),
        limits=(0, 1),
        fields={"hot from": {"color": colour("red")} | DASHED},
    ),
    lines(
        "Imbalance of the run",
        "The measure that decides the run, its limit, and max - min. Balance came back: the line stays below the "
        "dashed one. Saw teeth mean that a rebalancer moves back and forth.",
        RATIO,
        [
            query(f"loadband_rebalance_imbalance{{{RUN}}}", "{{measure}}"),
            query(f"loadband_rebalance_imbalance_limit{{{RUN}}}", "balance up to"),
            query(f"loadband_rebalance_spread_ratio{{{RUN}}}", "max - min"),
        ],
        fields={"balance up to": {"color": colour("green")} | DASHED, "max - min": {"color": colour("text")}},
    ),
    lines(
        "Slices by host",
        "Number of slices on each host. A move makes one layer thinner and another one thicker.",
        COUNT,
        [query(f"loadband_rebalance_host_slices{{{RUN}}}", "{{host}}")],
        stacked=True,
    ),
    lines(
        "Moves and notifications",
        "Moves that ended, by outcome, those in progress, and notifications of firing alerts that arrived for the "
        "rebalancer. Healthy: a step of the notifications, then a few steps of *done*, then flat lines.",
        COUNT,
        [
            query(f"loadband_rebalance_moves_total{{{RUN}}}", "{{outcome}}"),
            query(f"loadband_rebalance_moves_in_progress{{{RUN}}}", "in progress"),
            query(f"loadband_rebalance_notifications_total{{{RUN}}}", "notifications"),
        ],
    ),
    lines(
        "Disturbances by kind",
        "What isn't part of the scenario. Healthy: empty. Most kinds make the run INVALID.",
        COUNT,
        [query(f"loadband_rebalance_disturbances_total{{{RUN}}} > 0", "{{disturbance}}")],
    ),
    rows(
        "The run",
        "What runs: the run's id, as the recording has it, scenario, platform and rebalancer.",
        {
            "run": query(
                f"max by (run, scenario, platform, rebalancer, version) (loadband_rebalance_info{{{RUN}}})",
                as_table=True,
            )
        },
        hidden=["Value #A"],
        size=(12, 8),
    ),
    lines(
        "The recorder's own CPU time",
        "What the run's own process burns. Servers and slices are processes of their own. Healthy: a few percent of a "
        "CPU; the report says how much of a host all own programs took.",
        CPUS,
        [query(f"rate(process_cpu_seconds_total{{{RUN}}}[$__rate_interval])", "recorder")],
    ),
]

ANNOTATIONS = [
    Annotation(
        "Phases",
        f"loadband_rebalance_phase_timestamp_seconds{{{RUN}}} * 1000",
        "{{phase}} begins",
        "purple",
        value_is_time=True,
    ),
    Annotation(
        "Moves",
        f"increase(loadband_rebalance_moves_total{{{RUN}}}[$__rate_interval]) > 0",
        "a move is {{outcome}}",
        "blue",
    ),
    Annotation(
        "Alerts",
        f'loadband_rebalance_alert{{state="firing",{RUN}}} == 1',
        "{{alert}} {{host}}",
        "red",
    ),
]


def dashboard() -> model.Dashboard:
    """Build the dashboard."""
    return assemble(
        "loadband-rebalance",
        "loadband / Rebalance",
        "One run of a scenario: its phases, alerts, moves and imbalance, and the verdict.",
        {"Now": NOW, "The course of the run": COURSE},
        ANNOTATIONS,
        selectors=run_variables(),
    )
