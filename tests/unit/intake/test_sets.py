"""Sets of files: patients, admissions, conditions and prescriptions that come apart, in any order."""

from __future__ import annotations

import datetime as dt
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from medisync.intake import births, merging, staging
from medisync.intake.feeds import Check, Feed, Kind
from medisync.intake.merging import DeliveryMode, MergeCounts
from medisync.intake.reasons import RowFault
from medisync.lake import Lake, Snapshot, history
from medisync.settings import Settings

Rows = list[tuple[str | None, ...]]
KEY = b"k" * 32
NOW = dt.datetime(2026, 3, 1)  # noqa: DTZ001 - the lake keeps UTC without a zone


def feed_of(kind: Kind) -> Feed:
    """The layout of each file of the set; ``gone`` marks a deletion."""
    common = {"part": f"{kind}.csv", "table": f"text_{kind}", "deleted": "gone = 'yes'"}
    match kind:
        case Kind.PATIENTS:
            return Feed(
                **common,
                columns=("patient", "gender", "born", "gone"),
                typed={"v_born": "try_cast(born AS DATE)"},
                values={kind: {"gender": "gender", "birth_date": "v_born"}},
                patient="patient",
            )
        case Kind.ADMISSIONS:
            return Feed(
                **common,
                columns=("admission", "patient", "admitted", "site", "gone"),
                typed={"v_at": "try_cast(admitted AS TIMESTAMP)"},
                values={kind: {"admitted_at": "v_at", "site": "site"}},
                checks=(Check("admitted", RowFault.BAD_DATE, "admitted IS NOT NULL AND v_at IS NULL"),),
                admission="admission",
                patient="patient",
            )
        case Kind.CONDITIONS:
            return Feed(
                **common,
                columns=("admission", "patient", "what", "gone"),
                typed={},
                values={kind: {"condition": "what", "code": "upper(what)"}},
                admission="admission",
                patient="patient",
            )
        case Kind.PRESCRIPTIONS:
            return Feed(
                **common,
                columns=("admission", "patient", "what", "gone"),
                typed={},
                values={kind: {"medication": "what"}},
                admission="admission",
                patient="patient",
            )


@dataclass
class Desk:
    """One source of a lake that tests share, and deliveries straight from rows."""

    lake: Lake
    source: str
    delivered: int = 0

    def deliver(self, *parts: tuple[Kind, Rows], mode: DeliveryMode = DeliveryMode.UPSERT) -> MergeCounts:
        feeds = tuple(feed_of(kind) for kind, _ in parts)
        cursor = staging.open_desk(self.lake)
        for feed, (_, rows) in zip(feeds, parts, strict=True):
            columns = ", ".join(f"{name} VARCHAR" for name in feed.columns)
            cursor.execute(f"CREATE TEMP TABLE {feed.table} (row_number BIGINT, row_hash UBIGINT, {columns})")
            filled = [[*row, *[None] * (len(feed.columns) - len(row))] for row in rows]
            marks = ", ".join("?" for _ in feed.columns)
            values = ", ".join(f"({number}, hash({marks}), {marks})" for number in range(1, len(rows) + 1))
            cursor.execute(
                f"INSERT INTO temp.{feed.table} VALUES {values}", [one for row in filled for one in (*row, *row)]
            )
        self.delivered += 1
        delivery_id = f"{self.source}-{self.delivered}"
        checked = staging.check(cursor, feeds, NOW, source=self.source, key=KEY)
        staged = staging.stage(cursor, feeds)
        self.counts = staging.count(cursor, feeds, checked)
        with self.lake.transaction(delivery_id, cursor=cursor) as transaction:
            merged = merging.merge(
                transaction,
                staged,
                source=self.source,
                delivery_id=delivery_id,
                mode=mode,
                full_extract_share=0.8,
                birth_dates=births.store(self.lake.settings, self.source),
            )
            transaction.execute(
                "INSERT INTO lake.clinical.deliveries (delivery_id, source, status, finished_at) VALUES (?, ?, ?, ?)",
                [delivery_id, self.source, "loaded", NOW + dt.timedelta(days=self.delivered)],
            )
        cursor.close()
        return merged

    def content(self) -> dict[str, list[dict[str, Any]]]:
        """The source's rows without the deliveries they came with."""
        return {
            table: sorted(
                self.lake.query(
                    f"SELECT * EXCLUDE (source, delivery_id) FROM clinical.{table} WHERE source = ?", [self.source]
                ),
                key=str,
            )
            for table in (*Kind, "waiting")
        }

    def column(self, table: str, name: str) -> list[Any]:
        rows = self.lake.query(f"SELECT {name} AS one FROM clinical.{table} WHERE source = ?", [self.source])
        return sorted((row["one"] for row in rows), key=str)


