"""Words that are names and other things as well: two of them side by side name nobody for sure."""

from __future__ import annotations

import functools

_WORDS = """
able action april art august autumn bill black blue book case cash chance church clay close cook day dean dot early
east ever faith field fields fish forest fox free frost good grace grant gray green guy hall hand harmony heaven high
hill hope house joy june justice key king land lane law little long love low mark may mercy moon more north page park
peace penny pink price queen rain red rich river rob rock rose ruby silver simple skip sky small snow south spring
star stone storm strong summer sun sweet times trip violet wall white wild will winter wise wood woods worth young
"""


@functools.cache
def common_words() -> frozenset[str]:
    """Common words, and those of which made-up names of flow runs consist ("amber-fox")."""
    return frozenset(_WORDS.split()) | _made_up()


def _made_up() -> frozenset[str]:
    try:
        from coolname.data import config
    except ImportError:  # only Prefect brings it
        return frozenset()
    lists = (entry.get("words") or [] for entry in config.values() if isinstance(entry, dict))
    return frozenset(word.lower() for words in lists for word in words if isinstance(word, str))
