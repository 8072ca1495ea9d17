"""The figures of :mod:`medisync.analyses.patient_demographics`, drawn from its tables alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medisync.analyses.contract import Figure, Result
from medisync.analyses.figure_ticks import name_ticks
from medisync.analyses.figures import ACCENT, CALM, INK, PALETTE, WARN, as_figure, canvas
from medisync.stats.age_bands import UNKNOWN
from medisync.stats.standardised_difference import NEGLIGIBLE


def pyramid(result: Result) -> Figure:
    """Patients by age band, women to the left, men to the right, others and unknowns in grey."""
    table = result.frame("pyramid")
    bands = list(table["age_band"].unique())
    by = table.pivot(index="age_band", columns="gender", values="patients").loc[bands]
    before = table.pivot(index="age_band", columns="gender", values="patients_before").loc[bands]
    if by.loc[UNKNOWN].sum() + before.loc[UNKNOWN].sum() == 0:
        by, before, bands = by.drop(index=UNKNOWN), before.drop(index=UNKNOWN), bands[:-1]
    places = np.arange(len(bands))
    neither = by["other"] + by["unknown"]
    drawing, axes = canvas(7.2, 1.3 + 0.3 * len(bands))
    axes.barh(places, -by["female"], color=PALETTE[3], height=0.8, label="women")
    axes.barh(places, by["male"], color=ACCENT, height=0.8, label="men")
    if neither.sum():
        axes.barh(places, neither, left=by["male"], color=CALM, height=0.8, label="other or unknown")
    if before.to_numpy().sum():
        for side in (-before["female"], before["male"]):
            axes.plot(side, places, "|", color=INK, markersize=11, label="period before")
    reach = 1.08 * max(
        1.0, float((by["male"] + neither).max()), float(by["female"].max()), float(before.to_numpy().max())
    )
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color=INK, linewidth=0.8)
    name_ticks(axes.yaxis, places, bands)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    axes.set_ylabel("Age, years")
    axes.set_xlabel("Patients in the latest period")
    axes.grid(visible=False, axis="y")
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    drawing.legend(once.values(), once.keys(), loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    totals = {"women": by["female"], "men": by["male"], "other": by["other"], "of unknown gender": by["unknown"]}
    told = [f"{int(counts.sum()):,} {name}" for name, counts in totals.items() if counts.sum()]
    return as_figure(
        drawing,
        name="age-pyramid",
        title="Age and gender of the patients in the latest period",
        alt=f"Pyramid over {len(bands)} age bands: {', '.join(told)}.",
        table="pyramid",
    )


def change(comparison: pd.DataFrame) -> Figure:
    """Standardised differences to the period before, with intervals and the negligible range."""
    rows = comparison.iloc[::-1].reset_index(drop=True)
    drawing, axes = canvas(7.2, 1.1 + 0.36 * len(rows))
    reach = max(0.2, 1.1 * float(rows[["low", "high"]].abs().to_numpy(np.float64).max()))
    axes.axvspan(-NEGLIGIBLE, NEGLIGIBLE, color=CALM, alpha=0.15, linewidth=0)
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, row in rows.iterrows():
        colour = WARN if row["verdict"] == "changed" else CALM
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=3, alpha=0.6)
        axes.plot(row["standardised_difference"], place, "o", color=colour, markersize=7)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    name_ticks(axes.yaxis, range(len(rows)), list(rows["characteristic"]))
    axes.set_xlabel("Standardised difference to the period before (shaded: negligible; bar: 95 % interval)")
    axes.grid(visible=False, axis="y")
    told = [
        f"{row['characteristic']} {row['standardised_difference']:.2f} ({row['verdict']})"
        for _, row in rows.iloc[::-1].iterrows()
    ]
    return as_figure(
        drawing,
        name="change-since-previous-period",
        title="What changed since the period before",
        alt=f"Standardised differences: {'; '.join(told)}.",
        table="comparison",
    )
