"""The figure of :mod:`medisync.analyses.medication_analysis`, drawn from its tables alone."""

from __future__ import annotations

import numpy as np

from medisync.analyses.contract import Figure, Result
from medisync.analyses.figure_ticks import name_ticks
from medisync.analyses.figures import ACCENT, CALM, INK, PALETTE, WARN, as_figure, canvas
from medisync.analyses.phrases import shortened

MOST_BARS = 25
CLASS_COLOURS = {"A": ACCENT, "B": PALETTE[4], "C": CALM}


def shares(result: Result) -> Figure:
    """Share of each medication against even use; with classes and the cumulative share where use is uneven."""
    every = result.frame("medications")
    ranking = every.head(MOST_BARS)
    uneven = result.frame("concentration")["verdict"].iloc[0] == "uneven"
    places, even = np.arange(len(ranking)), 100 / len(every)
    by_prescriptions = 100 * ranking["prescriptions_share"].to_numpy(np.float64)
    by_patients = 100 * ranking["patients_share"].to_numpy(np.float64)
    drawing, axes = canvas(7.2, 3.8 if len(ranking) < 8 else 4.6)
    shades = [CLASS_COLOURS.get(str(name), CALM) for name in ranking["prescriptions_class"]]
    axes.bar(places, by_prescriptions, color=shades, width=0.7, label="prescriptions")
    axes.plot(places, by_patients, "D", color=WARN, markersize=5, label="patients")
    axes.axhline(even, color=INK, linestyle="--", linewidth=1.2, label="even use")
    axes.set_ylabel("Share, %")
    if uneven:
        axes.plot(
            places, 100 * ranking["prescriptions_cumulative_share"].to_numpy(np.float64), color=PALETTE[1],
            marker="o", markersize=3, label="prescriptions, cumulative",
        )  # fmt: skip
        axes.set_ylim(0, 105)
        above = np.maximum(np.maximum(by_prescriptions, by_patients), even)
        for place, (height, name) in enumerate(zip(above, ranking["prescriptions_class"], strict=True)):
            axes.annotate(
                str(name), (place, height), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
            )
    else:
        axes.set_ylim(0, 1.25 * max(by_prescriptions.max(), by_patients.max(), even))
    short = len(ranking) < 7
    names = [shortened(str(name), 14 if short else 22) for name in ranking["medication"]]
    name_ticks(axes.xaxis, places, names, turned=0 if short else 50)
    axes.grid(visible=False, axis="x")
    drawing.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    told = [f"{name} {share:.1f} %" for name, share in zip(ranking["medication"][:10], by_prescriptions, strict=False)]
    left_out = f" The {MOST_BARS} most frequent of {len(every)} are drawn." if len(every) > MOST_BARS else ""
    return as_figure(
        drawing,
        name="medication-shares",
        title="Share of each medication" + (", with Pareto classes A, B, C" if uneven else " and even use"),
        alt=f"Share of prescriptions: {'; '.join(told)}. Even use would be {even:.1f} % each.{left_out}",
        table="medications",
    )
