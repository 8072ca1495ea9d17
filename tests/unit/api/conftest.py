"""The API in this process, over a small lake with the results of all analyses; one account for each role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.api.application import create
from medisync.api.house import House
from medisync.lake import Lake
from medisync.settings import Settings
from tests.support.published import filled_lake, release
from tests.support.running import free_ports
from tests.support.serving import Serving, serving

PASSWORD = "seven green bottles on a wall"
NOBODY = 9
"""A port nobody listens on: Prefect is away."""

RELEASED = "medication_analysis"
"""The analysis whose released result is written here, with a marker in it."""

GENUINE = "illness_prediction"
"""The analysis whose result is released as disclosure control wrote it; the others' are not released."""


@dataclass
class Door:
    """The served application with a client, and a token for each role."""

    settings: Settings
    lake: Lake
    served: Serving
    client: httpx.Client
    tokens: dict[Role, str] = field(default_factory=dict)

    @property
    def house(self) -> House:
        house: House = self.served.app.state.house
        return house

    def headers(self, role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role]}"}

    def get(self, path: str, role: Role = Role.ANALYST, **headers: str) -> httpx.Response:
        return self.client.get(path, headers={**self.headers(role), **headers})


@pytest.fixture(scope="session")
def answered_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("api")
    [port] = free_ports(1)
    settings = Settings(data=folder / "data", reports=folder / "reports", api_port=port, prefect_port=NOBODY)
    lake = filled_lake(settings, folder)
    run = lake.query("SELECT run_id FROM analytics.runs WHERE analysis = ?", [RELEASED])[0]["run_id"]
    with lake.transaction("only one stays released") as transaction:
        transaction.execute(
            "DELETE FROM lake.analytics.results WHERE audience = 'released' AND analysis <> ?", [GENUINE]
        )
    release(lake, run, RELEASED, released_document())
    yield lake
    lake.close()


@pytest.fixture(scope="session")
def door(answered_lake: Lake) -> Iterator[Door]:
    settings = answered_lake.settings
    accounts = Access.open(settings).accounts
    with (
        serving(create(settings), settings.api_port) as served,
        httpx.Client(base_url=served.url, timeout=120) as client,
    ):
        opened = Door(settings, answered_lake, served, client)
        for role in Role:
            accounts.add(role.value, role, PASSWORD, must_change=False)
            answer = client.post("/api/auth/token", json={"username": role.value, "password": PASSWORD})
            opened.tokens[role] = answer.json()["data"]["access_token"]
        yield opened


def released_document() -> str:
    """As disclosure control writes it: one count is a marker."""
    marker = {"withheld": "small", "below": 10, "text": "fewer than 10"}
    return json.dumps(
        {
            "audience": "released",
            "schema_version": 1,
            "analysis": RELEASED,
            "title": "Medication analysis",
            "headline": "Released: five medications.",
            "finding": "nothing",
            "metrics": {"medications_count": 5, "patients_count": marker},
            "tables": {
                "medications": {
                    "title": "Medications",
                    "columns": ["medication", "patients"],
                    "rows": [["Aspirin", 80], ["Penicillin", marker]],
                }
            },
            "figures": [],
            "warnings": [],
        }
    )
