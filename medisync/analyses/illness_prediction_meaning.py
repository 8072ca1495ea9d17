"""What the numbers of the illness prediction are (see :mod:`medisync.analyses.meaning`).

Not declared, so never released: patients beside admissions, the cases of known and unknown groups (both give few
unknown ones away), and the smallest expected count (a product of margins). Expected counts and residuals hold the
margins, too: they are shown while no count of the grid is withheld.
"""

from __future__ import annotations

from medisync.analyses.meaning import LABEL, SUMMARY, Count, Derived, Disclosure, TableMeaning

OF_GRID = Derived(sources=("observed",), whole=("cells", "departures"))


def disclosure(factor: str | None) -> Disclosure:
    """The declaration; ``factor`` is the one whose grid is shown, None without one."""
    same = {"condition": LABEL, "group": LABEL}
    derived = dict.fromkeys(("expected", "adjusted_residual", "p_adjusted", "beyond_chance"), OF_GRID)
    return Disclosure(
        population="admissions_count",
        headline_uses=("factors.cramers_v", "cells", "departures"),
        figures_use={"association-strength": ("factors.cramers_v",), "departures-from-expected": ("cells",)},
        tables={
            "factors": TableMeaning(
                ordered_by="labels",
                columns={
                    **dict.fromkeys(("factor", "label", "groups", "degrees_of_freedom", "method"), LABEL),
                    **dict.fromkeys(("chi_square", "design_effect", "p_value", "p_adjusted"), SUMMARY),
                    **dict.fromkeys(("cramers_v", "cramers_v_low", "cramers_v_high", "w_high"), SUMMARY),
                    "strength": LABEL,
                    "verdict": LABEL,
                },
            ),
            "departures": TableMeaning(
                columns={
                    **same,
                    "factor": LABEL,
                    "observed": Count(of="admissions", by={"condition": "condition", "{factor}": "group"}),
                    **derived,
                }
            ),
            "cells": TableMeaning(
                ordered_by="labels",
                columns={
                    **same,
                    "observed": Count(of="admissions", by={"condition": "condition", factor or "group": "group"}),
                    **derived,
                },
            ),
        },
        metrics={
            "admissions_count": Count(of="admissions"),
            "conditions_count": LABEL,
            "factors_tested_count": LABEL,
            "factors_associated_count": LABEL,
            "smallest_adjusted_p_value": SUMMARY,
            "largest_cramers_v": SUMMARY,
            "alpha": LABEL,
        },
    )
