"""Compare, lineage, why and notices over deliveries whose truth is known. Runs are put on record without a kernel."""

from __future__ import annotations

import datetime as dt
import json
import xml.etree.ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from medisync import intake
from medisync.analyses.contract import Finding, Result, Table
from medisync.errors import NoDataError, ParameterError
from medisync.intake.merging import DeliveryMode
from medisync.lake import Lake
from medisync.runs import backfill, lineage, notices, planning, records, versions
from medisync.runs.compare import compare
from medisync.runs.lineage_picture import picture
from medisync.runs.planning import SnapshotExpiredError
from medisync.runs.published import result_of
from medisync.runs.record import RunRecord, RunStatus
from medisync.runs.records import NoSuchRunError
from medisync.runs.why import why
from tests.conftest import make_workspace
from tests.support.admissions_csv import admission, write_csv
from tests.support.put_on_record import put_on_record
from tests.support.small_notebooks import write_notebook

LATE = 30


def weekly(lake: Lake, snapshot_id: int, **metrics: float) -> Result:
    """Admissions by ISO week, as they really are at a snapshot."""
    rows = lake.query(
        "SELECT strftime(admitted_at, '%G-W%V') AS week, count(*) AS n, max(admitted_at)::DATE AS last "
        f"FROM clinical.admissions AT (VERSION => {snapshot_id}) GROUP BY 1 ORDER BY 1"
    )
    table = Table(title="Weeks", columns=("week", "admissions"), rows=tuple((row["week"], row["n"]) for row in rows))
    return Result(
        analysis="count",
        title="Count",
        headline=f"{sum(row['n'] for row in rows)} admissions.",
        finding=Finding.DESCRIPTION,
        data_until=max(row["last"] for row in rows),
        metrics=metrics,
        tables={"weekly": table},
    )


