"""Dead letters over HTTP, and missions asked for again (contract http §7 H-27, §9)."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from served_api import PUBLISH, Api, token

DLQ = "/api/v1/dlq"
Order = Callable[..., dict[str, Any]]
MALFORMED = '{"job_id": "j-88", "idempotency_key": "k-88", "payload": {"context": {}}}'


def failed(api: Api, order: Order, job_id: str = "j-1", state: str = "failed", **changes: Any) -> str:
    """A mission that ended so; its dead letter's id."""
    document = order(job_id=job_id, idempotency_key=f"k-{job_id}", **changes)
    assert api.ops.post(PUBLISH, json=document).status_code == 202
    api.sql(
        """WITH over AS (
             UPDATE corporation.missions SET state = :state, state_reason = NULL, finished_at = now(), error = 'exit 2',
                    event_seq = event_seq + 1 WHERE job_id = :job_id RETURNING id, event_seq)
           INSERT INTO corporation.mission_events (mission_id, seq, type) SELECT id, event_seq, :state FROM over""",
        job_id=job_id,
        state=state,
    )
    [row] = api.sql("SELECT id FROM corporation.dead_letters WHERE job_id = :job_id", job_id=job_id)
    return f"dl-{row.id}"


def refused(api: Api, raw: bytes | None = MALFORMED.encode(), job_id: str = "j-88", entry: str = "1-0") -> str:
    """An entry of the stream that was no mission; its dead letter's id."""
    [row] = api.sql(
        """INSERT INTO corporation.dead_letters (job_id, cause, code, failure_error, raw, stream, stream_entry_id)
           VALUES (:job_id, 'malformed', 'missing_field', 'invalid envelope: payload.task is missing', :raw, 's',
                   :entry) RETURNING id""",
        job_id=job_id,
        raw=raw,
        entry=entry,
    )
    return f"dl-{row.id}"


def entries(api: Api, **query: str) -> list[dict[str, Any]]:
    """The listed dead letters."""
    return api.ops.get(DLQ, params=query).json()["entries"]


def test_a_malformed_entry_is_listed_in_the_shape_of_the_contract(api: Api) -> None:
    """S-38."""
    letter = refused(api)
    [entry] = entries(api)

    assert entry.pop("created_at").endswith("+00:00")
    assert entry == {
        "dlq_id": letter,
        "job_id": "j-88",
        "cause": "malformed",
        "failure_error": "invalid envelope: payload.task is missing",
        "retry_count": 0,
        "status": "open",
        "stream_entry_id": "1-0",
        "raw": MALFORMED,
        "envelope": None,
        "resolved_at": None,
        "replay_job_id": None,
    }


@pytest.mark.parametrize("state", ["failed", "timed_out"])
def test_every_mission_that_failed_is_listed_with_its_order(api: Api, order: Order, state: str) -> None:
    failed(api, order, state=state)
    [entry] = entries(api)

    assert (entry["cause"], entry["failure_error"], entry["raw"]) == (state, "exit 2", None)
    assert entry["envelope"]["payload"]["task"] == "Tidy the notes"


def test_bytes_that_are_no_text_are_listed_as_base64(api: Api) -> None:
    refused(api, b"\xff\xfe")
    [entry] = entries(api)

    assert (entry["raw"], entry["raw_base64"]) == (None, "//4=")


def test_of_a_text_that_is_not_all_kept_the_size_and_the_hash_are_listed(api: Api) -> None:
    letter = refused(api, b"{" * 4096)
    api.sql("UPDATE corporation.dead_letters SET raw_size = 70000, raw_sha256 = :digest", digest=b"\x01" * 32)
    shown = api.ops.get(f"{DLQ}/{letter}").json()

    assert (shown["raw"], shown["raw_size"], shown["raw_sha256"]) == ("{" * 4096, 70000, "01" * 32)


def test_one_is_shown_as_it_is_listed(api: Api, order: Order) -> None:
    letter = failed(api, order)

    assert api.ops.get(f"{DLQ}/{letter}").json() == entries(api)[0]
    assert api.ops.get(f"{DLQ}/dl-999999").status_code == 404


