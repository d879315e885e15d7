"""`corporation up`: an HQ and a factory in one terminal, or one node of one role; supervised, and shown to work."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from corporation.cli.connection import state_folder
from corporation.cli.options import StateOption
from corporation.embedded.stack_shape import Shape


class Role(StrEnum):
    """The one node that is wanted."""

    hq = "hq"
    worker = "worker"
    standalone = "standalone"


_ROLE_HELP = (
    "Only one node; a worker joins the HQ that the environment names. "
    "Without it FACTORY_ROLE decides; without that, an HQ with one factory beside it."
)
_ONCE_HELP = "End after the first mission, 0 if it succeeded; where there is none, as soon as everything is healthy."


def up(
    role: Annotated[Role | None, typer.Option(help=_ROLE_HELP)] = None,
    once: Annotated[bool, typer.Option("--once", help=_ONCE_HELP)] = False,
    state: StateOption = None,
) -> None:
    """Run a whole Corporation here until Ctrl-C, or one node of it: its servers, its processes, a first mission."""
    # Late: the servers and the ledger take a third of a second to import, which no other command needs.
    from corporation.cli.launch import launch_of
    from corporation.cli.screen import Screen
    from corporation.cli.session import Session
    from corporation.cli.stop_requests import StopRequests
    from corporation.embedded.stack_handout import note_about, without_handout
    from corporation.own_process import hide_environment

    hide_environment()  # ours holds more than any mission may know
    folder = state_folder(state)
    environ, own = without_handout(os.environ, folder)
    # A wrong environment is told now, all at once, and not by seven processes.
    launch = launch_of(Shape(role.value) if role else None, environ, note_about(own))
    folder.prepare()
    requests = StopRequests()
    with folder.held(), requests.heard(), Screen() as screen:
        session = Session(folder, screen, requests, launch, once=once)
        try:
            status = session.run()
        finally:
            session.end()
    raise typer.Exit(status)
