"""The HTTP door, served for each test on a ledger of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from served_api import Api, served, settings_for


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """A served headquarters with an empty ledger."""
    with served(settings_for(database_url)) as api:
        yield api


@pytest.fixture
def order() -> Callable[..., dict[str, Any]]:
    """Makes a valid envelope with these changes at its top."""

    def make(**changes: Any) -> dict[str, Any]:
        return {"job_id": "j-1", "idempotency_key": "k-1", "payload": {"task": "Tidy the notes"}} | changes

    return make
