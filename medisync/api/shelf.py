"""The latest results, ready to be sent: made once per snapshot and run, for each audience, kept as bytes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medisync.access.principal import Audience
from medisync.analyses.contract import Result
from medisync.api import metrics
from medisync.api.envelope import dumped
from medisync.api.errors import NoResultError, WithheldError
from medisync.api.moment import moment
from medisync.api.results import as_data, schema_name
from medisync.errors import UnknownAnalysisError
from medisync.lake import Lake
from medisync.runs import registry
from medisync.runs.published import (
    DataState,
    DeliveryLine,
    Freshness,
    Published,
    data_state,
    published,
    recent_deliveries,
)

SHOWN_DELIVERIES = 10


@dataclass(frozen=True)
class Ready:
    """An answer as bytes, told apart by whether the lake was read for it; each form has a strong tag of its own."""

    cached: bytes
    read: bytes
    tag: str
    cached_tag: bytes

    @classmethod
    def of(cls, message: str, data: Any) -> Ready:
        head, tail = dumped({"success": True, "message": message})[:-1], b',"data":' + dumped(data) + b"}"
        digest = hashlib.sha256(head + tail).hexdigest()[:32]
        return cls(head + b',"cached":true' + tail, head + b',"cached":false' + tail, digest, b'"%s"' % digest.encode())

    def etag(self, *, is_cached: bool) -> str:
        return f'"{self.tag}"' if is_cached else f'"{self.tag}-read"'


@dataclass
class State:
    """What is published as of one snapshot. Never changed but for answers that are made when first asked for."""

    snapshot_id: int
    signature: Hashable
    shelf: Mapping[str, Published]
    released: Mapping[str, str]
    """Run id -> the released document, of those runs that have one."""
    data: DataState | None = None
    deliveries: tuple[DeliveryLine, ...] = ()
    ready: dict[Hashable, Ready] = field(default_factory=dict)


class Shelf:
    """The published results of one lake in one process. ``refresh`` reads; everything else is memory."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._turn = threading.Lock()
        self.state: State | None = None

    def refresh(self) -> State:
        """The state of the newest snapshot, read when it is not in memory yet. Blocks; raises what the lake raises."""
        with self._turn:
            signature = self.signature()
            if self.state is None or self.state.signature != signature:
                self.state = self._read(signature)
            return self.state

    def signature(self) -> Hashable:
        """What the shelf depends on: the newest snapshot and the analysis notebooks."""
        paths = sorted(self._lake.settings.analyses.glob("*.ipynb"))
        notebooks = tuple((path.name, path.stat().st_mtime_ns) for path in paths if path.exists())
        return self._lake.last_snapshot_id(), notebooks

    def _read(self, signature: Hashable) -> State:
        before = self.state
        snapshot_id = self._lake.last_snapshot_id()
        if not snapshot_id or (before is not None and snapshot_id < before.snapshot_id):
            self._lake.close()  # the lake was removed, or replaced by a younger one
            before = None
        if not snapshot_id:
            notebooks = registry.analyses(self._lake.settings)
            never = {one.analysis: Published(one.analysis, one.title, Freshness.NEVER) for one in notebooks}
            return State(0, signature, never, {})
        known: dict[str, Result] = {}
        if before is not None:
            shown = (one for one in before.shelf.values() if one.record is not None and one.result is not None)
            known = {one.record.run_id: one.result for one in shown if one.record and one.result}
        with moment(self._lake) as lake:
            shelf = {one.analysis: one for one in published(lake, known=known)}
            state = State(
                lake.last_snapshot_id(),
                signature,
                shelf,
                released_documents(lake, [one.record.run_id for one in shelf.values() if one.record]),
                data_state(lake),
                tuple(recent_deliveries(lake, SHOWN_DELIVERIES)),
            )
        if before is not None:
            state.ready.update(self._still_right(before, state))
        for analysis in shelf:
            for audience in ("full", "released"):
                self._prepare(state, analysis, audience)
        self._count(state)
        return state

    def _still_right(self, before: State, now: State) -> dict[Hashable, Ready]:
        """Answers of the state before that hold for this one, too: a commit seldom concerns all of them."""
        return {
            key: one
            for key, one in before.ready.items()
            if isinstance(key, tuple)
            and key[0] in now.shelf
            and now.shelf[key[0]] == before.shelf.get(key[0])
            and _released_of(now, key[0]) == _released_of(before, key[0])
        }

    def _prepare(self, state: State, analysis: str, audience: Audience) -> None:
        if state.shelf[analysis].result is not None and (audience == "full" or _released_of(state, analysis)):
            state.ready.setdefault((analysis, audience, False), _made(state, analysis, audience, figures=False))

    def _count(self, state: State) -> None:
        metrics.SNAPSHOT.set(state.snapshot_id)
        for analysis, one in state.shelf.items():
            metrics.RESULT_CURRENT.labels(analysis).set(one.freshness is Freshness.CURRENT)
            if one.record is not None:
                metrics.RESULT_AGE.labels(analysis).set(one.record.finished_at.timestamp())


