"""`corporation factory status`: whether this machine's factory runs, and what HQ says of it."""

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import typer

from corporation.cli import exits
from corporation.cli.connection import with_secrets
from corporation.cli.membership import FactoryStateOption, Membership, factory_folder, joined, state_words, why_unusable
from corporation.cli.options import JsonOption
from corporation.cli.output import say, say_fields, say_json, working
from corporation.cli.own_row import AtHq
from corporation.embedded.stack_state import StateFolder
from corporation.federation.notes import SPLIT_BRAIN, TRANSPORT, TRANSPORT_WHY
from corporation.federation.spool import Spool

LIVE: Final = ("online", "paused", "draining")
BUSY_MS: Final = 2000


@dataclass(frozen=True)
class Status:
    """This factory as it is now; None is what nobody knows."""

    factory_id: str
    hq: str
    state: str
    runs: bool
    at_hq: str | None
    """Its status at HQ: `online`, `paused`, `draining`, `stale`, `offline`."""
    last_beat_seconds: float | None
    transport: str | None
    transport_why: str | None
    slots: int | None
    running: int | None
    paused_by: str | None
    pause_note: str | None
    problems: tuple[str, ...]

    @property
    def is_online(self) -> bool:
        """Whether it runs here and HQ hears of it; a paused factory is online as well."""
        return self.runs and self.at_hq in LIVE and not self.problems


def status(as_json: JsonOption = False, state: FactoryStateOption = None) -> None:
    """Show whether the factory of this machine runs, how it is reached, and what HQ says of it; 0 if it is online."""
    folder = factory_folder(state)
    membership = joined(folder)
    with working("Asking HQ"):
        found = look(folder, membership, with_secrets(os.environ))
    if as_json:
        say_json({**asdict(found), "online": found.is_online})
    else:
        _print(found)
    raise typer.Exit(exits.OK if found.is_online else exits.FAILED)


def look(folder: StateFolder, membership: Membership, environ: Mapping[str, str]) -> Status:
    """All that this machine and HQ know of the factory now; nothing that is wrong raises."""
    ca_file = environ.get("SSL_CERT_FILE")
    with AtHq(membership, Path(ca_file) if ca_file else None) as hq:
        own = hq.look()
    row = own.row or {}
    notes, running = _spool(folder)
    pause = row.get("pause") if isinstance(row.get("pause"), dict) else {}
    runs = folder.is_held()
    problems = [*_of_here(folder, membership, environ, notes, runs=runs), *([own.why] if own.why else [])]
    return Status(
        factory_id=membership.factory_id,
        hq=membership.hq_base_url,
        state=str(folder.path),
        runs=runs,
        at_hq=_text(row.get("registration_status")),
        last_beat_seconds=_number(row.get("age_seconds")),
        transport=notes.get(TRANSPORT) or ("redis" if membership.redis_url else "https"),
        transport_why=notes.get(TRANSPORT_WHY) or None,
        slots=_whole(row.get("slots")),
        running=running,
        paused_by=_text((pause or {}).get("who")),
        pause_note=_text((pause or {}).get("note")),
        problems=(*problems, *_of_hq(row)),
    )


def why_not_online(found: Status) -> str:
    """In one line, why HQ does not see this factory as online; an empty text when it does."""
    if found.is_online:
        return ""
    if found.problems:
        return "; ".join(found.problems)
    return "HQ has not heard of it yet"


def _of_here(
    folder: StateFolder, membership: Membership, environ: Mapping[str, str], notes: Mapping[str, str], *, runs: bool
) -> list[str]:
    problems = why_unusable(membership, environ)
    if not runs:
        problems.append(f"it does not run; start it with `corporation factory up --detach{state_words(folder)}`")
    elif notes.get(SPLIT_BRAIN):
        problems.append(f"another machine or folder speaks for {membership.factory_id}: {notes[SPLIT_BRAIN]}")
    return problems


def _of_hq(row: Mapping[str, Any]) -> list[str]:
    judged = row.get("registration_status")
    if judged not in ("stale", "offline"):
        return []
    age = _number(row.get("age_seconds"))
    # One that has only joined was last heard of at the beginning of time.
    heard = "never" if age is None or age > 10 * 365 * 86_400 else f"{age:.0f} s ago"
    return [f"HQ calls it {judged}: it last heard of it {heard}"]


def _spool(folder: StateFolder) -> tuple[dict[str, str], int | None]:
    """The notes of the factory's processes, and how many missions they run; nothing where none ever ran."""
    path = folder.spool("factory")
    if not path.exists():
        return {}, None
    try:
        spool = Spool(path, BUSY_MS)
        return spool.noted_all(), len(spool.running())
    except sqlite3.Error:
        return {}, None


def _print(found: Status) -> None:
    say(f"{found.factory_id} is {'online' if found.is_online else 'not online'}")
    age = None if found.last_beat_seconds is None else f"{found.last_beat_seconds:.0f} s ago"
    paused = None
    if found.paused_by:
        paused = f"by {found.paused_by}{f' ({found.pause_note})' if found.pause_note else ''}"
    way = f"{found.transport}{f' ({found.transport_why})' if found.transport_why else ''}"
    say_fields(
        {
            "  HQ": found.hq,
            "  runs": "yes" if found.runs else "no",
            "  at HQ": found.at_hq,
            "  last beat": age if found.at_hq in LIVE else None,
            "  paused": paused,
            "  transport": way,
            "  slots": found.slots,
            "  running": found.running,
            "  state": found.state,
        }
    )
    for problem in found.problems:
        say(f"  ! {problem}")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    return value if type(value) is int else None
