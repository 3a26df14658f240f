"""Building blocks of the dashboards: data source, variables, queries, and a function for each kind of panel.

Uses only what Grafana 10 to 13 have in common: the classic schema, and panels and options that all of them know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from loadband.quantities import State

RATIO = units.PercentUnit
SECONDS = units.Seconds
BYTES = units.BytesIEC
PER_SECOND = units.CountsPerSecond
COUNT = units.Short
FROM_NOW = units.DateTimeFromNow
"""Shows a time in milliseconds since the epoch as `in 5 minutes` or `5 minutes ago`."""
CPUS = "suffix: CPUs"

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

FLEET = 'cluster=~"$cluster",node=~"$node",namespace=~"$namespace",pod=~"$pod"'
"""Label matchers of the selected regulators."""
ONE = FLEET + ',instance="$instance"'
"""Label matchers of a single regulator."""
HOSTS = 'cluster=~"$cluster",node=~"$node"'

STATE_COLOURS = {
    State.FAILSAFE: "red",
    State.EXPIRED: "text",
    State.LATCHED: "blue",
    State.YIELDING: "purple",
    State.SATURATED: "orange",
    State.HOLDING: "green",
    State.SETTLING: "super-light-blue",
}
MODE_COLOURS = {"own": "green", "other": "blue", "steal": "purple", "idle": "text"}

Properties = dict[str, Any]
"""A field's options by id, such as `unit` or `custom.lineWidth`."""


class FieldPanel(Protocol):
    """What the builders of all kinds of panels have in common."""

    def title(self, title: str) -> Self:
        """Set the heading."""

    def description(self, description: str) -> Self:
        """Set the text behind the `i`: what a healthy and an unhealthy picture look like."""

    def datasource(self, datasource: model.DataSourceRef) -> Self:
        """Set the data source."""

    def targets(self, targets: list[Builder[Any]]) -> Self:
        """Set the queries."""

    def unit(self, unit: str) -> Self:
        """Set the unit of all fields that have none of their own."""

    def height(self, h: int) -> Self:
        """Set the height, in rows of the grid."""

    def span(self, w: int) -> Self:
        """Set the width, in columns of the grid (of 24)."""

    def override_by_name(self, name: str, properties: list[model.DynamicConfigValue]) -> Self:
        """Set options of one field."""


def states(matchers: str) -> str:
    """Return the expression for a regulator's state as its position in `State`, from 1; 0 before the first cycle.

    Args:
        matchers: label matchers of the regulators.
    """
    each = " or ".join(
        f'loadband_state{{state="{state}",{matchers}}} * {place}' for place, state in enumerate(State, start=1)
    )
    return f"sum without (state) ({each})"


STATE_MAPPING = model.ValueMap(
    {"0": model.ValueMappingResult(text="no cycle yet", color="text", index=0)}
    | {
        str(place): model.ValueMappingResult(text=str(state), color=STATE_COLOURS[state], index=place)
        for place, state in enumerate(State, start=1)
    }
)


def query(expression: str, legend: str = "", *, now: bool = False, as_table: bool = False) -> prometheus.Dataquery:
    """Build one query.

    Args:
        expression: PromQL, with the dashboard's variables.
        legend: name of each series; may contain `{{label}}`.
        now: ask only for the newest value.
        as_table: return a table with a column for each label.
    """
    asked = prometheus.Dataquery().expr(expression).legend_format(legend)
    if as_table:
        asked.format(PromQueryFormat.TABLE)
    return asked.instant() if now or as_table else asked.range()


