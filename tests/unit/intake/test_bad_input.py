"""Every bad file ends refused, or with its bad rows quarantined: reason, row and column exactly, and no value told."""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medisync import intake
from medisync.intake import DeliveryReport, DeliveryStatus
from medisync.lake import Lake
from medisync.settings import Settings
from tests.support.admissions_csv import COLUMNS, SECRET, SURNAME, admission, admissions, line, text_of
from tests.support.powers import without_root_powers

GOOD = admissions(40)
HEADER = ",".join(COLUMNS)
BAD_AGE = admission(99, Age="-5")
"""Put last wherever row numbers could have slipped."""


@pytest.fixture(scope="module")
def shared_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("bad-input")
    lake = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    yield lake
    lake.close()


@dataclass(frozen=True)
class Faulty:
    """A file whose bad rows are quarantined: ``faults`` are (row, column, reason); ``loaded`` the rows that pass."""

    name: str
    content: bytes
    faults: list[tuple[int, str | None, str]]
    loaded: int = 40


def _text(*parts: str, newline: str = "\n") -> bytes:
    return (newline.join((HEADER, *parts)) + newline).encode()


def _lines(start: int, stop: int) -> list[str]:
    return [line(row) for row in GOOD[start:stop]]


def _with_row(changed: str | bytes, *, newline: str = "\n") -> bytes:
    """Three good rows, the changed one as row 4, the other good ones, and a negative age as row 42."""
    before = _text(*_lines(0, 3), newline=newline)
    after = newline.join([*_lines(3, 40), line(BAD_AGE)]) + newline
    return before + (changed if isinstance(changed, bytes) else changed.encode()) + newline.encode() + after.encode()


