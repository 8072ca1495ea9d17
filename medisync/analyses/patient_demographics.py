"""Who comes: age and gender of the patients, and whether that changed since the previous period."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import Field

from medisync.analyses.age_band_starts import AgeBandStarts
from medisync.analyses.contract import AnalysisParams, Figure, Finding, Result, SnapshotReader, Table
from medisync.analyses.patient_demographics_meaning import DISCLOSURE
from medisync.analyses.patient_demographics_sql import BEFORE, NOW, counts_sql
from medisync.analyses.phrases import counted, listed, percent
from medisync.errors import NoDataError
from medisync.stats.age_bands import UNKNOWN, AgeBands
from medisync.stats.multiplicity import adjust_benjamini_hochberg
from medisync.stats.standardised_difference import (
    NEGLIGIBLE,
    StandardisedDifference,
    difference_of_means,
    difference_of_shares,
)

ANALYSIS = "patient_demographics"
TITLE = "Patient demographics"

GENDERS = ("female", "male", "other", "unknown")
CHARACTERISTICS = {
    "gender": "gender",
    "blood_type": "blood type",
    "admission_type": "type of admission",
    "insurer": "insurer",
}
LARGE_DIFFERENCE = 0.5
"""When a difference this large (half a standard deviation) may go unseen, the data are too few to say anything."""


class Params(AnalysisParams):
    """How to band ages, and how long the compared periods are."""

    age_band_starts: AgeBandStarts = Field(
        default=(0, 10, 20, 30, 40, 50, 60, 70, 80, 90),
        description="youngest age in years of each age band; the first is 0, the last band is open",
    )
    period_months: int = Field(
        default=12, ge=1, le=120, description="months up to the last admission, compared with as many before"
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="share of false findings accepted (Benjamini-Hochberg over comparisons)"
    )


@dataclass(frozen=True)
class Inputs:
    """Numbers of patients in the periods "now" and "before"; each counts once, as at the latest admission in a period.

    ``ages``: period, gender, age_years (nullable), patients, admissions (of these patients). ``levels``: period,
    characteristic, level, patients. Without a patient's key an admission counts as a patient of its own.
    """

    ages: pd.DataFrame
    levels: pd.DataFrame
    first_day: dt.date | None
    last_day: dt.date | None
    now_from: dt.date | None
    before_from: dt.date | None
    patients_all: int


def load(snapshot: SnapshotReader, params: Params) -> Inputs:
    """Counts by age, gender and other characteristics for the two periods and all before them."""
    extent = snapshot.query(
        "SELECT min(admitted_at)::DATE AS first, max(admitted_at)::DATE AS last, "
        "count(DISTINCT patient_key) AS patients FROM clinical.admissions"
    ).iloc[0]
    if pd.isna(extent["last"]):
        empty = pd.DataFrame()
        return Inputs(empty, empty, None, None, None, None, 0)
    first, last = extent["first"].date(), extent["last"].date()
    tomorrow = pd.Timestamp(last) + pd.Timedelta(days=1)
    now_from = (tomorrow - pd.DateOffset(months=params.period_months)).date()
    before_from = (tomorrow - pd.DateOffset(months=2 * params.period_months)).date()
    counts = snapshot.query(counts_sql(now_from, before_from))
    of_ages = counts["characteristic"].isna()
    ages = counts.loc[of_ages, ["period", "level", "age_years", "patients", "admissions"]]
    ages = ages.rename(columns={"level": "gender"}).reset_index(drop=True)
    levels = counts.loc[~of_ages, ["period", "characteristic", "level", "patients"]]
    return Inputs(ages, levels, first, last, now_from, before_from, int(extent["patients"]))


def compute(inputs: Inputs, params: Params) -> Result:
    """Describe the latest period by age and gender, and compare it with the one before."""
    if inputs.ages.empty or inputs.first_day is None or inputs.last_day is None:
        raise NoDataError("There is no admission yet.")
    bands = AgeBands(params.age_band_starts)
    ages = inputs.ages.copy()
    ages["gender"] = ages["gender"].where(ages["gender"].isin(GENDERS), "unknown")
    ages["age_band"] = bands.label(ages["age_years"].to_numpy())
    now, before = ages[ages["period"] == NOW], ages[ages["period"] == BEFORE]
    whole_before = inputs.before_from is not None and inputs.first_day <= inputs.before_from
    comparisons = _comparisons(now, before, inputs.levels, bands, params)
    pyramid = _pyramid(now, before, bands)
    metrics = _metrics(now, before, inputs)
    if before.empty:
        headline, finding = _description(now, metrics), Finding.DESCRIPTION
    else:
        headline, finding = _headline(now, metrics, comparisons, params)
    return Result(
        analysis=ANALYSIS,
        title=TITLE,
        headline=headline,
        finding=finding,
        data_from=inputs.first_day,
        data_until=inputs.last_day,
        metrics=metrics,
        tables={
            "pyramid": Table.from_frame("Patients by age band and gender, latest period", pyramid),
            "comparison": Table.from_frame("Latest period compared with the one before", comparisons),
        },
        warnings=_warnings(metrics, inputs, params, whole_before, bool(len(before))),
        disclosure=DISCLOSURE,
    )


def _pyramid(now: pd.DataFrame, before: pd.DataFrame, bands: AgeBands) -> pd.DataFrame:
    """One row per age band and gender, all of them, unknown age last."""
    index = pd.MultiIndex.from_product([[*bands.labels, UNKNOWN], GENDERS], names=["age_band", "gender"])
    keys = ["age_band", "gender"]
    latest = now.groupby(keys)[["patients", "admissions"]].sum().reindex(index, fill_value=0)
    latest["patients_before"] = before.groupby(keys)["patients"].sum().reindex(index, fill_value=0)
    latest["share_of_patients_percent"] = 100 * latest["patients"] / latest["patients"].sum()
    return latest.reset_index()


def _metrics(now: pd.DataFrame, before: pd.DataFrame, inputs: Inputs) -> dict[str, str | int | float | bool | None]:
    weights = now["patients"]
    known_age = now["age_years"].notna() & (now["age_band"] != UNKNOWN)
    by_gender = now.groupby("gender")["patients"].sum()
    total = int(weights.sum())
    mean, sd = _mean_and_sd(now)
    ages = now.loc[known_age].groupby("age_years")["patients"].sum().sort_index()
    return {
        "patients_count": total,
        "patients_before_count": int(before["patients"].sum()),
        "admissions_count": int(now["admissions"].sum()),
        "patients_all_time_count": inputs.patients_all,
        "period_from": str(max(d for d in (inputs.now_from, inputs.first_day) if d is not None)),
        "mean_age_years": mean,
        "sd_age_years": sd,
        "median_age_years": _weighted_median(ages),
        "youngest_age_years": float(ages.index.min()) if len(ages) else None,
        "oldest_age_years": float(ages.index.max()) if len(ages) else None,
        "female_percent": 100 * float(by_gender.get("female", 0)) / total,
        "male_percent": 100 * float(by_gender.get("male", 0)) / total,
        "age_unknown_count": int(weights[~known_age].sum()),
        "gender_unknown_count": int(by_gender.get("unknown", 0)),
    }


def _mean_and_sd(ages: pd.DataFrame) -> tuple[float | None, float | None]:
    use = ages[ages["age_years"].notna() & (ages["age_band"] != UNKNOWN)]
    n = float(use["patients"].sum())
    if n == 0:
        return None, None
    mean = float((use["age_years"] * use["patients"]).sum() / n)
    squares = float((np.square(use["age_years"] - mean) * use["patients"]).sum())
    return mean, float(np.sqrt(squares / (n - 1))) if n > 1 else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _weighted_median(counts: pd.Series[int]) -> float | None:
    if counts.empty:
        return None
    half = counts.cumsum() >= counts.sum() / 2
    return float(counts.index[half.to_numpy()][0])


def _comparisons(
    now: pd.DataFrame, before: pd.DataFrame, levels: pd.DataFrame, bands: AgeBands, params: Params
) -> pd.DataFrame:
    """One row per characteristic: its standardised difference, interval, adjusted p-value and a verdict."""
    rows: list[tuple[str, str, float | None, float | None, StandardisedDifference]] = []
    (mean_now, sd_now), (mean_before, sd_before) = _mean_and_sd(now), _mean_and_sd(before)
    n_now, n_before = (float(side.loc[side["age_band"] != UNKNOWN, "patients"].sum()) for side in (now, before))
    rows.append((
        "mean age", "years", mean_now, mean_before,
        difference_of_means(
            _number(mean_now), _number(sd_now), n_now, _number(mean_before), _number(sd_before), n_before
        ),
    ))  # fmt: skip
    band_counts = [
        side.groupby("age_band")["patients"].sum().reindex(bands.labels, fill_value=0) for side in (now, before)
    ]
    rows.append(("age bands", "shares", None, None, difference_of_shares(*(c.to_numpy() for c in band_counts))))
    for name, label in CHARACTERISTICS.items():
        own = levels[(levels["characteristic"] == name) & (levels["level"].str.lower() != "unknown")]
        table = own.pivot_table(index="level", columns="period", values="patients", aggfunc="sum", fill_value=0)
        table = table.reindex(columns=[NOW, BEFORE], fill_value=0)
        difference = difference_of_shares(table[NOW].to_numpy(), table[BEFORE].to_numpy())
        rows.append((label, "shares", None, None, difference))
    adjusted = adjust_benjamini_hochberg([row[4].p_value for row in rows])
    return pd.DataFrame(
        [
            {
                "characteristic": label,
                "measure": unit,
                "now": value_now,
                "before": value_before,
                "standardised_difference": d.value,
                "low": d.low,
                "high": d.high,
                "p_adjusted": float(p),
                "verdict": _verdict(d, float(p), params.alpha),
            }
            for (label, unit, value_now, value_before, d), p in zip(rows, adjusted, strict=True)
        ]
    )


def _verdict(difference: StandardisedDifference, p_adjusted: float, alpha: float) -> str:
    if np.isnan(difference.value):
        return "not comparable"
    if p_adjusted > alpha:
        return "no change beyond chance"
    return "changed" if abs(difference.value) >= NEGLIGIBLE else "negligible change"


def _description(now: pd.DataFrame, metrics: dict[str, str | int | float | bool | None]) -> str:
    median = metrics["median_age_years"]
    age = f"half of them {median:.0f} years or younger" if isinstance(median, float) else "their ages unknown"
    return (
        f"{counted(int(now['patients'].sum()), 'patient')} since {metrics['period_from']}, {age}, "
        f"{float(metrics['female_percent'] or 0):.0f} % women and {float(metrics['male_percent'] or 0):.0f} % men"
    ) + ("." if metrics["patients_before_count"] else "; there is no earlier period to compare with.")


def _headline(
    now: pd.DataFrame,
    metrics: dict[str, str | int | float | bool | None],
    comparisons: pd.DataFrame,
    params: Params,
) -> tuple[str, Finding]:
    described = _description(now, metrics).removesuffix(".")
    tested = comparisons[comparisons["verdict"] != "not comparable"]
    changed = tested[tested["verdict"] == "changed"]
    months = counted(params.period_months, "month")
    if tested.empty:
        return f"{described}; too little is recorded to compare with the {months} before.", Finding.TOO_LITTLE
    if changed.empty:
        largest = float(tested[["low", "high"]].abs().to_numpy().max())
        if (tested["verdict"] == "negligible change").any():
            reason = "nothing changed by more than a negligible amount"
        elif largest < NEGLIGIBLE:
            reason = (
                f"nothing changed beyond chance, and any difference is negligible (standardised, below {largest:.2f})"
            )
        else:
            reason = (
                f"nothing changed beyond chance, but with so few patients a standardised difference of {largest:.2f} "
                f"may go unseen"
            )
        finding = Finding.NOTHING if largest < LARGE_DIFFERENCE else Finding.TOO_LITTLE
        return f"{described}; compared with the {months} before, {reason}.", finding
    names = listed([str(name) for name in changed["characteristic"]])
    text = f"{described}; compared with the {months} before, {names} changed"
    ages = changed[changed["characteristic"] == "mean age"]
    if len(ages):
        text += f" (mean age {float(ages['before'].iloc[0]):.1f} to {float(ages['now'].iloc[0]):.1f} years)"
    return text + ".", Finding.SIGNAL


def _warnings(
    metrics: dict[str, str | int | float | bool | None],
    inputs: Inputs,
    params: Params,
    whole_before: bool,
    has_before: bool,
) -> tuple[str, ...]:
    warnings = []
    total = float(metrics["patients_count"] or 0)
    for key, name in (("age_unknown_count", "age"), ("gender_unknown_count", "gender")):
        missing = int(metrics[key] or 0)
        if missing:
            warnings.append(f"The {name} is unknown for {counted(missing, 'patient')} ({percent(missing / total, 1)}).")
    if has_before and not whole_before:
        warnings.append(
            f"Records start on {inputs.first_day}, so the period compared with is shorter than "
            f"{counted(params.period_months, 'month')}."
        )
    return tuple(warnings)


def figures(result: Result) -> list[Figure]:
    """Pyramid of ages by gender, and the standardised differences to the period before."""
    from medisync.analyses import patient_demographics_figures as draw

    compared = result.frame("comparison")
    compared = compared[compared["standardised_difference"].notna() & compared["low"].notna()]
    return [draw.pyramid(result), *([draw.change(compared)] if len(compared) else [])]
