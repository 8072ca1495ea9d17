"""A form made from an analysis' parameters: what can be asked of a run, with its bounds and meanings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medisync.errors import MediSyncError
from medisync.reports.page import words
from medisync.runs import registry
from medisync.runs.registry import AnalysisNotebook
from medisync.settings import Settings

NUMBERS = {"integer": "1", "number": "any"}
YES_NO = (("true", "yes"), ("false", "no"))


@dataclass(frozen=True)
class Field:
    """One parameter. ``sends`` says as what its text is sent: text, number, boolean or list."""

    name: str
    label: str
    value: str
    sends: str
    options: tuple[tuple[str, str], ...] = ()
    least: str = ""
    most: str = ""
    step: str = ""
    means: str = ""


@dataclass(frozen=True)
class RunForm:
    """One analysis that can be run again. ``trouble``: why its parameters cannot be read."""

    analysis: str
    title: str
    fields: tuple[Field, ...] = ()
    trouble: str = ""


def run_forms(settings: Settings) -> list[RunForm]:
    """A form for every analysis there is, also for notebooks somebody dropped in."""
    return [run_form(notebook) for notebook in registry.analyses(settings)]


def run_form(notebook: AnalysisNotebook) -> RunForm:
    """The form of one analysis, made from its ``Params``."""
    try:
        schema = notebook.params_model().model_json_schema()
    except MediSyncError as error:
        return RunForm(notebook.analysis, notebook.title, trouble=str(error))
    fields = tuple(_field(name, one) for name, one in schema.get("properties", {}).items())
    return RunForm(notebook.analysis, notebook.title, fields)


def _field(name: str, schema: dict[str, Any]) -> Field:
    kinds = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    is_one = len(kinds) == 1
    kind = kinds[0] if is_one else {}
    default, label, means = schema.get("default"), words(name), str(schema.get("description", ""))
    if "enum" in kind:
        options = tuple((str(value), words(value)) for value in kind["enum"])
        return Field(name, label, _text(default), "text", options, means=means)
    if kind.get("type") == "boolean":
        return Field(name, label, _text(default), "boolean", YES_NO, means=means)
    if kind.get("type") in NUMBERS:
        least, most = (
            kind.get("minimum", kind.get("exclusiveMinimum")),
            kind.get("maximum", kind.get("exclusiveMaximum")),
        )
        step = NUMBERS[kind["type"]]
        return Field(name, label, _text(default), "number", (), _text(least), _text(most), step, means)
    return Field(name, label, _text(default), "list" if kind.get("type") == "array" else "text", means=means)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
