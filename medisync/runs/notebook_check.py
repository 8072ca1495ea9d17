"""Whether a notebook may become an analysis: its form, and what it does on made-up data."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medisync.errors import MediSyncError, UserError
from medisync.fastlane import kernels
from medisync.lake import Lake
from medisync.runs import closure, identity, printed_keys, registry
from medisync.runs.execution import NotebookFailedError, execute
from medisync.runs.numbers import moved
from medisync.runs.randomness import suspects
from medisync.runs.registry import AnalysisNotebook, NotebookError
from medisync.settings import Settings, environment

DEMO_ROWS, DEMO_YEARS = 6_000, 3
ASKED = re.compile(r"\bclinical\.(\w+)")


class NotebookCheckError(UserError):
    """The notebook did not pass its check."""

    code = "notebook-check"
    exit_code = 67
    http_status = 422


@dataclass(frozen=True)
class Check:
    """One thing looked at, and what to do where it is not well."""

    what: str
    is_well: bool
    detail: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def find(settings: Settings, name: str) -> Path:
    """The notebook at path ``name``, or of the analysis ``name``; raises NotebookError when there is none."""
    path = Path(name)
    if path.suffix == ".ipynb":
        if path.is_file():
            return path
    else:
        for one in registry.analyses(settings):
            if one.analysis == name:
                return one.path
        if (settings.analyses / f"{name}.ipynb").is_file():
            return settings.analyses / f"{name}.ipynb"
    raise NotebookError(f"There is no notebook {path.name}.", hint="Name a .ipynb file or an analysis.")


def check(settings: Settings, path: Path) -> Iterator[Check]:
    """Look at the notebook's form, then, when that is well, run it twice on demo data in a workspace of its own."""
    form = list(_form(settings, path))
    yield from form
    if all(one.is_well for one in form):
        notebook = registry.read_notebook(path)
        if notebook is not None:
            with tempfile.TemporaryDirectory(prefix="medisync-check-") as folder:
                yield from _behaviour(settings, notebook, Path(folder))


def _form(settings: Settings, path: Path) -> Iterator[Check]:
    try:
        document = json.loads(path.read_bytes())
        notebook = registry.read_notebook(path)
        if notebook is None:
            raise NotebookError(f"{path.name} has no metadata medisync.", hint="medisync new writes one that has.")
    except (NotebookError, OSError, ValueError) as error:
        yield Check("It is an analysis notebook", False, str(error))
        return
    yield Check("It is an analysis notebook", True, f"{notebook.analysis}: {notebook.title}")
    twins = [
        one.path.name
        for one in registry.analyses(settings)
        if one.analysis == notebook.analysis and one.path.resolve() != path.resolve()
    ]
    yield Check(
        "Its name is its own",
        path.stem == notebook.analysis and not twins,
        f"{twins[0]} declares the same analysis" if twins else f"the file is called {notebook.analysis}.ipynb",
    )
    first = next((cell for cell in document["cells"] if cell["cell_type"] == "code"), None)
    is_first = first is not None and "parameters" in first["metadata"].get("tags", [])
    has_pin = registry.PINNED in notebook.defaults and notebook.defaults[registry.PINNED] is None
    yield Check(
        "The parameters cell comes first",
        is_first and has_pin,
        "tagged parameters, with snapshot_id = None"
        if is_first and has_pin
        else "it must be the first code cell, be tagged parameters and have the line snapshot_id = None",
    )
    yield _parameters(notebook)
    shown = [number for number, cell in enumerate(document["cells"], 1) if cell.get("outputs")]
    yield Check("It has no outputs", not shown, f"clear cell {shown[0]}" if shown else "none")
    unknown = sorted(set(ASKED.findall(notebook.code)) - set(notebook.reads))
    yield Check(
        "It declares the tables it reads",
        bool(notebook.reads) and not unknown,
        f"add to reads in the metadata: {', '.join(unknown)}"
        if unknown
        else ", ".join(notebook.reads) or "reads is empty",
    )


def _parameters(notebook: AnalysisNotebook) -> Check:
    try:
        fields = notebook.params_model().model_fields
        notebook.parameters({})
    except UserError as error:
        return Check("Its parameters can be understood", False, str(error))
    bare = [name for name, field in fields.items() if not field.description]
    said = ", ".join(fields) or "none"
    more = f"; without a comment that says what they mean: {', '.join(bare)}" if bare else ""
    return Check("Its parameters can be understood", True, said + more)


def _behaviour(settings: Settings, notebook: AnalysisNotebook, folder: Path) -> Iterator[Check]:
    from medisync import intake
    from medisync.demo import write_demo_data

    trial = settings.model_copy(update={"data": folder / "data", "reports": folder / "reports"})
    lake = Lake(trial)
    try:
        write_demo_data(folder / "demo.csv", rows=DEMO_ROWS, years=DEMO_YEARS)
        intake.ingest(lake, folder / "demo.csv")
        made = []
        for number in (1, 2):
            try:
                made.append(
                    execute(
                        notebook,
                        notebook.parameters({}),
                        lake.last_snapshot_id() or 0,
                        folder / f"executed-{number}.ipynb",
                        budget_seconds=settings.notebook_seconds,
                        budget_mb=settings.notebook_memory_mb,
                        fork_socket=kernels.socket_path(settings),
                        environment=environment(trial),
                    )
                )
            except NotebookFailedError as error:
                yield Check("It runs on demo data and publishes one result", False, error.message)
                return
            if number == 1:
                yield Check("It runs on demo data and publishes one result", True, made[0].result.headline)
                texts = [text for _, text in printed_keys.outputs_of(json.loads(made[0].notebook.read_text("utf-8")))]
                shows = printed_keys.found_in(lake, [*texts, made[0].result.model_dump_json()])
                yield Check(
                    "It shows no key of a person", not shows, "show counts, not rows" if shows else "none found"
                )
        places = [one.place for one in moved(made[0].result, made[1].result) if one.different]
        if not places:
            yield Check("Two runs give the same", True, "identical")
            return
        code = identity.code_of(notebook)
        helpers = {label: path.read_bytes() for label, path in code.files.items() if label.startswith(closure.BESIDE)}
        found = suspects(json.loads(notebook.path.read_bytes()), helpers)
        said = f"{', '.join(places)} differ; {'; '.join(map(str, found)) or 'look for chance and the clock'}"
        yield Check("Two runs give the same", False, said)
    except MediSyncError as error:
        yield Check("It can be tried on demo data", False, str(error))
    finally:
        lake.close()
