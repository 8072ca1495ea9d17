"""Small files loaded together leave the lake exactly as one after the other does, and each its own record."""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medisync.api.changes import events_after
from medisync.errors import DeliveryRefusedError
from medisync.intake import DeliveryReport, DeliveryStatus, arrival, deliver, merging_together, together, turns
from medisync.intake.together import deliver_together
from medisync.lake import Lake
from medisync.lake.history import as_known_on
from medisync.ledger import Claims, open_ledger
from medisync.reports.page import quality_path
from medisync.reports.quality import quality_of
from medisync.runs.lineage import of_delivery
from medisync.settings import Settings
from tests.support.admissions_csv import SURNAME, admission, admissions, text_of

KEY = bytes(range(32))
Row = dict[str, str] | str
COUNTS = ("status", "mode", "rows_read", "created", "updated", "deleted", "unchanged", "duplicates_exact")
COUNTS += ("duplicates_conflicting", "quarantined", "faults", "notices", "changed_tables", "file_label", "reason")
COUNTS += ("admitted_from", "admitted_until", "content_hash", "layout", "message")


class Place:
    """A workspace with the same key of pseudonyms as the others, into which files are put under numbers."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data=folder / "data", reports=folder / "reports", inbox_settle_seconds=0.0)
        self.settings.make_folders()
        (self.settings.keys / "pseudonyms.key").write_bytes(KEY)
        self.lake = Lake(self.settings)
        self.ids: list[str] = []

    def claim(self, texts: list[str], source: str = "default", suffix: str = ".csv") -> list[str]:
        new = []
        for text in texts:
            path = self.settings.inbox / f"{len(self.ids) + len(new):03d}{suffix}"
            path.write_text(text, encoding="utf-8")
            claimed = arrival.claim(self.settings, path, source)
            assert claimed is not None
            while new and claimed <= new[-1]:  # within one tick of the ids' clock
                (self.settings.processing / claimed).rename(
                    self.settings.processing / (claimed := arrival.new_delivery_id())
                )
            new.append(claimed)
        self.ids += new
        return new

    def one_by_one(self, texts: list[str]) -> list[DeliveryReport]:
        return [deliver(self.lake, one) for one in self.claim(texts)]

    def at_once(self, texts: list[str]) -> list[DeliveryReport]:
        first = self.claim(texts)[0]
        return list(turns.take(self.lake, Claims(open_ledger(self.settings)), first))

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every table's rows, deliveries by their number in place of their id, without the times of this run."""
        found = {}
        for table in TABLES:
            rows = self.lake.query(f"FROM {table}")
            for row in rows:
                for name in TIMES:
                    row.pop(name, None)
            plain = [tuple(numbered(value, self.ids) for value in row.values()) for row in rows]
            found[table] = sorted(plain, key=repr)
        return found


KINDS = ("patients", "admissions", "conditions", "prescriptions")
OTHERS = ("waiting", "deliveries", "quarantine", "quality", "table_versions")
TABLES = tuple(f"clinical.{name}" for name in (*KINDS, *(f"superseded_{kind}" for kind in KINDS), *OTHERS))
TIMES = ("received_at", "finished_at", "changed_at")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    made = (Place(tmp_path / "together"), Place(tmp_path / "alone"))
    yield made
    for place in made:
        place.lake.close()


def counts(reports: list[DeliveryReport], ids: list[str]) -> list[tuple[Any, ...]]:
    """What the reports say."""
    return [tuple(numbered(getattr(one, name), ids) for name in COUNTS) for one in reports]


def numbered(value: Any, ids: list[str]) -> Any:
    """A text with the numbers of the deliveries it names in place of their ids."""
    if not isinstance(value, str):
        return value
    return re.sub(r"d\d{8}T\d{6}-[0-9a-f]{8}", lambda found: f"#{ids.index(found.group())}", value)


def assert_same(places: tuple[Place, Place], texts: list[str]) -> list[DeliveryReport]:
    """Load ``texts`` in both places; the reports."""
    before = len(places[0].ids)
    reports = places[0].at_once(texts)
    others = places[1].one_by_one(texts)
    assert [one.delivery_id for one in reports] == places[0].ids[before:], "in the order they came"
    assert counts(reports, places[0].ids) == counts(others, places[1].ids)
    one, other = places[0].content(), places[1].content()
    for table in TABLES:
        assert one[table] == other[table], table
    return reports


def commits(lake: Lake) -> int:
    return lake.last_snapshot_id() or 0


