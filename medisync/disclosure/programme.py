"""Complementary suppression where tables are linked in more than one way: the cheapest move by linear programming.

The smallest weighted change of all cells that takes one cell as far as needed and leaves every sum a sum; cells that
change are withheld. The relaxation of Fischetti and Salazar-Gonzalez (2000), Models and algorithms for optimizing cell
suppression in tabular data with linear constraints, Journal of the American Statistical Association 95(451), 916-928.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from medisync.disclosure.cells import Cell, CellKey

if TYPE_CHECKING:
    import numpy as np

Equation = tuple[CellKey, Sequence[CellKey]]
"""A total and the cells it is the sum of."""


class Sums:
    """All sums of linked tables, and where each cell stands in them."""

    def __init__(self, equations: Sequence[Equation]) -> None:
        self.equations = equations
        self._places: dict[CellKey, list[int]] = {}
        for at, (total, members) in enumerate(equations):
            for key in (total, *members):
                self._places.setdefault(key, []).append(at)

    def is_total(self, key: CellKey) -> bool:
        return any(self.equations[at][0] == key for at in self._places.get(key, ()))

    def of(self, keys: Iterable[CellKey]) -> set[int]:
        """The sums any of ``keys`` stands in."""
        return {at for key in keys for at in self._places.get(key, ())}

    def linked(self, wanted: CellKey, *, within: int | None = None) -> set[CellKey]:
        """All cells that sums connect with ``wanted``, or those that ``within`` so many sums in a row do."""
        linked, waiting, steps = {wanted}, {wanted}, 0
        done: set[int] = set()
        while waiting and (within is None or steps < within):
            new = self.of(waiting) - done
            done |= new
            waiting = {key for at in new for key in (self.equations[at][0], *self.equations[at][1])} - linked
            linked |= waiting
            steps += 1
        return linked


def cheapest_change(
    cells: Mapping[CellKey, Cell],
    sums: Sums,
    wanted: CellKey,
    amount: float,
    prices: Mapping[CellKey, float],
    least: float,
) -> set[CellKey] | None:
    """The cells that change when ``wanted`` changes by ``amount`` at the least price; None when it cannot.

    A cell stays at or above ``least``, at or below its ``most``, and as it is when it is fixed or nobody's. What is
    near is tried first.
    """
    near, every = sums.linked(wanted, within=3 if sums.is_total(wanted) else 2), sums.linked(wanted)
    found = _solved(cells, sums, near, wanted, amount, prices, least)
    return _solved(cells, sums, every, wanted, amount, prices, least) if found is None and near != every else found


def _solved(
    cells: Mapping[CellKey, Cell],
    sums: Sums,
    free: set[CellKey],
    wanted: CellKey,
    amount: float,
    prices: Mapping[CellKey, float],
    least: float,
) -> set[CellKey] | None:
    """The same while all but the ``free`` cells stay as they are."""
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import coo_matrix, hstack

    keys = sorted(free)
    place = {key: at for at, key in enumerate(keys)}
    within = [sums.equations[at] for at in sorted(sums.of(free))]
    rows: list[int] = []
    columns: list[int] = []
    numbers: list[float] = []
    for row, (total, members) in enumerate(within):
        for key, number in ((total, -1.0), *((member, 1.0) for member in members)):
            if key not in place:
                continue
            rows.append(row)
            columns.append(place[key])
            numbers.append(number)
    matrix = coo_matrix((numbers, (rows, columns)), shape=(len(within), len(keys)))
    cost = np.array([1e-4 if cells[key].is_withheld else prices[key] for key in keys])
    up, down = _limits(cells, keys, place[wanted], amount, least)
    answer = linprog(
        np.concatenate([cost, cost]),
        A_eq=hstack([matrix, -matrix]).tocsr(),
        b_eq=np.zeros(len(within)),
        bounds=np.vstack([up, down]),
        method="highs",
    )
    if answer.status != 0:
        return None
    change = np.abs(answer.x[: len(keys)] - answer.x[len(keys) :])
    return {key for key, size in zip(keys, change, strict=True) if size > 1e-7}


def _limits(
    cells: Mapping[CellKey, Cell], keys: list[CellKey], wanted: int, amount: float, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of every cell's change upwards and downwards."""
    import numpy as np

    up, down = np.zeros((len(keys), 2)), np.zeros((len(keys), 2))
    for at, key in enumerate(keys):
        cell = cells[key]
        if not cell.is_fixed and cell.value > 0:
            up[at, 1] = np.inf if cell.most is None else max(0.0, cell.most - cell.value)
            down[at, 1] = max(0.0, cell.value - least)
    up[wanted] = max(amount, 0.0)
    down[wanted] = max(-amount, 0.0)
    return up, down
