"""What the numbers of the surge prediction are (see :mod:`medisync.analyses.meaning`).

The table of alerts is not declared, so never released: that a series of few people is on it says how few at most.
"""

from __future__ import annotations

from medisync.analyses.meaning import LABEL, SUMMARY, Count, Derived, Disclosure, Meaning, TableMeaning

COUNTED = (
    *("week", "series_judged", "series_not_judged", "horizon_weeks", "ahead_origins", "series_forecast"),
    *("forecast_method", "series_forecast_better_than_mean", "published_forecasts_scored", "published_origins"),
)
"""Numbers of series and forecasts, not of people."""
SCORES = ("published_mean_absolute_error", "published_inside_80_percent", "published_skill_against_mean_percent")
OF_WEEKS = Derived(whole=("current", "weekly"))
"""The error of one forecast says how many came."""
OF_OBSERVED = Derived(sources=("observed",))


def disclosure(everything: str, everywhere: str) -> Disclosure:
    """The declaration; the two texts are those that stand for all conditions and for all sites."""
    whole = (everything, everywhere)
    same: dict[str, Meaning] = {
        "condition": LABEL,
        "expected": SUMMARY,
        "threshold": SUMMARY,
        "p_value": OF_OBSERVED,
        "state": OF_OBSERVED,
    }
    return Disclosure(
        population="weekly",
        headline_uses=("current",),
        figures_use={
            "surge-panels": ("current", "weekly"),
            "surge-weeks": ("current", "weekly"),
        },
        tables={
            "current": TableMeaning(
                columns={
                    **same,
                    "site": LABEL,
                    "kind": LABEL,
                    "observed": Count(
                        of="admissions",
                        by={"condition": "condition", "site": "site"},
                        where={"week": "{week}"},
                        everything=whole,
                    ),
                    "adjusted_p_value": OF_OBSERVED,
                    "false_alarms_a_year": SUMMARY,
                    "compared_with": LABEL,
                    "probability_any_week_ahead": SUMMARY,
                }
            ),
            "weekly": TableMeaning(
                ordered_by="labels",
                columns={
                    **same,
                    "week": LABEL,
                    "observed": Count(of="admissions", by={"condition": "condition", "week": "week"}, everything=whole),
                },
            ),
            "ahead": TableMeaning(columns={"condition": LABEL, "site": LABEL}, others=SUMMARY),
            "forecast": TableMeaning(columns={"condition": LABEL, "site": LABEL, "verdict": LABEL}, others=SUMMARY),
            "forecast_weeks": TableMeaning(
                ordered_by="labels", columns={"condition": LABEL, "week": LABEL}, others=SUMMARY
            ),
            "scoreboard": TableMeaning(ordered_by="labels", others=OF_WEEKS),
        },
        metrics={
            **dict.fromkeys(COUNTED, LABEL),
            **dict.fromkeys(SCORES, OF_WEEKS),
            **dict.fromkeys(("forecast_coverage_80_percent", "forecast_coverage_95_percent"), SUMMARY),
            **dict.fromkeys(("false_alarms_a_year_expected", "ahead_brier", "ahead_brier_constant"), SUMMARY),
            **dict.fromkeys(("ahead_said_percent", "ahead_came_percent"), SUMMARY),
            "surges_confirmed": Derived(whole=("current",)),
            "series_above_threshold": Derived(whole=("current",)),
            "smallest_adjusted_p_value": Derived(whole=("current",)),
        },
    )
