"""The plan of demo data: expected admissions of each day, site and condition, and the numbers drawn from it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.demo.truth import DemoTruth, PlantedCondition, PlantedMedication, PlantedOutbreak, ReportingGap
from medisync.errors import ParameterError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

CONDITIONS = (
    PlantedCondition(
        name="Influenza",
        share=0.1,
        season_amplitude=1.0,
        season_peak_week=5,
        growth_per_year=0.0,
        dispersion=3.0,
        female_share=0.5,
        age_mean_years=45.0,
        age_deviation_years=28.0,
    ),
    PlantedCondition(
        name="Asthma",
        share=0.12,
        season_amplitude=0.25,
        season_peak_week=20,
        growth_per_year=0.02,
        dispersion=1.3,
        female_share=0.56,
        age_mean_years=32.0,
        age_deviation_years=20.0,
    ),
    PlantedCondition(
        name="Chronic obstructive pulmonary disease",
        share=0.11,
        season_amplitude=0.35,
        season_peak_week=3,
        growth_per_year=0.0,
        dispersion=1.2,
        female_share=0.44,
        age_mean_years=69.0,
        age_deviation_years=10.0,
    ),
    PlantedCondition(
        name="Heart failure",
        share=0.14,
        season_amplitude=0.15,
        season_peak_week=2,
        growth_per_year=0.05,
        dispersion=1.2,
        female_share=0.47,
        age_mean_years=76.0,
        age_deviation_years=10.0,
    ),
    PlantedCondition(
        name="Hypertension",
        share=0.15,
        season_amplitude=0.0,
        season_peak_week=1,
        growth_per_year=0.0,
        dispersion=1.1,
        female_share=0.52,
        age_mean_years=62.0,
        age_deviation_years=14.0,
    ),
    PlantedCondition(
        name="Type 2 diabetes",
        share=0.15,
        season_amplitude=0.0,
        season_peak_week=1,
        growth_per_year=0.08,
        dispersion=1.1,
        female_share=0.45,
        age_mean_years=60.0,
        age_deviation_years=13.0,
    ),
    PlantedCondition(
        name="Hip fracture",
        share=0.07,
        season_amplitude=0.2,
        season_peak_week=1,
        growth_per_year=0.0,
        dispersion=1.1,
        female_share=0.72,
        age_mean_years=80.0,
        age_deviation_years=9.0,
    ),
    PlantedCondition(
        name="Preeclampsia",
        share=0.05,
        season_amplitude=0.0,
        season_peak_week=1,
        growth_per_year=0.0,
        dispersion=1.0,
        female_share=1.0,
        age_mean_years=30.0,
        age_deviation_years=6.0,
    ),
    PlantedCondition(
        name="Appendicitis",
        share=0.07,
        season_amplitude=0.1,
        season_peak_week=28,
        growth_per_year=0.0,
        dispersion=1.0,
        female_share=0.46,
        age_mean_years=24.0,
        age_deviation_years=14.0,
    ),
    PlantedCondition(
        name="Norovirus gastroenteritis",
        share=0.04,
        season_amplitude=0.7,
        season_peak_week=4,
        growth_per_year=0.0,
        dispersion=2.0,
        female_share=0.53,
        age_mean_years=50.0,
        age_deviation_years=27.0,
    ),
)
MEDICATIONS = (
    "Alvorin",
    "Benzatil",
    "Corvanol",
    "Dexaprim",
    "Elomycin",
    "Fentorax",
    "Glucovar",
    "Hypotensil",
    "Ibrumed",
    "Juvanol",
    "Kaltrapin",
    "Lumezol",
    "Metorvan",
    "Nexalin",
    "Opticort",
    "Pulmovent",
    "Quintasil",
    "Rivomax",
    "Salbuten",
    "Torvastin",
)
SITE_NAMES = (
    "North",
    "South",
    "East",
    "West",
    "Harbour",
    "Hill",
    "Lake",
    "Park",
    "River",
    "Forest",
    "Castle",
    "Mill",
)
WEEKDAYS = (1.22, 1.12, 1.06, 1.04, 1.02, 0.80, 0.74)
PARETO_SHAPE = 1.16
READMISSION_SHARE = 0.25
LAST_DAY = dt.date(2024, 12, 29)
OUTBREAK_SHAPE = (0.2, 0.35, 0.25, 0.15, 0.05)
"""Share of an outbreak's cases in its first to fifth week."""


