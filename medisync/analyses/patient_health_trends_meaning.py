"""What the numbers of the health trends are (see :mod:`medisync.analyses.meaning`).

Not declared, so never released: the sum of cases over conditions beside the admissions (their difference counts those
with several conditions), and the comparison with last year's week, one number from two.
"""

from __future__ import annotations

from medisync.analyses.meaning import LABEL, SUMMARY, Count, Derived, Disclosure, TableMeaning

CASES = Count(of="admissions", by={"condition": "condition", "week": "week_starts"})
OF_CASES = Derived(sources=("cases",), digits=None)
OF_WEEKS = Derived(sources=("cases_last_week",), whole=("weekly",))


def disclosure(last_week: str | None) -> Disclosure:
    """The declaration; ``last_week`` is the Monday of the last complete week as ISO text."""
    last = {"week": last_week or "unknown"}
    return Disclosure(
        population="weekly",
        headline_uses=("weekly", "changes.cases_last_week", "ranks"),
        figures_use={"weekly-conditions": ("weekly",), "last-week-compared": ("changes.cases_last_week", "weekly")},
        tables={
            "ranks": TableMeaning(
                columns={
                    "week": LABEL,
                    "week_starts": LABEL,
                    "rank": OF_CASES,
                    "tied": OF_CASES,
                    "condition": LABEL,
                    "cases": CASES,
                    "complete": LABEL,
                }
            ),
            "weekly": TableMeaning(
                ordered_by="labels",
                columns={"week_starts": LABEL, "condition": LABEL, "cases": CASES, "trend": SUMMARY},
            ),
            "changes": TableMeaning(
                columns={
                    "condition": LABEL,
                    "cases_last_week": Count(of="admissions", by={"condition": "condition"}, where=last),
                    "mean_of_weeks_before": OF_WEEKS,
                    "change_to_mean_percent": OF_WEEKS,
                    "change_to_mean_percent_low": OF_WEEKS,
                    "change_to_mean_percent_high": OF_WEEKS,
                    "p_adjusted_to_mean": OF_WEEKS,
                    "trend_percent_per_year": SUMMARY,
                    "trend_low": SUMMARY,
                    "trend_high": SUMMARY,
                    "p_adjusted_trend": SUMMARY,
                    "dispersion": SUMMARY,
                    "verdict": LABEL,
                }
            ),
        },
        metrics={
            "complete_weeks_count": LABEL,
            "incomplete_weeks_count": LABEL,
            "weeks_without_reports_count": LABEL,
            "conditions_count": LABEL,
            "last_complete_week": LABEL,
            "tests_count": LABEL,
            "smallest_adjusted_p_value": SUMMARY,
            "conditions_rising_count": LABEL,
            "conditions_falling_count": LABEL,
        },
    )
