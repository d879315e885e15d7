"""One node of each role on one database and one Redis, for all tests of this folder that a test process runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from role_node import Node


@pytest.fixture(scope="module")
def nodes(
    tmp_path_factory: pytest.TempPathFactory, module_servers: tuple[str, str], wait_until: Callable[..., Any]
) -> Iterator[dict[str, Node]]:
    """By role: a node whose API runs; the worker and the standalone node know HQ's address."""
    database_url, redis_url = module_servers
    with ExitStack() as stack:
        made: dict[str, Node] = {}
        for role in ("HEADQUARTERS", "LOCAL_WORKER", "STANDALONE_NODE"):
            folder = tmp_path_factory.mktemp(role)
            hq = made["HEADQUARTERS"].url if role == "LOCAL_WORKER" else None
            made[role] = stack.enter_context(Node(role, folder, database_url, redis_url, wait_until, hq))
            made[role].start_api()
        yield made


@pytest.fixture(scope="module")
def labels_of(module_servers: tuple[str, str]) -> Iterator[Callable[[str], list[str]]]:
    """The labels with which a factory stands in HQ's registry now; empty when it does not."""
    with psycopg.connect(module_servers[0], autocommit=True) as db:

        def read(factory_id: str) -> list[str]:
            query = "SELECT capabilities FROM corporation.factories WHERE factory_id = %s"
            row = db.execute(query, [factory_id]).fetchone()
            return list(row[0]) if row else []

        yield read
