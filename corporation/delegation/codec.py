"""What stands in the entries of the streams, as values and back (contract streams §2, §3, §7, §8; pure).

`read_entry` never raises: what can be no mission is an Unreadable, with the catalogue's word for it and a sentence that
repeats nothing of the entry, since that could be a secret (S-40).
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from corporation.delegation.arrived import object_in
from corporation.envelope import EnvelopeRefused, MissionEnvelope, MissionResultEnvelope, Problem, parse_wire
from corporation.missions.states import State
from corporation.strict_json import JsonRefused, dump, parse

LARGEST_ENVELOPE: Final = 256 * 1024
"""Bytes; as over HTTP."""
LARGEST_RESULT: Final = 64 * 1024
"""Bytes of a result on the stream, which keeps a hundred thousand of them; the whole one is read over HTTP."""
LARGEST_KEPT: Final = 64 * 1024
"""Bytes of a malformed entry that are kept to the letter; of a larger one BEGINNING (ops/decisions/0013)."""
BEGINNING: Final = 4 * 1024
LONGEST_ERROR: Final = 4000
LONGEST_SENTENCE: Final = 500
LONGEST_JOB_ID: Final = 300

_OUR_RESULT_KEYS: Final = ("mission_id", "mission_kind", "factory_id", "attempts", "result_ref", "terminal_status")


@dataclass(frozen=True)
class Readable:
    """An entry that asks for a mission; `raw` is the text of its envelope to the letter (S-23)."""

    entry_id: str
    envelope: MissionEnvelope
    raw: str
    told_job_id: str | None
    """What the sibling field says where it differs from the envelope, which decides (S-8)."""


@dataclass(frozen=True)
class Unreadable:
    """An entry that can be no mission; `code` is the catalogue's word, `raw` its envelope, None when it has none."""

    entry_id: str
    job_id: str
    code: str
    failure_error: str
    raw: bytes | None


@dataclass(frozen=True)
class DeadLetter:
    """What the dead-letter stream is told; `raw_sha256` is set where `raw` is only the beginning of `raw_size` bytes.

    `envelope` is the stored one of a mission that came in by no stream.
    """

    job_id: str
    failure_error: str
    retry_count: int
    cause: str
    raw: bytes | None
    raw_size: int | None = None
    raw_sha256: bytes | None = None
    envelope: Mapping[str, Any] | None = None


def read_entry(entry_id: str, fields: Mapping[bytes, bytes] | None) -> Readable | Unreadable:
    """The mission that an entry of the mission stream asks for, or why it asks for none; other fields are ignored."""
    if fields is None:
        return Unreadable(entry_id, "", "trimmed", "trimmed: the entry was removed before it could be imported", None)
    raw = fields.get(b"envelope")
    if raw is None:
        return _unreadable(entry_id, fields, None, "missing_field", "the field envelope is missing")
    if len(raw) > LARGEST_ENVELOPE:
        return _unreadable(entry_id, fields, None, "too_large", f"larger than {LARGEST_ENVELOPE // 1024} KiB")
    try:
        document = parse(raw)
    except JsonRefused as refused:
        return _unreadable(entry_id, fields, None, refused.code, refused.message)
    try:
        envelope = parse_wire(document)
    except EnvelopeRefused as refused:
        code = refused.problems[0].type
        code = "missing_field" if code == "missing" else code
        return _unreadable(entry_id, fields, document, code, _sentence(refused.problems))
    return Readable(entry_id, envelope, raw.decode(), _told_otherwise(fields, envelope.job_id))


def poisoned(entry_id: str, fields: Mapping[bytes, bytes] | None, deliveries: int) -> Unreadable:
    """An entry that was delivered too often: it is not looked into any more."""
    why = f"poison: delivered {deliveries} times, and each time the importer ended before it was done with it"
    return _left_alone(entry_id, fields, "poison", why)


def unimportable(entry_id: str, fields: Mapping[bytes, bytes] | None, error: str) -> Unreadable:
    """An entry that the ledger refused by itself; `error` is the class of its error."""
    return _left_alone(entry_id, fields, "import_failed", f"import failed: the ledger refused the entry ({error})")


def mission_fields(envelope: Mapping[str, Any]) -> dict[str, str]:
    """The fields of an entry on the mission stream, in the order of the contract."""
    return {
        "job_id": envelope["job_id"],
        "idempotency_key": envelope["idempotency_key"],
        "envelope": dump(dict(envelope)),
    }


def result_envelope(job_id: str, state: str, result: Mapping[str, Any] | None, error: str | None) -> dict[str, Any]:
    """How a mission ended, for the results stream (§7); `state` is a final state of the ledger."""
    succeeded = state == State.SUCCEEDED
    said = {"mission_id": job_id, "result_ref": ""} if succeeded else {"mission_id": job_id}
    said |= _short_enough(dict(result or {}))
    if not succeeded:
        said["terminal_status"] = state
    told = MissionResultEnvelope(
        job_id=job_id,
        status="SUCCESS" if succeeded else "FAILED",
        result=said,
        error=None if succeeded else _why(job_id, state, error),
    )
    return told.model_dump()


