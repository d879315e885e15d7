"""`corporation doctor security`: what is on, off or unknown at HQ and on a factory, and no secret is shown."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import redis
import redis.exceptions
from database_roles import a_role
from sqlalchemy import text
from test_cli_requests import Headquarters, hq, run  # noqa: F401  # pyright: ignore[reportUnusedImport] - the fixture

from corporation.cli.control import Control
from corporation.cli.controls_of_api import of_api
from corporation.cli.controls_of_ledger import of_standing
from corporation.cli.doctor_security import verdict
from corporation.cli.membership import Membership, keep
from corporation.cli.security_view import View
from corporation.db import migrate, open_ledger, transaction
from corporation.embedded.stack_state import StateFolder
from corporation.settings import load_settings
from corporation.trust import redis_users
from corporation.trust.broker_alarms import alarm
from corporation.trust.keyring import kid_of, new_key, public_of
from corporation.trust.redis_acl import Acl
from corporation.trust.redis_address import with_user
from corporation.trust.redis_profiles import HqUser, factory_rules, hq_rules
from corporation.trust.standing import Standing, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

PASSWORD = "fr_a-password-that-nobody-may-see"
SECRET = "0123456789abcdef-a-secret-that-nobody-may-see"
WELL = Standing((), {"f_desk-7": ""}, True, 2, 2, (), {}, ("desk-7", 3.0))


def controls(ended: Any) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(ended.stdout)["controls"]}


def states(found: "list[Control]") -> dict[str, str]:
    return {one.name: one.state for one in found}


@pytest.fixture
def ledger(database_url: str) -> "Iterator[Engine]":
    engine = open_ledger(database_url, pool_size=1)
    yield engine
    engine.dispose()


@pytest.fixture
def users(redis_url: str) -> "Iterator[redis.Redis]":
    """The broker as its operator, with users for HQ's engine and for one factory, which are gone afterwards."""
    with redis.Redis.from_url(redis_url) as admin:
        acl = Acl(admin)
        acl.put("corporation_engine", (*hq_rules(HqUser.engine), "on", f">{PASSWORD}"))
        acl.put("f_desk-7", (*factory_rules("desk-7"), "on", f">{PASSWORD}"))
        admin.acl_log_reset()
        yield admin
        admin.acl_log_reset()
        for name in ("corporation_engine", "f_desk-7"):
            acl.remove(name)


def test_where_nothing_was_set_up_it_says_what_to_run(hq: Headquarters, tmp_path: Path) -> None:  # noqa: F811
    ended = run(hq, "doctor", "security", "--state", str(tmp_path), UA_HQ_BASE_URL="", UA_OPS_TOKEN="")

    assert ended.returncode == 0
    assert "nothing is set up here yet" in ended.stdout


def test_headquarters_with_everything_on(
    hq: Headquarters,  # noqa: F811
    database_url: str,
    redis_url: str,
    users: redis.Redis,
    tmp_path: Path,
) -> None:
    hq.answers = [(401, {}, {"detail": "Unauthorized"})]
    key = new_key()
    with a_role(database_url) as role:
        migrate(database_url, [role.name])
        given = {
            "FACTORY_ROLE": "HEADQUARTERS",
            "UA_DATABASE_URL": role.url,
            "UA_REDIS_URL": with_user(redis_url, "corporation_engine", PASSWORD),
            "UA_REDIS_ADMIN_URL": redis_url,
            "UA_FACTORY_REDIS_URL": f"redis://127.0.0.1:{urlsplit(redis_url).port}/0",
            "UA_MISSION_SIGNING_KEY": key,
            "UA_OPS_JWT_SECRET": SECRET,
        }
        tmp_path.chmod(0o700)
        ended = run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **given)
        told = run(hq, "doctor", "security", "--state", str(tmp_path), **given)

    found = controls(ended)
    off = {name for name, one in found.items() if one["state"] != "on"}
    # Of this machine only: no vault, perhaps root; neither is a failure on a workstation.
    assert off <= {"vault", "not as root", "secrets' files"}, [found[name] for name in off]
    assert kid_of(public_of(key)) in found["signed missions"]["seen"]
    assert {"database role", "row security", "own Redis users", "Redis rights", "closed doors"} <= found.keys()
    everything = ended.stdout + ended.stderr + told.stdout + told.stderr
    password = urlsplit(redis_url).password or ""
    for secret in (PASSWORD, SECRET, key, password, urlsplit(role.url).password or ""):
        assert secret not in everything
    assert len(told.stdout.splitlines()) == len(found)


