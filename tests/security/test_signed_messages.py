"""Messages that HQ did not ask for, as a thief of the broker's password can write them: none gets to a worker's code.

Measured before, on the same gate without keys and on a stock worker whose messages Celery's `auth` serializer signs:
that one signs the body alone, so the header swap, the new id, the other factory's message and the replay ran.
"""

import copy
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from inspect import Signature, signature
from pathlib import Path
from typing import Any, Final

import pytest
from malformed_messages import QUEUE, document, order

from corporation.federation.message_frame import Reason
from corporation.federation.message_gate import OWN_JOBS, Accepted, Refused, Rules, Trust, Verdict, judge
from corporation.settings import load_settings
from corporation.trust.keyring import keys_by_id, new_key, public_of, signer_of
from corporation.trust.signatures import ENVELOPE, GOOD_FOR_SECONDS, SIGNATURE, Signed, Signer, sign
from factory_tasks.gatekeeper import Gatekeeper, trust_of
from factory_tasks.node import build_node

FACTORY: Final = "desk-7"
CONTROL_QUEUE: Final = "desk-7.control"
ANOTHER: Final = "11111111-1111-4111-8111-111111111111"
NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
SIGNER: Final = signer_of(new_key())
KEYS: Final = {SIGNER.kid: SIGNER.key.public_key()}
Message = dict[str, Any]


def mission(order: dict[str, Any]) -> None: ...


def stop_attempt(attempt_id: str, reason: str) -> None: ...


def echo(echo_id: str) -> None: ...


def own_job() -> None: ...


TASKS: Final[dict[str, Callable[..., None]]] = {
    "mission.noop": mission,
    "mission.shell": mission,
    "corporation.stop_attempt": stop_attempt,
    "corporation.echo": echo,
    **dict.fromkeys(OWN_JOBS, own_job),
}


def known(name: str) -> Signature | None:
    return signature(TASKS[name]) if name in TASKS else None


TRUSTING: Final = Rules(known, CONTROL_QUEUE)
CAREFUL: Final = replace(TRUSTING, trust=Trust(FACTORY, lambda: KEYS))


def judged(message: Message, rules: Rules = CAREFUL, queue: str = QUEUE, now: datetime = NOW) -> Verdict:
    return judge(json.dumps(message).encode(), queue, rules, now)


def inside(message: Message) -> list[Any]:
    return json.loads(b64decode(message["body"]))


def rewritten(message: Message, change: Callable[[list[Any]], Any]) -> Message:
    """The message with another body, whose change `change` makes."""
    body = inside(message)
    change(body)
    return {**message, "body": b64encode(json.dumps(body).encode()).decode()}


def signed(
    task: str = "mission.noop",
    factory: str = FACTORY,
    signer: Signer = SIGNER,
    at: datetime = NOW,
    text: str = "t",
    **delivery: Any,
) -> Message:
    """A mission as HQ sends it, all of it in order."""
    told = order(factory_id=factory, envelope={"payload": {"task": text, "context": {}}})
    message = document(headers={"task": task}, kwargs={"order": told}, **delivery)
    about = Signed(task, message["headers"]["id"], told["job_id"], factory, told["attempt"])
    message["headers"] |= sign(signer, about, (), {"order": told}, at.timestamp())
    return message


def order_of_hq(task: str, queue: str, **kwargs: Any) -> Message:
    """Something that is no mission, signed."""
    place = {"delivery_info": {"exchange": "", "routing_key": queue}}
    message = document(headers={"task": task, "timelimit": [None, None]}, body=[[], kwargs, {}], properties=place)
    about = Signed(task, message["headers"]["id"], "", FACTORY, 0)
    message["headers"] |= sign(SIGNER, about, (), kwargs, NOW.timestamp())
    return message


def header(name: str, value: Any) -> Callable[[Message], Message]:
    return lambda message: {**message, "headers": {**message["headers"], name: value}}


def enveloped(name: str, value: Any) -> Callable[[Message], Message]:
    return lambda message: header(ENVELOPE, {**message["headers"][ENVELOPE], name: value})(message)


def in_order(name: str, value: Any) -> Callable[[Message], Message]:
    return lambda message: rewritten(message, lambda body: body[1]["order"].update({name: value}))


def both(*changes: Callable[[Message], Message]) -> Callable[[Message], Message]:
    def change(message: Message) -> Message:
        for one in changes:
            message = one(message)
        return message

    return change


def without(*names: str) -> Callable[[Message], Message]:
    return lambda message: {**message, "headers": {k: v for k, v in message["headers"].items() if k not in names}}


