"""Every half hour: nothing that is served may be older than the data it should be made from."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from flows.rounds import lake, run_round, wake_sender
from medisync.reports.bulletins import refreshed_packs, utc_now
from medisync.runs.published import Freshness, published
from medisync.settings import load_settings


@flow(
    name="refresh-cache",
    task_runner=ThreadPoolTaskRunner(max_workers=load_settings().kernels),  # type: ignore[arg-type]
)
def refresh_cache() -> dict[str, Any]:
    """Rerun the analyses whose served result is missing, stale or older than its data."""
    if lake().last_snapshot_id() is None or not lake().query("SELECT 1 FROM clinical.table_versions LIMIT 1"):
        get_run_logger().info("There is no data yet.")
        return {"refreshed": []}
    old = [one.analysis for one in published(lake()) if one.freshness is not Freshness.CURRENT]
    outcomes = run_round(old, trigger="refresh") if old else []
    kept = refreshed_packs(lake(), utc_now()).get("full")
    wake_sender(lake().settings)
    return {"refreshed": [outcome.as_json() for outcome in outcomes], "pack": kept.name if kept else None}
