"""Illness and patient factors: which conditions go together with gender, age, insurer and the like.

The name is historical. What is measured is association: two things recorded together more or less often than chance
explains. That is neither a prediction for a patient nor a cause.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from medisync.analyses.age_band_starts import AgeBandStarts
from medisync.analyses.clinical_sql import day_of, within
from medisync.analyses.contract import AnalysisParams, Figure, Finding, Result, SnapshotReader, Table
from medisync.analyses.illness_prediction_meaning import disclosure
from medisync.analyses.illness_prediction_sql import OTHER, counts_sql, repeats_sql
from medisync.analyses.phrases import counted, listed, probability, shortened
from medisync.errors import NoDataError
from medisync.stats.age_bands import UNKNOWN, AgeBands
from medisync.stats.association import SMALLEST_EXPECTED, Association, measure_association
from medisync.stats.multiplicity import adjust_benjamini_hochberg
from medisync.stats.repeated import RepeatedCounts, two_way_design_effect

ANALYSIS = "illness_prediction"
TITLE = "Illness and patient factors"

Factor = Literal[
    "gender", "age_band", "blood_type", "admission_type", "insurer", "test_result", "season", "weekday", "site"
]
FACTOR_LABELS: dict[str, str] = {
    "gender": "gender",
    "age_band": "age",
    "blood_type": "blood type",
    "admission_type": "type of admission",
    "insurer": "insurer",
    "test_result": "test result",
    "season": "quarter of the year",
    "weekday": "day of the week",
    "site": "site",
}
PATIENTS_FOR_DESIGN_EFFECT = 50_000
"""How repeated patients inflate the statistic is estimated from about this many of them; counts are always complete."""

NEGLIGIBLE_W, LARGE_W = 0.1, 0.5
STRENGTHS = ((NEGLIGIBLE_W, "negligible"), (0.3, "weak"), (LARGE_W, "moderate"), (np.inf, "strong"))
"""Cohen (1988), section 7.2, for w = V sqrt(min(r, c) - 1)."""

NOT_A_PREDICTION = (
    "An association is not a prediction: it says how often things were recorded together among many patients, "
    "not what a single patient will have, and not why."
)


class Params(AnalysisParams):
    """What to compare, and when a difference counts."""

    factors: tuple[Factor, ...] = Field(
        default=("gender", "age_band", "blood_type", "admission_type", "insurer", "test_result", "season", "site"),
        min_length=1,
        description="patient and admission factors to compare with the condition",
    )
    age_band_starts: AgeBandStarts = Field(
        default=(0, 18, 30, 45, 60, 75), description="youngest age in years of each age band; the first is 0"
    )
    most_conditions: int = Field(
        default=20, ge=2, le=100, description="this many most frequent conditions are compared; the rest is pooled"
    )
    most_groups: int = Field(
        default=20, ge=2, le=100, description="this many largest groups of a factor are compared; the rest is pooled"
    )
    smallest_group: int = Field(
        default=50, ge=1, le=100_000, description="groups of a factor with fewer admissions are pooled"
    )
    from_day: dt.date | None = Field(default=None, description="first day of admission; empty: from the first")
    until_day: dt.date | None = Field(default=None, description="last day of admission; empty: to the last")
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="share of false findings accepted (Benjamini-Hochberg over factors)"
    )
    seed: int = Field(default=1, ge=0, description="seed of the Monte Carlo test, used for small counts only")


@dataclass(frozen=True)
class Inputs:
    """``counts``: factor, condition, level, cases ("Unknown" and pooled "Other" among them). ``repeats``: factor,
    condition, level (null: margin), squares, products: what patients counted more than once add."""

    counts: pd.DataFrame
    repeats: pd.DataFrame
    admissions: int
    patients: int
    admissions_without_condition: int
    data_from: dt.date | None
    data_until: dt.date | None


def load(snapshot: SnapshotReader, params: Params) -> Inputs:
    """Sums per condition and group of each factor; no row per patient leaves the lake."""
    period = within("a.admitted_at", params.from_day, params.until_day)
    extent = snapshot.query(
        f"""
        SELECT count(*) AS admissions, count(DISTINCT a.patient_key) AS patients,
               min(a.admitted_at) AS first, max(a.admitted_at) AS last,
               count(*) FILTER (WHERE NOT EXISTS (
                   FROM clinical.conditions c WHERE c.admission_key = a.admission_key)) AS without_condition
        FROM clinical.admissions a WHERE {period}
        """
    ).iloc[0]
    bands = AgeBands(params.age_band_starts)
    counts = snapshot.query(
        counts_sql(
            params.factors,
            bands,
            period,
            conditions=params.most_conditions,
            groups=params.most_groups,
            smallest_group=params.smallest_group,
        )
    )
    one_patient_in = max(1, int(extent["patients"]) // PATIENTS_FOR_DESIGN_EFFECT)
    repeats = snapshot.query(
        repeats_sql(params.factors, bands, period, one_patient_in=one_patient_in),
        [sorted(counts["condition"].unique()), sorted((counts["factor"] + "|" + counts["level"]).unique())],
    )
    return Inputs(
        counts=counts,
        repeats=repeats,
        admissions=int(extent["admissions"]),
        patients=int(extent["patients"]),
        admissions_without_condition=int(extent["without_condition"]),
        data_from=day_of(extent["first"]),
        data_until=day_of(extent["last"]),
    )


@dataclass(frozen=True)
class _Tested:
    factor: str
    levels: list[str]
    conditions: list[str]
    observed: NDArray[np.float64]
    association: Association
    unknown: int


def compute(inputs: Inputs, params: Params) -> Result:
    """Test each factor, adjust over factors, and say in one sentence what is left."""
    if inputs.admissions == 0:
        raise NoDataError("There is no admission in this period.")
    tested = [_test(inputs, factor, params) for factor in params.factors]
    p_values = adjust_benjamini_hochberg([one.association.p_value for one in tested])
    factors = pd.DataFrame([_row(one, p, params.alpha) for one, p in zip(tested, p_values, strict=True)])
    cells = _all_cells(tested, params.alpha)
    departures = _departures(cells)
    usable = factors[factors["p_value"].notna()].sort_values(["p_value", "factor"], kind="stable")
    found = usable[usable["p_adjusted"] <= params.alpha]
    relevant = found[found["strength"] != "negligible"].sort_values("cramers_v", ascending=False)
    shown = relevant if len(relevant) else usable
    closest = str(shown["factor"].iloc[0]) if len(shown) else None
    tables = {
        "factors": Table.from_frame("Association of each factor with the condition", factors),
        "departures": Table.from_frame("Largest departures from what is expected without association", departures),
    }
    if closest is not None:
        name, own = FACTOR_LABELS[closest], cells[cells["factor"] == closest].drop(columns="factor")
        tables["cells"] = Table.from_frame(f"Conditions by {name}, observed and expected", own)
    headline, finding = _headline(usable, found, relevant, departures)
    return Result(
        analysis=ANALYSIS,
        title=TITLE,
        headline=headline,
        finding=finding,
        data_from=inputs.data_from,
        data_until=inputs.data_until,
        metrics={
            "admissions_count": inputs.admissions,
            "patients_count": inputs.patients,
            "conditions_count": max((len(one.conditions) for one in tested), default=0),
            "factors_tested_count": len(usable),
            "factors_associated_count": len(found),
            "smallest_adjusted_p_value": float(usable["p_adjusted"].min()) if len(usable) else None,
            "largest_cramers_v": float(usable["cramers_v"].max()) if len(usable) else None,
            "alpha": params.alpha,
        },
        tables=tables,
        warnings=_warnings(inputs, tested, factors),
        disclosure=disclosure(closest),
    )


def _test(inputs: Inputs, factor: str, params: Params) -> _Tested:
    own = inputs.counts[inputs.counts["factor"] == factor]
    is_unknown = (own["condition"] == UNKNOWN) | (own["level"] == UNKNOWN)
    unknown = int(own.loc[is_unknown, "cases"].sum())
    own = own[~is_unknown]
    conditions = sorted(own["condition"].unique(), key=lambda name: (name == OTHER, name))
    levels = _ordered_levels(factor, list(own["level"].unique()), params)
    cases = _grid(own, conditions, levels, "cases")
    repeats = inputs.repeats[inputs.repeats["factor"] == factor]
    effect = _design_effect(cases, repeats, conditions, levels)
    association = measure_association(cases, design_effect=effect, seed=params.seed)
    return _Tested(factor, levels, conditions, cases, association, unknown)


def _grid(frame: pd.DataFrame, conditions: list[str], levels: list[str], value: str) -> NDArray[np.float64]:
    wide = frame.pivot(index="condition", columns="level", values=value).reindex(index=conditions, columns=levels)
    grid: NDArray[np.float64] = np.nan_to_num(wide.to_numpy(np.float64)).reshape(len(conditions), len(levels))
    return grid


def _design_effect(
    cases: NDArray[np.float64], repeats: pd.DataFrame, conditions: list[str], levels: list[str]
) -> float:
    """A patient counted once adds 1 to cases, squares and products alike; ``repeats`` holds what the others add."""
    of_row, of_column = repeats["condition"].notna(), repeats["level"].notna()
    cells = repeats[of_row & of_column]

    def margin(sums: NDArray[np.float64], rows: pd.DataFrame, by: str, index: list[str]) -> RepeatedCounts:
        added = rows.set_index(by).reindex(index)
        return RepeatedCounts(
            sums, *(sums + np.nan_to_num(added[name].to_numpy(np.float64)) for name in ("squares", "products"))
        )

    return two_way_design_effect(
        RepeatedCounts(cases, *(cases + _grid(cells, conditions, levels, name) for name in ("squares", "products"))),
        margin(cases.sum(axis=1), repeats[of_row & ~of_column], "condition", conditions),
        margin(cases.sum(axis=0), repeats[~of_row & of_column], "level", levels),
        float(cases.sum() + repeats.loc[~of_row & ~of_column, "squares"].sum()),
    )


def _ordered_levels(factor: str, levels: list[str], params: Params) -> list[str]:
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    natural = {"age_band": AgeBands(params.age_band_starts).labels, "weekday": days}.get(factor, ())
    return sorted(levels, key=lambda name: (natural.index(name) if name in natural else 0, name == OTHER, name))


def _row(one: _Tested, p_adjusted: float, alpha: float) -> dict[str, object]:
    a = one.association
    scale = np.sqrt(max(1, min(len(one.conditions), len(one.levels)) - 1))
    w = a.cramers_v * scale
    strength = next(name for limit, name in STRENGTHS if w < limit) if np.isfinite(w) else "not tested"
    if a.method == "none":
        verdict = "not tested: fewer than two groups"
    elif p_adjusted <= alpha:
        verdict = "associated"
    else:
        verdict = "no association found"
    return {
        "factor": one.factor,
        "label": FACTOR_LABELS[one.factor],
        "groups": len(one.levels),
        "cases": int(a.total),
        "cases_unknown": one.unknown,
        "chi_square": a.chi_square,
        "degrees_of_freedom": a.degrees_of_freedom,
        "smallest_expected": a.smallest_expected,
        "method": a.method,
        "design_effect": a.design_effect,
        "p_value": a.p_value,
        "p_adjusted": float(p_adjusted),
        "cramers_v": a.cramers_v,
        "cramers_v_low": a.cramers_v_low,
        "cramers_v_high": a.cramers_v_high,
        "w_high": a.cramers_v_high * scale,
        "strength": strength,
        "verdict": verdict,
    }


def _cells(one: _Tested) -> pd.DataFrame:
    index = [(condition, level) for condition in one.conditions for level in one.levels]
    frame = pd.DataFrame(index, columns=["condition", "group"])
    frame["observed"] = one.observed.ravel().astype(np.int64)
    frame["expected"] = one.association.expected.ravel()
    frame["adjusted_residual"] = one.association.adjusted_residuals.ravel() / np.sqrt(one.association.design_effect)
    return frame.assign(factor=one.factor)


def _all_cells(tested: list[_Tested], alpha: float) -> pd.DataFrame:
    """Every cell of every factor; p-values adjusted over all of them."""
    from scipy.special import ndtr

    cells = pd.concat([_cells(one) for one in tested], ignore_index=True)
    distance = cells["adjusted_residual"].abs().where(cells["expected"] >= SMALLEST_EXPECTED)  # else not normal
    cells["p_adjusted"] = adjust_benjamini_hochberg(2 * ndtr(-distance.to_numpy(np.float64)))
    cells["beyond_chance"] = cells["p_adjusted"] <= alpha
    return cells


def _departures(cells: pd.DataFrame, most: int = 12) -> pd.DataFrame:
    """The cells furthest from expectation over all factors."""
    cells = cells[cells["p_adjusted"].notna()]
    order = cells["adjusted_residual"].abs().sort_values(ascending=False, kind="stable").index[:most]
    return cells.loc[order, ["factor", *(name for name in cells.columns if name != "factor")]]


def _headline(
    usable: pd.DataFrame, found: pd.DataFrame, relevant: pd.DataFrame, departures: pd.DataFrame
) -> tuple[str, Finding]:
    if usable.empty:
        return "Too little is recorded to compare conditions between groups of patients.", Finding.TOO_LITTLE
    names = listed([str(name) for name in usable["label"]], most=9)
    if found.empty:
        strongest = float(usable["cramers_v_high"].max())
        limit = (
            f"whatever association there is is negligible (Cramér's V below {strongest:.2f})"
            if (usable["w_high"] < NEGLIGIBLE_W).all()
            else f"but with so few cases one up to Cramér's V {strongest:.2f} may go unseen"
        )
        finding = Finding.NOTHING if (usable["w_high"] < LARGE_W).all() else Finding.TOO_LITTLE
        nothing = (
            f"None of {len(usable)} factors ({names}) goes together"
            if len(usable) > 1
            else f"{names.capitalize()} does not go together"
        )
        text = (
            f"{nothing} with the condition beyond chance "
            f"({probability(float(usable['p_adjusted'].min()))} for the closest, after correction); {limit}."
        )
        return text, finding
    if relevant.empty:
        text = (
            f"{listed([str(name) for name in found['label']]).capitalize()} and the condition are associated, "
            f"but so weakly (Cramér's V at most {found['cramers_v'].max():.2f}) that it does not matter in practice."
        )
        return text, Finding.NOTHING
    first = relevant.iloc[0]
    text = (
        f"{listed([str(name) for name in relevant['label']]).capitalize()} "
        f"{'goes' if len(relevant) == 1 else 'go'} together with the condition "
        f"({first['label']}: {first['strength']} association, Cramér's V {first['cramers_v']:.2f}, "
        f"95 % interval {first['cramers_v_low']:.2f} to {first['cramers_v_high']:.2f})"
    )
    is_named = (departures["condition"] != OTHER) & (departures["group"] != OTHER)
    cells = departures[(departures["factor"] == first["factor"]) & departures["beyond_chance"] & is_named]
    if len(cells):
        cell = cells.iloc[0]
        more = "more" if cell["adjusted_residual"] > 0 else "less"
        text += (
            f"; most clearly, {shortened(cell['condition'], 60)} is recorded {more} often than expected for "
            f"{first['label']} {shortened(cell['group'], 60)} ({cell['observed']:,} instead of {cell['expected']:,.0f})"
        )
    return text + ". This describes groups; it does not predict for a patient.", Finding.SIGNAL


def _warnings(inputs: Inputs, tested: list[_Tested], factors: pd.DataFrame) -> tuple[str, ...]:
    warnings = [NOT_A_PREDICTION]
    if inputs.admissions_without_condition:
        warnings.append(f"{counted(inputs.admissions_without_condition, 'admission')} without a condition left out.")
    warnings.extend(
        f"{FACTOR_LABELS[one.factor].capitalize()}: unknown for {counted(one.unknown, 'case')}, left out of its test."
        for one in tested
        if one.unknown
    )
    untested = factors.loc[factors["method"] == "none", "label"]
    if len(untested):
        names = listed([str(name) for name in untested])
        warnings.append(f"Not tested, since fewer than two groups are large enough: {names}.")
    return tuple(warnings)


def figures(result: Result) -> list[Figure]:
    """Strength of each association with its interval, and where the closest one departs from expectation."""
    from medisync.analyses import illness_prediction_figures as draw

    tested = result.frame("factors")
    tested = tested[tested["p_value"].notna()]
    return [draw.strength(tested), draw.departures(result)] if len(tested) else []
