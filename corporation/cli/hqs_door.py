"""Whether HQ lets this machine's factory in, as its processes hear it: told once each time that changes."""

import sqlite3
from collections.abc import Callable
from typing import Final

from corporation import clock
from corporation.cli.membership import Membership
from corporation.cli.own_row import SHUT_OUT
from corporation.embedded.stack_state import StateFolder
from corporation.federation.notes import BEAT_REFUSED
from corporation.federation.spool import Spool

LOOK_EVERY_SECONDS: Final = 1.0
BUSY_MS: Final = 100
REFUSED: Final = "401"
UNTIL_THEN: Final = "  {0} takes no missions until then. It goes on asking, so leave it running, or end it"
LET_IN: Final = (
    "HQ accepts the credential of {0} again: it is let back in and takes missions; nothing is to be done here"
)


class HqsDoor:
    """What the factory of `folder` hears at HQ's door from now on: what a run before this one heard is forgotten."""

    def __init__(
        self, folder: StateFolder, membership: Membership, moment: Callable[[], float] = clock.monotonic
    ) -> None:
        self._path = folder.spool("factory")
        self._name = membership.factory_id
        self._moment = moment
        self._looked_at = float("-inf")
        self._is_shut = False
        if self._path.exists():
            self._forget()

    def lines(self) -> list[str]:
        """What to tell now: nothing, but once when HQ refuses the factory's word, and once when it takes it again."""
        now = self._moment()
        if now - self._looked_at < LOOK_EVERY_SECONDS:
            return []
        self._looked_at = now
        is_shut = self._heard() == REFUSED
        if is_shut == self._is_shut:
            return []
        self._is_shut = is_shut
        return [one.format(self._name) for one in ((SHUT_OUT, UNTIL_THEN) if is_shut else (LET_IN,))]

    def _heard(self) -> str | None:
        if not self._path.exists():
            return None
        try:
            return Spool(self._path, BUSY_MS).noted(BEAT_REFUSED)
        except sqlite3.Error:
            return REFUSED if self._is_shut else None  # nothing new is known

    def _forget(self) -> None:
        try:
            Spool(self._path, BUSY_MS).note(BEAT_REFUSED, "")
        except sqlite3.Error:
            return  # a note that stays is told, if it is still so