@pytest.fixture(scope="module")
def set_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("sets")
    opened = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    yield opened
    opened.close()


@pytest.fixture
def desk(set_lake: Lake) -> Desk:
    return Desk(set_lake, f"source-{secrets.token_hex(4)}")


PATIENTS: Rows = [("p1", "female", "1950-06-01"), ("p2", "male", "1930-01-01"), ("p3", "female", None)]
ADMISSIONS: Rows = [
    ("a1", "p1", "2020-05-31", "Hill"),
    ("a2", "p1", "2020-06-01", "Hill"),
    ("a3", "p2", "2024-02-01", "Lake"),
    ("a4", "p3", "2024-02-01", "Lake"),
]
CONDITIONS: Rows = [("a1", "p1", "asthma"), ("a1", "p1", "gout"), ("a3", "p2", "gout"), ("a9", "p9", "gout")]
PRESCRIPTIONS: Rows = [("a2", "p1", "aspirin"), ("a2", "p1", "aspirin"), ("a4", "p3", "codeine")]
SET = [
    (Kind.PATIENTS, PATIENTS),
    (Kind.ADMISSIONS, ADMISSIONS),
    (Kind.CONDITIONS, CONDITIONS),
    (Kind.PRESCRIPTIONS, PRESCRIPTIONS),
]


