"""Complementary suppression: withhold few more cells, so that no small one follows from the totals.

A small cell is safe when the numbers that are shown fit other values of it as well, down to 1 and up to the threshold
less one. Such a fit is a *move*: some leaves (the finest cells of a table) change, and every total that changes with
them is withheld. For each cell in need the cheapest move is looked for among four kinds, and the cells it changes are
withheld: several withheld siblings of the same totals share the change; a partner elsewhere takes it, and the totals
between them are withheld; two rows and two columns exchange it (the corners of a rectangle); or all totals above go
with it. Where tables share cells, and for totals, a linear programme finds the move. Since each move stays possible
when more is withheld, cells can be protected one after the other.

Rectangles are the hypercube method: Repsilber (1994), as in Hundepool et al., Handbook on Statistical Disclosure
Control (ESSNet, 2nd ed.), chapter 4, https://sdctools.github.io/HandbookSDC/04-magnitude-tabular-data.html. The test
of the whole is an attack by linear programming, which knows nothing of moves.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from medisync.disclosure.cells import Cell, CellKey
from medisync.disclosure.programme import Sums, cheapest_change
from medisync.disclosure.threshold import is_small

LEAST = 1.0
"""Zeros are shown, so that whoever sees a marker knows that the count is at least one."""
MOST_CANDIDATES = 400
"""Partners tried for one cell; more would take long and seldom save a cell."""

Move = dict[CellKey, float]


@dataclass
class Family:
    """A table's finest cells, and the totals some of them add up to."""

    leaves: dict[CellKey, Cell]
    totals: dict[CellKey, Cell] = field(default_factory=dict)
    members: dict[CellKey, list[CellKey]] = field(default_factory=dict)
    above: dict[CellKey, tuple[CellKey, ...]] = field(default_factory=dict)
    pools: dict[tuple[CellKey, ...], list[CellKey]] = field(default_factory=dict)

    def changed(self, move: Move) -> dict[CellKey, float]:
        """Every cell the move changes, leaves and totals, and by how much."""
        sums: dict[CellKey, float] = defaultdict(float)
        for key, amount in move.items():
            sums[key] += amount
            for total in self.above[key]:
                sums[total] += amount
        return {key: amount for key, amount in sums.items() if abs(amount) > 1e-9}

    def cell(self, key: CellKey) -> Cell:
        return self.leaves.get(key) or self.totals[key]


@dataclass
class _Tables:
    """All linked tables of one release."""

    families: list[Family]
    cells: dict[CellKey, Cell]

    def __post_init__(self) -> None:
        seen: set[CellKey] = set()
        self.within: dict[CellKey, list[Family]] = defaultdict(list)
        self.shared: set[CellKey] = set()
        """Cells of several tables: a move within one table must leave them as they are."""
        heads: Counter[CellKey] = Counter()
        for family in self.families:
            keys = {*family.leaves, *family.totals}
            self.shared |= seen & keys
            seen |= keys
            heads.update(family.totals.keys())
            for key in keys:
                self.within[key].append(family)
        self.sums = Sums([(key, members) for family in self.families for key, members in family.members.items()])
        self.prices = {key: _price(cell) * (1 + 2 * heads[key]) for key, cell in self.cells.items()}


def protect(cells: Iterable[Cell], threshold: int) -> None:
    """Withhold what must be withheld so that no cell in need can be worked out; marks the cells themselves.

    A cell nothing can protect, since what was released before gives it away already, is marked exposed.
    """
    by_key = {cell.key: cell for cell in cells}
    families = _families(list(by_key.values()), threshold)
    for family in families:
        by_key = {**family.leaves, **by_key}  # with those who are not listed
    needy = [cell for cell in by_key.values() if cell.needs_protection]
    needy.sort(key=lambda cell: (-cell.value, cell.key))
    for cell in needy:
        cell.is_withheld, cell.is_exposed = True, cell.is_fixed
    tables = _Tables(families, by_key)
    for family in families:
        for key, members in family.members.items():
            total = family.totals[key]  # of so many groups that it is at least one of each is no secret
            total.low = max(total.low, sum(tables.cells[one].value > 0 for one in members)) if total.low else None
            total.low = min(total.low, total.value) if total.low else None
    for cell in needy:
        low, high = cell.low or 0.0, cell.high or 0.0
        for amount in (high - cell.value, low - cell.value):
            if not cell.is_exposed and not _protected(cell, amount, tables):
                cell.is_exposed = True