def lines(  # noqa: PLR0913 - a graph has this many parts
    title: str,
    description: str,
    unit: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    size: tuple[int, int] = (12, 8),
    stacked: bool = False,
    limits: tuple[float | None, float | None] = (0, None),
    fields: dict[str, Properties] | None = None,
) -> Builder[model.Panel]:
    """Build a graph of values over time.

    Args:
        title: the heading.
        description: what a healthy picture looks like, and what an unhealthy one means.
        unit: unit of all series without one in `fields`.
        queries: what to draw.
        size: columns (of 24) and rows.
        stacked: whether the values are added up.
        limits: the ends of the axis; None means as far as the values go.
        fields: options of single series, by name.
    """
    panel = (
        timeseries.Panel()
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
        .draw_style(options.GraphDrawStyle.LINE)
        .line_interpolation(options.LineInterpolation.LINEAR)
        .show_points(options.VisibilityMode.NEVER)
        .line_width(0 if stacked else 1)
        .fill_opacity(60 if stacked else 0)
        .stacking(
            common.StackingConfig()
            .mode(options.StackingMode.NORMAL if stacked else options.StackingMode.NONE)
            .group("A")
        )
    )
    if limits[0] is not None:
        panel.min(limits[0])
    if limits[1] is not None:
        panel.max(limits[1])
    return _finish(panel, title=title, description=description, unit=unit, queries=queries, size=size, fields=fields)


def number(  # noqa: PLR0913 - likewise
    title: str,
    description: str,
    unit: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    size: tuple[int, int] = (4, 4),
    thresholds: Sequence[tuple[float | None, str]] = ((None, "text"),),
    mapping: model.ValueMap | None = None,
    absent: str | None = None,
    fields: dict[str, Properties] | None = None,
) -> Builder[model.Panel]:
    """Build a panel with the newest value in large print.

    Args:
        title: the heading.
        description: what a healthy value is, and what an unhealthy one means.
        unit: unit of all series without one in `fields`.
        queries: what to show.
        size: columns (of 24) and rows.
        thresholds: the lowest value of each colour; None for the first one.
        mapping: words for numbers.
        absent: text to show if there is no value.
        fields: options of single series, by name.
    """
    panel = (
        stat.Panel()
        .graph_mode(options.BigValueGraphMode.NONE)
        .color_mode(options.BigValueColorMode.VALUE)
        .text_mode(options.BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .thresholds(_thresholds(thresholds))
    )
    if mapping:
        panel.mappings([mapping])
    if absent:
        panel.no_value(absent)
    return _finish(panel, title=title, description=description, unit=unit, queries=queries, size=size, fields=fields)


def bars(
    title: str, description: str, unit: str, queries: Sequence[prometheus.Dataquery], *, size: tuple[int, int] = (8, 8)
) -> Builder[model.Panel]:
    """Build a panel with the newest values as bars from 0 to 1."""
    panel = (
        bargauge.Panel()
        .display_mode(options.BarGaugeDisplayMode.BASIC)
        .orientation(options.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .min(0)
        .max(1)
        .thresholds(_thresholds([(None, "green")]))
    )
    return _finish(
        panel,
        title=title,
        description=description,
        unit=unit,
        queries=queries,
        size=size,
        fields=_colours(MODE_COLOURS),
    )


def timeline(
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    mapping: model.ValueMap,
    *,
    size: tuple[int, int] = (24, 4),
) -> Builder[model.Panel]:
    """Build a timeline: a row for each series, coloured by the meaning of its value."""
    panel = (
        statetimeline.Panel()
        .mappings([mapping])
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .thresholds(_thresholds([(None, "text")]))
        .show_value(options.VisibilityMode.AUTO)
        .merge_values(merge_values=True)
        .row_height(0.85)
        .fill_opacity(80)
        .line_width(0)
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.SINGLE).sort(options.SortOrder.NONE))
    )
    return _finish(panel, title=title, description=description, unit=COUNT, queries=queries, size=size)


