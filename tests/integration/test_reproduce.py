"""Runs executed again in real kernels: what is identical, what is not, and what is said about it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from medisync import intake
from medisync.analyses.contract import Finding, Result, Table
from medisync.errors import NoDataError
from medisync.fastlane import kernels
from medisync.intake.merging import DeliveryMode
from medisync.lake import Lake
from medisync.runs import lineage, planning, printed_keys, records, self_check, story, versions
from medisync.runs.planning import SnapshotExpiredError
from medisync.runs.record import Outcome, RunRecord
from medisync.runs.reproduce import Reproduction, Verdict, materialised, reproduce, reproduce_all
from medisync.runs.story import Request
from medisync.runs.versions import VersionDamagedError, VersionMissingError
from tests.conftest import make_workspace
from tests.support.admissions_csv import admissions, write_csv
from tests.support.fork_servers import kernel_server
from tests.support.put_on_record import put_on_record
from tests.support.small_notebooks import OPEN, write_notebook

REQUEST = Request(trigger="test")
SHOW_KEY = "print(snapshot.query('SELECT patient_key::VARCHAR AS who FROM clinical.patients LIMIT 1')['who'][0])"


def publishes(analysis: str, value: str) -> str:
    """A cell that publishes a table with the value of an expression."""
    return (
        f"value = float({value})\n"
        f"ms.publish(Result(analysis={analysis!r}, title='T', headline='A number.', finding=Finding.DESCRIPTION, "
        "metrics={'n': 10}, tables={'t': Table(title='t', columns=('what', 'value'), rows=(('half', value / 2), "
        "('whole', value)))}))"
    )


@dataclass
class Trial:
    lake: Lake
    outcomes: dict[str, Outcome]

    def record(self, analysis: str) -> RunRecord:
        return self.outcomes[analysis].record


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """One round over notebooks of which each behaves in its own way, in forked kernels."""
    folder = tmp_path_factory.mktemp("again")
    start = f"{OPEN}\nfrom medisync.analyses.contract import Table"
    with pytest.MonkeyPatch.context() as patched:
        settings = make_workspace(
            folder, patched, notebooks=folder / "notebooks", retries=0, notebook_memory_mb=1500, kernels=2
        )
        lake = Lake(settings)
        intake.ingest(lake, write_csv(folder / "ten.csv", admissions(10)))
        notebooks = settings.analyses
        count = "snapshot.query('SELECT count(*) AS n FROM clinical.admissions')['n'][0]"
        write_notebook(notebooks, "steady", start, publishes("steady", count))
        write_notebook(notebooks, "dice", f"import numpy as np\n{start}", publishes("dice", "np.random.rand()"))
        write_notebook(notebooks, "helped", f"import helper\n{start}", publishes("helped", "helper.A"))
        (notebooks / "helper.py").write_text("A = 8.0\n")
        write_notebook(notebooks, "telltale", start, SHOW_KEY, publishes("telltale", "1"))
        write_notebook(notebooks, "greedy", f"block = bytearray(3_000_000_000)\n{start}", publishes("greedy", "1"))
        with kernel_server(folder) as server:
            kernels.socket_path(settings).symlink_to(server.path)
            outcomes = story.run(lake, request=REQUEST)
            yield Trial(lake, {one.record.analysis: one for one in outcomes})
        lake.close()


def test_a_steady_notebook_gives_identical_numbers(trial: Trial) -> None:
    made = reproduce(trial.lake, "steady")  # the name stands for the run that is served
    assert made.run_id == trial.record("steady").run_id
    assert made.verdict is Verdict.IDENTICAL, made.sentence()
    assert (made.compared, made.different, made.differences) == (9, 0, ())
    assert "all 9 values are identical" in made.sentence()


def test_random_numbers_without_a_seed_are_found_and_named(trial: Trial) -> None:
    made = reproduce(trial.lake, trial.record("dice").run_id)
    assert made.verdict is Verdict.RANDOM
    assert {one.place for one in made.places if one.different} == {"table t"}
    assert made.suspects == ("cell 4, line 1: np.random.rand draws without a seed",)
    assert "cell 4" in made.sentence()


def test_kept_code_gives_the_same_and_changed_code_is_named_with_how_far_the_numbers_moved(trial: Trial) -> None:
    helper = trial.lake.settings.analyses / "helper.py"
    helper.write_text("A = 10.0\n")
    run_id = trial.record("helped").run_id
    assert reproduce(trial.lake, run_id).verdict is Verdict.IDENTICAL
    made = reproduce(trial.lake, run_id, code="current")
    helper.write_text("A = 8.0\n")
    assert made.verdict is Verdict.MOVED
    assert [one.what for one in made.differences] == ["beside/helper.py"]
    [place] = [one for one in made.places if one.different]
    assert (place.place, place.different) == ("table t", 2)
    assert place.largest_relative == pytest.approx(0.2)
    assert "by at most 20 %" in made.sentence()


def test_another_environment_is_named_with_how_far_the_numbers_moved(trial: Trial) -> None:
    [chosen] = planning.plan(trial.lake, ["steady"], force=True)
    then = trial.record("steady")
    table = Table(title="t", columns=("what", "value"), rows=(("half", 5.0), ("whole", 12.5)))
    other = Result(
        analysis="steady",
        title="T",
        headline="A number.",
        finding=Finding.DESCRIPTION,
        metrics={"n": 10},
        tables={"t": table},
    )
    packages = {**then.environment["packages"], "numpy": "0.9"}
    record = put_on_record(
        trial.lake,
        chosen,
        other,
        environment={**then.environment, "packages": packages, "python": "3.9.1"},
        packages={**then.packages, "numpy": "0.9"},
        fixed_environment=then.fixed_environment,
    )
    made = reproduce(trial.lake, record.run_id)
    assert made.verdict is Verdict.MOVED
    assert {one.what: one.before for one in made.differences} == {"numpy": "0.9", "python": "3.9.1"}
    assert [one.largest_relative for one in made.places if one.different] == [pytest.approx(0.2)]
    assert made.different == 1


def test_an_expired_snapshot_is_said_to_be(trial: Trial) -> None:
    [chosen] = planning.plan(trial.lake, ["steady"])
    gone = put_on_record(trial.lake, chosen, snapshot_id=100_000, run_key="gone")
    with pytest.raises(SnapshotExpiredError, match="Snapshot 100000 is no longer kept"):
        reproduce(trial.lake, gone.run_id)


def test_a_run_that_failed_or_is_unknown_has_no_number(trial: Trial) -> None:
    with pytest.raises(records.NoSuchRunError, match="has no result"):
        reproduce(trial.lake, trial.record("greedy").run_id)
    with pytest.raises(records.NoSuchRunError, match="No run has this id"):
        reproduce(trial.lake, "r0-000000")


def test_a_damaged_archive_is_noticed_and_not_executed(trial: Trial) -> None:
    settings, record = trial.lake.settings, trial.record("steady")
    for path in sorted(versions.folder(settings).rglob("*.ipynb")):
        content = path.read_bytes()
        if b"'steady'" in content:
            path.write_bytes(content.replace(b"value / 2", b"value / 3"))
            with pytest.raises(VersionDamagedError, match="missing or damaged"):
                reproduce(trial.lake, record.run_id)
            path.unlink()
            with pytest.raises(VersionDamagedError, match="missing or damaged"):
                reproduce(trial.lake, record.run_id)
            path.write_bytes(content)
            break
    else:
        pytest.fail("the notebook is not kept")
    with pytest.raises(VersionMissingError):
        versions.fetch(settings, "0" * 64, record.code_hash)
    [manifest] = [one for one in versions.folder(settings).rglob("*.json") if record.notebook_hash[:32] in one.name]
    kept = manifest.read_text()
    for content in ("", "[]", "{}", kept.replace("steady.ipynb", "../steady.ipynb")):
        manifest.write_text(content)
        with pytest.raises(VersionDamagedError):
            reproduce(trial.lake, record.run_id)
    manifest.write_text(kept)


def test_a_run_again_that_finds_its_version_damaged_puts_it_back(trial: Trial) -> None:
    settings = trial.lake.settings
    [chosen] = planning.plan(trial.lake, ["steady"])
    path = versions.keep(settings, chosen.notebook, chosen.code)
    path.write_bytes(b"")
    assert versions.keep(settings, chosen.notebook, chosen.code).stat().st_size > 100


def test_kept_code_of_the_package_reaches_the_kernel(trial: Trial, tmp_path: Path) -> None:
    record = trial.record("steady")
    version = versions.fetch(trial.lake.settings, record.notebook_hash, record.code_hash)
    label = "medisync/analyses/contract.py"
    version.files[label] += b"\nOLDER = True\n"
    with materialised(version) as (_, environment):
        told = subprocess.run(
            [sys.executable, "-c", "import medisync.analyses.contract as c; print(c.OLDER, c.__file__)"],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    assert told.stdout.startswith("True ")
    with materialised(versions.fetch(trial.lake.settings, record.notebook_hash, record.code_hash)) as (_, environment):
        assert environment == {}


def test_a_notebook_that_shows_a_key_fails_and_the_key_is_struck_out(trial: Trial) -> None:
    outcome = trial.outcomes["telltale"]
    assert (outcome.record.status, outcome.record.error_code, outcome.result) == ("failed", "shows-a-key", None)
    assert str(outcome.record.error_message).startswith("Cell 4 of telltale.ipynb shows the key")
    text = (trial.lake.settings.reports / "runs" / outcome.record.run_id / "notebook.ipynb").read_text()
    keys = {str(row["patient_key"]) for row in trial.lake.query("SELECT patient_key FROM clinical.patients")}
    assert keys
    assert not any(key in text or key.replace("-", "") in text for key in keys)
    assert printed_keys.STRUCK_OUT in text
    assert trial.lake.query("SELECT 1 FROM analytics.results WHERE run_id = ?", [outcome.record.run_id]) == []


def test_other_numbers_of_a_key_s_shape_are_no_keys(trial: Trial) -> None:
    assert not printed_keys.found_in(trial.lake, ["12345678-1234-1234-1234-123456789abc", "nothing"])
    key = str(trial.lake.query("SELECT admission_key FROM clinical.admissions LIMIT 1")[0]["admission_key"])
    for shape in (key, key.upper(), key.replace("-", ""), f"UUID('{key}')"):
        assert printed_keys.found_in(trial.lake, [shape])


def test_a_notebook_that_eats_memory_is_stopped_once_and_told(trial: Trial) -> None:
    record = trial.record("greedy")
    assert (record.error_code, record.attempts) == ("notebook-too-big", 1), record.error_message
    assert "1,500 MB" in str(record.error_message)


def test_the_self_check_takes_each_answer_once_and_reports(trial: Trial) -> None:
    heard: list[Reproduction] = []
    since = min(one.record.started_at for one in trial.outcomes.values())
    assert reproduce_all(trial.lake, since=dt.datetime.now(dt.UTC) + dt.timedelta(days=1)) == []
    made = reproduce_all(trial.lake, since=since, most=3, on_each=heard.append)
    assert sorted(one.run_id for one in heard) == sorted(one.run_id for one in made)
    assert len(made) == 3
    assert len({one.run_id for one in made}) == 3
    path = self_check.write_self_check(trial.lake.settings, made, dt.datetime.now(dt.UTC))
    html = path.read_text()
    for one in made:
        assert one.run_id in html
    assert "did not give identical numbers" in html
    assert "http" not in html.replace("http://www.w3.org", "")
    assert "look at" in self_check.sentence(made)
    assert json.loads(json.dumps(made[0].as_json()))["verdict"] == made[0].verdict.value


def test_a_backfill_whose_snapshot_has_expired_looks_back_and_can_be_made_again(trial: Trial, tmp_path: Path) -> None:
    """10 admissions, then 5 more, then 1 of these is deleted and 7 come: what was known in between is 15."""
    lake = trial.lake
    intake.ingest(lake, write_csv(tmp_path / "more.csv", admissions(15)))
    [then] = planning.plan(lake, ["steady"])
    moment = dt.datetime.now(dt.UTC)
    intake.ingest(lake, write_csv(tmp_path / "late.csv", admissions(21, start=1)), mode=DeliveryMode.SNAPSHOT)
    [kept] = planning.plan(lake, ["steady"], as_of=moment)
    assert (kept.snapshot_id, kept.known_on) == (then.snapshot_id, None)
    with closing(lake.cursor()) as cursor:
        cursor.execute("CALL ducklake_expire_snapshots('lake', versions => ?)", [[then.snapshot_id]])
    [outcome] = story.run(lake, ["steady"], as_of=moment, request=REQUEST)
    assert outcome.record.known_on == moment
    assert outcome.record.snapshot_id > then.snapshot_id
    assert outcome.result is not None
    assert dict(outcome.result.tables["t"].rows)["whole"] == 15.0  # neither 10, of the last snapshot kept, nor 21
    assert reproduce(lake, outcome.record.run_id).verdict is Verdict.IDENTICAL
    [again] = story.run(lake, ["steady"], as_of=moment, request=REQUEST)
    assert (again.skipped, again.record.run_id) == (True, outcome.record.run_id)
    [now] = planning.plan(lake, ["steady"])
    assert now.answered_by is None
    behind = lineage.of_run(lake, outcome.record.run_id)
    assert sum("more.csv" in one.name for one in behind.nodes) == 1
    assert not any("late.csv" in one.name for one in behind.nodes)
    with pytest.raises(NoDataError, match="There was no data yet"):
        planning.plan(lake, ["steady"], as_of=moment - dt.timedelta(days=999))


def test_the_kernels_of_reproductions_leave_nothing_in_the_lake(trial: Trial) -> None:
    before = trial.lake.last_snapshot_id()
    reproduce(trial.lake, trial.record("steady").run_id)
    assert trial.lake.last_snapshot_id() == before
    assert not list(Path(trial.lake.settings.data).glob("medisync-again-*"))
