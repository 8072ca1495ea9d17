"""Every completed run has a released document beside the full one, made in the same transaction."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from medisync.disclosure.document import ReleasedDocument
from medisync.errors import LakeBusyError
from medisync.lake import Lake
from medisync.ledger import open_ledger
from medisync.ledger.released import released_before
from medisync.runs import releasing
from medisync.runs.publishing import publish
from medisync.runs.record import RunRecord, RunStatus
from medisync.runs.releasing import release_missing, released_document
from tests.unit.disclosure.test_release import grid, people

NOW = dt.datetime(2024, 5, 7, tzinfo=dt.UTC)


def record(lake: Lake, run_id: str, *, parameters_hash: str = "p") -> RunRecord:
    return RunRecord(
        run_id=run_id,
        analysis="a",
        title="A",
        status=RunStatus.COMPLETED,
        parameters={},
        parameters_hash=parameters_hash,
        snapshot_id=lake.last_snapshot_id() or 0,
        inputs={},
        run_key=run_id,
        notebook="a.ipynb",
        notebook_hash="n",
        code_hash="c",
        environment={},
        fixed_environment={},
        trigger="test",
        requested_by="test",
        started_at=NOW,
        finished_at=NOW,
    )


def audiences(lake: Lake, run_id: str) -> list[str]:
    rows = lake.query("SELECT audience FROM analytics.results WHERE run_id = ? ORDER BY audience", [run_id])
    return [row["audience"] for row in rows]


def test_both_documents_come_with_one_snapshot_and_differencing_knows_the_one_before(lake: Lake) -> None:
    lake.connection()
    before = lake.last_snapshot_id() or 0
    publish(lake, record(lake, "r1"), grid([[40, 3]], margins=False))
    assert lake.last_snapshot_id() == before + 1
    assert audiences(lake, "r1") == ["full", "released"]
    first = released_document(lake, "r1")
    assert first is not None
    assert people(first) == [40, "fewer than 10"]
    publish(lake, record(lake, "r2"), grid([[44, 60]], margins=False))
    second = released_document(lake, "r2")
    assert second is not None
    assert people(second) == ["withheld", 60]  # four more than were shown
    remembered = released_before(open_ledger(lake.settings), ["people"])
    assert {(cell.value, cell.is_shown) for cell in remembered} == {(40, True), (3, False), (44, False), (60, True)}
    publish(lake, record(lake, "r2"), grid([[1, 1]], margins=False))  # again: nothing changes
    assert len(released_before(open_ledger(lake.settings), ["people"])) == 4


def test_what_may_be_shown_is_worked_out_before_the_lake_is_locked(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a neighbour that releases in between: then it is worked out once more, with the lake locked."""
    lake.connection()
    free: list[bool] = []
    real = releasing.release

    def watched(*arguments: Any) -> ReleasedDocument:
        try:
            with lake.lock(seconds=0):
                free.append(True)
        except LakeBusyError:
            free.append(False)
        return real(*arguments)

    monkeypatch.setattr(releasing, "release", watched)
    publish(lake, record(lake, "r1"), grid([[40, 3]], margins=False))
    assert free == [True]
    prepared = releasing.prepare(lake.settings, "r2", grid([[44, 60]], margins=False))
    assert prepared is not None
    assert people(prepared.document) == ["withheld", 60]
    publish(lake, record(lake, "r3"), grid([[80, 62]], margins=False))
    with lake.transaction("r2"):
        document = releasing.settle(lake.settings, prepared)
    assert free == [True, True, True, False]
    assert people(ReleasedDocument.model_validate_json(document or "")) == ["withheld", "withheld"]  # 60 beside 62


def test_a_run_is_published_also_when_its_release_fails_and_made_up_for(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no release")

    with monkeypatch.context() as patch:
        patch.setattr(releasing, "release", broken)
        publish(lake, record(lake, "r1"), grid([[40, 3]], margins=False))
        publish(lake, record(lake, "r2", parameters_hash="q"), grid([[50, 60]], margins=False))
    assert audiences(lake, "r1") == ["full"]
    assert release_missing(lake) == ["r1", "r2"]
    assert audiences(lake, "r1") == ["full", "released"]
    assert release_missing(lake) == []
