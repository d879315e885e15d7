"""What no HQ may take from outside, said by a program that only knows the contract (notes bad-input §4, §6)."""

from collections.abc import Iterator
from typing import Any

import pytest
from independent_factory import BEATS, Client, full_beat, mission, small_beat
from served_api import Api

PUBLISH = "/api/v1/delegation/publish"
PERIOD = {"period_start": "2026-06-01T00:00:00+00:00", "period_end": "2026-06-01T08:00:00+00:00"}


@pytest.fixture(scope="module")
def bench(hq: Api, ops: Client) -> Iterator[Client]:
    """The factory bench-2 with a token of its own."""
    with Client(hq.url, ops.token_of("bench-2")) as client:
        client.post(BEATS, full_beat("bench-2")).raise_for_status()
        yield client


@pytest.fixture
def attempt(hq: Api, ops: Client, bench: Client, request: pytest.FixtureRequest) -> str:
    """An attempt that bench-2 holds, of a mission that nobody else knows."""
    del hq
    job_id = f"bad-{request.node.name}"[:200]
    ops.post(PUBLISH, mission(job_id, "bench-2")).raise_for_status()
    [held] = bench.claim("bench-2")
    return str(held["attempt_id"])


BEATS_REFUSED: list[tuple[str, Any, int]] = [
    ("R1 no name", {"factory_id": None}, 422),
    ("R1 a blank name", {"factory_id": "  "}, 422),
    ("R1 a name too long", {"factory_id": "x" * 201}, 422),
    ("R3 labels that are no list", {"capabilities": "vp_coder"}, 422),
    ("R3 ten thousand labels", {"capabilities": ["x"] * 10_000}, 422),
    ("R3 a megabyte", {"capabilities": ["x" * 100] * 12_000}, 413),
    ("R5 an unknown role", {"factory_role": "BOSS"}, 422),
    ("R11 a latency below nothing", {"heartbeat_latency_ms": -1}, 422),
    ("R11 NaN", {"heartbeat_latency_ms": float("nan")}, 400),
    ("R11 infinite", {"heartbeat_latency_ms": float("inf")}, 400),
    ("R11 a load below nothing", {"slots": -1}, 422),
    ("R11 a cost below nothing", {"cost_snapshot": PERIOD | {"estimated_cost_usd": -0.1}}, 422),
    ("R11 tokens below nothing", {"cost_snapshot": PERIOD | {"total_input_tokens": -1}}, 422),
    ("R11 a cost without end", {"cost_snapshot": PERIOD | {"estimated_cost_usd": 1e308}}, 422),
    ("R12 HTML", {"metadata": {"hostname": "<script>alert(1)</script>"}}, 422),
    ("R12 a terminal's orders", {"metadata": {"hostname": "\x1b[31mdesk"}}, 422),
    ("R12 NUL", {"metadata": {"hostname": "a\0b"}}, 422),
    ("an unknown status", {"registration_status": "asleep"}, 422),
    ("a status in the wrong shape", {"registration_status": 7}, 422),
    ("running that is no list", {"running": {}}, 422),
    ("metadata that is no object", {"metadata": []}, 422),
]


@pytest.mark.parametrize(
    ("change", "status"), [row[1:] for row in BEATS_REFUSED], ids=[row[0] for row in BEATS_REFUSED]
)
def test_a_beat_that_is_none_is_refused_and_stores_nothing(
    hq: Api, ops: Client, change: dict[str, Any], status: int
) -> None:
    answer = ops.post(BEATS, small_beat("odd") | change)

    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    assert hq.sql("SELECT 1 FROM corporation.factories WHERE factory_id = 'odd'") == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"\x80\x04K\x01.", b'{"factory_id": "odd", "factory_id": 1}']
)
def test_a_body_that_is_no_object_is_refused(hq: Api, ops: Client, body: bytes) -> None:
    assert ops.post(BEATS, body).status_code in (400, 422)
    assert hq.sql("SELECT 1 FROM corporation.factories WHERE factory_id = 'odd'") == []


def test_a_factory_speaks_for_itself_and_makes_itself_no_headquarters(hq: Api, bench: Client) -> None:
    """R2, R4."""
    before = hq.sql("SELECT factory_id, factory_role, capabilities::text FROM corporation.factories ORDER BY 1")
    codes = [
        bench.post(BEATS, small_beat("somebody-else")).status_code,
        bench.post(BEATS, small_beat("bench-2") | {"factory_role": "HEADQUARTERS"}).status_code,
    ]

    assert codes == [403, 403]
    assert hq.sql("SELECT factory_id, factory_role, capabilities::text FROM corporation.factories ORDER BY 1") == before


