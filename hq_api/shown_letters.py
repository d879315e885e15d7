"""A dead letter as the API shows it, and what it is called: `dl-<id>`, and cursors made of that (contract http §9)."""

import base64
import binascii
import re
from typing import Any, Final

from corporation.clock import iso
from corporation.missions.store.dead_letters import StoredLetter
from hq_api.responses import Refusal

_DLQ_ID: Final = re.compile(r"dl-([1-9][0-9]{0,17})")


def shown(letter: StoredLetter) -> dict[str, Any]:
    """The entry for `letter`; with `raw_base64` where it is no text, and the whole's size and hash where it was cut.

    What is too long for a list is null, and named in `left_out`: the letter alone shows it.
    """
    raw, more = _text_or_bytes(letter.raw)
    if letter.raw_sha256 is not None:
        more |= {"raw_size": letter.raw_size, "raw_sha256": letter.raw_sha256.hex()}
    return {
        "dlq_id": dlq_id_of(letter.letter_id),
        "job_id": letter.job_id,
        "cause": letter.cause,
        "failure_error": letter.failure_error,
        "retry_count": letter.retry_count,
        "status": letter.status,
        "stream_entry_id": letter.entry_id,
        "raw": raw,
        "envelope": letter.document,
        "created_at": iso(letter.created_at),
        "resolved_at": iso(letter.resolved_at) if letter.resolved_at else None,
        "replay_job_id": letter.replay_job_id,
        **({"left_out": list(letter.left_out)} if letter.left_out else {}),
        **more,
    }


def dlq_id_of(number: int) -> str:
    """What the letter of this number is called."""
    return f"dl-{number}"


def number_of(dlq_id: str) -> int | None:
    """The ledger's number of the letter that is called so; None for what no letter is called."""
    match = _DLQ_ID.fullmatch(dlq_id)
    return int(match[1]) if match else None


def letter_id(dlq_id: str) -> int:
    """As `number_of`; raises Refusal (404) for what no letter is called."""
    number = number_of(dlq_id)
    if number is None:
        raise no_letter()
    return number


def no_letter() -> Refusal:
    """404."""
    return Refusal(404, "unknown_dead_letter", "no dead letter has this dlq_id; GET /api/v1/dlq lists them")


def cursor_after(letter: StoredLetter) -> str:
    """The cursor of the page that begins right after `letter`."""
    return base64.urlsafe_b64encode(f"dl-{letter.letter_id}".encode()).decode("ascii")


def read_cursor(cursor: str | None) -> int | None:
    """The letter that the page begins after; raises Refusal (400) for a cursor that is none of ours."""
    if cursor is None:
        return None
    try:
        match = _DLQ_ID.fullmatch(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode())
    except (ValueError, binascii.Error):
        match = None
    if match is None:
        raise Refusal(400, "bad_cursor", "this cursor is not one of ours; start again without it")
    return int(match[1])


def _text_or_bytes(raw: bytes | None) -> tuple[str | None, dict[str, Any]]:
    if raw is None:
        return None, {}
    try:
        return raw.decode(), {}
    except UnicodeDecodeError:
        return None, {"raw_base64": base64.b64encode(raw).decode("ascii")}