@dataclass(frozen=True)
class Plan:
    """``counts``: (days, sites, conditions) admissions to write; ``truth`` says why."""

    counts: IntArray
    truth: DemoTruth


def make_plan(*, rows: int, years: int, sites: int, seed: int, outbreaks: bool, gaps: bool, last_day: dt.date) -> Plan:
    """Draw the number of admissions of each day, site and condition; they add up to ``rows``."""
    _check(rows, years, sites, seed)
    rng = np.random.default_rng(seed)
    first_day = last_day - dt.timedelta(days=7 * round(years * 365.2425 / 7) - 1)
    days = (last_day - first_day).days + 1
    names = tuple(
        f"Demo Hospital {SITE_NAMES[i]}" if i < len(SITE_NAMES) else f"Demo Hospital {i + 1}" for i in range(sites)
    )
    shares = np.arange(1, sites + 1, dtype=np.float64) ** -0.6
    shares /= shares.sum()
    planted = CONDITIONS
    silent = _gaps(names, first_day, days) if gaps else ()
    mean = _expected(planted, shares, first_day, days)
    for gap in silent:
        where = slice(None) if gap.site is None else names.index(gap.site)
        mean[(gap.first_day - first_day).days : (gap.last_day - first_day).days + 1, where] = 0.0
    mean *= rows / mean.sum()
    extra, found = _outbreaks(planted, names, shares, mean, first_day, silent, rng) if outbreaks else (None, ())
    ordinary = rows - (int(extra.sum()) if extra is not None else 0)
    counts = _drawn(mean * (ordinary / rows), planted, rng)
    counts = _exactly(counts, mean, ordinary, rng)
    medications = _medications()
    truth = DemoTruth(
        seed=seed,
        rows=rows,
        first_day=first_day,
        last_day=last_day,
        sites=names,
        site_shares=tuple(shares.round(6).tolist()),
        weekday_factors=WEEKDAYS,
        conditions=planted,
        medications=medications,
        pareto_shape=PARETO_SHAPE,
        outbreaks=found,
        gaps=silent,
        readmission_share=READMISSION_SHARE,
        independent=("Blood Type", "Insurance Provider", "Medication", "Test Results", "Doctor", "Room Number"),
    )
    return Plan(counts if extra is None else counts + extra, truth)


def _check(rows: int, years: int, sites: int, seed: int) -> None:
    if not 1_000 <= rows <= 100_000_000:
        raise ParameterError("Demo data have 1,000 to 100,000,000 rows.")
    if not 1 <= years <= 20:
        raise ParameterError("Demo data cover 1 to 20 years.")
    if not 1 <= sites <= 200:
        raise ParameterError("Demo data have 1 to 200 sites.")
    if seed < 0:
        raise ParameterError("The seed must not be negative.")


def _expected(planted: tuple[PlantedCondition, ...], shares: FloatArray, first_day: dt.date, days: int) -> FloatArray:
    """(days, sites, conditions), any scale."""
    day = np.arange(days)
    date = np.datetime64(first_day) + day
    year_day = (date - date.astype("datetime64[Y]")).astype(np.float64)
    weekday = np.asarray(WEEKDAYS)[(first_day.weekday() + day) % 7]
    by_condition = np.empty((days, len(planted)))
    for column, one in enumerate(planted):
        season = one.season_amplitude * np.cos(2 * np.pi * (year_day - 7.0 * one.season_peak_week) / 365.2425)
        trend = np.log1p(one.growth_per_year) * day / 365.2425
        curve = np.exp(season + trend)
        by_condition[:, column] = one.share * curve / curve.mean()
    mean: FloatArray = weekday[:, None, None] * shares[None, :, None] * by_condition[:, None, :]
    return mean


