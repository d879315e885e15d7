"""Many dead letters at once: a look at how many are meant, then all of them run again or put away."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import StringConstraints
from sqlalchemy import Connection
from starlette.responses import Response

from corporation.clock import new_id
from corporation.db import transaction
from corporation.missions.letters_in_bulk import (
    Bulk,
    CountChangedError,
    count_letters,
    discard_letters,
    replay_letters,
)
from corporation.missions.store.letter_selection import Tally
from corporation.trust import audit
from hq_api.access import Principal
from hq_api.auditing import act_of
from hq_api.body import read_optional_object
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters, MayPublish
from hq_api.letter_filters import ChoiceForm
from hq_api.publishing import queue_full
from hq_api.responses import Json, Refusal
from hq_api.shown_letters import dlq_id_of
from hq_api.validation import checked, refuse_unstorable

DLQ: Final = "/api/v1/dlq"
Operator = Annotated[Principal, Depends(principal_with())]
Document = Annotated[dict[str, Any], Depends(read_optional_object)]

router = APIRouter(tags=["dead letters"])


class DiscardManyForm(ChoiceForm):
    """Which letters are put away, and why."""

    reason: Annotated[str, StringConstraints(max_length=1000)] | None = None


@router.post(DLQ + "/replay", openapi_extra=reads(ChoiceForm, required=True))
def replay_dead_letters(
    request: Request, operator: Operator, _: MayPublish, document: Document, ledger: Ledger, settings: ReadSettings
) -> Response:
    """Up to `limit` of the open letters that are meant run again as they were, the oldest first.

    With `dry_run` they are only counted. `remaining` says how many are left; go on `after` the `last` one. One that
    cannot run again is in `refused` and stops no other. 409 when not as many are meant as `expect` says, 429 when no
    more missions may wait; then nothing was done.
    """
    refuse_unstorable(document)
    form = checked(ChoiceForm, document)
    with transaction(ledger) as connection:
        tally = _counted(connection, form)
        if form.dry_run:
            return Json(_shown_tally(tally))
        limit, ttl = settings.waiting_limit, settings.default_ttl_seconds
        bulk = replay_letters(connection, form.chosen, form.limit, limit, new_id, ttl)
        act = act_of(request, operator, "dead_letter.replay", None, outcome=_outcome(bulk), detail=_told(form, bulk))
        audit.write(connection, act)
    if bulk.is_full and not bulk.done:
        raise queue_full(settings.waiting_limit)
    replayed = [{"dlq_id": dlq_id_of(number), "job_id": job_id} for number, job_id in bulk.done.items()]
    return Json({"replayed": replayed, **_shown(bulk), "queue_full": bulk.is_full})


@router.post(DLQ + "/discard", openapi_extra=reads(DiscardManyForm, required=True))
def discard_dead_letters(
    request: Request, operator: Operator, _: Headquarters, document: Document, ledger: Ledger
) -> Response:
    """Up to `limit` of the open letters that are meant are put away for good, the oldest first; else as replay."""
    refuse_unstorable(document)
    form = checked(DiscardManyForm, document)
    with transaction(ledger) as connection:
        tally = _counted(connection, form)
        if form.dry_run:
            return Json(_shown_tally(tally))
        bulk = discard_letters(connection, form.chosen, form.limit, form.reason)
        act = act_of(request, operator, "dead_letter.discard", None, form.reason, _outcome(bulk), _told(form, bulk))
        audit.write(connection, act)
    return Json({"discarded": [dlq_id_of(number) for number in bulk.done], **_shown(bulk)})


def _outcome(bulk: Bulk) -> audit.Outcome:
    return "done" if bulk.done else "unchanged"


def _told(form: ChoiceForm, bulk: Bulk) -> dict[str, Any]:
    """What the audit log keeps of many at once: how they were chosen, and which it were."""
    chosen = {name: str(value) for name, value in vars(form.chosen).items() if value is not None}
    return {"chosen": chosen, "letters": [dlq_id_of(number) for number in bulk.done]}


def _counted(connection: Connection, form: ChoiceForm) -> Tally:
    try:
        return count_letters(connection, form.chosen, form.expect)
    except CountChangedError as changed:
        raise Refusal(409, changed.code, str(changed)) from None


def _shown_tally(tally: Tally) -> dict[str, Any]:
    newest = dlq_id_of(tally.newest) if tally.newest is not None else None
    counts = {"count": tally.count, "by_cause": tally.by_cause, "by_kind": tally.by_kind}
    return {"dry_run": True, **counts, "newest": newest}


def _shown(bulk: Bulk) -> dict[str, Any]:
    return {
        "refused": [{"dlq_id": dlq_id_of(one.letter_id), "why": one.why} for one in bulk.not_done],
        "remaining": bulk.remaining,
        "last": dlq_id_of(bulk.last) if bulk.last is not None else None,
    }
