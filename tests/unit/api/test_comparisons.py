"""What differs between two runs, and what a number rests on, as each role may know it."""

from __future__ import annotations

from typing import Any

import pytest

from medisync.access.permissions import Role
from medisync.runs import planning
from tests.support.put_on_record import put_on_record
from tests.unit.api.conftest import GENUINE, RELEASED, Door


@pytest.fixture(scope="module")
def pair(door: Door) -> tuple[str, str]:
    """Two runs of one analysis on the same data; in the second two numbers are others, and a parameter."""
    from medisync.runs.published import results_of

    run_id = door.get(f"/api/analytics/history/?type={GENUINE}").json()["data"]["runs"][-1]["run_id"]
    result = results_of(door.lake, [run_id], "full")[run_id]
    name = next(name for name, value in result.metrics.items() if isinstance(value, int) and value > 100)
    moved = result.model_copy(update={"metrics": {**result.metrics, name: int(result.metrics[name] or 0) * 2}})
    [plan] = planning.plan(door.lake, [GENUINE], parameters={"alpha": 0.02})
    return run_id, put_on_record(door.lake, plan, moved).run_id


def told(door: Door, path: str, role: Role = Role.ANALYST) -> dict[str, Any]:
    answer = door.get(path, role)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def test_two_runs(door: Door, pair: tuple[str, str]) -> None:
    made = told(door, f"/api/compare?before={pair[0]}&after={pair[1]}")
    assert made["kind"] == "runs"
    assert made["changed"] == 1
    assert made["compared"] > 100
    [change] = made["changes"]
    assert (change["place"], change["after"]) == ("metrics", 2 * change["before"])
    assert {one["what"] for one in made["differences"] if one["kind"] == "parameters"} == {"parameter alpha"}
    assert {one["created"] for one in made["tables"]} == {0}


def test_code_and_environment_are_for_those_who_read_records(door: Door, pair: tuple[str, str]) -> None:
    other = next(
        one["run_id"]
        for one in told(door, "/api/analytics/history/?limit=200")["runs"]
        if one["analysis"] == "patient_health_trends"
    )
    address = f"/api/compare?before={pair[0]}&after={other}&limit=7"
    kinds = {role: {one["kind"] for one in told(door, address, role)["differences"]} for role in (Role.CLINICIAN,)}
    assert kinds[Role.CLINICIAN] <= {"parameters"}
    made = told(door, address)
    assert "code" in {one["kind"] for one in made["differences"]}
    assert (len(made["changes"]), made["changed"] > 7) == (7, True)


def test_viewers_compare_what_was_released(door: Door, pair: tuple[str, str]) -> None:
    made = told(door, f"/api/compare?before={pair[0]}&after={pair[1]}", Role.VIEWER)
    assert (made["tables"], made["deliveries"], made["differences"]) == ([], [], [])
    full = {value for value in told(door, f"/api/runs/{pair[0]}", Role.VIEWER)["result"]["metrics"] if value}
    assert full
    assert made["note"].startswith("Released results are compared")
    withheld = next(
        one["run_id"]
        for one in told(door, "/api/analytics/history/?limit=200")["runs"]
        if one["analysis"] == "patient_health_trends"
    )
    for address in (f"before={pair[0]}&after={withheld}", "before=1&after=2"):
        refused = door.get(f"/api/compare?{address}", Role.VIEWER)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "no-such-run")


def test_two_snapshots_and_two_parameter_sets(door: Door, pair: tuple[str, str]) -> None:
    newest = door.lake.last_snapshot_id()
    assert told(door, f"/api/compare?before={newest}&after={newest}")["kind"] == "snapshots"
    made = told(door, f"/api/compare?before=default&after=alpha%3D0.02&analysis={GENUINE}")
    assert made["after"] == pair[1]


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("before=r1&after=r2", 404, "no-such-run"),
        ("before=%C2%B2&after=%C2%B2", 404, "no-such-run"),
        ("before=1&after=999999999999", 410, "snapshot-expired"),
        (f"before={'9' * 300}&after={'9' * 300}", 404, "no-such-run"),
        ("before=default&after=default&analysis=full_analysis", 404, "unknown-analysis"),
        (f"before=alpha%3D9&after=default&analysis={GENUINE}", 404, "no-such-run"),
        ("before=1", 422, None),
        ("before=r1&after=r2&limit=0", 422, None),
    ],
)
def test_what_cannot_be_compared(door: Door, address: str, status: int, code: str | None) -> None:
    answer = door.get(f"/api/compare/?{address}")
    assert answer.status_code == status, answer.text
    assert code is None or answer.json()["error"]["code"] == code


def test_lineage_from_a_number_to_the_file_and_back(door: Door) -> None:
    run_id = told(door, f"/api/analytics/history/?type={RELEASED}")["runs"][-1]["run_id"]
    found = told(door, f"/api/lineage/result?of={run_id}/metrics", Role.CLINICIAN)
    kinds = {one["kind"] for one in found["nodes"]}
    assert {"result", "notebook", "run", "snapshot", "table", "delivery", "file"} <= kinds
    delivery = next(one["id"] for one in found["nodes"] if one["kind"] == "delivery")
    back = told(door, f"/api/lineage/delivery?of={delivery}", Role.CLINICIAN)
    assert run_id in {one["id"] for one in back["nodes"] if one["kind"] == "run"}
    assert told(door, f"/api/lineage/run?of={run_id}")["of"] == f"run {run_id}"
    assert door.get("/api/lineage/delivery?of=d0").status_code == 404
    assert door.get("/api/lineage/patient?of=d0").status_code == 422
    assert door.get(f"/api/lineage/run?of={run_id}", Role.VIEWER).status_code == 403
