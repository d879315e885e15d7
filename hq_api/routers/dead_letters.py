"""Dead letters for operators, and missions asked for again (contract http §7, §9)."""

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, StringConstraints
from starlette.responses import Response

from corporation.clock import new_id
from corporation.db import transaction
from corporation.envelope import LONGEST_JOB_ID, LONGEST_KEY, Defaults, MissionEnvelope, parse_strict
from corporation.missions.dead_letters import LetterResolvedError, discard_letter, replay_letter
from corporation.missions.replay import Names, ReplayRefused, replay
from corporation.missions.store.dead_letters import StoredLetter, find, list_letters
from corporation.missions.store.letter_selection import LetterFilter
from corporation.trust import audit
from hq_api.access import Principal
from hq_api.addresses import AsWritten
from hq_api.auditing import act_of
from hq_api.body import read_optional_object
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.edited_orders import check_target, edited_order, judge
from hq_api.gates import Headquarters, MayPublish
from hq_api.letter_filters import letter_filter
from hq_api.publishing import check_room
from hq_api.responses import Json, Refusal
from hq_api.routers.missions import location_of
from hq_api.shown_letters import cursor_after, letter_id, no_letter, read_cursor, shown
from hq_api.validation import checked, refuse_unstorable

DLQ: Final = "/api/v1/dlq"
Operator = Annotated[Principal, Depends(principal_with())]
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_JOB_ID)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_KEY["strict"])]

router = APIRouter(tags=["dead letters"], route_class=AsWritten)


class ReplayForm(BaseModel):
    """How the new mission is called and where it goes; all of it may be left out.

    Ours: `envelope` is the order to run in place of the old one.
    """

    job_id: Name | None = None
    idempotency_key: Key | None = None
    target_factory_id: Annotated[str, StringConstraints(max_length=200)] | None = None
    envelope: dict[str, Any] | None = None


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
    wanted: Annotated[LetterFilter, Depends(letter_filter)],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Response:
    """Dead letters that match every filter, newest first; `next_cursor` is null on the last page."""
    before = read_cursor(cursor)
    with transaction(ledger) as connection:
        letters = list_letters(connection, wanted, limit + 1, before)
    page = letters[:limit]
    more = cursor_after(page[-1]) if len(letters) > limit else None
    return Json({"entries": [shown(letter) for letter in page], "next_cursor": more})


@router.get(DLQ + "/{dlq_id}")
def show_dead_letter(_: Operator, __: Headquarters, dlq_id: str, ledger: Ledger) -> Response:
    """One dead letter, as it is listed."""
    with transaction(ledger) as connection:
        letter = find(connection, letter_id(dlq_id))
    if letter is None:
        raise no_letter()
    return Json(shown(letter))


@router.post(DLQ + "/{dlq_id}/replay", status_code=202, openapi_extra=reads(EditForm, required=False))
def replay_dead_letter(
    request: Request,
    operator: Operator,
    _: MayPublish,
    dlq_id: str,
    document: Document,
    ledger: Ledger,
    settings: ReadSettings,
    wait: bool = False,
) -> Response:
    """The letter's mission runs again under a new name, as it was or as `envelope` says; once, however often called.

    Only an `envelope` is judged like an order that is published: one for a factory that never registered is refused
    unless it may `wait`.
    """
    number = letter_id(dlq_id)
    made_up = new_id()
    edited = edited_order(document, made_up)
    try:
        with transaction(ledger) as connection:
            if edited is not None:
                judge(connection, edited, wait=wait)
            before = find(connection, number)
            job_id = replay_letter(connection, number, edited, made_up, settings.default_ttl_seconds)
            if before is not None and before.status == "open":
                check_room(connection, settings.waiting_limit)
            if job_id is not None:
                detail = {"job_id": job_id, "edited": edited is not None}
                outcome = _outcome(before)
                act = act_of(request, operator, "dead_letter.replay", dlq_id, outcome=outcome, detail=detail)
                audit.write(connection, act)
    except (LetterResolvedError, ReplayRefused) as error:
        raise Refusal(409, error.code, str(error)) from None
    if job_id is None:
        raise no_letter()
    location = location_of(job_id)
    return Json(
        {"dlq_id": dlq_id, "status": "replayed", "job_id": job_id, "location": location}, 202, {"Location": location}
    )


