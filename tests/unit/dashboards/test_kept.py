"""Pages drawn once for all: what the page reader keeps, who takes it, and when a kernel reads by itself instead."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from medisync import intake
from medisync.access.page_audience import TRIGGER_VARIABLE
from medisync.access.principal import Audience
from medisync.analyses.contract import Finding, Result
from medisync.dashboards import kept, page_reader
from medisync.dashboards.data import Data
from medisync.dashboards.forecasts import Forecasts
from medisync.dashboards.kept import FollowedSource, KeptPages, followed
from medisync.dashboards.live import LivePage
from medisync.dashboards.overview import Overview
from medisync.dashboards.page_reader import PageReader
from medisync.dashboards.parts import Part, Source
from medisync.dashboards.patients import Patients
from medisync.dashboards.surges import Surges
from medisync.errors import DatabaseAwayError
from medisync.lake import Lake
from medisync.runs import planning
from medisync.runs.progress import in_progress
from medisync.runs.publishing import publish
from medisync.settings import Settings
from tests.support.admissions_csv import admissions, write_csv
from tests.support.published import record_of
from tests.support.small_notebooks import write_notebook


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A workspace with forty admissions and a published result; tests publish newer ones."""
    folder = tmp_path_factory.mktemp("kept")
    made = Settings(data=folder / "data", reports=folder / "reports", notebooks=folder / "notebooks")
    write_notebook(made.analyses, "own")
    with closing(Lake(made)) as lake:
        intake.ingest(lake, write_csv(folder / "first.csv", admissions(40)))
    say(made, "Forty admissions.")
    return made


def say(settings: Settings, headline: str) -> None:
    """Publish ``headline``, for those who may see everything."""
    with closing(Lake(settings)) as lake:
        _say(lake, headline)


def _say(lake: Lake, headline: str) -> None:
    (plan,) = planning.plan(lake, force=True)
    result = Result(analysis="own", title="Own", headline=headline, finding=Finding.DESCRIPTION, metrics={"n": 40})
    publish(lake, record_of(plan, result), result)


@pytest.fixture
def reader(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageReader]:
    """One that works step by step, on a machine however slow."""
    monkeypatch.setattr(kept, "ALIVE_SECONDS", 3600.0)
    monkeypatch.setattr(kept, "WANTED_SECONDS", 3600.0)
    started = PageReader(settings)
    KeptPages.of(settings).say_alive()
    yield started
    started.close()


def pages(settings: Settings) -> list[Source]:
    return [Overview(settings), Forecasts(settings), Surges(settings), Patients(settings), Data(settings, {}),
            Data(settings, {TRIGGER_VARIABLE: "yes"})]  # fmt: skip


def open_page(reader: PageReader, source: Source) -> list[Part]:
    """What is kept of ``source`` as a page shows it that is opened while the reader works."""
    KeptPages.of(source.settings).want(str(kept.kept_as(source)))  # type: ignore[attr-defined]
    reader.step()
    return FollowedSource(source, KeptPages.of(source.settings)).parts()  # type: ignore[attr-defined]


def has_no_lake(source: Source) -> bool:
    """Whether ``source`` has opened none."""
    return source.reader.lake._connection is None  # type: ignore[attr-defined,no-any-return]


def versions(parts: list[Part]) -> list[tuple[str, str, str]]:
    return [(part.slot, part.name, part.version) for part in parts]


@pytest.mark.parametrize("audience", ["full", "released"])
def test_each_page_is_what_its_kernel_would_draw_itself(
    settings: Settings, reader: PageReader, audience: Audience
) -> None:
    say(settings, "Forty beds.")
    for ours, theirs in zip(pages(settings), pages(settings), strict=True):
        for source in (ours, theirs):
            source.show_to(audience)
        taken = open_page(reader, theirs)
        assert has_no_lake(theirs), type(theirs)
        assert versions(taken) == versions(ours.parts())
        assert [part.says for part in taken] == [part.says for part in ours.parts()]
        assert any("Forty beds." in part.html for part in taken) == (
            audience == "full" and type(ours) in (Overview, Patients, Data)
        )


