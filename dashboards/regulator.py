"""The regulator dashboard: does one regulator hold its band, with what effort, and is it healthy."""

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
    variables,
)

SECOND_AXIS = {"custom.axisPlacement": "right"}
DASHED = {"custom.lineStyle": {"fill": "dash", "dash": [10, 10]}}

PHASE_MAPPING = model.ValueMap({"1": model.ValueMappingResult(text="current", color="blue", index=0)})

NOW = [
    number(
        "State",
        "Healthy: holding or latched. Settling lasts a second or two after a change. Anything else has an alert.",
        COUNT,
        [query(states(ONE), now=True)],
        mapping=STATE_MAPPING,
    ),
    number(
        "Utilization, last second",
        "As a share of the scope's CPUs. Healthy: inside the band.",
        RATIO,
        [query(f"loadband_cpu_utilization_ratio{{{ONE}}}", now=True)],
    ),
    number(
        "Band",
        "The edges of the band.",
        RATIO,
        [
            query(f"loadband_band_min_ratio{{{ONE}}}", "from", now=True),
            query(f"loadband_band_max_ratio{{{ONE}}}", "to", now=True),
        ],
    ),
    number(
        "In the band, whole range",
        "Share of the observed time in the selected time range. Healthy: 95 % or more. Not counted while latched.",
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
        "Capacity: the CPUs of the scope, the denominator of every ratio. Reach: the most CPUs that the regulator can "
        "burn. If the reach is far below capacity, the regulator saturates.",
        CPUS,
        [
            query(f"loadband_capacity_cpus{{{ONE}}}", "capacity", now=True),
            query(f"loadband_reach_cpus{{{ONE}}}", "reach", now=True),
        ],
    ),
    number(
        "Ends at, latched since",
        "When the duration ends, and since when the load has been fixed.",
        FROM_NOW,
        [
            query(f"loadband_deadline_timestamp_seconds{{{ONE}}} * 1000", "ends", now=True),
            query(f"loadband_latch_timestamp_seconds{{{ONE}}} * 1000", "latched", now=True),
        ],
        absent="never ends, not latched",
    ),
]

BAND = [
    lines(
        "Utilization and band",
        "Healthy: the line runs in the middle of the shaded band. Below it for long: saturated (look at effort and "
        "reach). Above it: other processes use too much (see who uses the CPU time). Swinging from edge to edge: two "
        "loops fight. The thin line covers one second and is what the regulator itself sees; the thick line comes "
        "from counters and misses nothing between two scrapes. The thick line excludes stolen time.",
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
        "Who uses the CPU time",
        "All CPU time of the scope, from counters. Healthy: own fills what other processes leave below the band, and "
        "mirrors them when they come and go. Steal is what a hypervisor took.",
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
        "Healthy: one long bar of holding or latched. Many short bars: it is at the edge of the band or of its reach.",
        [query(states(ONE), "state")],
        STATE_MAPPING,
        size=(16, 4),
    ),
    timeline(
        "Phase of the profile",
        "Which phase of the profile was current at what time; the band above moves with it. Empty without a profile.",
        [query(f"loadband_profile_phase{{{ONE}}} == 1", "{{phase}}")],
        PHASE_MAPPING,
        size=(8, 4),
    ),
]

EFFORT = [
    lines(
        "Effort, reach and burned CPU time",
        "Healthy: burned follows effort, well below reach. Effort at reach: saturated. Burned below effort: crowded "
        "out, throttled or stolen from. While latched, burned runs along the dashed line.",
        CPUS,
        [
            query(f"loadband_effort_cpus{{{ONE}}}", "effort"),
            query(f"loadband_reach_cpus{{{ONE}}}", "reach"),
            query(f'sum(rate(loadband_cpu_seconds_total{{{ONE},mode="own"}}[$__rate_interval]))', "burned"),
            query(f"loadband_latched_effort_cpus{{{ONE}}}", "latched effort"),
        ],
        size=(8, 8),
        fields={"reach": {"color": colour("red")}, "latched effort": {"color": colour("purple")} | DASHED},
    ),
    lines(
        "Workers and duty",
        "Healthy: duty below 100 %. The step law changes the number of workers, the adaptive law their duty.",
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
        "Healthy: 100 %, with a notch when the band changes. The gauge in_band shows the moment of the scrape; the "
        "share misses nothing. Stops while latched.",
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
        "Healthy: one flat line of cycles (10 per second by default), no late cycles, no lost samples. No cycles while "
        "it answers: the loop is stalled. Lost samples have a reason; three in a row lead to failsafe.",
        PER_SECOND,
        [
            query(f"rate(loadband_cycles_total{{{ONE}}}[$__rate_interval])", "cycles"),
            query(f"rate(loadband_cycle_overruns_total{{{ONE}}}[$__rate_interval])", "late"),
            query(f"rate(loadband_cycle_failures_total{{{ONE}}}[$__rate_interval])", "lost: {{reason}}"),
        ],
        size=(8, 8),
    ),
    lines(
        "Cycle duration",
        "Healthy: far below the interval (100 ms by default). A p99 near it, with late cycles: no CPU for the loop.",
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
        "Healthy: below a second. A ramp: the loop is stalled. A constant offset: the clocks of Prometheus and of the "
        "host differ.",
        SECONDS,
        [query(f"timestamp(loadband_cycles_total{{{ONE}}}) - loadband_last_cycle_timestamp_seconds{{{ONE}}}", "age")],
        size=(8, 8),
        limits=(None, None),
    ),
    lines(
        "Throttling",
        "Healthy: 0. More than 25 % of the periods: the effort is too close to the limit, and the kernel makes CPU "
        "pressure that no real load would make. Empty without a CPU limit.",
        RATIO,
        [
            query(
                f"increase(loadband_cpu_throttled_periods_total{{{ONE}}}[$__rate_interval])"
                f" / (increase(loadband_cpu_periods_total{{{ONE}}}[$__rate_interval]) > 0)",
                "periods",
            ),
            query(f"rate(loadband_cpu_throttled_seconds_total{{{ONE}}}[$__rate_interval])", "CPUs throttled"),
        ],
        size=(8, 8),
        fields={"CPUs throttled": {"unit": CPUS} | SECOND_AXIS},
    ),
    lines(
        "Workers replaced, bands changed",
        "Healthy: no worker is ever replaced. Changes of the band are shown by their source.",
        COUNT,
        [
            query(f"increase(loadband_worker_restarts_total{{{ONE}}}[$__rate_interval])", "workers replaced"),
            query(f"increase(loadband_band_changes_total{{{ONE}}}[$__rate_interval])", "band by {{source}}"),
        ],
        size=(8, 8),
        fields={"workers replaced": {"color": colour("red")}},
    ),
    lines(
        "The process",
        "Healthy: flat memory. The CPU time is what it burns plus what regulating costs: about 1 % of a CPU.",
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
        "As the regulator sees it now; the four modes add up to 100 %.",
        RATIO,
        [query(f"loadband_cpu_ratio{{{ONE}}}", "{{mode}}", now=True)],
        size=(8, 6),
    ),
    rows(
        "Build and settings",
        "The version that runs, and how it was asked to measure and to regulate.",
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
        "the profile is in the phase {{phase}}",
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
    """Build the dashboard."""
    return assemble(
        "loadband-regulator",
        "loadband / Regulator",
        "One regulator: does it hold its band, with what effort, and is it healthy?",
        {"Now": NOW, "The band": BAND, "Effort": EFFORT, "Health": HEALTH},
        ANNOTATIONS,
        selectors=variables(single=True),
    )
