"""`corporation migrate --factory ROLE=FACTORY_ID`: for a factory that opens the mailbox itself."""

import json
from pathlib import Path

import psycopg
import pytest
from database_roles import Role, a_role

from corporation.cli.app import run


@pytest.fixture
def options(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """The command with the administrator's address."""
    monkeypatch.setenv("UA_DATABASE_URL", empty_database_url)
    capsys.readouterr()
    return ["migrate", "--state", str(tmp_path)]


def registered(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT role_name, factory_id FROM mailbox.factory_roles").fetchall()


def test_a_role_is_admitted_and_the_command_says_so(
    empty_database_url: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with a_role(empty_database_url) as role:
        for _ in range(2):
            assert run([*options, "--factory", f"{role.name}=desk-7"]) == 0
            assert f"{role.name} may read and fill the mailbox rows of desk-7" in capsys.readouterr().out

        assert registered(empty_database_url) == [(role.name, "desk-7")]
        assert registered(role.url) == [(role.name, "desk-7")]


def test_an_owner_who_is_no_administrator_is_told_what_is_left_to_do(
    empty_database_url: str, options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_role(empty_database_url) as owner, a_role(empty_database_url) as role:
        hand_over(empty_database_url, owner)
        try:
            monkeypatch.setenv("UA_DATABASE_URL", owner.url)
            assert run([*options, "--factory", f"{role.name}=desk-7", "--json"]) == 0
            told = json.loads(capsys.readouterr().out)
            assert run([*options, "--factory", f"{role.name}=desk-7"]) == 0
            assert f"run this command too, once, for: {role.name}" in capsys.readouterr().out
            assert (told["factories"], told["without_limits"]) == ({role.name: "desk-7"}, [role.name])
        finally:
            hand_over(empty_database_url, None)


def hand_over(url: str, owner: Role | None) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"ALTER DATABASE {connection.info.dbname} OWNER TO {owner.name if owner else 'CURRENT_USER'}"
        )


@pytest.mark.parametrize(
    ("word", "status", "said"),
    [
        ("f_desk-7", 2, "--factory takes ROLE=FACTORY_ID"),
        ("=desk-7", 2, "--factory takes ROLE=FACTORY_ID"),
        ("nobody_knows=desk-7", 78, 'CREATE ROLE "nobody_knows" LOGIN'),
        ("corporation=desk-7", 78, "it is a superuser"),
    ],
)
def test_what_cannot_be_admitted_is_refused_with_what_to_do(
    options: list[str], capsys: pytest.CaptureFixture[str], word: str, status: int, said: str
) -> None:
    assert run([*options, "--factory", word]) == status
    assert said in capsys.readouterr().err
