"""Missions where everybody has no more than their role: the factory its rows of the mailbox, HQ what it was granted."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from database_roles import Role, a_role
from sqlalchemy import NullPool, create_engine

from corporation.db import migrate, sqlalchemy_url
from corporation.trust.mailbox_roles import admit

if TYPE_CHECKING:
    from warm_starts import WarmStarts

sys.path.append(str(Path(__file__).parent.parent / "faults"))

from faulty_cluster import QUICK, FaultyCluster, Story

WORKED = "after ops.bench.noop:leave_mark"
REPORTED = "before factory_tasks.mailbox:MailboxBackend._store_result"


@dataclass
class WeakCluster(FaultyCluster):
    """API and engine log in as `hq`, the worker as `desk`; the test itself is the superuser."""

    hq: str = ""
    desk: str = ""

    def _hq(self) -> dict[str, str]:
        return {**super()._hq(), "UA_DATABASE_URL": self.hq}

    def _factory(self, factory: str = "bench") -> dict[str, str]:
        return {**super()._factory(factory), "UA_RESULT_BACKEND_URL": self.desk}


@pytest.fixture
def roles(database_url: str) -> Iterator[tuple[Role, Role]]:
    """A role that was granted the ledger, and one that was admitted for the factory `bench`."""
    with a_role(database_url) as hq, a_role(database_url) as desk:
        migrate(database_url, [hq.name])
        engine = create_engine(sqlalchemy_url(database_url), poolclass=NullPool)
        with engine.begin() as connection:
            assert admit(connection, desk.name, "bench")
        yield hq, desk


@pytest.fixture
def cluster(
    tmp_path: Path,
    database_url: str,
    redis_url: str,
    roles: tuple[Role, Role],
    wait_until: Callable[..., Any],
    warm: "WarmStarts",
) -> Iterator[WeakCluster]:
    """Nothing runs yet; the database is dropped with whoever is connected."""
    hq, desk = (role.url for role in roles)
    made = WeakCluster(tmp_path, database_url, redis_url, lambda it: wait_until(it, 60), QUICK, warm=warm)
    made.hq, made.desk = hq, desk
    with made as cluster:
        yield cluster


def ended(cluster: WeakCluster, number: int) -> None:
    """So many missions are over, each was told, and nothing is left anywhere."""
    finals = "SELECT count(*) FROM corporation.missions WHERE finished_at IS NOT NULL"
    cluster.wait(lambda: cluster.value(finals) == number and not cluster.left())


def test_missions_end_as_ever_and_nobody_was_refused_anything(cluster: WeakCluster) -> None:
    cluster.start()
    cluster.publish(
        cluster.order("done"),
        cluster.order("failed", max_retries=2, answer="failed"),
        cluster.order("stop", answer="stop"),
        cluster.order("raised", max_retries=1, answer="raise"),
    )
    ended(cluster, 4)

    assert cluster.story("done") == Story("succeeded", ("succeeded",), (1,))
    assert cluster.story("failed") == Story("failed", ("failed", "failed"), (1, 2))
    assert cluster.story("stop") == Story("failed", ("failed",), (1,))
    assert cluster.story("raised") == Story("failed", ("failed",), (1,))
    told = "SELECT count(*) FROM mailbox.celery_taskmeta WHERE factory = 'bench' AND worker IS NOT NULL"
    assert cluster.value(told) == 5
    for name in ("api", "engine", "worker"):
        assert "InsufficientPrivilege" not in cluster.log(name)
        assert "permission denied" not in cluster.log(name)


@pytest.mark.parametrize(
    ("point", "story"),
    [
        (WORKED, Story("succeeded", ("lost", "succeeded"), (1, 2))),
        (REPORTED, Story("succeeded", ("succeeded",), (1,))),
    ],
    ids=["in mid-work", "before it reports"],
)
def test_a_worker_that_is_killed_leaves_nothing_that_its_role_cannot_repair(
    cluster: WeakCluster, point: str, story: Story
) -> None:
    cluster.arm("worker", point)
    cluster.start()
    cluster.publish(cluster.order("m-1"))
    cluster.crashed("worker")
    cluster.start_worker()
    ended(cluster, 1)

    assert cluster.story("m-1") == story
