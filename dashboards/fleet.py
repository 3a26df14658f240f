"""The fleet dashboard: which hosts are hot, how unbalanced they are, and what moved where."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from dashboards.parts import (
    COUNT,
    CPUS,
    FLEET,
    HOSTS,
    RATIO,
    STATE_MAPPING,
    Annotation,
    assemble,
    colour,
    heat,
    lines,
    marks,
    number,
    query,
    rows,
    states,
    timeline,
    variables,
)

CLUSTER = 'cluster=~"$cluster"'
THRESHOLD = f'cluster:loadband_threshold:ratio{{{{{CLUSTER},threshold="{{}}"}}}}'
HOT, COOL = (f"on (cluster) group_left () {THRESHOLD.format(name)}" for name in ("host_hot", "host_cool"))
DOWN = (
    f'up{{job=~".*loadband.*",{FLEET}}}'
    f" or up{{{FLEET}}} and on (cluster, job, instance) present_over_time(loadband_build_info[15m])"
)
"""`up` of what is a regulator by the job's name, or was one when it last answered."""
DASHED = {"custom.lineStyle": {"fill": "dash", "dash": [10, 10]}, "custom.lineWidth": 2}
ALERT_MAPPING = model.ValueMap(
    {
        "1": model.ValueMappingResult(text="pending", color="orange", index=0),
        "2": model.ValueMappingResult(text="firing", color="red", index=1),
    }
)
OWN = f'rate(loadband_cpu_seconds_total{{{FLEET},mode="own"}}[$__rate_interval])'

NOW = [
    number(
        "Hosts",
        "Number of known hosts, from regulators and from node_exporter. If you have more, one isn't scraped.",
        COUNT,
        [query(f"count(node:loadband_host_cpu:ratio{{{HOSTS}}})", now=True)],
        size=(3, 4),
    ),
    number(
        "Regulators",
        "Number of regulators that answer, and of those that should but don't.",
        COUNT,
        [
            query(
                f"sum(up * on (cluster, job, instance) group_left () loadband_build_info{{{FLEET}}})", "up", now=True
            ),
            query(f"count(({DOWN}) == 0) or vector(0)", "down", now=True),
        ],
        size=(4, 4),
        fields={"down": {"color": colour("red")}},
    ),
    number(
        "Hot, cool",
        "Hosts at or above the threshold for hot, and below that for cool. Both above 0: something should move.",
        COUNT,
        [
            query(f"count(node:loadband_host_cpu:ratio{{{HOSTS}}} >= {HOT}) or vector(0)", "hot", now=True),
            query(f"count(node:loadband_host_cpu:ratio{{{HOSTS}}} < {COOL}) or vector(0)", "cool", now=True),
        ],
        size=(5, 4),
        fields={"hot": {"color": colour("red")}, "cool": {"color": colour("blue")}},
    ),
    number(
        "Mean utilization",
        "Mean over a cluster's hosts. A perfect rebalancer would bring every host to it.",
        RATIO,
        [query(f"cluster:loadband_host_cpu:avg{{{CLUSTER}}}", "{{cluster}}", now=True)],
    ),
    number(
        "Imbalance: max - min",
        "Difference between the busiest and the least busy host.",
        RATIO,
        [query(f"cluster:loadband_host_cpu:spread{{{CLUSTER}}}", "{{cluster}}", now=True)],
    ),
    number(
        "Imbalance: standard deviation",
        "Over all hosts; LoadbandHostsUnbalanced compares it with its threshold.",
        RATIO,
        [query(f"cluster:loadband_host_cpu:stddev{{{CLUSTER}}}", "{{cluster}}", now=True)],
    ),
]

