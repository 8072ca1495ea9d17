"""Which words of a file's name are people's in it, and that the quick look at each row overlooks none."""

from __future__ import annotations

import re
import unicodedata

import duckdb
import pytest

from medisync.intake import namesakes
from medisync.intake.feeds import Feed

PEOPLE = (
    "Maria Gomez",
    "José Ángel  Núñez",
    "'t Hart, Wim",
    "Dr. J. Smith",
    "O'Neil Shaq",
    "Abby752 Kertzmann286",
    "x",
    "12 34",
    "Łukasz",
    unicodedata.normalize("NFD", "Zoë Brontë"),
    "Li Wu",
    None,
)
WORDS = [
    *("maria", "gomez", "mariagomez", "gomezmaria", "agomez", "josé", "nuñez", "joseangelnuñez", "hart", "harttwim"),
    *("wim", "jsmith", "smithdrj", "smithj", "drjsmith", "neil", "shaqoneil", "oneil", "abby", "kertzmann"),
    *("kertzmannabby", "x", "xx", "łukasz", "zoë", "brontë", "zoëbrontë", "liwu", "wuli", "backup", "adm", "wi", "li"),
]


def parts_of(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", name).lower())


def is_named(word: str, name: str) -> bool:
    parts = parts_of(name)
    together = [] if len(parts) < 2 else ["".join(parts), parts[-1] + "".join(parts[:-1])]
    return word in parts or any(one in word for one in together)


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect()
    opened.execute('CREATE TABLE raw AS SELECT unnest(?::VARCHAR[]) AS "Name"', [list(PEOPLE)])
    return opened


def test_words_that_are_names_are_found(connection: duckdb.DuckDBPyConnection) -> None:
    feed = Feed(part="", table="raw", columns=("Name",), typed={}, values={}, names=("Name",))
    expected = {word for word in WORDS if any(is_named(word, name) for name in PEOPLE if name)}
    assert {"maria", "mariagomez", "gomezmaria", "wim", "drjsmith", "kertzmannabby", "łukasz", "wuli"} <= expected
    assert not {"backup", "adm", "agomez"} & expected
    assert namesakes.name_words(connection, (feed,), WORDS) == expected


@pytest.mark.parametrize("word", WORDS)
def test_no_namesake_passes_the_quick_look(connection: duckdb.DuckDBPyConnection, word: str) -> None:
    feed = Feed(part="", table="raw", columns=("Name",), typed={}, values={}, names=("Name",))
    ((column, sql),) = namesakes.folded(feed).items()
    suspect = namesakes.is_suspect(column, [word])
    found = connection.execute(f'SELECT "Name" FROM (SELECT *, {sql} AS {column} FROM raw) WHERE {suspect}').fetchall()
    suspects = {name for (name,) in found}
    assert {name for name in PEOPLE if name and is_named(word, name)} <= suspects
    assert len(suspects) < len(PEOPLE) / 2


def test_usual_words_are_not_looked_for() -> None:
    assert namesakes.telling_words("admissions_2024-Gomez_x.csv") == ("gomez",)
