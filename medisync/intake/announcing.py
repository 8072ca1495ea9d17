"""How a claimed delivery reaches the flow ``deliver``.

Prefect's pipeline from an event to a run of the deployment takes 0.2 seconds at best and over two at times, so the flow
run is asked for directly, with the delivery's id as its idempotency key: asked twice, there is one. The event
``medisync.file.arrived`` is told beside it, for whoever else wants to know. A delivery whose flow run came to nothing
needs another one, so it is announced by the event ``medisync.file.waiting``, which triggers the deployment; anybody may
emit that one, too.
"""

from __future__ import annotations

import datetime as dt
import uuid

import httpx

from medisync.fastlane import bell
from medisync.settings import Settings

DEPLOYMENT = "deliver"
ARRIVED = "medisync.file.arrived"
WAITING = "medisync.file.waiting"
"""The trigger in ``prefect.yaml`` expects it."""


class Announcer:
    """Tells the Prefect server of deliveries. Every method raises httpx.HTTPError when the server does not take it."""

    def __init__(self, settings: Settings, client: httpx.Client) -> None:
        self._settings = settings
        self._client = client
        self._deployment_id: str | None = None

    def arrived(self, delivery_id: str, source: str) -> None:
        """Have a flow run made for the delivery, one however often this is called, and tell that its file arrived."""
        self._request_run(delivery_id)
        bell.ring(self._settings)
        self._tell(ARRIVED, delivery_id, source)

    def waiting(self, delivery_id: str, source: str) -> None:
        """Have a further flow run made: the first is gone or was never begun."""
        self._tell(WAITING, delivery_id, source)

    def _request_run(self, delivery_id: str) -> None:
        request = {
            "parameters": {"delivery_id": delivery_id},
            "state": {"type": "SCHEDULED"},
            "name": delivery_id,
            "tags": ["medisync"],
            "idempotency_key": f"delivery {delivery_id}",
        }
        answer = self._client.post(f"/deployments/{self._known_deployment()}/create_flow_run", json=request)
        if answer.status_code == httpx.codes.NOT_FOUND:  # deployed anew since
            self._deployment_id = None
            answer = self._client.post(f"/deployments/{self._known_deployment()}/create_flow_run", json=request)
        answer.raise_for_status()

    def _known_deployment(self) -> str:
        if self._deployment_id is None:
            answer = self._client.get(f"/deployments/name/{DEPLOYMENT}/{DEPLOYMENT}")
            answer.raise_for_status()
            self._deployment_id = str(answer.json()["id"])
        return self._deployment_id

    def _tell(self, event: str, delivery_id: str, source: str) -> None:
        told = {
            "id": str(uuid.uuid4()),
            "occurred": dt.datetime.now(dt.UTC).isoformat(),
            "event": event,
            "resource": {"prefect.resource.id": f"medisync.file.{delivery_id}", "medisync.source": source},
            "payload": {"delivery_id": delivery_id, "source": source},
        }
        self._client.post("/events", json=[told]).raise_for_status()