def without_keys(content: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Admission keys hold the source, so two sources' are compared without them."""
    return {
        table: sorted(
            ({name: value for name, value in row.items() if name != "admission_key"} for row in rows), key=str
        )
        for table, rows in content.items()
    }


@pytest.mark.parametrize("is_split", [False, True], ids=["whole files", "files in two pieces"])
def test_files_of_a_set_in_any_order_make_the_same_lake(set_lake: Lake, is_split: bool) -> None:
    """Each kind once at each place, before and after each other one; also when pieces of files mix."""
    whole = Desk(set_lake, f"whole-{is_split}")
    whole.deliver(*SET)
    expected = without_keys(whole.content())
    assert [row["age_years"] for row in expected["admissions"]].count(None) == 1
    pieces = [(kind, rows[part::2]) for part in (0, 1) for kind, rows in SET] if is_split else SET
    orders = [pieces, pieces[::-1], [*pieces[1::2], *pieces[::2]], [*pieces[2:], *pieces[:2]]]
    for number, order in enumerate(orders[1:2] if is_split else orders):
        desk = Desk(set_lake, f"order-{is_split}-{number}")
        for piece in order:
            desk.deliver(piece)
        assert without_keys(desk.content()) == expected, [kind for kind, _ in order]


def test_the_set_is_what_the_files_say(desk: Desk) -> None:
    counts = desk.deliver(*SET)
    assert (counts.created, counts.updated, counts.deleted, counts.unchanged, counts.waiting) == (4, 0, 0, 0, 1)
    assert counts.changed_tables == ("admissions", "conditions", "patients", "prescriptions")
    assert (desk.counts.duplicates_exact, desk.counts.duplicates_conflicting) == (1, 0)
    # 69 on the day before the birthday, 70 on the day; 94 is pooled; without a date of birth there is no age.
    assert desk.column("admissions", "age_years") == [69, 70, 90, None]
    assert desk.column("patients", "birth_year") == [1950, None, None]
    assert desk.column("conditions", "condition") == ["asthma", "gout", "gout"]
    assert desk.column("conditions", "code") == ["ASTHMA", "GOUT", "GOUT"]
    assert desk.column("prescriptions", "medication") == ["aspirin", "codeine"]
    assert desk.column("waiting", "description") == ["gout"]
    orphans = "SELECT count(*) AS n FROM clinical.conditions c ANTI JOIN clinical.admissions a USING (admission_key)"
    assert desk.lake.query(orphans) == [{"n": 0}]
    again = desk.deliver(*SET)
    assert (again.created, again.updated, again.deleted, again.unchanged) == (0, 0, 0, 4)
    assert (again.changed_tables, again.waiting) == ((), 0)


def test_a_waiting_condition_is_placed_once_by_the_delivery_that_brings_its_admission(desk: Desk) -> None:
    first = desk.deliver((Kind.CONDITIONS, CONDITIONS))
    assert (first.created, first.waiting, first.changed_tables) == (4, 4, ())
    assert desk.column("conditions", "condition") == []
    brought = desk.deliver((Kind.ADMISSIONS, ADMISSIONS))
    assert brought.changed_tables == ("admissions", "conditions")
    assert desk.column("conditions", "delivery_id") == [f"{desk.source}-2"] * 3
    assert desk.column("waiting", "description") == ["gout"]
    again = desk.deliver((Kind.CONDITIONS, CONDITIONS))
    assert (again.created, again.unchanged, again.waiting, again.changed_tables) == (0, 4, 0, ())
    assert len(desk.column("conditions", "condition")) == 3


def test_an_admission_given_to_another_patient_takes_its_conditions_along(desk: Desk) -> None:
    desk.deliver(*SET)
    moved = desk.deliver((Kind.ADMISSIONS, [("a1", "p3", "2020-05-31", "Hill")]))
    assert (moved.updated, moved.changed_tables) == (1, ("admissions", "conditions"))
    keys = "SELECT count(*) AS n FROM clinical.conditions JOIN clinical.admissions USING (source, admission_key) "
    differing = f"{keys} WHERE conditions.patient_key <> admissions.patient_key AND source = ?"
    assert desk.lake.query(differing, [desk.source]) == [{"n": 0}]


def test_a_snapshot_of_one_kind_deletes_rows_of_that_kind_only(desk: Desk) -> None:
    desk.deliver(*SET)
    fewer = desk.deliver((Kind.CONDITIONS, CONDITIONS[:2]), mode=DeliveryMode.SNAPSHOT)
    assert (fewer.created, fewer.deleted, fewer.unchanged) == (0, 2, 2)
    assert fewer.changed_tables == ("conditions",)
    assert desk.column("conditions", "condition") == ["asthma", "gout"]
    assert desk.column("waiting", "description") == []
    assert len(desk.column("admissions", "site")) == 4
    none_of = desk.deliver((Kind.PATIENTS, PATIENTS[:1]), mode=DeliveryMode.SNAPSHOT)
    assert (none_of.deleted, none_of.unchanged) == (2, 1)
    assert len(desk.column("admissions", "site")) == 4
    # Conditions of an absent admission came in another file: they wait until the admission is back.
    desk.deliver((Kind.ADMISSIONS, ADMISSIONS[1:]), mode=DeliveryMode.SNAPSHOT)
    assert (desk.column("conditions", "condition"), desk.column("waiting", "description")) == ([], ["asthma", "gout"])
    desk.deliver((Kind.ADMISSIONS, ADMISSIONS))
    assert (desk.column("conditions", "condition"), desk.column("waiting", "description")) == (["asthma", "gout"], [])


def test_a_delete_marker_deletes_its_record(desk: Desk) -> None:
    desk.deliver(*SET)
    deleted = desk.deliver(
        (Kind.ADMISSIONS, [("a3", "p2", None, None, "yes"), ("a8", "p2", None, None, "yes")]),
        (Kind.CONDITIONS, [("a1", "p1", "gout", "yes"), ("a9", "p9", "gout", "yes")]),
    )
    assert (deleted.created, deleted.updated, deleted.deleted) == (0, 0, 1)
    assert len(desk.column("admissions", "site")) == 3
    assert (desk.column("conditions", "condition"), desk.column("waiting", "description")) == (["asthma"], [])
    gone = desk.deliver((Kind.PATIENTS, [("p1", None, None, "yes")]))
    assert (gone.deleted, gone.changed_tables) == (1, ("patients",))


def test_append_only_adds(desk: Desk) -> None:
    desk.deliver(*SET)
    before = desk.content()
    changed = [("a1", "p2", "2021-01-01", "Mill"), ("a2", "p1", None, None, "yes"), ("a5", "p1", "2025-01-01", "Hill")]
    added = desk.deliver((Kind.ADMISSIONS, changed), mode=DeliveryMode.APPEND)
    assert (added.created, added.updated, added.deleted, added.unchanged) == (1, 0, 0, 2)
    after = desk.content()
    assert [row for row in after["admissions"] if row in before["admissions"]] == before["admissions"]
    assert len(after["admissions"]) == 5


def test_what_a_feed_leaves_out_stays(desk: Desk) -> None:
    desk.deliver((Kind.ADMISSIONS, ADMISSIONS))
    desk.lake.connection()
    with desk.lake.transaction("by hand") as transaction:
        transaction.execute("UPDATE lake.clinical.admissions SET insurer = 'Aetna' WHERE source = ?", [desk.source])
    desk.deliver((Kind.ADMISSIONS, [(*ADMISSIONS[0][:3], "Mill")]))
    assert desk.column("admissions", "insurer") == ["Aetna"] * 4
    assert desk.column("admissions", "site") == ["Hill", "Lake", "Lake", "Mill"]


def test_a_corrected_date_of_birth_corrects_ages_and_is_nowhere_but_beside_the_key(desk: Desk) -> None:
    desk.deliver(*SET)
    corrected = desk.deliver((Kind.PATIENTS, [("p1", "female", "1951-06-01")]))
    assert (corrected.updated, corrected.changed_tables) == (1, ("admissions", "patients"))
    assert desk.column("admissions", "age_years") == [68, 69, 90, None]
    store = births.store(desk.lake.settings, desk.source)
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.parent.stat().st_mode) == 0o700
    assert store.parent.parent == desk.lake.settings.keys
    for table in Kind:
        for row in desk.lake.query(f"FROM clinical.{table} WHERE source = ?", [desk.source]):
            assert "1951-06-01" not in str([*map(str, row.values())])
    described = desk.lake.query("SELECT column_name FROM information_schema.columns WHERE column_name LIKE '%birth%'")
    assert {row["column_name"] for row in described} == {"birth_year"}


