"""The quality of deliveries as self-contained pages: one for each delivery, and the trends of a source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync.analyses.contract import Figure, Table
from medisync.errors import NoDataError
from medisync.reports.page import environment, quality_path, stylesheet, words

if TYPE_CHECKING:
    from medisync.lake import Lake

COUNTS = (
    "rows_read",
    "created",
    "updated",
    "deleted",
    "unchanged",
    "duplicates_exact",
    "duplicates_conflicting",
    "quarantined",
)
TRENDS = {
    "rows": "Rows",
    "quarantined_share": "Share of rows quarantined",
    "duplicate_share": "Share of repeated rows",
    "missing_share": "Share of empty values, mean of all columns",
    "days_since_last_admission": "Days from the last admission to arrival",
}
"""Measure -> its title among the small multiples."""

PER_ROW = 2
MOST_DELIVERIES = 200


def quality_of(lake: Lake, delivery_id: str) -> dict[str, Any]:
    """Record, measures and faults of one delivery, as JSON. Raises NoDataError for an unknown one."""
    found = _qualities(lake, [delivery_id])
    if not found:
        raise NoDataError(f"There is no delivery {delivery_id}.", hint="medisync status lists the last ones.")
    return found[0]


def _qualities(lake: Lake, delivery_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Of each delivery that is known, in the order of their ids."""
    if not delivery_ids:
        return []
    ids = [min(delivery_ids), max(delivery_ids), list(delivery_ids)]
    chosen = "delivery_id BETWEEN ? AND ? AND delivery_id IN (SELECT unnest(?::VARCHAR[]))"
    rows = lake.query(f"FROM clinical.deliveries WHERE {chosen} ORDER BY delivery_id", ids)
    measures: dict[str, list[dict[str, Any]]] = {}
    for row in lake.query(
        "SELECT delivery_id, measure, column_name, value, expected, lowest, highest, reason FROM clinical.quality "
        f"WHERE {chosen} ORDER BY measure, column_name, reason",
        ids,
    ):
        measures.setdefault(row.pop("delivery_id"), []).append(row)
    found = []
    for row in rows:
        is_clean = row["status"] == "loaded" and not row["quarantined"]
        faults = [] if is_clean else _faults_of(lake, row["delivery_id"])
        found.append({"delivery": row, "measures": measures.get(row["delivery_id"], []), "faults": faults})
    return found


def _faults_of(lake: Lake, delivery_id: str) -> list[dict[str, Any]]:
    # concat, since grouping by a column that DuckLake keeps inlined and that is empty throughout fails in DuckDB 1.5.5.
    return lake.query(
        "SELECT concat('', part) AS part, column_name, reason, count(*) AS rows, min(row_number) AS first_row, "
        "count(resolved_by) AS taken_again FROM clinical.quarantine WHERE delivery_id = ? GROUP BY ALL ORDER BY ALL",
        [delivery_id],
    )


def write_quality_page(lake: Lake, delivery_id: str) -> Path:
    """Write the delivery's page; no patient's value is on it. Raises NoDataError for an unknown one."""
    return _write_page(lake, quality_of(lake, delivery_id))


def write_quality_pages(lake: Lake, delivery_ids: Sequence[str]) -> None:
    """The same for several."""
    for found in _qualities(lake, delivery_ids):
        _write_page(lake, found)


def _write_page(lake: Lake, found: dict[str, Any]) -> Path:
    record, measures = found["delivery"], found["measures"]
    unusual = [_told(one) for one in measures if one["reason"] and one["measure"] != "faults"]
    tables = [
        Table(
            title="Rows", columns=("what", "number"), rows=tuple((words(name), record[name] or 0) for name in COUNTS)
        ),
        Table(
            title="Faults of rows, by column and reason",
            columns=("reason", "column", "part", "rows", "first row", "taken again"),
            rows=tuple(
                tuple(one[name] for name in ("reason", "column_name", "part", "rows", "first_row", "taken_again"))
                for one in found["faults"]
            ),
        ),
        Table(
            title="Measured, and what the source's own past lets expect",
            columns=("measure", "column", "value", "usual", "lowest", "highest", "reason"),
            rows=tuple(
                (words(one["measure"]), one["column_name"], one["value"], one["expected"], one["lowest"],
                 one["highest"], one["reason"])
                for one in measures
                if one["measure"] != "faults"
            ),
        ),
    ]  # fmt: skip
    received = f"{record['received_at']:%Y-%m-%d %H:%M} UTC" if record["received_at"] else "unknown"
    return _write(
        quality_path(lake.settings, record["delivery_id"]),
        title=f"Delivery {record['delivery_id']}",
        subtitle=f"{record['file_label']} · source {record['source']} · received {received}",
        headline=_headline(record),
        unusual=unusual,
        figures=(),
        tables=tables,
    )


