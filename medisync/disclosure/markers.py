"""What stands in a released document where a number does not: an object, never 0 or an empty cell."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Reason(StrEnum):
    SMALL = "small"  # fewer than the threshold, and nothing else released says how many
    PROTECTED = "protected"  # small, or shown it would give a small one away: which of the two is not said
    DOMINATED = "dominated"  # a sum of money made up by one or two contributions, or the way to one
    UNDECLARED = "undeclared"  # the analysis does not say what this number is


class Withheld(BaseModel):
    """One withheld value; ``text`` is what a person reads in its place."""

    model_config = ConfigDict(frozen=True)

    withheld: Reason
    below: int | None = None
    text: str


def small(threshold: int) -> Withheld:
    return Withheld(withheld=Reason.SMALL, below=threshold, text=f"fewer than {threshold}")


PROTECTED = Withheld(withheld=Reason.PROTECTED, text="withheld")
DOMINATED = Withheld(withheld=Reason.DOMINATED, text="withheld")
UNDECLARED = Withheld(withheld=Reason.UNDECLARED, text="not released")