def heat(
    title: str, description: str, queries: Sequence[prometheus.Dataquery], *, size: tuple[int, int] = (24, 7)
) -> Builder[model.Panel]:
    """Build a heat map: a row for each series, coloured from green to red by a ratio."""
    panel = (
        statetimeline.Panel()
        .min(0)
        .max(1)
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.CONTINUOUS_GR_YL_RD))
        .show_value(options.VisibilityMode.NEVER)
        .merge_values(merge_values=False)
        .row_height(0.95)
        .fill_opacity(90)
        .line_width(0)
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(show_legend=False)
        )
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.SINGLE).sort(options.SortOrder.NONE))
    )
    return _finish(panel, title=title, description=description, unit=RATIO, queries=queries, size=size)


def rows(  # noqa: PLR0913 - likewise
    title: str,
    description: str,
    columns: dict[str, prometheus.Dataquery],
    *,
    hidden: Iterable[str] = (),
    size: tuple[int, int] = (24, 8),
    fields: dict[str, Properties] | None = None,
) -> Builder[model.Panel]:
    """Build a table that joins the answers of its queries on their labels.

    Args:
        title: the heading.
        description: what to look for.
        columns: the query of each column by heading; each must return a table.
        hidden: columns not to show.
        size: columns (of 24) and rows.
        fields: options of single columns, by heading.
    """
    refs = [chr(ord("A") + place) for place in range(len(columns))]
    queries = [asked.ref_id(ref) for ref, asked in zip(refs, columns.values(), strict=True)]
    renamed = {f"Value #{ref}": heading for ref, heading in zip(refs, columns, strict=True)}
    panel = (
        table.Panel()
        .show_header(show_header=True)
        .transformations(
            [
                model.DataTransformerConfig("merge", options={}),
                model.DataTransformerConfig(
                    "organize",
                    options={"excludeByName": dict.fromkeys(["Time", *hidden], True), "renameByName": renamed},
                ),
            ]
        )
    )
    return _finish(panel, title=title, description=description, unit=COUNT, queries=queries, size=size, fields=fields)


Panel = TypeVar("Panel", bound=FieldPanel)


def _finish(  # noqa: PLR0913 - all panels have these
    panel: Panel,
    *,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[prometheus.Dataquery],
    size: tuple[int, int],
    fields: dict[str, Properties] | None = None,
) -> Panel:
    for place, asked in enumerate(queries):
        asked.ref_id(chr(ord("A") + place))
    panel.title(title).description(description).datasource(SOURCE).targets(list(queries)).unit(unit)
    panel.span(size[0]).height(size[1])
    for name, properties in (fields or {}).items():
        panel.override_by_name(name, [model.DynamicConfigValue(key, value) for key, value in properties.items()])
    return panel


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> build.ThresholdsConfig:
    return (
        build.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value, colour) for value, colour in steps])
    )


def colour(name: str) -> dict[str, str]:
    """Return the value of a field's option `color`."""
    return {"mode": "fixed", "fixedColor": name}


def _colours(by_name: dict[str, str]) -> dict[str, Properties]:
    return {name: {"color": colour(value)} for name, value in by_name.items()}


MODE_FIELDS = _colours(MODE_COLOURS)


class Annotation(model.AnnotationQuery):
    """Marks on the time axis, from a query.

    Grafana 10 and 11 read the query from `target`, older and some newer versions from `expr`. The SDK's type has
    neither `target` as a query nor the texts, so they are added here.

    Args:
        name: label of the dashboard's switch.
        expression: PromQL; a mark is set where it is above 0.
        text: text of a mark; may contain `{{label}}`.
        colour: colour of the marks.
        value_is_time: whether the value is the time of the mark, in milliseconds since the epoch.
    """

    def __init__(self, name: str, expression: str, text: str, colour: str, *, value_is_time: bool = False) -> None:
        super().__init__(name, SOURCE, icon_color=colour, expr=expression)
        self.text = text
        self.value_is_time = value_is_time

    def to_json(self) -> dict[str, object]:
        """Return the annotation as Grafana stores it."""
        return super().to_json() | {
            "target": {"expr": self.expr, "refId": "Anno", "range": True, "instant": False, "interval": ""},
            "titleFormat": self.name,
            "textFormat": self.text,
            "useValueForTime": self.value_is_time,
        }


