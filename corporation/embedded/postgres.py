"""Start PostgreSQL in a folder of its own: durable, with a password, on loopback only, also when we are root."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg import sql

from corporation.embedded.binaries import find_postgres
from corporation.embedded.ports import LOOPBACK
from corporation.embedded.postgres_cluster import NAME, USER, prepare_cluster
from corporation.embedded.postgres_place import Place, find_place
from corporation.embedded.server_folder import held, note_holder, password_of
from corporation.embedded.server_process import Server, ServerError, fresh_log, on_a_port, spawn, wait_until_ready

# A failed statement may hold a password (CREATE ROLE …), so none is written to the log.
SETTINGS: Final = (
    f"listen_addresses={LOOPBACK}",
    "unix_socket_directories=",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_min_error_statement=panic",
)
# Commits stay synchronous: a killed server must keep what it acknowledged, in tests too.
NOT_DURABLE: Final = ("fsync=off", "full_page_writes=off")
APPLICATION_FILE: Final = "application-password"
"""The file, beside the superuser's, with the password of the role that processes use."""
FACTORY_FILE: Final = "factory-password"
"""The same for the role of the factory beside HQ."""
CONNECT_SECONDS: Final = 5
STATUS_LINE: Final = 7  # of postmaster.pid, counted from 0


@dataclass(frozen=True)
class _Order:
    place: Place
    password: str
    lock: int
    database: str
    durable: bool
    roles: dict[str, str]
    """Who can log in and owns nothing, with the file of its password."""


def start_postgres(
    folder: Path,
    *,
    port: int | None = None,
    database: str = "corporation",
    durable: bool = True,
    application_role: str | None = None,
    factory_role: str | None = None,
    template: Path | None = None,
    mode: str | None = None,
    bin_folder: Path | None = None,
) -> Server:
    """A PostgreSQL server that answers and has `database`; its data in `folder` survives restarts and crashes.

    `application_role` and `factory_role` can log in and own nothing; `application_url` and `factory_url` lead to them,
    and a migration must grant them what they need. Not `durable` is for tests: a power failure may then destroy the
    data. `template` is the folder of a stopped server to copy instead of initialising a new one. `mode` forces how root
    runs it (`userns`, `drop`, `direct`). Without `port` a free one is taken. Call it from the main thread. Raises
    ServerError when it cannot start, and when `folder` is in use.
    """
    folder = folder.absolute()
    programs = find_postgres(bin_folder)
    with held(folder, NAME) as lock:
        place = find_place(folder, programs, mode)
        password = prepare_cluster(place, template, lock, durable=durable)
        named = {application_role: APPLICATION_FILE, factory_role: FACTORY_FILE}
        order = _Order(
            place, password, lock, database, durable, {role: file for role, file in named.items() if role is not None}
        )
        return on_a_port(port, lambda port: _start(order, port))


def application_url(folder: Path, server: Server, role: str) -> str:
    """The address of `server`'s database for the `application_role` it was started with, password included."""
    return _url_of(folder, server, role, APPLICATION_FILE)


def factory_url(folder: Path, server: Server, role: str) -> str:
    """The same for the `factory_role`."""
    return _url_of(folder, server, role, FACTORY_FILE)


def _url_of(folder: Path, server: Server, role: str, file: str) -> str:
    password = quote(password_of(folder, file), safe="")
    return f"postgresql://{quote(role, safe='')}:{password}@{server.url.partition('@')[2]}"


def _start(order: _Order, port: int) -> Server:
    place, log = order.place, order.place.log
    written = fresh_log(log)
    process = spawn(
        _command(order, port),
        folder=place.home,
        log=log,
        lock=order.lock,
        stop_signal=signal.SIGINT,  # its fast shutdown; SIGTERM would wait for every client to leave
        prefix=place.runner.prefix,
        as_user=place.runner.as_user,
    )
    note_holder(order.lock, process.pid)
    url = f"postgresql://{USER}:{order.password}@{LOOPBACK}:{port}"
    wait_until_ready(NAME, process, lambda: _is_ready(place.data, process.pid), log, written)
    server = Server(NAME, f"{url}/{quote(order.database, safe='')}", process.pid, log, port, process, signal.SIGINT)
    try:
        _prepare_contents(url, order)
    except BaseException:
        server.stop()
        raise
    return server


def _command(order: _Order, port: int) -> list[str]:
    place = order.place
    settings = SETTINGS if order.durable else SETTINGS + NOT_DURABLE
    options = [word for setting in settings for word in ("-c", setting)]
    return [str(place.programs / "postgres"), "-D", str(place.data), "-p", str(port), *options]


def _is_ready(data: Path, pid: int) -> bool:
    """Whether this very server takes connections: another one on the same port might know the same password."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > STATUS_LINE and lines[0] == str(pid) and lines[STATUS_LINE].strip() == "ready"


def _prepare_contents(url: str, order: _Order) -> None:
    try:
        with psycopg.connect(f"{url}/postgres", autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
            find = "SELECT 1 FROM pg_database WHERE datname = %s"
            if not connection.execute(find, [order.database]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(order.database)))
            for role, file in order.roles.items():
                _keep_role(connection, role, password_of(order.place.folder, file))
    except psycopg.OperationalError as error:
        password = order.place.folder / "password"
        raise ServerError(
            f"{NAME} runs but cannot be used; was {password} replaced? It belongs to the data beside it: {error}"
        ) from None


def _keep_role(connection: psycopg.Connection, role: str, password: str) -> None:
    """Afterwards `role` can log in with `password` and has no right of its own, whatever it was before."""
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    # What the server checks is sent, not the password: a statement may end in a log or in a view of the activity.
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    attributes = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    statement = sql.SQL(f"ALTER ROLE {{}} {attributes} PASSWORD {{}}")
    connection.execute(statement.format(sql.Identifier(role), sql.Literal(verifier)))
