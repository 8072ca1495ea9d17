"""Made-up patients: who comes back, how old they are, and names that belong to nobody."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medisync.demo.truth import DemoTruth

IntArray = NDArray[np.int64]

CONSONANTS, VOWELS = "bdfgklmn", "aeio"
SYLLABLES = [consonant + vowel for consonant in CONSONANTS for vowel in VOWELS]  # 32 of them
FIRST_NAMES = len(SYLLABLES) ** 2
NAMES = len(SYLLABLES) ** 5
SCRAMBLE = 20_736_341
"""Odd, so that multiplying by it modulo NAMES, a power of two, gives every patient a name of their own."""

OLDEST_YEARS = 109


def coded(codes: IntArray, names: Sequence[str] | pd.Index[Any]) -> pd.Categorical[Any]:
    """``names[code]`` of each code, without making the strings."""
    return pd.Categorical.from_codes(codes, names if isinstance(names, pd.Index) else pd.Index(list(names)))


class Patients:
    """All patients so far. Everything about a patient is fixed at the first admission."""

    def __init__(self, most: int, conditions: int) -> None:
        self._birth = np.empty(most, dtype="datetime64[D]")
        self._gender = np.empty(most, dtype=np.int8)
        self._blood = np.empty(most, dtype=np.float32)
        self._number = 0
        self._of_condition: list[list[IntArray]] = [[] for _ in range(conditions)]

    def admit(
        self, condition: IntArray, admitted: NDArray[np.datetime64], truth: DemoTruth, rng: np.random.Generator
    ) -> IntArray:
        """Patient of each admission; some were in hospital with the same condition before.

        Nobody comes twice in one call's chunk, hence never twice on a day.
        """
        who = np.empty(condition.size, dtype=np.int64)
        for code, planted in enumerate(truth.conditions):
            rows = np.flatnonzero(condition == code)
            earlier = self._of_condition[code]
            known = np.concatenate(earlier) if earlier else np.empty(0, dtype=np.int64)
            self._of_condition[code] = [known]
            back = np.flatnonzero(rng.random(rows.size) < truth.readmission_share)[: known.size]
            returning = rng.choice(known, size=back.size, replace=False) if back.size else known[:0]
            new_rows = np.delete(rows, back)
            new = self._number + np.arange(new_rows.size)
            self._number += new_rows.size
            age = rng.normal(planted.age_mean_years, planted.age_deviation_years, new.size)
            low, high = (15.0, 49.0) if planted.female_share == 1.0 else (0.0, 100.0)
            age = low + np.abs((age - low + (high - low)) % (2 * (high - low)) - (high - low))  # reflected at the ends
            self._birth[new] = admitted[new_rows] - (age * 365.2425).astype(int).astype("timedelta64[D]")
            self._gender[new] = rng.random(new.size) >= planted.female_share
            self._blood[new] = rng.random(new.size)
            who[rows[back]], who[new_rows] = returning, new
            self._of_condition[code].append(new)
        return who

    def age(self, who: IntArray, admitted: NDArray[np.datetime64]) -> IntArray:
        """Completed years at admission, up to a day."""
        days = (admitted.astype("datetime64[D]") - self._birth[who]).astype(np.int64)
        return np.minimum((days / 365.2425).astype(np.int64), OLDEST_YEARS)

    def gender(self, who: IntArray) -> IntArray:
        """0 female, 1 male."""
        return self._gender[who].astype(np.int64)

    def blood_type(self, who: IntArray, shares: tuple[tuple[str, float], ...]) -> IntArray:
        """Codes into ``shares``."""
        edges = np.cumsum([share for _, share in shares])
        return (
            np.searchsorted(edges / edges[-1], self._blood[who], side="right").clip(0, len(shares) - 1).astype(np.int64)
        )

    def names(self, who: IntArray) -> dict[str, pd.Categorical[Any]]:
        """First name and the two halves of the last name; together nobody else's."""
        place = who * SCRAMBLE % NAMES
        return {
            "first_name": coded(place % FIRST_NAMES, _first_names()),
            "last_head": coded(place // FIRST_NAMES % FIRST_NAMES, _first_names()),
            "last_tail": coded(place // FIRST_NAMES**2, SYLLABLES),
        }

    @staticmethod
    def doctors(number: IntArray, most: int) -> pd.Categorical[Any]:
        """Names of practitioners by number."""
        first = _first_names()
        names = [f"{first[i * 37 % FIRST_NAMES]} {first[i * 791 % FIRST_NAMES]}ra" for i in range(most)]
        return coded(number, pd.Index(names))


@functools.cache
def _first_names() -> pd.Index[Any]:
    return pd.Index(["".join(pair).capitalize() for pair in itertools.product(SYLLABLES, repeat=2)])
