"""Two runs, two snapshots or two parameter sets side by side: inputs, code, parameters, environment, every number.

What is compared is told as data (:class:`Comparison`), in words and as JSON; command line, API and pages call the same
functions. No patient's value is in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from medisync.errors import ParameterError
from medisync.lake import Lake
from medisync.runs import differences, identity, input_changes, numbers, records, registry
from medisync.runs.differences import Difference
from medisync.runs.input_changes import DeliveryBetween, TableChange
from medisync.runs.numbers import Change
from medisync.runs.planning import SnapshotExpiredError, require_snapshot
from medisync.runs.published import results_of
from medisync.runs.records import NoSuchRunError

SHOWN_CHANGES = 20
SNAPSHOT = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Comparison:
    """``before`` and ``after`` name the two sides. ``changes`` are ranked by size, the largest first."""

    kind: str
    before: str
    after: str
    snapshots: tuple[int, int]
    tables: tuple[TableChange, ...] = ()
    deliveries: tuple[DeliveryBetween, ...] = ()
    differences: tuple[Difference, ...] = ()
    changes: tuple[Change, ...] = ()
    compared: int = 0
    note: str | None = None
    is_of_inputs: bool = True  # whether the input tables were looked at

    def sentence(self) -> str:
        """The comparison in one sentence."""
        rows = sum(one.created + one.updated + one.deleted for one in self.tables)
        told = []
        if rows:
            told.append(f"{rows:,} input rows changed by {_counted(len(self.deliveries), 'delivery', 'deliveries')}")
        elif self.is_of_inputs:
            told.append("the inputs are the same")
        for kind, word in (("code", "code"), ("parameters", "parameters"), ("environment", "environment")):
            which = [one.what for one in self.differences if one.kind == kind]
            if which:
                told.append(f"{word} differs ({', '.join(which[:5])}{' and more' if len(which) > 5 else ''})")
        if self.compared:
            told.append(
                f"{len(self.changes):,} of {self.compared:,} values differ"
                if self.changes
                else f"all {self.compared:,} values are the same"
            )
        return f"From {self.before} to {self.after}: {'; '.join(told)}."

    def lines(self) -> list[str]:
        """The comparison for people, line by line."""
        lines = [self.sentence()]
        if self.note:
            lines.append(self.note)
        lines += [
            f"  {one.table}: {one.created:,} rows created, {one.updated:,} updated, {one.deleted:,} deleted"
            for one in self.tables
            if one.created or one.updated or one.deleted
        ]
        lines += [
            f"  delivery {one.name}: {one.created:,} admissions created, {one.updated:,} updated, "
            f"{one.deleted:,} deleted"
            for one in self.deliveries
        ]
        lines += [f"  {one}" for one in self.differences]
        for one in self.changes[:SHOWN_CHANGES]:
            where = " · ".join(part for part in (one.place, one.row, one.column) if part)
            by = "" if one.relative is None else f" ({100 * one.relative:.3g} %)"
            lines.append(f"  {where}: {one.before} -> {one.after}{by}")
        if len(self.changes) > SHOWN_CHANGES:
            lines.append(f"  and {len(self.changes) - SHOWN_CHANGES:,} more; --json gives all")
        return lines

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "before": self.before,
            "after": self.after,
            "snapshots": list(self.snapshots),
            "sentence": self.sentence(),
            "note": self.note,
            "tables": [one.as_json() for one in self.tables],
            "deliveries": [one.as_json() for one in self.deliveries],
            "differences": [one.as_json() for one in self.differences],
            "compared": self.compared,
            "changes": [one.as_json() for one in self.changes],
        }


Audience = Literal["full", "released"]


def compare(
    lake: Lake, before: str, after: str, *, analysis: str | None = None, audience: Audience = "full"
) -> Comparison:
    """Two runs by id, two snapshots by number, or, with ``analysis``, two parameter sets as ``name=value,name=value``.

    For the ``audience`` of released results these are compared, and the inputs are not told.
    Raises NoSuchRunError, SnapshotExpiredError, UnknownAnalysisError, ParameterError.
    """
    if analysis is not None:
        return compare_parameters(lake, analysis, _parameters(before), _parameters(after), audience=audience)
    if SNAPSHOT.fullmatch(before) and SNAPSHOT.fullmatch(after):
        if audience == "released":
            raise NoSuchRunError("Snapshots are not compared for who sees released results.", hint="Compare two runs.")
        return compare_snapshots(lake, int(before), int(after))
    return compare_runs(lake, before, after, audience=audience)


def compare_runs(lake: Lake, before: str, after: str, *, audience: Audience = "full") -> Comparison:
    """Two completed runs; of different analyses only what they share is compared. Raises NoSuchRunError."""
    if audience == "released":
        return _compare_released(lake, before, after)
    (old, old_result), (new, new_result) = records.completed(lake, before), records.completed(lake, after)
    note = None
    tables: list[TableChange] = []
    deliveries: list[DeliveryBetween] = []
    read = sorted({*old.inputs, *new.inputs})
    if (old.inputs, old.known_on) == (new.inputs, new.known_on):
        tables = [input_changes.TableChange(table, 0, 0, 0) for table in read]
    elif old.known_on or new.known_on:
        note = "The inputs cannot be compared: a backfill looked back from a later snapshot, since its own had expired."
    else:
        try:
            for one in (old.snapshot_id, new.snapshot_id):
                require_snapshot(lake, one)
            tables = input_changes.table_changes(lake, old.snapshot_id, new.snapshot_id, read)
            deliveries = input_changes.deliveries_between(lake, old.snapshot_id, new.snapshot_id)
        except SnapshotExpiredError as error:
            note = f"The inputs cannot be compared: {error.message}"
    found = [
        *differences.of_code(lake.settings, old, new),
        *differences.of_parameters(old.parameters, new.parameters),
        *differences.of_environment(old.environment, new.environment, old.fixed_environment, new.fixed_environment),
    ]
    addresses = {*numbers.values_of(old_result), *numbers.values_of(new_result)}
    return Comparison(
        kind="runs",
        before=f"{old.analysis} {before}",
        after=f"{new.analysis} {after}" if new.analysis != old.analysis else after,
        snapshots=(old.snapshot_id, new.snapshot_id),
        tables=tuple(tables),
        deliveries=tuple(deliveries),
        differences=tuple(found),
        changes=tuple(numbers.changes(old_result, new_result)),
        compared=len(addresses),
        note=note,
    )


def _compare_released(lake: Lake, before: str, after: str) -> Comparison:
    """The released documents of two runs: both were shown already."""
    old, new = records.record_of(lake, before), records.record_of(lake, after)
    results = results_of(lake, [before, after], "released")
    for run_id in (before, after):
        if run_id not in results:
            raise NoSuchRunError(f"No result of the run {run_id} was released.", hint="Name another run.")
    old_result, new_result = results[before], results[after]
    return Comparison(
        kind="runs",
        before=f"{old.analysis} {before}",
        after=f"{new.analysis} {after}" if new.analysis != old.analysis else after,
        snapshots=(old.snapshot_id, new.snapshot_id),
        changes=tuple(numbers.changes(old_result, new_result)),
        compared=len({*numbers.values_of(old_result), *numbers.values_of(new_result)}),
        note="Released results are compared; what changed in inputs, code and parameters is not told.",
        is_of_inputs=False,
    )


def compare_snapshots(lake: Lake, before: int, after: int) -> Comparison:
    """Two snapshots of the lake: the input tables and the deliveries between. Raises SnapshotExpiredError."""
    for one in (before, after):
        require_snapshot(lake, one)
    return Comparison(
        kind="snapshots",
        before=f"snapshot {before}",
        after=f"snapshot {after}",
        snapshots=(before, after),
        tables=tuple(input_changes.table_changes(lake, before, after)),
        deliveries=tuple(input_changes.deliveries_between(lake, before, after)),
    )


def compare_parameters(
    lake: Lake, analysis: str, before: dict[str, Any], after: dict[str, Any], *, audience: Audience = "full"
) -> Comparison:
    """The newest runs of ``analysis`` with two parameter sets; what is not given has its default.

    Raises NoSuchRunError when one has not been run.
    """
    notebook = registry.one(lake.settings, analysis)
    runs = []
    for given in (before, after):
        values = notebook.parameters(given)
        rows = lake.query(
            "SELECT run_id FROM analytics.runs WHERE analysis = ? AND parameters_hash = ? AND status = 'completed' "
            "ORDER BY finished_at DESC LIMIT 1",
            [analysis, identity.hash_of(values)],
        )
        if not rows:
            flags = " ".join(f"-p {name}={value}" for name, value in given.items())
            raise NoSuchRunError(
                f"{analysis} has no completed run with these parameters.", hint=f"medisync run {analysis} {flags}"
            )
        runs.append(rows[0]["run_id"])
    return compare_runs(lake, *runs, audience=audience)


def _parameters(text: str) -> dict[str, Any]:
    from medisync.runs.backfill import combinations, parts

    values: dict[str, Any] = {}
    for part in parts(text):
        if part.strip() == "default":
            continue
        found = combinations([part.strip()])
        if len(found) != 1:
            raise ParameterError(f"{part!r} is not of the form name=value.")
        values.update(found[0])
    return values


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
