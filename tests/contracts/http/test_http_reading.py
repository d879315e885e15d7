"""Reading missions, health, and what every answer carries."""

from collections.abc import Callable
from typing import Any

import pytest
import stranger
from served_api import OPS_TOKEN, PUBLISH, Api, served, settings_for

MISSIONS = "/api/v1/missions"
Make = Callable[..., dict[str, Any]]
ROW_KEYS = {
    *("job_id", "idempotency_key", "mission_kind", "requested_kind", "state", "state_reason", "priority", "source"),
    *("target_factory_id", "factory_id", "attempt", "attempts_left", "created_at", "started_at", "finished_at"),
    *("deadline_at", "next_attempt_at", "error"),
}
DETAIL_KEYS = {
    *("aliases", "parent_job_id", "replay_of", "timeout_seconds", "max_retries", "envelope", "result"),
    *("result_published_at", "attempts", "cancel_requested_at", "cancel_reason"),
}


def publish(api: Api, count: int, kind: str = "general_task") -> None:
    batch = [{"job_id": f"{kind}-{n}", "mission_kind": kind, "payload": {"task": "Tidy"}} for n in range(count)]
    assert api.ops.post(PUBLISH, json={"missions": batch}).status_code == 202


def test_rows_and_details_have_the_keys_of_the_contract(api: Api) -> None:
    publish(api, 1)

    row = api.ops.get(MISSIONS).json()["missions"][0]
    detail = api.ops.get(MISSIONS + "/general_task-0").json()
    assert set(row) == ROW_KEYS
    assert set(detail) == ROW_KEYS | DETAIL_KEYS
    assert row["created_at"].endswith("+00:00")
    assert len(row["created_at"]) == len("2026-06-01T08:00:00.000000+00:00")


def test_pages_together_are_the_whole_list_also_when_missions_arrive_meanwhile(api: Api) -> None:
    publish(api, 7)
    seen: list[str] = []
    cursor = None
    while True:
        page = api.ops.get(MISSIONS, params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [row["job_id"] for row in page["missions"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
        api.ops.post(PUBLISH, json={"payload": {"task": "late"}})

    assert seen == [f"general_task-{n}" for n in range(7)]


def test_filters_must_all_hold(api: Api) -> None:
    publish(api, 2)
    publish(api, 3, "research_task")
    start = api.ops.get(MISSIONS).json()["missions"][0]["created_at"]

    def count(**wanted: Any) -> int:
        answer = api.ops.get(MISSIONS, params=wanted)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["missions"])

    assert count(mission_kind="research_task") == 3
    assert count(mission_kind="research_task, general_task", state="waiting,queued") == 5
    assert count(state="running") == 0
    assert count(idempotency_key="general_task-1", source="rest") == 1
    assert count(created_after="2020-01-01", created_before="2100-01-01T00:00:00Z") == 5
    assert count(created_after="2100-01-01T00:00:00+01:00") == 0
    assert count(created_before=start) == 2


def test_a_kind_is_found_by_its_other_name(api: Api) -> None:
    """S-15."""
    publish(api, 1, "tutorial_bootstrap_repo")
    found = [
        api.ops.get(MISSIONS, params={"mission_kind": kind}).json()["missions"]
        for kind in ("tutorial_bootstrap_repo", "bootstrap_repo")
    ]

    assert found[0] == found[1]
    assert [one["requested_kind"] for one in found[0]] == ["tutorial_bootstrap_repo"]


def test_a_plus_that_became_a_space_is_understood(api: Api) -> None:
    assert api.ops.get(f"{MISSIONS}?created_after=2026-06-01T08:00:00.000000+00:00").status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("state=dancing", "state"),
        ("created_after=yesterday", "created_after"),
        ("created_after=1700000000", "created_after"),
        ("created_before=9999-99-99T00:00:00Z", "created_before"),
        ("factory_id=a%00b", "factory_id"),
        ("mission_kind=%00", "mission_kind"),
    ],
)
def test_a_bad_parameter_is_named(api: Api, query: str, field: str) -> None:
    answer = api.ops.get(f"{MISSIONS}?{query}")

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", field]
    assert answer.json()["detail"][0]["input"] is None


