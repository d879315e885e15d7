"""The role that a node logs in as: too strong is refused or told, and a granted one can do all the work (E10)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import builders
import psycopg
import pytest
from canary import secret, shows
from database_roles import Role, a_role
from psycopg import sql
from sqlalchemy import text
from structlog.testing import capture_logs

from corporation import clock
from corporation.cli.app import run
from corporation.cli.checks import role_owns_nothing
from corporation.database_role import judge, look_at_role, reasons_against, why_role_is_refused
from corporation.db import UnknownRoleError, migrate, open_ledger, transaction
from corporation.embedded.ports import free_port
from corporation.embedded.postgres import APPLICATION_FILE, application_url, start_postgres
from corporation.factories.store import record_beat
from corporation.missions.collect import collect_some
from corporation.missions.dispatch import dispatch_some
from corporation.missions.outbox import send_some
from corporation.missions.outcomes import Done
from corporation.missions.retry import RetryPolicy
from corporation.missions.submit import submit
from corporation.settings import Settings, load_settings

if TYPE_CHECKING:
    from corporation.embedded.server_process import Server

STRICT = ("vps", "standalone_node")
FILL = text("UPDATE mailbox.celery_taskmeta SET status = 'SUCCESS', result = :body WHERE task_id = :task_id")


@pytest.fixture
def role(database_url: str) -> Iterator[Role]:
    """A role with no right at all."""
    with a_role(database_url) as role:
        yield role


@pytest.fixture
def granted(database_url: str, role: Role) -> Role:
    """A role that was granted the ledger."""
    migrate(database_url, [role.name])
    return role


def execute(url: str, statement: str, *names: str) -> Any:
    """The first row that `statement` gives on a connection of its own, names quoted."""
    with psycopg.connect(url) as db:
        found = db.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # pyright: ignore[reportArgumentType]
        return found.fetchone() if found.description else None


def settings_of(profile: str, url: str, **more: str) -> Settings:
    """The settings of a headquarters of this profile, or of the role that `more` names."""
    return load_settings(
        {"FACTORY_ROLE": "HEADQUARTERS", "UA_DEPLOYMENT_PROFILE": profile, "UA_DATABASE_URL": url} | more
    )


def reasons(url: str) -> list[str]:
    return reasons_against(look_at_role(url))


def test_a_superuser_is_too_strong(database_url: str) -> None:
    assert reasons(database_url) == ["it is a superuser"]


def test_a_role_that_nobody_gave_anything_is_not_too_strong(role: Role) -> None:
    assert reasons(role.url) == []


def test_a_role_that_may_pass_row_security_by_is_too_strong(database_url: str) -> None:
    with a_role(database_url, "BYPASSRLS") as role:
        assert reasons(role.url) == ["it has BYPASSRLS"]


@pytest.mark.parametrize(
    "taken",
    [
        "ALTER TABLE corporation.outbox OWNER TO {}",
        "ALTER TABLE mailbox.celery_taskmeta OWNER TO {}",
        "ALTER SCHEMA corporation OWNER TO {}",
        "CREATE VIEW mailbox.seen AS SELECT 1; ALTER VIEW mailbox.seen OWNER TO {}",
    ],
)
def test_an_owner_of_anything_in_the_ledger_is_too_strong(database_url: str, role: Role, taken: str) -> None:
    execute(database_url, taken, role.name)

    assert reasons(role.url) == ["it owns tables of the ledger"]


@pytest.mark.parametrize("attribute", ["INHERIT", "NOINHERIT"])
def test_who_may_become_the_owner_is_too_strong_inherited_or_not(database_url: str, role: Role, attribute: str) -> None:
    with a_role(database_url, attribute) as member:
        execute(database_url, "ALTER TABLE corporation.missions OWNER TO {}", role.name)
        execute(database_url, "GRANT {} TO {}", role.name, member.name)

        assert reasons(member.url) == [f"it is a member of '{role.name}', which owns tables of the ledger"]


def test_who_may_become_a_superuser_is_too_strong(database_url: str, role: Role) -> None:
    with a_role(database_url, "SUPERUSER") as admin:
        execute(database_url, "GRANT {} TO {}", admin.name, role.name)

        assert f"it is a member of '{admin.name}', which is a superuser" in reasons(role.url)


def test_tables_elsewhere_in_the_database_do_not_matter(database_url: str, role: Role) -> None:
    execute(database_url, "CREATE TABLE public.of_somebody (); ALTER TABLE public.of_somebody OWNER TO {}", role.name)

    assert reasons(role.url) == []


@pytest.mark.parametrize("profile", STRICT)
def test_a_server_refuses_the_owner_and_takes_the_granted_role(database_url: str, granted: Role, profile: str) -> None:
    [problem] = why_role_is_refused(settings_of(profile, database_url))

    assert problem.startswith("UA_DATABASE_URL: the database role 'corporation' is too strong: it is a superuser; ")
    assert urlsplit(database_url).password not in problem
    assert why_role_is_refused(settings_of(profile, granted.url)) == []


def test_a_workstation_is_told_once_and_starts(database_url: str) -> None:
    with capture_logs() as logged:
        problems = why_role_is_refused(settings_of("local_workstation", database_url))

    assert problems == []
    assert [line["event"] for line in logged] == ["database_role_too_strong"]
    assert "the database role 'corporation' is too strong" in logged[0]["why"]
    assert urlsplit(database_url).password not in logged[0]["why"]


def test_each_address_is_judged_by_itself(database_url: str, granted: Role) -> None:
    mixed = settings_of("vps", granted.url, UA_RESULT_BACKEND_URL=database_url)
    same = settings_of("vps", database_url, UA_RESULT_BACKEND_URL=database_url)
    worker = settings_of("vps", granted.url, FACTORY_ROLE="LOCAL_WORKER", UA_RESULT_BACKEND_URL=database_url)

    for settings in (mixed, worker):
        [problem] = why_role_is_refused(settings)
        assert problem.startswith("UA_RESULT_BACKEND_URL: the database role 'corporation'")
    [problem] = why_role_is_refused(same)
    assert problem.startswith("UA_DATABASE_URL: ")


@pytest.mark.parametrize("place", ["127.0.0.1:{free}/x", "{server}/no_such_database", "{server}/%zz"])
def test_a_database_that_is_away_stops_nobody_and_the_log_says_so(database_url: str, place: str) -> None:
    server = database_url.partition("@")[2].partition("/")[0]
    url = f"postgresql://corporation:{secret('away')}@{place.format(free=free_port(None), server=server)}"

    with capture_logs() as logged:
        problems = why_role_is_refused(settings_of("vps", url))

    assert problems == []
    assert [line["event"] for line in logged] == ["database_role_not_checked"]
    assert not shows(str(logged))


@pytest.mark.parametrize(("profile", "grade", "status"), [("local_workstation", "warning", 0), ("vps", "problem", 78)])
def test_the_doctor_says_it_as_strictly_as_the_start(
    database_url: str, granted: Role, profile: str, grade: str, status: int
) -> None:
    settings = settings_of(profile, database_url)
    [odd] = role_owns_nothing("UA_DATABASE_URL", database_url, settings)
    [fine] = role_owns_nothing("UA_DATABASE_URL", granted.url, settings)

    assert (odd.grade, odd.exit_code, fine.grade) == (grade, status, "ok")
    assert "corporation migrate --grant" in odd.advice


def test_a_granted_role_brings_a_mission_home(granted: Role) -> None:
    """Submit, dispatch, send, report, collect: the whole SQL of a mission's way."""
    ledger = open_ledger(granted.url, pool_size=1)
    sent: list[Any] = []

    class Broker:
        def send(self, messages: Any) -> None:
            sent.extend(messages)

    with transaction(ledger) as connection:
        record_beat(connection, builders.beat())
        submit(connection, [builders.submission("j-1")], 0)
    with transaction(ledger) as connection:
        dispatch_some(connection, builders.rules(), clock.new_id)
    with transaction(ledger) as connection:
        send_some(connection, Broker(), 10)  # pyright: ignore[reportArgumentType]
    with transaction(ledger) as connection:
        connection.execute(FILL, {"body": builders.report(Done({}), 0.5), "task_id": sent[0].attempt_id})
    with transaction(ledger) as connection:
        collect_some(connection, RetryPolicy(), lambda: 0.5, 10)
    ledger.dispose()

    assert execute(granted.url, "SELECT state FROM corporation.missions") == ("succeeded",)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE corporation.outbox",
        "TRUNCATE corporation.mission_events",
        "ALTER TABLE corporation.mission_events DISABLE TRIGGER ALL",
        "ALTER TABLE mailbox.celery_taskmeta ADD COLUMN more text",
        "CREATE TABLE corporation.mine ()",
        "SET session_replication_role = replica",
        "DELETE FROM alembic_version",
    ],
)
def test_a_granted_role_cannot_change_the_rules(granted: Role, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(granted.url, statement)


def test_granting_twice_changes_nothing_and_migrating_as_the_granted_role_is_fine(
    database_url: str, granted: Role
) -> None:
    rights = "SELECT array_agg(relacl::text ORDER BY relname) FROM pg_class WHERE relacl IS NOT NULL"
    before = execute(database_url, rights)
    revision = migrate(database_url, [granted.name, granted.name])

    assert execute(database_url, rights) == before
    assert migrate(granted.url) == revision


def test_what_a_later_migration_makes_belongs_to_the_granted_role_as_well(database_url: str, granted: Role) -> None:
    execute(
        database_url,
        "CREATE TABLE corporation.later (id bigserial, word text);"
        "CREATE FUNCTION corporation.later_word() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
    )
    execute(granted.url, "INSERT INTO corporation.later (word) VALUES (corporation.later_word())")

    assert execute(granted.url, "SELECT id, word FROM corporation.later") == (1, "x")


def test_a_role_with_an_odd_name_is_granted_and_nothing_else_happens(database_url: str) -> None:
    with a_role(database_url, name='100% "odd"; DROP TABLE corporation.outbox --') as odd:
        migrate(database_url, [odd.name])

        assert execute(odd.url, "SELECT count(*) FROM corporation.outbox") == (0,)


@pytest.mark.parametrize("name", ["nobody_knows", "public", ""])
def test_a_role_that_does_not_exist_is_refused_before_anything_is_migrated(empty_database_url: str, name: str) -> None:
    with pytest.raises(UnknownRoleError, match="have its administrator create it"):
        migrate(empty_database_url, [name])

    assert execute(empty_database_url, "SELECT to_regnamespace('corporation')") == (None,)


def test_the_command_migrates_grants_and_says_so(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("UA_DATABASE_URL", empty_database_url)
    options = ["migrate", "--state", str(tmp_path), "--grant"]
    with a_role(empty_database_url) as role:
        assert run([*options, "nobody_knows"]) == 78
        assert 'CREATE ROLE "nobody_knows" LOGIN' in capsys.readouterr().err
        assert run([*options, role.name]) == 0
        assert f"it may be used by: {role.name}" in capsys.readouterr().out
        assert execute(role.url, "SELECT count(*) FROM corporation.missions") == (0,)


def test_a_migration_by_a_role_that_owns_nothing_says_whose_address_it_takes(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with a_role(empty_database_url) as role:
        monkeypatch.setenv("UA_DATABASE_URL", role.url)

        assert run(["migrate", "--state", str(tmp_path)]) == 78
    said = capsys.readouterr().err
    assert "it does not give this user the right; put the address of the role that owns the tables" in said
    assert not shows(said)


@pytest.fixture
def start(tmp_path: Path, cluster_template: Path) -> Iterator[Callable[..., "Server"]]:
    """A server of the test's own on one folder; what still runs at the end is stopped."""
    servers: list[Server] = []

    def begin(**options: Any) -> "Server":
        template = None if (tmp_path / "p").exists() else cluster_template
        servers.append(start_postgres(tmp_path / "p", durable=False, template=template, **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


def test_our_own_server_gets_its_weak_role_in_a_folder_of_an_older_version_too(
    start: Callable[..., "Server"], tmp_path: Path
) -> None:
    start().stop()
    server = start(application_role="app")
    migrate(server.url, ["app"])
    first = application_url(tmp_path / "p", server, "app")

    assert not judge("UA_DATABASE_URL", first).reasons
    assert look_at_role(first).name == "app"
    assert (tmp_path / "p" / APPLICATION_FILE).stat().st_mode & 0o777 == 0o600
    assert urlsplit(first).password != urlsplit(server.url).password

    server.stop()
    (tmp_path / "p" / APPLICATION_FILE).unlink()
    again = start(application_role="app", port=server.port)
    second = application_url(tmp_path / "p", again, "app")
    assert second != first
    assert execute(second, "SELECT count(*) FROM corporation.missions") == (0,)
    with pytest.raises(psycopg.OperationalError, match="password"):
        look_at_role(first)


def test_rights_that_somebody_gave_the_weak_role_are_gone_after_a_start(
    start: Callable[..., "Server"], tmp_path: Path
) -> None:
    server = start(application_role="app")
    execute(server.url, "ALTER ROLE app SUPERUSER BYPASSRLS NOLOGIN")
    server.stop()

    again = start(application_role="app")
    assert reasons(application_url(tmp_path / "p", again, "app")) == []
