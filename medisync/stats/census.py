"""How many beds will be occupied: admissions to come, patients in now, and how long they stay.

A bed is counted when its patient is in at midnight. Every sample path draws who is admitted (from the forecast's joint
paths) and how long each stays (from the survival curve of stays), so that the probability of running out of beds, on a
day or on any day, is a share of paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError, SeriesError
from medisync.stats.scores import LEVELS, checked_levels

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

LONGEST_STAY_NIGHTS = 365


@dataclass(frozen=True)
class StaySurvival:
    """``still_in`` (nights,): probability of staying more than 0, 1, 2, ... nights; it never rises.

    ``stays`` is the number of stays behind it, ``ended`` of those that were over.
    """

    still_in: Floats
    stays: int
    ended: int

    @property
    def mean_nights(self) -> float:
        """Mean stay in nights, cut where the curve ends."""
        return float(self.still_in.sum())


@dataclass(frozen=True)
class Census:
    """Occupied beds at midnight of the next ``days`` days.

    ``mean`` (days,), ``quantiles`` (days, levels); with a number of ``beds``, ``exceeding`` (days,) is the probability
    that more are needed and ``exceeding_any`` that this happens on any of the days, else both None.
    """

    mean: Floats
    quantiles: Floats
    levels: tuple[float, ...]
    beds: int | None = None
    exceeding: Floats | None = None
    exceeding_any: float | None = None


def stay_survival(
    nights: Sequence[int] | Counts, ended: Sequence[bool], weights: Sequence[int] | None = None
) -> StaySurvival:
    """Survival curve of stays from their ``nights`` so far and whether they have ``ended``, counted ``weights`` times.

    Kaplan and Meier (1958), Journal of the American Statistical Association 53, 457-481: stays that go on count as
    long as they have been seen. Stays longer than a year count as a year. Raises
    :class:`~medisync.errors.SeriesError` for negative stays, unequal lengths, or if no stay has ended.
    """
    length = np.asarray(nights, dtype=np.int64)
    over = np.asarray(ended, dtype=bool)
    times = np.ones(len(length), dtype=np.int64) if weights is None else np.asarray(weights, dtype=np.int64)
    if not len(length) == len(over) == len(times):
        raise SeriesError("Nights, ends and weights must have the same length.")
    if (length < 0).any() or (times < 0).any():
        raise SeriesError("A stay cannot have fewer than 0 nights, nor a negative weight.")
    if not times[over].sum():
        raise SeriesError("No stay has ended yet, so that nothing is known about how long they last.")
    cut = np.minimum(length, LONGEST_STAY_NIGHTS)
    longest = int(cut.max())
    leaving = np.bincount(cut[over], weights=times[over], minlength=longest + 1)
    everyone = np.bincount(cut, weights=times, minlength=longest + 1)
    at_risk = everyone[::-1].cumsum()[::-1]
    hazard = np.divide(leaving, at_risk, out=np.zeros(longest + 1), where=at_risk > 0)
    return StaySurvival(still_in=np.cumprod(1 - hazard), stays=int(times.sum()), ended=int(times[over].sum()))


def stretched(still_in: Floats, factor: float) -> Floats:
    """The survival curve (nights,) of stays ``factor`` times as long; their mean is ``factor`` times the mean.

    A stay that would last a part of a night more is a night longer with that probability. Raises
    :class:`~medisync.errors.ParameterError` unless the factor is above 0.
    """
    if not 0 < factor < float("inf"):
        raise ParameterError("Stays can only become a positive number of times as long.")
    # Of a stay of T nights, floor(factor * T + U) with U uniform on [0, 1] lasts more than n nights with the mean of
    # P(T > u / factor) over u from n to n + 1; ``area`` is the integral of P(T > u), constant between whole nights.
    area = np.concatenate([[0.0], np.cumsum(still_in)])
    ends = np.arange(int(np.ceil(factor * len(still_in))) + 1) / factor
    longer: Floats = factor * np.diff(np.interp(ends, np.arange(len(area)), area))
    return np.clip(longer, 0.0, 1.0)


def daily_admission_paths(paths: Floats, days: Sequence[int], rng: np.random.Generator) -> Counts:
    """Whole admissions (paths, sum of days) per day from ``paths`` (paths, periods) of ``days`` each, spread evenly.

    A path's fraction of an admission is one with that probability.
    """
    if paths.ndim != 2 or paths.shape[1] != len(days) or min(days, default=0) < 1:
        raise ParameterError("Each period of the paths needs its number of days, at least one.")
    whole = np.floor(paths + rng.random(paths.shape)).astype(np.int64)
    parts = [rng.multinomial(whole[:, i], np.full(count, 1 / count)) for i, count in enumerate(days)]
    return np.concatenate(parts, axis=1)


def expected_census(
    admissions: Counts,
    survival: StaySurvival,
    nights_so_far: Sequence[int] | Counts,
    rng: np.random.Generator,
    *,
    in_now: Sequence[int] | Counts | None = None,
    beds: int | None = None,
    stay_factor: float = 1.0,
    levels: Sequence[float] = LEVELS,
) -> Census:
    """Census of the days to come from ``admissions`` (paths, days) and the patients in now.

    ``nights_so_far`` (groups,) are the nights present patients have stayed, ``in_now`` (groups,) how many there are of
    each (default one). With a ``stay_factor`` stays to come, and what is left of those of present patients, last so
    many times as long. Raises :class:`~medisync.errors.ParameterError` for beds below 0 and
    :class:`~medisync.errors.SeriesError` for negative counts.
    """
    given = checked_levels(levels)
    if beds is not None and beds < 0:
        raise ParameterError("The number of beds cannot be negative.")
    if not 0.01 <= stay_factor <= 100:
        raise ParameterError("Stays can become a hundredth to a hundred times as long.")
    arriving = np.asarray(admissions, dtype=np.int64)
    stayed = np.asarray(nights_so_far, dtype=np.int64)
    present = np.ones(len(stayed), dtype=np.int64) if in_now is None else np.asarray(in_now, dtype=np.int64)
    if arriving.ndim != 2 or 0 in arriving.shape or len(stayed) != len(present):
        raise SeriesError("Admissions need paths and days, and every group of patients its nights so far.")
    if (arriving < 0).any() or (stayed < 0).any() or (present < 0).any():
        raise SeriesError("Admissions, nights and patients cannot be negative.")
    paths, days = arriving.shape
    occupied = np.zeros((paths, days), dtype=np.int64)
    curve = _continued(survival.still_in, int(stayed.max(initial=0)) + int(np.ceil(days / stay_factor)) + 2)
    staying = curve if stay_factor == 1 else stretched(curve, stay_factor)
    for day in range(days):
        # Admitted on this day: in at its midnight if they stay more than 0 nights, the next with more than 1, ...
        occupied[:, day:] += _remaining(arriving[:, day], staying[: days - day], rng)
    for nights, count in zip(stayed, present, strict=True):
        if count and curve[nights] > 0:
            chance = curve[nights + 1 :] / curve[nights]
            chance = (chance if stay_factor == 1 else stretched(chance, stay_factor))[:days]
            occupied += _remaining(np.full(paths, count), chance, rng)
    exceeding = None if beds is None else (occupied > beds).mean(axis=0)
    return Census(
        mean=occupied.mean(axis=0),
        quantiles=np.quantile(occupied, given, axis=0).T,
        levels=tuple(given.tolist()),
        beds=beds,
        exceeding=exceeding,
        exceeding_any=None if beds is None else float((occupied > beds).any(axis=1).mean()),
    )


def _remaining(patients: Counts, chance: Floats, rng: np.random.Generator) -> Counts:
    """How many of ``patients`` (paths,) are still in, each with probability ``chance`` (days,): (paths, days)."""
    leaving = np.clip(-np.diff(chance, prepend=1.0), 0.0, 1.0)
    share = np.append(leaving, max(0.0, 1.0 - leaving.sum()))
    left: Counts = rng.multinomial(patients, share / share.sum())[:, :-1].cumsum(axis=1)
    return patients[:, None] - left


def _continued(still_in: Floats, length: int) -> Floats:
    """The curve for ``length`` nights: past its end it falls as fast as it did on average over its second half."""
    if len(still_in) >= length:
        return still_in[:length]
    half, last = len(still_in) // 2, float(still_in[-1])
    steps = max(len(still_in) - 1 - half, 1)
    keep = (last / still_in[half]) ** (1 / steps) if last > 0 and still_in[half] > 0 else 0.0
    return np.concatenate([still_in, last * min(keep, 0.999) ** np.arange(1, length - len(still_in) + 1)])
