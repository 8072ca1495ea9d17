"""MediSync: a Jupyter-first reproducible analytics workspace for hospital admissions.

Notebooks need a handful of names: ``open_snapshot``, ``show``, ``publish``, what a result is made of (``Result``,
``Table``, ``Finding``), and the modules of :mod:`medisync.analyses`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medisync.notebook import Finding, Result, Table, open_snapshot, publish, show

__version__ = "0.1.0"
__all__ = ["Finding", "Result", "Table", "__version__", "open_snapshot", "publish", "show"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the command line and the watcher import this package, too, and need none of it.
    if name in __all__:
        from medisync import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'medisync' has no attribute {name!r}")