def mess(random_: random.Random, number: int) -> str:
    """A file of a few rows: new admissions, known ones as they were or corrected, patients of others, repeated rows,
    and now and then something that is loaded by itself or refused."""
    rows: list[Row] = []
    for _ in range(random_.randint(1, 6)):
        which = random_.choice((number * 10 + random_.randint(0, 9), random_.randint(0, 60)))
        row = admission(which)
        if random_.random() < 0.3:
            row["Billing Amount"] = f"{random_.randint(1, 9)}00.50"
        if random_.random() < 0.3:
            row["Medication"] = random_.choice(("Aspirin", "Lipitor"))
        if random_.random() < 0.2:
            row["Date of Admission"] = f"2019-{random_.randint(1, 12):02d}-03"  # another admission of the patient
        rows += [row] * random_.choice((1, 1, 1, 2))
    odd = random_.random()
    if odd < 0.08:
        rows.append(admission(number * 10, Age="ninety"))
    elif odd < 0.14:
        rows.append("too,few,fields")
    elif odd < 0.18:
        return "a,b\n1,2\n"
    elif odd < 0.22:
        return text_of([])
    elif odd < 0.26:
        return text_of(rows, delimiter=";")
    elif odd < 0.30:
        return text_of([admission(number, Age="x"), admission(number, Date_of_Admission="never")])
    return text_of(rows)


def test_a_mess_of_files_leaves_the_lake_as_one_after_the_other_does(places: tuple[Place, Place]) -> None:
    random_ = random.Random(1)
    texts = [mess(random_, number) for number in range(9)]
    texts.insert(6, texts[2])  # the same again
    assert_same(places, texts)


def test_files_of_their_own_admissions_are_one_commit(places: tuple[Place, Place]) -> None:
    texts = [text_of([*admissions(4, start=number * 4), admission(number * 4)]) for number in range(5)]
    places[0].lake.connection()
    before = commits(places[0].lake)
    reports = assert_same(places, texts)
    assert commits(places[0].lake) == before + 1
    assert {one.snapshot for one in reports} == {commits(places[0].lake)}
    assert [one.duplicates_exact for one in reports] == [1] * 5
    assert all(one.seconds > 0 for one in reports), "else a flow run would take them for loaded by an earlier try"
    assert not arrival.claimed(places[0].settings)
    assert len(list((places[0].settings.archive / "default").iterdir())) == 5


def test_corrections_of_known_admissions_come_together_with_new_ones(places: tuple[Place, Place]) -> None:
    known = text_of(admissions(30))
    assert_same(places, [known])
    texts = [
        text_of([admission(1, Billing_Amount="7.00"), admission(101)]),
        text_of([admission(2, Medication="Aspirin"), admission(3), admission(102)]),
        text_of([admission(4, Discharge_Date="2026-05-01")]),
    ]
    before = commits(places[0].lake)
    reports = assert_same(places, texts)
    assert commits(places[0].lake) == before + 1
    assert [(one.created, one.updated, one.unchanged) for one in reports] == [(1, 1, 0), (1, 1, 1), (0, 1, 0)]
    assert reports[2].changed_tables == ("admissions",)


def test_what_was_known_in_between_can_be_asked(places: tuple[Place, Place]) -> None:
    lake = places[0].lake
    places[0].at_once([text_of(admissions(2, start=number * 2)) for number in range(4)])
    moments = [row["finished_at"] for row in lake.query("SELECT finished_at FROM clinical.deliveries ORDER BY 1")]
    assert len(set(moments)) == 4
    for number, moment in enumerate(moments, start=1):
        assert len(lake.query(f"FROM {as_known_on('admissions', moment)}")) == number * 2


def test_each_has_its_page_its_event_and_its_lineage(places: tuple[Place, Place]) -> None:
    lake = places[0].lake
    reports = places[0].at_once([text_of(admissions(2, start=number * 2)) for number in range(3)])
    for report in reports:
        found = quality_of(lake, report.delivery_id)
        assert {one["measure"] for one in found["measures"]} >= {"rows", "missing_share"}
        assert report.delivery_id in quality_path(lake.settings, report.delivery_id).read_text()
        assert any(node.name == "admissions" for node in of_delivery(lake, report.delivery_id).nodes)
    events = [one for one in events_after(lake, 0) if one.name == "delivery.loaded"]
    assert [one.of.delivery_id for one in events] == [one.delivery_id for one in reports]
    assert len({one.id for one in events}) == 3


def test_a_file_that_looks_like_a_full_extract_is_loaded_by_itself(places: tuple[Place, Place]) -> None:
    known: list[Row] = [*admissions(3)]
    assert_same(places, [text_of(known)])
    new: list[Row] = [admission(50), admission(51)]
    texts = [
        text_of(new[:1]),
        text_of(new[1:]),
        text_of([*known[:2], *new, admission(2, Age="99")]),
        text_of(known[:1]),
    ]
    reports = assert_same(places, texts)
    assert [one.mode for one in reports] == ["upsert", "upsert", "snapshot", "upsert"]


