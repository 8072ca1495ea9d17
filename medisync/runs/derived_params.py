"""The parameter model of a notebook without a module of its own, read from its ``parameters`` cell.

A parameter is a line ``name = literal`` or ``name: type = literal``; a comment after it, or alone on the lines before,
describes it. Without an annotation the default's type counts. Nothing is executed.
"""

from __future__ import annotations

import ast
import io
import tokenize
from typing import Any, Literal

from pydantic import Field, create_model

from medisync.analyses.contract import AnalysisParams

SIMPLE: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool, "None": None, "Any": Any}


class AnnotationError(ValueError):
    """An annotation in the parameters cell that is none of those understood."""


def literals(source: str) -> dict[str, Any]:
    """Name -> default of every parameter line. Raises ValueError and SyntaxError for what is no literal."""
    return {name: ast.literal_eval(value) for name, value, _ in _statements(source)}


def derived_model(analysis: str, source: str, *, without: str) -> type[AnalysisParams]:
    """A model with the parameters of ``source`` but ``without``; raises AnnotationError."""
    notes = _comments(source)
    fields: dict[str, Any] = {}
    for name, value, annotation in _statements(source):
        if name == without:
            continue
        default = ast.literal_eval(value)
        kind = _annotated(annotation) if annotation is not None else _type_of(default)
        fields[name] = (
            kind,
            Field(default, validate_default=True, description=notes.get(value.end_lineno or 0) or None),
        )
    words = "".join(part.capitalize() for part in analysis.split("_"))
    model: type[AnalysisParams] = create_model(f"{words}Params", __base__=AnalysisParams, **fields)
    return model


def _statements(source: str) -> list[tuple[str, ast.expr, ast.expr | None]]:
    found = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, annotation = statement.targets[0], None
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, annotation = statement.target, statement.annotation
        else:
            continue
        if isinstance(target, ast.Name) and statement.value is not None:
            found.append((target.id, statement.value, annotation))
    return found


def _type_of(default: Any) -> Any:
    """The type a default stands for; a whole number admits whole numbers only, None admits anything."""
    if default is None:
        return Any
    if isinstance(default, (list, tuple)):
        kinds = {type(one) for one in default}
        inner: Any = _type_of(default[0]) if len(kinds) == 1 else float if kinds == {int, float} else Any
        return tuple.__class_getitem__((inner, ...))
    if isinstance(default, dict):
        return dict[str, Any]
    return type(default)


def _annotated(node: ast.expr) -> Any:
    """The type an annotation means, without executing it."""
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Name) and node.id in SIMPLE:
        return SIMPLE[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _annotated(node.left) | _annotated(node.right)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            return Literal[tuple(ast.literal_eval(one) for one in inner)]
        if node.value.id in ("list", "tuple"):
            return tuple[_annotated(inner[0]), ...]  # type: ignore[misc]
        if node.value.id == "dict":
            return dict[str, _annotated(inner[-1])]  # type: ignore[misc]
    raise AnnotationError(f"the annotation {ast.unparse(node)} is not understood")


def _comments(source: str) -> dict[int, str]:
    """Line number of a parameter -> its description."""
    found: dict[int, str] = {}
    waiting: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = token.string.lstrip("# ").strip()
        if token.line.lstrip().startswith("#"):
            waiting = [*waiting, text] if waiting and found.get(token.start[0], "") is not None else [text]
            found[token.start[0] + 1] = " ".join(waiting)
        else:
            before = found.get(token.start[0], "")
            found[token.start[0]] = f"{before} {text}".strip()
            waiting = []
    return found