def envelope_of(other: Message) -> Callable[[Message], Message]:
    """The headers of another mission that HQ did sign, over this one's body."""
    return lambda message: {**message, "headers": copy.deepcopy(other["headers"])}


@dataclass(frozen=True)
class Tampering:
    """What somebody who can write to the queue makes of a good message; without keys it `ran`, unless it says so."""

    name: str
    change: Callable[[Message], Message]
    reason: Reason
    ran: bool = True


TAMPERINGS: Final = (
    Tampering("header swap: another task", header("task", "mission.shell"), Reason.forged),
    Tampering("a new id", header("id", ANOTHER), Reason.forged),
    Tampering(
        "a new id in the envelope too",
        both(
            header("id", ANOTHER),
            enveloped("id", ANOTHER),
        ),
        Reason.forged,
    ),
    Tampering("body swap: another text", in_order("envelope", {"payload": {"task": "rm -rf"}}), Reason.forged),
    Tampering("body swap: another mission", in_order("job_id", "m-2"), Reason.forged),
    Tampering("body swap: another hash to it", lambda _: enveloped("sha", "0" * 64)(signed(text="x")), Reason.forged),
    Tampering("another mission's envelope", envelope_of(signed(text="other")), Reason.forged),
    Tampering("one argument more", lambda it: rewritten(it, lambda body: body[0].append(1)), Reason.forged, ran=False),
    Tampering("raised attempt in the order", in_order("attempt", 2), Reason.forged),
    Tampering("raised attempt in both", both(in_order("attempt", 2), enveloped("attempt", 2)), Reason.forged),
    Tampering("for another factory", lambda _: signed(factory="desk-8"), Reason.forged),
    Tampering(
        "for another factory, renamed",
        lambda _: both(enveloped("factory", FACTORY), in_order("factory_id", FACTORY))(signed(factory="desk-8")),
        Reason.forged,
    ),
    Tampering("expired", lambda _: signed(at=NOW - timedelta(seconds=GOOD_FOR_SECONDS)), Reason.signature_expired),
    Tampering("expired, prolonged", enveloped("exp", 4_000_000_000), Reason.forged),
    Tampering("unknown key", lambda _: signed(signer=signer_of(new_key())), Reason.unknown_key),
    Tampering("unknown key under a known id", lambda _: signed(signer=replace(SIGNER, key=_stranger())), Reason.forged),
    Tampering("no envelope", without(ENVELOPE), Reason.not_signed),
    Tampering("no signature", without(SIGNATURE), Reason.forged),
    Tampering("nothing of both", without(ENVELOPE, SIGNATURE), Reason.not_signed),
    Tampering("a field more in the envelope", enveloped("sudo", True), Reason.forged),
    Tampering("another version", enveloped("v", 0), Reason.forged),
    Tampering("longer limits", header("timelimit", [10**9, 10**9]), Reason.forged),
    Tampering("no limits", header("timelimit", [None, None]), Reason.forged),
    # These never ran, keys or none: the gate refuses them whoever sent them. On a stock worker the callback ran.
    Tampering(
        "an added callback",
        lambda it: rewritten(it, lambda body: body[2].update(callbacks=[{"task": "mission.shell"}])),
        Reason.callbacks_not_allowed,
        ran=False,
    ),
    Tampering("a result that HQ never hears of", header("ignore_result", True), Reason.bad_headers, ran=False),
)


def _stranger() -> Any:
    return signer_of(new_key()).key


def reasoned(verdict: Verdict) -> Reason:
    assert isinstance(verdict, Refused)
    return verdict.reason


def test_what_hq_signed_is_let_in() -> None:
    message = signed()

    assert judged(message) == Accepted(message)


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda one: one.name)
def test_every_tampering_is_refused_before_anything_of_it_is_run(tampering: Tampering) -> None:
    tampered = tampering.change(signed())

    assert isinstance(judged(tampered, TRUSTING), Accepted) is tampering.ran, "the attack is one"
    assert reasoned(judged(tampered)) is tampering.reason


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda one: one.name)
def test_no_forger_can_end_an_attempt_by_having_his_message_refused(tampering: Tampering) -> None:
    """HQ is told of its own messages only, and would take the word of a factory for an attempt that it holds."""
    verdict = judged(tampering.change(signed()))

    assert isinstance(verdict, Refused)
    assert verdict.answer is None


def test_an_unknown_kind_is_answered_when_hq_sent_it_and_only_then() -> None:
    genuine = signed(task="mission.of_tomorrow")
    verdict = judged(genuine)

    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.unknown_task
    assert verdict.answer
    for forged in (without(ENVELOPE, SIGNATURE)(genuine), header("task", "mission.of_yesterday")(genuine)):
        verdict = judged(forged)
        assert isinstance(verdict, Refused)
        assert verdict.answer is None


