"""Parsers of what comes over Redis and out of the mailbox, and of what is signed."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from inspect import signature
from typing import Any, Final

from hypothesis import strategies as st
from malformed_messages import QUEUE, document
from parsers import Parser
from strange_input import ANYTHING, bodies, data, documents, texts, written

from corporation.delegation import arrived, codec
from corporation.envelope import EnvelopeRefused, parse_wire, wire
from corporation.federation import message_frame
from corporation.federation.message_gate import Rules, Trust, judge, judge_broadcast
from corporation.missions import collect, outcomes
from corporation.missions.kinds import resolve
from corporation.missions.retry import LARGEST_COUNT, read_retry_count
from corporation.missions.store.reporting import Letter
from corporation.trust import claimed_orders, key_announcement, keyring, redis_acl, signatures, update_manifest

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
SECONDS: Final = NOW.timestamp()
SIGNER: Final = keyring.signer_of("A" * 43 + "=")
PUBLIC: Final = keyring.public_of("A" * 43 + "=")
KEYS: Final = keyring.keys_by_id([PUBLIC])
ENVELOPE: Final = {
    **{"job_id": "j-1", "idempotency_key": "k-1", "priority": 1, "timeout_seconds": 60, "max_retries": 3},
    "payload": {"task": "Tidy", "context": {"_retry_count": 1}},
}


def noop(order: dict[str, Any]) -> None: ...


UNSIGNED: Final = Rules(lambda name: signature(noop) if name == "mission.noop" else None, "desk-7.control")
GUARDED: Final = Rules(UNSIGNED.signature_of, UNSIGNED.control_queue, Trust("desk-7", lambda: KEYS))
WHOLE: Final = document()
_BODY: Final = [[], {"order": {"job_id": "m-1", "attempt": 1, "factory_id": "desk-7"}}, {}]
_ID: Final = WHOLE["headers"]["id"]
SIGNED: Final = {
    **WHOLE,
    "headers": {
        **WHOLE["headers"],
        **signatures.sign(SIGNER, signatures.Signed("mission.noop", _ID, "m-1", "desk-7", 1), [], _BODY[1], SECONDS),
    },
}
CLAIMED: Final = {
    **{"attempt_id": _ID, "attempt": 1, "job_id": "m-1", "mission_kind": "noop", "timeout_seconds": 60},
    "envelope": ENVELOPE,
}
MANIFEST: Final = update_manifest.Manifest(
    "1.2.0", "a" * 40, "b" * 40, {"x-1-py3-none-any.whl": "c" * 64}, 1, 1, int(SECONDS), int(SECONDS) + 86_400, "canary"
)
DIRECTIONS: Final = {"f_desk-7": [b"count", 1, b"reason", b"key", b"object", b"x", b"username", b"f_desk-7"]}


def _wired(given: Any) -> None:
    envelope = parse_wire(given)
    resolve(envelope)

    assert parse_wire(json.loads(json.dumps(wire(envelope)))) == envelope


def _entry(fields: Mapping[bytes, bytes] | None) -> None:
    found = codec.read_entry("1-0", fields)
    if isinstance(found, codec.Unreadable):
        assert len(found.failure_error) <= codec.LONGEST_SENTENCE
        _is_unsaid(found.failure_error)
        codec.dead_letter_envelope(codec.DeadLetter(found.job_id, found.failure_error, 0, "malformed", found.raw))
        return
    codec.mission_fields(wire(found.envelope))


def _is_unsaid(text: str) -> None:
    from canary import shows

    assert not shows(text), text


def _judged(rules: Rules) -> Callable[[bytes], None]:
    def read(raw: bytes) -> None:
        verdict = judge(raw, QUEUE, rules, NOW)
        why = getattr(verdict, "why", "")
        assert why.isprintable()
        if rules.trust is None:
            return
        # Nothing but what the key signed is ever accepted.
        accepted = getattr(verdict, "document", None)
        assert accepted is None or accepted["headers"][signatures.ENVELOPE] == SIGNED["headers"][signatures.ENVELOPE]

    return read


def _letter(letter: tuple[str, bytes]) -> None:
    outcome, fields = collect.read_letter(Letter(1, _ID, *letter))
    collect.settle  # noqa: B018 - named, so that a change of what follows is seen here
    assert isinstance(fields, Mapping)
    again = outcomes.from_report(outcomes.to_report(outcome))
    assert type(again) is type(outcome)


def _outcome(report: Any) -> None:
    outcome = outcomes.from_report(report)

    assert outcomes.from_report(outcomes.to_report(outcome)) == outcome


def _checked(one: Any) -> None:
    if isinstance(one, Mapping):
        claimed_orders.check(one, "desk-7", KEYS, SECONDS)


def _verified(headers: Any) -> None:
    if isinstance(headers, Mapping):
        claimed = signatures.Claimed("mission.noop", _ID, "desk-7", [], _BODY[1])
        signed = signatures.verify(headers, claimed, KEYS, SECONDS)
        assert (signed.task, signed.id, signed.factory) == ("mission.noop", _ID, "desk-7")


def _learned(announced: Any) -> None:
    note = key_announcement.learned(announced, [PUBLIC], None, SECONDS)

    assert note is None or key_announcement.trusted([PUBLIC], note)


def _manifest(told: Any) -> None:
    assert update_manifest.verify(told, KEYS) == MANIFEST


class _Answers:
    """A server of whom only what it answers is known."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def execute_command(self, *_: str) -> Any:
        return self._answer


