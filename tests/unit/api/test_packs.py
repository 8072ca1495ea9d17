"""Report packs through the API: each role finds those it may see, and no others."""

from __future__ import annotations

import datetime as dt

import pytest

from medisync.access.permissions import Role
from medisync.reports.pack import Pack, write_pack
from medisync.runs.published import DataState
from tests.unit.api.conftest import Door

NOW = dt.datetime(2024, 5, 7, 8, 15)  # noqa: DTZ001 - UTC, as everywhere


@pytest.fixture(scope="module")
def names(door: Door) -> dict[str, str]:
    """A pack of each audience, by audience."""
    data = DataState(12, NOW, 50_000, dt.date(2019, 5, 8), dt.date(2024, 5, 7), 1)
    made = [write_pack(door.settings, Pack(NOW, data, (), audience)) for audience in ("full", "released")]  # type: ignore[arg-type]
    return {one.audience: one.name for one in made}


@pytest.mark.parametrize(("role", "audience"), [(Role.VIEWER, "released"), (Role.CLINICIAN, "full")])
def test_packs_are_listed_and_served_as_the_role_may_see(
    door: Door, names: dict[str, str], role: Role, audience: str
) -> None:
    listed = door.get("/api/packs/", role).json()["data"]["packs"]
    assert [(one["name"], one["audience"]) for one in listed] == [(names[audience], audience)]
    assert listed[0]["made_at"] == "2024-05-07T08:15:00Z"
    page, pdf = door.get(listed[0]["html"], role), door.get(listed[0]["pdf"], role)
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert "allow-downloads" in page.headers["content-security-policy"]
    assert pdf.content.startswith(b"%PDF-")


def test_a_pack_of_whole_results_does_not_exist_for_viewers(door: Door, names: dict[str, str]) -> None:
    hidden, unknown = (
        door.get(f"/api/packs/{name}/pdf", Role.VIEWER) for name in (names["full"], "20000101T000000-000000000000")
    )
    assert hidden.status_code == unknown.status_code == 404
    assert hidden.json()["error"]["code"] == unknown.json()["error"]["code"] == "no-report"
    assert door.get(f"/api/packs/{names['released']}/pdf", Role.CLINICIAN).status_code == 200
    assert door.get("/api/packs/..%2F..%2Fdata/pdf", Role.ADMIN).status_code in (404, 422)
