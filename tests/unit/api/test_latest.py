"""``GET /api/analytics``: memory, tags, audiences."""

from __future__ import annotations

import json

import pytest

from medisync.access.permissions import Role
from medisync.api.results import MODELS, ReleasedResult
from medisync.runs import planning
from tests.support.published import computed, publish_result
from tests.support.running import wait_until
from tests.unit.api.conftest import GENUINE, RELEASED, Door

ANALYSIS = "patient_demographics"
PATH = f"/api/analytics/?type={ANALYSIS}"


@pytest.mark.parametrize("analysis", sorted(MODELS))
def test_every_result_is_what_its_schema_says(door: Door, analysis: str) -> None:
    answer = door.get(f"/api/analytics/?type={analysis}")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["success"], body["cached"]) == (True, True)
    data = body["data"]
    assert (data["type"], data["freshness"], data["audience"]) == (analysis, "current", "full")
    assert data["schema"] == f"{analysis}.v1"
    MODELS[analysis].model_validate(data["result"])
    assert "lake_rows" not in data["result"]
    assert all("svg" not in figure for figure in data["result"]["figures"])


def test_both_forms_of_the_address_give_the_same(door: Door) -> None:
    with_slash, without = door.get(PATH), door.get(PATH.replace("/?", "?"))
    assert with_slash.content == without.content


def test_the_tag_saves_the_transfer(door: Door) -> None:
    first = door.get(PATH)
    etag = first.headers["etag"]
    assert not etag.startswith("W/")
    for given in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = door.get(PATH, **{"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert door.get(PATH, **{"If-None-Match": '"other"'}).status_code == 200
    assert "Authorization" in first.headers["vary"]
    assert first.headers["cache-control"] == "private, no-cache"


def test_drawings_come_when_asked_for_and_are_then_kept(door: Door) -> None:
    path = f"{PATH}&figures=true"
    first, again = door.get(path), door.get(path)
    assert first.json()["data"]["result"]["figures"][0]["svg"].startswith("<svg")
    assert (first.json()["cached"], again.json()["cached"]) == (False, True)
    assert first.headers["etag"] != again.headers["etag"]  # other bytes, other tag


def test_a_commit_replaces_what_is_in_memory(door: Door) -> None:
    before = door.get(PATH)
    [plan] = planning.plan(door.lake, [ANALYSIS], force=True)
    record = publish_result(door.lake, plan, computed(door.settings, plan))
    newest = door.get(PATH, **{"Cache-Control": "no-cache"})
    assert newest.json()["data"]["run_id"] == record.run_id
    after = wait_until(
        lambda: answer if (answer := door.get(PATH)).json()["data"]["run_id"] == record.run_id else None,
        seconds=10,
        what="the new result is served from memory",
    )
    assert after.json()["cached"]
    assert after.headers["etag"] != before.headers["etag"]
    assert door.get(PATH, **{"If-None-Match": before.headers["etag"]}).status_code == 200


def test_reading_past_the_memory_says_so(door: Door) -> None:
    [plan] = planning.plan(door.lake, ["patient_volume_prediction"], force=True)
    result = computed(door.settings, plan)
    path = "/api/analytics/?type=patient_volume_prediction"
    door.served.run(door.house.hub.close_poller())
    try:
        record = publish_result(door.lake, plan, result)
        stale = door.get(path)
        assert (stale.json()["cached"], stale.json()["data"]["run_id"] == record.run_id) == (True, False)
        read = door.get(path, **{"Cache-Control": "no-cache"})
        assert (read.json()["cached"], read.json()["data"]["run_id"]) == (False, record.run_id)
        again = door.get(path)
        assert (again.json()["cached"], again.json()["data"]) == (True, read.json()["data"])
    finally:
        door.served.run(door.house.hub.start())


def test_a_viewer_gets_what_is_released_and_nothing_else(door: Door) -> None:
    withheld = door.get("/api/analytics/?type=patient_health_trends", Role.VIEWER)
    assert (withheld.status_code, withheld.json()["error"]["code"]) == (404, "withheld")
    released = door.get(f"/api/analytics/?type={RELEASED}", Role.VIEWER)
    data = released.json()["data"]
    assert (data["audience"], data["result"]["headline"]) == ("released", "Released: five medications.")
    assert data["result"]["tables"]["medications"]["rows"][1]["patients"]["text"] == "fewer than 10"
    ReleasedResult.model_validate(data["result"])
    full = door.get(f"/api/analytics/?type={RELEASED}", Role.CLINICIAN)
    assert full.json()["data"]["result"]["headline"] != data["result"]["headline"]
    assert full.headers["etag"] != released.headers["etag"]


def test_a_viewer_s_tag_opens_nothing_for_others(door: Door) -> None:
    etag = door.get(f"/api/analytics/?type={RELEASED}", Role.VIEWER).headers["etag"]
    assert door.get(f"/api/analytics/?type={RELEASED}", Role.ANALYST, **{"If-None-Match": etag}).status_code == 200


def test_the_dashboard_has_everything_of_one_moment(door: Door) -> None:
    data = door.get("/api/analytics/realtime/").json()["data"]
    shown = {one["type"]: one for one in data["analyses"]}
    assert shown.keys() >= set(MODELS)
    assert all(shown[name]["result"] is not None for name in MODELS)
    assert data["data"]["admissions"] == 400
    assert data["deliveries"][0]["created"] == 400
    assert data["running"] == []
    assert door.get("/api/analytics/realtime").json()["cached"]


def test_the_dashboard_of_a_viewer_names_what_is_withheld(door: Door) -> None:
    answer = door.get("/api/analytics/realtime/", Role.VIEWER)
    data = answer.json()["data"]
    shown = {one["type"]: one for one in data["analyses"]}
    assert shown[RELEASED]["result"]["audience"] == "released"
    withheld = {name for name in MODELS if shown[name]["is_withheld"]}
    assert withheld >= {"patient_health_trends", "illness_surge_prediction"}
    assert all(shown[name]["result"] is None for name in withheld)
    ReleasedResult.model_validate(shown[GENUINE]["result"])  # as disclosure control wrote it
    assert data["data"] is None
    assert data["deliveries"][0].get("created") is None
    assert "400" not in json.dumps(data["deliveries"])


@pytest.mark.parametrize("name", ["no_such_analysis", "full_analysis"])
def test_an_unknown_analysis_is_404(door: Door, name: str) -> None:
    answer = door.get(f"/api/analytics/?type={name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown-analysis")
    assert name not in answer.text.replace("Known:", "") or name == "full_analysis"


def test_who_read_what_is_in_the_audit_log_once(door: Door) -> None:
    house = door.house
    for _ in range(3):
        door.get(PATH, Role.CLINICIAN)
    run_id = door.get(PATH, Role.CLINICIAN).json()["data"]["run_id"]

    def rows() -> list[object]:
        from sqlalchemy import select

        from medisync.ledger.access import audit_log

        with house.access.ledger.connect() as connection:
            query = select(audit_log).where(audit_log.c["on"] == run_id, audit_log.c.who == "clinician")
            return list(connection.execute(query))

    assert len(wait_until(rows, seconds=10, what="the read is recorded")) == 1
