"""Messages against a real mail server and a real web server: each goes once, failures are tried again."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from medisync.errors import SettingsError
from medisync.reports import sending
from medisync.reports.sending import Message, post, recipients, send_waiting
from medisync.settings import Settings
from tests.support.running import free_ports

NOW = dt.datetime(2024, 5, 7, 6, 0)  # noqa: DTZ001 - UTC, as everywhere
LATER = NOW + dt.timedelta(minutes=5)


class Postbox:
    """Takes mail; refuses while ``is_full``."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.is_full = False

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd
        if self.is_full:
            return "452 Insufficient system storage"
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=default))  # type: ignore[arg-type]
        return "250 OK"


@pytest.fixture
def postbox() -> Iterator[tuple[Postbox, int]]:
    box = Postbox()

    def authenticate(_server: object, _session: object, _envelope: object, _mechanism: str, data: Any) -> AuthResult:
        is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ward", b"secret words")
        return AuthResult(success=is_right, handled=False)  # so that it says so, and does not just fall silent

    (port,) = free_ports(1)
    server = Controller(box, hostname="127.0.0.1", port=port, authenticator=authenticate, auth_require_tls=False)
    server.start()
    yield box, port
    server.stop()


class Hook(HTTPServer):
    """Takes webhooks; answers ``status``."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, str | None]] = []
        self.status = 204

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805 - the standard library's name
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.calls.append((body, handler.headers["X-MediSync-Signature"]))
                handler.send_response(self.status)
                handler.end_headers()

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def settings(folder: Path, **values: object) -> Settings:
    return Settings(data=folder / "data", reports=folder / "reports", **values)  # type: ignore[arg-type]


def message(folder: Path, key: str = "report 2024-05-07") -> Message:
    report = folder / "pack.pdf"
    report.write_bytes(b"%PDF-1.7 report")
    return Message(key, "Hospital admissions", "Nothing unusual – σ.", {"kind": "report"}, (report,), "released")


def test_a_mail_goes_once_with_its_attachment(tmp_path: Path, postbox: tuple[Postbox, int]) -> None:
    box, port = postbox
    password = tmp_path / "password"
    password.write_text("secret words\n")
    mine = settings(
        tmp_path,
        mail_to="a@ward.example, b@ward.example",
        smtp_host="127.0.0.1",
        smtp_port=port,
        smtp_user="ward",
        smtp_password_file=password,
    )
    assert post(mine, message(tmp_path), NOW) == 2
    assert post(mine, message(tmp_path), NOW) == 0
    assert send_waiting(mine, NOW).sent == 2
    assert (post(mine, message(tmp_path), LATER), send_waiting(mine, LATER).sent) == (0, 0)
    assert sorted(mail["To"] for mail in box.mails) == ["a@ward.example", "b@ward.example"]
    body, attached = box.mails[0].walk().__next__().iter_parts()  # type: ignore[attr-defined]
    assert body.get_content().strip() == "Nothing unusual – σ."
    assert attached.get_content() == b"%PDF-1.7 report"
    assert attached.get_filename() == "pack.pdf"


def test_a_wrong_password_waits_and_goes_once_it_is_right(tmp_path: Path, postbox: tuple[Postbox, int]) -> None:
    box, port = postbox
    password = tmp_path / "password"
    password.write_text("wrong")
    mine = settings(
        tmp_path,
        mail_to="a@ward.example",
        smtp_host="127.0.0.1",
        smtp_port=port,
        smtp_user="ward",
        smtp_password_file=password,
    )
    post(mine, message(tmp_path), NOW)
    assert send_waiting(mine, NOW).failed == 1
    (letter,) = (mine.data / "outbox" / "waiting").glob("*.json")
    assert json.loads(letter.read_text())["error"] == "SMTPAuthenticationError"
    password.write_text("secret words")
    assert send_waiting(mine, LATER).sent == 1
    assert len(box.mails) == 1


def test_a_failing_address_holds_no_other_up_and_is_tried_later_and_later(
    tmp_path: Path, postbox: tuple[Postbox, int], hook: Hook
) -> None:
    box, port = postbox
    box.is_full = True
    address = f"http://127.0.0.1:{hook.server_port}/hook"
    mine = settings(tmp_path, mail_to="a@ward.example", smtp_host="127.0.0.1", smtp_port=port, webhooks=address)
    post(mine, message(tmp_path), NOW)
    done = send_waiting(mine, NOW)
    assert (done.sent, done.failed) == (1, 1)
    assert send_waiting(mine, NOW + dt.timedelta(seconds=30)).failed == 0  # not due yet
    assert send_waiting(mine, NOW + dt.timedelta(seconds=61)).failed == 1
    assert send_waiting(mine, NOW + dt.timedelta(seconds=122)).failed == 0  # the wait has doubled
    box.is_full = False
    assert send_waiting(mine, NOW + dt.timedelta(seconds=182)).sent == 1
    assert (len(box.mails), len(hook.calls)) == (1, 1)


def test_a_silent_server_and_an_address_nobody_can_use_hold_no_other_up(
    tmp_path: Path, postbox: tuple[Postbox, int]
) -> None:
    box, port = postbox
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hooks = f"http://127.0.0.1:{silent.getsockname()[1]}/,http://[nowhere/"
        mine = settings(tmp_path, mail_to="a@ward.example", smtp_host="127.0.0.1", smtp_port=port, webhooks=hooks)
        assert post(mine, message(tmp_path), NOW) == 3
        done = send_waiting(mine, NOW, timeout_seconds=0.5)
    assert done.failed == 2
    assert done.sent == len(box.mails) == 1


def test_after_three_days_it_is_given_up_and_kept(tmp_path: Path) -> None:
    mine = settings(tmp_path, webhooks="http://127.0.0.1:9/nobody")
    post(mine, message(tmp_path), NOW)
    assert send_waiting(mine, NOW).failed == 1
    assert send_waiting(mine, NOW + sending.GIVEN_UP_AFTER + dt.timedelta(hours=7)).given_up == 1
    assert not sending.is_any_waiting(mine)
    assert len(list((mine.data / "outbox" / "given-up").glob("*.json"))) == 1
    assert post(mine, message(tmp_path), NOW) == 0


def test_a_webhook_is_signed_and_a_refusal_is_a_failure(tmp_path: Path, hook: Hook) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"key\n")
    mine = settings(tmp_path, webhooks=f"http://127.0.0.1:{hook.server_port}/", webhook_secret_file=secret)
    post(mine, message(tmp_path), NOW)
    hook.status = 500
    assert send_waiting(mine, NOW).failed == 1
    hook.status = 200
    assert send_waiting(mine, LATER).sent == 1
    body, signature = hook.calls[-1]
    assert json.loads(body)["details"] == {"kind": "report"}
    assert signature == f"sha256={hmac.new(b'key', body, hashlib.sha256).hexdigest()}"


def test_without_recipients_nothing_is_written(tmp_path: Path) -> None:
    mine = settings(tmp_path)
    assert (post(mine, message(tmp_path), NOW), sending.is_any_waiting(mine)) == (0, False)
    assert not (mine.data / "outbox").exists()


def test_letters_are_for_the_owner_alone(tmp_path: Path) -> None:
    mine = settings(tmp_path, webhooks="http://127.0.0.1:9/")
    post(mine, message(tmp_path), NOW)
    (letter,) = (mine.data / "outbox" / "waiting").glob("*.json")
    assert letter.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "values",
    [
        {"mail_to_full": "nobody", "smtp_host": "x"},
        {"mail_to": "nobody", "smtp_host": "x"},
        {"mail_to": "a@b.example"},
        {"webhooks": "ftp://x"},
    ],
)
def test_addresses_that_are_none_are_said_and_not_repeated(tmp_path: Path, values: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as error:
        recipients(settings(tmp_path, **values), "released")
    assert "nobody" not in str(error.value)