def test_looking_refuses_nobody_anything(
    hq: Headquarters,  # noqa: F811
    redis_url: str,
    users: redis.Redis,
    tmp_path: Path,
) -> None:
    """A refusal of one of ours is an alarm, so whoever may not look does not try."""
    own = with_user(redis_url, "corporation_engine", PASSWORD)
    hq_s = {"FACTORY_ROLE": "HEADQUARTERS", "UA_REDIS_URL": own}
    found = controls(run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **hq_s))
    assert found["Redis rights"]["state"] == "unknown"
    assert "UA_REDIS_ADMIN_URL" in found["Redis rights"]["advice"]

    found = controls(
        run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **hq_s, UA_REDIS_ADMIN_URL=redis_url)
    )
    assert found["Redis rights"]["state"] == "on"
    factory = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_REDIS_URL": with_user(redis_url, "f_desk-7", PASSWORD)}
    found = controls(run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **factory))
    assert found["own Redis user"]["state"] == "on"

    assert Acl(users).refusals() == []


def test_a_broker_that_is_open_is_told_with_what_to_do(
    hq: Headquarters,  # noqa: F811
    redis_url: str,
    users: redis.Redis,
    tmp_path: Path,
) -> None:
    users.execute_command("ACL", "SETUSER", "f_desk-7", "on", "nopass", "~*", "+eval", "+flushall")
    given = {"FACTORY_ROLE": "HEADQUARTERS", "UA_REDIS_URL": redis_url, "UA_FACTORY_REDIS_URL": redis_url}
    ended = run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **given)
    found = controls(ended)

    assert ended.returncode == 78
    for name in ("Redis password", "Redis rights", "own Redis users", "signed missions"):
        assert found[name]["state"] == "off", found[name]
        assert found[name]["advice"]
    assert "f_desk-7" in found["Redis password"]["seen"]
    assert "default" in found["Redis rights"]["seen"]  # HQ's processes are the operator here
    assert (urlsplit(redis_url).password or "") not in ended.stdout


def test_a_password_that_factories_may_have_shared_before_is_to_be_changed(
    hq: Headquarters,  # noqa: F811
    redis_url: str,
    users: redis.Redis,
    tmp_path: Path,
) -> None:
    given = {"FACTORY_ROLE": "HEADQUARTERS", "UA_REDIS_URL": redis_url}
    users.execute_command("ACL", "SETUSER", "producer", "on", f">{PASSWORD}", "~own", "+xadd")
    beside = controls(run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **given))["Redis password"]
    Acl(users).remove("f_desk-7")
    alone = controls(run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **given))["Redis password"]
    Acl(users).remove("producer")

    assert (beside["state"], alone["state"]) == ("on", "on")
    assert "'default' may reach all queues" in beside["seen"]
    assert "producer" not in beside["seen"]
    assert "change it" in beside["advice"]
    assert alone["advice"] == ""


def test_a_command_that_the_broker_refused_a_factory_is_told(
    hq: Headquarters,  # noqa: F811
    redis_url: str,
    users: redis.Redis,
    tmp_path: Path,
) -> None:
    with (
        redis.Redis.from_url(with_user(redis_url, "f_desk-7", PASSWORD)) as factory,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        factory.get("somebody-elses-key")
    given = {"FACTORY_ROLE": "HEADQUARTERS", "UA_REDIS_URL": redis_url}
    found = controls(run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **given))

    assert found["Redis refusals"]["state"] == "off"
    assert "f_desk-7 (1)" in found["Redis refusals"]["seen"]
    assert "somebody-elses-key" not in found["Redis refusals"]["seen"]


def test_servers_that_are_away_leave_it_unknown(hq: Headquarters, tmp_path: Path) -> None:  # noqa: F811
    given = {
        "FACTORY_ROLE": "HEADQUARTERS",
        "UA_HQ_BASE_URL": "http://127.0.0.1:1",
        "UA_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0",
        "UA_DATABASE_URL": f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/nothing",
    }
    ended = run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **given)
    found = controls(ended)

    unknown = ("closed doors", "strange pages", "Redis password", "Redis rights", "Redis refusals", "database role")
    assert {name: found[name]["state"] for name in unknown} == dict.fromkeys(unknown, "unknown")
    assert PASSWORD not in ended.stdout + ended.stderr


