"""Medications: are a few of them most of what is prescribed (Pareto), or is use even?"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from medisync.analyses.clinical_sql import day_of, known, within
from medisync.analyses.contract import AnalysisParams, Figure, Finding, Result, SnapshotReader, Table
from medisync.analyses.medication_analysis_meaning import DISCLOSURE
from medisync.analyses.phrases import counted, listed, percent, probability, shortened
from medisync.errors import NoDataError
from medisync.stats.age_bands import UNKNOWN
from medisync.stats.concentration import (
    Concentration,
    Uniformity,
    compare_with_uniform,
    measure_concentration,
)
from medisync.stats.multiplicity import adjust_benjamini_hochberg
from medisync.stats.repeated import RepeatedCounts, one_way_design_effect

ANALYSIS = "medication_analysis"
TITLE = "Medications"

NEGLIGIBLE_W = 0.1
"""Cohen (1988), section 7.2: below, a departure from even use is too small to matter."""

UNITS = ("prescriptions", "patients")


class Params(AnalysisParams):
    """What to count, and where the classes end."""

    class_a_share: float = Field(default=0.8, gt=0, lt=1, description="share of the total that class A makes up")
    class_b_share: float = Field(default=0.95, gt=0, le=1, description="share that classes A and B make up together")
    from_day: dt.date | None = Field(default=None, description="first day of prescription; empty: from the first")
    until_day: dt.date | None = Field(default=None, description="last day of prescription; empty: to the last")
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="accepted share of false findings")
    resamples: int = Field(default=1_999, ge=199, le=20_000, description="bootstrap resamples")
    seed: int = Field(default=1, ge=0, description="seed of the bootstrap and of the Monte Carlo test")

    @model_validator(mode="after")
    def _classes_in_order(self) -> Self:
        if self.class_a_share >= self.class_b_share:
            raise ValueError("class_b_share must be above class_a_share")
        return self


COUNTED = ("medication", "prescriptions", "patients", "squares", "products")


@dataclass(frozen=True)
class Inputs:
    """``medications``: medication, prescriptions, patients, and ``squares`` and ``products``, the sums over patients
    of prescriptions that a design effect needs (:class:`~medisync.stats.repeated.RepeatedCounts`)."""

    medications: pd.DataFrame
    prescriptions_squares: float
    patients: int
    prescriptions_unknown: int
    data_from: dt.date | None
    data_until: dt.date | None


def load(snapshot: SnapshotReader, params: Params) -> Inputs:
    """Counts per medication; no row per patient leaves the lake."""
    found = snapshot.query(_counts_sql(within("day", params.from_day, params.until_day)))
    is_total = found["medication"].isna()
    total = found[is_total].iloc[0]
    return Inputs(
        medications=found.loc[~is_total, list(COUNTED)].reset_index(drop=True),
        prescriptions_squares=float(total["squares"]),
        patients=int(total["patients"]),
        prescriptions_unknown=int(total["unknown"]),
        data_from=day_of(total["first"]),
        data_until=day_of(total["last"]),
    )


def _counts_sql(period: str) -> str:
    """The columns COUNTED of each medication; a row without one with what all have in common, and columns unknown
    (prescriptions of an unknown medication), first and last (days).

    Patients are told apart once, with a medication as the number of its place: less to keep of each than with its
    name, which is cleaned once instead of in every row.
    """
    return f"""
    WITH names AS MATERIALIZED (
        SELECT stored, medication, if(medication = '{UNKNOWN}', 0, dense_rank() OVER (ORDER BY medication)) AS place
        FROM (SELECT stored, {known("stored")} AS medication
              FROM (SELECT coalesce(medication, '') AS stored FROM clinical.prescriptions GROUP BY ALL))
    ), facts AS (
        SELECT coalesce(r.patient_key, r.admission_key) AS patient, n.place::INTEGER AS place,
               coalesce(a.admitted_at, r.prescribed_at) AS day
        FROM clinical.prescriptions r JOIN names n ON n.stored = coalesce(r.medication, '')
        LEFT JOIN clinical.admissions a ON a.admission_key = r.admission_key
    ), per_patient AS MATERIALIZED (
        SELECT patient, place, count(*) AS m, min(day) AS first, max(day) AS last
        FROM facts WHERE {period} GROUP BY patient, place
    ), totals AS (
        SELECT patient, sum(m)::BIGINT AS total FROM per_patient WHERE place > 0 GROUP BY patient
    ), counts AS (
        SELECT place, sum(m)::DOUBLE AS prescriptions, count(*)::DOUBLE AS patients, sum(m * m)::DOUBLE AS squares,
               sum(m * total)::DOUBLE AS products
        FROM per_patient JOIN totals USING (patient) WHERE place > 0 GROUP BY place
    ), extent AS (
        SELECT coalesce(sum(m) FILTER (place = 0), 0)::BIGINT AS unknown, min(first) AS first, max(last) AS last
        FROM per_patient
    )
    SELECT {", ".join(COUNTED)}, 0 AS unknown, NULL AS first, NULL AS last
    FROM counts JOIN (SELECT DISTINCT place, medication FROM names) USING (place)
    UNION ALL
    SELECT NULL, overall.*, 0, extent.* FROM extent, (
        SELECT coalesce(sum(total), 0)::DOUBLE, count(*)::DOUBLE, coalesce(sum(total * total), 0)::DOUBLE FROM totals
    ) overall
    ORDER BY prescriptions DESC, medication
    """


@dataclass(frozen=True)
class _Counted:
    unit: str
    design_effect: float
    uniformity: Uniformity
    concentration: Concentration


def compute(inputs: Inputs, params: Params) -> Result:
    """Test even use first; name classes A, B and C only when it is refuted."""
    frame = inputs.medications
    if frame.empty:
        raise NoDataError("There is no prescription in this period.")
    counts = [_measure(inputs, unit, params) for unit in UNITS]
    adjusted = adjust_benjamini_hochberg([one.uniformity.p_value for one in counts])
    uneven = [bool(p <= params.alpha) for p in adjusted]
    ranking = pd.DataFrame({"medication": frame["medication"]})
    for one, is_uneven in zip(counts, uneven, strict=True):
        measured = one.concentration
        ranking[one.unit] = frame[one.unit].astype(np.int64)
        ranking[f"{one.unit}_rank"] = measured.rank
        ranking[f"{one.unit}_share"] = measured.share
        ranking[f"{one.unit}_cumulative_share"] = measured.cumulative_share
        ranking[f"{one.unit}_class"] = measured.abc_class if is_uneven else None
    ranking = ranking.sort_values(["prescriptions_rank", "medication"], kind="stable")
    summary = pd.DataFrame(
        [_row(one, p, is_uneven) for one, p, is_uneven in zip(counts, adjusted, uneven, strict=True)]
    )
    main = counts[0]
    headline, finding = _headline(ranking, counts, adjusted, uneven, params)
    return Result(
        analysis=ANALYSIS,
        title=TITLE,
        headline=headline,
        finding=finding,
        data_from=inputs.data_from,
        data_until=inputs.data_until,
        metrics={
            "medications_count": len(frame),
            "prescriptions_count": int(frame["prescriptions"].sum()),
            "patients_count": inputs.patients,
            "even_use_p_value": None if np.isnan(adjusted[0]) else float(adjusted[0]),
            "gini": main.concentration.gini,
            "gini_if_even": main.concentration.gini_if_even,
            "class_a_medications_count": main.concentration.class_a_items if uneven[0] else None,
            "class_a_medications_low": main.concentration.class_a_low if uneven[0] else None,
            "class_a_medications_high": main.concentration.class_a_high if uneven[0] else None,
            "largest_share_percent": 100 * float(main.concentration.share.max()),
        },
        tables={
            "medications": Table.from_frame("Medications by prescriptions and by patients", ranking),
            "concentration": Table.from_frame("Even use tested, and how concentrated use is", summary),
        },
        warnings=_warnings(inputs, uneven),
        disclosure=DISCLOSURE,
    )


def _measure(inputs: Inputs, unit: str, params: Params) -> _Counted:
    frame = inputs.medications
    counts, effect = frame[unit].to_numpy(np.float64), 1.0
    if unit == "prescriptions":  # a patient counted once per medication makes use look more even, never less
        sums = RepeatedCounts(counts, frame["squares"].to_numpy(np.float64), frame["products"].to_numpy(np.float64))
        effect = one_way_design_effect(sums, inputs.prescriptions_squares)
    uniformity = compare_with_uniform(counts, design_effect=effect, draws=params.resamples, seed=params.seed)
    concentration = measure_concentration(
        counts,
        class_a_share=params.class_a_share,
        class_b_share=params.class_b_share,
        design_effect=effect,
        draws=params.resamples,
        seed=params.seed,
    )
    return _Counted(unit, effect, uniformity, concentration)


def _row(one: _Counted, p_adjusted: float, is_uneven: bool) -> dict[str, object]:
    tested, measured = one.uniformity, one.concentration
    return {
        "counted_by": one.unit,
        "total": int(measured.total),
        "medications": measured.share.size,
        "chi_square": tested.chi_square,
        "degrees_of_freedom": tested.degrees_of_freedom,
        "method": tested.method,
        "design_effect": one.design_effect,
        "p_value": tested.p_value,
        "p_adjusted": float(p_adjusted),
        "cohens_w": tested.cohens_w,
        "gini": measured.gini,
        "gini_if_even": measured.gini_if_even,
        "class_a_medications": measured.class_a_items,
        "class_a_low": measured.class_a_low,
        "class_a_high": measured.class_a_high,
        "class_a_if_even": measured.class_a_if_even,
        "verdict": "not tested" if tested.method == "none" else "uneven" if is_uneven else "even within chance",
    }


def _headline(
    ranking: pd.DataFrame, counts: list[_Counted], adjusted: NDArray[np.float64], uneven: list[bool], params: Params
) -> tuple[str, Finding]:
    main, by_patients = counts
    items, measured, total = len(ranking), main.concentration, f"{int(main.concentration.total):,} prescriptions"
    if main.uniformity.method == "none":
        return f"Only one medication was prescribed, {ranking['medication'].iloc[0]}.", Finding.DESCRIPTION
    smallest, largest = percent(float(measured.share.min()), 1), percent(float(measured.share.max()), 1)
    if not uneven[0]:
        text = (
            f"There is no vital few among the {counted(items, 'medication')}: each makes up {smallest} to {largest} "
            f"of {total}, as even use would give by chance ({probability(float(adjusted[0]))})."
        )
        return text, Finding.NOTHING
    if main.uniformity.cohens_w < NEGLIGIBLE_W:
        text = (
            f"The {counted(items, 'medication')} are used nearly evenly ({smallest} to {largest} of {total} each): "
            f"the differences are beyond chance but too small to matter, and there is no vital few."
        )
        return text, Finding.NOTHING
    interval = (
        f"{measured.class_a_items} of {items}, 95 % interval {measured.class_a_low} to {measured.class_a_high}"
        if measured.class_a_low < measured.class_a_high
        else f"{measured.class_a_items} of {items}"
    )
    names = listed([shortened(str(name), 60) for name in ranking["medication"].head(measured.class_a_items)], most=4)
    if not uneven[1]:
        text = (
            f"{measured.class_a_items} of {items} medications make up {percent(params.class_a_share)} of {total} "
            f"({names}), but only because some patients get them again and again: counted once per patient "
            f"({int(by_patients.concentration.total):,} in all), use is even within chance."
        )
        return text, Finding.DESCRIPTION
    if measured.has_vital_few:
        text = (
            f"A vital few medications ({interval}) make up {percent(params.class_a_share)} of {total}: {names}; "
            f"even use would take {measured.class_a_if_even}."
        )
    else:
        text = (
            f"Medications are used unevenly ({smallest} to {largest} of {total} each), but no vital few stands out: "
            f"{percent(params.class_a_share)} takes {interval}, even use would take {measured.class_a_if_even}."
        )
    return text, Finding.SIGNAL


def _warnings(inputs: Inputs, uneven: list[bool]) -> tuple[str, ...]:
    warnings = []
    if inputs.prescriptions_unknown:
        warnings.append(
            f"{counted(inputs.prescriptions_unknown, 'prescription')} without the name of a medication left out."
        )
    if uneven[0] != uneven[1]:
        warnings.append("Counted by prescriptions and by patients, use differs: one is even within chance, one is not.")
    return tuple(warnings)


def figures(result: Result) -> list[Figure]:
    """Share of each medication with what even use would give, and the cumulative share."""
    from medisync.analyses import medication_analysis_figures as draw

    return [draw.shares(result)]
