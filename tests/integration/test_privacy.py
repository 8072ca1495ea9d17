"""No patient is named in anything MediSync writes, but for the folders that keep raw files for their owner alone.

The names are looked for as pairs of words, in whatever case and whatever stands between them, so that a name is found
in a sentence, a file name or an address just as well.
"""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import os
import re
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from medisync import intake
from medisync.intake.watcher import Watcher
from medisync.lake import Lake, Snapshot
from medisync.runs import story
from medisync.runs.story import Request
from tests.conftest import ROOT, make_workspace
from tests.support.admissions_csv import SURNAME, admission, read_rows, write_csv
from tests.support.running import PATIENCE_SECONDS

TITLES = {"mr", "mrs", "ms", "miss", "dr", "md", "phd", "dds", "dvm", "jr", "sr", "ii", "iii", "iv", "v"}
RAW_FOLDERS = ("inbox", "processing", "archive", "quarantine", "refused")
Pair = tuple[str, str]
APART = " zzzz "
"""Between two values: a word that is nobody's name."""


def pairs(text: str) -> set[Pair]:
    """Neighbouring words of ``text`` in lower case; a comma between them makes a list, not a name."""
    parts = (re.findall(r"[^\W\d_]+", part) for part in text.lower().split(","))
    return {pair for words in parts for pair in itertools.pairwise(words)}


def pairs_in(path: Path) -> set[Pair]:
    """The pairs of a file. In a binary one, where values lie side by side, only words with one space between them."""
    found = set()
    for text in texts(path):
        if "\0" in text:
            found |= set(re.findall(r"(?<![^\W\d_])([^\W\d_]+) (?=([^\W\d_]+))", text.lower()))
        else:
            found |= pairs(text)
    return found


def names_in(rows: Iterable[dict[str, str]]) -> set[Pair]:
    """First and last name of every person of a file, either way round."""
    found = set()
    for row in rows:
        for column in ("Name", "Doctor"):
            words = [word for word in re.findall(r"[^\W\d_]+", row[column].lower()) if word not in TITLES]
            found |= {(words[0], words[-1]), (words[-1], words[0])} if len(words) > 1 else set()
    return found


def texts(path: Path) -> Iterator[str]:
    """What a file says: as text, and unpacked when something in it is packed."""
    raw = path.read_bytes()
    yield raw.decode("latin-1")
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw).decode("latin-1")
    for start in (match.start() for match in re.finditer(rb"\x78[\x01\x9c\xda]", raw[:1_000_000])):
        try:
            yield zlib.decompressobj().decompress(raw[start:]).decode("latin-1")
        except zlib.error:
            continue


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[tuple[Lake, set[Pair], set[Pair], str]]:
    """A workspace that was really used: the sample, a copy with faults, a refused and a misnamed file, and two of
    the notebooks. Yields the lake, the people's names, hospitals that are called like people, and
    everything that was logged."""
    folder = tmp_path_factory.mktemp("privacy")
    with pytest.MonkeyPatch.context() as environment:
        settings = make_workspace(folder, environment, notebook_seconds=300)
        lake = Lake(settings)
        rows = read_rows(sample)
        faulty = [*rows[:300], *(row | {"Age": "-1"} for row in rows[300:330]), *(admission(i) for i in range(20))]
        heard = logging.getLogger()
        records: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: records.append(logging.Formatter().format(record))  # type: ignore[method-assign]
        level = heard.level
        heard.addHandler(handler)
        heard.setLevel(logging.INFO)
        watcher = Watcher(settings)
        (settings.inbox / "healthcare_dataset.csv.gz").write_bytes(sample.read_bytes())
        write_csv(settings.inbox / "ward" / f"Quenaaac {SURNAME}.csv", faulty)
        write_csv(settings.inbox / "ward" / "refused.csv", [row | {"Age": row["Name"]} for row in rows[:20]])
        (settings.inbox / "ward" / "no header.csv").write_text("\n".join(",".join(r.values()) for r in rows[:20]))
        claimed = [*watcher.claim_complete_files(), *watcher.claim_complete_files()]
        assert len(claimed) == 4
        watcher.announce_open_claims()  # nobody listens: that is logged, too
        reports = [intake.deliver(lake, delivery_id) for delivery_id in claimed]
        assert sorted(report.status.value for report in reports) == ["loaded", "loaded", "refused", "refused"]
        outcomes = story.run(lake, ["patient_demographics", "medication_analysis"], request=Request(trigger="test"))
        assert {outcome.record.status.value for outcome in outcomes} == {"completed"}, outcomes
        watcher.close()
        records += [f"{report.as_json()} {report.sentence()}" for report in reports]
        heard.removeHandler(handler)
        heard.setLevel(level)
        hospitals = {pair for row in rows for pair in pairs(row["Hospital"])}
        people = names_in([*rows, *faulty])
        yield lake, people - hospitals, people & hospitals, "\n".join(records)
        lake.close()


def test_the_search_would_find_a_name(
    used: tuple[Lake, set[Pair], set[Pair], str], sample: Path, tmp_path: Path
) -> None:
    _, people, ambiguous, _ = used
    assert len(people) > 30_000
    assert len(ambiguous) < 0.02 * len(people)  # "Thomas Martin and Sons" says nothing about a Thomas Martin
    (tmp_path / "x.html").write_text("<p>BOBBY-jackson</p>")
    assert pairs_in(tmp_path / "x.html") & people == {("bobby", "jackson")}
    assert len(pairs_in(sample) & people) > 20_000
    (tmp_path / "x.bin").write_bytes(b"\0\7Bobby Jackson\0")
    assert pairs_in(tmp_path / "x.bin") & people == {("bobby", "jackson")}