def test_rows_that_lack_a_key_or_a_value_they_need_are_quarantined(desk: Desk) -> None:
    desk.deliver(
        (Kind.ADMISSIONS, [*ADMISSIONS, (None, "p1", "2020-01-01"), ("a6", None, "2020-01-01"), ("a7", "p1", None)]),
        (Kind.CONDITIONS, [*CONDITIONS, (None, "p1", "gout"), ("a1", "p1", None)]),
    )
    assert (desk.counts.quarantined, desk.counts.faults) == (5, {"MISSING_VALUE": 5})
    assert len(desk.column("admissions", "site")) == 4


def test_a_practitioner_and_a_patient_are_the_same_in_every_source(set_lake: Lake) -> None:
    first, second = (Desk(set_lake, f"shared-{number}") for number in (1, 2))
    for desk in (first, second):
        desk.deliver((Kind.ADMISSIONS, ADMISSIONS))
    assert first.column("admissions", "patient_key") == second.column("admissions", "patient_key")
    assert not set(first.column("admissions", "admission_key")) & set(second.column("admissions", "admission_key"))


def test_values_out_of_a_column_s_range_are_quarantined(set_lake: Lake) -> None:
    """The net below the layouts' own checks."""
    feed = feed_of(Kind.ADMISSIONS)
    feed = replace(feed, values={Kind.ADMISSIONS: {"admitted_at": "v_at", "age_years": "try_cast(site AS DOUBLE)"}})
    cursor = staging.open_desk(set_lake)
    cursor.execute(
        "CREATE TEMP TABLE text_admissions AS SELECT i AS row_number, i::UBIGINT AS row_hash, 'a' || i AS admission, "
        "'p' AS patient, '2020-01-01' AS admitted, CASE i WHEN 2 THEN '1e9' ELSE '40' END AS site, "
        "NULL::VARCHAR AS gone FROM range(1, 4) numbers(i)"
    )
    counts = staging.check(cursor, (feed,), NOW, source="s", key=KEY)
    assert (counts.quarantined, counts.faults) == (1, {"BAD_NUMBER": 1})
    assert cursor.execute("SELECT part, row_number FROM faults").fetchall() == [("admissions.csv", 2)]
    cursor.close()


