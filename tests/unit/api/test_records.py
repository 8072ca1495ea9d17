"""History, runs, reports and deliveries, as each role sees them."""

from __future__ import annotations

import pytest

from medisync.access.permissions import Role
from medisync.runs import planning
from tests.support.published import publish_result
from tests.unit.api.conftest import GENUINE, RELEASED, Door


@pytest.fixture(scope="module")
def failed_run(door: Door) -> str:
    """A failed run, with a message that quotes a value."""
    [plan] = planning.plan(door.lake, ["illness_prediction"], parameters={"alpha": 0.01})
    return publish_result(door.lake, plan, None).run_id


def test_history_is_newest_first_and_pages_through_all_runs(door: Door, failed_run: str) -> None:
    whole = [one["run_id"] for one in door.get("/api/analytics/history/?limit=200").json()["data"]["runs"]]
    assert failed_run in whole
    assert whole == sorted(whole, reverse=True)
    paged, before = [], ""
    while True:
        page = door.get(f"/api/analytics/history/?limit=3{before}").json()["data"]
        paged += [one["run_id"] for one in page["runs"]]
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert paged == whole


def test_history_of_one_analysis(door: Door) -> None:
    runs = door.get(f"/api/analytics/history/?type={RELEASED}").json()["data"]["runs"]
    assert {one["analysis"] for one in runs} == {RELEASED}


def test_a_failed_run_says_why_to_those_who_read_records_only(door: Door, failed_run: str) -> None:
    shown = {role: door.get(f"/api/runs/{failed_run}/", role) for role in Role}
    assert all(one.status_code == 200 for one in shown.values())
    assert {role: one.json()["data"]["error_code"] for role, one in shown.items()} == dict.fromkeys(
        Role, "notebook-raised"
    )
    for role, answer in shown.items():
        assert ("ward 7" in answer.text) == (role in (Role.ANALYST, Role.ADMIN))


def test_headlines_are_those_of_the_form_the_role_sees(door: Door) -> None:
    def headlines(role: Role) -> dict[str, str | None]:
        runs = door.get("/api/analytics/history/?limit=200", role).json()["data"]["runs"]
        return {one["analysis"]: one["headline"] for one in reversed(runs) if one["status"] == "completed"}

    full, released = headlines(Role.CLINICIAN), headlines(Role.VIEWER)
    assert all(full.values())
    assert released[RELEASED] == "Released: five medications."
    assert released[GENUINE]
    assert released["patient_health_trends"] is None


def test_a_run_comes_with_its_result_in_the_form_the_role_sees(door: Door) -> None:
    runs = door.get("/api/analytics/history/?limit=200").json()["data"]["runs"]
    released = next(one["run_id"] for one in runs if one["analysis"] == RELEASED)
    other = next(one["run_id"] for one in runs if one["analysis"] == "patient_health_trends")
    assert door.get(f"/api/runs/{released}", Role.VIEWER).json()["data"]["result"]["audience"] == "released"
    withheld = door.get(f"/api/runs/{other}", Role.VIEWER).json()["data"]
    assert (withheld["result"], withheld["is_withheld"]) == (None, True)
    full = door.get(f"/api/runs/{other}", Role.CLINICIAN).json()["data"]
    assert full["result"]["analysis"] == "patient_health_trends"
    assert full["record"] is None
    record = door.get(f"/api/runs/{other}").json()["data"]["record"]
    assert record["run_key"]


def test_a_report_is_one_page_without_scripts_for_those_who_see_full_results(door: Door) -> None:
    run_id = door.get("/api/analytics/history/?type=patient_demographics").json()["data"]["runs"][-1]["run_id"]
    missing = door.get(f"/api/runs/{run_id}/report")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no-report")
    folder = door.settings.reports / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text("<!doctype html><title>Report</title>", encoding="utf-8")
    shown = door.get(f"/api/runs/{run_id}/report/", Role.CLINICIAN)
    assert shown.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert "script-src" not in shown.headers["content-security-policy"]
    withheld = door.get(f"/api/runs/{run_id}/report", Role.VIEWER)
    assert (withheld.status_code, withheld.json()["error"]["code"]) == (404, "withheld")


TRICKS = ("..", "../../keys", "%2e%2e%2f%2e%2e%2fkeys", "r20240507T101500-1f3a9c%2f..%2f..", "%00", "..%5c..", "r1")


@pytest.mark.parametrize("trick", [*TRICKS, "a" * 5000])
@pytest.mark.parametrize("tail", ["", "/report"])
def test_no_id_leads_out_of_the_house(door: Door, trick: str, tail: str) -> None:
    answer = door.client.request("GET", f"{door.served.url}/api/runs/{trick}{tail}", headers=door.headers(Role.ADMIN))
    assert answer.status_code in (404, 422)
    assert answer.json()["success"] is False


def test_an_unknown_run_is_404(door: Door) -> None:
    answer = door.get("/api/runs/r20240507T101500-1f3a9c")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown-run")


def test_deliveries_show_each_role_what_it_may_know(door: Door) -> None:
    shown = {role: door.get("/api/deliveries/", role).json()["data"]["deliveries"][0] for role in Role}
    assert all(one["status"] == "loaded" for one in shown.values())
    assert [role for role, one in shown.items() if one["created"] is not None] == [
        Role.CLINICIAN,
        Role.ANALYST,
        Role.ADMIN,
    ]
    assert shown[Role.VIEWER]["file"] is None


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "1e3", "", "99999999999999999999"])
def test_a_limit_out_of_range_is_refused_without_repeating_it(door: Door, limit: str) -> None:
    for path in ("/api/deliveries/", "/api/analytics/history/"):
        answer = door.get(f"{path}?limit={limit}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-request")
        assert len(limit) < 3 or limit not in answer.json()["message"]
