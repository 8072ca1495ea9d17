"""How the pages' server is started, told apart from the server itself: importing this costs nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.settings import Settings, project_root

SHARE = Path(__file__).resolve().parent / "share" / "jupyter"
"""Holds the pages' own Voila template, in the folders Jupyter looks for."""

TEMPLATE = "medisync"
HEALTH_PATH = "health"
OVERVIEW = "overview.ipynb"


def command(settings: Settings) -> list[str]:
    """The program that serves the pages on 127.0.0.1 at ``settings.pages_port``; run it with :func:`environment`.

    The settings themselves travel through their environment variables, see :func:`medisync.settings.environment`.
    """
    return [sys.executable, "-m", "medisync.dashboards.application", f"--Voila.port={settings.pages_port}"]


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


def dashboards_folder(settings: Settings) -> Path:
    """The notebooks that are served as pages: the workspace's own, or those that come with MediSync."""
    own = settings.dashboards
    return own if (own / OVERVIEW).exists() else project_root() / "notebooks" / "dashboards"