def test_files_that_have_to_be_read_one_by_one_are_committed_together(places: tuple[Place, Place]) -> None:
    def german(number: int, **changes: str) -> dict[str, str]:
        return admission(number, Date_of_Admission=f"{13 + number}.01.2024", Discharge_Date="", **changes)

    texts = [
        text_of([german(0), german(1)], delimiter=";"),
        text_of([german(2), german(3, Insurance_Provider="NULL")], delimiter=","),
        text_of([german(4), german(0, Billing_Amount="5.00")]),
        text_of([german(5), "broken"]),
    ]
    places[0].lake.connection()
    before = commits(places[0].lake)
    reports = assert_same(places, texts)
    assert [one.snapshot - before for one in reports if one.snapshot] == [1, 2, 3, 4]
    texts = [text_of([german(number + 6), german(number + 10)], delimiter=",;"[number % 2]) for number in range(4)]
    assert len({one.snapshot for one in assert_same(places, texts)}) == 1


def test_an_admission_that_moves_to_another_patient(places: tuple[Place, Place]) -> None:
    source = "[columns]\npatient = 'person'\nadmission = 'stay'\nadmitted_at = 'day'\ngender = 'sex'\n"
    for place in places:
        (place.settings.sources).mkdir(exist_ok=True)
        (place.settings.sources / "default.toml").write_text(source)
    header = "person,stay,day,sex\n"
    assert_same(places, [header + "".join(f"p{n},s{n},2024-01-0{n},F\n" for n in range(1, 8))])
    texts = [
        header + "p9,s9,2024-02-01,F\n",
        header + "p9,s1,2024-01-01,F\n",  # p1 has no admission left
        header + "p8,s8,2024-02-01,M\n",
        header + "p1,s10,2024-02-02,M\n",
        header + "p8,s11,2024-02-02,F\n",  # says otherwise
    ]
    assert_same(places, texts)


def test_a_file_called_after_its_patient_is_called_so_nowhere(places: tuple[Place, Place]) -> None:
    lake = places[0].lake
    first = places[0].claim([text_of(admissions(2))])
    second = places[0].claim([text_of(admissions(2, start=9))], suffix=f"_{SURNAME}.csv")
    reports = deliver_together(lake, "default", [*first, *second])
    assert [one.file_label for one in reports] == ["000.csv", "(name withheld).csv"]
    assert SURNAME not in quality_path(lake.settings, second[0]).read_text()


def test_what_fails_within_is_loaded_one_by_one(places: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    real = merging_together.merge_together

    def failing(*args: Any, delivery_ids: list[str], **named: Any) -> Any:
        tried.append(len(delivery_ids))
        real(*args, delivery_ids=delivery_ids, **named)
        raise DeliveryRefusedError("It cannot be.", reason="UNPROCESSABLE")

    monkeypatch.setattr(together, "merge_together", failing)
    assert_same(places, [text_of(admissions(2, start=number * 2)) for number in range(3)])
    assert tried[0] == 3


def test_nothing_is_taken_that_another_process_works_on(places: tuple[Place, Place]) -> None:
    lake = places[0].lake
    ids = places[0].claim([text_of(admissions(2, start=number * 2)) for number in range(4)])
    with arrival.sole_worker(lake.settings, ids[2]):
        assert [one.delivery_id for one in deliver_together(lake, "default", ids)] == ids[:2]
    assert [one.status for one in deliver_together(lake, "default", ids[2:])] == [DeliveryStatus.LOADED] * 2
    assert deliver_together(lake, "default", ids) == []


def test_an_unusually_small_file_is_told_of_as_if_it_came_alone(places: tuple[Place, Place]) -> None:
    sizes = [40] * 5 + [2]
    texts = [text_of(admissions(size, start=number * 100)) for number, size in enumerate(sizes)]
    reports = assert_same(places, texts)
    assert "VOLUME_UNUSUAL" in reports[5].notices
    assert max(one.finished_at for one in reports if one.finished_at) < dt.datetime.now(dt.UTC).replace(tzinfo=None)


def test_each_kind_of_workspace_holds_only_what_is_free(either_workspace: Settings) -> None:
    for name in ("a", "b", "c"):
        (either_workspace.processing / name).mkdir(parents=True)
    with arrival.sole_worker(either_workspace, "b"):
        with arrival.sole_workers(either_workspace, ["a", "b", "c"]) as ours:
            assert ours == ["a", "c"]
            with arrival.sole_worker(either_workspace, "c") as is_sole:
                assert not is_sole
        with arrival.sole_worker(either_workspace, "c") as is_sole:
            assert is_sole
