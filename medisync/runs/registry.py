"""The analyses there are: every notebook in ``notebooks/analyses/`` that says so in its metadata."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from medisync.analyses.contract import AnalysisParams
from medisync.errors import ParameterError, UnknownAnalysisError, UserError
from medisync.runs.derived_params import AnnotationError, derived_model, literals
from medisync.settings import Settings

PINNED = "snapshot_id"
"""The parameter every analysis notebook has: the snapshot to read, None for the latest."""

ANALYSIS_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""Names of analyses are also names of modules and files."""

HOURLY = "hourly"
SCHEDULES: dict[str, float | None] = {HOURLY: 0, "daily": 20, "weekly": 6.5 * 24, "on request": None}
"""Schedule in a notebook's metadata -> hours between two rounds that run it by themselves; 0: each, None: none."""

FULL_ANALYSIS = "full_analysis"
"""The name that stands for all analyses."""


class NotebookError(UserError):
    """A notebook in ``notebooks/analyses/`` cannot be used."""

    code = "bad-notebook"
    exit_code = 16
    http_status = 422


@dataclass(frozen=True)
class AnalysisNotebook:
    """One analysis as its notebook declares it. ``defaults`` are those of the ``parameters`` cell."""

    analysis: str
    title: str
    reads: tuple[str, ...]
    path: Path
    notebook_hash: str
    defaults: dict[str, Any]
    code: str
    """The sources of its code cells, one after the other."""
    cells: tuple[str, ...] = ()
    """The same, one by one."""
    parameters_source: str = ""
    schedule: str | None = None
    settings: tuple[str, ...] = ()
    """Settings a change of which makes it run again."""

    def parameters(self, values: dict[str, Any]) -> dict[str, Any]:
        """All parameters of a run with ``values`` given; raises ParameterError for an unknown or invalid one."""
        given = {name: value for name, value in values.items() if name != PINNED}
        model = self.params_model()
        unknown = sorted(given.keys() - model.model_fields.keys())
        if unknown and not self.has_module:
            raise ParameterError(
                f"{self.analysis} has no parameter {', '.join(unknown)}.",
                hint=f"Known parameters: {', '.join(model.model_fields) or 'none'}.",
            )
        return model.checked(given).model_dump(mode="json")

    @property
    def has_module(self) -> bool:
        """Whether there is a module of :mod:`medisync.analyses` for it."""
        return importlib.util.find_spec(f"medisync.analyses.{self.analysis}") is not None

    def params_model(self) -> type[AnalysisParams]:
        """The parameter model of the analysis' module; without one, a model read from the parameters cell.

        Raises NotebookError when the module cannot be imported or the cell cannot be understood.
        """
        if self.has_module:
            name = f"medisync.analyses.{self.analysis}"
            try:
                module = importlib.import_module(name)
            except Exception as error:
                raise NotebookError(f"The module {name} cannot be imported ({type(error).__name__}).") from error
            model = getattr(module, "Params", None)
            if model is not None:
                return cast("type[AnalysisParams]", model)
        try:
            return derived_model(self.analysis, self.parameters_source, without=PINNED)
        except (AnnotationError, SyntaxError, TypeError) as error:
            raise NotebookError(f"{self.path.name}: its parameters cell cannot be understood ({error}).") from None


def analyses(settings: Settings) -> list[AnalysisNotebook]:
    """All analyses, by name. Notebooks without the metadata are not analyses; for broken ones see :func:`unusable`."""
    found: dict[str, AnalysisNotebook] = {}
    for path in sorted(settings.analyses.glob("*.ipynb")):
        try:
            notebook = read_notebook(path)
        except NotebookError:
            continue
        if notebook is not None:
            found.setdefault(notebook.analysis, notebook)
    return sorted(found.values(), key=lambda one: one.analysis)


