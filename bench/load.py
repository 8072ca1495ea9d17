"""A running workspace under load: ``python -m bench.load [--json] [--files N] [--minutes M] [--rows N] [PART ...]``.

``burst``: 500 files are dropped at once; all must be loaded once, in their order, with few rounds of analyses.
``mixed``: eight sources deliver without a pause, each loaded by a flow run of its own, while twenty pages are open in a
browser; what fails is counted. ``big``: 10,000,000 rows come from one source, and small files from another meanwhile;
how long the small ones take is measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import Metric, main
from medisync.demo.delivery import write_demo_data
from medisync.intake.reading import content_hash
from tests.support.admissions_csv import admissions, write_csv
from tests.support.login import log_in
from tests.support.pages import LIVE, chromium
from tests.support.running import RunningWorkspace, running_workspace, trial_settings

ROWS = 20
WRITERS, PAGES = 8, 20
SMALL_EVERY_SECONDS = 3.0
LONGEST_SECONDS = 3600.0
UNFINISHED = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
ENDED_BADLY = {"flow_runs": {"state": {"type": {"any_": ["FAILED", "CRASHED"]}}}}


def burst(files: int) -> dict[str, Metric]:
    """``files`` files at once, from the first rename until all are loaded and analysed."""
    with _workspace() as workspace:
        inbox = workspace.settings.inbox
        drafts = [_small(inbox, number) for number in range(files)]
        places = {content_hash(draft): number for number, draft in enumerate(drafts)}
        started = time.monotonic()
        for draft in drafts:
            draft.rename(draft.with_name(draft.name.removeprefix(".")))
        _wait(lambda: _recorded(workspace) >= files, f"{files} files are loaded", lambda: _recorded(workspace))
        loaded_after = time.monotonic() - started
        _wait(lambda: not workspace.api("POST", "/flow_runs/filter", json=UNFINISHED), "all flow runs are over")
        over_after = time.monotonic() - started
        loaded = workspace.lake().query(
            "SELECT content_hash FROM clinical.deliveries WHERE status = 'loaded' ORDER BY finished_at"
        )
        order = [places[row["content_hash"]] for row in loaded]
        rows = workspace.lake().query("SELECT count(DISTINCT admission_key) AS n FROM clinical.admissions")[0]["n"]
        runs = workspace.lake().query("SELECT analysis, count(*) AS n FROM analytics.runs GROUP BY analysis")
        return {
            "files": Metric(files, "", "500"),
            "loaded_once": Metric(len(order) if len(set(order)) == len(order) else -1, "", "500"),
            "admissions_missing": Metric(files * ROWS - int(rows), "", "0"),
            "seconds": Metric(round(loaded_after, 1), "s", "<= 60"),
            "seconds_until_analysed": Metric(round(over_after, 1), "s", "shown"),
            "rounds": Metric(max(row["n"] for row in runs), "", "shown"),
            "order_kept": Metric(float(order == sorted(order)), "", "1"),
        }


def mixed(minutes: float) -> dict[str, Metric]:
    """Eight sources that deliver all the time, and twenty open pages; what failed."""
    with _workspace() as workspace, chromium() as browser:
        context = browser.new_context()
        log_in(context, workspace.settings)
        pages = [context.new_page() for _ in range(PAGES)]
        for page in pages:
            page.goto(workspace.settings.pages_url, wait_until="domcontentloaded", timeout=300_000)
        for page in pages:
            page.wait_for_selector(LIVE, timeout=300_000)
        until, dropped, lost = time.monotonic() + 60 * minutes, 0, 0
        while time.monotonic() < until:
            for writer in range(WRITERS):
                folder = workspace.settings.inbox / f"writer-{writer}"
                if not folder.exists() or not any(folder.iterdir()):  # the one before was claimed
                    draft = _small(folder, dropped)
                    draft.rename(folder / f"{dropped:05d}.csv")
                    dropped += 1
            lost += sum(page.get_attribute("#connection", "data-state") == "lost" for page in pages)
            time.sleep(1.0)
        _wait(lambda: _recorded(workspace) >= dropped, "all is loaded", lambda: _recorded(workspace))
        _wait(lambda: not workspace.api("POST", "/flow_runs/filter", json=UNFINISHED), "all flow runs are over")
        [row] = workspace.lake().query(
            "SELECT count(*) FILTER (status <> 'loaded') AS refused, count(*) AS n FROM clinical.deliveries"
        )
        [failed] = workspace.lake().query("SELECT count(*) AS n FROM analytics.runs WHERE status = 'failed'")
        bad = workspace.api("POST", "/flow_runs/filter", json=ENDED_BADLY)
        shown = f"{dropped * ROWS:,}"
        current = _current(pages, shown)
        errors = int(row["refused"]) + int(failed["n"]) + len(bad) + lost + PAGES - current
        return {
            "mixed_minutes": Metric(minutes, "min", "10"),
            "mixed_files": Metric(dropped, "", "shown"),
            "mixed_pages_current": Metric(current, "", str(PAGES)),
            "mixed_errors": Metric(errors, "", "0"),
        }


def big(rows: int) -> dict[str, Metric]:
    """A delivery of ``rows`` rows, and how long small ones take while it is loaded."""
    with _workspace() as workspace, tempfile.TemporaryDirectory(prefix="medisync-bench-", dir=None) as folder:
        file = Path(folder) / "big.csv"
        write_demo_data(file, rows=rows, seed=1)
        alone = [_timed_small(workspace, number) for number in range(3)]
        target = workspace.settings.inbox / "archive"
        target.mkdir()
        started = time.monotonic()
        file.replace(target / "big.csv")
        beside: list[float] = []
        while not _recorded(workspace, "archive"):
            beside.append(_timed_small(workspace, 10 + len(beside)))
            _say(f"a small one took {beside[-1]:.1f} s")
            time.sleep(SMALL_EVERY_SECONDS)
        seconds = time.monotonic() - started
        [one] = workspace.lake().query("SELECT status, rows_read FROM clinical.deliveries WHERE source = 'archive'")
        return {
            "big_rows_loaded": Metric(int(one["rows_read"]) if one["status"] == "loaded" else 0, "", f"{rows}"),
            "big_seconds": Metric(round(seconds, 1), "s", "shown"),
            "small_alone_median_seconds": Metric(round(median(alone), 2), "s", "shown"),
            "small_beside_median_seconds": Metric(round(median(beside), 2), "s", "shown"),
            "small_beside_longest_seconds": Metric(round(max(beside), 2), "s", "shown"),
            "small_beside": Metric(len(beside), "", "shown"),
        }


@contextmanager
def _workspace() -> Iterator[RunningWorkspace]:
    with (
        tempfile.TemporaryDirectory(prefix="medisync-bench-") as folder,
        running_workspace(trial_settings(Path(folder))) as workspace,
    ):
        yield workspace


def _small(folder: Path, number: int) -> Path:
    """A hidden file of admissions of its own, to be renamed."""
    return write_csv(folder / f".{number:05d}.csv", admissions(ROWS, start=number * ROWS))


def _timed_small(workspace: RunningWorkspace, number: int) -> float:
    before = _recorded(workspace, "default")
    draft = _small(workspace.settings.inbox, number)
    started = time.monotonic()
    draft.rename(draft.with_name(f"{number:05d}.csv"))
    _wait(lambda: _recorded(workspace, "default") > before, "a small file is loaded")
    return time.monotonic() - started


def _recorded(workspace: RunningWorkspace, source: str = "%") -> int:
    rows = workspace.lake().query("SELECT count(*) AS n FROM clinical.deliveries WHERE source LIKE ?", [source])
    return int(rows[0]["n"])


def _current(pages: list[Any], text: str) -> int:
    """How many of the pages come to show ``text``."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        current = sum(text in page.inner_text("main") for page in pages)
        if current == len(pages):
            break
        time.sleep(1.0)
    return current


def _wait(condition: Callable[[], bool], what: str, progress: Callable[[], object] | None = None) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {LONGEST_SECONDS:g} s: {what}")
        if progress is not None and int(time.monotonic()) % 10 == 0:
            _say(f"{what}: {progress()}")
        time.sleep(0.5)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def measure(parts: list[str], files: int, minutes: float, rows: int) -> dict[str, Metric]:
    """The parts, each in a workspace of its own."""
    found: dict[str, Metric] = {}
    if "burst" in parts:
        found |= burst(files)
    if "mixed" in parts:
        found |= mixed(minutes)
    if "big" in parts:
        found |= big(rows)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("parts", nargs="*", default=["burst", "mixed", "big"])
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rows", type=int, default=10_000_000)
    given, others = parser.parse_known_args()
    main(lambda: measure(given.parts, given.files, given.minutes, given.rows), others)
