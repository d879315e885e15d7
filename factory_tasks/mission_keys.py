"""What a factory learns of HQ's keys from the answers to its beats, and that it waits while it knows none of them."""

from collections.abc import Mapping
from typing import Any, Final

import structlog

from corporation import clock
from corporation.federation import notes
from corporation.trust.key_announcement import FIELD, learned
from corporation.trust.keyring import public_keys
from corporation.trust.signatures import ForgedError
from factory_tasks.node import Node

log = structlog.get_logger()

SET_CLOCK: Final = "let both machines set their time (NTP)"
REJOIN: Final = "join again with `corporation factory join`, which brings the keys that HQ signs with now"


def keys_in(here: Node, answer: Mapping[str, Any]) -> dict[str, str]:
    """What to note of the keys in HQ's answer to a beat; nothing when it changes nothing. Reads the spool, no more.

    While HQ signs with a key that this factory does not trust, it could run nothing of what it is given: it takes
    nothing then (KEYS_REFUSED), and what waits for it goes to others.
    """
    instructions = answer.get("instructions")
    announced = instructions.get(FIELD) if isinstance(instructions, Mapping) else None
    if announced is None:
        return {}
    said = here.spool.noted(notes.KEYS_REFUSED) or ""
    known = here.spool.noted(notes.MISSION_KEYS)
    try:
        note = learned(announced, public_keys(here.settings), known, clock.utc_now().timestamp())
    except ForgedError as error:
        if said != error.code:  # once: every beat says the same until somebody does something
            what_next = SET_CLOCK if error.code == "signature_expired" else REJOIN
            log.error("mission_keys_refused", reason=error.code, why=str(error), what_next=what_next)
        return {notes.KEYS_REFUSED: error.code}
    if note:
        log.info("mission_keys_learned")
    return ({notes.MISSION_KEYS: note} if note else {}) | ({notes.KEYS_REFUSED: ""} if said else {})
