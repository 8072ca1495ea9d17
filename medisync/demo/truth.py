"""What demo data contain, written down beside them so that tests and people can look for it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlantedCondition(_Fact):
    """One condition: how common, when in the year, growing or not, and whom it strikes."""

    name: str
    share: float = Field(description="of all admissions outside outbreaks")
    season_amplitude: float = Field(description="of the log of the expected count, one cosine a year")
    season_peak_week: int
    growth_per_year: float = Field(description="0.05 means 5 % more each year")
    dispersion: float = Field(description="variance of a week's count divided by its mean, trend and season apart")
    female_share: float
    age_mean_years: float
    age_deviation_years: float


class PlantedMedication(_Fact):
    """One medication and its share of all prescriptions."""

    name: str
    share: float


class PlantedOutbreak(_Fact):
    """Extra cases of one condition at one site (None: all sites), by week from ``first_week``, a Monday."""

    condition: str
    site: str | None
    first_week: dt.date
    cases_by_week: tuple[int, ...]
    size_deviations: float = Field(description="expected extra cases, in standard deviations of a usual week")


class ReportingGap(_Fact):
    """Days on which one site (None: every site) sent nothing."""

    site: str | None
    first_day: dt.date
    last_day: dt.date


class DemoTruth(_Fact):
    """All that was planted. Whatever is not listed was drawn independently and carries no signal."""

    seed: int
    rows: int
    first_day: dt.date
    last_day: dt.date
    sites: tuple[str, ...]
    site_shares: tuple[float, ...]
    weekday_factors: tuple[float, ...] = Field(description="Monday to Sunday, mean 1")
    conditions: tuple[PlantedCondition, ...]
    medications: tuple[PlantedMedication, ...]
    pareto_shape: float = Field(description="tail index of the medications' shares; 1.16 makes 20 % of them carry 80 %")
    outbreaks: tuple[PlantedOutbreak, ...]
    gaps: tuple[ReportingGap, ...]
    readmission_share: float
    independent: tuple[str, ...] = Field(description="columns without any planted association")

    def write(self, path: Path) -> None:
        """Write the truth as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