HOST_PANELS = [
    heat(
        "Heat map of the hosts",
        "One row per host, green to red from 0 to 100 %. Balanced: all rows have the same colour. In a successful "
        "rebalancing test a red row turns yellow while a green one turns yellow, too.",
        [query(f"node:loadband_host_cpu:ratio{{{HOSTS}}}", "{{node}}")],
    ),
    lines(
        "Hosts against the thresholds",
        "CPU utilization of each host, averaged over 2 minutes: what alerts and rebalancers see. Balanced: all lines "
        "run together below the red one. If a line jumps back up after a move, a closed loop refilled its host: "
        "use a latch.",
        RATIO,
        [
            query(f"node:loadband_host_cpu:ratio{{{HOSTS}}}", "{{node}}"),
            query(THRESHOLD.format("host_hot"), "hot from"),
            query(THRESHOLD.format("host_cool"), "cool below"),
        ],
        size=(24, 9),
        limits=(0, 1),
        fields={
            "hot from": {"color": colour("red")} | DASHED,
            "cool below": {"color": colour("blue")} | DASHED,
        },
    ),
    lines(
        "Imbalance",
        "Max - min, standard deviation, and standard deviation / mean. In a successful test the standard deviation "
        "falls below its threshold and stays there. Saw teeth mean that a rebalancer moves back and forth.",
        RATIO,
        [
            query(f"cluster:loadband_host_cpu:spread{{{CLUSTER}}}", "max - min {{cluster}}"),
            query(f"cluster:loadband_host_cpu:stddev{{{CLUSTER}}}", "standard deviation {{cluster}}"),
            query(f"cluster:loadband_host_cpu:cv{{{CLUSTER}}}", "standard deviation / mean {{cluster}}"),
            query(THRESHOLD.format("hosts_stddev"), "unbalanced above"),
        ],
        fields={"unbalanced above": {"color": colour("red")} | DASHED},
    ),
    timeline(
        "Alerts",
        "One row per alert: when it was pending and when it fired. Healthy: empty, except for the hot host of a test.",
        [
            query(
                "max by (alertname, cluster, node, pod, instance) ("
                f'ALERTS{{alertname=~"Loadband.+",alertstate="pending",{CLUSTER}}}'
                f' or ALERTS{{alertname=~"Loadband.+",alertstate="firing",{CLUSTER}}} * 2)',
                "{{alertname}} {{node}} {{pod}} {{instance}}",
            )
        ],
        ALERT_MAPPING,
        size=(12, 8),
    ),
]

REGULATOR_PANELS = [
    timeline(
        "Where each regulator runs, and its state",
        "One row for each regulator on each host. A move shows as a bar that ends in the row of one host while a bar "
        "begins in the row of another.",
        [query(f"max by (node, namespace, pod, instance) ({states(FLEET)})", "{{node}} {{pod}} {{instance}}")],
        STATE_MAPPING,
        size=(24, 9),
    ),
    lines(
        "Burned CPU time by host",
        "A latched load that moves leaves one layer and joins another; the total stays the same. In closed loop, the "
        "layer that it left fills up again.",
        CPUS,
        [query(f"sum by (node) ({OWN})", "{{node}}")],
        stacked=True,
    ),
    lines(
        "Regulators by host",
        "Number of regulators on each host.",
        COUNT,
        [query(f"count by (node) (loadband_build_info{{{FLEET}}})", "{{node}}")],
        stacked=True,
    ),
    rows(
        "All regulators",
        "The current values. The link in the column instance leads to the regulator's own dashboard.",
        {
            "state": query(f"max by (node, namespace, pod, instance) ({states(FLEET)})", as_table=True),
            **{
                heading: query(f"max by (node, namespace, pod, instance) ({name}{{{FLEET}}})", as_table=True)
                for heading, name in {
                    "utilization": "loadband_cpu_utilization_ratio",
                    "band from": "loadband_band_min_ratio",
                    "band to": "loadband_band_max_ratio",
                    "effort": "loadband_effort_cpus",
                    "reach": "loadband_reach_cpus",
                }.items()
            },
            "in band": query(
                "max by (node, namespace, pod, instance) ("
                f"increase(loadband_in_band_seconds_total{{{FLEET}}}[$__range])"
                f" / (increase(loadband_observed_seconds_total{{{FLEET}}}[$__range]) > 0))",
                as_table=True,
            ),
        },
        fields={
            "state": {"mappings": [STATE_MAPPING], "custom.cellOptions": {"type": "color-text"}},
            "effort": {"unit": CPUS},
            "reach": {"unit": CPUS},
            **{name: {"unit": RATIO} for name in ("utilization", "band from", "band to", "in band")},
            "instance": {
                "links": [
                    {
                        "title": "Dashboard of this regulator",
                        "url": "/d/loadband-regulator?${datasource:queryparam}&${__url_time_range}"
                        "&var-instance=${__value.raw}",
                    }
                ]
            },
        },
    ),
]

ANNOTATIONS = [
    *marks(FLEET),
    Annotation(
        "Alerts",
        f'ALERTS{{alertname=~"Loadband.+",alertstate="firing",{HOSTS}}}',
        "{{alertname}} {{node}} {{instance}}",
        "red",
    ),
]


def dashboard() -> model.Dashboard:
    """Build the dashboard."""
    return assemble(
        "loadband-fleet",
        "loadband / Fleet",
        "All hosts and all regulators: which hosts are hot, how unbalanced they are, and what moved where.",
        {"Now": NOW, "Hosts": HOST_PANELS, "Regulators": REGULATOR_PANELS},
        ANNOTATIONS,
        selectors=variables(single=False),
    )
