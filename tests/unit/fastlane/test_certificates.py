"""Prefect's clients share one set of certificates, and nobody else is touched."""

from __future__ import annotations

import ssl
from typing import Any

import prefect.client.orchestration as orchestration
import pytest

from medisync.fastlane import certificates


def test_certificates_are_read_once_and_by_prefect_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import certifi

    monkeypatch.setattr(orchestration, "ssl", ssl)  # what it had before comes back with the end of the test
    stock = ssl.create_default_context
    certificates.read_once()
    seen: Any = vars(orchestration)["ssl"]
    shared = seen.create_default_context(cafile=certifi.where())
    assert seen.create_default_context(cafile=certifi.where()) is shared
    assert shared.verify_mode is ssl.CERT_REQUIRED
    own = seen.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=certifi.where())
    assert own is not shared
    assert ssl.create_default_context is stock
