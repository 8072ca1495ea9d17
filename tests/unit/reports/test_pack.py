"""The pack: what is published, in one page and one PDF, nothing from outside taken for markup."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import io
import json
import re
from dataclasses import replace

import pytest

from medisync import intake
from medisync.analyses.contract import Figure, Finding, Result, Table
from medisync.lake import Lake
from medisync.reports import bulletins, pack
from medisync.reports.pack import Pack, Section, printable
from medisync.reports.page import as_shown, fragment
from medisync.runs import planning
from medisync.runs.published import DataState, Freshness, Published
from medisync.runs.record import Outcome, RunRecord, RunStatus
from medisync.settings import Settings, project_root
from tests.support.admissions_csv import admissions, write_csv
from tests.support.put_on_record import put_on_record
from tests.support.small_notebooks import write_notebook

NOW = dt.datetime(2024, 5, 7, 8, 15)  # noqa: DTZ001 - UTC, as everywhere
HOSTILE = '#eval("1") *bold* $x^2$ <b>& "quoted" \\ _a_ @ref `code` // שלום [x]'
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect width="9" height="9" fill="currentColor"/></svg>'
)


def record() -> RunRecord:
    return RunRecord(
        run_id="r20240507T081500-1f3a9c",
        analysis="ages",
        title="Ages",
        status=RunStatus.COMPLETED,
        parameters={"horizon": 4},
        parameters_hash="p",
        snapshot_id=7,
        inputs={"admissions": 1},
        run_key="k",
        notebook="ages.ipynb",
        notebook_hash="n" * 64,
        code_hash="c" * 64,
        environment={"medisync": "0.1.0", "python": "3.11", "packages": {"numpy": "2.4"}, "commit": "a" * 40},
        fixed_environment={},
        trigger="test",
        requested_by="local",
        started_at=NOW,
        finished_at=NOW,
    )


def result(text: str, rows: int = 3) -> Result:
    table = Table(title=text, columns=(text, "patients"), rows=tuple((text, number) for number in range(rows)))
    return Result(
        analysis="ages",
        title=text,
        headline=text,
        finding=Finding.SIGNAL,
        data_from=dt.date(2024, 1, 1),
        data_until=dt.date(2024, 5, 1),
        metrics={"patients": 1234, text: text},
        tables={"ages": table},
        figures=(Figure(name="bars", title=text, alt=text, svg=SVG, table="ages"),),
        warnings=(text,),
    )


def one_pack(text: str = "Half are above 52.") -> Pack:
    data = DataState(12, NOW, 50_000, dt.date(2019, 5, 8), dt.date(2024, 5, 7), 1)
    shown = Published("ages", text, Freshness.STALE, text, record(), result(text))
    nothing = Published("beds", "Beds", Freshness.NEVER)
    return Pack(NOW, data, (Section(shown, (text,)), Section(nothing)))


def test_both_are_written_and_listed_newest_first(workspace: Settings) -> None:
    first = pack.write_pack(workspace, one_pack())
    second = pack.write_pack(workspace, replace(one_pack(), made_at=NOW + dt.timedelta(days=1)))
    assert pack.kept_packs(workspace) == [second, first]
    assert first.pdf.read_bytes().startswith(b"%PDF-")
    page = first.html.read_text(encoding="utf-8")
    for words in ("50,000 admissions", "8 May 2019", "Out of date", "Half are above 52.", "horizon = 4", "numpy 2.4"):
        assert words in page
    assert not list(first.html.parent.glob(".*"))


def test_the_page_asks_no_other_machine_for_anything() -> None:
    page = pack.html(one_pack())
    assert not re.findall(r"(?:src|href)=\"(?!#|data:text/csv;base64,)[^\"]*\"", page)
    assert "url(" not in page
    assert "<script" not in page


def test_text_from_outside_is_text_in_both(workspace: Settings) -> None:
    """Markup of either language in a name neither fails nor is obeyed."""
    hostile = one_pack(HOSTILE)
    page = pack.html(hostile)
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page
    assert pack.write_pack(workspace, hostile).pdf.stat().st_size > 10_000


def test_a_pdf_that_cannot_be_typeset_leaves_nothing_behind(
    workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = workspace.data / "broken.typ"
    broken.write_text("#panic()", encoding="utf-8")
    monkeypatch.setattr(pack, "PDF_TEMPLATE", broken)
    with pytest.raises(RuntimeError):
        pack.write_pack(workspace, one_pack())
    assert pack.kept_packs(workspace) == []
    assert [one for one in (workspace.reports / "packs").rglob("*") if one.is_file()] == []


@pytest.mark.parametrize(
    ("rows", "columns", "shape"),
    [(0, 3, None), (20, 3, (3, 20)), (21, 3, None), (5, 18, (6, 17)), (9, 18, None), (20, 9, (9, 20))],
)
def test_tables_that_fit_are_printed_and_wide_short_ones_turned(
    rows: int, columns: int, shape: tuple[int, int] | None
) -> None:
    table = Table(
        title="t",
        columns=tuple(f"c{number}" for number in range(columns)),
        rows=tuple(tuple(range(columns)) for _ in range(rows)),
    )
    made = printable(table)
    assert (None if made is None else (len(made["head"]), len(made["rows"]))) == shape  # type: ignore[arg-type]
    assert made is None or len(made["is_left"]) == len(made["head"])  # type: ignore[arg-type]


def test_the_notebooks_introduction_is_the_method() -> None:
    paragraphs = pack.introduction(project_root() / "notebooks" / "analyses" / "patient_volume_prediction.ipynb")
    assert len(paragraphs) >= 2
    assert not any(paragraph.startswith("#") for paragraph in paragraphs)


class TestBulletins:
    def test_the_daily_report_says_every_headline_and_state(self, workspace: Settings) -> None:
        kept = pack.write_pack(workspace, one_pack())
        message = bulletins.report_message(one_pack(), kept)
        assert "Half are above 52." in message.text
        assert "out of date" in message.text
        assert message.attachments == (kept.pdf,)
        assert [one["run_id"] for one in message.details["analyses"]] == [record().run_id, None]

    def test_whole_results_go_only_to_those_named_for_them(self, workspace: Settings, lake: Lake) -> None:
        """The outbox, after a real publication with disclosure control: who gets which numbers, which PDF."""
        named = {"mail_to": "all@ward.example,head@ward.example", "mail_to_full": "head@ward.example"}
        places = {"notebooks": workspace.data / "notebooks", "smtp_host": "127.0.0.1"}
        lake.settings = workspace.model_copy(update={**named, **places})
        write_notebook(lake.settings.analyses, "ages")
        intake.ingest(lake, write_csv(workspace.data / "few.csv", admissions(30)))
        [chosen] = planning.plan(lake, ["ages"])
        put_on_record(lake, chosen, result("Half are above 52."))
        made = bulletins.daily_report(lake, NOW)
        assert {who: one.audience for who, one in made.items()} == {"full": "full", "released": "released"}
        assert pack.kept_packs(workspace, "released") == [made["released"]]
        assert pack.kept_packs(workspace, "full") == [made["full"]]
        letters = {
            letter["address"]: letter
            for letter in (json.loads(path.read_text()) for path in (workspace.data / "outbox" / "waiting").glob("*"))
        }
        assert {address: letter["attachments"] for address, letter in letters.items()} == {
            "mailto:head@ward.example": [str(made["full"].pdf)],
            "mailto:all@ward.example": [str(made["released"].pdf)],
        }
        page = made["released"].html.read_text(encoding="utf-8")
        assert "Released results" in page
        assert "Whole results" in made["full"].html.read_text(encoding="utf-8")
        assert "1,234" in made["full"].html.read_text(encoding="utf-8")
        assert "1,234" not in page, "a number nobody declared is not released"
        assert "1,234" not in json.dumps(letters["mailto:all@ward.example"])
        again = bulletins.daily_report(lake, NOW + dt.timedelta(hours=1))
        assert again == made, "the same of one day is made once"

    def test_only_a_confirmed_surge_is_told_and_the_same_one_is_the_same_message(self) -> None:
        alerts = Table(
            title="a", columns=("condition", "site", "state", "says"), rows=(("Flu", "A", "confirmed", "Up."),)
        )
        surge = result("A surge.").model_copy(update={"tables": {"alerts": alerts}, "metrics": {"week": "2024-W18"}})
        mine = record().model_copy(update={"analysis": bulletins.SURGES})

        def told(found: Result, run: RunRecord = mine) -> bulletins.Message | None:
            return bulletins.surge_message(run, found, None, "full")

        message = told(surge)
        assert message is not None
        assert "Up." in message.text
        again = told(surge, mine.model_copy(update={"run_id": "r2"}))
        assert again is not None
        assert again.key == message.key
        other = told(surge.model_copy(update={"metrics": {"week": "2024-W19"}}))
        assert other is not None
        assert other.key != message.key
        assert told(surge.model_copy(update={"finding": Finding.NOTHING})) is None
        assert told(surge, record()) is None

    def test_a_surge_is_posted_once_to_each_audience_as_it_may_see_it(self, workspace: Settings, lake: Lake) -> None:
        named = {"mail_to": "all@ward.example", "webhooks_full": "http://127.0.0.1:9/full", "smtp_host": "127.0.0.1"}
        lake.settings = workspace.model_copy(update={**named, "notebooks": workspace.data / "notebooks"})
        write_notebook(lake.settings.analyses, bulletins.SURGES)
        intake.ingest(lake, write_csv(workspace.data / "few.csv", admissions(30)))
        [chosen] = planning.plan(lake, [bulletins.SURGES])
        alerts = Table(
            title="a", columns=("condition", "site", "state", "says"), rows=(("Flu", "A", "confirmed", "Flu is up."),)
        )
        surge = result("One surge.").model_copy(
            update={"analysis": bulletins.SURGES, "tables": {"alerts": alerts}, "warnings": (), "metrics": {}}
        )

        def posted(**changes: object) -> int:
            again = surge.model_copy(update=changes)
            outcome = Outcome(record=put_on_record(lake, chosen, again), skipped=False, result=again)
            return bulletins.post_surges(lake, [outcome], NOW)

        assert posted() == 2
        letters = {
            letter["details"]["audience"]: letter
            for letter in (json.loads(path.read_text()) for path in (workspace.data / "outbox" / "waiting").glob("*"))
        }
        assert letters["full"]["address"] == "http://127.0.0.1:9/full"
        assert "Flu is up." in letters["full"]["text"]
        assert letters["released"]["address"] == "mailto:all@ward.example"
        assert "Flu" not in json.dumps(letters["released"])
        assert letters["released"]["key"] != letters["full"]["key"]
        assert posted(headline="One surge still.") == 0, "the same surge is told once"
        more = alerts.model_copy(update={"rows": (*alerts.rows, ("Cholera", "A", "confirmed", "Cholera is up."))})
        assert posted(tables={"alerts": more}) == 2


def test_every_table_and_the_numbers_of_every_picture_are_in_the_page_as_csv() -> None:
    more = Table(title="=cmd", columns=("=name", "patients"), rows=(("+49", 1), ("plain", 2)))
    shown = result("Words.").model_copy(update={"tables": {"ages": result("Words.").tables["ages"], "more": more}})
    for page in (fragment(shown), pack.html(one_pack())):
        figure = re.search(r"<figure>.*?</figure>", page, re.DOTALL)
        assert figure is not None
        assert "The numbers behind this picture" in figure.group()
        assert "data:text/csv;base64," in figure.group()
    files = [
        list(csv.reader(io.StringIO(base64.b64decode(data).decode("utf-8-sig"))))
        for data in re.findall(r'href="data:text/csv;base64,([^"]*)"', fragment(shown))
    ]
    assert files[0] == [["Words.", "patients"], ["Words.", "0"], ["Words.", "1"], ["Words.", "2"]]
    assert files[1] == [["'=name", "patients"], ["'+49", "1"], ["plain", "2"]]


def test_the_numbers_of_a_column_have_equally_many_decimals() -> None:
    columns = ("name", "expected", "p", "whole", "share")
    rows = (("a", 12.14, 0.5, 3.0, 0.0001), ("b", 3.0, 0.0004, 1000.0, -1.5), ("c", None, 1.0, 2, float("nan")))
    shown = as_shown(Table(title="t", columns=columns, rows=rows))
    assert [row[1] for row in shown] == ["12.1", "3.0", "–"]
    assert [row[2] for row in shown] == ["0.500", "< 0.001", "1.000"]
    assert [row[3] for row in shown] == ["3", "1,000", "2"]
    assert [row[4] for row in shown][:2] == ["< 0.01", "-1.50"]
    assert as_shown(Table(title="t", columns=columns, rows=())) == []
    mixed = Table(title="t", columns=("number", "before"), rows=(("beds", 201.5), ("p", 0.123)))
    assert [row[1] for row in as_shown(mixed, is_mixed=True)] == ["201.5", "0.123"]
