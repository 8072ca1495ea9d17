"""Made-up admissions with a known truth, for the analyses to find again."""

from __future__ import annotations

import numpy as np
import pandas as pd

CONDITIONS = ("Asthma", "Arthritis", "Diabetes", "Hypertension", "Influenza")
MEDICATIONS = tuple(f"Medication {place:02d}" for place in range(1, 21))


def planted_admissions(rows: int = 20_000, *, seed: int = 1, weeks: int = 208) -> pd.DataFrame:
    """One row per admission over ``weeks`` whole ISO weeks from Monday 2020-01-06.

    The truth: asthma is a young person's condition and arthritis an old one's; gender has nothing to do with any;
    influenza grows by 60 % a year; medications are used as 1/rank²; in the last 52 weeks patients are ten years
    older; a third of the admissions are a return of an earlier patient; the type of admission is recorded for
    nine in ten; blood types are unknown.
    """
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, 7 * weeks, rows))
    years = day / 365.25
    patient = np.arange(rows)
    returns = np.flatnonzero(rng.random(rows) < 1 / 3)
    returns = returns[returns > 0]
    patient[returns] = rng.integers(0, returns)
    gender = np.where(rng.random(rows) < 0.5, "female", "male")[patient]
    age = rng.integers(1, 80, rows)[patient] + np.where(day >= 7 * (weeks - 52), 10, 0)
    weights = np.ones((rows, len(CONDITIONS)))
    weights[:, 0] = np.where(age < 30, 3.0, 0.6)
    weights[:, 1] = np.where(age >= 60, 3.0, 0.5)
    weights[:, 4] = 0.4 * 1.6**years
    condition = (rng.random((rows, 1)) > np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)).sum(axis=1)
    shares = 1 / np.arange(1, len(MEDICATIONS) + 1) ** 2
    medication = rng.choice(len(MEDICATIONS), rows, p=shares / shares.sum())
    kinds = np.array(["Elective", "Emergency", "Urgent"], dtype=object)[rng.integers(0, 3, rows)]
    kinds[rng.random(rows) < 0.1] = None
    return pd.DataFrame(
        {
            "patient": [f"p{one}" for one in patient],
            "gender": gender,
            "age_years": age,
            "admission_type": kinds,
            "admitted_at": pd.Timestamp("2020-01-06") + pd.to_timedelta(day, unit="D"),
            "condition": np.array(CONDITIONS)[condition],
            "medication": np.array(MEDICATIONS)[medication],
        }
    )
