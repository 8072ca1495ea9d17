"""Rounds of notebooks in real kernels: what fails, how, and that it leaves the others alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from medisync import intake
from medisync.lake import Lake
from medisync.runs import story
from medisync.runs.published import Freshness, Published, published
from medisync.runs.record import RESULT_MIME, Outcome
from medisync.runs.story import Request
from tests.conftest import make_workspace
from tests.support.admissions_csv import admissions, write_csv
from tests.support.running import wait_until
from tests.support.small_notebooks import OPEN, publish, write_notebook

REQUEST = Request(trigger="test")
BAD_ROWS = (
    ", lake_rows={'forecasts': Table(title='t', columns=('unique_id', 'frequency', 'method', 'origin', 'ds', "
    "'quantile', 'value'), rows=(('all', 'W', 'naive', 'yesterday', '2024-01-01', 0.5, 1.0),))}"
)


def workspace_with(folder: Path, environment: pytest.MonkeyPatch, **settings: object) -> tuple[Lake, Path]:
    """A lake of ten admissions, and the folder for its analysis notebooks."""
    lake = Lake(make_workspace(folder, environment, notebooks=folder / "notebooks", **settings))
    intake.ingest(lake, write_csv(folder / "ten.csv", admissions(10)))
    return lake, lake.settings.analyses


@pytest.fixture(scope="module")
def odd_round(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, dict[str, Outcome]]]:
    """One round over notebooks of which each behaves in its own way."""
    folder = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as environment:
        lake, notebooks = workspace_with(folder, environment, retries=1, notebook_seconds=240, kernels=2)
        mark = folder / "tried"
        once = f"import os\nif not os.path.exists({str(mark)!r}):\n    os.mkdir({str(mark)!r})\n    1 / 0"
        write_notebook(notebooks, "good")
        write_notebook(notebooks, "raises", "raise ValueError('too bad')")
        write_notebook(notebooks, "fails_once", once, OPEN, publish("fails_once"))
        write_notebook(notebooks, "dies", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
        write_notebook(notebooks, "silent", OPEN)
        write_notebook(notebooks, "twice", OPEN, publish("twice"), publish("twice"))
        write_notebook(notebooks, "other", OPEN, publish("good"))
        write_notebook(notebooks, "no_kernel", kernel="cobol")
        write_notebook(
            notebooks,
            "bad_rows",
            f"{OPEN}\nfrom medisync.analyses.contract import Table",
            publish("bad_rows", BAD_ROWS),
        )
        write_notebook(
            notebooks,
            "no_result",
            f"from IPython.display import display\ndisplay({{{RESULT_MIME!r}: {{'headline': 'x'}}}}, raw=True)",
        )
        write_notebook(notebooks, "writes", f"{OPEN}\nsnapshot.query('DELETE FROM clinical.admissions')")
        heard: list[str] = []
        outcomes = story.run(lake, request=REQUEST, on_outcome=lambda outcome: heard.append(outcome.record.analysis))
        assert sorted(heard) == sorted(outcome.record.analysis for outcome in outcomes)
        # Each cell takes less than the budget, all of them more.
        write_notebook(notebooks, "slow", "import time\ntime.sleep(3)", "time.sleep(3)", "time.sleep(60)")
        hasty = Lake(lake.settings.model_copy(update={"notebook_seconds": 5}))
        outcomes += story.run(hasty, ["slow"], request=REQUEST)
        hasty.close()
        yield lake, {outcome.record.analysis: outcome for outcome in outcomes}
        lake.close()


@pytest.mark.parametrize(
    ("analysis", "error_code", "tries", "message"),
    [
        ("raises", "notebook-raised", 2, "raised ValueError: too bad"),
        ("dies", "kernel-died", 2, "kernel of dies.ipynb died"),
        ("slow", "notebook-too-slow", 1, "budget of 5 seconds"),
        ("silent", "not-published-once", 1, "never"),
        ("twice", "not-published-once", 1, "2 times"),
        ("other", "bad-result", 1, "published good"),
        ("no_kernel", "bad-notebook", 1, "kernel that is not installed"),
        ("bad_rows", "bad-result", 1, "no result"),
        ("no_result", "bad-result", 1, "no result"),
        ("writes", "notebook-raised", 2, "read-only"),
    ],
)
def test_a_failing_notebook_is_a_recorded_run(
    odd_round: tuple[Lake, dict[str, Outcome]], analysis: str, error_code: str, tries: int, message: str
) -> None:
    lake, outcomes = odd_round
    record = outcomes[analysis].record
    assert (record.status, record.error_code, record.attempts) == ("failed", error_code, tries), record.error_message
    assert message in str(record.error_message)
    row = lake.query("SELECT * FROM analytics.runs WHERE run_id = ?", [record.run_id])[0]
    assert (row["status"], row["error_code"]) == ("failed", error_code)
    assert lake.query("SELECT * FROM analytics.results WHERE run_id = ?", [record.run_id]) == []
    kept = lake.settings.reports / "runs" / record.run_id
    assert (kept / "report.html").exists()
    assert (kept / "notebook.ipynb").exists(), "what was executed, up to the cell that failed"
    assert not (lake.settings.reports / "latest" / f"{analysis}.html").exists()


@pytest.mark.parametrize(("analysis", "tries"), [("good", 1), ("fails_once", 2)])
def test_the_others_of_the_round_are_left_alone(
    odd_round: tuple[Lake, dict[str, Outcome]], analysis: str, tries: int
) -> None:
    lake, outcomes = odd_round
    outcome = outcomes[analysis]
    assert (outcome.record.status, outcome.record.attempts, outcome.skipped) == ("completed", tries, False)
    assert outcome.result is not None
    assert outcome.result.metrics == {"n": 10}
    folder = lake.settings.reports / "runs" / outcome.record.run_id
    executed = json.loads((folder / "notebook.ipynb").read_text())
    assert executed["metadata"]["medisync"]["run"]["run_id"] == outcome.record.run_id
    assert str(lake.settings.data) not in json.dumps(executed["metadata"])
    assert "10 admissions." in (lake.settings.reports / "latest" / f"{analysis}.html").read_text()


def running_kernels() -> list[psutil.Process]:
    """Kernels below this process; one that ends while it is looked at is none."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # also of a zombie
            if "ipykernel" in str(process.cmdline()):
                found.append(process)
    return found


