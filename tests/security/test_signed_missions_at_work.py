"""Real processes of a factory that was given HQ's keys: they do what HQ signed, once, and nothing else."""

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from warm_starts import WarmStarts

sys.path.append(str(Path(__file__).parent.parent / "integration"))

from factory_at_work import FACTORY, Factory, SeenHq
from node_at_work import HeardHq, node_at
from pull_at_work import HandingHq, Pull

from corporation.clock import utc_now
from corporation.roles import private_queue
from corporation.settings import load_settings
from corporation.trust.claimed_orders import FIELD, signature_of
from corporation.trust.key_announcement import FIELD as KEYS_FIELD
from corporation.trust.key_announcement import announcement
from corporation.trust.keyring import new_key, public_of, signer_of
from factory_tasks.broker import CeleryBroker

QUEUE: Final = private_queue(FACTORY)
KEY: Final = new_key()
Wait = Callable[..., Any]


def sender(redis_url: str, key: str | None) -> CeleryBroker:
    """HQ's engine, with a key or with none."""
    own = {"UA_MISSION_SIGNING_KEY": key} if key else {}
    return CeleryBroker(load_settings({"UA_REDIS_URL": redis_url, "UA_FACTORY_ID": "hq", **own}))


@pytest.fixture
def factory(tmp_path: Path, database_url: str, redis_url: str, wait_until: Wait, warm: WarmStarts) -> Iterator[Factory]:
    """A factory with HQ's key, on the broker; its HQ signs."""
    own = {"UA_MISSION_KEYS": public_of(KEY)}
    with (
        SeenHq() as hq,
        Factory(tmp_path, database_url, redis_url, wait_until, warm, hq, more_environment=own) as factory,
    ):
        factory.broker = sender(redis_url, KEY)
        yield factory


def refused(factory: Factory, wait: Wait, **counts: int) -> None:
    """The factory has refused as many as are named by their reasons, when this returns."""
    from corporation.federation.refused_messages import RefusedMessages

    kept = RefusedMessages(factory.folder / "spool.db")
    wait(lambda: kept.counts() == counts, 20, f"{counts}, not {kept.counts()}")


def test_what_was_signed_is_run_once_and_what_a_thief_makes_of_it_never(
    factory: Factory, redis_url: str, wait_until: Wait
) -> None:
    """Measured before: the replay, the header swap and the unsigned mission ran on a stock worker."""
    genuine = factory.send(then="end")
    with redis.Redis.from_url(redis_url) as thief:
        [seen] = [bytes(entry) for entry in thief.lrange(QUEUE, 0, -1)]
        factory.start_worker()
        assert genuine.report()["outcome"] == "done"
        genuine.told.unlink()
        swapped = json.loads(seen)
        swapped["headers"]["task"] = "mission.patient"
        for raw in (json.dumps(swapped).encode(), seen):
            thief.lpush(QUEUE, raw)
    wait_until(lambda: "duplicate_dropped" in factory.log(), 20, "the replay is known to be one")

    refused(factory, wait_until, forged=1)
    assert not genuine.told.exists(), "it ran a second time"
    factory.broker = sender(redis_url, None)
    unsigned = factory.send(then="end")
    refused(factory, wait_until, forged=1, not_signed=1)
    factory.broker = sender(redis_url, new_key())
    foreign = factory.send(then="end")
    refused(factory, wait_until, forged=1, not_signed=1, unknown_key=1)
    factory.broker = sender(redis_url, KEY)
    assert factory.send(then="end").report()["outcome"] == "done", "it works on"
    assert not unsigned.told.exists()
    assert not foreign.told.exists()
    wait_until(lambda: factory.spool.unreported() == [], 20, "its report is marked as told")


def test_an_old_copy_of_what_hq_took_back_is_not_run(factory: Factory, redis_url: str, wait_until: Wait) -> None:
    """HQ signed it, and the spool never saw it: what is older than a lease is asked for before it begins."""
    signs = load_settings({"UA_REDIS_URL": redis_url, "UA_FACTORY_ID": "hq", "UA_MISSION_SIGNING_KEY": KEY})
    factory.broker = CeleryBroker(signs, now=lambda: utc_now() - timedelta(minutes=10))
    withdrawn, wanted = factory.send(then="end"), factory.send(then="end")
    factory.hq.status[withdrawn.attempt_id] = 409
    factory.start_worker()

    assert wanted.report()["outcome"] == "done"
    wait_until(lambda: "not_begun" in factory.log(), 20, "HQ has said that it wants this one no more")
    assert not withdrawn.told.exists()
    wait_until(lambda: factory.spool.unreported() == [], 20, "its report is marked as told")