_LOGGED: Final = [
    b"count",
    3,
    b"reason",
    b"key",
    b"object",
    b"k",
    b"username",
    b"f_x",
    b"age-seconds",
    b"1.5",
    b"entry-id",
    7,
]

OF_MESSAGES: Final = [
    Parser("corporation.envelope:parse_wire", bodies(ENVELOPE), _wired, (EnvelopeRefused,), echoes="places only"),
    Parser(
        "corporation.delegation.codec:read_entry",
        st.one_of(
            st.none(),
            st.fixed_dictionaries({b"envelope": written(ENVELOPE)}, optional={b"job_id": data(b"j-1")}),
            st.dictionaries(data(b"envelope"), data(), max_size=3),
        ),
        _entry,
    ),
    Parser("corporation.delegation.arrived:object_in", written(ENVELOPE), arrived.object_in),
    Parser("corporation.federation.message_gate:judge", written(WHOLE, SIGNED), _judged(UNSIGNED)),
    Parser("corporation.federation.message_gate:judge", written(SIGNED, WHOLE), _judged(GUARDED)),
    Parser("corporation.federation.message_gate:judge_broadcast", written(WHOLE), judge_broadcast),
    Parser("corporation.federation.message_frame:framed", written(WHOLE), message_frame.framed, (message_frame.Cause,)),
    Parser(
        "corporation.federation.message_frame:json_in",
        documents(WHOLE["body"]),
        message_frame.json_in,
        (message_frame.Cause,),
    ),
    Parser(
        "corporation.missions.collect:read_letter",
        st.tuples(
            texts("SUCCESS", "FAILURE", "REVOKED"),
            written(
                {"outcome": "failed", "error": "x", "result": {}},
                {"exc_type": "SystemExit", "exc_message": ["1"], "exc_module": "builtins"},
            ),
        ),
        _letter,
    ),
    Parser(
        "corporation.missions.outcomes:from_report",
        documents({"outcome": "later", "error": "x", "after_seconds": 5}, {"outcome": "done", "result": {"a": 1}}),
        _outcome,
    ),
    Parser(
        "corporation.missions.retry:read_retry_count",
        st.one_of(ANYTHING, texts("-3", "٣", " 0007 ")),
        lambda value: read_retry_count(value) in (None, *range(10)) or _within(read_retry_count(value)),
    ),
    Parser(
        "corporation.trust.signatures:verify",
        documents({name: SIGNED["headers"][name] for name in (signatures.ENVELOPE, signatures.SIGNATURE)}),
        _verified,
        (signatures.ForgedError,),
    ),
    Parser(
        "corporation.trust.claimed_orders:check",
        documents({**CLAIMED, claimed_orders.FIELD: claimed_orders.signature_of(SIGNER, CLAIMED, "desk-7", SECONDS)}),
        _checked,
        (signatures.ForgedError,),
    ),
    Parser(
        "corporation.trust.key_announcement:learned",
        documents(key_announcement.announcement(SIGNER, [PUBLIC], SECONDS)),
        _learned,
        (signatures.ForgedError,),
    ),
    Parser(
        "corporation.trust.key_announcement:trusted",
        texts('{"at":1,"keys":["x"],"pinned":"y"}', "[" * 5000),
        lambda noted: key_announcement.trusted([PUBLIC], noted),
    ),
    Parser("corporation.trust.keyring:kid_of", texts(PUBLIC), keyring.kid_of, (keyring.BadKeyError,)),
    Parser("corporation.trust.keyring:signer_of", texts(PUBLIC), keyring.signer_of, (keyring.BadKeyError,)),
    Parser(
        "corporation.trust.update_manifest:verify",
        documents(update_manifest.sign(SIGNER, MANIFEST)),
        _manifest,
        (update_manifest.ManifestRefusedError,),
    ),
    Parser(
        "corporation.trust.update_manifest:manifest_in",
        documents(vars(MANIFEST)),
        update_manifest.manifest_in,
        (update_manifest.ManifestRefusedError,),
    ),
    Parser(
        "corporation.trust.update_manifest:release_of",
        texts("1.2.0", "1٣.0"),
        update_manifest.release_of,
        (update_manifest.ManifestRefusedError,),
    ),
    Parser(
        "corporation.trust.redis_acl:read_log",
        st.lists(
            st.one_of(
                st.lists(
                    st.one_of(data(*(one for one in _LOGGED if isinstance(one, bytes))), st.integers()), max_size=14
                ),
                st.just(_LOGGED),
            ),
            max_size=3,
        ),
        lambda entries: redis_acl.Acl(_Answers(entries)).read_log(),  # pyright: ignore[reportArgumentType]
    ),
    Parser(
        "corporation.trust.redis_acl:lines",
        st.lists(data(b"user f_desk-7 on #aa ~factory.desk-7 -@all"), max_size=4),
        lambda lines: [redis_acl.is_on(line) for line in redis_acl.Acl(_Answers(lines)).lines().values()],  # pyright: ignore[reportArgumentType]
    ),
]


def _within(count: int | None) -> bool:
    assert count is not None
    assert 0 <= count <= LARGEST_COUNT
    return True