def _families(cells: list[Cell], threshold: int) -> list[Family]:
    """Tables with the totals that hold: a cell counts as the total of those it is the sum of."""
    groups: dict[tuple[str, tuple[str, ...]], dict[CellKey, Cell]] = defaultdict(dict)
    for cell in cells:
        groups[cell.key[0], tuple(name for name, _ in cell.key[1])][cell.key] = cell
    families = []
    for (what, names), leaves in groups.items():
        family = Family(leaves)
        for (other, kept), totals in groups.items():
            if other != what or not set(kept) < set(names):
                continue
            parts: dict[CellKey, list[CellKey]] = defaultdict(list)
            for key in leaves:
                parts[what, tuple(pair for pair in key[1] if pair[0] in kept)].append(key)
            for key, everything in parts.items():
                here = [one for one in everything if leaves[one].is_here]
                for members in (here, everything) if key in totals else ():  # remembered ones may be gone by now
                    rest = totals[key].value - sum(leaves[one].value for one in members)
                    if not members or rest < -1e-9 or (rest > 1e-9 and not is_small(rest, threshold)):
                        continue
                    family.totals[key], family.members[key] = totals[key], members
                    if rest > 1e-9:  # few people the table does not list: they must not follow from it either
                        family.members[key] = [*members, _unlisted(family, key, names, rest, threshold)]
                    break
        above: dict[CellKey, list[CellKey]] = {key: [] for key in family.leaves}
        for total_key, members in family.members.items():
            for key in members:
                above[key].append(total_key)
        family.above = {key: tuple(sorted(totals_of)) for key, totals_of in above.items()}
        for key, totals_of in family.above.items():
            family.pools.setdefault(totals_of, []).append(key)
        if family.totals:
            families.append(family)
    return _without_implied(families)


def _unlisted(family: Family, total: CellKey, names: tuple[str, ...], rest: float, threshold: int) -> CellKey:
    """A leaf for those a total counts and its table does not list."""
    given = dict(total[1])
    key = total[0], tuple((name, given.get(name, "(unlisted)")) for name in names)
    leaf = Cell(key, rest, is_here=False, is_withheld=True, low=1.0, high=max(rest, threshold - 1.0))
    family.leaves = {**family.leaves, key: leaf}
    return key


def _without_implied(families: list[Family]) -> list[Family]:
    """Leave out tables all of whose cells are totals of a finer one that has the same totals, too."""
    kept = []
    for family in families:
        is_implied = any(
            other is not family and set(family.leaves) <= set(other.totals) and set(family.totals) <= set(other.totals)
            for other in families
        )
        if not is_implied:
            kept.append(family)
    return kept


def _protected(cell: Cell, amount: float, tables: _Tables) -> bool:
    """Find the cheapest move that takes ``cell`` by ``amount``, and withhold for it; False when there is none."""
    families = tables.within[cell.key]
    if amount == 0 or not families:
        return True
    plans: list[tuple[float, set[CellKey]]] = []
    if len(families) == 1 and cell.key in families[0].leaves:
        pooled = _pooled(families[0], cell, amount, tables.shared)
        plans += [pooled] if pooled is not None else []
        above = families[0].above[cell.key]
        is_done = pooled is not None and (pooled[0] == 0 or len(above) == 1)
        is_stuck = len(above) == 1 and above[0] in tables.shared  # only a sibling could take it
        for move in _moves(families[0], cell, amount) if not is_done and not is_stuck else ():
            found = _cost(families[0], move, tables.shared)
            plans += [found] if found is not None else []
            if found is not None and found[0] == 0:
                break
    if not plans:
        change = cheapest_change(tables.cells, tables.sums, cell.key, amount, tables.prices, LEAST)
        if change is None:
            return False
        plans.append((0.0, change))
    for key in min(plans, key=lambda plan: (plan[0], len(plan[1]), sorted(plan[1])))[1]:
        tables.cells[key].is_withheld = True
    return True


