"""Results that leave the house: asked for by one person, approved by another, then written as one folder.

Only the released document goes out, exactly the one that was asked for; nothing of it is written before the approval.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync.disclosure.document import ReleasedDocument, shown_text
from medisync.errors import UserError
from medisync.runs.releasing import release_run

if TYPE_CHECKING:
    import sqlalchemy as sa

    from medisync.lake import Lake


class ReleaseRefusedError(UserError):
    """This release may not be asked for or decided like this."""

    code = "release-refused"
    exit_code = 85
    http_status = 409


class RequestState(StrEnum):
    REQUESTED = "requested"  # waits for a second person
    APPROVED = "approved"  # the folder is written
    REJECTED = "rejected"


@dataclass(frozen=True)
class ReleaseRequest:
    """One request. Times are UTC without a zone."""

    request_id: str
    run_id: str
    document_hash: str
    reason: str
    state: RequestState
    requested_by: str
    requested_at: dt.datetime
    decided_by: str | None = None
    decided_at: dt.datetime | None = None
    decision_reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Outgoing:
    """The requests of one workspace. ``who`` is the name of an account whose password or session was checked."""

    def __init__(self, lake: Lake, ledger: sa.Engine) -> None:
        self._lake = lake
        self._ledger = ledger
        self.folder = lake.settings.reports / "releases"

    def request(self, run_id: str, *, who: str, reason: str) -> ReleaseRequest:
        """Ask for the released document of a completed run; raises ReleaseRefusedError."""
        from medisync.ledger.release_requests import release_requests

        if len(reason.strip()) < 3:
            raise ReleaseRefusedError("A release needs a reason.", hint="Say for whom and what for: --reason TEXT")
        if not release_run(self._lake, run_id):
            raise ReleaseRefusedError(
                f"Run {run_id} has no result that could be released.",
                hint="Only completed runs have; see: medisync status",
            )
        one = ReleaseRequest(
            request_id=f"x{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
            run_id=run_id,
            document_hash=_hash(self._document(run_id)),
            reason=reason.strip()[:500],
            state=RequestState.REQUESTED,
            requested_by=who,
            requested_at=_now(),
        )
        self._record(who, "release requested", one)
        with self._ledger.begin() as connection:
            connection.execute(release_requests.insert().values(**one.as_json()))
        return one

    def all(self) -> list[ReleaseRequest]:
        """Newest first."""
        import sqlalchemy as sa

        from medisync.ledger.release_requests import release_requests

        query = sa.select(release_requests).order_by(release_requests.c.requested_at.desc())
        with self._ledger.begin() as connection:
            return [_request(dict(row._mapping)) for row in connection.execute(query)]

    def get(self, request_id: str) -> ReleaseRequest:
        found = [one for one in self.all() if one.request_id == request_id]
        if not found:
            raise ReleaseRefusedError(f"There is no release request {request_id}.", hint="See: medisync release list")
        return found[0]

    def approve(self, request_id: str, *, who: str) -> Path:
        """Write the folder; its path. Raises ReleaseRefusedError when ``who`` asked for it, it was decided already, or
        the document is no longer the one that was asked for."""
        one = self.get(request_id)
        if one.requested_by == who:
            self._record(who, "release approval refused: same person", one, allowed=False)
            raise ReleaseRefusedError("Whoever asked for a release cannot approve it.", hint="A second person must.")
        target = self.folder / request_id
        if one.state is RequestState.APPROVED and one.decided_by == who and not target.exists():
            pass  # the writing was interrupted
        elif one.state is not RequestState.REQUESTED:
            raise ReleaseRefusedError(f"Request {request_id} was {one.state.value} by {one.decided_by}.")
        text = self._document(one.run_id)
        if _hash(text) != one.document_hash:
            raise ReleaseRefusedError(
                f"The released document of run {one.run_id} has changed.", hint="Ask for it again."
            )
        self._record(who, "release approved", one)
        if one.state is RequestState.REQUESTED:
            self._decide(one, who, RequestState.APPROVED, None)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        draft = self.folder / f".{request_id}-{secrets.token_hex(3)}"
        try:
            write_folder(draft, text, {**self.get(request_id).as_json()})
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return target

    def reject(self, request_id: str, *, who: str, reason: str) -> None:
        """Decide against it; whoever asked may withdraw the own request. Raises ReleaseRefusedError."""
        one = self.get(request_id)
        if one.state is not RequestState.REQUESTED:
            raise ReleaseRefusedError(f"Request {request_id} was {one.state.value} by {one.decided_by}.")
        self._record(who, "release rejected", one)
        self._decide(one, who, RequestState.REJECTED, reason.strip()[:500] or None)

    def _decide(self, one: ReleaseRequest, who: str, state: RequestState, reason: str | None) -> None:
        from medisync.ledger.release_requests import release_requests as table

        change = (
            table.update()
            .where(table.c.request_id == one.request_id, table.c.state == RequestState.REQUESTED.value)
            .values(state=state.value, decided_by=who, decided_at=_now(), decision_reason=reason)
        )
        with self._ledger.begin() as connection:
            if connection.execute(change).rowcount != 1:
                raise ReleaseRefusedError(f"Request {one.request_id} was decided by somebody else just now.")

    def _record(self, who: str, what: str, one: ReleaseRequest, *, allowed: bool = True) -> None:
        from medisync.access import audit

        audit.record(self._ledger, who, what, f"{one.request_id} run {one.run_id}", "this machine", allowed)

    def _document(self, run_id: str) -> str:
        rows = self._lake.query(
            "SELECT document FROM analytics.results WHERE run_id = ? AND audience = 'released' LIMIT 1", [run_id]
        )
        return str(rows[0]["document"])


def write_folder(folder: Path, document: str, request: Mapping[str, Any]) -> None:
    """The document as JSON, each table and the metrics as CSV, each figure as SVG, and what was done, in words."""
    released = ReleasedDocument.model_validate_json(document)
    folder.mkdir(mode=0o700, parents=True)
    (folder / "document.json").write_text(document + "\n", encoding="utf-8")
    for name, table in released.tables.items():
        _write_csv(folder / f"{name}.csv", table.columns, [[shown_text(value) for value in row] for row in table.rows])
    _write_csv(
        folder / "metrics.csv",
        ("metric", "value"),
        [[name, shown_text(value)] for name, value in released.metrics.items()],
    )
    for figure in released.figures:
        (folder / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
    note = [f"# {released.title}", "", released.headline, "", "## What disclosure control did", ""]
    note += [f"- {sentence}" for sentence in released.note.sentences]
    note += ["", "## Who released it", "", f"- Run {request['run_id']}, request {request['request_id']}"]
    note += [
        f"- Asked for by {request['requested_by']}, {request['requested_at']:%Y-%m-%d %H:%M} UTC: {request['reason']}"
    ]
    note += [f"- Approved by {request['decided_by']}, {request['decided_at']:%Y-%m-%d %H:%M} UTC", ""]
    (folder / "NOTE.md").write_text("\n".join(note), encoding="utf-8")
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    (folder / "SHA256.json").write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([_harmless(name) for name in columns])
        writer.writerows([_harmless(value) for value in row] for row in rows)


def _harmless(text: str) -> str:
    """A spreadsheet takes text that begins like this for a formula; numbers stay numbers."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
    return text


def _request(row: Mapping[str, Any]) -> ReleaseRequest:
    return ReleaseRequest(**{**row, "state": RequestState(row["state"])})


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
