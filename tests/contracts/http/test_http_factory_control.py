"""Pausing, draining and resuming factories over HTTP (contract http §6, fleet §7)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from served_api import Api, token

CONTROL = "/api/v1/ops/factory/control"
ROW = "SELECT * FROM corporation.factories WHERE factory_id = :id"


def ordered(api: Api, action: str = "pause", target: Any = "desk-7", **more: Any) -> Any:
    """HQ's answer to this order."""
    return api.ops.post(CONTROL, json={"target_factory_id": target, "action": action} | more)


def beat(api: Api, factory_id: str = "desk-7", **more: Any) -> Any:
    body = {"factory_id": factory_id, "capabilities": ["vp_general"], "slots": 2} | more
    return api.ops.post("/api/v1/factory/registrations", json=body).raise_for_status().json()


def row(api: Api, factory_id: str = "desk-7") -> Any:
    [found] = api.sql(ROW, id=factory_id)
    return found


def events(api: Api, factory_id: str = "desk-7") -> list[tuple[str, str | None]]:
    """What happened to it by whose word; that it was heard of is not told here."""
    rows = api.sql("SELECT type, by FROM corporation.factory_events WHERE factory_id = :id ORDER BY id", id=factory_id)
    return [(one.type, one.by) for one in rows if one.type in ("paused", "draining", "resumed")]


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_the_answer_and_the_mission_are_as_the_contract_says(api: Api, action: str) -> None:
    beat(api)
    answer = ordered(api, f" {action.upper()} ").json()

    assert {key: answer[key] for key in ("ok", "action", "target_factory_id")} == {
        "ok": True,
        "action": action,
        "target_factory_id": "desk-7",
    }
    head, _, digits = answer["job_id"].partition("-")
    assert (head, len(digits)) == (action, 12)
    assert int(digits, 16) >= 0
    mission = api.ops.get(f"/api/v1/missions/{answer['job_id']}").json()
    envelope = mission["envelope"]
    assert envelope["idempotency_key"] == answer["job_id"]
    assert (envelope["priority"], envelope["timeout_seconds"], envelope["max_retries"]) == (5, 30, 0)
    kind = f"system:{action}_factory"
    assert envelope["payload"]["context"] == {"mission_kind": kind, "target_factory_id": "desk-7"}
    assert (mission["mission_kind"], mission["target_factory_id"], mission["source"]) == (kind, "desk-7", "ops")


def test_a_drain_is_a_pause_in_another_mode(api: Api) -> None:
    beat(api)
    answer = ordered(api, "drain", note="new disk").json()

    assert answer["job_id"].startswith("drain-")
    envelope = api.ops.get(f"/api/v1/missions/{answer['job_id']}").json()["envelope"]
    assert envelope["payload"]["context"] == {
        "mission_kind": "system:pause_factory", "target_factory_id": "desk-7", "mode": "drain", "note": "new disk",
    }  # fmt: skip
    assert (row(api).paused, row(api).draining) == (False, True)


def test_the_flag_is_set_with_who_why_and_until_and_when_it_was_heard_of_stays(api: Api) -> None:
    """H-23."""
    beat(api)
    before = row(api)
    body = {"target_factory_id": "desk-7", "action": "pause", "note": "  moving the desk ", "for_seconds": 7200}
    with api.as_token(token(sub="ana")) as operator:
        answer = operator.post(CONTROL, json=body).json()

    after = row(api)
    assert (after.paused, after.paused_by, after.pause_note) == (True, "ana", "moving the desk")
    assert after.paused_until - after.paused_at == timedelta(hours=2)
    assert datetime.fromisoformat(answer["until"]) == after.paused_until
    assert (after.last_seen_at, after.registration_status) == (before.last_seen_at, before.registration_status)
    assert events(api) == [("paused", "ana")]
    mission = api.ops.get(f"/api/v1/missions/{answer['job_id']}").json()
    assert mission["deadline_at"], "an order for a pause that has ended must not come late"


