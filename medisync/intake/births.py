"""Exact dates of birth, which ages at admission are computed from and nothing outside the intake ever sees.

A patient's date of birth and admission may come in different files, in either order, and the date may be corrected
later. So intake keeps it, one small file for each source beside the key: pseudonym and date, for the owner alone.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.intake.delimited import text
from medisync.intake.feeds import Feed, Kind
from medisync.intake.keying import ELSEWHERE
from medisync.intake.reasons import POOLED_AGE_YEARS, RowFault
from medisync.settings import Settings

if TYPE_CHECKING:
    import duckdb


def store(settings: Settings, source: str) -> Path:
    """Where the dates of ``source`` lie: Parquet with ``patient_key UUID, birth_date DATE``. May not exist yet."""
    return settings.keys / "birth_dates" / f"{hashlib.sha256(source.encode()).hexdigest()[:32]}.parquet"


def remember(cursor: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Add the dates of ``staged_patients`` to ``path``, new ones in place of old ones.

    The lake's write lock must be held. Done before the commit, and again does no harm: a date that is known already
    changes nothing.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_suffix(".draft")
    known = f"UNION ALL FROM {_dates(path)} WHERE patient_key NOT IN (SELECT patient_key FROM staged_patients)"
    cursor.execute(
        "COPY (SELECT patient_key, birth_date FROM staged_patients WHERE birth_date IS NOT NULL AND NOT is_deleted "
        f"{known if path.exists() else ''}) TO {text(str(draft))} (FORMAT parquet)"
    )
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)


def set_aside(cursor: duckdb.DuckDBPyConnection, number: int, feed: Feed, path: Path) -> None:
    """Mark rows of ``keyed_<number>`` that admit a patient before the day of birth an earlier delivery told.

    They go to ``faults`` with their place in the part. A feed that brings the dates itself has compared them already.
    """
    brings_dates = any(name.startswith("v_birth") for name in feed.typed)
    if brings_dates or not feed.patient or "admitted_at" not in feed.values.get(Kind.ADMISSIONS, {}):
        return
    if not path.exists():
        return
    place = "rowid + 1" if feed.reader else "row_number"
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE contradicted AS SELECT keyed.place, keyed.row_number FROM "
        f"(SELECT rowid AS place, {place} AS row_number, patient_key, admissions_admitted_at AS at FROM keyed_{number} "
        "WHERE faults IS NULL) "
        f"AS keyed JOIN {_dates(path)} AS dates USING (patient_key) WHERE dates.birth_date > keyed.at::DATE"
    )
    cursor.execute(
        f"INSERT INTO faults SELECT {text(feed.part)}, row_number, NULL, '{RowFault.BIRTH_AFTER_ADMISSION.value}' "
        "FROM contradicted"
    )
    cursor.execute(f"UPDATE keyed_{number} SET faults = [{ELSEWHERE}] WHERE rowid IN (SELECT place FROM contradicted)")


def contradicting(cursor: duckdb.DuckDBPyConnection, path: Path, mine: str) -> int:
    """How many known admissions of the patients staged now lie before their day of birth."""
    row = cursor.execute(
        f"SELECT count(*) FROM (FROM lake.clinical.admissions WHERE {mine}) JOIN {_dates(path)} USING (patient_key) "
        "WHERE birth_date > admitted_at::DATE AND patient_key IN (SELECT patient_key FROM staged_patients)"
    ).fetchone()
    return int(row[0]) if row else 0


def aged(admissions: str, path: Path) -> str:
    """SQL: the rows of ``admissions`` with ``age_years`` in completed years, where the date of birth is known."""
    if not path.exists():
        return admissions
    age = "date_sub('year', birth_date, admitted_at::DATE)"
    return (
        f"(SELECT rows.* REPLACE (CASE WHEN birth_date IS NULL OR birth_date > admitted_at THEN age_years "
        f"WHEN {age} > {POOLED_AGE_YEARS} THEN {POOLED_AGE_YEARS} ELSE {age} END::SMALLINT AS age_years) "
        f"FROM {admissions} AS rows LEFT JOIN {_dates(path)} AS dates USING (patient_key))"
    )


def _dates(path: Path) -> str:
    return f"read_parquet({text(str(path))})"
