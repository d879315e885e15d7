"""One run of the whole stack: bring it up, show it, watch over it, run the first mission, and take it down."""

import secrets
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from corporation import clock
from corporation.cli import demo, exits
from corporation.cli.client import HqClient
from corporation.cli.connection import Connection
from corporation.cli.screen import Row, Screen
from corporation.cli.stop_requests import StopRequests
from corporation.db import migrate
from corporation.embedded.ports import free_port
from corporation.embedded.stack import Member, PortTaken, StackFailed, Supervisor
from corporation.embedded.stack_environment import Stack, inherited_from
from corporation.embedded.stack_plan import plan_of
from corporation.embedded.stack_servers import DataServer, start_servers
from corporation.embedded.stack_state import StateFolder
from corporation.settings import load_settings, warnings_about

FLOWER_PORT: Final = 5555
TICK_SECONDS: Final = 0.25
PORT_TRIES: Final = 4

News = Generator[list[str], None, demo.Outcome]


class Session:
    """One run of the stack: `run` brings it up and keeps it up, `end` takes it down, whatever `run` came to."""

    def __init__(self, folder: StateFolder, screen: Screen, requests: StopRequests, *, once: bool) -> None:
        self._folder = folder
        self._screen = screen
        self._requests = requests
        self._once = once
        self._servers: list[DataServer] = []
        self._supervisor: Supervisor | None = None
        self._usual_port = 0

    def run(self, environ: Mapping[str, str]) -> int:
        """The exit status; returns when asked to stop, or with --once after the first mission."""
        self._screen.line(f"State folder: {self._folder.path} (data survives a stop; remove it to start afresh)")
        self._usual_port = load_settings(environ).gateway_port
        for warning in warnings_about(environ):
            self._screen.line(f"Note: {warning}")
        start_servers(self._folder, environ, self._servers.append)
        self._show()
        self._migrate(self._servers[-1])
        for _ in range(PORT_TRIES - 1):
            try:
                return self._serve(stack_for(self._folder, self._servers, environ))
            except PortTaken as taken:
                self._screen.line(f"{taken}; starting again with free ports")
                self._stop_processes()
        return self._serve(stack_for(self._folder, self._servers, environ))

    def _migrate(self, database: DataServer) -> None:
        try:
            revision = migrate(database.url)
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise StackFailed(f"the ledger {database.address} cannot be migrated: {cause}") from None
        self._screen.line(f"Ledger: migrated to revision {revision}")

    def _serve(self, stack: Stack) -> int:
        self._folder.write_facts(stack.to_facts())
        supervisor = self._supervisor = Supervisor(stack, plan_of(stack))
        connection = Connection(stack.hq_base_url, stack.ops_token, str(self._folder.facts))
        with HqClient(connection, tries=1, answer_seconds=5) as client:
            news: News | None = None
            outcome: demo.Outcome | None = None
            while not self._requests.asked:
                now = clock.monotonic()
                for server in self._servers:
                    server.tick(now)
                supervisor.tick(now)
                self._show()
                if news is None and supervisor.ready:
                    news = self._first_mission(client, stack)
                if news is not None and outcome is None:
                    outcome = self._look(news)
                if outcome is not None and self._once:
                    return self._result(outcome)
                time.sleep(TICK_SECONDS)
            return exits.INTERRUPTED if self._once or outcome is None else exits.OK

    def _first_mission(self, client: HqClient, stack: Stack) -> News:
        self._tell_of_ports(stack)
        self._screen.line(
            f"Everything is ready.\n  HQ      {stack.hq_base_url}\n  Flower  {stack.flower_url} "
            f"(user corporation, password in {self._folder.facts})"
        )
        if not demo.place_run_folder(self._folder):
            return demo.no_mission()
        return demo.first_mission(client, self._folder, clock.new_id())

    def _tell_of_ports(self, stack: Stack) -> None:
        for name, usual, port in (
            ("HQ", self._usual_port, stack.gateway_port),
            ("Flower", FLOWER_PORT, stack.flower_port),
        ):
            if port != usual:
                self._screen.line(f"Port {usual} is taken by another program; {name} is on {port}")

    def _look(self, news: News) -> demo.Outcome | None:
        try:
            for line in next(news):
                self._screen.line(line)
        except StopIteration as end:
            outcome: demo.Outcome = end.value
            if outcome.succeeded:
                self._screen.line(f"{outcome.text}\n{_what_next(self._once)}")
            elif not self._once:
                self._screen.line(f"{outcome.text} (log: {self._folder.log('factory-worker')})")
            return outcome
        return None

    def _result(self, outcome: demo.Outcome) -> int:
        if outcome.succeeded:
            return exits.OK
        raise StackFailed(f"{outcome.text} (log: {self._folder.log('factory-worker')})")

    def _show(self) -> None:
        members = self._supervisor.members if self._supervisor else []
        self._screen.rows([*map(server_row, self._servers), *map(member_row, members)])

    def _stop_processes(self) -> None:
        if self._supervisor:
            self._supervisor.stop(lambda: self._requests.urgent)

    def end(self) -> None:
        """Afterwards nothing that this run started is left; a second Ctrl-C cuts the waiting short."""
        with suppress(OSError):  # the terminal may be gone; stopping matters more
            if self._requests.asked:
                self._screen.line("Stopping; running missions get 10 s to finish. Ctrl-C again stops at once")
        self._stop_processes()
        for server in reversed(self._servers):
            server.stop(at_once=self._requests.urgent)
        with suppress(OSError):
            self._show()
            self._screen.line("Stopped; nothing of it runs any more")