def test_nothing_of_a_kernel_is_left_behind(odd_round: tuple[Lake, dict[str, Outcome]]) -> None:
    del odd_round
    wait_until(lambda: not running_kernels(), seconds=60, what="no kernel is left")


def test_what_the_round_leaves_on_the_shelf(odd_round: tuple[Lake, dict[str, Outcome]]) -> None:
    lake, _ = odd_round
    shelf = {one.analysis: one for one in published(lake)}
    assert shelf["good"].freshness is Freshness.CURRENT
    assert shelf["raises"].freshness is Freshness.FAILED
    assert "too bad" in str(shelf["raises"].reason)
    assert lake.query("SELECT count(*) AS n FROM clinical.admissions")[0]["n"] == 10


def test_the_run_is_committed_with_its_id(odd_round: tuple[Lake, dict[str, Outcome]]) -> None:
    lake, outcomes = odd_round
    record = outcomes["good"].record
    rows = lake.query("SELECT * FROM lake.snapshots() WHERE contains(commit_message, ?)", [record.run_id])
    assert len(rows) == 1
    extra = json.loads(rows[0]["commit_extra_info"])
    assert extra == {
        "run_id": record.run_id,
        "code": record.code_hash,
        "parameters_hash": record.parameters_hash,
    }


def test_a_good_result_is_served_until_a_better_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Current, skipped when asked again, updating after a delivery, stale after a failure, current when mended."""
    lake, notebooks = workspace_with(tmp_path, monkeypatch, retries=0)

    def on_the_shelf() -> Published:
        return next(one for one in published(lake) if one.analysis == "count")

    write_notebook(notebooks, "count", OPEN, publish("count"), parameters="weeks = 4")
    assert on_the_shelf().freshness is Freshness.NEVER
    [first] = story.run(lake, request=REQUEST)
    assert (first.record.headline, first.record.parameters) == ("10 admissions.", {"weeks": 4})
    assert on_the_shelf().freshness is Freshness.CURRENT

    [again] = story.run(lake, request=REQUEST)
    assert again.skipped
    assert again.record == first.record
    assert again.as_json()["seconds"] == 0.0

    intake.ingest(lake, write_csv(tmp_path / "more.csv", admissions(5, start=50)))
    assert (on_the_shelf().freshness, on_the_shelf().reason) == (Freshness.UPDATING, "Newer data have arrived.")

    write_notebook(notebooks, "count", "raise RuntimeError('under repair')", parameters="weeks = 4")
    [broken] = story.run(lake, request=REQUEST)
    shelf = on_the_shelf()
    assert (broken.record.status, shelf.freshness) == ("failed", Freshness.STALE)
    assert "under repair" in str(shelf.reason)
    assert shelf.record == first.record
    assert shelf.result is not None
    assert shelf.result.headline == "10 admissions."
    latest = lake.settings.reports / "latest" / "count.html"
    assert "10 admissions." in latest.read_text()

    write_notebook(notebooks, "count", OPEN, publish("count"), parameters="weeks = 4")
    [other] = story.run(lake, ["count"], parameters={"weeks": 9}, request=REQUEST)
    assert other.record.headline == "15 admissions."
    assert on_the_shelf().freshness is Freshness.STALE  # other parameters do not answer for the defaults
    assert "10 admissions." in latest.read_text()

    [mended] = story.run(lake, request=REQUEST)
    assert (mended.record.headline, on_the_shelf().freshness) == ("15 admissions.", Freshness.CURRENT)
    assert "15 admissions." in latest.read_text()
    lake.close()
