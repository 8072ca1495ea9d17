"""Weekly: last week's runs are executed again; a number that moved makes this run fail."""

from __future__ import annotations

import datetime as dt
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.rounds import lake
from medisync.runs.reproduce import NumbersMovedError, Verdict, reproduce_all
from medisync.runs.self_check import sentence, write_self_check


@flow(name="self-check")
def self_check(days: int = 7, most: int = 100) -> dict[str, Any]:
    """Reproduce the newest runs of the last ``days`` and report; raises NumbersMovedError when one is not identical."""
    now = dt.datetime.now(dt.UTC)
    made = reproduce_all(lake(), since=now - dt.timedelta(days=days), most=most)
    report = write_self_check(lake().settings, made, now)
    told = sentence(made)
    get_run_logger().info(told)
    create_markdown_artifact(key="self-check", markdown=f"{told}\n\n[Report]({report.as_uri()})", description=told)
    if any(one.verdict is not Verdict.IDENTICAL for one in made):
        raise NumbersMovedError(told, hint="The report names what differs.")
    return {"runs": len(made), "identical": len(made), "report": report.name}
