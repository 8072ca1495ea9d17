"""What commands print: text for people on the terminal, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from medisync.errors import ParameterError

if TYPE_CHECKING:
    import rich.console


class Console:
    """Prints progress and results; with ``quiet`` only what :meth:`data` is given."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._progress: rich.console.Console | None = None

    def say(self, text: str) -> None:
        """One line; above the spinner, while there is one."""
        if self._quiet:
            return
        if self._progress is not None:
            self._progress.print(text)
        else:
            typer.echo(text)

    def data(self, value: Any) -> None:
        """One JSON value on one line."""
        typer.echo(json.dumps(value, default=str))

    def answer(self, outcome: Mapping[str, Any]) -> None:
        """One analysis of a round, as ``Outcome.as_json`` gives it."""
        if outcome["error"]:
            self.say(f"✗ {outcome['analysis']} failed [{outcome['error_code']}]: {outcome['error']}")
            return
        how = "unchanged" if outcome["skipped"] else f"{outcome['seconds']:.1f} s"
        self.say(f"✓ {outcome['analysis']} ({how}): {outcome['headline']}")

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A spinner with elapsed time while something long goes on; only on a terminal."""
        if self._quiet or not sys.stdout.isatty():
            yield
            return
        import rich.console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = rich.console.Console(highlight=False, soft_wrap=True, markup=False)
        try:
            with Progress(*columns, console=self._progress, transient=True) as progress:
                progress.add_task(what, total=None)
                yield
        finally:
            self._progress = None


def parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """``name=value`` texts as a dictionary; values are JSON where they can be, else text. Raises ParameterError."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name.isidentifier():
            raise ParameterError(f"{pair!r} is not of the form name=value.")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values