def test_a_factory_that_joined_as_a_user_of_its_own_has_everything_on(
    hq: Headquarters,  # noqa: F811
    tmp_path: Path,
) -> None:
    key = public_of(new_key())
    folder = StateFolder(tmp_path / "factory")
    folder.prepare()
    keep(
        folder,
        Membership(
            "desk-7",
            hq.url,
            SECRET,
            f"redis://f_desk-7:{PASSWORD}@127.0.0.1:1/0",
            "factory.desk-7",
            mission_keys=(key,),
        ),
    )
    ended = run(hq, "doctor", "security", "--json", "--state", str(folder.path), UA_HQ_BASE_URL="", UA_OPS_TOKEN="")
    found = controls(ended)

    off = {name for name, one in found.items() if one["state"] != "on"}
    assert off <= {"vault", "not as root", "secrets' files"}, [found[name] for name in off]
    assert kid_of(key) in found["signed missions"]["seen"]
    assert "f_desk-7" in found["own Redis user"]["seen"]
    assert "redis-password" in found["password exchange"]["seen"]
    assert PASSWORD not in ended.stdout
    assert SECRET not in ended.stdout


def test_a_factory_that_shares_everything_is_told(hq: Headquarters, tmp_path: Path) -> None:  # noqa: F811
    given = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0"}
    ended = run(hq, "doctor", "security", "--state", str(tmp_path), UA_REDIS_ALLOW_PLAINTEXT="1", **given)
    off = [line for line in ended.stdout.splitlines() if line.startswith("off ")]

    assert ended.returncode == 78
    told = ("own Redis user", "signed missions", "own credential", "nothing of HQ's", "no plain internet")
    for name in told:
        assert any(name in line and " -> " in line for line in off), name
    assert PASSWORD not in ended.stdout


def test_files_that_others_may_read_are_named(hq: Headquarters, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "env.json"
    file.write_text("{}")
    file.chmod(0o644)
    tmp_path.chmod(0o700)
    given = {"FACTORY_ROLE": "HEADQUARTERS", "UA_DOTENV_PATH": "/dev/null"}
    exposed = controls(run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **given))["secrets' files"]
    file.chmod(0o600)
    private = controls(run(hq, "doctor", "security", "--json", "--state", str(tmp_path), **given))["secrets' files"]

    assert (exposed["state"], private["state"]) == ("off", "on")
    assert str(file) in exposed["advice"]


@pytest.mark.parametrize(
    ("answer", "headers", "state"),
    [(401, {}, ("on", "on")), (200, {}, ("off", "on")), (404, {"access-control-allow-origin": "*"}, ("on", "off"))],
)
def test_the_api_is_tried_as_a_stranger_would(
    hq: Headquarters,  # noqa: F811
    tmp_path: Path,
    answer: int,
    headers: dict[str, str],
    state: tuple[str, str],
) -> None:
    hq.answers = [(answer, headers, {"missions": []})]
    environ = {"FACTORY_ROLE": "HEADQUARTERS", "UA_HQ_BASE_URL": hq.url}
    view = View(environ, load_settings(environ), StateFolder(tmp_path), "default")
    found = states(of_api(view))

    assert (found["closed doors"], found["strange pages"]) == state
    assert all("authorization" not in {name.lower() for name in request[2]} for request in hq.requests)


@pytest.mark.parametrize(("answer", "state"), [(200, "off"), (401, "on")])
def test_hq_itself_says_whether_a_token_without_end_is_good(
    hq: Headquarters,  # noqa: F811
    tmp_path: Path,
    answer: int,
    state: str,
) -> None:
    """Also where the settings that this command sees say otherwise: those of the API count."""
    hq.answers = [(answer, {}, {"missions": [], "detail": "Unauthorized"})]
    flag = "0" if state == "off" else "1"
    environ = {
        "FACTORY_ROLE": "HEADQUARTERS",
        "UA_HQ_BASE_URL": hq.url,
        "UA_OPS_TOKEN": SECRET,
        "UA_OPS_AUTH_ALLOW_LEGACY": flag,
    }
    view = View(environ, load_settings(environ), StateFolder(tmp_path), "default")

    assert states(of_api(view))["no endless token"] == state