def test_look_alikes_never_share_a_queue(ops: Client) -> None:
    """R1: an id that differs from another one only in what a queue's name cannot hold is refused."""
    codes = [ops.beat(name).status_code for name in ("row/3", "row-3", "row 3")]

    assert codes == [200, 409, 409]


def test_the_clock_of_a_client_counts_for_nothing(ops: Client) -> None:
    """R6, F-14."""
    record = ops.beat("clock", last_seen_at="2999-01-01T00:00:00+00:00").json()["registration"]

    assert not record["last_seen_at"].startswith("2999")


def test_a_beat_every_few_milliseconds_is_slowed_down(ops: Client) -> None:
    """R7: the last one that was taken stays."""
    answers = [ops.beat("hasty", heartbeat_latency_ms=number) for number in range(130)]
    taken = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    rows = ops.http.get(BEATS).json()["registrations"]

    assert {answer.status_code for answer in answers} == {200, 429}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
    assert [row["heartbeat_latency_ms"] for row in rows if row["factory_id"] == "hasty"] == [taken[-1]]


def test_two_processes_with_one_name_are_told_apart(ops: Client) -> None:
    """R8, R14: the first one goes on; what comes out of order is answered and changes nothing."""
    first = ops.beat("twin", instance_id="a", beat_number=5, version="new")
    second = ops.beat("twin", instance_id="b", beat_number=1, version="other")
    older = ops.beat("twin", instance_id="a", beat_number=4, version="old")
    next_one = ops.beat("twin", instance_id="a", beat_number=6, version="newer")

    assert [one.status_code for one in (first, second, older, next_one)] == [200, 409, 200, 200]
    assert "split_brain" in second.json()["detail"]
    assert older.json()["registration"]["last_seen_at"] == first.json()["registration"]["last_seen_at"]


def test_a_removed_factory_is_nobody(hq: Api, ops: Client) -> None:
    """R9: its token ended with it."""
    ops.beat("gone").raise_for_status()
    with Client(hq.url, ops.token_of("gone")) as gone:
        assert gone.beat("gone").status_code == 200
        ops.http.delete(f"{BEATS}/gone").raise_for_status()
        assert gone.beat("gone").status_code == 401


def test_what_a_factory_runs_without_holding_it_is_to_stop(bench: Client, attempt: str) -> None:
    """R13."""
    stranger_to_all = "0b9f6c1e-0000-4000-8000-000000000000"
    running = [{"attempt_id": one, "job_id": "x"} for one in (attempt, stranger_to_all)]
    told = bench.post(BEATS, full_beat("bench-2") | {"running": running}).json()["instructions"]["cancel"]

    assert [one["attempt_id"] for one in told] == [stranger_to_all]


RESULTS_REFUSED: list[tuple[str, Any, int]] = [
    ("S4 a misspelt status", {"status": "SUCCESSS"}, 422),
    ("S4 in lower case", {"status": "success"}, 422),
    ("no status", {}, 422),
    ("S5 many megabytes", {"status": "SUCCESS", "result": {"output": "x" * 5_000_000}}, 413),
    ("S7 pickle", b"\x80\x04K\x01.", 400),
    ("S8 NUL in the error", {"status": "FAILED", "error": "a\0b"}, 422),
    ("S8 NUL deep inside", {"status": "SUCCESS", "result": {"a": [{"b": "\0"}]}}, 422),
    ("S11 a cost below nothing", {"status": "SUCCESS", "usage": {"estimated_cost_usd": -1}}, 422),
    ("S11 a cost without end", {"status": "SUCCESS", "usage": {"estimated_cost_usd": 1e308}}, 422),
    ("S11 tokens below nothing", {"status": "SUCCESS", "usage": {"input_tokens": -1}}, 422),
    ("S11 NaN", {"status": "SUCCESS", "usage": {"estimated_cost_usd": float("nan")}}, 400),
    ("a result that is no object", {"status": "SUCCESS", "result": "text"}, 422),
    ("an error that is no text", {"status": "FAILED", "error": {"a": 1}}, 422),
    ("retryable that is no bool", {"status": "FAILED", "retryable": "no"}, 422),
    ("a memo that is no object", {"status": "SUCCESS", "memo": "x"}, 422),
    ("no object at all", b"[]", 422),
    ("no JSON at all", b"{", 400),
]


