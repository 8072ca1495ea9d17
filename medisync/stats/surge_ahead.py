"""How likely is a surge in the weeks to come, from joint sample paths of the next weeks.

The weeks to come have their thresholds already (see :mod:`medisync.stats.surveillance`). What past years say about
them is a distribution; what the last weeks add is that a series which runs high tends to stay high. So each past week
is written as a normal score, the scores of a series follow a first-order autoregression around their own mean, with
another persistence after an unusually high week, since outbreaks last (a threshold autoregression, Tong 1983), and
paths of it over the next weeks are drawn jointly: a Gaussian copula over the weeks' distributions (Sklar 1959; for
counts see Masarotto and Varin 2012, Electron J Stat 6:1517). A week of a path is a surge week when its score lies
above the threshold's score. Mean, spread and persistence are estimated from each series' own past and shrunk towards
"as the distributions say" (0, 1, 0), the persistence of high weeks from all series together, since they are rare.

New outbreaks are more frequent than chance, so probabilities are calibrated: a rolling-origin backtest compares how
often surges were foretold with how often they came, and all odds are multiplied by that ratio, shrunk towards 1. The
backtest calibrates each origin from earlier ones alone and reports the Brier score of what it then said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medisync.errors import ParameterError, SeriesError

FloatArray = NDArray[np.float64]

LONGEST_HORIZON_WEEKS = 4
PRIOR_WEEKS = 104.0
"""Weight, in weeks, of "as the distributions say" against a series' own past scores."""

SMALLEST_SPREAD, LARGEST_PERSISTENCE = 0.5, 0.95
HIGH_SCORE = 2.0
"""Above it a week is unusually high: one quiet week in 44."""
PRIOR_HIGH_PERSISTENCE, PRIOR_HIGH_WEEKS = 0.3, 10.0
PRIOR_SURGES = 5.0
"""Weight, in surges both foretold and come, of "odds are right as they are"."""
CLIP_USUAL, CLIP_SCORE = 3.0, 5.0
"""A past outbreak counts as a score of three, not more, when a series' usual mean, spread and persistence are
estimated, and as five when it comes to how long outbreaks last."""


@dataclass(frozen=True)
class SurgeAhead:
    """Probabilities of the next weeks, one row a series."""

    each_week: FloatArray  # (series, horizon)
    any_week: FloatArray  # (series,)


@dataclass(frozen=True)
class AheadBacktest:
    """Rolling origins: what was said and what came. A Brier score of 0 is perfect; ``constant`` says alpha always."""

    brier_each: FloatArray  # (horizon,)
    brier_any: float
    constant_brier_each: FloatArray
    constant_brier_any: float
    said_any: FloatArray  # (origins,) of all series
    came_any: FloatArray  # (origins,), 0 or 1
    origins: int
    odds_factor: float  # what multiplies the odds of predictions made now


def predict_surges_ahead(
    scores: ArrayLike,
    threshold_scores: ArrayLike,
    *,
    score_variances: ArrayLike | None = None,
    odds_factor: float = 1.0,
    seed: int = 0,
    paths: int = 4000,
) -> SurgeAhead:
    """Probability that each of the next weeks, and any of them, lies above its threshold.

    ``scores``: (series, past weeks) normal scores, the last week last; NaN where unknown. ``threshold_scores``:
    (series, horizon), horizon 1 to 4; NaN gives NaN. ``score_variances``: as ``scores``, how uncertain each score is
    because counts are whole numbers (None: not at all). ``odds_factor``: from :func:`backtest_surges_ahead`. A series
    without any known score falls back on its distributions alone.

    Raises SeriesError for shapes that do not fit, ParameterError for the horizon, ``odds_factor`` or ``paths``.
    """
    past, bounds = _checked(scores, threshold_scores)
    variances = _checked_variances(score_variances, past)
    if not 100 <= paths <= 1_000_000:
        raise ParameterError("The number of sample paths must lie between 100 and 1,000,000.")
    if not 0.0 < odds_factor < 1e6:
        raise ParameterError("The odds factor must be positive.")
    mean, spread, persistence = _character(past, variances)
    last, gap = _last_known(past)
    noise = _noise(seed, paths, bounds.shape[1])
    high = float(_high_persistence(past)[-1]) if past.shape[1] else PRIOR_HIGH_PERSISTENCE
    each, together = _path_shares(last, gap, mean, spread, persistence, high, bounds, noise)
    return SurgeAhead(_scaled(each, odds_factor), _scaled(together, odds_factor))


