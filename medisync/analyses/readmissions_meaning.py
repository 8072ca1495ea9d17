"""What the numbers of the readmissions notebook are (see :mod:`medisync.analyses.meaning`).

Not declared, so never released: stays without a discharge, transfers and those too recent, often few.
"""

from __future__ import annotations

from medisync.analyses.meaning import LABEL, Count, Derived, Disclosure, Share, TableMeaning

OF_ROW = Derived(sources=("index_stays", "readmitted"))


def _units(dimension: str) -> TableMeaning:
    return TableMeaning(
        ordered_by="labels",
        columns={
            "unit": LABEL,
            "index_stays": Count(of="index stays", by={dimension: "unit"}),
            "readmitted": Count(of="readmissions", by={dimension: "unit"}),
            "rate_percent": Share(of="readmitted", total=(dimension,)),
            **dict.fromkeys(("low_percent", "high_percent", "z", "p_adjusted", "verdict"), OF_ROW),
        },
    )


OF_ALL = Derived(sources=("index_stays_count", "readmitted_count"))
DISCLOSURE = Disclosure(
    population="index_stays_count",
    headline_uses=("index_stays_count", "readmitted_count", "sites.rate_percent", "conditions.rate_percent"),
    figures_use={
        "sites": ("sites.index_stays", "sites.rate_percent"),
        "conditions": ("conditions.index_stays", "conditions.rate_percent"),
    },
    tables={"sites": _units("site"), "conditions": _units("condition")},
    metrics={
        "index_stays_count": Count(of="index stays"),
        "readmitted_count": Count(of="readmissions"),
        **dict.fromkeys(("rate_percent", "low_percent", "high_percent"), OF_ALL),
    },
)