def test_no_file_names_a_patient(used: tuple[Lake, set[Pair], set[Pair], str]) -> None:
    lake, people, _, _ = used
    looked_at = 0
    for root in (lake.settings.reports, lake.settings.data):
        for path in root.rglob("*"):
            relative = path.relative_to(root)
            if path.is_dir() or (root == lake.settings.data and relative.parts[0] in RAW_FOLDERS):
                continue
            looked_at += 1
            assert not pairs(str(relative)) & people, "a file's name"
            if path.suffix != ".parquet":  # packed; for these see below
                assert not pairs_in(path) & people, relative
    assert looked_at > 15
    assert list(lake.settings.reports.rglob("*.html"))


def test_no_row_of_the_lake_names_a_patient(used: tuple[Lake, set[Pair], set[Pair], str]) -> None:
    lake, people, _, _ = used
    tables = lake.query(
        "SELECT schema_name AS s, table_name AS t, column_name AS c FROM duckdb_columns() WHERE database_name = 'lake' "
        "AND data_type IN ('VARCHAR', 'JSON', 'BLOB') ORDER BY ALL"
    )
    assert {"admissions", "patients", "deliveries", "runs", "results", "quarantine"} <= {row["t"] for row in tables}
    with Snapshot(lake.settings) as snapshot:
        for row in tables:
            column = f'"{row["c"]}"'
            values = snapshot.query(f'SELECT DISTINCT {column}::VARCHAR AS v FROM {row["s"]}."{row["t"]}"')[
                "v"
            ].dropna()
            assert not pairs(APART.join(values)) & people, row
        keys = snapshot.query("SELECT patient_key, admission_key, practitioner_key FROM clinical.admissions LIMIT 5")
    assert set(keys.map(lambda value: len(str(value))).to_numpy().ravel()) == {36}


def test_no_parquet_file_names_a_patient_in_what_it_deleted_or_replaced(
    used: tuple[Lake, set[Pair], set[Pair], str], sample: Path
) -> None:
    """Every file, also of rows that no snapshot shows any more: each text column, and the bytes as they are.

    In the bytes, packed pieces of hospitals' names make up people's; but the sample writes people in odd capitals
    ("LesLie TErRy"), which nothing else in it does.
    """
    lake, people, _, _ = used
    odd = {word for row in read_rows(sample) for word in row["Name"].split() if not (word.istitle() or len(word) < 8)}
    assert len(odd) > 5_000
    files = sorted(lake.files.rglob("*.parquet"))
    assert len(files) > 5
    cursor = lake.cursor()
    for file in files:
        assert not set(re.findall(r"[A-Za-z]+", file.read_bytes().decode("latin-1"))) & odd, file.name
        for name, kind in [row[:2] for row in cursor.execute("DESCRIBE FROM read_parquet(?)", [str(file)]).fetchall()]:
            if kind in ("VARCHAR", "JSON", "BLOB"):
                rows = cursor.execute(f'SELECT DISTINCT "{name}"::VARCHAR FROM read_parquet(?)', [str(file)]).fetchall()
                assert not pairs(APART.join(str(value) for (value,) in rows)) & people, (file.name, name)
    cursor.close()


def test_the_privacy_scan_finds_nobody(used: tuple[Lake, set[Pair], set[Pair], str]) -> None:
    """The command looks for everybody of all four deliveries; in a process of its own, as the lake is open here."""
    settings = used[0].settings
    search = [sys.executable, "-m", "medisync.cli.main", "privacy-scan", str(settings.data), str(settings.reports)]
    environment = {**os.environ, "MEDISYNC_DATA": str(settings.data), "MEDISYNC_REPORTS": str(settings.reports)}
    done = subprocess.run([*search, "--json"], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert (done.returncode, report["findings"], report["unreadable"]) == (0, [], [])
    assert report["sought"] > 200_000
    assert report["files"] > 15


def test_nothing_that_is_said_or_logged_names_a_patient(used: tuple[Lake, set[Pair], set[Pair], str]) -> None:
    _, people, ambiguous, logged = used
    assert "Claimed delivery" in logged
    assert not pairs(logged) & (people | ambiguous)
    assert SURNAME not in logged


def test_raw_files_are_for_the_owner_alone(used: tuple[Lake, set[Pair], set[Pair], str]) -> None:
    settings = used[0].settings
    kept = [path for name in RAW_FOLDERS for path in (settings.data / name).rglob("*")]
    assert sum(path.is_file() for path in kept) == 4 + 2 + 2  # files, notes of refusal, quarantined rows
    for name in RAW_FOLDERS:
        assert stat.S_IMODE((settings.data / name).stat().st_mode) == 0o700
    for path in kept:
        expected = {0o700, 0o755} if path.is_dir() else {0o600}
        assert stat.S_IMODE(path.stat().st_mode) in expected, path


def test_a_watcher_process_logs_no_name(tmp_path: Path, sample: Path) -> None:
    """The process `medisync up` starts, its whole output."""
    environment = {
        **os.environ,
        "MEDISYNC_DATA": str(tmp_path / "data"),
        "MEDISYNC_REPORTS": str(tmp_path / "reports"),
        "MEDISYNC_INBOX_SETTLE_SECONDS": "0",
        "MEDISYNC_PREFECT_PORT": "9",
    }
    rows = read_rows(sample)[:50]
    write_csv(tmp_path / "data" / "inbox" / f"{rows[0]['Name']}.csv", rows)
    process = subprocess.Popen(
        [sys.executable, "-m", "medisync.intake.watcher"],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "does not take deliveries" in line:
            break
    process.terminate()
    said += process.communicate(timeout=PATIENCE_SECONDS)[1]
    assert process.returncode == 0
    assert "Claimed delivery" in said
    assert not pairs(said) & names_in(rows)
