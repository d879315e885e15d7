"""What `corporation doctor` looks at on a factory: whose missions it runs, and whose releases it may take."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from corporation.cli import exits
from corporation.cli.finding import Finding
from corporation.federation.notes import KEYS_REFUSED, MISSION_KEYS
from corporation.federation.spool import Spool
from corporation.settings import Settings
from corporation.trust.key_announcement import trusted
from corporation.trust.keyring import kid_of, why_keys_are_refused

BUSY_MS: Final = 2000
UNSIGNED: Final = "join again: HQ tells its keys then, if it signs missions"
_WHY: Final[Mapping[str, tuple[str, str]]] = {
    "signature_expired": (
        "HQ's list of keys is an old one, or a clock is wrong, so it takes no missions",
        "let both machines set their time (NTP)",
    ),
}
_NOT_TRUSTED: Final = (
    "HQ signs with a key that this factory does not trust, so it takes no missions",
    "join again with `corporation factory join`, which brings the keys that HQ signs with now",
)


def keys_of_a_factory(settings: Settings) -> list[Finding]:
    """Whether this factory trusts the keys that HQ signs with, by what it last heard; and who may release code for it.

    Nothing on any other node, and nothing of keys that are none: why those are refused is said then.
    """
    if settings.policy.opens_ledger:
        return []
    if problems := why_keys_are_refused(settings):
        return [Finding("keys", "problem", problem, "", exits.CONFIG) for problem in problems]
    return [_of_missions(settings, _notes(settings.spool_path)), _of_releases(settings)]


def _of_missions(settings: Settings, notes: Mapping[str, str]) -> Finding:
    keys = trusted(settings.mission_keys, notes.get(MISSION_KEYS))
    if not keys:
        return Finding("mission keys", "warning", "none: this factory runs what nobody has signed", UNSIGNED)
    if refused := notes.get(KEYS_REFUSED):
        what, advice = _WHY.get(refused, _NOT_TRUSTED)
        return Finding("mission keys", "problem", f"{what} ({refused})", advice, exits.CONFIG)
    return Finding("mission keys", "ok", f"runs what HQ signs with {', '.join(map(kid_of, keys))}")


def _of_releases(settings: Settings) -> Finding:
    kids = ", ".join(map(kid_of, settings.update_keys))
    what = f"takes releases that are signed with {kids}" if kids else "none (UA_UPDATE_KEYS): it trusts no release"
    return Finding("release keys", "ok", what)


def _notes(path: Path) -> Mapping[str, str]:
    """What the factory's processes noted last; nothing where none ever ran."""
    if not path.exists():
        return {}
    try:
        return Spool(path, BUSY_MS).noted_all()
    except sqlite3.Error:
        return {}