def _pooled(family: Family, cell: Cell, amount: float, frozen: set[CellKey]) -> tuple[float, set[CellKey]] | None:
    """Siblings under the very same totals take the change together."""
    way, reach = (1, amount) if amount > 0 else (-1, -amount)
    siblings = [
        family.leaves[key]
        for key in family.pools[family.above[cell.key]]
        if key != cell.key and key not in frozen and not family.leaves[key].is_fixed and family.leaves[key].value > 0
    ]
    missing = reach - sum(_room(one, -way) for one in siblings if one.is_withheld)
    if missing <= 0:
        return 0.0, set()
    open_ones = sorted((one for one in siblings if not one.is_withheld), key=lambda one: (one.value, one.key))
    enough = [one for one in open_ones if _room(one, -way) >= missing]
    if enough:
        return _price(enough[0]), {enough[0].key}
    chosen: set[CellKey] = set()
    price = 0.0
    for one in reversed(open_ones):
        chosen.add(one.key)
        price += _price(one)
        missing -= _room(one, -way)
        if missing <= 0:
            return price, chosen
    return None


def _room(cell: Cell, way: int) -> float:
    """How far a withheld cell may be thought to go up or down."""
    if way < 0:
        return cell.value - LEAST
    return math.inf if cell.most is None else cell.most - cell.value


def _moves(family: Family, cell: Cell, amount: float) -> Iterator[Move]:
    """Partners, rectangles, and all totals above."""
    leaves = family.leaves
    partners = sorted(
        (one for one in leaves.values() if one.key != cell.key and one.value > 0 and not one.is_fixed),
        key=lambda one: (
            not one.is_withheld,
            len(set(dict(one.key[1]).items()) ^ set(cell.key[1])),
            one.value,
            one.key,
        ),
    )[:MOST_CANDIDATES]
    own = dict(cell.key[1])
    for partner in partners:
        yield {cell.key: amount, partner.key: -amount}
        theirs = dict(partner.key[1])
        different = [name for name in own if own[name] != theirs[name]]
        for name in different if len(different) == 2 else ():  # the corner opposite; it fixes the two others
            other = next(one for one in different if one != name)
            across = _with(cell.key, name, theirs[name])
            along = _with(cell.key, other, theirs[other])
            if across in leaves and along in leaves:
                yield {cell.key: amount, across: -amount, along: -amount, partner.key: amount}
            break
    yield {cell.key: amount}


def _with(key: CellKey, name: str, value: str) -> CellKey:
    return key[0], tuple((one, value if one == name else old) for one, old in key[1])


def _cost(family: Family, move: Move, frozen: set[CellKey]) -> tuple[float, set[CellKey]] | None:
    """What withholding for ``move`` costs, and which cells; None when it cannot be."""
    price, keys = 0.0, set[CellKey]()
    for key, amount in family.changed(move).items():
        cell = family.cell(key)
        if cell.is_fixed or key in frozen or cell.value <= 0 or cell.value + amount < LEAST:
            return None
        if cell.most is not None and cell.value + amount > cell.most and not cell.needs_protection:
            return None
        if not cell.is_withheld:
            price += _price(cell) * (3 if key in family.totals else 1)
            keys.add(key)
    return price, keys


def _price(cell: Cell) -> float:
    """Fewer cells first, then those that say less."""
    return 1.0 + 0.02 * math.log1p(abs(cell.value))
