"""MediSync: a Jupyter-first reproducible analytics workspace for hospital admissions."""

__version__ = "0.1.0"
