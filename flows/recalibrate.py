"""Weekly: the slow search for orders and long backtests, so that arrivals need neither."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.fan_out import run_each
from flows.rounds import lake, run_round
from medisync.analyses.patient_volume_prediction import ANALYSIS
from medisync.errors import NoDataError
from medisync.runs import calibration
from medisync.settings import load_settings
from medisync.stats.series import Frequency


@task(task_run_name="{series.panel.ids[0]}, {series.panel.frequency}", cache_policy=NO_CACHE, persist_result=False)
def calibrate(series: calibration.UncalibratedSeries) -> calibration.CalibratedSeries:
    """One series, wherever there is room; it needs no lake."""
    return calibration.calibrated(series)


@flow(
    name="recalibrate",
    task_runner=ThreadPoolTaskRunner(max_workers=load_settings().kernels),  # type: ignore[arg-type]
)
def recalibrate(frequencies: list[Frequency] | None = None, most_sites: int = calibration.MOST_SITES) -> dict[str, Any]:
    """Store new orders and scores, and run the forecasts again where an order has changed."""
    logger = get_run_logger()
    try:
        report = calibration.recalibrate(
            lake(),
            frequencies=frequencies or calibration.FREQUENCIES,
            most_sites=most_sites,
            calibration_id=str(flow_run.id) if flow_run.id else None,
            on_each=lambda series: run_each(calibrate, [{"series": one} for one in series]),
            on_series=lambda one: logger.info(one.sentence()),
        )
    except NoDataError as nothing:
        logger.info(str(nothing))
        return {"series": [], "analyses": []}
    logger.info(report.sentence())
    rows = [
        {"series": one.unique_id, "frequency": one.frequency, "found": one.sentence().partition(": ")[2]}
        for one in report.series
    ]
    create_table_artifact(key="calibration", table=rows, description=report.sentence())
    outcomes = run_round([ANALYSIS], trigger="recalibration") if report.changed else []
    return {**report.as_json(), "analyses": [outcome.as_json() for outcome in outcomes]}
