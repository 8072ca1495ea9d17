"""How the kernel of a live page learns for whom it draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medisync.access.principal import Audience

AUDIENCE_HEADER = "X-MediSync-Audience"
"""The pages' server sets it on the request it hands to the kernel, in place of any that came with it."""

AUDIENCE_VARIABLE = "HTTP_" + AUDIENCE_HEADER.upper().replace("-", "_")
"""The name under which the kernel finds it, in its environment or in what a kernel started ahead is told."""


def audience_told(told: Mapping[str, Any]) -> Audience:
    """The audience in a request as Voila tells it; the narrow one when nothing is said."""
    return "full" if told.get(AUDIENCE_VARIABLE) == "full" else "released"


TRIGGER_HEADER = "X-MediSync-May-Trigger"
"""Likewise: whether the page may offer its viewer to start runs. The request itself is checked again."""

TRIGGER_VARIABLE = "HTTP_" + TRIGGER_HEADER.upper().replace("-", "_")


def trigger_told(told: Mapping[str, Any]) -> bool:
    """Whether the viewer may start runs; no when nothing is said."""
    return told.get(TRIGGER_VARIABLE) == "yes"
