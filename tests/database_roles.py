"""Roles of a test's own in the database server of the test process, dropped with all they own and were granted."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from urllib.parse import quote, urlsplit

import psycopg
from canary import secret
from psycopg import sql

_numbers = count(1)


@dataclass(frozen=True)
class Role:
    """A role that can log in, and its address of one database."""

    name: str
    url: str


@contextmanager
def a_role(owner_url: str, *attributes: str, name: str = "") -> Generator[Role]:
    """A role with `attributes` (`BYPASSRLS`) that was granted nothing; `owner_url` is a superuser's address."""
    name = name or f"role_{next(_numbers)}"
    identifier, password = sql.Identifier(name), secret("database-role")
    address = urlsplit(owner_url)
    place = f"{quote(name, safe='')}:{password}@{address.hostname}:{address.port}"
    create = sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}")
    words = sql.SQL(" ").join(map(sql.SQL, attributes))  # pyright: ignore[reportArgumentType]
    with psycopg.connect(owner_url, autocommit=True) as db:
        db.execute(create.format(identifier, words, sql.Literal(password)))
        try:
            yield Role(name, address._replace(netloc=place).geturl())
        finally:
            db.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(identifier))
            db.execute(sql.SQL("DROP ROLE {}").format(identifier))