LAST = (42, "Age", "NEGATIVE_AGE")
FAULTY_VALUES: list[tuple[str, str, dict[str, str]]] = [
    ("MISSING_VALUE", "Name", {"Name": "  "}),
    ("MISSING_VALUE", "Date of Admission", {"Date_of_Admission": ""}),
    ("BAD_DATE", "Date of Admission", {"Date_of_Admission": SECRET}),
    ("BAD_DATE", "Date of Admission", {"Date_of_Admission": "2023-02-30"}),
    ("BAD_DATE", "Discharge Date", {"Discharge_Date": "31/12/2023"}),
    ("DATE_IN_FUTURE", "Date of Admission", {"Date_of_Admission": "2999-01-01", "Discharge_Date": ""}),
    ("DATE_IN_FUTURE", "Discharge Date", {"Discharge_Date": "2999-01-01"}),
    ("DATE_TOO_EARLY", "Date of Admission", {"Date_of_Admission": "0204-01-01"}),
    ("DISCHARGE_BEFORE_ADMISSION", "Discharge Date", {"Discharge_Date": "2001-01-01"}),
    ("BAD_NUMBER", "Age", {"Age": SECRET}),
    ("BAD_NUMBER", "Age", {"Age": "30.5"}),
    ("BAD_NUMBER", "Age", {"Age": "nan"}),
    ("NEGATIVE_AGE", "Age", {"Age": "-1"}),
    ("IMPLAUSIBLE_AGE", "Age", {"Age": "121"}),
    ("BAD_NUMBER", "Billing Amount", {"Billing_Amount": f"${SECRET}"}),
    ("BAD_NUMBER", "Billing Amount", {"Billing_Amount": "inf"}),
    ("BAD_NUMBER", "Billing Amount", {"Billing_Amount": "999999999999.999"}),  # rounds to one digit too many
    ("CONTROL_CHARACTER", "Hospital", {"Hospital": f"{SECRET}\0Infirmary"}),
    ("VALUE_TOO_LONG", "Hospital", {"Hospital": "y" * 1001}),
    ("VALUE_TOO_LONG", "Hospital", {"Hospital": "y" * 1_000_000}),
]
FAULTY_ROWS = [
    Faulty("too few fields", _with_row(f"{SECRET},1,Male"), [(4, "Blood Type", "MALFORMED_ROW"), LAST]),
    Faulty("too many fields", _with_row(line(admission(60)) + f",{SECRET}"), [(4, None, "MALFORMED_ROW"), LAST]),
    Faulty("a million characters", _with_row("x" * 1_000_000), [(4, "Age", "MALFORMED_ROW"), LAST]),
    Faulty("three million characters", _with_row("x" * 3_000_000), [(4, "Age", "MALFORMED_ROW"), LAST]),
    Faulty(
        "text after a closing quote",
        _with_row(line(admission(60, Hospital="HOSPITAL")).replace("HOSPITAL", '"Hill" Infirmary')),
        [(4, "Hospital", "MALFORMED_ROW"), LAST],
    ),
    Faulty(
        "one row in Latin-1 and one in UTF-8",
        _with_row(
            line(admission(60, Name=f"Jürgen {SURNAME}")).encode("latin-1")
            + b"\n"
            + line(admission(61, Name=f"Jürgen {SURNAME}")).encode()
        ),
        [(4, "Name", "NOT_UTF8"), (43, "Age", "NEGATIVE_AGE")],
        loaded=41,
    ),
    Faulty(
        "the header again",
        _with_row(HEADER),
        [
            (4, "Age", "BAD_NUMBER"),
            (4, "Billing Amount", "BAD_NUMBER"),
            (4, "Date of Admission", "BAD_DATE"),
            (4, "Discharge Date", "BAD_DATE"),
            LAST,
        ],
    ),
    Faulty("CRLF", _with_row("a,b", newline="\r\n"), [(4, "Gender", "MALFORMED_ROW"), LAST]),
    Faulty("CR", _with_row("a,b", newline="\r"), [(4, "Gender", "MALFORMED_ROW"), LAST]),
    Faulty("BOM", b"\xef\xbb\xbf" + _with_row("a,b"), [(4, "Gender", "MALFORMED_ROW"), LAST]),
    Faulty("no line end at the end", _with_row("a,b").rstrip(b"\n"), [(4, "Gender", "MALFORMED_ROW"), LAST]),
    Faulty(
        "semicolons",
        text_of([*GOOD[:3], "a;b", *GOOD[3:], BAD_AGE], delimiter=";").encode(),
        [(4, "Gender", "MALFORMED_ROW"), LAST],
    ),
    Faulty(
        "tabs",
        text_of([*GOOD[:3], "a\tb", *GOOD[3:], BAD_AGE], delimiter="\t").encode(),
        [(4, "Gender", "MALFORMED_ROW"), LAST],
    ),
    Faulty("gzip", gzip.compress(_with_row("a,b")), [(4, "Gender", "MALFORMED_ROW"), LAST]),
    Faulty(
        "gzip in two members",
        gzip.compress(_text(*_lines(0, 3)))
        + gzip.compress(("\n".join(["a,b", *_lines(3, 40), line(BAD_AGE)])).encode()),
        [(4, "Gender", "MALFORMED_ROW"), LAST],
    ),
    Faulty(
        "line breaks inside quotes before the fault",
        _text(line(admission(60, Hospital="Hill\nand\nLake")), *_lines(0, 2), "a,b", *_lines(2, 40), line(BAD_AGE)),
        [(4, "Gender", "MALFORMED_ROW"), (43, "Age", "NEGATIVE_AGE")],
        loaded=41,
    ),
    Faulty(
        "a malformed row with a line break inside quotes",
        _with_row('a,"b\nc"'),
        [(4, "Gender", "MALFORMED_ROW"), LAST],
    ),
    Faulty(
        "blank lines before the fault are no rows",
        _text("", line(GOOD[0]), "", "", *_lines(1, 3), "a,b", "", *_lines(3, 40), line(BAD_AGE), "", ""),
        [(4, "Gender", "MALFORMED_ROW"), LAST],
    ),
    Faulty(
        "blank lines with CRLF, and one inside quotes that is none",
        _text(
            line(admission(60, Hospital="Hill\r\n\r\nLake")),
            "",
            *_lines(0, 2),
            "a,b",
            *_lines(2, 40),
            line(BAD_AGE),
            newline="\r\n",
        ),
        [(4, "Gender", "MALFORMED_ROW"), (43, "Age", "NEGATIVE_AGE")],
        loaded=41,
    ),
    Faulty("blank lines above the header", b"\n\n" + _with_row("a,b"), [(4, "Gender", "MALFORMED_ROW"), LAST]),
    Faulty(
        "BOM and blank lines above the header",
        b"\xef\xbb\xbf\r\n" + _with_row("a,b", newline="\r\n"),
        [(4, "Gender", "MALFORMED_ROW"), LAST],
    ),
    Faulty(
        "two malformed rows running and one more",
        _text(*_lines(0, 3), "a,b", "a,b", *_lines(3, 5), "a,b", *_lines(5, 40), line(BAD_AGE)),
        [
            (4, "Gender", "MALFORMED_ROW"),
            (5, "Gender", "MALFORMED_ROW"),
            (8, "Gender", "MALFORMED_ROW"),
            (44, "Age", "NEGATIVE_AGE"),
        ],
    ),
    Faulty(
        "200 columns, ours among them",
        "\n".join(
            [
                ",".join([*(f"x{i}" for i in range(90)), HEADER, *(f"y{i}" for i in range(95))]),
                *(",".join(["1"] * 90 + [line(row)] + ["2"] * 95) for row in [*GOOD, BAD_AGE]),
            ]
        ).encode(),
        [(41, "Age", "NEGATIVE_AGE")],
    ),
]