@router.post(DLQ + "/{dlq_id}/discard", openapi_extra=reads(DiscardForm, required=False))
def discard_dead_letter(
    request: Request, operator: Operator, _: Headquarters, dlq_id: str, document: Document, ledger: Ledger
) -> Response:
    """The letter is put away and stays readable; repeating it gives the same answer."""
    refuse_unstorable(document)
    form = checked(DiscardForm, document)
    try:
        with transaction(ledger) as connection:
            outcome = _outcome(find(connection, letter_id(dlq_id)))
            status = discard_letter(connection, letter_id(dlq_id), form.reason)
            if status is not None:
                act = act_of(request, operator, "dead_letter.discard", dlq_id, form.reason, outcome)
                audit.write(connection, act)
    except LetterResolvedError as error:
        raise Refusal(409, error.code, str(error)) from None
    if status is None:
        raise no_letter()
    return Json({"dlq_id": dlq_id, "status": status})


@router.post("/api/v1/missions/{job_id:path}/replay", status_code=202, openapi_extra=reads(ReplayForm, required=False))
def replay_mission(
    request: Request,
    operator: Operator,
    _: MayPublish,
    job_id: str,
    document: Document,
    ledger: Ledger,
    settings: ReadSettings,
    wait: bool = False,
) -> Response:
    """A new mission with the order of one that has ended, or with the `envelope` in its place (H-27).

    Each call without names makes another one. Another `target_factory_id` must have registered, unless the mission
    may `wait` for it; an `envelope` is judged like an order that is published.
    """
    names, edited = _asked_again(job_id, document)
    try:
        with transaction(ledger) as connection:
            if edited is not None:
                judge(connection, edited, wait=wait)
            check_target(connection, names.target_factory_id, wait=wait)
            ttl = settings.default_ttl_seconds
            again = None if "\0" in job_id else replay(connection, job_id, names, ttl, edited)
            check_room(connection, settings.waiting_limit)
            if again is not None:
                detail = {"job_id": again.job_id, "edited": edited is not None}
                audit.write(connection, act_of(request, operator, "mission.replay", job_id, detail=detail))
    except ReplayRefused as error:
        raise Refusal(409, error.code, str(error)) from None
    if again is None:
        raise Refusal(404, "unknown_mission", "no mission has this job_id")
    location = location_of(again.job_id)
    body = {"job_id": again.job_id, "replay_of": again.replay_of, "state": again.state, "location": location}
    return Json(body, 202, {"Location": location})


def _outcome(before: StoredLetter | None) -> audit.Outcome:
    """What an order about this letter does to it, which is nothing once somebody else was faster."""
    return "done" if before is not None and before.status == "open" else "unchanged"


def _asked_again(job_id: str, document: dict[str, Any]) -> tuple[Names, MissionEnvelope | None]:
    """How the new mission is called, and its order if it is not the old one; names beside `envelope` win.

    An order that still has the old `job_id` was copied: both its names get a number behind.
    """
    names, made_up = _names(document), new_id()
    edited = edited_order(document, made_up, beside=ReplayForm.model_fields)
    if edited is None or edited.job_id == job_id:
        return names, edited
    own = {"job_id": edited.job_id, "idempotency_key": edited.idempotency_key}
    given = {name: value for name, value in own.items() if value != made_up and getattr(names, name) is None}
    return replace(names, **given), edited


def _names(document: dict[str, Any]) -> Names:
    """What the body says of the new mission; raises EnvelopeRefused for names that no order could have either."""
    refuse_unstorable(document)
    form = checked(ReplayForm, document)
    given = {"job_id": form.job_id, "idempotency_key": form.idempotency_key}
    named = {name: value for name, value in given.items() if value is not None}
    parse_strict({"payload": {"task": "any"}} | named, Defaults("any"))
    return Names(form.job_id, form.idempotency_key, form.target_factory_id)
