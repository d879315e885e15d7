"""Factories say that they live and are told what to do; operators see all of them (contract http §5, fleet §2, §3)."""

from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Query, Request
from limits import RateLimitItemPerSecond
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from corporation.clock import new_id, utc_now
from corporation.db import transaction
from corporation.factories.access import is_known, shut_out
from corporation.factories.costs import put_snapshot
from corporation.factories.registry import Wanted, list_registrations, remove
from corporation.factories.signs_of_life import dead_workers
from corporation.factories.staleness import Thresholds
from corporation.factories.store import Beat, Heard, hear
from corporation.missions import orders
from corporation.missions.store import cancelling, leases
from corporation.missions.store.sending import NOT_CURRENT
from corporation.roles import FactoryRole
from corporation.settings import Settings
from corporation.trust import audit
from corporation.trust.key_announcement import FIELD, announcement
from corporation.trust.keyring import public_keys
from corporation.trust.redis_users import is_asked_to_rotate
from hq_api.access import FACTORY, Principal
from hq_api.auditing import act_of, refusals_noted
from hq_api.beat_form import MOST_RUNNING, BeatForm, beat_of, is_id, signs_of, snapshot_of
from hq_api.dependencies import JsonObject, Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters
from hq_api.rate_limits import limits_of
from hq_api.responses import Json, Refusal
from hq_api.validation import UNSTORABLE, checked, refuse_unstorable

REGISTRATIONS: Final = "/api/v1/factory/registrations"
BEATS: Final = RateLimitItemPerSecond(100, 10, namespace="beats")
"""Beats of one factory within ten seconds; at its fastest one process beats once in that time."""
MOST_SHOWN: Final = 1000
LONGEST_ID: Final = 200

log = structlog.get_logger()
router = APIRouter(tags=["factories"])
Caller = Annotated[Principal, Depends(principal_with(FACTORY))]
Operator = Annotated[Principal, Depends(principal_with())]


@router.post(REGISTRATIONS, openapi_extra=reads(BeatForm, required=True))
def register(
    request: Request, caller: Caller, _: Headquarters, document: JsonObject, ledger: Ledger, settings: ReadSettings
) -> Response:
    """The factory was heard of now, and what it runs has a fresh lease; the answer says what it must do.

    An order that waits for it has succeeded by that answer, where nobody there is sent orders.

    409 `split_brain` while another instance speaks for it, 429 when it beats too often; both change nothing else.
    """
    refuse_unstorable(document)
    form = checked(BeatForm, document)
    if caller.scope == FACTORY:
        _must_be_itself(caller, form)
    limits_of(request).count(BEATS, form.factory_id)
    beat = beat_of(form, request.client.host if request.client else None)
    try:
        with transaction(ledger) as connection:
            orders.obey_early(connection, form.factory_id)
            heard = hear(connection, beat, _thresholds(settings))
            stops = _live(connection, form, heard, settings.attempt_lease_seconds)
            rotates = is_asked_to_rotate(connection, form.factory_id)
            if heard.verdict == "taken":
                orders.tell(connection, form.factory_id, new_id)
    except IntegrityError:
        raise Refusal(409, "name_taken", "another factory has this name once it is written in a queue's name") from None
    if heard.verdict == "split_brain":
        log.warning("split_brain", factory_id=form.factory_id)
        message = "another instance speaks for this factory; stop one of them, or join again under a name of its own"
        raise Refusal(409, "split_brain", message)
    instructions = _instructions(heard, beat, stops)
    if signer := request.app.state.signer:
        # Ours: the keys that sign missions, so that a factory knows a new one before it is used.
        instructions[FIELD] = announcement(signer, public_keys(settings), utc_now().timestamp())
    if rotates:
        # Ours: said only when it is wanted.
        instructions["rotate_redis_password"] = True
    return Json({"ok": True, "registration": heard.registration, "instructions": instructions})