def test_flag_and_mission_come_together_or_not_at_all(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    beat(api)
    monkeypatch.setattr("corporation.missions.control.submit", lambda *_: 1 / 0)

    assert ordered(api).status_code == 500
    assert not row(api).paused
    assert events(api) == []


def test_the_flag_is_the_authority_whatever_the_factory_says_of_itself(api: Api) -> None:
    """F-20, F-16."""
    beat(api)
    ordered(api)

    assert beat(api, registration_status="online")["instructions"]["paused"] is True
    ordered(api, "resume")
    assert beat(api, registration_status="online")["instructions"]["paused"] is False


@pytest.mark.parametrize(("first", "then", "flags"), [
    ("pause", "drain", (False, True)), ("drain", "pause", (True, False)), ("pause", "resume", (False, False)),
    ("drain", "resume", (False, False)), ("resume", "resume", (False, False)),
])  # fmt: skip
def test_the_last_word_counts(api: Api, first: str, then: str, flags: Sequence[bool]) -> None:
    beat(api)
    ordered(api, first, note="first")
    ordered(api, then)

    found = row(api)
    assert (found.paused, found.draining) == flags
    assert found.pause_note is None
    assert (found.paused_at is not None) == (then != "resume")


def test_a_pause_that_is_said_again_is_as_old_as_it_was(api: Api) -> None:
    beat(api)
    ordered(api, for_seconds=60)
    since = row(api).paused_at
    ordered(api, note="longer")

    found = row(api)
    assert (found.paused_at, found.pause_note, found.paused_until) == (since, "longer", None)


def test_the_answer_says_what_the_factory_holds(api: Api) -> None:
    beat(api)
    for number, state in enumerate(("queued", "queued", "running")):
        hold(api, number, state)
    answer = ordered(api).json()

    assert (answer["factories"], answer["queued"], answer["running"]) == (["desk-7"], 2, 1)


def hold(api: Api, number: int, state: str) -> None:
    """A mission in this state at desk-7, as the dispatcher and a beat leave it."""
    api.sql(
        """WITH m AS (INSERT INTO corporation.missions (job_id, idempotency_key, mission_kind, requested_kind, source,
             priority, broker_priority, timeout_seconds, max_retries, attempts_total, envelope, body_digest, state,
             attempt, attempt_id, factory_id)
           VALUES (:job, :job, 'general_task', 'general_task', 'rest', 1, 1, 60, 0, 1, '{}', '', :state, 1,
             gen_random_uuid(), 'desk-7') RETURNING id, attempt_id)
           INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, state, lease_expires_at)
           SELECT attempt_id, id, 1, 'desk-7', 'factory.desk-7', :state, now() FROM m""",
        job=f"held-{number}",
        state=state,
    )


def test_an_unknown_target_is_refused_unless_it_is_expected(api: Api) -> None:
    """H-22: then it finds its flag when it comes, and is not taken for one that lives."""
    assert ordered(api, target="desk-9").status_code == 404
    assert api.stored() == 0
    answer = api.ops.post(f"{CONTROL}?wait=true", json={"target_factory_id": "desk-9", "action": "pause"})

    assert answer.status_code == 200
    assert row(api, "desk-9").paused
    listed = api.ops.get("/api/v1/factory/registrations").json()["registrations"]
    assert {one["factory_id"]: one["registration_status"] for one in listed}["desk-9"] == "offline"
    assert beat(api, "desk-9")["instructions"]["paused"] is True


def test_a_name_that_another_factory_has_in_its_queue_is_refused(api: Api) -> None:
    beat(api, "desk.7")
    answer = api.ops.post(f"{CONTROL}?wait=true", json={"target_factory_id": "desk/7", "action": "pause"})

    assert answer.status_code == 409
    assert api.stored() == 0


def test_the_answer_says_when_the_target_is_in_quarantine_and_the_flag_waits_for_its_release(api: Api) -> None:
    beat(api, "desk-7")
    free = ordered(api).json()
    api.ops.post("/api/v1/ops/factory/quarantine", json={"target_factory_id": "desk-7"})
    barred = ordered(api).json()
    api.ops.post("/api/v1/ops/factory/release", json={"target_factory_id": "desk-7"})

    assert (free["quarantined"], barred["quarantined"]) == (False, True)
    assert beat(api, "desk-7")["instructions"]["paused"] is True


def test_an_empty_target_is_every_live_factory_but_headquarters(api: Api) -> None:
    """S-25."""
    for factory_id in ("desk-7", "desk-8", "asleep", "barred"):
        beat(api, factory_id)
    api.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '1 day' WHERE factory_id = 'asleep'")
    api.sql("INSERT INTO corporation.factory_access (factory_id, quarantined_at) VALUES ('barred', now())")
    beat(api, "second-hq", factory_role="HEADQUARTERS")
    answer = ordered(api, target="  ").json()

    assert answer["factories"] == ["desk-7", "desk-8"]
    assert answer["target_factory_id"] == ""
    paused = api.sql("SELECT factory_id FROM corporation.factories WHERE paused ORDER BY factory_id")
    assert [one.factory_id for one in paused] == ["desk-7", "desk-8"]
    mission = api.ops.get(f"/api/v1/missions/{answer['job_id']}").json()
    assert (mission["mission_kind"], mission["target_factory_id"]) == ("system:pause_factory", None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"target_factory_id": "desk-7", "action": "stop"}, 400),
        ({"target_factory_id": "desk-7", "action": ""}, 400),
        ({"target_factory_id": "desk-7", "action": "resume", "for_seconds": 60}, 400),
        ({"target_factory_id": "desk-7"}, 422),
        ({"action": "pause"}, 422),
        ({"target_factory_id": None, "action": "pause"}, 422),
        ({"target_factory_id": 7, "action": "pause"}, 422),
        ({"target_factory_id": "d" * 201, "action": "pause"}, 422),
        ({"target_factory_id": "desk\0", "action": "pause"}, 422),
        ({"target_factory_id": "desk-7", "action": "pause", "note": "n" * 1001}, 422),
        ({"target_factory_id": "desk-7", "action": "pause", "note": "a\nb"}, 422),
        ({"target_factory_id": "desk-7", "action": "pause", "note": "\x1b[2J"}, 422),
        ({"target_factory_id": "desk-7", "action": "pause", "for_seconds": 0}, 422),
        ({"target_factory_id": "desk-7", "action": "pause", "for_seconds": 31 * 86_400 + 1}, 422),
        ({"target_factory_id": "desk-7", "action": "pause", "for_seconds": "60"}, 422),
        ({"target_factory_id": "desk-7", "action": "pause", "for_seconds": 1.5}, 422),
    ],
)
def test_an_order_that_cannot_be_meant_changes_nothing(api: Api, body: dict[str, Any], status: int) -> None:
    """H-22."""
    beat(api)

    assert api.ops.post(CONTROL, json=body).status_code == status
    assert (api.stored(), row(api).paused, events(api)) == (0, False, [])


@pytest.mark.parametrize("scope", ["publish", "factory"])
def test_only_operators_may(api: Api, scope: str) -> None:
    beat(api)
    order = {"target_factory_id": "desk-7", "action": "pause"}

    with api.as_token(token(scope, factory_id="desk-7")) as other:
        assert other.post(CONTROL, json=order).status_code == 403
    with api.as_token("nonsense") as stranger:
        assert stranger.post(CONTROL, json=order).status_code == 401
    assert not row(api).paused


def test_the_loops_that_give_its_queue_back_are_woken(api: Api) -> None:
    beat(api)
    address = api.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as listening:
        for channel in ("corporation_dispatch", "corporation_recall"):
            listening.execute(f"LISTEN {channel}")  # pyright: ignore[reportArgumentType]
        ordered(api)
        heard = {note.channel for note in listening.notifies(timeout=10, stop_after=2)}

    assert heard == {"corporation_dispatch", "corporation_recall"}
