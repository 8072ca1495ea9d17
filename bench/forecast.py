"""How good and how fast the forecasts are, on two public data sets. Run: ``python -m bench.forecast [--json]``.

Monash hospital (767 monthly series, last 12 months held out) and weekly influenza admissions of 52 US states and
territories (every second week from October 2023 on, horizons 1 to 4). The data and their licences:
``tests/data/README.md``. And what an arrival costs: loading and computing all six analyses of the sample from a
snapshot of a real lake, once warm, without notebooks and kernels, figures and publishing.
"""

from __future__ import annotations

import importlib
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.report import Metric, main  # isort: skip - sets the thread counts before numpy is imported

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medisync.stats.combination import candidate_forecasts
from medisync.stats.forecasting import forecast_panel
from medisync.stats.scores import interval_coverage, naive_scale, weighted_interval_score
from medisync.stats.series import Panel, panel_of

Floats = NDArray[np.float64]
Answer = TypeVar("Answer")

DATA = Path(__file__).parents[1] / "tests" / "data"
SAMPLE = Path(__file__).parents[1] / "data" / "sample" / "healthcare_dataset.csv.gz"
ANALYSES = (
    "patient_health_trends",
    "patient_demographics",
    "illness_prediction",
    "medication_analysis",
    "patient_volume_prediction",
    "illness_surge_prediction",
)
FULL_ROUNDS = 5
HELD_OUT_MONTHS = 12
FLU_FROM = "2023-10-07"
FLU_STEP_WEEKS = 2
FLU_HORIZON_WEEKS = 4
FLU_LEVELS = (0.01, 0.025, *(round(0.05 * i, 2) for i in range(1, 20)), 0.975, 0.99)
"""The 23 quantiles of the US influenza forecast hub."""
SEED = 1


def hospital_values() -> Floats:
    """Patients (767, 84) per series and month; labels repeat, so a series is a row and not a label."""
    table = pd.read_csv(DATA / "monash_hospital.csv.gz")
    return table.drop(columns=["series", "label"]).to_numpy(dtype=float)


def flu_panel() -> Panel:
    """Weekly influenza admissions by state, the national total left out; weeks end on the given Saturday."""
    table = pd.read_csv(DATA / "flu_admissions.csv.gz", dtype={"location": str}).set_index("location")
    states = table[table.index != "US"].drop(columns="location_name")
    return panel_of(states.to_numpy(dtype=float), "weekly", first_day=states.columns[0], ids=states.index)


def measure() -> dict[str, Metric]:
    """Forecast accuracy, coverage and CPU time."""
    return {**measure_hospital(), **measure_flu(), **measure_full_analysis()}


def measure_hospital() -> dict[str, Metric]:
    values = hospital_values()
    known, truth = values[:, :-HELD_OUT_MONTHS], values[:, -HELD_OUT_MONTHS:]
    panel = panel_of(known, "monthly", first_day="2000-01-01")
    candidate_forecasts(panel.until(36), 1)  # warm caches and lazy imports
    _, fast = _timed(lambda: candidate_forecasts(panel, HELD_OUT_MONTHS))
    full, slow = _timed(lambda: forecast_panel(panel, HELD_OUT_MONTHS, origins=30, step=1))
    scaled = np.abs(full.median - truth).mean(axis=1) / naive_scale(known, 12)
    coverage = interval_coverage(full.quantiles, truth)
    peer = "statsmodels ThetaModel, same run"
    peer_seconds, peer_mase = _theta_peer(known, truth)
    return {
        "monash_mase": Metric(float(scaled.mean()), "MASE", "<= 0.755", f"{peer} (published: 0.761)", peer_mase),
        "monash_cpu_seconds": Metric(fast, "CPU s", "<= 1", peer, peer_seconds),
        "monash_backtest_cpu_seconds": Metric(slow, "CPU s", "<= 5", f"{peer}, times 31", 31 * peer_seconds),
        "monash_coverage_80": Metric(coverage[80], "%", "77 to 84", "nominal", 80.0),
        "monash_coverage_95": Metric(coverage[95], "%", "92 to 97", "nominal", 95.0),
    }


