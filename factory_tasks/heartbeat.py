"""Saying to HQ how this node is, and writing down what it answers (contract fleet §2 to §4)."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import structlog

from corporation import clock
from corporation.errors import CorporationError
from corporation.federation import notes
from corporation.federation.hq import HqRefusedError
from corporation.federation.hq_token import QUARANTINED
from factory_tasks.beat_body import FAILURES, LATENCY, beat_body
from factory_tasks.beat_body import running_version as running_version
from factory_tasks.mission_keys import keys_in
from factory_tasks.node import Node
from factory_tasks.redis_password import rotate_if_asked
from factory_tasks.stop_orders import orders_in, write_down
from factory_tasks.usage import told_with
from factory_tasks.worker_signs import RESTART

log = structlog.get_logger()

SENT_AT: Final = "beat_sent_at"
"""A note in the spool, so that beat, control worker and pulse know of each other's beats."""
TRIED_AT: Final = "beat_tried_at"
"""A note likewise: when the last beat that HQ did not take was begun."""
LONGEST_WAIT_SECONDS: Final = 300.0
GOODBYE_SECONDS: Final = 5.0
"""How long a process that ends waits for HQ, for each step."""
SPLIT_BRAIN: Final = "split_brain"
LONGEST_COMMIT: Final = 64
MOST_NAMES: Final = 100
REFUSED_ADVICE: Final = {
    401: "HQ does not accept this factory's credential: it was removed, or has joined again; join again with "
    "`corporation factory join`",
    403: "HQ knows this credential as another factory's; look at UA_FACTORY_ID",
}
QUARANTINED_ADVICE: Final = (
    "HQ has put this factory in quarantine, which only HQ's operator ends (`corporation release`); joining again helps "
    "nothing"
)
TWO_ADVICE: Final = "give one of the two machines another UA_FACTORY_ID, by joining it again with a code of its own"


def send_beat(here: Node, source: str) -> bool:
    """Send one heartbeat, note how long it took and what HQ wants; False when HQ did not take it."""
    if here.hq is None:
        return False
    body = beat_body(here, source)
    # Making it may take longer than sending it, and says nothing of the way to HQ.
    began = clock.monotonic()
    try:
        answer = here.hq.beat(body)
    except CorporationError as error:
        _note_failure(here, source, error, began)
        return False
    try:
        here.spool.note_all(
            {
                LATENCY: f"{(clock.monotonic() - began) * 1000:.1f}",
                SENT_AT: str(clock.monotonic()),
                FAILURES: "0",
                notes.BEAT_REFUSED: "",
                notes.SPLIT_BRAIN: "",
                **told_with(body.get("cost_snapshot")),
                **wishes_in(answer),
                **keys_in(here, answer),
            }
        )
        for order in orders_in(answer):
            write_down(here.spool, order)
    except sqlite3.Error as error:
        # HQ has heard of us. What it wants stopped it says again with the next beat.
        log.warning("beat_not_noted", source=source, error=str(error))
    rotate_if_asked(here)
    return True


def say_goodbye(here: Node) -> None:
    """The last process of this factory ends: HQ hears that it is offline, if HQ listens; else it falls silent.

    Safe to call from each process that ends: while another one still takes missions or orders, nothing is said.
    Headquarters says nothing, for its API goes on speaking for it.
    """
    if here.hq is None or here.settings.policy.is_headquarters or here.spool.workers():
        return
    try:
        here.hq.beat({**beat_body(here, "stop"), "registration_status": "offline"}, GOODBYE_SECONDS)
    except CorporationError as error:
        log.warning("goodbye_not_heard", error=str(error))


def wishes_in(answer: Mapping[str, Any]) -> dict[str, str]:
    """What HQ's answer wants of this factory, as notes; what it does not say stays as it was (F-20)."""
    instructions = answer.get("instructions")
    if not isinstance(instructions, Mapping):
        return {}
    flags = {notes.PAUSED: instructions.get("paused"), notes.DRAINING: instructions.get("draining")}
    wishes = {
        name: notes.SET if value is True else notes.UNSET for name, value in flags.items() if isinstance(value, bool)
    }
    if instructions.get("rotate_redis_password") is True:
        wishes[notes.ROTATE_REDIS] = notes.SET
    version, number = instructions.get("desired_version"), instructions.get("shared_config_version")
    if "desired_version" in instructions:
        commit = version.get("commit") if isinstance(version, Mapping) else ""
        wishes[notes.DESIRED_VERSION] = commit[:LONGEST_COMMIT] if isinstance(commit, str) else ""
    if isinstance(number, int) and not isinstance(number, bool):
        wishes[notes.SHARED_CONFIG_VERSION] = str(number)
    dead = instructions.get("restart_workers")
    names = [name for name in dead[:MOST_NAMES] if isinstance(name, str)] if isinstance(dead, list) else []
    return wishes | {f"{RESTART}{name[:200]}": notes.SET for name in names}


def patience(failures: int, interval: float, *, works: bool) -> float:
    """Seconds from one beat to the next after so many failures in a row (fleet §4).

    While an attempt runs never more than an interval, so that its lease holds.
    """
    wait = min(interval * 2.0 ** min(failures, 10), LONGEST_WAIT_SECONDS) if failures else interval
    return min(wait, interval) if works else wait


def is_too_early(here: Node) -> bool:
    """Whether HQ is away and the next beat should still be waited with; a quarter of an interval does not matter."""
    failures = int(here.spool.noted(FAILURES) or 0)
    interval = float(here.settings.heartbeat_interval_seconds)
    wait = patience(failures, interval, works=bool(here.spool.running()))
    return failures > 0 and _seconds_since(here, TRIED_AT) < wait - interval / 4


def _note_failure(here: Node, source: str, error: CorporationError, began: float) -> None:
    failures = int(here.spool.noted(FAILURES) or 0) + 1
    here.spool.note_all({FAILURES: str(failures), TRIED_AT: str(began)})
    status = error.status if isinstance(error, HqRefusedError) else 0
    if isinstance(error, HqRefusedError) and error.cause == SPLIT_BRAIN:
        here.spool.note(notes.SPLIT_BRAIN, "another process beats under this factory's name")
        log.error("split_brain", factory_id=here.settings.factory_id, what_next=TWO_ADVICE)
    elif status in REFUSED_ADVICE:
        # Once: every beat says the same until somebody does something.
        if here.spool.noted(notes.BEAT_REFUSED) != str(status):
            shut_out = isinstance(error, HqRefusedError) and error.cause == QUARANTINED
            advice = QUARANTINED_ADVICE if shut_out else REFUSED_ADVICE[status]
            log.error("beat_refused", source=source, status=status, what_next=advice)
            here.spool.note(notes.BEAT_REFUSED, str(status))
    else:
        log.warning("beat_failed", source=source, failures=failures, error=str(error))


def seconds_since_beat(here: Node) -> float:
    """Seconds since any process of this node last reached HQ; infinite before the first time."""
    return _seconds_since(here, SENT_AT)


def _seconds_since(here: Node, name: str) -> float:
    noted = here.spool.noted(name)
    age = clock.monotonic() - float(noted) if noted else float("inf")
    # The clock counts from the machine's start: a note from before a reboot lies in the future.
    return age if age >= 0 else float("inf")
