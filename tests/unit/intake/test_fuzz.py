"""Real files of every format, damaged in every way we could think of, thousands of times.

Each ends loaded, quarantined in part or refused with a reason; the process lives, its memory stays bounded, and the
lake holds what the reports say. ``MEDISYNC_FUZZ`` raises the number of mutations for a long run.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import os
import random
import shutil
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import openpyxl
import pytest

from medisync.errors import DeliveryRefusedError
from medisync.intake import parts, staging
from medisync.intake.contents import contents_of
from medisync.intake.formats import Room
from medisync.intake.reasons import FileFault
from medisync.intake.sources import Source
from medisync.lake import Lake
from medisync.lake.extensions import open_duckdb
from medisync.settings import Settings
from tests.support import datasets
from tests.support.admissions_csv import SURNAME, admissions, text_of

MUTATIONS = int(os.environ.get("MEDISYNC_FUZZ", "2000"))
LARGEST_MEGABYTES = 1000
AT_START_MEGABYTES = 250
"""What a process that takes files in has in memory before the first; one that ran other tests may hold much more."""
NOW = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - the lake keeps UTC without a zone
FORMATS = (
    *("csv", "gzip", "bundle", "parquet", "zip", "ndjson", "gzip", "parquet", "zip", "omop"),
    *("gzip", "bundle", "parquet", "zip", "xlsx"),
)
"""Formats that fail early cost little and come often; a workbook needs a process of its own and comes seldom."""

Mutation = Callable[[bytes, random.Random], bytes]


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 3, 30))):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def insert(content: bytes, chance: random.Random) -> bytes:
    odd = (
        b"\0",
        b"\r",
        b"\r\n",
        b"\n\n",
        b'"',
        b'""',
        b";",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"=cmd|' /C calc'!A0",
        b"{",
        b"]",
    )
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice(odd) * chance.choice((1, 2, 500)) + content[place:]


def swell(content: bytes, chance: random.Random) -> bytes:
    """A huge value, or two million columns."""
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice((b"9" * 200_000, b"x" * 1_200_000, b",a" * 2_000_000)) + content[place:]


def double(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n")
    place = chance.randrange(len(lines))
    return b"\n".join([*lines[: place + 1], *lines[chance.choice((0, place)) :]])


def shuffle_columns(content: bytes, chance: random.Random) -> bytes:
    rows = [line.split(b",") for line in content.split(b"\n")]
    order = list(range(len(rows[0])))
    chance.shuffle(order)
    if chance.random() < 0.5 and order:
        order = order[1:] if chance.random() < 0.5 else [*order, order[0]]
    return b"\n".join(b",".join(row[place] for place in order if place < len(row)) for row in rows)


def wrong_types(content: bytes, chance: random.Random) -> bytes:
    old = chance.choice((b"2", b"0", b":", b'"', b"-", b"T", b"a", b"e"))
    return content.replace(old, chance.choice((b"x", b"", b"1e999", b"[[", b"\xc3")), chance.choice((1, 20, -1)))


def nest(content: bytes, chance: random.Random) -> bytes:
    bomb = chance.choice((b"[", b'{"a":', b'{"entry":[')) * chance.choice((100, 20_000))
    place = chance.choice((0, content.find(b":") + 1, len(content)))
    return content[:place] + bomb + content[place:]


def mixed_line_ends(content: bytes, chance: random.Random) -> bytes:
    return content.replace(b"\n", chance.choice((b"\r", b"\r\n")), chance.randrange(1, 9))


MUTATIONS_OF_BYTES: tuple[Mutation, ...] = (
    truncate,
    flip,
    insert,
    double,
    shuffle_columns,
    wrong_types,
    nest,
    mixed_line_ends,
)


def archive_of(content: bytes, chance: random.Random) -> bytes:
    """An archive with names that climb out, links, archives inside, or a member that swells."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members with one name
        for number in range(chance.randrange(1, 4)):
            name = chance.choice(("../a.csv", "/a.csv", "a\\b.csv", "a\0.csv", "d/a.csv", "b.zip", f"{number}.csv"))
            info = zipfile.ZipInfo(f"{number}{name}" if name[0] not in "./" else name)
            info.external_attr = chance.choice((0o644, 0o120777)) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, chance.choice((content, b"", bytes(40_000_000) if chance.random() < 0.05 else b"x")))
    return stream.getvalue()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    csv = text_of(admissions(12)).encode()
    book = openpyxl.Workbook()
    for line in csv.decode().splitlines():
        book.active.append(line.split(","))
    book.save(folder / "book.xlsx")
    resources = [one for kind in ("Patient", "Encounter") for one in datasets.resources(datasets.FHIR_BUNDLES, kind)][
        :8
    ]
    entries = [{"fullUrl": f"urn:uuid:{one['id']}", "resource": one} for one in resources]
    omop = datasets.write_omop(folder / "cdm", datasets.omop_set(6))
    (folder / "a.csv").write_bytes(csv)
    duckdb.sql(f"COPY (FROM read_csv('{folder / 'a.csv'}', all_varchar = true)) TO '{folder / 'a.parquet'}'")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in omop.iterdir():
            archive.write(path, path.name)
    return {
        "csv": csv,
        "gzip": gzip.compress(csv),
        "ndjson": "\n".join(json.dumps(one) for one in resources).encode(),
        "bundle": json.dumps({"resourceType": "Bundle", "entry": entries}).encode(),
        "parquet": (folder / "a.parquet").read_bytes(),
        "zip": packed.getvalue(),
        "omop": (omop / "VISIT_OCCURRENCE.csv").read_bytes(),
        "xlsx": (folder / "book.xlsx").read_bytes(),
    }


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("fuzz")
    lake = Lake(Settings(data=folder / "data", reports=folder / "reports", memory_limit_mb=500))
    lake.settings.make_folders()
    yield lake
    lake.close()


