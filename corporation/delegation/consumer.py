"""`python -m corporation.delegation.consumer [--once] [--poll-seconds F]`: the streams' two loops as their own process.

It imports the mission stream and publishes results and dead letters, as the engine does too; both may run at once.
Exit statuses: 0 after SIGTERM, SIGINT or a whole `--once`; 69 when `--once` cannot reach Redis or the ledger; 78 when
this node must not, or is not configured to.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Final

from sqlalchemy import Engine

from corporation.bootstrap import Runtime, bootstrap_or_exit
from corporation.database_role import why_role_is_refused
from corporation.db import open_ledger
from corporation.delegation.building import build_importer, build_publisher
from corporation.delegation.importer import Importer
from corporation.delegation.publisher import Publisher
from corporation.delegation.redis_errors import REDIS_FAILS, code_of, needs_a_person
from corporation.errors import LedgerUnavailableError
from corporation.loops.forever import Running
from corporation.loops.running import run, stop_on_signals
from corporation.loops.ticks import Teller
from corporation.masking import Mask
from corporation.settings import Settings
from corporation.shown_address import shown

UNAVAILABLE: Final = 69
"""EX_UNAVAILABLE of sysexits.h: try again later."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both loops until told to stop, or once; the exit status."""
    options = _parser().parse_args(arguments)
    runtime = bootstrap_or_exit(os.environ, checks=[why_no_streams, why_role_is_refused])
    settings = runtime.settings
    ledger = open_ledger(settings.database_url or "", pool_size=3, check_before_use=options.once)
    try:
        importer, publisher = _loops(runtime, ledger, options.poll_seconds)
        if options.once:
            return _once(importer, publisher, settings)
        stop = Event()
        stop_on_signals(stop)
        loops = [Running(importer, stop), Running(publisher, stop)]
        run([*loops, Running(Teller(ledger, loops), stop)], settings.database_url or "", stop, options.ready_file)
    finally:
        ledger.dispose()
    return 0


def why_no_streams(settings: Settings) -> list[str]:
    """What keeps the streams from being read and written here (S-4): the policy, the switch, or a missing ledger."""
    policy = settings.policy
    if not policy.opens_ledger or not policy.can_publish_delegations or not policy.is_headquarters:
        return [
            f"this node is a {policy.factory_role} whose delegation mode is {policy.delegation_mode}; "
            "only headquarters joins the group of the mission stream"
        ]
    if not settings.redis_delegation_enabled:
        return ["UA_DELEGATION_REDIS_ENABLED is off: no stream is used here; switch it on, or do not start this"]
    return [] if settings.database_url else ["UA_DATABASE_URL is missing; `corporation env --role hq` prints a set"]


def _loops(runtime: Runtime, ledger: Engine, poll_seconds: float | None) -> tuple[Importer, Publisher]:
    importer = build_importer(runtime.settings, ledger)
    if poll_seconds is not None:
        importer.poll_seconds = poll_seconds
    return importer, build_publisher(runtime.settings, ledger, Mask(runtime.secrets))


def _once(importer: Importer, publisher: Publisher, settings: Settings) -> int:
    """Import all that is there, then publish all that is to be told; what was done is done, also when it fails."""
    try:
        importer.drain()
        publisher.drain()
    except (LedgerUnavailableError, *REDIS_FAILS) as error:
        sys.stderr.write(f"{_what_failed(error, settings)}\n")
        return UNAVAILABLE
    finally:
        sys.stdout.write(f"{_what_was_done(importer, publisher)}\n")
    return 0


def _what_failed(error: Exception, settings: Settings) -> str:
    if isinstance(error, LedgerUnavailableError):
        return f"{error}; what was not imported stays in the stream"
    code = code_of(error)
    advice = needs_a_person(code) or "start it, or check UA_REDIS_URL, and try again; nothing is lost"
    return f"Redis at {shown(settings.redis_url)} failed ({code}): {advice}"


def _what_was_done(importer: Importer, publisher: Publisher) -> str:
    done, told = importer.totals, publisher.totals
    return (
        f"imported {done['stored']}, duplicates {done['existed']}, conflicts {done['conflict']}, "
        f"dead letters {done['dead_letters']}; published {told[publisher.keys.results]} results, "
        f"{told[publisher.keys.dead_letters]} dead letters"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m corporation.delegation.consumer", description=__doc__)
    parser.add_argument("--once", action="store_true", help="import and publish what is there now, then end")
    parser.add_argument("--poll-seconds", type=_seconds, help="the longest wait for an entry (UA_BRIDGE_POLL_SECONDS)")
    parser.add_argument("--ready-file", type=Path, help="exists while both loops work")
    return parser


def _seconds(word: str) -> float:
    seconds = float(word)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
