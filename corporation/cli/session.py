"""One run of a stack: bring it up, show it, watch over it, run a first mission where there can be one, take it down."""

import time
from collections.abc import Callable, Generator
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from corporation import clock
from corporation.cli import demo, exits
from corporation.cli.client import HqClient
from corporation.cli.connection import Connection
from corporation.cli.launch import Launch
from corporation.cli.screen import Row, Screen
from corporation.cli.stack_building import FLOWER_PORT, credential_issued, factory_admitted, stack_for
from corporation.cli.stop_requests import StopRequests
from corporation.cli.what_next import what_next, where
from corporation.database_role import is_strict, judge
from corporation.db import lacks_the_right, migrate
from corporation.embedded.connection_causes import cause_of
from corporation.embedded.stack import Member, PortTaken, StackFailed, Supervisor
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_facts import facts_of
from corporation.embedded.stack_plan import plan_of
from corporation.embedded.stack_servers import APPLICATION_ROLE, DataServer, reach_servers, start_servers
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import StateFolder
from corporation.embedded.stack_watch import ServerWatch
from corporation.errors import SettingsError
from corporation.roles import FactoryRole

TICK_SECONDS = 0.1
"""Between two looks while the stack starts, where each look that comes late holds up what waits for it."""
CALM_TICK_SECONDS = 0.25
"""Afterwards."""
LET_IN_SECONDS = 15
"""How long a factory waits at its start until HQ's Redis knows its user; meanwhile HQ's engine makes it."""
PORT_TRIES = 4
DATABASES = ("postgresql", "mailbox")
"""The servers of a stack that are a database; the other one is its broker."""

News = Generator[list[str], None, demo.Outcome]