def test_what_the_ledger_says_is_judged_at_headquarters_as_a_whole() -> None:
    assert set(states(of_standing(WELL, is_headquarters=True)).values()) == {"on"}
    bad = Standing(
        ("mailbox.celery_taskmeta",), {"f_desk-7": "it is a superuser"}, False, 2, 2, ("desk-7",), {"desk-8": False},
        ("desk-7", 200.0), ("factory.desk-8",),
    )  # fmt: skip
    found = of_standing(bad, is_headquarters=True)

    assert set(states(found).values()) == {"off"}
    assert all(one.advice for one in found)
    assert {"Redis users made", "quarantine"}.isdisjoint(states(of_standing(bad, is_headquarters=False)))


def test_the_ledger_knows_which_queues_cost_hq_time_within_the_hour(ledger: "Engine") -> None:
    with transaction(ledger) as connection:
        alarm(connection, "redis_queue_slow", "factory.desk-8", "slow", "it takes long")
        alarm(connection, "redis_queue_unread", "factory.desk-8", "full", "it is not read")
        alarm(connection, "redis_queue_slow", "factory.desk-9", "slow", "it took long")
        connection.execute(
            text(
                "UPDATE corporation.notifications SET at = now() - interval '2 hours' "
                "WHERE metadata ->> 'about' = 'factory.desk-9'"
            )
        )
    with transaction(ledger) as connection:
        assert read(connection).costly == ("factory.desk-8",)


def test_the_ledger_knows_who_waits_and_whose_quarantine_is_not_followed(ledger: "Engine") -> None:
    with transaction(ledger) as connection:
        redis_users.issue(connection, "desk-7", "f_desk-7", PASSWORD)
        redis_users.issue(connection, "desk-8", "f_desk-8", PASSWORD)
        redis_users.shut_out(connection, "desk-8", "f_desk-8")
        for name in ("desk-8", "desk-9"):
            connection.execute(
                text("INSERT INTO corporation.factory_access (factory_id, quarantined_at) VALUES (:name, now())"),
                {"name": name},
            )
    with transaction(ledger) as connection:
        standing = read(connection)
        assert (standing.users, standing.waiting) == (2, ("desk-7", "desk-8"))
        assert dict(standing.quarantine) == {"desk-8": False, "desk-9": False}
        assert standing.oldest is not None
        assert standing.oldest[1] < 1
        assert (standing.unguarded, standing.audit_is_kept) == ((), True)
        for user in redis_users.read_users(connection):
            redis_users.note_applied(connection, user)
    with transaction(ledger) as connection:
        standing = read(connection)
        assert (standing.waiting, dict(standing.quarantine)) == ((), {"desk-8": True, "desk-9": False})


def test_rules_that_were_switched_off_are_seen(ledger: "Engine") -> None:
    with transaction(ledger) as connection:
        connection.execute(text("ALTER TABLE mailbox.celery_taskmeta NO FORCE ROW LEVEL SECURITY"))
        connection.execute(text("ALTER TABLE corporation.audit_log DISABLE TRIGGER audit_log_is_append_only"))
        standing = read(connection)
        connection.rollback()

    assert (standing.unguarded, standing.audit_is_kept) == (("mailbox.celery_taskmeta",), False)


@pytest.mark.parametrize(
    ("state", "advised", "strict", "status"),
    [
        ("off", False, False, 78),
        ("off", True, False, 0),
        ("off", True, True, 78),
        ("unknown", False, False, 69),
        ("on", False, True, 0),
    ],
)
def test_the_exit_status_is_as_the_doctors(state: Any, advised: bool, strict: bool, status: int) -> None:
    assert verdict([Control("a", "on", "b"), Control("c", state, "d", "e", advised)], strict=strict) == status


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "unknown"),
        ({"UA_OPS_TOKEN": SECRET}, "unknown"),
        ({"UA_OPS_AUTH_ALLOW_LEGACY": "0", "UA_OPS_TOKEN": SECRET}, "on"),
        ({"UA_OPS_JWT_SECRET": SECRET}, "on"),
    ],
)
def test_nobody_claims_that_a_token_is_refused_who_could_not_ask(
    tmp_path: Path, more: dict[str, str], state: str
) -> None:
    environ = {"FACTORY_ROLE": "HEADQUARTERS", "UA_HQ_BASE_URL": "http://127.0.0.1:1", **more}
    view = View(environ, load_settings(environ), StateFolder(tmp_path), "default")

    assert states(of_api(view))["no endless token"] == state