def backtest_surges_ahead(
    scores: ArrayLike,
    threshold_scores: ArrayLike,
    *,
    horizon_weeks: int,
    alpha: float,
    score_variances: ArrayLike | None = None,
    first_origin: int = 26,
    seed: int = 0,
    paths: int = 500,
) -> AheadBacktest:
    """Brier scores over rolling origins: every origin predicts from what came before it alone.

    ``scores``, ``threshold_scores`` and ``score_variances``: (series, weeks), of the same past weeks. Origins without
    all of their next weeks known are left out; with none left every score is NaN.
    """
    past, bounds = _checked(scores, threshold_scores, horizon_needed=False)
    if past.shape != bounds.shape:
        raise SeriesError("Scores and threshold scores must cover the same weeks.")
    if not 1 <= horizon_weeks <= LONGEST_HORIZON_WEEKS:
        raise ParameterError(f"The horizon must lie between 1 and {LONGEST_HORIZON_WEEKS} weeks.")
    noise = _noise(seed, paths, horizon_weeks)
    mean, spread, persistence = _running_character(past, _checked_variances(score_variances, past))
    high = _high_persistence(past)
    said_each: list[FloatArray] = []
    said_any: list[FloatArray] = []
    came: list[FloatArray] = []
    tally = _Tally(horizon_weeks)
    for origin in range(max(first_origin, 1), past.shape[1] - horizon_weeks + 1):
        ahead = slice(origin, origin + horizon_weeks)
        use = ~(np.isnan(past[:, ahead]) | np.isnan(bounds[:, ahead])).any(axis=1) & ~np.isnan(past[:, origin - 1])
        if not use.any():
            continue
        at = origin - 1
        gap = np.zeros(int(use.sum()))
        each, together = _path_shares(
            past[use, at],
            gap,
            mean[use, at],
            spread[use, at],
            persistence[use, at],
            float(high[at]),
            bounds[use, ahead],
            noise,
        )
        outcome = (past[use, ahead] > bounds[use, ahead]).astype(np.float64)
        factor = tally.factor_at(origin)
        tally.add(origin, float(together.sum()), float(outcome.max(axis=1).sum()))
        said_each.append(_scaled(each, factor))
        said_any.append(_scaled(together, factor))
        came.append(outcome)
    if not came:
        missing = np.full(horizon_weeks, np.nan)
        return AheadBacktest(missing, np.nan, missing, np.nan, np.empty(0), np.empty(0), 0, 1.0)
    each, together, outcome = np.concatenate(said_each), np.concatenate(said_any), np.concatenate(came)
    outcome_any = outcome.max(axis=1)
    constant_any = 1.0 - (1.0 - alpha) ** horizon_weeks
    return AheadBacktest(
        brier_each=((each - outcome) ** 2).mean(axis=0),
        brier_any=float(((together - outcome_any) ** 2).mean()),
        constant_brier_each=((alpha - outcome) ** 2).mean(axis=0),
        constant_brier_any=float(((constant_any - outcome_any) ** 2).mean()),
        said_any=together,
        came_any=outcome_any,
        origins=len(together),
        odds_factor=tally.factor_at(past.shape[1]),
    )


class _Tally:
    """Surges foretold and come, by origin. Neighbouring origins share weeks, so each counts a horizon's part."""

    def __init__(self, horizon_weeks: int) -> None:
        self._horizon = horizon_weeks
        self._ended: list[tuple[int, float, float]] = []

    def add(self, origin: int, said: float, came: float) -> None:
        self._ended.append((origin + self._horizon, said, came))

    def factor_at(self, week: int) -> float:
        """Ratio of come to foretold, from origins whose weeks have all been seen before ``week``."""
        known = [(said, came) for end, said, came in self._ended if end <= week]
        said, came = (sum(one) / self._horizon for one in zip(*known, strict=True)) if known else (0.0, 0.0)
        return (came + PRIOR_SURGES) / (said + PRIOR_SURGES)


def _scaled(probability: FloatArray, odds_factor: float) -> FloatArray:
    return odds_factor * probability / (1.0 - probability + odds_factor * probability)


def _checked(
    scores: ArrayLike, threshold_scores: ArrayLike, *, horizon_needed: bool = True
) -> tuple[FloatArray, FloatArray]:
    try:
        past = np.array(scores, dtype=np.float64, ndmin=2)
        bounds = np.array(threshold_scores, dtype=np.float64, ndmin=2)
    except (TypeError, ValueError):
        raise SeriesError("Scores must be tables of numbers, one row a series.") from None
    if past.ndim != 2 or bounds.ndim != 2 or len(past) != len(bounds):
        raise SeriesError("Scores and threshold scores must have one row for each series.")
    if bool(np.isinf(past).any()):
        raise SeriesError("A score is infinite.")
    if horizon_needed and not 1 <= bounds.shape[1] <= LONGEST_HORIZON_WEEKS:
        raise ParameterError(f"The horizon must lie between 1 and {LONGEST_HORIZON_WEEKS} weeks.")
    return past, bounds


def _checked_variances(score_variances: ArrayLike | None, past: FloatArray) -> FloatArray:
    if score_variances is None:
        return np.zeros_like(past)
    variances = np.array(score_variances, dtype=np.float64, ndmin=2)
    if variances.shape != past.shape or bool((variances < 0).any()):
        raise SeriesError("There must be one variance, not negative, for each score.")
    return variances