def marks(matchers: str) -> list[Annotation]:
    """Return the marks for what was done to a regulator: another band, a latch.

    Args:
        matchers: label matchers of the regulators.
    """
    edges = [f"changes(loadband_band_{edge}_ratio{{{matchers}}}[$__rate_interval]) > 0" for edge in ("min", "max")]
    changes = f"increase(loadband_band_changes_total{{{matchers}}}[$__rate_interval])"
    return [
        Annotation("Changes of a band", f"{changes} > 0", "{{source}} changed the band of {{instance}}", "green"),
        # A regulator that restarts with another band counts no change; one that follows a profile changes all the time.
        Annotation(
            "Other bands after a restart",
            f"({' or '.join(edges)}) unless ignoring (profile) loadband_profile_info{{{matchers}}}"
            f" unless sum without (source) ({changes}) > 0",
            "{{instance}} has another band",
            "super-light-green",
        ),
        Annotation(
            "Latches",
            f"loadband_latch_timestamp_seconds{{{matchers}}} * 1000",
            "{{instance}} latched: its load is fixed from here on",
            "blue",
            value_is_time=True,
        ),
    ]


def variables(*, single: bool) -> list[Builder[model.VariableModel]]:
    """Return the selectors at the top: data source, cluster, node, namespace, pod.

    Args:
        single: add a selector for one regulator; otherwise the nodes are all hosts, with or without a regulator.
    """
    found: list[Builder[model.VariableModel]] = [_source()]
    chosen: list[str] = []
    for name in ("cluster", "node", "namespace", "pod"):
        hosts = name in {"cluster", "node"} and not single
        asked = "node:loadband_host_cpu:ratio" if hosts else "loadband_build_info"
        found.append(
            _choice(name, name.capitalize(), f"label_values({asked}{{{','.join(chosen)}}}, {name})", many=True)
        )
        chosen.append(f'{name}=~"${name}"')
    if single:
        found.append(_choice("instance", "Regulator", f"label_values(loadband_build_info{{{FLEET}}}, instance)"))
    return found


def run_variables() -> list[Builder[model.VariableModel]]:
    """Return the selectors for one run of a scenario: data source, run, and the address at which it was scraped."""
    return [
        _source(),
        _choice("run", "Run", "label_values(loadband_rebalance_info{}, run)"),
        _choice("instance", "Address", 'label_values(loadband_rebalance_info{run="$run"}, instance)'),
    ]


def _source() -> build.DatasourceVariable:
    return build.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _choice(name: str, label: str, expression: str, *, many: bool = False) -> build.QueryVariable:
    choice = (
        build.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(expression)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(many)
        .include_all(many)
    )
    # A label that the scraper doesn't attach is empty, which `.*` matches.
    return choice.all_value(".*").current(model.VariableOption(text="All", value="$__all")) if many else choice


def assemble(  # noqa: PLR0913 - a dashboard has this many parts
    uid: str,
    title: str,
    description: str,
    sections: dict[str, Sequence[Builder[model.Panel]]],
    annotations: Sequence[Annotation],
    *,
    selectors: Sequence[Builder[model.VariableModel]],
) -> model.Dashboard:
    """Build a dashboard.

    Args:
        uid: fixed ID, so that links and provisioning find the dashboard again.
        title: the name.
        description: what it is for.
        sections: the panels under each heading, from left to right and down.
        annotations: the marks on the time axis.
        selectors: the variables at the top.
    """
    board = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["loadband"])
        .timezone("browser")
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("15s")
        .variables(list(selectors))
        .link(
            build.DashboardLink("loadband")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["loadband"])
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
    )
    for heading, panels in sections.items():
        board.with_row(build.Row(heading))
        for panel in panels:
            board.with_panel(panel)
    made = board.build()
    for place, placed in enumerate(made.panels or [], start=1):
        placed.id_val = place
    made.annotations = model.AnnotationContainer(list(annotations))
    return made
