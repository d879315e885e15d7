"""`corporation up`: an HQ and a factory in one terminal, supervised, with a first mission that shows they work."""

import os
from typing import Annotated

import typer

from corporation.cli.connection import StateOption, state_folder
from corporation.settings import load_settings


def up(
    once: Annotated[bool, typer.Option("--once", help="End after the first mission; 0 if it succeeded.")] = False,
    state: StateOption = None,
) -> None:
    """Run a whole Corporation here until Ctrl-C: servers, HQ, one factory, and a first mission."""
    # Late: the servers and the ledger take a third of a second to import, which no other command needs.
    from corporation.cli.screen import Screen
    from corporation.cli.session import Session
    from corporation.cli.stop_requests import StopRequests

    folder = state_folder(state)
    load_settings(os.environ)  # a wrong environment is told now, all at once, and not by seven processes
    folder.prepare()
    requests = StopRequests()
    with folder.held(), requests.heard(), Screen() as screen:
        session = Session(folder, screen, requests, once=once)
        try:
            status = session.run(os.environ)
        finally:
            session.end()
    raise typer.Exit(status)