def test_every_fault_of_a_value_is_found(shared_lake: Lake, tmp_path: Path) -> None:
    rows = admissions(110)
    for place, (_, _, changes) in enumerate(FAULTY_VALUES, start=1):
        rows[5 * place] = admission(200 + place, **changes)
    file = tmp_path / "data.csv"
    file.write_text(text_of(rows))

    report = intake.ingest(shared_lake, file, source="values")

    expected = [(5 * place + 1, column, reason) for place, (reason, column, _) in enumerate(FAULTY_VALUES, start=1)]
    assert _quarantine(shared_lake, report) == sorted(expected, key=str)
    assert (report.rows_read, report.quarantined) == (110, len(FAULTY_VALUES))
    _assert_no_value_in(report)


@pytest.mark.parametrize("case", FAULTY_ROWS, ids=lambda case: case.name)
def test_bad_rows_are_quarantined_with_row_column_and_reason(shared_lake: Lake, tmp_path: Path, case: Faulty) -> None:
    file = tmp_path / ("data.csv.gz" if case.content[:2] == b"\x1f\x8b" else "data.csv")
    file.write_bytes(case.content)
    source = f"source-{secrets.token_hex(4)}"

    report = intake.ingest(shared_lake, file, source=source)

    rows = {row for row, _, _ in case.faults}
    assert report.status is DeliveryStatus.LOADED, report.message
    assert _quarantine(shared_lake, report) == sorted(case.faults, key=str)
    assert (report.quarantined, report.rows_read) == (len(rows), case.loaded + len(rows))
    assert report.created == case.loaded == _admissions(shared_lake, source)
    assert sum(report.faults.values()) == len(case.faults)
    _assert_no_value_in(report)
    kept = shared_lake.settings.quarantine / f"{report.delivery_id}.csv"
    assert kept.stat().st_mode & 0o777 == 0o600


@dataclass(frozen=True)
class Refused:
    name: str
    content: bytes
    reason: str
    column: str | None = None
    in_message: str = ""


