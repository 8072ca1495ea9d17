"""From a result to what may be released of it. Pure: no I/O, no clock."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from medisync.analyses.contract import Finding, Result, Scalar, Table
from medisync.analyses.meaning import Count, Derived, Label, Meaning, Money, Share, TableMeaning
from medisync.disclosure.cells import Cell, CellKey, Cells, collect, is_number, meaning_of
from medisync.disclosure.differencing import gives_away
from medisync.disclosure.document import ReleasedCell, ReleasedDocument, ReleasedTable, ReleasedValue
from medisync.disclosure.dominance import is_dominated
from medisync.disclosure.markers import DOMINATED, PROTECTED, UNDECLARED, Withheld, small
from medisync.disclosure.note import note_of
from medisync.disclosure.policy import Policy
from medisync.disclosure.protection import protect
from medisync.disclosure.rounding import rounded
from medisync.disclosure.threshold import is_small

IN_WORDS = {
    Finding.SIGNAL: "there is something to see, and it survived the tests",
    Finding.NOTHING: "looked properly, found nothing",
    Finding.DESCRIPTION: "a description of the data; no claim was tested",
    Finding.TOO_LITTLE: "not enough data to say",
}


def release(result: Result, policy: Policy, earlier: Sequence[ReleasedCell] = ()) -> ReleasedDocument:
    """What of ``result`` may be shown under ``policy``, given the cells of ``earlier`` releases.

    Counts below the threshold are withheld, and as few others as protect them; so are counts that differ by a few
    people from what was released before. Everything without a declared meaning is left out, and so are figures,
    sentences and derived numbers that would say more than the tables do. Never raises for what a result holds.
    """
    cells = collect(result)
    _remember(cells, earlier, policy)
    _judge(cells, _contributions(result, cells), policy)
    if not _repeat(cells, earlier):
        protect(cells.by_key.values(), policy.threshold)
    for key in cells.conflicts:
        cells.by_key[key].is_withheld = True
    return _Writer(result, policy, cells).document()


def _remember(cells: Cells, earlier: Sequence[ReleasedCell], policy: Policy) -> None:
    """Cells of earlier releases: shown with the same value they are known for good; once withheld they stay so while
    they have changed by fewer people than the threshold (they may be what protects another one), and those within
    reach of a shown value are held back."""
    counted = {key[0] for key in cells.by_key}
    by_key: dict[CellKey, list[ReleasedCell]] = defaultdict(list)
    for one in earlier:
        if one.of in counted:
            by_key[one.of, one.dimensions].append(one)
    for key, before in by_key.items():
        cell = cells.by_key.get(key)
        if cell is None:  # not of this document, but it may add up with what is
            last = before[-1]
            cell = cells.by_key[key] = Cell(key, last.value, is_here=False)
            cell.most = policy.threshold - 1 if last.is_small else None
        shown = [one.value for one in before if one.is_shown]
        withheld = [one.value for one in before if not one.is_shown]
        cell.is_fixed = cell.value in shown
        if cell.is_fixed or cell.is_money:
            continue
        near = policy.threshold - 1
        if gives_away(cell.value, shown, policy.threshold):
            cell.is_held_back = True
            close = [value for value in shown if is_small(cell.value - value, policy.threshold)]
            cell.low = max(1.0, min(value + 1 if value < cell.value else value - near for value in close))
            cell.high = max(value + near if value < cell.value else value - 1 for value in close)
            cell.low, cell.high = min(cell.low, cell.value), max(cell.high, cell.value)
        elif any(abs(cell.value - value) < policy.threshold for value in withheld) and cell.value > 0:
            cell.is_held_back = cell.is_here and not is_small(cell.value, policy.threshold)
            cell.low, cell.high = max(1.0, cell.value - 1), cell.value + 1  # as it was, it must not follow exactly
            if cell.most is not None:
                cell.high = min(cell.high, cell.most)


def _repeat(cells: Cells, earlier: Sequence[ReleasedCell]) -> bool:
    """When every count was shown or withheld before with this very value, the same is done again: nothing new is said,
    and what was withheld was protected then."""
    before = {(one.of, one.dimensions, one.value): one.is_shown for one in earlier}
    here = [cell for cell in cells.by_key.values() if cell.is_here]
    decided = {cell.key: before.get((*cell.key, cell.value)) for cell in here}
    if any(cell.is_money or decided[cell.key] is None for cell in here):
        return False
    if any(decided[cell.key] and (cell.is_small or cell.is_held_back) for cell in here):
        return False  # the policy is stricter now
    for cell in here:
        cell.is_withheld = not decided[cell.key]
    return True


def _judge(cells: Cells, contributions: dict[CellKey, tuple[float, float, float]], policy: Policy) -> None:
    """Primary suppression: which cells must not be worked out, and how wide the doubt about them must be."""
    for key, cell in cells.by_key.items():
        if cell.is_money:
            number, largest, second = contributions.get(key, (0.0, cell.value, 0.0))
            if is_small(number, policy.threshold) or is_dominated(
                cell.value,
                largest,
                second,
                k_percent=policy.dominance_percent,
                p_percent=policy.p_percent,
            ):
                cell.is_dominated = True
                margin = max(1.0, cell.value * policy.p_percent / 100)
                cell.low, cell.high = max(1.0, cell.value - margin), cell.value + margin
        elif is_small(cell.value, policy.threshold):
            cell.is_small = True
            cell.low, cell.high = min(1.0, cell.value), max(float(policy.threshold - 1), cell.value)


def _contributions(result: Result, cells: Cells) -> dict[CellKey, tuple[float, float, float]]:
    """Per sum of money: the number of contributions and the two largest."""
    found: dict[CellKey, tuple[float, float, float]] = {}
    for name, table in result.tables.items():
        meaning = result.disclosure.tables.get(name)
        for column in table.columns if meaning else ():
            one = meaning_of(meaning, column) if meaning else None
            if not isinstance(one, Money):
                continue
            helpers = [table.columns.index(helper) for helper in (one.count, one.largest, one.second)]
            for row, values in enumerate(table.rows):
                key = cells.places.get((name, column, row))
                if key is not None:
                    numbers = [values[place] for place in helpers]
                    known = [float(value) if is_number(value) else 0.0 for value in numbers]  # type: ignore[arg-type]
                    found[key] = (known[0], known[1], known[2])
    return found


@dataclass
class _Writer:
    """Writes the released document from the judged cells."""

    result: Result
    policy: Policy
    cells: Cells
    undeclared: list[str] = field(default_factory=list)
    incomplete: set[str] = field(default_factory=set)
    """Tables, columns (``table.column``) and metrics of which something is not shown as it is."""

    def document(self) -> ReleasedDocument:
        result, disclosure = self.result, self.result.disclosure
        people = sum(
            self.cells.by_key[key].value
            for (table, column, _), key in self.cells.places.items()
            if (table or column) == disclosure.population
        )
        self.has_enough = people >= self.policy.threshold
        isolated = self._isolated()
        self.small_ones = isolated
        self.broken = {table for (table, _, _), key in self.cells.places.items() if self.cells.by_key[key].is_withheld}
        metrics = {name: self._metric(name, value) for name, value in result.metrics.items()}
        for name, value in metrics.items():
            if isinstance(value, Withheld):
                self.incomplete.add(name)
        tables = {}
        for name, table in result.tables.items():
            meaning = disclosure.tables.get(name)
            if meaning is None:
                self.undeclared.append(name)
                self.incomplete.add(name)
            else:
                tables[name] = self._table(name, table, meaning)
        figures = tuple(
            one
            for one in result.figures
            if one.name in disclosure.figures_use and self._all_shown(disclosure.figures_use[one.name])
        )
        left_out = tuple(one.title for one in result.figures if one not in figures)
        uses = disclosure.headline_uses
        headline = result.headline if uses is not None and self._all_shown(uses) else self._safe_headline()
        notices = tuple(one for one in result.warnings if not re.search(r"\d", one))
        note = note_of(
            self.policy,
            self.cells,
            undeclared=tuple(self.undeclared),
            figures_left_out=left_out,
            headline_replaced=headline != result.headline,
            warnings_left_out=len(result.warnings) - len(notices),
        )
        return ReleasedDocument(
            schema_version=result.schema_version,
            analysis=result.analysis,
            title=result.title,
            headline=headline,
            finding=result.finding,
            data_from=result.data_from,
            data_until=result.data_until,
            metrics=metrics,
            tables=tables,
            figures=figures,
            warnings=notices,
            policy=self.policy,
            note=note,
            cells=tuple(self._released_cells()),
        )

    def _isolated(self) -> set[CellKey]:
        """Small counts nothing else adds up with: of these alone it may be said that they are small."""
        alone: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for what, dimensions in self.cells.by_key:
            alone[what].add(tuple(name for name, _ in dimensions))
        return {
            key
            for key, cell in self.cells.by_key.items()
            if cell.is_small and not cell.is_held_back and len(alone[key[0]]) == 1
        }

    def _all_shown(self, names: Sequence[str]) -> bool:
        return self.policy.rounding_base <= 1 and not self.incomplete.intersection(names)

    def _safe_headline(self) -> str:
        when = f", {self.result.data_from} to {self.result.data_until}" if self.result.data_from else ""
        return f"{self.result.title}{when}: {IN_WORDS[self.result.finding]}. Some numbers are withheld."

    def _metric(self, name: str, value: Scalar) -> ReleasedValue:
        meaning = self.result.disclosure.metrics.get(name)
        if meaning is None and value is not None:
            self.undeclared.append(name)
            return UNDECLARED
        return self._value(("", name, 0), value, meaning)

    def _table(self, name: str, table: Table, meaning: TableMeaning) -> ReleasedTable:
        kept = []
        for place, column in enumerate(table.columns):
            one = meaning_of(meaning, column)
            if one is not None:
                kept.append((place, column, one))
            elif any(values[place] is not None for values in table.rows):
                self.undeclared.append(f"{name}.{column}")
                self.incomplete |= {name, f"{name}.{column}"}
        rows = [
            tuple(self._value((name, column, row), values[place], one) for place, column, one in kept)
            for row, values in enumerate(table.rows)
        ]
        with_marker = [any(isinstance(value, Withheld) for value in values) for values in rows]
        if any(with_marker):
            self.incomplete.add(name)
            for place, (_, column, _) in enumerate(kept):
                if any(isinstance(values[place], Withheld) for values in rows):
                    self.incomplete.add(f"{name}.{column}")
            if meaning.ordered_by == "values":
                told = [values for values, marked in zip(rows, with_marker, strict=True) if not marked]
                marked = [values for values, marked in zip(rows, with_marker, strict=True) if marked]
                rows = told + sorted(marked, key=lambda values: [str(one) for one in values if isinstance(one, str)])
        return ReleasedTable(title=table.title, columns=tuple(column for _, column, _ in kept), rows=tuple(rows))

    def _value(self, place: tuple[str, str, int], value: Scalar, meaning: Meaning | None) -> ReleasedValue:
        if value is None or isinstance(meaning, Label):
            return value
        if isinstance(meaning, (Count, Money)):
            return self._counted(place, value)
        if isinstance(meaning, Share):
            return self._share(place, value)
        if not isinstance(meaning, Derived):
            return UNDECLARED
        table, _, row = place
        keys = [self.cells.places.get((table, source, row)) for source in meaning.sources]
        is_exact = bool(meaning.sources or meaning.whole)
        if (
            any(key is not None and self.cells.by_key[key].is_withheld for key in keys)
            or self.broken.intersection(meaning.whole)
            or (is_exact and self.policy.rounding_base > 1)
            or (not is_exact and not self.has_enough)
        ):
            return PROTECTED
        if isinstance(value, float) and meaning.digits:
            return float(f"{value:.{meaning.digits}g}")
        return value

    def _counted(self, place: tuple[str, str, int], value: Scalar) -> ReleasedValue:
        key = self.cells.places.get(place)
        if key is None:
            return UNDECLARED
        cell = self.cells.by_key[key]
        if cell.is_withheld:
            if cell.is_money:
                return DOMINATED
            return small(self.policy.threshold) if key in self.small_ones else PROTECTED
        if cell.is_money or self.policy.rounding_base <= 1:
            return value
        base = rounded(cell.value, self.policy.rounding_base)
        return int(base) if isinstance(value, int) else base

    def _share(self, place: tuple[str, str, int], value: Scalar) -> ReleasedValue:
        pair = self.cells.shares.get(place)
        if pair is None or not isinstance(value, (int, float)):
            return UNDECLARED
        part, total = (self.cells.by_key[key] for key in pair)
        if part.is_withheld or total.is_withheld:
            return PROTECTED
        base = self.policy.rounding_base
        if base <= 1 or not part.value:
            return value
        whole = rounded(total.value, base)
        scale = value * total.value / part.value
        return scale * rounded(part.value, base) / whole if whole else PROTECTED

    def _released_cells(self) -> list[ReleasedCell]:
        return [
            ReleasedCell(
                of=key[0],
                dimensions=key[1],
                value=cell.value,
                is_shown=not cell.is_withheld,
                is_small=cell.is_withheld and key in self.small_ones,
            )
            for key, cell in self.cells.by_key.items()
            if cell.is_here and not cell.is_money
        ]
