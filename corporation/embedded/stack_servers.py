"""The two servers a stack keeps its data in: its own, or the ones the environment names; restarted when they end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from corporation.embedded.ports import free_port
from corporation.embedded.postgres import application_url, factory_url, start_postgres
from corporation.embedded.server_process import PortTakenError, Server, ServerError
from corporation.embedded.stack_addresses import MAILBOX_NAMES, REDIS_NAMES, first_set
from corporation.embedded.stack_given import NONE_INSTEAD, given_database, given_redis
from corporation.embedded.stack_restarts import pause_before
from corporation.embedded.stack_state import StateFolder
from corporation.embedded.stack_users import OwnUsers
from corporation.embedded.valkey import knows_setinfo, passwords_of, start_valkey
from corporation.errors import GivenServerError
from corporation.settings import load_settings
from corporation.shown_address import shown

VALKEY_PORT: Final = 6379
POSTGRES_PORT: Final = 5432
APPLICATION_ROLE: Final = "corporation_hq"
"""The role of our own database that every process logs in as; it owns nothing."""
STOP_SECONDS: Final = 10.0
STOP_AT_ONCE_SECONDS: Final = 1.0


@dataclass
class DataServer:
    """One of the two; `start` is None when somebody else runs it."""

    name: str
    url: str
    """What the processes of the stack get."""
    start: Callable[[], Server] | None = None
    server: Server | None = None
    restarts: int = 0
    resume_at: float = 0.0
    why: str = ""
    away: str = ""
    """Why one that somebody else runs did not answer when it was looked for, and need not."""
    owner_url: str = field(default="", repr=False)
    """Of our own database: the owner of the tables, for migrating and for nothing else."""
    mailbox_url: str = field(default="", repr=False)
    """Of our own database: the role of the factory beside HQ."""
    passwords: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    """Of our own Redis: those of its users, by name; `url` is its operator's."""

    @property
    def address(self) -> str:
        """Where it is, without its password."""
        return shown(self.url)

    @property
    def state(self) -> str:
        """`given` by the environment, `away` when such a one did not answer, `ready`, `restarting` or `stopped`."""
        if self.start is None:
            return "away" if self.away else "given"
        if self.server:
            return "ready"
        return "restarting" if self.why else "stopped"

    def tick(self, now: float) -> None:
        """Start it again when it has ended; a failure to do so is tried again later, after a growing pause."""
        if self.start is None:
            return
        if self.server and self.server.process.poll() is not None:
            self.server.stop(timeout_seconds=STOP_AT_ONCE_SECONDS)
            self.server, self.why = None, "it ended"
            self.resume_at = now + pause_before(1)
        if self.server is None and self.why and now >= self.resume_at:
            self._restart(now)

    def _restart(self, now: float) -> None:
        self.restarts += 1
        try:
            self.server, self.why = (self.start() if self.start else None), ""
        except ServerError as error:
            self.why = str(error).splitlines()[0]
            self.resume_at = now + pause_before(self.restarts)

    def stop(self, *, at_once: bool) -> None:
        """Afterwards our server does not run; one that the environment gave is left alone. Safe to call twice."""
        if self.server:
            self.server.stop(timeout_seconds=STOP_AT_ONCE_SECONDS if at_once else STOP_SECONDS)
        self.server, self.why = None, ""


def start_servers(
    folder: StateFolder, environ: Mapping[str, str], keep: Callable[[DataServer], None], own: OwnUsers
) -> None:
    """Start what `environ` does not give, Valkey first; `keep` gets each as soon as it runs, so that none is lost
    when the next one fails with ServerError. One that is given must answer, else GivenServerError."""
    redis_url, database_url = given_redis(environ), given_database(environ)
    keep(DataServer("valkey", redis_url) if redis_url else _own_valkey(folder, own))
    keep(DataServer("postgresql", database_url) if database_url else _own_postgres(folder, own))


def reach_servers(
    environ: Mapping[str, str],
    keep: Callable[[DataServer], None],
    let_in_later: Callable[[], bool] = lambda: False,
) -> None:
    """HQ's Redis and its mailbox, where a worker was told of them; it uses them and never starts one.

    The mailbox must answer, else GivenServerError. A Redis that nobody answers for is `away`: missions come over HTTPS
    meanwhile; one that refuses us is a GivenServerError. But one that is to know us by a user of our own may hear of us
    later: then `let_in_later`, which may wait a moment, says whether to ask it again, and once it says no, it is away.
    """
    if broker := _redis_of_a_worker(environ, let_in_later):
        keep(broker)
    if mailbox := given_database(environ, MAILBOX_NAMES, NONE_INSTEAD):
        keep(DataServer("mailbox", mailbox))


def _redis_of_a_worker(environ: Mapping[str, str], let_in_later: Callable[[], bool]) -> DataServer | None:
    settings = load_settings(environ)
    if first_set(environ, REDIS_NAMES) is None or not settings.redis_delegation_enabled:
        return None
    while True:
        try:
            return DataServer("redis", given_redis(environ, NONE_INSTEAD))
        except GivenServerError as error:
            is_unknown = error.refuses_us and settings.redis_password_file is not None
            if not (error.is_away or is_unknown):
                raise
            if is_unknown and let_in_later():
                continue
            return DataServer("redis", settings.redis_url, away=str(error))


def _own_valkey(folder: StateFolder, own: OwnUsers) -> DataServer:
    place = folder.path / "valkey"
    users = own.broker if knows_setinfo() else own.older_broker
    broker = _started("valkey", VALKEY_PORT, lambda port: start_valkey(place, port=port, users=users))
    broker.passwords = {name: password for name, password in passwords_of(place).items() if name in users}
    return broker


def _own_postgres(folder: StateFolder, own: OwnUsers) -> DataServer:
    place, factory = folder.path / "postgres", own.mailbox_role or None

    def start(port: int | None) -> Server:
        return start_postgres(
            place, port=port, database="corporation", application_role=APPLICATION_ROLE, factory_role=factory
        )

    database = _started("postgresql", POSTGRES_PORT, start)
    if database.server:
        database.url = application_url(place, database.server, APPLICATION_ROLE)
        database.owner_url = database.server.url
        database.mailbox_url = factory_url(place, database.server, factory) if factory else ""
    return database


def _started(name: str, preferred: int, start: Callable[[int | None], Server]) -> DataServer:
    try:
        server = start(free_port(preferred))
    except PortTakenError:  # somebody took it in between; the server finds one itself
        server = start(None)
    # A restart must come back where everybody looks for it.
    return DataServer(name, server.url, lambda: start(server.port), server)
