"""Reports and surges by e-mail and webhook: written to an outbox first, sent from there, tried again until they go.

Nothing waits for a mail server: whoever has something to say calls :func:`post`, which only writes a small file; the
flow ``send`` calls :func:`send_waiting`. Each address and each message is sent for itself, so that one failing does not
send another twice. A message that was taken over just before a crash may be sent again, with the same Message-ID.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import logging
import os
import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from pathlib import Path
from typing import Any

from medisync.access.principal import Audience
from medisync.errors import MediSyncError, SettingsError
from medisync.settings import Settings

FIRST_WAIT = dt.timedelta(minutes=1)
LONGEST_WAIT = dt.timedelta(hours=6)
GIVEN_UP_AFTER = dt.timedelta(days=3)
"""By then somebody has read the warning in the log, or the news is old."""

KEPT_FOR = dt.timedelta(days=90)
"""How long it is remembered that a message was sent, so that it is not posted again."""

TIMEOUT_SECONDS = 20.0
"""How long a mail server or a web server may keep silent."""

AUDIENCES: tuple[Audience, ...] = ("full", "released")

log = logging.getLogger(__name__)


class NotAllSentError(MediSyncError):
    """Some messages could not be sent; they wait in the outbox."""

    code = "not-all-sent"
    exit_code = 19
    http_status = 503


@dataclass(frozen=True)
class Message:
    """Something to say. ``key`` makes it the same message: it is posted once, however often that is asked for.

    ``audience`` says what is in it: whole results go to nobody but those who are named for them. ``shown_key`` is
    what a webhook is told in place of a key that could be guessed back into what it was made of.
    """

    key: str
    subject: str
    text: str
    details: dict[str, Any]  # what a webhook gets besides subject and text
    attachments: tuple[Path, ...] = ()
    audience: Audience = "full"
    shown_key: str | None = None


@dataclass(frozen=True)
class Sendings:
    """What one call of :func:`send_waiting` did."""

    sent: int = 0
    failed: int = 0  # will be tried again
    given_up: int = 0

    def sentence(self) -> str:
        """In words, for log and artifact."""
        return f"{self.sent} sent, {self.failed} to be tried again, {self.given_up} given up."


def recipients(settings: Settings, audience: Audience) -> tuple[str, ...]:
    """Where messages for ``audience`` go: ``mailto:`` and ``http(s)://`` addresses. Who is named for whole results
    gets no released ones beside them.

    Raises SettingsError for any address, of either audience, that is none.
    """
    full = _addresses(settings, settings.mail_to_full, settings.webhooks_full, "_FULL")
    released = _addresses(settings, settings.mail_to, settings.webhooks, "")
    return full if audience == "full" else tuple(one for one in released if one not in full)


def _addresses(settings: Settings, mail_to: str, webhooks: str, ending: str) -> tuple[str, ...]:
    mails, hooks = _listed(mail_to), _listed(webhooks)
    named = f"MEDISYNC_MAIL_TO{ending}"
    wrong = [one for one in mails if "@" not in parseaddr(one)[1] or not one.isprintable()]
    wrong += [one for one in hooks if not one.startswith(("http://", "https://"))]
    if wrong:
        raise SettingsError(f"{len(wrong)} of the addresses in {named} and MEDISYNC_WEBHOOKS{ending} are none.")
    if mails and not settings.smtp_host:
        raise SettingsError(f"{named} is set, but MEDISYNC_SMTP_HOST is not.")
    return (*dict.fromkeys(f"mailto:{one}" for one in mails), *dict.fromkeys(hooks))


def post(settings: Settings, message: Message, now: dt.datetime) -> int:
    """Put ``message`` into the outbox, once for each recipient; returns for how many it is new. ``now`` is UTC."""
    new = 0
    for address in recipients(settings, message.audience):
        name = hashlib.sha256(f"{message.key}\n{address}".encode()).hexdigest()[:32]
        if any((_outbox(settings) / state / f"{name}.json").exists() for state in ("waiting", "sent", "given-up")):
            continue
        letter = {
            "address": address,
            "key": message.shown_key or message.key,
            "subject": message.subject,
            "text": message.text,
            "details": message.details,
            "attachments": [str(path) for path in message.attachments],
            "posted_at": now.isoformat(),
            "next_try_at": now.isoformat(),
            "tries": 0,
        }
        _write(_outbox(settings) / "waiting" / f"{name}.json", letter)
        new += 1
    return new


def is_any_waiting(settings: Settings) -> bool:
    """Whether the outbox holds a message that was not sent yet."""
    return any((_outbox(settings) / "waiting").glob("*.json"))


def send_waiting(settings: Settings, now: dt.datetime, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Sendings:
    """Send what is due. A recipient that fails, or says nothing for ``timeout_seconds``, is tried again later and
    later; others are not held up. ``now``: UTC."""
    sent = failed = given_up = 0
    _forget(settings, now)
    for path, letter in _letters(settings):
        if dt.datetime.fromisoformat(letter["next_try_at"]) > now:
            continue
        try:
            _send(settings, letter, now, timeout_seconds)
        except Exception as error:  # whatever is wrong with one letter or address, the others must go
            letter["tries"] += 1
            letter["error"] = type(error).__name__ if not isinstance(error, _WebhookError) else str(error)
            wait = min(FIRST_WAIT * 2 ** (letter["tries"] - 1), LONGEST_WAIT)
            letter["next_try_at"] = (now + wait).isoformat()
            if now - dt.datetime.fromisoformat(letter["posted_at"]) > GIVEN_UP_AFTER:
                given_up += 1
                _move(settings, path, letter, "given-up")
                log.error("A message was given up after %s tries (%s).", letter["tries"], letter["error"])
            else:
                failed += 1
                _write(path, letter)
                log.warning("A message could not be sent (%s); next try in %s.", letter["error"], wait)
        else:
            sent += 1
            _move(settings, path, letter, "sent")
    return Sendings(sent, failed, given_up)


class _WebhookError(Exception):
    """The receiver did not say yes."""


def _send(settings: Settings, letter: dict[str, Any], now: dt.datetime, timeout_seconds: float) -> None:
    if letter["address"].startswith("mailto:"):
        _send_mail(settings, letter, now, timeout_seconds)
    else:
        _call_webhook(settings, letter, timeout_seconds)


def _send_mail(settings: Settings, letter: dict[str, Any], now: dt.datetime, timeout_seconds: float) -> None:
    mail = EmailMessage()
    mail["Subject"] = letter["subject"]
    mail["From"] = settings.mail_from
    mail["To"] = letter["address"].removeprefix("mailto:")
    mail["Date"] = format_datetime(now.replace(tzinfo=dt.UTC))
    mail["Message-ID"] = f"<{hashlib.sha256((letter['key'] + letter['address']).encode()).hexdigest()[:32]}@medisync>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(letter["text"])
    for name in letter["attachments"]:
        path = Path(name)
        if path.is_file():  # clean-up may have removed an old pack; the words go all the same
            kind = ("application", "pdf") if path.suffix == ".pdf" else ("text", "html")
            mail.add_attachment(path.read_bytes(), maintype=kind[0], subtype=kind[1], filename=path.name)
    context = ssl.create_default_context(cafile=str(settings.smtp_ca_file) if settings.smtp_ca_file else None)
    host, port = settings.smtp_host, settings.smtp_port
    opened: smtplib.SMTP = (
        smtplib.SMTP_SSL(host, port, timeout=timeout_seconds, context=context)
        if settings.smtp_security == "tls"
        else smtplib.SMTP(host, port, timeout=timeout_seconds)
    )
    with opened as server:
        if settings.smtp_security == "starttls":
            server.starttls(context=context)
        if settings.smtp_user:
            if settings.smtp_password_file is None:
                raise SettingsError("MEDISYNC_SMTP_USER is set, but MEDISYNC_SMTP_PASSWORD_FILE is not.")
            server.login(settings.smtp_user, settings.smtp_password_file.read_text(encoding="utf-8").strip())
        server.send_message(mail)


def _call_webhook(settings: Settings, letter: dict[str, Any], timeout_seconds: float) -> None:
    import httpx

    body = json.dumps({name: letter[name] for name in ("key", "subject", "text", "details", "posted_at")}).encode()
    headers = {"Content-Type": "application/json"}
    if settings.webhook_secret_file is not None:
        secret = settings.webhook_secret_file.read_bytes().strip()
        headers["X-MediSync-Signature"] = f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"
    try:
        answer = httpx.post(letter["address"], content=body, headers=headers, timeout=timeout_seconds)
    except httpx.HTTPError as error:
        raise _WebhookError(type(error).__name__) from None
    if not answer.is_success:
        raise _WebhookError(f"status {answer.status_code}")


def _outbox(settings: Settings) -> Path:
    return settings.outbox


def _letters(settings: Settings) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((_outbox(settings) / "waiting").glob("*.json")):
        try:
            yield path, json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # another process sent it in this moment, or the disk was full
            continue


def _write(path: Path, letter: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(letter, file)
    draft.replace(path)


def _move(settings: Settings, path: Path, letter: dict[str, Any], state: str) -> None:
    _write(_outbox(settings) / state / path.name, letter)
    path.unlink(missing_ok=True)


def _forget(settings: Settings, now: dt.datetime) -> None:
    oldest = (now - KEPT_FOR).replace(tzinfo=dt.UTC).timestamp()
    for state in ("sent", "given-up"):
        for path in (_outbox(settings) / state).glob("*.json"):
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())
