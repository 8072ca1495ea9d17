"""Released documents of known tables: which cells are withheld, what the attacker learns, what else is left out."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from medisync.analyses.contract import Figure, Finding, Result, Table
from medisync.analyses.meaning import LABEL, Count, Derived, Disclosure, Meaning, Money, Share, TableMeaning
from medisync.disclosure.document import ReleasedCell, ReleasedDocument
from medisync.disclosure.markers import Reason, Withheld
from medisync.disclosure.policy import Policy
from medisync.disclosure.release import release
from tests.support.disclosure_attack import attack

POLICY = Policy()
PEOPLE = Count(of="people", by={"site": "site", "age": "age"})


def grid(
    numbers: Sequence[Sequence[int]], *, margins: bool = True, more: dict[str, Any] | None = None, **changes: Any
) -> Result:
    """People by site and age, with the totals of sites, of ages and of all as tables and metrics."""
    counts = np.array(numbers)
    rows = [
        (f"site {i}", f"age {j}", int(counts[i, j])) for i in range(counts.shape[0]) for j in range(counts.shape[1])
    ]
    tables = {"grid": Table(title="Grid", columns=("site", "age", "people"), rows=tuple(rows))}
    meanings = {"grid": TableMeaning(ordered_by="labels", columns={"site": LABEL, "age": LABEL, "people": PEOPLE})}
    metrics: dict[str, Any] = {}
    declared: dict[str, Meaning] = {}
    if margins:
        for axis, name in ((1, "site"), (0, "age")):
            totals = counts.sum(axis=axis)
            tables[name] = Table(
                title=name, columns=(name, "people"), rows=tuple((f"{name} {i}", int(n)) for i, n in enumerate(totals))
            )
            meanings[name] = TableMeaning(
                ordered_by="labels", columns={name: LABEL, "people": Count(of="people", by={name: name})}
            )
        metrics["people"] = int(counts.sum())
        declared["people"] = Count(of="people")
    values: dict[str, Any] = {
        "analysis": "a",
        "title": "People",
        "headline": "3 people came.",
        "finding": Finding.DESCRIPTION,
        "metrics": {**metrics, **(more or {})},
        "tables": tables,
        "disclosure": Disclosure(tables=meanings, metrics=declared, population="grid"),
    }
    return Result(**{**values, **changes})


def people(document: ReleasedDocument, table: str = "grid") -> list[Any]:
    """The last column, with markers as text."""
    return [row[-1].text if isinstance(row[-1], Withheld) else row[-1] for row in document.tables[table].rows]


def safe(released: Sequence[tuple[Result, ReleasedDocument]], threshold: int = 10) -> None:
    for one in attack(released, only_small=threshold):
        assert one.low <= 1 + 1e-6, one
        assert one.high >= threshold - 1 - 1e-6, one


def test_a_small_count_without_totals_is_called_small() -> None:
    document = release(grid([[12, 3], [0, 40]], margins=False), POLICY)
    assert people(document) == [12, "fewer than 10", 0, 40]
    marker = document.tables["grid"].rows[1][2]
    assert json.loads(document.model_dump_json())["tables"]["grid"]["rows"][1][2] == {
        "withheld": "small",
        "below": 10,
        "text": "fewer than 10",
    }
    assert isinstance(marker, Withheld)
    assert document.note.counts_small == 1
    assert document.note.counts_complementary == 0


def test_with_totals_the_corners_of_one_rectangle_are_withheld() -> None:
    """Four sites by three ages with one small cell: three more suffice, and none of the totals."""
    result = grid([[3, 40, 50], [60, 20, 30], [70, 80, 90], [25, 35, 45]])
    document = release(result, POLICY)
    assert people(document).count("withheld") == 4
    assert people(document, "site") == [93, 110, 240, 105]
    assert people(document, "age") == [158, 175, 215]
    assert document.metrics["people"] == 548
    assert document.note.counts_complementary == 3
    safe([(result, document)])


def test_one_total_alone_costs_one_more_cell() -> None:
    result = grid([[4, 30, 20, 50]])
    document = release(result.model_copy(update={"tables": {"grid": result.tables["grid"]}}), POLICY)
    assert people(document) == ["withheld", 30, "withheld", 50]
    assert document.metrics["people"] == 104


def test_small_cells_that_protect_one_another_cost_nothing() -> None:
    result = grid([[4, 5, 6, 7, 80]])
    document = release(result.model_copy(update={"tables": {"grid": result.tables["grid"]}}), POLICY)
    assert people(document) == ["withheld"] * 4 + [80]
    assert document.note.counts_complementary == 0
    safe([(result.model_copy(update={"tables": {"grid": result.tables["grid"]}}), document)])


def test_a_small_total_is_withheld_with_what_would_give_it_away() -> None:
    result = grid([[3, 2, 0], [60, 20, 30], [70, 80, 90]])
    document = release(result, POLICY)
    assert people(document, "site")[0] == "withheld"
    assert document.metrics["people"] == 355
    for one in attack([(result, document)], only_small=10):
        assert one.high >= 9 - 1e-6
        assert one.low <= (2 if len(one.key[1]) == 1 else 1) + 1e-6  # a total of two sites' people is at least two


def test_few_people_a_table_leaves_out_do_not_follow_from_its_total() -> None:
    result = grid([[40, 50, 60]], margins=False, more={"people": 153})
    disclosure = result.disclosure.model_copy(update={"metrics": {"people": Count(of="people")}})
    document = release(result.model_copy(update={"disclosure": disclosure}), POLICY)
    assert [document.metrics["people"], *people(document)].count(153) == 0 or "withheld" in people(document)


def test_a_percentage_is_its_count_and_total() -> None:
    result = grid(
        [[4, 30], [50, 60]],
        margins=False,
        more={"people": 144, "site_0_percent": 100 * 34 / 144},
    )
    declared = {
        "people": Count(of="people"),
        "site_0_percent": Share(count=Count(of="people", where={"site": "site 0"})),
    }
    result = result.model_copy(update={"disclosure": result.disclosure.model_copy(update={"metrics": declared})})
    document = release(result, POLICY)
    safe([(result, document)])
    assert people(document)[0] == "withheld"
    assert people(document)[1] == "withheld" or isinstance(document.metrics["site_0_percent"], Withheld)


def test_what_is_not_declared_is_not_released() -> None:
    result = grid([[40, 50]], margins=False, more={"secret": 3, "nothing": None})
    extra = Table(title="Extra", columns=("n",), rows=((1,),))
    wide = Table(title="Grid", columns=("site", "age", "people", "oldest"), rows=(("site 0", "age 0", 40, 97),))
    document = release(result.model_copy(update={"tables": {"grid": wide, "extra": extra}}), POLICY)
    assert document.metrics["nothing"] is None
    assert isinstance(document.metrics["secret"], Withheld)
    assert document.metrics["secret"].withheld is Reason.UNDECLARED
    assert "extra" not in document.tables
    assert document.tables["grid"].columns == ("site", "age", "people")
    assert set(document.note.undeclared) == {"secret", "extra", "grid.oldest"}
    assert "97" not in document.model_dump_json()


def test_a_result_without_any_declaration_shows_nothing() -> None:
    result = grid([[40, 50]]).model_copy(update={"disclosure": Disclosure()})
    document = release(result, POLICY)
    assert document.tables == {}
    assert all(isinstance(value, Withheld) for value in document.metrics.values())
    assert document.headline == "People: a description of the data; no claim was tested. Some numbers are withheld."


def test_headline_figures_and_remarks_go_with_the_numbers_they_hold() -> None:
    figures = (
        Figure(name="drawn", title="Drawn", alt="", svg="<svg/>"),
        Figure(name="undeclared", title="Undeclared", alt="", svg="<svg/>"),
    )
    changes = {"figures": figures, "warnings": ("Age is unknown for 3 patients.", "An association is no cause.")}
    for numbers, is_whole in (([[40, 50]], True), ([[4, 50]], False)):
        result = grid(numbers, margins=False, **changes)
        disclosure = result.disclosure.model_copy(
            update={"headline_uses": ("grid.people",), "figures_use": {"drawn": ("grid",)}}
        )
        document = release(result.model_copy(update={"disclosure": disclosure}), POLICY)
        assert (document.headline == "3 people came.") is is_whole
        assert [one.name for one in document.figures] == (["drawn"] if is_whole else [])
        assert document.warnings == ("An association is no cause.",)
        assert "Undeclared" in document.note.figures_left_out


def test_rows_sorted_by_number_do_not_say_where_the_small_ones_lie() -> None:
    rows = (("b", 50), ("c", 20), ("z", 7), ("a", 3))
    result = Result(
        analysis="a",
        title="T",
        headline="h",
        finding=Finding.DESCRIPTION,
        tables={"ranks": Table(title="R", columns=("name", "n"), rows=rows)},
        disclosure=Disclosure(
            tables={"ranks": TableMeaning(columns={"name": LABEL, "n": Count(of="n", by={"name": "name"})})}
        ),
    )
    assert [row[0] for row in release(result, POLICY).tables["ranks"].rows] == ["b", "c", "a", "z"]


def test_derived_numbers_follow_their_sources_and_lose_digits() -> None:
    table = Table(title="G", columns=("site", "people", "ratio"), rows=(("a", 40, 1.23456), ("b", 3, 2.5)))
    columns: dict[str, Meaning] = {
        "site": LABEL,
        "people": Count(of="people", by={"site": "site"}),
        "ratio": Derived(sources=("people",)),
    }
    result = grid([[1]], margins=False).model_copy(
        update={"tables": {"t": table}, "disclosure": Disclosure(tables={"t": TableMeaning(columns=columns)})}
    )
    document = release(result, POLICY)
    assert document.tables["t"].rows[0] == ("a", 40, 1.23)
    assert [isinstance(value, Withheld) for value in document.tables["t"].rows[1]] == [False, True, True]


def test_rounding_is_the_same_everywhere_and_reaches_shares() -> None:
    result = grid([[12, 33], [44, 58]], more={"site_0_percent": 100 * 45 / 147})
    declared = {
        **result.disclosure.metrics,
        "site_0_percent": Share(count=Count(of="people", where={"site": "site 0"})),
    }
    result = result.model_copy(update={"disclosure": result.disclosure.model_copy(update={"metrics": declared})})
    document = release(result, Policy(rounding_base=5))
    assert people(document) == [10, 35, 45, 60]
    assert document.metrics["people"] == 145
    assert document.metrics["site_0_percent"] == pytest.approx(100 * 45 / 145)


def test_money_of_one_payer_and_the_way_to_it_are_withheld() -> None:
    rows = (("a", 1000.0, 30, 900.0, 20.0), ("b", 5000.0, 40, 500.0, 400.0), ("c", 700.0, 50, 50.0, 40.0))
    columns: dict[str, Meaning] = {
        "site": LABEL,
        "billed": Money(of="billed", by={"site": "site"}, count="bills", largest="largest", second="second"),
        "bills": Count(of="bills", by={"site": "site"}),
    }
    table = Table(title="M", columns=("site", "billed", "bills", "largest", "second"), rows=rows)
    total = Table(title="All", columns=("billed", "bills", "largest", "second"), rows=((6700.0, 120, 900.0, 500.0),))
    everything = {"billed": Money(of="billed", count="bills", largest="largest", second="second")}
    result = grid([[1]], margins=False).model_copy(
        update={
            "tables": {"money": table, "all": total},
            "disclosure": Disclosure(
                tables={
                    "money": TableMeaning(columns=columns, ordered_by="labels"),
                    "all": TableMeaning(columns=everything),
                }
            ),
        }
    )
    document = release(result, POLICY)
    billed = [row[1] for row in document.tables["money"].rows]
    assert isinstance(billed[0], Withheld)
    assert billed[0].withheld is Reason.DOMINATED
    assert sum(isinstance(value, Withheld) for value in (*billed, document.tables["all"].rows[0][0])) == 2
    assert document.note.money_withheld == 2
    assert "900" not in document.model_dump_json()


def test_two_deliveries_do_not_give_away_who_came_between() -> None:
    """Three people came late: their cell, and so much that it does not follow, is held back."""
    first = grid([[40, 50, 60], [70, 80, 90]])
    second = grid([[43, 50, 60], [70, 80, 120]])
    before = release(first, POLICY)
    after = release(second, POLICY, before.cells)
    assert people(before) == [40, 50, 60, 70, 80, 90]
    assert people(after)[0] == "withheld"
    assert people(after)[5] != 90
    assert after.note.counts_held_back >= 1
    bounds = {one.key[1]: one for one in attack([(second, after)])}
    late = bounds[("age", "age 0"), ("site", "site 0")]
    assert late.low <= 41 + 1e-6
    assert late.high >= 49 - 1e-6


def test_what_protected_a_cell_before_goes_on_protecting_it() -> None:
    """The large cell beside a small one was withheld, too; showing it later would give the small one away."""
    first = grid([[5, 15, 80, 90]]).model_copy(update={"tables": {"grid": grid([[5, 15, 80, 90]]).tables["grid"]}})
    before = release(first, POLICY)
    assert people(before) == ["withheld", "withheld", 80, 90]
    later = grid([[25, 15, 80, 90]])
    later = later.model_copy(update={"tables": {"grid": later.tables["grid"]}})
    after = release(later, POLICY, before.cells)
    assert people(after)[1] == "withheld"
    known = {(cell.of, cell.dimensions): cell.value for cell in (*before.cells, *after.cells) if cell.is_shown}
    assert ("people", (("age", "age 0"), ("site", "site 0"))) not in known or people(after)[0] == 25


def test_the_same_data_again_are_released_the_same() -> None:
    result = grid([[3, 40, 50], [60, 20, 30], [70, 80, 90]])
    once = release(result, POLICY)
    again = release(result, POLICY, once.cells)
    assert people(again) == people(once)
    assert again.note.counts_exposed_before == 0


def test_the_memory_of_a_release_is_not_part_of_it() -> None:
    document = release(grid([[3, 40]], margins=False), POLICY)
    assert {cell.value for cell in document.cells} == {3.0, 40.0}
    assert "cells" not in json.loads(document.model_dump_json())
    assert ReleasedDocument.model_validate_json(document.model_dump_json()).cells == ()


def test_a_number_declared_twice_with_two_values_is_not_shown() -> None:
    result = grid([[40, 50]], more={"people": 91})
    document = release(result, POLICY)
    assert document.metrics["people"] == 91  # more than the table lists: another number, not a contradiction
    rows = (("site 0", "age 0", 40), ("site 0", "age 0", 44))
    table = Table(title="Grid", columns=("site", "age", "people"), rows=rows)
    twice = grid([[40, 50]], margins=False).model_copy(update={"tables": {"grid": table}})
    assert people(release(twice, POLICY)) == ["withheld", "withheld"]


def test_an_empty_result_is_released() -> None:
    result = Result(analysis="a", title="T", headline="h", finding=Finding.TOO_LITTLE, data_from=dt.date(2024, 1, 1))
    document = release(result, POLICY, [ReleasedCell(of="n", dimensions=(), value=3, is_shown=True)])
    assert document.tables == {}
    assert document.note.counts_shown == 0


def test_a_stricter_policy_is_not_bound_by_what_was_shown() -> None:
    result = grid([[7, 40], [30, 20]], margins=False)
    before = release(result, Policy(threshold=5))
    assert people(before) == [7, 40, 30, 20]
    after = release(result, Policy(threshold=10), before.cells)
    assert people(after)[0] != 7
    assert after.note.counts_exposed_before == 1  # it was shown: withholding it now comes too late


def test_the_attacker_is_no_straw_man() -> None:
    """With the small cell alone withheld he finds it exactly; with one more in its row, still."""
    result = grid([[3, 40, 50], [60, 20, 30], [70, 80, 90]])
    document = release(result, POLICY)
    for kept in ({0}, {0, 1}):
        rows = tuple(
            row if at in kept and isinstance(row[2], Withheld) else (*row[:2], full[2])
            for at, (row, full) in enumerate(zip(document.tables["grid"].rows, result.tables["grid"].rows, strict=True))
        )
        table = document.tables["grid"].model_copy(update={"rows": rows})
        naive = document.model_copy(update={"tables": {**document.tables, "grid": table}})
        (found,) = attack([(result, naive)], only_small=10)
        assert (found.low, found.high) == (3, 3)
