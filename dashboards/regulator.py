"""One regulator: does it hold its band, with what effort, and is it well."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from dashboards.parts import (
    BYTES,
    COUNT,
    CPUS,
    FROM_NOW,
    MODE_FIELDS,
    ONE,
    PER_SECOND,
    RATIO,
    SECONDS,
    STATE_MAPPING,
    Annotation,
    assemble,
    bars,
    colour,
    lines,
    marks,
    number,
    query,
    rows,
    states,
    timeline,
)

SECOND_AXIS = {"custom.axisPlacement": "right"}
DASHED = {"custom.lineStyle": {"fill": "dash", "dash": [10, 10]}}

PHASE_MAPPING = model.ValueMap({"1": model.ValueMappingResult(text="in force", color="blue", index=0)})

NOW = [
    number(
        "State",
        "Healthy: holding, or latched. Settling lasts a second or two after a change. Anything else has an alert.",
        COUNT,
        [query(states(ONE), now=True)],
        mapping=STATE_MAPPING,
    ),
    number(
        "Utilization, last second",
        "Of the scope's CPUs. Healthy: inside the band.",
        RATIO,
        [query(f"loadband_cpu_utilization_ratio{{{ONE}}}", now=True)],
    ),
    number(
        "Band",
        "The edges between which utilization is to be held.",
        RATIO,
        [
            query(f"loadband_band_min_ratio{{{ONE}}}", "from", now=True),
            query(f"loadband_band_max_ratio{{{ONE}}}", "to", now=True),
        ],
    ),
    number(
        "In band, whole range",
        "Share of the observed time in the chosen time range. Healthy: 95 % or more. Not counted while latched.",
        RATIO,
        [
            query(
                f"increase(loadband_in_band_seconds_total{{{ONE}}}[$__range])"
                f" / (increase(loadband_observed_seconds_total{{{ONE}}}[$__range]) > 0)",
                now=True,
            )
        ],
        thresholds=[(None, "red"), (0.9, "orange"), (0.95, "green")],
        absent="not observed",
    ),
    number(
        "CPUs",
        "Capacity: the CPUs of the scope, the denominator of every ratio. Reach: the most of them that it can burn. "
        "A reach far below capacity saturates.",
        CPUS,
        [
            query(f"loadband_capacity_cpus{{{ONE}}}", "capacity", now=True),
            query(f"loadband_reach_cpus{{{ONE}}}", "reach", now=True),
        ],
    ),
    number(
        "Ends, latched",
        "When its duration is over, and since when its load has been fixed.",
        FROM_NOW,
        [
            query(f"loadband_deadline_timestamp_seconds{{{ONE}}} * 1000", "ends", now=True),
            query(f"loadband_latch_timestamp_seconds{{{ONE}}} * 1000", "latched", now=True),
        ],
        absent="runs for ever, closed loop",
    ),
]

BAND = [
    lines(
        "Utilization in its band",
        "Healthy: the line runs in the middle of the shaded corridor. Below it for long: saturated (look at effort and "
        "reach). Above it: others take too much (look at what they use). Swinging from edge to edge: two loops fight. "
        "The thin line is over one second and is what the regulator itself sees; the thick one is from counters and "
        "misses nothing between two scrapes. Stolen time isn't in the thick one.",
        RATIO,
        [
            query(f"loadband_band_min_ratio{{{ONE}}}", "band from"),
            query(f"loadband_band_max_ratio{{{ONE}}}", "band to"),
            query(f"loadband_cpu_utilization_ratio{{{ONE}}}", "last second"),
            query(
                f'sum(rate(loadband_cpu_seconds_total{{{ONE},mode=~"own|other"}}[$__rate_interval]))'
                f" / (sum(rate(loadband_cpu_seconds_total{{{ONE}}}[$__rate_interval])) > 0)",
                "mean",
            ),
        ],
        size=(16, 10),
        limits=(0, 1),
        fields={
            "band from": {"color": colour("green"), "custom.lineWidth": 1},
            "band to": {
                "color": colour("green"),
                "custom.lineWidth": 1,
                "custom.fillBelowTo": "band from",
                "custom.fillOpacity": 20,
            },
            "last second": {"color": colour("super-light-blue"), "custom.lineWidth": 1},
            "mean": {"color": colour("blue"), "custom.lineWidth": 2},
        },
    ),
    lines(
        "Whose CPU time",
        "All of the scope's CPU time, from counters. Healthy: own fills what others leave below the band, and mirrors "
        "them when they come and go. Steal is what a hypervisor took.",
        RATIO,
        [
            query(
                f'sum(rate(loadband_cpu_seconds_total{{{ONE},mode="{mode}"}}[$__rate_interval]))'
                f" / (sum(rate(loadband_cpu_seconds_total{{{ONE}}}[$__rate_interval])) > 0)",
                mode,
            )
            for mode in MODE_FIELDS
        ],
        size=(8, 10),
        stacked=True,
        limits=(0, 1),
        fields=MODE_FIELDS,
    ),
    timeline(
        "State over time",
        "Healthy: one long bar of holding or latched. Many short ones: it is at an edge, of the band or of its reach.",
        [query(states(ONE), "state")],
        STATE_MAPPING,
        size=(16, 4),
    ),
    timeline(
        "Phase of the profile",
        "Empty without a profile. Which of its phases was in force when; the corridor above moves with it.",
        [query(f"loadband_profile_phase{{{ONE}}} == 1", "{{phase}}")],
        PHASE_MAPPING,
        size=(8, 4),
    ),
]

EFFORT = [
    lines(
        "Effort, reach and what it really burns",
        "Healthy: burnt follows effort, well below reach. Effort at reach: saturated. Burnt below effort: crowded out, "
        "throttled or stolen from. With a latch, burnt runs along the dashed line.",
        CPUS,
        [
            query(f"loadband_effort_cpus{{{ONE}}}", "effort"),
            query(f"loadband_reach_cpus{{{ONE}}}", "reach"),
            query(f'sum(rate(loadband_cpu_seconds_total{{{ONE},mode="own"}}[$__rate_interval]))', "burnt"),
            query(f"loadband_latched_effort_cpus{{{ONE}}}", "latched effort"),
        ],
        size=(8, 8),
        fields={"reach": {"color": colour("red")}, "latched effort": {"color": colour("purple")} | DASHED},
    ),
    lines(
        "Workers and their duty",
        "Healthy: duty below 100 %. The step law changes the number of workers, the adaptive one their duty.",
        COUNT,
        [
            query(f"loadband_workers{{{ONE}}}", "workers"),
            query(f"loadband_worker_duty_ratio{{{ONE}}}", "duty"),
        ],
        size=(8, 8),
        fields={"duty": {"unit": RATIO, "min": 0, "max": 1} | SECOND_AXIS},
    ),
    lines(
        "Share of the time in the band",
        "Healthy: 100 %, with a notch where the band was changed. The gauge in_band is what was so at the scrape; "
        "the share misses nothing. Stops while latched.",
        RATIO,
        [
            query(
                f"increase(loadband_in_band_seconds_total{{{ONE}}}[$__rate_interval])"
                f" / (increase(loadband_observed_seconds_total{{{ONE}}}[$__rate_interval]) > 0)",
                "share",
            ),
            query(f"loadband_in_band{{{ONE}}}", "at the scrape"),
        ],
        size=(8, 8),
        limits=(0, 1),
        fields={"at the scrape": {"custom.drawStyle": "points", "custom.showPoints": "always", "custom.pointSize": 3}},
    ),
]

HEALTH = [
    lines(
        "Control loop",
        "Healthy: one flat line of cycles (10 a second by default), no late ones, no lost samples. No cycles while it "
        "answers: the loop is stalled. Lost samples have a reason, and three in a row end in failsafe.",
        PER_SECOND,
        [
            query(f"rate(loadband_cycles_total{{{ONE}}}[$__rate_interval])", "cycles"),
            query(f"rate(loadband_cycle_overruns_total{{{ONE}}}[$__rate_interval])", "late"),
            query(f"rate(loadband_cycle_failures_total{{{ONE}}}[$__rate_interval])", "lost: {{reason}}"),
        ],
        size=(8, 8),
    ),
    lines(
        "Time that a cycle takes",
        "Healthy: far below the interval (100 ms by default). A p99 near to it, with late cycles: no CPU for the loop.",
        SECONDS,
        [
            *(
                query(
                    f"histogram_quantile({quantile}, "
                    f"sum by (le) (rate(loadband_cycle_duration_seconds_bucket{{{ONE}}}[$__rate_interval])))",
                    name,
                )
                for name, quantile in (("p50", 0.5), ("p99", 0.99))
            ),
            query(
                f"rate(loadband_cycle_duration_seconds_sum{{{ONE}}}[$__rate_interval])"
                f" / (rate(loadband_cycle_duration_seconds_count{{{ONE}}}[$__rate_interval]) > 0)",
                "mean",
            ),
        ],
        size=(8, 8),
    ),
    lines(
        "Age of the last cycle",
        "Healthy: below a second, as fresh as the scrape. A ramp: the loop is stalled. A constant offset: the clocks "
        "of Prometheus and of the host differ.",
        SECONDS,
        [query(f"timestamp(loadband_cycles_total{{{ONE}}}) - loadband_last_cycle_timestamp_seconds{{{ONE}}}", "age")],
        size=(8, 8),
        limits=(None, None),
    ),
    lines(
        "Throttling",
        "Empty without a CPU limit. Healthy: 0. More than 25 % of the periods: the effort is too near to the limit, "
        "and the kernel makes CPU pressure that no real load would make.",
        RATIO,
        [
            query(
                f"increase(loadband_cpu_throttled_periods_total{{{ONE}}}[$__rate_interval])"
                f" / (increase(loadband_cpu_periods_total{{{ONE}}}[$__rate_interval]) > 0)",
                "periods",
            ),
            query(f"rate(loadband_cpu_throttled_seconds_total{{{ONE}}}[$__rate_interval])", "CPUs held back"),
        ],
        size=(8, 8),
        fields={"CPUs held back": {"unit": CPUS} | SECOND_AXIS},
    ),
    lines(
        "Workers replaced, bands changed",
        "Healthy: no worker is ever replaced. Changes of the band are by what asked for them.",
        COUNT,
        [
            query(f"increase(loadband_worker_restarts_total{{{ONE}}}[$__rate_interval])", "workers replaced"),
            query(f"increase(loadband_band_changes_total{{{ONE}}}[$__rate_interval])", "band by {{source}}"),
        ],
        size=(8, 8),
        fields={"workers replaced": {"color": colour("red")}},
    ),
    lines(
        "The process itself",
        "Memory is flat. Its CPU time is what it burns and what regulating costs: 1 % of a CPU and less above `burnt`.",
        BYTES,
        [
            query(f"process_resident_memory_bytes{{{ONE}}}", "memory"),
            query(f"rate(process_cpu_seconds_total{{{ONE}}}[$__rate_interval])", "CPU time"),
        ],
        size=(8, 8),
        fields={"CPU time": {"unit": CPUS} | SECOND_AXIS},
    ),
    bars(
        "CPU time, last second",
        "As the regulator sees it now; the four add up to 100 %.",
        RATIO,
        [query(f"loadband_cpu_ratio{{{ONE}}}", "{{mode}}", now=True)],
        size=(8, 6),
    ),
    rows(
        "Build and settings",
        "What runs, and how it was asked to measure and to regulate.",
        {
            "build": query(
                f"max by (instance, version, revision, pythonversion) (loadband_build_info{{{ONE}}})", as_table=True
            ),
            "settings": query(
                f"max by (instance, scope, controller, steal) (loadband_settings_info{{{ONE}}})", as_table=True
            ),
            "profile": query(f"max by (instance, profile) (loadband_profile_info{{{ONE}}})", as_table=True),
        },
        hidden=["Value #A", "Value #B", "Value #C"],
        size=(16, 6),
    ),
]

ANNOTATIONS = [
    *marks(ONE),
    Annotation(
        "Profile phases",
        f"changes(loadband_profile_phase{{{ONE}}}[$__rate_interval]) > 0 and loadband_profile_phase{{{ONE}}} == 1",
        "the profile is at {{phase}}",
        "purple",
    ),
    Annotation(
        "Alerts",
        'ALERTS{alertname=~"Loadband.+",alertstate="firing",cluster=~"$cluster",instance="$instance"}',
        "{{alertname}} {{node}}",
        "red",
    ),
]


def dashboard() -> model.Dashboard:
    """The dashboard."""
    return assemble(
        "loadband-regulator",
        "loadband / Regulator",
        "One regulator: does it hold its band, with what effort, and is it well.",
        {"Now": NOW, "The band": BAND, "Effort": EFFORT, "Health": HEALTH},
        ANNOTATIONS,
        single=True,
    )
