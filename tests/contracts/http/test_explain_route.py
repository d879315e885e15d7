"""`GET …/missions/{job_id}/explain`: the shape of contract http §7, who may ask, and that Redis never holds it up."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
import stranger
from builders import beat
from served_api import PUBLISH, Api, served, settings_for, token

from corporation import clock
from corporation.db import transaction
from corporation.factories.staleness import Thresholds
from corporation.factories.store import record_beat
from corporation.missions.dispatch import DispatchRules, dispatch_some
from hq_api.broker_sight import REMEMBERED_SECONDS, BrokerSight

MISSIONS = "/api/v1/missions"
CONTRACT = {"job_id", "state", "waiting", "since", "next_attempt_at", "deadline_at", "reasons", "candidates", "ahead"}
OURS = {"ahead_or_more", "sentence", "evidence", "help", "failure_class"}


def publish(api: Api, job_id: str = "b-9", **context: Any) -> None:
    order = {"job_id": job_id, "idempotency_key": f"k-{job_id}", "payload": {"task": "Tidy", "context": context}}
    assert api.ops.post(PUBLISH, json=order, params={"wait": "true"}).status_code == 202


def register(api: Api, factory_id: str = "desk-7", **changes: Any) -> None:
    with transaction(api.engine) as connection:
        record_beat(connection, beat(factory_id, **changes))


def dispatch(api: Api) -> None:
    with transaction(api.engine) as connection:
        assert dispatch_some(connection, DispatchRules(180, Thresholds()), clock.new_id) == 1


def explained(api: Api, job_id: str = "b-9") -> dict[str, Any]:
    answer = api.ops.get(f"{MISSIONS}/{quote(job_id, safe='')}/explain")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_nobody_says_for_how_long_a_factory_is_silent_that_was_never_heard_of(api: Api) -> None:
    register(api, "never")
    register(api, "desk-7")
    api.sql("UPDATE corporation.factories SET last_seen_at = to_timestamp(0) WHERE factory_id = 'never'")
    publish(api)
    silent = {one["factory_id"]: one["silent_seconds"] for one in explained(api)["candidates"]}

    assert silent["never"] is None
    assert 0 <= silent["desk-7"] < 60


def test_the_example_of_the_contract(api: Api) -> None:
    """H-29, and keys are only added (H-2)."""
    register(api)
    publish(api, target_factory_id="bench-2")
    answer = explained(api)

    assert set(answer) == CONTRACT | OURS
    assert answer["since"].endswith("+00:00")
    assert answer["deadline_at"] is not None
    ours = {name: answer[name] for name in ("job_id", "state", "waiting", "next_attempt_at", "ahead")}
    assert ours == {"job_id": "b-9", "state": "waiting", "waiting": True, "next_attempt_at": None, "ahead": 0}
    # No Redis is there in this test, which is a second reason.
    assert answer["reasons"] == [
        {"code": "target_unknown", "message": "No factory named bench-2 has registered"},
        {"code": "broker_down", "message": "Redis does not answer, so nothing that is queued reaches a factory"},
    ]
    [candidate] = answer["candidates"]
    assert {name: candidate[name] for name in ("factory_id", "eligible", "reasons")} == {
        "factory_id": "desk-7",
        "eligible": False,
        "reasons": ["not_the_target"],
    }
    assert (candidate["status"], candidate["slots"], candidate["running"]) == ("online", 2, 0)
    assert answer["sentence"] == "No factory named bench-2 has registered."
    assert {"what", "command"} == set(answer["help"][0])
    assert answer["failure_class"] is None


@pytest.mark.parametrize(("scope", "status"), [("ops", 200), ("publish", 200), ("factory", 403), ("nobody", 403)])
def test_operators_and_publishers_may_ask(api: Api, scope: str, status: int) -> None:
    publish(api)
    with api.as_token(token(scope, factory_id="desk-7")) as caller:
        assert caller.get(f"{MISSIONS}/b-9/explain").status_code == status
    assert stranger.get(f"{api.url}{MISSIONS}/b-9/explain").status_code == 401


@pytest.mark.parametrize("name", ["nobody", "a%00b", "%ff", "%ED%A0%80", "a%2Fb"])
def test_an_unknown_mission_is_not_found(api: Api, name: str) -> None:
    answer = api.ops.get(f"{MISSIONS}/{name}/explain")

    assert (answer.status_code, answer.json()) == (404, {"detail": "unknown_mission: no mission has this job_id"})


@pytest.mark.parametrize("job_id", ["a/b/c", "explain", "a/explain", "log", "ü ?#"])
def test_a_job_id_may_be_any_text(api: Api, job_id: str) -> None:
    publish(api, job_id)

    assert explained(api, job_id)["job_id"] == job_id


def test_an_alias_is_answered_as_the_mission_it_stands_for(api: Api) -> None:
    """S-18."""
    publish(api)
    api.sql("INSERT INTO corporation.mission_aliases (job_id, mission_id) SELECT 'other', id FROM corporation.missions")

    assert explained(api, "other")["job_id"] == "b-9"


def test_a_failure_has_a_class_and_no_reason_to_wait(api: Api) -> None:
    register(api)
    publish(api)
    dispatch(api)
    api.sql(
        """WITH lost AS (UPDATE corporation.attempts SET state = 'lost', took_worker = true, finished_at = now())
           UPDATE corporation.missions SET state = 'failed', error = 'quarantined: three workers', finished_at = now(),
                  attempts_total = 9"""
    )
    answer = explained(api)

    assert (answer["waiting"], answer["reasons"], answer["candidates"]) == (False, [], [])
    assert (answer["failure_class"], answer["sentence"]) == ("quarantined", "It was quarantined: three workers.")


def test_half_a_surrogate_pair_from_a_factory_does_not_break_the_answer(api: Api) -> None:
    register(api)
    publish(api)
    dispatch(api)
    progress = '{"percent": 4, "message": "\\ud800 odd"}'
    api.sql("UPDATE corporation.attempts SET state = 'running', progress = CAST(:p AS json)", p=progress)
    api.sql("UPDATE corporation.missions SET state = 'running', started_at = now()")

    assert "at 4 %" in explained(api)["sentence"]


def test_a_queued_mission_waits_for_redis_only_while_that_is_away(shared_url: str, redis_url: str) -> None:
    with served(settings_for(shared_url)) as away:
        register(away)
        publish(away)
        dispatch(away)
        without = explained(away)
    with served(settings_for(shared_url, UA_REDIS_URL=redis_url)) as there:
        with_it = explained(there)

    assert without["reasons"][0]["code"] == "broker_down"
    assert without["help"] == [
        {"what": "Bring Redis back; what was queued is sent then, and nothing is lost", "command": "corporation doctor"}
    ]
    assert [reason["code"] for reason in with_it["reasons"]] == ["behind_others"]


class Broker:
    """Answers as it is told, after as long as it is told; counts who asks."""

    def __init__(self) -> None:
        self.answers: bool | None = True
        self.asked = 0

    async def ask(self) -> bool:
        self.asked += 1
        if self.answers is None:
            await asyncio.Event().wait()
        return bool(self.answers)


def test_redis_is_asked_once_in_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, now = Broker(), [100.0]
    sight = BrokerSight(broker.ask, lambda: now[0])

    async def look() -> list[bool]:
        first = await sight.answers()
        broker.answers = False
        second = await sight.answers()
        now[0] += REMEMBERED_SECONDS
        return [first, second, await sight.answers()]

    assert asyncio.run(look()) == [True, True, False]
    assert broker.asked == 2


def test_redis_that_says_nothing_is_away_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hq_api.broker_sight.LIMIT_SECONDS", 0.01)
    broker = Broker()
    broker.answers = None

    assert asyncio.run(BrokerSight(broker.ask).answers()) is False