def unusable(settings: Settings) -> list[NotebookError]:
    """Why notebooks in the folder are no analyses although they are meant to be."""
    errors = []
    declared: dict[str, str] = {}
    for path in sorted(settings.analyses.glob("*.ipynb")):
        try:
            notebook = read_notebook(path)
        except NotebookError as error:
            errors.append(error)
            continue
        if notebook is not None and declared.setdefault(notebook.analysis, path.name) != path.name:
            errors.append(
                NotebookError(
                    f"{path.name} declares {notebook.analysis}, as {declared[notebook.analysis]} does already."
                )
            )
    return errors


def chosen(settings: Settings, names: list[str]) -> list[AnalysisNotebook]:
    """The analyses of these names, all for none or ``full_analysis``; raises UnknownAnalysisError."""
    known = {notebook.analysis: notebook for notebook in analyses(settings)}
    if not names or FULL_ANALYSIS in names:
        return list(known.values())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownAnalysisError(
            f"There is no analysis {', '.join(unknown)}.", hint=f"Known: {', '.join(known)} and {FULL_ANALYSIS}."
        )
    return [known[name] for name in dict.fromkeys(names)]


def one(settings: Settings, name: str) -> AnalysisNotebook:
    """The analysis of this very name; raises UnknownAnalysisError, for ``full_analysis``, too."""
    if name == FULL_ANALYSIS:
        raise UnknownAnalysisError(f"{FULL_ANALYSIS} stands for all analyses.", hint="Name one of them.")
    return chosen(settings, [name])[0]


def read_notebook(path: Path) -> AnalysisNotebook | None:
    """What the notebook at ``path`` declares; None when it declares no analysis; NotebookError when it is broken."""
    try:
        raw = path.read_bytes()
        document = json.loads(raw)
        declared = document["metadata"].get("medisync")
        if declared is None:
            return None
        if not ANALYSIS_NAME.fullmatch(str(declared["analysis"])):
            raise NotebookError(f"{path.name} declares an analysis whose name is not like patient_volume.")
        cell = next(cell for cell in document["cells"] if "parameters" in cell["metadata"].get("tags", []))
        return AnalysisNotebook(
            analysis=str(declared["analysis"]),
            title=str(declared.get("title") or declared["analysis"]),
            reads=tuple(declared.get("reads", ())),
            path=path,
            notebook_hash=source_hash(document),
            defaults=literals("".join(cell["source"])),
            parameters_source="".join(cell["source"]),
            schedule=_known_schedule(path, declared.get("schedule")),
            settings=_known_settings(path, declared.get("settings", ())),
            code="\n".join(_sources(document)),
            cells=tuple(_sources(document)),
        )
    except StopIteration:
        raise NotebookError(f"{path.name} has no cell tagged 'parameters'.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        raise NotebookError(f"{path.name} is no usable notebook ({type(error).__name__}).") from None


def source_hash(document: dict[str, Any]) -> str:
    """SHA-256 over the code cells' tags and sources and the metadata: prose, outputs and counters do not matter, what
    is executed does."""
    cells = [
        [cell["metadata"].get("tags", []), "".join(cell["source"])]
        for cell in document["cells"]
        if cell["cell_type"] == "code"
    ]
    return hashlib.sha256(json.dumps([cells, document["metadata"].get("medisync")]).encode()).hexdigest()


def _sources(document: dict[str, Any]) -> list[str]:
    return ["".join(one["source"]) for one in document["cells"] if one["cell_type"] == "code"]


def _known_schedule(path: Path, schedule: Any) -> str | None:
    if schedule is not None and schedule not in SCHEDULES:
        raise NotebookError(f"{path.name} has a schedule that is none of {', '.join(SCHEDULES)}.")
    return cast("str | None", schedule)


def _known_settings(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    unknown = sorted(set(names) - set(Settings.model_fields))
    if unknown:
        raise NotebookError(f"{path.name} declares to depend on unknown settings: {', '.join(unknown)}.")
    return tuple(sorted(names))
