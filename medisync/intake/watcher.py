"""Watches the inbox: claims complete files and announces each to the Prefect server.

Started by ``medisync up`` as ``python -m medisync.intake.watcher``. Any number may run; each file is claimed once. What
was claimed and not finished, by whatever crash, is announced again.
"""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

import httpx

from medisync.access import prefect_auth
from medisync.ending import ToldToEnd
from medisync.intake import arrival, turns
from medisync.intake.ahead import Ahead
from medisync.intake.announcing import Announcer
from medisync.intake.inbox_notices import InboxNotices
from medisync.intake.repeats import Repeats
from medisync.ledger import Claim, Claims, ClaimState, open_ledger
from medisync.settings import Settings, load_settings

ANNOUNCE_AGAIN_SECONDS = 60.0
"""An announced delivery that nobody is working on after this time was lost on its way; loading twice is harmless."""

MOST_AT_ONCE = 100
"""Of more files that come at once the first are announced before the next are claimed, so that loading begins."""

log = logging.getLogger("medisync.watcher")


class Watcher:
    """One watcher over one workspace's inbox."""

    def __init__(self, settings: Settings) -> None:
        settings.make_folders()
        self._settings = settings
        self._claims = Claims(open_ledger(settings))
        self._notices = InboxNotices(settings.inbox)
        self._completeness = arrival.Completeness(settings.inbox_settle_seconds, self._notices)
        self._repeats = Repeats(settings)
        auth = prefect_auth.auth(settings)
        self._client = httpx.Client(base_url=settings.prefect_api_url, auth=auth, timeout=10.0)
        self._announcer = Announcer(settings, self._client)
        self._ahead = Ahead(settings)
        self._is_server_away = False
        self._complained_of: set[Path] = set()

    def step(self) -> bool:
        """Look once: claim what is complete, record what was loaded before, announce the rest. Whether that was all."""
        self._ahead.is_busy()  # lets go of a process that has ended
        claimed = self.claim_complete_files()
        for delivery_id in claimed:
            self._answer_repeat(delivery_id)
        self.announce_open_claims()
        return len(claimed) < MOST_AT_ONCE

    def wait(self) -> None:
        """Until something happens in the inbox, at most until it is time to look."""
        self._notices.wait(self._settings.inbox_poll_seconds)

    def claim_complete_files(self) -> list[str]:
        """Claim the complete files of the inbox, at most MOST_AT_ONCE; the ids of the deliveries made of them."""
        present = list(arrival.waiting(self._settings))
        paths = {path for _, path in present}
        self._completeness.forget_missing(paths)
        self._complained_of &= paths
        claimed = []
        for source, path in sorted(present, key=lambda one: (arrival.arrived_at(one[1]), one[1].name)):
            try:
                if not self._completeness.is_complete(path):
                    continue
                delivery_id = arrival.claim(self._settings, path, source)
            except OSError as error:
                if path not in self._complained_of:  # said once: it is looked at several times a second
                    self._complained_of.add(path)
                    log.error("A file of source %s cannot be claimed: %s", source, error.strerror)
                continue
            if delivery_id is not None:
                self._claims.add(delivery_id, source)
                log.info("Claimed delivery %s of source %s", delivery_id, source)
                claimed.append(delivery_id)
            if len(claimed) == MOST_AT_ONCE:
                break
        return claimed

    def announce_open_claims(self) -> None:
        """Tell the server of the oldest delivery of each source that waits and that nobody is taking.

        Who takes it takes the source's others, too, so they are not announced while it has the turn or is expected.
        """
        in_processing = arrival.claimed(self._settings)
        known = {claim.delivery_id: claim for claim in self._claims.open()}
        for gone in known.keys() - set(in_processing):
            self._claims.finished(gone)
        waiting: dict[str, list[Claim]] = {}
        for delivery_id in in_processing:
            found = arrival.claimed_file(self._settings, delivery_id)
            if found is None:
                arrival.remove_abandoned(self._settings, delivery_id)
                continue
            claim = known.get(delivery_id) or self._find_or_add(delivery_id, found[0])
            if claim is not None:
                waiting.setdefault(found[0], []).append(claim)
        for source, claims in waiting.items():
            if any(self._is_expected(claim) for claim in claims) or not turns.is_free(self._settings, source):
                continue
            oldest = next((claim for claim in claims if self._is_nobody_at(claim.delivery_id)), None)
            if oldest is not None and self._announce(oldest.delivery_id, source):
                self._claims.announced(oldest.delivery_id)

    def _find_or_add(self, delivery_id: str, source: str) -> Claim | None:
        """The claim of a delivery that another process made, unless that process is still at it."""
        claim = self._claims.get(delivery_id)
        if claim is not None:  # it was put down as finished before it was
            return claim
        if not self._is_nobody_at(delivery_id):
            return None
        self._claims.add(delivery_id, source)  # by ``medisync ingest``, or a watcher that died before its ledger knew
        return self._claims.get(delivery_id)

    @staticmethod
    def _is_expected(claim: Claim) -> bool:
        """Whether a claim was announced so recently that somebody may still come for it."""
        if claim.state is not ClaimState.ANNOUNCED or claim.announced_at is None:
            return False
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        return (now - claim.announced_at).total_seconds() < ANNOUNCE_AGAIN_SECONDS

    def _is_nobody_at(self, delivery_id: str) -> bool:
        with arrival.sole_worker(self._settings, delivery_id) as is_sole:
            return is_sole

    def close(self) -> None:
        self._client.close()
        self._notices.close()
        self._repeats.close()

    def _answer_repeat(self, delivery_id: str) -> None:
        report = self._repeats.answer(delivery_id)
        if report is not None:
            self._claims.finished(delivery_id)
            log.info("Recorded delivery %s: %s", delivery_id, report.status.value)

    def _announce(self, delivery_id: str, source: str) -> bool:
        claim = self._claims.get(delivery_id)
        is_again = claim is not None and claim.announced_at is not None
        try:
            (self._announcer.waiting if is_again else self._announcer.arrived)(delivery_id, source)
        except httpx.HTTPError as error:
            if not self._is_server_away:
                log.warning("The Prefect server does not take deliveries (%s); trying again.", type(error).__name__)
            self._is_server_away = True
            return False
        if self._is_server_away:
            log.info("The Prefect server takes deliveries again.")
        self._is_server_away = False
        log.info("Announced delivery %s", delivery_id)
        if not is_again:
            self._ahead.begin(delivery_id)
        return True


def main() -> None:
    """Watch until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    told_to_end = ToldToEnd()
    settings = load_settings()
    watcher = Watcher(settings)
    log.info("Watching the inbox")
    while not told_to_end:
        is_all = True
        try:
            is_all = watcher.step()
        except Exception:
            log.exception("The inbox could not be looked at; trying again.")
        if is_all:
            watcher.wait()
    watcher.close()


if __name__ == "__main__":
    main()
