"""Missions over HTTPS carry the signature too: who stands between HQ and a factory makes it run nothing of his own."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

sys.path.append(str(Path(__file__).parent.parent / "integration"))
sys.path.append(str(Path(__file__).parent.parent / "contracts" / "http"))

from node_at_work import HeardHq, node_at
from served_api import PUBLISH, Api, served, settings_for, token

from corporation.clock import new_id, utc_now
from corporation.federation import notes
from corporation.federation.hq import Hq
from corporation.trust.claimed_orders import FIELD, signature_of
from corporation.trust.key_announcement import FIELD as KEYS_FIELD
from corporation.trust.key_announcement import announcement
from corporation.trust.keyring import new_key, public_of, signer_of
from corporation.trust.signatures import GOOD_FOR_SECONDS
from factory_tasks.heartbeat import send_beat
from factory_tasks.node import Node
from factory_tasks.pull.orders import Answered, Reader
from factory_tasks.worker_signs import is_kept_away

FACTORY: Final = "desk-7"
NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
KEY: Final = new_key()
SIGNER: Final = signer_of(KEY)
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def here(tmp_path: Path) -> Node:
    """A factory that was given HQ's key."""
    return node_at(tmp_path, HeardHq(), UA_MISSION_KEYS=public_of(KEY))


def handed(factory: str = FACTORY, at: datetime = NOW, key: str = KEY, **changes: Any) -> dict[str, Any]:
    """An attempt as HQ hands it out, through JSON."""
    one = {
        "attempt_id": new_id(),
        "attempt": 1,
        "job_id": "b-3",
        "mission_kind": "research_task",
        "lease_expires_at": "2026-06-01T08:07:00.000000+00:00",
        "timeout_seconds": 3600,
        "envelope": {"job_id": "b-3", "payload": {"task": "List open risks", "context": {"number": 1.5e300}}},
    } | changes
    return json.loads(json.dumps(one | {FIELD: signature_of(signer_of(key), one, factory, at.timestamp())}))


def read(here: Node, *attempts: Any) -> Answered:
    return Reader(here, lambda: NOW).read({"attempts": list(attempts), "paused": False})


def test_what_hq_signed_is_run(here: Node) -> None:
    one = handed()
    [claimed] = read(here, one).claimed

    assert (claimed.attempt_id, claimed.kind) == (one["attempt_id"], "research_task")
    assert (claimed.order.task, claimed.order.factory_id) == ("List open risks", FACTORY)
    assert here.refused.counts() == {}


def test_when_the_lease_ends_is_hqs_to_say_anew_each_time(here: Node) -> None:
    """An answer that was lost is given again, with another lease; nothing is done with it here."""
    assert read(here, handed() | {"lease_expires_at": "2026-06-01T09:07:00.000000+00:00"}).claimed


def changed(**changes: Any) -> Change:
    return lambda one: one | changes


def in_envelope(name: str, value: Any) -> Change:
    return lambda one: one | {FIELD: {**one[FIELD], "env": {**one[FIELD]["env"], name: value}}}


def missing(name: str) -> Change:
    return lambda one: {key: value for key, value in one.items() if key != name}