@router.get(REGISTRATIONS)
def list_factories(
    caller: Caller,
    _: Headquarters,
    ledger: Ledger,
    settings: ReadSettings,
    limit: int = 200,
    registration_status: Annotated[str | None, Query()] = None,
) -> Response:
    """The registered factories, last heard of first, each under the status it has now; a factory sees itself only."""
    wanted = Wanted(
        limit=min(max(limit, 1), MOST_SHOWN),
        status=(registration_status or "").strip().lower() or None,
        only=caller.factory_id if caller.scope == FACTORY else None,
    )
    if UNSTORABLE.search(wanted.status or ""):
        return Json(_page([], 0, settings))  # no status holds such a character
    with transaction(ledger) as connection:
        rows, count = list_registrations(connection, wanted, _thresholds(settings), settings.attempt_lease_seconds)
    return Json(_page(rows, count, settings))


@router.delete(REGISTRATIONS + "/{factory_id:path}")
def remove_factory(
    request: Request, caller: Operator, _: Headquarters, ledger: Ledger, settings: ReadSettings, factory_id: str
) -> Response:
    """HQ knows this factory no more, and its credential and tokens are worth nothing.

    Safe to call twice: then `deleted` is 0. It comes back by enrolling, or by a beat that an operator's token sends.
    """
    with refusals_noted(request, caller, "factory.remove", factory_id):
        if factory_id == settings.factory_id:
            raise Refusal(409, "own_registration", "headquarters cannot remove itself; it would register again at once")
    deleted = False
    if len(factory_id) <= LONGEST_ID and not UNSTORABLE.search(factory_id):
        with transaction(ledger) as connection:
            known = is_known(connection, factory_id)
            deleted = remove(connection, factory_id, caller.subject[:300])
            if known:
                shut_out(connection, factory_id)
                audit.write(connection, act_of(request, caller, "factory.remove", factory_id))
    return Json({"ok": True, "factory_id": factory_id, "deleted": int(deleted)})


def _must_be_itself(caller: Principal, form: BeatForm) -> None:
    if caller.factory_id != form.factory_id:
        log.warning("beat_for_another_factory", factory_id=caller.factory_id)
        raise Refusal(403, "forbidden", "this token speaks for another factory")
    if form.factory_role is FactoryRole.HEADQUARTERS:
        raise Refusal(403, "forbidden", "a factory cannot make itself headquarters")


def _live(connection: Connection, form: BeatForm, heard: Heard, lease_seconds: float) -> list[dict[str, str]]:
    """What the factory runs goes on living, what it spent is stored; returned is what it has to stop.

    A beat that came too late is asked nothing: what it says is over. Who may not speak is told nothing.
    """
    if heard.verdict == "split_brain":
        return []
    if heard.verdict == "older":
        return _cancelled(connection, form.factory_id)
    if (snapshot := snapshot_of(form)) is not None:
        put_snapshot(connection, snapshot)
    signs = signs_of(form.running)
    renewed = leases.renew(connection, form.factory_id, signs, lease_seconds) if signs else {}
    return [*_cancelled(connection, form.factory_id), *_no_longer_current(connection, form, set(renewed))]


def _cancelled(connection: Connection, factory_id: str) -> list[dict[str, str]]:
    stops = cancelling.to_stop(connection, factory_id, MOST_RUNNING)
    return [{"attempt_id": one.attempt_id, "job_id": one.job_id, "reason": one.reason} for one in stops]


def _no_longer_current(connection: Connection, form: BeatForm, current: set[str]) -> list[dict[str, str]]:
    """What the factory runs without holding it any more."""
    stale = [one for one in form.running if one.attempt_id.lower() not in current]
    known = [one.attempt_id for one in stale if is_id(one.attempt_id)]
    reasons = cancelling.reasons(connection, form.factory_id, known) if known else {}
    return [
        {
            "attempt_id": one.attempt_id,
            "job_id": one.job_id,
            "reason": reasons.get(one.attempt_id.lower(), NOT_CURRENT),
        }
        for one in stale
    ]


def _instructions(heard: Heard, beat: Beat, stops: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "cancel": stops,
        "desired_version": heard.desired_version,
        "paused": heard.paused,
        "shared_config_version": 0,
        "draining": heard.draining,
        "restart_workers": dead_workers(beat.workers or ()),
    }


def _page(rows: list[dict[str, Any]], count: int, settings: Settings) -> dict[str, Any]:
    return {"registrations": rows, "count": count, "headquarters_factory_id": settings.factory_id}


def _thresholds(settings: Settings) -> Thresholds:
    return Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)
