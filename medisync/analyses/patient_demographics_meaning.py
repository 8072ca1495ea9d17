"""What the numbers of the patient demographics are (see :mod:`medisync.analyses.meaning`).

Not declared, so never released: admissions beside patients (their difference counts those who came again, often few),
and the youngest and oldest age (each is one person's).
"""

from __future__ import annotations

from medisync.analyses.meaning import LABEL, SUMMARY, Count, Disclosure, Share, TableMeaning
from medisync.stats.age_bands import UNKNOWN

NOW = "patients from {period_from} to {data_until}"
BEFORE = "patients in the period before {period_from}, records from {data_from} to {data_until}"

DISCLOSURE = Disclosure(
    population="patients_count",
    headline_uses=("patients_count", "median_age_years", "female_percent", "male_percent", "comparison"),
    figures_use={
        "age-pyramid": ("pyramid.patients", "pyramid.patients_before"),
        "change-since-previous-period": ("comparison",),
    },
    tables={
        "pyramid": TableMeaning(
            ordered_by="labels",
            columns={
                "age_band": LABEL,
                "gender": LABEL,
                "patients": Count(of=NOW, by={"age": "age_band", "gender": "gender"}),
                "patients_before": Count(of=BEFORE, by={"age": "age_band", "gender": "gender"}),
                "share_of_patients_percent": Share(of="patients"),
            },
        ),
        "comparison": TableMeaning(
            ordered_by="labels",
            columns={
                "characteristic": LABEL,
                "measure": LABEL,
                "now": SUMMARY,
                "before": SUMMARY,
                "standardised_difference": SUMMARY,
                "low": SUMMARY,
                "high": SUMMARY,
                "p_adjusted": SUMMARY,
                "verdict": LABEL,
            },
        ),
    },
    metrics={
        "patients_count": Count(of=NOW),
        "patients_before_count": Count(of=BEFORE),
        "period_from": LABEL,
        "mean_age_years": SUMMARY,
        "sd_age_years": SUMMARY,
        "median_age_years": SUMMARY,
        "female_percent": Share(count=Count(of=NOW, where={"gender": "female"})),
        "male_percent": Share(count=Count(of=NOW, where={"gender": "male"})),
        "age_unknown_count": Count(of=NOW, where={"age": UNKNOWN}),
        "gender_unknown_count": Count(of=NOW, where={"gender": "unknown"}),
    },
)
