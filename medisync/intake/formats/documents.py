"""JSON documents as NDJSON, one entry after the other, so that memory does not depend on a document's size.

A bundle's entries become one line each. References within it that go to an entry's ``fullUrl`` are rewritten to the
entry's type and id where these differ, so that what arrives later under that id is recognised.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from json import JSONDecodeError
from json.decoder import JSONDecoder
from pathlib import Path
from typing import IO, Any

from medisync.intake.parts import Part
from medisync.intake.reading import is_gzip, open_stream, refused
from medisync.intake.reasons import FileFault

CHUNK_BYTES = 1 << 18
LARGEST_ENTRY_CHARACTERS = 16 * 1024**2
"""Python's objects for it may take thirty times as much."""

MOST_MEMBERS = 1_000
SPACE = re.compile(r"[ \t\r\n]*")
URN = "urn:uuid:"
DELETED_URL = re.compile(r"^([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})$")
REFERRING = ("subject", "encounter", "serviceProvider", "medicationReference")


def write_as_ndjson(parts: Sequence[Part], target: Path) -> None:
    """Write every resource of the JSON of ``parts`` to ``target``, one a line; raises DeliveryRefusedError."""
    aliases: dict[str, str] = {}
    _write(parts, target, aliases, is_first=True)
    if aliases:
        _write(parts, target, aliases, is_first=False)


def _write(parts: Sequence[Part], target: Path, aliases: dict[str, str], *, is_first: bool) -> None:
    with target.open("w", encoding="utf-8") as file:
        for part in parts:
            for resource in _resources(part, aliases, is_first=is_first):
                file.write(json.dumps(resource, ensure_ascii=True, separators=(",", ":")) + "\n")


def _resources(part: Part, aliases: dict[str, str], *, is_first: bool) -> Iterator[Any]:
    label = part.label or "It"
    try:
        with open_stream(part.path, is_gzip(part.path)) as stream:
            for entry in _entries(_Text(stream)):
                resource = _resource(entry, aliases, is_first=is_first)
                if aliases and not is_first:
                    _follow(resource, aliases)
                yield resource
    except UnicodeDecodeError:
        raise refused(FileFault.NOT_UTF8, f"{label} is not UTF-8 text.", hint="FHIR demands UTF-8.") from None
    except RecursionError:
        raise refused(FileFault.MALFORMED, f"{label} is nested deeper than any resource.") from None
    except (EOFError, OSError, zlib.error):
        raise refused(FileFault.DAMAGED, f"{label} holds compressed data that are damaged or cut short.") from None
    except ValueError:
        raise refused(FileFault.MALFORMED, f"{label} is no complete JSON document.", hint="Was it cut short?") from None


def _resource(entry: Any, aliases: dict[str, str], *, is_first: bool) -> Any:
    """The resource of a bundle's entry. One to be deleted is told by its address alone."""
    if not isinstance(entry, dict) or "resourceType" in entry:
        return entry
    resource, url, request = entry.get("resource"), entry.get("fullUrl"), entry.get("request")
    if not isinstance(resource, dict):
        if isinstance(request, dict) and request.get("method") == "DELETE":
            deleted = DELETED_URL.match(str(request.get("url")))
            if deleted:
                return {"resourceType": deleted.group(1), "id": deleted.group(2), "_deleted": "true"}
        return {"resourceType": "(none)"}
    if isinstance(url, str):
        if "id" not in resource and url.startswith(URN):
            resource["id"] = url.removeprefix(URN).lower()
        elif is_first and not url.casefold().endswith(str(resource.get("id")).casefold()):
            aliases[url] = f"{resource.get('resourceType')}/{resource.get('id')}"
    return resource


def _follow(resource: Any, aliases: dict[str, str]) -> None:
    if not isinstance(resource, dict):
        return
    referring = [resource.get(name) for name in REFERRING]
    participants = [one for one in resource.get("participant") or () if isinstance(one, dict)]
    referring.extend(one.get("individual") for one in participants)
    for one in referring:
        if isinstance(one, dict) and isinstance(one.get("reference"), str):
            one["reference"] = aliases.get(one["reference"], one["reference"])


class _Text:
    """The document's text from a position on; what was passed is forgotten."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._is_over = False
        self._json = JSONDecoder(parse_float=str, parse_int=str)
        self.text = ""
        self.at = 0

    def more(self) -> bool:
        """Read on, twice as much each time; False at the end."""
        if self._is_over:
            return False
        self.text = self.text[self.at :]
        self.at = 0
        if len(self.text) > LARGEST_ENTRY_CHARACTERS:
            raise refused(
                FileFault.TOO_LARGE, "One entry of the JSON document is too large to be read.", hint="Deliver NDJSON."
            )
        chunk = self._stream.read(max(CHUNK_BYTES, len(self.text)))
        self._is_over = not chunk
        self.text += self._decoder.decode(chunk, final=self._is_over)
        return not self._is_over

    def peek(self) -> str:
        """The next sign that is no space; empty at the end."""
        while True:
            self.at = SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def take(self, sign: str) -> bool:
        if self.peek() != sign:
            return False
        self.at += 1
        return True

    def value(self) -> Any:
        """The next JSON value."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self.text, self.at)
            except JSONDecodeError:
                if not self.more():
                    raise
                continue
            if end == len(self.text) and self.more():
                continue  # a number may go on
            self.at = end
            return value


def _entries(text: _Text) -> Iterator[Any]:
    """The entries of bundles, the elements of arrays, and single resources, in whatever number they follow."""
    while sign := text.peek():
        if sign == "[":
            yield from _elements(text)
        elif sign == "{":
            yield from _members(text)
        else:
            raise ValueError("neither object nor array")


def _elements(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.take("]"):
        return
    while True:
        yield text.value()
        if text.take("]"):
            return
        if not text.take(","):
            raise ValueError("no comma")


def _members(text: _Text) -> Iterator[Any]:
    """Of an object with the array ``entry`` its elements; any other object itself."""
    text.take("{")
    others: dict[str, Any] = {}
    has_entries, size = False, 0
    while not text.take("}"):
        name = text.value()
        if not isinstance(name, str) or not text.take(":"):
            raise ValueError("no member")
        if name == "entry" and text.peek() == "[":
            has_entries = True
            yield from _elements(text)
        else:
            before = text.at
            others[name] = text.value()
            size += text.at - min(before, text.at)
            if size > LARGEST_ENTRY_CHARACTERS or len(others) > MOST_MEMBERS:
                raise refused(FileFault.TOO_LARGE, "The JSON document is no resource: it is too large for one.")
        if not text.take(",") and text.peek() != "}":
            raise ValueError("no comma")
    if not has_entries and others.get("resourceType") != "Bundle":
        yield others
