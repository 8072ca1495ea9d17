"""Prefect through its API: the API's tasks are flow runs, and Prefect is the truth about them."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
from dataclasses import dataclass
from typing import Any, Self

import httpx

from medisync.access import prefect_auth
from medisync.api.errors import OrchestratorAwayError, UnknownTaskError
from medisync.fastlane import bell
from medisync.settings import Settings

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Pauses before a request that Prefect could not do just then is sent again; each varies by half of itself, so that
requests which got into each other's way do not meet again."""
AWAY = "The Prefect server does not answer, so nothing can be started; results can still be read."

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
WAITING = frozenset({"SCHEDULED", "PENDING", "PAUSED"})


@dataclass(frozen=True)
class FlowRun:
    """A flow run as the API needs it. Times are UTC."""

    id: str
    deployment: str
    state: str
    parameters: dict[str, Any]
    requested_at: dt.datetime | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Self:
        return cls(
            id=str(answer["id"]),
            deployment=str((answer.get("labels") or {}).get("prefect.deployment.name", "")),
            state=str(answer.get("state_type") or "SCHEDULED"),
            parameters=answer.get("parameters") or {},
            requested_at=_moment(answer.get("created")),
            started_at=_moment(answer.get("start_time")),
            finished_at=_moment(answer.get("end_time")),
        )


@dataclass(frozen=True)
class Step:
    """One task run of a flow run; those of a round are named like their analysis."""

    name: str
    state: str


class Orchestrator:
    """Prefect's server. Every method raises OrchestratorAwayError when it does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(
            base_url=settings.prefect_api_url,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            auth=prefect_auth.auth(settings),
        )
        self._deployments: dict[str, str] = {}
        self._requesting = asyncio.Lock()

    async def close(self) -> None:
        await self._client.aclose()

    async def is_well(self) -> bool:
        try:
            return (await self._client.get("/health", timeout=2.0)).is_success
        except httpx.HTTPError:
            return False

    async def newest(self, tag: str) -> FlowRun | None:
        """The newest flow run that was requested under ``tag``."""
        body = {"flow_runs": {"tags": {"all_": [tag]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
        found = await self._ask("POST", "/flow_runs/filter", body)
        return FlowRun.of(found[0]) if found else None

    async def request(self, deployment: str, parameters: dict[str, Any], *, tag: str) -> tuple[FlowRun, bool]:
        """The flow run that is going on under ``tag``, or a new one; and whether it was there already.

        Two requests at once get the same: in this process one waits for the other; in two processes both know the
        same newest run, so both bring Prefect the same key, and Prefect makes one flow run a key.
        """
        async with self._requesting:
            return await self._requested(deployment, parameters, tag)

    async def _requested(self, deployment: str, parameters: dict[str, Any], tag: str) -> tuple[FlowRun, bool]:
        before = await self.newest(tag)
        if before is not None and not before.is_over:
            return before, True
        key = f"{tag} after {before.id if before is not None else 'nothing'}"
        body = {
            "parameters": parameters,
            "state": {"type": "SCHEDULED"},
            "tags": ["medisync", "api", tag],
            "idempotency_key": key,
        }
        answer = await self._send("POST", f"/deployments/{await self._id_of(deployment)}/create_flow_run", body)
        if answer.status_code == 404:  # deployed anew since
            self._deployments.pop(deployment, None)
            answer = await self._send("POST", f"/deployments/{await self._id_of(deployment)}/create_flow_run", body)
        made = FlowRun.of(_checked(answer))
        bell.ring(self._settings)
        return made, answer.status_code == 200

    async def flow_run(self, flow_run_id: str) -> FlowRun:
        """One flow run; raises UnknownTaskError."""
        answer = await self._send("GET", f"/flow_runs/{flow_run_id}")
        if answer.status_code in (404, 422):
            raise UnknownTaskError("There is no task of this id.")
        return FlowRun.of(_checked(answer))

    async def steps(self, flow_run_id: str) -> list[Step]:
        """The task runs of a flow run."""
        body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "limit": 200}
        found = await self._ask("POST", "/task_runs/filter", body)
        return [Step(str(one["name"]), str(one.get("state_type") or "PENDING")) for one in found]

    async def _id_of(self, deployment: str) -> str:
        if deployment not in self._deployments:
            answer = await self._send("GET", f"/deployments/name/{deployment}/{deployment}")
            if answer.status_code == 404:
                raise OrchestratorAwayError(
                    "The Prefect server does not know the flows yet.", hint="medisync up registers them; try again."
                )
            self._deployments[deployment] = str(_checked(answer)["id"])
        return self._deployments[deployment]

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return _checked(await self._send(method, path, body))

    async def _send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request; tried again where Prefect could not do it just then. Two that bring one key at the same moment
        meet in its database, where one of them fails; everything sent from here may be sent twice."""
        try:
            answer = await self._client.request(method, path, json=body)
            for wait_seconds in RETRY_SECONDS:
                if not (answer.is_server_error or answer.status_code == httpx.codes.CONFLICT):
                    break
                await asyncio.sleep(wait_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - a pause, no secret
                answer = await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise OrchestratorAwayError(AWAY, hint="Try again in a moment; /api/health shows each part.") from error
        return answer


def _checked(answer: httpx.Response) -> Any:
    if not answer.is_success:
        log.warning("The Prefect server answered %s", answer.status_code)
        raise OrchestratorAwayError(
            f"The Prefect server could not do this ({answer.status_code}).", hint="Its log says why."
        )
    return answer.json()


def _moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text).astimezone(dt.UTC)
