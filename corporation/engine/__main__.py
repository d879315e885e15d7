"""`python -m corporation.engine [--only LOOP …] [--ready-file PATH]`: all of HQ's loops in one process."""

import argparse
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from threading import Event, Thread
from types import FrameType

from sqlalchemy import Engine

from corporation import clock
from corporation.bootstrap import bootstrap_or_exit
from corporation.db import open_ledger
from corporation.engine.collector import Collector
from corporation.engine.dispatcher import Dispatcher
from corporation.engine.forever import Loop, Running, run_forever
from corporation.engine.rescuer import Rescuer
from corporation.engine.sender import Sender
from corporation.engine.wakeups import listen_forever
from corporation.factories.staleness import Thresholds
from corporation.missions.dispatch import DispatchRules
from corporation.missions.outbox import Broker
from corporation.missions.retry import RetryPolicy
from corporation.settings import Settings

LOOPS = ("dispatcher", "sender", "collector", "rescuer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loops until SIGTERM or SIGINT; 0 after a clean stop, 78 when this node cannot or must not run them."""
    options = _parser().parse_args(arguments)
    settings = bootstrap_or_exit(os.environ, checks=[why_no_engine]).settings
    url = settings.database_url or ""
    stop = Event()
    _stop_on_signals(stop)
    ledger = open_ledger(url, pool_size=len(LOOPS) + 1, check_before_use=False)
    running = [Running(loop, stop) for loop in build_loops(settings, ledger, load_broker(settings), options.only)]
    run(running, url, stop, options.ready_file)
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


def build_loops(settings: Settings, ledger: Engine, broker: Broker, only: Sequence[str] = ()) -> list[Loop]:
    """The loops named by `only`, or all of them, wired to this ledger and broker."""
    policy = RetryPolicy(settings.retry_base_seconds, settings.retry_cap_seconds, settings.retry_jitter)
    thresholds = Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)
    lease = float(settings.attempt_lease_seconds)
    loops: list[Loop] = [
        Dispatcher(ledger, DispatchRules(lease, thresholds), clock.new_id),
        Sender(ledger, broker),
        Collector(ledger, policy, clock.chance),
        Rescuer(
            ledger,
            broker,
            policy,
            lease,
            clock.chance,
            sweep_seconds=min(5.0, lease / 8),
            offline_seconds=thresholds.offline_seconds,
        ),
    ]
    return [loop for loop in loops if not only or loop.name in only]


def load_broker(settings: Settings) -> Broker:
    """The installed broker: the core does not know which one it is (entry point group `corporation.brokers`)."""
    [found] = entry_points(group="corporation.brokers")
    broker: Broker = found.load()(settings)
    return broker


def run(running: Sequence[Running], url: str, stop: Event, ready_file: Path | None) -> None:
    """Run all loops and their wake-ups in threads until `stop`; `ready_file` appears once each has ticked."""
    listening = "postgresql://" + url.partition("://")[2]
    threads = [Thread(target=run_forever, args=(one,), name=one.loop.name) for one in running]
    threads.append(Thread(target=listen_forever, args=(listening, running, stop), name="wakeups"))
    for thread in threads:
        thread.start()
    for one in running:
        while not one.ticked.wait(0.2) and not stop.is_set():
            pass
    if ready_file and not stop.is_set():
        ready_file.touch()
    stop.wait()
    for one in running:
        one.wake.set()
    for thread in threads:
        thread.join(timeout=10)
    if ready_file:
        with suppress(FileNotFoundError):
            ready_file.unlink()


def _stop_on_signals(stop: Event) -> None:
    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m corporation.engine", description=__doc__)
    parser.add_argument("--only", action="append", choices=LOOPS, default=[], help="run this loop; may be repeated")
    parser.add_argument("--ready-file", type=Path, help="created once every loop has ticked")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