TAMPERINGS: Final[dict[str, tuple[Change, str]]] = {
    "another kind": (changed(mission_kind="bash_task"), "forged"),
    "a new id": (changed(attempt_id=new_id()), "forged"),
    "the same id, written otherwise": (lambda one: one | {"attempt_id": one["attempt_id"].upper()}, "forged"),
    "another text": (changed(envelope={"job_id": "b-3", "payload": {"task": "rm -rf", "context": {}}}), "forged"),
    "another mission": (changed(job_id="b-4"), "forged"),
    "another mission in both": (lambda one: in_envelope("job_id", "b-4")(one | {"job_id": "b-4"}), "forged"),
    "a longer limit": (changed(timeout_seconds=10**9), "forged"),
    "a raised attempt": (changed(attempt=2), "forged"),
    "a raised attempt in both": (lambda one: in_envelope("attempt", 2)(one | {"attempt": 2}), "forged"),
    "an attempt of another type": (changed(attempt="1"), "forged"),
    "true for one": (changed(attempt=True), "forged"),
    "for another factory": (lambda _: handed(factory="desk-8"), "forged"),
    "expired": (lambda _: handed(at=NOW - timedelta(seconds=GOOD_FOR_SECONDS)), "signature_expired"),
    "prolonged": (in_envelope("exp", 4_000_000_000), "forged"),
    "unknown key": (lambda _: handed(key=new_key()), "unknown_key"),
    "no signature": (missing(FIELD), "not_signed"),
    "null for one": (changed(**{FIELD: None}), "not_signed"),
    "a signature of another form": (changed(**{FIELD: "yes"}), "forged"),
    "half a signature": (lambda one: one | {FIELD: {"env": one[FIELD]["env"]}}, "forged"),
    "a field more": (lambda one: one | {FIELD: {**one[FIELD], "more": 1}}, "forged"),
    "no order": (missing("envelope"), "forged"),
    "no kind": (missing("mission_kind"), "forged"),
    "no id": (missing("attempt_id"), "forged"),
}