def _gaps(names: tuple[str, ...], first_day: dt.date, days: int) -> tuple[ReportingGap, ...]:
    """One site silent for three weeks, and everything silent for four days."""
    site_start = first_day + dt.timedelta(days=int(days * 0.45) // 7 * 7)
    all_start = first_day + dt.timedelta(days=int(days * 0.30) // 7 * 7 + 2)
    silent = [ReportingGap(site=None, first_day=all_start, last_day=all_start + dt.timedelta(days=3))]
    if len(names) > 1:
        silent.append(ReportingGap(site=names[-1], first_day=site_start, last_day=site_start + dt.timedelta(days=20)))
    return tuple(silent)


def _outbreaks(
    planted: tuple[PlantedCondition, ...],
    names: tuple[str, ...],
    shares: FloatArray,
    mean: FloatArray,
    first_day: dt.date,
    silent: tuple[ReportingGap, ...],
    rng: np.random.Generator,
) -> tuple[IntArray, tuple[PlantedOutbreak, ...]]:
    """Three outbreaks: one everywhere, one at the largest site, and one that has reached its height at the end."""
    days = len(mean)
    weeks = days // 7
    monday = -first_day.weekday() % 7
    wanted = (
        ("Asthma", None, int(weeks * 0.62), 16.0),
        ("Appendicitis", 0, int(weeks * 0.80), 16.0),
        ("Norovirus gastroenteritis", None, weeks - 2, 25.0),
    )
    extra = np.zeros(mean.shape, dtype=np.int64)
    found = []
    for name, site, week, size in wanted:
        column = next(i for i, one in enumerate(planted) if one.name == name)
        start = monday + 7 * week
        usual = mean[start : start + 7, :, column] if site is None else mean[start : start + 7, site : site + 1, column]
        deviation = max(float(np.sqrt(planted[column].dispersion * usual.sum())), 1.0)
        by_week = []
        for step, share in enumerate(OUTBREAK_SHAPE):
            at = start + 7 * step
            if at + 7 > days:
                break
            cases = int(rng.poisson(size * deviation * share))
            by_week.append(cases)
            weights = np.outer(WEEKDAYS, shares if site is None else np.eye(len(shares))[site])
            weights[_silent_days(silent, names, first_day, at)] = 0.0
            spread = rng.multinomial(cases, (weights / weights.sum()).ravel())
            extra[at : at + 7, :, column] += spread.reshape(weights.shape)
        found.append(
            PlantedOutbreak(
                condition=name,
                site=None if site is None else names[site],
                first_week=first_day + dt.timedelta(days=start),
                cases_by_week=tuple(by_week),
                size_deviations=size,
            )
        )
    return extra, tuple(found)


def _silent_days(
    silent: tuple[ReportingGap, ...], names: tuple[str, ...], first_day: dt.date, at: int
) -> NDArray[np.bool_]:
    """(7, sites): which days of the week from day ``at`` lie in a gap."""
    quiet = np.zeros((7, len(names)), dtype=bool)
    for gap in silent:
        for day in range(7):
            if gap.first_day <= first_day + dt.timedelta(days=at + day) <= gap.last_day:
                quiet[day, slice(None) if gap.site is None else names.index(gap.site)] = True
    return quiet


def _drawn(mean: FloatArray, planted: tuple[PlantedCondition, ...], rng: np.random.Generator) -> IntArray:
    """Poisson numbers whose mean varies from week to week, so that weeks are overdispersed as planted."""
    days, _, conditions = mean.shape
    week = np.arange(days) // 7
    factor = np.ones((week[-1] + 1, conditions))
    for column, one in enumerate(planted):
        if one.dispersion > 1.0:
            weekly = np.bincount(week, mean[:, :, column].sum(axis=1))
            shape = np.maximum(weekly / (one.dispersion - 1.0), 1e-6)
            factor[:, column] = rng.gamma(shape) / shape
    return rng.poisson(mean * factor[week][:, None, :])


def _exactly(counts: IntArray, mean: FloatArray, total: int, rng: np.random.Generator) -> IntArray:
    """Add or take away single admissions at random until there are ``total``."""
    missing = total - int(counts.sum())
    if missing > 0:
        return counts + rng.multinomial(missing, (mean / mean.sum()).ravel()).reshape(counts.shape)
    if missing < 0:
        taken = rng.multivariate_hypergeometric(counts.ravel(), -missing, method="marginals")
        return counts - taken.reshape(counts.shape)
    return counts


def _medications() -> tuple[PlantedMedication, ...]:
    """Shares that lie on a Pareto distribution's Lorenz curve, 1 - (1 - F) ** (1 - 1 / shape); largest first."""
    edge = np.arange(len(MEDICATIONS) + 1) / len(MEDICATIONS)
    share = np.diff(edge ** (1.0 - 1.0 / PARETO_SHAPE))
    return tuple(
        PlantedMedication(name=name, share=round(float(one), 6)) for name, one in zip(MEDICATIONS, share, strict=True)
    )