def test_pages_are_newest_first_and_lose_nothing(api: Api) -> None:
    made = [refused(api, entry=f"{number}-0") for number in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = api.ops.get(DLQ, params={"limit": "2"} | ({"cursor": cursor} if cursor else {})).json()
        seen += [entry["dlq_id"] for entry in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == made[::-1]
    assert api.ops.get(DLQ, params={"cursor": "nonsense"}).status_code == 400


def test_the_status_is_a_filter(api: Api) -> None:
    put_away, left = refused(api, entry="1-0"), refused(api, entry="2-0")
    api.ops.post(f"{DLQ}/{put_away}/discard", json={"reason": "a test"})

    assert [entry["dlq_id"] for entry in entries(api)] == [left]
    assert [entry["dlq_id"] for entry in entries(api, status="discarded")] == [put_away]
    assert len(entries(api, status="all")) == 2
    assert api.ops.get(DLQ, params={"status": "lost"}).status_code == 422


def test_a_failed_mission_runs_again_under_a_new_name_with_all_its_attempts(api: Api, order: Order) -> None:
    """H-27."""
    letter = failed(api, order, payload={"task": "x", "context": {"_retry_count": 2, "a": 1}}, max_retries=3)
    answer = api.ops.post(f"{DLQ}/{letter}/replay")

    assert (answer.status_code, answer.json()) == (
        202,
        {"dlq_id": letter, "status": "replayed", "job_id": "j-1-r1", "location": "/api/v1/missions/j-1-r1"},
    )
    again = api.ops.get("/api/v1/missions/j-1-r1").json()
    assert (again["source"], again["replay_of"], again["attempts_left"]) == ("replay", "j-1", 3)
    assert again["envelope"]["payload"]["context"] == {"a": 1, "_retry_count": 0}
    events = api.ops.get("/api/v1/missions/j-1/events").json()["events"]
    assert (events[-1]["type"], events[-1]["detail"]) == ("replayed", {"job_id": "j-1-r1"})
    assert [entry["replay_job_id"] for entry in entries(api, status="replayed")] == ["j-1-r1"]


def test_a_replay_that_is_asked_for_twice_or_by_two_at_once_happens_once(api: Api, order: Order) -> None:
    letter = failed(api, order)
    together = Barrier(4)

    def ask(_: int) -> str:
        together.wait(10)
        return api.ops.post(f"{DLQ}/{letter}/replay").json()["job_id"]

    with ThreadPoolExecutor(4) as pool:
        names = set(pool.map(ask, range(4)))

    assert names == {"j-1-r1"}
    assert api.stored() == 2


def test_a_malformed_entry_needs_an_order_to_run(api: Api) -> None:
    letter = refused(api)
    without = api.ops.post(f"{DLQ}/{letter}/replay", json={})
    bad = api.ops.post(f"{DLQ}/{letter}/replay", json={"envelope": {"payload": {}}})
    good = api.ops.post(f"{DLQ}/{letter}/replay", json={"envelope": json.loads(MALFORMED) | {"payload": {"task": "x"}}})

    assert (without.status_code, bad.status_code, good.status_code) == (422, 422, 202)
    assert without.json()["detail"][0]["loc"] == ["body", "envelope"]
    assert bad.json()["detail"][0]["loc"] == ["body", "envelope", "payload", "task"]
    assert good.json()["job_id"] == "j-88-r1"


def test_an_order_without_names_gets_the_letters(api: Api) -> None:
    letter = refused(api)
    answer = api.ops.post(f"{DLQ}/{letter}/replay", json={"envelope": {"payload": {"task": "x"}}})
    nameless = api.ops.post(
        f"{DLQ}/{refused(api, b'[]', '', '2-0')}/replay", json={"envelope": {"payload": {"task": "x"}}}
    )

    assert answer.json()["job_id"] == "j-88-r1"
    assert nameless.status_code == 202
    assert len(nameless.json()["job_id"]) == 36


def test_an_order_may_bring_its_own_names_but_none_that_is_taken(api: Api, order: Order) -> None:
    api.ops.post(PUBLISH, json=order(job_id="taken", idempotency_key="k-taken"))
    letter = refused(api)
    taken = api.ops.post(f"{DLQ}/{letter}/replay", json={"envelope": order(job_id="taken", idempotency_key="new")})
    own = api.ops.post(f"{DLQ}/{letter}/replay", json={"envelope": order(job_id="own", idempotency_key="new")})

    assert (taken.status_code, own.status_code, own.json()["job_id"]) == (409, 202, "own")


@pytest.mark.parametrize("body", [{"timeout_seconds": 30}, {"payload": {"task": "x"}}, {"task": "x", "envelope": None}])
@pytest.mark.parametrize("where", ["letter", "mission"])
def test_a_changed_order_outside_of_envelope_runs_nothing_and_uses_up_nothing(
    api: Api, order: Order, body: dict[str, Any], where: str
) -> None:
    """Ignored as unknown keys are (H-2), the order would run unchanged and its caller believe otherwise."""
    letter = failed(api, order)
    path = f"{DLQ}/{letter}/replay" if where == "letter" else "/api/v1/missions/j-1/replay"
    answer = api.ops.post(path, json=body)
    [problem] = answer.json()["detail"]

    assert (answer.status_code, problem["loc"]) == (422, ["body", next(iter(body))])
    assert "envelope" in problem["msg"]
    assert api.stored() == 1
    assert [entry["dlq_id"] for entry in entries(api)] == [letter]


def test_what_is_no_part_of_an_order_is_ignored_in_a_replay(api: Api, order: Order) -> None:
    """H-2."""
    letter = failed(api, order)

    assert api.ops.post(f"{DLQ}/{letter}/replay", json={"reason": "again"}).status_code == 202


def test_a_mission_is_asked_for_again_with_a_changed_order(api: Api, order: Order) -> None:
    failed(api, order, payload={"task": "x", "context": {"a": 1, "_retry_count": 2}}, timeout_seconds=3)
    old = api.ops.get("/api/v1/missions/j-1").json()["envelope"]
    path = "/api/v1/missions/j-1/replay"
    copied = api.ops.post(path, json={"envelope": old | {"timeout_seconds": 30}})
    nameless = api.ops.post(path, json={"envelope": {"payload": {"task": "y"}}, "target_factory_id": ""})
    named = api.ops.post(path, json={"envelope": {"payload": {"task": "z"}, "job_id": "mine"}, "idempotency_key": "k"})

    assert [answer.status_code for answer in (copied, nameless, named)] == [202, 202, 202]
    assert [answer.json()["job_id"] for answer in (copied, nameless, named)] == ["j-1-r1", "j-1-r2", "mine"]
    again = api.ops.get("/api/v1/missions/j-1-r1").json()
    assert (again["replay_of"], again["timeout_seconds"], again["idempotency_key"]) == ("j-1", 30, "k-j-1-r1")
    assert again["envelope"]["payload"]["context"] == {"a": 1, "_retry_count": 0}
    assert api.ops.get("/api/v1/missions/mine").json()["idempotency_key"] == "k"


def test_a_changed_order_of_a_mission_is_judged_like_one_that_is_published(api: Api, order: Order) -> None:
    failed(api, order)
    path = "/api/v1/missions/j-1/replay"
    unknown = api.ops.post(path, json={"envelope": order(mission_kind="dance")})
    strange = api.ops.post(path, json={"envelope": order(payload={"task": "x", "context": {"target_factory_id": "b"}})})
    bad = api.ops.post(path, json={"envelope": {"payload": {}}})

    assert [answer.status_code for answer in (unknown, strange, bad)] == [422, 404, 422]
    assert bad.json()["detail"][0]["loc"] == ["body", "envelope", "payload", "task"]
    assert api.stored() == 1


def test_an_unknown_kind_is_refused_in_an_edited_order_as_it_is_when_published(api: Api, order: Order) -> None:
    """H-25."""
    answer = api.ops.post(f"{DLQ}/{refused(api)}/replay", json={"envelope": order(mission_kind="dance")})
    [problem] = answer.json()["detail"]

    assert (answer.status_code, problem["type"]) == (422, "unknown_kind")
    assert problem["loc"] == ["body", "envelope", "mission_kind"]


def test_an_edited_order_for_an_unknown_factory_is_refused_unless_it_may_wait(api: Api, order: Order) -> None:
    """D5, as when it is published."""
    letter = refused(api)
    edited = {"envelope": order(payload={"task": "x", "context": {"target_factory_id": "desk-7"}})}
    answers = [api.ops.post(f"{DLQ}/{letter}/replay{query}", json=edited) for query in ("", "?wait=true")]

    assert [answer.status_code for answer in answers] == [404, 202]
    assert answers[0].json()["detail"].startswith("unknown_factory")


def test_a_mission_whose_target_never_came_runs_again_as_it_was(api: Api, order: Order) -> None:
    letter = failed(api, order, state="timed_out", payload={"task": "x"})
    api.sql("""UPDATE corporation.missions SET envelope = replace(CAST(envelope AS text), '"context": {}',
                      '"context": {"target_factory_id": "desk-7"}')::json""")

    assert api.ops.post(f"{DLQ}/{letter}/replay").status_code == 202
    assert api.ops.get("/api/v1/missions/j-1-r1").json()["target_factory_id"] == "desk-7"


def test_a_conflicting_entry_runs_as_it_came_under_a_new_name(api: Api, order: Order) -> None:
    """S-39: adding it to the stream again would change nothing; this does."""
    api.ops.post(PUBLISH, json=order())
    [row] = api.sql(
        """INSERT INTO corporation.dead_letters (mission_id, job_id, cause, code, failure_error, raw, stream,
                                                 stream_entry_id)
           SELECT id, 'j-1', 'conflict', 'conflict', 'job_id conflict: j-1', :raw, 's', '1-0' FROM corporation.missions
           RETURNING id""",
        raw=json.dumps(order(priority="7")).encode(),
    )
    [entry] = entries(api)
    answer = api.ops.post(f"{DLQ}/dl-{row.id}/replay")

    assert (entry["cause"], entry["envelope"]["priority"]) == ("conflict", "7")
    assert answer.json()["job_id"] == "j-1-r1"
    assert api.ops.get("/api/v1/missions/j-1-r1").json()["priority"] == 7


def test_what_was_resolved_one_way_is_not_resolved_another(api: Api, order: Order) -> None:
    replayed, discarded = failed(api, order), refused(api)
    api.ops.post(f"{DLQ}/{replayed}/replay")
    first = api.ops.post(f"{DLQ}/{discarded}/discard")
    again = api.ops.post(f"{DLQ}/{discarded}/discard", json={"reason": "again"})

    assert (first.status_code, first.json()) == (200, {"dlq_id": discarded, "status": "discarded"})
    assert again.json() == first.json()
    assert api.ops.post(f"{DLQ}/{replayed}/discard").status_code == 409
    assert api.ops.post(f"{DLQ}/{discarded}/replay").status_code == 409


@pytest.mark.parametrize("dlq_id", ["dl-999999", "dl-0", "dl-x", "7", "dl-99999999999999999999", "dl-1%00"])
@pytest.mark.parametrize("what", ["replay", "discard"])
def test_a_dead_letter_that_is_not_there_is_404(api: Api, dlq_id: str, what: str) -> None:
    assert api.ops.post(f"{DLQ}/{dlq_id}/{what}").status_code == 404


@pytest.mark.parametrize("scope", ["publish", "factory"])
def test_dead_letters_are_for_operators(api: Api, scope: str) -> None:
    more = {"factory_id": "desk-7"} if scope == "factory" else {}
    doors = [f"{DLQ}/dl-1/replay", f"{DLQ}/dl-1/discard", "/api/v1/missions/j-1/replay"]
    with api.as_token(token(scope, **more)) as stranger:
        answers = [stranger.get(DLQ).status_code, *(stranger.post(door).status_code for door in doors)]

    assert answers == [403] * 4


def test_a_mission_is_replayed_only_when_it_has_ended(api: Api, order: Order) -> None:
    """H-27: each call makes another one."""
    api.ops.post(PUBLISH, json=order(job_id="a/b", idempotency_key="k-a"))
    waiting = api.ops.post("/api/v1/missions/a%2Fb/replay")
    failed(api, order)
    names = [api.ops.post("/api/v1/missions/j-1/replay").json()["job_id"] for _ in range(3)]
    elsewhere = {"job_id": "own", "target_factory_id": "desk-7"}
    stranger = api.ops.post("/api/v1/missions/j-1/replay", json=elsewhere)
    own = api.ops.post("/api/v1/missions/j-1/replay?wait=true", json=elsewhere)

    assert (waiting.status_code, stranger.status_code) == (409, 404)
    assert names == ["j-1-r1", "j-1-r2", "j-1-r3"]
    assert own.json() == {
        "job_id": "own",
        "replay_of": "j-1",
        "state": "waiting",
        "location": "/api/v1/missions/own",
    }
    assert api.ops.get("/api/v1/missions/own").json()["target_factory_id"] == "desk-7"
    assert api.ops.post("/api/v1/missions/j-1/replay", json={"job_id": "own"}).status_code == 409
    assert api.ops.post("/api/v1/missions/nobody/replay").status_code == 404


@pytest.mark.parametrize("name", ["job_id", "idempotency_key"])
@pytest.mark.parametrize("bad", ["", "x" * 129, "two\nlines", "right\u202eto left", "nul\0", 7])
def test_a_replay_is_given_no_name_that_an_order_may_not_have(api: Api, order: Order, name: str, bad: Any) -> None:
    failed(api, order)
    answer = api.ops.post("/api/v1/missions/j-1/replay", json={name: bad})

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", name]
    assert api.stored() == 1
