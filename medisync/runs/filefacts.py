"""What a source file holds, looked at once: its hash and the names it imports.

Facts are kept with the file's mark (times, size, inode) and hold as long as the mark does. They can be written down
and taken up by the next process, which then only asks the file system whether anything moved.
"""

from __future__ import annotations

import ast
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Mark = tuple[int, int, int, int]

RACY_NANOSECONDS = 2_000_000_000
"""A file changed this shortly before it was looked at may change again without its times telling, since a file system
counts time in ticks; its facts are not written down."""


@dataclass(frozen=True)
class FileFacts:
    """``imports`` as absolute dotted names; those for type checkers only are left out."""

    content_hash: str
    imports: tuple[str, ...]


_known: dict[tuple[str, str], tuple[Mark, FileFacts]] = {}


def facts_of(path: Path, package: str) -> FileFacts:
    """The facts of the file at ``path`` in the dotted package ``package``; raises OSError when it cannot be read."""
    key, mark = (str(path), package), _mark(path.stat())
    known = _known.get(key)
    if known is not None and known[0] == mark:
        return known[1]
    content = path.read_bytes()
    facts = FileFacts(hashlib.sha256(content).hexdigest(), _names(content, package))
    _known[key] = (mark, facts)
    return facts


def written_down() -> list[list[Any]]:
    """What is known, as JSON; files that changed just now are left out."""
    return [
        [path, package, list(mark), facts.content_hash, list(facts.imports)]
        for (path, package), (mark, facts) in _known.items()
        if is_settled(mark)
    ]


def take_up(rows: list[list[Any]]) -> None:
    """Know what another process wrote down; what this one has seen itself counts more."""
    for path, package, mark, content_hash, imports in rows:
        first, second, size, inode = mark
        facts = FileFacts(str(content_hash), tuple(imports))
        _known.setdefault((str(path), str(package)), ((first, second, size, inode), facts))


def imports_of(tree: ast.AST, package: str) -> Iterator[str]:
    """Every name ``tree`` imports, also inside functions; not those for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}"
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imports_of(other, package)
        else:
            yield from imports_of(node, package)


def hash_of_contents(contents: Mapping[str, str]) -> str:
    """SHA-256 over labels and content hashes, in the labels' order."""
    digest = hashlib.sha256()
    for label in sorted(contents):
        digest.update(f"{label}\0{contents[label]}\0".encode())
    return digest.hexdigest()


def _names(content: bytes, package: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(imports_of(ast.parse(content), package)))
    except (SyntaxError, ValueError):
        return ()  # it cannot be imported either (or is SQL); its content still counts


def mark_of(path: str) -> Mark | None:
    """What changes with the content of the file, or with the names in the folder, at ``path``; None: there is none."""
    try:
        return _mark(os.stat(path))
    except OSError:
        return None


def is_settled(mark: Mark) -> bool:
    """Whether a further change would tell by its time, see RACY_NANOSECONDS."""
    return time.time_ns() - max(mark[:2]) > RACY_NANOSECONDS


def _mark(status: os.stat_result) -> Mark:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
