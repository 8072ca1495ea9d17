"""A cohort shows what passes its filter, in every table, and nothing else."""

from __future__ import annotations

import datetime as dt

import pytest

from medisync.intake import DeliveryReport
from medisync.lake import Lake
from medisync.lake.cohort import Cohort, CohortFilter

SOME = [
    (CohortFilter(gender="female"), "gender = 'female'"),
    (CohortFilter(age_from_years=40, age_until_years=49), "age_years BETWEEN 40 AND 49"),
    (
        CohortFilter(admitted_from=dt.date(2023, 1, 1), admitted_until=dt.date(2023, 1, 31)),
        "admitted_at::DATE BETWEEN DATE '2023-01-01' AND DATE '2023-01-31'",
    ),
    (CohortFilter(gender="male", age_until_years=20), "gender = 'male' AND age_years <= 20"),
]


@pytest.mark.parametrize(("chosen", "condition"), SOME)
def test_every_table_holds_what_passes(
    sample_delivery: tuple[Lake, DeliveryReport], chosen: CohortFilter, condition: str
) -> None:
    lake, _ = sample_delivery
    joined = "FROM clinical.admissions a JOIN clinical.patients p USING (source, patient_key)"
    expected = lake.query(
        f"SELECT count(*) AS admissions, count(DISTINCT patient_key) AS patients {joined} WHERE {condition}"
    )[0]
    assert expected["admissions"] > 0
    with Cohort(lake.settings, chosen) as cohort:
        counts = {
            table: cohort.query(f"SELECT count(*) AS n FROM clinical.{table}")["n"][0]
            for table in ("admissions", "conditions", "prescriptions", "patients")
        }
        assert cohort.query(f"SELECT count(*) AS n {joined} WHERE NOT ({condition})")["n"][0] == 0
        everything = cohort.query("SELECT count(*) AS n FROM clinical.deliveries")["n"][0]
    assert counts["admissions"] == counts["conditions"] == counts["prescriptions"] == expected["admissions"]
    assert counts["patients"] == expected["patients"]
    assert everything == 1


def test_a_value_is_a_value_and_no_sql(sample_delivery: tuple[Lake, DeliveryReport]) -> None:
    with Cohort(sample_delivery[0].settings, CohortFilter(site="x' OR 1 = 1 --")) as cohort:
        assert cohort.query("SELECT count(*) AS n FROM clinical.admissions")["n"][0] == 0


def test_without_a_filter_it_is_the_snapshot(sample_delivery: tuple[Lake, DeliveryReport]) -> None:
    with Cohort(sample_delivery[0].settings, CohortFilter()) as cohort:
        assert cohort.query("SELECT count(*) AS n FROM clinical.admissions")["n"][0] == 50_000
