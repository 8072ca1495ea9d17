"""Certificates read once a process instead of by each of Prefect's clients, of which a flow run makes half a dozen."""

from __future__ import annotations

import functools
import ssl
import types
from typing import Any


def read_once() -> None:
    """Let Prefect's clients share what they would each take 20 ms to read."""
    import certifi
    import prefect.client.orchestration as orchestration
    from prefect.settings import PREFECT_API_SSL_CERT_FILE

    made = ssl.create_default_context
    kept = functools.cache(lambda cafile: made(cafile=cafile))

    def create_default_context(*arguments: Any, cafile: str | None = None, **options: Any) -> ssl.SSLContext:
        if cafile is None or arguments or options:  # one whose checks its maker may switch off
            return made(*arguments, cafile=cafile, **options)
        return kept(cafile)

    seen = types.SimpleNamespace(**{**vars(ssl), "create_default_context": create_default_context})
    vars(orchestration)["ssl"] = seen  # there alone
    create_default_context(cafile=PREFECT_API_SSL_CERT_FILE.value() or certifi.where())
