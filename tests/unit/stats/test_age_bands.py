"""Nobody falls between two age bands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medisync.errors import ParameterError
from medisync.stats.age_bands import UNKNOWN, AgeBands


def test_labels() -> None:
    assert AgeBands((0, 18, 19, 90)).labels == ("0–17", "18", "19–89", "90+")


def test_every_age_of_the_sample_has_a_band_and_edges_are_right() -> None:
    bands = AgeBands((0, 13, 18, 65, 89))
    labels = bands.label(np.arange(0, 131))
    assert UNKNOWN not in set(labels)
    assert [labels[age] for age in (12, 13, 17, 18, 64, 65, 88, 89, 130)] == [
        "0–12", "13–17", "13–17", "18–64", "18–64", "65–88", "65–88", "89+", "89+",
    ]  # fmt: skip


def test_fractions_belong_to_the_completed_year() -> None:
    assert AgeBands((0, 18)).label([17.999, 18.0]).tolist() == ["0–17", "18+"]


def test_missing_and_impossible_ages_are_unknown() -> None:
    assert AgeBands((0, 18)).label([None, math.nan, -1, 131, math.inf]).tolist() == [UNKNOWN] * 5


@pytest.mark.parametrize("starts", [(), (1, 5), (0, 10, 10), (0, 20, 10), (0, 131)])
def test_bands_with_gaps_or_out_of_order_are_refused(starts: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError):
        AgeBands(starts)
