"""A database as a careful operator sets it up: its owner is no superuser, HQ was granted it, two factories admitted."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from database_roles import Role, a_role
from psycopg import sql
from sqlalchemy import NullPool, create_engine

from corporation.db import migrate, sqlalchemy_url
from corporation.trust.mailbox_roles import admit

ADD = """
    INSERT INTO mailbox.celery_taskmeta (task_id, factory, status, result) VALUES (%s, %s, %s, %s)
"""


@dataclass(frozen=True)
class GuardedMailbox:
    """The addresses of everybody; `desk-7` and `desk-8` are the factories of `desk` and `other`."""

    superuser: str
    owner: Role
    hq: Role
    desk: Role
    other: Role

    def row(self, factory_id: str, status: str = "PENDING") -> str:
        """HQ made an attempt for this factory, and it is as far as `status` says."""
        attempt_id = str(uuid4())
        result = json.dumps({"outcome": "done"}).encode() if status == "SUCCESS" else None
        self.execute(self.hq, ADD, attempt_id, factory_id, status, result)
        return attempt_id

    def execute(self, who: Role, statement: str, *values: Any) -> list[Any]:
        """What `who` is answered, over a connection of its own."""
        with psycopg.connect(who.url, autocommit=True) as connection:
            found = connection.execute(statement.encode(), values or None)
            return found.fetchall() if found.description else [found.rowcount]

    def admit(self, role: Role, factory_id: str, *, by: str = "", **options: Any) -> bool:
        """As `corporation migrate --factory` does it with the owner's address, or with the one in `by`."""
        engine = create_engine(sqlalchemy_url(by or self.owner.url), poolclass=NullPool)
        with engine.begin() as connection:
            return admit(connection, role.name, factory_id, **options)


@contextmanager
def a_database(server: str, name: str) -> Generator[str]:
    """The superuser's address of an empty database, which is gone afterwards."""
    address, database = urlsplit(server), sql.Identifier(name)
    with psycopg.connect(address._replace(path="/postgres").geturl(), autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template1 STRATEGY file_copy").format(database))
        try:
            yield address._replace(path=f"/{name}").geturl()
        finally:
            db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


@contextmanager
def guarded_mailbox(superuser: str, suffix: str, *, admitted_by_superuser: bool = False) -> Generator[GuardedMailbox]:
    """`superuser` is the address of an empty database of the test's own; `suffix` makes the names of the roles new."""
    database = sql.Identifier(urlsplit(superuser).path.lstrip("/"))
    with (
        a_role(superuser, name=f"owner_{suffix}") as owner,
        a_role(superuser, name=f"hq_{suffix}") as hq,
        a_role(superuser, name=f"f_desk-7_{suffix}") as desk,
        a_role(superuser, name=f"f_desk-8_{suffix}") as other,
    ):
        with psycopg.connect(superuser, autocommit=True) as db:
            db.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(owner.name)))
        migrate(owner.url, [hq.name])
        made = GuardedMailbox(superuser, owner, hq, desk, other)
        try:
            for role, factory_id in ((desk, "desk-7"), (other, "desk-8")):
                made.admit(role, factory_id, by=superuser if admitted_by_superuser else "")
            yield made
        finally:
            with psycopg.connect(superuser, autocommit=True) as db:
                db.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(database))
