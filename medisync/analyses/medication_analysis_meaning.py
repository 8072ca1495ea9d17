"""What the numbers of the medication analysis are (see :mod:`medisync.analyses.meaning`).

Not declared, so never released: patients beside prescriptions, since their difference counts those who were prescribed
a medication more than once, often few.
"""

from __future__ import annotations

from medisync.analyses.meaning import LABEL, SUMMARY, Count, Derived, Disclosure, Share, TableMeaning

OF_ROW = Derived(sources=("prescriptions",), digits=None)
OF_ALL = Derived(sources=("prescriptions",), whole=("medications",), digits=None)

DISCLOSURE = Disclosure(
    population="prescriptions_count",
    headline_uses=("medications.prescriptions", "prescriptions_count"),
    figures_use={"medication-shares": ("medications.prescriptions",)},
    tables={
        "medications": TableMeaning(
            columns={
                "medication": LABEL,
                "prescriptions": Count(of="prescriptions", by={"medication": "medication"}),
                "prescriptions_rank": OF_ROW,
                "prescriptions_share": Share(of="prescriptions"),
                "prescriptions_cumulative_share": OF_ALL,
                "prescriptions_class": OF_ROW,
            },
        ),
        "concentration": TableMeaning(
            ordered_by="labels",
            columns={
                **dict.fromkeys(("counted_by", "medications", "degrees_of_freedom", "method", "verdict"), LABEL),
                **dict.fromkeys(("chi_square", "design_effect", "p_value", "p_adjusted", "cohens_w"), SUMMARY),
                **dict.fromkeys(("gini", "gini_if_even"), SUMMARY),
                **dict.fromkeys(("class_a_medications", "class_a_low", "class_a_high", "class_a_if_even"), LABEL),
            },
        ),
    },
    metrics={
        "medications_count": LABEL,
        "prescriptions_count": Count(of="prescriptions"),
        "even_use_p_value": SUMMARY,
        "gini": SUMMARY,
        "gini_if_even": SUMMARY,
        "class_a_medications_count": LABEL,
        "class_a_medications_low": LABEL,
        "class_a_medications_high": LABEL,
        "largest_share_percent": Derived(whole=("medications",), digits=None),
    },
)