def write_trends_page(lake: Lake, source: str) -> Path:
    """Write the page of a source's trends over its deliveries. Raises NoDataError when it has none."""
    rows = lake.query(
        "SELECT d.delivery_id, d.received_at, q.measure, avg(q.value) AS value, any_value(q.lowest) AS lowest, "
        "any_value(q.highest) AS highest, count(q.reason) > 0 AS is_unusual FROM clinical.quality q "
        "JOIN (FROM clinical.deliveries WHERE source = ? AND status <> 'repeat' ORDER BY received_at DESC "
        f"LIMIT {MOST_DELIVERIES}) AS d USING (delivery_id) WHERE q.measure <> 'faults' "
        "GROUP BY ALL ORDER BY d.received_at, d.delivery_id",
        [source],
    )
    if not rows:
        raise NoDataError(f"Nothing was delivered by {source} yet.", hint="medisync status lists the last deliveries.")
    series = {
        measure: [row for row in rows if row["measure"] == measure]
        for measure in TRENDS
        if any(row["measure"] == measure for row in rows)
    }
    deliveries = len({row["delivery_id"] for row in rows})
    tables = [
        Table(
            title=TRENDS[measure],
            columns=("received", "delivery", "value", "unusual"),
            rows=tuple(
                (f"{row['received_at']:%Y-%m-%d %H:%M}", row["delivery_id"], row["value"], bool(row["is_unusual"]))
                for row in found
            ),
        )
        for measure, found in series.items()
    ]
    return _write(
        lake.settings.reports / "deliveries" / f"trends-{source}.html",
        title=f"Deliveries of {source}",
        subtitle=f"The last {deliveries:,} deliveries, repeats left out",
        headline=f"{sum(bool(row['is_unusual']) for row in rows):,} of {len(rows):,} measures were unusual.",
        unusual=(),
        figures=(_small_multiples(source, series),),
        tables=tables,
    )


def _small_multiples(source: str, series: dict[str, list[dict[str, Any]]]) -> Figure:
    from medisync.analyses.figures import ACCENT, CALM, WARN, as_figure, canvas

    lines = -(-len(series) // PER_ROW)
    drawing, axes = canvas(height=1.9 * lines, nrows=lines, ncols=PER_ROW, squeeze=False)
    for axis in axes.flat[len(series) :]:
        axis.set_visible(False)
    for axis, (measure, found) in zip(axes.flat, series.items(), strict=False):
        places = range(1, len(found) + 1)
        values = [row["value"] for row in found]
        axis.set_title(TRENDS[measure], fontsize=9)
        bounds = [(place, row) for place, row in zip(places, found, strict=True) if row["lowest"] is not None]
        if bounds and measure == "rows":
            axis.fill_between(
                [place for place, _ in bounds],
                [row["lowest"] for _, row in bounds],
                [row["highest"] for _, row in bounds],
                color=CALM,
                alpha=0.25,
                linewidth=0,
            )
        axis.plot(places, values, color=ACCENT, marker="o", markersize=3, linewidth=1.2)
        odd = [(place, row["value"]) for place, row in zip(places, found, strict=True) if row["is_unusual"]]
        axis.plot([place for place, _ in odd], [value for _, value in odd], "D", color=WARN, markersize=6)
        axis.set_ylim(bottom=min(0, *values))
        axis.set_xlabel("delivery", fontsize=8)
    return as_figure(
        drawing,
        name=f"trends-{source}",
        title="Delivery by delivery; a diamond is unusual, the band is what was expected",
        alt=f"Small multiples over the deliveries of {source}: {', '.join(TRENDS[one] for one in series)}.",
    )


def _headline(record: dict[str, Any]) -> str:
    if record["status"] == "refused":
        return f"Refused: {record['message']} [{record['reason']}]"
    if record["status"] == "repeat":
        return f"A repeat of {record['reason']}: nothing was done."
    read = record["rows_read"] or 0
    bad = record["quarantined"] or 0
    again = f" It took rows of {record['requeue_of']} again." if record["requeue_of"] else ""
    return f"Loaded: {read - bad:,} of {read:,} rows passed every check.{again}"


def _told(measure: dict[str, Any]) -> str:
    usual = f", usually about {measure['expected']:.4g}" if measure["expected"] is not None else ""
    column = f" of {measure['column_name']}" if measure["column_name"] else ""
    return f"{measure['reason']}: {words(measure['measure']).lower()}{column} is {measure['value']:.4g}{usual}."


def _write(
    path: Path,
    *,
    title: str,
    subtitle: str,
    headline: str,
    unusual: Sequence[str],
    figures: Sequence[Figure],
    tables: Sequence[Table],
) -> Path:
    html = environment().get_template("quality.html").render(
        title=title, subtitle=subtitle, headline=headline, unusual=unusual, figures=figures, tables=tables,
        css=stylesheet(),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(html, encoding="utf-8")
    draft.replace(path)
    return path
