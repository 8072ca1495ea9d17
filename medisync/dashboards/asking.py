"""The doors by which an analyst's page asks for a run and hears how far it is: both lead to the API, as that visitor.

The page's own server starts nothing: it hands the request and the visitor's session on, and the API checks role and
parameters, writes the audit log and asks Prefect, as for any program.
"""

from __future__ import annotations

import json
from typing import Any

import tornado.web
from jupyter_server.base.handlers import JupyterHandler
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from medisync.access.gate import CSRF_HEADER, csrf_cookie, session_cookie
from medisync.access.jupyter import access
from medisync.access.permissions import Permission
from medisync.dashboards.refusing import ErrorPage
from medisync.errors import MediSyncError
from medisync.settings import Settings

ASK_PATH = "runs/ask"
STATUS_PATH = r"runs/status/([0-9a-f-]{36})"
WAIT_SECONDS = 60.0
MOST_BYTES = 20_000


class ForwardHandler(ErrorPage, JupyterHandler):
    """Hands a request to the API on behalf of the visitor, who needs the right to start runs."""

    def initialize(self, settings_of_workspace: Settings) -> None:
        self._workspace = settings_of_workspace

    def _require_trigger(self) -> None:
        principal = self.medisync_principal  # type: ignore[attr-defined,unused-ignore]
        if principal.may(Permission.TRIGGER):
            return
        try:
            where = str(self.request.remote_ip or "unknown")
            asked = f"{self.request.method} {self.request.path}"
            access().record(principal.name, f"refused: {Permission.TRIGGER.value}", asked, where, False)
        except MediSyncError as error:
            raise tornado.web.HTTPError(error.http_status, "%s", error.message) from None
        raise tornado.web.HTTPError(403, "The role %s does not allow this", principal.role.value)

    async def _forward(self, method: str, path: str, body: bytes | None = None) -> None:
        """The API's answer, its status and its words, as ours."""
        session = session_cookie(self._workspace)
        headers = {
            "Cookie": f"{session}={self.get_cookie(session) or ''}",
            CSRF_HEADER: self.get_cookie(csrf_cookie(self._workspace)) or "",
            "Content-Type": "application/json",
        }
        request = HTTPRequest(
            f"{self._workspace.api_url}{path}",
            method,
            headers,
            body,
            request_timeout=WAIT_SECONDS,
            follow_redirects=False,
        )
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        try:
            answer = await AsyncHTTPClient().fetch(request, raise_error=False)
        except OSError:
            self._say(503, "The API does not answer, so nothing can be started now.")
            return
        if answer.code == 599 or not answer.body:  # tornado's own: no answer in time
            self._say(503, "The API did not answer in time.")
            return
        self.set_status(answer.code)
        self.finish(answer.body)

    def _say(self, status: int, message: str) -> None:
        said: dict[str, Any] = {"success": False, "message": message, "data": None}
        self.set_status(status)
        self.finish(json.dumps(said))


class AskHandler(ForwardHandler):
    """Ask for a run; Jupyter's own XSRF token must come with it."""

    @tornado.web.authenticated
    async def post(self) -> None:
        self._require_trigger()
        if len(self.request.body) > MOST_BYTES:
            raise tornado.web.HTTPError(413)
        await self._forward("POST", "api/analytics/", self.request.body)


class StatusHandler(ForwardHandler):
    """How far a run is that was asked for."""

    @tornado.web.authenticated
    async def get(self, task_id: str) -> None:
        self._require_trigger()
        await self._forward("GET", f"api/analytics/status/{task_id}/")