class TestHistory:
    """Deliveries on the days after NOW: each is known from its own day."""

    @staticmethod
    def on(day: int) -> dt.datetime:
        return NOW + dt.timedelta(days=day, hours=1)

    def test_every_earlier_state_can_be_asked_for_after_its_snapshot_has_expired(
        self, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("history")
        settings = Settings(data=folder / "data", reports=folder / "reports")
        lake = Lake(settings)
        desk = Desk(lake, "ward")
        states = []
        for part, mode in (
            (SET, DeliveryMode.UPSERT),
            (
                [(Kind.ADMISSIONS, [("a1", "p1", "2020-05-30", "Mill"), ("a6", "p2", "2026-02-01")])],
                DeliveryMode.UPSERT,
            ),
            ([(Kind.CONDITIONS, CONDITIONS[:1])], DeliveryMode.SNAPSHOT),
            ([(Kind.PATIENTS, [("p1", "other", "1952-06-01")])], DeliveryMode.UPSERT),
            ([(Kind.ADMISSIONS, ADMISSIONS[1:])], DeliveryMode.SNAPSHOT),
        ):
            desk.deliver(*part, mode=mode)
            states.append({kind: desk.content()[kind] for kind in Kind})
        cursor = lake.cursor()
        cursor.execute("CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 DAY)")
        cursor.close()
        assert len({str(state) for state in states}) == len(states)
        for day, state in enumerate(states, start=1):
            with Snapshot(settings, as_known_on=self.on(day)) as snapshot:
                for kind in Kind:
                    assert len(snapshot.query(f"FROM clinical.{kind}")) == len(state[kind]), (day, kind)
            for kind in Kind:
                rows = lake.query(
                    f"SELECT * EXCLUDE (source, delivery_id) FROM {history.as_known_on(kind.value, self.on(day))}"
                )
                assert sorted(rows, key=str) == state[kind], (day, kind)
        with Snapshot(settings, as_known_on=self.on(0)) as snapshot:
            assert [len(snapshot.query(f"FROM clinical.{kind}")) for kind in Kind] == [0, 0, 0, 0]
            assert len(snapshot.query("FROM clinical.deliveries")) == 0
        with Snapshot(settings, as_known_on=self.on(len(states))) as snapshot:
            assert len(snapshot.query("FROM clinical.deliveries")) == len(states)
        delays = lake.query(f"FROM {history.reporting_delay('year')}")
        # Known on 2 and 3 March 2026; a1 counts with what was first said of it.
        assert [(row["period"].year, row["delay_days"], row["admissions"]) for row in delays] == [
            (2020, (dt.date(2026, 3, 2) - dt.date(2020, 6, 1)).days, 1),
            (2020, (dt.date(2026, 3, 2) - dt.date(2020, 5, 31)).days, 1),
            (2024, (dt.date(2026, 3, 2) - dt.date(2024, 2, 1)).days, 2),
            (2026, 30, 1),
        ]
        lake.close()
