"""Which words of a file's name are a person's in it: such a name is not shown.

Hardly a file is called after somebody, so a part that is read while staging works on it is asked row by row on the way
whether it could be; only of one that could be, the names are looked at once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medisync.intake import labels
from medisync.intake.delimited import text
from medisync.intake.feeds import Feed
from medisync.intake.reading import identifier

if TYPE_CHECKING:
    import duckdb


def telling_words(file_name: str) -> tuple[str, ...]:
    """The words of a file's name (lower case) that may be names: those that files are usually called by are not."""
    words = labels.words_of(file_name)
    return tuple(word for word in words if len(word) > 1 and word not in labels.HARMLESS_WORDS)


def folded(feed: Feed) -> dict[str, str]:
    """``v_name_<number>`` -> SQL: the names of a feed's row, as they are compared."""
    return {f"v_name_{number}": _folded(column) for number, column in enumerate(feed.names)}


def is_suspect(name: str, words: Sequence[str]) -> str:
    """SQL: false proves that no word of ``words`` is a part of the folded ``name``, nor its parts written together.

    Together they begin and end with the first and the last, in either order. Two letters at the front rule most out;
    patterns are for the few others.
    """
    is_plain = f"left({name}, 1) BETWEEN 'a' AND 'z' AND substring({name}, 2, 1) BETWEEN 'a' AND 'z'"
    first, last = f"regexp_extract({name}, '\\pL+')", f"regexp_extract({name}, '(\\pL+)\\PL*$', 1)"
    return " OR ".join(
        f"contains({name}, {word}) OR ((NOT ({is_plain}) OR contains({word}, left({name}, 2))) "
        f"AND contains({word}, {first}) AND contains({word}, {last}))"
        for word in map(text, words)
    )


def name_words(cursor: duckdb.DuckDBPyConnection, feeds: Sequence[Feed], words: Sequence[str]) -> set[str]:
    """Those of ``words`` that are a part of a person's name in the feeds, or first and last name in one.

    The feeds were checked with ``words``: ``keyed_<number>`` tells of one with a reader whether any row is suspect.
    """
    columns = [
        f"SELECT {_folded(column)} AS name FROM {feed.table}"
        for number, feed in enumerate(feeds)
        if words and feed.names and (feed.reader is None or _has_suspects(cursor, number))
        for column in feed.names
    ]
    if not columns:
        return set()
    found = cursor.execute(
        "WITH words AS (SELECT unnest(?::VARCHAR[]) AS word), "
        f"names AS (SELECT DISTINCT name FROM ({' UNION ALL '.join(columns)}) WHERE {is_suspect('name', words)}), "
        "split AS (SELECT DISTINCT regexp_extract_all(name, '\\pL+') AS parts FROM names), "
        "together AS (SELECT parts[-1] AS last, array_to_string(parts[:-2], '') AS others FROM split "
        "             WHERE len(parts) > 1) "
        "SELECT word FROM words WHERE word IN (SELECT unnest(parts) FROM split) "
        "OR EXISTS (FROM together WHERE contains(word, others || last) OR contains(word, last || others))",
        [list(words)],
    ).fetchall()
    return {word for (word,) in found}


def _folded(column: str) -> str:
    return f"lower(nfc_normalize({identifier(column)}))"


def _has_suspects(cursor: duckdb.DuckDBPyConnection, number: int) -> bool:
    return cursor.execute(f"SELECT 1 FROM keyed_{number} WHERE is_suspect LIMIT 1").fetchone() is not None
