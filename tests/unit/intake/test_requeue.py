"""Quarantined rows are taken again: exactly they, once, and never over what was learnt since."""

from __future__ import annotations

import csv
import zipfile
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


def edited(lake: Lake, delivery_id: str, *changes: tuple[int, str, str]) -> Path:
    """The quarantine's own file after ``changes``: (row number, column, value), in the first line of the row."""
    path = lake.settings.quarantine / f"{delivery_id}.csv"
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    for row, column, value in changes:
        header = next(line for line in reversed(lines) if {"row", column} <= {*line})
        place = header.index("row")
        next(line for line in lines if line[place] == str(row))[header.index(column)] = value
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


def test_rows_corrected_in_the_quarantine_itself_are_loaded(house: tuple[Lake, Path]) -> None:
    lake, folder = house
    rows = faulty(600)
    rows[3] = admission(603, Age="-1", Billing_Amount="much")  # stands there twice
    rows[20] = admission(620, Discharge_Date="NULL", Age="-5")
    first = intake.ingest(lake, write_csv(folder / "h.csv", rows), source="h")
    assert (first.quarantined, first.created) == (6, 34)
    before = (lake.settings.quarantine / f"{first.delivery_id}.csv").read_text()
    unchanged = requeue(lake, first.delivery_id)
    assert (unchanged.corrected, unchanged.loaded, unchanged.quarantined) == (0, 0, 6)
    after = (lake.settings.quarantine / f"{first.delivery_id}.csv").read_text()
    assert after == before.replace("NULL", "")
    whole = [(11, column, value) for column, value in admission(610).items()]
    path = edited(lake, first.delivery_id, (3, "Age", "22"), (4, "Age", "23"), (21, "Age", "40"), *whole)
    with path.open(newline="") as file:  # the second line of row 4 has its own correction
        lines = list(csv.reader(file))
    [_, second] = [line for line in lines if line[0] == "4"]
    second[lines[0].index("Billing Amount")] = "1603.25"
    with path.open("w", newline="", encoding="cp1252") as file:  # as a spreadsheet saves it
        csv.writer(file, delimiter=";").writerows(lines)
    done = requeue(lake, first.delivery_id)
    assert (done.taken, done.corrected, done.loaded, done.created, done.quarantined) == (6, 4, 4, 4, 2)
    assert open_rows(lake, first.delivery_id) == {7: "BAD_DATE", 12: "BAD_NUMBER"}
    assert sorted(raw(lake, first.delivery_id)) == ["12", "7"]
    copy = folder / "elsewhere.csv"
    copy.write_bytes(
        edited(lake, first.delivery_id, (7, "Date of Admission", "2022-07-19"), (12, "Age", "-9")).read_bytes()
    )
    done = requeue(lake, first.delivery_id, corrected=copy)
    assert (done.corrected, done.loaded, done.quarantined) == (2, 1, 1)
    told = lake.query("SELECT age_years, billing_amount, discharged_at FROM clinical.admissions WHERE source = 'h' "
                      "AND billing_amount IN (1603.25, 1620.25) ORDER BY 2")  # fmt: skip
    assert [(row["age_years"], row["discharged_at"] is None) for row in told] == [(23, False), (40, True)]
    assert len(admitted(lake, "h")) == 39


def test_a_quarantine_file_that_makes_no_sense_changes_nothing(house: tuple[Lake, Path]) -> None:
    lake, folder = house
    rows = list(admissions(40, start=700))
    rows[3] = admission(703, Age="-1", Billing_Amount="much")
    first = intake.ingest(lake, write_csv(folder / "i.csv", rows), source="i")
    path = lake.settings.quarantine / f"{first.delivery_id}.csv"
    before = path.read_text()
    lines = before.splitlines()
    for wrong, words in (
        ("\n".join([lines[0], lines[1].replace("-1", "5"), lines[2].replace("-1", "6")]), "disagree"),
        (before.replace("\n4,", "\n5,"), "not one that is open"),
        (before.replace("\n4,", "\nfour,"), "no row any more"),
    ):
        path.write_text(wrong)
        with pytest.raises(NotRequeuedError, match=words):
            requeue(lake, first.delivery_id)
    assert (open_rows(lake, first.delivery_id) != {}, len(admitted(lake, "i"))) == (True, 39)
    refused = intake.ingest(lake, write_csv(folder / "j.csv", [admission(n, Age="-1") for n in range(5)]), source="j")
    with pytest.raises(NotRequeuedError, match="as a whole"):
        requeue(lake, refused.delivery_id, corrected=lake.settings.quarantine / f"{refused.delivery_id}.csv")


def test_a_row_of_a_set_is_corrected_in_the_quarantine(house: tuple[Lake, Path]) -> None:
    """The parts' lines have headers of their own; what is not shown of a row still counts."""
    lake, folder = house
    archive = folder / "set.zip"
    with zipfile.ZipFile(archive, "w") as file:
        others = "".join(f"{number},8532,1960,1,1\n" for number in range(2, 12))
        header = "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth"
        file.writestr("PERSON.csv", f"{header}\n1,8507,195O,5,17\n{others}")
        header = "visit_occurrence_id,person_id,visit_concept_id,visit_start_date"
        file.writestr("VISIT_OCCURRENCE.csv", f"{header}\n7,1,9201,soon\n")
    first = intake.ingest(lake, archive, source="k")
    assert (first.quarantined, first.faults) == (2, {"BAD_DATE": 1, "BAD_NUMBER": 1}), first.message
    edited(lake, first.delivery_id, (1, "year_of_birth", "1950"))
    path = lake.settings.quarantine / f"{first.delivery_id}.csv"
    path.write_text(path.read_text().replace("soon", "2024-05-16"))
    done = requeue(lake, first.delivery_id)
    assert (done.corrected, done.loaded, done.quarantined) == (2, 2, 0)
    assert [row["age_years"] for row in admitted(lake, "k")] == [73]  # a day before the birthday
