"""`python -m factory_tasks.pull [--standby]`: missions over HTTPS, always or only while Redis is away."""

import argparse
import importlib
import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

import structlog

from celeryconfig import further_modules, our_modules
from corporation.errors import EXIT_CONFIG
from corporation.federation.hq import Hq
from corporation.own_process import hide_environment
from corporation.settings import Settings
from factory_tasks.handlers import registered
from factory_tasks.heartbeat import running_version, say_goodbye
from factory_tasks.https_reports import deliver_over_https
from factory_tasks.loop_watch import RESTART_STATUS
from factory_tasks.node import Node, node
from factory_tasks.pull.puller import Puller
from factory_tasks.pulse import Pulse

log = structlog.get_logger()

SYSTEM_MISSIONS: Final = "factory_tasks.system_missions"


class _Requests:
    """How often the process was told to end: once means softly, twice at once."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.count += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Take missions until told to end, and then finish what runs; a second signal ends it at once.

    0 after a clean end, 75 to be started anew, 78 when this node takes no missions or does not know HQ, 74 when its
    spool cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m factory_tasks.pull", description=__doc__)
    parser.add_argument("--standby", action="store_true", help="only while Redis does not answer")
    options = parser.parse_args(arguments)
    hide_environment()
    here = node()
    if problem := why_not(here.settings):
        sys.stderr.write(f"{problem}\n")
        return EXIT_CONFIG
    if here.hq is None:
        sys.stderr.write("UA_HQ_BASE_URL is missing: without HQ's address there is nobody to ask for missions\n")
        return EXIT_CONFIG
    standby = options.standby and here.settings.redis_delegation_enabled
    try:
        return _run(here, here.hq, standby=standby)
    except sqlite3.Error as error:
        sys.stderr.write(f"the spool of this factory cannot be used ({error}); look at the disk of UA_VP_DB_PATH\n")
        return os.EX_IOERR


def why_not(settings: Settings) -> str | None:
    """Why a node with these settings takes no missions over HTTPS, or None."""
    policy = settings.policy
    if not policy.can_listen_delegations:
        return (
            f"this {policy.factory_role} takes no missions: its delegation mode is {policy.delegation_mode}; "
            "UA_CAPABILITY_DELEGATION_MODE=listen_only lets it"
        )
    if settings.factory_credential is None and settings.ops_token is None:
        return "UA_FACTORY_CREDENTIAL is missing: HQ hands missions only to whom it knows; `corporation factory join`"
    return None


def _run(here: Node, hq: Hq, *, standby: bool) -> int:
    for module in (*our_modules(), *further_modules(here.settings), SYSTEM_MISSIONS):
        importlib.import_module(module)
    running_version()  # asks git once, before the warden takes a child of ours for a stranger
    name = f"pull@{here.settings.host}"
    deliver = deliver_over_https(here)
    # Without Redis there is no beat whose lateness could be waited for.
    pulse = Pulse(here, deliver, late=1.5 if standby else 1.0)
    puller = Puller(here, hq, name, registered(here.settings.policy), pulse, deliver, standby=standby)
    requests = _Requests()
    ready = here.settings.ready_file
    try:
        puller.start()
        log.info("pull_ready", slots=here.settings.factory_slots, standby=standby)
        if ready:
            ready.touch()
        status = _loop(puller, requests)
    finally:
        with suppress(sqlite3.Error):
            puller.end()
        if ready:
            ready.unlink(missing_ok=True)
    if status == 0:
        say_goodbye(here)
    return status


def _loop(puller: Puller, requests: _Requests) -> int:
    drained = False
    while requests.count < 2:
        if requests.count and not drained:
            puller.drain()
            drained = True
        puller.tick()
        if puller.broken:
            log.error("nursery_ended", what_next="this process ends, to be started anew")
            return RESTART_STATUS
        if drained and puller.idle:
            break
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
