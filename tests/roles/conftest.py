"""One node of each role on one database and one Redis, for all tests of this folder that a test process runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from role_node import Node
from warm_starts import WarmStarts


@pytest.fixture(scope="module")
def nodes(
    tmp_path_factory: pytest.TempPathFactory,
    module_servers: tuple[str, str],
    wait_until: Callable[..., Any],
    warm: WarmStarts,
) -> Iterator[dict[str, Node]]:
    """By role: a node whose API runs; the worker and the standalone node know HQ's address.

    The API of headquarters is a fresh Python; all else starts warm.
    """
    database_url, redis_url = module_servers
    with ExitStack() as stack:
        made: dict[str, Node] = {}
        for role in ("HEADQUARTERS", "LOCAL_WORKER", "STANDALONE_NODE"):
            folder = tmp_path_factory.mktemp(role)
            hq = made["HEADQUARTERS"].url if role == "LOCAL_WORKER" else None
            made[role] = stack.enter_context(Node(role, folder, database_url, redis_url, wait_until, hq))
            made[role].warm = None if role == "HEADQUARTERS" else warm
            made[role].start_api()
        made["HEADQUARTERS"].warm = warm
        yield made


@pytest.fixture(scope="module")
def beating(
    tmp_path_factory: pytest.TempPathFactory,
    module_servers: tuple[str, str],
    wait_until: Callable[..., Any],
    warm: WarmStarts,
    nodes: dict[str, Node],
) -> Iterator[dict[str, str]]:
    """By role: the identity of a node whose control worker and beat run, and nothing else.

    The first beat comes an interval after its start, so both are started at once.
    """
    with ExitStack() as stack:
        made: dict[str, str] = {}
        for role in ("HEADQUARTERS", "LOCAL_WORKER"):
            folder, own = tmp_path_factory.mktemp(f"{role}-beat"), {"UA_FACTORY_ID": f"{role.lower()}-beat"}
            hq = nodes["HEADQUARTERS"].url
            node = stack.enter_context(Node(role, folder, *module_servers, wait_until, hq, own, warm=warm))
            node.start("control")
            node.spawn("beat")
            made[role] = node.factory_id
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