@pytest.mark.parametrize("cursor", ["x", "%00", "W10=", "WyJhIiwgImIiXQ==", "bnVsbA==", "%C3%BC", "W1siYSJdLCAxXQ=="])
def test_a_cursor_that_is_not_ours_is_a_bad_request(api: Api, cursor: str) -> None:
    answer = api.ops.get(f"{MISSIONS}?cursor={cursor}")

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("bad_cursor: ")


@pytest.mark.parametrize("name", ["nobody", "a%00b", "%ff", "%ED%A0%80", ""])
def test_an_unknown_mission_is_not_found(api: Api, name: str) -> None:
    assert api.ops.get(f"{MISSIONS}/{name}").status_code == 404
    assert api.ops.get(f"{MISSIONS}/{name}/events").status_code == 404


def test_the_history_continues_where_it_was_left(api: Api) -> None:
    publish(api, 1)
    path = f"{MISSIONS}/general_task-0/events"

    first = api.ops.get(path).json()
    rest = api.ops.get(path, params={"after": first["next_after"]}).json()
    assert [event["type"] for event in first["events"]] == ["published"]
    assert set(first["events"][0]) == {"seq", "at", "type", "attempt", "factory_id", "detail"}
    assert rest == {"events": [], "next_after": 1}


def test_half_a_surrogate_pair_from_a_factory_does_not_break_the_answer(api: Api) -> None:
    publish(api, 1)
    api.sql("UPDATE corporation.missions SET envelope = CAST(:text AS json)", text='{"a": "\\ud800"}')

    answer = api.ops.get(MISSIONS + "/general_task-0")

    assert answer.status_code == 200
    assert b'"\\ud800"' in answer.content


@pytest.mark.parametrize("path", ["/", MISSIONS, "/nowhere", PUBLISH])
def test_every_answer_has_an_id_and_the_security_headers(api: Api, path: str) -> None:
    answer = stranger.get(api.url + path, headers={"x-request-id": "req-1.a:b"})

    assert answer.headers["x-request-id"] == "req-1.a:b"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "server" not in answer.headers


TRACE = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:a87bd80c:0|68fd508a:5"


@pytest.mark.parametrize("given", ["a b", "a:b/c=d.e", "<script>", TRACE, "x" * 256, '"~!'])
def test_an_id_of_printable_ascii_is_echoed(api: Api, given: str) -> None:
    """H-4"""
    answers = [stranger.get(api.url + "/", headers={name: given}) for name in ("x-request-id", "x-correlation-id")]

    assert [answer.headers["x-request-id"] for answer in answers] == [given, given]


@pytest.mark.parametrize("given", ["", "x" * 257, "ü", "a\tb"])
def test_an_id_that_is_not_fit_for_a_log_is_replaced(api: Api, given: str) -> None:
    answer = stranger.get(api.url + "/", headers=[(b"x-request-id", given.encode()), (b"x-correlation-id", b"corr-1")])

    assert answer.headers["x-request-id"] == "corr-1"


def test_an_accident_shows_neither_its_text_nor_a_stack(
    database_url: str, capfd: pytest.CaptureFixture[str], order: Make
) -> None:
    with served(settings_for(database_url)) as api:
        # A trigger that fails is an accident the application cannot foresee.
        api.sql("""
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'hunter2' USING ERRCODE = 'data_exception'; END $$
        """)
        api.sql("CREATE TRIGGER t BEFORE INSERT ON corporation.missions FOR EACH ROW EXECUTE FUNCTION fail()")

        answer = api.ops.post(PUBLISH, json=order(), headers={"x-request-id": "req-9"})

    output = "".join(capfd.readouterr())
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Server Error"})
    assert answer.headers["x-request-id"] == "req-9"
    assert "req-9" in output
    for secret in ("hunter2", "Traceback", OPS_TOKEN):
        assert secret not in output
