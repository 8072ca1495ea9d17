"""The counts of a result as cells: the same number is one cell, however often and wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from medisync.analyses.contract import Result, Table
from medisync.analyses.meaning import Count, Meaning, Money, Share, TableMeaning

Dimensions = tuple[tuple[str, str], ...]
CellKey = tuple[str, Dimensions]
"""What is counted, and the value of every dimension, in the order of their names."""


@dataclass
class Cell:
    """One count or sum, and what became of it."""

    key: CellKey
    value: float
    is_money: bool = False
    is_here: bool = True  # in this document; otherwise only remembered from an earlier release
    is_fixed: bool = False  # shown before with this very value: withholding it now would protect nothing
    is_withheld: bool = False
    low: float | None = None  # an attacker must think the value as low as this possible, and
    high: float | None = None  # as high as this; None: needs no protection
    most: float | None = None  # a marker said "fewer than": no larger value is possible
    is_small: bool = False
    is_dominated: bool = False
    is_held_back: bool = False
    is_exposed: bool = False  # what was released earlier gives it away already

    @property
    def needs_protection(self) -> bool:
        return self.low is not None and self.high is not None and not self.is_exposed


@dataclass
class Cells:
    """All cells of one result. ``places`` maps (table or "", column, row or metric) to the cell's key."""

    by_key: dict[CellKey, Cell] = field(default_factory=dict)
    places: dict[tuple[str, str, int], CellKey] = field(default_factory=dict)
    shares: dict[tuple[str, str, int], tuple[CellKey, CellKey]] = field(default_factory=dict)
    conflicts: set[CellKey] = field(default_factory=set)
    """Cells that stand in one document with two values: a declaration is wrong, and none of them is shown."""

    def add(self, key: CellKey, value: float, *, is_money: bool = False) -> Cell:
        cell = self.by_key.setdefault(key, Cell(key, value, is_money))
        if cell.value != value:
            self.conflicts.add(key)
        return cell


def collect(result: Result) -> Cells:
    """Every declared count, sum of money, and count or total that a share stands for."""
    cells = Cells()
    words = _Words({**result.metrics, "data_from": result.data_from, "data_until": result.data_until})
    for name, table in result.tables.items():
        meaning = result.disclosure.tables.get(name)
        if meaning is not None:
            _collect_table(cells, name, table, meaning, words)
    for name, one in result.disclosure.metrics.items():
        value = result.metrics.get(name)
        if isinstance(one, Count) and is_number(value):
            key = _key(one, {}, words)
            cells.add(key, float(value))  # type: ignore[arg-type]
            cells.places["", name, 0] = key
    for name, one in result.disclosure.metrics.items():
        if isinstance(one, Share) and one.count is not None and is_number(result.metrics.get(name)):
            _collect_share(cells, ("", name, 0), _key(one.count, {}, words), one)
    return cells


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def meaning_of(meaning: TableMeaning, column: str) -> Meaning | None:
    return meaning.columns.get(column, meaning.others)


def _collect_table(cells: Cells, name: str, table: Table, meaning: TableMeaning, words: _Words) -> None:
    position = {column: place for place, column in enumerate(table.columns)}
    for column in table.columns:
        one = meaning_of(meaning, column)
        if not isinstance(one, (Count, Money)):
            continue
        for row, values in enumerate(table.rows):
            value = values[position[column]]
            if is_number(value):
                own = _Words({**words, **dict(zip(table.columns, values, strict=True))})
                key = _key(one, {name: own[source] for name, source in one.by.items()}, own)
                cells.add(key, float(value), is_money=isinstance(one, Money))  # type: ignore[arg-type]
                cells.places[name, column, row] = key
    for column in table.columns:
        one = meaning_of(meaning, column)
        if isinstance(one, Share):
            for row, values in enumerate(table.rows):
                counted = cells.places.get((name, one.of or "", row))
                if counted is not None and is_number(values[position[column]]):
                    _collect_share(cells, (name, column, row), counted, one)


def _collect_share(cells: Cells, place: tuple[str, str, int], key: CellKey, share: Share) -> None:
    """A share shows its count, and with the count its total: both become cells, also where neither stands alone."""
    total = (key[0], tuple((name, value) for name, value in key[1] if name in share.total))
    for one in (total, key):
        if one not in cells.by_key:
            parts = list(_finest(cells, one))
            if not parts:
                return
            cells.add(one, sum(cell.value for cell in parts))
    cells.shares[place] = (key, total)


def _finest(cells: Cells, key: CellKey) -> Iterator[Cell]:
    """The cells with most dimensions that make up ``key``."""
    wanted = set(key[1])
    parts = [cell for cell in cells.by_key.values() if cell.key[0] == key[0] and wanted < set(cell.key[1])]
    most = max((len(cell.key[1]) for cell in parts), default=0)
    yield from (cell for cell in parts if len(cell.key[1]) == most)


def _key(one: Count | Money, by: Mapping[str, object], words: _Words) -> CellKey:
    everything = one.everything if isinstance(one, Count) else ()
    dimensions = {name.format_map(words): value.format_map(words) for name, value in one.where.items()}
    dimensions |= {name.format_map(words): str(value) for name, value in by.items() if value not in everything}
    return one.of.format_map(words), tuple(sorted(dimensions.items()))


class _Words(dict[str, object]):
    """What may stand in braces in a declaration; an unknown name stays as it is."""

    def __missing__(self, name: str) -> str:
        return f"{{{name}}}"
