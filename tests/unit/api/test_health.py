"""How each part is, and since when."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Iterator

import pytest

from medisync.access.service import Access
from medisync.api.errors import LakeUnreadableError
from medisync.api.health import Monitor, Overall, Part, PartState
from medisync.api.house import House
from medisync.settings import Settings

NOBODY = 9


@pytest.fixture
def house(workspace: Settings) -> Iterator[House]:
    """A house whose own tasks do not run: what is seen is what the test does. Prefect is away."""
    settings = workspace.model_copy(update={"prefect_port": NOBODY})
    access = Access.open(settings)
    made = House(settings, access)
    yield made
    made.reader.close()
    access.ledger.dispose()


def parts(monitor: Monitor) -> dict[str, Part]:
    return {one.name: one for one in monitor.report(details=True).parts or []}


def test_a_part_is_as_it_is_since_it_changed(house: House) -> None:
    async def play() -> list[dict[str, Part]]:
        seen = []
        for fails in (False, False, True, True, False):
            if fails:
                with pytest.raises(LakeUnreadableError):
                    await house.reader.read(_fail)
            else:
                await house.reader.read(house.reader.newest)
            await house.monitor.look()
            seen.append(parts(house.monitor))
        await house.prefect.close()
        return seen

    begun = dt.datetime.now(dt.UTC)
    up, still_up, down, still_down, up_again = asyncio.run(play())
    lakes = [one["lake"] for one in (up, still_up, down, still_down, up_again)]
    assert [one.state for one in lakes] == [PartState.UP] * 2 + [PartState.DOWN] * 2 + [PartState.UP]
    assert begun <= lakes[0].since == lakes[1].since < lakes[2].since == lakes[3].since < lakes[4].since
    assert "OSError" in (lakes[2].says or "")
    assert up["prefect"].state is PartState.DOWN
    assert up["prefect"].since == up_again["prefect"].since
    assert up["api"].since == up_again["api"].since


def test_in_one_word_it_is_down_only_when_no_result_can_be_served(house: House) -> None:
    async def play() -> list[Overall]:
        words = []
        await house.monitor.look()
        words.append(house.monitor.report(details=False).status)  # Prefect is away
        with contextlib.suppress(LakeUnreadableError):
            await house.reader.read(_fail)
        words.append(house.monitor.report(details=False).status)  # and nothing is in memory
        await house.reader.read(house.shelf.refresh)
        with contextlib.suppress(LakeUnreadableError):
            await house.reader.read(_fail)
        words.append(house.monitor.report(details=False).status)  # what is in memory is served
        await house.prefect.close()
        return words

    assert asyncio.run(play()) == [Overall.DEGRADED, Overall.DOWN, Overall.DEGRADED]
    assert house.monitor.report(details=False).parts is None


def _fail() -> None:
    raise OSError("Sekretwert")