def measure_flu() -> dict[str, Metric]:
    panel = flu_panel()
    first = int(np.searchsorted(panel.periods, np.datetime64(FLU_FROM))) + 1
    rng = np.random.default_rng(SEED)
    scores, peers, quantiles, truths, seconds = [], [], [], [], 0.0
    for origin in range(first, panel.values.shape[1] - FLU_HORIZON_WEEKS + 1, FLU_STEP_WEEKS):
        known, truth = panel.until(origin), panel.values[:, origin : origin + FLU_HORIZON_WEEKS]
        made, spent = _timed(partial(forecast_panel, known, FLU_HORIZON_WEEKS, levels=FLU_LEVELS))
        seconds += spent
        flat = flat_baseline(known.values, FLU_HORIZON_WEEKS, rng)
        scores.append(weighted_interval_score(made.quantiles, truth, FLU_LEVELS))
        peers.append(weighted_interval_score(flat, truth, FLU_LEVELS))
        quantiles.append(made.quantiles)
        truths.append(truth)
    coverage = interval_coverage(np.stack(quantiles), np.stack(truths), FLU_LEVELS)
    own, other = float(np.nanmean(scores)), float(np.nanmean(peers))
    return {
        "flu_relative_wis": Metric(own / other, "ratio", "<= 0.72", "flat baseline", 1.0),
        "flu_coverage_95": Metric(coverage[95], "%", ">= 92", "nominal", 95.0),
        "flu_cpu_seconds_per_week": Metric(seconds / len(scores), "CPU s", "52 series with backtest"),
    }


def measure_full_analysis() -> dict[str, Metric]:
    """CPU seconds of all six analyses together; the smallest of five rounds after a first one that does not count."""
    from medisync import intake
    from medisync.lake import Lake, Snapshot
    from medisync.settings import Settings

    modules = [importlib.import_module(f"medisync.analyses.{name}") for name in ANALYSES]
    with tempfile.TemporaryDirectory(prefix="medisync-bench-") as folder:
        places: dict[str, Any] = {"data": Path(folder) / "data", "reports": Path(folder) / "reports"}
        settings = Settings(**places)
        lake = Lake(settings)
        intake.ingest(lake, SAMPLE)
        lake.close()
        with Snapshot(settings) as snapshot:

            def round_of_all() -> None:
                for module in modules:
                    params = module.Params()
                    module.compute(module.load(snapshot, params), params)

            round_of_all()
            seconds = min(_timed(round_of_all)[1] for _ in range(FULL_ROUNDS))
    return {"full_analysis_cpu_seconds": Metric(seconds, "CPU s", "<= 1.5", "load and compute of six, warm")}


def flat_baseline(values: Floats, horizon: int, rng: np.random.Generator, paths: int = 1000) -> Floats:
    """Quantiles (n, horizon, 23): the last value, and symmetrised past one-week differences summed by resampling."""
    result = np.full((len(values), horizon, len(FLU_LEVELS)), np.nan)
    for i, row in enumerate(values):
        steps = np.diff(row)
        steps = steps[np.isfinite(steps)]
        drawn = rng.choice(np.concatenate([steps, -steps]), size=(paths, horizon)).cumsum(axis=1)
        spread = np.quantile(drawn, FLU_LEVELS, axis=0).T
        spread -= spread[:, [len(FLU_LEVELS) // 2]]
        result[i] = np.maximum(row[np.isfinite(row)][-1] + spread, 0.0)
    return result


def _theta_peer(known: Floats, truth: Floats) -> tuple[float, float]:
    """CPU seconds and mean MASE of statsmodels' Theta, one series after the other."""
    from statsmodels.tsa.forecasting.theta import ThetaModel

    index = pd.date_range("2000-01-01", periods=known.shape[1], freq="MS")

    def run() -> Floats:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.stack(
                [
                    ThetaModel(pd.Series(row, index), period=12).fit().forecast(truth.shape[1]).to_numpy()
                    for row in known
                ]
            )

    made, seconds = _timed(run)
    error = np.abs(made - truth).mean(axis=1) / naive_scale(known, 12)
    return seconds, float(error.mean())


def _timed(work: Callable[[], Answer]) -> tuple[Answer, float]:
    start = time.process_time()
    answer = work()
    return answer, time.process_time() - start


if __name__ == "__main__":
    main(measure)
