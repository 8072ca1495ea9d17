"""The overview's faces: each state in words, everything from outside escaped."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from medisync.analyses.contract import Figure, Finding, Result, Table
from medisync.dashboards.overview import Overview, parts
from medisync.dashboards.reading import RETRY_SECONDS, View
from medisync.errors import LakeVersionError
from medisync.lake import Lake
from medisync.reports.phrases import day, tied, when
from medisync.runs.published import DataState, DeliveryLine, Freshness, Published
from medisync.runs.record import RunRecord, RunStatus
from medisync.settings import Settings

NOW = dt.datetime(2024, 5, 7, 8, 15, tzinfo=dt.UTC)
RUN = "r20240507T081500-1f3a9c"
DATA = DataState(12, NOW.replace(tzinfo=None), 50_000, dt.date(2019, 5, 8), dt.date(2024, 5, 7), 1)


def record(run_id: str = RUN) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        analysis="ages",
        title="Ages",
        status=RunStatus.COMPLETED,
        parameters={},
        parameters_hash="p",
        snapshot_id=7,
        inputs={"admissions": 1},
        run_key="k",
        notebook="ages.ipynb",
        notebook_hash="n",
        code_hash="c",
        environment={},
        fixed_environment={},
        trigger="test",
        requested_by="local",
        started_at=NOW,
        finished_at=NOW,
    )


def result(headline: str = "Half are above 52.", rows: int = 3) -> Result:
    table = Table(title="Ages", columns=("age", "patients"), rows=tuple((age, 1234) for age in range(rows)))
    svg = '<svg role="img" aria-label="Bars of patients by age"><g/></svg>'
    figure = Figure(name="bars", title="Patients by age", alt="Bars of patients by age", svg=svg, table="ages")
    return Result(
        analysis="ages",
        title="Ages",
        headline=headline,
        finding=Finding.NOTHING,
        tables={"ages": table},
        figures=(figure,),
        warnings=("The last week is incomplete.",),
    )


def view(**one: object) -> View:
    published = Published(**{"analysis": "ages", "title": "Ages", "freshness": Freshness.CURRENT, **one})  # type: ignore[arg-type]
    return View(shelf=(published,), data=DATA, reports=frozenset({RUN}))


def html(shown: View, name: str, folder: Path = Path("/srv/data")) -> str:
    """The part ``name`` of ``shown`` with blanks run together."""
    found = {part.name: part.html for part in parts(shown, Settings(data=folder))}
    return re.sub(r"\s+", " ", found[name])


def test_a_current_tile_has_headline_picture_numbers_and_origin() -> None:
    tile = html(view(record=record(), result=result()), "tile-ages")
    for text in ("Current", "Half are above 52.", 'aria-label="Bars of patients by age"', "1,234", "snapshot 7"):
        assert text in tile
    assert "Nothing beyond chance · 1 caution in the report" in tile
    assert f'href="/reports/{RUN}"' in tile


def test_a_long_table_stays_in_the_report() -> None:
    tile = html(view(record=record(), result=result(rows=61)), "tile-ages")
    assert "The 61 rows behind this picture are in the full report." in tile
    assert "<details" not in tile


def test_a_released_tile_says_what_is_withheld_and_leads_to_no_report() -> None:
    bare = result().model_copy(update={"figures": ()})
    shown = replace(view(record=record("r0"), result=bare), is_whole=False)
    tile = html(shown, "tile-ages")
    assert "The picture is withheld" in tile
    assert "<summary>1 caution</summary>" in tile
    assert "report" not in tile
    assert "withheld" not in html(view(record=record("r0"), result=bare), "tile-ages")


def test_a_report_that_was_cleaned_up_is_not_linked() -> None:
    assert "/reports/" not in html(view(record=record("r0"), result=result()), "tile-ages")


@pytest.mark.parametrize(
    ("freshness", "reason", "words"),
    [
        (Freshness.UPDATING, "Newer data have arrived.", ["Updating", "Newer data have arrived.", "a new one follows"]),
        (Freshness.STALE, "The run failed: out of memory", ["Out of date", "last good result", "out of memory"]),
    ],
)
def test_an_older_result_says_so(freshness: Freshness, reason: str, words: list[str]) -> None:
    tile = html(view(freshness=freshness, reason=reason, record=record(), result=result()), "tile-ages")
    for text in (*words, "Half are above 52."):
        assert text in tile


def test_a_tile_without_result_says_why() -> None:
    failed = html(view(freshness=Freshness.FAILED, reason="Cell 3 failed", failed_run_id=RUN), "tile-ages")
    assert "No result yet." in failed
    assert "Cell 3 failed" in failed
    assert f'href="/reports/{RUN}"' in failed
    assert "Waiting for its first run." in html(view(freshness=Freshness.NEVER), "tile-ages")


def test_what_comes_from_outside_is_escaped() -> None:
    bad = "<script>alert(1)</script> שלום"
    shown = view(title=bad, record=record(), result=result(headline=bad))
    line = DeliveryLine("d1", bad, "refused", "NOT_UTF8", bad, 0, 0, 0, 0, 0, None)
    shown = View(shelf=shown.shelf, data=DATA, deliveries=(line,), trouble=bad)
    everything = "".join(part.html for part in parts(shown, Settings()))
    assert "<script>" not in everything
    assert "שלום" in everything


@pytest.mark.parametrize("data", [None, DataState(3, None, 0, None, None, 1)])
def test_without_admissions_the_first_step_is_explained(data: DataState | None) -> None:
    shown = View(shelf=(Published("ages", "Ages", Freshness.NEVER),), data=data)
    assert "Drop a file into <code>/srv/data/inbox/</code>" in html(shown, "notice")
    assert html(shown, "data") == ""
    assert "Waiting for the first data." in html(shown, "tile-ages")


def test_the_data_line_says_as_of_when() -> None:
    line = html(view(record=record(), result=result()), "data")
    for text in ("50,000", "8 May 2019", "7 May 2024", "snapshot 12", "1 of 1 current"):
        assert text in line
    assert 'datetime="2024-05-07T08:15:00+00:00"' in line


def test_deliveries_of_every_outcome() -> None:
    loaded = DeliveryLine("d1", "a.csv", "loaded", None, None, 1200, 3, 2, 1, 4, NOW)
    repeat = DeliveryLine("d2", "a.csv", "repeat", "d1", None, 0, 0, 0, 0, 0, NOW)
    refused = DeliveryLine("d3", None, "refused", "EMPTY_FILE", "The file is empty.", 0, 0, 0, 0, 0, NOW)
    shown = View(data=DATA, deliveries=(refused, repeat, loaded))
    assert "1,200 created, 3 updated, 2 deleted, 1 unchanged; 4 rows quarantined" in html(shown, "delivery-d1")
    assert "nothing to do" in html(shown, "delivery-d2")
    assert "The file is empty. <code>EMPTY_FILE</code>" in html(shown, "delivery-d3")
    assert "Latest delivery" in html(shown, "latest-delivery")
    says = {part.name: part.says for part in parts(shown, Settings())}
    assert says["latest-delivery"] == "Delivery d3: refused."


def test_moments_for_people() -> None:
    assert when(NOW, ZoneInfo("Europe/Berlin")) == "7 May 2024, 10:15 CEST"
    assert when(NOW.replace(tzinfo=None), dt.UTC) == "7 May 2024, 08:15 UTC"
    assert when(None) == "never"
    assert day(None) == "–"


def test_numbers_stay_with_what_belongs_to_them() -> None:
    space = "\N{NO-BREAK SPACE}"
    assert tied("20.0 % of 5 (p = 0.73)") == f"20.0{space}% of 5 (p{space}={space}0.73)"
    assert tied("no numbers = here") == "no numbers = here"


def test_an_empty_workspace_is_only_looked_at(workspace: Settings) -> None:
    overview = Overview(workspace)
    names = [part.name for part in overview.parts()]
    assert names[:2] == ["data", "notice"]
    assert "tile-patient_demographics" in names
    assert not Lake(workspace).exists


def test_the_signature_follows_commits_and_notebooks(lake: Lake, tmp_path: Path) -> None:
    settings = lake.settings.model_copy(update={"notebooks": tmp_path / "notebooks"})
    settings.analyses.mkdir(parents=True)
    overview = Overview(settings)
    seen = [overview.signature()]
    lake.connection()
    seen.append(overview.signature())
    with lake.transaction("a note") as cursor:
        cursor.execute("INSERT INTO lake.clinical.table_versions VALUES ('admissions', 1, 'd1', now()::TIMESTAMP)")
    seen.append(overview.signature())
    (settings.analyses / "own.ipynb").write_text("{}", encoding="utf-8")
    seen.append(overview.signature())
    assert len(set(seen)) == 4
    assert overview.signature() == seen[-1]


def test_a_lake_that_cannot_be_read_is_told_and_not_raised(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.connection()
    overview = Overview(lake.settings)

    def too_new() -> None:
        raise LakeVersionError("The lake is of version 9.", hint="Update MediSync.")

    monkeypatch.setattr(overview.reader.lake, "connection", too_new)
    notice = next(part for part in overview.parts() if part.name == "notice")
    assert "The lake is of version 9. Update MediSync." in notice.html

    def damaged() -> None:
        raise RuntimeError("a value nobody may see")

    monkeypatch.setattr(overview.reader.lake, "connection", damaged)
    notice = next(part for part in overview.parts() if part.name == "notice")
    assert "could not be read (RuntimeError)" in notice.html
    assert "a value" not in notice.html


def test_trouble_keeps_what_was_shown_and_is_looked_at_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.connection()
    overview = Overview(lake.settings)
    before = [part.name for part in overview.parts()]
    quiet = overview.signature()
    with monkeypatch.context() as broken:
        broken.setattr("medisync.dashboards.reading.data_state", lambda _: 1 / 0)
        assert [part.name for part in overview.parts()] == before
        broken.setattr("time.monotonic", lambda: 100.0)
        first = overview.signature()
        broken.setattr("time.monotonic", lambda: 100.0 + RETRY_SECONDS)
        assert overview.signature() != first != quiet
    overview.parts()
    assert overview.signature() == quiet
