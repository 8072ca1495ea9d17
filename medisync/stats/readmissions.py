"""Readmissions: which stays count, how often patients come back, and which units stand out.

Rules, after those of the US hospital-wide measure (CMS, Hospital-Wide All-Cause Unplanned Readmission Measure,
methodology report) as far as admissions alone allow:

- An *index stay* ended with a discharge at least the follow-up time before the last admission on record, since a later
  one has not been watched long enough.
- A stay that the same patient's next admission begins in or on the day of discharge of was a transfer; it is no index
  stay, its successor may be one.
- A *readmission* is the same patient's next admission, at any site, within the follow-up time. One that was planned is
  none, if so asked, and ends the follow-up.
- Deaths and transfers out are not on record; whoever died cannot come back, so rates are a little low.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from medisync.stats.funnel import Funnel, funnel, wilson_interval
from medisync.stats.multiplicity import adjust_benjamini_hochberg

if TYPE_CHECKING:
    import pandas as pd

COUNTED = ("stays", "index_stays", "readmitted", "no_discharge", "transfers", "too_recent")
"""What is told of all stays."""

STANDS_OUT, AS_EXPECTED, TOO_FEW = "stands out", "as expected", "too few to say"


def compare_units(counts: pd.DataFrame, *, least_stays: int, alpha: float) -> tuple[pd.DataFrame, Funnel | None]:
    """Rates of units with intervals, and which stand out.

    ``counts`` has the columns ``unit``, ``index_stays``, ``readmitted``, a row per unit. The answer has one row for
    each unit with at least ``least_stays``, by name, and one, last, for the others together: unit, index_stays,
    readmitted, rate_percent, low_percent, high_percent (95 %), z, p_adjusted (Benjamini-Hochberg), verdict. The
    funnel is None when fewer than two units are large enough.
    """
    import pandas as pd

    _check(counts, ("unit", "index_stays", "readmitted"))
    known = counts[counts["index_stays"] > 0].sort_values("unit", ignore_index=True)
    large = known[known["index_stays"] >= least_stays].reset_index(drop=True)
    small = known[known["index_stays"] < least_stays]
    table = large[["unit", "index_stays", "readmitted"]].copy()
    found = funnel(table["readmitted"], table["index_stays"]) if len(table) > 1 else None
    table["z"] = found.z if found else float("nan")
    table["p_adjusted"] = adjust_benjamini_hochberg(found.p_values) if found else float("nan")
    table["verdict"] = [
        TOO_FEW if found is None else STANDS_OUT if p <= alpha else AS_EXPECTED for p in table["p_adjusted"]
    ]
    if len(small):
        others = {
            "unit": f"{len(small):,} with fewer than {least_stays} stays",
            "index_stays": int(small["index_stays"].sum()),
            "readmitted": int(small["readmitted"].sum()),
            "z": float("nan"),
            "p_adjusted": float("nan"),
            "verdict": TOO_FEW,
        }
        rest = pd.DataFrame([others])
        table = pd.concat([table, rest], ignore_index=True) if len(table) else rest
    low, high = wilson_interval(table["readmitted"], table["index_stays"])
    table.insert(3, "rate_percent", 100 * table["readmitted"] / table["index_stays"])
    table.insert(4, "low_percent", 100 * low)
    table.insert(5, "high_percent", 100 * high)
    return table, found


def overall(counts: pd.DataFrame) -> dict[str, float]:
    """Rate and interval, in percent, of the one row of ``counts``; NaN when nobody was followed."""
    _check(counts, ("index_stays", "readmitted"))
    stays, readmitted = int(counts["index_stays"].sum()), int(counts["readmitted"].sum())
    low, high = wilson_interval([readmitted], [stays])
    rate = readmitted / stays if stays else float("nan")
    return {"rate_percent": 100 * rate, "low_percent": 100 * float(low[0]), "high_percent": 100 * float(high[0])}


def standing_out(*tables: pd.DataFrame) -> list[str]:
    """The units that stand out, with their rates, in the tables' order."""
    return [
        f"{row.unit} ({row.rate_percent:.1f} %)"
        for table in tables
        for row in table.itertuples()
        if row.verdict == STANDS_OUT
    ]


def headline(rate: dict[str, float], stays: int, days: int, what: str, *tables: pd.DataFrame) -> str:
    """One honest sentence; ``what`` names the readmissions counted ("unplanned readmission")."""
    if not stays:
        return f"No stay could be followed for {days} days after its discharge, so nothing can be said."
    told = (
        f"{_digits(rate['rate_percent'])} % of {stays:,} stays were followed by an {what} within {days} days "
        f"(95 % interval {_digits(rate['low_percent'])} to {_digits(rate['high_percent'])} %)"
    )
    named = standing_out(*tables)
    if named:
        return f"{told}; beyond chance: {', '.join(named[:5])}{' and others' if len(named) > 5 else ''}."
    if any((table["verdict"] == AS_EXPECTED).any() for table in tables):
        return f"{told}; no site and no condition large enough to compare stands out beyond chance."
    return f"{told}; there are too few stays at any two sites or conditions to compare them."


def _digits(percent: float) -> str:
    return f"{percent:.1f}" if percent >= 1 else f"{percent:.2g}"


def _check(counts: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in counts.columns]
    if missing:
        raise ValueError(f"counts lack {', '.join(missing)}")


def cautions(total: Mapping[str, object], days: int, *funnels: Funnel | None) -> tuple[str, ...]:
    """What a reader should know: stays left out, and limits that were widened."""
    told = []
    for name, why in (
        ("no_discharge", "have no discharge on record"),
        ("too_recent", f"ended too recently to be followed for {days} days"),
    ):
        number = int(str(total[name]))
        if number:
            told.append(f"{number:,} stays {why} and are left out.")
    if any(one is not None and one.between_variance > 0 for one in funnels):
        told.append("Units differ more than chance alone explains; the limits were widened for it.")
    return tuple(told)