def test_a_stop_that_hq_did_not_sign_stops_nothing(factory: Factory, redis_url: str, wait_until: Wait) -> None:
    from corporation.missions.store.sending import StopMessage
    from corporation.roles import control_queue

    factory.start_control_worker()
    factory.start_worker()
    running = factory.send().begun()
    factory.order_to_stop(running.attempt_id)  # as whoever has the password writes it
    refused(factory, wait_until, not_signed=1)
    assert running.pids
    assert running.left()
    order = StopMessage(1, running.attempt_id, QUEUE, FACTORY, control_queue(FACTORY), "no longer wanted")
    sender(redis_url, KEY).stop([order])

    assert running.report()["outcome"] == "cancelled"


def test_a_key_takes_the_place_of_another_while_a_worker_works(
    factory: Factory, redis_url: str, wait_until: Wait
) -> None:
    """Nobody goes to the machine, and nothing restarts."""
    new = new_key()
    factory.start_control_worker()
    factory.start_worker()
    both = [public_of(KEY), public_of(new)]
    factory.hq.instructions = {KEYS_FIELD: announcement(signer_of(KEY), both, utc_now().timestamp())}
    wait_until(lambda: factory.spool.noted("mission_keys"), 30, "a beat has brought the new key")
    factory.broker = sender(redis_url, new)
    assert factory.send(then="end").report()["outcome"] == "done"

    said = announcement(signer_of(new), [public_of(new)], utc_now().timestamp())
    factory.hq.instructions = {KEYS_FIELD: said}
    ended = factory.spool.noted("mission_keys")
    wait_until(lambda: factory.spool.noted("mission_keys") != ended, 30, "a beat has ended the old key")
    factory.broker = sender(redis_url, KEY)
    late = factory.send(then="end")
    refused(factory, wait_until, unknown_key=1)
    assert not late.told.exists()


@pytest.fixture
def pull(tmp_path: Path, wait_until: Wait, warm: WarmStarts) -> Iterator[Pull]:
    with HandingHq() as hq, Pull(tmp_path, wait_until, warm, hq, slots=2) as pull:
        yield pull


def test_over_https_too_only_what_hq_signed_is_run(pull: Pull, wait_until: Wait) -> None:
    """And what is refused is named as held, so that HQ gives it to another when its lease has ended."""
    pull.start(UA_MISSION_KEYS=public_of(KEY))
    unsigned = pull.hand_out(then="end")
    wait_until(lambda: any(unsigned.attempt_id in it["holding"] for it in pull.hq.said("claim")), 20, "it is named")
    one = _signed(pull)

    assert one.report()["result"] == {"echo": "t"}
    assert not unsigned.told.exists()
    assert pull.hq.said("result", unsigned.attempt_id) == pull.hq.said("start", unsigned.attempt_id) == []
    wait_until(lambda: pull.hq.said("registrations"), 20, "a beat")


def _signed(pull: Pull) -> Any:
    """An attempt that HQ hands out with its signature."""
    hand_out = pull.hq.hand_out

    def with_signature(one: dict[str, Any]) -> None:
        hand_out(one | {FIELD: signature_of(signer_of(KEY), one, FACTORY, utc_now().timestamp())})

    pull.hq.hand_out = with_signature
    try:
        return pull.hand_out(then="end")
    finally:
        pull.hq.hand_out = hand_out


def test_a_disk_that_cannot_be_read_does_not_change_who_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, the error ended the worker with the message in hand."""
    here = node_at(tmp_path, HeardHq(), UA_MISSION_KEYS=public_of(KEY))
    before = dict(here.mission_keys())

    def fails(_: str) -> str:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(here.spool, "noted", fails)

    assert before
    assert dict(here.mission_keys()) == before
