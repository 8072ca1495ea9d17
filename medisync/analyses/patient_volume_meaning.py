"""What the numbers of the patient volumes are (see :mod:`medisync.analyses.meaning`)."""

from __future__ import annotations

from medisync.analyses.meaning import LABEL, SUMMARY, Count, Derived, Disclosure, Meaning, TableMeaning

PERIOD = {"daily": "day", "weekly": "week", "monthly": "month"}
COUNTED = ("published_forecasts_scored", "published_origins")
"""Numbers of forecasts, not of people."""
SCORES = ("published_mean_absolute_error", "published_inside_80_percent", "published_skill_against_mean_percent")
OF_HISTORY = Derived(whole=("history",))
"""The error of one forecast says how many came."""
OF_BEDS = Derived(whole=("beds_occupied_now",))


def disclosure(frequency: str, site: str | None) -> Disclosure:
    """The declaration for counts per period of ``frequency`` at ``site`` (None: all)."""
    where = {"site": site} if site else {}
    names = ("complete_periods", "method", "verdict", "backtest_origins", "horizon", "frequency", "beds", *COUNTED)
    summaries = (
        *(f"mean_per_{period}" for period in PERIOD.values()),
        *("next_period_median", "next_period_lower_80", "next_period_upper_80"),
        *("accuracy_test_p_value", "mase", "weighted_interval_score"),
        *("skill_against_mean_percent", "skill_against_seasonal_naive_percent"),
        *("coverage_50_percent", "coverage_80_percent", "coverage_95_percent"),
    )
    metrics: dict[str, Meaning] = {
        "admissions": Count(of="admissions", where=where),
        **dict.fromkeys(names, LABEL),
        **dict.fromkeys(summaries, SUMMARY),
        **dict.fromkeys(SCORES, OF_HISTORY),
        "beds_occupied_now": Count(of="occupied beds", where={**where, "day": "{data_until}"}),
        "beds_occupied_highest_mean": OF_BEDS,
        "probability_more_beds_needed_percent": OF_BEDS,
    }
    period = PERIOD[frequency]
    return Disclosure(
        population="admissions",
        headline_uses=("forecast", "accuracy", "beds_occupied_now"),
        figures_use={
            "volume_forecast": ("history", "forecast"),
            "census": ("census", "beds_occupied_now"),
            "published": ("published",),
        },
        tables={
            "history": TableMeaning(
                ordered_by="labels",
                columns={
                    "period": LABEL,
                    "admissions": Count(of="admissions", by={period: "period"}, where=where),
                },
            ),
            "forecast": TableMeaning(ordered_by="labels", columns={"period": LABEL, "step": LABEL}, others=SUMMARY),
            "accuracy": TableMeaning(
                ordered_by="labels", columns={"method": LABEL, "used": LABEL, "verdict": LABEL}, others=SUMMARY
            ),
            "scoreboard": TableMeaning(ordered_by="labels", others=OF_HISTORY),
            "published": TableMeaning(
                ordered_by="labels",
                columns={
                    "period": LABEL,
                    "step": LABEL,
                    "admissions": Count(of="admissions", by={period: "period"}, where=where),
                },
                others=SUMMARY,
            ),
            "census": TableMeaning(ordered_by="labels", columns={"day": LABEL}, others=OF_BEDS),
        },
        metrics=metrics,
    )