@pytest.mark.parametrize(("tamper", "reason"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_every_tampering_is_refused_kept_and_counted(here: Node, tamper: Change, reason: str) -> None:
    tampered, good = tamper(handed()), handed()
    answered = read(here, tampered, good)

    assert [one.attempt_id for one in answered.claimed] == [good["attempt_id"]], "the next one is not held up"
    assert here.refused.counts() == {reason: 1}
    [kept] = here.refused.newest(2)
    assert (kept.queue, kept.reason) == ("https", reason)
    assert here.spool.unreported() == [], "HQ is told nothing: a forger must not end an attempt by this"


def test_without_keys_the_same_attacks_work(tmp_path: Path) -> None:
    """Measured before: what a factory does that runs unsigned missions, so that the attacks above are real ones."""
    trusting = node_at(tmp_path, HeardHq())
    ran = [name for name, (tamper, _) in TAMPERINGS.items() if read(trusting, tamper(handed())).claimed]

    assert set(TAMPERINGS) - set(ran) == {"no order", "no id", "no kind"}


def test_an_attempt_that_is_refused_is_named_so_that_it_goes_elsewhere(here: Node) -> None:
    """HQ hands out again what a factory does not name as held: it would come for ever, and its lease never end."""
    forged = handed() | {"timeout_seconds": 1}

    assert read(here, forged, [], "a", None).refused == {forged["attempt_id"]}


# From a real headquarters.


@pytest.fixture
def signing(database_url: str) -> Iterator[Api]:
    with served(settings_for(database_url, UA_MISSION_SIGNING_KEY=KEY)) as api:
        yield api


@pytest.fixture
def desk(signing: Api) -> Iterator[Hq]:
    with closing(Hq(signing.url, token("factory", factory_id=FACTORY, jti=None), factory_id=FACTORY)) as hq:
        hq.beat({"factory_id": FACTORY, "capabilities": ["vp_general", "transport:http"], "slots": 2})
        yield hq


def test_hq_signs_what_it_hands_out_each_time_it_does(signing: Api, desk: Hq, here: Node) -> None:
    payload = {
        "task": "Räume auf \u2028",
        "context": {"big": 2**53 - 1, "small": 5e-324, "none": None, "deep": [[[{}]]]},
    }
    order = {"job_id": "j-1", "idempotency_key": "k-1", "payload": payload}
    assert signing.ops.post(PUBLISH, json=order).status_code == 202
    wish = {"factory_id": FACTORY, "max": 1, "holding": []}
    first, again = desk.claim(wish, 0), desk.claim(wish, 0)

    for answer in (first, again):
        [claimed] = Reader(here).read(answer).claimed
        assert claimed.order.task == payload["task"]
    assert first["attempts"][0]["attempt_id"] == again["attempts"][0]["attempt_id"]


def test_hq_without_a_key_signs_nothing_and_says_so_by_that(database_url: str, here: Node) -> None:
    with served(settings_for(database_url)) as api:
        who = token("factory", factory_id=FACTORY, jti=None)
        with closing(Hq(api.url, who, factory_id=FACTORY)) as hq:
            told = hq.beat({"factory_id": FACTORY, "capabilities": ["vp_general", "transport:http"], "slots": 2})
            order = {"job_id": "j-1", "idempotency_key": "k-1", "payload": {"task": "t"}}
            api.ops.post(PUBLISH, json=order).raise_for_status()
            answer = hq.claim({"factory_id": FACTORY, "max": 1, "holding": []}, 0)

    assert KEYS_FIELD not in told["instructions"]
    assert FIELD not in answer["attempts"][0]
    assert Reader(here).read(answer).claimed == []
    assert here.refused.counts() == {"not_signed": 1}


def test_the_answer_to_a_beat_names_the_keys(signing: Api, desk: Hq, here: Node) -> None:
    told = desk.beat({"factory_id": FACTORY, "capabilities": [], "slots": 2})

    assert told["instructions"][KEYS_FIELD]["list"]["keys"] == [public_of(KEY)]
    assert KEY not in json.dumps(told)


# What a factory learns of keys.


def beaten(here: Node, announced: Any) -> None:
    """One beat of the factory, which HQ answers with this."""
    assert isinstance(here.hq, HeardHq)
    here.hq.instructions = {KEYS_FIELD: announced} if announced else {}
    assert send_beat(here, "test")


def now() -> float:
    return utc_now().timestamp()


def test_a_new_key_is_trusted_as_soon_as_a_known_one_vouches_for_it(here: Node) -> None:
    new = new_key()
    assert read(here, handed(key=new)).claimed == []
    beaten(here, announcement(SIGNER, [public_of(KEY), public_of(new)], now()))
    assert read(here, handed(key=new)).claimed
    assert read(here, handed()).claimed, "the old one still signs"
    beaten(here, announcement(signer_of(new), [public_of(new)], now() + 1))

    assert read(here, handed()).claimed == [], "the old one has ended"
    assert read(here, handed(key=new)).claimed


def test_a_factory_that_knows_none_of_hqs_keys_takes_nothing_and_says_that_it_is_paused(here: Node) -> None:
    """It would refuse all of it; so what waits for it goes to others."""
    stranger = new_key()
    beaten(here, announcement(signer_of(stranger), [public_of(stranger)], now()))
    assert is_kept_away(here.spool.noted_all())
    assert here.spool.noted(notes.KEYS_REFUSED) == "unknown_key"
    assert here.mission_keys().keys() == {SIGNER.kid}, "the stranger's key is not believed"
    beaten(here, announcement(SIGNER, [public_of(KEY)], now()))

    assert isinstance(here.hq, HeardHq)
    assert here.hq.last["registration_status"] == "paused"
    assert not is_kept_away(here.spool.noted_all())
    beaten(here, None)
    assert here.hq.last["registration_status"] == "online"


def test_a_factory_that_joins_again_believes_what_it_is_given_then(here: Node, tmp_path: Path) -> None:
    new, other = new_key(), new_key()
    beaten(here, announcement(SIGNER, [public_of(new), public_of(KEY)], now()))
    rejoined = node_at(tmp_path, HeardHq(), UA_MISSION_KEYS=public_of(other))

    assert rejoined.mission_keys().keys() == {signer_of(other).kid}
    assert replace(here).mission_keys().keys() == {SIGNER.kid, signer_of(new).kid}


def test_a_factory_without_keys_learns_none(tmp_path: Path) -> None:
    trusting = node_at(tmp_path, HeardHq())
    beaten(trusting, announcement(SIGNER, [public_of(KEY)], now()))

    assert trusting.mission_keys() == {}
    assert not is_kept_away(trusting.spool.noted_all())
