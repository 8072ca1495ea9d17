"""The weekly counts behind :mod:`medisync.analyses.illness_surge_prediction`, and which series are watched."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medisync.analyses.clinical_sql import known, within
from medisync.analyses.contract import SnapshotReader
from medisync.analyses.reported import Reported
from medisync.stats.series import Panel, regular_panel

EVERYWHERE = "all sites"
EVERYTHING = "All admissions"


@dataclass(frozen=True)
class Inputs:
    """Weekly counts: ``weekly`` (site, condition, week, admissions), ``reporting`` (site, week, admissions), up to the
    last day all have reported. ``published``: earlier forecasts, as
    :func:`~medisync.analyses.published_forecasts.published_forecasts` gives them."""

    weekly: pd.DataFrame
    reporting: pd.DataFrame
    published: pd.DataFrame
    covered_from: dt.date
    reported: Reported
    conditions: int

    @property
    def covered_until(self) -> dt.date:
        """The last day all sources and sites have reported."""
        return self.reported.until


def surge_counts(
    snapshot: SnapshotReader,
    known_until: Reported,
    published: pd.DataFrame,
    *,
    most_conditions: int,
    most_sites: int,
    site_admissions_a_week: float,
) -> Inputs:
    """Count in SQL; what comes back has a row for each watched condition, site and week at most.

    Grouping is by the text as stored, and only the groups are cleaned: a tenth of the time on millions of rows. An
    admission that has a condition twice counts once; told apart before admissions are joined, not while they are
    counted, what does not fit into memory goes to the disk.
    """
    until = within("admitted_at", None, known_until.until)
    weeks = max((known_until.until - known_until.first_day).days / 7.0, 1.0)
    sites = _labelled(snapshot, "admissions", "site", least_rows=site_admissions_a_week * weeks)
    conditions = _labelled(snapshot, "conditions", "condition")
    stored_sites = _largest(sites[sites["label"] != "Unknown"], most_sites)
    stored_conditions = [one or "" for one in _largest(conditions, most_conditions)]
    weekly = snapshot.query(
        f"""
        SELECT CASE WHEN site IS NOT NULL THEN {known("site")} END AS site, {known("condition")} AS condition, week,
               sum(admissions)::BIGINT AS admissions
        FROM (
            SELECT CASE WHEN a.site IN (SELECT unnest(?::VARCHAR[])) THEN a.site END AS site, c.condition,
                   date_trunc('week', a.admitted_at)::DATE AS week, count(*) AS admissions
            FROM (
                SELECT DISTINCT source, admission_key, condition FROM clinical.conditions
                WHERE coalesce(condition, '') IN (SELECT unnest(?::VARCHAR[]))
            ) c JOIN clinical.admissions a USING (source, admission_key)
            WHERE {until}
            GROUP BY ALL
        )
        GROUP BY ALL ORDER BY ALL
        """,
        [stored_sites, stored_conditions],
    )
    reporting = snapshot.query(
        f"""
        SELECT CASE WHEN site IS NOT NULL THEN {known("site")} END AS site, week, sum(admissions)::BIGINT AS admissions
        FROM (
            SELECT CASE WHEN site IN (SELECT unnest(?::VARCHAR[])) THEN site END AS site,
                   date_trunc('week', admitted_at)::DATE AS week, count(*) AS admissions
            FROM clinical.admissions WHERE {until} GROUP BY ALL
        )
        GROUP BY ALL ORDER BY ALL
        """,
        [stored_sites],
    )
    return Inputs(
        weekly=weekly,
        reporting=reporting,
        published=published,
        covered_from=known_until.first_day,
        reported=known_until,
        conditions=len(conditions),
    )


def _labelled(snapshot: SnapshotReader, table: str, column: str, *, least_rows: float = 0.0) -> pd.DataFrame:
    """Each label a column is shown under with at least ``least_rows`` rows, and the spellings stored for it."""
    return snapshot.query(
        f"""
        SELECT {known(column)} AS label, list({column} ORDER BY {column}) AS stored, sum(rows)::BIGINT AS rows
        FROM (SELECT {column}, count(*) AS rows FROM clinical.{table} GROUP BY {column})
        GROUP BY label HAVING sum(rows) >= ? ORDER BY rows DESC, label
        """,
        [least_rows],
    )


def _largest(labels: pd.DataFrame, most: int) -> list[str | None]:
    """The stored spellings of the ``most`` largest labels."""
    return [one for spellings in labels["stored"].head(most) for one in spellings]


def surge_panel(inputs: Inputs) -> tuple[Panel, pd.DataFrame]:
    """All series on one calendar, and what each of them is: kind, condition, site and family of tests."""
    everywhere = inputs.weekly.groupby(["condition", "week"])["admissions"].sum().reset_index()
    everywhere["site"] = EVERYWHERE
    by_site = inputs.weekly[inputs.weekly["site"].notna()]
    total = inputs.reporting.groupby("week")["admissions"].sum().reset_index()
    total["condition"], total["site"] = EVERYTHING, EVERYWHERE
    columns = ["condition", "site", "week", "admissions"]
    rows = pd.concat([total[columns], everywhere[columns], by_site[columns]], ignore_index=True)
    key = rows.groupby(["condition", "site"], sort=False).ngroup()
    names = rows[["condition", "site"]].drop_duplicates().reset_index(drop=True)
    names["kind"] = np.where(names["site"] != EVERYWHERE, "condition at a site", "condition")
    names.loc[0, "kind"] = "total"
    names["family"] = (names["kind"] != "total").astype(int)
    ids = key.map("{:06d}".format)
    weeks_of_site = inputs.reporting.groupby("site")["week"].unique()
    every_week = inputs.reporting["week"].unique()
    reporting = {
        f"{index:06d}": every_week if site == EVERYWHERE else weeks_of_site[site]
        for index, site in enumerate(names["site"])
    }
    panel = regular_panel(
        pd.DataFrame({"unique_id": ids, "ds": rows["week"], "y": rows["admissions"]}),
        "weekly",
        reporting=reporting,
        covered_from=inputs.covered_from,
        covered_until=inputs.covered_until,
    )
    return panel, names
