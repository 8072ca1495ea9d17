"""The rules in force, as data: they travel with every released document."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from medisync.disclosure.dominance import DOMINANCE_PERCENT, P_PERCENT
from medisync.disclosure.threshold import THRESHOLD
from medisync.settings import Settings


class Policy(BaseModel):
    """How released documents are made."""

    model_config = ConfigDict(frozen=True)

    threshold: int = Field(default=THRESHOLD, ge=2)
    rounding_base: int = Field(default=0, ge=0, description="0: counts are not rounded")
    dominance_percent: float = Field(default=DOMINANCE_PERCENT, gt=0, le=100)
    p_percent: float = Field(default=P_PERCENT, ge=0, le=100)


def policy_of(settings: Settings) -> Policy:
    """The workspace's policy."""
    return Policy(
        threshold=settings.disclosure_threshold,
        rounding_base=settings.disclosure_rounding,
        dominance_percent=settings.disclosure_dominance_percent,
        p_percent=settings.disclosure_p_percent,
    )
