"""Beds ahead if there were more or fewer admissions, or stays were longer or shorter, than the forecast has it."""

from __future__ import annotations

from dataclasses import dataclass

from medisync.analyses.contract import Finding, Result, Scalar, Table
from medisync.analyses.patient_volume_figures import census_figure, whole
from medisync.analyses.patient_volume_prediction import (
    ANALYSIS,
    Inputs,
    Params,
    bed_census,
    beds_now,
    census_table,
    volume_panel,
)
from medisync.errors import NoDataError
from medisync.stats.census import Census
from medisync.stats.forecasting import Forecast, forecast_panel

TITLE = "Beds ahead: what if"


@dataclass(frozen=True)
class BedChange:
    """Percent by which admissions and stays differ from the forecast, both above -100; ``beds`` there are, if known."""

    admissions_percent: int = 0
    stay_percent: int = 0
    beds: int | None = None

    @property
    def is_none(self) -> bool:
        """Whether it is the forecast as it is."""
        return self.admissions_percent == 0 and self.stay_percent == 0


@dataclass(frozen=True)
class BedOutlook:
    """The forecast a census is drawn from; made once, it answers every change."""

    inputs: Inputs
    params: Params
    forecast: Forecast


def bed_outlook(inputs: Inputs, params: Params) -> BedOutlook:
    """The forecast of ``params``, as :func:`~medisync.analyses.patient_volume_prediction.compute` makes it."""
    panel = volume_panel(inputs, params)
    return BedOutlook(inputs, params, forecast_panel(panel, params.horizon, method=params.method, orders=inputs.orders))


def bed_what_if(outlook: BedOutlook, change: BedChange) -> Result:
    """The census with ``change``, its picture and what it amounts to; raises NoDataError where stays are unknown."""
    without = _census(outlook, BedChange(beds=change.beds))
    changed = without if change.is_none else _census(outlook, change)
    highest = float(changed.mean.max())
    metrics: dict[str, Scalar] = {
        "beds": change.beds,
        "beds_occupied_now": beds_now(outlook.inputs),
        "beds_occupied_highest_mean": round(highest, 1),
        "beds_occupied_highest_mean_without_change": round(float(without.mean.max()), 1),
        "probability_more_beds_needed_percent": _percent(changed),
        "probability_without_change_percent": _percent(without),
        "admissions_percent": change.admissions_percent,
        "stay_percent": change.stay_percent,
    }
    table = census_table(changed, outlook.inputs.last_day)
    if not change.is_none:
        table["mean_without_change"] = without.mean.round(1)
    result = Result(
        analysis=ANALYSIS,
        title=TITLE,
        headline=_headline(metrics, change, len(changed.mean)),
        finding=Finding.DESCRIPTION,
        data_from=outlook.inputs.first_day,
        data_until=outlook.inputs.reported.last_day,
        metrics=metrics,
        tables={"census": Table.from_frame("Occupied beds at midnight", table)},
    )
    return result.with_figures([census_figure(result)])


def _census(outlook: BedOutlook, change: BedChange) -> Census:
    found = bed_census(
        outlook.inputs,
        Params.checked({**outlook.params.model_dump(), "beds": change.beds}),
        outlook.forecast,
        admissions_factor=1 + change.admissions_percent / 100,
        stay_factor=1 + change.stay_percent / 100,
    )
    if found is None:
        raise NoDataError(
            "No stay has ended yet, so that beds cannot be foreseen.", hint="Deliver days of discharge, too."
        )
    return found


def _percent(census: Census) -> float | None:
    return None if census.exceeding_any is None else round(100 * census.exceeding_any, 1)


def _headline(metrics: dict[str, Scalar], change: BedChange, days: int) -> str:
    def occupied(name: str) -> str:
        return whole(float(metrics[name] or 0))

    parts = []
    if change.admissions_percent:
        parts.append(f"{abs(change.admissions_percent)} % {'more' if change.admissions_percent > 0 else 'fewer'} "
                     "admissions")  # fmt: skip
    if change.stay_percent:
        parts.append(f"stays {abs(change.stay_percent)} % {'longer' if change.stay_percent > 0 else 'shorter'}")
    now, highest = f"{metrics['beds_occupied_now']:,}", occupied("beds_occupied_highest_mean")
    ahead = f"of the next {days} nights" if days > 1 else "tonight"
    told = f"on the fullest {ahead} about {highest} beds are occupied" if days > 1 else f"about {highest} {ahead}"
    if parts:
        before = occupied("beds_occupied_highest_mean_without_change")
        sentence = f"With {' and '.join(parts)} {told}, instead of {before}; now it is {now}."
    else:
        sentence = f"As forecast, {told}; now it is {now}."
    if change.beds is None:
        return sentence
    chance = f"More than {change.beds:,} are needed on one night or more with probability {_chance(metrics)}"
    if parts:
        chance += f", without the change {_chance(metrics, 'probability_without_change_percent')}"
    return f"{sentence} {chance}."


def _chance(metrics: dict[str, Scalar], name: str = "probability_more_beds_needed_percent") -> str:
    """A share of sample paths as a probability: none of them is not never."""
    share = float(metrics[name] or 0)
    return "below 1 %" if share < 1 else "above 99 %" if share > 99 else f"{share:.0f} %"
