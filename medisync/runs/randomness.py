"""Where a notebook may draw random numbers without a seed, or look at the clock: found by reading its code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medisync.runs.closure import without_magics

DRAWN_FROM_GLOBAL_STATE = re.compile(
    r"^(np|numpy)\.random\.(?!default_rng|Generator|SeedSequence|seed|PCG64|RandomState)\w+$"
)
DRAWN_BY_STDLIB = re.compile(r"^random\.(?!seed|Random|getstate)\w+$")
SEEDED_WHEN_GIVEN_A_NUMBER = re.compile(
    r"^((np|numpy)\.random\.)?(default_rng|RandomState|SeedSequence)$|^random\.Random$"
)
WANTS_RANDOM_STATE = frozenset({"sample", "train_test_split", "KMeans", "rvs", "bootstrap", "permutation_test"})
CLOCK = re.compile(
    r"(^|\.)(time\.time|datetime\.now|datetime\.utcnow|datetime\.today|date\.today|Timestamp\.now|Timestamp\.today"
    r"|uuid\.uuid[14]|uuid[14]|os\.urandom|secrets\.\w+|getpid)$"
)
SQL = re.compile(
    r"\b(random|uuid|gen_random_uuid|now|current_timestamp|current_date|today)\s*\(|\bUSING\s+SAMPLE\b|\bTABLESAMPLE\b",
    re.I,
)


@dataclass(frozen=True)
class Suspect:
    """A line whose value is another each time. ``where``: cell 3, or a helper module's name."""

    where: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.where}, line {self.line}: {self.what}"


def suspects(document: Mapping[str, Any], helpers: Mapping[str, bytes]) -> list[Suspect]:
    """What in the notebook's code cells and its helper modules (name -> source) is not the same each time."""
    found: list[Suspect] = []
    seeds = False
    for number, cell in enumerate(document["cells"], start=1):
        if cell["cell_type"] == "code":
            source = without_magics("".join(cell["source"]))
            seeds = seeds or bool(re.search(r"\brandom\.seed\(\s*[^)\s]", source))
            found += _of_source(source, f"cell {number}", has_seed=seeds)
    for name, content in helpers.items():
        found += _of_source(content.decode("utf-8", "replace"), name, has_seed=seeds)
    return found


def _of_source(source: str, where: str, *, has_seed: bool) -> Iterator[Suspect]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            what = _of_call(node, has_seed=has_seed)
            if what is not None:
                yield Suspect(where, node.lineno, what)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value):
            match = SQL.search(node.value)
            if match and re.search(r"\b(SELECT|FROM)\b", node.value, re.I):
                yield Suspect(where, node.lineno, f"SQL with {match.group().strip(' (')}")


def _of_call(node: ast.Call, *, has_seed: bool) -> str | None:
    try:
        name = ast.unparse(node.func)
    except ValueError:
        return None
    given = [*node.args, *(one.value for one in node.keywords)]
    has_number = any(not (isinstance(one, ast.Constant) and one.value is None) for one in given)
    if SEEDED_WHEN_GIVEN_A_NUMBER.match(name):
        return None if has_number else f"{name}() without a seed"
    if not has_seed and (DRAWN_FROM_GLOBAL_STATE.match(name) or DRAWN_BY_STDLIB.match(name)):
        return f"{name} draws without a seed"
    if CLOCK.search(name):
        return f"{name} is another value each time"
    last = name.rsplit(".", 1)[-1]
    keywords = {one.arg for one in node.keywords}
    if last in WANTS_RANDOM_STATE and "." in name and not keywords & {"random_state", "rng", "seed"} and not has_seed:
        return f"{name} without random_state"
    return None