@dataclass
class Story:
    """Two deliveries, a run after each, and a run of the second with another parameter."""

    lake: Lake
    first: RunRecord
    second: RunRecord
    longer: RunRecord
    deliveries: tuple[str, str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """60 admissions; then 30 late ones in a week that had 20, one deleted, two changed."""
    folder = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patched:
        lake = Lake(make_workspace(folder, patched, notebooks=folder / "notebooks"))
        write_notebook(lake.settings.analyses, "count", parameters="weeks = 4  # how many")
        days = {"Date_of_Admission": "2024-03-13", "Discharge_Date": "2024-03-20"}
        rows = [admission(number, **days) for number in range(20)]
        later = {"Date_of_Admission": "2024-04-10", "Discharge_Date": "2024-04-20"}
        rows += [admission(number, **later) for number in range(20, 60)]
        one = intake.ingest(lake, write_csv(folder / "march.csv", rows), mode=DeliveryMode.SNAPSHOT)
        [chosen] = planning.plan(lake)
        versions.keep(lake.settings, chosen.notebook, chosen.code)
        first = put_on_record(lake, chosen, weekly(lake, chosen.snapshot_id, rate=0.5), run_id="r1-a")
        changed = [{**row, "Test Results": "Abnormal", "Medication": "Colchicine"} for row in rows[20:22]]
        more = [*rows[:20], *changed, *rows[22:59], *(admission(number, **days) for number in range(100, 100 + LATE))]
        two = intake.ingest(lake, write_csv(folder / "late.csv", more), mode=DeliveryMode.SNAPSHOT)
        [chosen] = planning.plan(lake)
        second = put_on_record(lake, chosen, weekly(lake, chosen.snapshot_id, rate=0.75), run_id="r2-b")
        [chosen] = planning.plan(lake, ["count"], parameters={"weeks": 8})
        longer = put_on_record(lake, chosen, weekly(lake, chosen.snapshot_id, rate=0.75), run_id="r3-c")
        yield Story(lake, first, second, longer, (one.delivery_id, two.delivery_id))
        lake.close()


class TestCompare:
    def test_two_runs(self, story: Story) -> None:
        made = compare(story.lake, "r1-a", "r2-b")
        tables = {one.table: (one.created, one.updated, one.deleted) for one in made.tables}
        assert tables == {"admissions": (LATE, 2, 1)}
        [delivery] = made.deliveries
        assert delivery.delivery_id == story.deliveries[1]
        assert (delivery.created, delivery.updated, delivery.deleted) == (LATE, 2, 1)
        assert made.differences == ()
        relative = [one.relative for one in made.changes if one.relative is not None]
        assert relative == sorted(relative, reverse=True)
        top = made.changes[0]
        assert (top.place, top.row, top.column, top.before, top.after) == (
            "table weekly", "2024-W11", "admissions", 20, 50,
        )  # fmt: skip
        assert [one.column for one in made.changes if one.relative is None] == ["headline"]
        assert "33 input rows changed by 1 delivery" in made.sentence()
        assert json.loads(json.dumps(made.as_json(), default=str))["changes"][0]["after"] == 50
        assert any("2024-W11 · admissions: 20 -> 50 (60 %)" in line for line in made.lines())

    def test_two_snapshots(self, story: Story) -> None:
        made = compare(story.lake, str(story.first.snapshot_id), str(story.second.snapshot_id))
        tables = {one.table: (one.created, one.updated, one.deleted) for one in made.tables}
        assert tables["admissions"] == (LATE, 2, 1)
        assert tables["prescriptions"] == (LATE + 2, 0, 3)  # a new medication is a new row
        assert compare(story.lake, *[str(story.second.snapshot_id)] * 2).tables[0].created == 0

    def test_two_parameter_sets(self, story: Story) -> None:
        made = compare(story.lake, "default", "weeks=8", analysis="count")
        assert [(one.what, one.before, one.after) for one in made.differences] == [("parameter weeks", "4", "8")]
        assert "all" in made.sentence()
        assert "the inputs are the same" in made.sentence()
        with pytest.raises(NoSuchRunError, match="no completed run with these parameters"):
            compare(story.lake, "default", "weeks=9", analysis="count")

    def test_code_and_environment(self, story: Story) -> None:
        write_notebook(story.lake.settings.analyses, "other", "import tool\nx = tool.A", parameters="a = 1")
        tool = story.lake.settings.analyses / "tool.py"
        tool.write_text("A = 1\n")
        [chosen] = planning.plan(story.lake, ["other"])
        versions.keep(story.lake.settings, chosen.notebook, chosen.code)
        put_on_record(story.lake, chosen, run_id="r4-d")
        tool.write_text("A = 22\n")
        [chosen] = planning.plan(story.lake, ["other"])
        versions.keep(story.lake.settings, chosen.notebook, chosen.code)
        environment = {"python": "3.99", "packages": {}}
        put_on_record(story.lake, chosen, run_id="r5-e", environment=environment, packages={"numpy": "0.1"})
        made = compare(story.lake, "r4-d", "r5-e")
        assert [one.what for one in made.differences if one.kind == "code"] == ["beside/tool.py"]
        assert {"python", "numpy"} <= {one.what for one in made.differences if one.kind == "environment"}
        decision = why(story.lake, "other")
        assert not decision.would_run
        for path in (tool, story.lake.settings.analyses / "other.ipynb"):
            path.unlink()

    def test_what_cannot_be_compared_is_said(self, story: Story) -> None:
        with pytest.raises(NoSuchRunError):
            compare(story.lake, "r1-a", "nobody")
        with pytest.raises(SnapshotExpiredError):
            compare(story.lake, "1", "999999")
        [chosen] = planning.plan(story.lake, ["count"])
        long_ago = {
            "started_at": dt.datetime(2001, 1, 1, tzinfo=dt.UTC),
            "finished_at": dt.datetime(2001, 1, 2, tzinfo=dt.UTC),
        }
        gone = {"snapshot_id": 999_999, "inputs": {"admissions": 99}, "run_key": "x", **long_ago}
        put_on_record(story.lake, chosen, run_id="r0-gone", **gone)
        made = compare(story.lake, "r0-gone", "r2-b")
        assert "999999 is no longer kept" in str(made.note)


class TestNotices:
    def test_a_rewritten_week_is_flagged_with_its_cause(self, story: Story) -> None:
        result = weekly(story.lake, story.second.snapshot_id)
        told = notices.notices(
            story.lake, result, story.second.snapshot_id, story.first, result_of(story.lake, story.first.run_id)
        )
        [sentence] = told
        assert sentence == (
            "The admissions of week 2024-W11 rose by 150 % since the run before, from 20 to 50, because delivery "
            f"{story.deliveries[1]} (late.csv) added {LATE} late records."
        )

    def test_without_a_delivery_the_cause_is_elsewhere(self, story: Story) -> None:
        before = weekly(story.lake, story.second.snapshot_id)
        rows = tuple((week, n * 2) for week, n in before.tables["weekly"].rows)
        tables = {"weekly": Table(title="W", columns=("week", "admissions"), rows=rows)}
        told = notices.notices(
            story.lake,
            before.model_copy(update={"tables": tables}),
            story.second.snapshot_id,
            story.second,
            result_of(story.lake, story.second.run_id),
        )
        assert len(told) == 1  # the last week was not whole
        assert "although no delivery was loaded in between" in told[0]

    @pytest.mark.parametrize(
        ("before", "after", "flags"), [(9, 50, 0), (20, 24, 0), (20, 29, 0), (20, 30, 1), (40, 50, 1)]
    )
    def test_small_counts_and_small_moves_are_not(self, before: int, after: int, flags: int) -> None:
        def result(number: int) -> Result:
            return Result(
                analysis="a", title="t", headline="h", finding=Finding.NOTHING, metrics={"beds_count": number, "p": 0.1}
            )

        assert len(notices.flagged(result(before), result(after))) == flags

    @pytest.mark.parametrize(
        ("label", "name"),
        [("2024-W11", "week 2024-W11"), ("2024-03-11", "the week of 2024-03-11"), ("2024-02", "2024-02")],
    )
    def test_periods_are_recognised(self, label: str, name: str) -> None:
        def result(number: int) -> Result:
            table = Table(title="t", columns=("when", "n", "share"), rows=((label, number, number / 7),))
            until = dt.date(2024, 4, 1)
            return Result(
                analysis="a", title="t", headline="h", finding=Finding.NOTHING, tables={"t": table}, data_until=until
            )

        [flag] = notices.flagged(result(20), result(40))
        assert flag.what == f"n of {name}"


class TestLineage:
    def test_from_a_number_back_to_the_files(self, story: Story) -> None:
        found = lineage.of_result(story.lake, "r2-b/table weekly/2024-W11/admissions")
        by_kind = {kind: [one for one in found.nodes if one.kind == kind] for kind in lineage.KINDS}
        assert [(one.name, one.detail) for one in by_kind["result"]] == [("table weekly · 2024-W11 · admissions", "50")]
        assert "count.ipynb, cell 4" in [one.name for one in by_kind["notebook"]]
        assert {one.id for one in by_kind["delivery"]} == set(story.deliveries)
        assert sorted(one.name for one in by_kind["file"]) == ["late.csv", "march.csv"]
        assert all(len(one.detail) == len("SHA-256 ") + 64 for one in by_kind["file"])
        assert ("table admissions", "snapshot") in found.edges
        assert {(one, "table admissions") for one in story.deliveries} <= set(found.edges)
        assert json.dumps(found.as_json())

    def test_an_analysis_name_stands_for_its_run_that_is_served(self, story: Story) -> None:
        """That is the newest with default parameters, although a run with others is newer."""
        assert records.run_called(story.lake, "count") == "r2-b"
        assert records.run_called(story.lake, "r1-a") == "r1-a"
        assert lineage.of_run(story.lake, "count") == lineage.of_run(story.lake, "r2-b")
        value = "table weekly/2024-W11/admissions"
        assert lineage.of_result(story.lake, f"count/{value}") == lineage.of_result(story.lake, f"r2-b/{value}")
        with pytest.raises(NoSuchRunError, match="no analysis of this name has a completed run"):
            lineage.of_result(story.lake, "counted")

    def test_a_notebook_that_is_gone_still_names_its_newest_run(self, story: Story) -> None:
        notebook = write_notebook(story.lake.settings.analyses, "passing", parameters="a = 1")
        for run_id, parameters in (("p1-a", {}), ("p2-b", {"a": 2})):
            [chosen] = planning.plan(story.lake, ["passing"], parameters=parameters)
            put_on_record(story.lake, chosen, run_id=run_id)
        put_on_record(story.lake, chosen, run_id="p3-c", status=RunStatus.FAILED)
        assert records.run_called(story.lake, "passing") == "p1-a"
        notebook.unlink()
        assert records.run_called(story.lake, "passing") == "p2-b"

    def test_a_run_before_a_delivery_does_not_know_it(self, story: Story) -> None:
        found = lineage.of_run(story.lake, "r1-a")
        assert {one.id for one in found.nodes if one.kind == "delivery"} == {story.deliveries[0]}

    def test_from_a_delivery_on_to_the_runs(self, story: Story) -> None:
        runs = [
            {one.id for one in lineage.of_delivery(story.lake, delivery).nodes if one.kind == "run"}
            for delivery in story.deliveries
        ]
        assert {"r1-a", "r2-b", "r3-c"} <= runs[0]
        assert {"r2-b", "r3-c"} <= runs[1]
        assert "r1-a" not in runs[1]

    def test_the_picture_is_svg_that_names_all(self, story: Story) -> None:
        drawn = picture(lineage.of_result(story.lake, "r2-b/metrics"))
        root = xml.etree.ElementTree.fromstring(drawn)
        assert root.tag.endswith("svg")
        assert root.attrib["role"] == "img"
        for name in ("late.csv", "march.csv", "r2-b", "metrics · rate"):
            assert name in drawn
        assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")

    def test_what_there_is_not(self, story: Story) -> None:
        with pytest.raises(lineage.NoSuchDeliveryError):
            lineage.of_delivery(story.lake, "d0")
        with pytest.raises(NoSuchRunError):
            lineage.of_result(story.lake, "r2-b/table nothing")

    def test_no_key_and_no_name_is_in_it(self, story: Story) -> None:
        from medisync.runs import printed_keys

        texts = [picture(lineage.of_run(story.lake, "r2-b")), "\n".join(compare(story.lake, "r1-a", "r2-b").lines())]
        assert not printed_keys.found_in(story.lake, texts)
        assert not any("Brambleworth" in text for text in texts)


class TestWhy:
    def test_nothing_changed(self, story: Story) -> None:
        decision = why(story.lake, "count")
        assert not decision.would_run
        assert "would not run" in decision.sentence()
        assert "r2-b" in decision.sentence()

    def test_what_changed_is_named(self, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
        from medisync.runs import identity

        assert why(story.lake, "count", parameters={"weeks": 5}).reasons == ("parameter weeks: 8 -> 5 changed",)
        versions_now = identity.packages_of
        monkeypatch.setattr(identity, "packages_of", lambda code: {**versions_now(code), "numpy": "9.9"})
        decision = why(story.lake, "count")
        assert decision.would_run
        assert len(decision.reasons) == 1
        assert decision.reasons[0].startswith("numpy changed (")
        monkeypatch.undo()
        notebook = story.lake.settings.analyses / "count.ipynb"
        kept = notebook.read_text()
        write_notebook(story.lake.settings.analyses, "count", "x = 1", parameters="weeks = 4  # how many")
        assert "notebook count.ipynb changed" in why(story.lake, "count").reasons[0]
        notebook.write_text(kept)

    def test_a_setting_the_notebook_declares(self, story: Story) -> None:
        path = write_notebook(story.lake.settings.analyses, "set", parameters="a = 1")
        document = json.loads(path.read_text())
        document["metadata"]["medisync"]["settings"] = ["keep_runs_days"]
        path.write_text(json.dumps(document))
        [chosen] = planning.plan(story.lake, ["set"])
        put_on_record(story.lake, chosen, run_id="r6-f")
        assert not why(story.lake, "set").would_run
        before = story.lake.settings
        story.lake.settings = before.model_copy(update={"keep_runs_days": 91})
        assert why(story.lake, "set").reasons == ("setting keep_runs_days changed (90 -> 91)",)
        story.lake.settings = before
        path.unlink()

    def test_never_run(self, story: Story) -> None:
        path = write_notebook(story.lake.settings.analyses, "fresh")
        assert why(story.lake, "fresh").reasons == ("it has no completed run yet",)
        path.unlink()


class TestBackfill:
    def test_the_data_as_known_then(self, story: Story) -> None:
        times = story.lake.query("SELECT snapshot_id, snapshot_time FROM lake.snapshots() ORDER BY 1")
        then = next(row["snapshot_time"] for row in times if row["snapshot_id"] == story.first.snapshot_id)
        [chosen] = planning.plan(story.lake, ["count"], as_of=then)
        assert chosen.snapshot_id == story.first.snapshot_id
        assert chosen.inputs == story.first.inputs
        assert chosen.answered_by is not None
        assert chosen.answered_by.run_id == "r1-a"
        assert not chosen.is_default
        with pytest.raises(NoDataError, match="no data yet on 2001"):
            planning.plan(story.lake, ["count"], as_of=dt.datetime(2001, 1, 1))  # noqa: DTZ001 - UTC is meant

    def test_moments_and_grids(self) -> None:
        assert backfill.moment("2024-05-07").isoformat().startswith("2024-05-07T23:59:59.999999+00:00")
        assert backfill.moment("2024-05-07T12:30").isoformat() == "2024-05-07T12:30:00+00:00"
        assert backfill.combinations([]) == [{}]
        assert backfill.combinations(["horizon=4,8", "label=a,b"]) == [
            {"horizon": 4, "label": "a"}, {"horizon": 4, "label": "b"},
            {"horizon": 8, "label": "a"}, {"horizon": 8, "label": "b"},
        ]  # fmt: skip
        assert backfill.combinations(["starts=[0, 40],[0, 20, 60]"]) == [{"starts": [0, 40]}, {"starts": [0, 20, 60]}]
        for wrong in (["horizon"], ["horizon="], ["4=5"], ["a=1", "a=2"], [f"a={','.join(map(str, range(201)))}"]):
            with pytest.raises(ParameterError):
                backfill.combinations(wrong)
        with pytest.raises(ParameterError, match="is no day"):
            backfill.moment("yesterday")

    def test_schedules(self, story: Story) -> None:
        path = story.lake.settings.analyses / "count.ipynb"
        kept = path.read_text()
        for schedule, chosen in (("hourly", 1), ("daily", 0), ("weekly", 0), ("on request", 0)):
            document = json.loads(kept)
            document["metadata"]["medisync"]["schedule"] = schedule
            path.write_text(json.dumps(document))
            assert len(planning.plan(story.lake, ["count"], is_scheduled=True)) == chosen, schedule
            assert len(planning.plan(story.lake, ["count"])) == 1
        path.write_text(kept)


class TestCommands:
    """The command line says what the functions say."""

    @staticmethod
    def said(*arguments: str, code: int = 0) -> str:
        from typer.testing import CliRunner

        from medisync.cli.main import app

        done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.output

    def test_compare_lineage_and_why(self, story: Story, tmp_path: Path) -> None:
        asked = json.loads(self.said("compare", "r1-a", "r2-b", "--json"))
        assert asked["changes"] == json.loads(json.dumps(compare(story.lake, "r1-a", "r2-b").as_json()["changes"]))
        told = self.said("lineage", "run", "r2-b", "--svg", str(tmp_path / "l.svg"))
        assert "late.csv" in told
        assert (tmp_path / "l.svg").read_text().startswith("<svg")
        assert self.said("lineage", "result", "count/metrics") == self.said("lineage", "result", "r2-b/metrics")
        self.said("lineage", "patient", "x", code=2)
        assert "would not run" in self.said("why", "count")
        assert self.said("why") == self.said("why", "count")
        assert [one["analysis"] for one in json.loads(self.said("why", "--json"))] == ["count"]
        self.said("why", "-p", "x=1", code=2)
        assert "r2-b" in self.said("status")
