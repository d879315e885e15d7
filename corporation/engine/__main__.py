"""`python -m corporation.engine [--only LOOP …] [--ready-file PATH]`: all of HQ's loops in one process."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from sqlalchemy import Engine

from corporation import clock
from corporation.bootstrap import bootstrap_or_exit
from corporation.database_role import why_role_is_refused
from corporation.db import open_ledger
from corporation.delegation.building import build_importer, build_publisher
from corporation.delegation.publisher import Masked
from corporation.engine.collector import Collector
from corporation.engine.dispatcher import Dispatcher
from corporation.engine.doorkeeper import build_doorkeeper
from corporation.engine.loop_names import LOOPS
from corporation.engine.rebuilder import Rebuilder
from corporation.engine.rescuer import Rescuer
from corporation.engine.sender import Sender
from corporation.engine.sweeper import Sweeper
from corporation.errors import EXIT_CONFIG
from corporation.factories.staleness import Thresholds
from corporation.loops.forever import Loop, Running
from corporation.loops.running import run, stop_on_signals
from corporation.loops.ticks import Teller
from corporation.masking import Mask, hide_shapes, hiding
from corporation.missions.brokers import load_broker
from corporation.missions.dispatch import DispatchRules
from corporation.missions.outbox import Broker
from corporation.missions.retry import RetryPolicy
from corporation.settings import Settings
from corporation.trust.keyring import why_keys_are_refused


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loops until SIGTERM or SIGINT; 0 after a clean stop, 78 when this node cannot or must not run them."""
    options = _parser().parse_args(arguments)
    runtime = bootstrap_or_exit(os.environ, checks=[why_no_engine, why_role_is_refused, why_keys_are_refused])
    settings = runtime.settings
    url = settings.database_url or ""
    stop = Event()
    stop_on_signals(stop)
    ledger = open_ledger(url, pool_size=len(LOOPS) + 1, check_before_use=False)
    hide = hiding(runtime.secrets)
    loops = [Running(one, stop) for one in build_loops(settings, ledger, load_broker(settings), options.only, hide)]
    streams = build_stream_loops(settings, ledger, Mask(runtime.secrets), options.only)
    if settings.policy.is_headquarters and "doorkeeper" in (options.only or LOOPS):
        streams.append(build_doorkeeper(settings, ledger))
    # Missions are routed and brought home while Redis is away, so the engine is ready without it.
    loops += [Running(one, stop, essential=not loops) for one in streams]
    if not loops:
        sys.stderr.write("UA_DELEGATION_REDIS_ENABLED is off, so the loops of the streams do not run here\n")
        return EXIT_CONFIG
    run([*loops, Running(Teller(ledger, loops), stop)], url, stop, options.ready_file)
    ledger.dispose()
    return 0


def why_no_engine(settings: Settings) -> list[str]:
    """What keeps the engine from running here: the policy of this node, or a missing ledger."""
    policy = settings.policy
    if not policy.opens_ledger:
        return [f"this node is a {policy.factory_role}: it has no ledger, so it runs no engine"]
    if not policy.runs_engine:
        return [f"this {policy.factory_role} routes no missions: its delegation mode is {policy.delegation_mode}"]
    return [] if settings.database_url else ["UA_DATABASE_URL is missing; `corporation env --role hq` prints a set"]


def build_loops(
    settings: Settings,
    ledger: Engine,
    broker: Broker,
    only: Sequence[str] = (),
    hide: Callable[[str], str] = hide_shapes,
) -> list[Loop]:
    """The loops named by `only`, or all of them, wired to this ledger and broker.

    `hide` takes secrets out of what factories say of failures (S-40).
    """
    policy = RetryPolicy(settings.retry_base_seconds, settings.retry_cap_seconds, settings.retry_jitter)
    thresholds = Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)
    lease = float(settings.attempt_lease_seconds)
    loops: list[Loop] = [
        Dispatcher(ledger, DispatchRules(lease, thresholds), clock.new_id),
        Sender(ledger, broker),
        Collector(ledger, policy, clock.chance, hide=hide),
        Rescuer(
            ledger,
            broker,
            policy,
            lease,
            clock.chance,
            sweep_seconds=min(2.0, lease / 8),
            thresholds=thresholds,
        ),
        Rebuilder(ledger, broker, lease),
        Sweeper(ledger, thresholds, float(settings.factory_sweep_seconds)),
    ]
    return [loop for loop in loops if not only or loop.name in only]


def build_stream_loops(settings: Settings, ledger: Engine, mask: Masked, only: Sequence[str] = ()) -> list[Loop]:
    """The loops of the streams named by `only`, or both; none where missions travel over HTTPS alone.

    Who gives no missions away does not join the group (S-4), and still tells how its own ended.
    """
    if not settings.redis_delegation_enabled:
        return []
    loops: list[Loop] = [build_publisher(settings, ledger, mask)]
    if settings.policy.can_publish_delegations:
        loops.append(build_importer(settings, ledger))
    return [loop for loop in loops if not only or loop.name in only]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m corporation.engine", description=__doc__)
    parser.add_argument("--only", action="append", choices=LOOPS, default=[], help="run this loop; may be repeated")
    parser.add_argument("--ready-file", type=Path, help="created once every loop has ticked")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
