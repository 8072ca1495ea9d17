"""The written note of what disclosure control did."""

from __future__ import annotations

from medisync.disclosure.cells import Cells
from medisync.disclosure.document import Note
from medisync.disclosure.policy import Policy


def note_of(
    policy: Policy,
    cells: Cells,
    *,
    undeclared: tuple[str, ...],
    figures_left_out: tuple[str, ...],
    headline_replaced: bool,
    warnings_left_out: int,
) -> Note:
    """Numbers and sentences; none of them says which of the withheld cells is small."""
    here = [cell for cell in cells.by_key.values() if cell.is_here]
    counts = [cell for cell in here if not cell.is_money]
    withheld = [cell for cell in counts if cell.is_withheld]
    small = sum(cell.is_small for cell in withheld)
    held_back = sum(cell.is_held_back and not cell.is_small for cell in withheld)
    complementary = len(withheld) - small - held_back
    money = sum(cell.is_withheld for cell in here if cell.is_money)
    exposed = sum(cell.is_exposed for cell in counts)
    sentences = []
    sentences.append(
        f"Counts of fewer than {policy.threshold} people are withheld; zeros are shown. "
        f"Of {len(counts):,} counts {len(withheld):,} are withheld, {complementary:,} of them only so that others "
        "cannot be worked out."
    )
    if held_back:
        sentences.append(
            f"{held_back:,} counts are held back, since they differ by fewer than {policy.threshold} people from what "
            "was released or withheld before."
        )
    if exposed:
        sentences.append(f"{exposed:,} withheld counts could be worked out from earlier releases already.")
    if policy.rounding_base > 1:
        sentences.append(f"Counts are rounded to multiples of {policy.rounding_base}, shares computed from these.")
    if money:
        sentences.append(
            f"{money:,} sums of money are withheld: of few people, made up by one or two contributions (more "
            f"than {policy.dominance_percent:g} %, or the largest known to within {policy.p_percent:g} %), or the way "
            "to such."
        )
    if undeclared:
        sentences.append(f"Not released, since it is not declared what they are: {', '.join(undeclared)}.")
    if figures_left_out:
        sentences.append(f"Left out, since they show more than the tables: {', '.join(figures_left_out)}.")
    if headline_replaced:
        sentences.append("The headline was replaced, since it holds numbers that are withheld.")
    if warnings_left_out:
        sentences.append(f"{warnings_left_out} remarks that hold numbers were left out.")
    sentences.append("Numbers computed from counts are shown to three significant digits.")
    return Note(
        sentences=tuple(sentences),
        counts_shown=len(counts) - len(withheld),
        counts_small=small,
        counts_held_back=held_back,
        counts_complementary=complementary,
        counts_exposed_before=exposed,
        money_withheld=money,
        undeclared=undeclared,
        figures_left_out=figures_left_out,
    )