class Session:
    """One run of the stack: `run` brings it up and keeps it up, `end` takes it down, whatever `run` came to."""

    def __init__(
        self,
        folder: StateFolder,
        screen: Screen,
        requests: StopRequests,
        launch: Launch,
        *,
        once: bool,
        news: Callable[[Stack], News] | None = None,
        meanwhile: Callable[[], list[str]] = list,
    ) -> None:
        self._folder = folder
        self._screen = screen
        self._requests = requests
        self._launch = launch
        self._once = once
        self._news = news
        """What is told once everything is ready, in place of the first mission."""
        self._meanwhile = meanwhile
        """What else there is to tell at each look, from the beginning to the end."""
        self._servers: list[DataServer] = []
        self._watch = ServerWatch(self._servers)
        self._supervisor: Supervisor | None = None
        self._let_in_until: float | None = None

    def run(self) -> int:
        """The exit status; returns when asked to stop, or with --once after the first mission."""
        self._screen.line(f"State folder: {self._folder.path} (data survives a stop; remove it to start afresh)")
        for line in self._launch.lines():
            self._screen.line(line)
        self._folder.forget_address()
        if self._launch.shape is Shape.WORKER:
            reach_servers(self._launch.environ, self._keep, self._let_in_later)
        else:
            start_servers(self._folder, self._launch.environ, self._keep, self._launch.own)
        self._show()
        if self._launch.opens_ledger:
            self._migrate(self._servers[-1])
        self._look_at_role()
        self._watch.start()
        for _ in range(PORT_TRIES - 1):
            try:
                return self._serve(self._stack())
            except PortTaken as taken:
                self._screen.line(f"{taken}; starting again with free ports")
                self._stop_processes()
        return self._serve(self._stack())

    def _keep(self, server: DataServer) -> None:
        self._servers.append(server)
        if server.away:
            self._screen.line(f"Note: missions come over HTTPS until Redis is there. {server.away}")

    def _migrate(self, database: DataServer) -> None:
        try:
            revision = migrate(database.owner_url or database.url, [APPLICATION_ROLE] if database.owner_url else [])
            factory_admitted(database, self._launch)
        except (SQLAlchemyError, ValueError) as error:
            owner = "`corporation migrate --grant ROLE` with its owner's address brings it up to date; "
            raise StackFailed(
                f"the ledger {database.address} cannot be migrated: {cause_of(error)}; "
                f"{owner if lacks_the_right(error) else ''}"
                "once that is put right, run it again, or look closer with `corporation doctor`"
            ) from None
        self._screen.line(f"Ledger: migrated to revision {revision}")

    def _look_at_role(self) -> None:
        """A given database whose role is too strong ends the run where the profile is strict, with 78; else a note."""
        database = next((server for server in self._servers if server.name in DATABASES), None)
        if database is None or database.owner_url:
            return
        variable = "UA_RESULT_BACKEND_URL" if self._launch.shape is Shape.WORKER else "UA_DATABASE_URL"
        if problem := judge(variable, database.url).problem:
            if is_strict(self._launch.settings):
                raise SettingsError([problem])
            self._screen.line(f"Note: {problem}")

    def _stack(self) -> Stack:
        broker = next((server for server in self._servers if server.name not in DATABASES), None)
        database = next((server for server in self._servers if server.name in DATABASES), None)
        stack = credential_issued(stack_for(self._folder, self._launch, broker, database))
        if stack.factory_shut_out and stack.shape is Shape.WHOLE:
            name = stack.id_of(FactoryRole.LOCAL_WORKER)
            self._screen.line(
                f"Note: {name} is in quarantine; `corporation factories release {name}` lets it work again"
            )
        return stack

    def _let_in_later(self) -> bool:
        """Whether to ask HQ's Redis again; returns after a moment, and says so once."""
        now = clock.monotonic()
        if self._let_in_until is None:
            self._let_in_until = now + LET_IN_SECONDS
            self._screen.line(f"HQ's Redis does not know this factory yet; waiting up to {LET_IN_SECONDS} s for that")
        time.sleep(TICK_SECONDS)
        return now < self._let_in_until and not self._requests.asked

    def _serve(self, stack: Stack) -> int:
        self._folder.write_facts(facts_of(stack, self._launch.environ))
        supervisor = self._supervisor = Supervisor(stack, plan_of(stack))
        connection = Connection(stack.gateway_url, stack.ops_token, str(self._folder.facts))
        with HqClient(connection, tries=1, answer_seconds=5, silent=True) as client:
            news: News | None = None
            outcome: demo.Outcome | None = None
            while not self._requests.asked:
                now = clock.monotonic()
                for server in self._servers:
                    server.tick(now)
                supervisor.tick(now)
                self._show()
                for line in [*self._meanwhile(), *self._watch.news()]:
                    self._screen.line(line)
                if news is None and supervisor.ready:
                    news = self._first_mission(client, stack)
                if news is not None and outcome is None:
                    outcome = self._look(news, stack)
                if outcome is not None and self._once:
                    return self._result(outcome)
                time.sleep(TICK_SECONDS if outcome is None else CALM_TICK_SECONDS)
            return exits.INTERRUPTED if self._once or outcome is None else exits.OK

    def _first_mission(self, client: HqClient, stack: Stack) -> News:
        self._tell_of_ports(stack)
        self._screen.line("\n".join(["Everything is ready.", *where(stack)]))
        # Also where no factory is beside HQ: the README's first mission must work once one has joined.
        placed = self._launch.settings.policy.is_headquarters and demo.place_run_folder(self._folder)
        if self._news:
            return self._news(stack)
        if not self._launch.runs_first_mission:
            return demo.nothing_to_run()
        if not placed:
            return demo.no_mission()
        return demo.first_mission(client, self._folder, clock.new_id())

    def _tell_of_ports(self, stack: Stack) -> None:
        for name, process, usual, port in (
            ("the API", "api", self._launch.settings.gateway_port, stack.gateway_port),
            ("Flower", "flower", FLOWER_PORT, stack.flower_port),
        ):
            if port != usual and process in stack.running:
                self._screen.line(f"Port {usual} is taken by another program; {name} is on {port}")

    def _look(self, news: News, stack: Stack) -> demo.Outcome | None:
        try:
            for line in next(news):
                self._screen.line(line)
        except StopIteration as end:
            outcome: demo.Outcome = end.value
            if outcome.succeeded:
                self._screen.line("\n".join(text for text in (outcome.text, what_next(stack, once=self._once)) if text))
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
        rows = [member_row(member, self._folder) for member in members]
        self._screen.rows([*map(server_row, self._servers), *rows])

    def _stop_processes(self) -> None:
        if self._supervisor:
            self._supervisor.stop(lambda: self._requests.urgent)

    def end(self) -> None:
        """Afterwards nothing that this run started is left; a second Ctrl-C cuts the waiting short."""
        with suppress(OSError):  # the terminal may be gone; stopping matters more
            if self._requests.asked:
                self._screen.line("Stopping; running missions get 10 s to finish. Ctrl-C again stops at once")
        self._watch.stop()
        self._stop_processes()
        for server in reversed(self._servers):
            server.stop(at_once=self._requests.urgent)
        with suppress(OSError):
            self._show()
            self._screen.line("Stopped; nothing of it runs any more")


def server_row(server: DataServer) -> Row:
    """What the screen shows of a server."""
    pid = server.server.pid if server.server else None
    return Row(server.name, server.state, pid, server.restarts, server.address, server.why)


def member_row(member: Member, folder: StateFolder) -> Row:
    """What the screen shows of a process."""
    state = "restarting" if member.phase == "paused" else member.phase
    pid = member.child.pid if member.child and member.phase in ("starting", "ready") else None
    busy = member.phase == "ready" and member.plan.busy and folder.ready_file(member.plan.name).exists()
    address = member.plan.busy if busy else member.plan.address
    return Row(member.plan.name, state, pid, member.restarts, address, member.why)
