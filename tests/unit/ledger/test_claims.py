"""The ledger's claims."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

from medisync.ledger import Claims, ClaimState, open_ledger
from medisync.settings import Settings


def test_a_claim_goes_its_way(either_workspace: Settings) -> None:
    claims = Claims(open_ledger(either_workspace))
    assert claims.get("d1") is None
    claims.add("d1", "default")
    claims.add("d2", "second")
    claims.announced("d1")
    claims.add("d1", "another")  # known already: it stays as it is
    first = claims.get("d1")
    assert first is not None
    assert (first.source, first.state) == ("default", ClaimState.ANNOUNCED)
    assert first.announced_at is not None
    assert first.claimed_at <= first.announced_at
    assert [claim.delivery_id for claim in claims.open()] == ["d1", "d2"]
    claims.finished("d1")
    assert [claim.delivery_id for claim in claims.open()] == ["d2"]
    again = Claims(open_ledger(either_workspace)).get("d1")  # another process' view
    assert again is not None
    assert again.finished_at is not None


def test_many_at_once_claim_one_delivery_once(either_workspace: Settings) -> None:
    engines = [open_ledger(either_workspace) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for number in range(25):
            list(pool.map(lambda engine, number=number: Claims(engine).add(f"d{number}", "default"), engines))
    assert len(Claims(engines[0]).open()) == 25
    for engine in engines:
        engine.dispose()


def test_the_file_is_for_the_owner_alone(workspace: Settings) -> None:
    engine = open_ledger(workspace)
    Claims(engine).add("d1", "default")
    for path in workspace.data.glob("ledger.sqlite*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    engine.dispose()
