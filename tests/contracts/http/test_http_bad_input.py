"""The catalogue of bad input for publish: each row gets its answer, and what is refused leaves nothing behind."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from served_api import OPS_TOKEN, PUBLISH, Api, token

JSON = "application/json"
MB = 1_000_000


def body(**changes: Any) -> bytes:
    return json.dumps({"job_id": "j-1", "idempotency_key": "k-1", "payload": {"task": "Tidy"}} | changes).encode()


def payload(task: Any = "Tidy", context: Any = None) -> bytes:
    return body(payload={"task": task, "context": {} if context is None else context})


def raw(fragment: str) -> bytes:
    return b'{"job_id": "j-1", "idempotency_key": "k-1", "payload": {"task": "Tidy"}, ' + fragment.encode() + b"}"


def context(fragment: str) -> bytes:
    return b'{"job_id": "j", "payload": {"task": "Tidy", "context": ' + fragment.encode() + b"}}"


@dataclass(frozen=True)
class Row:
    number: str
    sent: bytes
    status: int
    cause: str | None = None
    loc: tuple[str, ...] | None = None
    media: str | None = JSON
    scope: str = "ops"
    encoding: str | None = None


ROWS = [
    Row("A1", body(), 202),
    Row("A2", b"", 400, "invalid_json"),
    Row("A3", b" \n ", 400, "invalid_json"),
    Row("A4", b"null", 422, "model_type"),
    Row("A5", b"[]", 422, "model_type"),
    Row("A6", b'"text"', 422, "model_type"),
    Row("A7", body()[:-5], 400, "invalid_json"),
    Row("A8", body() + b"x", 400, "invalid_json"),
    Row("A9", body() + body(), 400, "invalid_json"),
    Row("A10", b"\xef\xbb\xbf" + body(), 400, "invalid_json"),
    Row("A11", body().decode().encode("utf-16"), 400, "invalid_utf8"),
    Row("A12", body().replace(b"Tidy", b"Ti\xffdy"), 400, "invalid_utf8"),
    Row("A13", body().replace(b"Tidy", b"\\ud800"), 422, "lone_surrogate", ("payload", "task")),
    Row("A14", payload("a\0b"), 422, "nul_character", ("payload", "task")),
    Row("A15", payload(context={"a\0b": 1}), 422, "nul_character", ("payload", "context")),
    Row("A16", body(job_id="a\0b"), 422, "nul_character", ("job_id",)),
    Row(
        "C46", payload(context={"a": {"__type__": "x", "__value__": 1}}), 422, "plain_json_only", ("payload", "context")
    ),
    Row("A17", payload("a\u202eb"), 422, "value_error", ("payload", "task")),
    Row("A18", payload("\x1b[31mred"), 422, "value_error", ("payload", "task")),
    Row("A19", body(idempotency_key="a\r\nb"), 422, "pattern", ("idempotency_key",)),
    Row("A20", body().replace(b'"task"', b'"task": "x", "task"'), 400, "duplicate_key"),
    Row("A21", raw('"priority": NaN'), 400, "non_finite_number"),
    Row("A22", context('{"a": NaN}'), 400, "non_finite_number"),
    Row("A23", context('{"a": Infinity}'), 400, "non_finite_number"),
    Row("A24", context('{"a": 1e999}'), 400, "non_finite_number"),
    Row("A25", raw('"priority": 1.0'), 422, "int_type", ("priority",)),
    Row("A26", raw('"priority": 1.5'), 422, "int_type", ("priority",)),
    Row("A27", body(priority="1"), 422, "int_type", ("priority",)),
    Row("A28", body(priority=True), 422, "int_type", ("priority",)),
    Row("A29", body(priority=-1), 202),
    Row("A30", body(priority=10), 202),
    Row("A31", body(priority=2**31), 202),
    Row("A32", body(priority=2**63), 400, "integer_out_of_range"),
    Row("A33", raw('"priority": ' + "9" * 5000), 400, "integer_out_of_range"),
    Row("A34", body(timeout_seconds=0), 422, "greater_than_equal", ("timeout_seconds",)),
    Row("A35", body(timeout_seconds=-1), 422, "greater_than_equal", ("timeout_seconds",)),
    Row("A36", body(timeout_seconds=315_360_000), 202),
    Row("A37", body(max_retries=-1), 422, "greater_than_equal", ("max_retries",)),
    Row("A38", body(max_retries=10**6), 202),
    Row("A39", b'{"payload": {"task": "Tidy"}}', 202),
    Row("A40", body(job_id=""), 422, "too_short", ("job_id",)),
    Row("A41", body(job_id="../../etc/passwd"), 202),
    Row("A42", body(job_id=7), 422, "string_type", ("job_id",)),
    Row("A43", body(job_id="7D0F3C52-6A0E-4C1E-9A57-1F6F0F1F0A11"), 202),
    Row("A44", body(job_id="00000000-0000-0000-0000-000000000000"), 202),
    Row("A45", body(job_id="x" * MB), 413, "body_too_large"),
    Row("A45b", body(job_id="x" * 129), 422, "too_long", ("job_id",)),
    Row("A46", body(idempotency_key=""), 422, "too_short", ("idempotency_key",)),
    Row("A47", body(idempotency_key="k" * 100_000), 422, "too_long", ("idempotency_key",)),
    Row("A48", body(payload=None), 422, "model_type", ("payload",)),
    Row("A49", body(payload="text"), 422, "model_type", ("payload",)),
    Row("A50", payload(""), 422, "too_short", ("payload", "task")),
    Row("A51", payload("no colon at all"), 202),
    Row("A52", payload("unknown: prefix"), 202),
    Row("A52b", body(mission_kind="dance"), 422, "unknown_kind", ("mission_kind",)),
    Row("A53", payload("system:update_factory"), 403, "forbidden", scope="publish"),
    Row("A53b", payload("system:update_factory"), 202),
    Row("A54", payload("SYSTEM:Update_Factory"), 403, "forbidden", scope="publish"),
    Row("A55", payload(" system:update_factory"), 403, "forbidden", scope="publish"),
    Row("A55b", body(mission_kind=" System:Pause_Factory "), 403, "forbidden", scope="publish"),
    Row("A56", payload("\uff53ystem:update_factory"), 202, scope="publish"),
    Row("A57", payload("x" * MB), 413, "body_too_large"),
    Row("A58", payload(context=[]), 422, "dict_type", ("payload", "context")),
    Row("A58b", body(payload={"task": "x", "context": None}), 422, "dict_type", ("payload", "context")),
    Row("A59", payload(context={str(n): n for n in range(10_000)}), 422, "too_long", ("payload", "context")),
    Row("A60", context("[" * 500 + "]" * 500), 400, "json_too_deep"),
    Row("A61", context("[" * 100_000 + "]" * 100_000), 400, "json_too_deep"),
    Row("A62", payload(context={"__proto__": {"admin": True}}), 202),
    Row("A63", body(approved=True), 202),
    Row("A64", body(factory_role="HEADQUARTERS"), 202),
    Row("A65", payload("<script>alert(1)</script>"), 202),
    Row("A66", body(), 415, "unsupported_media_type", media=None),
    Row("A67", body(), 415, "unsupported_media_type", media="text/plain"),
    Row("A68", b"task=Tidy", 415, "unsupported_media_type", media="application/x-www-form-urlencoded"),
    Row("A69", body(), 415, "unsupported_encoding", encoding="gzip"),
    Row("A70", body(), 415, "unsupported_media_type", media="application/json; charset=latin-1"),
    Row("A70b", body(), 202, media='Application/JSON; charset="UTF-8"'),
    Row("A77", payload(context={"a": list(range(20_000))}), 422, "too_long", ("payload", "context")),
    Row("ttl over", body(ttl_seconds=0), 422, "greater_than_equal", ("ttl_seconds",)),
    Row("ttl huge", body(ttl_seconds=2**53 - 1), 422, "less_than_equal", ("ttl_seconds",)),
    Row("target 7", payload(context={"target_factory_id": 7}), 422, "string_type", ("payload", "context")),
    Row("batch empty", b'{"missions": []}', 422, "too_short", ("missions",)),
    Row("batch text", b'{"missions": "x"}', 422, "list_type", ("missions",)),
    Row("batch 1001", json.dumps({"missions": [1] * 1001}).encode(), 422, "too_long", ("missions",)),
    Row("batch 5 MB", json.dumps({"missions": ["x" * 5 * MB]}).encode(), 413, "body_too_large"),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.number for row in ROWS])
def test_each_row_of_the_catalogue_gets_its_answer(api: Api, row: Row) -> None:
    headers = {"Authorization": f"Bearer {OPS_TOKEN if row.scope == 'ops' else token(row.scope)}"}
    if row.media:
        headers["Content-Type"] = row.media
    if row.encoding:
        headers["Content-Encoding"] = row.encoding

    answer = api.ops.post(PUBLISH, content=row.sent, headers=headers)

    assert answer.status_code == row.status, answer.text
    assert api.stored() == (1 if row.status == 202 else 0)
    if row.status == 422:
        problem = answer.json()["detail"][0]
        assert [problem["type"], problem["loc"]] == [row.cause, ["body", *(row.loc or ())]]
    elif row.cause:
        assert re.match(rf"{row.cause}: ", answer.json()["detail"])


HEAD = f"POST {PUBLISH} HTTP/1.1\r\nHost: hq\r\nAuthorization: Bearer {OPS_TOKEN}\r\nContent-Type: {JSON}\r\n".encode()
CLOSE = b"Connection: close\r\n"


RAW = [
    ("A71", HEAD + b"Content-Length: 52428800\r\n\r\n" + b"x" * 1000, 413),
    ("A72", HEAD + CLOSE + b"Content-Length: 20\r\n\r\n" + body(), 400),
    ("A74", HEAD + CLOSE + b"X-Big: " + b"x" * 65536 + b"\r\nContent-Length: 2\r\n\r\n{}", 431),
    ("A75", HEAD.replace(b"POST", b"GET") + CLOSE + b"\r\n", 405),
    (
        "A76",
        HEAD.replace(b"POST", b"GET").replace(PUBLISH.encode(), b"/api/v1/../../etc/passwd") + CLOSE + b"\r\n",
        404,
    ),
    (
        "A76b",
        HEAD.replace(b"POST", b"GET").replace(PUBLISH.encode(), b"/%2e%2e/%2e%2e/etc/passwd") + CLOSE + b"\r\n",
        404,
    ),
    ("no http", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
]


@pytest.mark.parametrize(("sent", "status"), [row[1:] for row in RAW], ids=[row[0] for row in RAW])
def test_what_is_wrong_below_json_gets_its_answer_too(api: Api, sent: bytes, status: int) -> None:
    answer = api.exchange(sent)

    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert api.stored() == 0


def test_a_body_without_a_length_is_counted_while_it_is_read(api: Api) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    answer = api.ops.post(PUBLISH, content=endless(), headers={"Content-Type": JSON})

    assert answer.status_code == 413
    assert api.stored() == 0


def test_a_stranger_is_refused_before_the_body_is_read(api: Api) -> None:
    head = HEAD.replace(OPS_TOKEN.encode(), b"wrong") + CLOSE + b"Content-Length: 1000\r\n\r\n"

    assert api.exchange(head).startswith(b"HTTP/1.1 401 ")


def test_no_refusal_repeats_what_was_sent(api: Api) -> None:
    secret = "hunter2-hunter2"
    sent = [body(priority=secret), body(mission_kind=secret), payload(context=secret), f'{{"{secret}'.encode()]

    answers = [api.ops.post(PUBLISH, content=one, headers={"Content-Type": JSON}) for one in sent]

    assert [answer.status_code for answer in answers] == [422, 422, 422, 400]
    assert all(secret not in answer.text + str(answer.headers) for answer in answers)
