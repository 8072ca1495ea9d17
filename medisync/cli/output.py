"""What commands print: text for people on the terminal, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import rich.console
import typer

from medisync.errors import ParameterError

if TYPE_CHECKING:
    from medisync.runs.record import Outcome


class Console:
    """Prints progress and results; with ``quiet`` only what :meth:`data` is given."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._out = rich.console.Console(highlight=False, soft_wrap=True, markup=False)

    def say(self, text: str) -> None:
        if not self._quiet:
            self._out.print(text)

    def data(self, value: Any) -> None:
        """One JSON value on one line."""
        typer.echo(json.dumps(value, default=str))

    def outcome(self, outcome: Outcome) -> None:
        """One analysis of a round."""
        record = outcome.record
        if record.error_message:
            self.say(f"✗ {record.analysis} failed [{record.error_code}]: {record.error_message}")
            return
        how = "unchanged" if outcome.skipped else f"{record.seconds:.1f} s"
        self.say(f"✓ {record.analysis} ({how}): {record.headline}")

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A spinner with elapsed time while something long goes on; only on a terminal."""
        if self._quiet or not self._out.is_terminal:
            yield
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self._out, transient=True) as progress:
            progress.add_task(what, total=None)
            yield


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
