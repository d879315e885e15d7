"""What signing costs: `python -m ops.bench.signature_cost` times one mission signed, verified, and judged by the gate.

Each figure is the best of ROUNDS runs of LOOPS each, in microseconds, with a mission of about a kilobyte.
"""

import json
from base64 import b64encode
from datetime import UTC, datetime
from inspect import signature
from timeit import repeat
from typing import Any, Final

from corporation.federation.message_gate import Accepted, Rules, Trust, judge
from corporation.trust.claimed_orders import FIELD, check, signature_of
from corporation.trust.keyring import new_key, signer_of
from corporation.trust.signatures import Claimed, Signed, digest_of, sign, verify

ROUNDS: Final = 25
LOOPS: Final = 200
NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
QUEUE: Final = "factory.desk-7"
ATTEMPT: Final = "11111111-1111-4111-8111-111111111111"


def main() -> None:
    """Print the figures, one a line."""
    signer, at = signer_of(new_key()), NOW.timestamp()
    keys = {signer.kid: signer.key.public_key()}
    order = _order()
    about = Signed("mission.noop", ATTEMPT, "m-1", "desk-7", 1)
    claimed = Claimed("mission.noop", ATTEMPT, "desk-7", (), {"order": order})
    headers = sign(signer, about, (), {"order": order}, at)
    raw = _message(order, headers)
    handed = {**order, "attempt_id": ATTEMPT, "mission_kind": "noop"}
    handed[FIELD] = signature_of(signer, handed, "desk-7", at)

    def task(order: dict[str, Any]) -> None: ...

    plain = Rules(lambda _: signature(task), "desk-7.control")
    trusting = Rules(plain.signature_of, plain.control_queue, Trust("desk-7", lambda: keys))
    assert isinstance(judge(raw, QUEUE, trusting, NOW), Accepted)
    print(f"a message of {len(raw)} bytes, of which the signature is {len(json.dumps(headers))}")
    for name, work in {
        "sign a mission": lambda: sign(signer, about, (), {"order": order}, at),
        "verify a mission": lambda: verify(headers, claimed, keys, at),
        "  of it, the hash of its arguments": lambda: digest_of((), {"order": order}),
        "judge a message without keys": lambda: judge(raw, QUEUE, plain, NOW),
        "judge a message with keys": lambda: judge(raw, QUEUE, trusting, NOW),
        "sign a mission over HTTPS": lambda: signature_of(signer, handed, "desk-7", at),
        "check a mission over HTTPS": lambda: check(handed, "desk-7", keys, at),
        "read a private key": lambda: signer_of(b64encode(bytes(32)).decode()),
    }.items():
        print(f"{name:36} {min(repeat(work, number=LOOPS, repeat=ROUNDS)) / LOOPS * 1e6:8.1f} µs")


def _order() -> dict[str, Any]:
    context = {"mission_kind": "noop", "text": "x" * 700, "numbers": list(range(20))}
    envelope = {"job_id": "m-1", "priority": 1, "payload": {"task": "words", "context": context}}
    return {"job_id": "m-1", "attempt": 1, "factory_id": "desk-7", "timeout_seconds": 60, "envelope": envelope}


def _message(order: dict[str, Any], headers: dict[str, Any]) -> bytes:
    nothing = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    document = {
        "body": b64encode(json.dumps([[], {"order": order}, nothing]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": "mission.noop", "id": ATTEMPT, "timelimit": [105, 60], **headers},
        "properties": {
            "correlation_id": ATTEMPT,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": ATTEMPT,
        },
    }
    return json.dumps(document).encode()


if __name__ == "__main__":
    main()
