"""What stands on top of the overview because somebody should look at it now."""

from __future__ import annotations

from dataclasses import dataclass

from medisync.analyses.contract import Scalar
from medisync.dashboards.reading import View
from medisync.runs.published import Freshness

SURGES = "illness_surge_prediction"
MOST_SURGES = 5


@dataclass(frozen=True)
class Alert:
    """``kind`` is a word that stands beside the colour; ``leads`` is an address on this page or another page."""

    kind: str  # surge, failed, stale, refused
    label: str
    says: str
    leads: str = ""


def alerts(view: View) -> list[Alert]:
    """Confirmed surges, then what is failed or out of date, then a newest delivery that was refused."""
    found = [*_surges(view)]
    for one in view.shelf:
        if one.freshness in (Freshness.FAILED, Freshness.STALE):
            label = "Failed" if one.freshness is Freshness.FAILED else "Out of date"
            found.append(
                Alert(one.freshness.value, label, f"{one.title}: {one.reason or ''}", f"#title-{one.analysis}")
            )
    latest = view.deliveries[0] if view.deliveries else None
    if latest is not None and latest.status == "refused":
        name = latest.file_label or "A file"
        found.append(Alert("refused", "Refused", f"{name}: {latest.message or ''}", "#deliveries"))
    return found


def watched(view: View) -> bool:
    """Whether the alerts above hold every surge there is: only then their absence says something. Of what was released
    a surge may be withheld."""
    one = view.of(SURGES)
    return view.is_whole and one is not None and one.result is not None


def _surges(view: View) -> list[Alert]:
    one = view.of(SURGES)
    table = one.result.tables.get("alerts") if one is not None and one.result is not None else None
    if table is None or not {"state", "says"} <= set(table.columns):  # of a released result, perhaps
        return []
    rows: list[dict[str, Scalar]] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    confirmed = [row for row in rows if row["state"] == "surge"]
    leads = "voila/render/surges.ipynb"
    found = [Alert("surge", "Surge", str(row["says"]), leads) for row in confirmed[:MOST_SURGES]]
    if len(confirmed) > MOST_SURGES:
        found.append(Alert("surge", "Surge", f"{len(confirmed) - MOST_SURGES:,} further series.", leads))
    return found
