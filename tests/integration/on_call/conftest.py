"""A station whose page is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Station


@pytest.fixture
def here(station: Callable[..., Station]) -> Station:
    made = station()
    made.serve(1)
    return made
