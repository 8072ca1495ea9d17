"""What the supervisor asks of Prefect's server."""

from __future__ import annotations

from typing import Any

import httpx
import tenacity

from medisync.access import prefect_auth
from medisync.settings import Settings

TOO_BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)


def ask(client: httpx.Client, settings: Settings, method: str, path: str, body: Any) -> httpx.Response:
    """One request to the API; raises httpx.HTTPError, also for an answer that is an error."""
    answer = client.request(
        method,
        f"{settings.prefect_api_url}{path}",
        json=body,
        auth=prefect_auth.auth(settings),
        timeout=30.0,  # the server may have come up only just now
    )
    return answer.raise_for_status()


def _is_too_busy(error: BaseException) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in TOO_BUSY


while_too_busy = tenacity.retry(
    reraise=True,
    retry=tenacity.retry_if_exception(_is_too_busy),
    wait=tenacity.wait_exponential(multiplier=0.1, max=2.0),
    stop=tenacity.stop_after_delay(30.0),
)
"""The server answers 503 while its database is, on a machine that has much else to do. It has done nothing then, and
Prefect's own clients ask again, too."""
