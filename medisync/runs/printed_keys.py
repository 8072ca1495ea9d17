"""Keys of patients, admissions or practitioners in what a notebook shows.

A pseudonymous key is still a person's: it must not leave the lake in an output. A notebook that shows one fails, its
result is not published, and the kept copy of it has the keys struck out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from medisync.lake import Lake

SHAPE = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
"""How a key is written: a UUID, with or without its dashes."""

STRUCK_OUT = "[key removed]"

MOST_LOOKED_UP = 5_000
"""More strings of this shape than that are keys without being looked up: nothing else writes so many."""


def found_in(lake: Lake, texts: Iterable[str]) -> bool:
    """Whether one of ``texts`` holds a key of the lake as it is now."""
    shaped = {match.replace("-", "").lower() for text in texts for match in SHAPE.findall(text)}
    if not shaped:
        return False
    if len(shaped) > MOST_LOOKED_UP:
        return True
    rows = lake.query(
        "WITH shown AS (SELECT unnest(?::VARCHAR[])::UUID AS key) SELECT "
        "EXISTS (FROM clinical.admissions WHERE admission_key IN (FROM shown) OR patient_key IN (FROM shown) "
        "OR practitioner_key IN (FROM shown)) OR EXISTS (FROM clinical.patients WHERE patient_key IN (FROM shown)) "
        "AS is_there",
        [sorted(shaped)],
    )
    return bool(rows[0]["is_there"])


def outputs_of(document: dict[str, Any]) -> list[tuple[int, str]]:
    """Cell number (from 1, without the cell papermill puts in) and text of every output of an executed notebook."""
    cells = document.get("cells", [])
    own = [one for one in cells if "injected-parameters" not in one.get("metadata", {}).get("tags", [])]
    return [
        (number, text)
        for number, cell in enumerate(own, start=1)
        for output in cell.get("outputs", [])
        for text in _texts(output)
    ]


def struck_out(value: Any) -> Any:
    """``value`` (JSON) with everything of a key's shape struck out."""
    if isinstance(value, str):
        return SHAPE.sub(STRUCK_OUT, value)
    if isinstance(value, list):
        return [struck_out(one) for one in value]
    if isinstance(value, dict):
        return {struck_out(name): struck_out(one) for name, one in value.items()}
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        joined = ["".join(value)] if all(isinstance(one, str) for one in value) else []
        return joined or [text for one in value for text in _texts(one)]
    if isinstance(value, dict):
        return [text for name, one in value.items() for text in (str(name), *_texts(one))]
    return []
