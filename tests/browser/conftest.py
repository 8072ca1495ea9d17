"""One browser for the browser tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.pages import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")  # while one is open, playwright's event loop runs in this thread: no test beside it
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started