def latest(state: State, analysis: str, audience: Audience, *, figures: bool) -> Ready | None:
    """The answer for one analysis from memory; None when it must be made first (:func:`make_latest`).

    Raises UnknownAnalysisError, NoResultError, WithheldError.
    """
    found = state.ready.get((analysis, audience, figures))
    if found is None:
        _require(state, analysis, audience)
    return found


def make_latest(state: State, analysis: str, audience: Audience, *, figures: bool) -> Ready:
    """As :func:`latest`, made now and kept."""
    _require(state, analysis, audience)
    return state.ready.setdefault((analysis, audience, figures), _made(state, analysis, audience, figures=figures))


def latest_data(state: State, analysis: str, audience: Audience, *, figures: bool = False) -> dict[str, Any]:
    """One analysis as a dashboard shows it; ``result`` is null when there is none, or none for this audience."""
    one = state.shelf[analysis]
    document = _document(state, one, audience)
    record = one.record
    return {
        "type": one.analysis,
        "title": one.title,
        "freshness": one.freshness.value,
        "reason": reason_for(one, audience),
        "audience": audience,
        "run_id": record.run_id if record else None,
        "snapshot": record.snapshot_id if record else None,
        "parameters": record.parameters if record else None,
        "finished_at": record.finished_at.isoformat() if record else None,
        "schema": schema_name(one.analysis),
        "is_withheld": record is not None and one.result is not None and document is None,
        "result": None if document is None else as_data(document, figures=figures),
    }


def reason_for(one: Published, audience: Audience) -> str | None:
    """Why a result is not current. What a failed run said may hold anything: not for everybody."""
    if audience == "full" or one.reason is None or one.freshness is Freshness.UPDATING:
        return one.reason
    return "The latest run failed."


def released_documents(lake: Lake, run_ids: list[str]) -> dict[str, str]:
    """Run id -> released document, for those of ``run_ids`` that disclosure control has passed."""
    if not run_ids:
        return {}
    marks = ", ".join("?" for _ in run_ids)
    rows = lake.query(
        f"SELECT run_id, document FROM analytics.results WHERE audience = 'released' AND run_id IN ({marks})", run_ids
    )
    return {row["run_id"]: row["document"] for row in rows}


def _require(state: State, analysis: str, audience: Audience) -> None:
    one = state.shelf.get(analysis)
    if one is None:
        raise UnknownAnalysisError("There is no analysis of this name.", hint=f"Known: {', '.join(state.shelf)}.")
    if one.result is None:
        raise NoResultError(
            f"{one.title} has no result yet.{f' {reason}' if (reason := reason_for(one, audience)) else ''}",
            hint="POST /api/analytics/ asks for a run; it needs a role that may.",
        )
    if audience == "released" and not _released_of(state, analysis):
        raise WithheldError(
            "This result has not been released.",
            hint="It is shown after disclosure control has passed it; other roles may see full results.",
        )


def _made(state: State, analysis: str, audience: Audience, *, figures: bool) -> Ready:
    one = state.shelf[analysis]
    reason = reason_for(one, audience)
    message = f"{one.title}: {'the latest result.' if reason is None else f'an earlier result. {reason}'}"
    return Ready.of(message, latest_data(state, analysis, audience, figures=figures))


def _document(state: State, one: Published, audience: Audience) -> dict[str, Any] | None:
    if one.result is None:
        return None
    if audience == "full":
        return one.result.model_dump(mode="json")
    text = _released_of(state, one.analysis)
    return None if text is None else json.loads(text)


def _released_of(state: State, analysis: str) -> str | None:
    record = state.shelf[analysis].record if analysis in state.shelf else None
    return None if record is None else state.released.get(record.run_id)
