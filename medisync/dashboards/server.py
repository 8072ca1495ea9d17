"""How the pages' server is started, told apart from the server itself: importing this costs nothing."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.settings import Settings, project_root

SHARE = Path(__file__).resolve().parent / "share" / "jupyter"
"""Holds the pages' own Voila template, in the folders Jupyter looks for."""

TEMPLATE = "medisync"
HEALTH_PATH = "health"
OVERVIEW = "overview.ipynb"
ORDER = ("overview", "forecasts", "surges", "patients", "data")
"""The pages that come with MediSync."""


def command(settings: Settings) -> list[str]:
    """The program that serves the pages on 127.0.0.1 at ``settings.pages_port``; run it with :func:`environment`.

    The settings themselves travel through their environment variables, see :func:`medisync.settings.environment`.
    """
    return [sys.executable, "-m", "medisync.dashboards.application", f"--Voila.port={settings.pages_port}"]


def reader_command() -> list[str]:
    """The program that draws pages for all their viewers; without it each page's kernel does so itself."""
    return [sys.executable, "-m", "medisync.dashboards.page_reader"]


def environment(settings: Settings) -> dict[str, str]:
    """Variables the server and its kernels need beside the settings: the template is found, no home is touched."""
    private = settings.run_state / "jupyter"
    found = [str(SHARE), *filter(None, os.environ.get("JUPYTER_PATH", "").split(os.pathsep))]
    return {
        **FIXED_ENVIRONMENT,
        "JUPYTER_PATH": os.pathsep.join(dict.fromkeys(found)),
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "IPYTHONDIR": str(private / "ipython"),
    }


def health_url(settings: Settings) -> str:
    """Answers 200 as soon as the server listens."""
    return f"{settings.pages_url}{HEALTH_PATH}"


@dataclass(frozen=True)
class PageLink:
    """One page as the bar on top of every page names it."""

    name: str  # of the notebook, without its ending
    title: str
    path: str  # below the server's address


def page_links(settings: Settings) -> list[PageLink]:
    """Every page there is: those that come with MediSync in their order, then a workspace's own by title."""
    links = []
    for path in sorted(dashboards_folder(settings).glob("*.ipynb")):
        try:
            title = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("title") or path.stem
        except (OSError, ValueError, KeyError, AttributeError):  # no notebook (yet): the others are there
            continue
        links.append(PageLink(path.stem, str(title), "" if path.name == OVERVIEW else f"voila/render/{path.name}"))
    known = {name: place for place, name in enumerate(ORDER)}
    return sorted(links, key=lambda link: (known.get(link.name, len(known)), link.title.casefold()))


def dashboards_folder(settings: Settings) -> Path:
    """The notebooks that are served as pages: the workspace's own, or those that come with MediSync."""
    own = settings.dashboards
    return own if (own / OVERVIEW).exists() else project_root() / "notebooks" / "dashboards"
