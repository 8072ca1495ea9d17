"""The scoreboard: what earlier runs forecast meets what came, the first word counts, and nothing is made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medisync.analyses import patient_volume_prediction as analysis
from medisync.analyses.contract import Result
from tests.support.memory_lake import MemoryLake, lake_of

DAYS = pd.date_range("2023-01-02", periods=7 * 60)
COUNTS = np.random.default_rng(5).poisson(6, len(DAYS))


def lake_until(days: int) -> MemoryLake:
    admitted = DAYS[:days].repeat(COUNTS[:days])
    return lake_of(pd.DataFrame({"patient": [f"p{i}" for i in range(len(admitted))], "admitted_at": admitted}))


def run(lake: MemoryLake, **values: object) -> Result:
    params = analysis.Params.checked({"horizon": 3, **values})
    return analysis.compute(analysis.load(lake, params), params)


def publish(
    lake: MemoryLake, result: Result, run_id: str, *, method: str = "auto", started: str = "2024-01-01"
) -> None:
    """What flows do with a result, in short."""
    lake.connection.execute(
        "INSERT INTO analytics.runs SELECT ?, ?, 'completed', '', 1, json_object('method', ?::VARCHAR), '', '', '', "
        "NULL, NULL, NULL, ?::TIMESTAMP, ?::TIMESTAMP, 1.0, '{}'",
        [run_id, result.analysis, method, started, started],
    )
    rows = result.lake_rows["forecasts"].to_frame()
    columns = ["unique_id", "frequency", "method", "origin", "ds", "quantile", "value"]
    lake.connection.executemany(
        "INSERT INTO analytics.forecasts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [[run_id, *row] for row in rows[columns].itertuples(index=False)],
    )


@pytest.fixture(scope="module")
def earlier() -> dict[int, Result]:
    """What was published after 50 and after 51 weeks."""
    return {weeks: run(lake_until(7 * weeks)) for weeks in (50, 51)}


def test_nothing_to_score_yet_is_said(earlier: dict[int, Result]) -> None:
    lake = lake_until(7 * 50)
    publish(lake, earlier[50], "r1")
    result = run(lake)
    assert result.metrics["published_forecasts_scored"] == 0
    assert result.tables["scoreboard"].rows == ()
    assert "none has met its truth yet" in result.tables["scoreboard"].title
    assert "published" not in result.tables
    assert "published" not in [one.name for one in analysis.figures(result)]


def test_a_week_counts_only_once_it_is_complete(earlier: dict[int, Result]) -> None:
    for days, scored in ((7 * 51 - 1, 0), (7 * 51, 1), (7 * 52 + 3, 2), (7 * 60, 3)):
        lake = lake_until(days)
        publish(lake, earlier[50], "r1")
        assert run(lake).metrics["published_forecasts_scored"] == scored


def test_scores_are_those_worked_out_by_hand(earlier: dict[int, Result]) -> None:
    lake = lake_until(7 * 53)
    publish(lake, earlier[50], "r1", started="2024-01-01")
    publish(lake, earlier[51], "r2", started="2024-01-08")
    result = run(lake)
    weekly = COUNTS.reshape(-1, 7).sum(axis=1).astype(float)
    forecasts = [earlier[weeks].frame("forecast").astype({"median": float}) for weeks in (50, 51)]
    errors = np.concatenate(
        [np.abs(weekly[50:53] - forecasts[0]["median"]), np.abs(weekly[51:53] - forecasts[1]["median"][:2])]
    )
    assert result.metrics["published_forecasts_scored"] == 5
    assert result.metrics["published_origins"] == 2
    assert result.metrics["published_mean_absolute_error"] == pytest.approx(errors.mean(), abs=0.02)
    board = result.frame("scoreboard")
    assert board["step"].tolist() == [1, 2, 3]
    assert board["forecasts"].tolist() == [2, 2, 1]
    of_mean = np.concatenate([np.abs(weekly[50:53] - weekly[:50].mean()), np.abs(weekly[51:53] - weekly[:51].mean())])
    skill = 100 * (1 - errors.sum() / of_mean.sum())
    assert result.metrics["published_skill_against_mean_percent"] == pytest.approx(skill, abs=0.3)
    shown = result.frame("published")
    assert shown["admissions"].tolist() == weekly[50:53].tolist()
    assert shown["step"].tolist() == [1, 1, 2]  # the forecast made last for each week
    drawn = {one.name: one for one in analysis.figures(result)}
    assert "3 weeks" in drawn["published"].alt


def test_the_first_word_counts(earlier: dict[int, Result]) -> None:
    lake = lake_until(7 * 53)
    publish(lake, earlier[50], "r1", started="2024-01-01")
    alone = run(lake)
    rows = earlier[50].lake_rows["forecasts"].to_frame()
    better = earlier[50].lake_rows["forecasts"].from_frame("later", rows.assign(value=0.0))
    later = earlier[50].model_copy(update={"lake_rows": {"forecasts": better}})
    publish(lake, later, "r2", started="2024-02-01")
    publish(lake, later, "r0", method="mean", started="2023-12-01")
    assert run(lake).tables["scoreboard"] == alone.tables["scoreboard"]