def stack_for(folder: StateFolder, servers: list[DataServer], environ: Mapping[str, str]) -> Stack:
    """The stack of this run: the secrets and, where still free, the ports of the last one; new ones otherwise."""
    facts = folder.read_facts() or {}
    settings = load_settings(environ)
    valkey, postgresql = servers
    return Stack(
        state=folder.path,
        python=sys.executable,
        host=settings.host,
        redis_url=valkey.url,
        database_url=postgresql.url,
        gateway_port=free_port(_preferred(settings.gateway_port, facts, "gateway_port")),
        flower_port=free_port(_preferred(FLOWER_PORT, facts, "flower_port")),
        ops_token=_secret(facts, "ops_token"),
        jwt_secret=_secret(facts, "jwt_secret"),
        flower_password=_secret(facts, "flower_password"),
        inherited=inherited_from(environ),
    )


def _secret(facts: Mapping[str, Any], name: str) -> str:
    kept = facts.get(name)
    return kept if isinstance(kept, str) and kept else secrets.token_urlsafe(32)


def _preferred(usual: int, facts: Mapping[str, Any], name: str) -> int:
    """The usual port whenever it is free, so that bookmarks work again; else the one of the last run."""
    kept = facts.get(name)
    return usual if free_port(usual) == usual or not isinstance(kept, int) else kept


def server_row(server: DataServer) -> Row:
    """What the screen shows of a server."""
    pid = server.server.pid if server.server else None
    return Row(server.name, server.state, pid, server.restarts, server.address, server.why)


def member_row(member: Member) -> Row:
    """What the screen shows of a process."""
    state = "restarting" if member.phase == "paused" else member.phase
    pid = member.child.pid if member.child and member.phase in ("starting", "ready") else None
    return Row(member.plan.name, state, pid, member.restarts, member.plan.address, member.why)


def _what_next(once: bool) -> str:
    command = Path(sys.argv[0]).name if Path(sys.argv[0]).name == "corporation" else "python -m corporation.cli"
    start = f"{Path(sys.prefix) / 'bin' / 'corporation'}" if command == "corporation" else command
    if once:
        return f"Next: {start} up"
    context = f'{{"tutorial_run_path": "{demo.RUN_PATH}", "repo_name": "second-mission"}}'
    options = f"--kind bootstrap_repo --context '{context}' --watch"
    return f"Next, in another terminal:\n  {start} publish 'My second mission' {options}"
