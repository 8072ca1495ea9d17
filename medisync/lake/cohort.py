"""A part of a snapshot: the admissions that pass a filter, with their patients, conditions and prescriptions.

Every analysis works on it as on the whole: the tables have the same names and columns.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields

from medisync.lake.lake import Snapshot
from medisync.settings import Settings

BY_ADMISSION = ("admissions", "conditions", "prescriptions")


@dataclass(frozen=True)
class CohortFilter:
    """Which admissions; None: all of them. Days and years of age are inclusive."""

    site: str | None = None
    admitted_from: dt.date | None = None
    admitted_until: dt.date | None = None
    age_from_years: int | None = None
    age_until_years: int | None = None
    gender: str | None = None

    @property
    def is_everything(self) -> bool:
        return all(getattr(self, field.name) is None for field in fields(self))


CONDITIONS = {
    "site": "coalesce(nullif(admissions.site, ''), 'Unknown') = $site",
    "admitted_from": "admissions.admitted_at >= $admitted_from",
    "admitted_until": "admissions.admitted_at < $admitted_until + INTERVAL 1 DAY",
    "age_from_years": "admissions.age_years >= $age_from_years",
    "age_until_years": "admissions.age_years <= $age_until_years",
    "gender": "coalesce(nullif(patients.gender, ''), 'unknown') = $gender",
}
"""Field of the filter -> SQL over ``admissions`` and ``patients``."""


class Cohort(Snapshot):
    """A pinned snapshot that shows only what passes ``chosen``; nothing is copied but the keys of the admissions."""

    def __init__(self, settings: Settings, chosen: CohortFilter, snapshot_id: int | None = None) -> None:
        super().__init__(settings, snapshot_id)
        self.chosen = chosen
        if not chosen.is_everything:
            try:
                self._narrow()
            except BaseException:
                self.close()
                raise

    def _narrow(self) -> None:
        connection = self._connection
        values = {name: getattr(self.chosen, name) for name in CONDITIONS if getattr(self.chosen, name) is not None}
        where = " AND ".join(CONDITIONS[name] for name in values)
        connection.execute("ATTACH ':memory:' AS cohort")
        connection.execute(
            "CREATE TABLE cohort.main.kept AS SELECT admissions.source, admissions.admission_key, "
            "admissions.patient_key FROM lake.clinical.admissions LEFT JOIN lake.clinical.patients "
            "ON patients.source = admissions.source AND patients.patient_key = admissions.patient_key "
            f"WHERE {where}",
            values,
        )
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'lake' "
            "AND table_schema IN ('clinical', 'analytics')"
        ).fetchall()
        for schema in sorted({schema for schema, _ in tables}):
            connection.execute(f"CREATE SCHEMA cohort.{schema}")
        for schema, table in tables:
            rows = f"SELECT * FROM lake.{schema}.{table}"
            if schema == "clinical" and table in BY_ADMISSION:
                rows += " AS t SEMI JOIN cohort.main.kept USING (source, admission_key)"
            elif schema == "clinical" and table == "patients":
                rows += " AS t SEMI JOIN cohort.main.kept USING (source, patient_key)"
            connection.execute(f"CREATE VIEW cohort.{schema}.{table} AS {rows}")
        connection.execute("USE cohort")
