"""Every privileged act is written down with who, what, from where and why; and what is written down can be read."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import stranger
from canary import MARK
from served_api import OPS_TOKEN, PUBLISH, Api, token

AUDIT = "/api/v1/ops/audit"
FACTORY = "/api/v1/ops/factory/"
BEATS = "/api/v1/factory/registrations"
Order = Callable[..., dict[str, Any]]

ENDED = """
    WITH over AS (
      UPDATE corporation.missions SET state = 'failed', state_reason = NULL, finished_at = now(), error = 'exit 2',
             event_seq = event_seq + 1 WHERE job_id = :job_id RETURNING id, event_seq)
    INSERT INTO corporation.mission_events (mission_id, seq, type) SELECT id, event_seq, 'failed' FROM over
"""


def acts(api: Api, **query: Any) -> list[dict[str, Any]]:
    return api.ops.get(AUDIT, params=query).raise_for_status().json()["acts"]


def letter(api: Api, order: Order, job_id: str) -> str:
    """The dead letter of a mission that failed."""
    api.ops.post(PUBLISH, json=order(job_id=job_id, idempotency_key=job_id)).raise_for_status()
    api.sql(ENDED, job_id=job_id)
    [row] = api.sql("SELECT id FROM corporation.dead_letters WHERE job_id = :job_id", job_id=job_id)
    return f"dl-{row.id}"


def known(api: Api, order: Order) -> dict[str, str]:
    """What the acts below are done to."""
    api.ops.post(BEATS, json={"factory_id": "desk-7"}).raise_for_status()
    api.ops.post(PUBLISH, json=order(job_id="j-1", idempotency_key="k-1")).raise_for_status()
    names = {f"letter_{number}": letter(api, order, f"dead-{number}") for number in range(4)}
    return {**names, "job_id": "dead-0"}


# Each privileged request, the action that it is written down as, and what it is done to.
PRIVILEGED: list[tuple[str, str, Any, str, str | None]] = [
    ("POST", FACTORY + "join-codes", {"factory_id": "desk-9"}, "join_code.make", "desk-9"),
    ("POST", FACTORY + "control", {"target_factory_id": "desk-7", "action": "pause"}, "factory.pause", "desk-7"),
    ("POST", FACTORY + "control", {"target_factory_id": "desk-7", "action": "drain"}, "factory.drain", "desk-7"),
    ("POST", FACTORY + "control", {"target_factory_id": "desk-7", "action": "resume"}, "factory.resume", "desk-7"),
    ("POST", FACTORY + "rename", {"target_factory_id": "desk-7", "display_name": "x"}, "factory.rename", "desk-7"),
    ("POST", FACTORY + "quarantine", {"target_factory_id": "desk-7"}, "factory.quarantine", "desk-7"),
    ("POST", FACTORY + "release", {"target_factory_id": "desk-7"}, "factory.release", "desk-7"),
    ("DELETE", BEATS + "/desk-7", None, "factory.remove", "desk-7"),
    ("POST", "/api/v1/ops/tokens/revoke", {"jti": "t-1"}, "token.revoke", "t-1"),
    ("POST", "/api/v1/missions/j-1/cancel", {"reason": "not needed"}, "mission.cancel", "j-1"),
    ("POST", "/api/v1/missions/{job_id}/replay", {}, "mission.replay", "{job_id}"),
    ("POST", "/api/v1/dlq/{letter_0}/replay", {}, "dead_letter.replay", "{letter_0}"),
    ("POST", "/api/v1/dlq/{letter_1}/discard", {"reason": "old"}, "dead_letter.discard", "{letter_1}"),
    ("POST", "/api/v1/dlq/replay", {"filter": {}, "all": True, "limit": 1}, "dead_letter.replay", None),
    ("POST", "/api/v1/dlq/discard", {"filter": {}, "all": True, "limit": 1}, "dead_letter.discard", None),
]

# Changes that are written down nowhere here, and why not.
ORDINARY = {
    ("POST", "/api/v1/delegation/publish"): "the ledger keeps each mission; orders to factories: test_http_orders.py",
    ("POST", "/api/v1/dashboard/tutorials/bootstrap-repo"): "as publish; what HQ itself runs is written down",
    ("POST", BEATS): "a factory speaks of itself",
    ("POST", "/api/v1/factory/missions/claim"): "a factory's own work",
    ("POST", "/api/v1/factory/missions/{attempt_id}/start"): "a factory's own work",
    ("POST", "/api/v1/factory/missions/{attempt_id}/progress"): "a factory's own work",
    ("POST", "/api/v1/factory/missions/{attempt_id}/result"): "a factory's own work",
    ("POST", "/api/v1/ops/tutorials/bootstrap-jobs/claim"): "an external worker's own work",
    ("POST", "/api/v1/ops/tutorials/bootstrap-jobs/{job_id}/start"): "an external worker's own work",
    ("POST", "/api/v1/ops/tutorials/bootstrap-jobs/{job_id}/result"): "an external worker's own work",
}
# Written down, and tried where their own tests are.
ELSEWHERE = {
    ("POST", "/auth/ops-token"): "test_a_minted_token_is_written_down below",
    ("POST", "/api/v1/factory/enrol"): "test_who_joins_is_written_down_and_so_is_a_wrong_code below",
    ("POST", "/api/v1/ops/factory/rotate"): "test_http_redis_users.py",
    ("POST", "/api/v1/factory/redis-password"): "test_http_redis_users.py",
    ("POST", "/api/v1/missions/{job_id}/adopt"): "test_http_adopt.py",
    ("POST", "/api/v1/ops/queues/rebuild"): "test_http_queues.py",
}


@pytest.mark.parametrize(("method", "path", "body", "action", "target"), PRIVILEGED)
def test_a_privileged_act_is_written_down(
    api: Api, order: Order, method: str, path: str, body: Any, action: str, target: str | None
) -> None:
    names = known(api, order)
    if action in ("factory.release", "factory.resume"):
        what = {"factory.release": ("quarantine", {}), "factory.resume": ("control", {"action": "pause"})}[action]
        api.ops.post(FACTORY + what[0], json={"target_factory_id": "desk-7", **what[1]}).raise_for_status()
    answer = api.ops.request(method, path.format(**names), json=body)
    assert answer.is_success, answer.text

    act = acts(api)[0]
    assert (act["actor"], act["action"], act["target"]) == ("ops", action, target and target.format(**names))
    assert (act["origin"], act["outcome"]) == ("rest 127.0.0.1", "done")
    assert act["at"].endswith("+00:00")


def test_every_change_is_written_down_or_named_as_ordinary(api: Api) -> None:
    """Whoever adds a route decides which it is."""
    paths = api.ops.get("/openapi.json").json()["paths"]
    changes = {(method.upper(), path) for path, of in paths.items() for method in of if method != "get"}
    tried = {
        (method, path if "{" not in path else path.replace("{letter_0}", "{dlq_id}").replace("{letter_1}", "{dlq_id}"))
        for method, path, *_ in PRIVILEGED
    }
    tried = {
        (method, path.replace("/missions/j-1/", "/missions/{job_id}/").replace("/desk-7", "/{factory_id}"))
        for method, path in tried
    }

    assert changes - set(ORDINARY) - set(ELSEWHERE) == tried


def test_the_reason_is_kept(api: Api) -> None:
    api.ops.post(BEATS, json={"factory_id": "desk-7"})
    api.ops.post(FACTORY + "quarantine", json={"target_factory_id": "desk-7", "note": "it was stolen"})

    assert acts(api)[0]["note"] == "it was stolen"


def test_saying_it_again_is_written_down_as_changing_nothing(api: Api) -> None:
    api.ops.post(BEATS, json={"factory_id": "desk-7"})
    for _ in range(2):
        api.ops.post(FACTORY + "quarantine", json={"target_factory_id": "desk-7"})

    assert [act["outcome"] for act in acts(api, action="factory.quarantine")] == ["unchanged", "done"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/ops/tokens/revoke", {"jti": "t-1"}),
        ("/api/v1/missions/j-1/cancel", {}),
        ("/api/v1/dlq/{letter_0}/replay", {}),
        ("/api/v1/dlq/{letter_0}/discard", {}),
        ("/api/v1/dlq/discard", {"filter": {}, "all": True}),
    ],
)
def test_an_order_that_was_carried_out_before_is_unchanged(api: Api, order: Order, path: str, body: Any) -> None:
    names = known(api, order)
    for _ in range(2):
        api.ops.post(path.format(**names), json=body).raise_for_status()

    assert [act["outcome"] for act in acts(api, limit=2)] == ["unchanged", "done"]


@pytest.mark.parametrize("what", ["quarantine", "release", "rotate"])
def test_an_act_that_hq_refuses_is_written_down_with_the_reason(api: Api, what: str) -> None:
    itself = api.settings.factory_id
    answer = api.ops.post(FACTORY + what, json={"target_factory_id": itself, "note": "odd"})

    [act] = acts(api)
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (409, "own_registration")
    assert (act["action"], act["target"], act["outcome"]) == (f"factory.{what}", itself, "refused")
    assert (act["actor"], act["note"], act["detail"]) == ("ops", "odd", {"code": "own_registration"})


def test_a_removal_of_itself_that_hq_refuses_is_written_down_with_the_reason(api: Api) -> None:
    itself = api.settings.factory_id
    answer = api.ops.delete(f"{BEATS}/{itself}")

    [act] = acts(api)
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (409, "own_registration")
    assert (act["action"], act["target"], act["outcome"]) == ("factory.remove", itself, "refused")
    assert act["detail"] == {"code": "own_registration"}


def test_an_act_on_nobody_is_none(api: Api) -> None:
    assert api.ops.post(FACTORY + "rotate", json={"target_factory_id": "nobody"}).status_code == 404
    assert acts(api) == []


def test_a_wrong_credential_is_written_down_until_guessing_is_slowed_down(api: Api) -> None:
    answers = [
        stranger.post(api.url + "/auth/ops-token", headers={"Authorization": "Bearer wrong"}, json={}).status_code
        for _ in range(8)
    ]
    written = acts(api, action="token.mint")

    assert {(act["actor"], act["outcome"]) for act in written} == {("nobody", "refused")}
    assert len(written) == answers.count(401) == 5


@pytest.mark.parametrize(("shown", "most"), [("", 0), ("wrong", 5), (token("publish"), 5)])
def test_strangers_at_the_page_cannot_fill_the_log(api: Api, shown: str, most: int) -> None:
    for _ in range(12):
        stranger.post(api.url + "/dashboard/login", headers={"Sec-Fetch-Site": "same-origin"}, data={"token": shown})

    assert len(acts(api, action="login.refuse")) == most


def test_signing_in_and_out_is_written_down(api: Api) -> None:
    same = {"Sec-Fetch-Site": "same-origin"}
    entered = stranger.post(api.url + "/dashboard/login", headers=same, data={"token": OPS_TOKEN})
    cookie = entered.headers["set-cookie"].split(";")[0]
    stranger.post(api.url + "/dashboard/logout", headers={**same, "Cookie": cookie})

    assert [(act["actor"], act["action"]) for act in acts(api)] == [("ops", "login.end"), ("ops", "login.accept")]


def test_a_token_without_a_name_acts_as_its_scope(api: Api) -> None:
    with api.as_token(token(sub="")) as client:
        assert client.post("/api/v1/ops/tokens/revoke", json={"jti": "t-1"}).status_code == 200

    assert acts(api)[0]["actor"] == "ops"


def test_who_joins_is_written_down_and_so_is_a_wrong_code(api: Api) -> None:
    code = api.ops.post(FACTORY + "join-codes", json={}).json()["join_code"]
    form = {"join_code": code, "factory_id": "desk-9"}
    joined = stranger.post(api.url + "/api/v1/factory/enrol", json=form).json()
    stranger.post(api.url + "/api/v1/factory/enrol", json={**form, "join_code": "wrong"})
    refused, enrolled = acts(api, action="factory.enrol")

    assert (refused["outcome"], enrolled["outcome"], enrolled["target"]) == ("refused", "done", "desk-9")
    told = json.dumps(acts(api))
    assert not any(one in told for one in (code, joined["factory_credential"], joined["token"]))


def test_a_minted_token_is_written_down_by_its_name_and_never_itself(api: Api) -> None:
    answer = stranger.post(
        api.url + "/auth/ops-token",
        headers={"Authorization": f"Bearer {OPS_TOKEN}"},
        json={"scope": "publish", "subject": "ci"},
    )
    minted = answer.json()
    [act] = acts(api, action="token.mint")

    assert act["target"] == minted["jti"]
    assert act["detail"] == {"scope": "publish", "subject": "ci", "factory_id": None}
    assert minted["token"] not in json.dumps(act)


def test_what_failed_is_not_written_down_as_done(api: Api) -> None:
    assert api.ops.post("/api/v1/missions/nowhere/cancel", json={}).status_code == 404
    assert api.ops.post(FACTORY + "quarantine", json={"target_factory_id": "nobody"}).status_code == 404

    assert acts(api) == []


def test_no_secret_is_in_the_log(api: Api, order: Order) -> None:
    names = known(api, order)
    for method, path, body, *_ in PRIVILEGED:
        api.ops.request(method, path.format(**names), json=body)
    stranger.post(api.url + "/auth/ops-token", headers={"Authorization": f"Bearer {OPS_TOKEN}"}, json={})

    assert MARK not in json.dumps(acts(api, limit=200))


def test_the_log_is_read_page_by_page_and_filtered(api: Api) -> None:
    for number in range(5):
        api.ops.post("/api/v1/ops/tokens/revoke", json={"jti": f"t-{number}"})
    api.ops.post(FACTORY + "join-codes", json={})
    page = api.ops.get(AUDIT, params={"limit": 2, "action": "token"}).json()
    rest = api.ops.get(AUDIT, params={"limit": 4, "action": "token", "before": page["next_before"]}).json()

    assert [act["target"] for act in page["acts"] + rest["acts"]] == ["t-4", "t-3", "t-2", "t-1", "t-0"]
    assert rest["next_before"] is None
    assert [act["action"] for act in acts(api, target="t-3")] == ["token.revoke"]
    assert acts(api, actor="somebody-else") == []
    assert len(acts(api, since="2026-01-01T00:00:00Z")) == 6
    assert acts(api, since="2999-01-01") == []


@pytest.mark.parametrize("query", [{"before": "x"}, {"since": "yesterday"}, {"before": 0}, {"limit": "many"}])
def test_a_question_that_cannot_be_read_is_a_422(api: Api, query: dict[str, Any]) -> None:
    assert api.ops.get(AUDIT, params=query).status_code == 422


@pytest.mark.parametrize("scope", ["publish", "factory"])
def test_the_log_is_for_operators_alone(api: Api, scope: str) -> None:
    with api.as_token(token(scope, factory_id="desk-7")) as client:
        assert client.get(AUDIT).status_code == 403
    assert stranger.get(api.url + AUDIT).status_code == 401


@pytest.mark.parametrize(
    "change", ["UPDATE corporation.audit_log SET actor = 'x'", "DELETE FROM corporation.audit_log"]
)
def test_nobody_changes_what_was_written_down(api: Api, shared_url: str, change: str) -> None:
    api.ops.post("/api/v1/ops/tokens/revoke", json={"jti": "t-1"})

    with psycopg.connect(shared_url) as connection, pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        connection.execute(change.encode())
