"""Dead letters for operators, and missions asked for again (contract http §7, §9)."""

import base64
import binascii
import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, StringConstraints
from starlette.responses import Response

from corporation.clock import iso, new_id
from corporation.db import transaction
from corporation.envelope import (
    LONGEST_JOB_ID,
    LONGEST_KEY,
    Defaults,
    EnvelopeRefused,
    MissionEnvelope,
    Problem,
    parse_strict,
)
from corporation.missions.dead_letters import LetterResolvedError, discard_letter, replay_letter
from corporation.missions.kinds import resolve
from corporation.missions.queries import advertised_kinds
from corporation.missions.replay import Names, ReplayRefused, replay
from corporation.missions.store.dead_letters import StoredLetter, list_letters
from hq_api.access import Principal
from hq_api.body import read_optional_object
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters, MayPublish
from hq_api.publishing import unknown_kind
from hq_api.responses import Json, Refusal
from hq_api.routers.missions import location_of
from hq_api.validation import checked, refuse_unstorable

DLQ: Final = "/api/v1/dlq"
_DLQ_ID: Final = re.compile(r"dl-([1-9][0-9]{0,17})")
Operator = Annotated[Principal, Depends(principal_with())]
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_JOB_ID)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_KEY["strict"])]

router = APIRouter(tags=["dead letters"])


class ReplayForm(BaseModel):
    """How the new mission is called and where it goes; all of it may be left out."""

    job_id: Name | None = None
    idempotency_key: Key | None = None
    target_factory_id: Annotated[str, StringConstraints(max_length=200)] | None = None


class EditForm(BaseModel):
    """The order to run in place of the one that arrived; a malformed entry needs one."""

    envelope: dict[str, Any] | None = None


class DiscardForm(BaseModel):
    """Why a dead letter is put away."""

    reason: Annotated[str, StringConstraints(max_length=1000)] | None = None


Document = Annotated[dict[str, Any], Depends(read_optional_object)]


@router.get(DLQ)
def list_dead_letters(
    _: Operator,
    __: Headquarters,
    ledger: Ledger,
    status: Literal["open", "replayed", "discarded", "all"] = "open",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Response:
    """Dead letters with this status, newest first; `next_cursor` is null on the last page."""
    before = _read_cursor(cursor)
    with transaction(ledger) as connection:
        letters = list_letters(connection, None if status == "all" else status, limit + 1, before)
    page = letters[:limit]
    more = _cursor_after(page[-1].letter_id) if len(letters) > limit else None
    return Json({"entries": [_entry(letter) for letter in page], "next_cursor": more})


@router.post(DLQ + "/{dlq_id}/replay", status_code=202, openapi_extra=reads(EditForm, required=False))
def replay_dead_letter(
    _: Operator, __: MayPublish, dlq_id: str, document: Document, ledger: Ledger, settings: ReadSettings
) -> Response:
    """The letter's mission runs again under a new name, as it was or as `envelope` says; once, however often called."""
    letter_id = _letter_id(dlq_id)
    made_up = new_id()
    edited = _edited(document, made_up)
    try:
        with transaction(ledger) as connection:
            if edited is not None:
                kinds = advertised_kinds(connection)
                resolved = resolve(edited, kinds)
                if not resolved.known:
                    raise EnvelopeRefused([unknown_kind(resolved, kinds)])
            job_id = replay_letter(connection, letter_id, edited, made_up, settings.default_ttl_seconds)
    except (LetterResolvedError, ReplayRefused) as error:
        raise Refusal(409, error.code, str(error)) from None
    if job_id is None:
        raise _no_letter()
    location = location_of(job_id)
    return Json(
        {"dlq_id": dlq_id, "status": "replayed", "job_id": job_id, "location": location}, 202, {"Location": location}
    )


@router.post(DLQ + "/{dlq_id}/discard", openapi_extra=reads(DiscardForm, required=False))
def discard_dead_letter(_: Operator, __: Headquarters, dlq_id: str, document: Document, ledger: Ledger) -> Response:
    """The letter is put away and stays readable; repeating it gives the same answer."""
    refuse_unstorable(document)
    form = checked(DiscardForm, document)
    try:
        with transaction(ledger) as connection:
            status = discard_letter(connection, _letter_id(dlq_id), form.reason)
    except LetterResolvedError as error:
        raise Refusal(409, error.code, str(error)) from None
    if status is None:
        raise _no_letter()
    return Json({"dlq_id": dlq_id, "status": status})


@router.post("/api/v1/missions/{job_id:path}/replay", status_code=202, openapi_extra=reads(ReplayForm, required=False))
def replay_mission(
    _: Operator, __: MayPublish, job_id: str, document: Document, ledger: Ledger, settings: ReadSettings
) -> Response:
    """A new mission with the order of one that has ended (H-27); each call without names makes another one."""
    refuse_unstorable(document)
    form = checked(ReplayForm, document)
    names = Names(form.job_id, form.idempotency_key, form.target_factory_id)
    try:
        with transaction(ledger) as connection:
            receipt = None if "\0" in job_id else replay(connection, job_id, names, settings.default_ttl_seconds)
    except ReplayRefused as error:
        raise Refusal(409, error.code, str(error)) from None
    if receipt is None:
        raise Refusal(404, "unknown_mission", "no mission has this job_id")
    location = location_of(receipt.job_id)
    body = {"job_id": receipt.job_id, "replay_of": job_id, "state": receipt.state, "location": location}
    return Json(body, 202, {"Location": location})


def _edited(document: dict[str, Any], made_up: str) -> MissionEnvelope | None:
    """The order in the body, by the strict rules of REST; names it leaves out are `made_up`."""
    if document.get("envelope") is None:
        return None
    try:
        return parse_strict(document["envelope"], Defaults(made_up))
    except EnvelopeRefused as refused:
        problems = [Problem(p.type, ("envelope", *p.loc), p.msg, p.input, p.ctx) for p in refused.problems]
        raise EnvelopeRefused(problems) from None


def _entry(letter: StoredLetter) -> dict[str, Any]:
    raw, more = _shown(letter.raw)
    return {
        "dlq_id": f"dl-{letter.letter_id}",
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
        **more,
    }


def _shown(raw: bytes | None) -> tuple[str | None, dict[str, str]]:
    if raw is None:
        return None, {}
    try:
        return raw.decode(), {}
    except UnicodeDecodeError:
        return None, {"raw_base64": base64.b64encode(raw).decode("ascii")}


def _letter_id(dlq_id: str) -> int:
    match = _DLQ_ID.fullmatch(dlq_id)
    if match is None:
        raise _no_letter()
    return int(match[1])


def _no_letter() -> Refusal:
    return Refusal(404, "unknown_dead_letter", "no dead letter has this dlq_id; GET /api/v1/dlq lists them")


def _cursor_after(letter_id: int) -> str:
    return base64.urlsafe_b64encode(f"dl-{letter_id}".encode()).decode("ascii")


def _read_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        match = _DLQ_ID.fullmatch(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode())
    except (ValueError, binascii.Error):
        match = None
    if match is None:
        raise Refusal(400, "bad_cursor", "this cursor is not one of ours; start again without it")
    return int(match[1])
