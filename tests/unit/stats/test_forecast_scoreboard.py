"""Stored forecasts meet their truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medisync.errors import SeriesError
from medisync.stats.forecasting import forecast_panel, quantile_names
from medisync.stats.scoreboard import score_forecasts, scoreboard
from medisync.stats.series import panel_of

NAMES = list(quantile_names())


def stored() -> pd.DataFrame:
    frame = pd.DataFrame([[1.0, 2, 3, 4, 5, 6, 7]] * 3, columns=NAMES)
    return frame.assign(unique_id="a", ds=["2024-01-01", "2024-01-08", "2024-01-15"], step=[1, 2, 1], run="r1", y=0)


def truth() -> pd.DataFrame:
    return pd.DataFrame(
        {"unique_id": ["a", "a", "b"], "ds": pd.to_datetime(["2024-01-01", "2024-01-08"] * 2)[:3], "y": [4, 9, 1]}
    )


def test_only_what_has_a_truth_is_scored_and_what_came_along_is_kept():
    scored = score_forecasts(stored(), truth())
    assert scored["y"].tolist() == [4, 9]
    assert scored["absolute_error"].tolist() == [0, 5]
    assert scored["inside_95"].tolist() == [True, False]
    assert scored["run"].tolist() == ["r1", "r1"]
    expected = (0.5 * 5 + sum(a / 2 * w + u for a, w, u in ((0.05, 6, 2), (0.2, 4, 3), (0.5, 2, 4)))) / 3.5
    assert scored["weighted_interval_score"].iloc[1] == pytest.approx(expected)


def test_a_missing_truth_is_not_a_zero():
    late = truth().assign(y=[4, np.nan, 1])
    assert len(score_forecasts(stored(), late)) == 1


def test_board_by_step():
    board = scoreboard(score_forecasts(stored(), truth()))
    assert board["step"].tolist() == [1, 2]
    assert board["forecasts"].tolist() == [1, 1]
    assert board["inside_95_percent"].tolist() == [100, 0]


def test_nothing_arrived_yet():
    scored = score_forecasts(stored(), truth().iloc[:0])
    assert scored.empty
    assert scoreboard(scored).empty


def test_forecasts_come_back_scored():
    values = np.random.default_rng(1).poisson(30, (2, 130)).astype(float)
    panel = panel_of(values, "weekly")
    made = forecast_panel(panel.until(120), 10).frame()
    scored = score_forecasts(made, panel.frame())
    assert len(scored) == 20
    board = scoreboard(scored)
    assert board["forecasts"].tolist() == [2] * 10
    assert scored["inside_95"].mean() > 0.7


@pytest.mark.parametrize(
    ("made", "seen", "message"),
    [
        (stored().drop(columns="median"), truth(), "median"),
        (stored(), truth().drop(columns="y"), "missing from the truth"),
        (stored(), pd.concat([truth(), truth()]), "two values"),
        (stored().assign(upper_95=0.0), truth(), "cross"),
        (stored().assign(ds="someday"), truth(), "not a date"),
    ],
)
def test_bad_frames(made, seen, message):
    with pytest.raises(SeriesError, match=message):
        score_forecasts(made, seen)
