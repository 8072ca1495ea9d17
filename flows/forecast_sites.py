"""Daily: a forecast of its own for each large site, on all machines there are."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from flows.rounds import lake, run_round
from medisync.analyses.patient_volume_prediction import ANALYSIS
from medisync.lake import Snapshot
from medisync.runs.calibration import large_sites
from medisync.settings import load_settings


@flow(
    name="forecast-sites",
    task_runner=ThreadPoolTaskRunner(max_workers=load_settings().kernels),  # type: ignore[arg-type]
)
def forecast_sites(most_sites: int = 100) -> list[dict[str, Any]]:
    """Forecast the admissions of each of the ``most_sites`` largest sites; what did not change is not run again."""
    settings = load_settings()
    if lake().last_snapshot_id() is None:
        get_run_logger().info("There is no data yet.")
        return []
    with Snapshot(settings) as snapshot:
        sites = large_sites(snapshot, most_sites)
    if len(sites) < 2:  # the forecast of all sites is this one's
        get_run_logger().info("There are no sites to tell apart.")
        return []
    outcomes = run_round([ANALYSIS], trigger="forecast of each site", choices=[{"site": site} for site in sites])
    return [outcome.as_json() for outcome in outcomes]