def _character(past: FloatArray, variances: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, spread and persistence of each series at its end."""
    if past.shape[1] == 0:
        n = len(past)
        return np.zeros(n), np.ones(n), np.zeros(n)
    mean, spread, persistence = _running_character(past, variances)
    return mean[:, -1], spread[:, -1], persistence[:, -1]


def _running_character(past: FloatArray, variances: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same after every week, from that week and those before it alone."""
    known = ~np.isnan(past)
    value = np.where(known, np.clip(past, -CLIP_USUAL, CLIP_USUAL), 0.0)
    count = np.cumsum(known, axis=1)
    mean = np.cumsum(value, axis=1) / (count + PRIOR_WEEKS)
    spent = np.where(known, np.nan_to_num(variances), 0.0)
    square = (np.cumsum(value**2 + spent, axis=1) + PRIOR_WEEKS) / (count + PRIOR_WEEKS)
    variance = np.maximum(square - mean**2, SMALLEST_SPREAD**2)
    pair = np.zeros_like(value)
    pair_known = np.zeros_like(value)
    pair[:, 1:] = value[:, 1:] * value[:, :-1]
    pair_known[:, 1:] = known[:, 1:] & known[:, :-1]
    pairs = np.cumsum(pair_known, axis=1)
    product = np.cumsum(pair * pair_known, axis=1) / (pairs + PRIOR_WEEKS)
    persistence = np.clip((product - mean**2) / variance, 0.0, LARGEST_PERSISTENCE)
    return mean, np.sqrt(variance), persistence


def _high_persistence(past: FloatArray) -> FloatArray:
    """(weeks,): how much of an unusually high score is left a week later, over all series up to each week."""
    value = np.clip(past, -CLIP_SCORE, CLIP_SCORE)
    pair = np.zeros(past.shape[1])
    weight = np.zeros(past.shape[1])
    first, second = value[:, :-1], value[:, 1:]
    high = (first > HIGH_SCORE) & ~np.isnan(second)
    pair[1:] = np.where(high, first * second, 0.0).sum(axis=0)
    weight[1:] = np.where(high, first * first, 0.0).sum(axis=0)
    prior = PRIOR_HIGH_WEEKS * HIGH_SCORE**2
    kept = (np.cumsum(pair) + prior * PRIOR_HIGH_PERSISTENCE) / (np.cumsum(weight) + prior)
    return np.clip(kept, 0.0, LARGEST_PERSISTENCE)


def _last_known(past: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Each series' last known score, and how many weeks ago that was; NaN and 0 where there is none."""
    known = ~np.isnan(past)
    if past.shape[1] == 0:
        return np.full(len(past), np.nan), np.zeros(len(past))
    gap = np.where(known.any(axis=1), known[:, ::-1].argmax(axis=1), 0)
    return past[np.arange(len(past)), past.shape[1] - 1 - gap], gap.astype(np.float64)


def _noise(seed: int, paths: int, horizon: int) -> FloatArray:
    """Independent normal steps from a randomly shifted Kronecker sequence, which fills the space evenly.

    Rare events need it: the share of 4,000 purely random paths above a bound of probability 0.005 is off by a fifth.
    The generators are powers of the root of x ** (d + 1) = x + 1, the golden ratio's relatives.
    """
    from scipy.special import ndtri

    root = 2.0
    for _ in range(60):
        root = (1.0 + root) ** (1.0 / (horizon + 1.0))
    generators = root ** -np.arange(1.0, horizon + 1.0)
    shift = np.random.default_rng(seed).random(horizon)
    uniform = (shift + np.arange(1.0, paths + 1.0)[:, None] * generators) % 1.0
    steps: FloatArray = ndtri(np.clip(uniform, 1e-12, 1.0 - 1e-12))
    return steps


def _path_shares(
    last: FloatArray,
    gap: FloatArray,
    mean: FloatArray,
    spread: FloatArray,
    persistence: FloatArray,
    high: float,
    bounds: FloatArray,
    noise: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Shares of the paths above each week's bound, and above any."""
    score = np.clip(last, -CLIP_SCORE, CLIP_SCORE)
    start = np.where(np.isnan(last), 0.0, (score - mean) / spread)
    usual = persistence[:, None]
    after_high = np.maximum(usual, high)
    # A score some weeks old tells less about now: what is left of it starts, and the first step makes up the spread.
    kept = np.where(np.isnan(last), 0.0, np.where(score > HIGH_SCORE, after_high[:, 0], persistence) ** gap)
    state = np.broadcast_to((start * kept)[:, None], (len(last), len(noise)))
    lost = 1.0 - kept[:, None] ** 2
    lasting = (score > HIGH_SCORE)[:, None]  # only what was seen to be high lasts; chance alone does not
    above = np.empty((bounds.shape[1], len(last), len(noise)), dtype=bool)
    for week in range(bounds.shape[1]):
        lasting = lasting & (mean[:, None] + spread[:, None] * state > HIGH_SCORE)
        rho = np.where(lasting, after_high, usual)
        state = rho * state + np.sqrt(1.0 - rho**2 * (1.0 - lost)) * noise[None, :, week]
        lost = np.zeros_like(lost)
        above[week] = mean[:, None] + spread[:, None] * state > bounds[:, week, None]
    each = np.where(np.isnan(bounds), np.nan, above.mean(axis=2).T)
    together = np.where(np.isnan(bounds).any(axis=1), np.nan, above.any(axis=0).mean(axis=1))
    return each, together
