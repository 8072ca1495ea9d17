"""An attacker with a linear programme: what can be worked out from released documents?

He sees the released documents, knows every table's structure (which cells add up to which), that withheld counts are
whole numbers of at least one, and what the marker "fewer than" says. He knows nothing of how cells were chosen. For
every withheld cell he asks for the smallest and the largest number that fits all he sees.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

from medisync.analyses.contract import Result
from medisync.disclosure.cells import CellKey, collect
from medisync.disclosure.document import ReleasedDocument
from medisync.disclosure.markers import Reason, Withheld


@dataclass(frozen=True)
class Interval:
    """What the attacker knows of one withheld cell; ``truth`` is for the test alone."""

    key: CellKey
    truth: float
    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low


def seen(result: Result, document: ReleasedDocument) -> dict[CellKey, float | Withheld]:
    """Per cell what a reader finds in the document: read from its tables, metrics and shares, not from its cells."""
    truth = collect(result)
    found: dict[CellKey, float | Withheld] = {}
    rows = _row_places(result, document)
    for (table, column, row), key in truth.places.items():
        if not table:
            value = document.metrics[column]
        else:
            released = document.tables[table]
            value = released.rows[rows[table][row]][released.columns.index(column)]
        if isinstance(value, Withheld):
            found.setdefault(key, value)
        else:
            found[key] = float(value)
    for (table, column, row), (part, total) in truth.shares.items():
        released = document.tables.get(table)
        value = (
            released.rows[rows[table][row]][released.columns.index(column)] if released else document.metrics[column]
        )
        if not isinstance(value, Withheld):  # a share and its total give the count
            found[part], found[total] = truth.by_key[part].value, truth.by_key[total].value
    return found


def unchanged_and_shown(before: Result, after: Result, document: ReleasedDocument) -> dict[CellKey, float]:
    """What the second release tells of the first: counts it shows that nobody was added to or taken from."""
    old, shown = collect(before).by_key, seen(after, document)
    return {
        key: value
        for key, value in shown.items()
        if key in old and not isinstance(value, Withheld) and value == old[key].value
    }


def _row_places(result: Result, document: ReleasedDocument) -> dict[str, dict[int, int]]:
    """Where each row of the full table went: by its labels, which the released one shows."""
    places: dict[str, dict[int, int]] = {}
    for name, released in document.tables.items():
        full = result.tables[name]
        meaning = result.disclosure.tables[name]
        labels = [c for c in released.columns if c in meaning.columns and meaning.columns[c].kind == "label"]
        where = {
            tuple(row[released.columns.index(label)] for label in labels): at for at, row in enumerate(released.rows)
        }
        places[name] = {
            at: where[tuple(row[full.columns.index(label)] for label in labels)] for at, row in enumerate(full.rows)
        }
    return places


def attack(
    released: Sequence[tuple[Result, ReleasedDocument]],
    *,
    only_small: int | None = None,
    every: int = 1,
    also_known: Mapping[CellKey, float] | None = None,
) -> list[Interval]:
    """What can be known of each withheld cell from all documents together; with ``only_small`` of those below it, of
    which one in ``every`` is tried. ``also_known`` is what he learned elsewhere."""
    truth: dict[CellKey, float] = {}
    known: dict[CellKey, float | Withheld] = {}
    for result, document in released:
        truth |= {key: cell.value for key, cell in collect(result).by_key.items()}
        for key, value in seen(result, document).items():
            if key not in known or isinstance(known[key], Withheld):
                known[key] = value
    known |= {key: value for key, value in (also_known or {}).items() if key in truth}
    for key in truth:
        known.setdefault(key, Withheld(withheld=Reason.PROTECTED, text="not shown at all"))
    found = []
    for component in _components(truth):
        found += _solve(component, truth, known, only_small, every)
    return found


def _equations(truth: dict[CellKey, float]) -> list[tuple[CellKey, list[CellKey], float]]:
    """Every total with the cells of every finer table below it, and how many it counts that are not listed there."""
    tables: dict[tuple[str, tuple[str, ...]], list[CellKey]] = defaultdict(list)
    for key in truth:
        tables[key[0], tuple(name for name, _ in key[1])].append(key)
    equations = []
    for (what, names), leaves in tables.items():
        for (other, kept), totals in tables.items():
            if other == what and set(kept) < set(names):
                groups: dict[CellKey, list[CellKey]] = defaultdict(list)
                for key in leaves:
                    groups[what, tuple(pair for pair in key[1] if pair[0] in kept)].append(key)
                for total in totals:
                    if groups[total]:
                        rest = truth[total] - sum(truth[key] for key in groups[total])
                        if rest > -1e-9:
                            equations.append((total, groups[total], rest))
    return equations


def _components(truth: dict[CellKey, float]) -> list[list[tuple[CellKey, list[CellKey], float]]]:
    parent: dict[CellKey, CellKey] = {key: key for key in truth}

    def root(key: CellKey) -> CellKey:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    equations = _equations(truth)
    for total, members, _ in equations:
        for key in members:
            parent[root(key)] = root(total)
    groups: dict[CellKey, list[tuple[CellKey, list[CellKey], float]]] = defaultdict(list)
    for equation in equations:
        groups[root(equation[0])].append(equation)
    for key in truth:
        if root(key) not in groups:
            groups[root(key)].append((key, [], 0.0))
    return list(groups.values())


def _solve(
    equations: list[tuple[CellKey, list[CellKey], float]],
    truth: dict[CellKey, float],
    known: dict[CellKey, float | Withheld],
    only_small: int | None,
    every: int,
) -> list[Interval]:
    keys = sorted({key for total, members, _ in equations for key in (total, *members)})
    place = {key: at for at, key in enumerate(keys)}
    bounds: list[tuple[float, float | None]] = []
    for key in keys:
        value = known[key]
        if isinstance(value, Withheld):
            bounds.append((1.0 if truth[key] >= 1 else 0.0, value.below - 1.0 if value.below else None))
        else:
            bounds.append((value, value))
    rows, columns, numbers = [], [], []
    count = 0
    for total, members, rest in equations:
        if not members:
            continue
        for key, number in ((total, -1.0), *((key, 1.0) for key in members)):
            rows.append(count)
            columns.append(place[key])
            numbers.append(number)
        if rest > 1e-9:  # some are not listed: how many, nobody says
            rows.append(count)
            columns.append(len(bounds))
            numbers.append(1.0)
            bounds.append((1.0, None))
        count += 1
    wanted = [
        key
        for key in keys
        if isinstance(known[key], Withheld) and truth[key] > 0 and (only_small is None or truth[key] < only_small)
    ][::every]
    matrix = coo_matrix((numbers, (rows, columns)), shape=(count, len(bounds))).tocsr() if count else None
    return [
        Interval(key, truth[key], *(_extreme(place[key], sign, matrix, bounds) for sign in (1, -1))) for key in wanted
    ]


def _extreme(place: int, sign: int, matrix: object, bounds: list[tuple[float, float | None]]) -> float:
    if matrix is None:
        value = bounds[place][0 if sign > 0 else 1]
        return float("inf") if value is None else value
    cost = np.zeros(len(bounds))
    cost[place] = sign
    answer = linprog(cost, A_eq=matrix, b_eq=np.zeros(matrix.shape[0]), bounds=bounds, method="highs")  # type: ignore[attr-defined]
    if answer.status == 3:  # unbounded
        return float("inf")
    assert answer.status == 0, answer.message
    return float(sign * answer.fun)