@pytest.mark.parametrize(
    ("body", "status"), [row[1:] for row in RESULTS_REFUSED], ids=[row[0] for row in RESULTS_REFUSED]
)
def test_a_result_that_is_none_is_refused_and_the_attempt_goes_on(
    bench: Client, attempt: str, body: Any, status: int
) -> None:
    answer = bench.attempt(attempt, "result", body)

    assert answer.status_code == status, answer.text
    assert bench.attempt(attempt, "start").status_code == 200
    assert bench.attempt(attempt, "result", {"status": "SUCCESS"}).json()["state"] == "succeeded"


PROGRESS_REFUSED: list[tuple[str, Any, int]] = [
    ("S10 beyond a hundred", {"percent": 150}, 422),
    ("S10 below nothing", {"percent": -1}, 422),
    ("S10 no number", {"percent": "half"}, 422),
    ("S8 NUL in the message", {"message": "a\0b"}, 422),
    ("S11 tokens below nothing", {"usage": {"gpt-x": {"input_tokens": -1}}}, 422),
    ("a message without end", {"message": "x" * 10_000}, 422),
    ("lines that are none", {"log": [1]}, 422),
]


@pytest.mark.parametrize(
    ("body", "status"), [row[1:] for row in PROGRESS_REFUSED], ids=[row[0] for row in PROGRESS_REFUSED]
)
def test_progress_that_is_none_is_refused(bench: Client, attempt: str, body: Any, status: int) -> None:
    assert bench.attempt(attempt, "progress", body).status_code == status


def test_nul_in_a_log_line_is_shown_as_its_symbol_and_a_line_counts_once(hq: Api, bench: Client, attempt: str) -> None:
    """S8, S9."""
    for _ in range(2):
        bench.attempt(attempt, "progress", {"log": ["a\0b"], "log_from": 1}).raise_for_status()
    lines = hq.sql(
        "SELECT line FROM corporation.mission_log l JOIN corporation.attempts a ON a.mission_id = l.mission_id"
        " WHERE a.id = CAST(:id AS uuid)",
        id=attempt,
    )

    assert lines == [("a\u2400b",)]


def test_the_same_result_again_is_answered_alike_and_another_one_is_too_late(
    hq: Api, bench: Client, attempt: str
) -> None:
    """S1, S12, S13."""
    body = {"status": "SUCCESS", "result": {"output": "x"}}
    answers = [bench.attempt(attempt, "result", body) for _ in range(3)]
    late = bench.attempt(attempt, "result", {"status": "FAILED", "error": "after all not"})
    kept = hq.sql(
        "SELECT count(*) FROM corporation.mission_events e JOIN corporation.attempts a ON a.mission_id = e.mission_id"
        " WHERE a.id = CAST(:id AS uuid) AND e.type = 'late_result'",
        id=attempt,
    )

    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert (late.status_code, kept) == (409, [(1,)])


def test_the_result_of_an_older_attempt_is_too_late(hq: Api, ops: Client, bench: Client) -> None:
    """S2."""
    ops.post(PUBLISH, mission("twice", "bench-2", max_retries=2)).raise_for_status()
    [first] = bench.claim("bench-2")
    bench.attempt(first["attempt_id"], "result", {"status": "FAILED", "error": "no luck"}).raise_for_status()
    hq.sql("UPDATE corporation.missions SET next_attempt_at = now() WHERE job_id = 'twice'")
    [second] = bench.claim("bench-2")

    assert second["attempt"] == 2
    assert bench.attempt(first["attempt_id"], "result", {"status": "SUCCESS"}).status_code == 409
    assert bench.attempt(second["attempt_id"], "result", {"status": "SUCCESS"}).json()["state"] == "succeeded"


def test_nobody_speaks_for_the_attempt_of_another_factory(hq: Api, ops: Client, attempt: str) -> None:
    """S3."""
    ops.beat("bench-4").raise_for_status()
    with Client(hq.url, ops.token_of("bench-4")) as other:
        codes = [other.attempt(attempt, what, {"status": "SUCCESS"}).status_code for what in ("start", "result")]
        unknown = other.attempt("0b9f6c1e-0000-4000-8000-000000000001", "result", {"status": "SUCCESS"})
        claimed = other.post("/api/v1/factory/missions/claim", {"factory_id": "bench-2"})

    assert (codes, unknown.status_code, claimed.status_code) == ([403, 403], 404, 403)
