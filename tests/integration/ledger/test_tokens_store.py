"""What the ledger knows of tokens: one live credential for each factory, as a hash, and which tokens ended early."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from canary import MARK, secret
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from corporation.db import open_ledger, transaction
from corporation.tokens import credentials
from corporation.tokens.credentials import PREFIX, issue, owner_of, revoke
from corporation.tokens.revocation import is_revoked, revoke_token

FIRST, SECOND, OTHER = (PREFIX + secret(name) for name in ("first", "second", "other"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A fresh ledger."""
    engine = open_ledger(database_url, pool_size=10)
    yield engine
    engine.dispose()


def owner(engine: Engine, credential: str) -> str | None:
    with transaction(engine) as connection:
        return owner_of(connection, credential.encode())


def issued(engine: Engine, factory_id: str, credential: str) -> None:
    with transaction(engine) as connection:
        issue(connection, factory_id, credential)


def rows(engine: Engine, statement: str) -> list[Any]:
    with transaction(engine) as connection:
        return list(connection.execute(text(statement)))


def test_a_credential_belongs_to_its_factory_and_is_stored_as_a_hash(engine: Engine) -> None:
    """H-21"""
    issued(engine, "desk-7", FIRST)

    assert owner(engine, FIRST) == "desk-7"
    assert owner(engine, SECOND) is None
    assert owner(engine, FIRST + "x") is None
    [row] = rows(engine, "SELECT credential_hash, CAST(c AS text) FROM corporation.factory_credentials c")
    assert len(bytes(row[0])) == 32
    assert MARK not in row[1]


def test_the_next_credential_of_a_factory_replaces_the_earlier_one(engine: Engine) -> None:
    """H-21"""
    issued(engine, "desk-7", FIRST)
    issued(engine, "desk-8", OTHER)
    issued(engine, "desk-7", SECOND)

    assert [owner(engine, one) for one in (FIRST, SECOND, OTHER)] == [None, "desk-7", "desk-8"]


def test_issuing_the_same_credential_again_changes_nothing(engine: Engine) -> None:
    issued(engine, "desk-7", FIRST)
    before = rows(engine, "SELECT * FROM corporation.factory_credentials")
    issued(engine, "desk-7", FIRST)

    assert rows(engine, "SELECT * FROM corporation.factory_credentials") == before


def test_a_credential_comes_back_neither_after_its_end_nor_for_another_factory(engine: Engine) -> None:
    issued(engine, "desk-7", FIRST)
    with pytest.raises(IntegrityError):
        issued(engine, "desk-8", FIRST)
    issued(engine, "desk-7", SECOND)
    with pytest.raises(IntegrityError):
        issued(engine, "desk-7", FIRST)

    assert [owner(engine, one) for one in (FIRST, SECOND)] == [None, "desk-7"]


def test_a_revoked_credential_is_worth_nothing(engine: Engine) -> None:
    issued(engine, "desk-7", FIRST)
    with transaction(engine) as connection:
        assert [revoke(connection, "desk-7"), revoke(connection, "desk-7")] == [True, False]
        assert not revoke(connection, "nobody")

    assert owner(engine, FIRST) is None


def test_many_enrolments_of_one_factory_at_once_leave_one_credential(engine: Engine) -> None:
    together = Barrier(8)
    wanted = [credentials.new_credential(lambda size, n=n: bytes([n]) * size) for n in range(8)]

    def enrol(credential: str) -> None:
        with transaction(engine) as connection:
            connection.execute(text("SELECT now()"))
            together.wait(10)
            issue(connection, "desk-7", credential)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enrol, wanted))
    assert [owner(engine, one) for one in wanted].count("desk-7") == 1


@pytest.mark.parametrize(
    "violation",
    [
        "INSERT INTO corporation.factory_credentials (credential_hash, factory_id) VALUES ('\\x00', 'desk-9')",
        "INSERT INTO corporation.factory_credentials (credential_hash, factory_id) VALUES (sha256('x'), '  ')",
        "INSERT INTO corporation.factory_credentials (credential_hash, factory_id)"
        " VALUES (sha256('x'), repeat('x', 201))",
        # A second live one for the same factory.
        "INSERT INTO corporation.factory_credentials (credential_hash, factory_id) VALUES (sha256('x'), 'desk-7')",
        "UPDATE corporation.factory_credentials SET revoked_at = created_at - interval '1 second'",
        "INSERT INTO corporation.revoked_tokens (jti, revoked_by) VALUES ('', 'ops')",
        "INSERT INTO corporation.revoked_tokens (jti, revoked_by) VALUES (repeat('x', 301), 'ops')",
        "INSERT INTO corporation.revoked_tokens (jti) VALUES ('x')",
    ],
)
def test_the_ledger_refuses_what_must_not_be(engine: Engine, violation: str) -> None:
    issued(engine, "desk-7", FIRST)

    with pytest.raises(IntegrityError):
        rows(engine, violation)


def test_a_revoked_token_is_known_and_the_first_revocation_stays(engine: Engine) -> None:
    """H-11"""
    with transaction(engine) as connection:
        assert not is_revoked(connection, "t-1")
        revoke_token(connection, "t-1", "night shift")
        revoke_token(connection, "t-1", "x" * 1000)
        revoke_token(connection, "t-2", "x" * 1000)

        assert is_revoked(connection, "t-1")
        assert not is_revoked(connection, "t-10")
    who = dict(tuple(row) for row in rows(engine, "SELECT jti, revoked_by FROM corporation.revoked_tokens"))
    assert who == {"t-1": "night shift", "t-2": "x" * 300}


def test_what_is_older_than_a_day_is_forgotten_at_the_next_revocation(engine: Engine) -> None:
    with transaction(engine) as connection:
        for token_id in ("old", "young"):
            revoke_token(connection, token_id, "ops")
        connection.execute(
            text("UPDATE corporation.revoked_tokens SET revoked_at = now() - CAST(:age AS interval) WHERE jti = :jti"),
            [{"jti": "old", "age": "25 hours"}, {"jti": "young", "age": "23 hours"}],
        )
        assert is_revoked(connection, "old")
        revoke_token(connection, "new", "ops")

        assert [is_revoked(connection, one) for one in ("old", "young", "new")] == [False, True, True]


def test_both_looks_at_the_door_use_an_index(engine: Engine) -> None:
    """One indexed read for each request; a scan would grow with what is stored."""
    with transaction(engine) as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        for look in (
            "EXPLAIN SELECT 1 FROM corporation.revoked_tokens WHERE jti = 'x'",
            "EXPLAIN SELECT 1 FROM corporation.factory_credentials WHERE credential_hash = '\\x00'",
        ):
            plan = connection.execute(text(look)).scalars().all()
            assert "Index" in plan[0]
