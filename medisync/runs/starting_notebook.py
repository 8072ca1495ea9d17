"""A new analysis: one notebook that runs as it is and waits to be changed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from medisync.errors import UserError
from medisync.runs import registry
from medisync.settings import Settings


class NameTakenError(UserError):
    """A new analysis cannot have this name."""

    code = "name-taken"
    exit_code = 66
    http_status = 409


ABOUT = """# {title}

**What question does this answer, and for whom?** Say it here in one sentence.

Say how: which admissions count, what is compared with what, and what would be mere chance.
"""

PARAMETERS = """snapshot_id = None  # None: the latest
months = 24  # months up to the last admission
least_admissions = 10  # a month with fewer is not shown"""

OPEN = """import medisync as ms
from medisync.analyses import figures

snapshot = ms.open_snapshot(snapshot_id)"""

LOAD = '''by_month = snapshot.query(
    """
    SELECT strftime(admitted_at, '%Y-%m') AS month, count(*) AS admissions,
           min(admitted_at)::DATE AS first_day, max(admitted_at)::DATE AS last_day
    FROM clinical.admissions
    WHERE admitted_at >= (SELECT max(admitted_at) FROM clinical.admissions) - to_months(?::INT)
    GROUP BY 1 HAVING count(*) >= ? ORDER BY 1
    """,
    [months, least_admissions],
)'''

COMPUTE = """total = int(by_month["admissions"].sum())
result = ms.Result(
    analysis="{name}",
    title="{title}",
    headline=f"{{total:,}} admissions in {{len(by_month)}} months.",
    finding=ms.Finding.DESCRIPTION if total else ms.Finding.TOO_LITTLE,
    data_from=by_month["first_day"].min().date() if total else None,
    data_until=by_month["last_day"].max().date() if total else None,
    metrics={{"admissions_count": total}},
    tables={{"months": ms.Table.from_frame("Admissions by month", by_month[["month", "admissions"]])}},
)"""

SHOW = """drawing, axes = figures.canvas()
axes.bar(by_month["month"], by_month["admissions"], color=figures.ACCENT)
axes.set_ylabel("admissions")
axes.tick_params(axis="x", rotation=90)
picture = figures.as_figure(
    drawing, name="months", title="Admissions by month", alt=result.headline, table="months"
)
result = result.with_figures([picture])
ms.show(result)"""

PUBLISH = "ms.publish(result)"


def start_notebook(settings: Settings, name: str, *, title: str | None = None) -> Path:
    """Write the starting notebook of analysis ``name`` into the folder of analyses.

    Raises NameTakenError when the name is none, or an analysis, module or file has it.
    """
    if not registry.ANALYSIS_NAME.fullmatch(name) or name == registry.FULL_ANALYSIS:
        raise NameTakenError(
            f"{name!r} cannot be the name of an analysis.", hint="Lower-case letters, digits and _, such as bed_use."
        )
    path = settings.analyses / f"{name}.ipynb"
    if path.exists() or any(one.analysis == name for one in registry.analyses(settings)):
        raise NameTakenError(f"There is an analysis {name} already.", hint="Choose another name.")
    if importlib.util.find_spec(f"medisync.analyses.{name}") is not None:
        raise NameTakenError(f"A module of MediSync is called {name}.", hint="Choose another name.")
    title = title or name.replace("_", " ").capitalize()
    if '"' in title or "\\" in title or "{" in title:
        raise NameTakenError("A title has no quotation marks, backslashes or braces.", hint="Choose another title.")
    cells = [
        {"id": "about", "cell_type": "markdown", "metadata": {}, "source": ABOUT.format(title=title).strip()},
        _code("parameters", PARAMETERS, ["parameters"]),
        _code("open", OPEN),
        _code("load", LOAD),
        _code("compute", COMPUTE.format(name=name, title=title)),
        _code("show", SHOW),
        _code("publish", PUBLISH),
    ]
    document = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "medisync": {"analysis": name, "title": title, "reads": ["admissions"], "schedule": registry.HOURLY},
        },
        "cells": cells,
    }
    settings.analyses.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return path


def _code(identity: str, source: str, tags: list[str] | None = None) -> dict[str, Any]:
    return {
        "id": identity,
        "cell_type": "code",
        "metadata": {"tags": tags} if tags else {},
        "execution_count": None,
        "outputs": [],
        "source": source,
    }
