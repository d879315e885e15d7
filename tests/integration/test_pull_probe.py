"""Whether Redis is there: looked at, judged, and written down for the other processes of the factory."""

from pathlib import Path

import pytest
from node_at_work import NOWHERE, HeardHq, node_at
from structlog.testing import capture_logs

from corporation import clock
from corporation.embedded.valkey import start_valkey
from corporation.federation import notes
from corporation.federation.transport import AWAY_SECONDS, BACK_SECONDS
from factory_tasks.node import Node
from factory_tasks.pull.probe import EVERY_SECONDS, Probe


class Time:
    """Seconds of the monotonic clock that pass when the test says so."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(clock, "monotonic", time)
    return time


class Changes:
    """How often the way changed."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


def noted(here: Node) -> tuple[str | None, str | None]:
    return here.spool.noted(notes.TRANSPORT), here.spool.noted(notes.TRANSPORT_WHY)


@pytest.fixture
def here(tmp_path: Path, redis_url: str) -> Node:
    return node_at(tmp_path, HeardHq(), UA_REDIS_URL=redis_url)


def test_a_factory_that_never_had_redis_uses_https_and_says_why(tmp_path: Path) -> None:
    here, changes = node_at(tmp_path, HeardHq()), Changes()
    probe = Probe(here, changes, standby=False)
    probe.start()

    assert probe.over_https
    assert noted(here) == (notes.HTTPS, "this factory gets its missions over HTTPS")
    assert not probe._thread.is_alive(), "there is nothing to look at"
    assert changes.count == 0


def test_in_standby_nothing_is_asked_for_while_redis_answers(here: Node) -> None:
    probe = Probe(here, Changes(), standby=True)
    probe.start()
    probe.stop()

    assert not probe.over_https
    assert noted(here) == (notes.REDIS, "")


def test_one_that_starts_without_redis_does_not_wait_for_it(tmp_path: Path) -> None:
    here = node_at(tmp_path, HeardHq())
    probe = Probe(here, Changes(), standby=True)
    probe.start()
    probe.stop()

    assert probe.over_https
    assert noted(here) == (notes.HTTPS, "Redis does not answer (ConnectionError)")


def test_the_way_changes_within_half_a_minute_and_back_and_each_change_is_told_once(
    tmp_path: Path, time: Time, valkey: object
) -> None:
    """D21: `valkey` stands for the program; this test's own server is stopped and started again."""
    del valkey
    server = start_valkey(tmp_path / "valkey")
    here, changes = node_at(tmp_path, HeardHq(), UA_REDIS_URL=server.url), Changes()
    probe = Probe(here, changes, standby=True)

    def seconds_until(https: bool) -> float:
        for looks in range(1, 30):
            time.now += EVERY_SECONDS
            probe._look()
            if probe.over_https is https:
                return looks * EVERY_SECONDS
        pytest.fail("the way does not change")

    try:
        probe._look()
        server.stop()
        with capture_logs() as logs:
            gone = seconds_until(https=True)
            assert noted(here) == (notes.HTTPS, "Redis does not answer (ConnectionError)")
            server = start_valkey(tmp_path / "valkey", port=server.port)
            back = seconds_until(https=False)
    finally:
        server.stop()

    assert noted(here) == (notes.REDIS, "")
    assert AWAY_SECONDS <= gone <= AWAY_SECONDS + 2 * EVERY_SECONDS
    assert BACK_SECONDS <= back <= BACK_SECONDS + 2 * EVERY_SECONDS
    assert [entry["transport"] for entry in logs if entry["event"] == "transport_changed"] == ["https", "redis"]
    assert changes.count == 2


def test_why_redis_does_not_answer_holds_no_address(tmp_path: Path) -> None:
    """The address may hold a password; the note goes to HQ with every beat."""
    here = node_at(tmp_path, HeardHq(), UA_REDIS_URL=NOWHERE.replace("//", "//desk:hidden-word@"))
    Probe(here, Changes(), standby=True)._look()

    assert "hidden-word" not in str(noted(here))