_COMPRESSED = gzip.compress(_text(*(line(admission(i, Hospital=secrets.token_hex(20))) for i in range(3000))))
REFUSED = [
    Refused("empty", b"", "EMPTY_FILE"),
    Refused("blank lines only", b"\n\r\n  \n", "EMPTY_FILE"),
    Refused("empty gzip", gzip.compress(b""), "EMPTY_FILE"),
    Refused("header only", HEADER.encode(), "NO_ROWS"),
    Refused("header and blank lines", HEADER.encode() + b"\n\n\n", "NO_ROWS"),
    Refused("wrong columns", b"a,b,c\n1,2,3\n", "UNKNOWN_LAYOUT"),
    Refused("no header", _text(*_lines(0, 40)).split(b"\n", 1)[1], "UNKNOWN_LAYOUT"),
    Refused(
        "200 unknown columns",
        (",".join(f"x{i}" for i in range(200)) + "\n" + ",".join("1" * 200) + "\n").encode(),
        "UNKNOWN_LAYOUT",
        in_message="200 columns",
    ),
    Refused(
        "a column missing",
        "\n".join(",".join(text.split(",")[:-1]) for text in [HEADER, *_lines(0, 40)]).encode(),
        "MISSING_COLUMN",
        in_message="Test Results",
    ),
    Refused("a column twice", _text(*_lines(0, 40)).replace(b"Room Number", b"AGE"), "MISSING_COLUMN"),
    Refused(
        "a column twice beside all others",
        "\n".join([f"{HEADER},age", *(f"{text},1" for text in _lines(0, 40))]).encode(),
        "DUPLICATE_COLUMN",
        in_message="Age",
    ),
    Refused("UTF-16 cut in the middle of a sign", _text(*_lines(0, 40)).decode().encode("utf-16")[:-1], "NOT_UTF8"),
    Refused("NUL bytes in the header", b"Na\0me,b\n1,2\n", "MALFORMED"),
    Refused("a line of a million characters and nothing else", b"x" * 1_000_000, "UNKNOWN_LAYOUT"),
    Refused("a line of three million characters and nothing else", b"x," * 1_500_000, "MALFORMED"),
    Refused("gzip cut short", gzip.compress(_text(*_lines(0, 40)))[:-20], "DAMAGED"),
    Refused("gzip damaged in the middle", _COMPRESSED[:50_000] + b"\0\xff\0\xff" + _COMPRESSED[50_004:], "DAMAGED"),
    Refused("gzip in name only", b"\x1f\x8b and no more", "DAMAGED"),
    Refused(
        "a quote never closed",
        _with_row(line(admission(60, Hospital="HOSPITAL")).replace("HOSPITAL", f'"{SECRET}')),
        "MALFORMED",
        in_message="row 4",
    ),
    Refused(
        "a quote closed by a later row's",
        _with_row(line(admission(60, Hospital="HOSPITAL")).replace("HOSPITAL", f'"{SECRET}')).replace(
            b"Mill Clinic", b'",Mill Clinic"'
        ),
        "MALFORMED",
        in_message="row 4",
    ),
    Refused(
        "too many faulty rows",
        text_of([*GOOD[:7], *(admission(50 + i, Age=SECRET) for i in range(3))]).encode(),
        "TOO_MANY_FAULTS",
        in_message="column Age: BAD_NUMBER in 3 rows, first in row 8",
    ),
    Refused("an image", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, "NOT_UTF8"),
    Refused("JSON", b'{"resourceType": "Bundle", "entry": []}', "UNKNOWN_LAYOUT"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_bad_files_are_refused_whole(shared_lake: Lake, tmp_path: Path, case: Refused) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes(case.content)
    source = f"source-{secrets.token_hex(4)}"

    report = intake.ingest(shared_lake, file, source=source)

    assert (report.status, report.reason) == (DeliveryStatus.REFUSED, case.reason), report.message
    assert case.in_message in str(report.message)
    assert _admissions(shared_lake, source) == 0
    assert not report.changed
    _assert_no_value_in(report)
    _assert_put_away_as_refused(shared_lake.settings, report)


def test_rows_that_were_run_together_by_a_stray_quote_are_never_deleted(lake: Lake, tmp_path: Path) -> None:
    """A full extract whose end is swallowed by an open quote would otherwise delete what it swallowed."""
    file = tmp_path / "data.csv"
    file.write_bytes(_text(*_lines(0, 40)))
    intake.ingest(lake, file)
    changed = _lines(0, 40)
    changed[35] = line(admission(35, Hospital="HOSPITAL")).replace("HOSPITAL", '"open')
    file.write_bytes(_text(*changed))

    assert intake.ingest(lake, file).reason == "MALFORMED"
    assert lake.query("SELECT count(*) AS n FROM clinical.admissions")[0]["n"] == 40


def test_row_numbers_hold_in_a_file_read_by_several_threads(workspace: Settings, tmp_path: Path) -> None:
    some = [line(admission(index, Hospital="Hill\nLake" if index % 101 == 0 else "Mill")) for index in range(997)]
    rows: list[dict[str, str] | str] = []
    expected = []
    for index in range(90_000):
        if index % 7919 == 5:
            rows.append("a,b" if index % 2 else line(admission(index, Age="-1")))
            expected.append((len(rows), "MALFORMED_ROW" if index % 2 else "NEGATIVE_AGE"))
        else:
            rows.append(some[index % len(some)])
    file = tmp_path / "data.csv"
    file.write_text(text_of(rows))
    assert file.stat().st_size > 10_000_000

    lake = Lake(workspace, threads=4)
    report = intake.ingest(lake, file, source="large")

    found = [(row, reason) for row, _, reason in _quarantine(lake, report)]
    assert sorted(found) == sorted(expected)
    assert report.rows_read == 90_000
    lake.close()


def test_a_folder_without_a_file_is_refused(shared_lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "data.csv"
    folder.mkdir()
    _assert_refused(intake.ingest(shared_lake, folder), "EMPTY_FILE", "no file")


def test_a_pipe_and_a_socket_are_refused_without_waiting(shared_lake: Lake, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    _assert_refused(intake.ingest(shared_lake, tmp_path / "pipe.csv"), "NOT_A_FILE")
    _assert_refused(intake.ingest(shared_lake, Path("/dev/zero")), "NOT_A_FILE")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        _assert_refused(intake.ingest(shared_lake, tmp_path / "s"), "NOT_A_FILE")


def test_a_file_without_read_permission_is_refused(shared_lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes(_text(*_lines(0, 5)))
    file.chmod(0)
    shared_lake.connection()
    with without_root_powers():
        report = intake.ingest(shared_lake, file)
    _assert_refused(report, "UNREADABLE", "Permission denied")


def test_a_file_the_disk_does_not_give_is_refused(shared_lake: Lake) -> None:
    _assert_refused(intake.ingest(shared_lake, Path("/proc/self/mem")), "UNREADABLE", "Input/output error")


def test_a_file_that_is_not_there_is_refused(shared_lake: Lake, tmp_path: Path) -> None:
    _assert_refused(intake.ingest(shared_lake, tmp_path / "data.csv"), "DISAPPEARED")


def test_a_claimed_file_that_disappears_before_it_is_read_is_refused(lake: Lake) -> None:
    file = lake.settings.inbox / "data.csv"
    file.write_bytes(_text(*_lines(0, 5)))
    delivery_id = intake.arrival.claim(lake.settings, file, "default")
    assert delivery_id
    found = intake.arrival.claimed_file(lake.settings, delivery_id)
    assert found
    found[1].unlink()
    _assert_refused(intake.deliver(lake, delivery_id), "DISAPPEARED")


@pytest.mark.parametrize("step", [("formats.text", "start_of"), ("delimited", "read_delimited")])
def test_a_file_that_disappears_while_it_is_read_is_refused(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[str, str]
) -> None:
    """The file is really removed between two of our reads of it."""
    module = importlib.import_module(f"medisync.intake.{step[0]}")
    real = getattr(module, step[1])

    def after_removal(*arguments: Any, **options: Any) -> object:
        for path in lake.settings.processing.glob("*/file/*"):
            path.unlink()
        return real(*arguments, **options)

    monkeypatch.setattr(module, step[1], after_removal)
    file = tmp_path / "data.csv"
    file.write_bytes(_text(*_lines(0, 5)))
    _assert_refused(intake.ingest(lake, file), "DISAPPEARED")


@pytest.mark.parametrize("name", ["report[1].csv", "all*.csv", "what?.csv", 'it\'s "it".csv', "a b\tc.csv"])
def test_odd_file_names_are_read_as_they_are(shared_lake: Lake, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(_text(*_lines(0, 5)))
    report = intake.ingest(shared_lake, file, source=f"source-{secrets.token_hex(4)}")
    assert (report.status, report.created) == (DeliveryStatus.LOADED, 5)


@pytest.mark.parametrize("name", [b"data-\xe9.csv", b"data\n2.csv", b"data" * 62 + b".csv"])
def test_file_names_that_are_no_text_or_as_long_as_can_be(shared_lake: Lake, tmp_path: Path, name: bytes) -> None:
    for content, status in ((_text(*_lines(0, 5)), DeliveryStatus.LOADED), (b"a,b\n", DeliveryStatus.REFUSED)):
        file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        file.write_bytes(content)
        report = intake.ingest(shared_lake, file, source=f"source-{secrets.token_hex(4)}")
        assert report.status is status
        assert report.file_label.isprintable()
    _assert_put_away_as_refused(shared_lake.settings, report)


def test_an_error_no_check_foresaw_refuses_without_a_value(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """DuckDB's own message quotes the value: with a check taken away, its conversion error must not come through."""
    from medisync.intake import layouts
    from medisync.intake.feeds import Feed

    def feeds_of(*arguments: Any) -> tuple[Feed, ...]:
        (real,) = feeds_of_layout(*arguments)
        return (dataclasses.replace(real, typed={**real.typed, "v_room": 'CAST("Room Number" AS INTEGER)::VARCHAR'}),)

    feeds_of_layout = layouts.feeds_of
    monkeypatch.setattr(layouts, "feeds_of", feeds_of)
    file = tmp_path / "data.csv"
    file.write_bytes(text_of([*GOOD, admission(50, Room_Number=SECRET)]).encode())
    with caplog.at_level(logging.DEBUG):
        report = intake.ingest(lake, file)
    _assert_refused(report, "UNPROCESSABLE")
    assert SECRET not in caplog.text


def _quarantine(lake: Lake, report: DeliveryReport) -> list[tuple[int, str | None, str]]:
    rows = lake.query(
        "SELECT row_number, column_name, reason FROM clinical.quarantine WHERE delivery_id = ?", [report.delivery_id]
    )
    return sorted(((row["row_number"], row["column_name"], row["reason"]) for row in rows), key=str)


def _admissions(lake: Lake, source: str) -> int:
    return int(lake.query("SELECT count(*) AS n FROM clinical.admissions WHERE source = ?", [source])[0]["n"])


def _assert_refused(report: DeliveryReport, reason: str, text: str = "") -> None:
    assert (report.status, report.reason) == (DeliveryStatus.REFUSED, reason), report.message
    assert text in str(report.message)
    _assert_no_value_in(report)


def _assert_no_value_in(report: DeliveryReport) -> None:
    told = f"{report.as_json()} {report.sentence()}"
    for value in (SECRET, SURNAME, "Quen", "Jürgen", "Featherstonehaugh"):
        assert value not in told


def _assert_put_away_as_refused(settings: Settings, report: DeliveryReport) -> None:
    kept = sorted(settings.refused.glob(f"{report.delivery_id}-*"))
    assert len(kept) == 2
    assert f"[{report.reason}]" in kept[1].read_text(errors="replace")
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert not (settings.processing / report.delivery_id).exists()
