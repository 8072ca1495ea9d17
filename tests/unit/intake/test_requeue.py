"""Quarantined rows are taken again: exactly they, once, and never over what was learnt since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medisync import intake
from medisync.errors import NoDataError
from medisync.intake.delivery import DeliveryMode
from medisync.intake.requeue import NotRequeuedError, Requeued, requeue
from medisync.lake import Lake
from medisync.settings import Settings
from tests.support.admissions_csv import admission, admissions, line, write_csv


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Path]]:
    folder = tmp_path_factory.mktemp("requeue")
    lake = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    yield lake, folder
    lake.close()


def faulty(start: int) -> list[dict[str, str] | str]:
    """Forty rows: row 3 has a bad age, row 7 a bad date, row 11 is malformed, row 12 has a bad bill."""
    rows: list[dict[str, str] | str] = list(admissions(40, start=start))
    rows[2] = admission(start + 2, Age="-1")
    rows[6] = admission(start + 6, Date_of_Admission="soon")
    rows[10] = line(admission(start + 10)).rsplit(",", 2)[0]
    rows[11] = admission(start + 11, Billing_Amount="much")
    return rows


def open_rows(lake: Lake, delivery_id: str) -> dict[int, str]:
    rows = lake.query(
        "SELECT row_number, reason FROM clinical.quarantine WHERE delivery_id = ? AND resolved_by IS NULL",
        [delivery_id],
    )
    return {row["row_number"]: row["reason"] for row in rows}


def admitted(lake: Lake, source: str) -> list[dict[str, Any]]:
    return lake.query("FROM clinical.admissions WHERE source = ?", [source])


def raw(lake: Lake, delivery_id: str) -> list[str]:
    path = lake.settings.quarantine / f"{delivery_id}.csv"
    return [text.split(",")[0] for text in path.read_text().splitlines()[1:]] if path.exists() else []


def test_corrected_rows_are_loaded_and_the_others_stay(house: tuple[Lake, Path]) -> None:
    lake, folder = house
    first = intake.ingest(lake, write_csv(folder / "a.csv", faulty(0)), source="a")
    assert (first.rows_read, first.quarantined, first.created) == (40, 4, 36)
    rows = faulty(0)
    rows[2], rows[10] = admission(2), line(admission(10))
    rows[11] = admission(11, Age="-4")  # mended, and something else broken
    corrected = write_csv(folder / "corrected.csv", rows)
    done = requeue(lake, first.delivery_id, corrected=corrected)
    assert done.delivery_id
    assert done == Requeued(
        first.delivery_id, done.delivery_id, taken=4, loaded=2, superseded=0, quarantined=2, created=2,
        changed_tables=("admissions", "conditions", "patients", "prescriptions"),
    )  # fmt: skip
    assert open_rows(lake, first.delivery_id) == {7: "BAD_DATE", 12: "NEGATIVE_AGE"}
    assert sorted(raw(lake, first.delivery_id)) == ["12", "7"]
    records = lake.query("SELECT delivery_id, rows_read, created, quarantined, requeue_of FROM clinical.deliveries "
                         "WHERE source = 'a' ORDER BY finished_at")  # fmt: skip
    assert [tuple(row.values()) for row in records] == [
        (first.delivery_id, 40, 36, 4, None),
        (done.delivery_id, 4, 2, 2, first.delivery_id),
    ]
    assert len(admitted(lake, "a")) == 38
    again = requeue(lake, first.delivery_id, corrected=corrected)
    assert (again.taken, again.loaded, again.quarantined, again.delivery_id) == (2, 0, 2, None)
    assert len(admitted(lake, "a")) == 38
    done = requeue(lake, first.delivery_id, corrected=write_csv(folder / "all.csv", admissions(40)))
    assert (done.taken, done.loaded, done.quarantined) == (2, 2, 0)
    assert (len(admitted(lake, "a")), raw(lake, first.delivery_id)) == (40, [])
    assert requeue(lake, first.delivery_id).taken == 0
    # The lake says the same as one that got the right file at once.
    intake.ingest(lake, folder / "all.csv", source="b")
    told = [
        lake.query(
            "SELECT site, admitted_at, age_years, billing_amount, room, condition, medication FROM clinical.admissions "
            "JOIN clinical.conditions USING (admission_key) JOIN clinical.prescriptions USING (admission_key) "
            "WHERE admissions.source = ? ORDER BY ALL",
            [source],
        )
        for source in ("a", "b")
    ]
    assert told[0] == told[1]


def test_a_description_of_the_source_mends_rows_without_a_new_file(house: tuple[Lake, Path]) -> None:
    """Dates nobody could read are readable once the source says how they are written."""
    lake, folder = house
    rows = [admission(index) for index in range(100, 140)]
    rows[4] = admission(104, Gender="Female", Age="121")
    first = intake.ingest(lake, write_csv(folder / "c.csv", rows), source="c")
    assert first.quarantined == 1
    assert requeue(lake, first.delivery_id).quarantined == 1  # nothing was corrected
    assert open_rows(lake, first.delivery_id) == {5: "IMPLAUSIBLE_AGE"}


def test_what_a_later_delivery_told_is_not_overwritten(house: tuple[Lake, Path]) -> None:
    lake, folder = house
    first = intake.ingest(lake, write_csv(folder / "d.csv", faulty(200)), source="d", mode=DeliveryMode.UPSERT)
    newer = [admission(202, Billing_Amount="5.5")]
    intake.ingest(lake, write_csv(folder / "newer.csv", newer), source="d", mode=DeliveryMode.UPSERT)
    done = requeue(lake, first.delivery_id, corrected=write_csv(folder / "d2.csv", admissions(40, start=200)))
    assert (done.taken, done.loaded, done.superseded, done.quarantined) == (4, 3, 1, 0)
    assert open_rows(lake, first.delivery_id) == {}
    assert 5.5 in {float(row["billing_amount"]) for row in admitted(lake, "d")}
    # A full extract since then, which does not have an admission, says that it does not exist.
    second = intake.ingest(lake, write_csv(folder / "e.csv", faulty(300)), source="e")
    full = [row for index, row in enumerate(admissions(40, start=300)) if index not in (2, 6, 10, 11)]
    full[0] = full[0] | {"Billing Amount": "8.5"}
    intake.ingest(lake, write_csv(folder / "full.csv", full), source="e", mode=DeliveryMode.SNAPSHOT)
    done = requeue(lake, second.delivery_id, corrected=write_csv(folder / "e2.csv", admissions(40, start=300)))
    assert (done.loaded, done.superseded, len(admitted(lake, "e"))) == (0, 4, 36)


def test_a_refused_delivery_is_delivered_again_once(house: tuple[Lake, Path]) -> None:
    lake, folder = house
    rows = [admission(400 + index, Age="-1" if index < 20 else "30") for index in range(40)]
    first = intake.ingest(lake, write_csv(folder / "f.csv", rows), source="f")
    assert first.reason == "TOO_MANY_FAULTS"
    assert len(open_rows(lake, first.delivery_id)) == 20
    lake.settings.sources.mkdir(exist_ok=True)
    (lake.settings.sources / "f.toml").write_text("[thresholds]\nquarantine_share = 0.6\n")
    done = requeue(lake, first.delivery_id)
    assert (done.taken, done.loaded, done.quarantined) == (40, 20, 20)
    again = requeue(lake, first.delivery_id)
    assert (again.created, again.changed_tables, len(admitted(lake, "f"))) == (0, (), 20)


def test_what_cannot_be_taken_again_is_said_and_changes_nothing(house: tuple[Lake, Path]) -> None:
    lake, folder = house
    first = intake.ingest(lake, write_csv(folder / "g.csv", faulty(500)), source="g")
    for wrong in (admissions(41, start=500), [admission(500, Room_Number="1"), *admissions(39, start=501)]):
        with pytest.raises(NotRequeuedError):
            requeue(lake, first.delivery_id, corrected=write_csv(folder / "wrong.csv", wrong))
    with pytest.raises(NoDataError):
        requeue(lake, "d-unknown")
    (lake.settings.archive / "g" / f"{first.delivery_id}-g.csv").unlink()
    with pytest.raises(NoDataError):
        requeue(lake, first.delivery_id)
    assert len(open_rows(lake, first.delivery_id)) == 4
    assert len(admitted(lake, "g")) == 36
    assert not [path for path in lake.settings.quarantine.iterdir() if path.is_dir()]