def result_fields(envelope: Mapping[str, Any]) -> dict[str, str]:
    """The fields of an entry on the results stream, in the order of the contract."""
    return {"job_id": envelope["job_id"], "status": envelope["status"], "envelope": dump(dict(envelope))}


def dead_letter_envelope(letter: DeadLetter) -> dict[str, Any]:
    """What is put on the dead-letter stream: what arrived, and why it is there (S-36, S-37)."""
    arrived = (
        object_in(letter.raw or b"") if letter.envelope is None or letter.raw is not None else dict(letter.envelope)
    )
    added: dict[str, Any] = {"failure_error": letter.failure_error[:LONGEST_ERROR], "retry_count": letter.retry_count}
    return {**arrived, **added, **(_exactly(letter) if letter.cause == "malformed" else {})}


def dead_letter_fields(letter: DeadLetter) -> dict[str, str]:
    """The fields of an entry on the dead-letter stream, in the order of the contract."""
    return {"job_id": letter.job_id, "envelope": dump(dead_letter_envelope(letter))}


def kept_raw(raw: bytes) -> tuple[bytes, int, bytes | None]:
    """What the ledger keeps of a malformed envelope, its whole size, and the SHA-256 of one that is not all kept."""
    if len(raw) <= LARGEST_KEPT:
        return raw, len(raw), None
    beginning = raw[:BEGINNING]
    # Not in the middle of a character, so that a text stays one.
    whole = beginning.decode(errors="ignore").encode()
    kept = whole if beginning.startswith(whole) and len(beginning) - len(whole) < 4 else beginning
    return kept, len(raw), hashlib.sha256(raw).digest()


def _unreadable(entry_id: str, fields: Mapping[bytes, bytes], document: Any, code: str, what: str) -> Unreadable:
    job_id = document.get("job_id") if isinstance(document, dict) else None
    return Unreadable(
        entry_id,
        _storable(job_id) if isinstance(job_id, str) else _sibling(fields),
        code,
        f"invalid envelope: {what}"[:LONGEST_SENTENCE],
        fields.get(b"envelope"),
    )


def _left_alone(entry_id: str, fields: Mapping[bytes, bytes] | None, code: str, why: str) -> Unreadable:
    fields = fields or {}
    return Unreadable(entry_id, _sibling(fields), code, why, fields.get(b"envelope"))


def _sentence(problems: list[Problem]) -> str:
    return "; ".join(_words(problem) for problem in problems)


def _words(problem: Problem) -> str:
    where = ".".join(str(part) for part in problem.loc) or "envelope"
    return f"{where} is missing" if problem.type == "missing" else f"{where}: {problem.msg}"


def _told_otherwise(fields: Mapping[bytes, bytes], job_id: str) -> str | None:
    told = fields.get(b"job_id")
    return None if told is None or told == job_id.encode() else _sibling(fields)


def _sibling(fields: Mapping[bytes, bytes]) -> str:
    try:
        return _storable(fields.get(b"job_id", b"").decode())
    except UnicodeDecodeError:
        return ""


def _storable(text: str) -> str:
    """`text` as the ledger can hold it, cut to a bearable length, or nothing."""
    cut = text[:LONGEST_JOB_ID]
    return "" if "\0" in cut or any("\ud800" <= character <= "\udfff" for character in cut) else cut


def _short_enough(result: dict[str, Any]) -> dict[str, Any]:
    if len(dump(result)) <= LARGEST_RESULT:
        return result
    ours = {key: result[key] for key in _OUR_RESULT_KEYS if key in result}
    return {key: _cut(value) for key, value in ours.items()} | {"result_truncated": True}


def _cut(value: Any) -> Any:
    return value[:LONGEST_ERROR] if isinstance(value, str) else value


def _why(job_id: str, state: str, error: str | None) -> str:
    return f"Mission {state}: {job_id}" + (f" - {error[:LONGEST_ERROR]}" if error else "")


def _exactly(letter: DeadLetter) -> dict[str, Any]:
    """The malformed text itself (S-37), or its beginning with the size and the hash of the whole."""
    more = {"raw_size": letter.raw_size, "raw_sha256": letter.raw_sha256.hex()} if letter.raw_sha256 else {}
    if letter.raw is None:
        return {"raw": None}
    try:
        return {"raw": letter.raw.decode(), **more}
    except UnicodeDecodeError:
        return {"raw": None, "raw_base64": base64.b64encode(letter.raw).decode(), **more}