def test_a_commit_is_drawn_once_and_seen_by_all_who_follow(settings: Settings, reader: PageReader) -> None:
    viewers = [FollowedSource(Overview(settings), KeptPages.of(settings)) for _ in range(3)]
    open_page(reader, Overview(settings))
    before = {viewer.signature() for viewer in viewers}
    assert len(before) == 1
    say(settings, "Now it is another.")
    assert {viewer.signature() for viewer in viewers} == before
    time.sleep(page_reader.LOOK_SECONDS)
    reader.step()
    after = {viewer.signature() for viewer in viewers}
    assert len(after) == 1
    assert after != before
    for viewer in viewers:
        assert any("Now it is another." in part.html for part in viewer.parts())
        assert has_no_lake(viewer)


def test_a_page_that_is_opened_waits_for_the_reader_to_look(settings: Settings, reader: PageReader) -> None:
    """What was kept before nobody looked may be old."""
    open_page(reader, Overview(settings))
    store = KeptPages.of(settings)
    assert not store.is_true_since("overview-full", time.time())
    moment = time.time()
    time.sleep(page_reader.LOOK_SECONDS)
    reader.step()
    assert store.is_true_since("overview-full", moment)


@pytest.mark.parametrize("is_stuck", [True, False])
def test_without_a_reader_the_kernel_reads_by_itself(
    settings: Settings, reader: PageReader, is_stuck: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page(reader, Overview(settings))
    say(settings, "Only the lake knows.")
    if is_stuck:
        monkeypatch.setattr(kept, "ALIVE_SECONDS", -1.0)
    else:
        reader.close()
    source = FollowedSource(Overview(settings), KeptPages.of(settings))
    assert any("Only the lake knows." in part.html for part in source.parts())
    assert not has_no_lake(source)


def test_what_was_chosen_is_for_one_viewer_alone(settings: Settings, reader: PageReader) -> None:
    source = FollowedSource(Patients(settings), KeptPages.of(settings))
    open_page(reader, Patients(settings))
    assert source.choose({"gender": "female"})
    assert kept.kept_as(source) is None
    assert any("selected" in part.html for part in source.preview() if part.name == "controls")
    assert not has_no_lake(source)
    assert kept.kept_as(Overview(settings, deliveries=9)) is None


def test_pages_nobody_looks_at_are_drawn_when_it_is_quiet(
    settings: Settings, reader: PageReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_reader, "QUIET_SECONDS", 0.0)
    names = {page.name for page in reader._pages}
    assert len(names) == 11

    def drawn() -> set[str]:
        return {path.stem for path in KeptPages.of(settings).folder.glob("*.json")}

    with in_progress(settings, run_id="r20260101T000000-aaaaaa", analysis="own", title="Own", run_key="k",
                     trigger="api", flow_run_id=None, started_at=dt.datetime.now(dt.UTC)):  # fmt: skip
        for _ in range(3 * len(names)):
            reader.step()
        assert drawn() == set()
    for _ in range(3 * len(names)):
        reader.step()
    assert drawn() == names


def test_after_a_fault_nothing_is_kept_that_may_be_untrue(settings: Settings, reader: PageReader) -> None:
    source = Overview(settings)
    open_page(reader, source)
    assert KeptPages.of(settings).mark("overview-full") is not None
    reader.forget()
    assert KeptPages.of(settings).mark("overview-full") is None
    assert open_page(reader, source)
    assert KeptPages.of(settings).mark("overview-full") is not None


def test_trouble_that_lasts_is_told_once_and_nothing_is_kept_meanwhile(
    settings: Settings, reader: PageReader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_page(reader, Overview(settings))

    def away() -> None:
        raise DatabaseAwayError("The database is away.")

    with monkeypatch.context() as trouble:
        trouble.setattr(reader, "step", away)
        assert [reader.try_step() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
    assert KeptPages.of(settings).mark("overview-full") is None
    assert reader.try_step()
    assert KeptPages.of(settings).mark("overview-full") is not None


def test_what_an_earlier_reader_kept_is_not_shown(settings: Settings) -> None:
    store = KeptPages.of(settings)
    store.clear()
    store.write("overview-full", [Part("a", "head", "from before")])
    store.say_alive()
    reader = PageReader(settings)
    assert store.mark("overview-full") is None
    assert store.folder.stat().st_mode & 0o777 == 0o700
    reader.close()


def test_a_page_of_somebodys_own_is_drawn_by_its_kernel(settings: Settings) -> None:
    class Own(Overview):
        def parts(self) -> list[Part]:
            return []

    own = Own(settings)
    assert followed(own) is own
    assert LivePage(own).source is own
    assert LivePage(Overview(settings)).source is not own