def mutated(kind: str, original: bytes, chance: random.Random) -> bytes:
    if kind == "zip" and chance.random() < 0.5:
        return archive_of(original[:400], chance)
    changed = original
    for _ in range(chance.choice((1, 1, 2, 3))):
        changed = chance.choice(MUTATIONS_OF_BYTES)(changed, chance)
        if chance.random() < 0.01:
            changed = swell(changed, chance)
    return changed


def _outcome(cursor: duckdb.DuckDBPyConnection, path: Path, room: Path, settings: Settings) -> str:
    """Unpack, open, recognise, read, check and stage, as a delivery does."""
    source = Source(name="fuzz")
    try:
        contents = contents_of(cursor, parts.parts_of(path, room / "unpacked"), source, Room(room / "room"), settings)
        checked = staging.check(cursor, contents.feeds, NOW, source=source.name, key=b"k" * 32)
        if not contents.feeds:
            return "names only"
        staging.stage(cursor, contents.feeds)
        staging.count(cursor, contents.feeds, checked)
    except DeliveryRefusedError as error:
        return "names somebody" if SURNAME in str(error) else error.reason
    faulty = cursor.execute("SELECT count(*) FROM (SELECT DISTINCT part, row_number FROM faults)").fetchone()
    assert faulty == (checked.quarantined,)
    if checked.quarantined < checked.rows_read:
        return "quarantined" if checked.quarantined else "loaded"
    return FileFault.TOO_MANY_FAULTS if checked.rows_read else FileFault.NO_ROWS


def memory_mb(what: str) -> float:
    """VmRSS, what this process has in memory, or VmHWM, the most it had."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_every_mutation_ends_with_a_reason(originals: dict[str, bytes], tmp_path: Path) -> None:
    """Everything before the lake, by one warm process and one database; no error of the database comes through."""
    chance = random.Random(20_240_507)
    outcomes: Counter[str] = Counter()
    settings = Settings(data=tmp_path / "data", reports=tmp_path / "reports")
    known = {one.value for one in FileFault} | {"loaded", "quarantined", "names only"}
    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak of earlier tests: proc(5)
    with open_duckdb("icu", memory_limit_mb=500, threads=1) as connection:
        for number in range(MUTATIONS):
            kind = FORMATS[-1] if number % 50 == 0 else FORMATS[number % (len(FORMATS) - 1)]
            path, room = tmp_path / "delivered", tmp_path / "room"
            path.write_bytes(mutated(kind, originals[kind], chance))
            room.mkdir()
            with connection.cursor() as cursor:
                try:
                    outcome = _outcome(cursor, path, room, settings)
                except duckdb.Error as error:
                    pytest.fail(f"mutation {number} of {kind}: {type(error).__name__}: {error}")
            assert outcome in known, (number, kind)
            outcomes[outcome] += 1
            shutil.rmtree(room)
    print(dict(outcomes.most_common()))  # noqa: T201 - the figures of a long run
    assert sum(outcomes.values()) == MUTATIONS
    assert min(outcomes["loaded"], outcomes["quarantined"]) > MUTATIONS / 50
    assert len(outcomes) > 10
    assert memory_mb("VmHWM") - before + AT_START_MEGABYTES < LARGEST_MEGABYTES


def test_nothing_is_half_loaded(originals: dict[str, bytes], lake: Lake, tmp_path: Path) -> None:
    """The same through the front door: admissions in the lake are those the reports say were created."""
    from medisync import intake

    chance = random.Random(7)
    for number in range(12):
        kind = FORMATS[number % (len(FORMATS) - 1)]
        path = tmp_path / f"data-{number}"
        path.write_bytes(mutated(kind, originals[kind], chance))
        report = intake.ingest(lake, path, source=f"fuzz-{number}")
        known = lake.query("SELECT count(*) AS n FROM clinical.admissions WHERE source = ?", [f"fuzz-{number}"])[0]["n"]
        assert known == (report.created if report.admitted_from else 0), (number, kind)
        faulty = lake.query(
            "SELECT count(DISTINCT (part, row_number)) AS n FROM clinical.quarantine WHERE delivery_id = ?",
            [report.delivery_id],
        )
        assert faulty[0]["n"] == report.quarantined
    assert list(lake.settings.processing.iterdir()) == []
