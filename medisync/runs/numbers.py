"""Two results, number by number.

Every value of a result has an address: its place (``metrics``, ``table weekly``, ``rows forecasts``), its row, named by
the row's words and dates, and its column. Values with one address are compared exactly; how far two numbers are apart
is ``|a - b| / max(|a|, |b|)``, from 0 (the same) to 2 (opposite signs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from medisync.analyses.contract import Result, Scalar, Table

Address = tuple[str, str, str]


@dataclass(frozen=True)
class Change:
    """One value that is not the same. None stands for one that is missing on that side."""

    place: str
    row: str
    column: str
    before: Scalar
    after: Scalar

    @property
    def relative(self) -> float | None:
        """How far apart two numbers are; None where one is none."""
        if not (is_number(self.before) and is_number(self.after)):
            return None
        before, after = float(self.before or 0), float(self.after or 0)
        return abs(after - before) / max(abs(before), abs(after)) if before != after else 0.0

    @property
    def absolute(self) -> float | None:
        if not (is_number(self.before) and is_number(self.after)):
            return None
        return abs(float(self.after or 0) - float(self.before or 0))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "relative": self.relative}


@dataclass(frozen=True)
class Moved:
    """One place of a result: how many of its values differ, and by how much at most."""

    place: str
    compared: int
    different: int
    largest_relative: float | None
    largest_absolute: float | None
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def values_of(result: Result) -> dict[Address, Scalar]:
    """Every value of ``result`` by its address; figures are drawn from these."""
    found: dict[Address, Scalar] = {
        ("text", "", "headline"): result.headline,
        ("text", "", "finding"): result.finding.value,
        ("text", "", "data from"): result.data_from.isoformat() if result.data_from else None,
        ("text", "", "data until"): result.data_until.isoformat() if result.data_until else None,
    }
    for number, warning in enumerate(result.warnings, start=1):
        found["warnings", str(number), "text"] = warning
    for name, value in result.metrics.items():
        found["metrics", "", name] = value
    for place, table in _tables(result):
        for row, values in _rows(table):
            for column, value in zip(table.columns, values, strict=True):
                found[place, row, column] = value
    return found


def changes(before: Result, after: Result) -> list[Change]:
    """Every value that differs, the largest move first; values that are no numbers come last."""
    old, new = values_of(before), values_of(after)
    found = [
        Change(*address, old.get(address), new.get(address))
        for address in dict.fromkeys([*old, *new])
        if not _same(old.get(address), new.get(address)) or (address in old) != (address in new)
    ]
    return sorted(found, key=lambda one: (one.relative is None, -(one.relative or 0.0), -(one.absolute or 0.0)))


def moved(before: Result, after: Result) -> list[Moved]:
    """Every place of either result with its differences, in the order of the result; also where there is none."""
    old, new = values_of(before), values_of(after)
    compared = Counter(address[0] for address in {*old, *new})
    by_place: dict[str, list[Change]] = {place: [] for place in dict.fromkeys(a[0] for a in [*old, *new])}
    for change in changes(before, after):
        by_place[change.place].append(change)
    found = [
        Moved(
            place,
            compared[place],
            len(differences),
            max((one.relative for one in differences if one.relative is not None), default=None),
            max((one.absolute for one in differences if one.absolute is not None), default=None),
        )
        for place, differences in by_place.items()
    ]
    return [*found, *_order_and_figures(before, after)]


def is_number(value: Scalar) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _order_and_figures(before: Result, after: Result) -> Iterator[Moved]:
    """What addresses do not tell: rows in another order, and drawings that differ although their numbers do not."""
    old = dict(_tables(before))
    for place, table in _tables(after):
        if (
            place in old
            and old[place].rows != table.rows
            and sorted(map(str, old[place].rows)) == sorted(map(str, table.rows))
        ):
            yield Moved(f"order of {place}", len(table.rows), len(table.rows), None, None, "rows in another order")
    drawn = {one.name: one.svg for one in before.figures}
    for figure in after.figures:
        differs = drawn.pop(figure.name, None) != figure.svg
        yield Moved(f"figure {figure.name}", 1, int(differs), None, None, "drawn differently" if differs else None)
    for name in drawn:
        yield Moved(f"figure {name}", 1, 1, None, None, "no longer drawn")


def _tables(result: Result) -> Iterator[tuple[str, Table]]:
    yield from ((f"table {name}", table) for name, table in result.tables.items())
    yield from ((f"rows {name}", table) for name, table in result.lake_rows.items())


def _rows(table: Table) -> Iterator[tuple[str, tuple[Scalar, ...]]]:
    """Each row with its name: its words and dates, and a number where several have the same."""
    seen: Counter[str] = Counter()
    for position, row in enumerate(table.rows, start=1):
        words = [str(value) for value in row if isinstance(value, str)]
        if "quantile" in table.columns:  # a forecast's row is named by its quantile, too
            words.append(f"quantile {row[table.columns.index('quantile')]}")
        name = " · ".join(words) or f"row {position}"
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), row


def _same(before: Scalar, after: Scalar) -> bool:
    """Exactly the same, also in kind: 1 is not True, and 1 and 1.0 are one number."""
    return before == after and isinstance(before, bool) == isinstance(after, bool)
