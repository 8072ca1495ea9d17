"""Weekly counts with known truth: quiet series of many kinds, and outbreaks of known size and date.

The design is the simulation of Noufaily et al. (2013) Stat Med 32:1206, section 4: negative-binomial (or Poisson)
counts with Var = dispersion * mean and
``log mean(t) = level + trend t + sum over j = 1..m of a cos(2 pi j t / 52) + b sin(2 pi j t / 52)``, seven
combinations of level, dispersion and season, each with and without trend, with no, one or two harmonics: 42
scenarios of 624 weeks of which the last 49 are judged. An outbreak's size is Poisson with mean ``k`` standard
deviations of the baseline, spread over the weeks after its start by a log-normal distribution (0, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError

FloatArray = NDArray[np.float64]

WEEKS = 624
JUDGED_WEEKS = 49
PAST_OUTBREAK_WEEKS = (313, 575)
"""First and last week (from 1) in which a past outbreak may start."""
PAST_OUTBREAK_SIZES = (2, 3, 5, 10)
OUTBREAK_LOG_SPREAD = 0.5


@dataclass(frozen=True)
class Scenario:
    """One kind of quiet series."""

    level: float
    dispersion: float
    trend: float
    cosine: float
    sine: float
    harmonics: int

    def mean(self) -> FloatArray:
        """(weeks,) expected counts of weeks 1 to 624."""
        t = np.arange(1, WEEKS + 1, dtype=np.float64)
        season = np.zeros(WEEKS)
        for j in range(1, self.harmonics + 1):
            season += self.cosine * np.cos(2 * np.pi * j * t / 52) + self.sine * np.sin(2 * np.pi * j * t / 52)
        return np.exp(self.level + self.trend * t + season)


KINDS = (  # level, dispersion, trend where there is one, cosine, sine
    (0.10, 1.5, 0.0025, 0.60, 0.60),
    (-2.00, 2.0, 0.0050, 0.10, 0.30),
    (1.50, 1.0, 0.0030, 0.20, -0.40),
    (0.50, 5.0, 0.0020, 0.50, 0.50),
    (2.50, 3.0, 0.0010, 1.00, 0.10),
    (3.75, 1.1, 0.0010, 0.10, -0.10),
    (5.00, 1.2, 0.0001, 0.05, 0.01),
)

SCENARIOS = tuple(
    Scenario(level, dispersion, trend * slope, cosine, sine, harmonics)
    for level, dispersion, trend, cosine, sine in KINDS
    for slope in (0.0, 1.0)
    for harmonics in (0, 1, 2)
)


def simulate_counts(mean: FloatArray, dispersion: float, *, series: int, rng: np.random.Generator) -> FloatArray:
    """(series, weeks) counts of mean ``mean`` (weeks,) and variance ``dispersion * mean``; Poisson for dispersion 1."""
    if dispersion < 1.0 or series < 1:
        raise ParameterError("The dispersion must be at least 1, and at least one series is needed.")
    shape = (series, mean.size)
    if dispersion == 1.0:
        return rng.poisson(np.broadcast_to(mean, shape)).astype(np.float64)
    size = np.broadcast_to(mean / (dispersion - 1.0), shape)
    return rng.negative_binomial(size, 1.0 / dispersion).astype(np.float64)


def simulate_outbreak(
    baseline_deviation: float, size_deviations: float, start: int, length: int, *, rng: np.random.Generator
) -> FloatArray:
    """(length,) extra cases of one outbreak that starts at position ``start``; cases beyond the end are lost."""
    extra = np.zeros(length)
    cases = int(rng.poisson(size_deviations * baseline_deviation))
    week = start + np.floor(rng.lognormal(0.0, OUTBREAK_LOG_SPREAD, cases)).astype(int)
    np.add.at(extra, week[week < length], 1.0)
    return extra


@dataclass(frozen=True)
class SimulatedSeries:
    """Series of one scenario, (series, weeks): counts, and the part of them that is a current outbreak."""

    counts: FloatArray
    outbreak: FloatArray


def simulate_scenario(
    scenario: Scenario, *, series: int, rng: np.random.Generator, past_outbreaks: bool, current_outbreak: bool
) -> SimulatedSeries:
    """Quiet counts, with four past outbreaks if wanted, and one of size 1 to 10 in the judged weeks if wanted."""
    mean = scenario.mean()
    counts = simulate_counts(mean, scenario.dispersion, series=series, rng=rng)
    deviation = np.sqrt(scenario.dispersion * mean)
    outbreak = np.zeros_like(counts)
    for row in range(series):
        if past_outbreaks:
            for size in rng.choice(PAST_OUTBREAK_SIZES, size=4):
                start = int(rng.integers(PAST_OUTBREAK_WEEKS[0] - 1, PAST_OUTBREAK_WEEKS[1]))
                counts[row] += simulate_outbreak(float(deviation[start]), float(size), start, WEEKS, rng=rng)
        if current_outbreak:
            start = int(rng.integers(WEEKS - JUDGED_WEEKS, WEEKS))
            size = float(rng.integers(1, 11))
            outbreak[row] = simulate_outbreak(float(deviation[start]), size, start, WEEKS, rng=rng)
    return SimulatedSeries(counts + outbreak, outbreak)
