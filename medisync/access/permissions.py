"""The one table of who may do what."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"  # released results only: nothing that could point at a patient
    CLINICIAN = "clinician"  # full results
    ANALYST = "analyst"  # starts runs, works in JupyterLab, sees why deliveries were refused
    ADMIN = "admin"  # users, maintenance, Prefect, audit


class Permission(StrEnum):
    READ_RESULTS = "read-results"  # results, deliveries and history, as far as the role's audience goes
    OPEN_PAGES = "open-pages"  # the live pages and the reports
    READ_FULL = "read-full"  # results before disclosure control
    TRIGGER = "trigger"  # ask for runs
    OPEN_LAB = "open-lab"  # JupyterLab, terminals, contents and kernels
    READ_REASONS = "read-reasons"  # why deliveries and rows were refused
    READ_RUNS = "read-runs"  # full run records: hashes, versions, parameters
    READ_METRICS = "read-metrics"  # figures about the service, for monitoring
    MANAGE_USERS = "manage-users"
    MAINTAIN = "maintain"  # clean-up and settings
    OPEN_PREFECT = "open-prefect"
    READ_AUDIT = "read-audit"


_VIEWER = frozenset({Permission.READ_RESULTS, Permission.OPEN_PAGES})
_CLINICIAN = _VIEWER | {Permission.READ_FULL}
_ANALYST = _CLINICIAN | {
    Permission.TRIGGER,
    Permission.OPEN_LAB,
    Permission.READ_REASONS,
    Permission.READ_RUNS,
    Permission.READ_METRICS,
}

GRANTS: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.CLINICIAN: _CLINICIAN,
    Role.ANALYST: _ANALYST,
    Role.ADMIN: frozenset(Permission),
}