def test_orders_to_the_factory_are_signed_like_missions() -> None:
    stop = order_of_hq("corporation.stop_attempt", CONTROL_QUEUE, attempt_id="a", reason="no longer wanted")
    heard = order_of_hq("corporation.echo", QUEUE, echo_id="e")
    assert isinstance(judged(stop, queue=CONTROL_QUEUE), Accepted)
    assert isinstance(judged(heard), Accepted)

    other = rewritten(stop, lambda body: body[1].update(attempt_id="b"))
    assert reasoned(judged(other, queue=CONTROL_QUEUE)) is Reason.forged
    assert reasoned(judged(without(ENVELOPE)(stop), queue=CONTROL_QUEUE)) is Reason.not_signed
    assert reasoned(judged(without(ENVELOPE)(heard))) is Reason.not_signed


@pytest.mark.parametrize("task", OWN_JOBS)
def test_a_nodes_own_beat_needs_no_signature_and_reaches_nothing_else(task: str) -> None:
    """HQ does not send them. Whoever forges one has the node beat, which it does anyway."""
    place = {"delivery_info": {"exchange": "", "routing_key": CONTROL_QUEUE}}
    own = document(headers={"task": task}, body=[[], {}, {}], properties=place)

    assert isinstance(judged(own, queue=CONTROL_QUEUE), Accepted)
    assert reasoned(judged(document(headers={"task": task}, body=[[], {}, {}]))) is Reason.unknown_task
    loaded = document(headers={"task": task}, body=[[], {"order": order()}, {}], properties=place)
    assert reasoned(judged(loaded, queue=CONTROL_QUEUE)) is Reason.signature_mismatch


def test_a_message_that_kombu_put_back_is_still_signed() -> None:
    """kombu marks what it restores from the unacknowledged ones; HQ signed none of that."""
    message = header("redelivered", True)(signed())
    message["properties"]["delivery_info"]["redelivered"] = True

    assert isinstance(judged(message), Accepted)


def test_two_keys_are_good_while_one_takes_the_place_of_the_other() -> None:
    new = signer_of(new_key())
    rules = replace(TRUSTING, trust=Trust(FACTORY, lambda: {**KEYS, new.kid: new.key.public_key()}))

    assert isinstance(judged(signed(), rules), Accepted)
    assert isinstance(judged(signed(signer=new), rules), Accepted)


# The gatekeeper of a node.


def gatekeeper(folder: Path, **variables: str) -> Gatekeeper:
    from celery import Celery

    import celeryconfig

    settings = load_settings(
        {
            "FACTORY_ROLE": "LOCAL_WORKER",
            "UA_FACTORY_ID": FACTORY,
            "UA_REDIS_URL": "redis://127.0.0.1:1/0",
            "UA_VP_DB_PATH": str(folder / "spool.db"),
            **variables,
        }
    )
    app = Celery("worker", set_as_current=False)
    app.conf.update(celeryconfig.configuration(settings) | {"imports": []})
    app.task(mission, name="mission.noop", shared=False)
    app.finalize()
    return Gatekeeper(build_node(settings), app, lambda: NOW)


def test_what_is_forged_is_kept_and_counted_and_nobody_is_told(tmp_path: Path) -> None:
    keeper = gatekeeper(tmp_path, UA_MISSION_KEYS=_public())
    raw = json.dumps(header("task", "mission.shell")(signed())).encode()

    assert keeper.admit(json.dumps(signed()).encode(), QUEUE) is not None
    assert keeper.admit(raw, QUEUE) is None
    here = keeper._here
    [kept] = here.refused.newest(2)
    assert (kept.reason, kept.queue, here.refused.counts()) == ("forged", QUEUE, {"forged": 1})
    assert here.spool.unreported() == []


def test_a_node_without_keys_runs_what_is_not_signed(tmp_path: Path) -> None:
    """As before: one trust zone. `corporation doctor` says so."""
    keeper = gatekeeper(tmp_path)

    assert trust_of(keeper._here) is None
    assert keeper.admit(json.dumps(without(ENVELOPE, SIGNATURE)(signed())).encode(), QUEUE) is not None


def _public() -> str:
    return b64encode(SIGNER.key.public_key().public_bytes_raw()).decode()


def test_the_keys_of_a_node_are_known_by_their_ids(tmp_path: Path) -> None:
    here = gatekeeper(tmp_path, UA_MISSION_KEYS=f"{_public()},{public_of(new_key())}")._here

    assert SIGNER.kid in here.mission_keys()
    assert len(here.mission_keys()) == 2
    assert here.mission_keys().keys() == keys_by_id(here.settings.mission_keys).keys()
